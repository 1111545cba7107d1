package prompts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// ErrNoVersion says that a prompt has no such version.
var ErrNoVersion = errors.New("no such version")

// Version is an earlier or current state of a prompt. CreatedAt is in Unix seconds.
type Version struct {
	ID        string      `json:"id"`
	PromptID  string      `json:"prompt_id"`
	ParentID  *string     `json:"parent_id"`
	Snapshot  jsondoc.Doc `json:"snapshot"` // name, content, command, data, meta, tags, access_grants
	UserID    string      `json:"user_id"`
	Message   *string     `json:"commit_message"`
	CreatedAt int64       `json:"created_at"`
}

// VersionBy is a version and who made it; nil where the account is gone.
type VersionBy struct {
	Version `json:",inline"`
	User    *Owner `json:"user"`
}

// HistoryPage is how many versions a page of a history holds.
const HistoryPage = 20

const versionColumns = "h.id, h.prompt_id, h.parent_id, h.snapshot, h.user_id, h.commit_message, h.created_at"

func scanVersion(r interface{ Scan(...any) error }, more ...any) (v Version, err error) {
	err = r.Scan(append([]any{&v.ID, &v.PromptID, &v.ParentID, &v.Snapshot, &v.UserID, &v.Message, &v.CreatedAt}, more...)...)
	return
}

func addVersion(ctx context.Context, tx *store.Tx, promptID string, parent *string, snapshot jsondoc.Doc, userID string, message *string, now int64) (string, error) {
	id := store.NewID()
	if _, err := tx.Exec(ctx, "INSERT INTO prompt_history (id, prompt_id, parent_id, snapshot, user_id, commit_message, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		id, promptID, parent, snapshot, userID, message, now); err != nil {
		return "", fmt.Errorf("add version of prompt %q: %w", promptID, err)
	}
	return id, nil
}

// newest orders versions, the latest first.
func newest(d store.Dialect) string {
	return " ORDER BY h.created_at DESC" + d.Pick(", h.rowid DESC", ", h.id DESC")
}

// latest is the version made last; nil for none.
func latest(ctx context.Context, tx *store.Tx, promptID string) (*string, error) {
	rows, err := tx.Query(ctx, "SELECT h.id FROM prompt_history h WHERE h.prompt_id = $1"+newest(tx.Dialect())+" LIMIT 1", promptID)
	ids, err := store.Strings(rows, err)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return &ids[0], nil
}

// History lists the versions of a prompt, latest first; pages count from 0.
func (s *Store) History(ctx context.Context, promptID string, page int) ([]VersionBy, error) {
	rows, err := s.db.Query(ctx, "SELECT "+versionColumns+`, u.id, u.name, u.role, u.email FROM prompt_history h LEFT JOIN "user" u ON u.id = h.user_id WHERE h.prompt_id = $1`+
		newest(s.db.Dialect())+" LIMIT $2 OFFSET $3", promptID, HistoryPage, max(0, page)*HistoryPage)
	out, err := store.Collect(rows, err, func(r *sql.Rows) (VersionBy, error) {
		var id, name, role, email sql.NullString
		v, err := scanVersion(r, &id, &name, &role, &email)
		by := VersionBy{Version: v}
		if id.Valid {
			by.User = &Owner{id.String, name.String, role.String, email.String}
		}
		return by, err
	})
	if err != nil {
		return nil, fmt.Errorf("history of prompt %q: %w", promptID, err)
	}
	return out, nil
}

// Version reads a version of a prompt; ErrNoVersion where there is none.
func (s *Store) Version(ctx context.Context, promptID, id string) (Version, error) {
	return version(ctx, s.db, promptID, id)
}

func version(ctx context.Context, q store.Querier, promptID, id string) (Version, error) {
	v, err := scanVersion(q.QueryRow(ctx, "SELECT "+versionColumns+" FROM prompt_history h WHERE h.prompt_id = $1 AND h.id = $2", promptID, id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return v, ErrNoVersion
	case err != nil:
		return v, fmt.Errorf("version of prompt %q: %w", promptID, err)
	}
	return v, nil
}

// Restore makes a version the one in use: name, content, data, meta and tags are its again, command and grants stay.
// ErrNoVersion says that there is none.
func (s *Store) Restore(ctx context.Context, promptID, id string) (*Prompt, error) {
	return s.edit(ctx, promptID, func(tx *store.Tx, p *Prompt) error {
		v, err := version(ctx, tx, promptID, id)
		if err != nil {
			return err
		}
		if name, ok := v.Snapshot.Get("name").AsText(); ok {
			p.Name = name
		}
		if content, ok := v.Snapshot.Get("content").AsText(); ok {
			p.Content = content
		}
		p.Data = v.Snapshot.Get("data").Or(p.Data)
		p.Meta = v.Snapshot.Get("meta").Or(p.Meta)
		p.Tags = v.Snapshot.Get("tags").Or(p.Tags)
		p.VersionID = &v.ID
		return nil
	})
}

// DeleteVersion removes a version of a prompt; those made from it get its parent. ErrNoVersion says that there is none.
func (s *Store) DeleteVersion(ctx context.Context, promptID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		v, err := version(ctx, tx, promptID, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE prompt_history SET parent_id = $1 WHERE parent_id = $2", v.ParentID, id); err != nil {
			return fmt.Errorf("children of a version: %w", err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM prompt_history WHERE id = $1", id); err != nil {
			return fmt.Errorf("delete version: %w", err)
		}
		return nil
	})
}
