package turn

import (
	"bytes"
	"context"
	"reflect"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store/chats"
)

// inlet has filters change or refuse the request, once for a turn. A request that is for another model afterwards goes
// to that, if the caller may use it.
func (e *Engine) inlet(ctx context.Context, t *Turn) error {
	if e.Filters == nil {
		return nil
	}
	call := filter.Call{
		Principal: t.p, Kind: filter.KindChat, ModelID: t.model.ID, Meta: t.model.Meta(), FilterIDs: t.filterIDs,
		ChatID: t.chatID, MessageID: t.messageID, SessionID: t.session,
		Stream: t.form.Get("stream").Truthy(), NoOutlet: !e.Env.Chat.APIOutlets && (t.chatID == "" || t.messageID == ""),
	}
	if t.chatID != "" && t.messageID != "" {
		call.Emit = t.em.emit
	}
	if t.filters = filter.For(e.Filters, call, e.Log); t.filters == nil {
		return nil
	}
	t.form.Set("messages", closeMessages(t.messages))
	body, err := t.filters.Inlet(ctx, t.form.Doc())
	if err != nil {
		return err
	}
	before := t.form.Text("model")
	t.form = jsondoc.Open(body)
	t.messages = openMessages(t.form.Get("messages"))
	if now := t.form.Text("model"); now != before {
		return e.reroute(ctx, t, now)
	}
	return nil
}

// reroute has another model answer.
func (e *Engine) reroute(ctx context.Context, t *Turn, id string) error {
	m, ok := e.Models.Find(ctx, t.caller, id)
	if !ok || m.Arena != nil || e.Models.Access(ctx, t.p, m) != nil {
		return errNoModel
	}
	t.model, t.modelID = m, id
	return nil
}

// outgoing is the answer to a program as its filters let it out.
func (t *Turn) outgoing(ctx context.Context, resp *llm.Response) *llm.Response {
	if t.filters == nil {
		return resp
	}
	return t.filters.Outgoing(ctx, t.form.Doc(), resp)
}

// outlet has filters look at the answer, which has been stored and shown: what they change is stored and shown again. It
// gives the answer's text afterwards.
func (e *Engine) outlet(ctx context.Context, t *Turn, output, usage jsondoc.Doc) string {
	text := chats.OutputText(output)
	if !t.filters.HasOutlet() {
		return text
	}
	answer := filter.Answer{Content: text, FinishReason: t.finishReason, Usage: usage, Output: output}
	var stored, messages []jsondoc.Doc
	if savedChat(t.chatID) {
		var err error
		if stored, _, err = e.Store.Chain(ctx, t.chatID, t.messageID); err != nil {
			e.Log.WarnContext(ctx, "outlet filters were not asked", "chat", t.chatID, "error", err)
			return text
		}
		messages = outletMessages(stored, t.messageID, t.finishReason)
	} else {
		messages = append(filter.Asked(t.form.Get("messages").List()), answer.Message(t.messageID))
	}
	out, ok := t.filters.Outlet(ctx, t.filters.OutletBody(t.messageID, messages, usage))
	if !ok || !out.Get("messages").Truthy() {
		return text
	}
	e.storeOutlet(ctx, t, stored, out.Get("messages").List())
	t.em.own("chat:outlet", jsondoc.Object("messages", out.Get("messages")))
	if now, found := filter.ContentOf(out, t.messageID); found {
		return now
	}
	return text
}

// outletMessages are the stored messages of a chat as outlets get them.
func outletMessages(stored []jsondoc.Doc, answerID, finishReason string) []jsondoc.Doc {
	out := make([]jsondoc.Doc, len(stored))
	for i, m := range stored {
		o := jsondoc.Open(m)
		var b jsondoc.Builder
		b.Raw("id", o.Get("id"))
		b.Raw("role", o.Get("role"))
		b.Raw("content", contentOf(m))
		b.Raw("info", o.Get("info"))
		b.Raw("timestamp", o.Get("timestamp"))
		for _, name := range [...]string{"output", "usage", "sources"} {
			if v := o.Get(name); v.Truthy() {
				b.Raw(name, v)
			}
		}
		if finishReason != "" && o.Text("id") == answerID {
			b.Raw("finish_reason", jsondoc.Text(finishReason))
		}
		out[i] = b.Done()
	}
	return out
}

// contentOf is a message's content, or else the text of its output items.
func contentOf(m jsondoc.Doc) jsondoc.Doc {
	if content := m.Get("content"); content.Truthy() {
		return content
	}
	return jsondoc.Text(chats.OutputText(m.Get("output")))
}

// storeOutlet stores the messages that an outlet changed, with what they said before.
func (e *Engine) storeOutlet(ctx context.Context, t *Turn, stored, changed []jsondoc.Doc) {
	before := make(map[string]jsondoc.Doc, len(stored))
	for _, m := range stored {
		before[m.Text("id")] = m
	}
	for _, m := range changed {
		id := m.Text("id")
		old, known := before[id]
		if !known || id == "" {
			continue
		}
		var b jsondoc.Builder
		was, now := contentOf(old), contentOf(m)
		b.Raw("originalContent", was)
		output := m.Get("output")
		sameOutput := !output.Truthy() || sameJSON(output, old.Get("output"))
		sameContent := sameJSON(was, now)
		if sameContent && sameOutput {
			continue
		}
		if !sameOutput {
			b.Raw("output", output)
		}
		if !sameContent {
			b.Raw("content", now)
		}
		if err := e.Store.Update(ctx, t.chatID, id, b.Done(), true); err != nil {
			e.Log.WarnContext(ctx, "what a filter made of a message was not stored", "chat", t.chatID, "message", id, "error", err)
		}
	}
}

// sameJSON says whether two documents say the same, however they are written.
func sameJSON(a, b jsondoc.Doc) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return a.Decode(&x) == nil && b.Decode(&y) == nil && reflect.DeepEqual(x, y)
}

// withContent is a whole completion with the text that an outlet made of its own.
func withContent(completion jsondoc.Doc, was, now string) jsondoc.Doc {
	choices := completion.Get("choices").List()
	if was == now || len(choices) == 0 {
		return completion
	}
	choices[0] = choices[0].Set(jsondoc.Text(now), "message", "content")
	return completion.Set(jsondoc.Array(choices...), "choices")
}
