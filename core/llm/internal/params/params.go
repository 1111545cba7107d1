// Package params applies the parameters of a workspace model to a request.
package params

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Cast converts a parameter to the type that the provider expects.
type Cast int

// The conversions. A value that does not convert is passed on as it is.
const (
	Keep  Cast = iota // any
	Float             // number; numeric strings are read
	Int               // number cut to an integer; numeric strings are read
	Text              // string
	Bool
	Stops // list of strings with backslash escapes
)

// own are parameters that steer this server and mean nothing to a provider.
var own = []string{"stream_response", "stream_delta_chunk_size", "function_calling", "reasoning_tags",
	"compact_token_threshold", "system", "note_id", "tool_approval_mode", "model_controls"}

// Expand reads the params of a workspace model: those that steer this server are left out, and custom_params are
// merged over the rest, their strings read as JSON where they are JSON. nil and null give no parameters.
func Expand(params jsontext.Value) rawjson.Object {
	o, err := rawjson.Parse(params)
	if err != nil {
		return nil
	}
	for _, name := range own {
		o.Delete(name)
	}
	custom, err := rawjson.Parse(o.Take("custom_params"))
	if err != nil {
		return o
	}
	for i, m := range custom {
		custom[i].Value = Embedded(m.Value)
	}
	return merge(o, custom)
}

// merge puts the members of over into base, objects into objects.
func merge(base, over rawjson.Object) rawjson.Object {
	for _, m := range over {
		sub, err := rawjson.Parse(m.Value)
		if err != nil {
			base.Set(m.Name, m.Value)
			continue
		}
		old, _ := rawjson.Parse(base.Get(m.Name)) // absent or no object: merge into {}
		base.Set(m.Name, merge(old, sub).JSON())
	}
	return base
}

// Embedded returns the JSON value inside a string, or v itself if it is no string of JSON.
func Embedded(v jsontext.Value) jsontext.Value {
	s, ok := rawjson.String(v)
	if !ok {
		return v
	}
	if in := jsontext.Value(strings.TrimSpace(s)); len(in) > 0 && in.IsValid() {
		return in
	}
	return v
}

// Apply adds to body what params have and body has not. Null parameters are left out.
func Apply(body *rawjson.Object, params rawjson.Object, casts map[string]Cast) {
	for _, m := range params {
		if !rawjson.IsNull(m.Value) && !body.Has(m.Name) {
			body.Set(m.Name, convert(casts[m.Name], m.Value))
		}
	}
}

func convert(c Cast, v jsontext.Value) jsontext.Value {
	switch c {
	case Float:
		if s, ok := rawjson.String(v); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
				return jsontext.Value(strconv.AppendFloat(nil, f, 'g', -1, 64))
			}
		}
	case Int:
		if n, ok := rawjson.Int([]byte(strings.TrimSpace(rawjson.Text(v)))); ok {
			return jsontext.Value(strconv.AppendInt(nil, n, 10))
		}
	case Text:
		return rawjson.Quote(rawjson.Text(v))
	case Bool:
		return jsontext.Value(strconv.AppendBool(nil, rawjson.Truthy(v)))
	case Stops:
		return stops(v)
	}
	return v
}

func stops(v jsontext.Value) jsontext.Value {
	if s, ok := rawjson.String(v); ok {
		return rawjson.Array([]jsontext.Value{rawjson.Quote(Unescape(s))})
	}
	elems, err := rawjson.Elems(v)
	if err != nil {
		return v
	}
	for i, e := range elems {
		if s, ok := rawjson.String(e); ok {
			elems[i] = rawjson.Quote(Unescape(s))
		}
	}
	return rawjson.Array(elems)
}

var simpleEscapes = map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '"': "\"", '\'': "'", 'a': "\a",
	'b': "\b", 'f': "\f", 'v': "\v", '\n': ""}

// Unescape replaces backslash escapes (\n, \t, \x41, \u00e9, \101, …) by their characters; unknown ones stay.
func Unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		c := s[i+1]
		if text, ok := simpleEscapes[c]; ok {
			b.WriteString(text)
			i++
			continue
		}
		r, n := numericEscape(s[i+1:])
		if n == 0 {
			b.WriteByte('\\')
			continue
		}
		b.WriteRune(r)
		i += n
	}
	return b.String()
}

// numericEscape reads x41, u00e9, U0001F600 or 101 and returns the character and the length read.
func numericEscape(s string) (rune, int) {
	digits, base, start := 0, 16, 1
	switch s[0] {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		base, start = 8, 0
		for digits < 3 && digits < len(s) && s[digits] >= '0' && s[digits] <= '7' {
			digits++
		}
	}
	if digits == 0 || len(s) < start+digits {
		return 0, 0
	}
	n, err := strconv.ParseUint(s[start:start+digits], base, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return 0, 0
	}
	return rune(n), start + digits
}
