// Package events tells what happens on the server, under the reference's names (user.created, chat.finished, …), to
// those who want to know: webhooks, notifications, live connections.
package events

import (
	"context"
	"sync/atomic"

	"github.com/galleychat/galley/core/store/users"
)

// Event is something that happened.
type Event struct {
	Name        string      // such as auth.login; its last part is the operation, what stands before it the resource
	Actor       *users.User // who did it; nil for nobody
	SubjectType string      // kind of what it happened to; "" means the resource
	SubjectID   string      // what it happened to; "" with no SubjectType means nothing in particular
	Source      string      // "" means api
	Data        any         // a JSON object; nil means {}
	Message     string      // words of its own; "" means those of the name
}

// Sink is told of events, one after the other for each Publish. It must not block: what takes long is done elsewhere.
type Sink func(ctx context.Context, e Event)

// Bus hands events to its sinks. A nil Bus has none.
type Bus struct{ sinks atomic.Pointer[[]Sink] }

// Subscribe adds a sink. Call it before requests are served.
func (b *Bus) Subscribe(s Sink) {
	var all []Sink
	if old := b.sinks.Load(); old != nil {
		all = append(all, *old...)
	}
	all = append(all, s)
	b.sinks.Store(&all)
}

// Publish tells all sinks. It is for what is done and stored already.
func (b *Bus) Publish(ctx context.Context, e Event) {
	if b == nil {
		return
	}
	if sinks := b.sinks.Load(); sinks != nil {
		for _, s := range *sinks {
			s(ctx, e)
		}
	}
}
