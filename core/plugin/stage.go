package plugin

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// stage copies a file to a private place while it hashes it; want, if not "", is the digest it must have. The copy can be
// executed and not be written.
func stage(from, to, want string) (sum string, err error) {
	src, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer src.Close()
	if info, err := src.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", from)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return "", err
	}
	sum, err = digestOf(io.TeeReader(src, dst), sha256.New())
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil && want != "" && !strings.EqualFold(sum, want) {
		err = &ChecksumError{from, want, sum}
	}
	return sum, err
}

func digestOf(r io.Reader, h hash.Hash) (string, error) {
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hexOf(h.Sum(nil)), nil
}

// inode tells files apart that replaced each other.
func inode(info os.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(st.Ino)
	}
	return ""
}
