package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// Pinned is a file and the SHA-256 that a manifest pins it with.
type Pinned struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Digests are what a manifest can pin of a file, or of a folder with a plugin.json: its command's file first. Where that is
// not in the folder, or the manifest lists files already, these are all files of the folder, since a program of several
// files is run from those alone.
func Digests(path string) ([]Pinned, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		sum, err := Digest(path)
		return []Pinned{{filepath.Base(path), sum}}, err
	}
	m, err := ReadManifest(path)
	if err != nil {
		return nil, err
	}
	inFolder := filepath.IsLocal(m.Command) && isFile(filepath.Join(path, m.Command))
	if inFolder && isLink(filepath.Join(path, m.Command)) {
		return nil, fmt.Errorf("the command %s is a link, as in an environment of Python, and can only be run where it is, unpinned", m.Command)
	}
	var names []string
	if inFolder {
		names = append(names, filepath.Clean(m.Command))
	}
	if !inFolder || len(m.Files) > 0 {
		more, err := pinnable(path, m)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	var out []Pinned
	for _, name := range names {
		sum, err := Digest(filepath.Join(path, name))
		if err != nil {
			return nil, err
		}
		out = append(out, Pinned{filepath.ToSlash(name), sum})
	}
	return out, nil
}

// pinnable are the files of a folder beside its manifest and its command, but for hidden ones and what Python compiles.
func pinnable(dir string, m *Manifest) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "__pycache__") {
			return fs.SkipDir
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		skip := strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(name, ".pyc") || name == ManifestName || name == filepath.Clean(m.Command)
		if !skip && isFile(p) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// WriteDigests pins the files of a folder as they are, in its plugin.json, whose other members stay.
func WriteDigests(dir string) ([]Pinned, error) {
	pins, err := Digests(dir)
	if err != nil {
		return nil, err
	}
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, ManifestName)
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := jsondoc.Open(jsondoc.Doc(raw))
	files := map[string]string{}
	for _, p := range pins {
		if filepath.FromSlash(p.Name) == filepath.Clean(m.Command) {
			out.Set("sha256", jsondoc.Of(p.SHA256))
		} else {
			files[p.Name] = p.SHA256
		}
	}
	if len(files) > 0 {
		sorted, err := json.Marshal(files)
		if err != nil {
			return nil, err
		}
		out.Set("files", jsondoc.Doc(sorted))
	}
	var text bytes.Buffer
	if err := json.Indent(&text, out.Doc(), "", "  "); err != nil {
		return nil, err
	}
	text.WriteByte('\n')
	if _, err := ParseManifest(text.Bytes()); err != nil {
		return nil, err
	}
	return pins, writeFile(file, text.Bytes())
}

// writeFile replaces a file at once.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".galley-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
