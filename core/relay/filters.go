package relay

import (
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// FiltersOf finds the filters of a program's request for a model as clients name it; nil for none.
func (r *Resolver) FiltersOf(c *web.Call, modelID string, body jsondoc.Doc) *filter.Filters {
	if r.Filters == nil {
		return nil
	}
	call := filter.Call{
		Principal: c.Principal, Kind: filter.KindProxy, ModelID: modelID, Stream: body.Get("stream").Truthy(), NoOutlet: r.NoOutlet,
		ChatID: body.Text("metadata", "chat_id"), MessageID: body.Text("metadata", "message_id"),
	}
	if row, err := r.Catalog.Row(c.Context(), modelID); err == nil && row != nil {
		call.Meta = row.Meta
	}
	return filter.For(r.Filters, call, c.Log)
}

// Allow asks the filters about a request in another form than OpenAI's, which they may refuse.
func (r *Resolver) Allow(c *web.Call, modelID string, body jsondoc.Doc) error {
	if r.Filters == nil {
		return nil
	}
	return r.FiltersOf(c, modelID, body).Allow(c.Context(), body)
}

// Inlet has filters change or refuse a chat completion request for a model that the caller may use. A request that is
// for another model afterwards goes to that, if the caller may use it.
func (r *Resolver) Inlet(c *web.Call, m Model, body jsondoc.Doc) (Model, jsondoc.Doc, *filter.Filters, error) {
	asked := body.Text("model")
	f := r.FiltersOf(c, asked, body)
	if f == nil {
		return m, body, nil, nil
	}
	body, err := f.Inlet(c.Context(), body)
	if err != nil {
		return m, nil, nil, err
	}
	if now := body.Text("model"); now != asked {
		m, err = r.Resolve(c.Context(), c.Principal, now)
	}
	return m, body, f, err
}
