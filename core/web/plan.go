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
	form   []*field // fields of a multipart or urlencoded body
	body   *field
	embed  bool // the body's fields are separate parameters: none is needed where all are optional
}

type source uint8

const (
	fromPath source = iota
	fromQuery
	fromHeader
	fromCookie
	fromForm
)

var sourceNames = [...]string{"path", "query", "header", "cookie", "form"}

// field is a field of a form or a parameter.
type field struct {
	name     string
	index    []int
	source   source
	loc      Loc          // of a parameter
	header   string       // canonical key of a header
	typ      reflect.Type // without Opt or Null
	wrapped  byte         // 'o' for Opt, 'n' for Null, 'p' for a pointer
	kind     fieldKind
	required bool
	def      jsondoc.Doc
	form     *form  // of kindForm
	elem     *field // of kindList, kindMap

	ge, gt, le, lt     *float64
	minLen, maxLen     int
	minItems, maxItems int
	plainText          bool // no rule to check a text against
	pattern            *regexp.Regexp
	patternText        string
	enum               []string
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
	kindUpload
)

// scalar says whether values have no parts.
func (f *field) scalar() bool { return f.kind <= kindFloat }

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
	typeUpload    = reflect.TypeFor[Upload]()
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
				fl.source, fl.loc, fl.header = source(s), Loc{key, name}, http.CanonicalHeaderKey(name)
			}
		}
		switch {
		case fl == nil:
			panic(fmt.Sprintf("web: %v.%s has no source tag", t, f.Name))
		case fl.source == fromForm:
			fl.loc[0] = "body"
			p.form = append(p.form, fl)
		default:
			p.params = append(p.params, fl)
		}
	}
	if p.body != nil && p.form != nil {
		panic(fmt.Sprintf("web: %v has both a Body and form fields", t))
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
	fl := &field{required: true, minLen: -1, maxLen: -1, minItems: -1, maxItems: -1}
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
	case t == typeUpload:
		fl.kind = kindUpload
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
			fl.kind = kindFloat
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
	f.ge, f.gt, f.le, f.lt = number("ge"), number("gt"), number("le"), number("lt")
	f.minLen, f.maxLen = length("minlen"), length("maxlen")
	f.minItems, f.maxItems = length("minitems"), length("maxitems")
	if p := tag.Get("pattern"); p != "" {
		f.pattern, f.patternText = regexp.MustCompile(p), p
	}
	if e := tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, ",")
	}
	f.plainText = f.minLen < 0 && f.maxLen < 0 && f.pattern == nil && len(f.enum) == 0
}
