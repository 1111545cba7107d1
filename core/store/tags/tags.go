// Package tags stores the names of chat tags: the table tag. Which chats have a tag stands in their meta.
package tags

import (
	"context"
	"database/sql"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Tag is a row of the table tag. The first spelling of a name stays.
type Tag struct {
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	UserID string      `json:"user_id"`
	Meta   jsondoc.Doc `json:"meta"`
}

// ID is the id of a tag with a name: lower case, spaces as underscores.
func ID(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "_")) }

func scan(r *sql.Rows) (t Tag, err error) {
	err = r.Scan(&t.ID, &t.Name, &t.UserID, &t.Meta)
	return t, err
}

const columns = "id, COALESCE(name, ''), user_id, meta"

// Of lists all tags of a user.
func Of(ctx context.Context, q store.Querier, userID string) ([]Tag, error) {
	rows, err := q.Query(ctx, "SELECT "+columns+" FROM tag WHERE user_id = $1", userID)
	return store.Collect(rows, err, scan)
}

// ByIDs lists those of a user's tags that have one of the ids.
func ByIDs(ctx context.Context, q store.Querier, userID string, ids []string) ([]Tag, error) {
	if len(ids) == 0 {
		return []Tag{}, nil
	}
	list, args := store.In([]any{userID}, ids)
	rows, err := q.Query(ctx, "SELECT "+columns+" FROM tag WHERE user_id = $1 AND id IN "+list, args...)
	return store.Collect(rows, err, scan)
}

// Ensure makes the tags that a user does not have yet.
func Ensure(ctx context.Context, q store.Querier, userID string, names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		id := ID(name)
		if seen[id] {
			continue
		}
		seen[id] = true
		if _, err := q.Exec(ctx, "INSERT INTO tag (id, name, user_id, meta) VALUES ($1, $2, $3, 'null') ON CONFLICT (id, user_id) DO NOTHING", id, name, userID); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes tags of a user by id.
func Delete(ctx context.Context, q store.Querier, userID string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	list, args := store.In([]any{userID}, ids)
	_, err := q.Exec(ctx, "DELETE FROM tag WHERE user_id = $1 AND id IN "+list, args...)
	return err
}
