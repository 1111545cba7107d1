// Package folders stores the folders that users keep chats in (the table folder), which form trees, and says who may
// read and write them.
//
// Folders are private to their owner unless shared by access grants (resource type "folder"); a grant holds for all
// folders below too. What an editor makes in a shared folder belongs to the folder's owner, so that a tree has one owner.
package folders

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// ResourceType is what access grants call a folder.
const ResourceType = "folder"

// Folder is a row of the table folder, in the order and with the members that the reference answers with. Times are
// Unix seconds.
type Folder struct {
	ID         string      `json:"id"`
	ParentID   *string     `json:"parent_id"` // may name a folder that is not there
	UserID     string      `json:"user_id"`   // the owner
	Name       string      `json:"name"`
	Items      jsondoc.Doc `json:"items"`
	Meta       jsondoc.Doc `json:"meta"` // icon, …
	Data       jsondoc.Doc `json:"data"` // system_prompt, files, model_ids, share_mode, …
	IsExpanded bool        `json:"is_expanded"`
	CreatedAt  int64       `json:"created_at"`
	UpdatedAt  int64       `json:"updated_at"`
}

// SystemPrompt is the text that goes before a chat's own system prompt, "" for none.
func (f *Folder) SystemPrompt() string { return f.Data.Text("system_prompt") }

// Files are the entries {type: file|collection|note, id, …} that every chat of the folder has attached.
func (f *Folder) Files() []jsondoc.Doc { return f.Data.Get("files").List() }

// Continues says whether readers of the folder may go on writing in its chats (share_mode "continue").
func (f *Folder) Continues() bool { return f.Data.Text("share_mode") == "continue" }

// Store reads and writes folders. Its methods may be called at once.
type Store struct {
	db  *store.DB
	now func() time.Time
}

// New makes the store of a database.
func New(db *store.DB) *Store { return &Store{db: db, now: time.Now} }

const columns = "f.id, f.parent_id, f.user_id, f.name, f.items, f.meta, f.data, f.is_expanded, f.created_at, f.updated_at"

func scan(r store.Row) (*Folder, error) {
	f := &Folder{}
	if err := r.Scan(&f.ID, &f.ParentID, &f.UserID, &f.Name, &f.Items, &f.Meta, &f.Data, &f.IsExpanded, &f.CreatedAt, &f.UpdatedAt); err != nil {
		return nil, err
	}
	return f, nil
}

func scanRows(r *sql.Rows) (*Folder, error) { return scan(r) }

// Get finds a folder, whoever owns it; store.ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, id string) (*Folder, error) {
	return scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM folder f WHERE f.id = $1", id))
}

// GetOwned is Get for the folder's owner; store.ErrNotFound for anybody else.
func (s *Store) GetOwned(ctx context.Context, id, userID string) (*Folder, error) {
	return scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM folder f WHERE f.id = $1 AND f.user_id = $2", id, userID))
}

// insertion is the order in which rows were made: that of the reference's lists, which sort by nothing.
func (s *Store) insertion() string { return s.db.Dialect().Pick("f.rowid", "f.created_at, f.ctid") }

// latest is the order of siblings: those changed last first.
func (s *Store) latest() string { return "f.updated_at DESC, " + s.insertion() }

// ByUser lists the folders of an owner, oldest first.
func (s *Store) ByUser(ctx context.Context, userID string) ([]*Folder, error) {
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM folder f WHERE f.user_id = $1 ORDER BY "+s.insertion(), userID)
	return store.Collect(rows, err, scanRows)
}

// Children lists an owner's folders right below a parent ("" for the roots), those changed last first.
func (s *Store) Children(ctx context.Context, parentID, userID string) ([]*Folder, error) {
	text, args := "SELECT "+columns+" FROM folder f WHERE f.user_id = $1 AND f.parent_id IS NULL", []any{userID}
	if parentID != "" {
		text, args = "SELECT "+columns+" FROM folder f WHERE f.user_id = $1 AND f.parent_id = $2", append(args, parentID)
	}
	rows, err := s.db.Query(ctx, text+" ORDER BY "+s.latest(), args...)
	return store.Collect(rows, err, scanRows)
}

// below is a recursive query over the folders that a seed selects and all below them that have the same owner. A loop of
// parents ends it, as UNION drops what was seen.
func below(seed string) string {
	return "WITH RECURSIVE below(id, user_id) AS (SELECT id, user_id FROM folder WHERE " + seed +
		" UNION SELECT c.id, c.user_id FROM folder c JOIN below b ON c.parent_id = b.id AND c.user_id = b.user_id) "
}

// Subtree gives the ids of an owner's folder and of all folders below; none where the owner has no such folder.
func (s *Store) Subtree(ctx context.Context, id, userID string) ([]string, error) {
	return subtree(ctx, s.db, id, userID)
}

func subtree(ctx context.Context, q store.Querier, id, userID string) ([]string, error) {
	rows, err := q.Query(ctx, below("id = $1 AND user_id = $2")+"SELECT id FROM below", id, userID)
	return store.Strings(rows, err)
}

// Named finds the folder of that name (in any ASCII case) among siblings; store.ErrNotFound where there is none.
func (s *Store) Named(ctx context.Context, parentID *string, userID, name string) (*Folder, error) {
	text, args := "f.parent_id IS NULL", []any{userID, name}
	if parentID != nil {
		text, args = "f.parent_id = $3", append(args, *parentID)
	}
	return scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM folder f WHERE f.user_id = $1 AND lower(f.name) = lower($2) AND "+text+
		" ORDER BY "+s.insertion()+" LIMIT 1", args...))
}

// SearchNames gives the ids of an owner's folders that have one of the names, and of all below them: the "folder:" words
// of the chat search. Case, and the difference between "_" and white space, do not count.
func (s *Store) SearchNames(ctx context.Context, userID string, names []string) ([]string, error) {
	want := map[string]bool{}
	for _, n := range names {
		want[normalize(n)] = true
	}
	if len(want) == 0 {
		return nil, nil
	}
	tree, err := s.tree(ctx, userID)
	if err != nil {
		return nil, err
	}
	var out []string
	seen := map[string]bool{}
	var add func(id string)
	add = func(id string) {
		if seen[id] {
			return
		}
		seen[id] = true
		out = append(out, id)
		for _, child := range tree.children[id] {
			add(child)
		}
	}
	for _, n := range tree.nodes {
		if want[normalize(n.name)] {
			add(n.id)
		}
	}
	return out, nil
}

// IsMissing says whether an error means that there is no such folder, or none for the user who asked.
func IsMissing(err error) bool { return errors.Is(err, store.ErrNotFound) }
