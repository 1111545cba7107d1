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
// The order of checks is FastAPI's: the body's syntax, then the caller, then all fields. Only forms (fields tagged
// form:"name", files of type Upload among them) are read after the caller is known, so that no stranger fills the disk.
//
// The tables in testdata, made with pydantic and FastAPI, say what is accepted and refused. Two things differ on
// purpose: NaN and the infinities in JSON are null, and integers beyond 64 bits are kept at the edge.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

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
	Auth    Authenticator
	Logger  *slog.Logger
	Observe func(method, pattern string) Observer // nil for none; called once per route at registration
	// ObserveDynamic is Observe for the routes of SetDynamic; method is "" for any. See Forgetter.
	ObserveDynamic func(owner, method, pattern string) Observer
	// Permit says whether a caller has a permission that a dynamic route asks for; nil: administrators alone have all.
	Permit   func(ctx context.Context, p *auth.Principal, permission string) (bool, error)
	Fallback http.Handler // answers what no route matches: the frontend
	MaxBody  int64        // bytes of a request body where a route sets no other; 0 means 64 MiB
	// MaxUpload is MaxBody for forms with files; 0 means 1 GiB. UploadDir is where files wait until their request is
	// answered, best on the file system they will be kept on; "" is the system's folder for temporary files.
	MaxUpload int64
	UploadDir string
	CORS      []string    // allowed origins; "*" for any
	Version   string      // in openapi.json
	Compress  bool        // gzip JSON and text for clients that are not on this machine
	Headers   http.Header // of every answer; keys in canonical form
	Audit     Auditor     // nil for none
	Proxies   *Proxies    // whose word counts for where a request comes from; nil for nobody's
}

// Router serves the endpoints of its modules and hands everything else to the fallback.
type Router struct {
	o        Options
	mux      *http.ServeMux
	routes   []*Route
	bySpec   map[string]*Route
	wide     map[string]*choice
	noSlash  map[string]bool // paths that exist with a slash at the end
	heads    *http.ServeMux  // HEAD: only what is declared for it, unlike ServeMux's rule; nil for none
	miss     http.Handler    // dynamic routes, then the fallback
	fallback http.Handler    // framed

	dynamic   atomic.Pointer[dynamicTable] // nil while there are none
	dynamicMu sync.Mutex                   // held by changes of dynamic

	patterns  []string // all that the muxes have
	plain     []string // those of Handle
	anyOrigin bool
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
	if o.MaxUpload == 0 {
		o.MaxUpload = 1 << 30
	}
	if o.Fallback == nil {
		o.Fallback = http.HandlerFunc(notThere)
	}
	r := &Router{o: o, mux: http.NewServeMux(), bySpec: map[string]*Route{}, wide: map[string]*choice{}, noSlash: map[string]bool{},
		anyOrigin: slices.Contains(o.CORS, "*")}
	r.fallback = r.frame(nil, o.Fallback.ServeHTTP)
	r.miss = http.HandlerFunc(r.serveMiss)
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
	g := &Group{prefix: prefix, module: m.Name()}
	m.Routes(g)
	for _, en := range g.entries {
		r.register(en)
	}
}

// TryMount is Mount for modules that are not known to fit. If a pattern is malformed or conflicts with one that
// is there, or a declaration is wrong, nothing is registered and the error says why. Like Mount it is not for a router
// that serves already: SetDynamic is.
func (r *Router) TryMount(prefix string, m Module) (err error) {
	g := &Group{prefix: prefix}
	if err := catch(func() { g.module = m.Name(); m.Routes(g) }); err != nil {
		return fmt.Errorf("web: declarations of %s: %w", g.module, err)
	}
	var patterns []string
	wide := map[string]bool{}
	specs := map[string]bool{}
	for _, en := range g.entries {
		spec := en.route.Method + " " + en.route.Path
		if r.bySpec[spec] != nil || specs[spec] {
			return fmt.Errorf("web: %s is registered twice", spec)
		}
		specs[spec] = true
		if en.wide != "" && (wide[en.wide] || r.wide[en.wide] != nil) {
			continue
		}
		wide[en.wide] = true
		patterns = append(patterns, en.pattern())
	}
	if err := r.Conflict(patterns...); err != nil {
		return err
	}
	for _, en := range g.entries {
		r.register(en)
	}
	return nil
}

// Conflict says which of the patterns ("GET /a/{id}", as ServeMux writes them) is malformed or conflicts with another
// or with one that is registered; nil if all fit.
func (r *Router) Conflict(patterns ...string) error {
	muxes := map[bool]*http.ServeMux{false: http.NewServeMux(), true: http.NewServeMux()}
	try := func(p string) error {
		return catch(func() { muxes[strings.HasPrefix(p, "HEAD ")].Handle(p, http.NotFoundHandler()) })
	}
	for _, p := range r.patterns {
		if err := try(p); err != nil {
			return err
		}
	}
	for _, p := range patterns {
		if err := try(p); err != nil {
			return fmt.Errorf("web: pattern %q: %w", p, err)
		}
	}
	return nil
}

// catch makes an error of a panic of f.
func catch(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	f()
	return nil
}

// Handle registers a plain handler at a pattern, outside the declarations: Socket.IO, static files, metrics. A pattern
// for GET or for all methods gets HEAD too.
func (r *Router) Handle(pattern string, h http.Handler) {
	framed := r.frame(nil, h.ServeHTTP)
	r.plain = append(r.plain, pattern)
	r.handle(pattern, framed)
	if p, ok := strings.CutPrefix(pattern, "GET "); ok {
		r.handle("HEAD "+p, framed)
	} else if !strings.Contains(pattern, " ") {
		r.handle("HEAD "+pattern, framed)
	}
}

// Routes are all registered endpoints, in order.
func (r *Router) Routes() []*Route { return r.routes }

// Plain are the patterns given to Handle, in order.
func (r *Router) Plain() []string { return r.plain }

// Group registers the endpoints of a module.
type Group struct {
	prefix  string
	module  string
	errors  func(*Error) *Error
	auth    Authenticator
	before  func(*Call) error
	entries []entry
}

// Errors has f change each error of this group before it is written: modules with an envelope of their own.
func (g *Group) Errors(f func(*Error) *Error) { g.errors = f }

// Auth has a find the callers of this group's endpoints in place of the router's Authenticator: modules that know no
// accounts. Endpoints that are public ask neither. Call it before Add.
func (g *Group) Auth(a Authenticator) { g.auth = a }

// Before has f called with each request to this group before anything of it is read; an error of it is the answer.
func (g *Group) Before(f func(*Call) error) { g.before = f }

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
	en := entry{
		route:  &Route{Module: g.module, Method: method, Path: full, Level: e.Level, Endpoint: e, segments: strings.Split(full, "/")},
		errors: g.errors, auth: g.auth, before: g.before,
	}
	if reg.wide != "" {
		wideMethod, wideRel, _ := strings.Cut(reg.wide, " ")
		en.wide = muxPattern(wideMethod, g.prefix+wideRel)
	}
	g.entries = append(g.entries, en)
}

// entry is an endpoint about to be registered.
type entry struct {
	route  *Route
	wide   string
	errors func(*Error) *Error
	auth   Authenticator
	before func(*Call) error
}

// pattern is the one that the mux gets.
func (en *entry) pattern() string {
	if en.wide != "" {
		return en.wide
	}
	return muxPattern(en.route.Method, en.route.Path)
}

func (r *Router) register(en entry) {
	route := en.route
	spec := route.Method + " " + route.Path
	if r.bySpec[spec] != nil {
		panic("web: " + spec + " is registered twice")
	}
	r.bySpec[spec] = route
	r.routes = append(r.routes, route)
	if r.o.Observe != nil {
		route.observer = r.o.Observe(route.Method, route.Path)
	}
	if strings.HasSuffix(route.Path, "/") && !strings.Contains(route.Path, "{") {
		r.noSlash[strings.TrimSuffix(route.Path, "/")] = true
	}
	h := r.frame(route.observer, route.Endpoint.handler(r, en))
	if en.wide == "" {
		r.handle(en.pattern(), h)
		return
	}
	c := r.wide[en.wide]
	if c == nil {
		c = &choice{miss: r.miss}
		r.wide[en.wide] = c
		r.handle(en.wide, c)
	}
	c.routes = append(c.routes, route)
	c.handlers = append(c.handlers, h)
}

// handle gives a pattern to the mux of its method.
func (r *Router) handle(pattern string, h http.Handler) {
	if strings.HasPrefix(pattern, "HEAD ") {
		if r.heads == nil {
			r.heads = http.NewServeMux()
		}
		r.heads.Handle(pattern, h)
	} else {
		r.mux.Handle(pattern, h)
	}
	r.patterns = append(r.patterns, pattern)
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
	p, sent := req.URL.Path, req.URL.Path
	if req.URL.RawPath != "" {
		sent = req.URL.EscapedPath() // what ServeMux matches: an escaped slash or dot is part of a segment
	}
	switch {
	// ServeMux would redirect these; the reference's answer to each is the frontend's
	case p == "" || p[0] != '/' || !clean(sent):
		r.fallback.ServeHTTP(w, req)
	case len(r.noSlash) > 0 && r.onlySlash(req.Method, p):
		r.miss.ServeHTTP(w, req)
	case req.Method == http.MethodHead:
		r.serveHead(w, req)
	default:
		r.mux.ServeHTTP(w, req)
	}
}

// onlySlash says whether a path exists with a slash at its end and not, for that method, without.
func (r *Router) onlySlash(method, path string) bool {
	return r.noSlash[path] && r.bySpec[method+" "+path] == nil
}

func (r *Router) serveHead(w http.ResponseWriter, req *http.Request) {
	if r.heads != nil {
		if _, pattern := r.heads.Handler(req); pattern != "" {
			r.heads.ServeHTTP(w, req)
			return
		}
	}
	r.miss.ServeHTTP(w, req)
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
