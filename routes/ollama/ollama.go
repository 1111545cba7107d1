// Package ollama serves /ollama: the connections to Ollama servers, their settings and models, and requests to them in
// Ollama's and in OpenAI's form.
package ollama

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	backend "github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Registry *llm.Registry
	Catalog  *models.Catalog
	Settings *config.Settings
	Env      *config.Env
	Prompts  *prompt.Renderer
	Filters  filter.Set // may be nil
	Events   *events.Bus
	HTTP     *http.Client // moves model files, which are too large for the Registry's; nil means http.DefaultClient
}

// Module is the tag ollama of the API.
type Module struct {
	Deps
	relay relay.Resolver
}

// New makes the module.
func New(d Deps) *Module {
	if d.HTTP == nil {
		d.HTTP = http.DefaultClient
	}
	return &Module{Deps: d, relay: relay.Resolver{Catalog: d.Catalog, Prompts: d.Prompts, Filters: d.Filters, NoOutlet: !d.Env.Chat.APIOutlets}}
}

// Name implements web.Module.
func (m *Module) Name() string { return "ollama" }

// Routes implements web.Module. Most operations have a second path that names the connection by its index.
func (m *Module) Routes(g *web.Group) {
	g.Add("HEAD /", web.JSON(auth.Public, m.status))
	g.Add("GET /", web.JSON(auth.Public, m.status))
	g.Add("POST /verify", web.JSON(auth.Admin, m.verify))
	g.Add("GET /config", web.JSON(auth.Admin, m.config))
	g.Add("POST /config/update", web.JSON(auth.Admin, m.update))
	g.Add("GET /api/ps", web.JSON(auth.Admin, m.loaded))
	g.Add("POST /api/unload", web.JSON(auth.Admin, m.unload))
	g.Add("POST /api/show", web.JSON(auth.Verified, m.show))
	list(g, "/api/tags", m.tags)
	list(g, "/api/version", m.version)
	list(g, "/v1/models", m.openaiModels)
	both(g, "POST /api/pull", auth.Admin, m.pull)
	both(g, "DELETE /api/push", auth.Admin, m.push)
	both(g, "POST /api/create", auth.Admin, m.create)
	both(g, "POST /api/copy", auth.Admin, m.copy)
	both(g, "DELETE /api/delete", auth.Admin, m.delete)
	both(g, "POST /api/embed", auth.Verified, m.embed)
	both(g, "POST /api/embeddings", auth.Verified, m.embeddings)
	both(g, "POST /api/generate", auth.Verified, m.generate)
	both(g, "POST /api/chat", auth.Verified, m.chat)
	both(g, "POST /v1/completions", auth.Verified, m.openaiCompletion)
	both(g, "POST /v1/embeddings", auth.Verified, m.openaiEmbeddings)
	both(g, "POST /v1/chat/completions", auth.Verified, m.openaiChat)
	both(g, "POST /v1/messages", auth.Verified, m.messages)
	both(g, "POST /v1/responses", auth.Verified, m.responses)
	both(g, "POST /models/download", auth.Admin, m.download)
	g.Add("POST /models/upload", web.JSON(auth.Admin, func(c *web.Call, in queryIn) (web.Done, error) { return m.upload(c, in.Index.Ptr()) }))
	g.Add("POST /models/upload/{url_idx}", web.JSON(auth.Admin, func(c *web.Call, in indexIn) (web.Done, error) { return m.upload(c, &in.Index) }))
}

type indexIn struct {
	Index int `path:"url_idx"`
}

// queryIn is where the connection may be named on the other path.
type queryIn struct {
	Index web.Opt[int] `query:"url_idx"`
}

type bodyIn[T any] struct {
	Index web.Opt[int] `query:"url_idx"`
	Body  T
}

type indexedIn[T any] struct {
	Index int `path:"url_idx"`
	Body  T
}

// both declares an operation at its path and at that with an index.
func both[T any](g *web.Group, pattern string, level auth.Level, h func(c *web.Call, body T, index *int) (web.Done, error)) {
	g.Add(pattern, web.JSON(level, func(c *web.Call, in bodyIn[T]) (web.Done, error) { return h(c, in.Body, in.Index.Ptr()) }))
	g.Add(pattern+"/{url_idx}", web.JSON(level, func(c *web.Call, in indexedIn[T]) (web.Done, error) { return h(c, in.Body, &in.Index) }))
}

// list declares a list that only administrators may ask of one connection.
func list(g *web.Group, path string, h func(c *web.Call, index *int) (jsondoc.Doc, error)) {
	one := func(c *web.Call, index int) (jsondoc.Doc, error) {
		if !c.IsAdmin() {
			return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
		}
		return h(c, &index)
	}
	g.Add("GET "+path, web.JSON(auth.Verified, func(c *web.Call, in queryIn) (jsondoc.Doc, error) {
		if in.Index.Has() {
			return one(c, in.Index.V)
		}
		return h(c, nil)
	}))
	g.Add("GET "+path+"/{url_idx}", web.JSON(auth.Verified, func(c *web.Call, in indexIn) (jsondoc.Doc, error) { return one(c, in.Index) }))
}

var errDisabled = web.Fail(http.StatusServiceUnavailable, "The Ollama API is disabled. Please enable it to use this feature.")

func (m *Module) on() bool { return config.OllamaEnable.Get(m.Settings.Snapshot()) }

func (m *Module) enabled() error {
	if !m.on() {
		return errDisabled
	}
	return nil
}

func unknown(model string) *web.Error {
	return web.Fail(http.StatusBadRequest, "Model '"+model+"' was not found")
}

func (m *Module) status(*web.Call, web.None) (web.M, error) { return web.M{"status": true}, nil }

func raw(d jsondoc.Doc) jsontext.Value { return jsontext.Value(d.Or(jsondoc.Doc("null"))) }

type settings struct {
	Enable  jsondoc.Doc `json:"ENABLE_OLLAMA_API"`
	URLs    jsondoc.Doc `json:"OLLAMA_BASE_URLS"`
	Configs jsondoc.Doc `json:"OLLAMA_API_CONFIGS"`
}

func (m *Module) config(*web.Call, web.None) (settings, error) {
	s := m.Settings.Snapshot()
	return settings{jsondoc.Doc(config.OllamaEnable.Raw(s)), jsondoc.Doc(config.OllamaBaseURLs.Raw(s)), jsondoc.Doc(config.OllamaAPIConfigs.Raw(s))}, nil
}

type updateIn struct {
	Body struct {
		Enable  web.Opt[bool] `json:"ENABLE_OLLAMA_API"`
		URLs    []string      `json:"OLLAMA_BASE_URLS"`
		Configs web.Dict      `json:"OLLAMA_API_CONFIGS"`
	}
}

func (m *Module) update(c *web.Call, in updateIn) (settings, error) {
	var configs jsondoc.Builder
	in.Body.Configs.Doc().Each(func(name string, v jsondoc.Doc) bool {
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(in.Body.URLs) && strconv.Itoa(i) == name {
			configs.Raw(name, v)
		}
		return true
	})
	out := settings{jsondoc.Of(in.Body.Enable), jsondoc.Of(in.Body.URLs), configs.Done()}
	err := m.Settings.Set(c.Context(), config.Changes{
		config.OllamaEnable.Key(): raw(out.Enable), config.OllamaBaseURLs.Key(): raw(out.URLs), config.OllamaAPIConfigs.Key(): raw(out.Configs),
	})
	m.Registry.Refresh()
	if err == nil {
		m.Events.Publish(c.Context(), events.Event{Name: "model.provider_config.updated", Actor: c.Principal.User, SubjectID: "ollama",
			Data: events.Pairs{"provider", "ollama", "enabled", out.Enable, "base_url_count", len(in.Body.URLs)}})
	}
	return out, err
}

// connections are those of the settings, switched on or not.
func (m *Module) connections() []llm.Connection {
	s := m.Settings.Snapshot()
	return llm.Settings{OllamaEnable: true, OllamaURLs: config.OllamaBaseURLs.Get(s), OllamaConfigs: config.OllamaAPIConfigs.Raw(s)}.Connections()
}

func (m *Module) provider(conn llm.Connection) llm.Connected {
	return backend.New(conn, m.Registry.Client()).(llm.Connected)
}

func (m *Module) connection(index int) (llm.Connected, error) {
	all := m.connections()
	if index < 0 {
		index += len(all) // the reference indexes a Python list
	}
	if index < 0 || index >= len(all) {
		return nil, web.Fail(http.StatusNotFound, "Connection not found")
	}
	return m.provider(all[index]), nil
}

type verifyIn struct {
	Body struct {
		URL    string            `json:"url"`
		Key    web.Opt[string]   `json:"key"`
		Config web.Opt[web.Dict] `json:"config"`
	}
}

// verify asks an address for its version before it is stored.
func (m *Module) verify(c *web.Call, in verifyIn) (jsondoc.Doc, error) {
	p := m.provider(llm.Connection{Kind: llm.KindOllama, URL: in.Body.URL, Key: in.Body.Key.V, Config: llm.ParseConfig(llm.KindOllama, raw(in.Body.Config.V.Doc()))})
	resp, err := p.Do(c.Context(), http.MethodGet, "/api/version", nil, false, models.CallerOf(c.Principal))
	if err != nil {
		return nil, relay.Unreachable(err)
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return nil, relay.Unreachable(err)
	}
	doc, bad := jsondoc.Check(body)
	if bad != nil || !llm.IsJSONType(resp.Header.Get("Content-Type")) {
		return nil, relay.Unreachable(nil)
	}
	if resp.StatusCode != http.StatusOK {
		detail := "HTTP Error: " + strconv.Itoa(resp.StatusCode)
		if e := doc.Get("error"); e != nil {
			detail = "External Error: " + relay.PythonValue(e)
		}
		return nil, web.Fail(http.StatusInternalServerError, "Unexpected error: "+detail)
	}
	return doc, nil
}

// listTimeout is how long a server may take to answer one of the questions that all servers are asked.
const listTimeout = 10 * time.Second

// everyone asks all servers that are switched on at once; nil where one does not answer JSON.
func (m *Module) everyone(ctx context.Context, path string, caller *llm.Caller) ([]llm.Connection, []jsondoc.Doc) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	all := m.connections()
	answers := make([]jsondoc.Doc, len(all))
	var wg sync.WaitGroup
	for i, conn := range all {
		if !conn.Config.Enable {
			continue
		}
		wg.Go(func() {
			resp, err := m.provider(conn).Do(ctx, http.MethodGet, path, nil, false, caller)
			if err != nil {
				return
			}
			body, err := llm.ReadBody(resp)
			if doc, bad := jsondoc.Check(body); err == nil && bad == nil && llm.IsJSONType(resp.Header.Get("Content-Type")) {
				answers[i] = doc
			}
		})
	}
	wg.Wait()
	return all, answers
}

// merged joins lists of models; those that several servers have count once, with all their indexes in "urls".
func merged(all []llm.Connection, answers []jsondoc.Doc) jsondoc.Doc {
	type entry struct {
		doc  jsondoc.Doc
		urls []int
	}
	var list []*entry
	at := map[string]*entry{}
	for i, a := range answers {
		for _, d := range a.Get("models").List() {
			if d.Get("model").IsNull() {
				continue
			}
			id := all[i].Public(d.Text("model"))
			if e := at[id]; e != nil {
				e.urls = append(e.urls, i)
				continue
			}
			e := &entry{d.Set(jsondoc.Text(id), "model"), []int{i}}
			at[id] = e
			list = append(list, e)
		}
	}
	docs := make([]jsondoc.Doc, len(list))
	for i, e := range list {
		docs[i] = e.doc.Set(jsondoc.Of(e.urls), "urls")
	}
	return jsondoc.Object("models", jsondoc.Array(docs...))
}

func (m *Module) loaded(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	if !m.on() {
		return jsondoc.Doc(`{"models":[]}`), nil
	}
	return merged(m.everyone(c.Context(), "/api/ps", models.CallerOf(c.Principal))), nil
}

// visible says which models the caller sees: users those with a row that is theirs or granted.
func (m *Module) visible(c *web.Call) (func(id string) bool, error) {
	if c.Principal.Role != "user" || m.Env.BypassModelAccess {
		return func(string) bool { return true }, nil
	}
	return m.Catalog.Readable(c.Context(), c.Principal)
}

func (m *Module) tags(c *web.Call, index *int) (jsondoc.Doc, error) {
	if err := m.enabled(); err != nil {
		return nil, err
	}
	if index != nil {
		return m.ask(c, *index, "/api/tags")
	}
	keep, err := m.visible(c)
	if err != nil {
		return nil, err
	}
	docs := []jsondoc.Doc{}
	for _, one := range m.Registry.ModelsOf(c.Context(), llm.KindOllama, models.CallerOf(c.Principal)) {
		if keep(one.ID) {
			docs = append(docs, jsondoc.Doc(one.Native))
		}
	}
	return jsondoc.Object("models", jsondoc.Array(docs...)), nil
}

func (m *Module) ask(c *web.Call, index int, path string) (jsondoc.Doc, error) {
	p, err := m.connection(index)
	if err != nil {
		return nil, err
	}
	return relay.Ask(c.Context(), p, http.MethodGet, path, nil, models.CallerOf(c.Principal))
}

func (m *Module) version(c *web.Call, index *int) (jsondoc.Doc, error) {
	if !m.on() {
		return jsondoc.Doc(`{"version":false}`), nil
	}
	if index != nil {
		return m.ask(c, *index, "/api/version")
	}
	_, answers := m.everyone(c.Context(), "/api/version", models.CallerOf(c.Principal))
	lowest := ""
	for _, a := range answers {
		if v := a.Text("version"); v != "" && (lowest == "" || older(v, lowest)) {
			lowest = v
		}
	}
	if lowest == "" {
		return nil, web.Fail(http.StatusInternalServerError, "WebUI could not connect to Ollama")
	}
	return jsondoc.Object("version", jsondoc.Text(lowest)), nil
}

// older compares versions such as "0.13.0" and "v0.5-rc1" number by number.
func older(a, b string) bool {
	x, y := versionNumbers(a), versionNumbers(b)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return len(x) < len(y)
}

func versionNumbers(v string) []int {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
	var out []int
	for part := range strings.SplitSeq(v, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}

type openaiModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (m *Module) openaiModels(c *web.Call, index *int) (jsondoc.Doc, error) {
	var ids []string
	if index != nil {
		d, err := m.ask(c, *index, "/api/tags")
		if err != nil {
			return nil, err
		}
		for _, one := range d.Get("models").List() {
			ids = append(ids, one.Text("model"))
		}
	} else if m.on() {
		for _, one := range m.Registry.ModelsOf(c.Context(), llm.KindOllama, models.CallerOf(c.Principal)) {
			ids = append(ids, one.ID)
		}
	}
	keep, err := m.visible(c)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	out := []openaiModel{}
	for _, id := range ids {
		if keep(id) {
			out = append(out, openaiModel{id, "model", now, "openai"})
		}
	}
	var b jsondoc.Builder
	b.Add("data", out)
	b.Add("object", "list")
	return b.Done(), nil
}
