package app

import (
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/routes/plugins"
)

// pluginsPrefix is where plugins are administered, and below which their own addresses are.
const pluginsPrefix = "/api/v1/plugins"

// openControl has the command line reach the manager of plugins.
func (a *App) openControl() {
	router := web.New(web.Options{Auth: operator{}, Logger: a.Log, UploadDir: a.Env.UploadDir()})
	// who may write to the plugins folder may install whatever the API's setting is
	router.Mount(pluginsPrefix, plugins.New(plugins.Deps{Plugins: a.Plugins, Upload: true, Local: true}))
	router.Finish()
	a.parts = append(a.parts, control.New(a.Env.DataDir, router, a.Log))
}

// operator is who calls by way of the control socket.
type operator struct{}

// Authorize implements web.Authenticator.
func (operator) Authorize(*http.Request, auth.Level) (*auth.Principal, error) {
	return &auth.Principal{User: &users.User{Name: "operator", Role: "admin"}}, nil
}
