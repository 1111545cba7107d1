package access

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/galleychat/galley/core/store"
)

// Reach is what a user or a group can see of a kind of resource.
type Reach struct {
	Items []Item `json:"items"`
	Total int    `json:"total"` // of all resources of the kind
}

// Item is a resource in short.
type Item struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// reachable are the kinds of resources that previews show. Models that are switched off do not count.
var reachable = []struct{ kind, query string }{
	{"model", `SELECT id, name, COALESCE(user_id, '') FROM model WHERE is_active`},
	{"knowledge", `SELECT id, name, COALESCE(user_id, '') FROM knowledge ORDER BY updated_at DESC`},
	{"tool", `SELECT id, name, COALESCE(user_id, '') FROM tool ORDER BY updated_at DESC`},
}

// ReachOf says which models, knowledge bases and tools ("model", "knowledge", "tool") somebody in some groups can read by
// ownership or grants. A user id of "" asks for the groups alone.
func (a *Access) ReachOf(ctx context.Context, userID string, groupIDs []string) (map[string]Reach, error) {
	out := make(map[string]Reach, len(reachable))
	for _, r := range reachable {
		reach, err := a.reach(ctx, userID, groupIDs, r.kind, r.query)
		if err != nil {
			return nil, fmt.Errorf("reach of %s: %w", r.kind, err)
		}
		out[r.kind] = reach
	}
	return out, nil
}

func (a *Access) reach(ctx context.Context, userID string, groupIDs []string, kind, query string) (Reach, error) {
	type owned struct {
		Item
		owner string
	}
	rows, err := a.db.Query(ctx, query)
	all, err := store.Collect(rows, err, func(r *sql.Rows) (o owned, err error) {
		err = r.Scan(&o.ID, &o.Name, &o.owner)
		return
	})
	if err != nil {
		return Reach{}, err
	}
	ids := make([]string, len(all))
	for i, o := range all {
		ids[i] = o.ID
	}
	granted, err := a.canAmong(ctx, Viewer{userID, groupIDs}, kind, ids, Read)
	if err != nil {
		return Reach{}, err
	}
	out := Reach{Items: []Item{}, Total: len(all)}
	for _, o := range all {
		if granted[o.ID] || userID != "" && o.owner == userID {
			out.Items = append(out.Items, o.Item)
		}
	}
	return out, nil
}
