package chats

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/compact"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

// currentID is the message that a chat is at.
func currentID(chat *chats.Chat) string {
	if chat.CurrentMessageID != nil && *chat.CurrentMessageID != "" {
		return *chat.CurrentMessageID
	}
	for _, path := range [][]string{{"history", "currentId"}, {"currentId"}, {"branchPointMessageId"}} {
		if id := chat.Doc.Text(path...); id != "" {
			return id
		}
	}
	if list := chat.Doc.Get("messages").List(); len(list) > 0 {
		return list[len(list)-1].Text("id")
	}
	return ""
}

// branch is the conversation that a chat is at, "" and nothing where it has none.
func (m *Module) branch(ctx context.Context, chat *chats.Chat) ([]jsondoc.Doc, string, error) {
	id := currentID(chat)
	if id == "" {
		return nil, "", nil
	}
	all, err := m.Store.Messages(ctx, chat.ID)
	if err != nil {
		return nil, "", err
	}
	return all.Chain(id), id, nil
}

// contextUsage is the member context_usage of a chat: nil while compaction is off, so that the messages are only read
// where somebody wants to know.
func (m *Module) contextUsage(ctx context.Context, chat *chats.Chat) (jsondoc.Doc, error) {
	c := compact.FromSettings(m.Settings.Snapshot())
	if !c.Enable {
		return nil, nil
	}
	list, _, err := m.branch(ctx, chat)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return jsondoc.Of(compact.Measure(list, c.Limit(chat.Doc.Get("params")))), nil
}

// asked is a Completer on behalf of a caller.
type asked struct {
	Completer
	p *auth.Principal
}

func (a asked) Complete(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	return a.Completer.Complete(ctx, a.p, body)
}

func (a asked) Known(ctx context.Context, id string) (jsondoc.Doc, bool) {
	return a.Completer.Known(ctx, a.p, id)
}

type compactIn struct {
	ID   string `path:"id"`
	Body *struct {
		Model web.Opt[string] `json:"model"`
	}
}

type compactOut struct {
	OK        bool        `json:"ok"`
	Compacted bool        `json:"compacted"`
	Reason    string      `json:"reason,omitzero"`
	Dropped   int         `json:"dropped_messages,omitzero"`
	Kept      int         `json:"kept_messages,omitzero"`
	Chars     int         `json:"summary_chars,omitzero"`
	Usage     jsondoc.Doc `json:"context_usage"`
}

func (m *Module) compact(c *web.Call, in compactIn) (compactOut, error) {
	ctx := c.Context()
	out := compactOut{OK: true}
	chat, err := m.Store.GetOwned(ctx, in.ID, c.UserID())
	if err != nil {
		return out, orElse(err, errUnfound)
	}
	if m.active([]string{in.ID})[in.ID] {
		return out, web.Fail(http.StatusConflict, "Wait for the current response to finish before compacting.")
	}
	chat.Doc = chats.Repaired(chat.Doc)
	list, current, err := m.branch(ctx, chat)
	if err != nil {
		return out, err
	}
	model := ""
	if in.Body != nil {
		model = in.Body.Model.Or("")
	}
	for i := len(list) - 1; i >= 0 && model == ""; i-- {
		model = list[i].Text("model")
	}
	if model == "" {
		model = chat.Doc.Text("models", "0")
	}
	if model == "" {
		return out, web.Fail(http.StatusBadRequest, "No model found for context compaction.")
	}
	if err := m.compactBranch(c, chat, list, current, model, &out); err != nil {
		return out, err
	}
	if out.Usage, err = m.contextUsage(ctx, chat); err != nil {
		return out, err
	}
	if out.Compacted {
		m.publish(c, "chat.compacted", in.ID, "dropped_messages", out.Dropped)
	}
	return out, nil
}

// compactBranch has a model summarise all of a conversation but its last message.
func (m *Module) compactBranch(c *web.Call, chat *chats.Chat, list []jsondoc.Doc, current, model string, out *compactOut) error {
	ctx := c.Context()
	settings := m.Settings.Snapshot()
	conf := compact.FromSettings(settings)
	if !conf.Enable {
		out.Reason = "disabled"
		return nil
	}
	if current == "" {
		out.Reason = "empty"
		return nil
	}
	messages, previous := compact.Checkpoint(list)
	if len(messages) < 2 {
		out.Reason = "too_short"
		return nil
	}
	if m.Completer == nil {
		return compact.ErrNoModel
	}
	last := len(messages) - 1
	job := compact.Job{Old: messages[:last], Recent: messages[last:], Previous: previous, ModelID: model, TaskParams: jsondoc.Doc(settings.Raw("task.model.params"))}
	if m.Render != nil {
		job.Render = func(template string) string { return m.Render(ctx, c.Principal.User, template) }
	}
	summary, err := compact.Summarize(ctx, conf, asked{m.Completer, c.Principal}, job)
	if err != nil {
		return err
	}
	if _, err := m.Store.UpsertMessage(ctx, chat.ID, current, jsondoc.Object("contextSummary", jsondoc.Text(summary)), false); err != nil {
		return err
	}
	out.Compacted, out.Dropped, out.Kept, out.Chars = true, last, 1, utf8.RuneCountInString(summary)
	return nil
}
