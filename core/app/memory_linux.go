package app

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapProgram gives up the process's claim on the pages of its own program that were read so far: the start touches
// nearly all of it, serving only a part. The kernel keeps the pages in its cache, and gives those that are used again
// without reading the disk. Only parts of the file are touched that are mapped unwritable and unchanged, so nothing is
// lost.
func unmapProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	var from, to uint64
	for in := bufio.NewScanner(f); in.Scan(); {
		line := in.Text()
		if lo, hi, ok := mappingOf(line, self); ok {
			from, to = lo, hi
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		switch {
		case strings.Contains(key, "-"): // the header of another mapping
			from, to = 0, 0
		case key == "Anonymous" && strings.TrimSpace(value) == "0 kB" && to > from:
			if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(from), uintptr(to-from), syscall.MADV_DONTNEED); errno != 0 {
				return errno
			}
			from, to = 0, 0
		}
	}
	return nil
}

// mappingOf reads the header of a mapping and says whether it is an unwritable part of the file.
func mappingOf(line, file string) (from, to uint64, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || strings.Join(fields[5:], " ") != file || len(fields[1]) != 4 || fields[1][1] == 'w' {
		return 0, 0, false
	}
	lo, hi, ok := strings.Cut(fields[0], "-")
	if !ok {
		return 0, 0, false
	}
	from, err := strconv.ParseUint(lo, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	to, err = strconv.ParseUint(hi, 16, 64)
	return from, to, err == nil
}
