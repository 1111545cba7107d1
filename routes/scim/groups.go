package scim

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/web"
)

type memberForm struct {
	Value   string          `json:"value"`
	Ref     web.Opt[string] `json:"$ref"`
	Type    web.Opt[string] `json:"type"`
	Display web.Opt[string] `json:"display"`
}

type groupForm struct {
	Schemas     []string              `json:"schemas" default:"[]"`
	ExternalID  web.Opt[string]       `json:"externalId"`
	DisplayName string                `json:"displayName"`
	Members     web.Opt[[]memberForm] `json:"members"`
}

type groupChange struct {
	Schemas     []string              `json:"schemas" default:"[]"`
	ExternalID  web.Opt[string]       `json:"externalId"`
	DisplayName web.Opt[string]       `json:"displayName"`
	Members     web.Opt[[]memberForm] `json:"members"`
}

func (m *Module) listGroups(c *web.Call, in listIn) (*listResource, error) {
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	list, total, err := m.groups.Provisioned(c.Context(), m.Env.SCIM.Provider, q)
	if err != nil {
		return nil, listError(err)
	}
	docs, err := m.groupDocs(c, in.shape(), list...)
	if err != nil {
		return nil, err
	}
	return &listResource{[]string{schemaList}, total, len(docs), in.Start, docs}, nil
}

// groupDocs are the documents of groups. Their members take one query, and none where nobody asks for them.
func (m *Module) groupDocs(c *web.Call, s *shape, list ...*groups.Group) ([]jsondoc.Doc, error) {
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = g.ID
	}
	members := map[string][]groups.Ref{}
	var err error
	known := s.has("members")
	if len(ids) > 0 && known {
		members, err = m.groups.MembersOf(c.Context(), ids...)
	}
	docs := make([]jsondoc.Doc, len(list))
	for i, g := range list {
		docs[i] = m.groupDoc(c.Origin()+Prefix, g, members[g.ID], known, s)
	}
	return docs, err
}

type groupIn struct {
	ID string `path:"group_id"`
	shapeIn
}

func (m *Module) group(c *web.Call, in groupIn) (any, error) {
	g, err := m.groups.ByID(c.Context(), in.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("Group", in.ID)
	}
	if err != nil {
		return nil, err
	}
	doc, err := m.answerGroup(c, g, in.shape())
	if err == nil && c.R.Header.Get("If-None-Match") != "" && unchanged(c, c.Header().Get("ETag")) {
		return web.Raw{Status: http.StatusNotModified}, nil
	}
	return doc, err
}

func (m *Module) answerGroup(c *web.Call, g *groups.Group, s *shape) (jsondoc.Doc, error) {
	docs, err := m.groupDocs(c, s, g)
	if err != nil {
		return nil, err
	}
	if version := docs[0].Text("meta", "version"); version != "" {
		tag(c, version)
	}
	return docs[0], nil
}

// direct gives the ids of members that a group shall have: accounts that there are, and no groups.
func (m *Module) direct(ctx context.Context, members []memberForm) ([]string, error) {
	var ids []string
	for _, f := range members {
		switch {
		case f.Type.Has() && f.Type.V != "User" || strings.Contains(f.Ref.V, "/Groups/"):
			return nil, refuse(http.StatusBadRequest, invalidValue, "Only direct User members are supported by SCIM.")
		case f.Value == "":
			return nil, refuse(http.StatusBadRequest, invalidValue, "A member user ID is required.")
		}
		if !slices.Contains(ids, f.Value) {
			ids = append(ids, f.Value)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	there, err := m.Users.Existing(ctx, ids)
	if err == nil && len(there) != len(ids) {
		err = refuse(http.StatusBadRequest, invalidValue, "One or more member users were not found.")
	}
	return ids, err
}

type createGroupIn struct {
	Body groupForm
	shapeIn
}

func (m *Module) createGroup(c *web.Call, in createGroupIn) (any, error) {
	ctx, f := c.Context(), &in.Body
	ids, err := m.direct(ctx, f.Members.V)
	if err != nil {
		return nil, err
	}
	owner, err := m.Users.SuperAdmin(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil, web.Fail(http.StatusInternalServerError, "No admin user found")
	}
	if err != nil {
		return nil, err
	}
	n := groups.NewGroup{UserID: owner.ID, Name: f.DisplayName, Share: groups.ShareOf(m.Env.GroupShare), Members: ids}
	if f.ExternalID.Has() {
		n.Data = m.withExternalID(nil, f.ExternalID.Ptr())
	}
	g, err := m.groups.Insert(ctx, n)
	if err != nil {
		return nil, err
	}
	if ids == nil {
		ids = []string{}
	}
	m.publish(ctx, "group.created", g.ID, web.M{"name": g.Name, "member_ids": ids, "member_count": len(ids)})
	m.publishMembers(ctx, g.ID, ids, nil)
	c.Status(http.StatusCreated)
	c.Header().Set("Location", c.Origin()+Prefix+"/Groups/"+g.ID)
	return m.answerGroup(c, g, in.shape())
}

// withExternalID keeps the id that the provider has for a group among the group's data, as accounts have theirs.
func (m *Module) withExternalID(data jsondoc.Doc, id *string) jsondoc.Doc {
	if m.Env.SCIM.Provider == "" {
		return data
	}
	data = data.Or(jsondoc.Doc("{}"))
	return data.Set(identityOf(data.Get("scim"), m.Env.SCIM.Provider, id), "scim")
}

func (m *Module) publishMembers(ctx context.Context, id string, added, removed []string) {
	if len(added) > 0 {
		m.publish(ctx, "group.member_added", id, web.M{"member_ids": added, "count": len(added)})
	}
	if len(removed) > 0 {
		m.publish(ctx, "group.member_removed", id, web.M{"member_ids": removed, "count": len(removed)})
	}
}

// redraft changes a group and tells of it.
func (m *Module) redraft(c *web.Call, id string, s *shape, told web.M, edit func(*groups.Draft) error) (jsondoc.Doc, error) {
	ctx := c.Context()
	g, added, removed, err := m.groups.Redraft(ctx, id, func(g *groups.Group, d *groups.Draft) error {
		if err := ifMatch(c, groupVersion(g, d.Members)); err != nil {
			return err
		}
		return edit(d)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("Group", id)
	}
	if err != nil {
		return nil, err
	}
	m.publish(ctx, "group.updated", id, told)
	m.publishMembers(ctx, id, added, removed)
	return m.answerGroup(c, g, s)
}

type putGroupIn struct {
	ID   string `path:"group_id"`
	Body groupChange
	shapeIn
}

// putGroup changes what the form has; what it has not stays, as in the reference.
func (m *Module) putGroup(c *web.Call, in putGroupIn) (any, error) {
	f := &in.Body
	ids, err := m.direct(c.Context(), f.Members.V)
	if err != nil {
		return nil, err
	}
	told := web.M{"updated_fields": []string{"name"}}
	if f.Members.Has() {
		told["updated_fields"] = []string{"name", "members"}
	}
	return m.redraft(c, in.ID, in.shape(), told, func(d *groups.Draft) error {
		if f.DisplayName.V != "" {
			d.Name = f.DisplayName.V
		}
		if f.Members.Has() {
			d.Members = ids
		}
		if f.ExternalID.Has() {
			d.Data = m.withExternalID(d.Data, f.ExternalID.Ptr())
		}
		return nil
	})
}

type patchGroupIn struct {
	ID   string `path:"group_id"`
	Body patchForm
	shapeIn
}

// patchGroup changes a group step by step, all or none of them. Attributes that groups do not have are passed over, as in
// the reference: providers send some.
func (m *Module) patchGroup(c *web.Call, in patchGroupIn) (any, error) {
	ctx := c.Context()
	if _, err := m.groups.ByID(ctx, in.ID); errors.Is(err, store.ErrNotFound) {
		return nil, notFound("Group", in.ID)
	}
	steps, err := in.Body.steps()
	if err != nil {
		return nil, err
	}
	// what is to be asked of the database comes before the group is locked
	members := make([][]string, len(steps))
	for i := range steps {
		if s := &steps[i]; s.path.Attr.Name == "members" {
			if members[i], err = m.stepMembers(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	told := web.M{"operation_count": len(in.Body.Operations)}
	return m.redraft(c, in.ID, in.shape(), told, func(d *groups.Draft) error {
		for i := range steps {
			if err := m.groupStep(d, &steps[i], members[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// stepMembers reads the members that a step names.
func (m *Module) stepMembers(ctx context.Context, s *step) ([]string, error) {
	if s.path.Attr.Sub != "" || s.path.Filter != nil && s.op != "remove" {
		return nil, unsupported(s.text)
	}
	list := s.value
	if list.Kind() == '{' {
		list = jsondoc.Array(list)
	}
	if s.op == "remove" {
		var ids []string
		for _, item := range list.List() {
			if id, ok := item.AsText(); ok {
				ids = append(ids, id)
			} else if id, ok := scim.Member(item, "value").AsText(); ok {
				ids = append(ids, id)
			}
		}
		return ids, nil
	}
	if list.Kind() != '[' {
		return nil, refuse(http.StatusBadRequest, invalidValue, "Members must be a list of users.")
	}
	var forms []memberForm
	for _, item := range list.List() {
		var f memberForm
		f.Value, _ = scim.Member(item, "value").AsText()
		if kind, ok := scim.Member(item, "type").AsText(); ok {
			f.Type = web.Some(kind)
		}
		if ref, ok := scim.Member(item, "$ref").AsText(); ok {
			f.Ref = web.Some(ref)
		}
		forms = append(forms, f)
	}
	return m.direct(ctx, forms)
}

// groupStep applies a step to a group; ids are the members that it names.
func (m *Module) groupStep(d *groups.Draft, s *step, ids []string) error {
	switch s.path.Attr.Name {
	case "displayname":
		if s.op == "remove" {
			return refuse(http.StatusBadRequest, mutability, "Removing "+s.text+" is not supported")
		}
		name, err := s.str()
		if err == nil && name == "" {
			err = s.mustBe("a name")
		}
		if err == nil {
			d.Name = name
		}
		return err
	case "externalid":
		if id, ok := s.value.AsText(); ok && s.op != "remove" {
			d.Data = m.withExternalID(d.Data, &id)
		} else {
			d.Data = m.withExternalID(d.Data, nil)
		}
	case "members":
		switch {
		case s.op == "replace":
			d.Members = ids
		case s.op == "add":
			d.Members = append(d.Members, ids...)
		case s.path.Filter != nil:
			d.Members = slices.DeleteFunc(d.Members, func(id string) bool {
				return scim.Matches(s.path.Filter, jsondoc.Of(map[string]string{"value": id, "type": "User"}))
			})
		case s.value.IsNull():
			d.Members = nil
		default:
			d.Members = slices.DeleteFunc(d.Members, func(id string) bool { return slices.Contains(ids, id) })
		}
	}
	return nil
}

func (m *Module) deleteGroup(c *web.Call, in groupIn) (any, error) {
	ctx := c.Context()
	g, err := m.groups.ByID(ctx, in.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("Group", in.ID)
	}
	if err != nil {
		return nil, err
	}
	if c.R.Header.Get("If-Match") != "" {
		members, err := m.groups.UserIDs(ctx, false, g.ID)
		if err != nil {
			return nil, err
		}
		if err := ifMatch(c, groupVersion(g, members)); err != nil {
			return nil, err
		}
	}
	children, err := m.groups.Children(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	if _, err := m.groups.Delete(ctx, g.ID); errors.Is(err, store.ErrNotFound) {
		return nil, notFound("Group", in.ID)
	} else if err != nil {
		return nil, err
	}
	m.publish(ctx, "group.deleted", g.ID, web.M{"name": g.Name, "parent_group_id": g.ParentID, "promoted_child_ids": children})
	for _, id := range children {
		m.publish(ctx, "group.updated", id, web.M{"old_parent_group_id": g.ID, "parent_group_id": g.ParentID})
	}
	return web.Raw{Status: http.StatusNoContent}, nil
}
