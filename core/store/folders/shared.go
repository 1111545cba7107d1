package folders

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/store"
)

// Shared is a folder that is shared with or by a user, and the permission that the user has on it.
type Shared struct {
	*Folder
	Permission string
}

// SharedWith lists the folders that are shared with a user (directly, to one of the groups or to everybody) or by the
// user, those changed last first, then those below them. Owners and whoever has it on a folder above have Write.
func (s *Store) SharedWith(ctx context.Context, userID string, groupIDs []string) ([]Shared, error) {
	granted, err := s.granted(ctx, userID, groupIDs)
	if err != nil || len(granted) == 0 {
		return nil, err
	}
	ids := make([]string, 0, len(granted))
	for id := range granted {
		ids = append(ids, id)
	}
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, below("id IN "+in)+"SELECT "+columns+" FROM folder f JOIN below ON below.id = f.id AND below.user_id = f.user_id ORDER BY "+s.latest(), args...)
	all, err := store.Collect(rows, err, scanRows)
	if err != nil {
		return nil, fmt.Errorf("shared folders: %w", err)
	}
	return inherit(all, granted, userID), nil
}

// granted gives the highest permission on each folder that a grant names.
func (s *Store) granted(ctx context.Context, userID string, groupIDs []string) (map[string]string, error) {
	who, args := access.Viewer{UserID: userID, GroupIDs: groupIDs}.PrincipalsOf([]any{userID, ResourceType}, "g")
	rows, err := s.db.Query(ctx, "SELECT g.resource_id, MAX(g.permission) FROM access_grant g WHERE g.resource_type = $2 AND ("+who+
		" OR g.resource_id IN (SELECT id FROM folder WHERE user_id = $1)) GROUP BY g.resource_id", args...) // "write" > "read"
	type pair struct{ id, permission string }
	list, err := store.Collect(rows, err, func(r *sql.Rows) (p pair, err error) {
		err = r.Scan(&p.id, &p.permission)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("grants of folders: %w", err)
	}
	out := make(map[string]string, len(list))
	for _, p := range list {
		out[p.id] = p.permission
	}
	return out, nil
}

// inherit orders folders as the reference does: the granted ones, then what is below each, children before their parent.
func inherit(all []*Folder, granted map[string]string, userID string) []Shared {
	var out []Shared
	at := map[string]int{}
	children := map[string][]*Folder{}
	for _, f := range all {
		if f.ParentID != nil {
			children[*f.ParentID] = append(children[*f.ParentID], f)
		}
		if p, ok := granted[f.ID]; ok {
			if f.UserID == userID {
				p = Write
			}
			at[f.ID] = len(out)
			out = append(out, Shared{f, p})
		}
	}
	roots := out[:len(out):len(out)]
	for _, root := range roots {
		permission := granted[root.ID]
		if root.UserID == userID {
			permission = Write
		}
		seen := map[string]bool{root.ID: true}
		var walk func(f *Folder)
		walk = func(f *Folder) {
			for _, c := range children[f.ID] {
				if seen[c.ID] || c.UserID != root.UserID {
					continue
				}
				seen[c.ID] = true
				walk(c)
				if i, ok := at[c.ID]; !ok {
					at[c.ID] = len(out)
					out = append(out, Shared{c, permission})
				} else if permission == Write {
					out[i].Permission = Write // a weaker grant of its own does not hide what is inherited
				}
			}
		}
		walk(root.Folder)
	}
	return out
}
