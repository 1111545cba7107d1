// Package groups stores groups of users, which form trees, and their members: the tables "group" and group_member. A
// member of a group is one of all groups above it too; such membership is called inherited.
package groups

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Group is a row of the table "group". Times are Unix seconds. One that was read is shared: it is not to be changed.
type Group struct {
	ParentID    *string     `json:"parent_group_id"`
	ID          string      `json:"id"`
	UserID      string      `json:"user_id"` // who made it
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Data        jsondoc.Doc `json:"data"` // config.share, config.default_models
	Meta        jsondoc.Doc `json:"meta"`
	Permissions jsondoc.Doc `json:"permissions"` // a tree as user.permissions; what it grants is added to the defaults
	CreatedAt   int64       `json:"created_at"`
	UpdatedAt   int64       `json:"updated_at"`
}

// DefaultModels are the ids that new chats of members begin with; nil where the group says nothing of it.
func (g *Group) DefaultModels() jsondoc.Doc {
	if d := g.Data.Get("config", "default_models"); d.Truthy() {
		return d
	}
	return nil
}

// Counted is a group with the number of its direct members.
type Counted struct {
	Group       `json:",inline"`
	MemberCount int `json:"member_count"`
}

// Store reads and writes groups. Its methods may be called at once.
type Store struct {
	db *store.DB

	mu        sync.RWMutex
	listeners []func(userIDs []string)
}

// New makes the store of a database.
func New(db *store.DB) *Store { return &Store{db: db} }

// OnChange has f called with the accounts whose groups, or whose groups' permissions, changed; nil means any. It is
// called on the writer's goroutine, after the commit, and must be quick.
func (s *Store) OnChange(f func(userIDs []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners[:len(s.listeners):len(s.listeners)], f)
}

func (s *Store) changed(userIDs []string) {
	s.mu.RLock()
	listeners := s.listeners
	s.mu.RUnlock()
	for _, f := range listeners {
		f(userIDs)
	}
}

const columns = `g.parent_group_id, g.id, COALESCE(g.user_id, ''), COALESCE(g.name, ''), COALESCE(g.description, ''), g.data, g.meta, g.permissions,
	COALESCE(g.created_at, 0), COALESCE(g.updated_at, 0)`

func (g *Group) fields(more ...any) []any {
	return append([]any{&g.ParentID, &g.ID, &g.UserID, &g.Name, &g.Description, &g.Data, &g.Meta, &g.Permissions, &g.CreatedAt, &g.UpdatedAt}, more...)
}

func scan(r store.Row) (*Group, error) {
	g := &Group{}
	if err := r.Scan(g.fields()...); err != nil {
		return nil, err
	}
	return g, nil
}

func scanRows(r *sql.Rows) (*Group, error) { return scan(r) }

// ByID finds a group; ErrNotFound where there is none.
func (s *Store) ByID(ctx context.Context, id string) (*Group, error) { return byID(ctx, s.db, id) }

func byID(ctx context.Context, q store.Querier, id string) (*Group, error) {
	return scan(q.QueryRow(ctx, `SELECT `+columns+` FROM "group" g WHERE g.id = $1`, id))
}

// CountedByID finds a group and the number of its direct members; ErrNotFound where there is none.
func (s *Store) CountedByID(ctx context.Context, id string) (*Counted, error) {
	return scanCounted(s.db.QueryRow(ctx, `SELECT `+columns+`, `+memberCount+` FROM "group" g WHERE g.id = $1`, id))
}

const memberCount = `(SELECT COUNT(*) FROM group_member m WHERE m.group_id = g.id)`

func scanCounted(r store.Row) (*Counted, error) {
	c := &Counted{}
	if err := r.Scan(c.fields(&c.MemberCount)...); err != nil {
		return nil, err
	}
	return c, nil
}

// ByIDs finds groups; those that are not there are missing.
func (s *Store) ByIDs(ctx context.Context, ids []string) ([]*Group, error) {
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM "group" g WHERE g.id IN `+in, args...)
	return store.Collect(rows, err, scanRows)
}

// Share says which groups a list holds, by who may share with them (data.config.share).
type Share uint8

// The kinds of lists of groups.
const (
	AnyShare  Share = iota // all
	Shareable              // those the user may share with: open to all, or to members and the user is one
	Unshared               // those nobody may share with
)

// Query says which groups List gives.
type Query struct {
	Text     string // part of the name, in any case; "%" and "_" are wildcards
	MemberID string // of whom the user is a member, be it inherited; with Shareable the one who wants to share
	Share    Share
}

// ancestors is a recursive query over the groups that a seed selects and those above.
const ancestors = `WITH RECURSIVE above(id) AS (%s UNION SELECT g.parent_group_id FROM "group" g JOIN above a ON g.id = a.id
	WHERE g.parent_group_id IS NOT NULL) `

func memberOf(placeholder string) string {
	return fmt.Sprintf(ancestors, "SELECT group_id FROM group_member WHERE user_id = "+placeholder) + "SELECT id FROM above"
}

// List gives groups, those changed last first.
func (s *Store) List(ctx context.Context, q Query) ([]*Counted, error) {
	d := s.db.Dialect()
	where, args := "1 = 1", []any(nil)
	if q.Text != "" {
		args = append(args, "%"+q.Text+"%")
		where += " AND " + d.Like("g.name", "$1")
	}
	// of those changed in one second the reference gives its tables' order, or where it looks up ids, theirs
	tie := d.Pick("g.rowid", "g.created_at, g.id")
	member := ""
	if q.MemberID != "" && q.Share != Unshared {
		args = append(args, q.MemberID)
		member = fmt.Sprintf("g.id IN (%s)", memberOf(fmt.Sprintf("$%d", len(args))))
	}
	share := "lower(" + d.Pick("CAST("+d.JSONText("g.data", "config.share")+" AS TEXT)", d.JSONText("g.data", "config.share")) + ")"
	switch q.Share {
	case Shareable:
		open := d.JSONIsNull("g.data") + " OR " + share + " IS NULL OR " + share + " IN ('true', '1')"
		if member != "" {
			open += " OR (" + share + " = 'members' AND " + member + ")"
		}
		where += " AND (" + open + ")"
	case Unshared:
		// Only the text counts on SQLite, where a JSON false is read as 0: as in the reference.
		where += " AND " + share + " = 'false'"
	default:
		if member != "" {
			where += " AND " + member
			tie = "g.id"
		}
	}
	rows, err := s.db.Query(ctx, `SELECT `+columns+`, `+memberCount+` FROM "group" g WHERE `+where+` ORDER BY g.updated_at DESC, `+tie, args...)
	return store.Collect(rows, err, func(r *sql.Rows) (*Counted, error) { return scanCounted(r) })
}

// OfUser gives the groups of a user, those changed last first; inherited adds those above them.
func (s *Store) OfUser(ctx context.Context, userID string, inherited bool) ([]*Group, error) {
	seed := "SELECT group_id FROM group_member WHERE user_id = $1"
	if inherited {
		seed = memberOf("$1")
	}
	rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM "group" g WHERE g.id IN (`+seed+`) ORDER BY g.updated_at DESC, g.id`, userID)
	return store.Collect(rows, err, scanRows)
}

// IDsOfUsers gives the ids of the direct groups of many users, by user, those changed last first.
func (s *Store) IDsOfUsers(ctx context.Context, userIDs []string) (map[string][]string, error) {
	in, args := store.In(nil, userIDs)
	rows, err := s.db.Query(ctx, `SELECT m.user_id, g.id FROM group_member m JOIN "group" g ON g.id = m.group_id
		WHERE m.user_id IN `+in+` ORDER BY g.updated_at DESC, g.id`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make(map[string][]string, len(userIDs))
	for rows.Next() {
		var user, group string
		if err := rows.Scan(&user, &group); err != nil {
			return nil, err
		}
		out[user] = append(out[user], group)
	}
	return out, rows.Err()
}

// Ancestors gives the ids of a group and of all above it, as far as they are there.
func (s *Store) Ancestors(ctx context.Context, id string) ([]string, error) {
	return ancestorIDs(ctx, s.db, id)
}

func ancestorIDs(ctx context.Context, q store.Querier, id string) ([]string, error) {
	rows, err := q.Query(ctx, fmt.Sprintf(ancestors, `SELECT id FROM "group" WHERE id = $1`)+"SELECT id FROM above", id)
	return store.Strings(rows, err)
}

// below is a recursive query over the groups that a seed selects and those below them.
const below = `WITH RECURSIVE below(id) AS (%s UNION SELECT g.id FROM "group" g JOIN below b ON g.parent_group_id = b.id) `

// UserIDs gives the direct members of a group, or with inherited also those of the groups below it.
func (s *Store) UserIDs(ctx context.Context, inherited bool, ids ...string) ([]string, error) {
	return memberIDs(ctx, s.db, inherited, ids...)
}

func memberIDs(ctx context.Context, q store.Querier, inherited bool, ids ...string) ([]string, error) {
	in, args := store.In(nil, ids)
	if !inherited {
		rows, err := q.Query(ctx, `SELECT DISTINCT user_id FROM group_member WHERE group_id IN `+in, args...)
		return store.Strings(rows, err)
	}
	rows, err := q.Query(ctx, fmt.Sprintf(below, `SELECT id FROM "group" WHERE id IN `+in)+
		`SELECT DISTINCT m.user_id FROM group_member m JOIN below b ON b.id = m.group_id`, args...)
	return store.Strings(rows, err)
}

// ByNames finds groups by their exact names.
func (s *Store) ByNames(ctx context.Context, names []string) ([]*Group, error) {
	in, args := store.In(nil, names)
	rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM "group" g WHERE g.name IN `+in, args...)
	return store.Collect(rows, err, scanRows)
}
