package app

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/routes/pipelines"
	"github.com/galleychat/galley/routes/tools"
)

// openPlugins makes the manager of plugins, which starts with the other parts. The models, filters and tools of plugins
// come and go from then on.
func (a *App) openPlugins() {
	if !a.Env.Plugins {
		return
	}
	a.Plugins = plugin.New(plugin.Options{
		Dir: a.Env.PluginsDir, DataDir: filepath.Join(a.Env.DataDir, "plugin-data"), Version: a.Config.Version, DB: a.DB,
		Router: pluginRouter{a}, LLM: a.LLM, Host: a.pluginServices(), Log: a.Log, Builtin: a.Config.Builtin,
		RequireChecksum: a.Config.RequireChecksum,
	})
	if a.Filters == nil {
		a.Filters = a.Plugins.Filters()
	}
}

// pluginsOrSite is what answers where no route does: below the addresses of plugins with an error, elsewhere the frontend.
func (a *App) pluginsOrSite() http.Handler {
	const prefix = "/api/v1/plugins/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, below := strings.Cut(strings.TrimPrefix(r.URL.Path, prefix), "/")
		if a.Plugins == nil || !below || !strings.HasPrefix(r.URL.Path, prefix) {
			a.Site.ServeHTTP(w, r)
			return
		}
		if a.Plugins.Down(id) {
			web.WriteError(w, web.Fail(http.StatusServiceUnavailable, "The plugin "+id+" is not running"))
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			a.Site.ServeHTTP(w, r) // 405, as everywhere
			return
		}
		web.WriteError(w, web.Fail(http.StatusNotFound, web.TextNotFound))
	})
}

// pluginRouter gives plugins the router, which is made after their manager.
type pluginRouter struct{ a *App }

// SetDynamic implements plugin.Router.
func (r pluginRouter) SetDynamic(owner string, routes []web.DynamicRoute) error {
	return r.a.Router.SetDynamic(owner, routes)
}

// RemoveDynamic implements plugin.Router.
func (r pluginRouter) RemoveDynamic(owner string) { r.a.Router.RemoveDynamic(owner) }

// pluginTools are the tools of plugins, for chats and for the tools menu.
type pluginTools struct{ a *App }

// Tools implements turn.Toolbox.
func (b pluginTools) Tools(_ context.Context, _ turn.Scope, ids []string) ([]turn.Tool, error) {
	if b.a.Plugins == nil || !slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, plugin.ToolsetID("")) }) {
		return nil, nil
	}
	var out []turn.Tool
	sets := b.a.Plugins.Toolsets()
	for _, id := range ids {
		i := slices.IndexFunc(sets, func(s plugin.Toolset) bool { return s.ID == id })
		if i < 0 {
			continue
		}
		for _, t := range sets[i].Tools {
			out = append(out, turn.Tool{Set: id, Name: t.Name, Description: t.Description, Parameters: t.Parameters, Call: callTool(t)})
		}
	}
	return out, nil
}

func callTool(t plugin.Tool) func(context.Context, turn.ToolCall) (turn.ToolResult, error) {
	return func(ctx context.Context, c turn.ToolCall) (turn.ToolResult, error) {
		r, err := t.Call(ctx, plugin.ToolCall{
			Arguments: c.Arguments, Principal: c.Principal, ModelID: c.ModelID, ChatID: c.ChatID, MessageID: c.MessageID, SessionID: c.SessionID, Emit: c.Emit,
		})
		if err == nil && r.Failed {
			text, _ := r.Content.AsText()
			err = errors.New(text)
		}
		return turn.ToolResult{Content: r.Content}, err
	}
}

// List implements tools.ToolSource.
func (p pluginTools) List(context.Context, *auth.Principal) ([]tools.ToolSet, error) {
	if p.a.Plugins == nil {
		return nil, nil
	}
	var out []tools.ToolSet
	for _, s := range p.a.Plugins.Toolsets() {
		set := tools.ToolSet{ID: s.ID, Name: s.Name, Description: s.Description}
		for _, t := range s.Tools {
			set.Specs = append(set.Specs, jsondoc.Object("name", jsondoc.Text(t.Name)).Set(jsondoc.Text(t.Description), "description").Set(t.Parameters, "parameters"))
		}
		out = append(out, set)
	}
	return out, nil
}

// pluginValves shows what can be configured of plugins on the Pipelines page.
type pluginValves struct{ *plugin.Manager }

func (a *App) pipelinesOfPlugins() pipelines.Local {
	if a.Plugins == nil {
		return nil
	}
	return pluginValves{a.Plugins}
}

// Pipelines implements pipelines.Local.
func (v pluginValves) Pipelines(context.Context) []pipelines.Pipeline {
	var out []pipelines.Pipeline
	for _, c := range v.Configurables() {
		kind := "plugin"
		if c.Filter {
			kind = "filter"
		}
		out = append(out, pipelines.Pipeline{ID: c.ID, Name: c.Name, Type: kind, Valves: true})
	}
	return out
}

// Valves implements pipelines.Local.
func (v pluginValves) Valves(_ context.Context, id string) (jsondoc.Doc, error) {
	schema, err := v.ConfigSchema(id)
	if err != nil {
		return nil, err
	}
	values, err := v.Config(id)
	if err != nil {
		return nil, err
	}
	return plugin.FormValues(schema, values), nil
}

// Spec implements pipelines.Local.
func (v pluginValves) Spec(_ context.Context, id string) (jsondoc.Doc, error) {
	schema, err := v.ConfigSchema(id)
	return plugin.FormSchema(schema), err
}

// Update implements pipelines.Local.
func (v pluginValves) Update(ctx context.Context, id string, values jsondoc.Doc) (jsondoc.Doc, error) {
	if _, err := v.SetConfig(ctx, id, values); err != nil {
		return nil, err
	}
	return v.Valves(ctx, id)
}
