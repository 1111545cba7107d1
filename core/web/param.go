package web

import (
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
)

// param binds a path, query, header or cookie parameter.
func (f *field) param(dst reflect.Value, r *http.Request) Problems {
	if f.kind == kindList {
		at := placeOf(f.loc)
		if values := f.values(r); len(values) > 0 {
			return f.texts(dst, values, at)
		}
		return f.absent(dst, at)
	}
	var text string
	var ok bool
	switch f.source {
	case fromPath:
		text, ok = r.PathValue(f.name), true
	case fromQuery:
		text, ok = queryValue(r.URL.RawQuery, f.name)
	case fromHeader:
		if vs := r.Header[f.header]; len(vs) > 0 {
			text, ok = vs[0], true
		}
	case fromCookie:
		text, ok = cookieValue(r.Header["Cookie"], f.name)
	}
	switch {
	case !ok:
		return f.absent(dst, placeOf(f.loc))
	case f.scalar():
		// on the stack, as nothing below goes deeper
		root := placeNamed(sourceNames[f.source])
		at := root.member(f.name)
		return f.scalarText(f.target(dst, true), text, nil, &at)
	}
	return f.decodeText(f.target(dst, true), text, placeOf(f.loc))
}

func (f *field) values(r *http.Request) []string {
	switch f.source {
	case fromQuery:
		return queryValues(r.URL.RawQuery, f.name)
	case fromHeader:
		return r.Header[f.header]
	}
	return nil
}

func (f *field) absent(dst reflect.Value, at *place) Problems {
	if f.required {
		return Problems{missing(at.loc(), nil)}
	}
	return f.setDefault(dst, at)
}

// texts binds a parameter that was given several times.
func (f *field) texts(dst reflect.Value, values []string, at *place) Problems {
	var ps Problems
	out := reflect.MakeSlice(f.typ, len(values), len(values))
	for i, s := range values {
		here := at.item(i)
		ps = append(ps, f.elem.decodeText(f.elem.target(out.Index(i), true), s, &here)...)
	}
	f.target(dst, true).Set(out)
	return ps
}

// decodeText reads a value that came as text.
func (f *field) decodeText(v reflect.Value, s string, at *place) Problems {
	if f.scalar() {
		return f.scalarText(v, s, nil, at)
	}
	return f.decode(v, jsondoc.Text(s), at)
}

// queryValue is the last value of a name in a query string. Unlike net/url it keeps what is badly escaped, as Python
// does, and makes no map of what nobody asks for.
func queryValue(query, name string) (value string, ok bool) {
	eachPair(query, func(k, v string) {
		if pairIs(k, name) {
			value, ok = v, true
		}
	})
	if ok {
		value = unescape(value)
	}
	return value, ok
}

func queryValues(query, name string) (values []string) {
	eachPair(query, func(k, v string) {
		if pairIs(k, name) {
			values = append(values, unescape(v))
		}
	})
	return values
}

func eachPair(query string, f func(name, value string)) {
	for len(query) > 0 {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair != "" {
			name, value, _ := strings.Cut(pair, "=")
			f(name, value)
		}
	}
}

func pairIs(raw, name string) bool { return raw == name || unescape(raw) == name }

// unescape undoes the escapes of a query: "+" is a space, "%" without two hex digits stands for itself, bytes that
// make no UTF-8 become U+FFFD, and what was not escaped though it had to be is Latin-1.
func unescape(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] != '+' && s[i] != '%' && s[i] < utf8.RuneSelf
	}
	if plain {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, hexValue(s[i+1])<<4|hexValue(s[i+2]))
			i += 2
		case c >= utf8.RuneSelf:
			out = utf8.AppendRune(out, rune(c))
		default:
			out = append(out, c)
		}
	}
	if !utf8.Valid(out) {
		return string([]rune(string(out)))
	}
	return string(out)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

// cookieValue is the last cookie of a name; the text of a cookie is everything up to the next semicolon.
func cookieValue(headers []string, name string) (value string, ok bool) {
	for _, h := range headers {
		for len(h) > 0 {
			var pair string
			pair, h, _ = strings.Cut(h, ";")
			k, v, found := strings.Cut(pair, "=")
			if !found {
				k, v = "", pair
			}
			if v = strings.TrimSpace(v); strings.TrimSpace(k) == name && (name != "" || v != "") {
				value, ok = v, true
			}
		}
	}
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquoteCookie(value[1 : len(value)-1])
	}
	return value, ok
}

// unquoteCookie undoes \ooo and \c inside a quoted cookie.
func unquoteCookie(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var out []rune
	for i := 0; i < len(s); i++ {
		c := rune(s[i])
		if c == '\\' && i+1 < len(s) {
			if i+3 < len(s) && s[i+1] <= '3' && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
				c = rune(s[i+1]-'0')<<6 | rune(s[i+2]-'0')<<3 | rune(s[i+3]-'0')
				i += 3
			} else {
				i++
				c = rune(s[i])
			}
		}
		out = append(out, c)
	}
	return string(out)
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
