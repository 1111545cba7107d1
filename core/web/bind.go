package web

import (
	"fmt"
	"net/http"
	"reflect"

	"github.com/galleychat/galley/core/jsondoc"
)

// requestBody is a body whose syntax is known to be sound.
type requestBody struct {
	doc     jsondoc.Doc // nil where nothing was sent
	present bool
	bytes   bool // it was not declared as JSON: doc is its text as a string
	form    *formData
}

// bind fills dst (a struct of the plan's type) and says all that is wrong.
func (p *plan) bind(dst reflect.Value, r *http.Request, body requestBody) Problems {
	var ps Problems
	for _, f := range p.params {
		if more := f.param(dst, r); more != nil {
			ps = append(ps, more...)
		}
	}
	for _, f := range p.form {
		if more := f.formField(dst, body.form); more != nil {
			ps = append(ps, more...)
		}
	}
	if p.body != nil {
		if more := p.bindBody(dst, body); more != nil {
			ps = append(ps, more...)
		}
	}
	return ps
}

func (p *plan) bindBody(dst reflect.Value, body requestBody) Problems {
	f := p.body
	at := placeNamed("body")
	if p.embed && f.form != nil {
		return f.form.decodeParts(f.target(dst, true), body, &at)
	}
	if !body.present || body.doc.IsNull() {
		if f.required {
			return Problems{missing(at.loc(), nil)}
		}
		return f.setDefault(dst, &at)
	}
	return f.decode(f.target(dst, true), body.doc, &at)
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
func (f *field) setDefault(dst reflect.Value, at *place) Problems {
	if len(f.def) == 0 || f.def.IsNull() {
		return nil
	}
	var v reflect.Value
	if f.wrapped == 'o' {
		v = dst.FieldByIndex(f.index).Field(2)
	} else {
		v = f.target(dst, true)
	}
	return f.decode(v, f.def, at)
}

// member decodes a member of a form that was sent.
func (f *field) member(dst reflect.Value, raw jsondoc.Doc, at *place) Problems {
	if f.wrapped != 0 && raw.IsNull() {
		f.target(dst, false)
		return nil
	}
	return f.decode(f.target(dst, true), raw, at)
}

// decode reads one value into v.
func (f *field) decode(v reflect.Value, raw jsondoc.Doc, at *place) Problems {
	if f.scalar() {
		return f.decodeScalar(v, raw, at)
	}
	switch f.kind {
	case kindDoc:
		v.SetBytes(raw)
	case kindDict:
		if raw.Kind() != '{' {
			return wrong("dict_type", at, raw)
		}
		v.SetBytes(raw)
	case kindRawList:
		if raw.Kind() != '[' {
			return wrong("list_type", at, raw)
		}
		v.SetBytes(raw)
	case kindForm:
		return f.form.decode(v, raw, at)
	case kindList:
		return f.decodeList(v, raw, at)
	case kindMap:
		return f.decodeMap(v, raw, at)
	case kindDecoder:
		return v.Addr().Interface().(Decoder).DecodeField(raw, at.loc())
	}
	return nil
}

func (f *field) decodeList(v reflect.Value, raw jsondoc.Doc, at *place) Problems {
	if raw.Kind() != '[' {
		return wrong("list_type", at, raw)
	}
	n := raw.Len()
	// pydantic stops at the first element too many, and counts no further
	if f.maxItems >= 0 && n > f.maxItems {
		return Problems{{Type: "too_long", Loc: at.loc(), Input: raw, Ctx: map[string]any{"field_type": "List", "max_length": f.maxItems, "actual_length": n},
			Msg: fmt.Sprintf("List should have at most %s after validation, not %d", plural(f.maxItems, "item"), n)}}
	}
	out := reflect.MakeSlice(f.typ, n, n)
	var ps Problems
	raw.Items(func(i int, e jsondoc.Doc) bool {
		here := at.item(i)
		ps = append(ps, f.elem.member(out.Index(i), e, &here)...)
		return true
	})
	if ps == nil && n < f.minItems {
		return Problems{{Type: "too_short", Loc: at.loc(), Input: raw, Ctx: map[string]any{"field_type": "List", "min_length": f.minItems, "actual_length": n},
			Msg: fmt.Sprintf("List should have at least %s after validation, not %d", plural(f.minItems, "item"), n)}}
	}
	v.Set(out)
	return ps
}

func (f *field) decodeMap(v reflect.Value, raw jsondoc.Doc, at *place) Problems {
	if raw.Kind() != '{' {
		return wrong("dict_type", at, raw)
	}
	out := reflect.MakeMap(f.typ)
	var ps Problems
	jsondoc.Open(raw).Each(func(name string, e jsondoc.Doc) bool {
		item := reflect.New(f.typ.Elem()).Elem()
		here := at.member(name)
		ps = append(ps, f.elem.member(item, e, &here)...)
		out.SetMapIndex(reflect.ValueOf(name).Convert(f.typ.Key()), item)
		return true
	})
	v.Set(out)
	return ps
}

// sent holds the members of an object in the order of a form's fields, without memory of its own for small forms.
type sent struct {
	small [16]jsondoc.Doc
	large []jsondoc.Doc
}

func (s *sent) slots(n int) []jsondoc.Doc {
	if n <= len(s.small) {
		return s.small[:n]
	}
	s.large = make([]jsondoc.Doc, n)
	return s.large
}

func (fm *form) decode(v reflect.Value, raw jsondoc.Doc, at *place) Problems {
	if raw.Kind() != '{' {
		return wrong("model_attributes_type", at, raw)
	}
	var s sent
	got := s.slots(len(fm.fields))
	extra := fm.collect(raw, got)
	var ps Problems
	for i, f := range fm.fields {
		value := got[i]
		switch {
		case value == nil && f.required:
			here := at.member(f.name)
			ps = append(ps, missing(here.loc(), raw))
		case value == nil && len(f.def) == 0:
		case value != nil && f.wrapped != 0 && value.IsNull():
			f.target(v, false)
		case value != nil && f.scalar():
			here := at.member(f.name) // on the stack, as nothing below goes deeper
			ps = append(ps, f.decodeScalar(f.target(v, true), value, &here)...)
		case value != nil:
			here := at.member(f.name)
			ps = append(ps, f.decode(f.target(v, true), value, &here)...)
		default:
			here := at.member(f.name)
			ps = append(ps, f.setDefault(v, &here)...)
		}
	}
	if fm.forbid && extra != nil {
		extra.Each(func(name string, value jsondoc.Doc) bool {
			here := at.member(name)
			ps = append(ps, wrong("extra_forbidden", &here, value)...)
			return true
		})
	}
	if fm.extra != nil {
		doc := jsondoc.Doc("{}")
		if extra != nil {
			doc = extra.Doc()
		}
		v.FieldByIndex(fm.extra).SetBytes(doc)
	}
	if len(ps) == 0 && fm.validate {
		ps = v.Addr().Interface().(Validator).Validate(at.loc(), raw)
	}
	return ps
}

// collect sorts the members of an object into the slots of the form's fields, the last of equal names; others are
// given back if the form cares for them.
func (fm *form) collect(raw jsondoc.Doc, got []jsondoc.Doc) *jsondoc.Obj {
	var extra *jsondoc.Obj
	keep := fm.forbid || fm.extra != nil
	raw.Each(func(name string, value jsondoc.Doc) bool {
		if i, ok := fm.byName[name]; ok {
			got[i] = value
		} else if keep {
			if extra == nil {
				extra = jsondoc.Open(nil)
			}
			extra.Set(name, value)
		}
		return true
	})
	return extra
}

// decodeParts reads a body of which each member is a parameter of its own (FastAPI's several body parameters): null
// counts as absent, and what is no object has none.
func (fm *form) decodeParts(v reflect.Value, body requestBody, at *place) Problems {
	var s sent
	got := s.slots(len(fm.fields))
	isObject := !body.present || body.bytes || body.doc.IsNull() || body.doc.Kind() == '{'
	if body.present && !body.bytes && isObject {
		fm.collect(body.doc, got)
	}
	var ps Problems
	for i, f := range fm.fields {
		here := at.member(f.name)
		switch {
		case !got[i].IsNull():
			ps = append(ps, f.member(v, got[i], &here)...)
		case f.required || f.wrapped == 'n' || !isObject:
			ps = append(ps, missing(here.loc(), nil))
		default:
			ps = append(ps, f.setDefault(v, &here)...)
		}
	}
	if len(ps) == 0 && fm.validate {
		ps = v.Addr().Interface().(Validator).Validate(at.loc(), body.doc)
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
	ps := f.member(reflect.ValueOf(&v).Elem(), raw, placeOf(loc))
	return v, ps
}
