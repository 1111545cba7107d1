// Package openai serves /openai: the OpenAI-compatible connections, their settings and models, and requests to them.
package openai

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	backend "github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Registry *llm.Registry
	Catalog  *models.Catalog
	Access   *access.Access
	Settings *config.Settings
	Env      *config.Env
	Prompts  *prompt.Renderer
	Filters  filter.Set // may be nil
	Events   *events.Bus
}

// Module is the tag openai of the API.
type Module struct {
	Deps
	relay relay.Resolver
}

// New makes the module.
func New(d Deps) *Module {
	return &Module{Deps: d, relay: relay.Resolver{Catalog: d.Catalog, Prompts: d.Prompts, Filters: d.Filters, NoOutlet: !d.Env.Chat.APIOutlets}}
}

// Name implements web.Module.
func (m *Module) Name() string { return "openai" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /config", web.JSON(auth.Admin, m.config))
	g.Add("POST /config/update", web.JSON(auth.Admin, m.update))
	g.Add("POST /audio/speech", web.JSON(auth.Verified, m.speech))
	g.Add("GET /models", web.JSON(auth.Verified, m.models))
	g.Add("GET /models/{url_idx}", web.JSON(auth.Verified, m.modelsOf))
	g.Add("GET /models/{url_idx}/catalog", web.JSON(auth.Admin, m.catalog))
	g.Add("POST /models/{url_idx}/download", web.JSON(auth.Admin, m.operation("download")))
	g.Add("GET /models/{url_idx}/download/status/{job_id}", web.JSON(auth.Admin, m.downloadStatus))
	g.Add("POST /models/{url_idx}/load", web.JSON(auth.Admin, m.operation("load")))
	g.Add("POST /models/{url_idx}/unload", web.JSON(auth.Admin, m.operation("unload")))
	g.Add("GET /models/{url_idx}/sse", web.JSON(auth.Admin, m.serverEvents))
	g.Add("DELETE /models/{url_idx}", web.JSON(auth.Admin, m.deleteModel))
	g.Add("POST /verify", web.JSON(auth.Admin, m.verify))
	g.Add("POST /chat/completions", web.JSON(auth.Verified, m.chat))
	g.Add("POST /responses", web.JSON(auth.Verified, m.responses))
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		g.Add(method+" /{path:path}", web.JSON(auth.Verified, m.passthrough))
	}
}

var (
	errDisabled  = web.Fail(http.StatusServiceUnavailable, "OpenAI API is disabled")
	errNoModel   = web.Fail(http.StatusNotFound, "Model '' was not found")
	errForbidden = web.Fail(http.StatusForbidden, web.TextProhibited)
)

func (m *Module) enabled() error {
	if !config.OpenAIEnable.Get(m.Settings.Snapshot()) {
		return errDisabled
	}
	return nil
}

type settings struct {
	Enable  jsondoc.Doc `json:"ENABLE_OPENAI_API"`
	URLs    jsondoc.Doc `json:"OPENAI_API_BASE_URLS"`
	Keys    jsondoc.Doc `json:"OPENAI_API_KEYS"`
	Configs jsondoc.Doc `json:"OPENAI_API_CONFIGS"`
}

func (m *Module) config(*web.Call, web.None) (settings, error) {
	s := m.Settings.Snapshot()
	return settings{jsondoc.Doc(config.OpenAIEnable.Raw(s)), jsondoc.Doc(config.OpenAIAPIBaseURLs.Raw(s)),
		jsondoc.Doc(config.OpenAIAPIKeys.Raw(s)), jsondoc.Doc(config.OpenAIAPIConfigs.Raw(s))}, nil
}

type updateIn struct {
	Body struct {
		Enable  web.Opt[bool] `json:"ENABLE_OPENAI_API"`
		URLs    []string      `json:"OPENAI_API_BASE_URLS"`
		Keys    []string      `json:"OPENAI_API_KEYS"`
		Configs web.Dict      `json:"OPENAI_API_CONFIGS"`
	}
}

// update stores the connections: as many keys as there are addresses, and configs only of those.
func (m *Module) update(c *web.Call, in updateIn) (settings, error) {
	keys := slices.Clone(in.Body.Keys)
	for len(keys) < len(in.Body.URLs) {
		keys = append(keys, "")
	}
	keys = keys[:len(in.Body.URLs)]
	var configs jsondoc.Builder
	in.Body.Configs.Doc().Each(func(name string, v jsondoc.Doc) bool {
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(keys) && strconv.Itoa(i) == name {
			configs.Raw(name, v)
		}
		return true
	})
	out := settings{jsondoc.Of(in.Body.Enable), jsondoc.Of(in.Body.URLs), jsondoc.Of(keys), configs.Done()}
	err := m.Settings.Set(c.Context(), config.Changes{
		config.OpenAIEnable.Key(): raw(out.Enable), config.OpenAIAPIBaseURLs.Key(): raw(out.URLs),
		config.OpenAIAPIKeys.Key(): raw(out.Keys), config.OpenAIAPIConfigs.Key(): raw(out.Configs),
	})
	m.Registry.Refresh()
	if err == nil {
		m.Events.Publish(c.Context(), events.Event{Name: "model.provider_config.updated", Actor: c.Principal.User, SubjectID: "openai",
			Data: events.Pairs{"provider", "openai", "enabled", out.Enable, "base_url_count", len(in.Body.URLs)}})
	}
	return out, err
}

// connection is one of the connections, switched on or not.
func (m *Module) connection(index int) (llm.Connected, bool) {
	s := m.Settings.Snapshot()
	all := llm.Settings{OpenAIEnable: true, OpenAIURLs: config.OpenAIAPIBaseURLs.Get(s), OpenAIKeys: config.OpenAIAPIKeys.Get(s),
		OpenAIConfigs: config.OpenAIAPIConfigs.Raw(s)}.Connections()
	if index < 0 {
		index += len(all) // the reference indexes a Python list
	}
	if index < 0 || index >= len(all) {
		return nil, false
	}
	return m.provider(all[index]), true
}

func (m *Module) provider(conn llm.Connection) llm.Connected {
	return backend.New(conn, m.Registry.Client()).(llm.Connected)
}

// modelsIn: the connection may be named on this path too.
type modelsIn struct {
	Index web.Opt[int] `query:"url_idx"`
}

func (m *Module) models(c *web.Call, in modelsIn) (jsondoc.Doc, error) {
	if in.Index.Has() {
		return m.modelsOf(c, indexIn{in.Index.V})
	}
	if err := m.enabled(); err != nil {
		return nil, err
	}
	list := m.Registry.ModelsOf(c.Context(), llm.KindOpenAI, models.CallerOf(c.Principal))
	out := make([]jsondoc.Doc, 0, len(list))
	keep, err := m.visible(c)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if keep(one.ID) {
			out = append(out, jsondoc.Doc(one.Entry))
		}
	}
	return jsondoc.Object("data", jsondoc.Array(out...)), nil
}

// visible says which models of a list the caller sees: users those with a row that is theirs or granted.
func (m *Module) visible(c *web.Call) (func(id string) bool, error) {
	if c.Principal.Role != "user" || m.Env.BypassModelAccess {
		return func(string) bool { return true }, nil
	}
	return m.Catalog.Readable(c.Context(), c.Principal)
}

type indexIn struct {
	Index int `path:"url_idx"`
}

func (m *Module) modelsOf(c *web.Call, in indexIn) (jsondoc.Doc, error) {
	if !c.IsAdmin() {
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	if err := m.enabled(); err != nil {
		return nil, err
	}
	p, ok := m.connection(in.Index)
	if !ok {
		return nil, web.Fail(http.StatusNotFound, "Connection not found")
	}
	conn := p.Connection()
	if conn.Config.Azure {
		ids := jsondoc.Doc(conn.Config.Raw).Get("model_ids")
		if !ids.Truthy() {
			ids = jsondoc.Doc("[]")
		}
		return jsondoc.Object("data", ids).Set(jsondoc.Doc(`"list"`), "object"), nil
	}
	if backend.IsAnthropic(conn.URL) {
		return m.anthropic(c.Context(), conn, models.CallerOf(c.Principal))
	}
	resp, err := p.Do(c.Context(), http.MethodGet, "/models", nil, false, models.CallerOf(c.Principal))
	if err != nil {
		return nil, relay.Unreachable(err)
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return nil, relay.Unreachable(err)
	}
	list, bad := jsondoc.Check(body)
	if resp.StatusCode != http.StatusOK {
		detail := "HTTP Error: " + strconv.Itoa(resp.StatusCode)
		if e := list.Get("error"); bad == nil && e != nil {
			detail = "External Error: " + relay.PythonValue(e)
		}
		return nil, web.Fail(http.StatusInternalServerError, "Unexpected error: "+detail)
	}
	if bad != nil || !llm.IsJSONType(resp.Header.Get("Content-Type")) {
		return nil, relay.Unreachable(bad)
	}
	if strings.Contains(conn.URL, "api.openai.com") {
		list = list.Set(chattable(list.Get("data")), "data")
	}
	return list, nil
}

func chattable(list jsondoc.Doc) jsondoc.Doc {
	return jsondoc.Array(slices.DeleteFunc(list.List(), func(d jsondoc.Doc) bool { return !backend.Chattable(d.Text("id")) })...)
}

// anthropic lists the models of an Anthropic address in OpenAI's form.
func (m *Module) anthropic(ctx context.Context, conn llm.Connection, caller *llm.Caller) (jsondoc.Doc, error) {
	conn.Config = llm.ParseConfig(llm.KindOpenAI, nil) // the address's own list, whatever is set up over it
	list, err := m.provider(conn).Models(ctx, caller)
	if err != nil {
		return nil, relay.Unreachable(err)
	}
	docs := make([]jsondoc.Doc, len(list))
	for i, one := range list {
		docs[i] = jsondoc.Doc(one.Native)
	}
	return jsondoc.Object("object", jsondoc.Doc(`"list"`)).Set(jsondoc.Array(docs...), "data"), nil
}

type verifyIn struct {
	Body struct {
		URL    string            `json:"url"`
		Key    string            `json:"key"`
		Config web.Opt[web.Dict] `json:"config"`
	}
}

var azureV1 = regexp.MustCompile(`/openai/v1(?:/|$)`)

// verify asks an address for its models before it is stored.
func (m *Module) verify(c *web.Call, in verifyIn) (web.Done, error) {
	conn := llm.Connection{Kind: llm.KindOpenAI, URL: in.Body.URL, Key: in.Body.Key, Config: llm.ParseConfig(llm.KindOpenAI, raw(in.Body.Config.V.Doc()))}
	path := "/models"
	switch {
	case conn.Config.Azure && azureV1.MatchString(conn.URL):
		conn.URL = strings.TrimRight(conn.URL, "/")
	case conn.Config.Azure:
		version := conn.Config.APIVersion
		if version == "" {
			version = "2023-03-15-preview"
		}
		path = "/openai/models?api-version=" + version
	case backend.IsAnthropic(conn.URL):
		list, err := m.anthropic(c.Context(), conn, nil)
		if err != nil {
			return web.Done{}, err
		}
		return web.Done{}, web.WriteJSON(c.W, http.StatusOK, list)
	}
	resp, err := m.provider(conn).Do(c.Context(), http.MethodGet, path, nil, false, models.CallerOf(c.Principal))
	if err != nil {
		return web.Done{}, relay.Unreachable(err)
	}
	return web.Done{}, relay.Answer(c, nil, "", resp)
}
