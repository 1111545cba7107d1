package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// checkDynamic says what is wrong with a route by itself or beside the built-in ones.
func (r *Router) checkDynamic(e *dynamicEntry) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("web: pattern %q of %s: %w", e.pattern(), e.owner, err)
	}
	if by := r.shadow(&e.DynamicRoute); by != "" {
		return fmt.Errorf("web: pattern %q of %s would never be reached: %s answers there", e.pattern(), e.owner, by)
	}
	return nil
}

func (e *dynamicEntry) check() error {
	switch {
	case e.owner == "":
		return errors.New("it has no owner")
	case e.Handler == nil:
		return errors.New("it has no handler")
	case e.Level > auth.Admin:
		return fmt.Errorf("there is no level %d", e.Level)
	case e.Permission != "" && e.Level < auth.Any:
		return fmt.Errorf("permission %q takes a level that knows the caller, not %s", e.Permission, e.Level)
	case e.Method != strings.ToUpper(e.Method) || strings.ContainsAny(e.Method, " \t"):
		return errors.New("a method is one word in capitals")
	case !strings.HasPrefix(e.Path, "/"):
		return errors.New("a path begins with /")
	case !utf8.ValidString(e.Path):
		return errors.New("a path is UTF-8")
	case strings.ContainsAny(e.Path, " \t"):
		return errors.New("a space in a path is written %20")
	case !clean(e.Path):
		return errors.New("a path with //, /./ or /../ is never matched")
	}
	if _, err := url.PathUnescape(e.Path); err != nil {
		return err
	}
	if err := catch(func() { http.NewServeMux().Handle(e.pattern(), http.NotFoundHandler()) }); err != nil {
		return err
	}
	return e.checkSchema()
}

// checkSchema holds the part of the API's description that comes with a route to what the document needs.
func (e *dynamicEntry) checkSchema() error {
	if len(e.Schema) == 0 {
		return nil
	}
	if !utf8.Valid(e.Schema) {
		return errors.New("schema: not UTF-8")
	}
	doc, bad := jsondoc.Check(e.Schema)
	if bad != nil {
		return fmt.Errorf("schema: %w", bad)
	}
	if doc.Kind() != '{' {
		return errors.New("schema: not an object")
	}
	e.Schema = doc
	for name, kind := range map[string]byte{"parameters": '[', "requestBody": '{', "responses": '{'} {
		if member := doc.Get(name); member != nil && byte(member.Kind()) != kind {
			return fmt.Errorf("schema: %s has the wrong type", name)
		}
	}
	return nil
}

// clash is the error of a pattern that ServeMux refuses beside those of earlier entries.
func clash(e *dynamicEntry, earlier []*dynamicEntry, err error) error {
	for _, o := range earlier {
		mux := http.NewServeMux()
		mux.Handle(o.pattern(), o)
		if err := catch(func() { mux.Handle(e.pattern(), e) }); err != nil {
			// the first line says where in this program the patterns were registered
			_, why, _ := strings.Cut(err.Error(), "\n")
			return fmt.Errorf("web: pattern %q of %s clashes with %q of %s: %s", e.pattern(), e.owner, o.pattern(), o.owner,
				strings.ReplaceAll(why, "\n", " "))
		}
	}
	return fmt.Errorf("web: pattern %q of %s: %w", e.pattern(), e.owner, err)
}

// Stand-ins for what a pattern leaves open. No route has them as a literal.
const (
	sampleSegment = "~any~"
	sampleMethod  = "ANY-METHOD"
)

// shadow says which built-in route answers for all that a dynamic one matches, "" if it leaves something. It asks the
// router itself, with samples of what the pattern matches: a built-in pattern that takes a word nobody has declared
// takes all words.
func (r *Router) shadow(d *DynamicRoute) (by string) {
	method := d.Method
	if method == "" {
		method = sampleMethod
	}
	for _, p := range samples(d.Path, r.depth()) {
		plain, err := url.PathUnescape(p)
		if err != nil {
			return ""
		}
		if by = r.builtin(&http.Request{Method: method, URL: &url.URL{Path: plain, RawPath: p}}); by == "" {
			return ""
		}
	}
	return by
}

// depth is the number of segments of the deepest built-in pattern.
func (r *Router) depth() (n int) {
	for _, p := range r.patterns {
		n = max(n, strings.Count(p, "/"))
	}
	return n
}

// samples are paths that a pattern matches, escaped; for one with an open end down to a depth.
func samples(pattern string, depth int) []string {
	segments := strings.Split(pattern[1:], "/")
	last := segments[len(segments)-1]
	var b strings.Builder
	for _, s := range segments[:len(segments)-1] {
		b.WriteString("/" + sampleOf(s))
	}
	head := b.String()
	switch {
	case last == "{$}":
		return []string{head + "/"}
	case last == "" || strings.HasSuffix(last, "...}"):
		out := []string{head + "/"}
		for i := len(segments); i <= depth+1; i++ {
			head += "/" + sampleSegment
			out = append(out, head)
		}
		return out
	}
	return []string{head + "/" + sampleOf(last)}
}

func sampleOf(segment string) string {
	if strings.HasPrefix(segment, "{") {
		return sampleSegment
	}
	if plain, err := url.PathUnescape(segment); err == nil {
		return url.PathEscape(plain)
	}
	return segment
}

// builtin says which built-in route answers a request, "" for none.
func (r *Router) builtin(req *http.Request) string {
	if r.onlySlash(req.Method, req.URL.Path) {
		return ""
	}
	mux := r.mux
	if req.Method == http.MethodHead {
		if mux = r.heads; mux == nil {
			return ""
		}
	}
	h, pattern := mux.Handler(req)
	if pattern == "" || pattern == "/" {
		return ""
	}
	if c, ok := h.(*choice); ok {
		got := strings.Split(req.URL.Path, "/")
		for _, route := range c.routes {
			if matchSegments(req, route.segments, got) {
				return builtinName(route.Method+" "+route.Path, route)
			}
		}
		return ""
	}
	for _, route := range r.routes {
		if muxPattern(route.Method, route.Path) == pattern {
			return builtinName(route.Method+" "+route.Path, route)
		}
	}
	return builtinName(pattern, nil)
}

// builtinName is how errors speak of a built-in route; route is nil outside the declarations.
func builtinName(pattern string, route *Route) string {
	if route == nil {
		return "the built-in route " + strconv.Quote(pattern)
	}
	return "the built-in route " + strconv.Quote(pattern) + " of " + route.Module
}
