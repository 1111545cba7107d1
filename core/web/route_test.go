package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
)

// patterns is a module of endpoints that answer with their own pattern.
type patterns []string

func (patterns) Name() string { return "patterns" }

func (ps patterns) Routes(g *Group) {
	for _, p := range ps {
		p, wide, under := strings.Cut(p, " under ")
		var o []Option
		if under {
			o = append(o, Under(wide))
		}
		g.Add(p, JSON(auth.Public, func(*Call, None) (string, error) { return p, nil }), o...)
	}
}

type badModule struct{}

func (badModule) Name() string { return "bad" }

func (badModule) Routes(g *Group) {
	g.Add("GET /bad", JSON(auth.Public, func(_ *Call, in struct{ Untagged int }) (int, error) { return in.Untagged, nil }))
}

func TestTryMount(t *testing.T) {
	r := New(Options{Logger: quiet()})
	r.Mount("/a", patterns{"GET /{id}/tags", "GET /new", "GET /share/{s} under GET /{x}/{y}"})
	r.Handle("GET /metrics", http.NotFoundHandler())
	before := fmt.Sprint(r.Specs(), r.patterns)
	for _, c := range []struct {
		prefix string
		m      Module
		want   string
	}{
		{"/a", patterns{"GET /fine", "GET /new"}, "registered twice"},
		{"/a", patterns{"POST /x", "GET /users/{u}"}, "conflicts"},
		{"/b", patterns{"GET /{x}/c", "GET /d/{y}"}, "conflicts"},
		{"/b", patterns{"GET /x", "GET /x"}, "registered twice"},
		{"", patterns{"GET /metrics"}, "conflicts"},
		{"/b", patterns{"GET /{x", "GET /y"}, "GET /b/{x"},
		{"/b", patterns{"nothing"}, "has no method"},
		{"/b", badModule{}, "no source tag"},
	} {
		if err := r.TryMount(c.prefix, c.m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.m, err)
		}
		if now := fmt.Sprint(r.Specs(), r.patterns); now != before {
			t.Fatalf("%v: registered in part: %s", c.m, now)
		}
	}
	if err := r.TryMount("/a", patterns{"GET /folder/{f} under GET /{x}/{y}", "PUT /new", "GET /plain"}); err != nil {
		t.Fatal(err)
	}
	r.Finish()
	for path, want := range map[string]string{"/a/folder/1": `"GET /folder/{f}"`, "/a/plain": `"GET /plain"`, "/a/1/tags": `"GET /{id}/tags"`, "/a/share/1": `"GET /share/{s}"`} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Body.String() != want {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	if err := r.Conflict("GET /free/{x}", "HEAD /free/{y}/{z}"); err != nil {
		t.Error(err)
	}
}

func TestHeadIsDeclared(t *testing.T) {
	r := New(Options{Logger: quiet(), Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-By", "fallback") })})
	// HEAD of the first conflicts with GET of the second by ServeMux's rule
	r.Mount("/t", patterns{"HEAD /{id}/{rest:path}", "GET /{id}/chats/{c}/{rest:path}", "GET /x/y"})
	r.Mount("/u", patterns{"GET /only"})
	r.Handle("GET /file", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-By", "file") }))
	r.Handle("/any/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-By", "any") }))
	r.Finish()
	for path, want := range map[string]string{"/t/1/a/b": "route", "/u/only": "fallback", "/file": "file", "/any/thing": "any", "/else": "fallback"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("HEAD", path, nil))
		got := w.Header().Get("X-By")
		if got == "" && w.Header().Get("Content-Type") == "application/json" {
			got = "route"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

type slowModule struct{}

func (slowModule) Name() string { return "slow" }

func (slowModule) Routes(g *Group) {
	g.Add("POST /slow", JSON(auth.Public, func(c *Call, in struct{ Body Dict }) (Dict, error) {
		return in.Body, nil
	}).With(func(e *Endpoint) { e.ReadTimeout, e.WriteTimeout = 50*time.Millisecond, time.Minute }))
}

func TestSlowBody(t *testing.T) {
	r := New(Options{Logger: quiet(), MaxBody: 100})
	r.Mount("", slowModule{})
	r.Finish()
	srv := httptest.NewServer(r)
	defer srv.Close()
	dial := func(t *testing.T) (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c, bufio.NewReader(c)
	}
	head := "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
	t.Run("pause", func(t *testing.T) {
		c, in := dial(t)
		fmt.Fprintf(c, head+`{"a"`, 7)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 408 || !res.Close {
			t.Error(res.Status)
		}
	})
	t.Run("connection is kept", func(t *testing.T) {
		c, in := dial(t)
		for i := range 2 {
			fmt.Fprintf(c, head+`{"a":1}`, 7)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			if b, _ := io.ReadAll(res.Body); string(b) != `{"a":1}` {
				t.Errorf("%s %s", res.Status, b)
			}
		}
	})
	t.Run("too large", func(t *testing.T) {
		for _, h := range []string{fmt.Sprintf(head, 1000), "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n" + strings.Repeat("1", 200) + "\r\n"} {
			c, in := dial(t)
			_, _ = io.WriteString(c, h)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, _ = io.ReadAll(res.Body); res.StatusCode != 413 || !res.Close {
				t.Errorf("%s, close %v", res.Status, res.Close)
			}
		}
	})
}

type listModule struct{}

func (listModule) Name() string { return "list" }

type listItem struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	At    int64  `json:"updated_at"`
}

func (listModule) Routes(g *Group) {
	g.Add("GET /", JSON(auth.Public, func(_ *Call, in struct {
		Page int    `query:"page" default:"1" ge:"1"`
		Text string `query:"text" default:""`
	}) ([]listItem, error) {
		return []listItem{{"1", in.Text, int64(in.Page)}}, nil
	}))
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func BenchmarkGet(b *testing.B) {
	r := New(Options{Logger: quiet(), CORS: []string{"*"}, Compress: true})
	r.Mount("/api/v1/list", listModule{})
	r.Finish()
	req := httptest.NewRequest("GET", "/api/v1/list/?page=3&text=some+words", nil)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		r.ServeHTTP(w, req)
	}
}

func BenchmarkPost(b *testing.B) {
	r := New(Options{Logger: quiet()})
	r.Mount("/f", fuzzModule{})
	r.Finish()
	const body = `{"s":"a","f":1,"point":{"x":1,"y":2},"points":[{"x":1},{"x":2}],"m":{"a":1},"l":["a","b"],"e":"a","doc":{"any":[1,2,3]}}`
	req := httptest.NewRequest("POST", "/f/form?q=1", nil)
	req.Header.Set("Content-Type", "application/json")
	req.ContentLength = int64(len(body))
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		req.Body = io.NopCloser(strings.NewReader(body))
		r.ServeHTTP(w, req)
	}
}

// doorkeeper lets in who says the word.
type doorkeeper struct{}

func (doorkeeper) Authorize(r *http.Request, _ auth.Level) (*auth.Principal, error) {
	if r.Header.Get("X-Word") != "friend" {
		return nil, Fail(http.StatusUnauthorized, "no friend")
	}
	return nil, nil
}

// guarded is a module with callers and errors of its own.
type guarded struct{}

func (guarded) Name() string { return "guarded" }

func (guarded) Routes(g *Group) {
	g.Auth(doorkeeper{})
	g.Errors(func(e *Error) *Error {
		out := *e
		out.Body = M{"problem": e.Detail}
		return &out
	})
	g.Add("POST /in", JSON(auth.Any, func(_ *Call, in struct {
		Body struct {
			N int `json:"n"`
		}
	}) (int, error) {
		return in.Body.N, nil
	}))
	g.Add("GET /open", JSON(auth.Public, func(*Call, None) (int, error) { return 1, nil }))
}

func TestGroupOfItsOwn(t *testing.T) {
	r := New(Options{Logger: quiet()})
	r.Mount("/g", guarded{})
	for _, c := range []struct {
		call, word, body string
		status           int
		want             string
	}{
		{"GET /g/open", "", "", 200, `1`},
		{"POST /g/in", "", `{"n":"x"}`, 401, `{"problem":"no friend"}`},
		{"POST /g/in", "friend", `{"n":5}`, 200, `5`},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		req := httptest.NewRequest(method, path, strings.NewReader(c.body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Word", c.word)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != c.status || w.Body.String() != c.want {
			t.Errorf("%s as %q: %d %s", c.call, c.word, w.Code, w.Body)
		}
	}
}
