package plugin

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// The frontend's form for valves knows switches, choices and texts. It cannot be saved with an empty text or list in it,
// but with null, and sends back every value, numbers that were edited as texts. These functions stand between it and a
// plugin's JSON schema.

// FormSchema is a schema as the form can show it: lists are texts with commas, and objects are texts of JSON.
func FormSchema(schema jsondoc.Doc) jsondoc.Doc {
	props := &jsondoc.Obj{}
	schema.Get("properties").Each(func(name string, p jsondoc.Doc) bool {
		hint := map[string]string{"array": "(separated by commas)", "object": "(JSON)"}[p.Text("type")]
		if hint != "" {
			about := strings.TrimSpace(p.Text("description") + " " + hint)
			p = p.Set(jsondoc.Doc(`"string"`), "type").Set(jsondoc.Text(about), "description").Delete("items")
		}
		props.Set(name, p)
		return true
	})
	return jsondoc.Object("type", jsondoc.Doc(`"object"`)).Set(props.Doc(), "properties")
}

// FormValues are values as the form can show them: nothing is null.
func FormValues(schema, values jsondoc.Doc) jsondoc.Doc {
	out := jsondoc.Open(values)
	schema.Get("properties").Each(func(name string, p jsondoc.Doc) bool {
		v := values.Get(name)
		switch {
		case v.Kind() == '[':
			var parts []string
			for _, item := range v.List() {
				text, _ := item.AsText()
				parts = append(parts, text)
			}
			v = jsondoc.Text(strings.Join(parts, ", "))
		case v.Kind() == '{' && p.Text("type") == "object":
			v = jsondoc.Text(string(v))
		}
		if v == nil || v.Kind() == '"' && v.Text() == "" {
			v = jsondoc.Doc("null")
		}
		out.Set(name, v)
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
		if !sameJSON(v, now) && !(v.IsNull() && (now == nil || string(now) == `""`)) {
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
	if v.IsNull() {
		return jsondoc.Doc("[]")
	}
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
