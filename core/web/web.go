// Package web is Galley's HTTP layer over net/http's ServeMux.
//
// An endpoint is declared once: pattern, who may call it, a struct that says what the request holds, and a function.
// Binding, validation with FastAPI's 422 bodies, authorisation, the OpenAPI entry, metric labels and span name follow:
//
//	g.Add("POST /{id}/pin", web.JSON(auth.Verified, m.pin))
//
//	type pinIn struct {
//		ID   string `path:"id"`
//		Body pinForm
//	}
//	func (m *Module) pin(c *web.Call, in pinIn) (*chats.Chat, error)
//
// The order of checks is FastAPI's: the body's syntax, then the caller, then all fields.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
)

// Module is a set of endpoints, most often those of one tag of the API.
type Module interface {
	Name() string
	Routes(*Group)
}

// Authenticator finds out who sends a request and whether the level lets them in. Its errors are *Error.
type Authenticator interface {
	Authorize(r *http.Request, level auth.Level) (*auth.Principal, error)
}

// Observer is told of each request on a route: metrics and traces. Begin may replace the context; the function it
// returns is called once the answer is written.
type Observer interface {
	Begin(r *http.Request) (context.Context, func(status int, written int64))
}

// Options are what a Router needs.
type Options struct {
	Auth     Authenticator
	Logger   *slog.Logger
	Observe  func(method, pattern string) Observer // nil for none; called once per route at registration
	Fallback http.Handler                          // answers what no route matches: the frontend
	MaxBody  int64                                 // bytes of a request body where a route sets no other; 0 means 64 MiB
	CORS     []string                              // allowed origins; "*" for any
	Version  string                                // in openapi.json
}

// Router serves the endpoints of its modules and hands everything else to the fallback.
type Router struct {
	o       Options
	mux     *http.ServeMux
	routes  []*Route
	bySpec  map[string]*Route
	wide    map[string]*choice
	noSlash map[string]bool // paths that exist only with a slash at the end
	heads   map[string]bool
	miss    http.Handler
}

// Route is a registered endpoint.
type Route struct {
	Module   string
	Method   string
	Path     string // as in the API's description: /api/v1/chats/{id}
	Level    auth.Level
	Endpoint *Endpoint
	observer Observer
	segments []string
}

// New makes an empty router.
func New(o Options) *Router {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if o.Fallback == nil {
		o.Fallback = http.HandlerFunc(notThere)
	}
	r := &Router{o: o, mux: http.NewServeMux(), bySpec: map[string]*Route{}, wide: map[string]*choice{}, noSlash: map[string]bool{}, heads: map[string]bool{}}
	r.miss = r.frame(nil, o.Fallback.ServeHTTP)
	return r
}

func notThere(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		WriteError(w, Fail(http.StatusNotFound, "Not Found"))
		return
	}
	WriteError(w, Fail(http.StatusMethodNotAllowed, "Method Not Allowed"))
}

// Mount registers a module below a prefix such as "/api/v1/chats". Like the ServeMux below it panics on patterns that
// conflict, which a test over all modules shows.
func (r *Router) Mount(prefix string, m Module) {
	m.Routes(&Group{router: r, prefix: prefix, module: m.Name()})
}

// Handle registers a plain handler at a pattern, outside the declarations: Socket.IO, static files, metrics.
func (r *Router) Handle(pattern string, h http.Handler) {
	r.mux.Handle(pattern, r.frame(nil, h.ServeHTTP))
}

// Routes are all registered endpoints, in order.
func (r *Router) Routes() []*Route { return r.routes }

// Group registers the endpoints of a module.
type Group struct {
	router *Router
	prefix string
	module string
	errors func(*Error) *Error
}

// Errors has f change each error of this group before it is written: modules with an envelope of their own.
func (g *Group) Errors(f func(*Error) *Error) { g.errors = f }

// Option changes how an endpoint is registered.
type Option func(*registration)

type registration struct {
	wide string
}

// Under registers the endpoint below a wider pattern, e.g. "GET /{a}/{b}" for "GET /folder/{folder_id}", because
// ServeMux refuses two patterns of which neither is more specific. Among those under one wider pattern the first that
// matches is taken; if none does the request goes to the fallback.
func Under(pattern string) Option { return func(r *registration) { r.wide = pattern } }

// Add registers an endpoint at "METHOD /path", the path relative to the module's prefix. A path that ends in a slash
// matches just itself.
func (g *Group) Add(pattern string, e *Endpoint, options ...Option) {
	method, rel, ok := strings.Cut(pattern, " ")
	if !ok {
		panic(fmt.Sprintf("web: pattern %q has no method", pattern))
	}
	var reg registration
	for _, o := range options {
		o(&reg)
	}
	full := g.prefix + rel
	route := &Route{Module: g.module, Method: method, Path: full, Level: e.Level, Endpoint: e, segments: strings.Split(full, "/")}
	r := g.router
	spec := method + " " + full
	if r.bySpec[spec] != nil {
		panic("web: " + spec + " is registered twice")
	}
	r.bySpec[spec] = route
	r.routes = append(r.routes, route)
	if r.o.Observe != nil {
		route.observer = r.o.Observe(method, full)
	}
	if strings.HasSuffix(full, "/") && !strings.Contains(full, "{") {
		r.noSlash[strings.TrimSuffix(full, "/")] = true
	}
	if method == http.MethodHead {
		r.heads[full] = true
	}
	h := r.frame(route, e.handler(r, route, g.errors))
	if reg.wide == "" {
		r.mux.Handle(muxPattern(method, full), h)
		return
	}
	wideMethod, wideRel, _ := strings.Cut(reg.wide, " ")
	wide := muxPattern(wideMethod, g.prefix+wideRel)
	c := r.wide[wide]
	if c == nil {
		c = &choice{miss: r.miss}
		r.wide[wide] = c
		r.mux.Handle(wide, c)
	}
	c.routes = append(c.routes, route)
	c.handlers = append(c.handlers, h)
}

func muxPattern(method, p string) string {
	if strings.HasSuffix(p, "/") {
		p += "{$}"
	}
	return method + " " + strings.ReplaceAll(p, ":path}", "...}")
}

// choice is the handler of a wider pattern: the first of its routes that matches.
type choice struct {
	routes   []*Route
	handlers []http.Handler
	miss     http.Handler
}

func (c *choice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := strings.Split(r.URL.Path, "/")
	for i, route := range c.routes {
		if matchSegments(r, route.segments, got) {
			c.handlers[i].ServeHTTP(w, r)
			return
		}
	}
	c.miss.ServeHTTP(w, r)
}

func matchSegments(r *http.Request, want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		if !strings.HasPrefix(w, "{") && w != got[i] {
			return false
		}
	}
	for i, w := range want {
		if strings.HasPrefix(w, "{") {
			r.SetPathValue(strings.Trim(w, "{}"), got[i])
		}
	}
	return true
}

// ServeHTTP serves a request.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p := req.URL.Path
	switch {
	// ServeMux would redirect these; the reference's answer to each is the frontend's
	case p == "" || p[0] != '/' || !clean(p), r.noSlash[p],
		req.Method == http.MethodHead && !r.heads[p]:
		r.miss.ServeHTTP(w, req)
	default:
		r.mux.ServeHTTP(w, req)
	}
}

// clean says whether ServeMux would leave the path as it is.
func clean(p string) bool {
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return true
	}
	c := path.Clean(p)
	if p[len(p)-1] == '/' && c != "/" {
		c += "/"
	}
	return c == p
}

// Finish registers the fallback and the API's own description. Call it once all modules are mounted.
func (r *Router) Finish() {
	r.mux.Handle("/", r.miss)
}

// Call is a request being answered.
type Call struct {
	W         http.ResponseWriter
	R         *http.Request
	Principal *auth.Principal // nil on public endpoints and for strangers on optional ones
	Log       *slog.Logger
	status    int
	route     *Route
}

// Context is the request's: cancelled when the client goes.
func (c *Call) Context() context.Context { return c.R.Context() }

// Status sets the status of a successful answer, 200 otherwise.
func (c *Call) Status(code int) { c.status = code }

// Header is the answer's header.
func (c *Call) Header() http.Header { return c.W.Header() }

// UserID is the caller's id, "" for a stranger.
func (c *Call) UserID() string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.ID
}

// IsAdmin says whether the caller is an administrator.
func (c *Call) IsAdmin() bool { return c.Principal != nil && c.Principal.IsAdmin() }

// ClientIP is the address of the caller, without its port.
func (c *Call) ClientIP() string {
	host := c.R.RemoteAddr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}

// Detached is a context that lives on after the request, with its values (trace, request id), and at most d.
func (c *Call) Detached(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.R.Context()), d)
}

// FindRoute gives the route of "METHOD /full/path", nil where there is none.
func (r *Router) FindRoute(spec string) *Route { return r.bySpec[spec] }

// Specs lists all routes as "METHOD /path", sorted.
func (r *Router) Specs() []string {
	out := make([]string, 0, len(r.routes))
	for _, route := range r.routes {
		out = append(out, route.Method+" "+route.Path)
	}
	slices.Sort(out)
	return out
}
