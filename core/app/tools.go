package app

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/pytools"
	storedtools "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/turn"
)

// openPython makes what runs Python that people wrote. No process starts before it is needed.
func (a *App) openPython() {
	a.PythonTools = &pytools.Service{
		Rows: storedtools.New(a.DB, a.Access), Access: a.Access, Users: a.Users, Env: a.Env, Log: a.Log,
		Host: pyhost.New(pyhost.Options{
			Python: a.Env.Python, Dir: filepath.Join(a.Env.DataDir, "python"), Offline: a.Env.Offline, Log: a.Log,
			Requirements: a.Env.PipRequirements, PipOptions: a.Env.PipOptions, PipIndex: a.Env.PipIndex,
		}),
	}
}

// codeFetcher fetches code that administrators name by its address: also from this network, but not from where machines
// of clouds learn their secrets.
func (a *App) codeFetcher() *http.Client {
	return outbound.Guard{Local: true, Filter: a.Env.WebFetchFilter}.Client(a.clientTLS, true)
}

// toolbox is the turn engine's view of the tools that there are. Parts that have some add their toolbox here.
func (a *App) toolbox() turn.Toolbox {
	return toolboxes{pluginTools{a}, a.PythonTools}
}

// toolboxes is one toolbox of several.
type toolboxes []turn.Toolbox

// Tools implements turn.Toolbox.
func (b toolboxes) Tools(ctx context.Context, p *auth.Principal, ids []string) ([]turn.Tool, error) {
	var out []turn.Tool
	for _, box := range b {
		found, err := box.Tools(ctx, p, ids)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.SortStableFunc(out, func(x, y turn.Tool) int { return slices.Index(ids, x.Set) - slices.Index(ids, y.Set) })
	return out, nil
}
