package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/store/users"
)

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
