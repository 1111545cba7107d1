// Package events tells what happens on the server, under the reference's names (user.created, chat.finished, …), to
// those who want to know: webhooks, notifications, live connections.
//
// Modules publish what is done and stored; sinks are told on the publisher's goroutine and do what takes long
// elsewhere. The names are those of the catalogue ([Names]), the form in which an event leaves the server is [Event.Payload],
// and [Webhooks] says which of an administrator's webhooks want it.
package events

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

// Event is something that happened.
type Event struct {
	Name        string      // such as auth.login; its last part is the operation, what stands before it the resource
	Actor       *users.User // who did it; nil for nobody
	SubjectType string      // kind of what it happened to; "" means the resource
	SubjectID   string      // what it happened to; "" with no SubjectType means nothing in particular
	Source      string      // "" means api
	Data        any         // a JSON object, best Pairs; nil means {}
	Message     string      // words of its own; "" means those of the name

	told *told
}

// told is what the sinks of one Publish share.
type told struct {
	instance string
	payload  jsondoc.Doc // nil until one asks for it
}

// Pairs are names and values by turns: an object whose members keep their order.
type Pairs []any

// MarshalJSONTo implements json.MarshalerTo.
func (p Pairs) MarshalJSONTo(e *jsontext.Encoder) error { return p.doc().MarshalJSONTo(e) }

func (p Pairs) doc() jsondoc.Doc {
	var b jsondoc.Builder
	for i := 0; i+1 < len(p); i += 2 {
		b.Add(p[i].(string), p[i+1])
	}
	return b.Done()
}

// Sink is told of events, one after the other for each Publish. It must not block: what takes long is done elsewhere.
type Sink func(ctx context.Context, e Event)

// Bus hands events to its sinks. A nil Bus has none.
type Bus struct {
	instance string
	sinks    atomic.Pointer[[]Sink]
}

// NewBus makes a bus of the process with an instance id.
func NewBus(instance string) *Bus { return &Bus{instance: instance} }

// Subscribe adds a sink. Call it before requests are served.
func (b *Bus) Subscribe(s Sink) {
	var all []Sink
	if old := b.sinks.Load(); old != nil {
		all = append(all, *old...)
	}
	all = append(all, s)
	b.sinks.Store(&all)
}

// Publish tells all sinks. It is for what is done and stored already: a sink that fails changes nothing of it.
func (b *Bus) Publish(ctx context.Context, e Event) {
	if b == nil {
		return
	}
	if sinks := b.sinks.Load(); sinks != nil {
		e.told = &told{instance: b.instance}
		for _, s := range *sinks {
			tell(ctx, s, e)
		}
	}
}

func tell(ctx context.Context, s Sink, e Event) {
	defer func() {
		if p := recover(); p != nil {
			slog.ErrorContext(ctx, "panic in a sink of events", "event", e.Name, "panic", p)
		}
	}()
	s(ctx, e)
}
