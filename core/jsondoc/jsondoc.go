// Package jsondoc handles JSON documents that pass through the server undecoded: bytes from the request to the column
// to the response, never a tree. A few members are read by skimming, edits are splices.
package jsondoc

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"math"
	"strconv"
	"unsafe"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Doc is one valid JSON value. Nil (and SQL NULL) stands for null. The bytes are never changed in place.
type Doc []byte

// Options under which documents are read: what Python's json accepts, duplicate names and lone surrogates among it.
var options = jsontext.Options(json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)))

// Options are the decoding options for documents that clients of the reference may send.
func Options() jsontext.Options { return options }

// IsNull says whether the document is absent or null.
func (d Doc) IsNull() bool { return len(d) == 0 || string(bytes.TrimSpace(d)) == "null" }

// Same says whether two documents mean the same: order of members and spelling of numbers do not count.
func Same(a, b Doc) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ca, cb := jsontext.Value(bytes.Clone(a)), jsontext.Value(bytes.Clone(b))
	return ca.Canonicalize(options) == nil && cb.Canonicalize(options) == nil && bytes.Equal(ca, cb)
}

// Or gives the document, or other where it is null.
func (d Doc) Or(other Doc) Doc {
	if d.IsNull() {
		return other
	}
	return d
}

// Kind is the JSON kind of the value: '{', '[', '"', '0', 't', 'f' or 'n'.
func (d Doc) Kind() jsontext.Kind {
	if len(d) == 0 {
		return 'n'
	}
	return jsontext.Value(d).Kind()
}

// MarshalJSONTo writes the bytes as they are.
func (d Doc) MarshalJSONTo(e *jsontext.Encoder) error {
	if len(d) == 0 {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteValue(jsontext.Value(d))
}

// UnmarshalJSONFrom keeps a copy of the bytes.
func (d *Doc) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*d = bytes.Clone(v)
	return nil
}

// Scan implements sql.Scanner. A string is taken over without copying (drivers give strings they do not change). A column
// may hold what no writer of today puts there: SQLite gives back a number where a document is nothing else, Python has
// written NaN, which reads as null, and text that is no JSON reads as if there were none.
func (d *Doc) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*d = nil
		return nil
	case string:
		*d = unsafe.Slice(unsafe.StringData(v), len(v))
	case []byte:
		*d = bytes.Clone(v)
	case int64:
		*d = strconv.AppendInt(nil, v, 10)
	case float64:
		*d = Of(min(max(v, -math.MaxFloat64), math.MaxFloat64))
	case bool:
		*d = strconv.AppendBool(nil, v)
	default:
		return fmt.Errorf("jsondoc: cannot read a %T", src)
	}
	if len(*d) <= checked || bytes.Contains(*d, []byte("NaN")) || bytes.Contains(*d, []byte("Infinity")) {
		*d, _ = Check(*d)
	}
	if d.IsNull() {
		*d = nil
	}
	return nil
}

// checked is how long a stored document may be to be looked at for errors whenever it is read. Larger ones are whole
// chats, which are read by the thousand and have all been checked on their way in.
const checked = 16 << 10

// Value implements driver.Valuer: the text, or NULL.
func (d Doc) Value() (driver.Value, error) {
	if len(d) == 0 {
		return nil, nil
	}
	return string(d), nil
}

// String is the JSON text.
func (d Doc) String() string {
	if len(d) == 0 {
		return "null"
	}
	return string(d)
}

// Of encodes a value; it panics on what JSON cannot express, which only a programming error can bring.
func Of(v any) Doc {
	b, err := json.Marshal(v, options)
	if err != nil {
		panic(err)
	}
	return b
}

// Decode reads the document into v.
func (d Doc) Decode(v any) error { return json.Unmarshal(d, v, options) }

// Get is the raw value at a path of member names and array indexes; nil where there is none. It skims: nothing that
// is not on the path is decoded.
func (d Doc) Get(path ...string) Doc {
	if len(d) == 0 {
		return nil
	}
	start, end, ok := find(d, path)
	if !ok {
		return nil
	}
	return d[start:end:end]
}

// Text is the string at a path, "" where there is none or it is not a string.
func (d Doc) Text(path ...string) string {
	s, _ := d.Get(path...).AsText()
	return s
}

// AsText decodes a JSON string.
func (d Doc) AsText() (string, bool) {
	d = bytes.TrimSpace(d)
	if len(d) < 2 || d[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(d, '\\') < 0 {
		return string(d[1 : len(d)-1]), true
	}
	var s string
	if json.Unmarshal(d, &s, options) != nil {
		return "", false
	}
	return s, true
}

// Bool is the boolean at a path; false where there is none.
func (d Doc) Bool(path ...string) bool { return string(bytes.TrimSpace(d.Get(path...))) == "true" }

// Int is the integer at a path; ok is false where there is none.
func (d Doc) Int(path ...string) (n int64, ok bool) {
	v := bytes.TrimSpace(d.Get(path...))
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < -1<<63 || f >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Truthy follows Python: null, false, 0, "", [] and {} are not.
func (d Doc) Truthy() bool {
	v := bytes.TrimSpace(d)
	switch string(v) {
	case "", "null", "false", `""`, "0", "-0", "0.0":
		return false
	}
	if v[0] == '{' || v[0] == '[' {
		return len(bytes.TrimSpace(v[1:len(v)-1])) > 0
	}
	if v[0] == '-' || v[0] >= '0' && v[0] <= '9' {
		f, err := strconv.ParseFloat(string(v), 64)
		return err != nil || f != 0
	}
	return true
}

// Each calls f for each member of an object, raw, in order, until it returns false. A name that stands twice is given
// twice. Anything but an object has no members.
func (d Doc) Each(f func(name string, value Doc) bool) {
	members(d, func(ns, ne, start, end int) bool {
		name, ok := d[ns:ne].AsText()
		return ok && f(name, d[start:end:end])
	})
}

// Items calls f for each element of an array, raw, until it returns false.
func (d Doc) Items(f func(i int, value Doc) bool) {
	n := -1
	elements(d, func(start, end int) bool {
		n++
		return f(n, d[start:end:end])
	})
}

// Len is the number of elements or members.
func (d Doc) Len() (n int) {
	d.Items(func(int, Doc) bool { n++; return true })
	d.Each(func(string, Doc) bool { n++; return true })
	return n
}

// find gives the extent of the value at path. The last of equal names counts, as in Python.
func find(d Doc, path []string) (start, end int, ok bool) {
	start, end = skipSpace(d, 0), len(d)
	for _, p := range path {
		base, found := start, false
		switch inner := d[start:end]; inner.Kind() {
		case '{':
			members(inner, func(ns, ne, s, e int) bool {
				if nameIs(inner[ns:ne], p) {
					start, end, found = base+s, base+e, true
				}
				return true
			})
		case '[':
			want, err := strconv.Atoi(p)
			if err != nil {
				return 0, 0, false
			}
			n := 0
			elements(inner, func(s, e int) bool {
				if n == want {
					start, end, found = base+s, base+e, true
				}
				n++
				return !found
			})
		}
		if !found {
			return 0, 0, false
		}
	}
	return start, end, true
}

// Set gives the document with the value at a member path replaced or added; missing objects on the way are made, and
// what is not an object on the way is replaced by one. The document itself is not changed.
func (d Doc) Set(value Doc, path ...string) Doc {
	if len(value) == 0 {
		value = Doc("null")
	}
	if len(path) == 0 {
		return value
	}
	if d.Kind() != '{' {
		return Object(path[0], Doc(nil).Set(value, path[1:]...))
	}
	if start, end, ok := find(d, path[:1]); ok {
		inner := value
		if len(path) > 1 {
			inner = d[start:end].Set(value, path[1:]...)
		}
		return splice(d, start, end, inner)
	}
	return appendMember(d, path[0], Doc(nil).Set(value, path[1:]...))
}

// Delete gives the document without the member at a path.
func (d Doc) Delete(path ...string) Doc {
	if len(path) == 0 || d.Kind() != '{' {
		return d
	}
	if len(path) > 1 {
		start, end, ok := find(d, path[:1])
		if !ok {
			return d
		}
		return splice(d, start, end, d[start:end].Delete(path[1:]...))
	}
	out := Builder{}
	found := false
	d.Each(func(name string, v Doc) bool {
		if name == path[0] {
			found = true
			return true
		}
		out.Raw(name, v)
		return true
	})
	if !found {
		return d
	}
	return out.Done()
}

func splice(d Doc, start, end int, v Doc) Doc {
	out := make(Doc, 0, len(d)-(end-start)+len(v))
	out = append(out, d[:start]...)
	out = append(out, v...)
	return append(out, d[end:]...)
}

func appendMember(d Doc, name string, v Doc) Doc {
	d = bytes.TrimSpace(d)
	empty := len(bytes.TrimSpace(d[1:len(d)-1])) == 0
	out := make(Doc, 0, len(d)+len(name)+len(v)+4)
	out = append(out, d[:len(d)-1]...)
	if !empty {
		out = append(out, ',')
	}
	out = appendName(out, name)
	out = append(out, v...)
	return append(out, '}')
}

func appendName(out []byte, name string) []byte {
	out = AppendString(out, name)
	return append(out, ':')
}

// AppendString appends s as a JSON string.
func AppendString(out []byte, s string) []byte {
	b, err := jsontext.AppendQuote(out, s)
	if err != nil { // invalid UTF-8 has been replaced
		return b
	}
	return b
}

// Object is an object of one member.
func Object(name string, v Doc) Doc {
	var b Builder
	b.Raw(name, v)
	return b.Done()
}

// Builder writes an object member by member.
type Builder struct{ buf []byte }

// Raw adds a member as it is.
func (b *Builder) Raw(name string, v Doc) {
	if len(b.buf) == 0 {
		b.buf = append(b.buf, '{')
	} else {
		b.buf = append(b.buf, ',')
	}
	b.buf = appendName(b.buf, name)
	if len(v) == 0 {
		v = Doc("null")
	}
	b.buf = append(b.buf, v...)
}

// Add adds a member, encoded.
func (b *Builder) Add(name string, v any) { b.Raw(name, Of(v)) }

// Done is the object.
func (b *Builder) Done() Doc {
	if len(b.buf) == 0 {
		return Doc("{}")
	}
	return append(b.buf, '}')
}

// Merge gives the object with all members of other set in it, as Python's dict.update or {**d, **other} does.
func (d Doc) Merge(other Doc) Doc {
	if other.Kind() != '{' {
		return d
	}
	if d.Kind() != '{' {
		return other
	}
	over := map[string]Doc{}
	order := []string{}
	other.Each(func(name string, v Doc) bool {
		if _, ok := over[name]; !ok {
			order = append(order, name)
		}
		over[name] = v
		return true
	})
	var b Builder
	d.Each(func(name string, v Doc) bool {
		if n, ok := over[name]; ok {
			if n != nil {
				b.Raw(name, n)
				over[name] = nil
			}
			return true
		}
		b.Raw(name, v)
		return true
	})
	for _, name := range order {
		if v := over[name]; v != nil {
			b.Raw(name, v)
		}
	}
	return b.Done()
}

// Array is a JSON array of raw values.
func Array(values ...Doc) Doc {
	out := Doc{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		if len(v) == 0 {
			v = Doc("null")
		}
		out = append(out, v...)
	}
	return append(out, ']')
}

// Valid says what is wrong with bytes as a document, if anything.
func Valid(b []byte) error {
	if _, err := Check(b); err != nil {
		return err
	}
	return nil
}
