package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	runPrefix = "galley-run-"
	// maxRunPath leaves room in the 107 bytes that the path of a socket may have: for an instance's folder (5), and what
	// go-plugin appends (21 and 17).
	maxRunPath = 107 - 45
)

// RunFolder is a private folder of this process for sockets.
type RunFolder struct {
	// Path is absolute and at most 62 bytes long.
	Path string
	lock *os.File
}

// RunDir makes a private folder (0700) with a short path below base, or below XDG_RUNTIME_DIR, the folder for temporary
// files or /tmp where base is empty or too long. It first removes there what hosts that are gone have left.
func RunDir(base string) (*RunFolder, error) {
	var failed error
	for _, base := range []string{base, os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if base == "" {
			continue
		}
		dir, err := runDirIn(base)
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

func runDirIn(base string) (*RunFolder, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, err
	}
	if n := len(base) + 1 + len(runName()) + 10; n > maxRunPath {
		return nil, fmt.Errorf("the path %s is too long for sockets: a folder in it would have %d bytes, %d are possible",
			base, n, maxRunPath)
	}
	return PrivateDir(base)
}

// runName is how the names of this process's folders begin.
func runName() string { return runPrefix + hostID() + "-" }

// PrivateDir is RunDir for a folder that holds no sockets: its path may have any length.
func PrivateDir(base string) (*RunFolder, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, err
	}
	sweepRunDirs(base)
	path, err := os.MkdirTemp(base, runName())
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil && !flock(lock) {
		err = errors.Join(errors.New("the run folder cannot be locked"), lock.Close())
	}
	if err != nil {
		_ = os.RemoveAll(path)
		return nil, err
	}
	return &RunFolder{Path: path, lock: lock}, nil
}

// Close removes the folder.
func (d *RunFolder) Close() error {
	err := os.RemoveAll(d.Path)
	return errors.Join(err, d.lock.Close())
}

// sweepRunDirs removes the folders of ours that no living host holds. The lock tells this also between containers that
// share the folder; the name keeps away from one that is being made.
func sweepRunDirs(base string) {
	entries, _ := os.ReadDir(base)
	for _, entry := range entries {
		name, ours := strings.CutPrefix(entry.Name(), runPrefix)
		cut := strings.LastIndexByte(name, '-')
		if !ours || cut < 0 || hostAlive(name[:cut]) {
			continue
		}
		if path := filepath.Join(base, entry.Name()); ownedByUs(path) && unlocked(path) {
			_ = os.RemoveAll(path)
		}
	}
}

// unlocked tells whether nobody holds the folder's lock.
func unlocked(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Lstat(path)
		return err == nil && time.Since(info.ModTime()) > time.Hour
	}
	if err != nil {
		return false
	}
	defer func() { _ = lock.Close() }()
	return flock(lock)
}
