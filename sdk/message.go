package sdk

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Message is one message of a chat in OpenAI's form. Members that it does not name are kept as they are.
type Message struct {
	Role    string
	Content json.RawMessage // a string, a list of parts, or null; nil is no content
	members object          // as they were read, role and content among them
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

// Get decodes another member, such as "tool_calls", into v and says whether it is there and fits.
func (m Message) Get(name string, v any) bool {
	raw, ok := m.members.get(name)
	return ok && json.Unmarshal(raw, v) == nil
}

// Set replaces another member, such as "tool_call_id". The error says that v cannot be encoded.
func (m *Message) Set(name string, v any) error {
	raw, err := marshal(v)
	if err != nil {
		return err
	}
	m.members = slices.Clone(m.members).with(name, raw) // copies of the message keep theirs
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Message) UnmarshalJSON(b []byte) error {
	o, err := parseObject(b)
	if err != nil {
		return err
	}
	content, _ := o.get("content")
	*m = Message{Role: roleOf(o), Content: content, members: o}
	return nil
}

func roleOf(o object) (role string) {
	raw, _ := o.get("role")
	if json.Unmarshal(raw, &role) != nil { // absent, or no text
		return ""
	}
	return role
}

// MarshalJSON implements json.Marshaler.
func (m Message) MarshalJSON() ([]byte, error) {
	o := slices.Clone(m.members)
	if o == nil || m.Role != roleOf(o) {
		o = o.with("role", mustJSON(m.Role))
	}
	if m.Content == nil {
		o = o.without("content")
	} else {
		o = o.with("content", m.Content)
	}
	return o.append(nil), nil
}

// Body is a JSON object that is decoded only where it is looked at: a chat completion request, or what a filter sees
// after an answer. It is for one goroutine.
type Body struct {
	raw     json.RawMessage
	members object
	opened  bool
	changed bool
	err     error
}

// NewBody makes a body of a JSON object.
func NewBody(raw []byte) *Body { return &Body{raw: raw} }

// open takes the object apart. What is no object has no members, and cannot be changed.
func (b *Body) open() object {
	if !b.opened {
		b.opened = true
		if b.members, b.err = parseObject(b.raw); b.err != nil {
			b.err = fmt.Errorf("the body cannot be changed: %w", b.err)
		}
	}
	return b.members
}

// Get decodes a member into v and says whether it is there and fits.
func (b *Body) Get(name string, v any) bool {
	raw, ok := b.open().get(name)
	return ok && json.Unmarshal(raw, v) == nil
}

// Set replaces a member. Where v cannot be encoded, [Body.Err] says so and the call that the body belongs to fails.
func (b *Body) Set(name string, v any) {
	raw, err := marshal(v)
	b.open()
	b.changed = true
	if b.err != nil {
		return
	}
	if err != nil {
		b.err = fmt.Errorf("member %q: %w", name, err)
		return
	}
	b.members = b.members.with(name, raw)
}

// Delete removes a member.
func (b *Body) Delete(name string) {
	if _, ok := b.open().get(name); ok {
		b.members = b.members.without(name)
		b.changed = true
	}
}

// Err is the first error of Set.
func (b *Body) Err() error {
	if !b.changed {
		return nil
	}
	return b.err
}

// Messages gives the member "messages"; changing them needs [Body.SetMessages]. It is nil if one of them is no object.
func (b *Body) Messages() []Message {
	var ms []Message
	if !b.Get("messages", &ms) {
		return nil
	}
	return ms
}

// SetMessages replaces the member "messages".
func (b *Body) SetMessages(ms []Message) { b.Set("messages", ms) }

// Raw is the whole object. Members that were not set have the text that they had.
func (b *Body) Raw() json.RawMessage {
	if !b.changed || b.err != nil {
		return b.raw
	}
	return b.members.append(make([]byte, 0, len(b.raw)+64))
}

// MarshalJSON implements json.Marshaler.
func (b *Body) MarshalJSON() ([]byte, error) { return b.Raw(), b.Err() }

// Changed says whether Set or Delete were called.
func (b *Body) Changed() bool { return b.changed }
