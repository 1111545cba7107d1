// Package oauth serves /oauth: where browsers go to sign in at an identity provider and come back from it, to let this
// server use a server of tools in their name, and where providers say that somebody has signed out.
package oauth

import (
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module uses.
type Deps struct {
	OAuth *oauth.Service
	// Backchannel is whether providers may sign people out: ENABLE_OAUTH_BACKCHANNEL_LOGOUT.
	Backchannel bool
}

// Module is the addresses below /oauth.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "oauth" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	// Neither of these two is more specific than the other, which ServeMux refuses.
	g.Add("GET /clients/{client_id}/callback", web.JSON(auth.Public, m.connected), web.Under("GET /{a}/{b}/callback"))
	g.Add("GET /{provider}/login/callback", web.JSON(auth.Public, m.callback), web.Under("GET /{a}/{b}/callback"))
	g.Add("GET /clients/{client_id}/authorize", web.JSON(auth.Verified, m.connect))
	g.Add("GET /{provider}/login", web.JSON(auth.Public, m.login))
	g.Add("GET /{provider}/callback", web.JSON(auth.Public, m.callback))
	g.Add("POST /backchannel-logout", web.JSON(auth.Public, m.logout))
}

type providerIn struct {
	Provider string `path:"provider"`
}

type clientIn struct {
	Client string `path:"client_id"`
}

// redirect sends the browser on.
func redirect(status int, to string, err error) (*web.Raw, error) {
	if err != nil {
		return nil, err
	}
	return &web.Raw{Status: status, Header: http.Header{"Location": {to}}}, nil
}

func (m *Module) login(c *web.Call, in providerIn) (*web.Raw, error) {
	to, err := m.OAuth.Login(c.W, c.R, in.Provider)
	return redirect(http.StatusFound, to, err)
}

func (m *Module) callback(c *web.Call, in providerIn) (*web.Raw, error) {
	to, err := m.OAuth.Callback(c.W, c.R, in.Provider)
	return redirect(http.StatusTemporaryRedirect, to, err)
}

func (m *Module) connect(c *web.Call, in clientIn) (*web.Raw, error) {
	to, err := m.OAuth.Clients.Authorize(c.W, c.R, in.Client, c.UserID())
	return redirect(http.StatusFound, to, err)
}

func (m *Module) connected(c *web.Call, in clientIn) (*web.Raw, error) {
	to, err := m.OAuth.Clients.Callback(c.W, c.R, in.Client)
	return redirect(http.StatusTemporaryRedirect, to, err)
}

// maxLogout bounds a provider's form, in bytes.
const maxLogout = 1 << 20

// logout reads the provider's form itself: whatever is wrong with it has an answer of its own.
func (m *Module) logout(c *web.Call, _ web.None) (web.Done, error) {
	if !m.Backchannel {
		return web.Done{}, web.Fail(http.StatusNotFound, "Not Found")
	}
	c.R.Body = http.MaxBytesReader(c.W, c.R.Body, maxLogout)
	c.Header().Set("Cache-Control", "no-store")
	status, body := m.OAuth.BackchannelLogout(c.Context(), c.R.PostFormValue("logout_token"))
	return web.Done{}, web.WriteJSON(c.W, status, body)
}
