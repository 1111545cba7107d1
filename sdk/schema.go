package sdk

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is a field of a struct as JSON knows it.
type field struct {
	reflect.StructField
	name      string
	omitEmpty bool
}

// fieldsOf gives the fields that encoding/json would write, those of embedded structs among them.
func fieldsOf(t reflect.Type) iter.Seq[field] {
	return func(yield func(field) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.Anonymous || !f.IsExported() {
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			if !yield(field{f, name, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")}) {
				return
			}
		}
	}
}

// member is one of an object whose order is kept.
type member struct {
	name  string
	value any
}

// object is a JSON object whose members keep their order, in which forms show them.
type object []member

func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, mustJSON(m.name)...), ':')
		v, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b = append(b, v...)
	}
	return append(b, '}'), nil
}

var (
	rawType      = reflect.TypeFor[json.RawMessage]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
)

// schemaOf is the JSON schema of a struct type. defaults, if valid, is a value of the type that has them; without it the
// tag default has, and fields without are required.
func schemaOf(t reflect.Type, defaults reflect.Value) object {
	props := object{}
	required := []string{}
	for f := range fieldsOf(t) {
		s := typeSchema(f.Type)
		add := func(name string, v any) { s = append(s, member{name, v}) }
		for _, tag := range []string{"title", "description", "format"} {
			if v := f.Tag.Get(tag); v != "" {
				add(tag, v)
			}
		}
		if v := f.Tag.Get("enum"); v != "" {
			var values []any
			for e := range strings.SplitSeq(v, ",") {
				values = append(values, parseAs(f.Type, e))
			}
			add("enum", values)
		}
		for _, tag := range []string{"minimum", "maximum"} {
			if v, err := strconv.ParseFloat(f.Tag.Get(tag), 64); err == nil {
				add(tag, v)
			}
		}
		text, hasDefault := f.Tag.Lookup("default")
		switch {
		case defaults.IsValid():
			add("default", defaults.FieldByIndex(f.Index).Interface())
		case hasDefault:
			add("default", parseAs(f.Type, text))
		case f.Type.Kind() != reflect.Pointer && !f.omitEmpty:
			required = append(required, f.name)
		}
		props = append(props, member{f.name, s})
	}
	out := object{{"type", "object"}, {"properties", props}}
	if len(required) > 0 {
		out = append(out, member{"required", required})
	}
	return out
}

func typeSchema(t reflect.Type) object {
	switch t {
	case rawType:
		return object{}
	case timeType:
		return object{{"type", "string"}, {"format", "date-time"}}
	case durationType:
		return object{{"type", "integer"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem())
	case reflect.String:
		return object{{"type", "string"}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{{"type", "integer"}}
	case reflect.Float32, reflect.Float64:
		return object{{"type", "number"}}
	case reflect.Slice, reflect.Array:
		return object{{"type", "array"}, {"items", typeSchema(t.Elem())}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", typeSchema(t.Elem())}}
	case reflect.Struct:
		return schemaOf(t, reflect.Value{})
	}
	return object{}
}

// parseAs reads the text of a tag as a value of a field's type; what cannot be read stays text.
func parseAs(t reflect.Type, text string) any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String {
		return text
	}
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return v
}

// applyDefaults fills in the defaults that stand in tags.
func applyDefaults(v reflect.Value) error {
	for f := range fieldsOf(v.Type()) {
		text, ok := f.Tag.Lookup("default")
		if !ok {
			continue
		}
		if err := json.Unmarshal(mustJSON(parseAs(f.Type, text)), v.FieldByIndex(f.Index).Addr().Interface()); err != nil {
			return fmt.Errorf("sdk: default of %s: %w", f.Name, err)
		}
	}
	return nil
}
