package filter

import (
	"context"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// Kind says on which way a model is asked.
type Kind string

// The kinds of calls.
const (
	KindChat  Kind = "chat"  // an answer, in a chat or to a program
	KindTask  Kind = "task"  // work besides answering, see Call.Task
	KindProxy Kind = "proxy" // a program's request that is passed to a provider
)

// Call says what is asked and by whom. Filters must not change it.
type Call struct {
	Principal *auth.Principal // nil where the server itself asks
	Kind      Kind
	Task      string // "title_generation" and the like, for KindTask
	ModelID   string // as clients name it; of an arena the model that was picked
	// Meta is the "meta" of the model's row, where "filterIds" names filters for this model; nil where there is none.
	Meta jsondoc.Doc
	// FilterIDs are the filters that the request switches on ("filter_ids").
	FilterIDs []string

	ChatID, MessageID, SessionID string // each may be empty

	Stream bool // a stream is asked for
	// NoOutlet says that answers to this call are not shown to filters.
	NoOutlet bool
	// Emit sends an event about the message to the caller's browsers; nil where there is no message.
	Emit func(event string, data jsondoc.Doc)
}

// Set knows all filters. It is safe for concurrent use.
type Set interface {
	// For gives the filters that apply to a call, in order; nil if none. It is cheap: no I/O.
	For(c *Call) Chain
}

// Chain is the filters of one call. Its methods are called one after another, and by one goroutine at a time. Documents
// that are given to it must not be changed in place, nor kept after the method returned.
type Chain interface {
	// Inlet sees the chat completion request in OpenAI form and gives the one to go on with. A *web.Error refuses the
	// request, with any status of 400 and above and headers such as Retry-After.
	Inlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error)
	// Stream begins the filtering of one streamed answer; false if no filter looks at streams, so that chunks are passed
	// on as they came. An answer that calls tools is several streams, one after another.
	Stream(ctx context.Context) (StreamFilter, bool)
	// HasOutlet says whether a filter looks at answers: if not, none is put together for Outlet.
	HasOutlet() bool
	// Outlet sees a whole answer: {"model", "messages": [{"id", "role", "content", "info", "timestamp", "output"?,
	// "usage"?, "sources"?, "finish_reason"?}], "filter_ids", "chat_id", "session_id", "id", "usage"?}, where the last
	// message is the answer and "id" is its id. It gives the document to go on with: the contents (and in chats the
	// "output") of messages may be changed.
	Outlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error)
}

// StreamFilter filters the chunks of one streamed answer.
type StreamFilter interface {
	// Chunk takes one chat.completion.chunk (or another event of the stream, such as an error) as a JSON object and gives
	// the chunks to pass on instead, none or more. chunk is valid until it returns. What it gives belongs to the
	// caller until the next call.
	Chunk(ctx context.Context, chunk []byte) ([][]byte, error)
	// Close ends the filtering: the answer has ended, broke off or is not wanted any more. It is called once.
	Close() error
}
