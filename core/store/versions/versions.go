// Package versions keeps the states that models, prompts, tools and other things which people edit have had: the tables
// KIND_history, which are alike but for the column KIND_id.
package versions

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
	ErrNone    = errors.New("no such version")
	ErrCurrent = errors.New("the version is the current one")
)

// PageSize is how many versions a page of a history holds.
const PageSize = 20

// Kind is what has versions.
type Kind struct {
	Name string // of its table: "model"
	// Inserted orders versions of one second by when they were inserted, where the database can tell; by id otherwise.
	Inserted bool
}

// Version is an earlier or current state. CreatedAt is in Unix seconds.
type Version struct {
	ID        string  `json:"id"`
	ParentID  *string `json:"parent_id"`
	UserID    string  `json:"user_id"`
	Message   *string `json:"commit_message"`
	CreatedAt int64   `json:"created_at"`
}

// Author is who made a version.
type Author struct{ ID, Name, Role, Email string }

// Entry is a version with its content and its author, nil where the account is gone.
type Entry struct {
	Version
	Snapshot jsondoc.Doc
	Author   *Author
}

// Named is an author of whom only the name is shown.
type Named struct {
	Name string `json:"name"`
}

// By is who made the version; nil where the account is gone or has no name.
func (e *Entry) By() *Named {
	if e.Author == nil || e.Author.Name == "" {
		return nil
	}
	return &Named{e.Author.Name}
}

func (k Kind) table() string  { return k.Name + "_history" }
func (k Kind) column() string { return k.Name + "_id" }

// from reads the versions of what $1 names.
func (k Kind) from() string {
	return `SELECT h.id, h.parent_id, h.user_id, h.commit_message, h.created_at, h.snapshot, u.id, u.name, u.role, u.email FROM ` +
		k.table() + ` h LEFT JOIN "user" u ON u.id = h.user_id WHERE h.` + k.column() + " = $1"
}

// newest orders the latest first.
func (k Kind) newest(d store.Dialect) string {
	if k.Inserted {
		return " ORDER BY h.created_at DESC, " + d.Pick("h.rowid", "h.id") + " DESC"
	}
	return " ORDER BY h.created_at DESC, h.id DESC"
}

func scan(r store.Row) (e Entry, err error) {
	var id, name, role, email sql.NullString
	err = r.Scan(&e.ID, &e.ParentID, &e.UserID, &e.Message, &e.CreatedAt, &e.Snapshot, &id, &name, &role, &email)
	if id.Valid {
		e.Author = &Author{id.String, name.String, role.String, email.String}
	}
	return e, err
}

// Add stores a version and gives its id. CreatedAt is to be set, ID is not.
func (k Kind) Add(ctx context.Context, q store.Querier, of string, v Version, snapshot jsondoc.Doc) (string, error) {
	id := store.NewID()
	if v.ParentID != nil && *v.ParentID == "" {
		v.ParentID = nil
	}
	_, err := q.Exec(ctx, "INSERT INTO "+k.table()+" (id, "+k.column()+", parent_id, snapshot, user_id, commit_message, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		id, of, v.ParentID, snapshot, v.UserID, v.Message, v.CreatedAt)
	if err != nil {
		return "", fmt.Errorf("add version of %s %q: %w", k.Name, of, err)
	}
	return id, nil
}

// List gives a page of the versions of something, latest first; pages count from 0.
func (k Kind) List(ctx context.Context, q store.Querier, of string, page int) ([]Entry, error) {
	rows, err := q.Query(ctx, k.from()+k.newest(q.Dialect())+" LIMIT $2 OFFSET $3", of, PageSize, max(0, page)*PageSize)
	out, err := store.Collect(rows, err, func(r *sql.Rows) (Entry, error) { return scan(r) })
	if err != nil {
		return nil, fmt.Errorf("history of %s %q: %w", k.Name, of, err)
	}
	return out, nil
}

// Get reads a version; ErrNone where there is none.
func (k Kind) Get(ctx context.Context, q store.Querier, of, id string) (Entry, error) {
	e, err := scan(q.QueryRow(ctx, k.from()+" AND h.id = $2", of, id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return e, ErrNone
	case err != nil:
		return e, fmt.Errorf("version of %s %q: %w", k.Name, of, err)
	}
	return e, nil
}

// Latest is the id of the version made last; nil for none.
func (k Kind) Latest(ctx context.Context, q store.Querier, of string) (*string, error) {
	rows, err := q.Query(ctx, "SELECT h.id FROM "+k.table()+" h WHERE h."+k.column()+" = $1"+k.newest(q.Dialect())+" LIMIT 1", of)
	ids, err := store.Strings(rows, err)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return &ids[0], nil
}

// Delete removes a version unless it is the one in use; those made from it get its parent. ErrNone and ErrCurrent say why
// it does not.
func (k Kind) Delete(ctx context.Context, tx *store.Tx, of, id string) error {
	var current sql.NullString
	err := tx.QueryRow(ctx, "SELECT version_id FROM "+k.Name+" WHERE id = $1"+tx.Dialect().ForUpdate(), of).Scan(&current)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNone
	case err != nil:
		return fmt.Errorf("version of %s %q: %w", k.Name, of, err)
	case current.Valid && current.String == id:
		return ErrCurrent
	}
	e, err := k.Get(ctx, tx, of, id)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE "+k.table()+" SET parent_id = $1 WHERE "+k.column()+" = $2 AND parent_id = $3", e.ParentID, of, id); err != nil {
		return fmt.Errorf("children of a version: %w", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM "+k.table()+" WHERE id = $1 AND "+k.column()+" = $2", id, of); err != nil {
		return fmt.Errorf("delete version: %w", err)
	}
	return nil
}

// Clear removes all versions of things.
func (k Kind) Clear(ctx context.Context, q store.Querier, of ...string) error {
	in, args := store.In(nil, of)
	if _, err := q.Exec(ctx, "DELETE FROM "+k.table()+" WHERE "+k.column()+" IN "+in, args...); err != nil {
		return fmt.Errorf("versions of %ss: %w", k.Name, err)
	}
	return nil
}
