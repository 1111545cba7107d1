package chats

import (
	"net/http"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

type messageIn struct {
	ID        string `path:"id"`
	MessageID string `path:"message_id"`
}

// chatOwner gives the owner of a chat that the caller may change the messages of.
func (m *Module) chatOwner(c *web.Call, id string) (string, error) {
	owner, err := m.Store.OwnerID(c.Context(), id)
	if err != nil {
		return "", orElse(err, errProhibited)
	}
	if owner != c.UserID() && !m.readsAll(c) {
		return "", errProhibited
	}
	return owner, nil
}

// maxVoice is how many characters a message's speech metadata may have as JSON.
const maxVoice = 100_000

// rawText is a string of which NUL characters and lone surrogates are taken out: decoding would make the latter visible.
type rawText struct{ doc jsondoc.Doc }

// DecodeField implements web.Decoder.
func (r *rawText) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '"' {
		return web.Problems{{Type: "string_type", Loc: loc, Msg: "Input should be a valid string", Input: raw}}
	}
	r.doc = chats.Clean(raw)
	return nil
}

type updateMessageIn struct {
	ID        string `path:"id"`
	MessageID string `path:"message_id"`
	Body      struct {
		Content web.Opt[rawText]  `json:"content"`
		Voice   web.Opt[web.Dict] `json:"voice"`
	}
}

func (m *Module) updateMessage(c *web.Call, in updateMessageIn) (web.Done, error) {
	owner, err := m.chatOwner(c, in.ID)
	if err != nil {
		return web.Done{}, err
	}
	content, voice := in.Body.Content, in.Body.Voice
	var fields jsondoc.Builder
	if content.Has() {
		fields.Raw("content", content.V.doc)
	}
	if voice.Has() {
		if len([]rune(string(voice.V))) > maxVoice {
			return web.Done{}, web.Fail(http.StatusBadRequest, "Voice metadata is too large")
		}
		have, err := m.Store.Message(c.Context(), in.ID, in.MessageID)
		if err != nil {
			return web.Done{}, err
		}
		if !have.Truthy() {
			return web.Done{}, errNotFound
		}
		fields.Raw("meta", jsondoc.Object("voice", voice.V.Doc()))
	}
	if !content.Has() && !voice.Has() {
		return web.Done{}, web.Fail(http.StatusBadRequest, "No message changes supplied")
	}
	chat, err := m.Store.UpsertMessage(c.Context(), in.ID, in.MessageID, fields.Done(), true)
	if err != nil {
		return web.Done{}, orElse(err, errProhibited)
	}
	var data jsondoc.Builder
	data.Add("chat_id", in.ID)
	data.Add("message_id", in.MessageID)
	kind := "chat:message"
	if content.Has() {
		data.Raw("content", content.V.doc)
	} else {
		kind = "chat:message:voice"
		data.Raw("voice", voice.V.Doc())
	}
	if err := m.emit(owner, in.ID, in.MessageID, kind, data.Done()); err != nil {
		return web.Done{}, err
	}
	preview, _ := content.V.doc.AsText()
	m.publish(c, "message.updated", in.MessageID, "chat_id", in.ID, "content_preview", firstRunes(preview, 300))
	return answer(c, chat)
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// sharedKinds are events of a message that other readers of a chat get too.
var sharedKinds = map[string]bool{"chat:active": true, "status": true, "source": true, "citation": true, "files": true, "embeds": true, "chat:message:error": true,
	"chat:tasks:cancel": true, "chat:message:follow_ups": true}

type eventData struct {
	Type string      `json:"type"`
	Data jsondoc.Doc `json:"data"`
}

type eventPayload struct {
	ChatID    string    `json:"chat_id"`
	MessageID string    `json:"message_id"`
	Data      eventData `json:"data"`
}

type sharedPayload struct {
	ChatID    string    `json:"chat_id"`
	MessageID string    `json:"message_id"`
	UserID    string    `json:"user_id"`
	Shared    bool      `json:"shared"`
	Data      eventData `json:"data"`
}

// emit sends an event of a message to the chat's owner and, where it concerns them, to its other readers.
func (m *Module) emit(owner, chatID, messageID, kind string, data jsondoc.Doc) error {
	if m.Realtime == nil {
		return nil
	}
	e := eventData{kind, data}
	if err := m.Realtime.Emit("user:"+owner, "events", eventPayload{chatID, messageID, e}); err != nil || !sharedKinds[kind] {
		return err
	}
	return m.Realtime.Emit("chat:"+chatID, "events", sharedPayload{chatID, messageID, owner, true, e})
}

func (m *Module) deleteMessage(c *web.Call, in messageIn) (web.Done, error) {
	if _, err := m.chatOwner(c, in.ID); err != nil {
		return web.Done{}, err
	}
	chat, err := m.Store.DeleteMessage(c.Context(), in.ID, in.MessageID)
	if err != nil {
		return web.Done{}, orElse(err, errProhibited)
	}
	m.publish(c, "message.deleted", in.MessageID, "chat_id", in.ID)
	return answer(c, chat)
}

type eventIn struct {
	ID        string `path:"id"`
	MessageID string `path:"message_id"`
	Body      struct {
		Type string   `json:"type"`
		Data web.Dict `json:"data"`
	}
}

// messageEvent passes an event of a message on to browsers and keeps what it says.
func (m *Module) messageEvent(c *web.Call, in eventIn) (bool, error) {
	owner, err := m.chatOwner(c, in.ID)
	if err != nil {
		return false, err
	}
	data := in.Body.Data.Doc()
	if err := m.emit(owner, in.ID, in.MessageID, in.Body.Type, data); err != nil {
		return false, err
	}
	if err := m.Store.SaveEvent(c.Context(), in.ID, in.MessageID, in.Body.Type, data); err != nil {
		return false, err
	}
	m.publish(c, "message.event_received", in.MessageID, "chat_id", in.ID, "event_type", in.Body.Type)
	return true, nil
}
