package plugin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Installation says how something is installed.
type Installation struct {
	Dir     string // the plugins folder, made if it is not there
	SHA256  string // that the archive or the executable must have, in hex; "" for any
	Replace bool   // take the place of an installed plugin of the same id
	// RequireChecksum refuses what pins no digest.
	RequireChecksum bool

	// ID and Grants are for a single executable, whose manifest is made: ID "" takes the file's name.
	ID     string
	Grants []string

	limit int64                         // bytes; 0 means MaxInstall
	find  func(id string) (path string) // who knows where a plugin is that is running; may be nil
}

// Installed is the result of an installation.
type Installed struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Path     string `json:"path"`
	Replaced bool   `json:"replaced"`
}

// ErrInstalled says that there is a plugin of that id.
var ErrInstalled = errors.New("a plugin of this id is installed")

// InstallError says that what was to be installed cannot be.
type InstallError struct{ Err error }

func (e *InstallError) Error() string { return e.Err.Error() }
func (e *InstallError) Unwrap() error { return e.Err }

// Content is a file to install: an archive or an executable.
type Content struct {
	Name string // of the file
	io.ReaderAt
	Size int64
}

// Install installs a folder with a plugin.json, a .tar.gz or .zip archive of one, or a single executable. What can be
// checked is checked before anything of an installed plugin is replaced; that then happens at once, or not at all. What is
// wrong with the thing itself is an [*InstallError]; [ErrInstalled] says that Replace was not asked for.
func Install(ctx context.Context, file string, o Installation) (Installed, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Installed{}, err
	}
	if info.IsDir() {
		if o.SHA256 != "" {
			return Installed{}, &InstallError{errors.New("a SHA-256 is of an archive or an executable, not of a folder")}
		}
		dir, err := filepath.EvalSymlinks(file)
		if err != nil {
			return Installed{}, err
		}
		return o.install(ctx, func(t *tree) error { return t.copyDir(dir) })
	}
	if !info.Mode().IsRegular() {
		return Installed{}, &InstallError{fmt.Errorf("%s is neither a file nor a folder", file)}
	}
	f, err := os.Open(file)
	if err != nil {
		return Installed{}, err
	}
	defer f.Close()
	return InstallContent(ctx, Content{filepath.Base(file), f, info.Size()}, o)
}

// InstallContent is Install for a file that is no path. What it is, its first bytes say.
func InstallContent(ctx context.Context, c Content, o Installation) (Installed, error) {
	if c.Size > MaxInstall {
		return Installed{}, &InstallError{errTooLarge}
	}
	sum, err := c.digest(ctx)
	if err != nil {
		return Installed{}, err
	}
	if o.SHA256 != "" && !strings.EqualFold(o.SHA256, sum) {
		if !isDigest(o.SHA256) {
			return Installed{}, &InstallError{errors.New("the expected SHA-256 is not 64 hexadecimal digits")}
		}
		return Installed{}, &InstallError{fmt.Errorf("%s has the SHA-256 %s, expected is %s", c.Name, sum, strings.ToLower(o.SHA256))}
	}
	head := make([]byte, 4)
	n, _ := c.ReadAt(head, 0)
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return o.install(ctx, func(t *tree) error { return t.untar(c.open()) })
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return o.install(ctx, func(t *tree) error { return t.unzip(c, c.Size) })
	case !isProgram(head):
		return Installed{}, &InstallError{fmt.Errorf("%s is neither a .tar.gz or .zip archive nor a program", c.Name)}
	}
	return o.install(ctx, func(t *tree) error { return o.wrap(t, c, sum) })
}

func (c Content) open() io.Reader { return io.NewSectionReader(c, 0, c.Size) }

func (c Content) digest(ctx context.Context) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, c.open()}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// isProgram knows ELF, Mach-O and scripts by how they begin.
func isProgram(head []byte) bool {
	for _, magic := range []string{"\x7fELF", "#!", "\xcf\xfa\xed\xfe", "\xfe\xed\xfa\xcf", "\xca\xfe\xba\xbe"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// wrap makes a folder of a single executable, with a manifest that pins it.
func (o Installation) wrap(t *tree, c Content, sum string) error {
	name := filepath.Base(c.Name)
	if name == ManifestName || !filepath.IsLocal(name) || strings.HasPrefix(name, ".") {
		name = "plugin"
	}
	m := Manifest{ID: cmp.Or(o.ID, idOf(name)), Command: name, SHA256: sum, Grants: o.Grants}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := t.file(ManifestName, 0o644, bytes.NewReader(append(raw, '\n'))); err != nil {
		return err
	}
	return t.file(name, 0o755, c.open())
}

// unfinished is how the names of folders begin that are not installed yet, or not any more. The dot has them ignored.
const unfinished = ".galley-"

// install has fill write a plugin to a folder of its own, checks it and puts it in its place.
func (o Installation) install(ctx context.Context, fill func(*tree) error) (Installed, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Installed{}, err
	}
	o.tidy()
	temp, err := os.MkdirTemp(o.Dir, unfinished+"install-")
	if err != nil {
		return Installed{}, err
	}
	defer os.RemoveAll(temp)
	t, err := newTree(ctx, temp, cmp.Or(o.limit, MaxInstall))
	if err != nil {
		return Installed{}, err
	}
	defer t.root.Close()
	if err = fill(t); err == nil {
		err = t.finish()
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, fs.ErrPermission) || isFull(err) {
			return Installed{}, err
		}
		return Installed{}, &InstallError{err}
	}
	dir, err := topFolder(temp)
	if err != nil {
		return Installed{}, &InstallError{err}
	}
	m, err := o.check(dir)
	if err != nil {
		return Installed{}, &InstallError{err}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // a temporary folder is private
		return Installed{}, err
	}
	return o.put(dir, m)
}

// topFolder is the folder with the manifest: the one given, or the single one in it.
func topFolder(dir string) (string, error) {
	if isFile(filepath.Join(dir, ManifestName)) {
		return dir, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var below []string
	for _, e := range entries {
		if e.IsDir() && isFile(filepath.Join(dir, e.Name(), ManifestName)) {
			below = append(below, e.Name())
		}
	}
	if len(below) == 1 {
		return filepath.Join(dir, below[0]), nil
	}
	return "", fmt.Errorf("it has no %s", ManifestName)
}

// check is what can be said of a plugin without running it.
func (o Installation) check(dir string) (*Manifest, error) {
	s := inspectFolder(dir)
	if s == nil {
		return nil, fmt.Errorf("it has no %s", ManifestName)
	}
	pinned, err := s.verify()
	if err != nil {
		return nil, err
	}
	m := s.manifest
	if o.RequireChecksum && (pinned == 0 || m.SHA256 == "") {
		return nil, errNoChecksum
	}
	if o.ID != "" && m.ID != o.ID {
		return nil, fmt.Errorf("its manifest calls it %q, not %q", m.ID, o.ID)
	}
	if filepath.IsLocal(m.Command) && isFile(filepath.Join(dir, m.Command)) {
		return m, nil
	}
	if _, err := exec.LookPath(m.Command); err != nil {
		return nil, fmt.Errorf("command %q is neither in the folder nor on the PATH", m.Command)
	}
	return m, nil
}

var errNoChecksum = errors.New("it has no checksum, which PLUGINS_REQUIRE_CHECKSUM asks for")

// put moves a checked folder to its place.
func (o Installation) put(dir string, m *Manifest) (Installed, error) {
	done := Installed{ID: m.ID, Version: m.Version, Path: filepath.Join(o.Dir, m.ID)}
	old := ""
	if o.find != nil {
		old = o.find(m.ID)
	}
	if old == "" {
		found, err := installed(o.Dir, m.ID)
		if err != nil {
			return done, err
		}
		if found != nil {
			old = found.path
		}
	}
	if old == "" {
		if _, err := os.Lstat(done.Path); err == nil {
			return done, fmt.Errorf("%s is in the way", done.Path)
		}
		if err := os.Rename(dir, done.Path); err != nil {
			return done, err
		}
		return done, syncDir(o.Dir)
	}
	if !o.Replace {
		return done, fmt.Errorf("%w: %s", ErrInstalled, m.ID)
	}
	// in the place of the old one, so that it is a new version of the same and not another of the same id
	done.Path, done.Replaced = old, true
	if err := swap(dir, old); err != nil {
		return done, err
	}
	return done, syncDir(o.Dir)
}

// swapByRename puts dir in the place of old in two steps; old is then where dir was.
func swapByRename(dir, old string) error {
	aside := dir + ".old"
	if err := os.Rename(old, aside); err != nil {
		return err
	}
	if err := os.Rename(dir, old); err != nil {
		return errors.Join(err, os.Rename(aside, old))
	}
	return os.Rename(aside, dir)
}

// installed finds the plugin that is called id in a folder; nil if there is none.
func installed(dir, id string) (*source, error) {
	found, err := scan(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range found {
		if s.name() == id {
			return s, nil
		}
	}
	return nil, nil
}

// tidy removes what installations left that were killed.
func (o Installation) tidy() {
	left, _ := filepath.Glob(filepath.Join(o.Dir, unfinished+"*"))
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(path)
		}
	}
}

// uninstall removes what is at a path of the plugins folder: first, at once, from sight, then from the disk.
func uninstall(path string) error {
	gone, err := os.MkdirTemp(filepath.Dir(path), unfinished+"remove-")
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(gone, "plugin")); err != nil {
		return errors.Join(err, os.Remove(gone))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
