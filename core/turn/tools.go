package turn

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// Tool is one function that a model may call.
type Tool struct {
	Set         string      // id of the set it belongs to, as clients name it in tool_ids
	Name        string      // unique in its set; letters, digits, "_" and "-", for that is what providers take
	Description string      // for the model; the name stands in for an empty one
	Parameters  jsondoc.Doc // JSON Schema of the arguments, an object; nil for none
	// AllArguments has Call see arguments that Parameters does not name. Others are dropped.
	AllArguments bool
	// Call runs the tool. Calls of one round run at the same time. It should return soon after ctx ends, and is not
	// waited for then. Its error is told to the model, a panic is too.
	Call func(ctx context.Context, call ToolCall) (ToolResult, error)
}

// ToolCall is one call of a tool, on behalf of a principal.
type ToolCall struct {
	ID        string      // of the call, unique in the answer; "" where a model was only asked for calls in words
	Name      string      // the tool's own name
	Arguments jsondoc.Doc // an object
	Principal *auth.Principal
	ModelID   string
	ChatID    string // "" for programs that name none
	MessageID string // the answer; "" like ChatID
	SessionID string // the Socket.IO session that asked, "" for programs
	// Emit sends an event to those who see the answer: "status", "files", "source", "notification", … What is to be
	// kept with the message is stored. It does nothing without a chat, and once the call has ended.
	Emit func(kind string, data jsondoc.Doc)
}

// ToolResult is what a tool gives back.
type ToolResult struct {
	// Content is any JSON value: a string is taken as it is, other values as their JSON text, and images among them
	// (data URIs) are shown to models that see.
	Content jsondoc.Doc
	Files   []jsondoc.Doc // {"type": "image", "url": …} and others, shown to the user; models see the images
	Embeds  []jsondoc.Doc // strings: HTML or addresses of pages, shown to the user
}

// TextResult is the result that is a text.
func TextResult(text string) ToolResult { return ToolResult{Content: jsondoc.Text(text)} }

// Toolbox gives the tools that chats may use.
type Toolbox interface {
	// Tools gives the tools of some sets, in the order of ids. Sets that are unknown or not granted to the principal are
	// left out. An error fails the turn: what can be used without the part that is broken should be given.
	Tools(ctx context.Context, p *auth.Principal, ids []string) ([]Tool, error)
}

// parseTools reads which tools the request wants. A request with tools of its own, be it none, gets no others.
func (e *Engine) parseTools(t *Turn) {
	ids := t.form.Pop("tool_ids").Texts()
	if e.Toolbox == nil || !t.form.Get("tools").IsNull() {
		return
	}
	for _, id := range ids {
		on := e.Env.Tools
		if strings.HasPrefix(id, "server:") {
			on = e.Env.ToolServers
		}
		if on && !slices.Contains(t.toolIDs, id) {
			t.toolIDs = append(t.toolIDs, id)
		}
	}
}

// findTools finds the tools that the request names.
func (e *Engine) findTools(ctx context.Context, t *Turn) error {
	if len(t.toolIDs) == 0 {
		return nil
	}
	found, err := e.Toolbox.Tools(ctx, t.p, t.toolIDs)
	t.tools = newToolset(found)
	return err
}

// offerTools gives the tools to the provider, for the model to call. For models that are set to the legacy way, a model is
// asked in words which to call, and the results go into the question.
func (e *Engine) offerTools(ctx context.Context, t *Turn) error {
	if len(t.tools) == 0 {
		return nil
	}
	if t.params.Text("function_calling") == "legacy" {
		return e.promptTools(ctx, t)
	}
	specs := make([]jsondoc.Doc, len(t.tools))
	for i, tool := range t.tools {
		specs[i] = jsondoc.Object("type", jsondoc.Doc(`"function"`)).Set(tool.spec(), "function")
	}
	t.form.Set("tools", jsondoc.Array(specs...))
	return nil
}

// namedTool is a tool with the name by which the model knows it.
type namedTool struct {
	Tool
	as string
}

// toolset are the tools of a turn.
type toolset []namedTool

// newToolset names tools: those whose name is taken get that of their set before it.
func newToolset(tools []Tool) toolset {
	out := make(toolset, 0, len(tools))
	for _, tool := range tools {
		name := tool.Name
		for out.find(name) != nil {
			name = notInNames.ReplaceAllString(tool.Set, "_") + "_" + name
		}
		out = append(out, namedTool{tool, name})
	}
	return out
}

// notInNames matches what providers take in no name of a function.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// find gives the tool that the model knows by a name, nil for none.
func (s toolset) find(name string) *namedTool {
	for i := range s {
		if s[i].as == name {
			return &s[i]
		}
	}
	return nil
}

// spec describes the tool to a model.
func (n *namedTool) spec() jsondoc.Doc {
	description := n.Description
	if strings.TrimSpace(description) == "" {
		description = n.as
	}
	var b jsondoc.Builder
	b.Raw("name", jsondoc.Text(n.as))
	b.Raw("description", jsondoc.Text(description))
	b.Raw("parameters", n.Parameters.Or(jsondoc.Doc(`{"type":"object","properties":{}}`)))
	return b.Done()
}

// known are the arguments that the tool takes.
func (n *namedTool) known(arguments jsondoc.Doc) jsondoc.Doc {
	if n.AllArguments {
		return arguments
	}
	allowed := n.Parameters.Get("properties")
	o := jsondoc.Open(arguments)
	arguments.Each(func(name string, _ jsondoc.Doc) bool {
		if allowed.Get(name) == nil {
			o.Pop(name)
		}
		return true
	})
	return o.Doc()
}
