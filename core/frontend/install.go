package frontend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// knownWheels are the published digests of releases Galley was tested with. A
// downloaded wheel must have its digest; a file given by hand need not.
var knownWheels = map[string]string{
	"0.12.4": "02e9caba96234db3fa17a92e56163b3f7f2b8ca8227fa886b85c178d696483f6",
}

// Stage names a part of an installation.
type Stage string

// Stages in the order they happen. Download is left out when a wheel is given.
const (
	StageDownload Stage = "download"
	StageCheck    Stage = "check"
	StageUnpack   Stage = "unpack"
	StageDone     Stage = "done"
)

// Progress tells how far an installation is.
type Progress struct {
	Stage Stage
	Done  int64 // bytes so far
	Total int64 // bytes in all; 0 when not known (download)
}

// InstallOptions says what to install and where.
type InstallOptions struct {
	Dir      string         // folder for installations, normally Dir(dataDir)
	Version  string         // release; default DefaultVersion, or that of Wheel
	Wheel    string         // wheel file to use in place of a download
	Pip      []string       // pip's command; default: python3 -m pip, python -m pip, pip3 or pip
	Progress func(Progress) // called from one goroutine at a time; may be nil
}

// Installed is the outcome of [Install].
type Installed struct {
	Manifest
	Path  string // folder of this version
	Fresh bool   // false when it was installed already and found intact
}

// Install puts a built frontend under o.Dir/<version> and makes it the current one.
// Everything is unpacked and checked in a temporary folder first, which is renamed
// at the end and removed on any failure, so that a version's folder is complete or
// absent. An intact installation of the version is left as it is.
//
// Errors: [ErrNoPip], [ErrBadWheel], the context's, or one of pip or the file system.
func Install(ctx context.Context, o InstallOptions) (Installed, error) {
	in, err := install(ctx, o)
	if err != nil {
		return in, fmt.Errorf("install frontend: %w", err)
	}
	return in, nil
}

func install(ctx context.Context, o InstallOptions) (Installed, error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Version == "" && o.Wheel == "" {
		o.Version = DefaultVersion
	}
	if o.Dir == "" || o.Version != "" && !validVersion(o.Version) {
		return Installed{}, fmt.Errorf("bad folder %q or version %q", o.Dir, o.Version)
	}
	if o.Wheel == "" {
		if in, err := reuse(ctx, o.Dir, o.Version, ""); err == nil {
			o.Progress(Progress{Stage: StageDone})
			return in, nil
		}
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Installed{}, err
	}
	removeLeftovers(o.Dir)
	tmp, err := os.MkdirTemp(o.Dir, tempPrefix)
	if err != nil {
		return Installed{}, err
	}
	defer os.RemoveAll(tmp)

	w, err := obtain(ctx, o, tmp)
	if err != nil {
		return Installed{}, err
	}
	defer w.zip.Close()
	in, err := reuse(ctx, o.Dir, w.version, w.sha256)
	if err != nil {
		in, err = unpack(ctx, o, w, tmp)
	}
	if err == nil {
		o.Progress(Progress{Stage: StageDone, Done: w.bytes, Total: w.bytes})
	}
	return in, err
}

// reuse returns the installation of the version if it is intact and, unless sum is
// "", comes from the wheel with that digest.
func reuse(ctx context.Context, dir, version, sum string) (Installed, error) {
	target := filepath.Join(dir, version)
	m, err := Verify(ctx, target)
	if err != nil {
		return Installed{}, err
	}
	if m.Version != version || sum != "" && sum != m.WheelSHA256 {
		return Installed{}, ErrNotInstalled
	}
	return Installed{Manifest: m, Path: target}, setCurrent(dir, version)
}

// obtain downloads the wheel if none is given, opens it and checks that it is the wanted one.
func obtain(ctx context.Context, o InstallOptions, tmp string) (*wheel, error) {
	name := o.Wheel
	if name == "" {
		var err error
		if name, err = fetch(ctx, o, tmp); err != nil {
			return nil, err
		}
	}
	o.Progress(Progress{Stage: StageCheck})
	w, err := openWheel(name)
	if err != nil {
		return nil, err
	}
	known := knownWheels[w.version]
	switch {
	case o.Version != "" && o.Version != w.version:
		err = badWheel("it is release %s, not %s", w.version, o.Version)
	case o.Wheel == "" && known != "" && known != w.sha256:
		err = badWheel("the download has the sha256 %s, release %s was published with %s", w.sha256, w.version, known)
	}
	if err != nil {
		w.zip.Close()
		return nil, err
	}
	return w, nil
}

func fetch(ctx context.Context, o InstallOptions, tmp string) (string, error) {
	candidates := pipCommands
	if len(o.Pip) > 0 {
		candidates = [][]string{o.Pip}
	}
	pip, err := findPip(ctx, candidates)
	if errors.Is(err, ErrNoPip) {
		tried := make([]string, len(candidates))
		for i, c := range candidates {
			tried[i] = strings.Join(c, " ")
		}
		return "", fmt.Errorf("%w (tried %s): %s", err, strings.Join(tried, ", "), wheelHint(o.Version))
	}
	if err != nil {
		return "", err
	}
	o.Progress(Progress{Stage: StageDownload})
	return download(ctx, pip, o.Version, tmp, func(done int64) {
		o.Progress(Progress{Stage: StageDownload, Done: done})
	})
}

// unpack extracts w into tmp and moves the result into place.
func unpack(ctx context.Context, o InstallOptions, w *wheel, tmp string) (Installed, error) {
	tree := filepath.Join(tmp, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return Installed{}, err
	}
	m, err := extract(ctx, w, tree, func(done int64) {
		o.Progress(Progress{Stage: StageUnpack, Done: done, Total: w.bytes})
	})
	if err != nil {
		return Installed{}, err
	}
	target := filepath.Join(o.Dir, w.version)
	if err := replace(target, tree, filepath.Join(tmp, "old")); err != nil {
		return Installed{}, err
	}
	return Installed{Manifest: m, Path: target, Fresh: true}, setCurrent(o.Dir, w.version)
}

// replace renames tree to target. What was there, damaged or from another wheel,
// goes to old and comes back if the second rename fails.
func replace(target, tree, old string) error {
	moved := os.Rename(target, old) == nil
	err := os.Rename(tree, target)
	if err != nil && moved {
		err = errors.Join(err, os.Rename(old, target))
	}
	return err
}

// setCurrent records which version is in use, by rename so that no reader sees half a name.
func setCurrent(dir, version string) error {
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(version + "\n")
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, currentFile))
}

const tempPrefix = ".install-"

// removeLeftovers deletes what a killed installation left, but nothing so young
// that another process may be at work on it.
func removeLeftovers(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	for _, name := range found {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > 6*time.Hour {
			os.RemoveAll(name)
		}
	}
}
