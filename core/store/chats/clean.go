package chats

import (
	"bytes"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// Clean removes from all strings of a document what the databases refuse: NUL characters and lone surrogates. A
// document without any is returned as it is.
func Clean(d jsondoc.Doc) jsondoc.Doc {
	// In valid JSON both can only be written as \u escapes, and a backslash only stands in strings.
	i := bytes.Index(d, []byte(`\u`))
	if i < 0 {
		return d
	}
	var out jsondoc.Doc
	from := 0
	// An earlier backslash could make this "u" a plain letter, so start at the first backslash of all.
	for i = bytes.IndexByte(d, '\\'); i >= 0 && i+1 < len(d); {
		step := 2
		if d[i+1] == 'u' {
			step = 6
			switch c := hex4(d, i+2); {
			case c >= 0xD800 && c < 0xDC00 && isLow(d, i+6):
				step = 12
			case c == 0, c >= 0xD800 && c < 0xE000:
				out = append(out, d[from:i]...)
				from = i + 6
			}
		}
		i += step
		if i >= len(d) {
			break
		}
		n := bytes.IndexByte(d[i:], '\\')
		if n < 0 {
			break
		}
		i += n
	}
	if from == 0 {
		return d
	}
	return append(out, d[from:]...)
}

func isLow(d jsondoc.Doc, i int) bool {
	if i+6 > len(d) || d[i] != '\\' || d[i+1] != 'u' {
		return false
	}
	c := hex4(d, i+2)
	return c >= 0xDC00 && c < 0xE000
}

func hex4(d jsondoc.Doc, i int) (n int) {
	if i+4 > len(d) {
		return -1
	}
	for _, c := range d[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return n
}

// CleanText is Clean for a decoded string.
func CleanText(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(s, "\x00", "")
}
