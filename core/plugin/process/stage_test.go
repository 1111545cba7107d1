//go:build unix

package process

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestStage(t *testing.T) {
	dir := t.TempDir()
	file, private := filepath.Join(dir, "tool"), filepath.Join(dir, "private")
	script := "#!/bin/sh\necho one\n"
	put(t, file, script)
	path, sum, err := Stage(file, private)
	if err != nil || sum != sha256.Sum256([]byte(script)) {
		t.Fatal(path, err)
	}
	for name, mode := range map[string]os.FileMode{private: 0o700, path: 0o500} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Error(name, info.Mode(), err)
		}
	}
	// The original may be overwritten in place while the copy runs, and the copy stays what was verified.
	put(t, file, "#!/bin/sh\necho two\n")
	if out, _, _ := finish(t, start(t, Spec{Path: path})); out != "one\n" {
		t.Errorf("%q", out)
	}
	again, changed, err := Stage(file, private)
	if err != nil || again != path || changed == sum {
		t.Error("the change is not seen", err)
	}
	if out, _, _ := finish(t, start(t, Spec{Path: path})); out != "two\n" {
		t.Errorf("%q", out)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"fifo", "missing", "private"} {
		if _, _, err := Stage(filepath.Join(dir, bad), private); err == nil {
			t.Error(bad, "is staged")
		}
	}
}

func TestStageFiles(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	put(t, filepath.Join(root, "main.py"), "main")
	put(t, filepath.Join(root, "lib/a.py"), "a")
	put(t, filepath.Join(outside, "secret"), "secret")
	for name, target := range map[string]string{"out": filepath.Join(outside, "secret"), "up": "../" + filepath.Base(outside) + "/secret", "in": "lib/a.py"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := func(text string) [32]byte { return sha256.Sum256([]byte(text)) }
	dst := filepath.Join(t.TempDir(), "dst")
	if err := StageFiles(root, map[string][32]byte{"main.py": sum("main"), "lib/a.py": sum("a"), "in": sum("a")}, dst); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"main.py": "main", "lib/a.py": "a", "in": "a"} {
		if got, err := os.ReadFile(filepath.Join(dst, name)); string(got) != want {
			t.Error(name, string(got), err)
		}
	}
	for name, text := range map[string]string{"out": "secret", "up": "secret", "fifo": "", "lib": "", "missing": "",
		"../" + filepath.Base(outside) + "/secret": "secret", filepath.Join(outside, "secret"): "secret", "": ""} {
		err := StageFiles(root, map[string][32]byte{name: sum(text)}, dst)
		if err == nil || errors.As(err, new(*DigestError)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	put(t, filepath.Join(root, "main.py"), "mine")
	err := StageFiles(root, map[string][32]byte{"main.py": sum("main")}, dst)
	var digest *DigestError
	if !errors.As(err, &digest) || digest.Want != sum("main") || digest.Got != sum("mine") || !strings.Contains(err.Error(), "main.py") {
		t.Error(err)
	}
	if exists := func(p string) bool { _, err := os.Stat(p); return err == nil }; exists(filepath.Join(dst, "main.py")) {
		t.Error("what was refused is still there")
	}
}

func TestRunDir(t *testing.T) {
	base, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(base) }()
	dead := start(t, sh("true"))
	finish(t, dead)
	first, err := RunDir(base)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(first.Path); err != nil || info.Mode().Perm() != 0o700 || len(first.Path) > maxRunPath || filepath.Dir(first.Path) != base {
		t.Error(first.Path, err)
	}
	folder := func(name string, age time.Duration, locked bool) string {
		path := filepath.Join(base, name)
		put(t, filepath.Join(path, "socket"), "")
		if locked {
			put(t, filepath.Join(path, "lock"), "")
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stale := folder(runPrefix+"1-99999999-5-123", 0, true)
	unlockedOld := folder(runPrefix+"1-99999999-5-124", 2*time.Hour, false)
	unlockedNew := folder(runPrefix+"1-99999999-5-125", 0, false)
	other := folder("somebody-else", 2*time.Hour, true)
	second, err := RunDir(base)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{first.Path: true, second.Path: true, stale: false, unlockedOld: false, unlockedNew: true, other: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	// The lock keeps a folder whose host has a number that we do not know.
	held := folder(runPrefix+"1-99999999-6-126", 0, true)
	lock, err := os.Open(filepath.Join(held, "lock"))
	if err != nil || !flock(lock) {
		t.Fatal(err)
	}
	sweepRunDirs(base)
	if _, err := os.Stat(held); err != nil {
		t.Error(err)
	}
	_ = lock.Close()
	for _, dir := range []*RunFolder{first, second} {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	}
	long := filepath.Join(base, strings.Repeat("x", 80))
	put(t, filepath.Join(long, "x"), "")
	if dir, err := RunDir(long); err != nil || strings.HasPrefix(dir.Path, long) {
		t.Error(err)
	} else if err := dir.Close(); err != nil {
		t.Error(err)
	}
}
