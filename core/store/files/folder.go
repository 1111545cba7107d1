package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Folder keeps the contents of files on the disk: DATA_DIR/uploads.
type Folder struct{ dir string }

// NewFolder makes the folder where it is not there.
func NewFolder(dir string) (*Folder, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(abs, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("folder of uploads: %w", err)
	}
	return &Folder{dir: abs}, nil
}

// Place is the path of a new file named name, as the reference names it: the id before the name.
func (d *Folder) Place(id, name string) string { return filepath.Join(d.dir, id+"_"+name) }

// Short is the path of a new file whose Place the file system refuses ([IsTooLong]).
func (d *Folder) Short(id, extension string) string {
	if extension != "" {
		id += "." + extension
	}
	return filepath.Join(d.dir, id)
}

// IsTooLong says whether the file system found a name too long.
func IsTooLong(err error) bool { return errors.Is(err, syscall.ENAMETOOLONG) }

// Open opens the content that a row's path names. Paths of a folder that has moved are found by their last part.
// fs.ErrNotExist where there is none.
func (d *Folder) Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.Open(filepath.Join(d.dir, filepath.Base(path)))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// Remove deletes the content that a row's path names; that there is none is no error.
func (d *Folder) Remove(path string) error {
	base := filepath.Base(path)
	if path == "" || base == "." || base == string(filepath.Separator) {
		return nil
	}
	if err := os.Remove(filepath.Join(d.dir, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Clear deletes everything in the folder.
func (d *Folder) Clear() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(d.dir, e.Name())))
	}
	return errors.Join(errs...)
}
