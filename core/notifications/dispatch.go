package notifications

import (
	"context"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/webhook"
)

// Handle implements events.Sink: it tells those whom an event concerns, by the sender's workers.
func (n *Notifications) Handle(_ context.Context, e events.Event) {
	if !slices.Contains(events.Notifiable, e.Name) || !config.UIEnableUserWebhooks.Get(n.o.Settings.Snapshot()) {
		return
	}
	payload := e.Payload()
	n.o.Sender.QueueLater(section, func(ctx context.Context) (webhook.Message, bool) {
		for _, id := range events.Concerned(payload) {
			if err := n.notify(ctx, id, e, payload); err != nil {
				n.o.Log.WarnContext(ctx, "a user was not notified", "user", id, "event", e.Name, "error", err)
			}
		}
		return webhook.Message{}, false // there is one for each target
	})
}

// notify queues the messages to a user's targets that want the event. Of messages in channels people are told though they
// are active: they may look elsewhere.
func (n *Notifications) notify(ctx context.Context, userID string, e events.Event, payload jsondoc.Doc) error {
	b, err := n.load(ctx, userID)
	if err != nil || len(b.targets) == 0 {
		return err
	}
	active := false
	if e.Name != "channel.message" {
		if active, err = n.o.Users.IsActive(ctx, userID); err != nil {
			return err
		}
	}
	for _, t := range b.targets {
		enabled, delivery := t.Get("enabled"), t.Text("delivery")
		if delivery == "" {
			delivery = "away"
		}
		address := strings.TrimSpace(t.Text("config", "url"))
		if enabled != nil && !enabled.Truthy() || !slices.Contains(t.Get("events").Texts(), e.Name) || delivery == "away" && active || address == "" {
			continue
		}
		m := content(e, payload)
		m.URL = address
		n.o.Sender.Queue(m)
	}
	return nil
}

// content is what people are told of an event.
func content(e events.Event, payload jsondoc.Doc) webhook.Message {
	data := payload.Get("data")
	d, _ := events.Define(e.Name)
	first := func(texts ...string) string {
		for _, s := range texts {
			if s != "" {
				return s
			}
		}
		return ""
	}
	link := func(action, title, shown, text string) webhook.Message {
		url := data.Text("url")
		return webhook.Message{
			Text: "**" + shown + "**", Description: strings.Trim(text+"\n"+url, "\n"),
			Payload: jsondoc.Of(events.Pairs{"action", action, "message", text, "title", title, "url", url}),
		}
	}
	switch e.Name {
	case "chat.finished":
		title := first(data.Text("title"), e.Message, "Chat finished")
		return link("chat", title, title, data.Text("message"))
	case "chat.failed":
		title := first(e.Message, "Chat failed")
		return link("chat_failed", title, title, data.Text("message"))
	case "channel.message":
		title := first(data.Text("title"), e.Message, "Channel")
		return link("channel", title, "#"+title, first(data.Text("content"), data.Text("message")))
	case "calendar.alert":
		title := first(data.Text("title"), e.Message, "Calendar alert")
		id := data.Get("event_id")
		if !id.Truthy() {
			id = payload.Get("subject", "id")
		}
		return webhook.Message{
			Text:    strings.TrimSpace("**" + title + "**\nstarting " + data.Text("starts_in")),
			Payload: jsondoc.Of(events.Pairs{"action", "calendar_alert", "title", title, "minutes_until", data.Get("minutes_until"), "event_id", id}),
		}
	}
	title := first(e.Message, d.Message)
	return webhook.Message{
		Text: title, Description: first(data.Text("message"), data.Text("preview"), data.Text("content_preview"), title), Payload: payload,
	}
}
