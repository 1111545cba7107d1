package filter

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// Answer is a whole answer that is kept in no chat, or not yet.
type Answer struct {
	Content      string
	FinishReason string
	Usage        jsondoc.Doc // nil if unknown
	Output       jsondoc.Doc // output items, nil if there are none
}

// Response filters a provider's answer to a program: a stream as it comes, a whole answer before it is passed on.
// request is the chat completion request it answers.
func (f *Filters) Response(ctx context.Context, request jsondoc.Doc, r *llm.Response) *llm.Response {
	f.Stream(ctx, r)
	return f.Outgoing(ctx, request, r)
}

// Outgoing has the outlet look at an answer to a program: at what passes of a stream, or at a whole answer before it is
// passed on.
func (f *Filters) Outgoing(ctx context.Context, request jsondoc.Doc, r *llm.Response) *llm.Response {
	if !f.HasOutlet() {
		return r
	}
	if r.Stream {
		r.Through(func(src llm.Source) llm.Source { return &listener{f: f, ctx: ctx, src: src, request: request} })
		return r
	}
	body := jsondoc.Doc(r.JSON())
	changed := f.Whole(ctx, request, body)
	if len(changed) == len(body) && (len(body) == 0 || &changed[0] == &body[0]) {
		return r
	}
	h := r.Header.Clone()
	h.Set("Content-Type", "application/json")
	h.Del("Content-Length")
	_ = r.Close()
	return llm.NewBody(r.Status, h, changed)
}

// Whole has the outlet look at a chat completion and gives it with the contents that came of that. Each choice is an
// answer of its own. What is no completion stays as it is.
func (f *Filters) Whole(ctx context.Context, request, completion jsondoc.Doc) jsondoc.Doc {
	if !f.HasOutlet() || completion.Kind() != '{' {
		return completion
	}
	choices := completion.Get("choices").List()
	changed := false
	for i, choice := range choices {
		content, ok := choice.Get("message", "content").AsText()
		if !ok || content == "" {
			continue
		}
		a := Answer{Content: content, FinishReason: choice.Text("finish_reason"), Usage: completion.Get("usage")}
		body := f.outletBody(request, a)
		out, ok := f.Outlet(ctx, body)
		if !ok {
			continue
		}
		if now, found := ContentOf(out, body.Text("id")); found && now != content {
			choices[i], changed = choice.Set(jsondoc.Text(now), "message", "content"), true
		}
	}
	if !changed {
		return completion
	}
	return completion.Set(jsondoc.Array(choices...), "choices")
}

// ContentOf is the text of the message with an id in what an outlet gave.
func ContentOf(outlet jsondoc.Doc, id string) (content string, found bool) {
	outlet.Get("messages").Items(func(_ int, m jsondoc.Doc) bool {
		if m.Text("id") == id {
			content, found = m.Get("content").AsText()
		}
		return !found
	})
	return content, found
}

// outletBody is what an outlet is given of an answer that is kept in no chat.
func (f *Filters) outletBody(request jsondoc.Doc, a Answer) jsondoc.Doc {
	id := f.call.MessageID
	if id == "" {
		id = "msg_" + strings.ToLower(rand.Text())
	}
	return f.OutletBody(id, append(Asked(request.Get("messages").List()), a.Message(id)), a.Usage)
}

// Asked are the messages of a request as an outlet gets them.
func Asked(messages []jsondoc.Doc) []jsondoc.Doc {
	out := make([]jsondoc.Doc, 0, len(messages)+1)
	for _, m := range messages {
		var b jsondoc.Builder
		b.Raw("id", nil)
		b.Raw("role", m.Get("role"))
		b.Raw("content", m.Get("content"))
		b.Raw("info", nil)
		b.Raw("timestamp", nil)
		out = append(out, b.Done())
	}
	return out
}

// Message is the answer as an outlet gets it.
func (a Answer) Message(id string) jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("id", jsondoc.Text(id))
	b.Raw("role", jsondoc.Doc(`"assistant"`))
	b.Raw("content", jsondoc.Text(a.Content))
	b.Raw("info", nil)
	b.Raw("timestamp", nil)
	if a.Output.Truthy() {
		b.Raw("output", a.Output)
	}
	if a.Usage.Truthy() {
		b.Raw("usage", a.Usage)
	}
	if a.FinishReason != "" {
		b.Raw("finish_reason", jsondoc.Text(a.FinishReason))
	}
	return b.Done()
}

// OutletBody is what an outlet is given: messages as [Chain] has them, of which that with the id is the answer.
func (f *Filters) OutletBody(id string, messages []jsondoc.Doc, usage jsondoc.Doc) jsondoc.Doc {
	c := f.call
	var b jsondoc.Builder
	b.Raw("model", jsondoc.Text(c.ModelID))
	b.Raw("messages", jsondoc.Array(messages...))
	b.Add("filter_ids", append([]string{}, c.FilterIDs...))
	b.Raw("chat_id", jsondoc.Text(c.ChatID))
	if c.SessionID == "" {
		b.Raw("session_id", nil)
	} else {
		b.Raw("session_id", jsondoc.Text(c.SessionID))
	}
	b.Raw("id", jsondoc.Text(id))
	if usage.Truthy() {
		b.Raw("usage", usage)
	}
	return b.Done()
}
