package dev

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/plugin"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScripts(t *testing.T) {
	dir, plugins := t.TempDir(), t.TempDir()
	pin := strings.Repeat("0", 64)
	write(t, dir, map[string]string{"plugin.json": `{"id":"ant","command":"sh","args":["main.py"],"sha256":"` + pin + `","files":{"main.py":"` + pin + `"},"grants":["kv"]}`, "main.py": "1", "lib.py": "1"})
	p, err := Open(dir, plugins, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if restart, err := p.Update(t.Context()); err != nil || !restart {
		t.Fatalf("%v, %v", restart, err)
	}
	target := filepath.Join(plugins, filepath.Base(dir))
	m, err := plugin.ReadManifest(target)
	if err != nil || m.Command != "sh" || m.SHA256 != "" || len(m.Files) > 0 || len(m.Grants) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if raw, err := os.ReadFile(filepath.Join(target, "lib.py")); string(raw) != "1" || err != nil {
		t.Errorf("a file beside: %q, %v", raw, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	write(t, dir, map[string]string{"lib.py": "two", "notes.txt": "of no matter"})
	changes := 0
	p.Watch(ctx, 5*time.Millisecond, func() {
		changes++
		if _, err := p.Update(ctx); err != nil {
			t.Error(err)
		}
		if changes == 1 {
			write(t, dir, map[string]string{"plugin.json": `{"id":"ant","command":"sh","version":"2.0.0"}`})
		} else {
			cancel()
		}
	})
	if m, err := plugin.ReadManifest(target); err != nil || m.Version != "2.0.0" || changes != 2 {
		t.Errorf("after %d changes: %+v, %v", changes, m, err)
	}
}

func TestGo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	dir, plugins := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"go.mod": "module ant\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() {}\n"})
	var out bytes.Buffer
	p, err := Open(dir, plugins, &out)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(plugins, filepath.Base(dir))
	if _, err := p.Update(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if info, err := os.Stat(target); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		t.Errorf("without a manifest: %v, %v", info, err)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"", `,"command":"ant"`} {
		write(t, dir, map[string]string{"plugin.json": `{"id":"ant"` + command + `}`})
		if restart, err := p.Update(t.Context()); err != nil || restart {
			t.Fatalf("%v, %v\n%s", restart, err, &out)
		}
		m, err := plugin.ReadManifest(target)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(target, m.Command)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%v, %v", info, err)
		}
	}
	write(t, dir, map[string]string{"main.go": "package main\n\nfunc main() { nonsense }\n"})
	if _, err := p.Update(t.Context()); err == nil || !strings.Contains(out.String(), "nonsense") {
		t.Errorf("a program that does not compile: %v\n%s", err, &out)
	}
	if _, err := os.Stat(filepath.Join(target, "ant")); err != nil {
		t.Errorf("the build before: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	empty, described := t.TempDir(), t.TempDir()
	write(t, described, map[string]string{"plugin.json": `{"id":"ant"}`})
	for name, dir := range map[string]string{"nothing": filepath.Join(empty, "x"), "an empty folder": empty, "no command": described} {
		if _, err := Open(dir, t.TempDir(), &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
