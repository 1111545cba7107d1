package app

import (
	"context"
	"net/http"
	"os"

	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/outbound"
)

// openOAuth makes what signs people in at identity providers. Providers are called with the TLS settings of all other
// servers; people's pictures, which may be anywhere, are not fetched from the server's own network.
func (a *App) openOAuth() error {
	lookup := os.Getenv
	if a.Env.Lookup != nil {
		lookup = func(name string) string { v, _ := a.Env.Lookup(name); return v }
	}
	o, err := llm.ClientOptionsFromEnv(lookup)
	if err != nil {
		return &SettingError{Err: err}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.TLS
	a.OAuth, err = oauth.New(oauth.Options{
		Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, Events: a.Events, Log: a.Log,
		HTTP:     &http.Client{Transport: a.Obs.Tracer.Transport(transport)},
		Pictures: outbound.FromEnv(a.Env).Client(o.TLS, a.Env.Client.Redirects),
	})
	if err != nil {
		return &SettingError{Err: err}
	}
	return nil
}

// systemToken is the access token of the caller's session with the identity provider, "" for none.
func (a *App) systemToken(ctx context.Context, caller *llm.Caller) string {
	token, err := a.OAuth.SystemToken(ctx, caller.ID, caller.Cookies)
	if err != nil {
		a.Log.WarnContext(ctx, "no token of the identity provider", "user_id", caller.ID, "error", err)
	}
	return token.Text("access_token")
}
