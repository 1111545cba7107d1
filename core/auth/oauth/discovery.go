package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// resource is what a protected resource, a server of tools, says of itself (RFC 9728).
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
func (c *Clients) resourceOf(ctx context.Context, address string) (resource, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(`{"jsonrpc":"2.0","method":"initialize","params":{},"id":1}`))
	if err != nil {
		return resource{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.s.HTTP.Do(req)
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
		if doc, err := fetchJSON(ctx, c.s.HTTP, place, "", c.timeout()); err == nil {
			return resource{doc.Text("resource"), doc.Get("scopes_supported").Texts(), doc.Get("authorization_servers").Texts()}, nil
		}
	}
	return resource{}, nil
}

// discover finds the metadata of the authorization server of a resource, and where it stands.
func (c *Clients) discover(ctx context.Context, address string, r resource) (jsondoc.Doc, string, []string) {
	var places []string
	for _, s := range r.servers {
		places = append(places, wellKnown(strings.TrimRight(s, "/"))...)
	}
	places = append(places, wellKnown(address)...)
	for _, place := range places {
		doc, err := fetchJSON(ctx, c.s.HTTP, place, "", c.timeout())
		if err == nil && doc.Text("issuer") != "" && doc.Text("token_endpoint") != "" {
			return doc, place, places
		}
	}
	return nil, "", places
}

// Describe finds the metadata of the authorization server that guards a server of tools. nil means that there is none at
// any of the places.
func (c *Clients) Describe(ctx context.Context, address string) (metadata jsondoc.Doc, places []string, err error) {
	r, err := c.resourceOf(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	metadata, _, places = c.discover(ctx, address, r)
	return metadata, places, nil
}

// Registration says which client is to be made.
type Registration struct {
	ID     string // by which this server knows the client: mcp:ID
	Server string // address of the server of tools, or of what guards it
	Scope  string // to be asked for; "" goes by what the server says
	// ClientID and Secret are credentials that an administrator has; without a secret the client is registered.
	ClientID, Secret string
}

// Register makes this server a client of the authorization server that guards a server of tools: by registration (RFC
// 7591), or with credentials that there are already. The request says where browsers find this server. What comes of it
// is given encrypted, to be stored with the connection.
func (c *Clients) Register(ctx context.Context, req *http.Request, in Registration) (string, error) {
	info, err := c.register(ctx, req, in)
	if err != nil {
		return "", err
	}
	return c.secrets.Encrypt(info)
}

func (c *Clients) register(ctx context.Context, req *http.Request, in Registration) (jsondoc.Doc, error) {
	r, err := c.resourceOf(ctx, in.Server)
	if err != nil {
		return nil, err
	}
	metadata, place, _ := c.discover(ctx, in.Server, r)
	if metadata == nil {
		if len(r.servers) > 0 {
			return nil, fmt.Errorf("Could not discover the OAuth authorization server metadata for %s", in.Server)
		}
		base, _ := origin(in.Server) // a revision of MCP gives these places where nothing is described
		var b jsondoc.Builder
		b.Add("issuer", base)
		b.Add("authorization_endpoint", base+"/authorize")
		b.Add("token_endpoint", base+"/token")
		b.Add("registration_endpoint", base+"/register")
		metadata = b.Done()
	}
	client := clientMetadata{redirect: c.s.publicURL(req) + "/oauth/clients/" + in.ID + "/callback", scope: scopes(in.Scope)}
	if client.scope == "" {
		client.scope = strings.Join(r.scopes, " ")
	}
	methods := metadata.Get("token_endpoint_auth_methods_supported").Texts()
	var answer jsondoc.Doc
	if in.Secret != "" {
		client.method = pick(methods, "client_secret_post", "client_secret_basic")
		answer = client.json().Set(jsondoc.Text(in.ClientID), "client_id").Set(jsondoc.Text(in.Secret), "client_secret")
	} else {
		if client.scope == "" {
			client.scope = strings.Join(metadata.Get("scopes_supported").Texts(), " ")
		}
		client.method = pick(methods, "client_secret_post")
		if answer, err = c.registerAt(ctx, in.Server, metadata, &client); err != nil {
			return nil, err
		}
	}
	answer = answer.Set(metadata, "server_metadata").Set(nil, "issuer")
	if place != "" {
		answer = answer.Set(jsondoc.Text(place), "issuer")
	}
	if r.id != "" {
		answer = answer.Set(jsondoc.Text(r.id), "resource")
	}
	return answer, nil
}

// scopes are those that somebody has written with spaces or commas between them.
func scopes(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, ",", " ")), " ")
}

// pick is the first of the wanted methods that is supported; the first supported one, or the first wanted, otherwise.
func pick(supported []string, wanted ...string) string {
	for _, w := range wanted {
		if len(supported) == 0 {
			return w
		}
		for _, s := range supported {
			if s == w {
				return w
			}
		}
	}
	return supported[0]
}

// clientMetadata is what this server says of itself to an authorization server.
type clientMetadata struct{ redirect, scope, method string }

func (m *clientMetadata) json() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("client_name", "Open WebUI") // authorization servers may know the client by this name
	b.Add("redirect_uris", []string{m.redirect})
	b.Add("grant_types", []string{"authorization_code", "refresh_token"})
	b.Add("response_types", []string{"code"})
	b.Add("application_type", "native")
	if m.scope != "" {
		b.Add("scope", m.scope)
	}
	b.Add("token_endpoint_auth_method", m.method)
	return b.Done()
}

func (c *Clients) registerAt(ctx context.Context, address string, metadata jsondoc.Doc, client *clientMetadata) (jsondoc.Doc, error) {
	place := metadata.Text("registration_endpoint")
	if place == "" {
		base, _ := origin(address)
		place = base + "/register"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, place, bytes.NewReader(client.json()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	_, body, err := fetch(c.s.HTTP, req, c.timeout())
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(body)
	if bad != nil || doc.Text("client_id") == "" {
		if len(body) > 0 {
			return nil, errors.New("Dynamic client registration failed: " + string(body))
		}
		return nil, errors.New("Error parsing client registration response")
	}
	out := &jsondoc.Obj{}
	doc.Each(func(name string, v jsondoc.Doc) bool {
		if string(v) == `""` { // some servers write unset members so
			v = nil
		}
		out.Set(name, v)
		return true
	})
	if out.Text("scope") == "" && client.scope != "" {
		out.Set("scope", jsondoc.Text(client.scope))
	}
	return out.Doc(), nil
}
