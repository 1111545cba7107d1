// Package models serves /api/v1/models: workspace models, the settings of providers' models, and their versions.
package models

import (
	"context"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/web"
)

// Files are uploaded files, which models use as backgrounds, avatars and knowledge.
type Files interface {
	// Readable says whether the user may read a file; false too where it is gone.
	Readable(ctx context.Context, p *auth.Principal, id string) (bool, error)
	// Content reads at most limit bytes of a file.
	Content(ctx context.Context, id string, limit int64) ([]byte, error)
	// SetType notes the media type of a file's content.
	SetType(ctx context.Context, id, mediaType string) error
	// Add uploads a file for the user.
	Add(ctx context.Context, p *auth.Principal, name string, content []byte) (id string, err error)
}

// Deps are what the module works with. Without Files no model can have a background or an avatar.
type Deps struct {
	DB       *store.DB
	Catalog  *models.Catalog
	Access   *access.Access
	Settings *config.Settings
	Env      *config.Env
	Files    Files
	Events   *events.Bus
}

// Module is the tag models of the API.
type Module struct {
	Deps
	rows *rows.Store
}

// New makes the module.
func New(d Deps) *Module { return &Module{Deps: d, rows: rows.New(d.DB)} }

// Name implements web.Module.
func (m *Module) Name() string { return "models" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /list", web.JSON(auth.Verified, m.list))
	g.Add("GET /all", web.JSON(auth.Admin, m.all))
	g.Add("GET /base", web.JSON(auth.Admin, m.bases))
	g.Add("GET /base/tags", web.JSON(auth.Admin, m.baseTags))
	g.Add("GET /tags", web.JSON(auth.Verified, m.tags))
	g.Add("POST /create", web.JSON(auth.Verified, m.create))
	g.Add("GET /export", web.JSON(auth.Verified, m.export))
	g.Add("POST /import", web.JSON(auth.Verified, m.importModels))
	g.Add("POST /sync", web.JSON(auth.Admin, m.sync))
	g.Add("GET /model", web.JSON(auth.Verified, m.get))
	g.Add("GET /model/history", web.JSON(auth.Verified, m.history))
	g.Add("GET /model/history/{history_id}", web.JSON(auth.Verified, m.historyEntry))
	g.Add("DELETE /model/history/{history_id}", web.JSON(auth.Verified, m.deleteHistoryEntry))
	g.Add("POST /model/update/version", web.JSON(auth.Verified, m.setVersion))
	g.Add("GET /model/profile/image", web.JSON(auth.Verified, m.profileImage))
	g.Add("POST /model/toggle", web.JSON(auth.Verified, m.toggle))
	g.Add("POST /model/update", web.JSON(auth.Verified, m.update))
	g.Add("POST /model/access/update", web.JSON(auth.Verified, m.updateAccess))
	g.Add("POST /model/delete", web.JSON(auth.Verified, m.delete))
	g.Add("DELETE /delete/all", web.JSON(auth.Admin, m.deleteAll))
}

var (
	errNotFound     = web.Fail(http.StatusNotFound, web.TextNotFound)
	errProhibited   = web.Fail(http.StatusUnauthorized, web.TextProhibited)
	errForbidden    = web.Fail(http.StatusForbidden, web.TextProhibited)
	errUnauthorized = web.Fail(http.StatusUnauthorized, web.TextUnauthorized)
	errMissing      = web.Fail(http.StatusUnauthorized, web.TextNotFound) // what changes of an unknown model answer
	errTaken        = web.Fail(http.StatusUnauthorized, "Uh-oh! This model id is already registered. Please choose another model id string.")
	errIDTooLong    = web.Fail(http.StatusBadRequest, "The model id is too long. Please make sure your model id is less than 256 characters long.")
	errAudience     = web.Fail(http.StatusForbidden, access.TextAudience)
	errNoVersion    = web.Fail(http.StatusNotFound, "Model version not found")
)

// publish tells of what the caller did to a model, "" for several, with pairs of a name and a value.
func (m *Module) publish(c *web.Call, name, id string, pairs ...any) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectType: "model", SubjectID: id, Data: events.Pairs(pairs)})
}

// row reads a model in the reference's form; nil where there is none, or no such form of what is stored.
func (m *Module) row(ctx context.Context, id string) (*models.Row, error) {
	r, err := m.rows.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if models.Shape(&r, m.Env.Images) != nil {
		return nil, nil
	}
	return &r, nil
}

// shaped leaves out rows that have no form.
func (m *Module) shaped(c *web.Call, list []models.Row) []models.Row {
	out := list[:0]
	for _, r := range list {
		if err := models.Shape(&r, m.Env.Images); err != nil {
			c.Log.Error("model left out", "model", r.ID, "err", err)
			continue
		}
		out = append(out, r)
	}
	return out
}

// free says whether the caller is an administrator whom grants do not bind.
func (m *Module) free(c *web.Call) bool { return c.IsAdmin() && m.Env.BypassAdminAccess }

func (m *Module) can(c *web.Call, id, permission string) (bool, error) {
	return m.Access.Can(c.Context(), c.UserID(), rows.ResourceType, id, permission)
}

// answers writes rows with their grants, as a list.
func (m *Module) answers(ctx context.Context, list []models.Row, more func(*models.Row, jsondoc.Doc) jsondoc.Doc) (jsondoc.Doc, error) {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	grants, err := m.Access.Grants(ctx, rows.ResourceType, ids...)
	if err != nil {
		return nil, err
	}
	out := make([]jsondoc.Doc, len(list))
	for i := range list {
		out[i] = list[i].JSON(grants[list[i].ID])
		if more != nil {
			out[i] = more(&list[i], out[i])
		}
	}
	return jsondoc.Array(out...), nil
}

func (m *Module) answer(ctx context.Context, r *models.Row) (jsondoc.Doc, error) {
	grants, err := m.Access.Grants(ctx, rows.ResourceType, r.ID)
	if err != nil {
		return nil, err
	}
	return r.JSON(grants[r.ID]), nil
}

// pageSize is how many models a page of the list holds.
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
	Items jsondoc.Doc `json:"items"`
	Total int         `json:"total"`
}

func (m *Module) list(c *web.Call, in listIn) (listAnswer, error) {
	ctx := c.Context()
	groups, err := m.Access.GroupIDs(ctx, c.UserID())
	if err != nil {
		return listAnswer{}, err
	}
	found, total, err := m.rows.Search(ctx, rows.Filter{
		Query: in.Query.V, View: in.View.V, Tag: in.Tag.V, OrderBy: in.OrderBy.V, Asc: in.Direction.V == "asc",
		Viewer: c.UserID(), Limited: !m.free(c), Groups: groups, Skip: (max(1, in.Page.Or(1)) - 1) * pageSize, Max: pageSize,
	})
	if err != nil {
		return listAnswer{}, err
	}
	ids := make([]string, len(found))
	owners := make(map[string]*rows.Owner, len(found))
	list := make([]models.Row, len(found))
	for i, f := range found {
		ids[i], list[i], owners[f.ID] = f.ID, f.Row, f.Owner
	}
	writable, err := m.Access.CanAmong(ctx, c.UserID(), rows.ResourceType, ids, access.Write)
	if err != nil {
		return listAnswer{}, err
	}
	items, err := m.answers(ctx, m.shaped(c, list), func(r *models.Row, d jsondoc.Doc) jsondoc.Doc {
		write := m.free(c) || r.UserID == c.UserID() || writable[r.ID]
		d = d.Set(models.WithSchema(r.Meta, r.Params).Delete("profile_image_url"), "meta")
		return viewed(d, owners[r.ID], write)
	})
	return listAnswer{items, total}, err
}

// viewed adds to a model's answer its owner and whether the viewer may change it; who may not sees no params.
func viewed(d jsondoc.Doc, owner *rows.Owner, write bool) jsondoc.Doc {
	if !write {
		d = d.Set(jsondoc.Doc("{}"), "params")
	}
	return d.Set(jsondoc.Of(owner), "user").Set(jsondoc.Of(write), "write_access")
}

func (m *Module) all(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	list, err := m.rows.All(c.Context())
	if err != nil {
		return nil, err
	}
	return m.answers(c.Context(), m.shaped(c, list), nil)
}

type basesIn struct {
	Tag web.Opt[string] `query:"tag"`
}

func (m *Module) bases(c *web.Call, in basesIn) (jsondoc.Doc, error) {
	list, err := m.rows.Bases(c.Context())
	if err != nil {
		return nil, err
	}
	list = m.shaped(c, list)
	if in.Tag.V != "" {
		kept := list[:0]
		for _, r := range list {
			for _, t := range models.Tags(r.Meta.Get("tags")) {
				if t == in.Tag.V {
					kept = append(kept, r)
					break
				}
			}
		}
		list = kept
	}
	return m.answers(c.Context(), list, nil)
}

func (m *Module) baseTags(c *web.Call, _ web.None) ([]string, error) {
	return m.rows.Tags(c.Context(), true, false, "", nil)
}

func (m *Module) tags(c *web.Call, _ web.None) ([]string, error) {
	if m.free(c) {
		return m.rows.Tags(c.Context(), false, false, "", nil)
	}
	groups, err := m.Access.GroupIDs(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	return m.rows.Tags(c.Context(), false, true, c.UserID(), groups)
}

type idIn struct {
	ID string `query:"id"`
}

func (m *Module) get(c *web.Call, in idIn) (jsondoc.Doc, error) {
	r, err := m.row(c.Context(), in.ID)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errNotFound
	}
	write := m.free(c) || r.UserID == c.UserID()
	if !write {
		if write, err = m.can(c, r.ID, access.Write); err != nil {
			return nil, err
		}
	}
	if !write {
		if read, err := m.can(c, r.ID, access.Read); err != nil || !read {
			return nil, either(err, errProhibited)
		}
	}
	d, err := m.answer(c.Context(), r)
	if err != nil {
		return nil, err
	}
	return viewed(d.Set(models.WithSchema(r.Meta, r.Params), "meta"), nil, write), nil
}

func (m *Module) toggle(c *web.Call, in idIn) (jsondoc.Doc, error) {
	r, err := m.writable(c, in.ID, errUnauthorized)
	if err != nil {
		return nil, err
	}
	if err := m.rows.Toggle(c.Context(), r.ID); err != nil {
		return nil, err
	}
	m.Catalog.Changed()
	if r, err = m.row(c.Context(), r.ID); err != nil || r == nil {
		return nil, either(err, errMissing)
	}
	name := "model.disabled"
	if r.IsActive {
		name = "model.enabled"
	}
	m.publish(c, name, r.ID, "name", r.Name)
	return m.answer(c.Context(), r)
}

// writable reads a model that the caller may change; denied is the answer where that is not so.
func (m *Module) writable(c *web.Call, id string, denied error) (*models.Row, error) {
	r, err := m.row(c.Context(), id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errMissing
	}
	if c.IsAdmin() || r.UserID == c.UserID() {
		return r, nil
	}
	ok, err := m.can(c, id, access.Write)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, denied
	}
	return r, nil
}

type deleteIn struct {
	Body struct {
		ID string `json:"id"`
	}
}

func (m *Module) delete(c *web.Call, in deleteIn) (bool, error) {
	r, err := m.writable(c, in.Body.ID, errUnauthorized)
	if err != nil {
		return false, err
	}
	err = m.DB.Tx(c.Context(), func(tx *store.Tx) error { return rows.Delete(c.Context(), tx, r.ID) })
	m.Catalog.Changed()
	if err == nil {
		m.publish(c, "model.deleted", r.ID, "name", r.Name)
	}
	return err == nil, err
}

func (m *Module) deleteAll(c *web.Call, _ web.None) (bool, error) {
	err := m.DB.Tx(c.Context(), func(tx *store.Tx) error { return rows.DeleteAll(c.Context(), tx) })
	m.Catalog.Changed()
	if err == nil {
		m.publish(c, "model.deleted", "")
	}
	return err == nil, err
}
