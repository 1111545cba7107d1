package config

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Type is the JSON type of a setting's value. Every setting may also be null: the reference's forms send it for a field
// that was emptied.
type Type uint8

// The types of settings.
const (
	TypeBool    Type = iota // true or false
	TypeInt                 // a number without a fraction
	TypeFloat               // a number
	TypeString              // a string
	TypeStrings             // an array of strings
	TypeNumber              // a number, or the text of one; "" and null mean that it is unset
	TypeArray               // an array of anything
	TypeObject              // an object
	TypeJSON                // anything
)

var typeNames = [...]string{"true or false", "a whole number", "a number", "a string", "a list of strings", "a number", "a list", "an object", "any JSON"}

// String says what a value of the type looks like, for error messages.
func (t Type) String() string { return typeNames[t] }

// Definition is what is known of a setting beforehand.
type Definition struct {
	Key      string   // dotted name, the primary key of its row
	Env      []string // variables that give the initial value; the first that is set wins
	Default  string   // JSON of the initial value without them
	Type     Type
	Unseeded bool // no row is written for it until it is set

	parse string // how a variable's text is read, see parse.go
	min   int64  // least number a variable may give; 0 means any
	clamp [2]int64
}

// index finds a setting's place by its key.
var index = func() map[string]int {
	m := make(map[string]int, len(definitions))
	for i := range definitions {
		m[definitions[i].Key] = i
	}
	return m
}()

// Definitions are all settings in the reference's order. The slice is the caller's; Env is shared and not to be changed.
func Definitions() []Definition { return slices.Clone(definitions[:]) }

// Lookup finds the definition of a key.
func Lookup(key string) (Definition, bool) {
	i, ok := index[key]
	if !ok {
		return Definition{}, false
	}
	return definitions[i], true
}

// TypeError says that a value does not fit its setting.
type TypeError struct {
	Key  string
	Want Type
	Got  jsontext.Value
}

func (e *TypeError) Error() string {
	got := e.Got.String()
	if len(got) > 80 {
		got = got[:80] + "…"
	}
	return fmt.Sprintf("setting %s: want %s, got %s", e.Key, e.Want, got)
}

// UnknownError says that there is no setting of that key.
type UnknownError struct{ Key string }

func (e *UnknownError) Error() string { return fmt.Sprintf("there is no setting %q", e.Key) }

// The typed keys. Their Get reads a snapshot without a lock and without allocating; a value of another type than the
// setting's, which only an import or another program can have stored, reads as the initial value.
type (
	// Bool is the key of a setting that is true or false. As in Python, null, 0 and "" count as false.
	Bool uint16
	// Int is the key of a whole number.
	Int uint16
	// Float is the key of a number.
	Float uint16
	// String is the key of a text; null reads as "".
	String uint16
	// Strings is the key of a list of texts; null reads as nil.
	Strings uint16
	// Number is the key of a number that may be unset.
	Number uint16
	// JSON is the key of a list, an object or a value of more than one type.
	JSON uint16
)

// Get reads the setting.
func (k Bool) Get(s *Snapshot) bool { return s.slots[k].truth }

// Get reads the setting.
func (k Int) Get(s *Snapshot) int { return int(s.slots[k].num) }

// Get reads the setting.
func (k Float) Get(s *Snapshot) float64 { return s.slots[k].num }

// Get reads the setting.
func (k String) Get(s *Snapshot) string { return s.slots[k].str }

// Get reads the setting. The slice is shared: it is not to be changed.
func (k Strings) Get(s *Snapshot) []string { return s.slots[k].list }

// Get reads the setting; false says that it is unset.
func (k Number) Get(s *Snapshot) (float64, bool) { return s.slots[k].num, s.slots[k].set }

// Int reads the setting without its fraction; false says that it is unset.
func (k Number) Int(s *Snapshot) (int, bool) { return int(s.slots[k].num), s.slots[k].set }

// Raw is the setting as JSON. It is shared: it is not to be changed.
func (k JSON) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Decode reads the setting into v, a pointer.
func (k JSON) Decode(s *Snapshot, v any) error { return s.decode(int(k), v) }

// Raw is the setting as JSON.
func (k Bool) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Raw is the setting as JSON.
func (k Int) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Raw is the setting as JSON.
func (k Float) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Raw is the setting as JSON, which tells null from "".
func (k String) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Raw is the setting as JSON.
func (k Strings) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Raw is the setting as JSON, which tells the number from its text.
func (k Number) Raw(s *Snapshot) jsontext.Value { return s.slots[k].raw }

// Key is the setting's dotted name.
func (k Bool) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k Int) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k Float) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k String) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k Strings) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k Number) Key() string { return definitions[k].Key }

// Key is the setting's dotted name.
func (k JSON) Key() string { return definitions[k].Key }
