package app

import "github.com/galleychat/galley/core/plugin"

// pluginServices are those parts of the server that plugins can be granted.
func (a *App) pluginServices() plugin.Services {
	return plugin.Services{APIKeyHeader: a.Env.APIKeyHeader}
}
