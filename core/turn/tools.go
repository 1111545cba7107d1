package turn

import (
	"bytes"
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
)

// Tool is one function that a model may call.
type Tool struct {
	Set         string      // id of the set it belongs to, as clients name it in tool_ids
	Name        string      // unique in its set; letters, digits, "_" and "-", for that is what providers take
	Description string      // for the model; the name stands in for an empty one
	Parameters  jsondoc.Doc // JSON Schema of the arguments, an object; nil for none
	Function    jsondoc.Doc // the function as a server describes it, for models; nil has it made of the above
	// AllArguments has Call see arguments that Parameters does not name. Others are dropped.
	AllArguments bool
	// Builtin says that the tool is the server's own: it gives way to others of its name, and calls of such tools run one
	// after the other, in the order in which the model asks for them.
	Builtin bool
	// Spec is the tool as an entry of a request's tools, where that is made beforehand: what Name, Description and
	// Parameters say.
	Spec jsondoc.Doc
	// Call runs the tool. Calls of one round run at the same time, but for those of Builtin tools. It should return soon after ctx ends, and is not
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
	// About gives what the turn is about: "metadata", "model", "messages" or "files", as tools of the reference know them.
	About func(what string) jsondoc.Doc
	// Emit sends an event to those who see the answer: "status", "files", "source", "notification", … What is to be
	// kept with the message is stored. It does nothing without a chat, and once the call has ended.
	Emit func(kind string, data jsondoc.Doc)
	// Ask sends an event to the page of the session that asked and waits for its answer; an error says why there is none.
	Ask func(ctx context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error)
}

// ToolResult is what a tool gives back.
type ToolResult struct {
	// Content is any JSON value: a string is taken as it is, other values as their JSON text, and images among them
	// (data URIs) are shown to models that see.
	Content jsondoc.Doc
	Files   []jsondoc.Doc // {"type": "image", "url": …} and others, shown to the user; models see the images
	Embeds  []jsondoc.Doc // strings: HTML or addresses of pages, shown to the user
	// Images are strings, addresses and data URIs, for models only. With them, models see none of Files.
	Images []jsondoc.Doc
}

// TextResult is the result that is a text.
func TextResult(text string) ToolResult { return ToolResult{Content: jsondoc.Text(text)} }

// Toolbox gives the tools that chats may use.
type Toolbox interface {
	// Tools gives the tools of some sets, in the order of ids. Sets that are unknown or not granted to the principal are
	// left out. An error fails the turn: what can be used without the part that is broken should be given.
	Tools(ctx context.Context, s Scope, ids []string) ([]Tool, error)
}

// Scope is the turn that a Toolbox gives tools for.
type Scope struct {
	Principal *auth.Principal
	Caller    *llm.Caller // the same for other servers, with what the turn is about; nil for the server itself
	// Emit and Ask are those of ToolCall. Ask is nil where no page asked.
	Emit func(kind string, data jsondoc.Doc)
	Ask  func(ctx context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error)
	// Instruct adds to the system prompt: what models need to know of a set as a whole.
	Instruct func(text string)
	// AtEnd has f called once the turn is over, in a goroutine of its own.
	AtEnd func(f func())
}

// Toolboxes are several of them. Each is asked for all ids and gives the tools of the sets that it knows.
type Toolboxes []Toolbox

// Tools implements Toolbox.
func (b Toolboxes) Tools(ctx context.Context, s Scope, ids []string) ([]Tool, error) {
	var out []Tool
	for _, box := range b {
		tools, err := box.Tools(ctx, s, ids)
		if err != nil {
			return nil, err
		}
		out = append(out, tools...)
	}
	slices.SortStableFunc(out, func(a, b Tool) int { return slices.Index(ids, a.Set) - slices.Index(ids, b.Set) })
	return out, nil
}

// Builtins gives the server's own tools, for requests that come from a page and name no tools of their own.
type Builtins interface {
	// Tools gives those that are of use in a turn and that its person may use.
	Tools(ctx context.Context, o Offer) ([]Tool, error)
}

// Offer is the turn that tools are offered for.
type Offer struct {
	Principal *auth.Principal
	Model     *models.Model
	Features  jsondoc.Doc // what the request switches on, an object
	Saved     bool        // the chat is in the database
}

// Unless says whether a switch of an object is on that is on unless it says otherwise.
func Unless(switches jsondoc.Doc, name string) bool {
	v := switches.Get(name)
	return v == nil || v.Truthy()
}

// parseTools reads which tools the request wants. A request with tools of its own, be it none, gets no others.
func (e *Engine) parseTools(ctx context.Context, t *Turn) error {
	ids := t.form.Pop("tool_ids").Texts()
	servers := t.form.Pop("tool_servers")
	if t.ownTools = !t.form.Get("tools").IsNull(); t.ownTools {
		return nil
	}
	if err := e.parseDirect(ctx, t, servers); err != nil || e.Toolbox == nil {
		return err
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
	slices.SortStableFunc(t.toolIDs, func(a, b string) int { return cmp.Compare(lateSet(a), lateSet(b)) })
	return nil
}

// lateSet is 1 for sets that stand behind all others in what models are told: those of MCP servers.
func lateSet(id string) int {
	if strings.HasPrefix(id, "server:mcp:") {
		return 1
	}
	return 0
}

// scope is the turn as toolboxes see it.
func (e *Engine) scope(ctx context.Context, t *Turn) Scope {
	s := Scope{
		Principal: t.p, Emit: e.toolEvents(ctx, t),
		Instruct: func(text string) { t.instructions = append(t.instructions, text) },
		AtEnd:    func(f func()) { t.ends = append(t.ends, f) },
	}
	if t.caller != nil {
		s.Caller = t.callerNow()
	}
	if t.session != "" && e.Browsers != nil {
		s.Ask = func(ctx context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
			return e.askBrowser(ctx, t, kind, data)
		}
	}
	return s
}

// end ends what tools hold on to.
func (t *Turn) end() {
	for _, f := range t.ends {
		go f()
	}
	t.ends = nil
}

// findTools finds the tools that the request names, and the server's own.
func (e *Engine) findTools(ctx context.Context, t *Turn) error {
	t.end()
	t.tools, t.toolsFor, t.instructions = nil, t.model, nil
	if len(t.toolIDs) > 0 {
		found, err := e.Toolbox.Tools(ctx, e.scope(ctx, t), t.toolIDs)
		if err != nil {
			return err
		}
		t.tools = newToolset(found)
	}
	e.addDirect(t)
	if e.Builtins == nil || !t.wantsBuiltins() {
		return nil
	}
	own, err := e.Builtins.Tools(ctx, Offer{Principal: t.p, Model: t.model, Features: t.features, Saved: savedChat(t.chatID)})
	t.tools = t.tools.with(own)
	return err
}

// wantsBuiltins says whether the model is to have the server's own tools: pages only ask for them.
func (t *Turn) wantsBuiltins() bool {
	return !t.ownTools && t.session != "" && !t.legacyTools() && Unless(t.model.Meta().Get("capabilities"), "builtin_tools")
}

// legacyTools says that the model cannot call tools itself.
func (t *Turn) legacyTools() bool { return t.params.Text("function_calling") == "legacy" }

// offerTools gives the tools to the provider, for the model to call. For models that are set to the legacy way, a model is
// asked in words which to call, and the results go into the question.
func (e *Engine) offerTools(ctx context.Context, t *Turn) error {
	if features := t.form.Get("features"); t.toolsFor != t.model || !bytes.Equal(features, t.features) { // by a filter
		t.features = features
		if err := e.findTools(ctx, t); err != nil {
			return err
		}
	}
	for _, text := range t.instructions {
		t.messages = addSystem(t.messages, text, true)
	}
	if len(t.tools) == 0 {
		return nil
	}
	if t.legacyTools() {
		return e.promptTools(ctx, t)
	}
	var added []jsondoc.Doc // by filters
	if !t.ownTools {
		added = t.form.Get("tools").List()
	}
	specs := make([]jsondoc.Doc, len(t.tools), len(t.tools)+len(added))
	for i, tool := range t.tools {
		specs[i] = tool.entry()
	}
	t.form.Set("tools", jsondoc.Array(append(specs, added...)...))
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
			name = notInNames.ReplaceAllString(strings.TrimPrefix(tool.Set, "server:"), "_") + "_" + name
		}
		out = append(out, namedTool{tool, name})
	}
	return out
}

// with adds the server's own tools, those whose names are free.
func (s toolset) with(own []Tool) toolset {
	out := make(toolset, len(s), len(s)+len(own))
	copy(out, s)
	for _, tool := range own {
		if s.find(tool.Name) == nil {
			out = append(out, namedTool{tool, tool.Name})
		}
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
	if n.Function != nil {
		return n.Function.Set(jsondoc.Text(n.as), "name")
	}
	var b jsondoc.Builder
	b.Raw("name", jsondoc.Text(n.as))
	b.Raw("description", jsondoc.Text(description))
	b.Raw("parameters", n.Parameters.Or(jsondoc.Doc(`{"type":"object","properties":{}}`)))
	return b.Done()
}

// entry is the tool as an entry of a request's tools.
func (n *namedTool) entry() jsondoc.Doc {
	if n.Spec != nil {
		return n.Spec
	}
	return jsondoc.Object("type", jsondoc.Doc(`"function"`)).Set(n.spec(), "function")
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
