package tools

import (
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	rows "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/store/versions"
	"github.com/galleychat/galley/core/textdiff"
	"github.com/galleychat/galley/core/web"
)

// versioned reads a tool for those who may see its versions: who may change it.
func (m *Module) versioned(c *web.Call, id string) (*rows.Tool, error) {
	t, err := m.find(c, id, web.Fail(http.StatusNotFound, "Not found"))
	if err != nil || m.free(c) {
		return t, err
	}
	if ok, err := m.granted(c, t, access.Write); err != nil || !ok {
		return nil, either(err, errProhibited)
	}
	return t, nil
}

// versionError is how a version that is not there, or must stay, is answered.
func versionError(err error) error {
	switch {
	case errors.Is(err, versions.ErrNone):
		return web.Fail(http.StatusNotFound, "Version not found")
	case errors.Is(err, versions.ErrCurrent):
		return web.Fail(http.StatusBadRequest, "Cannot delete the current version")
	}
	return err
}

type historyIn struct {
	idIn
	Page int `query:"page" default:"1"`
}

func (m *Module) history(c *web.Call, in historyIn) ([]rows.Version, error) {
	t, err := m.versioned(c, in.ID)
	if err != nil {
		return nil, err
	}
	return m.Python.Rows.History(c.Context(), t.ID, in.Page)
}

type versionIn struct {
	idIn
	HistoryID string `path:"history_id"`
}

func (m *Module) version(c *web.Call, in versionIn) (rows.VersionEntry, error) {
	t, err := m.versioned(c, in.ID)
	if err != nil {
		return rows.VersionEntry{}, err
	}
	v, err := m.Python.Rows.Version(c.Context(), t.ID, in.HistoryID)
	return v, versionError(err)
}

func (m *Module) deleteVersion(c *web.Call, in versionIn) (bool, error) {
	t, err := m.versioned(c, in.ID)
	if err != nil {
		return false, err
	}
	err = m.Python.Rows.DeleteVersion(c.Context(), t.ID, in.HistoryID)
	return err == nil, versionError(err)
}

type diffIn struct {
	idIn
	From string `query:"from_id"`
	To   string `query:"to_id"`
}

type diffAnswer struct {
	FromID          string `json:"from_id"`
	ToID            string `json:"to_id"`
	Metadata        web.M  `json:"metadata"`     // what else differs
	Content         string `json:"content_diff"` // unified
	LineEndingsOnly bool   `json:"line_endings_only"`
}

func (m *Module) diff(c *web.Call, in diffIn) (*diffAnswer, error) {
	t, err := m.versioned(c, in.ID)
	if err != nil {
		return nil, err
	}
	from, err := m.Python.Rows.Version(c.Context(), t.ID, in.From)
	if err != nil {
		return nil, versionError(err)
	}
	to, err := m.Python.Rows.Version(c.Context(), t.ID, in.To)
	if err != nil {
		return nil, versionError(err)
	}
	metadata := web.M{}
	for _, name := range []string{"name", "meta"} {
		before, after := from.Snapshot.Get(name).Or(jsondoc.Doc("null")), to.Snapshot.Get(name).Or(jsondoc.Doc("null"))
		if !jsondoc.Same(before, after) {
			metadata[name] = web.M{"before": before, "after": after}
		}
	}
	a, b := from.Snapshot.Text("content"), to.Snapshot.Text("content")
	lines, err := textdiff.Unified(a, b, "selected.py", "production.py")
	if err != nil {
		return nil, err
	}
	return &diffAnswer{from.ID, to.ID, metadata, strings.Join(lines, "\n"), len(lines) == 0 && a != b}, nil
}

type setVersionIn struct {
	idIn
	Body struct {
		VersionID string `json:"version_id"`
	}
}

func (m *Module) setVersion(c *web.Call, in setVersionIn) (*whole, error) {
	t, err := m.versioned(c, in.ID)
	if err != nil {
		return nil, err
	}
	v, err := m.Python.Rows.Version(c.Context(), t.ID, in.Body.VersionID)
	if err != nil {
		return nil, versionError(err)
	}
	saved, problems := web.BindDoc[form](v.Snapshot.Set(jsondoc.Text(t.ID), "id"), nil)
	if len(problems) > 0 {
		return nil, web.Fail(http.StatusBadRequest, problems[0].Msg)
	}
	return m.change(c, t, &saved, v.ID)
}
