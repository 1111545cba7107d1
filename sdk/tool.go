package sdk

import (
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
	return Tool{Name: name, Description: description, Parameters: mustJSON(schemaOf(t, reflect.Value{})), Call: func(ctx context.Context, call *ToolCall) (any, error) {
		var in In
		if err := applyDefaults(reflect.ValueOf(&in).Elem()); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(call.Arguments, &in); err != nil {
			return nil, fmt.Errorf("arguments: %w", err)
		}
		return f(WithToolCall(ctx, call), in)
	}}
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
