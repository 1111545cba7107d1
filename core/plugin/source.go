package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/galleychat/galley/core/plugin/process"
)

// source is what the plugins folder holds at one place: an executable, or a folder with a manifest.
type source struct {
	path     string // of the executable or the folder; "" for a built-in plugin
	print    string // changes whenever what is run may have changed
	manifest *Manifest
	bare     bool  // an executable without manifest: its id is what it says
	problem  error // why it cannot be run; the manifest may be nil then
}

// name is what the source is called before its plugin said who it is.
func (s *source) name() string {
	if s.manifest != nil {
		return s.manifest.ID
	}
	return idOf(filepath.Base(s.path))
}

// idOf makes an id of a file's name.
func idOf(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), filepath.Ext(name))
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
	if id = strings.TrimLeft(id, "-_"); id == "" {
		id = "plugin"
	}
	return id[:min(len(id), 64)]
}

// scan lists the plugins in a folder, in the order of their names. A folder that is not there holds none.
func scan(dir string) ([]*source, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*source
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "~") {
			continue
		}
		if s := inspect(filepath.Join(dir, e.Name())); s != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// inspect looks at one entry of the plugins folder; nil if it is no plugin.
func inspect(path string) *source {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil
	case info.IsDir():
		return inspectFolder(path)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return nil
	}
	return &source{path: path, print: fingerprint(path), bare: true}
}

func inspectFolder(path string) *source {
	file := filepath.Join(path, ManifestName)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s := &source{path: path}
	s.manifest, s.problem = ReadManifest(path)
	watched := []string{file}
	if m := s.manifest; m != nil {
		if filepath.IsLocal(m.Command) {
			watched = append(watched, filepath.Join(path, m.Command))
		}
		for name := range m.Files {
			watched = append(watched, filepath.Join(path, name))
		}
		for _, arg := range m.Args { // scripts that an interpreter is given
			if filepath.IsLocal(arg) {
				watched = append(watched, filepath.Join(path, arg))
			}
		}
	}
	slices.Sort(watched)
	for _, f := range slices.Compact(watched) {
		s.print += fingerprint(f) + ";"
	}
	return s
}

// fingerprint tells states of a file apart without reading it.
func fingerprint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path + " -"
	}
	return fmt.Sprintf("%s %d %d %v %s", path, info.Size(), info.ModTime().UnixNano(), info.Mode(), inode(info))
}

// command is what is executed for a source.
type command struct {
	path string
	args []string
	dir  string
}

// prepare verifies what is to be executed and copies it to where nobody but Galley writes, so that the file that was
// verified is the one that runs, and the original may be replaced meanwhile. Programs from the PATH are run in place.
func (s *source) prepare(private string) (c command, err error) {
	if s.bare {
		path, err := staged(s.path, filepath.Join(private, "bin"), "")
		return command{path: path, dir: filepath.Dir(s.path)}, err
	}
	m := s.manifest
	if isBuiltin(s) {
		return command{path: m.Command, args: m.Args}, nil
	}
	c = command{path: m.Command, args: slices.Clone(m.Args), dir: s.path}
	own := filepath.Join(s.path, m.Command)
	inFolder := filepath.IsLocal(m.Command) && isFile(own)
	if inFolder && m.SHA256 == "" && len(m.Files) == 0 && isLink(own) {
		c.path = own // the Python of a virtual environment, say, which knows itself by where it is
		return c, nil
	}
	switch {
	case len(m.Files) > 0:
		// a program of several files runs from the private copy of just those
		c.dir = filepath.Join(private, "files")
		files, err := m.digests(inFolder)
		if err != nil {
			return c, err
		}
		if err := process.StageFiles(s.path, files, c.dir); err != nil {
			return c, err
		}
		if inFolder {
			c.path = filepath.Join(c.dir, m.Command)
		}
	case inFolder:
		if c.path, err = staged(own, filepath.Join(private, "bin"), m.SHA256); err != nil {
			return c, err
		}
	}
	if inFolder {
		return c, nil
	}
	if !filepath.IsAbs(c.path) {
		found, err := exec.LookPath(m.Command)
		if err != nil {
			return c, fmt.Errorf("command %q is neither in the folder nor on the PATH", m.Command)
		}
		c.path = found
	}
	if m.SHA256 != "" {
		if c.path, err = staged(c.path, filepath.Join(private, "bin"), m.SHA256); err != nil {
			return c, err
		}
	}
	return c, nil
}

// digests are the digests of the files of a manifest, the command's among them.
func (m *Manifest) digests(command bool) (map[string][sha256.Size]byte, error) {
	out := map[string][sha256.Size]byte{}
	add := func(name, sum string) error {
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("no digest is given for %s", name)
		}
		out[filepath.Clean(name)] = [sha256.Size]byte(raw)
		return nil
	}
	for name, sum := range m.Files {
		if err := add(name, sum); err != nil {
			return nil, err
		}
	}
	if _, named := out[filepath.Clean(m.Command)]; command && !named {
		if err := add(m.Command, m.SHA256); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// staged copies a file into a private folder and compares the copy's digest with the one wanted, if any.
func staged(file, dir, want string) (string, error) {
	path, sum, err := process.Stage(file, dir)
	if err != nil {
		return "", err
	}
	if got := hex.EncodeToString(sum[:]); want != "" && !strings.EqualFold(got, want) {
		return "", &ChecksumError{file, want, got}
	}
	return path, nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// verify compares the files of a source with the digests in its manifest. pinned counts those that have one.
func (s *source) verify() (pinned int, err error) {
	if s.problem != nil {
		return 0, s.problem
	}
	if s.bare {
		return 0, nil
	}
	check := func(path, want string) error {
		pinned++
		got, err := Digest(path)
		if err == nil && !strings.EqualFold(got, want) {
			err = &ChecksumError{path, want, got}
		}
		return err
	}
	var errs []error
	if m := s.manifest; m.SHA256 != "" {
		path := m.Command
		if filepath.IsLocal(path) {
			path = filepath.Join(s.path, path)
		}
		errs = append(errs, check(path, m.SHA256))
	}
	for name, sum := range s.manifest.Files {
		errs = append(errs, check(filepath.Join(s.path, name), sum))
	}
	return pinned, errors.Join(errs...)
}

// Digest is the SHA-256 of a file, in hex.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ChecksumError says that a file is not the one that was pinned.
type ChecksumError struct{ Path, Want, Got string }

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("checksum of %s: the manifest has %s, the file is %s", filepath.Base(e.Path), short(e.Want), short(e.Got))
}

func short(digest string) string { return strings.ToLower(digest[:min(12, len(digest))]) + "…" }

// inode tells files apart that replaced each other.
func inode(info os.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(st.Ino)
	}
	return ""
}
