// Package tools serves /api/v1/tools: the sets of tools that a chat can be given, and those among them that are Python
// source, with their versions and valves. The page's menu shows the sets, and names those that are switched on in the
// tool_ids of its requests; see turn.Toolbox for what comes of that.
package tools

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pytools"
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

// Deps are what the module works with. Python may be nil, Events too.
type Deps struct {
	Sources  []ToolSource // in the order in which their sets are shown, after the tools that are Python source
	Discover Discoverer   // nil for no sets whose tools can be found out
	Python   *pytools.Service
	Access   *access.Access
	Env      *config.Env
	Events   *events.Bus
	HTTP     *http.Client // fetches code from addresses that administrators enter
	Log      *slog.Logger
}

// Module is the tag tools of the API.
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
	if m.Python == nil {
		return
	}
	g.Add("GET /list", web.JSON(auth.Verified, m.workspace))
	g.Add("POST /load/url", web.JSON(auth.Admin, m.loadURL))
	g.Add("GET /export", web.JSON(auth.Verified, m.export))
	g.Add("POST /create", web.JSON(auth.Verified, m.create))
	g.Add("GET /id/{id}", web.JSON(auth.Verified, m.get))
	g.Add("POST /id/{id}/update", web.JSON(auth.Verified, m.update))
	g.Add("POST /id/{id}/access/update", web.JSON(auth.Verified, m.updateAccess))
	g.Add("DELETE /id/{id}/delete", web.JSON(auth.Verified, m.delete))
	g.Add("GET /id/{id}/valves", web.JSON(auth.Verified, m.valves))
	g.Add("GET /id/{id}/valves/spec", web.JSON(auth.Verified, m.valvesSpec))
	g.Add("POST /id/{id}/valves/update", web.JSON(auth.Verified, m.setValves))
	g.Add("GET /id/{id}/valves/user", web.JSON(auth.Verified, m.userValves))
	g.Add("GET /id/{id}/valves/user/spec", web.JSON(auth.Verified, m.userValvesSpec))
	g.Add("POST /id/{id}/valves/user/update", web.JSON(auth.Verified, m.setUserValves))
	g.Add("GET /id/{id}/history", web.JSON(auth.Verified, m.history))
	g.Add("GET /id/{id}/history/diff", web.JSON(auth.Verified, m.diff))
	g.Add("GET /id/{id}/history/{history_id}", web.JSON(auth.Verified, m.version))
	g.Add("DELETE /id/{id}/history/{history_id}", web.JSON(auth.Verified, m.deleteVersion))
	g.Add("POST /id/{id}/update/version", web.JSON(auth.Verified, m.setVersion))
}

type specsOut struct {
	Specs []jsondoc.Doc `json:"specs"`
}

// discoveryTime is how long a server may take to tell its tools.
const discoveryTime = 15 * time.Second

// specs finds out which tools an MCP server has.
func (m *Module) specs(c *web.Call, in idIn) (out specsOut, err error) {
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
	Meta          setMeta       `json:"meta"`
	AccessGrants  []jsondoc.Doc `json:"access_grants"`
	UpdatedAt     int64         `json:"updated_at"`
	CreatedAt     int64         `json:"created_at"`
	User          *struct{}     `json:"user"`
	Specs         []jsondoc.Doc `json:"specs,omitzero"`
	Authenticated *bool         `json:"authenticated,omitzero"`
}

type setMeta struct {
	I18n          *struct{}   `json:"i18n"`
	Description   string      `json:"description"`
	Manifest      jsondoc.Doc `json:"manifest"`
	HasUserValves bool        `json:"has_user_valves"`
}

// list gives the sets that the caller may use, of those whose name has a text in it.
func (m *Module) list(c *web.Call, in listIn) (jsondoc.Doc, error) {
	var out []jsondoc.Doc
	named := func(name string) bool { return strings.Contains(fold(name), fold(in.Query)) }
	own, err := m.usable(c, access.Read, false)
	if err != nil {
		return nil, err
	}
	for _, t := range own {
		if named(t.Name) {
			out = append(out, jsondoc.Of(entry{t, nil, jsondoc.Doc(t.Meta.Get("has_user_valves"))}))
		}
	}
	now := time.Now().Unix()
	for _, source := range m.Sources {
		sets, err := source.List(c.Context(), c.Principal)
		if err != nil {
			m.Log.WarnContext(c.Context(), "tools were not listed", "error", err)
		}
		for _, s := range sets {
			if m.on(s.ID) && named(s.Name) {
				out = append(out, jsondoc.Of(newListed(s, now)))
			}
		}
	}
	return jsondoc.Array(out...), nil
}

// fold is a text without the difference between small letters and capitals, as far as names go.
func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "ß", "ss") }

type idIn struct {
	ID string `path:"id"`
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
		Meta: setMeta{Description: s.Description, Manifest: s.Manifest.Or(jsondoc.Doc("{}"))}, Specs: s.Specs, Authenticated: s.Authenticated,
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
