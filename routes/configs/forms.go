package configs

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

type connectionsIn struct {
	Body struct {
		Direct       bool          `json:"ENABLE_DIRECT_CONNECTIONS"`
		Integrations web.Opt[bool] `json:"ENABLE_DIRECT_INTEGRATIONS"`
		Cache        bool          `json:"ENABLE_BASE_MODELS_CACHE"`
	}
}

func (m *Module) setConnections(c *web.Call, in connectionsIn) (jsondoc.Doc, error) {
	if in.Body.Integrations.Null {
		return nil, web.Invalid(web.Problem{Type: "bool_type", Loc: web.Loc{"body", "ENABLE_DIRECT_INTEGRATIONS"}, Msg: "Input should be a valid boolean", Input: jsondoc.Doc("null")})
	}
	keys := connectionKeys
	if !in.Body.Integrations.Has() { // what is not sent stays
		keys = []formKey{connectionKeys[0], connectionKeys[2]}
	}
	if _, err := m.set(c.Context(), in.Body, keys); err != nil {
		return nil, err
	}
	out := m.form(connectionKeys)
	m.publish(c, "config.connections.updated", "connections", out)
	return out, nil
}

type codeIn struct {
	Body struct {
		Execution           bool             `json:"ENABLE_CODE_EXECUTION"`
		ExecutionEngine     string           `json:"CODE_EXECUTION_ENGINE"`
		ExecutionURL        web.Null[string] `json:"CODE_EXECUTION_JUPYTER_URL"`
		ExecutionAuth       web.Null[string] `json:"CODE_EXECUTION_JUPYTER_AUTH"`
		ExecutionToken      web.Null[string] `json:"CODE_EXECUTION_JUPYTER_AUTH_TOKEN"`
		ExecutionPassword   web.Null[string] `json:"CODE_EXECUTION_JUPYTER_AUTH_PASSWORD"`
		ExecutionTimeout    web.Null[int]    `json:"CODE_EXECUTION_JUPYTER_TIMEOUT"`
		Interpreter         bool             `json:"ENABLE_CODE_INTERPRETER"`
		InterpreterEngine   string           `json:"CODE_INTERPRETER_ENGINE"`
		InterpreterTemplate web.Null[string] `json:"CODE_INTERPRETER_PROMPT_TEMPLATE"`
		InterpreterURL      web.Null[string] `json:"CODE_INTERPRETER_JUPYTER_URL"`
		InterpreterAuth     web.Null[string] `json:"CODE_INTERPRETER_JUPYTER_AUTH"`
		InterpreterToken    web.Null[string] `json:"CODE_INTERPRETER_JUPYTER_AUTH_TOKEN"`
		InterpreterPassword web.Null[string] `json:"CODE_INTERPRETER_JUPYTER_AUTH_PASSWORD"`
		InterpreterTimeout  web.Null[int]    `json:"CODE_INTERPRETER_JUPYTER_TIMEOUT"`
	}
}

func (m *Module) setCode(c *web.Call, in codeIn) (jsondoc.Doc, error) {
	out, err := m.set(c.Context(), in.Body, codeKeys)
	if err == nil {
		m.publish(c, "config.code_execution.updated", "code_execution", events.Pairs{"code_execution_enabled", out.Get("ENABLE_CODE_EXECUTION"), "code_execution_engine", out.Get("CODE_EXECUTION_ENGINE"),
			"code_interpreter_enabled", out.Get("ENABLE_CODE_INTERPRETER"), "code_interpreter_engine", out.Get("CODE_INTERPRETER_ENGINE")})
	}
	return out, err
}

type modelsIn struct {
	Body struct {
		Default  web.Null[string]   `json:"DEFAULT_MODELS"`
		Pinned   web.Null[string]   `json:"DEFAULT_PINNED_MODELS"`
		Order    web.Null[[]string] `json:"MODEL_ORDER_LIST"`
		Metadata web.Opt[web.Dict]  `json:"DEFAULT_MODEL_METADATA"`
		Params   web.Opt[web.Dict]  `json:"DEFAULT_MODEL_PARAMS"`
	}
}

func (m *Module) setModels(c *web.Call, in modelsIn) (jsondoc.Doc, error) {
	out, err := m.set(c.Context(), in.Body, modelKeys)
	if err == nil {
		m.publish(c, "config.models.updated", "models", events.Pairs{"default_models", out.Get("DEFAULT_MODELS"), "default_pinned_models", out.Get("DEFAULT_PINNED_MODELS"),
			"model_order_count", out.Get("MODEL_ORDER_LIST").Len()})
	}
	return out, err
}

type subagentsIn struct {
	Body struct {
		Enable     bool   `json:"ENABLE_SUBAGENTS"`
		Background bool   `json:"SUBAGENTS_BACKGROUND_ENABLED"`
		Concurrent int    `json:"SUBAGENTS_MAX_CONCURRENT"`
		Async      int    `json:"SUBAGENTS_MAX_ASYNC"`
		Iterations int    `json:"SUBAGENTS_MAX_ITERATIONS"`
		Output     int    `json:"SUBAGENTS_MAX_OUTPUT"`
		System     string `json:"SUBAGENTS_SYSTEM_PROMPT"`
	}
}

func (m *Module) setSubagents(c *web.Call, in subagentsIn) (jsondoc.Doc, error) {
	out, err := m.set(c.Context(), in.Body, subagentKeys)
	if err == nil {
		m.publish(c, "config.updated", "subagents", events.Pairs{"enabled", out.Get("ENABLE_SUBAGENTS")})
	}
	return out, err
}

// switches are names with true or false, in the order they came.
type switches jsondoc.Doc

// DecodeField implements web.Decoder: nothing but true and false counts as a boolean here.
func (s *switches) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	*s = switches(raw)
	var ps web.Problems
	raw.Each(func(name string, v jsondoc.Doc) bool {
		if kind := v.Kind(); kind != 't' && kind != 'f' {
			ps = append(ps, web.Problem{Type: "bool_type", Loc: append(loc[:len(loc):len(loc)], name), Msg: "Input should be a valid boolean", Input: v})
		}
		return true
	})
	return ps
}

// MarshalJSONTo writes the object.
func (s switches) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(s).MarshalJSONTo(e) }

type visibilityForm struct {
	Visibility switches `json:"visibility"`
}

type visibilityIn struct {
	Body visibilityForm
}

func (m *Module) setVisibility(c *web.Call, in visibilityIn) (visibilityForm, error) {
	err := m.Settings.Set(c.Context(), config.Changes{"ui.visibility": jsontext.Value(in.Body.Visibility)})
	if err == nil {
		m.publish(c, "config.updated", "interface", events.Pairs{"keys", []string{"ui.visibility"}})
	}
	return in.Body, err
}

type suggestion struct {
	Title   []string `json:"title"`
	Content string   `json:"content"`
}

type suggestionsIn struct {
	Body struct {
		Suggestions web.Null[[]suggestion] `json:"suggestions"`
		I18n        web.Opt[web.Dict]      `json:"i18n"`
	}
}

var suggestionKeys = []formKey{{"suggestions", "ui.prompt_suggestions"}, {"i18n", "ui.prompt_suggestions_i18n"}}

func (m *Module) setSuggestions(c *web.Call, in suggestionsIn) (jsondoc.Doc, error) {
	if !in.Body.I18n.Has() {
		in.Body.I18n = web.Some(web.Dict("{}"))
	}
	out, err := m.set(c.Context(), in.Body, suggestionKeys)
	if err == nil {
		m.publish(c, "config.suggestions.updated", "ui.prompt_suggestions", events.Pairs{"count", out.Get("suggestions").Len()})
	}
	return out, err
}

type banner struct {
	I18n        web.Opt[map[string]map[string]string] `json:"i18n"`
	ID          string                                `json:"id"`
	Type        string                                `json:"type"`
	Title       web.Opt[string]                       `json:"title"`
	Content     string                                `json:"content"`
	Dismissible bool                                  `json:"dismissible"`
	Timestamp   int64                                 `json:"timestamp"`
}

type bannersIn struct {
	Body struct {
		Banners []banner `json:"banners"`
	}
}

func (m *Module) setBanners(c *web.Call, in bannersIn) ([]banner, error) {
	list := slices.Concat([]banner{}, in.Body.Banners)
	err := m.Settings.Set(c.Context(), config.Changes{"ui.banners": jsontext.Value(jsondoc.Of(list))})
	if err == nil {
		m.publish(c, "config.banners.updated", "ui.banners", events.Pairs{"count", len(list)})
	}
	return list, err
}

func (m *Module) banners(c *web.Call, _ web.None) ([]banner, error) {
	list := []banner{}
	for _, d := range jsondoc.Doc(m.Settings.Snapshot().Raw("ui.banners")).List() {
		b, bad := web.BindDoc[banner](d, nil)
		if len(bad) > 0 {
			c.Log.Warn("a banner is left out", "problem", bad[0].Msg, "at", bad[0].Loc)
			continue
		}
		list = append(list, b)
	}
	return list, nil
}
