// Package rawjson edits JSON objects without decoding what it does not touch.
//
// A chat request may carry megabytes of messages while only two or three top-level members matter, so an
// [Object] is a list of name and raw value pairs that alias the input. The scanner trusts that the input is
// well-formed JSON (request bodies are validated when they are bound); on input that is not, it reports
// [ErrSyntax] or copies the malformed part through, but never panics.
package rawjson

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrSyntax reports input that is not the expected JSON object or array.
var ErrSyntax = errors.New("rawjson: malformed JSON")

// Member is one name and value pair of an object. Value aliases the parsed input.
type Member struct {
	Name  string
	Value jsontext.Value
}

// Object is a JSON object as its members in their order.
type Object []Member

// Parse splits the JSON object b into its members; of duplicate names the last one counts.
func Parse(b []byte) (Object, error) {
	obj := make(Object, 0, 16)
	err := Each(b, func(name []byte, v jsontext.Value) {
		obj = append(obj, Member{unquoteName(name), v})
	})
	if err != nil {
		return nil, err
	}
	return unique(obj), nil
}

// unique keeps the last member of each name, in linear time: the number of members is the caller's choice.
func unique(o Object) Object {
	last := make(map[string]int, len(o))
	for i := range o {
		last[o[i].Name] = i
	}
	if len(last) == len(o) {
		return o
	}
	kept := o[:0]
	for i, m := range o {
		if last[m.Name] == i {
			kept = append(kept, m)
		}
	}
	return kept
}

// Each calls f for every member of the JSON object b, in order. The name is quoted, as it stands in b.
func Each(b []byte, f func(quotedName []byte, v jsontext.Value)) error {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return ErrSyntax
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return nil
	}
	for i < len(b) && b[i] == '"' {
		end := scanString(b, i)
		if end < 0 {
			return ErrSyntax
		}
		name := b[i:end]
		i = space(b, end)
		if i >= len(b) || b[i] != ':' {
			return ErrSyntax
		}
		i = space(b, i+1)
		if end = scanValue(b, i); end < 0 {
			return ErrSyntax
		}
		f(name, jsontext.Value(b[i:end:end]))
		i = space(b, end)
		if i >= len(b) {
			return ErrSyntax
		}
		if b[i] == '}' {
			return nil
		}
		if b[i] != ',' {
			return ErrSyntax
		}
		i = space(b, i+1)
	}
	return ErrSyntax
}

// Elems splits a JSON array into its elements, which alias b.
func Elems(b []byte) ([]jsontext.Value, error) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '[' {
		return nil, ErrSyntax
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return nil, nil
	}
	var out []jsontext.Value
	for i < len(b) {
		end := scanValue(b, i)
		if end < 0 {
			return nil, ErrSyntax
		}
		out = append(out, jsontext.Value(b[i:end:end]))
		i = space(b, end)
		if i >= len(b) {
			break
		}
		if b[i] == ']' {
			return out, nil
		}
		if b[i] != ',' {
			return nil, ErrSyntax
		}
		i = space(b, i+1)
	}
	return nil, ErrSyntax
}

// Get returns the value of a member, nil if it is absent.
func (o Object) Get(name string) jsontext.Value {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// Has reports whether a member of that name exists, null or not.
func (o Object) Has(name string) bool { return o.Get(name) != nil }

// Set replaces a member's value or appends the member.
func (o *Object) Set(name string, v []byte) {
	for i := len(*o) - 1; i >= 0; i-- {
		if (*o)[i].Name == name {
			(*o)[i].Value = v
			return
		}
	}
	*o = append(*o, Member{name, v})
}

// SetString sets a member to a JSON string.
func (o *Object) SetString(name, s string) { o.Set(name, Quote(s)) }

// Delete removes every member of that name.
func (o *Object) Delete(name string) {
	kept := (*o)[:0]
	for _, m := range *o {
		if m.Name != name {
			kept = append(kept, m)
		}
	}
	*o = kept
}

// Take removes a member and returns its value, nil if it was absent.
func (o *Object) Take(name string) jsontext.Value {
	v := o.Get(name)
	if v != nil {
		o.Delete(name)
	}
	return v
}

// Clone copies the list of members (not the values), so that edits leave the original alone.
func (o Object) Clone() Object { return append(make(Object, 0, len(o)+4), o...) }

// Append appends the object's JSON text to dst.
func (o Object) Append(dst []byte) []byte {
	dst = append(dst, '{')
	for i, m := range o {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendQuote(dst, m.Name)
		dst = append(dst, ':')
		dst = append(dst, m.Value...)
	}
	return append(dst, '}')
}

// JSON returns the object's JSON text.
func (o Object) JSON() jsontext.Value {
	n := 2
	for _, m := range o {
		n += len(m.Name) + len(m.Value) + 4
	}
	return o.Append(make([]byte, 0, n))
}

// Array returns the JSON array of the given elements.
func Array(elems []jsontext.Value) jsontext.Value {
	out := []byte{'['}
	for i, e := range elems {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e...)
	}
	return append(out, ']')
}

// Quote returns s as a JSON string.
func Quote(s string) jsontext.Value { return AppendQuote(make([]byte, 0, len(s)+2), s) }

// AppendQuote appends s as a JSON string; invalid UTF-8 becomes U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // the only error is invalid UTF-8, which is replaced
	return dst
}

// String returns the text of a JSON string; ok is false for every other kind of value.
func String(v []byte) (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		if inner := v[1 : len(v)-1]; utf8.Valid(inner) {
			return string(inner), true
		}
	}
	out, _ := jsontext.AppendUnquote(make([]byte, 0, len(v)), v) // on error the replaced text is still there
	return strings.ToValidUTF8(string(out), "\uFFFD"), true
}

// Text returns the text of a JSON string, and the JSON text of any other value.
func Text(v []byte) string {
	if s, ok := String(v); ok {
		return s
	}
	return string(v)
}

// IsObject reports whether v is a JSON object.
func IsObject(v []byte) bool { return len(v) > 0 && v[0] == '{' }

// IsArray reports whether v is a JSON array.
func IsArray(v []byte) bool { return len(v) > 0 && v[0] == '[' }

// IsNull reports whether v is absent or null.
func IsNull(v []byte) bool { return len(v) == 0 || v[0] == 'n' }

// Truthy reports whether v is neither absent, null, false, zero, nor an empty string, array or object.
func Truthy(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	switch v[0] {
	case 'n', 'f':
		return false
	case 't':
		return true
	case '"':
		return len(v) > 2
	case '[', '{':
		i := space(v, 1)
		return i < len(v) && v[i] != ']' && v[i] != '}'
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return err != nil || f != 0
}

// Int returns the value of a JSON number cut to an integer.
func Int(v []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, true
	}
	if f, err := strconv.ParseFloat(string(v), 64); err == nil && f > -1e18 && f < 1e18 {
		return int64(f), true
	}
	return 0, false
}

func unquoteName(q []byte) string {
	s, _ := String(q)
	return s
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanString returns the index after the string that starts at b[i], or -1.
func scanString(b []byte, i int) int {
	for j := i + 1; j < len(b); {
		k := bytes.IndexByte(b[j:], '"')
		if k < 0 {
			return -1
		}
		j += k
		n := 0
		for p := j - 1; p > i && b[p] == '\\'; p-- {
			n++
		}
		j++
		if n%2 == 0 {
			return j
		}
	}
	return -1
}

// scanValue returns the index after the value that starts at b[i], or -1.
func scanValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return scanString(b, i)
	case '{', '[':
		return scanNested(b, i)
	case ',', ':', '}', ']':
		return -1
	}
	for j := i; j < len(b); j++ {
		switch b[j] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return j
		case '"', '{', '[', ':':
			return -1
		}
	}
	return len(b)
}

func scanNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = scanString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}
