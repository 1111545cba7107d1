package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Clients are this server's clients at the authorization servers that guard servers of tools (MCP), by "mcp:" and the id of
// the connection. Each account is given tokens of its own, stored like those of sign-ins.
type Clients struct {
	s       *Service
	secrets fernet.Key // of stored clients

	mu    sync.Mutex
	known map[string]*toolClient
}

// isTool says whether a stored session is of a tool server.
func isTool(provider string) bool { return strings.HasPrefix(provider, "mcp:") }

// timeout is how long an authorization server may take: OAUTH_CLIENT_TIMEOUT.
func (c *Clients) timeout() time.Duration {
	if n, ok := config.OAuthClientTimeout.Int(c.s.Settings.Snapshot()); ok && n > 0 {
		return time.Duration(n) * time.Second
	}
	return defaultTimeout
}

// toolClient is a registered client.
type toolClient struct {
	connection jsondoc.Doc // that it was read from
	info       *jsondoc.Obj
	metadata   jsondoc.Doc
	mode       string // of the parameter resource: auto, include, omit
}

// connections are those of all tool servers.
func (c *Clients) connections() []jsondoc.Doc {
	return jsondoc.Doc(config.ToolServerConnections.Raw(c.s.Settings.Snapshot())).List()
}

// find finds the connection of a client.
func find(list []jsondoc.Doc, id string) int {
	return slices.IndexFunc(list, func(d jsondoc.Doc) bool {
		name := d.Get("info").Text("id")
		return name != "" && id == firstOf(d.Text("type"), "openapi")+":"+name
	})
}

// client finds a client among the connections; nil where there is none, or none that can be read.
func (c *Clients) client(ctx context.Context, id string) *toolClient {
	list := c.connections()
	i := find(list, id)
	if i < 0 || !isTool(id) || !strings.HasPrefix(list[i].Text("auth_type"), "oauth_2.1") {
		return nil
	}
	c.mu.Lock()
	t := c.known[id]
	c.mu.Unlock()
	if t != nil && string(t.connection) == string(list[i]) {
		return t
	}
	t, err := c.read(ctx, list[i])
	if err != nil {
		c.s.Log.ErrorContext(ctx, "the OAuth client of a tool server cannot be used; connect the server anew", "client", id, "error", err)
		return nil
	}
	c.mu.Lock()
	if c.known == nil {
		c.known = map[string]*toolClient{}
	}
	c.known[id] = t
	c.mu.Unlock()
	return t
}

// read opens what is stored of a client with its connection.
func (c *Clients) read(ctx context.Context, connection jsondoc.Doc) (*toolClient, error) {
	info, options := connection.Get("info"), connection.Get("config")
	text, err := c.secrets.Decrypt(info.Text("oauth_client_info"))
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(text)
	if bad != nil {
		return nil, bad
	}
	t := &toolClient{connection: connection, info: jsondoc.Open(doc), metadata: doc.Get("server_metadata")}
	if connection.Text("auth_type") == "oauth_2.1_static" && info.Text("oauth_client_id") != "" && info.Text("oauth_client_secret") != "" {
		t.info.Set("client_id", info.Get("oauth_client_id"))
		t.info.Set("client_secret", info.Get("oauth_client_secret"))
	}
	if t.info.Text("client_id") == "" {
		return nil, errors.New("it has no client_id")
	}
	if t.info.Text("scope") == "" || t.info.Text("resource") == "" {
		// clients that were stored by older versions lack these
		if r, err := c.resourceOf(ctx, connection.Text("url")); err == nil {
			if t.info.Text("scope") == "" && len(r.scopes) > 0 {
				t.info.Set("scope", jsondoc.Text(strings.Join(r.scopes, " ")))
			}
			if t.info.Text("resource") == "" && r.id != "" {
				t.info.Set("resource", jsondoc.Text(r.id))
			}
		}
	}
	if s := scopes(firstOf(info.Text("oauth_scope"), options.Text("oauth_scope"))); s != "" {
		t.info.Set("scope", jsondoc.Text(s))
	}
	if t.mode = firstOf(info.Text("oauth_resource_parameter"), options.Text("oauth_resource_parameter")); t.mode != "include" && t.mode != "omit" {
		t.mode = "auto"
	}
	if t.metadata.IsNull() && t.info.Text("issuer") != "" {
		if t.metadata, err = fetchJSON(ctx, c.s.HTTP, t.info.Text("issuer"), "", c.timeout()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// resource is what requests name as the resource (RFC 8707), "" for nothing. Scopes that are addresses name it already.
func (t *toolClient) resource() string {
	named := slices.ContainsFunc(strings.Fields(t.info.Text("scope")), func(s string) bool {
		return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "api://")
	})
	if t.mode == "omit" || t.mode == "auto" && named {
		return ""
	}
	return t.info.Text("resource")
}

// authorization begins a request for authorization.
func (t *toolClient) authorization() (string, pending, error) {
	endpoint := t.metadata.Text("authorization_endpoint")
	methods := t.metadata.Get("code_challenge_methods_supported").Texts()
	params := map[string]any{}
	if r := t.resource(); r != "" {
		params["resource"] = r
	}
	if u, err := url.Parse(endpoint); err == nil && u.Hostname() == "accounts.google.com" {
		// Google gives a refresh token for these only
		params["access_type"], params["prompt"] = "offline", "consent"
	}
	redirect := ""
	if list := t.info.Get("redirect_uris").Texts(); len(list) > 0 {
		redirect = list[0]
	}
	return authorization(endpoint, t.info.Text("client_id"), redirect, t.info.Text("scope"), len(methods) == 0 || slices.Contains(methods, "S256"), params)
}

func (c *Clients) tokenClient(t *toolClient) *tokenClient {
	return &tokenClient{http: c.s.HTTP, timeout: c.timeout(), url: t.metadata.Text("token_endpoint"), id: t.info.Text("client_id"),
		secret: t.info.Text("client_secret"), method: t.info.Text("token_endpoint_auth_method")}
}

var errToolServers = web.Fail(http.StatusForbidden, "Tool servers are disabled")

// Authorize sends an account to the authorization server of a tool server's client: it gives where the browser is to go.
// The error is an answer.
func (c *Clients) Authorize(w http.ResponseWriter, r *http.Request, id, userID string) (string, error) {
	if !c.s.Env.ToolServers {
		return "", errToolServers
	}
	ctx := r.Context()
	t := c.client(ctx, id)
	if t == nil {
		return "", errNoProvider
	}
	if !c.acknowledged(ctx, t) {
		c.s.Log.InfoContext(ctx, "an authorization server does not know the client any more; registering anew", "client", id)
		if err := c.renewClient(ctx, r, id); err != nil {
			return "", web.Because(http.StatusInternalServerError, "Failed to re-register OAuth client", err)
		}
		if t = c.client(ctx, id); t == nil {
			return "", web.Fail(http.StatusInternalServerError, "OAuth client unavailable after re-registration")
		}
		if !c.acknowledged(ctx, t) {
			return "", web.Fail(http.StatusInternalServerError, "OAuth client registration is still invalid after re-registration")
		}
	}
	to, state, err := t.authorization()
	if err != nil {
		return "", web.Because(http.StatusBadRequest, "OAuth authorization endpoint could not be resolved for this client. Re-register the MCP server; its OAuth discovery documents may be missing or unreachable.", err)
	}
	state.Provider, state.UserID = id, userID
	return to, c.s.states.add(w, r, state, c.s.now())
}

// acknowledged says whether the authorization server still knows a client, as far as its answer tells.
func (c *Clients) acknowledged(ctx context.Context, t *toolClient) bool {
	to, _, err := t.authorization()
	if err != nil {
		return true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return true
	}
	client := *c.s.HTTP
	if !c.s.Env.Client.Redirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return true
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 400 || resp.Header.Get("cf-mitigated") != "" { // a bot check says nothing of the client
		return true
	}
	_, body, err := fetch(&client, req, c.timeout())
	if err != nil {
		return true
	}
	said := string(body)
	if strings.Contains(resp.Header.Get("Content-Type"), "application/json") {
		doc, _ := jsondoc.Check(body)
		said = doc.Text("error") + " " + doc.Text("error_description")
	}
	said = strings.ToLower(said)
	return !slices.ContainsFunc([]string{"invalid_client", "invalid client", "client id", "redirect_uri", "redirect uri"},
		func(word string) bool { return strings.Contains(said, word) })
}

// renewClient registers a client anew and stores it with its connection.
func (c *Clients) renewClient(ctx context.Context, r *http.Request, id string) error {
	list := c.connections()
	i := find(list, id)
	if i < 0 {
		return store.ErrNotFound
	}
	info := list[i].Get("info")
	in := Registration{ID: id, Server: list[i].Text("url"), Scope: firstOf(info.Text("oauth_scope"), list[i].Get("config").Text("oauth_scope"))}
	if list[i].Text("auth_type") == "oauth_2.1_static" {
		in.ClientID, in.Secret = info.Text("oauth_client_id"), info.Text("oauth_client_secret")
		if in.ClientID == "" || in.Secret == "" {
			t, err := c.read(ctx, list[i])
			if err != nil {
				return err
			}
			in.ClientID, in.Secret = firstOf(in.ClientID, t.info.Text("client_id")), firstOf(in.Secret, t.info.Text("client_secret"))
		}
	}
	sealed, err := c.Register(ctx, r, in)
	if err != nil {
		return err
	}
	list = slices.Clone(list)
	list[i] = list[i].Set(jsondoc.Text(sealed), "info", "oauth_client_info")
	return c.s.Settings.Set(ctx, config.Changes{config.ToolServerConnections.Key(): jsontext.Value(jsondoc.Array(list...))})
}

// Callback takes the answer of an authorization server to Authorize, stores the tokens and gives where the browser is to go.
// The error is an answer.
func (c *Clients) Callback(w http.ResponseWriter, r *http.Request, id string) (string, error) {
	if !c.s.Env.ToolServers {
		return "", errToolServers
	}
	ctx := r.Context()
	t := c.client(ctx, id)
	if t == nil {
		return "", errNoProvider
	}
	to := c.s.publicURL(r)
	if err := c.finish(ctx, w, r, id, t); err != nil {
		c.s.Log.WarnContext(ctx, "a tool server was not connected", "client", id, "error", err)
		to += "/?error=" + url.QueryEscape(told(err))
	}
	return to, nil
}

// told is what the person is told of an error.
func told(err error) string {
	var answer *web.Error
	why := err.Error()
	if errors.As(err, &answer) {
		why = fmt.Sprint(answer.Detail)
	}
	text := "OAuth callback failed: " + strings.TrimSpace(strings.ReplaceAll(why, "\n", " "))
	if utf8.RuneCountInString(text) > 200 {
		text = string([]rune(text)[:197]) + "..."
	}
	return text
}

func (c *Clients) finish(ctx context.Context, w http.ResponseWriter, r *http.Request, id string, t *toolClient) error {
	q := r.URL.Query()
	state := c.s.states.take(w, r, id, q.Get("state"), c.s.now())
	if state == nil || state.UserID == "" {
		return web.Fail(http.StatusBadRequest, "OAuth callback state is invalid or expired")
	}
	u, err := found(c.s.Users.ByID(ctx, state.UserID))
	if err != nil {
		return err
	}
	if u == nil || !u.IsVerified() {
		return web.Fail(http.StatusUnauthorized, "OAuth callback user is not authorized")
	}
	caller, err := c.s.Sessions.Authorize(r, auth.Optional)
	if err != nil {
		return err
	}
	if caller != nil && caller.IsVerified() && caller.ID != u.ID {
		return web.Fail(http.StatusUnauthorized, "OAuth callback user does not match authenticated session")
	}
	if code := q.Get("error"); code != "" {
		return &tokenError{code: code, description: q.Get("error_description")}
	}
	if iss, own := q.Get("iss"), t.metadata.Text("issuer"); iss != "" && own != "" && iss != own {
		return fmt.Errorf("the answer is of another issuer, %q", iss)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {q.Get("code")}}
	if state.Redirect != "" {
		form.Set("redirect_uri", state.Redirect)
	}
	if state.Verifier != "" {
		form.Set("code_verifier", state.Verifier)
	}
	if res := t.resource(); res != "" {
		form.Set("resource", res)
	}
	token, err := c.tokenClient(t).ask(ctx, form)
	if err != nil {
		return err
	}
	if token.Text("access_token") == "" {
		return errors.New("the token endpoint gave no access token")
	}
	_, err = c.s.keep(ctx, u.ID, id, token, 1)
	return err
}

// refresh asks for new tokens of a tool server.
func (c *Clients) refresh(ctx context.Context, id string, form url.Values, withScope bool) (*jsondoc.Obj, error) {
	t := c.client(ctx, id)
	if t == nil {
		return nil, fmt.Errorf("the tool server %s is not connected any more", id)
	}
	if res := t.resource(); res != "" {
		form.Set("resource", res)
	}
	if scope := t.info.Text("scope"); withScope && scope != "" {
		form.Set("scope", scope)
	}
	tc := c.tokenClient(t)
	if tc.method != "client_secret_basic" && tc.secret != "" {
		tc.method = "client_secret_post"
	}
	return tc.ask(ctx, form)
}

// Token gives an account's tokens of a tool server's client ("mcp:ID"), renewed where they are about to end or force is
// set: access_token and more. nil means that the account has to connect the server (again), by way of Authorize.
func (c *Clients) Token(ctx context.Context, userID, id string, force bool) (jsondoc.Doc, error) {
	if !isTool(id) {
		return nil, nil
	}
	rows, err := c.s.Users.OAuthSessions(ctx, userID)
	if err != nil {
		return nil, err
	}
	for _, row := range slices.Backward(rows) {
		if row.Provider == id {
			return c.s.fresh(ctx, row, force)
		}
	}
	return nil, nil
}
