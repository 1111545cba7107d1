package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

type testModule struct{}

func (testModule) Name() string { return "test" }

type itemForm struct {
	Name  string      `json:"name"`
	Count int         `json:"count" default:"1" ge:"1"`
	Data  Opt[Dict]   `json:"data"`
	Doc   jsondoc.Doc `json:"doc" default:"null"`
}

type itemIn struct {
	ID   string   `path:"id"`
	Page Opt[int] `query:"page"`
	Body itemForm
}

func (testModule) Routes(g *Group) {
	g.Add("POST /{id}", JSON(auth.Verified, func(c *Call, in itemIn) (M, error) {
		return M{"id": in.ID, "name": in.Body.Name, "count": in.Body.Count, "data": in.Body.Data, "doc": in.Body.Doc, "page": in.Page}, nil
	}))
	g.Add("GET /", JSON(auth.Public, func(*Call, None) (string, error) { return "list", nil }))
	g.Add("GET /{id}/pinned", JSON(auth.Public, func(*Call, struct {
		ID string `path:"id"`
	}) (string, error) {
		return "pinned", nil
	}))
	g.Add("GET /share/{share}", JSON(auth.Public, func(_ *Call, in struct {
		Share string `path:"share"`
	}) (string, error) {
		return "share " + in.Share, nil
	}), Under("GET /{a}/{b}"))
	g.Add("GET /panic", JSON(auth.Public, func(*Call, None) (string, error) { panic("boom") }))
}

type door struct{}

func (door) Authorize(r *http.Request, _ auth.Level) (*auth.Principal, error) {
	if r.Header.Get("Authorization") == "" {
		return nil, Fail(401, "Not authenticated")
	}
	return &auth.Principal{}, nil
}

func newRouter() *Router {
	r := New(Options{Auth: door{}, MaxBody: 1 << 10, Logger: quiet()})
	r.Mount("/api/v1/things", testModule{})
	r.Finish()
	return r
}

func TestRequests(t *testing.T) {
	r := newRouter()
	for _, c := range []struct {
		name, method, path, ctype, body string
		stranger                        bool
		status                          int
		want                            string
	}{
		{name: "ok", method: "POST", path: "/api/v1/things/a%2Fb?page=3", body: `{"name":"n","data":{"x":1.0},"doc":[1.0]}`, status: 200,
			want: `{"count":1,"data":{"x":1.0},"doc":[1.0],"id":"a/b","name":"n","page":3}`},
		{name: "stranger, bad syntax", method: "POST", path: "/api/v1/things/a", body: `{`, stranger: true, status: 422,
			want: `{"detail":[{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},"ctx":{"error":"Expecting property name enclosed in double quotes"}}]}`},
		{name: "stranger, bad fields", method: "POST", path: "/api/v1/things/a", body: `{}`, stranger: true, status: 401, want: `{"detail":"Not authenticated"}`},
		{name: "all problems", method: "POST", path: "/api/v1/things/a?page=x", body: `{"count":0,"data":[]}`, status: 422,
			want: `{"detail":[{"type":"int_parsing","loc":["query","page"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"},` +
				`{"type":"missing","loc":["body","name"],"msg":"Field required","input":{"count":0,"data":[]}},` +
				`{"type":"greater_than_equal","loc":["body","count"],"msg":"Input should be greater than or equal to 1","input":0,"ctx":{"ge":1}},` +
				`{"type":"dict_type","loc":["body","data"],"msg":"Input should be a valid dictionary","input":[]}]}`},
		{name: "no body", method: "POST", path: "/api/v1/things/a", status: 422,
			want: `{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}`},
		{name: "not JSON", method: "POST", path: "/api/v1/things/a", ctype: "text/plain", body: `{"name":"n"}`, status: 422,
			want: `{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":"{\"name\":\"n\"}"}]}`},
		{name: "bad UTF-8", method: "POST", path: "/api/v1/things/a", body: "{\"name\":\"\xff\"}", status: 400, want: `{"detail":"There was an error parsing the body"}`},
		{name: "too large", method: "POST", path: "/api/v1/things/a", body: `"` + strings.Repeat("x", 2000) + `"`, status: 413, want: `{"detail":"Request body is too large"}`},
		{name: "slash", method: "GET", path: "/api/v1/things/", status: 200, want: `"list"`},
		{name: "no slash", method: "GET", path: "/api/v1/things", status: 404, want: `{"detail":"Not Found"}`},
		{name: "double slash", method: "GET", path: "//api/v1/things/", status: 404, want: `{"detail":"Not Found"}`},
		{name: "dots", method: "GET", path: "/api/v1/x/../things/", status: 404, want: `{"detail":"Not Found"}`},
		{name: "other method", method: "PATCH", path: "/api/v1/things/", status: 405, want: `{"detail":"Method Not Allowed"}`},
		{name: "narrow", method: "GET", path: "/api/v1/things/7/pinned", status: 200, want: `"pinned"`},
		{name: "wide", method: "GET", path: "/api/v1/things/share/7", status: 200, want: `"share 7"`},
		{name: "wide, no match", method: "GET", path: "/api/v1/things/other/7", status: 404, want: `{"detail":"Not Found"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest(c.method, "http://h/", strings.NewReader(c.body))
			u, raw, _ := strings.Cut(c.path, "?")
			req.URL.Path, req.URL.RawQuery = strings.ReplaceAll(u, "%2F", "/"), raw
			if strings.Contains(u, "%2F") {
				req.URL.RawPath = u
			}
			req.Header.Set("Content-Type", "application/json")
			if c.ctype != "" {
				req.Header.Set("Content-Type", c.ctype)
			}
			if c.body == "" {
				req.Body, req.ContentLength = http.NoBody, 0
			}
			if !c.stranger {
				req.Header.Set("Authorization", "Bearer x")
			}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if w.Code != c.status || w.Body.String() != c.want {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.status, c.want)
			}
		})
	}
}

func TestPanicBecomes500(t *testing.T) {
	w := httptest.NewRecorder()
	newRouter().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/things/panic", nil))
	id := w.Header().Get("X-Request-Id")
	if w.Code != 500 || id == "" || !strings.Contains(w.Body.String(), id) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ruled is a module with rules for all of its endpoints, and one of its own.
type ruled struct{ before func(*Call) error }

func (ruled) Name() string { return "ruled" }

func (g ruled) Routes(r *Group) {
	r.Before(g.before)
	r.Errors(func(e *Error) *Error { return Fail(e.Status, M{"wrapped": e.Detail}) })
	r.Add("POST /{id}", JSON(auth.Verified, func(*Call, itemIn) (string, error) { return "done", nil }).With(func(e *Endpoint) {
		e.Admit = func(c *Call) error {
			if c.Principal.Token == "key" {
				return Fail(403, "no keys")
			}
			return nil
		}
	}))
}

// TestGuards checks in which order a request is refused.
func TestGuards(t *testing.T) {
	called := 0
	r := New(Options{Auth: byToken{}, Logger: quiet()})
	r.Mount("/x", ruled{func(c *Call) error {
		if called++; c.R.Header.Get("Limited") != "" {
			return Fail(429, "too much")
		}
		return nil
	}})
	r.Finish()
	for _, c := range []struct {
		name, limited, token, body string
		status                     int
		want                       string
	}{
		{"limited, whoever sends whatever", "1", "", `{`, 429, `{"detail":{"wrapped":"too much"}}`},
		{"stranger", "", "", `{}`, 401, `{"detail":{"wrapped":"Not authenticated"}}`},
		{"a caller who is not admitted, before the fields", "", "key", `{}`, 403, `{"detail":{"wrapped":"no keys"}}`},
		{"fields", "", "session", `{}`, 422, ""},
		{"all well", "", "session", `{"name":"n"}`, 200, `"done"`},
	} {
		req := httptest.NewRequest("POST", "/x/1", strings.NewReader(c.body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", c.token)
		req.Header.Set("Limited", c.limited)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != c.status || c.want != "" && w.Body.String() != c.want {
			t.Errorf("%s: %d %s, want %d %s", c.name, w.Code, w.Body, c.status, c.want)
		}
	}
	if called != 5 {
		t.Errorf("called %d times", called)
	}
}

// byToken takes the whole header for the caller's token.
type byToken struct{ door }

func (b byToken) Authorize(r *http.Request, l auth.Level) (*auth.Principal, error) {
	p, err := b.door.Authorize(r, l)
	if err == nil {
		p.Token = r.Header.Get("Authorization")
	}
	return p, err
}
