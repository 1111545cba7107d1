package llm

import "context"

// Observer learns about calls to providers, for metrics and traces. Its methods must be cheap and safe for
// concurrent use.
type Observer interface {
	// Request reports that a call begins. provider is Provider.ID, model the id that the caller asked for; ctx is the
	// call's.
	Request(ctx context.Context, provider, model string) Call
}

// Call is one observed call.
type Call interface {
	// FirstToken reports the first piece of a streamed answer, at most once.
	FirstToken()
	// Done reports the end, exactly once. err is nil if the answer was complete or its reader stopped early.
	Done(t Tokens, err error)
}

type noCall struct{}

func (noCall) FirstToken()        {}
func (noCall) Done(Tokens, error) {}
