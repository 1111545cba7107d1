package turn

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// toolPrompt asks a model which tools to call. {{TOOLS}} stands for their descriptions.
const toolPrompt = `You decide which tools are needed to answer a request. You do not answer the request yourself.

These are the tools, as a JSON list with the schema of each one's parameters:
{{TOOLS}}

Reply with one JSON object and nothing else, no explanation and no code fence. It has the member "tool_calls", a list with an
object for each call: "name" is the name of a tool of the list, "parameters" an object with the values it is to be called with.
Take the values from the request and the history. Example:
{"tool_calls": [{"name": "first_tool", "parameters": {"key": "value"}}, {"name": "second_tool", "parameters": {}}]}

If no tool of the list helps, reply {"tool_calls": []}.`

// recentMessages is how many messages before the question the model that picks tools is shown.
const recentMessages = 4

// promptTools has a model say in words which tools to call, runs them, and puts the results into the question as
// sources. It is for models that cannot call tools themselves. Where it fails the question is asked without.
func (e *Engine) promptTools(ctx context.Context, t *Turn) error {
	if e.Tasks == nil || t.askFirst { // there is no call yet that a person could approve
		return nil
	}
	answer, err := e.Tasks.Run(ctx, t.p, TaskToolCalls, t.modelID, e.toolQuestion(t), t.chatID, t.messageID)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		e.Log.WarnContext(ctx, "no model said which tools to call", "model", t.modelID, "error", err)
		return nil
	}
	calls := t.tools.promptedCalls(completionText(answer))
	outcomes, err := e.runCalls(ctx, t, calls)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		e.showFiles(ctx, t, o)
		if o.text != "" {
			t.sources = append(t.sources, calls[i].source(o.text))
		}
	}
	t.messages = e.withSources(ctx, t, t.messages, t.sources)
	return nil
}

// toolQuestion are the messages to the model that picks tools.
func (e *Engine) toolQuestion(t *Turn) []jsondoc.Doc {
	specs := make([]jsondoc.Doc, len(t.tools))
	for i := range t.tools {
		specs[i] = t.tools[i].spec()
	}
	template := config.TaskToolsPromptTemplate.Get(e.Settings.Snapshot())
	if template == "" {
		template = toolPrompt
	}
	question, before := lastQuestion(t.messages)
	var b strings.Builder
	for i, m := range before[max(0, len(before)-recentMessages):] {
		if i == 0 {
			b.WriteString("History:\n")
		}
		fmt.Fprintf(&b, "%s: \"\"\"%s\"\"\"\n", strings.ToUpper(m.Text("role")), textOf(m))
	}
	b.WriteString("Query: " + question)
	return []jsondoc.Doc{
		newMessage("system", strings.ReplaceAll(template, "{{TOOLS}}", string(jsondoc.Array(specs...)))).Doc(),
		newMessage("user", b.String()).Doc(),
	}
}

// lastQuestion is the text of the last message of the user, and the messages before it where it comes last.
func lastQuestion(ms []message) (text string, before []message) {
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Text("role") != "user" {
			continue
		}
		text = textOf(ms[i])
		if i == len(ms)-1 {
			ms = ms[:i]
		}
		return text, ms
	}
	return "", ms
}

// promptedCalls reads which calls a model asks for: {"tool_calls": [{"name": …, "parameters": {…}}]}, or one such object
// by itself. Calls of unknown tools are left out.
func (s toolset) promptedCalls(text string) []request {
	asked := inBraces(text)
	list := asked.Get("tool_calls").List()
	if len(list) == 0 {
		list = []jsondoc.Doc{asked}
	}
	var out []request
	for _, c := range list {
		name := c.Text("name")
		parameters := c.Get("parameters").Or(jsondoc.Doc("{}"))
		if tool := s.find(name); tool != nil && parameters.Kind() == '{' {
			out = append(out, request{name: name, tool: tool, arguments: tool.known(parameters)})
		}
	}
	return out
}

// showFiles shows what a tool made besides its text.
func (e *Engine) showFiles(ctx context.Context, t *Turn, o outcome) {
	emit := e.toolEvents(ctx, t)
	files := slices.Clone(o.files)
	for _, u := range o.images {
		shown := func(f jsondoc.Doc) bool { return f.Text("url") == u.Text() }
		if !slices.ContainsFunc(files, shown) {
			files = append(files, jsondoc.Object("type", jsondoc.Doc(`"image"`)).Set(u, "url"))
		}
	}
	if len(files) > 0 {
		emit("files", jsondoc.Object("files", jsondoc.Array(files...)))
	}
	if len(o.embeds) > 0 {
		emit("embeds", jsondoc.Object("embeds", jsondoc.Array(o.embeds...)))
	}
}
