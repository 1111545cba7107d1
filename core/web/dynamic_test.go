package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
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
