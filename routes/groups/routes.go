// Package groups serves /api/v1/groups: groups of users, their members and what they may do.
package groups

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module uses.
type Deps struct {
	Users    *users.Store
	Access   *access.Access // its Groups are the groups served
	Settings *config.Settings
	Env      *config.Env
	Events   *events.Bus
}

// Module is the web.Module of tag groups.
type Module struct {
	Deps
	groups *groups.Store
}

// New makes the module.
func New(d Deps) *Module { return &Module{Deps: d, groups: d.Access.Groups()} }

// Name implements web.Module.
func (m *Module) Name() string { return "groups" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Verified, m.list))
	g.Add("POST /create", web.JSON(auth.Admin, m.create))
	g.Add("GET /id/{id}", web.JSON(auth.Admin, m.get))
	g.Add("GET /id/{id}/info", web.JSON(auth.Verified, m.info))
	g.Add("GET /id/{id}/export", web.JSON(auth.Admin, m.export))
	g.Add("GET /id/{id}/preview", web.JSON(auth.Admin, m.preview))
	g.Add("GET /id/{id}/members", web.JSON(auth.Admin, m.members))
	g.Add("POST /id/{id}/users", web.JSON(auth.Admin, m.users))
	g.Add("POST /id/{id}/users/add", web.JSON(auth.Admin, m.addUsers))
	g.Add("POST /id/{id}/users/remove", web.JSON(auth.Admin, m.removeUsers))
	g.Add("POST /id/{id}/update", web.JSON(auth.Admin, m.update))
	g.Add("DELETE /id/{id}/delete", web.JSON(auth.Admin, m.remove))
}

// publish tells of what the caller did.
func (m *Module) publish(c *web.Call, e events.Event) {
	e.Actor = c.Principal.User
	m.Events.Publish(c.Context(), e)
}

type idIn struct {
	ID string `path:"id"`
}

// answer gives an error the status and text of the reference; missing is the text for a group that is not there.
func answer(err error, missing string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return web.Fail(http.StatusNotFound, missing)
	case errors.Is(err, groups.ErrNoParent):
		return web.Fail(http.StatusNotFound, groups.ErrNoParent.Error())
	case errors.Is(err, groups.ErrEmptyParent):
		return web.Fail(http.StatusBadRequest, groups.ErrEmptyParent.Error())
	case errors.Is(err, groups.ErrLoop):
		return web.Fail(http.StatusBadRequest, groups.ErrLoop.Error())
	}
	return err
}

// textMissing is for operations that change a group; others say web.TextNotFound.
const textMissing = "Group not found."

type listIn struct {
	Share web.Opt[bool] `query:"share"`
}

// list gives administrators all groups, and others their own or those they may share with.
func (m *Module) list(c *web.Call, in listIn) ([]*groups.Counted, error) {
	var q groups.Query
	if !c.IsAdmin() {
		q.MemberID = c.UserID()
		if in.Share.Has() {
			q.Share = groups.Unshared
			if in.Share.V {
				q.Share = groups.Shareable
			}
		}
	}
	return m.groups.List(c.Context(), q)
}

type form struct {
	ParentID    web.Opt[string]   `json:"parent_group_id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Permissions web.Opt[web.Dict] `json:"permissions"`
	Data        web.Opt[data]     `json:"data"`
}

// data is the data of a group, with the ids of its default models trimmed and each named once.
type data jsondoc.Doc

// MarshalJSONTo writes it as it is.
func (d data) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(d).MarshalJSONTo(e) }

// DecodeField implements web.Decoder.
func (d *data) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	*d = data(raw)
	settings := raw.Get("config")
	if settings == nil {
		return nil
	}
	if settings.Kind() != '{' {
		return web.Problems{web.ValueError(loc, raw, "Group config must be an object.")}
	}
	models := settings.Get("default_models")
	if models.IsNull() {
		return nil
	}
	names := []string{}
	bad := models.Kind() != '['
	models.Items(func(_ int, v jsondoc.Doc) bool {
		name, ok := v.AsText()
		name = strings.TrimSpace(name)
		bad = bad || !ok || name == ""
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		return !bad
	})
	if bad {
		return web.Problems{web.ValueError(loc, raw, "Default models must be a list of non-empty model IDs.")}
	}
	*d = data(raw.Set(jsondoc.Of(names), "config", "default_models"))
	return nil
}

type createIn struct{ Body form }

func (m *Module) create(c *web.Call, in createIn) (*groups.Counted, error) {
	g, err := m.groups.Insert(c.Context(), groups.NewGroup{
		UserID: c.UserID(), ParentID: in.Body.ParentID.Ptr(), Name: in.Body.Name, Description: in.Body.Description,
		Data: jsondoc.Doc(in.Body.Data.V), Permissions: in.Body.Permissions.V.Doc(), Share: groups.ShareOf(m.Env.GroupShare),
	})
	if err != nil {
		return nil, answer(err, textMissing)
	}
	m.publish(c, events.Event{Name: "group.created", SubjectID: g.ID, Data: events.Pairs{"name", g.Name}})
	return &groups.Counted{Group: *g}, nil
}

func (m *Module) get(c *web.Call, in idIn) (*groups.Counted, error) {
	g, err := m.groups.CountedByID(c.Context(), in.ID)
	return g, answer(err, web.TextNotFound)
}

// info is a group without what it permits.
type info struct {
	ParentID    *string `json:"parent_group_id"`
	ID          string  `json:"id"`
	UserID      string  `json:"user_id"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	MemberCount int     `json:"member_count"`
	CreatedAt   int64   `json:"created_at"`
	UpdatedAt   int64   `json:"updated_at"`
}

func (m *Module) info(c *web.Call, in idIn) (*info, error) {
	g, err := m.groups.CountedByID(c.Context(), in.ID)
	if err != nil {
		return nil, answer(err, web.TextNotFound)
	}
	return &info{g.ParentID, g.ID, g.UserID, g.Name, g.Description, g.MemberCount, g.CreatedAt, g.UpdatedAt}, nil
}

type exported struct {
	groups.Counted `json:",inline"`
	UserIDs        []string `json:"user_ids"`
}

func (m *Module) export(c *web.Call, in idIn) (*exported, error) {
	g, err := m.groups.CountedByID(c.Context(), in.ID)
	if err != nil {
		return nil, answer(err, web.TextNotFound)
	}
	ids, err := m.groups.UserIDs(c.Context(), false, g.ID)
	return &exported{*g, ids}, err
}

type updateIn struct {
	ID   string `path:"id"`
	Body form
}

func (m *Module) update(c *web.Call, in updateIn) (*groups.Counted, error) {
	f := &in.Body
	old, err := m.groups.ByID(c.Context(), in.ID)
	if err != nil {
		return nil, answer(err, textMissing)
	}
	g, _, err := m.groups.Update(c.Context(), in.ID, groups.Patch{
		SetParent: f.ParentID.Set, ParentID: f.ParentID.Ptr(), Name: f.Name, Description: f.Description,
		Data: jsondoc.Doc(f.Data.V), Permissions: f.Permissions.V.Doc(),
	})
	if err != nil {
		return nil, answer(err, textMissing)
	}
	m.publish(c, events.Event{Name: "group.updated", SubjectID: g.ID, Data: events.Pairs{"name", g.Name, "old_parent_group_id", old.ParentID, "parent_group_id", g.ParentID}})
	return m.get(c, idIn{in.ID})
}

func (m *Module) remove(c *web.Call, in idIn) (bool, error) {
	g, err := m.groups.ByID(c.Context(), in.ID)
	if err != nil {
		return false, answer(err, textMissing)
	}
	children, err := m.groups.Children(c.Context(), in.ID)
	if err != nil {
		return false, err
	}
	if _, err := m.groups.Delete(c.Context(), in.ID); err != nil {
		return false, answer(err, textMissing)
	}
	m.publish(c, events.Event{Name: "group.deleted", SubjectID: in.ID, Data: events.Pairs{"parent_group_id", g.ParentID, "promoted_child_ids", append([]string{}, children...)}})
	for _, id := range children {
		m.publish(c, events.Event{Name: "group.updated", SubjectID: id, Data: events.Pairs{"old_parent_group_id", in.ID, "parent_group_id", g.ParentID}})
	}
	return true, nil
}

type userIDsIn struct {
	ID   string `path:"id"`
	Body struct {
		UserIDs web.Opt[[]string] `json:"user_ids"`
	}
}

func (m *Module) addUsers(c *web.Call, in userIDsIn) (*groups.Counted, error) {
	ids, err := m.Users.Existing(c.Context(), in.Body.UserIDs.V)
	if err != nil {
		return nil, err
	}
	if _, _, err := m.groups.AddMembers(c.Context(), in.ID, ids); err != nil {
		return nil, answer(err, textMissing)
	}
	if in.Body.UserIDs.Has() {
		in.Body.UserIDs.V = append([]string{}, ids...)
	}
	m.publish(c, events.Event{Name: "group.member_added", SubjectID: in.ID, Data: events.Pairs{"user_ids", in.Body.UserIDs}})
	return m.get(c, idIn{in.ID})
}

func (m *Module) removeUsers(c *web.Call, in userIDsIn) (*groups.Counted, error) {
	if _, _, err := m.groups.RemoveMembers(c.Context(), in.ID, in.Body.UserIDs.V); err != nil {
		return nil, answer(err, textMissing)
	}
	m.publish(c, events.Event{Name: "group.member_removed", SubjectID: in.ID, Data: events.Pairs{"user_ids", in.Body.UserIDs}})
	return m.get(c, idIn{in.ID})
}
