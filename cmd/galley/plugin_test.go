package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/sdk"
)

// TestMain has the test binary play a plugin or the program itself where a variable asks for it, and the plugin that comes
// with the program.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_PROGRAM") != "" {
		main()
	}
	if id := os.Getenv("TEST_PLUGIN"); id != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /say", func(_ http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(os.Stderr, "said: "+r.URL.Query().Get("text"))
		})
		sdk.Serve(sdk.Plugin{ID: id, Version: os.Getenv("TEST_VERSION"), HTTP: mux, Routes: []sdk.Route{{Pattern: "GET /say", Access: sdk.Public}}})
		return
	}
	serveBuiltin(os.Args[1:])
	os.Exit(m.Run())
}

const patience = 60 * time.Second

// output is what a program prints, while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// machine is a data folder and the environment of programs that work with it.
type machine struct {
	t    *testing.T
	vars map[string]string
	dir  string
}

func newMachine(t *testing.T) *machine {
	dir, err := os.MkdirTemp("", "g") // a short path, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &machine{t: t, dir: dir, vars: map[string]string{
		"DATA_DIR": dir, "HOST": "127.0.0.1", "PORT": "0", "ENABLE_OPENAI_API": "false", "ENABLE_OLLAMA_API": "false", "GALLEY_SHUTDOWN_TIMEOUT": "2",
		"WEBUI_ADMIN_EMAIL": "root@example.test", "WEBUI_ADMIN_PASSWORD": "root-password-1", "GOGC": "100", "GOMEMLIMIT": "off",
	}}
}

func (m *machine) program(out, errs *output) *program {
	return &program{lookup: func(n string) (string, bool) { v, ok := m.vars[n]; return v, ok }, out: out, errs: errs}
}

// galley runs a command line to its end.
func (m *machine) galley(args ...string) (code int, out, errs string) {
	m.t.Helper()
	var o, e output
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	code = m.program(&o, &e).main(ctx, args)
	return code, o.String(), e.String()
}

// want runs a command line and compares the exit code and parts of what it prints.
func (m *machine) want(code int, text string, args ...string) string {
	m.t.Helper()
	got, out, errs := m.galley(args...)
	if got != code || !strings.Contains(out+errs, text) {
		m.t.Fatalf("galley %s: exit code %d, want %d with %q\n%s%s", strings.Join(args, " "), got, code, text, out, errs)
	}
	return out
}

var listening = regexp.MustCompile(`msg=listening url=(\S+)`)

// serve runs a server until the test ends, or stop is called.
func (m *machine) serve() (url string, stop func()) {
	m.t.Helper()
	var errs output
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan int, 1)
	go func() { ended <- m.program(&output{}, &errs).main(ctx, []string{"serve"}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != exitOK {
			m.t.Errorf("serve: exit code %d\n%s", code, &errs)
		}
	})
	m.t.Cleanup(stop)
	until(m.t, "server", func() bool { return listening.MatchString(errs.String()) })
	return listening.FindStringSubmatch(errs.String())[1], stop
}

// folder makes the folder of a plugin, which is this test binary.
func folder(t *testing.T, id, version string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(plugin.Manifest{ID: id, Version: version, Command: exe, Environment: map[string]string{"TEST_PLUGIN": id, "TEST_VERSION": version}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, plugin.ManifestName), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPluginsWithoutServer(t *testing.T) {
	m := newMachine(t)
	m.want(0, "no plugins", "plugin", "list")
	if _, err := os.Stat(filepath.Join(m.dir, "webui.db")); err == nil {
		t.Error("listing made a database")
	}
	one, two := folder(t, "ant", "1.0.0"), folder(t, "ant", "2.0.0")
	m.want(0, "ant is stopped", "plugin", "install", one)
	m.want(1, "--replace", "plugin", "install", two)
	m.want(0, "ant is stopped", "plugin", "install", "--replace", two)
	m.want(0, "2.0.0", "plugin", "list")
	m.want(0, "ant is disabled", "plugin", "disable", "ant")
	m.want(0, "disabled", "plugin", "list")
	m.want(0, "not running", "plugin", "list")
	m.want(0, "ant is stopped", "plugin", "enable", "ant")
	m.want(0, "no digest is pinned", "plugin", "verify")
	for _, args := range [][]string{{"plugin", "restart", "ant"}, {"plugin", "logs", "ant"}} {
		m.want(1, "not running", args...)
	}
	m.want(0, "ant is removed", "plugin", "remove", "ant")
	m.want(1, `no plugin "ant"`, "plugin", "remove", "ant")
}

func TestPluginsOfServer(t *testing.T) {
	m := newMachine(t)
	url, stop := m.serve()
	if out := m.want(0, "ant 1.0.0 is ready", "plugin", "install", folder(t, "ant", "1.0.0")); strings.Contains(out, "not running") {
		t.Error(out)
	}
	m.want(0, "ant 2.0.0 is ready", "plugin", "install", folder(t, "ant", "2.0.0"), "--replace")
	m.want(0, "ant 2.0.0 is ready", "plugin", "restart", "ant")
	m.want(0, "ant is disabled", "plugin", "disable", "ant")
	m.want(0, "ant 2.0.0 is ready", "plugin", "enable", "ant")
	var list []plugin.Info
	if err := json.Unmarshal([]byte(m.want(0, "", "plugin", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.ID == "ant" && (i.State != plugin.StateReady || i.PID == 0 || len(i.Routes) != 1) {
			t.Errorf("%+v", i)
		}
	}
	bad := folder(t, "bee", "1.0.0")
	raw, err := os.ReadFile(filepath.Join(bad, plugin.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, plugin.ManifestName), bytes.Replace(raw, []byte(`"TEST_PLUGIN":"bee"`), []byte(`"TEST_PLUGIN":"wasp"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	m.want(1, "bee is refused", "plugin", "install", bad)
	m.want(0, "bee is removed", "plugin", "remove", "bee")
	m.want(1, `no plugin "wasp"`, "plugin", "enable", "wasp")
	m.follow(url)
	stop()
	if _, err := control.Connect(t.Context(), m.dir); !errors.Is(err, control.ErrNoServer) {
		t.Errorf("after the end: %v", err)
	}
	m.want(0, "stopped", "plugin", "list")
}

// follow reads a plugin's log while it is written, and the last line of it.
func (m *machine) follow(url string) {
	t := m.t
	t.Helper()
	var out output
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- m.program(&out, &output{}).main(ctx, []string{"plugin", "logs", "-f", "ant", "-n", "5"})
	}()
	for _, text := range []string{"one", "two"} {
		resp, err := http.Get(url + "/api/v1/plugins/ant/say?text=" + text)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		until(t, "line "+text, func() bool { return strings.Contains(out.String(), "said: "+text) })
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("logs -f: exit code %d", code)
	}
	if out := m.want(0, "said: two", "plugin", "logs", "ant", "-n=1"); strings.Contains(out, "one") {
		t.Errorf("the last line is %q", out)
	}
}

func TestPluginsElsewhere(t *testing.T) {
	m := newMachine(t)
	url, _ := m.serve()
	resp, err := http.Post(url+"/api/v1/auths/signin", "application/json", strings.NewReader(`{"email":"root@example.test","password":"root-password-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var session struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&session); err != nil || session.Token == "" {
		t.Fatalf("%+v, %v", session, err)
	}
	other := newMachine(t)
	other.want(2, "GALLEY_TOKEN", "plugin", "list", "--url", url)
	other.want(2, "--url=nowhere", "plugin", "list", "--url", "nowhere")
	other.vars["GALLEY_TOKEN"] = "wrong"
	other.want(1, "does not accept", "plugin", "list", "--url", url)
	other.vars["GALLEY_TOKEN"] = session.Token
	other.want(0, "ant 1.0.0 is ready", "plugin", "install", folder(t, "ant", "1.0.0"), "--url", url)
	other.want(1, "--replace", "plugin", "install", folder(t, "ant", "2.0.0"), "--url", url)
	other.want(0, "ant 2.0.0 is ready", "plugin", "install", folder(t, "ant", "2.0.0"), "--url", url, "--replace")
	other.want(0, "no digest", "plugin", "verify", "ant", "--url", url)
	other.want(0, "removed", "plugin", "remove", "ant", "--url", url)
	other.want(0, "no plugins", "plugin", "list")
}

func TestPluginFiles(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	tool := filepath.Join(dir, "tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sum, err := plugin.Digest(tool)
	if err != nil {
		t.Fatal(err)
	}
	m.want(0, sum+"  tool", "plugin", "digest", tool)
	m.want(1, "SHA-256", "plugin", "install", tool, "--sha256", strings.Repeat("0", 64))
	m.want(2, "--grant", "plugin", "install", tool, "--grant", "everything")
	m.want(2, "plugin.json", "plugin", "install", dir, "--grant", "kv")
	m.want(0, "stopped", "plugin", "install", tool, "--sha256", sum, "--grant", "kv, log", "--id", "hammer")
	m.want(0, "hammer: as pinned", "plugin", "verify")
	installed := filepath.Join(m.dir, "plugins", "hammer", "tool")
	if err := os.WriteFile(installed, []byte("#!/bin/sh\necho\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.want(1, "hammer: checksum", "plugin", "verify", "hammer")
	m.want(0, "1 files pinned", "plugin", "verify", "--write", "hammer")
	m.want(0, "hammer: as pinned", "plugin", "verify", "hammer")
	made := filepath.Join(dir, "made")
	m.want(0, "Made", "plugin", "new", "bee", "--lang", "python", "--dir", made)
	if _, err := plugin.ReadManifest(made); err != nil {
		t.Error(err)
	}
	m.want(1, "cobol", "plugin", "new", "wasp", "--lang", "cobol")
}

func TestCommandLines(t *testing.T) {
	m := newMachine(t)
	for line, code := range map[string]int{
		"plugin": 0, "plugin -h": 0, "help plugin": 0, "plugin list -h": 0, "help plugin install": 0, "plugin nothing": 2, "plugin list extra": 2, "plugin enable": 2,
		"plugin enable a b": 2, "plugin enable --nothing a": 2, "plugin logs a -n x": 2, "plugin logs -n": 2, "plugin verify --write": 2, "plugin enable -- -a": 1,
		"version extra": 2, "plugin install nothing-there": 1, "plugin digest nothing-there": 1, "plugin run nothing-there": 1,
	} {
		if got, out, errs := m.galley(strings.Fields(line)...); got != code {
			t.Errorf("galley %s: %d, want %d\n%s%s", line, got, code, out, errs)
		}
	}
	if _, out, _ := m.galley("help"); !strings.Contains(out, "\nPlugins\n  plugin list") {
		t.Errorf("help:\n%s", out)
	}
}

// TestRun writes a plugin while it runs.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	m := newMachine(t)
	if err := os.MkdirAll("testdata", 0o755); err != nil { // in the module, for its SDK
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("testdata", "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		_ = os.Remove("testdata") // unless it holds more
	})
	write := func(version, more string) {
		t.Helper()
		text := fmt.Sprintf("package main\n\nimport (\n\t\"net/http\"\n\n\t\"github.com/galleychat/galley/sdk\"\n)\n\nfunc main() {\n\tsdk.Serve(sdk.Plugin{ID: \"ant\", Version: %q, HTTP: http.NotFoundHandler()})%s\n}\n", version, more)
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("1.0.0", "")
	if err := os.WriteFile(filepath.Join(dir, "plugin.json"), []byte(`{"id":"ant"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs output
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- m.program(&out, &errs).main(ctx, []string{"plugin", "run", dir}) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it said\n%s%s", &out, &errs)
		}
	})
	says := func(text string) {
		t.Helper()
		until(t, text, func() bool {
			select {
			case code := <-ended:
				t.Fatalf("ended with %d\n%s%s", code, &out, &errs)
			default:
			}
			return strings.Contains(out.String(), text)
		})
	}
	says("token ")
	says("ant 1.0.0 is ready")
	says("/api/v1/plugins/ant/ (verified)")
	write("1.0.1", "\n\tnonsense()")
	says("undefined: nonsense")
	write("2.0.0", "")
	says("ant 2.0.0 is ready")
	folders := func() []string {
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "galley-dev-*", "plugins", filepath.Base(dir)))
		return found
	}
	if now := folders(); len(now) != 1 {
		t.Errorf("while it runs its folders are %v", now)
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d\n%s%s", code, &out, &errs)
	}
	if now := folders(); len(now) > 0 {
		t.Errorf("left behind: %v", now)
	}
}
