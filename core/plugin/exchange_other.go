//go:build !linux

package plugin

import (
	"errors"
	"syscall"
)

func exchange(a, b string) error { return exchangeByRename(a, b) }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
