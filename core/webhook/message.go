// Package webhook sends messages to addresses of administrators and users: events to webhooks, notifications to people.
//
// [Sender] does so off the path of whoever has something to tell. Each address has a bounded queue of its own, in which
// messages keep their order, and at most one request in flight; a few workers serve the queues in turn. So a receiver
// that is slow or dead delays nobody else's messages, and loses its own once its queue is full. What fails for want of a
// connection, or with a status of 500 and above, is tried again a few times after a pause in which no worker waits.
package webhook

import (
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// Message is what is to be told. Receivers of a known make are given Text and Description in their form, others the
// payload.
type Message struct {
	URL         string
	Text        string
	Description string
	Payload     jsondoc.Doc
}

// maxDiscord is how many characters Discord takes.
const maxDiscord = 2000

// body is the JSON that the receiver is sent. name is the server's, icon the address of its picture or "".
func (m *Message) body(name, icon string) jsondoc.Doc {
	switch {
	case strings.Contains(m.URL, "https://hooks.slack.com"), strings.Contains(m.URL, "https://chat.googleapis.com"):
		return jsondoc.Object("text", jsondoc.Text(m.plain()))
	case strings.Contains(m.URL, "https://discord.com/api/webhooks"):
		text := m.plain()
		if utf8.RuneCountInString(text) >= maxDiscord {
			text = string([]rune(text)[:maxDiscord-20]) + "... (truncated)"
		}
		return jsondoc.Object("content", jsondoc.Text(text))
	case strings.Contains(m.URL, "webhook.office.com"):
		return m.card(name, icon)
	}
	return m.Payload
}

// plain is the message as text alone.
func (m *Message) plain() string {
	lines := []string{m.Text}
	if m.Description != "" && m.Description != m.Text {
		lines = append(lines, m.Description)
	}
	if event := m.Payload.Text("event"); event != "" {
		lines = append(lines, "Event: "+event)
	}
	return strings.Join(lines, "\n")
}

type fact struct {
	Name  string      `json:"name"`
	Value jsondoc.Doc `json:"value"`
}

// card is the message as a card of Microsoft Teams.
func (m *Message) card(name, icon string) jsondoc.Doc {
	facts := []fact{}
	description := jsondoc.Doc("null")
	if m.Description != "" {
		description = jsondoc.Text(m.Description)
		facts = append(facts, fact{"description", description})
	}
	if event := m.Payload.Get("event"); event.Truthy() {
		facts = append(facts, fact{"event", event})
	}
	who := m.Payload.Get("user")
	if !who.Truthy() {
		who = m.Payload.Get("actor")
	}
	who.Each(func(name string, v jsondoc.Doc) bool {
		facts = append(facts, fact{name, v})
		return true
	})
	action := m.Payload.Text("action")
	if action == "" {
		action = "undefined"
	}
	var section jsondoc.Builder
	section.Add("activityTitle", m.Text)
	section.Add("activitySubtitle", name+" ("+config.Version+") - "+action)
	if icon != "" {
		section.Add("activityImage", icon)
	}
	section.Raw("text", description)
	section.Add("facts", facts)
	section.Add("markdown", true)
	var b jsondoc.Builder
	b.Add("@type", "MessageCard")
	b.Add("@context", "http://schema.org/extensions")
	b.Add("themeColor", "0076D7")
	b.Add("summary", m.Text)
	b.Raw("sections", jsondoc.Array(section.Done()))
	return b.Done()
}
