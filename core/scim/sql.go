package scim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Kind is how the values of an attribute compare.
type Kind uint8

// The kinds of attributes.
const (
	_     Kind = iota
	Text       // in any case of letters
	Exact      // texts in their case
	Bool
	Time // Unix seconds
	None // nobody has it, and asking for it is no fault
)

// Column says where an attribute, or a part of one, is kept.
type Column struct {
	SQL  string // an expression; "?" stands for each of Args
	Args []any
	Kind Kind
}

// Table says what attributes resources have, by name in lower case.
type Table map[string]Attribute

// Attribute is what a resource may have.
type Attribute struct {
	// Parts are the attribute's own values under "", and those of its parts by name. Default is the part that is meant
	// where none is said.
	Parts   map[string]Column
	Default string
	// Each is a condition that some value of the attribute meets "%s", for those that can have many; "" for one value.
	Each string
}

// One is an attribute without parts.
func One(c Column) Attribute { return Attribute{Parts: map[string]Column{"": c}} }

// column finds a part of an attribute.
func (a Attribute) column(sub string) (Column, bool) {
	if c := a.Parts[""]; c.Kind == None {
		return c, true
	}
	if sub == "" {
		sub = a.Default
	}
	c, ok := a.Parts[sub]
	return c, ok
}

// each makes of a condition of one value that of the attribute.
func (a Attribute) each(condition string) string {
	if a.Each == "" {
		return condition
	}
	return strings.Replace(a.Each, "%s", condition, 1)
}

// SQL makes a condition of a filter, with its arguments after those that there are. The error is ErrSyntax.
func (t Table) SQL(d store.Dialect, f Filter, args []any) (string, []any, error) {
	b := builder{d: d, table: t, args: args}
	text, err := b.filter(f)
	return text, b.args, err
}

// Order gives the expression to sort by an attribute. The error is ErrSyntax.
func (t Table) Order(d store.Dialect, attr string, args []any) (string, []any, error) {
	a := attrOf(attr)
	at, known := t[a.Name]
	c, found := at.column(a.Sub)
	if !known || !found || at.Each != "" || c.Kind == None {
		return "", nil, fail("nothing to sort by: %s", a)
	}
	b := builder{d: d, args: args}
	text := b.column(c)
	switch c.Kind {
	case Text:
		text = d.ByCodePoint("lower(" + text + ")")
	case Exact:
		text = d.ByCodePoint(text)
	}
	return text, b.args, nil
}

// Query says which resources a list has, and in which order.
type Query struct {
	Filter     Filter // nil for all
	SortBy     string // an attribute; "" for the resources' own order
	Descending bool
	Skip       int
	Limit      int // 0 only counts
}

// Statement is SQL in parts: what follows FROM to count resources, and what follows that to list them.
type Statement struct {
	Where     string // "" or WHERE …
	Args      []any  // of Where
	Tail      string // ORDER BY … LIMIT …
	WholeArgs []any  // of Where and Tail
}

// Statement makes the statement of a query. base is a condition that all resources meet, own the order they have by
// themselves, last what orders those that are equal. The error is ErrSyntax.
func (t Table) Statement(d store.Dialect, q Query, base, own, last string) (s Statement, err error) {
	s.Where = " WHERE " + base
	if q.Filter != nil {
		var text string
		if text, s.Args, err = t.SQL(d, q.Filter, nil); err != nil {
			return s, err
		}
		s.Where += " AND " + text
	}
	s.WholeArgs = slices.Clone(s.Args)
	if q.SortBy != "" {
		if own, s.WholeArgs, err = t.Order(d, q.SortBy, s.WholeArgs); err != nil {
			return s, err
		}
		if q.Descending {
			own += " DESC"
		}
	}
	s.WholeArgs = append(s.WholeArgs, q.Limit, q.Skip)
	s.Tail = fmt.Sprintf(" ORDER BY %s, %s LIMIT $%d OFFSET $%d", own, last, len(s.WholeArgs)-1, len(s.WholeArgs))
	return s, nil
}

type builder struct {
	d     store.Dialect
	table Table
	in    *Attribute // whose parts the names are; nil for the attributes of a resource
	args  []any
}

func (b *builder) arg(v any) string {
	b.args = append(b.args, v)
	return fmt.Sprintf("$%d", len(b.args))
}

func (b *builder) column(c Column) string {
	text := c.SQL
	for _, a := range c.Args {
		text = strings.Replace(text, "?", b.arg(a), 1)
	}
	return "(" + text + ")"
}

// find gives the column of an attribute, and how a condition of it is put.
func (b *builder) find(a Attr) (Column, func(string) string, error) {
	if b.in != nil {
		if c, ok := b.in.Parts[a.Name]; ok && a.Sub == "" {
			return c, func(s string) string { return s }, nil
		}
		return Column{}, nil, fail("there is no part %s", a)
	}
	at, known := b.table[a.Name]
	c, ok := at.column(a.Sub)
	if !known || !ok {
		return Column{}, nil, fail("there is no attribute %s", a)
	}
	return c, at.each, nil
}

// filter makes a condition of a filter. What cannot be said, since a value is missing, may come out as NULL: that is as
// false, but for what is negated.
func (b *builder) filter(f Filter) (string, error) {
	switch f := f.(type) {
	case *Both:
		return b.two(f.Left, f.Right, " AND ")
	case *Either:
		return b.two(f.Left, f.Right, " OR ")
	case *Not:
		text, err := b.filter(f.Filter)
		return "NOT COALESCE(" + text + ", FALSE)", err
	case *Compare:
		c, each, err := b.find(f.Attr)
		if err != nil {
			return "", err
		}
		text, err := b.compare(c, f)
		return each(text), err
	case *Within:
		return b.within(f)
	}
	return "", fail("no filter")
}

func (b *builder) two(left, right Filter, op string) (string, error) {
	l, err := b.filter(left)
	if err != nil {
		return "", err
	}
	r, err := b.filter(right)
	return "(" + l + op + r + ")", err
}

// within makes the condition that one value of an attribute meets a filter as a whole.
func (b *builder) within(f *Within) (string, error) {
	at, ok := b.table[f.Attr.Name]
	switch {
	case b.in != nil || f.Attr.Sub != "":
		return "", fail("a part has no parts")
	case !ok:
		return "", fail("there is no attribute %s", f.Attr)
	case at.Parts[""].Kind == None:
		return "1 = 0", nil
	}
	b.in = &at
	text, err := b.filter(f.Filter)
	b.in = nil
	return at.each(text), err
}

func (b *builder) compare(c Column, f *Compare) (string, error) {
	op := f.Op
	if f.Value.IsNull() && op != "pr" {
		switch op {
		case "eq":
			text, err := b.compare(c, &Compare{Attr: f.Attr, Op: "pr"})
			return "NOT " + text, err
		case "ne":
			op = "pr"
		default:
			return "", fail("null has no order")
		}
	}
	if c.Kind == None {
		return map[bool]string{true: "(1 = 1)", false: "(1 = 0)"}[op == "ne"], nil
	}
	if op == "ne" {
		text, err := b.compare(c, &Compare{f.Attr, "eq", f.Value})
		return "NOT COALESCE(" + text + ", FALSE)", err
	}
	col := b.column(c)
	isText := c.Kind == Text || c.Kind == Exact
	switch {
	case op == "pr" && isText:
		return "(COALESCE(" + col + ", '') <> '')", nil
	case op == "pr":
		return "(" + col + " IS NOT NULL)", nil
	case c.Kind == Bool:
		return b.boolean(col, op, f.Value)
	case c.Kind == Time:
		return b.time(col, op, f.Value)
	}
	text, ok := f.Value.AsText()
	if !ok {
		return "", fail("%s is no text", f.Value)
	}
	return b.text(col, op, text, c.Kind == Exact), nil
}

func (b *builder) boolean(col, op string, v jsondoc.Doc) (string, error) {
	text := v.String()
	if t, ok := v.AsText(); ok {
		text = t
	}
	switch {
	case op != "eq":
		return "", fail("truth has no order")
	case strings.EqualFold(text, "true"):
		return col, nil
	case strings.EqualFold(text, "false"):
		return "NOT " + col, nil
	}
	return "", fail("%s is neither true nor false", v)
}

var orders = map[string]string{"eq": " = ", "gt": " > ", "ge": " >= ", "lt": " < ", "le": " <= "}

func (b *builder) time(col, op string, v jsondoc.Doc) (string, error) {
	text, _ := v.AsText()
	at, err := parseTime(text)
	if err != nil || orders[op] == "" {
		return "", fail("no comparison of times: %s %s", op, v)
	}
	return "(" + col + orders[op] + "CAST(" + b.arg(float64(at.UnixMilli())/1000) + " AS DOUBLE PRECISION))", nil
}

func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse("2006-01-02T15:04:05", text)
	}
	return at, err
}

func (b *builder) text(col, op, text string, exact bool) string {
	if strings.ContainsRune(text, 0) {
		return "(1 = 0)" // Postgres keeps no such texts, and takes none as arguments
	}
	p := "CAST(" + b.arg(text) + " AS TEXT)"
	if !exact {
		col, p = "lower("+col+")", "lower("+p+")"
	}
	switch op {
	case "eq":
		return "(" + col + " = " + p + ")"
	case "co":
		return "(" + b.d.Pick("instr", "strpos") + "(" + col + ", " + p + ") > 0)"
	case "sw":
		return "(substr(" + col + ", 1, length(" + p + ")) = " + p + ")"
	case "ew":
		return "(length(" + col + ") >= length(" + p + ") AND substr(" + col + ", length(" + col + ") - length(" + p + ") + 1) = " + p + ")"
	}
	return "(" + b.d.ByCodePoint(col) + orders[op] + b.d.ByCodePoint(p) + ")"
}
