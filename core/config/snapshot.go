package config

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// lenient accepts what Python's json accepts and RFC 8259 leaves open.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// slot is one setting's value, decoded when it is stored so that reading it is a load.
type slot struct {
	raw   jsontext.Value
	str   string
	list  []string
	num   float64
	truth bool // the value as a condition
	set   bool // TypeNumber: there is a number
	row   bool // the database has (or, without persistence, someone set) a value
}

// Snapshot is all settings at one moment. It never changes, and may be kept and shared.
type Snapshot struct {
	slots [len(definitions)]slot
	extra map[string]jsontext.Value // rows of keys that are no settings: an import stores any
}

// Bool is a setting by its dotted key, as [Bool.Get] gives it; false where there is no such setting.
func (s *Snapshot) Bool(key string) bool { return s.at(key).truth }

// Int is a setting by its dotted key; 0 where there is no such setting.
func (s *Snapshot) Int(key string) int { return int(s.at(key).num) }

// Float is a setting by its dotted key; 0 where there is no such setting.
func (s *Snapshot) Float(key string) float64 { return s.at(key).num }

// String is a setting by its dotted key; "" where there is no such setting.
func (s *Snapshot) String(key string) string { return s.at(key).str }

// Strings is a setting by its dotted key; nil where there is no such setting. The slice is shared.
func (s *Snapshot) Strings(key string) []string { return s.at(key).list }

// Raw is the JSON of a setting or of any other row of the table config; nil where there is neither. It is shared.
func (s *Snapshot) Raw(key string) jsontext.Value {
	if i, ok := index[key]; ok {
		return s.slots[i].raw
	}
	return s.extra[key]
}

// Decode reads a setting into v, a pointer; a key that is absent is an [*UnknownError].
func (s *Snapshot) Decode(key string, v any) error {
	if i, ok := index[key]; ok {
		return s.decode(i, v)
	}
	raw, ok := s.extra[key]
	if !ok {
		return &UnknownError{Key: key}
	}
	return json.Unmarshal(raw, v, lenient)
}

func (s *Snapshot) decode(i int, v any) error {
	err := json.Unmarshal(s.slots[i].raw, v, lenient)
	if err != nil {
		return &TypeError{Key: definitions[i].Key, Want: definitions[i].Type, Got: s.slots[i].raw}
	}
	return nil
}

var noSlot slot

func (s *Snapshot) at(key string) *slot {
	if i, ok := index[key]; ok {
		return &s.slots[i]
	}
	return &noSlot
}

// Export writes all settings as one flat object of dotted keys, as GET /api/v1/configs/export answers.
func (s *Snapshot) Export() jsontext.Value { return s.export("") }

// Namespace writes the settings whose key begins with name and a dot, as GET /api/v1/configs/namespace/{name} answers.
func (s *Snapshot) Namespace(name string) jsontext.Value { return s.export(name + ".") }

func (s *Snapshot) export(prefix string) jsontext.Value {
	out := []byte{'{'}
	add := func(key string, raw jsontext.Value) {
		if !strings.HasPrefix(key, prefix) {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = appendQuote(out, key)
		out = append(out, ':')
		out = append(out, raw...)
	}
	for i := range definitions {
		if !definitions[i].Unseeded || s.slots[i].row {
			add(definitions[i].Key, s.slots[i].raw)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.extra)) {
		add(key, s.extra[key])
	}
	return append(out, '}')
}

// with is the snapshot with some values exchanged and some rows gone.
func (s *Snapshot) with(values map[string]jsontext.Value, gone []string, initial *Snapshot) *Snapshot {
	next := *s
	next.extra = maps.Clone(s.extra)
	for key, raw := range values {
		if i, ok := index[key]; ok {
			next.slots[i] = decodeSlot(i, raw, initial)
			next.slots[i].row = true
			continue
		}
		if next.extra == nil {
			next.extra = map[string]jsontext.Value{}
		}
		next.extra[key] = raw
	}
	for _, key := range gone {
		if i, ok := index[key]; ok {
			next.slots[i] = initial.slots[i]
		} else {
			delete(next.extra, key)
		}
	}
	return &next
}

// decodeSlot reads a stored value; what does not fit its setting reads as the initial value, but keeps its JSON.
func decodeSlot(i int, raw jsontext.Value, initial *Snapshot) slot {
	sl := slot{raw: raw, truth: truth(raw)}
	switch d := &definitions[i]; {
	case fits(d.Type, raw):
		sl.fill(d.Type)
	case initial != nil:
		sl = initial.slots[i]
		sl.raw = raw
		if d.Type == TypeBool {
			sl.truth = truth(raw)
		}
	}
	if raw.Kind() == 'n' && initial != nil && (definitions[i].Type == TypeInt || definitions[i].Type == TypeFloat) {
		sl.num = initial.slots[i].num
	}
	return sl
}

func (sl *slot) fill(t Type) {
	switch t {
	case TypeInt, TypeFloat, TypeNumber:
		sl.num, sl.set = number(sl.raw)
	case TypeStrings:
		// A failure leaves nil: fits has looked at every element before.
		_ = json.Unmarshal(sl.raw, &sl.list, lenient)
	}
	if sl.raw.Kind() == '"' {
		sl.str = unquote(sl.raw)
	}
}

// fits says whether a value has a setting's type.
func fits(t Type, raw jsontext.Value) bool {
	kind := raw.Kind()
	if kind == 'n' {
		return true
	}
	switch t {
	case TypeBool:
		return kind == 't' || kind == 'f'
	case TypeInt:
		n, ok := number(raw)
		return kind == '0' && ok && n == math.Trunc(n)
	case TypeFloat:
		return kind == '0'
	case TypeString:
		return kind == '"'
	case TypeNumber:
		return kind == '0' || kind == '"'
	case TypeStrings:
		var list []string
		return kind == '[' && json.Unmarshal(raw, &list, lenient) == nil && !hasNull(raw)
	case TypeArray:
		return kind == '['
	case TypeObject:
		return kind == '{'
	}
	return kind != 0
}

// hasNull says whether an array holds null, which decodes into a string as "" without an error.
func hasNull(raw jsontext.Value) bool {
	var list []jsontext.Value
	return json.Unmarshal(raw, &list, lenient) != nil ||
		slices.ContainsFunc(list, func(v jsontext.Value) bool { return v.Kind() == 'n' })
}

// truth is bool(value) in Python: empty things are false.
func truth(raw jsontext.Value) bool {
	switch raw.Kind() {
	case 't':
		return true
	case '"', '[', '{':
		return len(raw) > 2
	case '0':
		n, ok := number(raw)
		return !ok || n != 0
	}
	return false
}

// number reads a number or the text of one.
func number(raw jsontext.Value) (float64, bool) {
	text := string(raw)
	if raw.Kind() == '"' {
		text = strings.TrimSpace(unquote(raw))
	} else if raw.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

func unquote(raw jsontext.Value) string {
	// An error leaves the text with U+FFFD for what is not Unicode, as the reference's driver would.
	out, _ := jsontext.AppendUnquote(nil, raw)
	return string(out)
}

func appendQuote(dst []byte, s string) []byte {
	// An error says that invalid UTF-8 was replaced by U+FFFD.
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
