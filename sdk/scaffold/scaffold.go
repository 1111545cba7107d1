// Package scaffold makes new plugin projects, for "galley plugin new".
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/galleychat/galley/sdk"
)

//go:embed templates
var templates embed.FS

// Languages are those that there are templates for.
var Languages = []string{"go", "python"}

// Options are what is not the same for everybody.
type Options struct {
	// SDKPath is a checkout of Galley that the project takes the SDK from; "" for a published release.
	SDKPath string
}

// New makes a project named name in the folder dir, which may exist if it is empty. Errors are for the person who asked.
func New(dir, name, lang string, o Options) error {
	switch {
	case !sdk.ValidID(name):
		return fmt.Errorf("%q is no name of a plugin: it has lower case letters, digits, - and _, begins with a letter or digit, and has at most 64", name)
	case !slices.Contains(Languages, lang):
		return fmt.Errorf("there is no template for %q, only for %s", lang, strings.Join(Languages, " and "))
	}
	data := struct{ ID, SDKPath, Go string }{ID: name, Go: goVersion()}
	if o.SDKPath != "" {
		p, err := filepath.Abs(o.SDKPath)
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(p, "sdk")); err != nil {
			return fmt.Errorf("%s is no checkout of Galley: it has no folder sdk", p)
		}
		data.SDKPath = p
	}
	files, err := render(lang, data)
	if err != nil {
		return err
	}
	if err := emptyFolder(dir); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goVersion is that of the language that this program is made with, "1.26.0".
func goVersion() string {
	parts := strings.SplitN(strings.TrimPrefix(runtime.Version(), "go"), ".", 3)
	if len(parts) < 2 {
		return "1.26.0" // a development version
	}
	return parts[0] + "." + parts[1] + ".0"
}

// emptyFolder makes a folder unless it is there and empty.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(dir, 0o755)
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("the folder %s is not empty", dir)
	}
	return nil
}

var functions = template.FuncMap{
	"quote": func(p string) string {
		if strings.ContainsAny(p, " \t\"'`(){}[],;=") {
			return strconv.Quote(p)
		}
		return p
	},
	"pythonSDK": func(p string) string {
		return (&url.URL{Scheme: "file", Path: path.Join(filepath.ToSlash(p), "sdk", "python")}).String()
	},
}

// render gives the files of a project by their names.
func render(lang string, data any) (map[string][]byte, error) {
	files := map[string][]byte{}
	root := "templates/" + lang
	entries, err := templates.ReadDir(root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		raw, err := templates.ReadFile(path.Join(root, e.Name()))
		if err != nil {
			return nil, err
		}
		t, err := template.New(e.Name()).Funcs(functions).Parse(string(raw))
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, data); err != nil {
			return nil, err
		}
		name, content := strings.TrimSuffix(e.Name(), ".tmpl"), b.Bytes()
		if name == "gitignore" {
			name = ".gitignore"
		}
		if strings.HasSuffix(name, ".go") {
			if content, err = format.Source(content); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		files[name] = content
	}
	return files, nil
}
