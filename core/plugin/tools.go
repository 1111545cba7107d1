package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Toolset is the tools of one plugin.
type Toolset struct {
	ID          string // "plugin:" and the plugin's id, as chats name it
	Name        string
	Description string
	Tools       []Tool
}

// Tool is a function that models may call.
type Tool struct {
	Name, Description string
	Parameters        jsondoc.Doc // JSON schema of an object
	Call              func(ctx context.Context, c ToolCall) (ToolResult, error)
}

// ToolCall is one call of a tool.
type ToolCall struct {
	Arguments                    jsondoc.Doc
	Principal                    *auth.Principal
	ModelID                      string
	ChatID, MessageID, SessionID string
	Emit                         func(kind string, data jsondoc.Doc)
}

// ToolResult is what a tool answers: any JSON value; a text is a JSON string.
type ToolResult struct {
	Content jsondoc.Doc
	Failed  bool // Content says why
}

// tool is a tool as its plugin describes it.
type tool struct {
	name, description string
	parameters        jsondoc.Doc
}

// toolEntry is the tools of a ready plugin.
type toolEntry struct {
	u                     *unit
	id, name, description string
	tools                 []tool
}

func toolsOf(inst *instance) []tool {
	var out []tool
	for _, t := range inst.what.GetTools() {
		schema, bad := jsondoc.Check(t.GetParameters())
		if bad != nil || schema.Kind() != '{' {
			schema = jsondoc.Doc(`{"type":"object","properties":{}}`)
		}
		out = append(out, tool{t.GetName(), t.GetDescription(), schema})
	}
	return out
}

// checkTools says what is wrong with the names by which models are to call tools.
func checkTools(tools []*pb.ToolSpec) error {
	seen := map[string]bool{}
	for _, t := range tools {
		name := t.GetName()
		if !toolName.MatchString(name) {
			return fmt.Errorf("the name of its tool %q is not of letters, digits, - and _, at most 64", name)
		}
		if seen[name] {
			return fmt.Errorf("it has two tools called %q", name)
		}
		seen[name] = true
	}
	return nil
}

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// ToolsetID is how chats name the tools of a plugin.
func ToolsetID(plugin string) string { return "plugin:" + plugin }

// Toolsets lists the tools of all ready plugins, by id.
func (m *Manager) Toolsets() []Toolset {
	var out []Toolset
	for _, e := range m.offered().tools {
		s := Toolset{ID: ToolsetID(e.id), Name: e.name, Description: e.description}
		for _, t := range e.tools {
			s.Tools = append(s.Tools, Tool{Name: t.name, Description: t.description, Parameters: t.parameters, Call: e.caller(t.name)})
		}
		out = append(out, s)
	}
	return out
}

// caller makes the function that calls a tool.
func (e *toolEntry) caller(name string) func(context.Context, ToolCall) (ToolResult, error) {
	return func(ctx context.Context, c ToolCall) (result ToolResult, err error) {
		inst, err := e.u.call()
		if err != nil {
			return ToolResult{}, fmt.Errorf("the plugin %s is not running", e.id)
		}
		defer inst.release()
		if inst.tools == nil {
			return ToolResult{}, fmt.Errorf("the plugin %s has no tools any more", e.id)
		}
		done := inst.series.call("tool")
		defer func() { done(err) }()
		meta, err := e.u.m.meta(ctx, c.Principal)
		if err != nil {
			return ToolResult{}, err
		}
		meta.ChatId, meta.MessageId, meta.SessionId, meta.Model, meta.Kind = c.ChatID, c.MessageID, c.SessionID, c.ModelID, "chat"
		asked := ctx
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := inst.tools.Call(ctx, &pb.CallRequest{Meta: meta, Name: name, Arguments: c.Arguments})
		if err != nil {
			return ToolResult{}, plain(err)
		}
		for {
			part, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return ToolResult{}, errors.New("the tool gave no result")
			case err != nil && asked.Err() != nil:
				return ToolResult{}, context.Cause(asked)
			case err != nil:
				return ToolResult{}, plain(err)
			}
			if ev := part.GetEvent(); ev != nil && c.Emit != nil {
				if data, bad := jsondoc.Check(ev.GetData()); bad == nil {
					c.Emit(ev.GetType(), data)
				}
			}
			if r := part.GetResult(); r != nil {
				return toolResult(r), nil
			}
		}
	}
}

func toolResult(r *pb.CallResult) ToolResult {
	out := ToolResult{Content: jsondoc.Text(r.GetText()), Failed: r.GetError()}
	if len(r.GetJson()) > 0 {
		if doc, bad := jsondoc.Check(r.GetJson()); bad == nil {
			out.Content = doc
		}
	}
	return out
}
