// Package dev keeps a plugin that is being written in a plugins folder: built, and again whenever its files change.
package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/plugin"
)

// Project is a plugin that is being written.
type Project struct {
	dir    string // of the source
	target string // in the plugins folder
	built  bool   // a Go program, built from the folder
	last   string // fingerprint of what was taken up
	out    io.Writer
}

// Open looks at a folder: a Go program, with or without a plugin.json, or anything else with a plugin.json. It will be put
// into the plugins folder; out takes what compilers say.
func Open(dir, pluginsDir string, out io.Writer) (*Project, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", dir)
	}
	p := &Project{dir: dir, target: filepath.Join(pluginsDir, filepath.Base(dir)), out: out}
	command, described, err := p.command()
	if err != nil {
		return nil, err
	}
	if p.built = goProgram(dir) && !onPath(command); !p.built {
		switch {
		case !described:
			return nil, fmt.Errorf("%s has neither a %s nor a Go program", dir, plugin.ManifestName)
		case command == "":
			return nil, fmt.Errorf("%s of %s has no command, and there is no Go program to build", plugin.ManifestName, dir)
		}
	}
	return p, nil
}

// command is what plugin.json has as such; described says whether there is one.
func (p *Project) command() (command string, described bool, err error) {
	doc, err := p.manifest()
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return doc.Text("command"), true, err
}

func (p *Project) manifest() (jsondoc.Doc, error) {
	raw, err := os.ReadFile(filepath.Join(p.dir, plugin.ManifestName))
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(raw)
	if bad != nil {
		return nil, fmt.Errorf("%s: %w", plugin.ManifestName, bad)
	}
	return doc, nil
}

// goProgram says whether a folder has Go files of package main.
func goProgram(dir string) bool {
	cmd := exec.Command("go", "list", "-e", "-f", "{{.Name}}", ".")
	cmd.Dir = dir
	name, err := cmd.Output()
	return err == nil && strings.TrimSpace(string(name)) == "main"
}

func onPath(command string) bool {
	if command == "" || strings.ContainsRune(command, '/') {
		return false
	}
	_, err := exec.LookPath(command)
	return err == nil
}

// Update puts the plugin as it is now into the plugins folder. restart says that its process is to be started anew, for
// nothing that the folder's watcher looks at has changed.
func (p *Project) Update(ctx context.Context) (restart bool, err error) {
	p.last = p.fingerprint()
	doc, err := p.manifest()
	if errors.Is(err, fs.ErrNotExist) { // a bare executable, which says itself who it is
		return false, p.build(ctx, p.target)
	}
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(p.target, 0o755); err != nil {
		return false, err
	}
	out := jsondoc.Open(doc)
	for _, pin := range []string{"sha256", "files"} { // of another build
		if out.Has(pin) {
			out.Pop(pin)
		}
	}
	binary := ""
	if p.built {
		if binary = filepath.Base(doc.Text("command")); doc.Text("command") == "" {
			binary = filepath.Base(p.dir)
		}
		out.Set("command", jsondoc.Of(binary))
		if err := p.build(ctx, filepath.Join(p.target, binary)); err != nil {
			return false, err
		}
	}
	if err := p.linkRest(binary); err != nil {
		return false, err
	}
	return !p.built, replaceFile(filepath.Join(p.target, plugin.ManifestName), out.Doc())
}

// linkRest has the other files of the project beside the program, where it looks for them.
func (p *Project) linkRest(binary string) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != plugin.ManifestName && name != binary && name != ".git" {
			if err := os.Symlink(filepath.Join(p.dir, name), filepath.Join(p.target, name)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

// build compiles the program and puts it in its place once it is whole.
func (p *Project) build(ctx context.Context, to string) error {
	temp := filepath.Join(filepath.Dir(to), ".building")
	defer os.Remove(temp)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", temp, ".")
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, p.out, p.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return os.Rename(temp, to)
}

// replaceFile writes a file, unless it is so already.
func replaceFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	temp := filepath.Join(filepath.Dir(path), ".writing")
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// Watch calls changed whenever files of the project have changed since the last Update, until ctx ends.
func (p *Project) Watch(ctx context.Context, every time.Duration, changed func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	before := p.last
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := p.fingerprint()
		if now != p.last && now == before { // nobody is writing any more
			changed()
		}
		before = now
	}
}

// watched are the ends of the names of files that matter.
var watched = []string{".go", ".py", "go.mod", "go.sum", plugin.ManifestName}

// fingerprint is another one after each change of a file that matters.
func (p *Project) fingerprint() string {
	var b strings.Builder
	_ = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read counts as not there
		if err != nil {
			return nil
		}
		name := d.Name()
		if d.IsDir() {
			if path != p.dir && (strings.HasPrefix(name, ".") || name == "__pycache__" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		for _, end := range watched {
			if !strings.HasSuffix(name, end) || p.built && end == ".py" {
				continue
			}
			if info, err := d.Info(); err == nil {
				fmt.Fprintf(&b, "%s %d %d;", path, info.Size(), info.ModTime().UnixNano())
			}
			break
		}
		return nil
	})
	return b.String()
}
