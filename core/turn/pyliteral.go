package turn

import (
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// fromPython reads a literal of Python as JSON: some models write the arguments of tools in it. Dictionaries, lists,
// tuples, strings, numbers, True, False and None are understood.
func fromPython(text string) (jsondoc.Doc, bool) {
	p := literal{in: text}
	p.value(0)
	p.space()
	if p.bad || p.at < len(p.in) {
		return nil, false
	}
	d, bad := jsondoc.Check(p.out)
	return d, bad == nil
}

// literal is a literal that is being read.
type literal struct {
	in  string
	at  int
	out []byte
	bad bool
}

func (p *literal) space() {
	for p.at < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.at]) >= 0 {
		p.at++
	}
}

// next is the byte that comes next, 0 at the end.
func (p *literal) next() byte {
	p.space()
	if p.at == len(p.in) {
		return 0
	}
	return p.in[p.at]
}

func (p *literal) value(depth int) {
	c := p.next()
	switch {
	case p.bad, depth > jsondoc.MaxDepth, c == 0:
		p.bad = true
	case c == '{':
		p.list('}', '{', '}', func() {
			if c := p.next(); c != '\'' && c != '"' {
				p.bad = true
				return
			}
			p.text()
			if p.next() != ':' {
				p.bad = true
				return
			}
			p.at++
			p.out = append(p.out, ':')
			p.value(depth + 1)
		})
	case c == '[':
		p.list(']', '[', ']', func() { p.value(depth + 1) })
	case c == '(':
		p.list(')', '[', ']', func() { p.value(depth + 1) })
	case c == '\'' || c == '"':
		p.text()
	default:
		p.word()
	}
}

// list reads values between brackets; a comma may follow the last.
func (p *literal) list(end, open, closed byte, each func()) {
	p.at++
	p.out = append(p.out, open)
	for n := 0; !p.bad; n++ {
		if p.next() == end {
			p.at++
			p.out = append(p.out, closed)
			return
		}
		if n > 0 {
			p.out = append(p.out, ',')
		}
		each()
		switch p.next() {
		case ',':
			p.at++
		case end:
		default:
			p.bad = true
		}
	}
}

// word reads a number or a name.
func (p *literal) word() {
	from := p.at
	for p.at < len(p.in) && strings.IndexByte(" \t\r\n,:]})", p.in[p.at]) < 0 {
		p.at++
	}
	switch w := p.in[from:p.at]; w {
	case "True":
		p.out = append(p.out, "true"...)
	case "False":
		p.out = append(p.out, "false"...)
	case "None":
		p.out = append(p.out, "null"...)
	default:
		if _, err := strconv.ParseFloat(w, 64); err != nil {
			p.bad = true
			return
		}
		p.out = append(p.out, w...)
	}
}

// text reads a string in either kind of quotes.
func (p *literal) text() {
	quote := p.in[p.at]
	p.at++
	var s strings.Builder
	for {
		switch {
		case p.bad || p.at == len(p.in) || p.in[p.at] == '\n':
			p.bad = true
			return
		case p.in[p.at] == quote:
			p.at++
			p.out = jsondoc.AppendString(p.out, s.String())
			return
		case p.in[p.at] == '\\' && strings.HasPrefix(p.in[p.at:], "\\\n"):
			p.at += 2
		default:
			r, _, rest, err := strconv.UnquoteChar(p.in[p.at:], quote)
			if err != nil {
				p.escape(&s)
				continue
			}
			s.WriteRune(r) // \xe9 too is a character in Python, not a byte
			p.at = len(p.in) - len(rest)
		}
	}
}

// escape reads what is an escape in Python only: the other quote, or a backslash that stands for itself.
func (p *literal) escape(s *strings.Builder) {
	if p.in[p.at] != '\\' || p.at+1 == len(p.in) {
		p.bad = true
		return
	}
	if c := p.in[p.at+1]; c != '\'' && c != '"' {
		s.WriteByte('\\')
		p.at++
		return
	}
	s.WriteByte(p.in[p.at+1])
	p.at += 2
}
