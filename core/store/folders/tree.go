package folders

import (
	"context"
	"database/sql"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// node is a folder without its documents.
type node struct {
	id, parent, name string
}

// tree is the shape of an owner's folders.
type tree struct {
	nodes    []node
	parent   map[string]string
	children map[string][]string
}

func (s *Store) tree(ctx context.Context, userID string) (*tree, error) {
	rows, err := s.db.Query(ctx, "SELECT f.id, COALESCE(f.parent_id, ''), f.name FROM folder f WHERE f.user_id = $1 ORDER BY "+s.insertion(), userID)
	nodes, err := store.Collect(rows, err, func(r *sql.Rows) (n node, err error) {
		err = r.Scan(&n.id, &n.parent, &n.name)
		return n, err
	})
	if err != nil {
		return nil, err
	}
	t := &tree{nodes: nodes, parent: make(map[string]string, len(nodes)), children: map[string][]string{}}
	for _, n := range nodes {
		t.parent[n.id] = n.parent
		if n.parent != "" {
			t.children[n.parent] = append(t.children[n.parent], n.id)
		}
	}
	return t, nil
}

// UnreadCounts gives the number of unread chats in each of an owner's folders and all below it. Archived chats and those
// whose answer is still being written do not count.
func (s *Store) UnreadCounts(ctx context.Context, userID string) (map[string]int, error) {
	t, err := s.tree(ctx, userID)
	if err != nil {
		return nil, err
	}
	return s.unread(ctx, userID, t.parent)
}

// UnreadCountsOf is UnreadCounts where the caller has all folders of the owner at hand.
func (s *Store) UnreadCountsOf(ctx context.Context, userID string, list []*Folder) (map[string]int, error) {
	parent := make(map[string]string, len(list))
	for _, f := range list {
		parent[f.ID] = ""
		if f.ParentID != nil {
			parent[f.ID] = *f.ParentID
		}
	}
	return s.unread(ctx, userID, parent)
}

const unreadSQL = `SELECT c.folder_id, COUNT(*) FROM chat c
	WHERE c.user_id = $1 AND c.folder_id IS NOT NULL AND c.archived = FALSE AND c.updated_at > COALESCE(c.last_read_at, 0)
	AND NOT EXISTS (SELECT 1 FROM chat_message m WHERE m.chat_id = c.id AND m.role = 'assistant' AND m.done = FALSE)
	GROUP BY c.folder_id`

func (s *Store) unread(ctx context.Context, userID string, parent map[string]string) (map[string]int, error) {
	counts := make(map[string]int, len(parent))
	if len(parent) == 0 {
		return counts, nil
	}
	for id := range parent {
		counts[id] = 0
	}
	rows, err := s.db.Query(ctx, unreadSQL, userID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		if _, ok := parent[id]; !ok {
			continue // somebody else's folder
		}
		for _, above := range lineage(parent, id) {
			if _, ok := counts[above]; ok {
				counts[above] += n
			}
		}
	}
	return counts, rows.Err()
}

// lineage is a folder and those above it, up to the root or to where a loop of parents closes.
func lineage(parent map[string]string, id string) []string {
	var out []string
	seen := map[string]bool{}
	for id != "" && !seen[id] {
		seen[id] = true
		out = append(out, id)
		id = parent[id]
	}
	return out
}

// Strays are the folders among an owner's whose parent is missing, or that are their own ancestors: no tree shows them.
// Looking at one takes those already found for roots, so that of a loop only one folder is a stray.
func Strays(list []*Folder) []*Folder {
	parent := make(map[string]string, len(list))
	for _, f := range list {
		parent[f.ID] = ""
		if f.ParentID != nil {
			parent[f.ID] = *f.ParentID
		}
	}
	var out []*Folder
	for _, f := range list {
		p := parent[f.ID]
		if p == "" {
			continue
		}
		if _, ok := parent[p]; ok && !loops(parent, f.ID) {
			continue
		}
		parent[f.ID] = ""
		out = append(out, f)
	}
	return out
}

func loops(parent map[string]string, id string) bool {
	line := lineage(parent, id)
	return parent[line[len(line)-1]] == id
}

// normalize makes names equal that the search takes for equal.
func normalize(name string) string {
	return strings.ToLower(strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '_' || isSpace(r) }), " "))
}
