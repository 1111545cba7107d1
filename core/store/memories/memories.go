// Package memories stores what the server remembers of its users: the table memory.
package memories

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// The types of memories.
const (
	User    = "user"    // facts about the user, preferences, instructions
	Context = "context" // anything else that later chats may need
)

// Memory is a row of the table memory. Times are Unix seconds.
type Memory struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Type      string      `json:"type"`
	Path      *string     `json:"path"` // names a group of memories, a/b/c; nil for none
	Content   string      `json:"content"`
	Meta      jsondoc.Doc `json:"meta"` // what made it: created_by, chat_id, …
	UpdatedAt int64       `json:"updated_at"`
	CreatedAt int64       `json:"created_at"`
}

// PathText is the path, "" for none.
func (m *Memory) PathText() string {
	if m.Path == nil {
		return ""
	}
	return *m.Path
}

// Store reads and writes memories.
type Store struct {
	db  *store.DB
	now func() int64
}

// New makes a Store.
func New(db *store.DB) *Store {
	return &Store{db: db, now: func() int64 { return time.Now().Unix() }}
}

const columns = "id, COALESCE(user_id, ''), COALESCE(type, 'context'), path, COALESCE(content, ''), meta, COALESCE(updated_at, 0), COALESCE(created_at, 0)"

func scan(r *sql.Rows) (m Memory, err error) {
	err = r.Scan(&m.ID, &m.UserID, &m.Type, &m.Path, &m.Content, &m.Meta, &m.UpdatedAt, &m.CreatedAt)
	return m, err
}

// order is that in which memories were made.
func order(d store.Dialect) string { return d.Pick("rowid", "created_at, ctid") }

// OfUser lists the memories of a user in the order in which they were made.
func (s *Store) OfUser(ctx context.Context, userID string) ([]Memory, error) {
	return ofUser(ctx, s.db, userID, "")
}

func ofUser(ctx context.Context, q store.Querier, userID, lock string) ([]Memory, error) {
	rows, err := q.Query(ctx, "SELECT "+columns+" FROM memory WHERE user_id = $1 ORDER BY "+order(q.Dialect())+lock, userID)
	return store.Collect(rows, err, scan)
}

// All lists the memories of all users, those of each together.
func (s *Store) All(ctx context.Context) ([]Memory, error) {
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM memory ORDER BY user_id, "+order(s.db.Dialect()))
	return store.Collect(rows, err, scan)
}

// Insert makes a memory; its id and times are set here.
func (s *Store) Insert(ctx context.Context, m Memory) (*Memory, error) {
	m.ID, m.CreatedAt = store.NewID(), s.now()
	m.UpdatedAt = m.CreatedAt
	return &m, put(ctx, s.db, []Memory{m})
}

// Change is what to change of a memory; nil members stay.
type Change struct {
	Content *string
	Type    *string
	Path    **string
	Meta    jsondoc.Doc // laid over what is there
}

func (c *Change) apply(m *Memory, now int64) {
	if c.Content != nil {
		m.Content = *c.Content
	}
	if c.Type != nil {
		m.Type = *c.Type
	}
	if c.Path != nil {
		m.Path = *c.Path
	}
	if c.Meta != nil {
		m.Meta = m.Meta.Or(jsondoc.Doc("{}")).Merge(c.Meta)
	}
	m.UpdatedAt = now
}

// Update changes a memory of a user; store.ErrNotFound where the user has no such memory.
func (s *Store) Update(ctx context.Context, userID, id string, c Change) (*Memory, error) {
	var m Memory
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		rows, err := tx.Query(ctx, "SELECT "+columns+" FROM memory WHERE id = $1 AND user_id = $2"+tx.Dialect().ForUpdate(), id, userID)
		list, err := store.Collect(rows, err, scan)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return store.ErrNotFound
		}
		m = list[0]
		c.apply(&m, s.now())
		return put(ctx, tx, []Memory{m})
	})
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Delete removes a memory of a user and says whether there was one.
func (s *Store) Delete(ctx context.Context, userID, id string) (bool, error) {
	n, err := store.Affected(s.db.Exec(ctx, "DELETE FROM memory WHERE id = $1 AND user_id = $2", id, userID))
	return n > 0, err
}

// DeleteAll removes all memories of a user.
func (s *Store) DeleteAll(ctx context.Context, userID string) error {
	_, err := s.db.Exec(ctx, "DELETE FROM memory WHERE user_id = $1", userID)
	return err
}

// The actions of operations.
const (
	Add     = "add"     // a new memory; one that says the same at the same place is kept instead
	Replace = "replace" // of content, path and, where one is given, type
	Move    = "move"    // to another path
	Remove  = "remove"
)

// Operation is one of several changes that are made together. Its fields are clean and complete for its action.
type Operation struct {
	Action  string
	ID      string // of the memory, but for Add
	Content string
	Type    string // "" lets it be with Replace
	Path    *string
	Meta    jsondoc.Doc
}

// Result is what came of an operation.
type Result struct {
	Action string
	Status string  // created, updated, deleted, or skipped for what is there already
	ID     string  // of a memory that was removed
	Memory *Memory // as it is now; nil for Remove
}

// MissingError says that the user has no such memory.
type MissingError struct{ ID string }

func (e *MissingError) Error() string { return "Memory not found: " + e.ID }

// Apply makes several changes to a user's memories, or none of them. A *MissingError names a memory that is not there.
func (s *Store) Apply(ctx context.Context, userID string, ops []Operation) (out []Result, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		list, err := ofUser(ctx, tx, userID, tx.Dialect().ForUpdate())
		if err != nil {
			return err
		}
		b := newBatch(userID, s.now(), list)
		out = make([]Result, len(ops))
		for i, op := range ops {
			if out[i], err = b.apply(op); err != nil {
				return err
			}
		}
		if err := put(ctx, tx, b.written()); err != nil {
			return err
		}
		return remove(ctx, tx, userID, b.removed)
	})
	return out, err
}

// batch are the memories of a user while operations change them.
type batch struct {
	userID  string
	now     int64
	list    []*Memory
	byID    map[string]*Memory
	touched map[*Memory]bool
	gone    map[string]bool
	removed []string
}

func newBatch(userID string, now int64, list []Memory) *batch {
	b := &batch{userID: userID, now: now, byID: make(map[string]*Memory, len(list)), touched: map[*Memory]bool{}, gone: map[string]bool{}}
	for i := range list {
		b.list = append(b.list, &list[i])
		b.byID[list[i].ID] = &list[i]
	}
	return b
}

func (b *batch) apply(op Operation) (Result, error) {
	r := Result{Action: op.Action}
	if op.Action == Add {
		if m := b.same(op); m != nil {
			r.Status = "skipped"
			return r.with(m), nil
		}
		m := &Memory{ID: store.NewID(), UserID: b.userID, Type: op.Type, Path: op.Path, Content: op.Content, Meta: op.Meta, CreatedAt: b.now, UpdatedAt: b.now}
		b.list, b.byID[m.ID], b.touched[m] = append(b.list, m), m, true
		r.Status = "created"
		return r.with(m), nil
	}
	m := b.byID[op.ID]
	if op.Action == Remove {
		if m == nil && !b.gone[op.ID] {
			return r, &MissingError{op.ID}
		}
		if m != nil {
			delete(b.byID, op.ID)
			delete(b.touched, m)
			b.gone[op.ID] = true
			b.removed = append(b.removed, op.ID)
		}
		r.Status, r.ID = "deleted", op.ID
		return r, nil
	}
	if m == nil {
		return r, &MissingError{op.ID}
	}
	c := Change{Path: &op.Path, Meta: op.Meta}
	if op.Action == Replace {
		c.Content = &op.Content
		if op.Type != "" {
			c.Type = &op.Type
		}
	}
	c.apply(m, b.now)
	b.touched[m] = true
	r.Status = "updated"
	return r.with(m), nil
}

// with is the result with a memory as it is at this point.
func (r Result) with(m *Memory) Result {
	now := *m
	r.Memory = &now
	return r
}

// same finds a memory that says what an operation would add.
func (b *batch) same(op Operation) *Memory {
	for _, m := range b.list {
		if m.Content == op.Content && m.Type == op.Type && (m.Path == nil) == (op.Path == nil) && (m.Path == nil || *m.Path == *op.Path) && !b.gone[m.ID] {
			return m
		}
	}
	return nil
}

func (b *batch) written() []Memory {
	var out []Memory
	for _, m := range b.list {
		if b.touched[m] {
			out = append(out, *m)
		}
	}
	return out
}

// maxRows bounds the rows of a statement: eight values each, of the 32767 that SQLite takes.
const maxRows = 1000

// put writes memories, over those of the same ids.
func put(ctx context.Context, q store.Querier, list []Memory) error {
	for len(list) > 0 {
		n := min(len(list), maxRows)
		var values strings.Builder
		args := make([]any, 0, 8*n)
		for i, m := range list[:n] {
			if i > 0 {
				values.WriteByte(',')
			}
			k := len(args)
			fmt.Fprintf(&values, "($%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d)", k+1, k+2, k+3, k+4, k+5, k+6, k+7, k+8)
			args = append(args, m.ID, m.UserID, m.Type, m.Path, m.Content, m.Meta, m.UpdatedAt, m.CreatedAt)
		}
		_, err := q.Exec(ctx, "INSERT INTO memory (id, user_id, type, path, content, meta, updated_at, created_at) VALUES "+values.String()+
			` ON CONFLICT (id) DO UPDATE SET type = excluded.type, path = excluded.path, content = excluded.content, meta = excluded.meta, updated_at = excluded.updated_at`, args...)
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func remove(ctx context.Context, q store.Querier, userID string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	in, args := store.In([]any{userID}, ids)
	_, err := q.Exec(ctx, "DELETE FROM memory WHERE user_id = $1 AND id IN "+in, args...)
	return err
}
