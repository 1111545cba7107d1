package frontend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoPip reports that the machine has no usable pip.
var ErrNoPip = errors.New("no pip was found")

// pipCommands are tried in this order.
var pipCommands = [][]string{
	{"python3", "-m", "pip"},
	{"python", "-m", "pip"},
	{"pip3"},
	{"pip"},
}

// findPip returns the first command that runs, with its program's path resolved.
func findPip(ctx context.Context, candidates [][]string) ([]string, error) {
	for _, cmd := range candidates {
		program, err := exec.LookPath(cmd[0])
		if err != nil {
			continue
		}
		found := append([]string{program}, cmd[1:]...)
		if exec.CommandContext(ctx, found[0], append(found[1:], "--version")...).Run() == nil {
			return found, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, ErrNoPip
}

// wheelHint tells how to do without a pip that works on this machine.
func wheelHint(version string) string {
	return fmt.Sprintf("on any machine with pip run\n"+
		"    pip download --no-deps --only-binary=:all: --ignore-requires-python open-webui==%[1]s\n"+
		"copy the file open_webui-%[1]s-py3-none-any.whl here, then run\n"+
		"    galley frontend install --wheel FILE", version)
}

// download has pip fetch the wheel of the version into dir and returns its path. All
// of pip's own settings (index, proxy, certificates) hold. seen gets the bytes
// fetched so far; pip's progress bar differs between releases and is hidden off a
// terminal, so the size of its temporary files is watched instead.
func download(ctx context.Context, pip []string, version, dir string, seen func(done int64)) (string, error) {
	dest, scratch := filepath.Join(dir, "wheel"), filepath.Join(dir, "tmp")
	for _, d := range []string{dest, scratch} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", err
		}
	}
	args := append(pip[1:len(pip):len(pip)], "download", "--no-deps", "--only-binary=:all:",
		"--ignore-requires-python", "--no-input", "--disable-pip-version-check",
		"--progress-bar=off", "--dest", dest, "open-webui=="+version)
	cmd := exec.CommandContext(ctx, pip[0], args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output

	stop := watchSize(dir, seen)
	err := cmd.Run()
	stop()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("pip could not fetch open-webui %s (%w):\n%s\nWithout pip: %s",
			version, err, lastLines(output.String(), 8), wheelHint(version))
	}
	found, err := filepath.Glob(filepath.Join(dest, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip reported success but left %d wheels", len(found))
	}
	return found[0], nil
}

// watchSize reports the size of the largest file below dir twice a second until stop
// is called. The largest, not all: pip copies the wheel from folder to folder.
func watchSize(dir string, seen func(int64)) (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			// pip moves and removes files while this walks: errors mean nothing.
			if now := largestFile(dir); now > most {
				most = now
				seen(most)
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func largestFile(dir string) (size int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size = max(size, info.Size())
			}
		}
		return nil
	})
	return size
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
