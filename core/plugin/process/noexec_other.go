//go:build !linux

package process

// NoExec says whether programs in a folder cannot be executed, as the file system is mounted so.
func NoExec(string) bool { return false }
