package audit

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// file is a log file. Before it grows beyond a size it gets another name and is packed, and a new one begins.
type file struct {
	path    string
	max     int64 // bytes; 0 for any number
	log     *slog.Logger
	packing sync.WaitGroup

	mu   sync.Mutex
	f    *os.File // nil once closed
	size int64
}

func openFile(path string, limit int64, log *slog.Logger) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f := &file{path: path, max: limit, log: log}
	return f, f.open()
}

// open opens the file for what comes behind what it holds. mu is held, or f is new.
func (f *file) open() (err error) {
	if f.f, err = os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640); err != nil {
		return err
	}
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	return nil
}

func (f *file) write(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return os.ErrClosed
	}
	if f.max > 0 && f.size > 0 && f.size+int64(len(line)) > f.max {
		if err := f.rotate(); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	n, err := f.f.Write(line)
	f.size += int64(n)
	return err
}

// rotate renames the file, begins a new one and packs the old one in the background. Where that fails the old one is
// written on, so that no line is lost. mu is held.
func (f *file) rotate() error {
	old, err := freeName(f.path, time.Now())
	if err != nil {
		return err
	}
	if err := os.Rename(f.path, old); err != nil {
		return err
	}
	was := f.f
	if err := f.open(); err != nil {
		f.f = was
		return errors.Join(err, os.Rename(old, f.path))
	}
	if err := was.Close(); err != nil {
		return err
	}
	f.packing.Go(func() {
		if err := pack(old); err != nil {
			f.log.Error("audit log not compressed", "file", old, "error", err)
		}
	})
	return nil
}

// freeName is the name of a log file that ends now: audit.2026-11-29_19-44-50_123456.log.
func freeName(path string, now time.Time) (string, error) {
	ext := filepath.Ext(path)
	base := strings.TrimSuffix(path, ext) + "." + strings.Replace(now.Format("2006-01-02_15-04-05.000000"), ".", "_", 1)
	name := base + ext
	for n := 2; ; n++ {
		_, err := os.Lstat(name)
		_, zipErr := os.Lstat(name + ".zip")
		switch {
		case errors.Is(err, fs.ErrNotExist) && errors.Is(zipErr, fs.ErrNotExist):
			return name, nil
		case n > 1000:
			return "", fmt.Errorf("no free name beside %s", name)
		}
		name = fmt.Sprintf("%s.%d%s", base, n, ext)
	}
}

// pack puts a file into a zip archive beside it and removes it.
func pack(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name+".zip", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = out.Close()
			_ = os.Remove(out.Name())
		}
	}()
	z := zip.NewWriter(out)
	w, err := z.Create(filepath.Base(name))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Remove(name)
}

func (f *file) close() error {
	f.mu.Lock()
	was := f.f
	f.f = nil
	f.mu.Unlock()
	f.packing.Wait()
	if was == nil {
		return nil
	}
	return was.Close()
}
