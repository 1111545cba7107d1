package web

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/galleychat/galley/core/jsondoc"
)

// plan is how a struct is filled from a request, worked out once at registration.
type plan struct {
	typ    reflect.Type
	params []*field // path, query, header, cookie: in FastAPI's order
	body   *field
	embed  bool // the body's fields are separate parameters: none is needed where all are optional
}

type source uint8

const (
	fromPath source = iota
	fromQuery
	fromHeader
	fromCookie
)

var sourceNames = [...]string{"path", "query", "header", "cookie"}

// field is a field of a form or a parameter.
type field struct {
	name     string
	index    []int
	source   source
	typ      reflect.Type // without Opt or Null
	wrapped  byte         // 'o' for Opt, 'n' for Null, 'p' for a pointer
	kind     fieldKind
	required bool
	def      jsondoc.Doc
	form     *form  // of kindForm
	elem     *field // of kindList, kindMap

	ge, gt, le     *float64
	minLen, maxLen int
	maxItems       int
	pattern        *regexp.Regexp
	patternText    string
	enum           []string
	isFloat        bool
}

type fieldKind uint8

const (
	kindString fieldKind = iota
	kindBool
	kindInt
	kindFloat
	kindDoc
	kindDict
	kindRawList
	kindForm
	kindList
	kindMap
	kindDecoder
)

// form is the plan of a struct read from a JSON object.
type form struct {
	typ      reflect.Type
	fields   []*field
	byName   map[string]int
	extra    []int // index of an Extra field
	forbid   bool
	validate bool
}

var (
	typeDoc       = reflect.TypeFor[jsondoc.Doc]()
	typeDict      = reflect.TypeFor[Dict]()
	typeList      = reflect.TypeFor[List]()
	typeExtra     = reflect.TypeFor[Extra]()
	typeForbid    = reflect.TypeFor[Forbid]()
	typeDecoder   = reflect.TypeFor[Decoder]()
	typeOptional  = reflect.TypeFor[optional]()
	typeNullable  = reflect.TypeFor[nullable]()
	typeValidator = reflect.TypeFor[Validator]()
)

// compileMu guards forms; what works out a plan holds it.
var (
	compileMu sync.Mutex
	forms     = map[reflect.Type]*form{}
	docFields sync.Map // reflect.Type to *field, for BindDoc
)

// compile works out the plan of In; a bad tag panics, which the test that builds all modules shows.
func compile(t reflect.Type) *plan {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("web: %v is not a struct", t))
	}
	compileMu.Lock()
	defer compileMu.Unlock()
	p := &plan{typ: t}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		if f.Name == "Body" && len(f.Index) == 1 {
			p.body = newField(f, "body")
			p.embed = f.Tag.Get("body") == "embed"
			if _, ok := f.Tag.Lookup("default"); !ok && p.body.wrapped == 0 {
				p.body.required = true
			}
			continue
		}
		var fl *field
		for s, key := range sourceNames {
			if name, ok := f.Tag.Lookup(key); ok {
				fl = newField(f, name)
				fl.source = source(s)
			}
		}
		if fl == nil {
			panic(fmt.Sprintf("web: %v.%s has no source tag", t, f.Name))
		}
		p.params = append(p.params, fl)
	}
	// FastAPI checks by source, then in order
	var sorted []*field
	for s := fromPath; s <= fromCookie; s++ {
		for _, f := range p.params {
			if f.source == s {
				sorted = append(sorted, f)
			}
		}
	}
	p.params = sorted
	return p
}

func compileForm(t reflect.Type) *form {
	if fm := forms[t]; fm != nil {
		return fm // perhaps unfinished, where a form holds itself
	}
	fm := &form{typ: t, byName: map[string]int{}}
	forms[t] = fm
	fm.validate = reflect.PointerTo(t).Implements(typeValidator)
	for _, f := range reflect.VisibleFields(t) {
		switch {
		case f.Type == typeForbid:
			fm.forbid = true
			continue
		case f.Type == typeExtra:
			fm.extra = f.Index
			continue
		case f.Anonymous || !f.IsExported():
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			panic(fmt.Sprintf("web: %v.%s has no json tag", t, f.Name))
		}
		fm.byName[name] = len(fm.fields)
		fm.fields = append(fm.fields, newField(f, name))
	}
	return fm
}

func newField(f reflect.StructField, name string) *field {
	fl := newFieldOf(f.Type, f.Tag)
	fl.name, fl.index = name, f.Index
	if d, ok := f.Tag.Lookup("default"); ok {
		fl.def, fl.required = jsondoc.Doc(d), false
		if fl.kind == kindString && (d == "" || d[0] != '"') && d != "null" {
			fl.def = jsondoc.Of(d)
		}
		if jsondoc.Valid(fl.def) != nil {
			panic(fmt.Sprintf("web: default of %s is not JSON: %s", name, d))
		}
	}
	return fl
}

func newFieldOf(t reflect.Type, tag reflect.StructTag) *field {
	fl := &field{required: true, minLen: -1, maxLen: -1, maxItems: -1}
	switch {
	case reflect.PointerTo(t).Implements(typeOptional):
		fl.wrapped, fl.required = 'o', false
		t = t.Field(2).Type
	case reflect.PointerTo(t).Implements(typeNullable):
		fl.wrapped = 'n'
		t = t.Field(1).Type
	case t.Kind() == reflect.Pointer:
		fl.wrapped, fl.required = 'p', false
		t = t.Elem()
	}
	fl.typ = t
	fl.constraints(tag)
	switch {
	case reflect.PointerTo(t).Implements(typeDecoder):
		fl.kind = kindDecoder
	case t == typeDoc:
		fl.kind = kindDoc
	case t == typeDict:
		fl.kind = kindDict
	case t == typeList:
		fl.kind = kindRawList
	default:
		switch t.Kind() {
		case reflect.String:
			fl.kind = kindString
		case reflect.Bool:
			fl.kind = kindBool
		case reflect.Int, reflect.Int64:
			fl.kind = kindInt
		case reflect.Float64:
			fl.kind, fl.isFloat = kindFloat, true
		case reflect.Struct:
			fl.kind, fl.form = kindForm, compileForm(t)
		case reflect.Slice:
			fl.kind, fl.elem = kindList, newFieldOf(t.Elem(), "")
		case reflect.Map:
			fl.kind, fl.elem = kindMap, newFieldOf(t.Elem(), "")
		default:
			panic(fmt.Sprintf("web: no rule for a field of type %v", t))
		}
	}
	return fl
}

func (f *field) constraints(tag reflect.StructTag) {
	number := func(key string) *float64 {
		s, ok := tag.Lookup(key)
		if !ok {
			return nil
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic(fmt.Sprintf("web: tag %s:%q is not a number", key, s))
		}
		return &v
	}
	length := func(key string) int {
		if v := number(key); v != nil {
			return int(*v)
		}
		return -1
	}
	f.ge, f.gt, f.le = number("ge"), number("gt"), number("le")
	f.minLen, f.maxLen, f.maxItems = length("minlen"), length("maxlen"), length("maxitems")
	if p := tag.Get("pattern"); p != "" {
		f.pattern, f.patternText = regexp.MustCompile(p), p
	}
	if e := tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, ",")
	}
}

// requestBody is a body whose syntax is known to be sound.
type requestBody struct {
	doc     jsondoc.Doc // nil where nothing was sent
	present bool
	bytes   bool // it was not declared as JSON: doc is its text as a string
}

// bind fills dst (a struct of the plan's type) and says all that is wrong.
func (p *plan) bind(dst reflect.Value, r *http.Request, body requestBody) Problems {
	var ps Problems
	var query map[string][]string
	for _, f := range p.params {
		var values []string
		switch f.source {
		case fromPath:
			values = []string{r.PathValue(f.name)}
		case fromQuery:
			if query == nil {
				if r.URL.RawQuery == "" {
					query = noQuery
				} else {
					query = r.URL.Query()
				}
			}
			values = query[f.name]
		case fromHeader:
			values = r.Header.Values(f.name)
		case fromCookie:
			if c, err := r.Cookie(f.name); err == nil {
				values = []string{c.Value}
			}
		}
		ps = append(ps, f.param(dst, values)...)
	}
	if p.body != nil {
		ps = append(ps, p.bindBody(dst, body)...)
	}
	return ps
}

var noQuery = map[string][]string{}

func (f *field) param(dst reflect.Value, values []string) Problems {
	loc := Loc{sourceNames[f.source], f.name}
	if len(values) == 0 {
		if f.required {
			return Problems{missing(loc, nil)}
		}
		return f.setDefault(dst, loc)
	}
	target := f.target(dst, true)
	if f.kind == kindList {
		var ps Problems
		out := reflect.MakeSlice(f.typ, len(values), len(values))
		for i, v := range values {
			ps = append(ps, f.elem.decode(out.Index(i), jsondoc.Of(v), loc.with(i))...)
		}
		target.Set(out)
		return ps
	}
	return f.decode(target, jsondoc.Of(values[len(values)-1]), loc)
}

func (p *plan) bindBody(dst reflect.Value, body requestBody) Problems {
	f := p.body
	loc := Loc{"body"}
	if !body.present {
		switch {
		case p.embed:
			return f.decode(f.target(dst, true), jsondoc.Doc("{}"), loc)
		case f.required:
			return Problems{missing(loc, nil)}
		}
		return f.setDefault(dst, loc)
	}
	if body.doc.IsNull() && (!f.required || f.wrapped != 0) {
		return nil
	}
	if body.doc.IsNull() && f.required && !p.embed {
		return Problems{missing(loc, nil)}
	}
	return f.decode(f.target(dst, true), body.doc, loc)
}

// target gives the value that a field's content goes to, and marks an Opt or Null as set.
func (f *field) target(dst reflect.Value, value bool) reflect.Value {
	v := dst
	if f.index != nil {
		v = dst.FieldByIndex(f.index)
	}
	switch f.wrapped {
	case 'o':
		v.Field(0).SetBool(true)
		v.Field(1).SetBool(!value)
		return v.Field(2)
	case 'n':
		v.Field(0).SetBool(value)
		return v.Field(1)
	case 'p':
		if !value {
			v.SetZero()
			return v
		}
		n := reflect.New(f.typ)
		v.Set(n)
		return n.Elem()
	}
	return v
}

// setDefault gives an absent field its default; an Opt with one counts as absent still, but holds the value.
func (f *field) setDefault(dst reflect.Value, loc Loc) Problems {
	if len(f.def) == 0 || f.def.IsNull() {
		return nil
	}
	v := dst.FieldByIndex(f.index)
	switch f.wrapped {
	case 'o':
		v = v.Field(2)
	case 'p':
		v = f.target(dst, true)
	case 'n':
		v = f.target(dst, true)
	}
	return f.decode(v, f.def, loc)
}

// member decodes a member of a form that was sent.
func (f *field) member(dst reflect.Value, raw jsondoc.Doc, loc Loc) Problems {
	if f.wrapped != 0 && raw.IsNull() {
		f.target(dst, false)
		return nil
	}
	return f.decode(f.target(dst, true), raw, loc)
}

// decode reads one value into v.
func (f *field) decode(v reflect.Value, raw jsondoc.Doc, loc Loc) Problems {
	switch f.kind {
	case kindString:
		s, ps := decodeString(raw, loc)
		if ps != nil {
			if len(f.enum) > 0 {
				return Problems{literalError(loc, raw, f.enum)}
			}
			return ps
		}
		v.SetString(s)
		return f.checkText(s, raw, loc)
	case kindBool:
		b, ps := decodeBool(raw, loc)
		v.SetBool(b)
		return ps
	case kindInt:
		n, ps := decodeInt(raw, loc)
		v.SetInt(n)
		if ps == nil {
			ps = f.checkNumber(float64(n), raw, loc)
		}
		return ps
	case kindFloat:
		n, ps := decodeFloat(raw, loc)
		v.SetFloat(n)
		if ps == nil {
			ps = f.checkNumber(n, raw, loc)
		}
		return ps
	case kindDoc:
		v.SetBytes(raw)
	case kindDict:
		if raw.Kind() != '{' {
			return Problems{wrongType("dict_type", loc, raw)}
		}
		v.SetBytes(raw)
	case kindRawList:
		if raw.Kind() != '[' {
			return Problems{wrongType("list_type", loc, raw)}
		}
		v.SetBytes(raw)
	case kindForm:
		return f.form.decode(v, raw, loc)
	case kindList:
		return f.decodeList(v, raw, loc)
	case kindMap:
		return f.decodeMap(v, raw, loc)
	case kindDecoder:
		return v.Addr().Interface().(Decoder).DecodeField(raw, loc)
	}
	return nil
}

func (f *field) decodeList(v reflect.Value, raw jsondoc.Doc, loc Loc) Problems {
	if raw.Kind() != '[' {
		return Problems{wrongType("list_type", loc, raw)}
	}
	n := raw.Len()
	if f.maxItems >= 0 && n > f.maxItems {
		return Problems{{Type: "too_long", Loc: loc, Input: raw, Ctx: map[string]any{"field_type": "List", "max_length": f.maxItems, "actual_length": n},
			Msg: fmt.Sprintf("List should have at most %s after validation, not %d", plural(f.maxItems, "item"), n)}}
	}
	out := reflect.MakeSlice(f.typ, n, n)
	var ps Problems
	raw.Items(func(i int, e jsondoc.Doc) bool {
		ps = append(ps, f.elem.member(out.Index(i), e, loc.with(i))...)
		return true
	})
	v.Set(out)
	return ps
}

func (f *field) decodeMap(v reflect.Value, raw jsondoc.Doc, loc Loc) Problems {
	if raw.Kind() != '{' {
		return Problems{wrongType("dict_type", loc, raw)}
	}
	out := reflect.MakeMap(f.typ)
	var ps Problems
	raw.Each(func(name string, e jsondoc.Doc) bool {
		item := reflect.New(f.typ.Elem()).Elem()
		ps = append(ps, f.elem.member(item, e, loc.with(name))...)
		out.SetMapIndex(reflect.ValueOf(name).Convert(f.typ.Key()), item)
		return true
	})
	v.Set(out)
	return ps
}

func (fm *form) decode(v reflect.Value, raw jsondoc.Doc, loc Loc) Problems {
	if raw.Kind() != '{' {
		return Problems{wrongType("model_attributes_type", loc, raw)}
	}
	var small [16]jsondoc.Doc
	got := small[:]
	if len(fm.fields) > len(small) {
		got = make([]jsondoc.Doc, len(fm.fields))
	}
	var ps, unknown Problems
	var extra jsondoc.Builder
	raw.Each(func(name string, value jsondoc.Doc) bool {
		if i, ok := fm.byName[name]; ok {
			got[i] = value
		} else if fm.forbid {
			unknown = append(unknown, wrongType("extra_forbidden", loc.with(name), value))
		} else if fm.extra != nil {
			extra.Raw(name, value)
		}
		return true
	})
	for i, f := range fm.fields {
		switch {
		case got[i] != nil:
			ps = append(ps, f.member(v, got[i], loc.with(f.name))...)
		case f.required:
			ps = append(ps, missing(loc.with(f.name), raw))
		default:
			ps = append(ps, f.setDefault(v, loc.with(f.name))...)
		}
	}
	ps = append(ps, unknown...)
	if fm.extra != nil {
		v.FieldByIndex(fm.extra).SetBytes(extra.Done())
	}
	if len(ps) == 0 && fm.validate {
		ps = v.Addr().Interface().(Validator).Validate(loc, raw)
	}
	return ps
}

// BindDoc fills a form from a document outside a request's declaration, e.g. an item of an import.
func BindDoc[T any](raw jsondoc.Doc, loc Loc) (T, Problems) {
	var v T
	t := reflect.TypeFor[T]()
	cached, ok := docFields.Load(t)
	if !ok {
		compileMu.Lock()
		cached, _ = docFields.LoadOrStore(t, newFieldOf(t, ""))
		compileMu.Unlock()
	}
	f := cached.(*field)
	ps := f.decode(f.target(reflect.ValueOf(&v).Elem(), true), raw, loc)
	return v, ps
}
