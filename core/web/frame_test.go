package web

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
)

func TestCORSAsStarlette(t *testing.T) {
	pre := map[string]string{"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
	vary := "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
	for _, c := range []struct {
		name    string
		origins []string
		method  string
		header  map[string]string
		origin  string
		status  int
		body    string
		want    map[string]string
	}{
		{name: "off", method: "GET", origin: "http://a", status: 200, want: map[string]string{"Access-Control-Allow-Origin": "", "Vary": ""}},
		{name: "no origin", origins: []string{"*"}, method: "GET", status: 200, want: map[string]string{"Access-Control-Allow-Origin": "", "Vary": "Origin"}},
		{name: "any", origins: []string{"*"}, method: "GET", origin: "http://a", status: 200,
			want: map[string]string{"Access-Control-Allow-Origin": "http://a", "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}},
		{name: "other", origins: []string{"http://b"}, method: "GET", origin: "http://a", status: 200,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}},
		{name: "preflight", origins: []string{"http://b", "http://a"}, method: "OPTIONS", header: pre, origin: "http://a", status: 200, body: "OK",
			want: map[string]string{"Access-Control-Allow-Origin": "http://a", "Access-Control-Allow-Headers": "authorization", "Access-Control-Max-Age": "600", "Vary": vary,
				"Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY", "Content-Type": "text/plain; charset=utf-8"}},
		{name: "preflight of another", origins: []string{"http://b"}, method: "OPTIONS", header: pre, origin: "http://a", status: 400, body: "Disallowed CORS origin",
			want: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "true"}},
		{name: "preflight of a strange method", origins: []string{"*"}, method: "OPTIONS", header: map[string]string{"Access-Control-Request-Method": "BREW", "Access-Control-Request-Private-Network": "true"},
			origin: "http://a", status: 400, body: "Disallowed CORS method, private-network", want: map[string]string{"Access-Control-Allow-Origin": "http://a"}},
		{name: "OPTIONS alone", origins: []string{"*"}, method: "OPTIONS", origin: "http://a", status: 405, want: map[string]string{"Access-Control-Allow-Origin": "http://a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(Options{CORS: c.origins, Logger: quiet(), Headers: http.Header{"X-Frame-Options": {"DENY"}}})
			r.Mount("/api/v1/things", testModule{})
			r.Finish()
			req := httptest.NewRequest(c.method, "/api/v1/things/", nil)
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if w.Code != c.status || c.body != "" && w.Body.String() != c.body {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			for k, v := range c.want {
				if got := strings.Join(w.Header()[k], "|"); got != v {
					t.Errorf("%s: %q, want %q", k, got, v)
				}
			}
			if w.Header().Get("X-Frame-Options") != "DENY" {
				t.Error("fixed header is missing")
			}
		})
	}
}

func TestRequestIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, sent := range []string{"", "", "given-1", "two words", strings.Repeat("x", 200)} {
		req := httptest.NewRequest("GET", "/api/v1/things/", nil)
		req.Header.Set("X-Request-Id", sent)
		w := httptest.NewRecorder()
		newRouter().ServeHTTP(w, req)
		id := w.Header().Get("X-Request-Id")
		if seen[id] || (id == sent) != (sent == "given-1") || sent != "given-1" && len(id) != 36 {
			t.Errorf("sent %q, got %q", sent, id)
		}
		seen[id] = true
	}
}

// contentModule answers with bodies of many kinds.
type contentModule struct{}

var bigText = strings.Repeat("Galley carries many words. ", 200)

func (contentModule) Name() string { return "content" }

func (contentModule) Routes(g *Group) {
	g.Add("GET /json", JSON(auth.Public, func(*Call, None) (string, error) { return bigText, nil }))
	g.Add("GET /small", JSON(auth.Public, func(*Call, None) (string, error) { return "small", nil }))
	g.Add("GET /tagged", JSON(auth.Public, func(*Call, None) (Raw, error) {
		return Raw{Type: "text/css", Body: []byte(bigText), Header: http.Header{"Etag": {`"v1"`}}}, nil
	}))
	g.Add("GET /image", JSON(auth.Public, func(*Call, None) (Raw, error) { return Raw{Type: "image/png", Body: []byte(bigText)}, nil }))
	g.Add("GET /encoded", JSON(auth.Public, func(*Call, None) (Raw, error) {
		return Raw{Type: "text/plain", Body: []byte(bigText), Header: http.Header{"Content-Encoding": {"br"}}}, nil
	}))
	g.Add("GET /error", JSON(auth.Public, func(c *Call, _ None) (Raw, error) {
		c.Header().Set("Content-Type", "text/css")
		c.Header().Set("Etag", `"v1"`)
		return Raw{}, Fail(403, bigText)
	}))
	g.Add("GET /pieces", JSON(auth.Public, func(c *Call, in struct {
		N     int  `query:"n"`
		Flush bool `query:"flush" default:"false"`
	}) (Done, error) {
		c.Header().Set("Content-Type", "text/plain")
		for range in.N {
			_, _ = io.WriteString(c.W, bigText[:100])
			if in.Flush {
				_ = http.NewResponseController(c.W).Flush()
			}
		}
		return Done{}, nil
	}))
	g.Add("GET /copied", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		c.Header().Set("Content-Type", "text/plain")
		_, err := io.Copy(c.W, strings.NewReader(bigText))
		return Done{}, err
	}))
	g.Add("GET /events", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		s := c.SSE()
		return Done{}, s.Event([]byte(bigText))
	}))
	g.Add("GET /held-panic", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		c.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(c.W, "begun")
		panic("boom")
	}))
	g.Add("GET /sent-panic", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		_, _ = io.WriteString(c.W, "begun")
		_ = http.NewResponseController(c.W).Flush()
		panic("boom")
	}))
}

func contentServer(t *testing.T, compress bool) *httptest.Server {
	t.Helper()
	r := New(Options{Compress: compress, Logger: quiet()})
	r.Mount("/c", contentModule{})
	r.Finish()
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return srv
}

func TestCompression(t *testing.T) {
	on, off := contentServer(t, true), contentServer(t, false)
	hundred := bigText[:100]
	for _, c := range []struct {
		name, path string
		srv        *httptest.Server
		local      bool
		accept     string
		gzip, vary bool
		etag       string
		status     int
		want       string
	}{
		{name: "JSON", path: "json", gzip: true, vary: true, want: `"` + bigText + `"`},
		{name: "small", path: "small", want: `"small"`},
		{name: "local", path: "json", local: true, want: `"` + bigText + `"`},
		{name: "switched off", path: "json", srv: off, want: `"` + bigText + `"`},
		{name: "not accepted", path: "json", accept: "br", vary: true, want: `"` + bigText + `"`},
		{name: "refused", path: "json", accept: "gzip;q=0, *", vary: true, want: `"` + bigText + `"`},
		{name: "among others", path: "json", accept: "br, GZIP;q=0.5", gzip: true, vary: true, want: `"` + bigText + `"`},
		{name: "tagged", path: "tagged", gzip: true, vary: true, etag: `W/"v1"`, want: bigText},
		{name: "tagged, plain", path: "tagged", accept: "br", vary: true, etag: `"v1"`, want: bigText},
		{name: "image", path: "image", want: bigText},
		{name: "encoded", path: "encoded", want: bigText},
		{name: "error", path: "error", gzip: true, vary: true, status: 403, want: `{"detail":"` + bigText + `"}`},
		{name: "few pieces", path: "pieces?n=3", vary: true, want: strings.Repeat(hundred, 3)},
		{name: "many pieces", path: "pieces?n=30", gzip: true, vary: true, want: strings.Repeat(hundred, 30)},
		{name: "few flushed pieces", path: "pieces?n=3&flush=1", gzip: true, vary: true, want: strings.Repeat(hundred, 3)},
		{name: "copied", path: "copied", gzip: true, vary: true, want: bigText},
		{name: "copied, plain", path: "copied", srv: off, want: bigText},
		{name: "events", path: "events", want: "data: " + bigText + "\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.srv == nil {
				c.srv = on
			}
			if c.accept == "" {
				c.accept = "gzip"
			}
			req, _ := http.NewRequest("GET", c.srv.URL+"/c/"+c.path, nil)
			req.Header.Set("Accept-Encoding", c.accept)
			if !c.local {
				req.Header.Set("X-Forwarded-For", "192.0.2.1")
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if n := res.ContentLength; n >= 0 && n != int64(len(body)) {
				t.Errorf("length %d, read %d", n, len(body))
			}
			if got := res.Header.Get("Content-Encoding") == "gzip"; got != c.gzip {
				t.Fatalf("compressed: %v", got)
			}
			if c.gzip {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(z); err != nil {
					t.Fatal(err)
				}
			}
			if string(body) != c.want {
				t.Errorf("got %.80q, want %.80q", body, c.want)
			}
			if got := strings.Contains(res.Header.Get("Vary"), "Accept-Encoding"); got != c.vary {
				t.Errorf("vary: %v", res.Header["Vary"])
			}
			if got := res.Header.Get("Etag"); got != c.etag {
				t.Errorf("etag %s", got)
			}
			if c.status != 0 && res.StatusCode != c.status {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
}

func TestPanicAfterTheBeginning(t *testing.T) {
	srv := contentServer(t, true)
	get := func(path string) (*http.Response, []byte, error) {
		req, _ := http.NewRequest("GET", srv.URL+"/c/"+path, nil)
		req.Header.Set("Accept-Encoding", "gzip")
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, nil, err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res, b, err
	}
	if res, b, err := get("held-panic"); err != nil || res.StatusCode != 500 || !strings.Contains(string(b), "Internal Server Error") || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("held: %v %s %v", res, b, err)
	}
	if _, b, err := get("sent-panic"); err == nil {
		t.Errorf("sent: %s was taken for whole", b)
	}
}

func TestStream(t *testing.T) {
	gone := make(chan error, 1)
	next := make(chan string)
	r := New(Options{Logger: quiet(), Compress: true})
	r.Handle("GET /s", r.frame(nil, func(w http.ResponseWriter, req *http.Request) {
		c := &Call{W: w, R: req}
		defer c.close()
		s := c.SSE()
		s.WriteTimeout(time.Minute)
		defer s.Heartbeat(5 * time.Millisecond)()
		for {
			select {
			case text := <-next:
				if s.Named("n", []byte(text)) != nil {
					return
				}
			case <-c.Context().Done():
				_, err := s.Write([]byte("x"))
				gone <- err
				return
			}
		}
	}))
	srv := httptest.NewServer(r)
	defer srv.Close()
	res, err := http.Get(srv.URL + "/s")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	h := res.Header
	if h.Get("Content-Type") != EventStream || h.Get("Cache-Control") != "no-cache" || h.Get("X-Accel-Buffering") != "no" {
		t.Error(h)
	}
	lines := bufio.NewScanner(res.Body)
	want := func(text string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == text {
				return
			}
		}
		t.Fatalf("no line %q: %v", text, lines.Err())
	}
	want(": ping") // the header and a heartbeat come before any event
	next <- "one\ntwo"
	want("event: n")
	want("data: one")
	want("data: two")
	want("")
	want(": ping")
	res.Body.Close()
	select {
	case err := <-gone:
		// a heartbeat may have met the closed connection before
		if !errors.Is(err, context.Canceled) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write after the client has gone: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the handler was not told that the client has gone")
	}
}

func TestRelay(t *testing.T) {
	w := httptest.NewRecorder()
	c := &Call{W: w, R: httptest.NewRequest("GET", "/", nil)}
	c.Status(202)
	s := c.Stream("application/x-ndjson")
	broken := errors.New("broken")
	if err := s.Relay(io.MultiReader(strings.NewReader("a\n"), strings.NewReader("b\n"))); err != nil {
		t.Error(err)
	}
	if err := s.Relay(io.MultiReader(strings.NewReader("c\n"), errReader{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
	if w.Code != 202 || w.Body.String() != "a\nb\nc\n" || !w.Flushed {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

type errReader struct{ error }

func (e errReader) Read([]byte) (int, error) { return 0, e.error }
