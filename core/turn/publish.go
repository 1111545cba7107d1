package turn

import (
	"context"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
)

// publish tells of what a turn of the user's did to a chat or a message.
func (e *Engine) publish(ctx context.Context, t *Turn, name, id string, pairs ...any) {
	e.Events.Publish(ctx, events.Event{Name: name, Actor: t.p.User, SubjectID: id, Data: events.Pairs(pairs)})
}

// previewSize is how many characters of a question are told of.
const previewSize = 300

// publishNew tells of a chat that a turn has made, with the question and the answers to come.
func (e *Engine) publishNew(ctx context.Context, t *Turn) {
	e.publish(ctx, t, "chat.created", t.chatID, "title", "New Chat")
	if t.userMessageID != "" {
		preview, _ := t.userMessage.Get("content").AsText()
		if utf8.RuneCountInString(preview) > previewSize {
			preview = string([]rune(preview)[:previewSize])
		}
		e.publish(ctx, t, "message.created", t.userMessageID, "chat_id", t.chatID, "role", "user", "content_preview", preview)
	}
	for _, en := range t.entries {
		if en.MessageID != "" {
			e.publish(ctx, t, "message.created", en.MessageID, "chat_id", t.chatID, "role", "assistant", "model", en.ModelID)
		}
	}
}

// publishBegun tells of the question and the answers to come in a chat that was there.
func (e *Engine) publishBegun(ctx context.Context, t *Turn, messages jsondoc.Doc) {
	messages.Each(func(id string, m jsondoc.Doc) bool {
		if id == t.userMessageID || m.Text("parentId") == t.userMessageID {
			e.publish(ctx, t, "message.created", id, "chat_id", t.chatID, "role", m.Get("role"), "model", m.Get("model"))
		}
		return true
	})
}

// publishEnd tells that an answer is complete, or with failure why there is none.
func (e *Engine) publishEnd(ctx context.Context, t *Turn, title string, output jsondoc.Doc, failure string) {
	if !savedChat(t.chatID) {
		return
	}
	data := events.Pairs{"user_id", t.p.ID, "chat_id", t.chatID, "message_id", t.messageID, "model_id", t.modelID}
	url := config.WebUIURL.Get(e.Settings.Snapshot()) + "/c/" + t.chatID
	ev := events.Event{Name: "chat.failed", Actor: t.p.User, SubjectID: t.chatID, Message: "Chat failed", Data: append(data, "url", url, "message", failure)}
	if failure == "" {
		ev.Name, ev.Message = "chat.finished", title
		if title == "" {
			ev.Message = "Chat finished"
		}
		ev.Data = append(data, "title", title, "url", url, "message", chats.OutputText(output))
	}
	e.Events.Publish(ctx, ev)
}
