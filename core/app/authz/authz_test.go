// Package authz holds the matrix of authorisation: what every operation of the API says to every kind of caller. It has no
// code but tests.
//
// testdata/authz.txt is the table, one line for an operation. The tests fail where an answer differs, where an operation
// that is registered is not in the table, and where a line has no operation. To bring the table up to date:
//
//	go test ./core/app/authz -update
//
// and read the difference before committing it: that is the review of who may do what. The last column is for people;
// it is kept. What is written there is said of the reference where Galley answers differently on purpose.
//
// # The callers
//
//	nobody     sends no credentials
//	pending    has an account that was not admitted yet
//	bare       owns what the operation works on, but has no permission (the default permissions are all off)
//	user       owns what the operation works on, and has all permissions, by way of a group
//	other      has all permissions too, but owns nothing of it and was granted nothing
//	admin      is an administrator and owns nothing of it
//	user key   is user, with an API key; "=" where it makes no difference
//	admin key  is admin, with an API key
//
// # A new operation
//
// Without more it is called with "none" for each parameter of its path, and with the body {} if it is no GET. Where that
// shows a 404 or a 422 in place of who may call it, testdata/calls.txt says how to call it better:
//
//	POST /api/v1/things/{id}/paint ?fast=true {"colour":"red"}
//
// The operation comes first as it is registered, then in any number: ?query, /path/to/call, fresh (the call ends or changes
// the caller's session, so callers are made anew for it), last (it destroys what others stand on), sqlite (it does its work
// on that database only). The rest of the line
// is the body: JSON, "=GET /path" for what an administrator reads there (=GET alone: at the same path), which is how
// settings are stored unchanged, or "form name=value file=name.txt,text/plain,content". Words in braces stand for
// {user}, {bare}, {other}, {admin}, {pending} (ids of callers), {me} (the caller's), {account} (of an account made for
// it), {n} (a number that is not used twice) and for fixtures:
//
//	fixture thing by owner: POST /api/v1/things/create {"name":"thing {n}"} -> id
//	path /api/v1/things/{id} = /api/v1/things/{thing}
//
// A fixture is made when it is first asked for: by the owner (bare where bare calls, otherwise user) or by admin; after
// the arrow is where its id is in the answer. It is made anew after each call that has changed something. With a path rule all
// operations below the path are called with it. "setup" is a fixture that is made once at the start and stays. "say" gives
// the detail of a refusal a short name; others are named by their first words. "also" names what is served outside of
// the declared operations, by its pattern and a call.
package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

var update = flag.Bool("update", false, "rewrite testdata/authz.txt")

// columns are the callers, in the order of the table.
var columns = []string{"nobody", "pending", "bare", "user", "other", "admin", "user key", "admin key"}

// caller is somebody who calls: an account, or nobody.
type caller struct{ id, token string }

// server is the program under test with its accounts and fixtures.
type server struct {
	t        *testing.T
	app      *app.App
	calls    *calls
	callers  map[string]caller
	vars     map[string]string // of setups
	fixtures map[string]string // by owner and name; forgotten after changes
	n        int
}

// provider is a model server in the forms of OpenAI and Ollama that agrees to all it is asked.
func provider(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	answer := `{}`
	switch r.URL.Path {
	case "/v1/models":
		answer = `{"object":"list","data":[{"id":"echo-small","object":"model"}]}`
	case "/api/tags":
		answer = `{"models":[{"model":"llama-echo:latest","name":"llama-echo:latest"}]}`
	case "/api/ps":
		answer = `{"models":[]}`
	case "/api/version":
		answer = `{"version":"0.1.0"}`
	case "/v1/chat/completions":
		answer = `{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"{}"},"finish_reason":"stop"}]}`
	}
	_, _ = io.WriteString(w, answer)
}

// open starts a program with a provider. vars are further environment variables.
func open(t *testing.T, vars map[string]string) *app.App {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(provider))
	t.Cleanup(up.Close)
	all := map[string]string{
		"DATA_DIR": t.TempDir(), "PORT": "0", "HOST": "127.0.0.1", "ENABLE_API_KEYS": "true", "ENABLE_OLLAMA_API": "true",
		"OPENAI_API_BASE_URL": up.URL + "/v1", "OPENAI_API_KEY": "k", "OLLAMA_BASE_URL": up.URL, "ENABLE_VERSION_UPDATE_CHECK": "false",
	}
	for k, v := range vars {
		all[k] = v
	}
	c, err := app.ReadConfig(func(name string) (string, bool) {
		v, ok := all[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Log = io.Discard
	ready := make(chan struct{})
	c.Ready = func(*app.App, string) { close(ready) }
	a, err := app.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return a
}

func newServer(t *testing.T, a *app.App, c *calls) *server {
	s := &server{t: t, app: a, calls: c, callers: map[string]caller{"nobody": {id: "none"}}, vars: map[string]string{}, fixtures: map[string]string{}}
	// the first account signs up, which ends signing up; nobody else may change it
	if status, answer := s.send("POST", "/api/v1/auths/signup", `{"name":"Root","email":"root@example.test","password":"root-password-1"}`, caller{}); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	for _, name := range []string{"admin", "pending", "bare", "user", "other"} {
		s.callers[name] = s.account(name)
	}
	_, tree := s.send("GET", "/api/v1/users/default/permissions", "", s.callers["admin"])
	s.vars["permissions.none"] = strings.ReplaceAll(tree.String(), "true", "false")
	// temporary_enforced takes a right away: that to keep chats
	s.vars["permissions.all"] = jsondoc.Doc(strings.ReplaceAll(tree.String(), "false", "true")).Set(jsondoc.Doc("false"), "chat", "temporary_enforced").String()
	for _, f := range c.setups {
		s.vars[f.name] = s.make(f, "user")
	}
	for _, name := range []string{"user", "admin"} {
		s.callers[name+" key"] = s.key(s.callers[name])
	}
	return s
}

// account makes an account for a kind of caller, and a session of it.
func (s *server) account(kind string) caller {
	s.t.Helper()
	role := map[string]string{"admin": users.RoleAdmin, "pending": users.RolePending}[kind]
	if role == "" {
		role = users.RoleUser
	}
	s.n++
	u, err := s.app.Users.Insert(s.t.Context(), users.NewUser{
		Name: kind, Email: fmt.Sprintf("%s-%d@example.test", kind, s.n), Role: role, Password: sessiontest.Hash, ProfileImageURL: users.DefaultImage,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := s.app.Users.Credential(s.t.Context(), u.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	token, _, err := s.app.Sessions.Issue(u.ID, c.Stamp, auth.Claims{Method: "password"})
	if err != nil {
		s.t.Fatal(err)
	}
	return caller{u.ID, token}
}

// key gives a caller an API key.
func (s *server) key(c caller) caller {
	s.t.Helper()
	status, answer := s.send("POST", "/api/v1/auths/api_key", "", c)
	if status != http.StatusOK {
		s.t.Fatalf("no API key: %d %s", status, answer)
	}
	return caller{c.id, answer.Text("api_key")}
}

// author makes an account a member of the group that has all permissions, or ends that.
func (s *server) author(id string, is bool) {
	s.t.Helper()
	call := map[bool]string{true: "add", false: "remove"}[is]
	status, answer := s.send("POST", "/api/v1/groups/id/"+s.vars["authors"]+"/users/"+call, `{"user_ids":["`+id+`"]}`, s.callers["admin"])
	if status != http.StatusOK {
		s.t.Fatalf("%s author: %d %s", call, status, answer)
	}
}

// fresh makes a caller anew.
func (s *server) fresh(name string) caller {
	kind, withKey := strings.CutSuffix(name, " key")
	if kind == "nobody" {
		return s.callers[kind]
	}
	c := s.account(kind)
	if kind == "user" || kind == "other" {
		s.author(c.id, true)
	}
	if withKey {
		c = s.key(c)
	}
	return c
}

// send sends a request.
func (s *server) send(method, path, body string, c caller) (int, jsondoc.Doc) {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if form, ok := strings.CutPrefix(body, "form "); ok {
		r = httptest.NewRequest(method, path, nil)
		setForm(s.t, r, form)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	w := httptest.NewRecorder()
	s.app.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// setForm gives a request a form: name=value, or for a file name=filename,type,content.
func setForm(t *testing.T, r *http.Request, fields string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for field := range strings.FieldsSeq(fields) {
		name, value, _ := strings.Cut(field, "=")
		header := textproto.MIMEHeader{}
		header.Set("Content-Disposition", `form-data; name="`+name+`"`)
		if file := strings.SplitN(value, ",", 3); len(file) == 3 {
			header.Set("Content-Disposition", `form-data; name="`+name+`"; filename="`+file[0]+`"`)
			header.Set("Content-Type", file[1])
			value = file[2]
		}
		part, err := m.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(part, value)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(&b)
	r.ContentLength = int64(b.Len())
	r.Header.Set("Content-Type", m.FormDataContentType())
}

var word = regexp.MustCompile(`\{[a-z.]+\}`)

// fill puts values in the place of words in braces that have some.
func (s *server) fill(text string, c caller, owner string) string {
	return word.ReplaceAllStringFunc(text, func(w string) string {
		name := strings.Trim(w, "{}")
		switch name {
		case "n":
			s.n++
			return fmt.Sprint(s.n)
		case "me":
			return c.id
		case "account":
			if s.fixtures[name] == "" {
				s.fixtures[name] = s.account("user").id
			}
			return s.fixtures[name]
		}
		if v, ok := s.vars[name]; ok {
			return v
		}
		if known, ok := s.callers[name]; ok {
			return known.id
		}
		if f, ok := s.calls.fixtures[name]; ok {
			return s.fixture(f, owner)
		}
		return w
	})
}

// fixture gives a fixture's id, and makes it where there is none.
func (s *server) fixture(f fixture, owner string) string {
	s.t.Helper()
	at := owner + " " + f.name
	if s.fixtures[at] == "" {
		s.fixtures[at] = s.make(f, owner)
	}
	return s.fixtures[at]
}

func (s *server) make(f fixture, owner string) string {
	s.t.Helper()
	by := f.by
	if by == "owner" {
		by = owner
	}
	c := s.callers[by]
	path, body := s.fill(f.path, c, owner), s.fill(f.body, c, owner)
	if by == "bare" {
		s.author(c.id, true)
		defer s.author(c.id, false)
	}
	status, answer := s.send(f.method, path, body, c)
	id := answer.Get(strings.Split(f.field, ".")...)
	if status != http.StatusOK || id == nil {
		s.t.Fatalf("fixture %s by %s: %s %s %s: %d %s", f.name, by, f.method, path, body, status, answer)
	}
	text, _ := id.AsText()
	return text
}

// outcome is how an operation answers: the status, and a refusal's detail.
type outcome struct {
	status int
	detail string
}

// try calls an operation.
func (s *server) try(op call, name string) outcome {
	s.t.Helper()
	owner := "user"
	if name == "bare" {
		owner = "bare"
	}
	c := s.callers[name]
	if op.fresh {
		c = s.fresh(name)
	}
	body := op.body
	if from, ok := strings.CutPrefix(body, "=GET"); ok {
		if from = strings.TrimSpace(from); from == "" {
			from = op.path
		}
		_, answer := s.send("GET", from, "", s.callers["admin"])
		body = answer.String()
	} else {
		body = s.fill(body, c, owner)
	}
	path := s.fill(op.path, c, owner)
	status, answer := s.send(op.method, path, body, c)
	out := outcome{status: status, detail: s.detail(status, answer)}
	if op.method != "GET" && status < 400 {
		clear(s.fixtures)
	}
	return out
}

// detail is the text of a refusal, without what differs from run to run.
func (s *server) detail(status int, answer jsondoc.Doc) string {
	if status < 400 || !json.Valid(answer) {
		return ""
	}
	text := answer.Text("detail")
	for _, at := range [][]string{{"error", "message"}, {"error"}} {
		if text == "" {
			text = answer.Text(at...)
		}
	}
	for at, v := range s.fixtures {
		_, name, _ := strings.Cut(at, " ")
		text = strings.ReplaceAll(text, v, "{"+name+"}")
	}
	return text
}

// operations are all calls: those of the routes, and the others of calls.txt.
func (s *server) operations() []call {
	s.t.Helper()
	var out []call
	left := map[string]bool{}
	for op := range s.calls.operations {
		left[op] = true
	}
	for _, r := range s.app.Router.Routes() {
		op := s.calls.of(r.Method, r.Path)
		op.level = r.Level.String()
		delete(left, op.name)
		out = append(out, op)
	}
	for op := range left {
		s.t.Errorf("testdata/calls.txt: no operation %s is registered", op)
	}
	also := map[string]bool{}
	for _, op := range s.calls.also {
		also[op.name] = true
		op.level = "-"
		out = append(out, op)
	}
	for _, p := range s.app.Router.Plain() {
		if !strings.Contains(p, " ") {
			p = "GET " + p
		}
		if !also[p] {
			s.t.Errorf("testdata/calls.txt: there is no line \"also %s\"", p)
		}
	}
	slices.SortStableFunc(out, func(a, b call) int {
		if a.last != b.last {
			return map[bool]int{true: 1, false: -1}[a.last]
		}
		return compareOps(a.name, b.name)
	})
	return out
}

// plugin registers routes as a plugin does, for each level and with a permission.
func (s *server) plugin() {
	s.t.Helper()
	handler := func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) { _, _ = io.WriteString(w, "{}") }
	var routes []web.DynamicRoute
	for level := auth.Public; level <= auth.Admin; level++ {
		routes = append(routes, web.DynamicRoute{Method: "GET", Path: "/api/v1/plugins/authz/" + level.String(), Level: level, Handler: handler})
	}
	routes = append(routes, web.DynamicRoute{Method: "GET", Path: "/api/v1/plugins/authz/permission", Level: auth.Verified, Permission: "features.notes", Handler: handler})
	if err := s.app.Router.SetDynamic("plugin:authz", routes); err != nil {
		s.t.Fatal(err)
	}
}

// each runs f on a program with either kind of database.
func each(t *testing.T, f func(t *testing.T, a *app.App)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": nil, "postgres": storetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			vars := map[string]string{}
			if url != nil {
				vars["DATABASE_URL"] = url(t)
			}
			f(t, open(t, vars))
		})
	}
}

// TestMatrix calls every operation as every caller and compares with the table.
func TestMatrix(t *testing.T) {
	c := readCalls(t)
	want := readTable(t)
	each(t, func(t *testing.T, a *app.App) {
		s := newServer(t, a, c)
		s.plugin()
		got := newTable(c.say)
		for _, op := range s.operations() {
			if op.sqlite && a.DB.Dialect() != store.SQLite {
				got.skipped[op.name] = true
				continue
			}
			line := got.line(op.name, op.level)
			for _, name := range columns {
				line.outcomes[name] = s.try(op, name)
			}
		}
		if *update {
			if a.DB.Dialect() == store.SQLite {
				got.keepComments(want)
				got.write(t)
			}
			return
		}
		got.compare(t, want)
	})
}

// TestRestrictedKeys has keys good for just one address: they open no operation that asks for a caller but that.
func TestRestrictedKeys(t *testing.T) {
	c := readCalls(t)
	s := newServer(t, open(t, nil), c)
	const allowed = "/api/v1/users/user/info"
	err := s.app.Settings.Set(t.Context(), map[string]any{"auth.api_key.endpoint_restrictions": true, "auth.api_key.allowed_endpoints": "/nowhere, " + allowed})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.app.Router.Routes() {
		op := c.of(r.Method, r.Path)
		if r.Level == auth.Public || r.Level == auth.Optional {
			continue
		}
		path, _, _ := strings.Cut(word.ReplaceAllString(op.path, "x"), "?")
		for _, name := range []string{"user key", "admin key"} {
			status, answer := s.send(op.method, path, "{}", s.callers[name])
			open := path == allowed || strings.HasPrefix(path, allowed+"/")
			if refused := status == http.StatusForbidden && answer.Text("detail") == web.TextProhibited; refused == open {
				t.Errorf("%s as %s: %d %.100s", op.name, name, status, answer)
			}
		}
	}
}
