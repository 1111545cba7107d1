//go:build !linux

package app

// unmapProgram has an effect on Linux only.
func unmapProgram() error { return nil }
