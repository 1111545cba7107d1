// Package tools serves the list of /api/v1/tools: the sets of tools that a chat can be given. The page's menu shows
// them, and names those that are switched on in the tool_ids of its requests; see turn.Toolbox for what comes of that.
package tools

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// ToolSet is a set of tools, as users switch it on and off.
type ToolSet struct {
	ID          string // what requests name in tool_ids; "server:…" for tool servers
	Name        string
	Description string
	Manifest    jsondoc.Doc   // an object: title, author, version, icon_url, …; nil for none
	Specs       []jsondoc.Doc // {"name": …, "description": …, "parameters": …} of each tool, which the page lists; nil for unknown
	UserID      string        // the owner; "" has the set belong to itself, as those of servers do
	// CreatedAt and UpdatedAt are in seconds; 0 means now, for sets that do not know.
	CreatedAt, UpdatedAt int64
	// Authenticated says of a set that needs its user to sign in whether he has; nil for sets that need no such thing.
	Authenticated *bool
}

// ToolSource gives sets of tools, and is asked for each page load.
type ToolSource interface {
	// List gives the sets that a principal may use, in the order in which they are to be shown. A source that fails is
	// left out of the list.
	List(ctx context.Context, p *auth.Principal) ([]ToolSet, error)
}

// Discoverer finds out which tools there are in a set.
type Discoverer interface {
	// Specs gives name and description of each tool of an MCP server. The error is ErrNoTool for a set that is not one or
	// that the principal may not use, and ErrSignIn where he has to sign in first.
	Specs(ctx context.Context, p *auth.Principal, cookies []*http.Cookie, setID string) ([]jsondoc.Doc, error)
}

// What a Discoverer answers where it does not look.
var (
	ErrNoTool = web.Fail(http.StatusNotFound, "Tool not found")
	ErrSignIn = web.Fail(http.StatusUnauthorized, "Auth required")
)

// Deps are what the module works with.
type Deps struct {
	Sources  []ToolSource // in the order in which their sets are shown
	Discover Discoverer   // nil for no sets whose tools can be found out
	Env      *config.Env
	Log      *slog.Logger
}

// Module is the list of the tag tools of the API.
type Module struct {
	Deps
	patience time.Duration // with servers that tell their tools
}

// New makes the module.
func New(d Deps) *Module { return &Module{d, discoveryTime} }

// Name implements web.Module.
func (m *Module) Name() string { return "tools" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Verified, m.list))
	g.Add("GET /id/{id}/specs", web.JSON(auth.Verified, m.specs))
}

type setIn struct {
	ID string `path:"id"`
}

type specsOut struct {
	Specs []jsondoc.Doc `json:"specs"`
}

// discoveryTime is how long a server may take to tell its tools.
const discoveryTime = 15 * time.Second

// specs finds out which tools an MCP server has.
func (m *Module) specs(c *web.Call, in setIn) (out specsOut, err error) {
	if m.Discover == nil || !m.on(in.ID) || !strings.HasPrefix(in.ID, "server:mcp:") {
		return out, ErrNoTool
	}
	ctx, cancel := context.WithTimeout(c.Context(), m.patience)
	defer cancel()
	specs, err := m.Discover.Specs(ctx, c.Principal, c.R.Cookies(), in.ID)
	var answer *web.Error
	switch {
	case err == nil:
		return specsOut{append([]jsondoc.Doc{}, specs...)}, nil
	case errors.As(err, &answer):
		return out, answer
	case ctx.Err() != nil:
		return out, web.Because(http.StatusGatewayTimeout, "Tool discovery timed out", err)
	}
	return out, web.Because(http.StatusBadGateway, "Unable to load tools", err)
}

type listIn struct {
	Query string `query:"query" default:""`
}

// listed is a set as clients see it.
type listed struct {
	VersionID     *string       `json:"version_id"`
	ID            string        `json:"id"`
	UserID        string        `json:"user_id"`
	Name          string        `json:"name"`
	Meta          meta          `json:"meta"`
	AccessGrants  []jsondoc.Doc `json:"access_grants"`
	UpdatedAt     int64         `json:"updated_at"`
	CreatedAt     int64         `json:"created_at"`
	User          *struct{}     `json:"user"`
	Specs         []jsondoc.Doc `json:"specs,omitzero"`
	Authenticated *bool         `json:"authenticated,omitzero"`
}

type meta struct {
	I18n          *struct{}   `json:"i18n"`
	Description   string      `json:"description"`
	Manifest      jsondoc.Doc `json:"manifest"`
	HasUserValves bool        `json:"has_user_valves"`
}

// list gives the sets that the caller may use, of those whose name has a text in it.
func (m *Module) list(c *web.Call, in listIn) ([]listed, error) {
	out := []listed{}
	now := time.Now().Unix()
	for _, source := range m.Sources {
		sets, err := source.List(c.Context(), c.Principal)
		if err != nil {
			m.Log.WarnContext(c.Context(), "tools were not listed", "error", err)
		}
		for _, s := range sets {
			if m.on(s.ID) && strings.Contains(strings.ToLower(s.Name), strings.ToLower(in.Query)) {
				out = append(out, newListed(s, now))
			}
		}
	}
	return out, nil
}

// on says whether the operator has sets of this kind switched on.
func (m *Module) on(id string) bool {
	if strings.HasPrefix(id, "server:") {
		return m.Env.ToolServers
	}
	return m.Env.Tools
}

func newListed(s ToolSet, now int64) listed {
	out := listed{
		ID: s.ID, UserID: s.UserID, Name: s.Name, AccessGrants: []jsondoc.Doc{}, UpdatedAt: s.UpdatedAt, CreatedAt: s.CreatedAt,
		Meta: meta{Description: s.Description, Manifest: s.Manifest.Or(jsondoc.Doc("{}"))}, Specs: s.Specs, Authenticated: s.Authenticated,
	}
	if out.UserID == "" {
		out.UserID = s.ID
	}
	if out.CreatedAt == 0 {
		out.CreatedAt = now
	}
	if out.UpdatedAt == 0 {
		out.UpdatedAt = out.CreatedAt
	}
	return out
}
