package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Configurable is what [Plugin.Config] takes: a [*Config].
type Configurable interface {
	schema() json.RawMessage
	apply(raw []byte) (effective json.RawMessage, wrong []*pb.Violation)
}

// Config holds the configuration of a plugin, a struct. Operators set it in plugin.json and administrators on the
// Pipelines page of the settings, whose form is made of the fields and their tags: json, title, description, enum
// (comma-separated), minimum, maximum, format. In lists the last four are about the items. Fields that JSON does not carry
// are zero.
type Config[T any] struct {
	defaults json.RawMessage
	form     json.RawMessage
	current  atomic.Pointer[T]
	applying sync.Mutex // so that changes are told in order
	changed  []func(*T)
}

// NewConfig makes a configuration with its defaults. Where T or *T has a method Validate() error, that says what else is
// wrong with a value.
func NewConfig[T any](defaults T) *Config[T] {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("sdk: a configuration is a struct, not %s", t))
	}
	raw, err := marshal(defaults)
	if err != nil {
		panic("sdk: the defaults of the configuration: " + err.Error())
	}
	c := &Config[T]{defaults: raw, form: schemaOf(t, reflect.ValueOf(defaults)).append(nil)}
	first := new(T)
	if err := json.Unmarshal(raw, first); err != nil {
		panic("sdk: the defaults of the configuration: " + err.Error())
	}
	c.current.Store(first)
	return c
}

// Get is the configuration now. Do not change what it points to.
func (c *Config[T]) Get() *T { return c.current.Load() }

// OnChange has f called with each new configuration, the first one included. Call it before the plugin is served.
func (c *Config[T]) OnChange(f func(*T)) { c.changed = append(c.changed, f) }

func (c *Config[T]) schema() json.RawMessage { return c.form }

func (c *Config[T]) apply(raw []byte) (json.RawMessage, []*pb.Violation) {
	c.applying.Lock()
	defer c.applying.Unlock()
	next := new(T)
	if err := json.Unmarshal(c.defaults, next); err != nil {
		return nil, []*pb.Violation{violation(err)}
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(given(reflect.ValueOf(next).Elem(), raw, ""), next); err != nil {
			return nil, []*pb.Violation{violation(err)}
		}
	}
	var wrong []*pb.Violation
	for _, w := range bounds(reflect.ValueOf(next).Elem(), "") {
		wrong = append(wrong, &pb.Violation{Path: w.path, Message: w.message})
	}
	if v, ok := any(next).(interface{ Validate() error }); ok && len(wrong) == 0 {
		if err := v.Validate(); err != nil {
			wrong = append(wrong, violation(err))
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	effective, err := marshal(next)
	if err != nil {
		return nil, []*pb.Violation{violation(err)}
	}
	c.current.Store(next)
	for _, f := range c.changed {
		f(next)
	}
	return effective, nil
}

// given prepares v for a configuration and gives it without the members that are null, which have their defaults: lists
// and maps that it gives are emptied, since they replace those of the defaults. Members that there are not are logged: most
// are misspelt.
func given(v reflect.Value, raw []byte, prefix string) []byte {
	o, err := parseObject(raw)
	if err != nil {
		return raw // decoding says what is wrong
	}
	fields := map[string]field{}
	for f := range fieldsOf(v.Type()) {
		fields[strings.ToLower(f.name)] = f
	}
	var out object
	for _, m := range o {
		if string(m.value) == "null" {
			continue
		}
		f, ok := fields[strings.ToLower(m.name)]
		if !ok {
			slog.Warn("the configuration has a member that is not known", "name", prefix+m.name)
			out = append(out, m)
			continue
		}
		switch fv := v.FieldByIndex(f.Index); fv.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
			fv.SetZero()
		case reflect.Struct:
			m.value = given(fv, m.value, prefix+f.name+".")
		}
		out = append(out, m)
	}
	return out.append(nil)
}

// FieldError is an error of Validate that names the field, as JSON does.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap gives the error behind it.
func (e *FieldError) Unwrap() error { return e.Err }

func violation(err error) *pb.Violation {
	var f *FieldError
	var t *json.UnmarshalTypeError
	switch {
	case errors.As(err, &f):
		return &pb.Violation{Path: utf8Text(f.Field), Message: utf8Text(f.Err.Error())}
	case errors.As(err, &t):
		return &pb.Violation{Path: utf8Text(t.Field), Message: fmt.Sprintf("must be %s, not %s", typeName(t.Type), t.Value)}
	}
	return &pb.Violation{Message: utf8Text(err.Error())}
}

// typeName is the name of a type for people who write JSON.
func typeName(t reflect.Type) string {
	var name string
	if raw, ok := typeSchema(t, nil).get("type"); !ok || json.Unmarshal(raw, &name) != nil {
		return t.String()
	}
	return map[string]string{"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "array": "a list", "object": "an object"}[name]
}
