package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// methodsDescribed are those that OpenAPI has a place for.
var methodsDescribed = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPatch, http.MethodTrace}

// methodsOfAny stand in the description for a route of any method.
var methodsOfAny = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// operation is what the description says of one method of a path.
type operation struct {
	method string
	doc    func() jsondoc.Doc
}

// operations collects what the description says by path, in order.
type operations struct {
	paths  []string
	byPath map[string][]operation
	tags   []jsondoc.Doc
	tagged map[string]bool
}

func newOperations() *operations {
	return &operations{byPath: map[string][]operation{}, tagged: map[string]bool{}}
}

func (d *operations) tag(name string) {
	if !d.tagged[name] {
		d.tagged[name] = true
		d.tags = append(d.tags, jsondoc.Object("name", jsondoc.Text(name)))
	}
}

// add adds an operation, unless the path has one of the method already: that is the one which answers.
func (d *operations) add(path, method string, doc func() jsondoc.Doc) {
	ops := d.byPath[path]
	if ops == nil {
		d.paths = append(d.paths, path)
	}
	if !slices.ContainsFunc(ops, func(o operation) bool { return o.method == method }) {
		d.byPath[path] = append(ops, operation{method, doc})
	}
}

// dynamic adds the dynamic routes of the moment: by owner, those of one method before those of any. A route of any
// method is described by the methods that browsers and programs use (methodsOfAny), a method of its own that OpenAPI
// does not know not at all.
func (d *operations) dynamic(entries []*dynamicEntry, ids map[string]bool) {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b *dynamicEntry) int {
		switch {
		case a.owner != b.owner:
			return strings.Compare(a.owner, b.owner)
		case (a.Method == "") == (b.Method == ""):
			return 0
		case b.Method == "":
			return -1
		}
		return 1
	})
	for _, e := range entries {
		d.tag(e.owner)
		path, params := describePath(e.Path)
		methods := []string{e.Method}
		if e.Method == "" {
			methods = methodsOfAny
		}
		for _, method := range methods {
			if slices.Contains(methodsDescribed, method) {
				d.add(path, method, func() jsondoc.Doc { return e.operation(operationID(method, path, ids), params) })
			}
		}
	}
}

// pathParam is a wildcard of a pattern.
type pathParam struct {
	name string
	rest bool // it takes all that follows, slashes too
}

// describePath is a pattern's path as OpenAPI writes it, which knows no open ends: they are a parameter too.
func describePath(pattern string) (path string, params []pathParam) {
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		if name, ok := strings.CutPrefix(s, "{"); ok && s != "{$}" {
			name, rest := strings.CutSuffix(strings.TrimSuffix(name, "}"), "...")
			params = append(params, pathParam{name, rest})
			segments[i] = "{" + name + "}"
		}
	}
	switch last := &segments[len(segments)-1]; *last {
	case "{$}":
		*last = ""
	case "":
		name := "rest"
		for i := 2; slices.ContainsFunc(params, func(p pathParam) bool { return p.name == name }); i++ {
			name = "rest" + strconv.Itoa(i)
		}
		params = append(params, pathParam{name, true})
		*last = "{" + name + "}"
	}
	return strings.Join(segments, "/"), params
}

// operation describes a route for one method.
func (e *dynamicEntry) operation(id string, params []pathParam) jsondoc.Doc {
	var op jsondoc.Builder
	op.Add("tags", []string{e.owner})
	if e.Summary != "" {
		op.Add("summary", e.Summary)
	}
	if e.Description != "" {
		op.Add("description", e.Description)
	}
	op.Add("operationId", id)
	if p := e.parameters(params); p != nil {
		op.Raw("parameters", p)
	}
	jsondoc.Open(e.Schema).Each(func(name string, v jsondoc.Doc) bool {
		switch name {
		case "tags", "operationId", "parameters", "responses", "security", "x-level", "x-permission":
			return true
		case "summary":
			if e.Summary != "" {
				return true
			}
		case "description":
			if e.Description != "" {
				return true
			}
		}
		op.Raw(name, v)
		return true
	})
	op.Raw("responses", e.responses())
	describeLevel(&op, e.Level)
	if e.Permission != "" {
		op.Add("x-permission", e.Permission)
	}
	return op.Done()
}

// parameters are those of the route's schema, and those of its path that the schema leaves out; nil for none.
func (e *dynamicEntry) parameters(params []pathParam) jsondoc.Doc {
	list := e.Schema.Get("parameters").List()
	for _, p := range params {
		if slices.ContainsFunc(list, func(d jsondoc.Doc) bool { return d.Text("in") == "path" && d.Text("name") == p.name }) {
			continue
		}
		var b jsondoc.Builder
		b.Add("name", p.name)
		b.Add("in", "path")
		if p.rest {
			b.Add("description", "The rest of the path, slashes included.")
		}
		b.Add("required", true)
		b.Raw("schema", jsondoc.Doc(`{"type":"string"}`))
		list = append(list, b.Done())
	}
	if len(list) == 0 {
		return nil
	}
	return jsondoc.Array(list...)
}

// responses are those of the route's schema, and the router's own.
func (e *dynamicEntry) responses() jsondoc.Doc {
	out := jsondoc.Open(e.Schema.Get("responses"))
	if out.Len() == 0 {
		out.Set("200", responseOK)
	}
	if e.Level > auth.Optional && !out.Has("401") {
		out.Set("401", refusal(textRefused))
	}
	if e.Permission != "" && !out.Has("403") {
		out.Set("403", refusal("The permission "+e.Permission+" is missing"))
	}
	return out.Doc()
}
