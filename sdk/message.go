package sdk

import (
	"encoding/json"
	"strings"
)

// Message is one message of a chat in OpenAI's form. Members that it does not name are kept.
type Message struct {
	Role    string
	Content json.RawMessage // a string, a list of parts, or null
	members map[string]json.RawMessage
}

// UserMessage makes a message.
func UserMessage(text string) Message { return textMessage("user", text) }

// AssistantMessage makes a message.
func AssistantMessage(text string) Message { return textMessage("assistant", text) }

// SystemMessage makes a message.
func SystemMessage(text string) Message { return textMessage("system", text) }

func textMessage(role, text string) Message {
	m := Message{Role: role}
	m.SetText(text)
	return m
}

// Text is the message's text: that of its text parts, joined, where the content is a list.
func (m Message) Text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct{ Type, Text string }
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

// SetText replaces the content by a text.
func (m *Message) SetText(s string) { m.Content = mustJSON(s) }

// Get decodes another member, such as "tool_calls", into v and says whether it is there.
func (m Message) Get(name string, v any) bool {
	raw, ok := m.members[name]
	return ok && json.Unmarshal(raw, v) == nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Message) UnmarshalJSON(b []byte) error {
	m.members = nil
	if err := json.Unmarshal(b, &m.members); err != nil {
		return err
	}
	_ = json.Unmarshal(m.members["role"], &m.Role) // absent: ""
	m.Content = m.members["content"]
	delete(m.members, "role")
	delete(m.members, "content")
	return nil
}

// MarshalJSON implements json.Marshaler.
func (m Message) MarshalJSON() ([]byte, error) {
	out := make(map[string]json.RawMessage, len(m.members)+2)
	for k, v := range m.members {
		out[k] = v
	}
	out["role"] = mustJSON(m.Role)
	if m.Content != nil {
		out["content"] = m.Content
	}
	return json.Marshal(out)
}

// Body is a JSON object that is decoded only where it is looked at: a chat completion request, or what a filter sees
// after an answer.
type Body struct {
	raw     json.RawMessage
	members map[string]json.RawMessage
	changed bool
}

// NewBody makes a body of a JSON object.
func NewBody(raw []byte) *Body { return &Body{raw: raw} }

func (b *Body) open() map[string]json.RawMessage {
	if b.members == nil {
		b.members = map[string]json.RawMessage{}
		_ = json.Unmarshal(b.raw, &b.members) // what is no object has no members
	}
	return b.members
}

// Get decodes a member into v and says whether it is there and fits.
func (b *Body) Get(name string, v any) bool {
	raw, ok := b.open()[name]
	return ok && json.Unmarshal(raw, v) == nil
}

// Set replaces a member.
func (b *Body) Set(name string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		return
	}
	b.open()[name] = raw
	b.changed = true
}

// Delete removes a member.
func (b *Body) Delete(name string) {
	delete(b.open(), name)
	b.changed = true
}

// Messages gives the member "messages"; changing them needs [Body.SetMessages].
func (b *Body) Messages() []Message {
	var ms []Message
	b.Get("messages", &ms)
	return ms
}

// SetMessages replaces the member "messages".
func (b *Body) SetMessages(ms []Message) { b.Set("messages", ms) }

// Raw is the whole object.
func (b *Body) Raw() json.RawMessage {
	if !b.changed {
		return b.raw
	}
	return mustJSON(b.members)
}

// Changed says whether Set or Delete were called.
func (b *Body) Changed() bool { return b.changed }

// mustJSON encodes what cannot fail to encode.
func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("sdk: " + err.Error())
	}
	return raw
}
