package models

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/web"
)

type exportIn struct {
	IDs web.Opt[[]string] `query:"ids"`
}

func (m *Module) export(c *web.Call, in exportIn) (jsondoc.Doc, error) {
	ctx := c.Context()
	if ok, err := m.Access.HasOrAdmin(ctx, c.Principal.User, "workspace.models_export"); err != nil || !ok {
		return nil, either(err, errUnauthorized)
	}
	list, err := m.exported(c, in.IDs.V)
	if err != nil {
		return nil, err
	}
	if in.IDs.Has() {
		found := map[string]bool{}
		for _, r := range list {
			found[r.ID] = true
		}
		for _, id := range in.IDs.V {
			if !found[id] {
				return nil, errForbidden
			}
		}
	}
	images := map[string]jsondoc.Doc{}
	for i := range list {
		if err := m.takeBackground(ctx, &list[i], images); err != nil {
			return nil, web.Because(http.StatusBadRequest, fmt.Sprintf("Could not export background for model %s.", list[i].ID), err)
		}
	}
	return m.answers(ctx, list, func(r *models.Row, d jsondoc.Doc) jsondoc.Doc {
		return d.Set(images[r.ID], "background_image_data")
	})
}

func (m *Module) exported(c *web.Call, ids []string) ([]models.Row, error) {
	var list []models.Row
	var err error
	if m.free(c) {
		list, err = m.rows.Presets(c.Context(), ids)
	} else {
		var groups []string
		if groups, err = m.Access.GroupIDs(c.Context(), c.UserID()); err != nil {
			return nil, err
		}
		list, err = m.rows.Writable(c.Context(), c.UserID(), groups, ids)
	}
	if err != nil {
		return nil, err
	}
	return m.shaped(c, list), nil
}

// takeBackground moves the background of a model from its file into the export.
func (m *Module) takeBackground(ctx context.Context, r *models.Row, images map[string]jsondoc.Doc) error {
	id := models.BackgroundURL(r.Meta.Text("background_image_url")).FileID()
	if id == "" {
		return nil
	}
	if m.Files == nil {
		return store.ErrNotFound
	}
	data, err := m.Files.Content(ctx, id, maxBackground+1)
	if err != nil {
		return err
	}
	kind, err := imageType(data)
	if err != nil {
		return err
	}
	images[r.ID] = jsondoc.Text("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data))
	r.Meta = r.Meta.Set(nil, "background_image_url")
	return nil
}

type importIn struct {
	Body struct {
		Models []web.Dict `json:"models"`
	}
}

func (m *Module) importModels(c *web.Call, in importIn) (bool, error) {
	ctx := c.Context()
	if ok, err := m.Access.HasOrAdmin(ctx, c.Principal.User, "workspace.models_import"); err != nil || !ok {
		return false, either(err, errUnauthorized)
	}
	var ids []string
	for _, d := range in.Body.Models {
		if id := d.Doc().Text("id"); validID(id) {
			ids = append(ids, id)
		}
	}
	imported := []string{}
	existing, writable, err := m.existing(c, ids)
	if err != nil {
		return false, err
	}
	for _, d := range in.Body.Models {
		id := d.Doc().Text("id")
		if !validID(id) {
			continue
		}
		old := existing[id]
		if old != nil && !c.IsAdmin() && old.UserID != c.UserID() && !writable[id] {
			return false, errTaken
		}
		if ok, err := m.importOne(c, d.Doc(), old); err != nil {
			return false, err
		} else if ok {
			imported = append(imported, id)
		}
	}
	m.publish(c, "model.imported", "", "count", len(imported), "model_ids", imported)
	return true, nil
}

func (m *Module) existing(c *web.Call, ids []string) (map[string]*models.Row, map[string]bool, error) {
	list, err := m.rows.ByIDs(c.Context(), ids)
	if err != nil {
		return nil, nil, err
	}
	list = m.shaped(c, list)
	out := make(map[string]*models.Row, len(list))
	for i := range list {
		out[list[i].ID] = &list[i]
	}
	writable, err := m.Access.CanAmong(c.Context(), c.UserID(), rows.ResourceType, ids, access.Write)
	return out, writable, err
}

// importOne adds or changes one model. What the caller may not bring in is left out silently (false), as the reference does.
func (m *Module) importOne(c *web.Call, d jsondoc.Doc, old *models.Row) (bool, error) {
	if d.Text("base_model_id") == d.Text("id") {
		d = d.Set(nil, "base_model_id")
	}
	var own models.Knowledge
	if k := d.Get("meta", "knowledge"); k.Kind() == '[' {
		own = models.Knowledge(k)
	}
	var refused *web.Error
	if err := m.checkKnowledge(c, own); errors.As(err, &refused) {
		c.Log.Warn("model not imported: a file is not open to the user", "model", d.Text("id"))
		return false, nil
	} else if err != nil {
		return false, err
	}
	merged := d.Set(d.Get("meta").Or(jsondoc.Doc("{}")), "meta").Set(d.Get("params").Or(jsondoc.Doc("{}")), "params")
	if old != nil {
		merged = old.JSON(nil).Merge(merged).Set(old.Meta.Merge(merged.Get("meta")), "meta")
	}
	f, bad := web.BindDoc[form](merged, nil)
	if len(bad) > 0 {
		return false, web.Fail(http.StatusBadRequest, fmt.Sprintf("%d validation error for ModelForm\n%v\n  %s", len(bad), bad[0].Loc, bad[0].Msg))
	}
	if !c.IsAdmin() && f.BaseModelID.V == "" && (old == nil || old.BaseModelID != nil) {
		c.Log.Warn("model not imported: users need a base model", "model", f.ID)
		return false, nil
	}
	if old == nil && !c.IsAdmin() && m.isBase(c, f.ID) {
		return false, errTaken
	}
	err := m.importForm(c, &f, d, old)
	return err == nil, err
}

func (m *Module) importForm(c *web.Call, f *form, d jsondoc.Doc, old *models.Row) error {
	ctx := c.Context()
	if err := m.checkControls(c, f, old); err != nil {
		return err
	}
	var previous *models.Meta
	if old != nil {
		p, bad := models.ParseMeta(old.Meta, nil)
		if len(bad) > 0 {
			return errors.New("stored meta is malformed")
		}
		previous = &p
	}
	if encoded := d.Get("background_image_data"); !encoded.IsNull() {
		id, err := m.bringBackground(c, encoded)
		if err != nil {
			return err
		}
		f.Meta.Background = web.Some(models.BackgroundURL("/api/v1/files/" + id + "/content"))
	}
	if err := m.checkReferences(c, f, previous); err != nil {
		return err
	}
	if old != nil {
		_, err := m.change(ctx, f, c.UserID())
		return err
	}
	grants, err := m.Access.FilterAllowed(ctx, c.Principal.User, rows.ResourceType, f.grants())
	if err != nil {
		return err
	}
	_, err = m.insert(ctx, f, c.UserID(), grants)
	return err
}

// bringBackground uploads the background that an import carries.
func (m *Module) bringBackground(c *web.Call, encoded jsondoc.Doc) (id string, err error) {
	text, _ := encoded.AsText()
	if text == "" || len(text) > 4*((maxBackground+2)/3)+64 {
		return "", web.Fail(http.StatusBadRequest, "Background image must be at most 5 MiB.")
	}
	head, payload, _ := strings.Cut(text, ",")
	data, err := base64.StdEncoding.DecodeString(payload)
	if err != nil {
		return "", web.Because(http.StatusBadRequest, "Invalid background image data URI.", err)
	}
	kind, err := imageType(data)
	if err != nil {
		return "", web.Fail(http.StatusBadRequest, err.Error())
	}
	if head != "data:"+kind+";base64" {
		return "", web.Fail(http.StatusBadRequest, "Invalid background image data URI.")
	}
	if m.Files == nil {
		return "", web.Fail(http.StatusForbidden, "Background image is not accessible.")
	}
	return m.Files.Add(c.Context(), c.Principal, "background."+strings.TrimPrefix(kind, "image/"), data)
}

// fullModel is a model as the server itself answers it.
type fullModel struct {
	VersionID   web.Opt[string] `json:"version_id"`
	ID          string          `json:"id"`
	UserID      string          `json:"user_id"`
	BaseModelID web.Opt[string] `json:"base_model_id"`
	Name        string          `json:"name"`
	Params      models.Params   `json:"params"`
	Meta        models.Meta     `json:"meta"`
	Grants      []struct {
		ID            string `json:"id"`
		ResourceType  string `json:"resource_type"`
		ResourceID    string `json:"resource_id"`
		PrincipalType string `json:"principal_type"`
		PrincipalID   string `json:"principal_id"`
		Permission    string `json:"permission"`
		CreatedAt     int64  `json:"created_at"`
	} `json:"access_grants" default:"[]"`
	IsActive  bool  `json:"is_active"`
	UpdatedAt int64 `json:"updated_at"`
	CreatedAt int64 `json:"created_at"`
}

type syncIn struct {
	Body struct {
		Models []fullModel `json:"models" default:"[]"`
	}
}

// sync makes the stored models those of the request.
func (m *Module) sync(c *web.Call, in syncIn) (jsondoc.Doc, error) {
	ctx := c.Context()
	ids := make([]string, len(in.Body.Models))
	for i := range in.Body.Models {
		ids[i] = in.Body.Models[i].ID
	}
	existing, _, err := m.existing(c, ids)
	if err != nil {
		return nil, err
	}
	forms := make([]form, len(ids))
	for i := range in.Body.Models {
		if forms[i], err = m.syncForm(c, &in.Body.Models[i], existing[ids[i]]); err != nil {
			return nil, err
		}
	}
	var written []models.Row
	err = m.DB.Tx(ctx, func(tx *store.Tx) (err error) {
		written, err = m.syncTx(ctx, tx, in.Body.Models, forms, c.UserID())
		return err
	})
	m.Catalog.Changed()
	if err != nil {
		return nil, conflict(err)
	}
	wrote := make([]string, len(written))
	for i := range written {
		wrote[i] = written[i].ID
	}
	m.publish(c, "model.synced", "", "count", len(written), "model_ids", wrote)
	return m.answers(ctx, written, nil)
}

func (m *Module) syncForm(c *web.Call, full *fullModel, old *models.Row) (form, error) {
	f := form{ID: full.ID, BaseModelID: full.BaseModelID, Name: full.Name, Meta: full.Meta, Params: full.Params, IsActive: web.Some(full.IsActive)}
	if err := m.checkControls(c, &f, old); err != nil {
		return f, err
	}
	var previous *models.Meta
	if old != nil {
		profile := f.Meta.ProfileImage
		var err error
		if previous, err = m.keepImages(&f, old); err != nil {
			return f, err
		}
		f.Meta.ProfileImage = profile
	}
	return f, m.checkReferences(c, &f, previous)
}

func (m *Module) syncTx(ctx context.Context, tx *store.Tx, full []fullModel, forms []form, userID string) ([]models.Row, error) {
	all, err := rows.ReadAll(ctx, tx)
	if err != nil {
		return nil, err
	}
	gone := make(map[string]*models.Row, len(all))
	for i := range all {
		gone[all[i].ID] = &all[i]
	}
	var written []models.Row
	for i := range forms {
		var r models.Row
		if old := gone[forms[i].ID]; old != nil {
			delete(gone, old.ID)
			if err := models.Shape(old, m.Env.Images); err != nil {
				return nil, err
			}
			r, err = rows.Update(ctx, tx, *old, m.stored(&forms[i]), userID)
		} else if r, err = rows.Insert(ctx, tx, m.stored(&forms[i]), userID); err == nil && len(full[i].Grants) > 0 {
			grants := make([]access.Grant, len(full[i].Grants))
			for k, g := range full[i].Grants {
				grants[k] = access.Grant{PrincipalType: g.PrincipalType, PrincipalID: g.PrincipalID, Permission: g.Permission}
			}
			_, err = m.Access.SetGrants(ctx, tx, rows.ResourceType, r.ID, grants)
		}
		if err != nil {
			return nil, err
		}
		written = append(written, r)
	}
	ids := make([]string, 0, len(gone))
	for id := range gone {
		ids = append(ids, id)
	}
	return written, rows.Delete(ctx, tx, ids...)
}
