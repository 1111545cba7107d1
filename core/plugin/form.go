package plugin

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// The frontend's form for valves knows switches, lists and texts, and sends back every value, numbers that were edited as
// texts. These two functions stand between it and a plugin's JSON schema.

// FormValues are values as the form can show them: an empty text as null, since the form cannot be saved with one; a list
// that is not there as an empty one.
func FormValues(schema, values jsondoc.Doc) jsondoc.Doc {
	out := jsondoc.Open(values)
	schema.Get("properties").Each(func(name string, p jsondoc.Doc) bool {
		v := values.Get(name)
		switch {
		case p.Text("type") == "array" && v.IsNull():
			out.Set(name, jsondoc.Doc("[]"))
		case v.Kind() == '"' && v.Text() == "":
			out.Set(name, jsondoc.Doc("null"))
		}
		return true
	})
	return out.Doc()
}

// fromForm gives the members that differ from what is in effect, in the types of the schema. What fits no type stays as it
// is, for the plugin to refuse.
func fromForm(schema, effective, values jsondoc.Doc) jsondoc.Doc {
	out := &jsondoc.Obj{}
	values.Each(func(name string, v jsondoc.Doc) bool {
		p := schema.Get("properties", name)
		if p == nil {
			return true
		}
		v = coerce(p, v)
		now := effective.Get(name)
		if !sameJSON(v, now) && !(v.IsNull() && now.Kind() == '"' && now.Text() == "") {
			out.Set(name, v)
		}
		return true
	})
	return out.Doc()
}

// coerce makes a value of the type that a schema asks for, where the form has made a text of it.
func coerce(p, v jsondoc.Doc) jsondoc.Doc {
	kind := p.Text("type")
	if kind == "array" {
		return coerceList(p, v)
	}
	if v.Kind() != '"' || kind == "string" {
		return v
	}
	text := strings.TrimSpace(v.Text())
	switch kind {
	case "integer", "number":
		if text == "" {
			return jsondoc.Doc("null")
		}
		if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
			return jsondoc.Doc(text)
		}
	case "boolean":
		switch strings.ToLower(text) {
		case "":
			return jsondoc.Doc("null")
		case "true", "on", "yes", "1":
			return jsondoc.Doc("true")
		case "false", "off", "no", "0":
			return jsondoc.Doc("false")
		}
	case "object":
		if doc, bad := jsondoc.Check([]byte(text)); bad == nil {
			return doc
		}
	}
	return v
}

// coerceList is coerce for lists, of which the form makes texts between commas, and one empty text of nothing.
func coerceList(p, v jsondoc.Doc) jsondoc.Doc {
	if v.Kind() == '"' {
		var parts []jsondoc.Doc
		for part := range strings.SplitSeq(v.Text(), ",") {
			parts = append(parts, jsondoc.Text(strings.TrimSpace(part)))
		}
		v = jsondoc.Array(parts...)
	}
	if v.Kind() != '[' {
		return v
	}
	items := v.List()
	if len(items) == 1 && items[0].Kind() == '"' && items[0].Text() == "" {
		return jsondoc.Doc("[]")
	}
	out := make([]jsondoc.Doc, 0, len(items))
	for _, item := range items {
		out = append(out, coerce(p.Get("items"), item))
	}
	return jsondoc.Array(out...)
}

func sameJSON(a, b jsondoc.Doc) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}
