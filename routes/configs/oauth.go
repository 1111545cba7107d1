package configs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// resource is what a protected resource says of itself (RFC 9728).
type resource struct {
	id      string
	scopes  []string
	servers []string // its authorization servers
}

var resourceMetadata = regexp.MustCompile(`resource_metadata=(?:"([^"]+)"|([^\s,]+))`)

// origin is scheme and host of an address, and its path without a slash at the end.
func origin(address string) (base, path string) {
	u, err := url.Parse(address)
	if err != nil {
		return address, ""
	}
	return u.Scheme + "://" + u.Host, strings.TrimRight(u.Path, "/")
}

// wellKnown are the places where an authorization server may describe itself.
func wellKnown(address string) []string {
	base, path := origin(address)
	var out []string
	if path != "" {
		out = append(out, base+"/.well-known/oauth-authorization-server"+path, base+"/.well-known/openid-configuration"+path,
			base+path+"/.well-known/openid-configuration")
	}
	return append(out, base+"/.well-known/oauth-authorization-server", base+"/.well-known/openid-configuration")
}

// resourceOf asks a server who guards it. Anything unusual means that it says nothing.
func (m *Module) resourceOf(ctx context.Context, address string) (resource, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(`{"jsonrpc":"2.0","method":"initialize","params":{},"id":1}`))
	if err != nil {
		return resource{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.HTTP.Do(req)
	if err != nil {
		return resource{}, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	_ = resp.Body.Close()
	base, path := origin(address)
	places := []string{base + "/.well-known/oauth-protected-resource"}
	if path != "" {
		places = append([]string{places[0] + path}, places...)
	}
	if hit := resourceMetadata.FindStringSubmatch(resp.Header.Get("WWW-Authenticate")); hit != nil {
		places = []string{hit[1] + hit[2]}
	}
	for _, place := range places {
		status, body, err := m.fetch(ctx, http.MethodGet, place, nil, nil)
		doc, bad := jsondoc.Check(body)
		if err != nil || status != http.StatusOK || bad != nil {
			continue
		}
		return resource{doc.Text("resource"), doc.Get("scopes_supported").Texts(), doc.Get("authorization_servers").Texts()}, nil
	}
	return resource{}, nil
}

// discover finds the metadata of the authorization server of a resource, and where it stands.
func (m *Module) discover(ctx context.Context, address string, r resource) (jsondoc.Doc, string, []string) {
	var places []string
	for _, s := range r.servers {
		places = append(places, wellKnown(strings.TrimRight(s, "/"))...)
	}
	places = append(places, wellKnown(address)...)
	for _, place := range places {
		status, body, err := m.fetch(ctx, http.MethodGet, place, nil, nil)
		doc, bad := jsondoc.Check(body)
		if err == nil && status == http.StatusOK && bad == nil && doc.Text("issuer") != "" && doc.Text("token_endpoint") != "" {
			return doc, place, places
		}
	}
	return nil, "", places
}

func (m *Module) verifyOAuth(ctx context.Context, t *toolServer) (jsondoc.Doc, error) {
	address := t.Info.V.Doc().Text("oauth_server_url")
	if address == "" {
		address = t.URL
	}
	r, err := m.resourceOf(ctx, address)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "Failed to connect to the tool server", err)
	}
	doc, _, places := m.discover(ctx, address, r)
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
	ctx, cancel := context.WithTimeout(c.Context(), m.timeout())
	defer cancel()
	info, err := m.register(ctx, c, &in)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "Failed to register OAuth client: "+err.Error(), err)
	}
	key, err := m.secrets()
	if err != nil {
		return nil, err
	}
	token, err := key.Encrypt(info)
	if err != nil {
		return nil, err
	}
	return web.M{"status": true, "oauth_client_info": token}, nil
}

func (m *Module) register(ctx context.Context, c *web.Call, in *registerIn) (jsondoc.Doc, error) {
	id := in.Body.ClientID
	if in.Type.V != "" {
		id = in.Type.V + ":" + id
	}
	address := in.Body.ServerURL.V
	if address == "" {
		address = in.Body.URL
	}
	r, err := m.resourceOf(ctx, address)
	if err != nil {
		return nil, err
	}
	metadata, issuer, _ := m.discover(ctx, address, r)
	if metadata == nil {
		if len(r.servers) > 0 {
			return nil, fmt.Errorf("no authorization server describes itself for %s", address)
		}
		base, _ := origin(address) // a revision of MCP gives these places where nothing is described
		var b jsondoc.Builder
		b.Add("issuer", base)
		b.Add("authorization_endpoint", base+"/authorize")
		b.Add("token_endpoint", base+"/token")
		b.Add("registration_endpoint", base+"/register")
		metadata = b.Done()
	}
	client := clientMetadata{
		redirect: m.baseURL(c) + "/oauth/clients/" + id + "/callback",
		scope:    strings.Join(strings.Fields(strings.ReplaceAll(in.Body.Scope.V, ",", " ")), " "),
	}
	if client.scope == "" {
		client.scope = strings.Join(r.scopes, " ")
	}
	methods := metadata.Get("token_endpoint_auth_methods_supported").Texts()
	var answer jsondoc.Doc
	if in.Body.Secret.V != "" {
		client.method = pick(methods, "client_secret_post", "client_secret_basic")
		answer = client.json().Set(jsondoc.Text(in.Body.ClientID), "client_id").Set(jsondoc.Text(in.Body.Secret.V), "client_secret")
	} else {
		if client.scope == "" {
			client.scope = strings.Join(metadata.Get("scopes_supported").Texts(), " ")
		}
		if len(methods) > 0 {
			client.method = methods[0]
		}
		if answer, err = m.registerAt(ctx, address, metadata, &client); err != nil {
			return nil, err
		}
	}
	answer = answer.Set(jsondoc.Text(issuer), "issuer").Set(metadata, "server_metadata")
	if issuer == "" {
		answer = answer.Set(nil, "issuer")
	}
	if r.id != "" {
		answer = answer.Set(jsondoc.Text(r.id), "resource")
	}
	return answer, nil
}

// pick is the first of the wanted methods that is supported; the first supported one, or the first wanted, otherwise.
func pick(supported []string, wanted ...string) string {
	for _, w := range wanted {
		if len(supported) == 0 || slices.Contains(supported, w) {
			return w
		}
	}
	return supported[0]
}

// baseURL is where browsers find this server.
func (m *Module) baseURL(c *web.Call) string {
	if u := config.WebUIURL.Get(m.Settings.Snapshot()); u != "" {
		return strings.TrimRight(u, "/")
	}
	return c.Origin()
}

// clientMetadata is what this server says of itself to an authorization server.
type clientMetadata struct{ redirect, scope, method string }

func (m *clientMetadata) json() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("client_name", "Open WebUI") // authorization servers may know the client by this name
	b.Add("redirect_uris", []string{m.redirect})
	b.Add("grant_types", []string{"authorization_code", "refresh_token"})
	b.Add("response_types", []string{"code"})
	if m.scope != "" {
		b.Add("scope", m.scope)
	}
	if m.method != "" {
		b.Add("token_endpoint_auth_method", m.method)
	}
	return b.Done()
}

func (m *Module) registerAt(ctx context.Context, address string, metadata jsondoc.Doc, client *clientMetadata) (jsondoc.Doc, error) {
	place := metadata.Text("registration_endpoint")
	if place == "" {
		base, _ := origin(address)
		place = base + "/register"
	}
	_, body, err := m.fetch(ctx, http.MethodPost, place, client.json(), http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(body)
	if bad != nil || doc.Text("client_id") == "" {
		if len(body) > 0 {
			return nil, errors.New("Dynamic client registration failed: " + string(body)) //nolint:staticcheck // as clients see it
		}
		return nil, errors.New("Error parsing client registration response") //nolint:staticcheck
	}
	out := &jsondoc.Obj{}
	doc.Each(func(name string, v jsondoc.Doc) bool {
		if string(v) == `""` { // some servers write unset members so
			v = nil
		}
		out.Set(name, v.Or(jsondoc.Doc("null")))
		return true
	})
	if out.Text("scope") == "" && client.scope != "" {
		out.Set("scope", jsondoc.Text(client.scope))
	}
	return out.Doc(), nil
}
