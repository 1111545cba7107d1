package configs

import (
	"context"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

func (m *Module) verifyOAuth(ctx context.Context, t *toolServer) (jsondoc.Doc, error) {
	address := t.Info.V.Doc().Text("oauth_server_url")
	if address == "" {
		address = t.URL
	}
	doc, places, err := m.OAuth.Describe(ctx, address)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "Failed to connect to the tool server", err)
	}
	if doc == nil {
		return nil, web.Fail(http.StatusBadRequest, "Failed to fetch OAuth 2.1 discovery document from ['"+strings.Join(places, "', '")+"']")
	}
	return jsondoc.Object("status", jsondoc.Doc("true")).Set(doc, "oauth_server_metadata"), nil
}

type registerIn struct {
	Type web.Opt[string] `query:"type"`
	Body struct {
		URL       string          `json:"url"`
		ClientID  string          `json:"client_id"`
		Name      web.Opt[string] `json:"client_name"`
		Secret    web.Opt[string] `json:"client_secret"`
		ServerURL web.Opt[string] `json:"oauth_server_url"`
		Scope     web.Opt[string] `json:"oauth_scope"`
	}
}

// registerClient makes this server a client of the authorization server that guards a tool server, by registration
// (RFC 7591) or with credentials an administrator has. What comes of it is given back encrypted, to be stored with the
// tool server.
func (m *Module) registerClient(c *web.Call, in registerIn) (web.M, error) {
	if !m.Env.ToolServers {
		return nil, errToolServers
	}
	f := &in.Body
	ctx, cancel := context.WithTimeout(c.Context(), m.timeout())
	defer cancel()
	r := oauth.Registration{ID: f.ClientID, Server: f.ServerURL.V, Scope: f.Scope.V, ClientID: f.ClientID, Secret: f.Secret.V}
	if in.Type.V != "" {
		r.ID = in.Type.V + ":" + r.ID
	}
	if r.Server == "" {
		r.Server = f.URL
	}
	sealed, err := m.OAuth.Register(ctx, c.R, r)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "Failed to register OAuth client: "+err.Error(), err)
	}
	return web.M{"status": true, "oauth_client_info": sealed}, nil
}
