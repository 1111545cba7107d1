package sdk

import "context"

// Filter looks at chats on their way to a model and back. Its functions may be nil. They are called from several
// goroutines at once.
type Filter struct {
	// Priority orders filters: lower ones see a request first; equal ones go by the plugins' ids.
	Priority int
	// Models are the ids of the models it is for; none means all.
	Models []string
	// Tasks has it see also requests that Galley makes by itself: titles, tags and the like.
	Tasks bool
	// Required has chats refused while the filter is down or fails (other than by a [*Refusal]). Otherwise they go on
	// without it.
	Required bool

	// Inlet sees each request before the model does and may change it. An error, best a [*Refusal], ends the request.
	Inlet func(ctx context.Context, req *Body) error
	// Outlet sees a chat after an answer: model, messages, chat_id, id (of the answer), session_id. What it changes in
	// the messages is stored and shown.
	Outlet func(ctx context.Context, body *Body) error
	// Stream is called for each answer that begins, and returns what sees its chunks; nil lets them pass. ctx ends after the
	// last one, or when the client goes.
	Stream func(ctx context.Context) (StreamFilter, error)
}

// StreamFilter sees the chunks of one answer, in order, from one goroutine.
type StreamFilter interface {
	// Chunk returns what goes on in place of a chunk: nothing, the chunk itself, or several.
	Chunk(c Chunk) ([]Chunk, error)
}

// StreamFunc is a [StreamFilter] of a function.
type StreamFunc func(c Chunk) ([]Chunk, error)

// Chunk implements [StreamFilter].
func (f StreamFunc) Chunk(c Chunk) ([]Chunk, error) { return f(c) }
