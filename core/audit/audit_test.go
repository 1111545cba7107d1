package audit

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// door lets in whoever comes with the token "ann".
type door struct{}

func (door) Credential(r *http.Request) (string, bool) {
	t := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	return t, t != ""
}

func (d door) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	t, _ := d.Credential(r)
	if t == "ann" {
		return &auth.Principal{User: &users.User{ID: "u1", Name: "Ann", Email: "ann@x", Role: "user"}}, nil
	}
	if level == auth.Optional {
		return nil, nil
	}
	return nil, web.Fail(http.StatusUnauthorized, "Not authenticated")
}

// api has an endpoint of each kind. use is called by one.
type api struct{ use func(context.Context) }

func (api) Name() string { return "api" }

func (a api) Routes(g *web.Group) {
	type body struct{ Body web.Dict }
	echo := func(c *web.Call, in body) (jsondoc.Doc, error) {
		c.ForModel(in.Body.Doc().Text("model"))
		return in.Body.Doc(), nil
	}
	for _, p := range []string{"POST /api/v1/things/", "POST /api/v1/chats/new", "PUT /api/chat", "DELETE /api/v1/chatters/", "POST /api/v1/auths/add"} {
		g.Add(p, web.JSON(auth.Verified, echo))
	}
	for _, p := range []string{"POST /api/v1/auths/signin", "POST /api/v1/auths/signout"} {
		g.Add(p, web.JSON(auth.Public, echo))
	}
	g.Add("GET /api/v1/things/", web.JSON(auth.Verified, func(*web.Call, web.None) (string, error) { return "x", nil }))
	g.Add("POST /api/v1/stream", web.JSON(auth.Verified, func(c *web.Call, _ web.None) (web.Done, error) {
		s := c.SSE()
		for range 3 {
			if _, err := s.Write([]byte("data: 0123456789\n\n")); err != nil {
				return web.Done{}, err
			}
		}
		return web.Done{}, nil
	}))
	g.Add("POST /api/v1/use", web.JSON(auth.Verified, func(c *web.Call, _ web.None) (string, error) {
		ctx, cancel := c.Detached(time.Minute)
		defer cancel()
		a.use(ctx)
		return "x", nil
	}))
	g.Add("POST /api/v1/panic", web.JSON(auth.Verified, func(*web.Call, web.None) (string, error) { panic("oh") }))
}

type logged struct {
	t    *testing.T
	log  *Log
	out  *bytes.Buffer
	http http.Handler
	path string
}

func newLog(t *testing.T, pairs ...string) *logged {
	t.Helper()
	env := map[string]string{"AUDIT_LOG_LEVEL": "REQUEST_RESPONSE", "ENABLE_AUDIT_STDOUT": "true", "AUDIT_LOGS_FILE_PATH": filepath.Join(t.TempDir(), "logs", "audit.log")}
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	e, err := config.ReadEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	l := &logged{t: t, out: &bytes.Buffer{}, path: e.Audit.File}
	quiet := slog.New(slog.DiscardHandler)
	if l.log, err = Open(Options{Env: e.Audit, Door: door{}, Stdout: l.out, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	o := web.Options{Auth: door{}, Logger: quiet, Compress: true, Proxies: web.ParseProxies("*")}
	if l.log != nil {
		o.Audit = l.log
		t.Cleanup(func() { _ = l.log.Stop(t.Context()) })
	}
	r := web.New(o)
	r.Mount("", api{func(ctx context.Context) {
		if l.log != nil {
			l.log.Usage(ctx, "m", 3, 4)
			l.log.Usage(ctx, "m", 0, 0)
		}
	}})
	r.Finish()
	l.http = r
	return l
}

// ask sends a request and gives the answer, and the lines that were written for it.
func (l *logged) ask(token, spec, body string) (*httptest.ResponseRecorder, []jsondoc.Doc) {
	l.t.Helper()
	l.out.Reset()
	method, path, _ := strings.Cut(spec, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
		r.ContentLength = 0
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "test/1")
	r.Header.Set("X-Forwarded-For", "9.8.7.6")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("Accept-Encoding", "gzip")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	l.http.ServeHTTP(w, r)
	var lines []jsondoc.Doc
	for line := range strings.Lines(l.out.String()) {
		if err := jsondoc.Valid([]byte(line)); err != nil {
			l.t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, jsondoc.Doc(strings.TrimSpace(line)))
	}
	return w, lines
}

func TestFields(t *testing.T) {
	l := newLog(t)
	w, lines := l.ask("ann", "POST /api/v1/things/?a=b", `{"model":"m","password":"se\"cret","n":1}`)
	if w.Code != 200 || len(lines) != 1 {
		t.Fatalf("%d %v", w.Code, lines)
	}
	d := lines[0]
	if d.Text("id") == "" || d.Get("timestamp").Kind() != '0' {
		t.Errorf("%s", d)
	}
	want := `{"user":{"id":"u1","name":"Ann","email":"ann@x","role":"user"},"audit_level":"REQUEST_RESPONSE","verb":"POST","request_uri":"https://example.com/api/v1/things/?a=b",` +
		`"response_status_code":200,"source_ip":"9.8.7.6","user_agent":"test/1","model_id":"m","usage":null,"request_object":"{\"model\":\"m\",\"password\":\"********\",\"n\":1}",` +
		`"response_object":"{\"model\":\"m\",\"password\":\"********\",\"n\":1}","extra":{}}`
	if got := d.Delete("id").Delete("timestamp").String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	file, err := os.ReadFile(l.path)
	if err != nil || string(file) != l.out.String() {
		t.Errorf("the file has %s (%v)", file, err)
	}
}

// TestUsage has a request ask a model, which is told by itself.
func TestUsage(t *testing.T) {
	l := newLog(t)
	_, lines := l.ask("ann", "POST /api/v1/use", "")
	if len(lines) != 2 {
		t.Fatalf("%v", lines)
	}
	want := `{"user":{"id":"u1","name":"Ann","email":"ann@x","role":"user"},"audit_level":"REQUEST_RESPONSE","verb":"POST","request_uri":"https://example.com/api/v1/use",` +
		`"response_status_code":null,"source_ip":"9.8.7.6","user_agent":"test/1","model_id":"m","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7},` +
		`"request_object":null,"response_object":null,"extra":{"event":"model_usage","request_id":"` + lines[1].Text("id") + `"}}`
	if got := lines[0].Delete("id").Delete("timestamp").String(); got != want || lines[0].Text("id") == lines[1].Text("id") {
		t.Errorf("%s\nwant %s", got, want)
	}
	if _, lines := l.ask("ann", "POST /api/v1/chats/new", ""); len(lines) != 0 {
		t.Errorf("%v", lines)
	}
	l.log.Usage(t.Context(), "m", 1, 1) // of no request
}

func TestWhatIsRecorded(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   []string
		token string
		spec  string
		want  bool
	}{
		{"a change", nil, "ann", "POST /api/v1/things/", true},
		{"who is not let in", nil, "bad", "POST /api/v1/things/", true},
		{"a stranger", nil, "", "POST /api/v1/things/", false},
		{"a stranger signs in", nil, "", "POST /api/v1/auths/signin", true},
		{"in capitals, at nothing", nil, "", "POST /API/v1/auths/SIGNIN", true},
		{"reading", nil, "ann", "GET /api/v1/things/", false},
		{"reading, if asked for", []string{"ENABLE_AUDIT_GET_REQUESTS", "true"}, "ann", "GET /api/v1/things/", true},
		{"OPTIONS", []string{"ENABLE_AUDIT_GET_REQUESTS", "true"}, "ann", "OPTIONS /api/v1/things/", false},
		{"excluded by default", nil, "ann", "POST /api/v1/chats/new", false},
		{"excluded by default, without a version", nil, "ann", "PUT /api/chat", false},
		{"another word", nil, "ann", "DELETE /api/v1/chatters/", true},
		{"excluded", []string{"AUDIT_EXCLUDED_PATHS", "/things, /x"}, "ann", "POST /api/v1/things/", false},
		{"no more excluded", []string{"AUDIT_EXCLUDED_PATHS", ""}, "ann", "POST /api/v1/chats/new", true},
		{"included", []string{"AUDIT_INCLUDED_PATHS", "chats"}, "ann", "POST /api/v1/chats/new", true},
		{"not included", []string{"AUDIT_INCLUDED_PATHS", "chats"}, "ann", "POST /api/v1/things/", false},
		{"signing in is always", []string{"AUDIT_INCLUDED_PATHS", "chats"}, "ann", "POST /api/v1/auths/signout", true},
		{"a pattern", []string{"AUDIT_INCLUDED_PATHS", "thing."}, "ann", "POST /api/v1/things/", true},
		{"off", []string{"AUDIT_LOG_LEVEL", "none"}, "ann", "POST /api/v1/things/", false},
		{"nowhere to", []string{"ENABLE_AUDIT_LOGS_FILE", "false", "ENABLE_AUDIT_STDOUT", "false"}, "ann", "POST /api/v1/things/", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t, c.env...)
			if _, lines := l.ask(c.token, c.spec, `{}`); (len(lines) == 1) != c.want {
				t.Errorf("%v", lines)
			}
		})
	}
	if l := newLog(t, "AUDIT_LOG_LEVEL", "NONE"); l.log != nil {
		t.Error("there is a log though it is off")
	}
	if _, err := Open(Options{Env: config.Audit{Level: levelFull, Stdout: true, Included: []string{"("}}, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "AUDIT_INCLUDED_PATHS") {
		t.Errorf("a bad pattern: %v", err)
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct{ level, spec, token, status, sent, answered, user string }{
		{"METADATA", "POST /api/v1/things/", "ann", "null", "", "", "Ann"},
		{"REQUEST", "POST /api/v1/things/", "ann", "null", `{"a":1}`, "", "Ann"},
		{"REQUEST_RESPONSE", "POST /api/v1/things/", "ann", "200", `{"a":1}`, `{"a":1}`, "Ann"},
		{"REQUEST_RESPONSE", "POST /api/v1/things/", "bad", "401", `{"a":1}`, `{"detail":"Not authenticated"}`, ""},
		{"REQUEST_RESPONSE", "POST /api/v1/panic", "ann", "500", ``, `{"detail":"Internal Server Error (request `, "Ann"},
		{"REQUEST_RESPONSE", "POST /api/v1/auths/signin", "", "200", "", "", ""},
		{"REQUEST_RESPONSE", "POST /api/v1/auths/signout", "ann", "200", "", "", "Ann"},
		{"REQUEST_RESPONSE", "POST /api/v1/auths/add", "ann", "200", "", "", "Ann"},
	} {
		l := newLog(t, "AUDIT_LOG_LEVEL", c.level)
		_, lines := l.ask(c.token, c.spec, `{"a":1}`)
		if len(lines) != 1 {
			t.Fatalf("%+v: %v", c, lines)
		}
		d := lines[0]
		if d.Get("response_status_code").String() != c.status || d.Text("request_object") != c.sent || !strings.HasPrefix(d.Text("response_object"), c.answered) ||
			c.answered == "" && d.Text("response_object") != "" || d.Text("user", "name") != c.user {
			t.Errorf("%+v: %s", c, d)
		}
		if c.user == "" && d.Get("user").String() != "{}" {
			t.Errorf("a stranger is %s", d.Get("user"))
		}
	}
}

func TestBodiesAreCutAndStreamsPass(t *testing.T) {
	l := newLog(t, "MAX_BODY_LOG_SIZE", "20")
	big := `{"password":"0123456789012345678901234567890","x":"` + strings.Repeat("y", 4000) + `"}`
	w, lines := l.ask("ann", "POST /api/v1/things/", big)
	if w.Header().Get("Content-Encoding") != "gzip" || len(lines) != 1 {
		t.Fatalf("%d %v %v", w.Code, w.Header(), lines)
	}
	if got := lines[0].Text("request_object"); got != `{"password":"********"` {
		t.Errorf("sent: %s", got)
	}
	if got := lines[0].Text("response_object"); got != `{"password":"********"` {
		t.Errorf("answered: %s", got)
	}

	srv := httptest.NewServer(l.http)
	defer srv.Close()
	req, _ := http.NewRequest("POST", srv.URL+"/api/v1/stream", nil)
	req.Header.Set("Authorization", "Bearer ann")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	srv.Close() // after which the record is written
	if err != nil || string(b) != strings.Repeat("data: 0123456789\n\n", 3) {
		t.Errorf("%q %v", b, err)
	}
	if !strings.Contains(l.out.String(), `"response_object":"data: 0123456789\n\nda"`) {
		t.Errorf("%s", l.out)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`{"password":"x","new_password" : "a\"b"}`:           `{"password":"********","new_password" : "********"}`,
		`{"OPENAI_API_KEYS":["sk-1","sk-2"],"a":[1]}`:        `{"OPENAI_API_KEYS":"********","a":[1]}`,
		`{"key":"sk-1","keys":{"b":1},"monkey":"c"}`:         `{"key":"********","keys":{"b":1},"monkey":"c"}`,
		`{"max_tokens":5,"token":"abc","client_secret":"d"}`: `{"max_tokens":5,"token":"********","client_secret":"********"}`,
		`{"api_key":"sk-12345`:                               `{"api_key":"********"`,
		`{"api_key":"sk\`:                                    `{"api_key":"********"`,
		`{"a":"password"}`:                                   `{"a":"password"}`,
		"\xff{}":                                             "\uFFFD{}",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestRotation(t *testing.T) {
	l := newLog(t, "AUDIT_LOG_FILE_ROTATION_SIZE", "1000", "ENABLE_AUDIT_STDOUT", "false")
	const n = 10
	for range n {
		l.ask("ann", "POST /api/v1/things/", `{"a":1}`)
	}
	if err := l.log.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(l.path), "*"))
	if err != nil {
		t.Fatal(err)
	}
	count, packed := 0, 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, ".zip") {
			packed++
			z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if len(z.File) != 1 || z.File[0].Name != strings.TrimSuffix(filepath.Base(f), ".zip") {
				t.Errorf("%s holds %v", f, z.File[0].Name)
			}
			r, err := z.File[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		} else if f != l.path {
			t.Errorf("%s was left", f)
		}
		if len(b) > 1000 {
			t.Errorf("%s has %d bytes", f, len(b))
		}
		count += strings.Count(string(b), "\n")
	}
	if count != n || packed < 2 {
		t.Errorf("%d lines in %v", count, files)
	}
	if err := l.log.write([]byte("x")); err == nil {
		t.Error("written after the end")
	}
}
