package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// stage is a folder of a backup that is being made, beside what it copies. It is locked while its process lives.
type stage struct {
	dir  string
	lock *os.File
	// linked are the uploads by their names below the data folder. Nil where there are no hard links: then an upload is
	// copied from its own place.
	linked map[string]Entry
}

// newStage makes a stage below dir, and first removes those of processes that are gone.
func newStage(dir string) (*stage, error) {
	if err := sweep(filepath.Join(dir, stagePrefix+"*")); err != nil {
		return nil, err
	}
	at, err := os.MkdirTemp(dir, stagePrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(at)
	if err == nil && !flock(lock) {
		err = errors.Join(errors.New(at+" cannot be locked"), lock.Close())
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(at))
	}
	return &stage{dir: at, lock: lock, linked: map[string]Entry{}}, nil
}

func (s *stage) close() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

// sweep removes files and folders that no living process has locked.
func sweep(pattern string) error {
	left, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range left {
		f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue // gone, another account's, or something else
		}
		if flock(f) {
			errs = append(errs, os.RemoveAll(p))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// flock takes the lock of a file, without waiting.
func flock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// link links the uploads of a folder that are not linked yet.
func (s *stage) link(ctx context.Context, dir string) error {
	return eachUpload(ctx, dir, func(name, source string, e fs.DirEntry) error {
		if s.linked == nil {
			return nil
		}
		if _, ok := s.linked[name]; ok {
			return nil
		}
		info, err := e.Info()
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		at := s.place(name)
		err = os.Link(source, at)
		if gone(err) {
			if err = os.MkdirAll(filepath.Dir(at), 0o700); err == nil {
				err = os.Link(source, at)
			}
		}
		switch {
		case gone(err):
			return nil
		case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.ENOSYS):
			s.linked = nil
			return nil
		case err != nil:
			return err
		}
		s.linked[name] = entryOf(name, info)
		return nil
	})
}

func (s *stage) place(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// eachUpload calls f for each file in a data folder's uploads.
func eachUpload(ctx context.Context, dir string, f func(name, source string, e fs.DirEntry) error) error {
	root, err := filepath.EvalSymlinks(filepath.Join(dir, uploads))
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(source string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, source)
		if err != nil {
			return err
		}
		name := path.Join(uploads, filepath.ToSlash(rel))
		if e.IsDir() {
			return nil
		}
		if !e.Type().IsRegular() || !mayHold(name, false) {
			return nil
		}
		return f(name, source, e)
	})
}
