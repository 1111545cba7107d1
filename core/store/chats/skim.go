package chats

import (
	"bytes"
	"unsafe"

	"github.com/galleychat/galley/core/jsondoc"
)

// The functions of this file walk stored JSON without decoding it and without allocating: a chat of 400 messages is a
// megabyte, and most requests want a handful of its members. The text is known to be valid.

// str views bytes that nobody changes as a string.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// endString gives the index after the string that opens at i.
func endString(b []byte, i int) int {
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
		if (i-1-k)%2 == 1 {
			return i
		}
	}
	return len(b)
}

// structural marks the bytes that matter between the strings of an object or array.
var structural = [256]byte{'"': 1, '{': 2, '[': 2, '}': 3, ']': 3}

// endValue gives the index after the value that starts at i.
func endValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return endString(b, i)
	case '{', '[':
		for depth := 0; i < len(b); {
			switch structural[b[i]] {
			case 0:
				i++
			case 1:
				i = endString(b, i)
			case 2:
				depth++
				i++
			case 3:
				i++
				if depth--; depth == 0 {
					return i
				}
			}
		}
		return i
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

// each walks the members of an object in order until f returns false. The name is the text between the quotes, still
// escaped; escaped names are rare and decoded by name.
func each(d jsondoc.Doc, f func(name []byte, value jsondoc.Doc) bool) {
	b := []byte(d)
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return
	}
	i = space(b, i+1)
	for i < len(b) && b[i] == '"' {
		start := i
		i = endString(b, i)
		name := b[start+1 : i-1]
		i = space(b, i)
		if i >= len(b) || b[i] != ':' {
			return
		}
		v := space(b, i+1)
		i = endValue(b, v)
		if i <= v || !f(name, d[v:i:i]) {
			return
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' {
			return
		}
		i = space(b, i+1)
	}
}

// walk is each for callers that go into values themselves: f gets where a value starts and gives where it ends. It
// gives the index after the object that opens at i.
func walk(b []byte, i int, f func(name []byte, start int) (end int)) int {
	i = space(b, i+1)
	for i < len(b) && b[i] == '"' {
		start := i
		i = endString(b, i)
		name := b[start+1 : i-1]
		i = space(b, i)
		if i >= len(b) || b[i] != ':' {
			return len(b)
		}
		v := space(b, i+1)
		if i = f(name, v); i <= v {
			return len(b)
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' {
			break
		}
		i = space(b, i+1)
	}
	return i + 1
}

// items walks the elements of an array.
func items(d jsondoc.Doc, f func(value jsondoc.Doc) bool) {
	b := []byte(d)
	i := space(b, 0)
	if i >= len(b) || b[i] != '[' {
		return
	}
	i = space(b, i+1)
	for i < len(b) && b[i] != ']' {
		end := endValue(b, i)
		if end <= i || !f(d[i:end:end]) {
			return
		}
		i = space(b, end)
		if i >= len(b) || b[i] != ',' {
			return
		}
		i = space(b, i+1)
	}
}

// name decodes the text of a member's name; it points into the document where nothing is escaped.
func name(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return str(raw)
	}
	quoted := make(jsondoc.Doc, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	s, _ := quoted.AsText()
	return s
}

// text decodes a JSON string; it points into the document where nothing is escaped.
func text(d jsondoc.Doc) (string, bool) {
	if len(d) < 2 || d[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(d, '\\') < 0 {
		return str(d[1 : len(d)-1]), true
	}
	return d.AsText()
}

func isObject(d jsondoc.Doc) bool { return len(d) > 0 && d[0] == '{' }
func isArray(d jsondoc.Doc) bool  { return len(d) > 0 && d[0] == '[' }

// member gives a member of an object by skimming; of equal names the last.
func member(d jsondoc.Doc, want string) (out jsondoc.Doc) {
	each(d, func(n []byte, v jsondoc.Doc) bool {
		if string(n) == want {
			out = v
		}
		return true
	})
	return out
}

// trim removes white space around a value.
func trim(d jsondoc.Doc) jsondoc.Doc {
	if len(d) == 0 || d[0] > ' ' && d[len(d)-1] > ' ' {
		return d
	}
	return jsondoc.Doc(bytes.TrimSpace(d))
}
