package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
)

// Tool is a function that models may call. [NewTool] makes one of a Go function.
type Tool struct {
	Name        string          // letters, digits, - and _
	Description string          // tells the model when and how to use it
	Parameters  json.RawMessage // JSON schema of an object; nil for no parameters
	// Call runs the tool. The result is what the model is told: a string as it is, anything else as JSON. An error is
	// told to the model too.
	Call func(ctx context.Context, call *ToolCall) (any, error)
}

// ToolCall is a call of a tool.
type ToolCall struct {
	Arguments json.RawMessage // an object
	emit      func(kind string, data any) error
}

// Emit shows something beside the message while the tool runs: [ToolCall.Status] does for the common case.
func (c *ToolCall) Emit(kind string, data any) error {
	if c.emit == nil {
		return nil
	}
	return c.emit(kind, data)
}

// Status shows a line above the answer. done ends its animation.
func (c *ToolCall) Status(text string, done bool) error {
	return c.Emit("status", map[string]any{"description": text, "done": done})
}

// NewTool makes a tool of a function whose argument is a struct. The names, types, descriptions and bounds of the
// parameters come from the struct's fields and their tags: json, description, default, enum (comma-separated), minimum,
// maximum. Fields are required unless they are pointers or have a default or omitempty.
func NewTool[In any](name, description string, f func(ctx context.Context, in In) (any, error)) Tool {
	t := reflect.TypeFor[In]()
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("sdk: the argument of tool %s is %s, not a struct", name, t))
	}
	if err := applyDefaults(reflect.New(t).Elem()); err != nil {
		panic(fmt.Sprintf("%v (tool %s)", err, name))
	}
	schema := schemaOf(t, reflect.Value{})
	var required []string
	if raw, ok := schema.get("required"); ok {
		_ = json.Unmarshal(raw, &required) // written just now
	}
	return Tool{Name: name, Description: description, Parameters: schema.append(nil), Call: func(ctx context.Context, call *ToolCall) (any, error) {
		in, err := arguments[In](call.Arguments, required)
		if err != nil {
			return nil, err
		}
		return f(WithToolCall(ctx, call), in)
	}}
}

// arguments reads a call's arguments. The errors are for the model, which may try again.
func arguments[In any](raw json.RawMessage, required []string) (in In, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = []byte("{}")
	}
	v := reflect.ValueOf(&in).Elem()
	if err := applyDefaults(v); err != nil {
		return in, err
	}
	given, err := parseObject(raw)
	if err != nil {
		return in, fmt.Errorf("the arguments are %w", err)
	}
	for _, name := range required {
		if _, ok := given.get(name); !ok {
			return in, fmt.Errorf("the argument %s is missing", name)
		}
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		w := violation(err)
		return in, fmt.Errorf("the argument %s %s", w.GetPath(), w.GetMessage())
	}
	for _, w := range bounds(v, "") {
		return in, fmt.Errorf("the argument %s %s", w.path, w.message)
	}
	return in, nil
}

type toolCallKey struct{}

// WithToolCall is a context in which [ToolCallFrom] finds the call.
func WithToolCall(ctx context.Context, c *ToolCall) context.Context {
	return context.WithValue(ctx, toolCallKey{}, c)
}

// ToolCallFrom gives the call that a tool of [NewTool] runs for, to show its status.
func ToolCallFrom(ctx context.Context) *ToolCall {
	c, _ := ctx.Value(toolCallKey{}).(*ToolCall)
	if c == nil {
		return &ToolCall{}
	}
	return c
}
