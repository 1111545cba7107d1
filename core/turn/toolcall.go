package turn

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
)

// request is a tool call of a model, ready to be run.
type request struct {
	id        string
	name      string // as the model knows it
	tool      *namedTool
	arguments jsondoc.Doc // an object
	refused   string      // why it is not run; what the model is told
}

// outcome is what came of a call.
type outcome struct {
	text   string
	images []jsondoc.Doc // addresses and data URIs for the model
	files  []jsondoc.Doc
	embeds []jsondoc.Doc
}

// failed says whether the outcome tells of a failure.
func (o *outcome) failed() bool { return tellsOfFailure(o.text) }

// newRequest reads a model's call. arguments is its text.
func (s toolset) newRequest(id, name, arguments string) request {
	r := request{id: id, name: name}
	args, ok := readArguments(arguments)
	switch {
	case !ok:
		r.refused = "Error: Tool call arguments could not be parsed. The model generated malformed or incomplete JSON for `" + name + "`. Please try again."
		return r
	case args.Kind() != '{':
		r.refused = "Error: Tool call arguments for `" + name + "` must be a JSON object. Please try again."
		return r
	}
	r.arguments = args
	if r.tool = s.find(name); r.tool == nil {
		r.refused = `Error: Tool "` + name + `" not found.`
	}
	return r
}

// readArguments reads the arguments of a call: JSON, none at all, or the literals of Python that some models write.
func readArguments(text string) (jsondoc.Doc, bool) {
	if strings.TrimSpace(text) == "" {
		return jsondoc.Doc("{}"), true
	}
	d, bad := jsondoc.Check([]byte(text))
	if bad != nil {
		var ok bool
		if d, ok = fromPython(text); !ok {
			return nil, false
		}
	}
	return Compact(d), true
}

// Compact is a document without white space and with no needless escapes.
func Compact(d jsondoc.Doc) jsondoc.Doc { return formatted(d) }

func formatted(d jsondoc.Doc, how ...jsontext.Options) jsondoc.Doc {
	v := jsontext.Value(bytes.Clone(d))
	how = append(how, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(false))
	if v.Format(how...) != nil {
		return d // NaN and the like, which only Python's JSON has
	}
	return jsondoc.Doc(v)
}

// splitArguments takes apart several JSON values written one behind the other, as some models do for several calls. It
// gives nil for a text that is not that.
func splitArguments(text string) []string {
	dec := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var out []string
	for dec.PeekKind() != 0 {
		v, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		out = append(out, string(v))
	}
	if len(out) < 2 || strings.TrimSpace(text[dec.InputOffset():]) != "" {
		return nil
	}
	return out
}

// runCalls runs calls, at the same time where their tools let it, and gives what came of them in their order. When ctx ends it returns at once, with
// the cause; calls that do not heed ctx end by themselves, unheard.
func (e *Engine) runCalls(ctx context.Context, t *Turn, calls []request) ([]outcome, error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	emit, about := e.toolEvents(running, t), t.about()
	type ended struct {
		at  int
		out outcome
	}
	done := make(chan ended, len(calls))
	var queue []int // of those that run one after the other
	for i, c := range calls {
		if t.askFirst || c.tool != nil && c.tool.Builtin {
			queue = append(queue, i)
			continue
		}
		go func() { done <- ended{i, e.runCall(running, t, c, emit, about)} }()
	}
	if queue != nil {
		go func() {
			for _, i := range queue {
				done <- ended{i, e.runCall(running, t, calls[i], emit, about)}
			}
		}()
	}
	out := make([]outcome, len(calls))
	for range calls {
		select {
		case d := <-done:
			out[d.at] = d.out
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return out, context.Cause(ctx)
}

func (e *Engine) runCall(ctx context.Context, t *Turn, c request, emit func(string, jsondoc.Doc), about func(string) jsondoc.Doc) (out outcome) {
	if c.refused != "" {
		return outcome{text: c.refused}
	}
	if ctx.Err() != nil {
		return failure(context.Cause(ctx).Error())
	}
	defer func() {
		if p := recover(); p != nil {
			e.Log.ErrorContext(ctx, "panic in a tool", "set", c.tool.Set, "tool", c.tool.Name, "panic", p, "stack", string(debug.Stack()))
			out = failure(fmt.Sprintf("The tool %s broke down.", c.name))
		}
	}()
	if t.askFirst && !savedChat(t.chatID) && !c.asksUser() && !e.confirmed(ctx, t, c) {
		return outcome{text: refusedUnasked}
	}
	res, err := c.tool.Call(ctx, ToolCall{
		ID: c.id, Name: c.tool.Name, Arguments: c.tool.known(c.arguments), Principal: t.p, ModelID: t.modelID,
		ChatID: t.chatID, MessageID: t.messageID, SessionID: t.session, Emit: emit, About: about,
		Ask: func(ctx context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
			return e.askBrowser(ctx, t, kind, data)
		},
	})
	if err != nil {
		return failure(err.Error())
	}
	if !res.valid() {
		return failure("The tool " + c.name + " gave a result that is no JSON.")
	}
	return newOutcome(res)
}

// about is what tools can learn of the turn. It reads nothing that changes: calls may live longer than their turn.
func (t *Turn) about() func(what string) jsondoc.Doc {
	messages, files, model := t.form.Get("messages"), t.files.Or(jsondoc.Doc("[]")), t.model.Entry
	u := *t
	return func(what string) jsondoc.Doc {
		switch what {
		case "messages":
			return messages.Or(jsondoc.Doc("[]"))
		case "files":
			return files
		case "model":
			return model
		case "metadata":
			return u.metadata(files, model)
		}
		return nil
	}
}

func (t *Turn) metadata(files, model jsondoc.Doc) jsondoc.Doc {
	text := func(s string) jsondoc.Doc {
		if s == "" {
			return jsondoc.Doc("null")
		}
		return jsondoc.Text(s)
	}
	calling := t.params.Text("function_calling")
	if calling == "" {
		calling = "native"
	}
	approval := "full"
	if t.askFirst {
		approval = "ask"
	}
	var b jsondoc.Builder
	b.Raw("user_id", jsondoc.Text(t.p.ID))
	b.Raw("chat_id", text(t.chatID))
	b.Raw("message_id", text(t.messageID))
	b.Raw("session_id", text(t.session))
	b.Raw("folder_id", text(t.folderID))
	b.Raw("user_message", t.userMessage)
	b.Raw("user_message_id", text(t.userMessageID))
	b.Raw("assistant_message_id", text(t.assistantID))
	b.Raw("regeneration_message_id", text(t.regenerationID))
	b.Raw("model_id", text(t.modelID))
	for _, name := range []string{"automation_id", "terminal_id", "tool_servers"} {
		b.Raw(name, t.asked.Get(name))
	}
	b.Raw("skill_ids", t.asked.Get("skill_ids").Or(jsondoc.Doc("[]")))
	b.Raw("sources", jsondoc.Array(t.sources...))
	b.Add("direct", false)
	b.Add("internal", false)
	b.Add("filter_ids", append([]string{}, t.filterIDs...))
	b.Add("tool_ids", append([]string{}, t.toolIDs...))
	b.Raw("files", files)
	b.Raw("features", t.features.Or(jsondoc.Doc("{}")))
	b.Raw("variables", t.variables.Or(jsondoc.Doc("{}")))
	b.Raw("chat_variables", t.chatVariables.Or(jsondoc.Doc("{}")))
	b.Raw("model", model)
	b.Raw("params", jsondoc.Object("function_calling", jsondoc.Text(calling)).Set(jsondoc.Text(approval), "tool_approval_mode"))
	return b.Done()
}

// valid says whether all of a result is JSON.
func (r *ToolResult) valid() bool {
	for _, d := range slices.Concat([]jsondoc.Doc{r.Content.Or(jsondoc.Doc("null"))}, r.Files, r.Embeds, r.Images) {
		if _, bad := jsondoc.Check(d); bad != nil {
			return false
		}
	}
	return true
}

// failure is the outcome of a tool that failed.
func failure(text string) outcome {
	return outcome{text: indented(jsondoc.Object("error", jsondoc.Text(text)))}
}

// toolEvents gives the function by which tools send events: to the browsers, and into the message where they are to stay.
func (e *Engine) toolEvents(ctx context.Context, t *Turn) func(kind string, data jsondoc.Doc) {
	var mu sync.Mutex // events that change the same list of a message come one after the other
	return func(kind string, data jsondoc.Doc) {
		mu.Lock()
		defer mu.Unlock()
		if t.chatID == "" || t.messageID == "" || ctx.Err() != nil {
			return
		}
		data, bad := jsondoc.Check(data.Or(jsondoc.Doc("{}")))
		if bad != nil {
			e.Log.WarnContext(ctx, "an event of a tool is no JSON", "chat", t.chatID, "event", kind, "error", bad)
			return
		}
		t.em.emit(kind, data)
		if !savedChat(t.chatID) {
			return
		}
		if err := e.Store.SaveEvent(ctx, t.chatID, t.messageID, kind, data); err != nil {
			e.Log.WarnContext(ctx, "an event of a tool was not stored", "chat", t.chatID, "event", kind, "error", err)
		}
	}
}

// newOutcome reads a result: lists are named "results", so that models are always given a text or an object, and images
// are taken out of it.
func newOutcome(r ToolResult) outcome {
	out := outcome{embeds: r.Embeds, images: slices.Clone(r.Images)}
	content := r.Content
	if bytes.Contains(content, []byte("data:image/")) {
		content = takeImages(content, &out.images)
	}
	for _, f := range r.Files {
		u := f.Text("url")
		if f.Text("type") == "image" && u != "" && len(r.Images) == 0 {
			out.images = append(out.images, jsondoc.Text(u))
			if strings.HasPrefix(u, "data:") {
				continue // too big for the page, which gets the events
			}
		}
		out.files = append(out.files, f)
	}
	switch content.Kind() {
	case '"':
		out.text, _ = content.AsText()
	case '[':
		out.text = indented(jsondoc.Object("results", content))
	case '{':
		out.text = indented(content)
	case 't', 'f': // as Python writes them, which is what models are given elsewhere
		out.text = strings.ToUpper(string(content[:1])) + string(content[1:])
	default:
		if !content.IsNull() {
			out.text = string(content)
		}
	}
	return out
}

func indented(d jsondoc.Doc) string {
	return string(formatted(d, jsontext.WithIndent("  ")))
}

// imageURI matches a data URI that is an image and nothing else.
var imageURI = regexp.MustCompile(`(?i)^data:image/[a-z0-9.+-]+;base64,[a-z0-9+/]+={0,2}$`)

// takeImages moves images out of a result.
func takeImages(d jsondoc.Doc, images *[]jsondoc.Doc) jsondoc.Doc {
	switch d.Kind() {
	case '"':
		if s, _ := d.AsText(); imageURI.MatchString(s) {
			*images = append(*images, d)
			return jsondoc.Doc(`"[image]"`)
		}
	case '[':
		list := d.List()
		for i, v := range list {
			list[i] = takeImages(v, images)
		}
		return jsondoc.Array(list...)
	case '{':
		o := jsondoc.Open(d)
		d.Each(func(name string, v jsondoc.Doc) bool {
			o.Set(name, takeImages(v, images))
			return true
		})
		return o.Doc()
	}
	return d
}

// item is the outcome as an item of the answer's output.
func (o *outcome) item(callID string) *item {
	status := "completed"
	if o.failed() {
		status = "failed"
	}
	parts := []jsondoc.Doc{jsondoc.Object("type", jsondoc.Doc(`"input_text"`)).Set(jsondoc.Text(o.text), "text")}
	for _, u := range o.images {
		parts = append(parts, jsondoc.Object("type", jsondoc.Doc(`"input_image"`)).Set(u, "image_url"))
	}
	var b jsondoc.Builder
	b.Raw("type", jsondoc.Doc(`"function_call_output"`))
	b.Raw("id", jsondoc.Text(outputID("fco")))
	b.Raw("call_id", jsondoc.Text(callID))
	b.Raw("output", jsondoc.Array(parts...))
	b.Raw("status", jsondoc.Text(status))
	if len(o.files) > 0 {
		b.Raw("files", jsondoc.Array(o.files...))
	}
	if len(o.embeds) > 0 {
		b.Raw("embeds", jsondoc.Array(o.embeds...))
	}
	return &item{raw: b.Done(), status: status}
}

// tellsOfFailure says whether a result reads like a failure: a text that begins as one, or an object that says so.
func tellsOfFailure(text string) bool {
	start := strings.ToLower(strings.TrimSpace(text[:min(len(text), 256)]))
	for _, word := range []string{"error:", "exception:", "traceback", "http error!"} {
		if strings.HasPrefix(start, word) {
			return true
		}
	}
	d := jsondoc.Doc(text)
	for range 4 { // JSON in JSON
		checked, bad := jsondoc.Check(bytes.TrimSpace(d))
		if bad != nil {
			return false
		}
		s, isText := checked.AsText()
		if d = checked; !isText {
			break
		}
		d = jsondoc.Doc(s)
	}
	if d.Kind() != '{' {
		return false
	}
	said := func(v jsondoc.Doc) bool {
		s, isText := v.AsText()
		return isText && strings.TrimSpace(s) != "" || (v.Kind() == '{' || v.Kind() == '[') && v.Truthy()
	}
	if said(d.Get("error")) {
		return true
	}
	switch strings.ToLower(strings.TrimSpace(d.Text("status"))) {
	case "error", "failed":
		return true
	}
	denied := string(d.Get("success")) == "false" || string(d.Get("ok")) == "false"
	return denied && said(d.Get("message"))
}
