package utils

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

const base = "/api/v1/utils"

func newServer(t *testing.T, db *store.DB, vars ...string) (*sessiontest.Server, *Module) {
	t.Helper()
	s := sessiontest.New(t, db, append([]string{"DATA_DIR", t.TempDir()}, vars...)...)
	m := New(Deps{DB: db, Settings: s.Settings, Env: s.Env, Log: slog.New(slog.DiscardHandler)})
	s.Router.Mount(base, m)
	s.Router.Finish()
	t.Cleanup(func() { _ = m.Stop(t.Context()) })
	return s, m
}

func TestGravatar(t *testing.T) {
	s, _ := newServer(t, storetest.SQLite(t))
	_, ann := s.User("Ann", "user")
	_, wait := s.User("Wait", "pending")
	for _, c := range []struct {
		token, query string
		status       int
		want         string
	}{
		{ann, "?email=+Baker@Contract.Test+", 200, `"https://www.gravatar.com/avatar/7b1e0621818b4c16e24056b0081d3d446fc6b03aad7f6e8cce1870dc07fd89d0?d=mp"`},
		{ann, "?email=", 200, `"https://www.gravatar.com/avatar/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855?d=mp"`},
		{ann, "", 422, ""},
		{wait, "?email=a", 401, ""},
		{"", "?email=a", 401, `{"detail":"Not authenticated"}`},
	} {
		a := s.Call(c.token, "GET "+base+"/gravatar"+c.query, "")
		if a.Code != c.status || c.want != "" && a.Body.String() != c.want {
			t.Errorf("%q: %d %s", c.query, a.Code, a.Body)
		}
	}
}

func TestDownload(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s, m := newServer(t, db)
		_, boss := s.User("Boss", "admin")
		_, ann := s.User("Ann", "user")
		if a := s.Call(ann, "GET "+base+"/db/download", ""); a.Code != http.StatusUnauthorized {
			t.Errorf("a user: %d %s", a.Code, a.Body)
		}
		// a copy that a killed process left
		left := filepath.Join(s.Env.DataDir, copies+"1")
		if err := os.MkdirAll(left, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		a := s.Call(boss, "GET "+base+"/db/download", "")
		if files, _ := filepath.Glob(filepath.Join(s.Env.DataDir, ".*")); len(files) != 0 {
			t.Errorf("left %v", files)
		}
		if db.Dialect() == store.Postgres {
			if a.Code != 400 || a.Detail() != "This feature is only available with SQLite databases." {
				t.Errorf("Postgres: %d %s", a.Code, a.Body)
			}
			return
		}
		h := a.Header()
		if a.Code != 200 || h.Get("Content-Type") != "application/octet-stream" || h.Get("Content-Disposition") != `attachment; filename="webui.db"` ||
			h.Get("Content-Length") != strconv.Itoa(a.Body.Len()) {
			t.Fatalf("%d %v", a.Code, h)
		}
		file := filepath.Join(t.TempDir(), "webui.db")
		if err := os.WriteFile(file, a.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := store.Open(t.Context(), "sqlite:///"+file, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var name string
		if err := c.QueryRow(t.Context(), `SELECT name FROM "user" WHERE role = 'user'`).Scan(&name); err != nil || name != "Ann" {
			t.Errorf("%q, %v", name, err)
		}

		off, _ := newServer(t, db, "ENABLE_ADMIN_EXPORT", "false")
		if a := off.Call(boss, "GET "+base+"/db/download", ""); a.Code != 401 || !strings.HasPrefix(a.Detail(), "You do not have permission") {
			t.Errorf("switched off: %d %s", a.Code, a.Body)
		}
	})
}

func TestExecuteRefuses(t *testing.T) {
	s, _ := newServer(t, storetest.SQLite(t))
	_, ann := s.User("Ann", "user")
	run := func(body string) *sessiontest.Answer { return s.Call(ann, "POST "+base+"/code/execute", body) }
	if a := run(`{"code":"1"}`); a.Code != 400 || a.Detail() != "[ERROR: Code execution engine not supported]" {
		t.Errorf("pyodide: %d %s", a.Code, a.Body)
	}
	if a := run(`{}`); a.Code != 422 {
		t.Errorf("no code: %d %s", a.Code, a.Body)
	}
	s.Set("code_execution.engine", "jupyter")
	if a := run(`{"code":"1"}`); a.Code != 200 || a.Body.String() != `{"stdout":"","stderr":"Error: the address of the Jupyter server is not set, or is none","result":""}` {
		t.Errorf("no server: %d %s", a.Code, a.Body)
	}
	s.Set("code_execution.enable", false)
	if a := run(`{"code":"1"}`); a.Code != 403 || a.Detail() != "Code execution is disabled" {
		t.Errorf("off: %d %s", a.Code, a.Body)
	}
}

// programs is a PATH with nothing but scripts: name, text, name, text….
func programs(t *testing.T, scripts ...string) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(scripts); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, scripts[i]), []byte("#!/bin/sh\nPATH=/usr/bin:/bin\n"+scripts[i+1]), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// A black that knows one text, and a Python without it whose pip makes such a one.
const (
	fakeBlack  = "in=$(cat)\ncase $in in x=1) echo 'x = 1';; *) echo 'error: cannot format -: Cannot parse: 1:1' >&2; exit 123;; esac\n"
	fakePython = `case "$1 $2" in
"-m black") [ -n "$PYTHONPATH" ] || exit 1; . "$PYTHONPATH/black";;
"-m pip") [ "$3" = --version ] && exit 0
  while [ "$1" != --target ]; do shift; done
  mkdir -p "$2"
  cat >"$2/black" <<'END'
` + fakeBlack + `END
;;
esac
`
)

func TestFormat(t *testing.T) {
	const none = "no formatter for Python was found"
	for _, c := range []struct {
		name     string
		programs []string
		vars     []string
		code     string
		status   int
		want     string // the code, or how the detail begins
	}{
		{"black", []string{"black", fakeBlack}, nil, "x=1", 200, "x = 1\n"},
		{"bad code", []string{"black", fakeBlack}, nil, "def (", 400, "Cannot parse: 1:1"},
		{"too much code", []string{"black", fakeBlack}, nil, strings.Repeat("x", maxCode+1), 400, "the code is longer than"},
		{"a black that does not work, and ruff", []string{"black", "exit 1", "ruff", fakeBlack}, nil, "x=1", 200, "x = 1\n"},
		{"nothing", nil, nil, "x=1", 400, none},
		{"a Python without pip", []string{"python3", "exit 1"}, nil, "x=1", 400, none + ": install black or ruff on the server"},
		{"installed", []string{"python3", fakePython}, nil, "x=1", 200, "x = 1\n"},
		{"installed, bad code", []string{"python3", fakePython}, nil, "x", 400, "Cannot parse: 1:1"},
		{"not installed offline", []string{"python3", fakePython}, []string{"OFFLINE_MODE", "true"}, "x=1", 400, none},
		{"installs what does not run", []string{"python3", strings.Replace(fakePython, `. "$PYTHONPATH/black"`, "exit 1", 1)}, nil, "x=1", 400, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newServer(t, storetest.SQLite(t), c.vars...)
			_, boss := s.User("Boss", "admin")
			programs(t, c.programs...)
			for range 2 {
				a := s.Call(boss, "POST "+base+"/code/format", `{"code":`+strconv.Quote(c.code)+`}`)
				if got := a.Doc().Text("code") + a.Detail(); a.Code != c.status || !strings.HasPrefix(got, c.want) {
					t.Errorf("%d %s", a.Code, a.Body)
				}
			}
			left, err := filepath.Glob(filepath.Join(m.formatter.installer.Dir, ".*"))
			if err != nil || len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
	s, _ := newServer(t, storetest.SQLite(t))
	_, ann := s.User("Ann", "user")
	if a := s.Call(ann, "POST "+base+"/code/format", `{"code":"x"}`); a.Code != 401 {
		t.Errorf("a user: %d %s", a.Code, a.Body)
	}
}
