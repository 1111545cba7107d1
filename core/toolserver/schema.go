package toolserver

import (
	"net/url"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// maxReferences bounds how many references are followed for one operation, so that schemas that share much of each other
// do not grow without end. What lies beyond is left open.
const maxReferences = 2000

// document is an OpenAPI document.
type document struct {
	root     jsondoc.Doc
	sections map[string]map[string]jsondoc.Doc // of its components
}

func newDocument(root jsondoc.Doc) *document {
	d := &document{root: root, sections: map[string]map[string]jsondoc.Doc{}}
	root.Get("components").Each(func(section string, v jsondoc.Doc) bool {
		names := map[string]jsondoc.Doc{}
		v.Each(func(name string, v jsondoc.Doc) bool {
			names[name] = v
			return true
		})
		d.sections[section] = names
		return true
	})
	return d
}

// at gives what a reference leads to; nil where it leads nowhere, or out of the document.
func (d *document) at(ref string) jsondoc.Doc {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	path := strings.Split(rest, "/")
	for i, p := range path {
		if plain, err := url.PathUnescape(p); err == nil {
			p = plain
		}
		path[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	if len(path) >= 3 && path[0] == "components" {
		return d.sections[path[1]][path[2]].Get(path[3:]...)
	}
	return d.root.Get(path...)
}

// follow gives an object, or what it refers to in its place.
func (d *document) follow(v jsondoc.Doc) jsondoc.Doc {
	for range 10 {
		ref, ok := v.Get("$ref").AsText()
		if !ok {
			return v
		}
		v = d.at(ref)
	}
	return nil
}

// The members of a schema that hold schemas: one, a list, and an object of them.
var (
	oneSchema   = []string{"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"}
	listSchemas = []string{"oneOf", "anyOf", "allOf", "prefixItems"}
	mapSchemas  = []string{"properties", "patternProperties", "dependentSchemas"}
)

// resolver puts schemas in the place of references to them.
type resolver struct {
	*document
	left int
}

func (d *document) resolver() *resolver { return &resolver{d, maxReferences} }

// schema is a schema without references. One that leads back to itself is left open there. path are the references that
// led here.
func (r *resolver) schema(s jsondoc.Doc, path []string) jsondoc.Doc {
	if s.Kind() != '{' {
		if s.Kind() == 't' || s.Kind() == 'f' {
			return s
		}
		return jsondoc.Doc("{}")
	}
	if ref, ok := s.Get("$ref").AsText(); ok {
		if slices.Contains(path, ref) || r.left == 0 {
			return jsondoc.Doc("{}")
		}
		r.left--
		return r.schema(r.at(ref), append(slices.Clip(path), ref))
	}
	o := jsondoc.Open(s)
	for _, name := range oneSchema {
		if v := o.Get(name); v.Kind() == '{' {
			o.Set(name, r.schema(v, path))
		}
	}
	for _, name := range listSchemas {
		if v := o.Get(name); v.Kind() == '[' {
			list := v.List()
			for i := range list {
				list[i] = r.schema(list[i], path)
			}
			o.Set(name, jsondoc.Array(list...))
		}
	}
	for _, name := range mapSchemas {
		if v := o.Get(name); v.Kind() == '{' {
			o.Set(name, each(v, func(v jsondoc.Doc) jsondoc.Doc { return r.schema(v, path) }))
		}
	}
	return o.Doc()
}

// each is an object with all of its values replaced.
func each(d jsondoc.Doc, f func(jsondoc.Doc) jsondoc.Doc) jsondoc.Doc {
	var b jsondoc.Builder
	d.Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, f(v))
		return true
	})
	return b.Done()
}

// tidy makes of a schema what models take: the null among alternatives goes, and what has no type is a text.
func tidy(s jsondoc.Doc) jsondoc.Doc {
	if s.Kind() != '{' {
		return s
	}
	o := jsondoc.Open(s)
	if o.Has("anyOf") {
		rest := slices.DeleteFunc(o.Get("anyOf").List(), func(v jsondoc.Doc) bool { return v.Text("type") == "null" })
		if len(rest) == 1 && rest[0].Kind() == '{' {
			o.Pop("anyOf")
			rest[0].Each(func(name string, v jsondoc.Doc) bool {
				o.Set(name, v)
				return true
			})
		} else {
			o.Set("anyOf", jsondoc.Array(rest...))
		}
	}
	if v := o.Get("default"); v != nil && v.IsNull() {
		o.Pop("default")
	}
	if !o.Has("type") && !o.Has("anyOf") && !o.Has("properties") {
		o.Set("type", jsondoc.Doc(`"string"`))
	}
	if v := o.Get("properties"); v.Kind() == '{' {
		o.Set("properties", each(v, tidy))
	}
	if v := o.Get("items"); v.Kind() == '{' {
		o.Set("items", tidy(v))
	}
	return o.Doc()
}

// composed are the properties of an object that is put together of others, and those of them that it needs. Of
// alternatives none is needed.
func composed(s jsondoc.Doc) (properties *jsondoc.Obj, required []string) {
	properties = jsondoc.Open(s.Get("properties"))
	required = s.Get("required").Texts()
	for _, name := range []string{"allOf", "anyOf", "oneOf"} {
		for _, part := range s.Get(name).List() {
			more, needed := composed(part)
			more.Each(func(name string, v jsondoc.Doc) bool {
				if !properties.Has(name) {
					properties.Set(name, v)
				}
				return true
			})
			if name == "allOf" {
				required = append(required, needed...)
			}
		}
	}
	return properties, required
}
