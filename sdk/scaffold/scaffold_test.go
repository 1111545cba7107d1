package scaffold

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout is the root of this repository.
func checkout(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// offline has go take what it needs from the modules that this repository has needed already.
var offline = []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}

func TestGo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir := filepath.Join(t.TempDir(), "my plugins", "weather-2")
	if err := New(dir, "weather-2", "go", Options{SDKPath: checkout(t)}); err != nil {
		t.Fatal(err)
	}
	// the sums of this repository stand for those that go mod tidy would fetch
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, offline, "go", "vet", "./...")
	run(t, dir, offline, "go", "test", "./...")
	run(t, dir, offline, "go", "build", "-o", "weather-2", ".")
	manifest(t, dir, "weather-2")
	if fi, err := os.Stat(filepath.Join(dir, "weather-2")); err != nil || fi.Mode()&0o100 == 0 {
		t.Errorf("the command: %v, %v", fi, err)
	}
	ignored, err := os.ReadFile(filepath.Join(dir, ".gitignore"))
	if err != nil || string(ignored) != "/weather-2\n" {
		t.Errorf("%q, %v", ignored, err)
	}
}

func manifest(t *testing.T, dir, id string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "plugin.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		ID, Version, Command string
		Config               map[string]any
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.ID != id || m.Version == "" || m.Command == "" || m.Config["greeting"] != "Hello" {
		t.Errorf("%s: %+v, %v", raw, m, err)
	}
}

func TestWithoutCheckout(t *testing.T) {
	dir := t.TempDir()
	if err := New(dir, "x", "go", Options{}); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "go.mod")); err != nil || !strings.HasPrefix(string(raw), "module x\n\ngo 1.") || strings.Contains(string(raw), "galley") {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestPython runs the project's test with GALLEY_TEST_PYTHON, an interpreter that has what galley_sdk and the project need.
func TestPython(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	if err := New(dir, "weather", "python", Options{SDKPath: checkout(t)}); err != nil {
		t.Fatal(err)
	}
	manifest(t, dir, "weather")
	needs, err := os.ReadFile(filepath.Join(dir, "requirements.txt"))
	if err != nil || !strings.HasPrefix(string(needs), "galley-sdk @ file:///") || !strings.Contains(string(needs), "\nfastapi") {
		t.Errorf("%q, %v", needs, err)
	}
	for _, name := range []string{"plugin.py", "test_plugin.py", "README.md", ".gitignore"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || strings.Contains(string(raw), "{{") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if python := os.Getenv("GALLEY_TEST_PYTHON"); python != "" {
		run(t, dir, []string{"PYTHONPATH=" + filepath.Join(checkout(t), "sdk", "python")}, python, "-m", "pytest", "-q")
	} else if python, err := exec.LookPath("python3"); err == nil {
		run(t, dir, nil, python, "-m", "py_compile", "plugin.py", "test_plugin.py")
	}
}

func TestRefused(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(full, "precious")
	for _, c := range []struct{ dir, name, lang, sdk, want string }{
		{t.TempDir(), "Weather", "go", "", `"Weather" is no name`},
		{t.TempDir(), "", "go", "", `"" is no name`},
		{t.TempDir(), "../x", "go", "", `"../x" is no name`},
		{t.TempDir(), "x", "rust", "", `no template for "rust", only for go and python`},
		{full, "x", "go", "", "is not empty"},
		{file, "x", "go", "", "not a directory"},
		{t.TempDir(), "x", "go", full, "is no checkout of Galley"},
	} {
		err := New(c.dir, c.name, c.lang, Options{SDKPath: c.sdk})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
