// Package scim reads the expressions of SCIM 2.0 (RFC 7644): filters of lists, and paths of changes; and makes SQL of
// filters. What attributes there are, and where they are kept, its callers say.
package scim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// ErrSyntax is in all errors about what is no filter, no path, or asks what cannot be asked.
var ErrSyntax = errors.New("scim: syntax")

func fail(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSyntax}, args...)...)
}

// Filter is a condition of resources: *Compare, *Both, *Either, *Not or *Within.
type Filter interface{ filter() }

// Attr is the name of an attribute, in lower case. Schema is what stood before it ("" for nothing), Sub the part of it.
type Attr struct{ Schema, Name, Sub string }

func (a Attr) String() string {
	if a.Sub == "" {
		return a.Name
	}
	return a.Name + "." + a.Sub
}

// Compare holds an attribute against a value, or with "pr" says that there is one.
type Compare struct {
	Attr  Attr
	Op    string // eq ne co sw ew gt ge lt le pr
	Value jsondoc.Doc
}

// Both is true where both sides are.
type Both struct{ Left, Right Filter }

// Either is true where one side is.
type Either struct{ Left, Right Filter }

// Not is true where its filter is not.
type Not struct{ Filter Filter }

// Within is true where one value of an attribute meets a filter; its names are those of the attribute's parts.
type Within struct {
	Attr   Attr
	Filter Filter
}

func (*Compare) filter() {}
func (*Both) filter()    {}
func (*Either) filter()  {}
func (*Not) filter()     {}
func (*Within) filter()  {}

// Path is what a change concerns: an attribute, or where Filter is not nil those of its values that meet it, or their
// Sub.
type Path struct {
	Attr   Attr
	Filter Filter
}

// maxDepth is how deep filters may be nested, maxLength how long they may be, maxTerms how many comparisons they may have:
// SQLite takes no expression that is a thousand deep.
const (
	maxDepth  = 30
	maxLength = 8 << 10
	maxTerms  = 200
)

// ParseFilter reads a filter.
func ParseFilter(text string) (Filter, error) {
	p, err := newParser(text)
	if err != nil {
		return nil, err
	}
	f, err := p.either(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, fail("%q is left over", t.text)
	}
	return f, nil
}

// ParsePath reads the path of a change.
func ParsePath(text string) (Path, error) {
	p, err := newParser(text)
	if err != nil {
		return Path{}, err
	}
	t := p.next()
	if t.kind != tokenWord {
		return Path{}, fail("%q is no attribute", t.text)
	}
	out := Path{Attr: attrOf(t.text)}
	if p.peek().kind == tokenOpen && p.peek().text == "[" {
		if out.Filter, err = p.brackets(0); err != nil {
			return Path{}, err
		}
		if t := p.peek(); t.kind == tokenWord && strings.HasPrefix(t.text, ".") {
			out.Attr.Sub = strings.ToLower(p.next().text[1:])
		}
	}
	if t := p.peek(); t.kind != tokenEnd || out.Attr.Name == "" {
		return Path{}, fail("%q is no path", text)
	}
	return out, nil
}

// attrOf takes a name apart. A schema's address has dots of its own, and ends at the last colon.
func attrOf(text string) Attr {
	var a Attr
	text = strings.ToLower(text)
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		a.Schema, text = text[:i], text[i+1:]
	}
	a.Name, a.Sub, _ = strings.Cut(text, ".")
	return a
}

type tokenKind uint8

const (
	tokenEnd   tokenKind = iota
	tokenWord            // names, operators, numbers, true, false, null
	tokenText            // a JSON string, with its quotes
	tokenOpen            // ( or [
	tokenClose           // ) or ]
)

type token struct {
	kind tokenKind
	text string
}

type parser struct {
	tokens []token
	at     int
	terms  int
}

func newParser(text string) (*parser, error) {
	if len(text) > maxLength {
		return nil, fail("%d bytes are too many", len(text))
	}
	p := &parser{}
	for i := 0; i < len(text); {
		begin := i
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			i++
			continue
		case c == '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if i++; i > len(text) || jsondoc.Valid([]byte(text[begin:i])) != nil {
				return nil, fail("a text does not end, or is none: %q", text[begin:])
			}
			p.tokens = append(p.tokens, token{tokenText, text[begin:i]})
		case c == '(' || c == '[':
			i++
			p.tokens = append(p.tokens, token{tokenOpen, string(c)})
		case c == ')' || c == ']':
			i++
			p.tokens = append(p.tokens, token{tokenClose, string(c)})
		default:
			for i < len(text) && !strings.ContainsRune(" \t\"()[]", rune(text[i])) {
				i++
			}
			p.tokens = append(p.tokens, token{tokenWord, text[begin:i]})
		}
	}
	return p, nil
}

func (p *parser) peek() token {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return token{}
}

func (p *parser) next() token {
	t := p.peek()
	p.at++
	return t
}

// word takes a word, in any case of letters, where it comes next.
func (p *parser) word(w string) bool {
	if t := p.peek(); t.kind != tokenWord || !strings.EqualFold(t.text, w) {
		return false
	}
	p.at++
	return true
}

func (p *parser) either(depth int) (Filter, error) {
	left, err := p.both(depth)
	for err == nil && p.word("or") {
		var right Filter
		right, err = p.both(depth)
		left = &Either{left, right}
	}
	return left, err
}

func (p *parser) both(depth int) (Filter, error) {
	left, err := p.one(depth)
	for err == nil && p.word("and") {
		var right Filter
		right, err = p.one(depth)
		left = &Both{left, right}
	}
	return left, err
}

func (p *parser) one(depth int) (Filter, error) {
	if depth > maxDepth {
		return nil, fail("nested too deep")
	}
	negated := p.word("not")
	switch t := p.peek(); {
	case t.kind == tokenOpen && t.text == "(":
		f, err := p.enclosed(depth, ")")
		if negated {
			f = &Not{f}
		}
		return f, err
	case negated:
		return nil, fail("what is negated stands in parentheses")
	case t.kind != tokenWord:
		return nil, fail("%q is no attribute", t.text)
	}
	attr := attrOf(p.next().text)
	if t := p.peek(); t.kind == tokenOpen && t.text == "[" {
		return p.within(attr, depth)
	}
	return p.compare(attr)
}

// enclosed reads a filter between brackets, of which the first comes next.
func (p *parser) enclosed(depth int, end string) (Filter, error) {
	p.next()
	f, err := p.either(depth + 1)
	if err != nil {
		return nil, err
	}
	if t := p.next(); t.kind != tokenClose || t.text != end {
		return nil, fail("%q is missing", end)
	}
	return f, nil
}

func (p *parser) brackets(depth int) (Filter, error) { return p.enclosed(depth, "]") }

// within reads attr[filter], and attr[filter].sub op value, which is not in the RFC but in use.
func (p *parser) within(attr Attr, depth int) (Filter, error) {
	f, err := p.brackets(depth)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind == tokenWord && strings.HasPrefix(t.text, ".") {
		p.next()
		c, err := p.compare(attrOf(t.text[1:]))
		if err != nil {
			return nil, err
		}
		f = &Both{f, c}
	}
	return &Within{attr, f}, nil
}

func (p *parser) compare(attr Attr) (Filter, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, fail("more than %d comparisons", maxTerms)
	}
	if attr.Name == "" {
		return nil, fail("an attribute has no name")
	}
	op := strings.ToLower(p.next().text)
	switch op {
	case "pr":
		return &Compare{Attr: attr, Op: op}, nil
	case "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le":
	default:
		return nil, fail("%q is no operator", op)
	}
	t := p.next()
	switch t.kind {
	case tokenText:
		return &Compare{attr, op, jsondoc.Doc(t.text)}, nil
	case tokenWord:
		// Python's words are in use by clients too
		v := strings.ToLower(t.text)
		if d := jsondoc.Doc(v); v == "true" || v == "false" || v == "null" || d.Kind() == '0' && jsondoc.Valid(d) == nil {
			return &Compare{attr, op, d}, nil
		}
	}
	return nil, fail("%q is no value", t.text)
}

// Matches says whether an object without objects in it, such as one value of emails, meets a filter.
func Matches(f Filter, d jsondoc.Doc) bool {
	switch f := f.(type) {
	case *Both:
		return Matches(f.Left, d) && Matches(f.Right, d)
	case *Either:
		return Matches(f.Left, d) || Matches(f.Right, d)
	case *Not:
		return !Matches(f.Filter, d)
	case *Compare:
		return f.Attr.Sub == "" && f.matches(Member(d, f.Attr.Name))
	}
	return false
}

// Member is the member of an object whose name is this in any case of letters; nil for none.
func Member(d jsondoc.Doc, name string) (found jsondoc.Doc) {
	d.Each(func(n string, v jsondoc.Doc) bool {
		if strings.EqualFold(n, name) {
			found = v
		}
		return found == nil
	})
	return found
}

func (f *Compare) matches(v jsondoc.Doc) bool {
	have, want := plain(v), plain(f.Value)
	switch f.Op {
	case "pr":
		return !v.IsNull() && have != ""
	case "eq":
		return have == want
	case "ne":
		return have != want
	case "co":
		return strings.Contains(have, want)
	case "sw":
		return strings.HasPrefix(have, want)
	case "ew":
		return strings.HasSuffix(have, want)
	case "gt":
		return have > want
	case "ge":
		return have >= want
	case "lt":
		return have < want
	case "le":
		return have <= want
	}
	return false
}

// plain is a value as a text in lower case, "" for null.
func plain(v jsondoc.Doc) string {
	if v.IsNull() {
		return ""
	}
	text, ok := v.AsText()
	if !ok {
		text = v.String()
	}
	return strings.ToLower(text)
}
