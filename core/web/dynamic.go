package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// DynamicRoute is a route that comes and goes while the router serves: one of a plugin. Unlike an Endpoint it takes the
// request as it is. The router looks at the caller, and neither at the body nor at the answer.
type DynamicRoute struct {
	Method string // in capitals; "" for any. GET serves HEAD too.
	// Path is the whole path in ServeMux's syntax, without a host: /a/{id}, /a/{rest...}, /a/ (all below it), /a/{$}.
	// A request for /a is never redirected to /a/.
	Path  string
	Level auth.Level
	// Permission is what the caller needs beside the level, e.g. "features.notes"; "" for nothing. It takes a level that
	// knows the caller: Any or more. Without it the answer is 403 with TextProhibited.
	Permission string
	// ReadTimeout is how long the client may pause while the handler waits for the body; 0 means ten minutes. It ends
	// once the handler sets a read deadline of its own, enables full duplex or takes the connection over.
	ReadTimeout time.Duration
	Summary     string // one line in the API's description
	Description string
	// Schema has members of an OpenAPI operation: parameters, requestBody, responses and others. What the router knows
	// itself (tags, operationId, security, parameters of the path) need not be there. nil for none.
	Schema jsondoc.Doc
	// Handler answers. p is nil for strangers and on public routes. The writer can flush, hijack, send informational
	// responses and trailers, and be used with http.ResponseController.
	Handler func(w http.ResponseWriter, r *http.Request, p *auth.Principal)
}

// pattern is the route's as ServeMux writes it.
func (d *DynamicRoute) pattern() string {
	if d.Method == "" {
		return d.Path
	}
	return d.Method + " " + d.Path
}

// Forgetter is an Observer that is told when its route is there no more. Requests on it may still end afterwards.
type Forgetter interface{ Forget() }

// dynamicEntry is a route in the table.
type dynamicEntry struct {
	DynamicRoute
	owner    string
	observer Observer
	framed   http.Handler
}

// ServeHTTP implements http.Handler.
func (e *dynamicEntry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e.framed.ServeHTTP(w, req)
}

// dynamicTable is the dynamic routes of a moment. It is never changed: a change puts another in its place.
type dynamicTable struct {
	entries []*dynamicEntry // those of one owner in order and side by side
	mux     *http.ServeMux
	// bare has muxes without the patterns that make ServeMux redirect /a to /a/, by the number of slashes in /a/.
	bare map[int]*http.ServeMux
}

// SetDynamic puts routes in the place of all that the owner (e.g. "plugin:hello") has, at once for new requests; those
// in flight keep their handler. They are asked where no built-in route answers, before the fallback. It fails, and
// changes nothing, if a route is malformed, clashes with another dynamic one (equal, or both match a request and neither
// is more specific), or would never be reached because built-in routes answer for all that it matches. It may be called
// from several goroutines while the router serves, after all modules are mounted.
func (r *Router) SetDynamic(owner string, routes []DynamicRoute) error {
	entries := make([]*dynamicEntry, len(routes))
	for i, d := range routes {
		d.Schema = slices.Clone(d.Schema)
		entries[i] = &dynamicEntry{DynamicRoute: d, owner: owner}
		if err := r.checkDynamic(entries[i]); err != nil {
			return err
		}
	}
	r.dynamicMu.Lock()
	defer r.dynamicMu.Unlock()
	var others, gone []*dynamicEntry
	for _, e := range r.dynamicEntries() {
		if e.owner == owner {
			gone = append(gone, e)
		} else {
			others = append(others, e)
		}
	}
	table, err := newDynamicTable(others, entries)
	if err != nil {
		return err
	}
	for _, e := range entries {
		gone = r.observeDynamic(e, gone)
		e.framed = r.frame(e.observer, r.dynamicHandler(&e.DynamicRoute))
	}
	r.dynamic.Store(table)
	for _, e := range gone {
		if f, ok := e.observer.(Forgetter); ok {
			f.Forget()
		}
	}
	return nil
}

// RemoveDynamic takes all routes of an owner away.
func (r *Router) RemoveDynamic(owner string) { _ = r.SetDynamic(owner, nil) } // fails for routes alone

// DynamicRoutes are the routes that an owner has now, in the order they were set.
func (r *Router) DynamicRoutes(owner string) []DynamicRoute {
	var out []DynamicRoute
	for _, e := range r.dynamicEntries() {
		if e.owner == owner {
			out = append(out, e.DynamicRoute)
		}
	}
	return out
}

func (r *Router) dynamicEntries() []*dynamicEntry {
	if t := r.dynamic.Load(); t != nil {
		return t.entries
	}
	return nil
}

// observeDynamic gives an entry its observer: that of an old one with the same pattern, so that its series go on. It
// gives back the old ones that are left.
func (r *Router) observeDynamic(e *dynamicEntry, old []*dynamicEntry) []*dynamicEntry {
	i := slices.IndexFunc(old, func(o *dynamicEntry) bool { return o.Method == e.Method && o.Path == e.Path })
	switch {
	case i >= 0:
		e.observer = old[i].observer
		return slices.Delete(old, i, i+1)
	case r.o.ObserveDynamic != nil:
		e.observer = r.o.ObserveDynamic(e.owner, e.Method, e.Path)
	}
	return old
}

// newDynamicTable makes the table of the entries that are there and those to come; nil if there are none.
func newDynamicTable(others, added []*dynamicEntry) (*dynamicTable, error) {
	t := &dynamicTable{entries: slices.Concat(others, added), mux: http.NewServeMux(), bare: map[int]*http.ServeMux{}}
	if len(t.entries) == 0 {
		return nil, nil
	}
	for i, e := range t.entries {
		if err := catch(func() { t.mux.Handle(e.pattern(), e) }); err != nil {
			return nil, clash(e, t.entries[:i], err)
		}
		if n := slashes(e.Path); n > 0 {
			t.bare[n] = nil
		}
	}
	closeMux(t.mux)
	for n := range t.bare {
		mux := http.NewServeMux()
		for _, e := range t.entries {
			if slashes(e.Path) != n {
				mux.Handle(e.pattern(), e)
			}
		}
		closeMux(mux)
		t.bare[n] = mux
	}
	return t, nil
}

// slashes is the number of slashes in the shortest path of a pattern whose matches may end in a slash, 0 for others.
func slashes(p string) int {
	if strings.HasSuffix(p, "/") || strings.HasSuffix(p, "...}") || strings.HasSuffix(p, "{$}") {
		return strings.Count(p, "/")
	}
	return 0
}

// serve answers a request if a route matches it, and else says false.
func (t *dynamicTable) serve(w http.ResponseWriter, req *http.Request) bool {
	mux := t.mux
	h, _ := mux.Handler(req)
	if _, found := h.(*dynamicEntry); !found {
		if h == http.Handler(noEntry{}) {
			return false
		}
		// a redirect, where a wider pattern may match
		if mux = t.bare[strings.Count(req.URL.EscapedPath(), "/")+1]; mux == nil {
			return false
		}
		h, _ = mux.Handler(req)
		if _, found = h.(*dynamicEntry); !found {
			return false
		}
	}
	mux.ServeHTTP(w, req)
	return true
}

// noEntry stands in the muxes of a table for what no entry matches, so that ServeMux need not find out which methods
// there are.
type noEntry struct{}

// ServeHTTP implements http.Handler.
func (noEntry) ServeHTTP(http.ResponseWriter, *http.Request) {}

// closeMux has a mux answer with noEntry where it has nothing else.
func closeMux(mux *http.ServeMux) {
	_ = catch(func() { mux.Handle("/", noEntry{}) }) // unless an entry matches everything
}

// serveMiss answers what no built-in route matches.
func (r *Router) serveMiss(w http.ResponseWriter, req *http.Request) {
	if t := r.dynamic.Load(); t != nil && t.serve(w, req) {
		return
	}
	r.fallback.ServeHTTP(w, req)
}

// dynamicHandler is what a dynamic route does inside of the frame.
func (r *Router) dynamicHandler(d *DynamicRoute) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		rw := w.(*response) // the frame's
		rw.compress = false
		p, err := r.admit(req, d)
		if err != nil {
			r.fail(&Call{W: w, R: req}, nil, err)
			return
		}
		rw.caller(p)
		rw.pace(req, d.ReadTimeout)
		d.Handler(w, req, p)
		if rw.status == 0 {
			rw.WriteHeader(http.StatusOK) // as net/http would, but known to the observer
		}
	}
}

// admit finds out who calls and whether the route is for them.
func (r *Router) admit(req *http.Request, d *DynamicRoute) (*auth.Principal, error) {
	if d.Level == auth.Public || r.o.Auth == nil && d.Permission == "" {
		return nil, nil
	}
	if r.o.Auth == nil {
		return nil, Fail(http.StatusForbidden, TextProhibited)
	}
	p, err := r.o.Auth.Authorize(req, d.Level)
	if err != nil || d.Permission == "" {
		return p, err
	}
	switch ok, err := r.permitted(req.Context(), p, d.Permission); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, Fail(http.StatusForbidden, TextProhibited)
	}
	return p, nil
}

func (r *Router) permitted(ctx context.Context, p *auth.Principal, permission string) (bool, error) {
	if r.o.Permit == nil {
		return p.IsAdmin(), nil
	}
	return r.o.Permit(ctx, p, permission)
}
