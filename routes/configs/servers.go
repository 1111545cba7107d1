package configs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/toolserver"
	"github.com/galleychat/galley/core/web"
)

// toolServer is a server of tools as clients send it.
type toolServer struct {
	URL      string               `json:"url"`
	Path     string               `json:"path"`
	Type     web.Opt[string]      `json:"type" default:"openapi"`
	AuthType web.Null[string]     `json:"auth_type"`
	Cookies  bool                 `json:"forward_cookies" default:"false"`
	Headers  web.Opt[jsondoc.Doc] `json:"headers"`
	Key      web.Null[string]     `json:"key"`
	Config   web.Null[web.Dict]   `json:"config"`
	Info     web.Opt[web.Dict]    `json:"info"`
	Extra    web.Extra            `json:"-"`
}

func (t *toolServer) json() jsondoc.Doc {
	if !t.Type.Set {
		t.Type = web.Some("openapi")
	}
	return jsondoc.Of(t).Merge(jsondoc.Doc(t.Extra))
}

func (m *Module) toolServers(*web.Call, web.None) (jsondoc.Doc, error) {
	docs := []jsondoc.Doc{}
	for _, d := range jsondoc.Doc(config.ToolServerConnections.Raw(m.Settings.Snapshot())).List() {
		if t, bad := web.BindDoc[toolServer](d, nil); len(bad) == 0 {
			d = t.json()
		}
		docs = append(docs, d)
	}
	return jsondoc.Object("TOOL_SERVER_CONNECTIONS", jsondoc.Array(docs...)), nil
}

type toolServersIn struct {
	Body struct {
		Connections []toolServer `json:"TOOL_SERVER_CONNECTIONS"`
	}
}

func (m *Module) setToolServers(c *web.Call, in toolServersIn) (jsondoc.Doc, error) {
	docs := make([]jsondoc.Doc, len(in.Body.Connections))
	for i := range in.Body.Connections {
		docs[i] = in.Body.Connections[i].json()
	}
	list := jsondoc.Array(docs...)
	err := m.Settings.Set(c.Context(), config.Changes{config.ToolServerConnections.Key(): jsontext.Value(list)})
	if err == nil {
		kinds := make([]jsondoc.Doc, len(docs))
		for i, d := range docs {
			kinds[i] = d.Get("type")
		}
		m.publish(c, "config.tool_servers.updated", "tool_server.connections", events.Pairs{"count", len(docs), "types", jsondoc.Array(kinds...)})
	}
	return jsondoc.Object("TOOL_SERVER_CONNECTIONS", list), err
}

var errToolServers = web.Fail(http.StatusForbidden, "Tool servers are disabled")

type toolServerIn struct {
	Body toolServer
}

// verifyToolServer asks a server for its description before it is stored: an OpenAPI document, the tools of an MCP
// server, or where its users sign in.
func (m *Module) verifyToolServer(c *web.Call, in toolServerIn) (jsondoc.Doc, error) {
	if !m.Env.ToolServers {
		return nil, errToolServers
	}
	t := &in.Body
	ctx, cancel := context.WithTimeout(c.Context(), m.timeout())
	defer cancel()
	h := m.headers(ctx, c, t)
	switch {
	case t.Type.V == "mcp" && strings.HasPrefix(t.AuthType.V, "oauth_2.1"):
		return m.verifyOAuth(ctx, t)
	case t.Type.V == "mcp":
		specs, err := toolserver.MCPTools(c.Context(), m.HTTP, t.URL, h, m.Env.Client.MCPTimeout)
		if err != nil {
			return nil, web.Because(http.StatusBadRequest, "Failed to create MCP client", err)
		}
		return jsondoc.Object("status", jsondoc.Doc("true")).Set(jsondoc.Array(specs...), "specs"), nil
	}
	doc, err := toolserver.Describe(ctx, m.HTTP, toolserver.Address(t.URL, t.Path), h)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "Failed to connect to the tool server", err)
	}
	return doc, nil
}

// timeout is how long a server may take to describe itself.
func (m *Module) timeout() time.Duration {
	if t := m.Env.Client.ToolDataTimeout; t > 0 {
		return t
	}
	return 10 * time.Second
}

// headers are those of a request to the server on behalf of the caller.
func (m *Module) headers(ctx context.Context, c *web.Call, t *toolServer) http.Header {
	caller := models.CallerOf(c.Principal)
	caller.Cookies = c.R.Cookies()
	auth := t.AuthType.V
	if auth == "" {
		auth = "none"
	}
	var b jsondoc.Builder
	b.Add("auth_type", auth)
	if t.Headers.V.Kind() == '{' {
		b.Raw("headers", t.Headers.V)
	}
	conn := llm.Connection{URL: t.URL, Key: t.Key.V, Config: llm.ParseConfig(llm.KindOpenAI, jsontext.Value(b.Done()))}
	h := m.Headers.Build(ctx, &conn, caller)
	h.Set("Accept", "application/json")
	return h
}

// maxDescription bounds what a server may say of itself, in bytes.
const maxDescription = 16 << 20

// fetch sends a request and reads its answer.
func (m *Module) fetch(ctx context.Context, method, address string, body []byte, h http.Header) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, r)
	if err != nil {
		return 0, nil, err
	}
	if h != nil {
		req.Header = h
	}
	resp, err := m.HTTP.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDescription))
	return resp.StatusCode, data, err
}

// terminal is a server of terminals as clients send it.
type terminal struct {
	ID         web.Opt[string]   `json:"id" default:"\"\""`
	Name       web.Opt[string]   `json:"name" default:"\"\""`
	Enabled    web.Opt[bool]     `json:"enabled" default:"true"`
	URL        string            `json:"url"`
	Path       web.Opt[string]   `json:"path" default:"/openapi.json"`
	Key        web.Opt[string]   `json:"key" default:"\"\""`
	AuthType   web.Opt[string]   `json:"auth_type" default:"bearer"`
	Cookies    bool              `json:"forward_cookies" default:"false"`
	Config     web.Opt[web.Dict] `json:"config"`
	ServerType web.Opt[string]   `json:"server_type"`
	PolicyID   web.Opt[string]   `json:"policy_id"`
	Extra      web.Extra         `json:"-"`
}

// settle makes the defaults values of their own.
func (t *terminal) settle() {
	for _, o := range []*web.Opt[string]{&t.ID, &t.Name, &t.Path, &t.Key, &t.AuthType} {
		o.Set = true
	}
	t.Enabled.Set = true
}

func (m *Module) terminalServers(*web.Call, web.None) (jsondoc.Doc, error) {
	return jsondoc.Object("TERMINAL_SERVER_CONNECTIONS", jsondoc.Doc(config.TerminalServerConnections.Raw(m.Settings.Snapshot()))), nil
}

type terminalServersIn struct {
	Body struct {
		Connections []terminal `json:"TERMINAL_SERVER_CONNECTIONS"`
	}
}

func (m *Module) setTerminalServers(c *web.Call, in terminalServersIn) (jsondoc.Doc, error) {
	docs := make([]jsondoc.Doc, len(in.Body.Connections))
	for i := range in.Body.Connections {
		t := &in.Body.Connections[i]
		t.settle()
		docs[i] = jsondoc.Of(t).Merge(jsondoc.Doc(t.Extra).Delete("policy").Delete("lifecycle"))
	}
	list := jsondoc.Array(docs...)
	err := m.Settings.Set(c.Context(), config.Changes{config.TerminalServerConnections.Key(): jsontext.Value(list)})
	if err == nil {
		m.publish(c, "config.terminal_servers.updated", "terminal_server.connections", events.Pairs{"count", len(docs)})
	}
	return jsondoc.Object("TERMINAL_SERVER_CONNECTIONS", list), err
}

// server is a terminal server to be asked something.
type server struct{ url, key, auth string }

func (s *server) header() http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	if s.auth == "bearer" && s.key != "" {
		h.Set("Authorization", "Bearer "+s.key)
	}
	return h
}

var errNoURL = web.Fail(http.StatusBadRequest, "Terminal server URL is required")

// reach checks that the server may be asked and gives its address.
func (m *Module) reach(s *server) (string, error) {
	if !m.Env.ToolServers {
		return "", errToolServers
	}
	base := strings.TrimRight(s.url, "/")
	if base == "" {
		return "", errNoURL
	}
	return base, nil
}

type terminalIn struct {
	Body terminal
}

// verifyTerminal finds out what kind of server is at an address: only orchestrators have policies.
func (m *Module) verifyTerminal(c *web.Call, in terminalIn) (web.M, error) {
	s := server{in.Body.URL, in.Body.Key.V, in.Body.AuthType.V}
	base, err := m.reach(&s)
	if err != nil {
		return nil, err
	}
	for _, try := range [][2]string{{"/api/v1/policies", "orchestrator"}, {"/api/config", "terminal"}} {
		status, _, err := m.fetch(c.Context(), http.MethodGet, base+try[0], nil, s.header())
		if err == nil && status < 400 {
			return web.M{"status": true, "type": try[1]}, nil
		}
	}
	return nil, web.Fail(http.StatusBadRequest, "Failed to connect to the terminal server")
}

// orchestrate sends a request to an orchestrator: its JSON is the answer, errors are its text.
func (m *Module) orchestrate(c *web.Call, s server, method, path string, body jsondoc.Doc, failure string) (jsondoc.Doc, error) {
	base, err := m.reach(&s)
	if err != nil {
		return nil, err
	}
	status, answer, err := m.fetch(c.Context(), method, base+path, body, s.header())
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, failure, err)
	}
	if status >= 400 {
		return nil, web.Fail(status, string(answer))
	}
	doc, bad := jsondoc.Check(answer)
	if bad != nil {
		return nil, web.Because(http.StatusBadRequest, failure, errors.New("the server answered no JSON"))
	}
	return doc, nil
}

type policyIn struct {
	Body struct {
		URL      string            `json:"url"`
		Key      web.Opt[string]   `json:"key"`
		AuthType web.Opt[string]   `json:"auth_type" default:"bearer"`
		PolicyID string            `json:"policy_id"`
		Data     web.Opt[web.Dict] `json:"policy_data"`
	}
}

func (m *Module) terminalPolicy(c *web.Call, in policyIn) (jsondoc.Doc, error) {
	b := &in.Body
	return m.policy(c, server{b.URL, b.Key.V, b.AuthType.V}, "/api/v1/policies/"+url.PathEscape(b.PolicyID), b.Data, "Failed to access policy on terminal server")
}

// policy reads something of a policy, or changes it where data is sent.
func (m *Module) policy(c *web.Call, s server, path string, data web.Opt[web.Dict], failure string) (jsondoc.Doc, error) {
	if !data.Has() {
		return m.orchestrate(c, s, http.MethodGet, path, nil, failure)
	}
	return m.orchestrate(c, s, http.MethodPut, path, data.V.Doc(), failure)
}

type lifecycleIn struct {
	Body struct {
		URL      string            `json:"url"`
		Key      web.Opt[string]   `json:"key"`
		AuthType web.Opt[string]   `json:"auth_type" default:"bearer"`
		PolicyID string            `json:"policy_id"`
		Data     web.Opt[web.Dict] `json:"lifecycle_data"`
	}
}

func (m *Module) terminalLifecycle(c *web.Call, in lifecycleIn) (jsondoc.Doc, error) {
	b := &in.Body
	return m.policy(c, server{b.URL, b.Key.V, b.AuthType.V}, "/api/v1/policies/"+url.PathEscape(b.PolicyID)+"/lifecycle", b.Data,
		"Failed to access lifecycle on terminal server")
}

type refreshIn struct {
	Body struct {
		URL      string          `json:"url"`
		Key      web.Opt[string] `json:"key"`
		AuthType web.Opt[string] `json:"auth_type" default:"bearer"`
		UserID   web.Opt[string] `json:"user_id"`
		PolicyID web.Opt[string] `json:"policy_id"`
		OnlyIdle bool            `json:"only_idle" default:"true"`
		Reset    bool            `json:"reset" default:"false"`
	}
}

func (m *Module) terminalRefresh(c *web.Call, in refreshIn) (jsondoc.Doc, error) {
	b := &in.Body
	var body jsondoc.Builder
	body.Add("only_idle", b.OnlyIdle)
	body.Add("reset", b.Reset)
	if b.UserID.V != "" {
		body.Add("user_id", b.UserID.V)
	}
	if b.PolicyID.V != "" {
		body.Add("policy_id", b.PolicyID.V)
	}
	return m.orchestrate(c, server{b.URL, b.Key.V, b.AuthType.V}, http.MethodPost, "/api/v1/terminals/refresh", body.Done(), "Failed to refresh terminals")
}
