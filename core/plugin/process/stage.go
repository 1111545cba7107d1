package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// DigestError is returned for a file that is not what was expected.
type DigestError struct {
	File      string
	Want, Got [sha256.Size]byte
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s has SHA-256 %s, expected is %s", e.File, hex.EncodeToString(e.Got[:]), hex.EncodeToString(e.Want[:]))
}

// Stage copies a file into dir, which is made private (0700), and returns the copy's path (mode 0500) and the SHA-256 of
// what was written there. So what is verified is what is executed, and the original may be replaced while the copy runs.
func Stage(file, dir string) (path string, sum [sha256.Size]byte, err error) {
	if err := privateDir(dir); err != nil {
		return "", sum, err
	}
	src, err := openRegular(os.OpenFile, file)
	if err != nil {
		return "", sum, err
	}
	defer func() { _ = src.Close() }()
	path = filepath.Join(dir, filepath.Base(file))
	sum, err = copyHashing(src, path)
	if err != nil {
		return "", sum, err
	}
	return path, sum, nil
}

// StageFiles copies files, named by their paths below root, to the same paths below dst. It refuses paths and symbolic
// links that leave root, all that is no regular file, and content whose SHA-256 is another (*DigestError). After an error
// dst may hold files of this call, all of which were verified.
func StageFiles(root string, files map[string][sha256.Size]byte, dst string) error {
	from, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	if err := privateDir(dst); err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := stageOne(from, name, files[name], dst); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(root, name), err)
		}
	}
	return nil
}

func stageOne(from *os.Root, name string, want [sha256.Size]byte, dst string) error {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return errors.New("the path leaves the folder")
	}
	src, err := openRegular(from.OpenFile, local)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	path := filepath.Join(dst, local)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	got, err := copyHashing(src, path)
	if err != nil {
		return err
	}
	if got != want {
		_ = os.Remove(path)
		return &DigestError{File: name, Want: want, Got: got}
	}
	return nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// openRegular opens a regular file; opening anything else does not wait.
func openRegular(open func(string, int, os.FileMode) (*os.File, error), name string) (*os.File, error) {
	f, err := open(name, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file (%s)", name, info.Mode().Type())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// copyHashing writes a new file with mode 0500 in place of what is there, sharing the blocks where the file system can.
func copyHashing(src *os.File, path string) (sum [sha256.Size]byte, err error) {
	if err := os.RemoveAll(path); err != nil {
		return sum, err
	}
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o500)
	if err != nil {
		return sum, err
	}
	hash := sha256.New()
	if cloneFile(dst, src) {
		_, err = io.Copy(hash, dst)
	} else {
		_, err = io.Copy(io.MultiWriter(hash, dst), src)
	}
	if err == nil {
		err = dst.Chmod(0o500) // whatever the umask is
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		_ = os.Remove(path)
		return sum, err
	}
	hash.Sum(sum[:0])
	return sum, nil
}
