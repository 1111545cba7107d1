package tools

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Errors of versions.
var (
	ErrNoVersion      = errors.New("no such version")
	ErrCurrentVersion = errors.New("the version is the current one")
	ErrOtherVersion   = errors.New("the version holds something else")
)

// Version is an earlier or current state of a tool. CreatedAt is in Unix seconds.
type Version struct {
	ID        string  `json:"id"`
	ToolID    string  `json:"tool_id"`
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

// VersionEntry is a version with its content: name, content, meta.
type VersionEntry struct {
	Version  `json:",inline"`
	Snapshot jsondoc.Doc `json:"snapshot"`
}

// HistoryPage is how many versions a page of a history holds.
const HistoryPage = 20

const (
	versionColumns = "h.id, h.tool_id, h.parent_id, h.user_id, h.commit_message, h.created_at, u.name"
	versionTables  = ` FROM tool_history h LEFT JOIN "user" u ON u.id = h.user_id WHERE h.tool_id = $1`
)

func scanVersion(r interface{ Scan(...any) error }, more ...any) (v Version, err error) {
	var author sql.NullString
	err = r.Scan(append([]any{&v.ID, &v.ToolID, &v.ParentID, &v.UserID, &v.Message, &v.CreatedAt, &author}, more...)...)
	if author.String != "" {
		v.User = &Author{author.String}
	}
	return v, err
}

func addVersion(ctx context.Context, tx *store.Tx, toolID string, parent *string, snapshot jsondoc.Doc, userID string, message *string, now int64) (string, error) {
	id := store.NewID()
	if parent != nil && *parent == "" {
		parent = nil
	}
	_, err := tx.Exec(ctx, "INSERT INTO tool_history (id, tool_id, parent_id, snapshot, user_id, commit_message, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		id, toolID, parent, snapshot, userID, message, now)
	if err != nil {
		return "", fmt.Errorf("add version of tool %q: %w", toolID, err)
	}
	return id, nil
}

// History lists the versions of a tool, latest first; pages count from 1.
func (s *Store) History(ctx context.Context, toolID string, page int) ([]Version, error) {
	rows, err := s.db.Query(ctx, "SELECT "+versionColumns+versionTables+" ORDER BY h.created_at DESC, h.id DESC LIMIT $2 OFFSET $3", toolID, HistoryPage, (max(1, page)-1)*HistoryPage)
	out, err := store.Collect(rows, err, func(r *sql.Rows) (Version, error) { return scanVersion(r) })
	if err != nil {
		return nil, fmt.Errorf("history of tool %q: %w", toolID, err)
	}
	return out, nil
}

// Version reads a version of a tool; ErrNoVersion where there is none.
func (s *Store) Version(ctx context.Context, toolID, id string) (VersionEntry, error) {
	return version(ctx, s.db, toolID, id)
}

func version(ctx context.Context, q store.Querier, toolID, id string) (e VersionEntry, err error) {
	e.Version, err = scanVersion(q.QueryRow(ctx, "SELECT "+versionColumns+", h.snapshot"+versionTables+" AND h.id = $2", toolID, id), &e.Snapshot)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return e, ErrNoVersion
	case err != nil:
		return e, fmt.Errorf("version of tool %q: %w", toolID, err)
	}
	return e, nil
}

// DeleteVersion removes a version of a tool; those made from it get its parent. ErrNoVersion and ErrCurrentVersion say why
// it does not.
func (s *Store) DeleteVersion(ctx context.Context, toolID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		var current sql.NullString
		err := tx.QueryRow(ctx, "SELECT version_id FROM tool WHERE id = $1"+tx.Dialect().ForUpdate(), toolID).Scan(&current)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return ErrNoVersion
		case err != nil:
			return fmt.Errorf("delete version: %w", err)
		case current.Valid && current.String == id:
			return ErrCurrentVersion
		}
		v, err := version(ctx, tx, toolID, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE tool_history SET parent_id = $1 WHERE tool_id = $2 AND parent_id = $3", v.ParentID, toolID, id); err != nil {
			return fmt.Errorf("children of a version: %w", err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM tool_history WHERE id = $1", id); err != nil {
			return fmt.Errorf("delete version: %w", err)
		}
		return nil
	})
}
