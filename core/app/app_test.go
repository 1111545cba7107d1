package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/store/storetest"

	"golang.org/x/crypto/bcrypt"
)

// lookup is an environment of a map.
func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// open makes an App in a folder of its own that talks to no provider.
func open(t *testing.T, vars map[string]string) *App {
	t.Helper()
	all := map[string]string{"DATA_DIR": t.TempDir(), "ENABLE_OPENAI_API": "false", "ENABLE_OLLAMA_API": "false", "PORT": "0", "HOST": "127.0.0.1"}
	for k, v := range vars {
		all[k] = v
	}
	c, err := ReadConfig(lookup(all))
	if err != nil {
		t.Fatal(err)
	}
	c.Log, c.PasswordCost = t.Output(), bcrypt.MinCost
	a, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return a
}

func get(t *testing.T, a *App, path string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestProbes(t *testing.T) {
	for name, vars := range map[string]func(t *testing.T) map[string]string{
		"sqlite": func(*testing.T) map[string]string { return nil },
		"postgres": func(t *testing.T) map[string]string {
			return map[string]string{"DATABASE_URL": storetest.PostgresURL(t)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, vars(t))
			check := func(path string, wantStatus int, wantBody string) {
				t.Helper()
				if status, body := get(t, a, path); status != wantStatus || wantBody != "" && body != wantBody {
					t.Errorf("%s: %d %s, want %d %s", path, status, body, wantStatus, wantBody)
				}
			}
			const yes = `{"status":true}`
			check("/health", 200, yes)
			check("/ready", 503, `{"detail":"Startup not complete"}`)
			a.ready.Store(true)
			check("/ready", 200, yes)
			check("/health/db", 200, yes)
			if err := a.DB.Close(); err != nil {
				t.Fatal(err)
			}
			check("/health", 200, yes)
			check("/ready", 503, `{"detail":"Database not ready"}`)
			check("/health/db", 500, "")
		})
	}
}

// TestAnonymous calls every operation without credentials: those that are not public refuse.
func TestAnonymous(t *testing.T) {
	a := open(t, nil)
	param := regexp.MustCompile(`\{[^}]+\}`)
	checked := 0
	for _, r := range a.Router.Routes() {
		if r.Level == auth.Public || r.Level == auth.Optional {
			continue
		}
		checked++
		w := httptest.NewRecorder()
		req := httptest.NewRequest(r.Method, param.ReplaceAllString(r.Path, "x"), strings.NewReader("{}"))
		req.Header.Set("Content-Type", "application/json")
		a.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusForbidden {
			t.Errorf("%s %s (%s): %d %.100s", r.Method, r.Path, r.Level, w.Code, w.Body)
		}
	}
	if checked == 0 {
		t.Error("no operation asks for credentials")
	}
}

// TestSecondStart opens the database of an earlier App, with the administrator the environment names.
func TestSecondStart(t *testing.T) {
	vars := map[string]string{"DATA_DIR": t.TempDir(), "WEBUI_ADMIN_EMAIL": "root@example.test", "WEBUI_ADMIN_PASSWORD": "root-password-1"}
	for range 2 {
		a := open(t, vars)
		admins, err := a.Users.Count(t.Context())
		if err != nil || admins != 1 {
			t.Fatalf("%d accounts, %v", admins, err)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	c, err := ReadConfig(lookup(map[string]string{"GALLEY_DEMO": "true", "GALLEY_SHUTDOWN_TIMEOUT": "1.5", "DATA_DIR": "x"}))
	if err != nil || !c.Demo || c.Grace != 1500*time.Millisecond || !filepath.IsAbs(c.Env.DataDir) {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err := ReadConfig(lookup(nil)); err != nil || c.Demo || c.Grace != defaultGrace {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = ReadConfig(lookup(map[string]string{"PORT": "x", "GALLEY_DEMO": "perhaps", "GALLEY_SHUTDOWN_TIMEOUT": "-1", "LOG_FORMAT": "xml"}))
	var setting *SettingError
	if !errors.As(err, &setting) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"PORT=", "GALLEY_DEMO=", "GALLEY_SHUTDOWN_TIMEOUT=", "LOG_FORMAT="} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than a line", err)
	}
}

// slowWork is a part whose work ends only when it is given up.
type slowWork struct {
	drained chan struct{}
	stopped bool
}

func (s *slowWork) Drain(ctx context.Context) error {
	close(s.drained)
	<-ctx.Done()
	return ctx.Err()
}

func (s *slowWork) Stop(context.Context) error {
	s.stopped = true
	return nil
}

// TestShutdown looks at the server while it stops: not ready, but answering, until the work is done or given up.
func TestShutdown(t *testing.T) {
	a := open(t, map[string]string{"GALLEY_SHUTDOWN_TIMEOUT": "1.4"})
	work := &slowWork{drained: make(chan struct{})}
	a.parts = append(a.parts, work)
	url := make(chan string, 1)
	a.Config.Ready = func(_ *App, at string) { url <- at }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- listenAndServe(ctx, a) }()
	base := <-url
	status := func(path string) int {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := status("/ready"); got != http.StatusOK {
		t.Fatalf("ready: %d", got)
	}
	begin := time.Now()
	cancel()
	<-work.drained
	if got := status("/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("/ready while stopping: %d", got)
	}
	if got := status("/health"); got != http.StatusOK {
		t.Errorf("/health while stopping: %d", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 400*time.Millisecond || took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if !work.stopped {
		t.Error("a part was not stopped")
	}
	if err := a.DB.Ping(t.Context()); err == nil {
		t.Error("the database is still open")
	}
}

func TestURL(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:80": "http://127.0.0.1:80", "[::]:81": "http://127.0.0.1:81", "[::1]:82": "http://[::1]:82", "10.1.2.3:83": "http://10.1.2.3:83"} {
		if got := URL(tcp(t, addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// TestDependencies holds the packages to the layers: core never imports routes, a route module no other, sdk no core.
func TestDependencies(t *testing.T) {
	const module = "github.com/galleychat/galley/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	layer := func(path string) (first, second string) {
		parts := strings.SplitN(strings.TrimPrefix(path, module), "/", 3)
		if len(parts) < 2 {
			return parts[0], ""
		}
		return parts[0], parts[1]
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from, fromTag := layer(fields[0])
		for _, imported := range fields[1:] {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			to, toTag := layer(imported)
			root := from == "core" && fromTag == "app" // the composition root knows all
			switch {
			case from == "core" && !root && to == "routes",
				from == "routes" && to == "routes" && fromTag != toTag,
				from == "sdk" && to != "sdk",
				to == "core" && toTag == "app" && from != "cmd" && !root:
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
}
func listenAndServe(ctx context.Context, a *App) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return a.Serve(ctx, ln)
}

func tcp(t *testing.T, addr string) net.Addr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
