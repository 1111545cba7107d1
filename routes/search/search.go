// Package search serves /api/v1/search: one search over chats, notes and channel messages.
package search

import (
	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store/search"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module uses.
type Deps struct {
	Store    *search.Store
	Grants   *access.Access
	Settings *config.Settings
}

// Module serves the search.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "search" }

// Routes implements web.Module. The path has no slash at its end.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET ", web.JSON(auth.Verified, m.search))
}

type searchIn struct {
	Text    string `query:"q" default:"" maxlen:"500"`
	Kind    string `query:"kind" default:"all" enum:"all,chat,message,note"`
	Sharing string `query:"sharing" default:"all" enum:"all,mine,shared"`
	Scope   string `query:"scope" default:"" maxlen:"200"`
	Page    int    `query:"page" default:"1" ge:"1" le:"100000"`
}

func (m *Module) search(c *web.Call, in searchIn) (*search.Results, error) {
	ctx := c.Context()
	kinds := []string{"chat"}
	settings := m.Settings.Snapshot()
	for _, f := range []struct {
		on         bool
		permission string
		kind       string
	}{{config.ChannelsEnable.Get(settings), "features.channels", "message"}, {config.NotesEnable.Get(settings), "features.notes", "note"}} {
		if !f.on {
			continue
		}
		ok, err := m.Grants.HasOrAdmin(ctx, c.Principal.User, f.permission)
		if err != nil {
			return nil, err
		}
		if ok {
			kinds = append(kinds, f.kind)
		}
	}
	groups, err := m.Grants.GroupIDs(ctx, c.UserID())
	if err != nil {
		return nil, err
	}
	return m.Store.Search(ctx, search.Query{UserID: c.UserID(), UserName: c.Principal.Name, GroupIDs: groups, Text: in.Text, Kind: in.Kind, Sharing: in.Sharing,
		Scope: in.Scope, Page: in.Page, Kinds: kinds})
}
