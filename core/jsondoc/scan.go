package jsondoc

import (
	"bytes"
	"unicode/utf8"
)

// SyntaxError says where a text is not JSON, in the words of Python's json module, which clients of the reference see.
type SyntaxError struct {
	Msg string
	Pos int // in code points from the start
}

func (e *SyntaxError) Error() string { return "jsondoc: " + e.Msg }

// MaxDepth is how deep a document may be nested. Python gives up at about 1,000.
const MaxDepth = 900

// ErrDepth is the message of a document nested deeper than MaxDepth.
const ErrDepth = "nested too deep"

// Check says whether b is one JSON value as Python's json.loads takes it: NaN, Infinity, duplicate names and lone
// surrogate escapes are allowed. It gives the value without the white space around it, with NaN and the infinities
// replaced by null, which JSON and the databases have no word for.
func Check(b []byte) (Doc, *SyntaxError) {
	s := scanner{b: b}
	start := s.space(0)
	end := s.value(start, 0)
	if s.msg == "" {
		if rest := s.space(end); rest < len(b) {
			s.fail("Extra data", rest)
		}
	}
	if s.msg != "" {
		return nil, &SyntaxError{Msg: s.msg, Pos: utf8.RuneCount(b[:s.at])}
	}
	if len(s.nans) == 0 {
		return Doc(b[start:end:end]), nil
	}
	var out Doc
	from := start
	for _, n := range s.nans {
		out = append(append(out, b[from:n[0]]...), "null"...)
		from = n[1]
	}
	return append(out, b[from:end]...), nil
}

type scanner struct {
	b    []byte
	msg  string
	at   int
	nans [][2]int
}

func (s *scanner) fail(msg string, at int) int {
	if s.msg == "" {
		s.msg, s.at = msg, at
	}
	return len(s.b)
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\t' || s.b[i] == '\r') {
		i++
	}
	return i
}

func (s *scanner) value(i, depth int) int {
	if i >= len(s.b) {
		return s.fail("Expecting value", i)
	}
	if depth > MaxDepth {
		return s.fail(ErrDepth, i)
	}
	switch c := s.b[i]; {
	case c == '"':
		return s.str(i)
	case c == '{':
		return s.object(i, depth)
	case c == '[':
		return s.array(i, depth)
	case c == '-' || c >= '0' && c <= '9':
		return s.number(i)
	}
	for _, w := range words {
		if bytes.HasPrefix(s.b[i:], w.text) {
			if w.nan {
				s.nans = append(s.nans, [2]int{i, i + len(w.text)})
			}
			return i + len(w.text)
		}
	}
	return s.fail("Expecting value", i)
}

var words = []struct {
	text []byte
	nan  bool
}{{[]byte("null"), false}, {[]byte("true"), false}, {[]byte("false"), false}, {[]byte("NaN"), true}, {[]byte("Infinity"), true}}

func (s *scanner) object(i, depth int) int {
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(s.b) || s.b[i] != '"' {
			return s.fail("Expecting property name enclosed in double quotes", i)
		}
		i = s.space(s.str(i))
		if s.msg != "" {
			return i
		}
		if i >= len(s.b) || s.b[i] != ':' {
			return s.fail("Expecting ':' delimiter", i)
		}
		i = s.space(s.value(s.space(i+1), depth+1))
		if s.msg != "" {
			return i
		}
		if i < len(s.b) && s.b[i] == '}' {
			return i + 1
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return s.fail("Expecting ',' delimiter", i)
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) array(i, depth int) int {
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		return i + 1
	}
	for {
		i = s.space(s.value(i, depth+1))
		if s.msg != "" {
			return i
		}
		if i < len(s.b) && s.b[i] == ']' {
			return i + 1
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return s.fail("Expecting ',' delimiter", i)
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) str(open int) int {
	for i := open + 1; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return s.fail("Invalid control character at", i)
		case c == '\\':
			i++
			if i >= len(s.b) {
				return s.fail("Unterminated string starting at", open)
			}
			if s.b[i] != 'u' {
				if bytes.IndexByte([]byte(`"\/bfnrt`), s.b[i]) < 0 {
					return s.fail("Invalid \\escape", i-1)
				}
				continue
			}
			for n := 1; n <= 4; n++ {
				// Python wants a character behind the escape as well
				if i+5 >= len(s.b) || !isHex(s.b[i+n]) {
					return s.fail("Invalid \\uXXXX escape", i)
				}
			}
			i += 4
		}
	}
	return s.fail("Unterminated string starting at", open)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (s *scanner) number(i int) int {
	start := i
	if s.b[i] == '-' {
		i++
		if bytes.HasPrefix(s.b[i:], []byte("Infinity")) {
			s.nans = append(s.nans, [2]int{start, i + 8})
			return i + 8
		}
	}
	switch {
	case i < len(s.b) && s.b[i] == '0':
		i++
	case i < len(s.b) && s.b[i] >= '1' && s.b[i] <= '9':
		i = s.digits(i)
	default:
		return s.fail("Expecting value", start)
	}
	if i+1 < len(s.b) && s.b[i] == '.' && isDigit(s.b[i+1]) {
		i = s.digits(i + 1)
	}
	if i < len(s.b) && s.b[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s.b) && (s.b[j] == '+' || s.b[j] == '-') {
			j++
		}
		if j < len(s.b) && isDigit(s.b[j]) {
			i = s.digits(j)
		}
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (s *scanner) digits(i int) int {
	for i < len(s.b) && isDigit(s.b[i]) {
		i++
	}
	return i
}

// The functions below skim documents that are known to be valid; on others they end early but never out of bounds.

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// skipString gives the index after the string that opens at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		k := i - 1
		for b[k] == '\\' {
			k--
		}
		i++
		if (i-1-k)%2 == 1 { // an even number of backslashes before the quote
			return i
		}
	}
	return len(b)
}

// skipValue gives the index after the value that starts at i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; i < len(b); {
			switch b[i] {
			case '"':
				i = skipString(b, i)
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
		return i
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

// members walks an object: f gets the extents of each name (with quotes) and value until it returns false.
func members(b []byte, f func(nameStart, nameEnd, start, end int) bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return
	}
	i = skipSpace(b, i+1)
	for i < len(b) && b[i] == '"' {
		name := i
		nameEnd := skipString(b, i)
		i = skipSpace(b, nameEnd)
		if i >= len(b) || b[i] != ':' {
			return
		}
		start := skipSpace(b, i+1)
		end := skipValue(b, start)
		if end <= start || !f(name, nameEnd, start, end) {
			return
		}
		i = skipSpace(b, end)
		if i >= len(b) || b[i] != ',' {
			return
		}
		i = skipSpace(b, i+1)
	}
}

// elements walks an array.
func elements(b []byte, f func(start, end int) bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		return
	}
	i = skipSpace(b, i+1)
	for i < len(b) && b[i] != ']' {
		end := skipValue(b, i)
		if end <= i || !f(i, end) {
			return
		}
		i = skipSpace(b, end)
		if i >= len(b) || b[i] != ',' {
			return
		}
		i = skipSpace(b, i+1)
	}
}

// nameIs says whether the quoted name is s.
func nameIs(quoted []byte, s string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return len(quoted) >= 2 && string(quoted[1:len(quoted)-1]) == s
	}
	got, ok := Doc(quoted).AsText()
	return ok && got == s
}
