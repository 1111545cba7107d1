package sdk

import (
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
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

// fieldsOf gives the fields that encoding/json would write, those of embedded structs among them. Index leads to them
// from the struct.
func fieldsOf(t reflect.Type) iter.Seq[field] {
	return func(yield func(field) bool) {
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" || f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct || withinNamed(t, f.Index) {
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

// withinNamed says whether a field is promoted through an embedded one that is a member by itself.
func withinNamed(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		f := t.FieldByIndex(index[:i])
		if f.Tag.Get("json") != "" || f.Type.Kind() == reflect.Pointer {
			return true
		}
	}
	return false
}

// add adds a member whose value can be encoded.
func (o object) add(name string, v any) object { return append(o, member{name, mustJSON(v)}) }

var (
	rawType      = reflect.TypeFor[json.RawMessage]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextMarshaler]()
)

// schemaOf is the JSON schema of a struct type. defaults, if valid, is a value of the type that has them; without it the
// tag default has, and fields without are required. within are the structs around it.
func schemaOf(t reflect.Type, defaults reflect.Value, within ...reflect.Type) object {
	out := object{}.add("type", "object")
	if slices.Contains(within, t) {
		return out // a type that holds itself
	}
	within = append(within, t)
	props := object{}
	required := []string{}
	for f := range fieldsOf(t) {
		text, hasDefault := f.Tag.Lookup("default")
		s := fieldSchema(f, within)
		switch {
		case defaults.IsValid():
			if d := defaults.FieldByIndex(f.Index); !isNil(d) {
				s = s.add("default", d.Interface())
			}
		case hasDefault:
			s = s.add("default", parseAs(f.Type, text))
		case f.Type.Kind() != reflect.Pointer && !f.omitEmpty:
			required = append(required, f.name)
		}
		props = append(props, member{f.name, s.append(nil)})
	}
	out = append(out, member{"properties", props.append(nil)})
	if len(required) > 0 {
		out = out.add("required", required)
	}
	return out
}

func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		return v.IsNil()
	}
	return false
}

func fieldSchema(f field, within []reflect.Type) object {
	s := typeSchema(f.Type, within)
	for _, tag := range []string{"title", "description", "format"} {
		if v := f.Tag.Get(tag); v != "" {
			s = s.add(tag, v)
		}
	}
	bounds := object{}
	if v := f.Tag.Get("enum"); v != "" {
		var values []any
		for e := range strings.SplitSeq(v, ",") {
			values = append(values, parseAs(elem(f.Type), e))
		}
		bounds = bounds.add("enum", values)
	}
	for _, tag := range []string{"minimum", "maximum"} {
		if v, err := strconv.ParseFloat(f.Tag.Get(tag), 64); err == nil {
			bounds = bounds.add(tag, v)
		}
	}
	if items, ok := s.get("items"); ok && len(bounds) > 0 { // those of a list are of its items
		of, err := parseObject(items)
		if err == nil {
			return s.with("items", append(of, bounds...).append(nil))
		}
	}
	return append(s, bounds...)
}

// elem is the type that tags with values are about: that of items in lists, and what pointers point to.
func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	return t
}

func typeSchema(t reflect.Type, within []reflect.Type) object {
	o := object{}
	switch {
	case t == rawType:
		return o
	case t == timeType:
		return o.add("type", "string").add("format", "date-time")
	case t == durationType:
		return o.add("type", "integer")
	case t.Kind() == reflect.Pointer:
		return typeSchema(t.Elem(), within)
	case t.Implements(textType) || reflect.PointerTo(t).Implements(textType):
		return o.add("type", "string")
	}
	switch t.Kind() {
	case reflect.String:
		return o.add("type", "string")
	case reflect.Bool:
		return o.add("type", "boolean")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return o.add("type", "integer")
	case reflect.Float32, reflect.Float64:
		return o.add("type", "number")
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return o.add("type", "string").add("format", "byte") // base64, as encoding/json has it
		}
		return o.add("type", "array").add("items", typeSchema(t.Elem(), within))
	case reflect.Map:
		return o.add("type", "object").add("additionalProperties", typeSchema(t.Elem(), within))
	case reflect.Struct:
		return schemaOf(t, reflect.Value{}, within...)
	}
	return o
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

// violated is something wrong with a value: the name of the field, and what.
type violated struct{ path, message string }

// bounds checks enum, minimum and maximum.
func bounds(v reflect.Value, prefix string) (wrong []violated) {
	for f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		if fv.Kind() == reflect.Pointer {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
		}
		path := prefix + f.name
		switch fv.Kind() {
		case reflect.Struct:
			wrong = append(wrong, bounds(fv, path+".")...)
		case reflect.Slice, reflect.Array:
			for i := range fv.Len() {
				if item := fv.Index(i); item.Kind() == reflect.Struct {
					wrong = append(wrong, bounds(item, fmt.Sprintf("%s.%d.", path, i))...)
				} else if m := bound(f, item); m != "" {
					wrong = append(wrong, violated{fmt.Sprintf("%s.%d", path, i), m})
				}
			}
		default:
			if m := bound(f, fv); m != "" {
				wrong = append(wrong, violated{path, m})
			}
		}
	}
	return wrong
}

// bound says what is wrong with one value, "" for nothing.
func bound(f field, v reflect.Value) string {
	if enum := f.Tag.Get("enum"); enum != "" && !slices.Contains(strings.Split(enum, ","), fmt.Sprint(v.Interface())) {
		return "must be one of " + strings.ReplaceAll(enum, ",", ", ")
	}
	var n float64
	switch {
	case v.CanInt():
		n = float64(v.Int())
	case v.CanUint():
		n = float64(v.Uint())
	case v.CanFloat():
		n = v.Float()
	default:
		return ""
	}
	if low, err := strconv.ParseFloat(f.Tag.Get("minimum"), 64); err == nil && n < low {
		return "must be at least " + f.Tag.Get("minimum")
	}
	if high, err := strconv.ParseFloat(f.Tag.Get("maximum"), 64); err == nil && n > high {
		return "must be at most " + f.Tag.Get("maximum")
	}
	return ""
}
