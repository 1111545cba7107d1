package app

import (
	"net/http"
	"path/filepath"

	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/pytools"
	storedtools "github.com/galleychat/galley/core/store/tools"
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
