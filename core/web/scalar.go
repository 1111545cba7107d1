package web

import (
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/go-json-experiment/json/jsontext"
)

// The tables below are pydantic 2's lax mode: what it takes for a field of each type, from JSON and from text.

func parseBool(s string) (v, ok bool) {
	switch {
	case len(s) > 5:
	case s == "1", strings.EqualFold(s, "true"), strings.EqualFold(s, "t"), strings.EqualFold(s, "yes"), strings.EqualFold(s, "y"), strings.EqualFold(s, "on"):
		return true, true
	case s == "0", strings.EqualFold(s, "false"), strings.EqualFold(s, "f"), strings.EqualFold(s, "no"), strings.EqualFold(s, "n"), strings.EqualFold(s, "off"):
		return false, true
	}
	return false, false
}

// maxIntText is the longest text that is read as an integer.
const maxIntText = 4300

// parseInt reads an integer in text: surrounding space, a sign, single underscores between digits and a fraction of
// zeros are allowed. The second result is the type of the problem, if any.
func parseInt(s string) (int64, string) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, ""
	}
	digits := strings.TrimPrefix(s, "-")
	if digits == s {
		digits = strings.TrimPrefix(s, "+")
	}
	if whole, frac, ok := strings.Cut(digits, "."); ok {
		if whole == "" || frac == "" || strings.Trim(frac, "0") != "" {
			return 0, "int_parsing"
		}
		digits = whole
	}
	digits, ok := stripUnderscores(digits)
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, "int_parsing"
	}
	if len(digits) > maxIntText {
		return 0, "int_parsing_size"
	}
	if s[0] == '-' {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil {
		return n, ""
	}
	return clampInt(digits), ""
}

// clampInt keeps what is larger than a column holds at the edge rather than to refuse it, as Python has no edge.
func clampInt(digits string) int64 {
	if b, ok := new(big.Int).SetString(digits, 10); ok && b.Sign() < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

// stripUnderscores takes out underscores; those at an end or side by side are not allowed.
func stripUnderscores(s string) (string, bool) {
	if strings.IndexByte(s, '_') < 0 {
		return s, true
	}
	if s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return s, false
	}
	return strings.ReplaceAll(s, "_", ""), true
}

func parseFloat(s string) (float64, bool) {
	s, ok := stripUnderscores(strings.TrimSpace(s))
	if !ok || strings.ContainsAny(s, "xX") { // Go's hexadecimal floats
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || math.IsInf(f, 0)
}

// decodeScalar reads a string, bool or number from JSON.
func (f *field) decodeScalar(v reflect.Value, raw jsondoc.Doc, at *place) Problems {
	kind := raw.Kind()
	if kind == '"' {
		if (f.kind != kindString || !f.plainText) && loneSurrogate(raw) {
			return wrong("string_unicode", at, raw)
		}
		s, _ := raw.AsText()
		return f.scalarText(v, s, raw, at)
	}
	switch f.kind {
	case kindBool:
		b, bad := jsonBool(kind, raw)
		if bad != "" {
			return wrong(bad, at, raw)
		}
		v.SetBool(b)
		return nil
	case kindInt:
		n, bad := jsonInt(kind, raw)
		if bad != "" {
			return wrong(bad, at, raw)
		}
		v.SetInt(n)
		return f.checkNumber(float64(n), raw, at)
	case kindFloat:
		n, bad := jsonFloat(kind, raw)
		if bad != "" {
			return wrong(bad, at, raw)
		}
		v.SetFloat(n)
		return f.checkNumber(n, raw, at)
	}
	if len(f.enum) > 0 {
		return Problems{literalError(at.loc(), raw, f.enum)}
	}
	return wrong("string_type", at, raw)
}

// scalarText reads a string, bool or number from text; raw is the text as JSON, nil where it did not come as such.
func (f *field) scalarText(v reflect.Value, s string, raw jsondoc.Doc, at *place) Problems {
	input := func() jsondoc.Doc {
		if raw != nil {
			return raw
		}
		return jsondoc.Text(s)
	}
	var bad string
	switch f.kind {
	case kindString:
		v.SetString(s)
		if f.plainText {
			return nil
		}
		return f.checkText(s, input(), at)
	case kindBool:
		b, ok := parseBool(s)
		if !ok {
			bad = "bool_parsing"
		}
		v.SetBool(b)
	case kindInt:
		var n int64
		if n, bad = parseInt(s); bad == "" {
			v.SetInt(n)
			if !f.bounded() {
				return nil
			}
			return f.checkNumber(float64(n), input(), at)
		}
	case kindFloat:
		n, ok := parseFloat(s)
		if !ok {
			bad = "float_parsing"
			break
		}
		v.SetFloat(n)
		if !f.bounded() {
			return nil
		}
		return f.checkNumber(n, input(), at)
	}
	if bad != "" {
		return wrong(bad, at, input())
	}
	return nil
}

func jsonBool(kind jsontext.Kind, raw jsondoc.Doc) (b bool, bad string) {
	switch kind {
	case 't':
		return true, ""
	case 'f':
		return false, ""
	case '0':
		switch f, _ := strconv.ParseFloat(string(raw), 64); {
		case f == 0:
			return false, ""
		case f == 1:
			return true, ""
		case isInteger(raw):
			if _, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
				return false, "bool_parsing"
			}
		case f == math.Trunc(f) && inInt64(f):
			return false, "bool_parsing"
		}
	}
	return false, "bool_type"
}

func jsonInt(kind jsontext.Kind, raw jsondoc.Doc) (n int64, bad string) {
	switch kind {
	case 't':
		return 1, ""
	case 'f':
		return 0, ""
	case '0':
		if isInteger(raw) {
			if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
				return n, ""
			}
			return clampInt(string(raw)), ""
		}
		f, _ := strconv.ParseFloat(string(raw), 64)
		switch {
		case math.IsInf(f, 0):
			return 0, "finite_number"
		case f != math.Trunc(f):
			return 0, "int_from_float"
		case !inInt64(f):
			return 0, "int_parsing_size"
		}
		return int64(f), ""
	}
	return 0, "int_type"
}

func jsonFloat(kind jsontext.Kind, raw jsondoc.Doc) (f float64, bad string) {
	switch kind {
	case 't':
		return 1, ""
	case 'f':
		return 0, ""
	case '0':
		f, _ = strconv.ParseFloat(string(raw), 64)
		return f, ""
	}
	return 0, "float_type"
}

func isInteger(raw jsondoc.Doc) bool { return !strings.ContainsAny(string(raw), ".eE") }

func inInt64(f float64) bool { return f > math.MinInt64 && f < math.MaxInt64 }

// loneSurrogate says whether a JSON string escapes half of a surrogate pair. A field without rules takes that, with
// U+FFFD in its place.
func loneSurrogate(raw jsondoc.Doc) bool {
	s := string(raw)
	if !strings.Contains(s, `\u`) {
		return false
	}
	high := -1 // where a high surrogate ended
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if s[i+1] != 'u' || i+6 > len(s) {
			i++
			continue
		}
		n, _ := strconv.ParseUint(s[i+2:i+6], 16, 32)
		low := n >= 0xDC00 && n < 0xE000
		if (high >= 0 || low) && (!low || high != i) {
			return true
		}
		high = -1
		if n >= 0xD800 && n < 0xDC00 {
			high = i + 6
		}
		i += 5
	}
	return high >= 0
}

func (f *field) bounded() bool { return f.ge != nil || f.gt != nil || f.le != nil || f.lt != nil }

// checkNumber holds a number against the bounds of its field, in pydantic's order: the first that fails counts.
func (f *field) checkNumber(v float64, raw jsondoc.Doc, at *place) Problems {
	// written so that NaN breaks every bound
	switch {
	case f.le != nil && !(v <= *f.le):
		return f.bound("less_than_equal", "le", *f.le, "less than or equal to", raw, at)
	case f.lt != nil && !(v < *f.lt):
		return f.bound("less_than", "lt", *f.lt, "less than", raw, at)
	case f.ge != nil && !(v >= *f.ge):
		return f.bound("greater_than_equal", "ge", *f.ge, "greater than or equal to", raw, at)
	case f.gt != nil && !(v > *f.gt):
		return f.bound("greater_than", "gt", *f.gt, "greater than", raw, at)
	}
	return nil
}

func (f *field) bound(kind, key string, limit float64, words string, raw jsondoc.Doc, at *place) Problems {
	text := strconv.FormatFloat(limit, 'f', -1, 64)
	num := jsondoc.Doc(text)
	if f.kind == kindFloat && isInteger(num) {
		num = jsondoc.Doc(text + ".0") // as Python writes a float
	}
	return Problems{{Type: kind, Loc: at.loc(), Msg: "Input should be " + words + " " + text, Input: raw, Ctx: map[string]any{key: num}}}
}

// checkText holds a string against the bounds of its field; lengths are in code points.
func (f *field) checkText(s string, raw jsondoc.Doc, at *place) Problems {
	if f.minLen >= 0 || f.maxLen >= 0 {
		n := utf8.RuneCountInString(s)
		if f.minLen >= 0 && n < f.minLen {
			return textBound("string_too_short", "min_length", f.minLen, "String should have at least "+plural(f.minLen, "character"), raw, at)
		}
		if f.maxLen >= 0 && n > f.maxLen {
			return textBound("string_too_long", "max_length", f.maxLen, "String should have at most "+plural(f.maxLen, "character"), raw, at)
		}
	}
	if f.pattern != nil && !f.pattern.MatchString(s) {
		p := f.patternText
		return textBound("string_pattern_mismatch", "pattern", p, "String should match pattern '"+p+"'", raw, at)
	}
	if len(f.enum) > 0 {
		for _, e := range f.enum {
			if s == e {
				return nil
			}
		}
		return Problems{literalError(at.loc(), raw, f.enum)}
	}
	return nil
}

func textBound(kind, key string, limit any, msg string, raw jsondoc.Doc, at *place) Problems {
	return Problems{{Type: kind, Loc: at.loc(), Msg: msg, Input: raw, Ctx: map[string]any{key: limit}}}
}
