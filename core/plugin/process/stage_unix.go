//go:build unix

package process

import "syscall"

// nonBlock keeps the opening of a FIFO from waiting for a writer.
const nonBlock = syscall.O_NONBLOCK
