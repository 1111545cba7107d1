package webhook

import (
	"context"

	"github.com/galleychat/galley/core/events"
)

// Events is the sink of events that tells administrators' webhooks of them.
type Events struct {
	Sender *Sender
	Hooks  *events.Webhooks
	Groups events.Groups
}

// Handle implements events.Sink.
func (d *Events) Handle(_ context.Context, e events.Event) {
	for _, h := range d.Hooks.Wanting(e.Name) {
		m := Of(h.URL, e)
		if h.Targets == nil {
			d.Sender.Queue(m)
			continue
		}
		d.Sender.QueueLater(h.URL, func(ctx context.Context) (Message, bool) {
			ok, err := h.Matches(ctx, events.Concerned(m.Payload), d.Groups)
			if err != nil {
				d.Sender.o.Log.WarnContext(ctx, "it is not known whether a webhook is to be told of an event", "webhook", h.ID, "error", err)
			}
			return m, ok && err == nil
		})
	}
}

// Of is the message that tells of an event.
func Of(url string, e events.Event) Message {
	d, _ := events.Define(e.Name)
	m := Message{URL: url, Text: e.Message, Description: d.Description, Payload: e.Payload()}
	if m.Text == "" {
		m.Text = d.Message
	}
	if id := m.Payload.Text("subject", "id"); id != "" {
		m.Text += " (" + id + ")"
	}
	return m
}
