//go:build !linux

package plugin

import (
	"errors"
	"syscall"
)

func swap(a, b string) error { return swapByRename(a, b) }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
