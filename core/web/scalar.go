package web

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
)

// The tables below are pydantic 2's lax mode: what it takes for a field of each type, from JSON and from text.

func parseBool(s string) (v, ok bool) {
	switch strings.ToLower(s) {
	case "true", "t", "yes", "y", "on", "1":
		return true, true
	case "false", "f", "no", "n", "off", "0":
		return false, true
	}
	return false, false
}

// parseInt reads an integer in text: surrounding space, a sign, single underscores between digits and a fraction of
// zeros are allowed.
func parseInt(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if whole, frac, ok := strings.Cut(s, "."); ok {
		if whole == "" || strings.Trim(frac, "0") != "" {
			return 0, false
		}
		s = whole
	}
	if strings.Contains(s, "_") {
		if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
			return 0, false
		}
		s = strings.ReplaceAll(s, "_", "")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, true
	}
	// larger than a column holds: kept at the edge rather than refused, as Python has no edge
	if b, ok := new(big.Int).SetString(s, 10); ok {
		if b.Sign() < 0 {
			return math.MinInt64, true
		}
		return math.MaxInt64, true
	}
	return 0, false
}

func decodeString(raw jsondoc.Doc, loc Loc) (string, Problems) {
	s, ok := raw.AsText()
	if !ok {
		return "", Problems{wrongType("string_type", loc, raw)}
	}
	return s, nil
}

func decodeBool(raw jsondoc.Doc, loc Loc) (bool, Problems) {
	switch raw.Kind() {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '"':
		s, _ := raw.AsText()
		if v, ok := parseBool(s); ok {
			return v, nil
		}
		return false, Problems{wrongType("bool_parsing", loc, raw)}
	case '0':
		switch f, _ := strconv.ParseFloat(string(raw), 64); {
		case f == 0:
			return false, nil
		case f == 1:
			return true, nil
		case f == math.Trunc(f):
			return false, Problems{wrongType("bool_parsing", loc, raw)}
		}
	}
	return false, Problems{wrongType("bool_type", loc, raw)}
}

func decodeInt(raw jsondoc.Doc, loc Loc) (int64, Problems) {
	switch raw.Kind() {
	case 't':
		return 1, nil
	case 'f':
		return 0, nil
	case '"':
		s, _ := raw.AsText()
		if v, ok := parseInt(s); ok {
			return v, nil
		}
		return 0, Problems{wrongType("int_parsing", loc, raw)}
	case '0':
		if !strings.ContainsAny(string(raw), ".eE") {
			if v, ok := parseInt(string(raw)); ok {
				return v, nil
			}
		}
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || f != math.Trunc(f) {
			return 0, Problems{wrongType("int_from_float", loc, raw)}
		}
		return int64(min(max(f, math.MinInt64), math.MaxInt64-1023)), nil
	}
	return 0, Problems{wrongType("int_type", loc, raw)}
}

func decodeFloat(raw jsondoc.Doc, loc Loc) (float64, Problems) {
	switch raw.Kind() {
	case 't':
		return 1, nil
	case 'f':
		return 0, nil
	case '"':
		s, _ := raw.AsText()
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f, nil
		}
		return 0, Problems{wrongType("float_parsing", loc, raw)}
	case '0':
		f, err := strconv.ParseFloat(string(raw), 64)
		if err == nil || math.IsInf(f, 0) {
			return f, nil
		}
	}
	return 0, Problems{wrongType("float_type", loc, raw)}
}

// checkNumber holds a number against the bounds of its field.
func (f *field) checkNumber(v float64, raw jsondoc.Doc, loc Loc) Problems {
	num := func(x float64) any {
		if x == math.Trunc(x) && !f.isFloat {
			return int64(x)
		}
		return x
	}
	text := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	var ps Problems
	if f.ge != nil && v < *f.ge {
		ps = append(ps, bound("greater_than_equal", loc, raw, "ge", num(*f.ge), "Input should be greater than or equal to "+text(*f.ge)))
	}
	if f.gt != nil && v <= *f.gt {
		ps = append(ps, bound("greater_than", loc, raw, "gt", num(*f.gt), "Input should be greater than "+text(*f.gt)))
	}
	if f.le != nil && v > *f.le {
		ps = append(ps, bound("less_than_equal", loc, raw, "le", num(*f.le), "Input should be less than or equal to "+text(*f.le)))
	}
	return ps
}

// checkText holds a string against the bounds of its field; lengths are in code points.
func (f *field) checkText(s string, raw jsondoc.Doc, loc Loc) Problems {
	if f.minLen >= 0 || f.maxLen >= 0 {
		n := utf8.RuneCountInString(s)
		if f.minLen >= 0 && n < f.minLen {
			return Problems{bound("string_too_short", loc, raw, "min_length", f.minLen, "String should have at least "+plural(f.minLen, "character"))}
		}
		if f.maxLen >= 0 && n > f.maxLen {
			return Problems{bound("string_too_long", loc, raw, "max_length", f.maxLen, "String should have at most "+plural(f.maxLen, "character"))}
		}
	}
	if f.pattern != nil && !f.pattern.MatchString(s) {
		p := f.patternText
		return Problems{bound("string_pattern_mismatch", loc, raw, "pattern", p, "String should match pattern '"+p+"'")}
	}
	if len(f.enum) > 0 {
		for _, e := range f.enum {
			if s == e {
				return nil
			}
		}
		return Problems{literalError(loc, raw, f.enum)}
	}
	return nil
}
