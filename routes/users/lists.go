package users

import (
	"context"

	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// pageSize is how many accounts a page holds.
const pageSize = 30

type listIn struct {
	Query     web.Opt[string] `query:"query"`
	OrderBy   web.Opt[string] `query:"order_by"`
	Direction web.Opt[string] `query:"direction"`
	Page      web.Opt[int]    `query:"page" default:"1"`
}

func (in listIn) query() users.Query {
	page := min(max(1, in.Page.V), 1<<32)
	return users.Query{Text: in.Query.V, OrderBy: in.OrderBy.V, Direction: in.Direction.V, Skip: (page - 1) * pageSize, Limit: pageSize}
}

// withGroups is an account with the ids of its direct groups.
type withGroups struct {
	users.User `json:",inline"`
	GroupIDs   []string `json:"group_ids"`
}

type page[T any] struct {
	Users []T `json:"users"`
	Total int `json:"total"`
}

func (m *Module) list(c *web.Call, in listIn) (*page[withGroups], error) {
	list, total, err := m.Users.List(c.Context(), in.query())
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, u := range list {
		ids[i] = u.ID
	}
	member, err := m.Access.Groups().IDsOfUsers(c.Context(), ids)
	if err != nil {
		return nil, err
	}
	out := &page[withGroups]{Users: make([]withGroups, len(list)), Total: total}
	for i, u := range list {
		out.Users[i] = withGroups{*u, member[u.ID]}
	}
	return out, nil
}

func infos(list []*users.User, total int) *page[users.Info] {
	out := &page[users.Info]{Users: make([]users.Info, len(list)), Total: total}
	for i, u := range list {
		out.Users[i] = users.InfoOf(u)
	}
	return out
}

func (m *Module) all(c *web.Call, _ web.None) (*page[users.Info], error) {
	list, total, err := m.Users.List(c.Context(), users.Query{})
	return infos(list, total), err
}

func (m *Module) search(c *web.Call, in listIn) (*page[users.Info], error) {
	list, total, err := m.Users.List(c.Context(), in.query())
	return infos(list, total), err
}

type groupsIn struct {
	Inherited bool `query:"include_inherited" default:"false"`
}

type membership struct {
	groups.Group   `json:",inline"`
	MembershipType string `json:"membership_type,omitempty"`
}

func (m *Module) ownGroups(c *web.Call, in groupsIn) ([]membership, error) {
	return m.groupsOf(c.Context(), c.UserID(), in.Inherited)
}

type groupsByIDIn struct {
	ID        string `path:"user_id"`
	Inherited bool   `query:"include_inherited" default:"false"`
}

func (m *Module) groupsByID(c *web.Call, in groupsByIDIn) ([]membership, error) {
	return m.groupsOf(c.Context(), in.ID, in.Inherited)
}

// groupsOf gives the groups of an account; with inherited also those above them, and of each how it came.
func (m *Module) groupsOf(ctx context.Context, userID string, inherited bool) ([]membership, error) {
	list, err := m.Access.Groups().OfUser(ctx, userID, inherited)
	if err != nil {
		return nil, err
	}
	direct := map[string]bool{}
	if inherited {
		ids, err := m.Access.Groups().IDsOfUsers(ctx, []string{userID})
		if err != nil {
			return nil, err
		}
		for _, id := range ids[userID] {
			direct[id] = true
		}
	}
	out := make([]membership, len(list))
	for i, g := range list {
		out[i].Group = *g
		switch {
		case !inherited:
		case direct[g.ID]:
			out[i].MembershipType = "direct"
		default:
			out[i].MembershipType = "inherited"
		}
	}
	return out, nil
}

// refs gives the direct groups of an account in short.
func (m *Module) refs(ctx context.Context, userID string) ([]users.Ref, error) {
	list, err := m.Access.Groups().OfUser(ctx, userID, false)
	out := make([]users.Ref, len(list))
	for i, g := range list {
		out[i] = users.Ref{ID: g.ID, Name: g.Name}
	}
	return out, err
}
