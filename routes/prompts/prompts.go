// Package prompts serves /api/v1/prompts: texts that people call by a command, and their versions.
package prompts

import (
	"context"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/prompts"
	"github.com/galleychat/galley/core/store/versions"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with. Events may be nil.
type Deps struct {
	DB     *store.DB
	Access *access.Access
	Env    *config.Env
	Events *events.Bus
}

// Module is the tag prompts of the API.
type Module struct {
	Deps
	rows *rows.Store
}

// New makes the module.
func New(d Deps) *Module { return &Module{Deps: d, rows: rows.New(d.DB, d.Access)} }

// Name implements web.Module.
func (m *Module) Name() string { return "prompts" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Verified, m.active))
	g.Add("GET /tags", web.JSON(auth.Verified, m.tags))
	g.Add("GET /list", web.JSON(auth.Verified, m.list))
	g.Add("POST /create", web.JSON(auth.Verified, m.create))
	g.Add("GET /id/{prompt_id}", web.JSON(auth.Verified, m.get))
	g.Add("POST /id/{prompt_id}/update", web.JSON(auth.Verified, m.update))
	g.Add("POST /id/{prompt_id}/update/meta", web.JSON(auth.Verified, m.rename))
	g.Add("POST /id/{prompt_id}/update/version", web.JSON(auth.Verified, m.setVersion))
	g.Add("POST /id/{prompt_id}/access/update", web.JSON(auth.Verified, m.updateAccess))
	g.Add("POST /id/{prompt_id}/toggle", web.JSON(auth.Verified, m.toggle))
	g.Add("DELETE /id/{prompt_id}/delete", web.JSON(auth.Verified, m.delete))
	g.Add("GET /id/{prompt_id}/history", web.JSON(auth.Verified, m.history))
	g.Add("GET /id/{prompt_id}/history/diff", web.JSON(auth.Verified, m.diff))
	g.Add("GET /id/{prompt_id}/history/{history_id}", web.JSON(auth.Verified, m.version))
	g.Add("DELETE /id/{prompt_id}/history/{history_id}", web.JSON(auth.Verified, m.deleteVersion))
}

var (
	errNotFound     = web.Fail(http.StatusNotFound, web.TextNotFound)
	errProhibited   = web.Fail(http.StatusUnauthorized, web.TextProhibited)
	errUnauthorized = web.Fail(http.StatusUnauthorized, web.TextUnauthorized)
	errTaken        = web.Fail(http.StatusBadRequest, "Uh-oh! This command is already registered. Please choose another command string.")
	errDefault      = web.Fail(http.StatusBadRequest, web.TextDefault)
)

// answer is a prompt with its grants.
type answer struct {
	rows.Prompt `json:",inline"`
	Grants      []access.Grant `json:"access_grants"`
}

// viewed is an answer with the owner, where lists tell it, and whether the viewer may change the prompt.
type viewed struct {
	answer `json:",inline"`
	Owner  *rows.Owner `json:"user"`
	Write  bool        `json:"write_access"`
}

func (m *Module) answer(ctx context.Context, p *rows.Prompt) (*answer, error) {
	grants, err := m.Access.Grants(ctx, rows.ResourceType, p.ID)
	if err != nil {
		return nil, err
	}
	return &answer{*p, grants[p.ID]}, nil
}

// free says whether the caller is an administrator whom grants do not bind.
func (m *Module) free(c *web.Call) bool { return c.IsAdmin() && m.Env.BypassAdminAccess }

func (m *Module) viewer(c *web.Call) (rows.Viewer, error) {
	v, err := m.Access.Viewer(c.Context(), c.UserID())
	return rows.Viewer{Viewer: v, Free: m.free(c)}, err
}

// find reads a prompt and whether the caller is its owner or has a grant; administrators have all.
func (m *Module) find(c *web.Call, id, permission string) (p *rows.Prompt, ok bool, err error) {
	p, err = m.rows.Get(c.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, errNotFound
	}
	if err != nil {
		return nil, false, err
	}
	if c.IsAdmin() || p.UserID == c.UserID() {
		return p, true, nil
	}
	ok, err = m.Access.Can(c.Context(), c.UserID(), rows.ResourceType, p.ID, permission)
	return p, ok, err
}

// allowed is find for those who must be let in.
func (m *Module) allowed(c *web.Call, id, permission string) (*rows.Prompt, error) {
	p, ok, err := m.find(c, id, permission)
	if err == nil && !ok {
		err = errProhibited
	}
	return p, err
}

// publish tells that something happened to a prompt.
func (m *Module) publish(c *web.Call, name string, p *rows.Prompt, data web.M) {
	if data == nil {
		data = web.M{"name": p.Name, "command": p.Command}
	}
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectID: p.ID, Data: data})
}

func (m *Module) active(c *web.Call, _ web.None) ([]answer, error) {
	v, err := m.viewer(c)
	if err != nil {
		return nil, err
	}
	list, err := m.rows.Active(c.Context(), v)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	grants, err := m.Access.Grants(c.Context(), rows.ResourceType, ids...)
	out := make([]answer, len(list))
	for i, p := range list {
		out[i] = answer{p, grants[p.ID]}
	}
	return out, err
}

func (m *Module) tags(c *web.Call, _ web.None) ([]string, error) {
	v, err := m.viewer(c)
	if err != nil {
		return nil, err
	}
	return m.rows.Tags(c.Context(), v)
}

// pageSize is how many prompts a page of the list holds.
const pageSize = 30

type listIn struct {
	Query     web.Opt[string] `query:"query"`
	View      web.Opt[string] `query:"view_option"`
	Tag       web.Opt[string] `query:"tag"`
	OrderBy   web.Opt[string] `query:"order_by"`
	Direction web.Opt[string] `query:"direction"`
	Page      web.Opt[int]    `query:"page"`
}

type listAnswer struct {
	Items []viewed `json:"items"`
	Total int      `json:"total"`
}

func (m *Module) list(c *web.Call, in listIn) (*listAnswer, error) {
	ctx := c.Context()
	v, err := m.viewer(c)
	if err != nil {
		return nil, err
	}
	found, total, err := m.rows.Search(ctx, rows.Filter{
		Viewer: v, Query: in.Query.V, View: in.View.V, Tag: in.Tag.V, OrderBy: in.OrderBy.V, Asc: in.Direction.V == "asc",
		Skip: (max(1, in.Page.Or(1)) - 1) * pageSize, Max: pageSize,
	})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	grants, err := m.Access.Grants(ctx, rows.ResourceType, ids...)
	if err != nil {
		return nil, err
	}
	writable, err := m.Access.CanAmong(ctx, v.UserID, rows.ResourceType, ids, access.Write)
	out := &listAnswer{make([]viewed, len(found)), total}
	for i, p := range found {
		out.Items[i] = viewed{answer{p.Prompt, grants[p.ID]}, p.Owner, v.Free || p.UserID == v.UserID || writable[p.ID]}
	}
	return out, err
}

type idIn struct {
	ID string `path:"prompt_id"`
}

func (m *Module) get(c *web.Call, in idIn) (*viewed, error) {
	ctx := c.Context()
	p, ok, err := m.find(c, in.ID, access.Read)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNotFound
	}
	write := m.free(c) || p.UserID == c.UserID()
	if !write {
		if write, err = m.Access.Can(ctx, c.UserID(), rows.ResourceType, p.ID, access.Write); err != nil {
			return nil, err
		}
	}
	a, err := m.answer(ctx, p)
	if err != nil {
		return nil, err
	}
	return &viewed{answer: *a, Write: write}, nil
}

func (m *Module) toggle(c *web.Call, in idIn) (*answer, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return nil, err
	}
	if p, err = m.rows.Toggle(c.Context(), p.ID); err != nil {
		return nil, changed(err)
	}
	name := "prompt.disabled"
	if p.IsActive {
		name = "prompt.enabled"
	}
	m.publish(c, name, p, nil)
	return m.answer(c.Context(), p)
}

func (m *Module) delete(c *web.Call, in idIn) (bool, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return false, err
	}
	if err := m.rows.Delete(c.Context(), p.ID); err != nil {
		return false, err
	}
	m.publish(c, "prompt.deleted", p, nil)
	return true, nil
}

// changed is how a change that did not come about is answered.
func changed(err error) error {
	switch {
	case errors.Is(err, store.ErrConflict):
		return errTaken
	case errors.Is(err, store.ErrNotFound), errors.Is(err, versions.ErrNone):
		return errDefault
	}
	return err
}
