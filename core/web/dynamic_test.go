package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

// tell is a handler that says which route it is of, and what the mux found.
func tell(name string) func(http.ResponseWriter, *http.Request, *auth.Principal) {
	return func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) {
		w.Header().Set("X-By", name)
		_, _ = fmt.Fprintf(w, "%s id=%s rest=%s path=%s raw=%s", name, r.PathValue("id"), r.PathValue("rest"), r.URL.Path, r.URL.EscapedPath())
	}
}

// live makes public routes of patterns, each answering with its own.
func live(patterns ...string) []DynamicRoute {
	var out []DynamicRoute
	for _, p := range patterns {
		method, path, ok := strings.Cut(p, " ")
		if !ok {
			method, path = "", p
		}
		out = append(out, DynamicRoute{Method: method, Path: path, Handler: tell(p)})
	}
	return out
}

// builtinRouter has built-in routes of every kind, and a fallback that says so.
func builtinRouter(o Options) *Router {
	o.Logger = quiet()
	if o.Fallback == nil {
		o.Fallback = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-By", "fallback")
			w.WriteHeader(http.StatusTeapot)
		})
	}
	r := New(o)
	r.Mount("/p", patterns{"GET /{id}/logs", "POST /new", "GET /", "HEAD /head", "GET /share/{s} under GET /{x}/{y}", "DELETE /{id}/{rest:path}", "GET /deep/{id}/{rest:path}"})
	by := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-By", name) })
	}
	r.Handle("GET /metrics", by("metrics"))
	r.Handle("/ws", by("ws"))
	r.Handle("/ws/", by("ws"))
	r.Finish()
	return r
}

func request(method, target string, header ...string) *http.Request {
	req := httptest.NewRequest(method, "http://h/", nil)
	path, query, _ := strings.Cut(target, "?")
	u := url.URL{RawQuery: query}
	u.Path, _ = url.PathUnescape(path)
	if u.EscapedPath() != path {
		u.RawPath = path
	}
	req.URL = &u
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

func answer1(r http.Handler, req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// by is who answered.
func by(w *httptest.ResponseRecorder) string {
	if name := w.Header().Get("X-By"); name != "" {
		return name
	}
	return "builtin " + strings.Trim(w.Body.String(), `"`)
}

func set(t *testing.T, r *Router, owner string, routes []DynamicRoute) {
	t.Helper()
	if err := r.SetDynamic(owner, routes); err != nil {
		t.Fatal(err)
	}
}

func TestDynamicPrecedence(t *testing.T) {
	r := builtinRouter(Options{})
	set(t, r, "one", live("/p/{rest...}", "GET /p/x/items/{id}", "POST /p/x/tree/", "/p/x/end/{$}", "GET /p"))
	set(t, r, "two", live("GET /free/{id}", "PUT /metrics", "GET /p/head", "PROPFIND /free/{id}"))
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/p/x/logs", "builtin GET /{id}/logs"},
		{"POST", "/p/x/logs", "/p/{rest...}"}, // another method of a built-in path
		{"POST", "/p/new", "builtin POST /new"},
		{"GET", "/p/new", "/p/{rest...}"},
		{"GET", "/p/", "builtin GET /"},
		{"GET", "/p", "GET /p"},
		{"POST", "/p/", "/p/{rest...}"},
		{"GET", "/p/share/1", "builtin GET /share/{s}"},
		{"GET", "/p/other/1", "/p/{rest...}"}, // the wider pattern matches, none below it does
		{"DELETE", "/p/x/items/1", "builtin DELETE /{id}/{rest:path}"},
		{"GET", "/p/x/items/1", "GET /p/x/items/{id}"},
		{"PUT", "/p/x/items/1", "/p/{rest...}"},
		{"HEAD", "/p/x/items/1", "GET /p/x/items/{id}"},
		{"HEAD", "/p/x/logs", "/p/{rest...}"}, // built-in GET serves no HEAD
		{"HEAD", "/p/head", "builtin HEAD /head"},
		{"GET", "/p/head", "GET /p/head"},
		{"POST", "/p/x/tree/", "POST /p/x/tree/"},
		{"POST", "/p/x/tree/a/b", "POST /p/x/tree/"},
		{"POST", "/p/x/tree", "/p/{rest...}"}, // no redirect
		{"GET", "/p/x/end/", "/p/x/end/{$}"},
		{"GET", "/p/x/end", "/p/{rest...}"},
		{"GET", "/p/x/end/more", "/p/{rest...}"},
		{"GET", "/metrics", "metrics"},
		{"HEAD", "/metrics", "metrics"},
		{"PUT", "/metrics", "PUT /metrics"},
		{"POST", "/metrics", "fallback"},
		{"PATCH", "/ws/a", "ws"},
		{"GET", "/free/1", "GET /free/{id}"},
		{"HEAD", "/free/1", "GET /free/{id}"},
		{"POST", "/free/1", "fallback"},
		{"PROPFIND", "/free/1", "PROPFIND /free/{id}"},
		{"GET", "/free/", "fallback"},
		{"GET", "/free", "fallback"},
		{"GET", "/else", "fallback"},
		{"GET", "/", "fallback"},
		// ServeMux would redirect
		{"GET", "//free/1", "fallback"},
		{"GET", "/free//1", "fallback"},
		{"GET", "/free/./1", "fallback"},
		{"GET", "/x/../free/1", "fallback"},
		{"POST", "/p/x//tree/", "fallback"},
	} {
		if got := by(answer1(r, request(c.method, c.path))); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, c.want)
		}
	}
	r.RemoveDynamic("one")
	r.RemoveDynamic("nobody")
	for path, want := range map[string]string{"/p/x/items/1": "fallback", "/p": "fallback", "/free/1": "GET /free/{id}"} {
		if got := by(answer1(r, request("GET", path))); got != want {
			t.Errorf("after the removal, %s: %q, want %q", path, got, want)
		}
	}
	r.RemoveDynamic("two")
	if r.dynamic.Load() != nil {
		t.Error("an empty table is kept")
	}
}

// TestDynamicRedirects sets patterns that make ServeMux redirect, with and without a wider one beside them.
func TestDynamicRedirects(t *testing.T) {
	for _, c := range []struct {
		patterns string
		path     string
		want     string
	}{
		{"/a/", "/a", "fallback"},
		{"/a/{$}", "/a", "fallback"},
		{"/a/{rest...}", "/a", "fallback"},
		{"GET /a/{id}/", "/a/1", "fallback"},
		{"GET /a/{id}/ GET /a/{id}", "/a/1", "GET /a/{id}"},
		{"/a/ /{rest...}", "/a", "/{rest...}"},
		{"/a/b/ /a/", "/a/b", "/a/"},
		{"/a/b/ /a/ /{rest...}", "/a", "/{rest...}"},
		{"/a/b/{$} /a/{id}/{$} /a/{rest...}", "/a/b", "/a/{rest...}"},
		{"GET /a/b/ /{rest...}", "/a/b", "/{rest...}"},
		{"CONNECT /a/b/", "/a/b", "fallback"},
	} {
		r := builtinRouter(Options{})
		var ps []string
		for _, p := range strings.Split(strings.ReplaceAll(c.patterns, "T /", "T~/"), " ") {
			ps = append(ps, strings.ReplaceAll(p, "~", " "))
		}
		set(t, r, "o", live(ps...))
		method := "GET"
		if strings.HasPrefix(c.patterns, "CONNECT") {
			method = "CONNECT"
		}
		if got := by(answer1(r, request(method, c.path))); got != c.want {
			t.Errorf("%s: %s: %q, want %q", c.patterns, c.path, got, c.want)
		}
	}
}

func TestDynamicPaths(t *testing.T) {
	r := builtinRouter(Options{})
	set(t, r, "o", live("GET /q/items/{id}", "/q/all/{rest...}", "GET /q/a%2Fb/{id}", "GET /q/with%20space"))
	for path, want := range map[string]string{
		"/q/items/a%2Fb":     "GET /q/items/{id} id=a/b rest= path=/q/items/a/b raw=/q/items/a%2Fb",
		"/q/items/%2e%2E":    "GET /q/items/{id} id=.. rest= path=/q/items/.. raw=/q/items/%2e%2E",
		"/q/items/%C3%A9%20": "GET /q/items/{id} id=é  rest= path=/q/items/é  raw=/q/items/%C3%A9%20",
		"/q/all/a/b%2Fc/":    "/q/all/{rest...} id= rest=a/b/c/ path=/q/all/a/b/c/ raw=/q/all/a/b%2Fc/",
		"/q/all/":            "/q/all/{rest...} id= rest= path=/q/all/ raw=/q/all/",
		"/q/a%2fb/%25":       "GET /q/a%2Fb/{id} id=% rest= path=/q/a/b/% raw=/q/a%2fb/%25",
		"/q/with%20space":    "GET /q/with%20space id= rest= path=/q/with space raw=/q/with%20space",
	} {
		if w := answer1(r, request("GET", path)); w.Body.String() != want {
			t.Errorf("%s:\n%s, want\n%s", path, w.Body, want)
		}
	}
}

func TestDynamicRefused(t *testing.T) {
	r := builtinRouter(Options{})
	set(t, r, "one", live("GET /one/{id}", "/one/any/{rest...}"))
	set(t, r, "two", live("GET /two"))
	good := tell("good")
	for _, c := range []struct {
		name   string
		routes []DynamicRoute
		want   []string
	}{
		{"no slash", live("GET two"), []string{`"GET two" of two`, "begins with /"}},
		{"host", live("GET example.test/x"), []string{"begins with /"}},
		{"open brace", live("GET /x/{id"), []string{`"GET /x/{id" of two`, "bad wildcard"}},
		{"name twice", live("GET /{a}/{a}"), []string{"duplicate wildcard"}},
		{"rest in the middle", live("GET /{a...}/b"), []string{"not at end"}},
		{"method", live("G@T /x"), []string{"invalid method"}},
		{"small method", live("get /x"), []string{"capitals"}},
		{"unclean, any method", live("/x//y"), []string{"never matched"}},
		{"dots", live("GET /x/../y"), []string{"never matched"}},
		{"bad escape", live("GET /x/%zz"), []string{"invalid URL escape"}},
		{"not UTF-8", live("GET /x/\xff"), []string{"UTF-8"}},
		{"space", []DynamicRoute{{Path: "/x y", Handler: good}}, []string{"%20"}},
		{"no handler", []DynamicRoute{{Path: "/x"}}, []string{"no handler"}},
		{"level", []DynamicRoute{{Path: "/x", Handler: good, Level: auth.Admin + 1}}, []string{"no level 5"}},
		{"permission of nobody", []DynamicRoute{{Path: "/x", Handler: good, Permission: "a.b"}}, []string{`permission "a.b"`, "public"}},
		{"permission of a stranger", []DynamicRoute{{Path: "/x", Handler: good, Permission: "a.b", Level: auth.Optional}}, []string{"optional"}},
		{"schema syntax", []DynamicRoute{{Path: "/x", Handler: good, Schema: jsondoc.Doc(`{`)}}, []string{"schema"}},
		{"schema UTF-8", []DynamicRoute{{Path: "/x", Handler: good, Schema: jsondoc.Doc("{\"a\":\"\xff\"}")}}, []string{"schema: not UTF-8"}},
		{"schema kind", []DynamicRoute{{Path: "/x", Handler: good, Schema: jsondoc.Doc(`[]`)}}, []string{"schema: not an object"}},
		{"schema member", []DynamicRoute{{Path: "/x", Handler: good, Schema: jsondoc.Doc(`{"parameters":{}}`)}}, []string{"schema: parameters"}},

		{"equal, of itself", live("GET /x/{a}", "GET /x/{b}"), []string{`"GET /x/{b}" of two`, `"GET /x/{a}" of two`, "same requests"}},
		{"ambiguous, of itself", live("GET /x/{a}/c", "GET /x/b/{c}"), []string{`"GET /x/b/{c}" of two`, `"GET /x/{a}/c" of two`, "neither is more specific"}},
		{"equal to another's", live("GET /one/{x}"), []string{`"GET /one/{x}" of two`, `"GET /one/{id}" of one`}},
		{"ambiguous with another's", live("GET /{x}/any"), []string{`"GET /one/{id}" of one`}},
		{"methods against paths", live("/one/fixed"), []string{`"GET /one/{id}" of one`, "more methods"}},

		{"equal to a built-in", live("GET /p/{x}/logs"), []string{"never be reached", `"GET /p/{id}/logs" of patterns`}},
		{"below a built-in", live("GET /p/hello/logs"), []string{"never be reached", `"GET /p/{id}/logs" of patterns`}},
		{"equal to one below a wider", live("GET /p/share/{x}"), []string{`"GET /p/share/{s}" of patterns`}},
		{"below one below a wider", live("GET /p/share/7"), []string{`"GET /p/share/{s}" of patterns`}},
		{"below an open end", live("DELETE /p/x/y/z/{rest...}"), []string{`"DELETE /p/{id}/{rest:path}" of patterns`}},
		{"a built-in redirect", live("DELETE /p/{id}"), []string{`"DELETE /p/{id}/{rest:path}" of patterns`}},
		{"open end", live("GET /p/deep/{id}/{all...}"), []string{`"GET /p/deep/{id}/{rest:path}"`}},
		{"tree", live("GET /p/deep/5/"), []string{`"GET /p/deep/{id}/{rest:path}"`}},
		{"end", live("GET /p/{$}"), []string{`"GET /p/" of patterns`}},
		{"HEAD", live("HEAD /p/head"), []string{`"HEAD /p/head" of patterns`}},
		{"metrics", live("GET /metrics"), []string{`built-in route "GET /metrics"`}},
		{"any method", live("/ws"), []string{`built-in route "/ws"`}},
		{"below any method", live("QUERY /ws/a/{b}"), []string{`built-in route "/ws/"`}},
		{"below any method, open", live("/ws/{rest...}"), []string{`built-in route "/ws/"`}},
		{"escaped", live("GET /%6detrics"), []string{`built-in route "GET /metrics"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.dynamic.Load()
			err := r.SetDynamic("two", append(live("GET /new"), c.routes...))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), ".go:") || strings.Contains(err.Error(), "\n") {
				t.Errorf("speaks of this program: %v", err)
			}
			if r.dynamic.Load() != before || by(answer1(r, request("GET", "/two"))) != "GET /two" || by(answer1(r, request("GET", "/new"))) != "fallback" {
				t.Error("something changed")
			}
		})
	}
	if err := r.SetDynamic("", live("GET /x")); err == nil {
		t.Error("a route without an owner")
	}
	// what leaves something to reach is fine
	for _, p := range []string{"/p/{rest...}", "/p/{id}/logs", "POST /p/{id}/logs", "GET /p/{id}", "GET /{x}/y/logs", "GET /p/{x}/{y}", "HEAD /p/x/logs", "POST /metrics", "/metrics",
		"/p/deep/", "GET /p", "HEAD /p/", "GET /p/deep/{id}", "/", "GET /{$}", "/two", "/.well-known/x"} {
		if err := r.SetDynamic("two", live(p)); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	// an owner may take its own patterns anew
	for range 2 {
		set(t, r, "one", live("GET /one/{other}", "GET /one/{id}/x"))
	}
	if got := r.DynamicRoutes("one"); len(got) != 2 || got[0].Path != "/one/{other}" || got[1].Path != "/one/{id}/x" || r.DynamicRoutes("nobody") != nil {
		t.Errorf("%+v", got)
	}
}

// levelDoor lets in by the name sent: anybody at their level, as Sessions do.
type levelDoor struct{ asked *atomic.Int32 }

func (d levelDoor) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	d.asked.Add(1)
	role := r.Header.Get("Authorization")
	if role == "down" {
		return nil, Fail(http.StatusServiceUnavailable, "down")
	}
	if role == "" {
		if level == auth.Optional {
			return nil, nil
		}
		return nil, Fail(http.StatusUnauthorized, "Not authenticated")
	}
	p := &auth.Principal{User: &users.User{ID: role, Role: strings.TrimSuffix(role, "+")}}
	if level == auth.Verified && !p.IsVerified() || level == auth.Admin && !p.IsAdmin() {
		return nil, Fail(http.StatusUnauthorized, TextProhibited)
	}
	return p, nil
}

func TestDynamicAuthorisation(t *testing.T) {
	const stranger, refused, missing = `{"detail":"Not authenticated"}`, `{"detail":"` + TextProhibited + `"}`, `{"detail":"` + TextProhibited + `"}`
	door := levelDoor{new(atomic.Int32)}
	permit := func(_ context.Context, p *auth.Principal, permission string) (bool, error) {
		if permission == "broken" {
			return false, errors.New("no database")
		}
		return p.IsAdmin() || permission == "features.notes" && strings.HasSuffix(p.ID, "+"), nil
	}
	for _, c := range []struct {
		name       string
		level      auth.Level
		permission string
		caller     string
		noPermit   bool
		status     int
		body       string
		asked      int32
	}{
		{name: "public", level: auth.Public, caller: "user", status: 200, body: "stranger"},
		{name: "public, stranger", level: auth.Public, status: 200, body: "stranger"},
		{name: "optional", level: auth.Optional, caller: "user", status: 200, body: "user", asked: 1},
		{name: "optional, stranger", level: auth.Optional, status: 200, body: "stranger", asked: 1},
		{name: "any", level: auth.Any, caller: "pending", status: 200, body: "pending", asked: 1},
		{name: "any, stranger", level: auth.Any, status: 401, body: stranger, asked: 1},
		{name: "verified", level: auth.Verified, caller: "user", status: 200, body: "user", asked: 1},
		{name: "verified, pending", level: auth.Verified, caller: "pending", status: 401, body: refused, asked: 1},
		{name: "admin", level: auth.Admin, caller: "admin", status: 200, body: "admin", asked: 1},
		{name: "admin, user", level: auth.Admin, caller: "user", status: 401, body: refused, asked: 1},
		{name: "door's error", level: auth.Any, caller: "down", status: 503, body: `{"detail":"down"}`, asked: 1},
		{name: "permission", level: auth.Verified, permission: "features.notes", caller: "user+", status: 200, body: "user+", asked: 1},
		{name: "permission missing", level: auth.Verified, permission: "features.notes", caller: "user", status: 403, body: missing, asked: 1},
		{name: "another permission", level: auth.Verified, permission: "features.else", caller: "user+", status: 403, body: missing, asked: 1},
		{name: "permission of an administrator", level: auth.Verified, permission: "features.notes", caller: "admin", status: 200, body: "admin", asked: 1},
		{name: "permission, stranger", level: auth.Any, permission: "features.notes", status: 401, body: stranger, asked: 1},
		{name: "permission and level", level: auth.Admin, permission: "features.notes", caller: "user+", status: 401, body: refused, asked: 1},
		{name: "permission broken", level: auth.Any, permission: "broken", caller: "user", status: 500, body: `{"detail":"Internal Server Error"}`, asked: 1},
		{name: "nobody to ask, user", level: auth.Any, permission: "features.notes", caller: "user+", noPermit: true, status: 403, body: missing, asked: 1},
		{name: "nobody to ask, administrator", level: auth.Any, permission: "features.notes", caller: "admin", noPermit: true, status: 200, body: "admin", asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Auth: door, Permit: permit}
			if c.noPermit {
				o.Permit = nil
			}
			r := builtinRouter(o)
			set(t, r, "o", []DynamicRoute{{Path: "/x", Level: c.level, Permission: c.permission, Handler: func(w http.ResponseWriter, _ *http.Request, p *auth.Principal) {
				name := "stranger"
				if p != nil {
					name = p.ID
				}
				_, _ = w.Write([]byte(name))
			}}})
			door.asked.Store(0)
			req := request("POST", "/x")
			if c.caller != "" {
				req.Header.Set("Authorization", c.caller)
			}
			w := answer1(r, req)
			if w.Code != c.status || w.Body.String() != c.body || door.asked.Load() != c.asked {
				t.Errorf("%d %s, asked %d", w.Code, w.Body, door.asked.Load())
			}
		})
	}
	r := builtinRouter(Options{})
	set(t, r, "o", []DynamicRoute{{Path: "/x", Level: auth.Any, Permission: "a.b", Handler: tell("x")}})
	if w := answer1(r, request("GET", "/x")); w.Code != 403 {
		t.Errorf("nobody at the door: %d", w.Code)
	}
}

func TestDynamicCORS(t *testing.T) {
	r := builtinRouter(Options{CORS: []string{"http://a"}, Auth: levelDoor{new(atomic.Int32)}, Headers: http.Header{"X-Frame-Options": {"DENY"}}})
	routes := live("/any", "GET /get")
	for i := range routes {
		routes[i].Level = auth.Any
	}
	set(t, r, "o", routes)
	for _, c := range []struct {
		name, path string
		header     []string
		status     int
		by, origin string
	}{
		{"preflight", "/any", []string{"Origin", "http://a", "Access-Control-Request-Method", "PUT"}, 200, "builtin OK", "http://a"},
		{"preflight of one method", "/get", []string{"Origin", "http://a", "Access-Control-Request-Method", "GET"}, 200, "builtin OK", "http://a"},
		{"preflight of another origin", "/any", []string{"Origin", "http://b", "Access-Control-Request-Method", "PUT"}, 400, "builtin Disallowed CORS origin", ""},
		{"same origin", "/any", []string{"Authorization", "user"}, 200, "/any", ""},
		{"same origin, stranger", "/any", nil, 401, `builtin {"detail":"Not authenticated"}`, ""},
		{"no preflight", "/any", []string{"Origin", "http://a", "Authorization", "user"}, 200, "/any", "http://a"},
		{"same origin, one method", "/get", []string{"Authorization", "user"}, 418, "fallback", ""},
	} {
		w := answer1(r, request("OPTIONS", c.path, c.header...))
		if w.Code != c.status || by(w) != c.by || w.Header().Get("Access-Control-Allow-Origin") != c.origin || w.Header().Get("X-Frame-Options") != "DENY" || w.Header().Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %s %v", c.name, w.Code, by(w), w.Header())
		}
	}
}

type observerKey struct{}

// recordedObserver notes what it is told.
type recordedObserver struct {
	mu       sync.Mutex
	name     string
	statuses []int
	written  []int64
	gone     int
}

func (o *recordedObserver) Begin(r *http.Request) (context.Context, func(int, int64)) {
	return context.WithValue(r.Context(), observerKey{}, o.name), func(status int, written int64) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.statuses, o.written = append(o.statuses, status), append(o.written, written)
	}
}

func (o *recordedObserver) Forget() { o.gone++ }

func TestDynamicObserved(t *testing.T) {
	seen := map[string]*recordedObserver{}
	made := 0
	r := builtinRouter(Options{Auth: levelDoor{new(atomic.Int32)}, ObserveDynamic: func(owner, method, pattern string) Observer {
		made++
		name := owner + "|" + method + "|" + pattern
		seen[name] = &recordedObserver{name: name}
		return seen[name]
	}})
	set(t, r, "o", []DynamicRoute{
		{Method: "GET", Path: "/x/{id}", Handler: tell("x")},
		{Path: "/quiet", Handler: func(http.ResponseWriter, *http.Request, *auth.Principal) {}},
		{Path: "/closed", Level: auth.Any, Handler: tell("closed")},
		{Path: "/panic", Handler: func(http.ResponseWriter, *http.Request, *auth.Principal) { panic("boom") }},
		{Path: "/late", Handler: func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) {
			if name := r.Context().Value(observerKey{}); name != "o||/late" {
				t.Errorf("context of %v", name)
			}
			w.WriteHeader(202)
		}},
	})
	if err := r.SetDynamic("o", live("GET /x/{id}", "/nothing/{", "/quiet")); err == nil || made != 5 {
		t.Errorf("%v, %d observers", err, made)
	}
	for _, req := range []string{"GET /x/1", "GET /x/2", "POST /quiet", "GET /closed", "GET /panic", "GET /late", "GET /else"} {
		method, path, _ := strings.Cut(req, " ")
		answer1(r, request(method, path))
	}
	for name, want := range map[string][]int{"o|GET|/x/{id}": {200, 200}, "o||/quiet": {200}, "o||/closed": {401}, "o||/panic": {500}, "o||/late": {202}} {
		if got := seen[name]; got == nil || !reflect.DeepEqual(got.statuses, want) {
			t.Errorf("%s: %+v, want %v", name, got, want)
		}
	}
	if seen["o|GET|/x/{id}"].written[0] == 0 {
		t.Error("bytes are not counted")
	}
	// the observer of a pattern that stays, stays
	first := seen["o|GET|/x/{id}"]
	set(t, r, "o", live("GET /x/{id}", "PUT /x/{id}"))
	answer1(r, request("GET", "/x/3"))
	if made != 6 || len(first.statuses) != 3 || first.gone != 0 || seen["o||/quiet"].gone != 1 || seen["o||/panic"].gone != 1 {
		t.Errorf("%d observers, %+v", made, first)
	}
	r.RemoveDynamic("o")
	if first.gone != 1 || seen["o|PUT|/x/{id}"].gone != 1 || seen["o||/quiet"].gone != 1 {
		t.Error("observers were not told")
	}
	set(t, r, "o", live("GET /x/{id}"))
	if made != 7 {
		t.Error("an old observer came back")
	}
}

// TestDynamicChanges has routes change while requests run: each is answered by one whole set, and a request in flight
// by the handler it began with.
func TestDynamicChanges(t *testing.T) {
	r := builtinRouter(Options{})
	version := func(n int) []DynamicRoute {
		h := func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) { _, _ = fmt.Fprint(w, n) }
		out := []DynamicRoute{{Path: "/v", Handler: h}, {Method: "GET", Path: "/w/{id}", Handler: h}}
		if n%2 == 0 {
			out = append(out, DynamicRoute{Path: "/w/{rest...}", Handler: h})
		}
		return out
	}
	set(t, r, "o", version(0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, path := range []string{"/v", "/w/1"} {
					var n int
					w := answer1(r, request("GET", path))
					if _, err := fmt.Sscan(w.Body.String(), &n); err != nil || n < last {
						t.Errorf("%d %q after %d", w.Code, w.Body, last)
						return
					}
					last = n
				}
				if got := by(answer1(r, request("GET", "/p/x/logs"))); got != "builtin GET /{id}/logs" {
					t.Error(got)
				}
				_ = r.OpenAPI()
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			if err := r.SetDynamic("other", live("GET /other", "GET /v/{id}")[:i%3]); err != nil {
				t.Error(err)
			}
			if err := r.SetDynamic("third", live("GET /third", "/v")); err == nil {
				t.Error("a pattern is there twice")
			}
		}
	})
	for i := range 200 {
		if err := r.SetDynamic("o", version(i+1)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()

	begun, goOn := make(chan struct{}), make(chan struct{})
	set(t, r, "slow", []DynamicRoute{{Path: "/slow", Handler: func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) {
		close(begun)
		<-goOn
		_, _ = w.Write([]byte("old"))
	}}})
	got := make(chan string)
	go func() { got <- answer1(r, request("GET", "/slow")).Body.String() }()
	<-begun
	set(t, r, "slow", live("/slow"))
	if by(answer1(r, request("GET", "/slow"))) != "/slow" {
		t.Error("the new handler is not asked")
	}
	r.RemoveDynamic("slow")
	close(goOn)
	if text := <-got; text != "old" {
		t.Errorf("in flight: %q", text)
	}
}

func BenchmarkDynamic(b *testing.B) {
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct{ name, path string }{{"miss of an empty table", "/else/where"}, {"miss", "/else/where"}, {"hit", "/q/items/5"}} {
		b.Run(c.name, func(b *testing.B) {
			r := builtinRouter(Options{Fallback: nothing})
			if c.name != "miss of an empty table" {
				routes := []DynamicRoute{{Path: "/q/items/{id}", Handler: func(http.ResponseWriter, *http.Request, *auth.Principal) {}}}
				if err := r.SetDynamic("o", append(routes, live("GET /a", "/b/{rest...}", "POST /c/{id}/d")...)); err != nil {
					b.Fatal(err)
				}
			}
			req := httptest.NewRequest("GET", c.path, nil)
			w := &discard{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				r.ServeHTTP(w, req)
			}
		})
	}
}
