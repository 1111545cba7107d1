package models

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/versions"
	"github.com/galleychat/galley/core/web"
)

// versioned reads a model whose versions the caller may see and change.
func (m *Module) versioned(c *web.Call, id string) (*models.Row, error) {
	r, err := m.row(c.Context(), id)
	if err != nil || r == nil {
		return nil, either(err, errNotFound)
	}
	if r.UserID == c.UserID() || m.free(c) {
		return r, nil
	}
	if ok, err := m.can(c, id, access.Write); err != nil || !ok {
		return nil, either(err, errForbidden)
	}
	return r, nil
}

type historyIn struct {
	ID   string `query:"id"`
	Page int    `query:"page" default:"1"`
}

func (m *Module) history(c *web.Call, in historyIn) ([]rows.Version, error) {
	if _, err := m.versioned(c, in.ID); err != nil {
		return nil, err
	}
	return m.rows.History(c.Context(), in.ID, in.Page)
}

type versionIn struct {
	HistoryID string `path:"history_id"`
	ID        string `query:"id"`
}

// versionError is how a version that is not there, or that has to stay, is answered.
func versionError(err error) error {
	switch {
	case errors.Is(err, versions.ErrNone):
		return errNoVersion
	case errors.Is(err, versions.ErrCurrent):
		return web.Fail(http.StatusBadRequest, "Cannot delete the current version")
	case errors.Is(err, store.ErrNotFound):
		return errNotFound
	}
	return conflict(err)
}

func (m *Module) historyEntry(c *web.Call, in versionIn) (rows.VersionEntry, error) {
	if _, err := m.versioned(c, in.ID); err != nil {
		return rows.VersionEntry{}, err
	}
	e, err := m.rows.Entry(c.Context(), in.ID, in.HistoryID)
	return e, versionError(err)
}

func (m *Module) deleteHistoryEntry(c *web.Call, in versionIn) (bool, error) {
	if _, err := m.versioned(c, in.ID); err != nil {
		return false, err
	}
	err := m.rows.DeleteVersion(c.Context(), in.ID, in.HistoryID)
	return err == nil, versionError(err)
}

type setVersionIn struct {
	ID   string `query:"id"`
	Body struct {
		VersionID string `json:"version_id"`
	}
}

func (m *Module) setVersion(c *web.Call, in setVersionIn) (jsondoc.Doc, error) {
	ctx := c.Context()
	old, err := m.versioned(c, in.ID)
	if err != nil {
		return nil, err
	}
	e, err := m.rows.Entry(ctx, in.ID, in.Body.VersionID)
	if err != nil {
		return nil, versionError(err)
	}
	f, bad := web.BindDoc[form](e.Snapshot.Set(jsondoc.Text(in.ID), "id"), nil)
	if len(bad) > 0 {
		return nil, errors.New("the version is malformed")
	}
	f.Params.ControlsSet = true // a version without controls means none
	if !c.IsAdmin() && old.BaseModelID != nil && f.BaseModelID.V == "" {
		return nil, errForbidden
	}
	if err := m.checkControls(c, &f, old); err != nil {
		return nil, err
	}
	if err := m.checkDependencies(c, &f); err != nil {
		return nil, err
	}
	if err := m.checkReferences(c, &f, nil); err != nil {
		return nil, err
	}
	var r models.Row
	err = m.DB.Tx(ctx, func(tx *store.Tx) error {
		current, err := rows.Read(ctx, tx, in.ID)
		if err != nil {
			return err
		}
		if err := models.Shape(&current, m.Env.Images); err != nil {
			return err
		}
		r, err = rows.Restore(ctx, tx, current, m.stored(&f), e.ID)
		return err
	})
	m.Catalog.Changed()
	if err != nil {
		return nil, versionError(err)
	}
	m.publish(c, "model.updated", in.ID, "name", r.Name, "version_id", r.VersionID)
	return m.answer(ctx, &r)
}
