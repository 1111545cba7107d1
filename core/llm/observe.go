package llm

import "context"

// Observer learns about calls to providers, for metrics and traces. Its methods must be cheap and safe for
// concurrent use.
type Observer interface {
	// Request reports that a call begins. provider is Provider.ID, model the id that the caller asked for; ctx is the
	// call's.
	Request(ctx context.Context, provider, model string) Call
	// Again reports that a request that failed is sent once more, to this provider: how is "retry" for the same, "failover"
	// for another.
	Again(provider, how string)
	// Circuit reports that a provider is not asked for a while, or is asked again.
	Circuit(provider string, open bool)
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
