package llm

import "context"

// Refusal is a request that a provider answered with an error.
type Refusal struct {
	Connection Connection
	Address    string // what was asked; "" means the connection's URL
	Model      string // what was asked for; "" where that is not known
	Status     int
	Body       []byte
	Type       string  // media type of the body
	Caller     *Caller // nil for the server itself
}

// reporter is a provider that tells the client of refusals.
type reporter interface {
	Refused(ctx context.Context, r Refusal)
}

// Refused tells whoever wants to know (see [ClientOptions]) of a request that p, a provider of the settings, refused.
func Refused(ctx context.Context, p Provider, r Refusal) {
	if rp, ok := p.(reporter); ok {
		rp.Refused(ctx, r)
	}
}

// Refused tells whoever wants to know of a request that a provider refused.
func (c *Client) Refused(ctx context.Context, r Refusal) {
	if c.opts.Refused == nil {
		return
	}
	if r.Address == "" {
		r.Address = r.Connection.URL
	}
	c.opts.Refused(ctx, r)
}
