package models

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/web"
)

// form is a model as clients send it.
type form struct {
	Message     web.Opt[string]     `json:"commit_message"`
	ID          string              `json:"id" pattern:"^\\S+$"`
	BaseModelID web.Opt[string]     `json:"base_model_id"`
	Name        string              `json:"name"`
	Meta        models.Meta         `json:"meta"`
	Params      models.Params       `json:"params"`
	Grants      web.Opt[[]web.Dict] `json:"access_grants"`
	IsActive    web.Opt[bool]       `json:"is_active" default:"true"`
}

// grants are those sent; nil where none were.
func (f *form) grants() []access.Grant {
	if !f.Grants.Has() {
		return nil
	}
	return access.GrantsOf(f.Grants.V)
}

// row is the form as it is stored.
func (m *Module) stored(f *form) rows.Form {
	f.Meta.CleanImage(m.Env.Images)
	return rows.Form{
		ID: f.ID, BaseModelID: f.BaseModelID.Ptr(), Name: f.Name, Params: f.Params.JSON(), Meta: f.Meta.JSON(),
		IsActive: f.IsActive.V, KeepActive: !f.IsActive.Set, Message: f.Message.Ptr(),
	}
}

// noLoop takes away a base that is the model itself.
func (f *form) noLoop() {
	if f.BaseModelID.Has() && f.BaseModelID.V == f.ID {
		f.BaseModelID = web.Opt[string]{Set: true, Null: true}
	}
}

func validID(id string) bool {
	return id != "" && utf8.RuneCountInString(id) <= 256 && strings.IndexFunc(id, isSpace) < 0
}

// isSpace follows Python's str.isspace as far as ids go.
func isSpace(r rune) bool { return strings.TrimSpace(string(r)) == "" || r >= 0x1c && r <= 0x1f }

type formIn struct {
	Body form
}

func (m *Module) create(c *web.Call, in formIn) (jsondoc.Doc, error) {
	ctx, f := c.Context(), &in.Body
	if ok, err := m.Access.HasOrAdmin(ctx, c.Principal.User, "workspace.models"); err != nil || !ok {
		return nil, either(err, errUnauthorized)
	}
	if !validID(f.ID) {
		return nil, errIDTooLong
	}
	f.noLoop()
	if old, err := m.row(ctx, f.ID); err != nil || old != nil {
		return nil, either(err, errTaken)
	}
	if !c.IsAdmin() {
		if f.BaseModelID.V == "" {
			return nil, errUnauthorized
		}
		if m.isBase(c, f.ID) {
			return nil, errTaken
		}
	}
	if err := m.checkReferences(c, f, nil); err != nil {
		return nil, err
	}
	grants, err := m.Access.FilterAllowed(ctx, c.Principal.User, rows.ResourceType, f.grants())
	if err != nil {
		return nil, err
	}
	if err := m.checkControls(c, f, nil); err != nil {
		return nil, err
	}
	r, err := m.insert(ctx, f, c.UserID(), grants)
	if err != nil {
		return nil, err
	}
	m.publish(c, "model.created", r.ID, "name", r.Name)
	return m.answer(ctx, r)
}

func (m *Module) insert(ctx context.Context, f *form, userID string, grants []access.Grant) (*models.Row, error) {
	var r models.Row
	err := m.DB.Tx(ctx, func(tx *store.Tx) (err error) {
		if r, err = rows.Insert(ctx, tx, m.stored(f), userID); err != nil {
			return err
		}
		if len(grants) > 0 {
			_, err = m.Access.SetGrants(ctx, tx, rows.ResourceType, r.ID, grants)
		}
		return err
	})
	m.Catalog.Changed()
	if errors.Is(err, store.ErrConflict) {
		return nil, errTaken
	}
	return &r, err
}

// change updates a model within a transaction of its own.
func (m *Module) change(ctx context.Context, f *form, userID string) (*models.Row, error) {
	var r models.Row
	err := m.DB.Tx(ctx, func(tx *store.Tx) error {
		current, err := rows.Read(ctx, tx, f.ID)
		if err != nil {
			return err
		}
		if err := models.Shape(&current, m.Env.Images); err != nil {
			return err
		}
		r, err = rows.Update(ctx, tx, current, m.stored(f), userID)
		return err
	})
	m.Catalog.Changed()
	return &r, conflict(err)
}

// conflict is how a lost race is answered.
func conflict(err error) error {
	if errors.Is(err, rows.ErrVersionConflict) {
		return web.Fail(http.StatusConflict, web.M{"code": "version_conflict"})
	}
	return err
}

// isBase says whether an id is that of a provider's model, of which users may make none. For Ollama the name without
// its tag counts too.
func (m *Module) isBase(c *web.Call, id string) bool {
	for _, b := range m.Catalog.All(c.Context(), models.CallerOf(c.Principal)) {
		if b.Entry.Bool("preset") {
			continue
		}
		name, _, _ := strings.Cut(b.ID, ":")
		if b.ID == id || b.OwnedBy == "ollama" && name == id {
			return true
		}
	}
	return false
}

// checkControls keeps the controls of a model where none are sent, and refuses them for models that the server does not
// send requests to itself.
func (m *Module) checkControls(c *web.Call, f *form, previous *models.Row) error {
	if !f.Params.ControlsSet {
		if previous != nil {
			if old := previous.Params.Get("model_controls"); old != nil {
				f.Params.Controls = models.Controls(old)
			}
		}
		return nil
	}
	if !jsondoc.Doc(f.Params.Controls).Truthy() {
		return nil
	}
	id := f.ID
	if f.BaseModelID.V != "" {
		id = f.BaseModelID.V
	}
	base, ok := m.Catalog.Find(c.Context(), models.CallerOf(c.Principal), id)
	if ok && (base.Entry.Get("pipe") != nil || base.Entry.Get("direct").Truthy() || base.OwnedBy == "arena") {
		return web.Fail(http.StatusBadRequest, "Model controls require a server-managed provider model.")
	}
	return nil
}

func (m *Module) update(c *web.Call, in formIn) (jsondoc.Doc, error) {
	ctx, f := c.Context(), &in.Body
	old, err := m.writable(c, f.ID, web.Fail(http.StatusBadRequest, web.TextProhibited))
	if err != nil {
		return nil, err
	}
	if err := m.checkKnowledge(c, f.Meta.Knowledge.V); err != nil {
		return nil, err
	}
	if !f.BaseModelID.Set && old.BaseModelID != nil {
		f.BaseModelID = web.Some(*old.BaseModelID)
	}
	f.noLoop()
	if !c.IsAdmin() && old.BaseModelID != nil && f.BaseModelID.V == "" {
		return nil, errUnauthorized
	}
	previous, err := m.keepImages(f, old)
	if err != nil {
		return nil, err
	}
	if err := m.checkReferences(c, f, previous); err != nil {
		return nil, err
	}
	if err := m.checkControls(c, f, old); err != nil {
		return nil, err
	}
	r, err := m.change(ctx, f, c.UserID())
	if errors.Is(err, store.ErrNotFound) {
		return jsondoc.Doc("null"), nil
	}
	if err != nil {
		return nil, err
	}
	m.publish(c, "model.updated", r.ID, "name", r.Name)
	return m.answer(ctx, r)
}

// keepImages takes over the images that an update does not mention.
func (m *Module) keepImages(f *form, old *models.Row) (*models.Meta, error) {
	previous, bad := models.ParseMeta(old.Meta, nil)
	if len(bad) > 0 {
		return nil, errors.New("stored meta is malformed")
	}
	if !f.Meta.ProfileImage.Set {
		f.Meta.ProfileImage = previous.ProfileImage
	}
	if !f.Meta.Avatar.Set {
		f.Meta.Avatar = previous.Avatar
	}
	if !f.Meta.Background.Set {
		f.Meta.Background = previous.Background
	}
	return &previous, nil
}

type accessIn struct {
	Body struct {
		ID     string          `json:"id" pattern:"^\\S+$"`
		Name   web.Opt[string] `json:"name"`
		Grants []web.Dict      `json:"access_grants"`
	}
}

func (m *Module) updateAccess(c *web.Call, in accessIn) (jsondoc.Doc, error) {
	ctx := c.Context()
	r, err := m.row(ctx, in.Body.ID)
	if err != nil {
		return nil, err
	}
	if r == nil { // a provider's model without a row gets one to hang the grants on
		if !c.IsAdmin() {
			return nil, errForbidden
		}
		name := in.Body.Name.V
		if name == "" {
			name = in.Body.ID
		}
		f := form{ID: in.Body.ID, Name: name, IsActive: web.Some(true)}
		if r, err = m.insert(ctx, &f, c.UserID(), nil); err != nil {
			return nil, err
		}
	}
	if !c.IsAdmin() && r.UserID != c.UserID() {
		if ok, err := m.can(c, r.ID, access.Write); err != nil || !ok {
			return nil, either(err, web.Fail(http.StatusBadRequest, web.TextProhibited))
		}
	}
	f := form{Grants: web.Some(in.Body.Grants)}
	grants := f.grants()
	if ok, err := m.Access.MayGive(ctx, c.Principal.User, rows.ResourceType, grants); err != nil || !ok {
		return nil, either(err, errAudience)
	}
	err = m.DB.Tx(ctx, func(tx *store.Tx) error {
		if _, err := m.Access.SetGrants(ctx, tx, rows.ResourceType, r.ID, grants); err != nil {
			return err
		}
		return rows.Touch(ctx, tx, r.ID)
	})
	m.Catalog.Changed()
	if err != nil {
		return nil, err
	}
	m.publish(c, "model.access_updated", r.ID)
	if r, err = m.row(ctx, r.ID); err != nil || r == nil {
		return jsondoc.Doc("null"), err
	}
	return m.answer(ctx, r)
}
