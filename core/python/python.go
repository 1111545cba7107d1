// Package python finds the machine's Python, and has pip put packages into folders of the server's own: the machine's
// packages stay as they are, and a machine that has pip nowhere needs no more than Python itself.
package python

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	installTimeout = 5 * time.Minute
	retryInstall   = 5 * time.Minute // after a failure
)

// ErrMissing says that there is no Python.
var ErrMissing = errors.New("no Python was found: install python3 on the server, or set GALLEY_PYTHON to one")

// ErrOffline says that pip would have to fetch something, which OFFLINE_MODE forbids.
var ErrOffline = errors.New("nothing is installed in offline mode")

// Find gives the path of a Python: the one that is configured, or python3 of PATH.
func Find(configured string) (string, error) {
	name := configured
	if name == "" {
		name = "python3"
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case configured != "":
		return "", fmt.Errorf("GALLEY_PYTHON: %w", err)
	}
	return "", ErrMissing
}

// Command is a program with its arguments.
type Command struct {
	Args []string
	Env  []string // added to the process's
}

// Run runs the command and gives what it writes.
func (c Command) Run(ctx context.Context, stdin io.Reader) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), append([]string{"PYTHONUTF8=1"}, c.Env...)...)
	cmd.Dir = os.TempDir()
	cmd.Stdin = stdin
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// Wish is what a folder is to hold.
type Wish struct {
	Name     string // of the folder
	Python   string
	Packages []string // as pip takes them
	Before   []string // options of pip before the packages
	After    []string // and behind them
	// Check says whether the folder does its service, nil for no check. One that does not is made anew.
	Check func(ctx context.Context) error
}

// Installer makes folders of packages, each once, one at a time.
type Installer struct {
	Dir     string // where the folders are
	Offline bool
	Log     *slog.Logger

	work    sync.Mutex // held by the installation that runs
	mu      sync.Mutex
	pending map[string]*install // by folder
	failed  map[string]failure
	closed  bool
}

// install is an installation that several callers may wait for.
type install struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

type failure struct {
	err   error
	again time.Time
}

// Path is where a folder is, or will be.
func (i *Installer) Path(name string) string { return filepath.Join(i.Dir, name) }

// Has says whether a folder has been made.
func (i *Installer) Has(name string) bool {
	_, err := os.Stat(i.Path(name))
	return err == nil
}

// Install makes a folder, or makes it anew, and waits until it is there. An installation goes on when its caller has
// gone, for the next; one that failed is tried again after some minutes.
func (i *Installer) Install(ctx context.Context, w Wish) error {
	i.mu.Lock()
	p := i.pending[w.Name]
	if p == nil {
		f, failed := i.failed[w.Name]
		switch {
		case i.Offline:
			i.mu.Unlock()
			return ErrOffline
		case failed && time.Now().Before(f.again):
			i.mu.Unlock()
			return f.err
		case i.closed:
			i.mu.Unlock()
			return context.Canceled
		}
		p = i.begin(w)
	}
	i.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin installs in the background. mu is held.
func (i *Installer) begin(w Wish) *install {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	p := &install{cancel: cancel, done: make(chan struct{})}
	if i.pending == nil {
		i.pending, i.failed = map[string]*install{}, map[string]failure{}
	}
	i.pending[w.Name] = p
	go func() {
		defer cancel()
		i.work.Lock()
		err := i.install(ctx, w)
		if err == nil && w.Check != nil {
			if err = w.Check(ctx); err != nil {
				err = fmt.Errorf("it does not run: %w", err)
			}
		}
		i.work.Unlock()
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.pending, w.Name)
		delete(i.failed, w.Name)
		if err != nil {
			i.Log.Warn("Python packages were not installed", "packages", w.Packages, "error", err)
			p.err = err
			i.failed[w.Name] = failure{err, time.Now().Add(retryInstall)}
		}
		close(p.done)
	}()
	return p
}

// install has pip put packages into a folder, which gets its name once it is whole.
func (i *Installer) install(ctx context.Context, w Wish) error {
	if err := os.MkdirAll(i.Dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(i.Dir, ".install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	python := w.Python
	if _, _, err := (Command{Args: []string{python, "-m", "pip", "--version"}}).Run(ctx, nil); err != nil {
		// without pip: Python brings one for virtual environments
		venv := filepath.Join(tmp, "venv")
		if err := succeed(ctx, python, "-m", "venv", venv); err != nil {
			return err
		}
		python = filepath.Join(venv, "bin", "python")
	}
	target := filepath.Join(tmp, "packages")
	args := []string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-script-location", "--target", target}
	args = append(append(append(args, w.Before...), w.Packages...), w.After...)
	if err := succeed(ctx, args...); err != nil {
		return err
	}
	if err := os.RemoveAll(i.Path(w.Name)); err != nil { // one that does not run
		return err
	}
	if err := os.Rename(target, i.Path(w.Name)); err != nil {
		return err
	}
	i.Log.Info("Python packages installed", "packages", w.Packages, "folder", i.Path(w.Name))
	return nil
}

func succeed(ctx context.Context, args ...string) error {
	_, stderr, err := (Command{Args: args}).Run(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, strings.TrimSpace(stderr))
	}
	return nil
}

// Stop gives up installations that are under way and waits for their end.
func (i *Installer) Stop() {
	i.mu.Lock()
	i.closed = true
	var list []*install
	for _, p := range i.pending {
		list = append(list, p)
	}
	i.mu.Unlock()
	for _, p := range list {
		p.cancel()
	}
	for _, p := range list {
		<-p.done
	}
}
