package web

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
)

type whoami struct{}

func (whoami) Name() string { return "whoami" }

func (whoami) Routes(g *Group) {
	g.Add("GET /", JSON(auth.Public, func(c *Call, _ None) ([]string, error) {
		return []string{c.ClientIP(), c.Origin(), Peer(c.Context())}, nil
	}))
}

func TestProxiesAsUvicorn(t *testing.T) {
	for _, c := range []struct {
		name, trusted, peer string
		chain               []string
		proto               string
		tls                 bool
		want                string
	}{
		{"no proxy", "*", "10.0.0.1:5", nil, "", false, `10.0.0.1 http`},
		{"TLS here", "*", "10.0.0.1:5", nil, "", true, `10.0.0.1 https`},
		{"anybody: the first", "*", "10.0.0.1:5", []string{"1.2.3.4, 5.6.7.8"}, "https", false, `1.2.3.4 https`},
		{"a star in a list is a name", "*,10.0.0.2", "10.0.0.1:5", []string{"1.2.3.4"}, "https", false, `10.0.0.1 http`},
		{"trusted: the last that is not", "127.0.0.1, 5.6.7.0/24", "127.0.0.1:5", []string{"9.9.9.9, 1.2.3.4, 5.6.7.8"}, " https ", false, `1.2.3.4 https`},
		{"several headers", "127.0.0.1,5.6.7.8", "127.0.0.1:5", []string{"1.2.3.4", "5.6.7.8"}, "", false, `1.2.3.4 http`},
		{"all trusted: the first", "10.0.0.0/8", "10.0.0.1:5", []string{"10.0.0.9, 10.0.0.8"}, "", false, `10.0.0.9 http`},
		{"not trusted", "127.0.0.1", "10.0.0.1:5", []string{"1.2.3.4"}, "https", false, `10.0.0.1 http`},
		{"nobody trusted", "", "127.0.0.1:5", []string{"1.2.3.4"}, "https", false, `127.0.0.1 http`},
		{"a network with host bits is none", "127.0.0.1/8", "127.0.0.1:5", []string{"1.2.3.4"}, "https", false, `127.0.0.1 http`},
		{"IPv6, however written", "0:0::1", "[::1]:5", []string{"[2001:db8::7]:443"}, "wss", false, `2001:db8::7 https`},
		{"with a port", "::1", "[::1]:5", []string{"1.2.3.4:99"}, "ws", true, `1.2.3.4 http`},
		{"a bad port stays", "::1", "[::1]:5", []string{"1.2.3.4:x"}, "", false, `1.2.3.4:x http`},
		{"unclosed", "::1", "[::1]:5", []string{"[2001:db8::7"}, "", false, `2001:db8::7 http`},
		{"empty", "*", "10.0.0.1:5", []string{""}, "ftp", false, `10.0.0.1 http`},
		{"a Unix socket has no address", "*", "@", []string{"1.2.3.4"}, "https", false, `1.2.3.4 https`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(Options{Logger: quiet(), Proxies: ParseProxies(c.trusted)})
			r.Mount("/who", whoami{})
			r.Finish()
			req := httptest.NewRequest("GET", "/who/", nil)
			req.RemoteAddr = c.peer
			req.Header["X-Forwarded-For"] = c.chain
			if c.chain == nil {
				delete(req.Header, "X-Forwarded-For")
			}
			if c.proto != "" {
				req.Header.Set("X-Forwarded-Proto", c.proto)
			}
			req.Header.Set("X-Forwarded-Host", "evil.example")
			if c.tls {
				req.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			ip, scheme, _ := strings.Cut(c.want, " ")
			if want := `["` + ip + `","` + scheme + `://example.com","` + c.peer + `"]`; w.Body.String() != want {
				t.Errorf("%s, want %s", w.Body, want)
			}
		})
	}
}

// opinionated sets headers of its own.
type opinionated struct{}

func (opinionated) Name() string { return "opinionated" }

func (opinionated) Routes(g *Group) {
	own := func(c *Call) {
		c.Header().Set("Cache-Control", "no-cache")
		c.Header().Set("Content-Security-Policy", "sandbox")
	}
	g.Add("GET /fine", JSON(auth.Public, func(c *Call, _ None) (string, error) { own(c); return "x", nil }))
	g.Add("GET /fails", JSON(auth.Public, func(c *Call, _ None) (string, error) { own(c); return "", Fail(http.StatusTeapot, "no") }))
	g.Add("GET /panics", JSON(auth.Public, func(*Call, None) (string, error) { panic("oh") }))
	g.Add("GET /late", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		c.Header().Set("Content-Type", "text/plain")
		c.W.WriteHeader(http.StatusOK) // held back, as it may be compressed
		return Done{}, Fail(http.StatusTeapot, "after all")
	}))
	g.Add("GET /streams", JSON(auth.Public, func(c *Call, _ None) (Done, error) {
		own(c)
		_, err := c.SSE().Write([]byte("data: x\n\n"))
		return Done{}, err
	}))
	g.Add("GET /nothing", JSON(auth.Public, func(*Call, None) (Done, error) { return Done{}, nil }))
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	r := New(Options{Logger: quiet(), Compress: true, Headers: http.Header{
		"Cache-Control": {"no-store"}, "Content-Security-Policy": {"default-src 'self'"}, "X-Frame-Options": {"DENY"}}})
	r.Mount("/x", opinionated{})
	r.Finish()
	for path, policies := range map[string]int{"/x/fine": 2, "/x/fails": 2, "/x/panics": 1, "/x/late": 1, "/x/streams": 2, "/x/nothing": 1, "/elsewhere": 1, "/a/../b": 1} {
		req := httptest.NewRequest("GET", path, nil)
		req.RemoteAddr = "10.0.0.1:5"
		req.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		h := w.Header()
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || len(h["Content-Security-Policy"]) != policies {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
	}
}
