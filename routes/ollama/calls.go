package ollama

import (
	"errors"
	"net/http"
	"slices"

	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	backend "github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/web"
)

// call is a request to a server.
type call struct {
	method, path string
	body         jsondoc.Doc
	stream       bool   // pass the answer on as it comes; else its JSON
	kind         string // media type of the answer; "" for the server's
	meta         llm.CallMeta
	filters      *filter.Filters // of the answer, to a request in OpenAI's form
	request      jsondoc.Doc     // the one that filters know
}

// send passes a request on and its answer back.
func (m *Module) send(c *web.Call, p llm.Connected, out call) (web.Done, error) {
	caller := models.CallerOf(c.Principal)
	caller.Meta = out.meta
	if !out.stream {
		d, err := relay.Ask(c.Context(), p, out.method, out.path, out.body, caller)
		if err != nil {
			return web.Done{}, err
		}
		return web.Done{}, web.WriteJSON(c.W, http.StatusOK, out.filters.Whole(c.Context(), out.request, d))
	}
	resp, err := p.Do(c.Context(), out.method, out.path, out.body, true, caller)
	if err != nil {
		if ctxErr := c.Context().Err(); ctxErr != nil {
			return web.Done{}, ctxErr
		}
		return web.Done{}, relay.OllamaFailure(err)
	}
	if resp.StatusCode >= 400 {
		return web.Done{}, relay.OllamaRefusal(c.Context(), p, out.path, resp, caller)
	}
	h := llm.RelayHeader(resp.Header)
	if out.kind != "" {
		h.Set("Content-Type", out.kind)
	}
	return web.Done{}, relay.Response(c, out.filters.Response(c.Context(), out.request, llm.NewRawStream(resp.StatusCode, h, resp.Body)))
}

// serving is a server that has a model: the one named by index, which for users must have it, or any.
func (m *Module) serving(c *web.Call, model string, index *int) (llm.Connected, error) {
	if index != nil && c.IsAdmin() {
		return m.connection(*index)
	}
	t, err := m.Registry.ResolveOf(c.Context(), llm.KindOllama, models.CallerOf(c.Principal), model)
	if err != nil && !errors.Is(err, llm.ErrModelNotFound) {
		return nil, err
	}
	switch {
	case index != nil && (err != nil || !slices.Contains(t.Model.Indexes, *index)):
		return nil, web.Fail(http.StatusForbidden, web.TextProhibited)
	case index != nil:
		return m.connection(*index)
	case err != nil:
		return nil, unknown(model)
	}
	return m.connection(t.Index)
}

// first is the first server that has a model, or the one named: for changes of models, which are not spread.
func (m *Module) first(c *web.Call, model string, index *int) (llm.Connected, error) {
	if index != nil {
		return m.connection(*index)
	}
	list := m.Registry.ModelsOf(c.Context(), llm.KindOllama, models.CallerOf(c.Principal))
	i := slices.IndexFunc(list, func(one llm.Model) bool { return one.ID == model })
	if i < 0 {
		return nil, unknown(model)
	}
	return m.connection(list[i].Indexes[0])
}

// nameForm names a model; older clients say "name".
type nameForm struct {
	Model web.Opt[string] `json:"model"`
	Extra web.Extra       `json:"-"`
}

// sent is the form with the model's name in "model".
func (f *nameForm) sent() (*jsondoc.Obj, string) {
	out := relay.Sent(struct {
		Model web.Opt[string] `json:"model"`
	}{f.Model}, f.Extra)
	if !out.Has("model") {
		out.Set("model", out.Get("name").Or(jsondoc.Doc("null")))
	}
	return out, out.Text("model")
}

func (m *Module) pull(c *web.Call, f nameForm, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	p, err := m.connection(at(index))
	if err != nil {
		return web.Done{}, err
	}
	body, _ := f.sent()
	body.Set("insecure", jsondoc.Doc("true")) // administrators may pull from any registry
	defer m.Registry.Refresh()
	return m.send(c, p, call{method: http.MethodPost, path: "/api/pull", body: body.Doc(), stream: true})
}

func at(index *int) int {
	if index == nil {
		return 0
	}
	return *index
}

type pushForm struct {
	Model    string        `json:"model"`
	Insecure web.Opt[bool] `json:"insecure"`
	Stream   web.Opt[bool] `json:"stream"`
}

func (m *Module) push(c *web.Call, f pushForm, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	p, err := m.first(c, f.Model, index)
	if err != nil {
		return web.Done{}, err
	}
	return m.send(c, p, call{method: http.MethodPost, path: "/api/push", body: relay.Sent(f, nil).Doc(), stream: true})
}

type createForm struct {
	Model  web.Opt[string] `json:"model"`
	Stream web.Opt[bool]   `json:"stream"`
	Path   web.Opt[string] `json:"path"`
	Extra  web.Extra       `json:"-"`
}

func (m *Module) create(c *web.Call, f createForm, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	p, err := m.connection(at(index))
	if err != nil {
		return web.Done{}, err
	}
	defer m.Registry.Refresh()
	return m.send(c, p, call{method: http.MethodPost, path: "/api/create", body: relay.Sent(f, f.Extra).Doc(), stream: true})
}

type copyForm struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

func (m *Module) copy(c *web.Call, f copyForm, index *int) (web.Done, error) {
	return m.change(c, f.Source, index, call{method: http.MethodPost, path: "/api/copy", body: jsondoc.Of(f)}, func(i int) events.Event {
		return events.Event{Name: "model.provider_model.created", SubjectID: f.Destination, Data: events.Pairs{"provider", "ollama", "source", f.Source, "url_idx", i}}
	})
}

func (m *Module) delete(c *web.Call, f nameForm, index *int) (web.Done, error) {
	body, model := f.sent()
	return m.change(c, model, index, call{method: http.MethodDelete, path: "/api/delete", body: body.Doc()}, func(i int) events.Event {
		return events.Event{Name: "model.provider_model.deleted", SubjectID: model, Data: events.Pairs{"provider", "ollama", "url_idx", i}}
	})
}

// change has the first server of a model do something and answers true. event tells of it, by the server's index.
func (m *Module) change(c *web.Call, model string, index *int, out call, event func(int) events.Event) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	p, err := m.first(c, model, index)
	if err != nil {
		return web.Done{}, err
	}
	if _, err := relay.Ask(c.Context(), p, out.method, out.path, out.body, models.CallerOf(c.Principal)); err != nil {
		return web.Done{}, err
	}
	m.Registry.Refresh()
	e := event(p.Connection().Index)
	e.Actor = c.Principal.User
	m.Events.Publish(c.Context(), e)
	return web.Done{}, web.WriteJSON(c.W, http.StatusOK, true)
}

type nameIn struct {
	Body nameForm
}

func (m *Module) unload(c *web.Call, in nameIn) (jsondoc.Doc, error) {
	_, model := in.Body.sent()
	if model == "" {
		return nil, web.Fail(http.StatusBadRequest, "Missing name of the model to unload.")
	}
	list := m.Registry.ModelsOf(c.Context(), llm.KindOllama, models.CallerOf(c.Principal))
	if !slices.ContainsFunc(list, func(one llm.Model) bool { return one.ID == model }) {
		return nil, unknown(model)
	}
	return m.relay.Unload(c.Context(), m.Registry, c.Principal, model)
}

func (m *Module) show(c *web.Call, in nameIn) (jsondoc.Doc, error) {
	if err := m.enabled(); err != nil {
		return nil, err
	}
	body, model := in.Body.sent()
	if err := m.access(c, model); err != nil {
		return nil, err
	}
	p, err := m.serving(c, model, nil)
	if err != nil {
		return nil, err
	}
	return relay.Ask(c.Context(), p, http.MethodPost, "/api/show", body.Doc(), models.CallerOf(c.Principal))
}

func (m *Module) access(c *web.Call, model string) error {
	err := m.Catalog.RowAccess(c.Context(), c.Principal, model)
	if errors.Is(err, models.ErrNotFound) {
		return relay.ErrNoAccess
	}
	return err
}

// vector sends a request with a provider's model, such as one for embeddings, to a server that has it.
func (m *Module) vector(c *web.Call, model string, index *int, body *jsondoc.Obj, out call) (web.Done, error) {
	c.ForModel(model)
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	if err := m.access(c, model); err != nil {
		return web.Done{}, err
	}
	p, err := m.serving(c, model, index)
	if err != nil {
		return web.Done{}, err
	}
	if out.stream && m.Filters != nil { // an answer, in contrast to vectors
		if err := m.relay.Allow(c, model, body.Doc()); err != nil {
			return web.Done{}, err
		}
	}
	conn := p.Connection()
	body.Set("model", jsondoc.Text(conn.Upstream(model)))
	out.method, out.body = http.MethodPost, body.Doc()
	out.meta.ModelID = model
	return m.send(c, p, out)
}

func (m *Module) embed(c *web.Call, f embedForm, index *int) (web.Done, error) {
	return m.vector(c, f.Model, index, relay.Sent(f, f.Extra), call{path: "/api/embed"})
}

func (m *Module) embeddings(c *web.Call, f embeddingsForm, index *int) (web.Done, error) {
	return m.vector(c, f.Model, index, relay.Sent(f, nil), call{path: "/api/embeddings"})
}

func (m *Module) generate(c *web.Call, f generateForm, index *int) (web.Done, error) {
	if !f.Stream.Set {
		f.Stream = web.Some(true)
	}
	return m.vector(c, f.Model, index, relay.Sent(f, nil), call{path: "/api/generate", stream: true})
}

// completion is a request that a workspace model may stand for.
type completion struct {
	path   string
	body   jsondoc.Doc
	system bool                                      // the model's system prompt is added
	params func(body, params []byte) ([]byte, error) // puts the model's params in; nil for none
	out    func(*jsondoc.Obj) call                   // what is sent
	form   form                                      // how filters see it
}

// form is how filters see a request.
type form int

const (
	otherForm form = iota // in another form than OpenAI's, which they may refuse
	chatForms             // as a chat completion, which they may change
	vectors               // not at all
)

// complete resolves the model of a request and sends it to a server that has it.
func (m *Module) complete(c *web.Call, index *int, q completion) (web.Done, error) {
	ctx, asked := c.Context(), q.body.Text("model")
	c.ForModel(asked)
	model, err := m.relay.Resolve(ctx, c.Principal, asked)
	if err != nil {
		return web.Done{}, err
	}
	var filters *filter.Filters
	switch q.form {
	case otherForm:
		err = m.relay.Allow(c, asked, q.body)
	case chatForms:
		model, q.body, filters, err = m.relay.Inlet(c, model, q.body)
	}
	if err != nil {
		return web.Done{}, err
	}
	request := q.body
	meta := llm.CallMeta{ModelID: asked, ChatID: q.body.Text("metadata", "chat_id"), MessageID: q.body.Text("metadata", "message_id")}
	if q.system {
		q.body = m.relay.Body(ctx, c.Principal, model, q.body)
	}
	q.body = q.body.Delete("metadata")
	if params := model.Params(); q.params != nil && params != nil {
		b, err := q.params(q.body, params)
		if err != nil {
			return web.Done{}, web.Because(http.StatusBadRequest, err.Error(), err)
		}
		q.body = b
	}
	p, err := m.serving(c, model.ID, index)
	if err != nil {
		return web.Done{}, err
	}
	conn := p.Connection()
	body := jsondoc.Open(q.body)
	body.Set("model", jsondoc.Text(conn.Upstream(model.ID)))
	out := q.out(body)
	out.method, out.path, out.body, out.meta = http.MethodPost, q.path, body.Doc(), meta
	out.filters, out.request = filters, request
	return m.send(c, p, out)
}

func nativeParams(body, params []byte) ([]byte, error) { return backend.NativeParams(body, params) }

func openaiParams(body, params []byte) ([]byte, error) { return openai.NativeParams(body, params) }

// streaming passes a stream on where the request asks for one.
func streaming(body *jsondoc.Obj) call { return call{stream: body.Get("stream").Truthy()} }

// eventStream is streaming for servers that do not name the media type of their events.
func eventStream(body *jsondoc.Obj) call {
	if body.Get("stream").Truthy() {
		return call{stream: true, kind: "text/event-stream"}
	}
	return call{}
}

func (m *Module) chat(c *web.Call, d web.Dict, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	body := d.Doc()
	if _, ps := web.BindDoc[chatForm](body, nil); len(ps) > 0 {
		return web.Done{}, relay.Malformed("GenerateChatCompletionForm", ps)
	}
	sent := withoutNulls(body)
	messages := sent.Get("messages").List()
	for i := range messages {
		messages[i] = withoutNulls(messages[i]).Doc()
	}
	sent.Set("messages", jsondoc.Array(messages...))
	if body.Get("stream") == nil {
		sent.Set("stream", jsondoc.Doc("true"))
	}
	return m.complete(c, index, completion{path: "/api/chat", body: sent.Doc(), system: true, params: nativeParams, out: func(b *jsondoc.Obj) call {
		if b.Get("stream").Truthy() {
			return call{stream: true, kind: "application/x-ndjson"}
		}
		return call{}
	}})
}

func withoutNulls(d jsondoc.Doc) *jsondoc.Obj {
	o := &jsondoc.Obj{}
	d.Each(func(name string, v jsondoc.Doc) bool {
		if !v.IsNull() {
			o.Set(name, v)
		}
		return true
	})
	return o
}

func (m *Module) openaiCompletion(c *web.Call, d web.Dict, index *int) (web.Done, error) {
	if _, ps := web.BindDoc[completionForm](d.Doc().Delete("metadata"), nil); len(ps) > 0 {
		return web.Done{}, relay.Malformed("OpenAICompletionForm", ps)
	}
	return m.complete(c, index, completion{path: "/v1/completions", body: withoutNulls(d.Doc()).Doc(), params: openaiParams, out: streaming})
}

func (m *Module) openaiChat(c *web.Call, d web.Dict, index *int) (web.Done, error) {
	if _, ps := web.BindDoc[openaiChatForm](d.Doc().Delete("metadata"), nil); len(ps) > 0 {
		return web.Done{}, relay.Malformed("OpenAIChatCompletionForm", ps)
	}
	return m.complete(c, index, completion{path: "/v1/chat/completions", body: withoutNulls(d.Doc()).Doc(), system: true, params: openaiParams, out: streaming, form: chatForms})
}

func (m *Module) openaiEmbeddings(c *web.Call, d web.Dict, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	if _, ps := web.BindDoc[openaiEmbeddingsForm](d.Doc().Delete("metadata"), nil); len(ps) > 0 {
		return web.Done{}, relay.Malformed("OpenAIEmbeddingsForm", ps)
	}
	return m.complete(c, index, completion{path: "/v1/embeddings", body: withoutNulls(d.Doc()).Doc(), out: func(*jsondoc.Obj) call { return call{} }, form: vectors})
}

func (m *Module) messages(c *web.Call, d web.Dict, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	return m.complete(c, index, completion{path: "/v1/messages", body: d.Doc(), out: eventStream})
}

func (m *Module) responses(c *web.Call, f responsesForm, index *int) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	body := jsondoc.Object("model", jsondoc.Text(f.Model)).Merge(jsondoc.Doc(f.Extra))
	return m.complete(c, index, completion{path: "/v1/responses", body: body, out: eventStream})
}
