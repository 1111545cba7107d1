package tools

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/pyhost/pyhosttest"
	"github.com/galleychat/galley/core/pytools"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	rows "github.com/galleychat/galley/core/store/tools"
)

const base = "/api/v1/tools"

const sums = `"""
title: Sums
"""
from pydantic import BaseModel, Field
class Tools:
    class Valves(BaseModel):
        unit: str = "apples"
        limit: int = Field(default=100, ge=1)
    class UserValves(BaseModel):
        polite: bool = False
    def __init__(self): self.valves = self.Valves()
    def add(self, a: int, b: int = 1, __user__: dict = {}) -> str:
        """
        Adds.
        :param a: the first
        """
        return f"{a + b} {self.valves.unit} {__user__['valves'].polite} {__user__['name']}"
`

func newServer(t *testing.T, db *store.DB, host *pyhost.Host, vars ...string) (*sessiontest.Server, *pytools.Service) {
	t.Helper()
	s := sessiontest.New(t, db, vars...)
	service := &pytools.Service{Rows: rows.New(db, s.Access), Host: host, Access: s.Access, Users: s.Users, Env: s.Env, Log: slog.New(slog.DiscardHandler)}
	s.Env.DataDir = t.TempDir()
	s.Router.Mount(base, New(Deps{
		Python: service, Access: s.Access, Env: s.Env, Events: s.Events, HTTP: outbound.Guard{Local: true}.Client(nil, true), Log: slog.New(slog.DiscardHandler),
	}))
	s.Router.Finish()
	return s, service
}

func body(id, content, more string) string {
	return `{"id":` + string(jsondoc.Text(id)) + `,"name":"N","content":` + string(jsondoc.Text(content)) + `,"meta":{"description":"d"}` + more + `}`
}

func TestPython(t *testing.T) {
	host := pyhosttest.New(t, nil)
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s, _ := newServer(t, db, host)
		_, boss := s.User("Boss", "admin")
		ann, annToken := s.User("Ann", "user")
		call := func(token, what, body string, status int) jsondoc.Doc {
			t.Helper()
			a := s.Call(token, what, body)
			if a.Code != status {
				t.Fatalf("%s: %d %s, want %d", what, a.Code, a.Body, status)
			}
			return a.Doc()
		}
		is := func(got jsondoc.Doc, want string) {
			t.Helper()
			if !jsondoc.Same(got, jsondoc.Doc(want)) {
				t.Errorf("%s, want %s", got, want)
			}
		}
		for content, detail := range map[string]string{"class Tools(:": "[ERROR: Error creating tool]", "x = 1": "[ERROR: Error creating tool]"} {
			if d := call(boss, "POST "+base+"/create", body("bad", content, ""), 400); d.Text("detail") != detail {
				t.Errorf("%q: %s", content, d)
			}
		}
		call(boss, "POST "+base+"/create", body("1a", sums, ""), 400)
		call(annToken, "POST "+base+"/create", body("hers", sums, ""), 401)
		made := call(boss, "POST "+base+"/create", body("Sums", sums, `,"access_grants":[{"principal_type":"user","principal_id":"`+ann.ID+`","permission":"read"}]`), 200)
		if made.Text("id") != "sums" || made.Get("content") != nil || made.Text("meta", "manifest", "title") != "Sums" || !made.Bool("meta", "has_user_valves") || made.Get("access_grants").Len() != 1 {
			t.Errorf("%s", made)
		}
		call(boss, "POST "+base+"/create", body("sums", sums, ""), 400)
		is(call(boss, "GET "+base+"/id/sums", "", 200).Get("specs"), `[{"name":"add","description":"Adds.","parameters":{"type":"object","required":["a"],
			"properties":{"a":{"type":"integer","description":"the first"},"b":{"type":"integer","default":1}}}}]`)
		if d := call(annToken, "GET "+base+"/id/sums", "", 200); d.Get("content") != nil || d.Bool("write_access") || d.Get("specs").Len() != 1 {
			t.Errorf("%s", d)
		}
		if d := call(annToken, "GET "+base+"/", "", 200).List(); len(d) != 1 || d[0].Text("user", "name") != "Boss" || !d[0].Bool("has_user_valves") {
			t.Errorf("%s", d)
		}
		is(call(annToken, "GET "+base+"/export", "", 401).Get("detail"), `"401 Unauthorized"`)

		is(call(boss, "POST "+base+"/id/sums/valves/update", `{"unit":"pears","limit":null,"x":1}`, 200), `{"unit":"pears"}`)
		is(call(boss, "GET "+base+"/id/sums/valves", "", 200), `{"unit":"pears"}`)
		is(call(boss, "POST "+base+"/id/sums/valves/update", `{"limit":0}`, 400).Get("detail"), `"[ERROR: Error updating tool valves]"`)
		call(annToken, "GET "+base+"/id/sums/valves", "", 401)
		is(call(annToken, "POST "+base+"/id/sums/valves/user/update", `{"polite":true}`, 200), `{"polite":true}`)
		is(call(annToken, "GET "+base+"/id/sums/valves/user", "", 200), `{"polite":true}`)
		is(call(boss, "GET "+base+"/id/sums/valves/user", "", 200), `{}`)
		is(call(annToken, "GET "+base+"/id/sums/valves/user/spec", "", 200).Get("title"), `"UserValves"`)

		clash := strings.Replace(sums, `unit: str = "apples"`, "unit: int = 3", 1)
		if d := call(boss, "POST "+base+"/id/sums/update", body("sums", clash, ""), 400); !strings.HasPrefix(d.Text("detail"), "Current Valves are incompatible with this code: unit: ") {
			t.Errorf("%s", d)
		}
		is(call(boss, "POST "+base+"/id/sums/update", body("sums", "nothing here", ""), 400).Get("detail"), `"invalid syntax (<string>, line 1)"`)
		second := call(boss, "POST "+base+"/id/sums/update", body("sums", sums+"# two\n", `,"commit_message":"two"`), 200)
		diff := call(boss, "GET "+base+"/id/sums/history/diff?from_id="+made.Text("version_id")+"&to_id="+second.Text("version_id"), "", 200)
		if !strings.HasSuffix(diff.Text("content_diff"), "\n+# two") || diff.Get("metadata").Len() != 0 {
			t.Errorf("%s", diff)
		}
		call(boss, "DELETE "+base+"/id/sums/history/"+second.Text("version_id"), "", 400)
		back := call(boss, "POST "+base+"/id/sums/update/version", `{"version_id":"`+made.Text("version_id")+`"}`, 200)
		if back.Text("version_id") != made.Text("version_id") || back.Text("content") != sums {
			t.Errorf("%s", back)
		}
		call(boss, "DELETE "+base+"/id/sums/history/"+second.Text("version_id"), "", 200)
		if d := call(boss, "GET "+base+"/id/sums/history", "", 200).List(); len(d) != 1 || d[0].Text("user", "name") != "Boss" {
			t.Errorf("%s", d)
		}
		call(boss, "DELETE "+base+"/id/sums/delete", "", 200)
		call(boss, "DELETE "+base+"/id/sums/delete", "", 401)
		var names []string
		for _, e := range s.Told() {
			names = append(names, strings.Fields(e)[2])
		}
		if got := strings.Join(names, " "); got != "tool.created tool.valves_updated tool.valves_updated tool.updated tool.updated tool.deleted" {
			t.Error(got)
		}
	})
}

func TestEncryptedValves(t *testing.T) {
	db := storetest.SQLite(t)
	s, service := newServer(t, db, pyhosttest.New(t, nil), "ENABLE_VALVE_ENCRYPTION", "true", "WEBUI_SECRET_KEY", "secret")
	_, boss := s.User("Boss", "admin")
	for _, c := range [][2]string{
		{"POST " + base + "/create", body("sums", sums, "")}, {"POST " + base + "/id/sums/valves/update", `{"unit":"pears"}`}, {"POST " + base + "/id/sums/valves/user/update", `{"polite":true}`},
	} {
		if a := s.Call(boss, c[0], c[1]); a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	row, err := service.Rows.Get(t.Context(), "sums")
	if err != nil || !strings.HasPrefix(row.Valves.Text(), "gAAAA") {
		t.Errorf("%s, %v", row.Valves, err)
	}
	for path, want := range map[string]string{"/valves": `{"unit":"pears"}`, "/valves/user": `{"polite":true}`} {
		if a := s.Call(boss, "GET "+base+"/id/sums"+path, ""); !jsondoc.Same(a.Doc(), jsondoc.Doc(want)) {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
}

// TestWithoutPython: what is stored can be read, and what needs Python says so.
func TestWithoutPython(t *testing.T) {
	db := storetest.SQLite(t)
	s, service := newServer(t, db, pyhost.New(pyhost.Options{Python: "/nothing/such", Dir: t.TempDir()}))
	boss, token := s.User("Boss", "admin")
	if _, err := service.Rows.Insert(t.Context(), "sums", boss.ID, rows.Form{Name: "N", Content: sums, Meta: rows.Shape(nil)}, nil); err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]int{
		"GET /": 200, "GET /list": 200, "GET /export": 200, "GET /id/sums": 200, "GET /id/sums/valves": 200, "GET /id/sums/history": 200,
		"POST /create": 400, "POST /id/sums/update": 400, "GET /id/sums/valves/spec": 400, "POST /id/sums/valves/update": 400,
	} {
		method, path, _ := strings.Cut(call, " ")
		a := s.Call(token, method+" "+base+path, body("x", sums, ""))
		if a.Code != want || want == 400 && !strings.HasPrefix(a.Detail(), "Python code cannot run: ") {
			t.Errorf("%s: %d %s", call, a.Code, a.Body)
		}
	}
	if a := s.Call(token, "DELETE "+base+"/id/sums/delete", ""); a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

func TestLoadURL(t *testing.T) {
	db := storetest.SQLite(t)
	s, _ := newServer(t, db, pyhost.New(pyhost.Options{Dir: t.TempDir()}))
	_, token := s.User("Boss", "admin")
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none.py":
			http.NotFound(w, r)
		case "/empty.py":
		default:
			_, _ = w.Write([]byte("code"))
		}
	}))
	defer site.Close()
	for u, want := range map[string]string{
		site.URL + "/a/sums.py": `{"name":"sums","content":"code"}`, site.URL + "/a/main.py": `{"name":"a","content":"code"}`,
		site.URL + "/none.py": "404 Failed to fetch the tool", site.URL + "/empty.py": "400 No data received from the URL",
		"http://169.254.169.254/x.py": "500 [ERROR: Error fetching tool]", "x": "422 ", "ftp://a/b": "422 ", "http://": "422 ", "http://h:99999/": "422 ",
	} {
		a := s.Call(token, "POST "+base+"/load/url", `{"url":`+string(jsondoc.Text(u))+`}`)
		got := a.Body.String()
		if a.Code != 200 {
			got = jsondoc.Of(a.Code).String() + " " + a.Detail()
		}
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s: %s, want %s", u, got, want)
		}
	}
	for u, want := range map[string]string{
		"https://github.com/o/r/tree/main/a/b/": "https://raw.githubusercontent.com/o/r/refs/heads/main/a/b/main.py",
		"https://github.com/o/r/blob/dev/x.py":  "https://raw.githubusercontent.com/o/r/refs/heads/dev/x.py",
		"https://else.test/x.py":                "https://else.test/x.py",
	} {
		if got := codeURL(u); got != want {
			t.Errorf("%s: %s", u, got)
		}
	}
}
