// Package users serves /api/v1/users: the caller's own settings and status, and for administrators all accounts.
package users

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Static serves files of /static by name; core/frontend's Site does.
type Static interface {
	ServeStatic(w http.ResponseWriter, r *http.Request, name string)
}

// Deps are what the module uses.
type Deps struct {
	Users    *users.Store
	Access   *access.Access
	Settings *config.Settings
	Env      *config.Env
	Sessions *session.Sessions
	OAuth    *oauth.Service
	Static   Static // for user.png
	Events   *events.Bus
}

// Module is the web.Module of tag users.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "users" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Admin, m.list))
	g.Add("GET /all", web.JSON(auth.Admin, m.all))
	g.Add("GET /search", web.JSON(auth.Verified, m.search))
	g.Add("GET /groups", web.JSON(auth.Verified, m.ownGroups))
	g.Add("GET /permissions", web.JSON(auth.Verified, m.permissions))
	g.Add("GET /default/permissions", web.JSON(auth.Admin, m.defaultPermissions))
	g.Add("POST /default/permissions", web.JSON(auth.Admin, m.setDefaultPermissions))
	g.Add("GET /default/permissions/defaults", web.JSON(auth.Admin, m.builtinPermissions))
	g.Add("GET /usage", web.JSON(auth.Verified, m.usage))

	g.Add("GET /user/settings", web.JSON(auth.Verified, m.settings))
	g.Add("POST /user/settings/update", web.JSON(auth.Verified, m.updateSettings))
	g.Add("GET /user/status", web.JSON(auth.Verified, m.status))
	g.Add("POST /user/status/update", web.JSON(auth.Verified, m.updateStatus))
	g.Add("GET /user/info", web.JSON(auth.Verified, m.info))
	g.Add("POST /user/info/update", web.JSON(auth.Verified, m.updateInfo))
	g.Add("GET /user/variables", web.JSON(auth.Verified, m.variables))
	g.Add("POST /user/variables/update", web.JSON(auth.Verified, m.updateVariables))

	g.Add("GET /{user_id}", web.JSON(auth.Admin, m.get))
	g.Add("DELETE /{user_id}", web.JSON(auth.Admin, m.remove))
	g.Add("POST /{user_id}/update", web.JSON(auth.Admin, m.update))
	g.Add("GET /{user_id}/info", web.JSON(auth.Verified, m.infoByID))
	g.Add("GET /{user_id}/active", web.JSON(auth.Verified, m.active))
	g.Add("GET /{user_id}/profile/image", web.JSON(auth.Verified, m.image))
	g.Add("GET /{user_id}/groups", web.JSON(auth.Admin, m.groupsByID))
	g.Add("GET /{user_id}/preview", web.JSON(auth.Admin, m.preview))
	g.Add("GET /{user_id}/oauth/sessions", web.JSON(auth.Admin, m.oauthSessions))
	g.Add("POST /{user_id}/sessions/revoke", web.JSON(auth.Admin, m.revoke))
}

type idIn struct {
	ID string `path:"user_id"`
}

// Texts of the reference.
const (
	textTaken      = "Uh-oh! This email is already registered. Sign in with your existing account or choose another email to start anew."
	textRestricted = "The requested action has been restricted as a security measure."
)

// publish tells of what the caller did.
func (m *Module) publish(c *web.Call, e events.Event) {
	e.Actor = c.Principal.User
	m.Events.Publish(c.Context(), e)
}

// missing gives ErrNotFound a status: most operations of the reference answer 400.
func missing(err error, status int) error {
	if errors.Is(err, store.ErrNotFound) {
		return web.Fail(status, web.TextNotFound)
	}
	return err
}
