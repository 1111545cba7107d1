package models

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Version is an earlier or current state of a model. CreatedAt is in Unix seconds.
type Version struct {
	ID        string  `json:"id"`
	ModelID   string  `json:"model_id"`
	ParentID  *string `json:"parent_id"`
	UserID    string  `json:"user_id"`
	Message   *string `json:"commit_message"`
	CreatedAt int64   `json:"created_at"`
	User      *Author `json:"user"`
}

// Author is who made a version; nil where the account is gone.
type Author struct {
	Name string `json:"name"`
}

// VersionEntry is a version with its content: name, base_model_id, params, meta.
type VersionEntry struct {
	Version
	Snapshot jsondoc.Doc `json:"snapshot"`
}

// HistoryPage is how many versions a page of a history holds.
const HistoryPage = 20

const versionColumns = "h.id, h.model_id, h.parent_id, h.user_id, h.commit_message, h.created_at, u.name"

func scanVersion(r interface{ Scan(...any) error }, more ...any) (Version, error) {
	var v Version
	var author sql.NullString
	err := r.Scan(append([]any{&v.ID, &v.ModelID, &v.ParentID, &v.UserID, &v.Message, &v.CreatedAt, &author}, more...)...)
	if author.String != "" {
		v.User = &Author{author.String}
	}
	return v, err
}

// History lists the versions of a model, latest first; pages count from 1.
func (s *Store) History(ctx context.Context, modelID string, page int) ([]Version, error) {
	rows, err := s.db.Query(ctx, "SELECT "+versionColumns+` FROM model_history h LEFT JOIN "user" u ON u.id = h.user_id WHERE h.model_id = $1 `+
		"ORDER BY h.created_at DESC, h.id DESC LIMIT $2 OFFSET $3", modelID, HistoryPage, (max(1, page)-1)*HistoryPage)
	out, err := store.Collect(rows, err, func(r *sql.Rows) (Version, error) { return scanVersion(r) })
	if err != nil {
		return nil, fmt.Errorf("history of model %q: %w", modelID, err)
	}
	return out, nil
}

// Entry reads one version of a model; ErrNoVersion where there is none.
func (s *Store) Entry(ctx context.Context, modelID, id string) (VersionEntry, error) {
	var e VersionEntry
	v, err := scanVersion(s.db.QueryRow(ctx, "SELECT "+versionColumns+`, h.snapshot FROM model_history h LEFT JOIN "user" u ON u.id = h.user_id `+
		"WHERE h.model_id = $1 AND h.id = $2", modelID, id), &e.Snapshot)
	e.Version = v
	switch {
	case errors.Is(err, store.ErrNotFound):
		return e, ErrNoVersion
	case err != nil:
		return e, fmt.Errorf("version of model %q: %w", modelID, err)
	}
	return e, nil
}

// DeleteVersion removes a version of a model; those made from it get its parent. ErrCurrentVersion and ErrNoVersion say
// why not.
func (s *Store) DeleteVersion(ctx context.Context, modelID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		m, err := Read(ctx, tx, modelID)
		if errors.Is(err, store.ErrNotFound) {
			return ErrNoVersion
		}
		if err != nil {
			return err
		}
		if m.VersionID != nil && *m.VersionID == id {
			return ErrCurrentVersion
		}
		var parent *string
		err = tx.QueryRow(ctx, "SELECT parent_id FROM model_history WHERE id = $1 AND model_id = $2", id, modelID).Scan(&parent)
		if errors.Is(err, store.ErrNotFound) {
			return ErrNoVersion
		}
		if err != nil {
			return fmt.Errorf("version of model %q: %w", modelID, err)
		}
		if _, err := tx.Exec(ctx, "UPDATE model_history SET parent_id = $1 WHERE model_id = $2 AND parent_id = $3", parent, modelID, id); err != nil {
			return fmt.Errorf("children of a version: %w", err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM model_history WHERE id = $1 AND model_id = $2", id, modelID); err != nil {
			return fmt.Errorf("delete version: %w", err)
		}
		return nil
	})
}

// Resource is what a model refers to.
type Resource struct {
	Owner  string
	Active bool
}

// resourceTables are the tables of what a model may refer to, and whether their rows can be switched off.
var resourceTables = map[string]bool{"knowledge": false, "note": false, "file": false, "skill": true, "tool": false, "function": true}

// Resource finds what a model refers to by its kind: knowledge, note, file, skill, tool or function. store.ErrNotFound
// where it is gone.
func (s *Store) Resource(ctx context.Context, kind, id string) (Resource, error) {
	switchable, ok := resourceTables[kind]
	if !ok {
		return Resource{}, fmt.Errorf("models refer to no %q", kind)
	}
	active := "TRUE"
	if switchable {
		active = "coalesce(is_active, TRUE)"
	}
	var r Resource
	err := s.db.QueryRow(ctx, "SELECT coalesce(user_id, ''), "+active+" FROM "+kind+" WHERE id = $1", id).Scan(&r.Owner, &r.Active)
	if err != nil {
		return r, fmt.Errorf("%s %q: %w", kind, id, err)
	}
	return r, nil
}
