// Package configs serves /api/v1/configs: settings of administrators that belong to no other module, and all of them for
// export and import.
package configs

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Settings *config.Settings
	Env      *config.Env
	Headers  *llm.HeaderOptions // of requests to tool servers
	OAuth    *oauth.Clients     // of tool servers
	HTTP     *http.Client       // asks tool and terminal servers; nil means http.DefaultClient
	Factors  *factor.Factors
	Events   *events.Bus
}

// Module is the tag configs of the API.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module {
	if d.HTTP == nil {
		d.HTTP = http.DefaultClient
	}
	if d.Headers == nil {
		d.Headers = &llm.HeaderOptions{}
	}
	return &Module{d}
}

// Name implements web.Module.
func (m *Module) Name() string { return "configs" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("POST /import", web.JSON(auth.Admin, m.importConfig))
	g.Add("GET /export", web.JSON(auth.Admin, m.export))
	g.Add("GET /namespace/{namespace}", web.JSON(auth.Admin, m.namespace))
	g.Add("POST /interface/visibility", web.JSON(auth.Admin, m.setVisibility))
	g.Add("GET /connections", web.JSON(auth.Admin, m.show(connectionKeys)))
	g.Add("POST /connections", web.JSON(auth.Admin, m.setConnections))
	g.Add("GET /code_execution", web.JSON(auth.Admin, m.show(codeKeys)))
	g.Add("POST /code_execution", web.JSON(auth.Admin, m.setCode))
	g.Add("GET /models", web.JSON(auth.Admin, m.show(modelKeys)))
	g.Add("POST /models", web.JSON(auth.Admin, m.setModels))
	g.Add("GET /models/defaults", web.JSON(auth.Verified, m.show(modelKeys[3:4])))
	g.Add("GET /subagents", web.JSON(auth.Admin, m.show(subagentKeys)))
	g.Add("POST /subagents", web.JSON(auth.Admin, m.setSubagents))
	g.Add("POST /suggestions", web.JSON(auth.Admin, m.setSuggestions))
	g.Add("GET /banners", web.JSON(auth.Verified, m.banners))
	g.Add("POST /banners", web.JSON(auth.Admin, m.setBanners))
	g.Add("GET /tool_servers", web.JSON(auth.Admin, m.toolServers))
	g.Add("POST /tool_servers", web.JSON(auth.Admin, m.setToolServers))
	g.Add("POST /tool_servers/verify", web.JSON(auth.Admin, m.verifyToolServer))
	g.Add("POST /oauth/clients/register", web.JSON(auth.Admin, m.registerClient))
	g.Add("GET /terminal_servers", web.JSON(auth.Admin, m.terminalServers))
	g.Add("POST /terminal_servers", web.JSON(auth.Admin, m.setTerminalServers))
	g.Add("POST /terminal_servers/verify", web.JSON(auth.Admin, m.verifyTerminal))
	g.Add("POST /terminal_servers/policy", web.JSON(auth.Admin, m.terminalPolicy))
	g.Add("POST /terminal_servers/lifecycle", web.JSON(auth.Admin, m.terminalLifecycle))
	g.Add("POST /terminal_servers/refresh", web.JSON(auth.Admin, m.terminalRefresh))
}

// formKey is a member of a form and the setting it stands for.
type formKey struct{ field, key string }

var connectionKeys = []formKey{
	{"ENABLE_DIRECT_CONNECTIONS", "direct.enable"},
	{"ENABLE_DIRECT_INTEGRATIONS", "direct.integrations.enable"},
	{"ENABLE_BASE_MODELS_CACHE", "models.base_models_cache"},
}

var codeKeys = []formKey{
	{"ENABLE_CODE_EXECUTION", "code_execution.enable"},
	{"CODE_EXECUTION_ENGINE", "code_execution.engine"},
	{"CODE_EXECUTION_JUPYTER_URL", "code_execution.jupyter.url"},
	{"CODE_EXECUTION_JUPYTER_AUTH", "code_execution.jupyter.auth"},
	{"CODE_EXECUTION_JUPYTER_AUTH_TOKEN", "code_execution.jupyter.auth_token"},
	{"CODE_EXECUTION_JUPYTER_AUTH_PASSWORD", "code_execution.jupyter.auth_password"},
	{"CODE_EXECUTION_JUPYTER_TIMEOUT", "code_execution.jupyter.timeout"},
	{"ENABLE_CODE_INTERPRETER", "code_interpreter.enable"},
	{"CODE_INTERPRETER_ENGINE", "code_interpreter.engine"},
	{"CODE_INTERPRETER_PROMPT_TEMPLATE", "code_interpreter.prompt_template"},
	{"CODE_INTERPRETER_JUPYTER_URL", "code_interpreter.jupyter.url"},
	{"CODE_INTERPRETER_JUPYTER_AUTH", "code_interpreter.jupyter.auth"},
	{"CODE_INTERPRETER_JUPYTER_AUTH_TOKEN", "code_interpreter.jupyter.auth_token"},
	{"CODE_INTERPRETER_JUPYTER_AUTH_PASSWORD", "code_interpreter.jupyter.auth_password"},
	{"CODE_INTERPRETER_JUPYTER_TIMEOUT", "code_interpreter.jupyter.timeout"},
}

var modelKeys = []formKey{
	{"DEFAULT_MODELS", "ui.default_models"},
	{"DEFAULT_PINNED_MODELS", "ui.default_pinned_models"},
	{"MODEL_ORDER_LIST", "ui.model_order_list"},
	{"DEFAULT_MODEL_METADATA", "models.default_metadata"},
	{"DEFAULT_MODEL_PARAMS", "models.default_params"},
}

var subagentKeys = []formKey{
	{"ENABLE_SUBAGENTS", "subagents.enable"},
	{"SUBAGENTS_BACKGROUND_ENABLED", "subagents.background_enabled"},
	{"SUBAGENTS_MAX_CONCURRENT", "subagents.max_concurrent"},
	{"SUBAGENTS_MAX_ASYNC", "subagents.max_async"},
	{"SUBAGENTS_MAX_ITERATIONS", "subagents.max_iterations"},
	{"SUBAGENTS_MAX_OUTPUT", "subagents.max_output"},
	{"SUBAGENTS_SYSTEM_PROMPT", "subagents.system_prompt"},
}

// show declares the answer with the settings of a form.
func (m *Module) show(keys []formKey) func(*web.Call, web.None) (jsondoc.Doc, error) {
	return func(*web.Call, web.None) (jsondoc.Doc, error) { return m.form(keys), nil }
}

func (m *Module) form(keys []formKey) jsondoc.Doc {
	snap := m.Settings.Snapshot()
	var b jsondoc.Builder
	for _, k := range keys {
		v := jsondoc.Doc(snap.Raw(k.key))
		// rows of old versions have switches as texts, which the form's fields read
		if d, _ := config.Lookup(k.key); d.Type == config.TypeBool && v.Kind() == '"' {
			v = jsondoc.Of(!slices.Contains([]string{"false", "f", "no", "n", "off", "0"}, strings.ToLower(v.Text())))
		}
		b.Raw(k.field, v)
	}
	return b.Done()
}

// publish tells of settings that the caller changed.
func (m *Module) publish(c *web.Call, name, subject string, data any) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectType: "config", SubjectID: subject, Data: data})
}

// set stores a form and answers with it. Members that are not there (omitzero) leave their setting alone.
func (m *Module) set(ctx context.Context, form any, keys []formKey) (jsondoc.Doc, error) {
	sent := jsondoc.Open(jsondoc.Of(form))
	changes := config.Changes{}
	for _, k := range keys {
		if v := sent.Get(k.field); v != nil {
			changes[k.key] = jsontext.Value(v)
		}
	}
	if err := m.Settings.Set(ctx, changes); err != nil {
		return nil, err
	}
	return m.form(keys), nil
}

type importIn struct {
	Body struct {
		Config web.Dict `json:"config"`
	}
}

// importConfig stores values as they come.
func (m *Module) importConfig(c *web.Call, in importIn) (jsondoc.Doc, error) {
	values, names := map[string]jsontext.Value{}, []string{}
	in.Body.Config.Doc().Each(func(name string, v jsondoc.Doc) bool {
		names = append(names, name)
		values[name] = jsontext.Value(v)
		return true
	})
	ctx := c.Context()
	_, err := m.Factors.Apply(ctx, c.Principal, func(key string) (jsontext.Value, bool) { v, ok := values[key]; return v, ok },
		func(tx *store.Tx) error { return m.Settings.ImportTx(ctx, tx, values) })
	if err != nil {
		return nil, err
	}
	m.publish(c, "config.imported", "import", events.Pairs{"keys", names})
	return jsondoc.Doc(m.Settings.Snapshot().Export()), nil
}

func (m *Module) export(*web.Call, web.None) (jsondoc.Doc, error) {
	return jsondoc.Doc(m.Settings.Snapshot().Export()), nil
}

type namespaceIn struct {
	Namespace string `path:"namespace"`
}

func (m *Module) namespace(_ *web.Call, in namespaceIn) (jsondoc.Doc, error) {
	return jsondoc.Doc(m.Settings.Snapshot().Namespace(in.Namespace)), nil
}
