package transfer

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxNesting is how deep a JSON text may be for Postgres, whose parser ends at its stack's depth; Python's ends at 1,000.
const maxNesting = 2000

// postgresJSON gives a JSON text as Postgres takes it, and whether that differs from what it was. Postgres's json keeps a
// text as it is, but it has to be JSON in the strict sense, and one with \u0000 or half a surrogate pair in it breaks every
// query that looks into it. So, as the reference does before it writes to Postgres, those two are left out; NaN becomes
// null and Infinity 1e999, which Python reads as infinity. A text that is no JSON becomes a string.
func postgresJSON(s string) (string, bool) {
	f := fixer{s: s}
	if !utf8.ValidString(s) {
		f.s, f.changed = strings.ToValidUTF8(s, "\uFFFD"), true
	}
	if f.value(0) && f.end() {
		if !f.changed {
			return s, false
		}
		return string(append(f.out, f.s[f.kept:]...)), true
	}
	text, _ := json.Marshal(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""))
	return string(text), true
}

// fixer reads a JSON text in Python's dialect. What it leaves as it is is copied only once something changes.
type fixer struct {
	s       string
	at      int
	out     []byte
	kept    int // s[:kept] is in out already
	changed bool
}

// replace puts text in the place of s[from:f.at].
func (f *fixer) replace(from int, text string) {
	f.out = append(append(f.out, f.s[f.kept:from]...), text...)
	f.kept, f.changed = f.at, true
}

func (f *fixer) space() {
	for f.at < len(f.s) && (f.s[f.at] == ' ' || f.s[f.at] == '\n' || f.s[f.at] == '\t' || f.s[f.at] == '\r') {
		f.at++
	}
}

func (f *fixer) end() bool {
	f.space()
	return f.at == len(f.s)
}

func (f *fixer) next(c byte) bool {
	if f.at < len(f.s) && f.s[f.at] == c {
		f.at++
		return true
	}
	return false
}

func (f *fixer) word(w string) bool {
	if strings.HasPrefix(f.s[f.at:], w) {
		f.at += len(w)
		return true
	}
	return false
}

func (f *fixer) value(depth int) bool {
	f.space()
	if f.at == len(f.s) || depth > maxNesting {
		return false
	}
	from := f.at
	switch f.s[f.at] {
	case '{':
		return f.list('}', func() bool {
			f.space()
			if !f.text() {
				return false
			}
			f.space()
			return f.next(':') && f.value(depth+1)
		})
	case '[':
		return f.list(']', func() bool { return f.value(depth + 1) })
	case '"':
		return f.text()
	case 't':
		return f.word("true")
	case 'f':
		return f.word("false")
	case 'n':
		return f.word("null")
	case 'N':
		if !f.word("NaN") {
			return false
		}
		f.replace(from, "null")
		return true
	case 'I':
		if !f.word("Infinity") {
			return false
		}
		f.replace(from, "1e999")
		return true
	}
	if f.word("-Infinity") {
		f.replace(from, "-1e999")
		return true
	}
	n := numberLength(f.s[f.at:])
	f.at += n
	return n > 0
}

func (f *fixer) list(end byte, item func() bool) bool {
	f.at++
	f.space()
	if f.next(end) {
		return true
	}
	for item() {
		f.space()
		if f.next(end) {
			return true
		}
		if !f.next(',') {
			return false
		}
	}
	return false
}

func (f *fixer) text() bool {
	if !f.next('"') {
		return false
	}
	for f.at < len(f.s) {
		switch c := f.s[f.at]; {
		case c == '"':
			f.at++
			return true
		case c == '\\':
			if !f.escape() {
				return false
			}
		case c < ' ':
			f.at++
			if c == 0 {
				f.replace(f.at-1, "")
			} else {
				f.replace(f.at-1, `\u00`+string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15]))
			}
		default:
			f.at++
		}
	}
	return false
}

// escape reads what begins with a backslash.
func (f *fixer) escape() bool {
	from := f.at
	if f.at+1 >= len(f.s) {
		return false
	}
	if c := f.s[f.at+1]; c != 'u' {
		f.at += 2
		return strings.IndexByte(`"\/bfnrt`, c) >= 0
	}
	r, ok := f.unit()
	if !ok {
		return false
	}
	switch {
	case r == 0:
		f.replace(from, "")
	case r >= 0xD800 && r < 0xDC00:
		high := f.at
		if low, ok := f.unit(); ok && low >= 0xDC00 && low < 0xE000 {
			return true
		}
		f.at = high // what follows stands for itself
		f.replace(from, "")
	case r >= 0xDC00 && r < 0xE000:
		f.replace(from, "")
	}
	return true
}

// unit reads \uXXXX.
func (f *fixer) unit() (rune, bool) {
	if f.at+6 > len(f.s) || f.s[f.at] != '\\' || f.s[f.at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(f.s[f.at+2:f.at+6], 16, 32)
	if err != nil {
		return 0, false
	}
	f.at += 6
	return rune(n), true
}

// numberLength is how much of s is a JSON number; 0 for none.
func numberLength(s string) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

// number is the value of a text that is nothing but a number, as a column of SQLite's numeric affinity keeps it (JSON is
// such a type there): an int64 where it is whole and fits, else a float64.
func number(s string) (any, bool) {
	s = strings.Trim(s, " \t\r\n")
	if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') || numberLength(s) != len(s) {
		return nil, false
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, true
	}
	f, _ := strconv.ParseFloat(s, 64) // infinite where it is too large, as in SQLite
	if i, ok := whole(f); ok {
		return i, true
	}
	return f, true
}

// whole is the integer that f is, if it is one.
func whole(f float64) (int64, bool) {
	if f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
		return int64(f), true
	}
	return 0, false
}
