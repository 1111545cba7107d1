package toolserver

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// The protocols that servers speak.
const (
	kindOpenAPI = "openapi"
	kindMCP     = "mcp"
)

// connection is a tool server of the settings.
type connection struct {
	raw  jsondoc.Doc
	kind string
	id   string // of its info, or its place in the list
	name string // of its info, "" for none
}

// connections are the servers that are switched on.
func (s *Servers) connections() []connection {
	if !s.Env.ToolServers {
		return nil
	}
	var out []connection
	jsondoc.Doc(config.ToolServerConnections.Raw(s.Settings.Snapshot())).Items(func(i int, d jsondoc.Doc) bool {
		if d.Get("config").Get("enable").Truthy() {
			out = append(out, newConnection(i, d))
		}
		return true
	})
	return out
}

func newConnection(i int, d jsondoc.Doc) connection {
	c := connection{raw: d, kind: d.Text("type"), id: d.Text("info", "id"), name: d.Text("info", "name")}
	if d.Get("type") == nil {
		c.kind = kindOpenAPI
	}
	if c.id == "" && c.kind == kindOpenAPI {
		c.id = strconv.Itoa(i)
	}
	return c
}

// setID names the set of the server's tools.
func (c *connection) setID() string {
	if c.kind == kindMCP {
		return "server:mcp:" + c.id
	}
	return "server:" + c.id
}

func (c *connection) url() string { return c.raw.Text("url") }

// authType is how the server wants to be told who calls; "none" for not at all.
func (c *connection) authType() string {
	switch t := c.raw.Get("auth_type"); {
	case t == nil:
		return "bearer"
	case t.Text() == "":
		return "none"
	default:
		return t.Text()
	}
}

// signsIn says whether each person has to sign in at the server.
func (c *connection) signsIn() bool { return strings.HasPrefix(c.authType(), "oauth_2.1") }

// clientID names the client by which people sign in at the server.
func (c *connection) clientID() string {
	return c.kind + ":" + c.id[strings.LastIndexByte(c.id, ':')+1:]
}

// offers says whether the administrator lets a function of the server be used: names are compared by their ends, those
// with a "!" before them are left out.
func (c *connection) offers(function string) bool {
	list := c.raw.Get("config", "function_name_filter_list")
	entries := list.Texts()
	if s, ok := list.AsText(); ok {
		entries = strings.Split(s, ",")
	}
	anyAllowed, allowed := false, false
	for _, e := range entries {
		e = entry(e)
		name, blocked := strings.CutPrefix(e, "!")
		switch name = entry(name); {
		case name == "":
		case blocked:
			if strings.HasSuffix(function, name) {
				return false
			}
		default:
			anyAllowed = true
			allowed = allowed || strings.HasSuffix(function, name)
		}
	}
	return allowed || !anyAllowed
}

// entry is an entry of a list without the quotes and spaces that people put around it.
func entry(s string) string {
	return strings.TrimSpace(strings.Trim(strings.TrimSpace(s), `"'`))
}

// permitted gives a function that says whether a principal may use a server: what no grants open is the administrators'.
func (s *Servers) permitted(ctx context.Context, p *auth.Principal) (func(*connection) bool, error) {
	if p.System || p.IsAdmin() && s.Env.BypassAdminAccess {
		return func(*connection) bool { return true }, nil
	}
	v, err := s.Access.Viewer(ctx, p.ID)
	return func(c *connection) bool {
		grants := c.raw.Get("config", "access_grants")
		return !grants.Truthy() && p.IsAdmin() || v.MayIn(grants, access.Read)
	}, err
}

// header is that of a request to the server on behalf of a caller, who may be nil.
func (s *Servers) header(ctx context.Context, c *connection, caller *llm.Caller, renew bool) http.Header {
	var who *llm.Caller
	if caller != nil {
		known := *caller
		known.AuthType = "" // is not told to tool servers
		who = &known
	}
	h := s.Headers.Build(ctx, c.upstream(), who)
	if who == nil {
		return h
	}
	if c.signsIn() && h.Get("Authorization") == "" {
		if token := s.token(ctx, c, who.ID, renew); token != "" {
			h.Set("Authorization", "Bearer "+token)
		}
	}
	if f := s.Env.Forward; f.Enabled && who.Meta.MessageID != "" {
		h.Set(f.MessageID, who.Meta.MessageID)
	}
	return h
}

// upstream is the connection in the terms of those to providers, whose headers are made the same way.
func (c *connection) upstream() *llm.Connection {
	var b jsondoc.Builder
	b.Add("auth_type", c.authType())
	b.Raw("forward_cookies", c.raw.Get("forward_cookies").Or(jsondoc.Doc("false")))
	if h := c.raw.Get("headers"); h.Kind() == '{' {
		b.Raw("headers", h)
	}
	return &llm.Connection{URL: c.url(), Key: strings.TrimSpace(c.raw.Text("key")), Config: llm.ParseConfig(llm.KindOpenAI, jsontext.Value(b.Done()))}
}

// token is the access token of an account at the server, "" where it has to sign in.
func (s *Servers) token(ctx context.Context, c *connection, userID string, renew bool) string {
	if s.Tokens == nil || c.id == "" {
		return ""
	}
	token, err := s.Tokens.Token(ctx, userID, c.clientID(), renew)
	if err != nil {
		s.Log.WarnContext(ctx, "no token for a tool server", "server", c.id, "user_id", userID, "error", err)
	}
	return token.Text("access_token")
}
