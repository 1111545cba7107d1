package app

import (
	"context"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// bodyIn is a request whose body is an object of any content.
type bodyIn struct{ Body web.Dict }

// caller describes who sends a request to providers.
func (m *Module) caller(c *web.Call) *llm.Caller {
	out := models.CallerOf(c.Principal)
	out.UserAgent = c.R.UserAgent()
	if len(c.R.Header["Cookie"]) > 0 {
		out.Cookies = c.R.Cookies()
	}
	id := c.Principal.ID
	out.Groups = func(ctx context.Context) ([]llm.Group, error) {
		list, err := m.Access.Groups().OfUser(ctx, id, true)
		groups := make([]llm.Group, len(list))
		for i, g := range list {
			groups[i] = llm.Group{ID: g.ID, Name: g.Name}
		}
		return groups, err
	}
	return out
}

// complete answers a chat completion request: with ids of tasks where the answer goes to a chat, else with what the
// provider says, as it says it.
func (m *Module) complete(c *web.Call, in bodyIn) (any, error) {
	c.ForModel(in.Body.Doc().Text("model"))
	res, err := m.Turns.Run(c.Context(), turn.Request{Principal: c.Principal, Caller: m.caller(c), Body: in.Body.Doc()})
	if err != nil {
		return providerAnswer(err)
	}
	if res.Response == nil {
		return res.Body, nil
	}
	return relay(c, res.Response)
}

// providerAnswer passes on what a provider that refused has said.
func providerAnswer(err error) (any, error) {
	var u *llm.UpstreamError
	if !errors.As(err, &u) {
		return nil, err
	}
	return web.Raw{Status: u.Status, Header: u.Header(), Type: u.ContentType, Body: u.Body}, nil
}

// brokenOff ends a stream that its provider did not end. It begins with an end of line, since the provider may have
// stopped within one.
const brokenOff = "\n\ndata: {\"error\":{\"message\":\"Chat completion stream failed\"}}\n\ndata: [DONE]\n\n"

// relay passes a provider's answer on.
func relay(c *web.Call, r *llm.Response) (any, error) {
	if !r.Stream {
		defer r.Close()
		c.Status(r.Status)
		return jsondoc.Doc(r.JSON()), nil
	}
	h := c.Header()
	for k, v := range r.Header {
		h[k] = v
	}
	c.W.WriteHeader(r.Status)
	ctl := http.NewResponseController(c.W)
	flush := func() error {
		if err := ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
	if err := flush(); err != nil { // the client sees at once that the answer has begun
		return web.Done{}, errors.Join(err, r.Close())
	}
	err := r.CopyTo(c.W, flush)
	var broken *llm.StreamError
	if !errors.As(err, &broken) || c.Context().Err() != nil {
		return web.Done{}, err
	}
	c.Log.WarnContext(c.Context(), "a provider broke off its answer", "error", err, "request_id", web.RequestID(c.Context()))
	if _, err := c.W.Write([]byte(brokenOff)); err != nil {
		return web.Done{}, err
	}
	return web.Done{}, flush()
}
