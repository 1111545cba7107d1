package turn

import (
	"context"
	"errors"
	"strings"

	"github.com/galleychat/galley/core/compact"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// summaryMark begins the summary of what is left out in the system message; clients of the API look for it.
const summaryMark = "[CONVERSATION SUMMARY]\n"

// compactHistory leaves out what a summary stands for, and has a model write one where the conversation has become too
// long. A conversation that cannot be summarised is sent whole: the provider says if that is too much.
func (e *Engine) compactHistory(ctx context.Context, t *Turn) error {
	if t.userMessageID == "" || !savedChat(t.chatID) && !temporaryChat(t.chatID) {
		return nil
	}
	conf := compact.FromSettings(e.Settings.Snapshot())
	if !conf.Enable {
		return nil
	}
	kept, summary, err := e.compacted(ctx, t, conf)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		e.Log.WarnContext(ctx, "a conversation was not summarised", "chat", t.chatID, "error", err)
		return nil
	}
	t.messages = openMessages(jsondoc.Array(kept...))
	if summary != "" {
		t.messages = addSystem(t.messages, summaryMark+summary, true)
	}
	return nil
}

// compacted gives the messages that are to be sent, and the summary of those before.
func (e *Engine) compacted(ctx context.Context, t *Turn, conf compact.Config) (kept []jsondoc.Doc, summary string, err error) {
	docs := closeMessages(t.messages).List()
	system := ""
	if m := systemOf(t.messages); m != nil {
		system = textOf(m)
	}
	var head []jsondoc.Doc
	if len(docs) > 0 && docs[0].Text("role") == "system" {
		head, docs = docs[:1:1], docs[1:]
	}
	docs, summary = compact.Checkpoint(docs)
	at := 0
	if compact.Exceeds(docs, system, summary, conf.Limit(t.params)) {
		at = compact.Boundary(docs, conf.Retention)
	}
	if at == 0 {
		return append(head, docs...), summary, nil
	}
	t.tellCompaction("Compacting context", false)
	job := compact.Job{
		Old: docs[:at], Recent: docs[at:], Previous: summary, ModelID: t.form.Text("model"),
		TaskParams: jsondoc.Doc(e.Settings.Snapshot().Raw("task.model.params")),
	}
	if e.Prompts != nil {
		job.Render = func(template string) string { return e.Prompts.Server(ctx, t.p.User, template) }
	}
	if summary, err = compact.Summarize(ctx, conf, summariser{e, t}, job); err != nil {
		t.tellCompaction("Context compaction failed", true, "error", jsondoc.Doc("true"))
		return nil, "", err
	}
	first, checkpoint := docs[at], jsondoc.Doc("null")
	if first.Text("role") == "user" {
		if id := first.Get("id"); id.Truthy() {
			checkpoint = id
		}
		if err := e.keepSummary(ctx, t, first.Text("id"), summary); err != nil {
			return nil, "", err
		}
	}
	t.tellCompaction("Context compacted", true, "checkpoint_message_id", checkpoint, "context_summary", jsondoc.Text(summary))
	return append(head, docs[at:]...), summary, nil
}

// keepSummary stores a summary with the message from which the conversation goes on.
func (e *Engine) keepSummary(ctx context.Context, t *Turn, messageID, summary string) error {
	if !savedChat(t.chatID) {
		return nil
	}
	if messageID == "" {
		messageID = t.userMessageID
	}
	return e.Store.Update(ctx, t.chatID, messageID, jsondoc.Object("contextSummary", jsondoc.Text(summary)), false)
}

// tellCompaction shows people what is going on.
func (t *Turn) tellCompaction(text string, done bool, more ...any) {
	if t.messageID == "" {
		return
	}
	var b jsondoc.Builder
	b.Raw("action", jsondoc.Doc(`"context_compaction"`))
	b.Raw("description", jsondoc.Text(text))
	b.Add("done", done)
	for i := 0; i+1 < len(more); i += 2 {
		b.Raw(more[i].(string), more[i+1].(jsondoc.Doc))
	}
	t.em.emit("context_compaction", b.Done())
}

// summariser asks models for summaries on behalf of a turn's person.
type summariser struct {
	e *Engine
	t *Turn
}

// Complete implements compact.Completer.
func (s summariser) Complete(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	res, err := s.e.Run(ctx, Request{Principal: s.t.p, Caller: s.caller(), Body: body})
	var refused *llm.UpstreamError
	if errors.As(err, &refused) && refused.Err == nil {
		return jsondoc.Doc("{}"), nil // no text: the messages' beginnings stand in
	}
	if err != nil {
		return nil, err
	}
	if res.Response == nil {
		return res.Body, nil
	}
	defer res.Response.Close()
	if !res.Response.Stream {
		return jsondoc.Doc(res.Response.JSON()), nil
	}
	var text strings.Builder // the model's settings have it stream always
	for c, err := range res.Response.Chunks() {
		if err != nil {
			return nil, err
		}
		text.WriteString(c.Content)
	}
	message := jsondoc.Object("content", jsondoc.Text(text.String()))
	return jsondoc.Object("choices", jsondoc.Array(jsondoc.Object("message", message))), nil
}

func (s summariser) caller() *llm.Caller {
	caller := *s.t.caller
	caller.Meta = llm.CallMeta{ChatID: s.t.chatID, MessageID: s.t.messageID, Task: "context_compaction"}
	return &caller
}

// Known implements compact.Completer.
func (s summariser) Known(ctx context.Context, id string) (jsondoc.Doc, bool) {
	m, ok := s.e.Models.Find(ctx, s.t.caller, id)
	if !ok {
		return nil, false
	}
	return m.Params(), true
}
