// Package plugins serves /api/v1/plugins: what administrators see of plugins and do with them. What plugins serve
// themselves lies below the same address, /api/v1/plugins/ID/…, and gives way to what is declared here.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Plugins *plugin.Manager
	// Upload says that plugins may be installed by way of this module.
	Upload bool
	// Local lets callers install what is on this machine, by its path.
	Local bool
	// Patience is how long an answer waits for a plugin to start or stop; 0 means 10 s.
	Patience time.Duration
}

// Module is the tag plugins of the API.
type Module struct{ d Deps }

// New makes the module.
func New(d Deps) *Module {
	if d.Patience == 0 {
		d.Patience = 10 * time.Second
	}
	return &Module{d}
}

// Name implements web.Module.
func (m *Module) Name() string { return "plugins" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	add := func(pattern, summary string, e *web.Endpoint) {
		g.Add(pattern, e.With(func(e *web.Endpoint) { e.Summary = summary }))
	}
	add("GET ", "List plugins", web.JSON(auth.Admin, m.list))
	add("GET /", "List plugins", web.JSON(auth.Admin, m.list))
	add("GET /{id}", "Describe a plugin", web.JSON(auth.Admin, m.get))
	add("POST /{id}/enable", "Enable a plugin", web.JSON(auth.Admin, m.enable))
	add("POST /{id}/disable", "Disable a plugin", web.JSON(auth.Admin, m.disable))
	add("POST /{id}/restart", "Give a plugin a new process", web.JSON(auth.Admin, m.restart))
	add("GET /{id}/logs", "Last lines of a plugin's log, or those and all that come", web.JSON(auth.Admin, m.logs))
	add("GET /{id}/verify", "Compare a plugin's files with their pinned digests", web.JSON(auth.Admin, m.verify))
	add("POST /{id}/verify", "Compare a plugin's files with their pinned digests", web.JSON(auth.Admin, m.verify))
	add("GET /{id}/config", "Configuration of a plugin", web.JSON(auth.Admin, m.config))
	add("POST /{id}/config", "Change the configuration of a plugin", web.JSON(auth.Admin, m.setConfig))
	add("DELETE /{id}", "Uninstall a plugin", web.JSON(auth.Admin, m.uninstall))
	if m.d.Local {
		add("POST /install/path", "Install or replace a plugin from this machine", web.JSON(auth.Admin, m.installPath))
	}
	if m.d.Upload {
		add("POST /install", "Install or replace a plugin", web.JSON(auth.Admin, m.install).With(func(e *web.Endpoint) { e.MaxBody = maxUpload }))
	} else {
		add("POST /install", "Install or replace a plugin", web.JSON(auth.Admin, refuse))
	}
}

type idIn struct {
	ID string `path:"id"`
}

func (m *Module) list(c *web.Call, _ web.None) ([]plugin.Info, error) {
	return m.d.Plugins.List(c.Context()), nil
}

func (m *Module) get(c *web.Call, in idIn) (plugin.Info, error) { return m.info(c, in.ID) }

func (m *Module) info(c *web.Call, id string) (plugin.Info, error) {
	i, err := m.d.Plugins.Get(c.Context(), id)
	return i, answer(err)
}

// answer is the error that clients get of one of the manager's.
func answer(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return web.Because(http.StatusNotFound, web.TextNotFound, err)
	}
	return err
}

func (m *Module) enable(c *web.Call, in idIn) (plugin.Info, error) {
	return m.setEnabled(c, in.ID, true)
}

func (m *Module) disable(c *web.Call, in idIn) (plugin.Info, error) {
	return m.setEnabled(c, in.ID, false)
}

func (m *Module) setEnabled(c *web.Call, id string, enabled bool) (plugin.Info, error) {
	if err := m.d.Plugins.SetEnabled(c.Context(), id, enabled); err != nil {
		return plugin.Info{}, answer(err)
	}
	return m.settled(c, id)
}

func (m *Module) restart(c *web.Call, in idIn) (plugin.Info, error) {
	i, err := m.info(c, in.ID)
	if err != nil {
		return i, err
	}
	if !i.Enabled {
		return i, web.Fail(http.StatusBadRequest, fmt.Sprintf("The plugin %s is disabled", i.ID))
	}
	if err := m.d.Plugins.Restart(c.Context(), in.ID); err != nil {
		return i, answer(err)
	}
	return m.settled(c, in.ID)
}

// settled describes a plugin once what was asked of it has taken effect, or the module's patience is at its end.
func (m *Module) settled(c *web.Call, id string) (plugin.Info, error) {
	ctx, cancel := context.WithTimeout(c.Context(), m.d.Patience)
	defer cancel()
	if err := m.d.Plugins.Wait(ctx, id); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return plugin.Info{}, answer(err)
	}
	return m.info(c, id)
}

type logsIn struct {
	ID     string `path:"id"`
	Lines  int    `query:"lines" default:"100" ge:"0"`
	Follow bool   `query:"follow" default:"false"`
}

// heartbeat keeps proxies from closing a log in which nothing happens.
const heartbeat = 15 * time.Second

// logs answers with an array of lines, or with an event for each.
func (m *Module) logs(c *web.Call, in logsIn) (any, error) {
	if !in.Follow {
		lines, err := m.d.Plugins.Logs(in.ID, in.Lines)
		return lines, answer(err)
	}
	last, more, stop, err := m.d.Plugins.Follow(in.ID, in.Lines)
	if err != nil {
		return nil, answer(err)
	}
	defer stop()
	s := c.SSE()
	defer s.Heartbeat(heartbeat)()
	for _, line := range last {
		if err := s.Event(jsondoc.Of(line)); err != nil {
			return web.Done{}, nil // the client has gone
		}
	}
	for {
		select {
		case <-c.Context().Done():
			return web.Done{}, nil
		case line, ok := <-more:
			if !ok || s.Event(jsondoc.Of(line)) != nil {
				return web.Done{}, nil
			}
		}
	}
}

func (m *Module) verify(_ *web.Call, in idIn) (plugin.Verification, error) {
	v, err := m.d.Plugins.Verify(in.ID)
	return v, answer(err)
}

// configOut is a configuration that is in effect, and what it may be.
type configOut struct {
	Values jsondoc.Doc `json:"values"`
	Schema jsondoc.Doc `json:"schema"`
}

func (m *Module) config(_ *web.Call, in idIn) (configOut, error) {
	schema, err := m.d.Plugins.ConfigSchema(in.ID)
	if err != nil {
		return configOut{}, answer(err)
	}
	values, err := m.d.Plugins.Config(in.ID)
	return configOut{values, schema}, answer(err)
}

type configIn struct {
	ID   string `path:"id"`
	Body web.Dict
}

func (m *Module) setConfig(c *web.Call, in configIn) (configOut, error) {
	if _, err := m.d.Plugins.SetConfig(c.Context(), in.ID, in.Body.Doc()); err != nil {
		return configOut{}, answer(err)
	}
	return m.config(c, idIn{in.ID})
}

func (m *Module) uninstall(c *web.Call, in idIn) (bool, error) {
	ctx, cancel := context.WithTimeout(c.Context(), m.d.Patience)
	defer cancel()
	return true, answer(m.d.Plugins.Uninstall(ctx, in.ID))
}

// maxUpload is the largest archive and what a form needs beside it.
const maxUpload = plugin.MaxInstall + 1<<20

type installIn struct {
	File    web.Upload        `form:"file"`
	SHA256  web.Opt[string]   `form:"sha256"`
	Replace web.Opt[bool]     `form:"replace"`
	ID      web.Opt[string]   `form:"id"`
	Grants  web.Opt[[]string] `form:"grants"`
}

// install takes an archive or an executable, and describes the plugin once it has started or failed to.
func (m *Module) install(c *web.Call, in installIn) (plugin.Info, error) {
	how, err := installation(in.SHA256.V, in.Replace.V, in.ID.V, in.Grants.V)
	if err != nil {
		return plugin.Info{}, err
	}
	done, err := m.d.Plugins.InstallContent(c.Context(), plugin.Content{Name: in.File.Filename, ReaderAt: in.File.Open(), Size: in.File.Size}, how)
	return m.installed(c, done, err)
}

type pathIn struct {
	Body struct {
		Path    string            `json:"path"`
		SHA256  web.Opt[string]   `json:"sha256"`
		Replace web.Opt[bool]     `json:"replace"`
		ID      web.Opt[string]   `json:"id"`
		Grants  web.Opt[[]string] `json:"grants"`
	}
}

// installPath is install for a folder, an archive or an executable of this machine.
func (m *Module) installPath(c *web.Call, in pathIn) (plugin.Info, error) {
	b := &in.Body
	how, err := installation(b.SHA256.V, b.Replace.V, b.ID.V, b.Grants.V)
	if err != nil {
		return plugin.Info{}, err
	}
	done, err := m.d.Plugins.Install(c.Context(), b.Path, how)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return plugin.Info{}, web.Because(http.StatusBadRequest, "The plugin was not installed: "+err.Error(), err)
	}
	return m.installed(c, done, err)
}

func installation(sum string, replace bool, id string, grants []string) (plugin.Installation, error) {
	for _, g := range grants {
		if !slices.Contains(plugin.Grants, g) {
			return plugin.Installation{}, web.Fail(http.StatusBadRequest, fmt.Sprintf("There is no grant %q", g))
		}
	}
	return plugin.Installation{SHA256: sum, Replace: replace, ID: id, Grants: grants}, nil
}

func (m *Module) installed(c *web.Call, done plugin.Installed, err error) (plugin.Info, error) {
	var bad *plugin.InstallError
	switch {
	case errors.As(err, &bad):
		return plugin.Info{}, web.Because(http.StatusBadRequest, "The plugin was not installed: "+bad.Error(), err)
	case errors.Is(err, plugin.ErrInstalled):
		return plugin.Info{}, web.Because(http.StatusConflict, fmt.Sprintf("A plugin %s is installed", done.ID), err)
	case err != nil:
		return plugin.Info{}, err
	}
	return m.settled(c, done.ID)
}

func refuse(*web.Call, web.None) (web.Done, error) {
	return web.Done{}, web.Fail(http.StatusForbidden, "Plugins are not installed by way of the API (PLUGINS_UPLOAD)")
}
