package web

import (
	"encoding"
	"fmt"
	"path"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/go-json-experiment/json"
)

// Describer is a type that knows its own JSON Schema, because its fields do not tell it: a Decoder, a marshaler.
type Describer interface {
	JSONSchema() jsondoc.Doc
}

var (
	typeDescriber  = reflect.TypeFor[Describer]()
	typeMarshaler  = reflect.TypeFor[json.MarshalerTo]()
	typeMarshaler1 = reflect.TypeFor[json.Marshaler]()
	typeText       = reflect.TypeFor[encoding.TextMarshaler]()
	typeNullAnswer = reflect.TypeFor[NullAnswer]()
	typeTime       = reflect.TypeFor[time.Time]()
	anyObject      = jsondoc.Doc(`{"type":"object","additionalProperties":true}`)
	anyArray       = jsondoc.Doc(`{"type":"array","items":{}}`)
	anyValue       = jsondoc.Doc(`{}`)
)

// schemas collects the named schemas of a document while it is written.
type schemas struct {
	docs  map[string]jsondoc.Doc
	names map[schemaKey]string
	order []string
}

// schemaKey tells a struct as it is read from the same one as it is written.
type schemaKey struct {
	typ  reflect.Type
	read bool
}

func newSchemas() *schemas {
	return &schemas{docs: map[string]jsondoc.Doc{}, names: map[schemaKey]string{}}
}

// named gives a reference to the schema of a struct, made once; structs without a name are written in place.
func (s *schemas) named(key schemaKey, build func() jsondoc.Doc) jsondoc.Doc {
	if key.typ.Name() == "" {
		return build()
	}
	name, ok := s.names[key]
	if !ok {
		name = s.free(schemaName(key.typ))
		s.names[key] = name
		s.order = append(s.order, name)
		s.docs[name] = build()
	}
	return jsondoc.Object("$ref", jsondoc.Text("#/components/schemas/"+name))
}

func (s *schemas) free(name string) string {
	taken := func(n string) bool {
		for _, o := range s.order {
			if o == n {
				return true
			}
		}
		return false
	}
	free := name
	for i := 2; taken(free); i++ {
		free = name + "_" + strconv.Itoa(i)
	}
	return free
}

// schemaName is package.Type, without the folders of type parameters.
func schemaName(t reflect.Type) string {
	name, args, generic := strings.Cut(t.Name(), "[")
	if generic {
		for _, arg := range strings.Split(strings.TrimSuffix(args, "]"), ",") {
			name += "_" + path.Base(arg)
		}
	}
	clean := func(r rune) rune {
		if r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}
	return path.Base(t.PkgPath()) + "." + strings.Map(clean, name)
}

// field is the schema of a parameter or of a member that is read.
func (s *schemas) field(f *field) jsondoc.Doc {
	d := s.fieldValue(f)
	if f.wrapped != 0 && f.kind != kindDoc {
		d = orNull(d)
	}
	if len(f.def) > 0 {
		d = d.Set(f.def, "default")
	}
	return d
}

func orNull(d jsondoc.Doc) jsondoc.Doc {
	return jsondoc.Object("anyOf", jsondoc.Array(d, jsondoc.Doc(`{"type":"null"}`)))
}

func (s *schemas) fieldValue(f *field) jsondoc.Doc {
	var b jsondoc.Builder
	switch f.kind {
	case kindString:
		b.Add("type", "string")
		f.textRules(&b)
	case kindBool:
		b.Add("type", "boolean")
	case kindInt:
		b.Add("type", "integer")
		f.numberRules(&b)
	case kindFloat:
		b.Add("type", "number")
		f.numberRules(&b)
	case kindDict:
		return anyObject
	case kindRawList:
		return anyArray
	case kindForm:
		return s.named(schemaKey{f.form.typ, true}, func() jsondoc.Doc { return s.form(f.form) })
	case kindList:
		b.Add("type", "array")
		b.Raw("items", s.field(f.elem))
		if f.minItems >= 0 {
			b.Add("minItems", f.minItems)
		}
		if f.maxItems >= 0 {
			b.Add("maxItems", f.maxItems)
		}
	case kindMap:
		b.Add("type", "object")
		b.Raw("additionalProperties", s.field(f.elem))
	case kindUpload:
		b.Add("type", "string")
		b.Add("format", "binary")
	case kindDecoder:
		if reflect.PointerTo(f.typ).Implements(typeDescriber) {
			return reflect.New(f.typ).Interface().(Describer).JSONSchema()
		}
		return anyValue
	}
	return b.Done()
}

func (f *field) textRules(b *jsondoc.Builder) {
	if f.minLen >= 0 {
		b.Add("minLength", f.minLen)
	}
	if f.maxLen >= 0 {
		b.Add("maxLength", f.maxLen)
	}
	if f.pattern != nil {
		b.Add("pattern", f.patternText)
	}
	if len(f.enum) > 0 {
		b.Add("enum", f.enum)
	}
}

func (f *field) numberRules(b *jsondoc.Builder) {
	for _, r := range []struct {
		name string
		v    *float64
	}{{"minimum", f.ge}, {"exclusiveMinimum", f.gt}, {"maximum", f.le}, {"exclusiveMaximum", f.lt}} {
		if r.v != nil {
			b.Add(r.name, *r.v)
		}
	}
}

func (s *schemas) form(fm *form) jsondoc.Doc {
	var b, props jsondoc.Builder
	required := []string{}
	for _, f := range fm.fields {
		props.Raw(f.name, s.field(f))
		if f.required {
			required = append(required, f.name)
		}
	}
	b.Add("type", "object")
	b.Raw("properties", props.Done())
	if len(required) > 0 {
		b.Add("required", required)
	}
	switch {
	case fm.forbid:
		b.Add("additionalProperties", false)
	case fm.extra != nil:
		b.Add("additionalProperties", true)
	}
	return b.Done()
}

// value is the schema of what an answer of type t is written as.
func (s *schemas) value(t reflect.Type) jsondoc.Doc {
	switch {
	case t == typeDoc:
		return anyValue
	case t == typeDict:
		return anyObject
	case t == typeList:
		return anyArray
	case t == typeNullAnswer:
		return jsondoc.Doc(`{"type":"null"}`)
	case t == typeTime:
		return jsondoc.Doc(`{"type":"string","format":"date-time"}`)
	case t.Implements(typeDescriber):
		return reflect.Zero(t).Interface().(Describer).JSONSchema()
	case reflect.PointerTo(t).Implements(typeOptional):
		return orNull(s.value(t.Field(2).Type))
	case reflect.PointerTo(t).Implements(typeNullable):
		return orNull(s.value(t.Field(1).Type))
	case t.Kind() == reflect.Pointer:
		return orNull(s.value(t.Elem()))
	case t.Implements(typeMarshaler), t.Implements(typeMarshaler1), reflect.PointerTo(t).Implements(typeMarshaler), reflect.PointerTo(t).Implements(typeMarshaler1):
		return anyValue
	case t.Implements(typeText):
		return jsondoc.Doc(`{"type":"string"}`)
	}
	return s.kind(t)
}

func (s *schemas) kind(t reflect.Type) jsondoc.Doc {
	switch t.Kind() {
	case reflect.String:
		return jsondoc.Doc(`{"type":"string"}`)
	case reflect.Bool:
		return jsondoc.Doc(`{"type":"boolean"}`)
	case reflect.Float32, reflect.Float64:
		return jsondoc.Doc(`{"type":"number"}`)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return jsondoc.Doc(`{"type":"integer"}`)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return jsondoc.Doc(`{"type":"string","contentEncoding":"base64"}`)
		}
		return jsondoc.Doc(`{"type":"array"}`).Set(s.value(t.Elem()), "items")
	case reflect.Map:
		return jsondoc.Doc(`{"type":"object"}`).Set(s.value(t.Elem()), "additionalProperties")
	case reflect.Struct:
		return s.named(schemaKey{t, false}, func() jsondoc.Doc { return s.object(t) })
	case reflect.Interface:
		return anyValue
	}
	panic(fmt.Sprintf("web: no schema for an answer of type %v", t))
}

func (s *schemas) object(t reflect.Type) jsondoc.Doc {
	var b, props jsondoc.Builder
	required := []string{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if !f.IsExported() || name == "-" || f.Anonymous && (!tagged || name == "") || shadowed(t, f) {
			continue
		}
		if name == "" {
			name = f.Name
		}
		props.Raw(name, s.value(f.Type))
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	b.Add("type", "object")
	b.Raw("properties", props.Done())
	if len(required) > 0 {
		b.Add("required", required)
	}
	return b.Done()
}

// shadowed says whether f lies in an embedded struct that is written under a name of its own or not at all.
func shadowed(t reflect.Type, f reflect.StructField) bool {
	for i := 1; i < len(f.Index); i++ {
		outer := t.FieldByIndex(f.Index[:i])
		if name, _, _ := strings.Cut(outer.Tag.Get("json"), ","); name != "" {
			return true
		}
	}
	return false
}
