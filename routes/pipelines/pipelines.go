// Package pipelines serves /api/v1/pipelines: what runs on the pipelines servers among the OpenAI-compatible connections,
// and its valves (settings). Every operation names a connection by its index and is passed on to that server. Beside the
// servers one more entry stands for what runs in this process; see [Local].
package pipelines

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// LocalIndex is the index of the local entry. No connection has it, nor is it below zero, which counts the connections
// from the end.
const LocalIndex = math.MaxInt32

// localURL is shown where a server's address is.
const localURL = "Galley plugins"

// Pipeline is a part that administrators see, and set if it has valves.
type Pipeline struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Type   string `json:"type"` // "filter", "pipe", "manifold", …: shown behind the name
	Valves bool   `json:"valves"`
}

// Local is what the entry with [LocalIndex] shows. Of the errors store.ErrNotFound says that there is no such pipeline or
// that it has no valves; a *web.Error is the answer as it is.
//
// The frontend's form reads of a spec only "properties", which must be there, in their order, and of each property: title
// (label), description, enum (a choice, which keeps the type of its values) and type ("boolean": a switch, "array": a text
// split at commas, anything else a text); all inline, without $ref and anyOf. It asks for spec and values also of what has no
// valves. Values:
//   - null is shown as "None" and can be taken back to a value, which begins as ""; the default of a spec is not looked at;
//   - an empty text keeps the form from being saved, so null is the better value for it;
//   - that of an "array" must be an array, and never null, which breaks the form.
//
// What is saved are all values, those without a property among them. What was edited as a text comes as one, numbers too; a
// switch that was not touched after null as ""; an array always as trimmed texts, [""] for none.
type Local interface {
	// Pipelines lists what there is; while there is nothing, the entry is not listed.
	Pipelines(ctx context.Context) []Pipeline
	// Valves gives the values in force, a JSON object.
	Valves(ctx context.Context, id string) (jsondoc.Doc, error)
	// Spec gives the JSON schema of the values.
	Spec(ctx context.Context, id string) (jsondoc.Doc, error)
	// Update replaces the values and gives those in force then.
	Update(ctx context.Context, id string, values jsondoc.Doc) (jsondoc.Doc, error)
}

// Deps are what the module works with.
type Deps struct {
	Registry *llm.Registry
	Settings *config.Settings
	Local    Local // nil for none
	Events   *events.Bus
	Log      *slog.Logger
}

// Module is the tag pipelines of the API.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "pipelines" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /list", web.JSON(auth.Admin, m.list))
	g.Add("POST /upload", web.JSON(auth.Admin, m.upload))
	g.Add("POST /add", web.JSON(auth.Admin, m.add))
	g.Add("DELETE /delete", web.JSON(auth.Admin, m.delete))
	g.Add("GET /", web.JSON(auth.Admin, m.pipelines))
	g.Add("GET /{pipeline_id}/valves", web.JSON(auth.Admin, m.valves))
	g.Add("GET /{pipeline_id}/valves/spec", web.JSON(auth.Admin, m.spec))
	g.Add("POST /{pipeline_id}/valves/update", web.JSON(auth.Admin, m.update))
}

var (
	errNotThere = web.Fail(http.StatusNotFound, textNotThere)
	errNoPython = web.Fail(http.StatusBadRequest, "Only Python (.py) files are allowed.")
	errLocal    = web.Fail(http.StatusBadRequest, "Plugins are not managed here: install them with `galley plugin install` on the server.")
)

// entry is a server, or this process.
type entry struct {
	URL   string `json:"url"`
	Index int    `json:"idx"`
}

type listOut struct {
	Data []entry `json:"data"`
}

// list names the connections whose servers say that they are pipelines servers.
func (m *Module) list(c *web.Call, _ web.None) (listOut, error) {
	m.Registry.ModelsOf(c.Context(), llm.KindOpenAI, models.CallerOf(c.Principal))
	out := listOut{Data: []entry{}}
	for _, p := range m.Registry.Connections(llm.KindOpenAI) {
		conn := p.Connection()
		if server, ok := p.(llm.PipelinesServer); ok && conn.Config.Enable && server.Pipelines() {
			out.Data = append(out.Data, entry{conn.URL, conn.Index})
		}
	}
	if len(m.local(c.Context())) > 0 {
		out.Data = append(out.Data, entry{localURL, LocalIndex})
	}
	return out, nil
}

// local lists the local pipelines.
func (m *Module) local(ctx context.Context) []Pipeline {
	if m.Local == nil {
		return nil
	}
	return m.Local.Pipelines(ctx)
}

// isLocal says whether an index is that of the local entry.
func (m *Module) isLocal(index int) bool { return m.Local != nil && index == LocalIndex }

type pipelinesIn struct {
	Index web.Opt[int] `query:"urlIdx"`
}

func (m *Module) pipelines(c *web.Call, in pipelinesIn) (jsondoc.Doc, error) {
	if !in.Index.Has() || m.isLocal(in.Index.V) {
		list := m.local(c.Context())
		switch {
		case len(list) > 0:
			return jsondoc.Object("data", jsondoc.Of(list)), nil
		case !in.Index.Has():
			return nil, errNotThere
		}
		return jsondoc.Doc(`{"data":[]}`), nil
	}
	return m.ask(c, in.Index.V, order{method: http.MethodGet, path: []string{"pipelines"}})
}

type addIn struct {
	Body struct {
		URL   string `json:"url"`
		Index int    `json:"urlIdx"`
	}
}

func (m *Module) add(c *web.Call, in addIn) (jsondoc.Doc, error) {
	if m.isLocal(in.Body.Index) {
		return nil, errLocal
	}
	out, err := m.ask(c, in.Body.Index, order{method: http.MethodPost, path: []string{"pipelines", "add"},
		body: jsondoc.Object("url", jsondoc.Text(in.Body.URL)), changes: true})
	m.changed(c, err, "pipeline.added", idOr(out, in.Body.URL), in.Body.Index, "url", in.Body.URL)
	return out, err
}

type deleteIn struct {
	Body struct {
		ID    string `json:"id"`
		Index int    `json:"urlIdx"`
	}
}

func (m *Module) delete(c *web.Call, in deleteIn) (jsondoc.Doc, error) {
	if m.isLocal(in.Body.Index) {
		return nil, errLocal
	}
	out, err := m.ask(c, in.Body.Index, order{method: http.MethodDelete, path: []string{"pipelines", "delete"},
		body: jsondoc.Object("id", jsondoc.Text(in.Body.ID)), changes: true})
	m.changed(c, err, "pipeline.deleted", in.Body.ID, in.Body.Index)
	return out, err
}

type uploadIn struct {
	Index int        `form:"urlIdx"`
	File  web.Upload `form:"file"`
}

func (m *Module) upload(c *web.Call, in uploadIn) (jsondoc.Doc, error) {
	switch {
	case m.isLocal(in.Index):
		return nil, errLocal
	case !strings.HasSuffix(in.File.Filename, ".py"):
		return nil, errNoPython
	}
	out, err := m.ask(c, in.Index, order{method: http.MethodPost, path: []string{"pipelines", "upload"}, file: &in.File, changes: true})
	m.changed(c, err, "pipeline.uploaded", idOr(out, in.File.Filename), in.Index, "filename", in.File.Filename)
	return out, err
}

// valvesIn names a pipeline. The index has to be given.
type valvesIn struct {
	ID    string        `path:"pipeline_id"`
	Index web.Null[int] `query:"urlIdx"`
}

func (m *Module) valves(c *web.Call, in valvesIn) (jsondoc.Doc, error) {
	if m.isLocal(in.Index.V) {
		return given(m.Local.Valves(c.Context(), in.ID))
	}
	return m.ask(c, in.Index.V, order{method: http.MethodGet, path: []string{in.ID, "valves"}})
}

func (m *Module) spec(c *web.Call, in valvesIn) (jsondoc.Doc, error) {
	if m.isLocal(in.Index.V) {
		return given(m.Local.Spec(c.Context(), in.ID))
	}
	return m.ask(c, in.Index.V, order{method: http.MethodGet, path: []string{in.ID, "valves", "spec"}})
}

type updateIn struct {
	ID    string        `path:"pipeline_id"`
	Index web.Null[int] `query:"urlIdx"`
	Body  web.Dict
}

func (m *Module) update(c *web.Call, in updateIn) (jsondoc.Doc, error) {
	if m.isLocal(in.Index.V) {
		out, err := given(m.Local.Update(c.Context(), in.ID, in.Body.Doc()))
		m.changed(c, err, "pipeline.valves_updated", in.ID, in.Index.V)
		return out, err
	}
	out, err := m.ask(c, in.Index.V, order{method: http.MethodPost, path: []string{in.ID, "valves", "update"}, body: in.Body.Doc(), changes: true})
	m.changed(c, err, "pipeline.valves_updated", in.ID, in.Index.V)
	return out, err
}

// changed tells what became of a server's pipelines, unless there was an error.
func (m *Module) changed(c *web.Call, err error, name, id string, index int, more ...any) {
	if err == nil {
		m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectID: id, Data: append(events.Pairs{"url_idx", index}, more...)})
	}
}

// idOr is the id that a server gave, or another name for what it was given.
func idOr(answer jsondoc.Doc, name string) string {
	if id := answer.Text("id"); id != "" {
		return id
	}
	return name
}

// given is the answer to what Local gave.
func given(doc jsondoc.Doc, err error) (jsondoc.Doc, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNotThere
	}
	return doc, err
}
