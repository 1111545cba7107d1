package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
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
// (comma-separated), minimum, maximum, format.
type Config[T any] struct {
	defaults T
	current  atomic.Pointer[T]
	changed  func(*T)
}

// NewConfig makes a configuration with its defaults. Where T or *T has a method Validate() error, that says what else is
// wrong with a value.
func NewConfig[T any](defaults T) *Config[T] {
	if t := reflect.TypeFor[T](); t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("sdk: a configuration is a struct, not %s", t))
	}
	c := &Config[T]{defaults: defaults}
	c.current.Store(&defaults)
	return c
}

// Get is the configuration now. Do not change what it points to.
func (c *Config[T]) Get() *T { return c.current.Load() }

// OnChange has f called with each new configuration, the first one included. Call it before the plugin is served.
func (c *Config[T]) OnChange(f func(*T)) { c.changed = f }

func (c *Config[T]) schema() json.RawMessage {
	return mustJSON(schemaOf(reflect.TypeFor[T](), reflect.ValueOf(c.defaults)))
}

func (c *Config[T]) apply(raw []byte) (json.RawMessage, []*pb.Violation) {
	next := new(T)
	// a deep copy, so that slices and maps of the defaults stay as they are
	if err := json.Unmarshal(mustJSON(c.defaults), next); err != nil {
		return nil, []*pb.Violation{{Message: err.Error()}}
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(raw, next); err != nil {
			return nil, []*pb.Violation{violation(err)}
		}
	}
	wrong := bounds(reflect.ValueOf(next).Elem(), "")
	if v, ok := any(next).(interface{ Validate() error }); ok && len(wrong) == 0 {
		if err := v.Validate(); err != nil {
			wrong = append(wrong, violation(err))
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	c.current.Store(next)
	if c.changed != nil {
		c.changed(next)
	}
	return mustJSON(next), nil
}

// FieldError is an error of Validate that names the field.
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
		return &pb.Violation{Path: f.Field, Message: f.Err.Error()}
	case errors.As(err, &t):
		return &pb.Violation{Path: t.Field, Message: fmt.Sprintf("a %s does not fit %s", t.Value, t.Type)}
	}
	return &pb.Violation{Message: err.Error()}
}

// bounds checks enum, minimum and maximum.
func bounds(v reflect.Value, prefix string) (wrong []*pb.Violation) {
	for f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		path := prefix + f.name
		if fv.Kind() == reflect.Pointer {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
		}
		if fv.Kind() == reflect.Struct {
			wrong = append(wrong, bounds(fv, path+".")...)
			continue
		}
		if enum := f.Tag.Get("enum"); enum != "" && !slices.Contains(strings.Split(enum, ","), fmt.Sprint(fv.Interface())) {
			wrong = append(wrong, &pb.Violation{Path: path, Message: "must be one of " + strings.ReplaceAll(enum, ",", ", ")})
		}
		n, isNumber := number(fv)
		if !isNumber {
			continue
		}
		if low, err := strconv.ParseFloat(f.Tag.Get("minimum"), 64); err == nil && n < low {
			wrong = append(wrong, &pb.Violation{Path: path, Message: "must be at least " + f.Tag.Get("minimum")})
		}
		if high, err := strconv.ParseFloat(f.Tag.Get("maximum"), 64); err == nil && n > high {
			wrong = append(wrong, &pb.Violation{Path: path, Message: "must be at most " + f.Tag.Get("maximum")})
		}
	}
	return wrong
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}
