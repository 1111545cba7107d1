// Package toolserver gives models the tools of other servers: those that an OpenAPI document describes, and those that
// speak the Model Context Protocol (streamable HTTP). An administrator lists them in the setting tool_server.connections.
//
// A server's tools are a set, "server:ID" or "server:mcp:ID", which requests name in tool_ids. What a server does is asked
// when a turn wants its tools, and kept for a moment where that is a document; MCP servers are connected for a turn. A
// server that fails is left out: it never fails a turn. What goes wrong in a call is told to the model.
package toolserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/turn"
)

// Tokens gives people's tokens at the authorization servers that guard tool servers.
type Tokens interface {
	// Token gives the tokens of an account for a client, named by the kind of the server and its id ("mcp:ID"): access_token
	// and more. They are renewed where renew is set or they are about to end. nil means that the account has to sign in.
	Token(ctx context.Context, userID, clientID string, renew bool) (jsondoc.Doc, error)
}

// Deps are what Servers work with. Tokens, Keep and Observe may be nil.
type Deps struct {
	Settings *config.Settings
	Env      *config.Env
	Access   *access.Access
	Headers  *llm.HeaderOptions
	Tokens   Tokens
	HTTP     *http.Client // from NewClient
	// Keep stores a file that a tool made, of a media type, for a principal, and gives its address.
	Keep func(ctx context.Context, p *auth.Principal, mediaType string, content []byte) (url string, err error)
	// Observe is told of each call, and calls what it returns at its end.
	Observe func(server string) (done func(err error))
	Log     *slog.Logger
}

// Servers are the tool servers of the settings.
type Servers struct {
	Deps
	cache cache
}

// New makes Servers.
func New(d Deps) *Servers {
	if d.HTTP == nil {
		d.HTTP = http.DefaultClient
	}
	if d.Headers == nil {
		d.Headers = &llm.HeaderOptions{}
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Observe == nil {
		d.Observe = func(string) func(error) { return func(error) {} }
	}
	return &Servers{Deps: d}
}

// connectTimeout is for how long a connection, and again its TLS handshake, may take.
const connectTimeout = 10 * time.Second

// NewClient makes the client for tool servers. config is how their certificates are checked, nil for as usual; wrap may
// add to the transport.
func NewClient(config *tls.Config, wrap func(http.RoundTripper) http.RoundTripper) *http.Client {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	return &http.Client{Transport: wrap(&http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2: true, MaxIdleConns: 64, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
	})}
}

// Set is a server as people see it.
type Set struct {
	ID          string // "server:…"
	Name        string
	Description string
	// Authenticated says of a server where each person has to sign in whether this one has; nil for others.
	Authenticated *bool
}

// List gives the servers that a principal may use. Those whose description cannot be had are left out.
func (s *Servers) List(ctx context.Context, p *auth.Principal) ([]Set, error) {
	all := s.connections()
	if len(all) == 0 {
		return nil, nil
	}
	may, err := s.permitted(ctx, p)
	if err != nil {
		return nil, err
	}
	sets := make([]*Set, len(all))
	var wg sync.WaitGroup
	for i := range all {
		if c := &all[i]; may(c) {
			wg.Go(func() { sets[i] = s.set(ctx, c, p) })
		}
	}
	wg.Wait()
	var out []Set
	for _, kind := range []string{kindOpenAPI, kindMCP} {
		for i, set := range sets {
			if set != nil && all[i].kind == kind {
				out = append(out, *set)
			}
		}
	}
	return out, nil
}

func (s *Servers) set(ctx context.Context, c *connection, p *auth.Principal) *Set {
	out := &Set{ID: c.setID(), Name: c.name, Description: c.raw.Text("info", "description")}
	switch c.kind {
	case kindOpenAPI:
		d, err := s.describe(ctx, c)
		if err != nil {
			return nil
		}
		if c.raw.Get("info", "name") == nil {
			if out.Name = d.title; out.Name == "" {
				out.Name = "Tool Server"
			}
		}
		if c.raw.Get("info", "description") == nil {
			out.Description = d.about
		}
	case kindMCP:
		if c.raw.Get("info", "name") == nil {
			out.Name = "MCP Tool Server"
		}
		if c.signsIn() {
			has := s.token(ctx, c, p.ID, false) != ""
			out.Authenticated = &has
		}
	default:
		return nil
	}
	return out
}

// find gives the server whose tools are a set, nil for none.
func find(all []connection, setID string) *connection {
	rest, ok := strings.CutPrefix(setID, "server:")
	if !ok {
		return nil
	}
	kind := kindOpenAPI
	if id, ok := strings.CutPrefix(rest, "mcp:"); ok {
		kind, rest = kindMCP, id
	} else {
		rest, _, _ = strings.Cut(strings.TrimPrefix(rest, "openapi:"), "|")
	}
	for i := range all {
		if all[i].kind == kind && all[i].id == rest && rest != "" {
			return &all[i]
		}
	}
	return nil
}

// Tools implements turn.Toolbox.
func (s *Servers) Tools(ctx context.Context, t turn.Scope, ids []string) ([]turn.Tool, error) {
	all := s.connections()
	wanted := make([]*connection, len(ids))
	var any bool
	for i, id := range ids {
		wanted[i] = find(all, id)
		any = any || wanted[i] != nil
	}
	if !any {
		return nil, nil
	}
	may, err := s.permitted(ctx, t.Principal)
	if err != nil {
		return nil, err
	}
	tools := make([][]turn.Tool, len(ids))
	told := make([]string, len(ids))
	var wg sync.WaitGroup
	for i, c := range wanted {
		if c == nil || !may(c) {
			continue
		}
		wg.Go(func() {
			if c.kind == kindOpenAPI {
				tools[i] = s.openAPITools(ctx, t, c, ids[i])
			} else {
				tools[i], told[i] = s.mcpTools(ctx, t, c, ids[i])
			}
		})
	}
	wg.Wait()
	var out []turn.Tool
	for i := range ids {
		if told[i] != "" {
			t.Instruct(told[i])
		}
		out = append(out, tools[i]...)
	}
	return out, ctx.Err()
}

// callTimeout limits a call as the operator wants it.
func (s *Servers) callTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if limit := s.Env.Client.ToolTimeout; limit > 0 {
		return context.WithTimeout(ctx, limit)
	}
	return context.WithCancel(ctx)
}

func (s *Servers) openAPITools(ctx context.Context, t turn.Scope, c *connection, set string) []turn.Tool {
	d, err := s.describe(ctx, c)
	if err != nil {
		return nil
	}
	var out []turn.Tool
	for _, op := range d.operations {
		if !c.offers(op.id) {
			continue
		}
		out = append(out, turn.Tool{
			Set: set, Name: op.name, Function: op.spec(), Parameters: op.schema,
			Call: func(ctx context.Context, call turn.ToolCall) (turn.ToolResult, error) {
				ctx, cancel := s.callTimeout(ctx)
				defer cancel()
				done := s.Observe(c.id)
				out, err := s.run(ctx, t, c, op, call)
				done(err)
				return out, err
			},
		})
	}
	return out
}

func (s *Servers) run(ctx context.Context, t turn.Scope, c *connection, op *operation, call turn.ToolCall) (turn.ToolResult, error) {
	client := *s.HTTP
	if !s.Env.Client.Redirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	var out turn.ToolResult
	for _, renew := range []bool{false, true} {
		req, err := op.request(ctx, c.url(), call.Arguments, s.header(ctx, c, t.Caller, renew))
		if err != nil {
			return out, err
		}
		out, err = send(&client, req, call.Name)
		var refused *statusError
		if !errors.As(err, &refused) || refused.status != http.StatusUnauthorized || !c.signsIn() {
			return out, err
		}
	}
	return out, errors.New("the tool server wants its user to sign in")
}

// Caller is who calls a server in a principal's name, outside of turns.
func Caller(p *auth.Principal, cookies []*http.Cookie) *llm.Caller {
	c := models.CallerOf(p)
	if c != nil {
		c.Cookies = cookies
	}
	return c
}
