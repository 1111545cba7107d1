package sdk_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/galleychat/galley/sdk"
)

var (
	fence = regexp.MustCompile("(?ms)^(?:<!-- (\\S+) -->\n)?```(\\w*)\n(.*?)^```$")
	link  = regexp.MustCompile(`\]\(([^)#][^)]*)\)`)
)

// TestTutorial does what README.md tells: it makes a module outside of the repository, compiles every program and runs every
// test, with the modules that this repository has needed already.
func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	programs, manifests := 0, 0
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		switch file, lang, code := m[1], m[2], m[3]; lang {
		case "go":
			if file == "" {
				t.Errorf("a block has no name: %.80q", code)
				continue
			}
			programs++
			path := filepath.Join(dir, filepath.FromSlash(file))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
		case "json":
			manifests++
			checkManifest(t, []byte(code))
		default:
			t.Errorf("a block of %q is not tested: %.80q", lang, code)
		}
	}
	if n := strings.Count(string(text), "```go\n"); programs != n || n < 8 || manifests != strings.Count(string(text), "```json\n") || manifests < 3 {
		t.Errorf("%d programs of %d, %d manifests", programs, n, manifests)
	}
	run("go", "mod", "init", "hello")
	run("go", "mod", "edit", "-replace", "github.com/galleychat/galley="+checkout)
	// go mod tidy may fetch what only tests of dependencies need; these two need nothing that is not here
	run("go", "mod", "edit", "-require", "github.com/galleychat/galley@v0.0.0-00010101000000-000000000000")
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
	run("go", "build", "-o", os.DevNull, "./hello")
	run("go", "vet", "./...")
	run("go", "test", "./...")
	out, err := exec.Command("gofmt", "-l", dir).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("not formatted: %s, %v", out, err)
	}
	for _, m := range link.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
			t.Error(err)
		}
	}
}

// checkManifest checks the members of a plugin.json.
func checkManifest(t *testing.T, raw []byte) {
	t.Helper()
	var m struct {
		ID, Version, Name, Description, Command, SHA256 string
		Args, Grants, Prefixes                          []string
		Environment, Files                              map[string]string
		Limits                                          struct {
			MemoryMB        int     `json:"memory_mb"`
			CPUs            float64 `json:"cpus"`
			Processes       int     `json:"processes"`
			OpenFiles       int     `json:"open_files"`
			KVMB            int     `json:"kv_mb"`
			Connections     int     `json:"connections"`
			StartSeconds    int     `json:"start_seconds"`
			ResponseSeconds int     `json:"response_seconds"`
			DrainSeconds    int     `json:"drain_seconds"`
		}
		Config map[string]any
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || !sdk.ValidID(m.ID) || m.Command == "" {
		t.Errorf("%s: %v", raw, err)
	}
}
