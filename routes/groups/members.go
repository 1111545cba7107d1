package groups

import (
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// users gives the direct members of a group; of one that is not there none.
func (m *Module) users(c *web.Call, in idIn) ([]users.Info, error) {
	ids, err := m.groups.Users(c.Context(), in.ID)
	if err != nil {
		return nil, err
	}
	found, err := m.Users.ByIDs(c.Context(), ids)
	if err != nil {
		return nil, err
	}
	out := make([]users.Info, 0, len(ids))
	for _, id := range ids {
		if u := found[id]; u != nil {
			out = append(out, users.InfoOf(u))
		}
	}
	return out, nil
}

// pageSize is how many members a page holds.
const pageSize = 30

type membersIn struct {
	ID         string `path:"id"`
	Membership string `query:"membership" enum:"direct,inherited,effective" default:"effective"`
	Query      string `query:"query" default:"\"\""`
	Page       int    `query:"page" default:"1" ge:"1"`
}

type memberInfo struct {
	users.Info     `json:",inline"`
	MembershipType string   `json:"membership_type"`
	ViaGroupIDs    []string `json:"via_group_ids"`
}

type membersAnswer struct {
	Items  []memberInfo   `json:"items"`
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"`
}

// members pages through the members of a group, and of the groups below it.
func (m *Module) members(c *web.Call, in membersIn) (*membersAnswer, error) {
	ctx := c.Context()
	if _, err := m.groups.ByID(ctx, in.ID); err != nil {
		return nil, answer(err, textMissing)
	}
	page, err := m.groups.Members(ctx, in.ID, groups.MembersQuery{Membership: in.Membership, Text: in.Query,
		Skip: (in.Page - 1) * pageSize, Limit: pageSize})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(page.Items))
	for i, item := range page.Items {
		ids[i] = item.UserID
	}
	found, err := m.Users.ByIDs(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := &membersAnswer{Items: []memberInfo{}, Total: page.Total, Counts: map[string]int{
		"direct": page.Direct, "effective": page.Effective, "inherited": page.Effective - page.Direct}}
	for _, item := range page.Items {
		u := found[item.UserID]
		if u == nil {
			continue // deleted meanwhile
		}
		kind := "inherited"
		if item.Direct {
			kind = "direct"
		}
		// the reference fills in no more of the account
		short := users.Info{ID: u.ID, Name: u.Name, Email: u.Email, Role: u.Role, Groups: []users.Ref{}}
		out.Items = append(out.Items, memberInfo{short, kind, item.Via})
	}
	return out, nil
}

type defaultModels struct {
	Local         jsondoc.Doc `json:"local"`
	Effective     jsondoc.Doc `json:"effective"`
	SourceGroupID *string     `json:"source_group_id"`
}

type previewAnswer struct {
	Group         access.Item   `json:"group"`
	DefaultModels defaultModels `json:"default_models"`
	Models        access.Reach  `json:"models"`
	Knowledge     access.Reach  `json:"knowledge"`
	Tools         access.Reach  `json:"tools"`
	Permissions   jsondoc.Doc   `json:"permissions"`
	Inherited     jsondoc.Doc   `json:"inherited_permissions"`
	Effective     jsondoc.Doc   `json:"effective_permissions"`
}

// preview shows what members of a group can see and do.
func (m *Module) preview(c *web.Call, in idIn) (*previewAnswer, error) {
	ctx := c.Context()
	g, err := m.groups.ByID(ctx, in.ID)
	if err != nil {
		return nil, answer(err, web.TextNotFound)
	}
	ids, err := m.groups.Ancestors(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	chain, err := m.groups.ByIDs(ctx, ids)
	if err != nil {
		return nil, err
	}
	reach, err := m.Access.ReachOf(ctx, "", ids)
	if err != nil {
		return nil, err
	}
	inherited := m.Access.Defaults()
	for _, above := range chain {
		if above.ID != g.ID {
			inherited = access.Combine(inherited, above.Permissions)
		}
	}
	models, source := groups.DefaultModels(chain)
	if models == nil {
		models = m.settingModels()
	}
	return &previewAnswer{
		Group:         access.Item{ID: g.ID, Name: g.Name},
		DefaultModels: defaultModels{Local: g.DefaultModels(), Effective: models, SourceGroupID: source},
		Models:        reach["model"], Knowledge: reach["knowledge"], Tools: reach["tool"],
		Permissions: g.Permissions.Or(jsondoc.Doc("{}")), Inherited: inherited,
		Effective: access.Combine(inherited, g.Permissions),
	}, nil
}

func (m *Module) settingModels() jsondoc.Doc {
	out := []string{}
	for part := range strings.SplitSeq(config.UIDefaultModels.Get(m.Settings.Snapshot()), ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return jsondoc.Of(out)
}
