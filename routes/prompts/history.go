package prompts

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	rows "github.com/galleychat/galley/core/store/prompts"
	"github.com/galleychat/galley/core/store/versions"
	"github.com/galleychat/galley/core/textdiff"
	"github.com/galleychat/galley/core/web"
)

type historyIn struct {
	idIn
	Page int `query:"page" default:"0"`
}

func (m *Module) history(c *web.Call, in historyIn) ([]rows.VersionBy, error) {
	p, err := m.allowed(c, in.ID, access.Read)
	if err != nil {
		return nil, err
	}
	return m.rows.History(c.Context(), p.ID, in.Page)
}

type versionIn struct {
	idIn
	HistoryID string `path:"history_id"`
}

// versionError is how a version that is not there, or has to stay, is answered.
func versionError(err error) error {
	switch {
	case errors.Is(err, versions.ErrNone):
		return errNotFound
	case errors.Is(err, versions.ErrCurrent):
		return web.Fail(http.StatusBadRequest, "Cannot delete the active production version")
	}
	return err
}

func (m *Module) version(c *web.Call, in versionIn) (rows.Version, error) {
	p, err := m.allowed(c, in.ID, access.Read)
	if err != nil {
		return rows.Version{}, err
	}
	v, err := m.rows.Version(c.Context(), p.ID, in.HistoryID)
	return v, versionError(err)
}

func (m *Module) deleteVersion(c *web.Call, in versionIn) (bool, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return false, err
	}
	err = m.rows.DeleteVersion(c.Context(), p.ID, in.HistoryID)
	return err == nil, versionError(err)
}

type diffIn struct {
	idIn
	From string `query:"from_id"`
	To   string `query:"to_id"`
}

type diffAnswer struct {
	FromID          string      `json:"from_id"`
	ToID            string      `json:"to_id"`
	From            jsondoc.Doc `json:"from_snapshot"`
	To              jsondoc.Doc `json:"to_snapshot"`
	Content         []string    `json:"content_diff"` // unified, without line ends
	LineEndingsOnly bool        `json:"line_endings_only"`
	NameChanged     bool        `json:"name_changed"`
}

func (m *Module) diff(c *web.Call, in diffIn) (*diffAnswer, error) {
	p, err := m.allowed(c, in.ID, access.Read)
	if err != nil {
		return nil, err
	}
	from, err := m.rows.Version(c.Context(), p.ID, in.From)
	if err != nil {
		return nil, versionError(err)
	}
	to, err := m.rows.Version(c.Context(), p.ID, in.To)
	if err != nil {
		return nil, versionError(err)
	}
	a, b := from.Snapshot.Text("content"), to.Snapshot.Text("content")
	lines, err := textdiff.Unified(a, b, "v"+short(from.ID), "v"+short(to.ID))
	if err != nil {
		return nil, err
	}
	return &diffAnswer{from.ID, to.ID, from.Snapshot, to.Snapshot, lines, len(lines) == 0 && a != b,
		from.Snapshot.Text("name") != to.Snapshot.Text("name")}, nil
}

func short(id string) string { return id[:min(8, len(id))] }
