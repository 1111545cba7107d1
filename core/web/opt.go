package web

import (
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/go-json-experiment/json/jsontext"
)

// Opt is an optional field that knows its three states: absent, null, and a value.
type Opt[T any] struct {
	Set  bool // it was sent, be it as null
	Null bool // it was sent as null
	V    T
}

// Some is a field with a value.
func Some[T any](v T) Opt[T] { return Opt[T]{Set: true, V: v} }

// Has says whether there is a value.
func (o Opt[T]) Has() bool { return o.Set && !o.Null }

// Or gives the value, or other where there is none.
func (o Opt[T]) Or(other T) T {
	if o.Has() {
		return o.V
	}
	return other
}

// Ptr is the value, nil where there is none.
func (o Opt[T]) Ptr() *T {
	if o.Has() {
		return &o.V
	}
	return nil
}

// MarshalJSONTo writes the value or null.
func (o Opt[T]) MarshalJSONTo(e *jsontext.Encoder) error {
	if !o.Has() {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteValue(jsontext.Value(jsondoc.Of(o.V)))
}

func (o *Opt[T]) inner() (any, *bool, *bool) { return &o.V, &o.Set, &o.Null }

// optional is how the binder sees an Opt of any type.
type optional interface {
	inner() (v any, set, null *bool)
}

// Null is a required field whose value may be null.
type Null[T any] struct {
	Valid bool
	V     T
}

// MarshalJSONTo writes the value or null.
func (n Null[T]) MarshalJSONTo(e *jsontext.Encoder) error {
	if !n.Valid {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteValue(jsontext.Value(jsondoc.Of(n.V)))
}

func (n *Null[T]) innerNull() (any, *bool) { return &n.V, &n.Valid }

type nullable interface {
	innerNull() (v any, valid *bool)
}

// Dict is a JSON object of any content, undecoded.
type Dict jsondoc.Doc

// Doc is the object as a document.
func (d Dict) Doc() jsondoc.Doc { return jsondoc.Doc(d) }

// MarshalJSONTo writes the object as it is.
func (d Dict) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(d).MarshalJSONTo(e) }

// List is a JSON array of any content, undecoded.
type List jsondoc.Doc

// Doc is the array as a document.
func (l List) Doc() jsondoc.Doc { return jsondoc.Doc(l) }

// MarshalJSONTo writes the array as it is.
func (l List) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(l).MarshalJSONTo(e) }

// Extra, as a field of a form, keeps the members that no other field takes, raw and in order (pydantic's extra=allow).
type Extra jsondoc.Doc

// Forbid, embedded in a form, refuses members that no field takes (pydantic's extra=forbid).
type Forbid struct{}

// Decoder is a field with rules of its own: a union, a custom format. It reads the raw value and says what is wrong.
type Decoder interface {
	DecodeField(raw jsondoc.Doc, loc Loc) Problems
}

// Validator is a form with rules over its fields; they are asked once all fields are sound.
type Validator interface {
	Validate(loc Loc, raw jsondoc.Doc) Problems
}
