package groups

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/store"
)

// Member is a member of a group and how it came to be one.
type Member struct {
	UserID string
	Direct bool
	Via    []string // groups below, sorted, of which the user is a direct member
}

// MembersQuery says which members a page holds.
type MembersQuery struct {
	Membership string // direct, inherited (and not direct) or effective (both)
	Text       string // part of the name or address, in any case
	Skip       int
	Limit      int
}

// MembersPage is a page of members, and how many there are.
type MembersPage struct {
	Items             []Member // by name
	Total             int      // without Skip and Limit
	Direct, Effective int      // of the group, whatever the query
}

// Members gives a page of the members of a group and the groups below it.
func (s *Store) Members(ctx context.Context, id string, q MembersQuery) (*MembersPage, error) {
	p := &MembersPage{}
	effective := fmt.Sprintf(below, `SELECT id FROM "group" WHERE id = $1`) + `, effective(user_id) AS
		(SELECT DISTINCT m.user_id FROM group_member m JOIN below b ON b.id = m.group_id) `
	if err := s.db.QueryRow(ctx, effective+`SELECT (SELECT COUNT(*) FROM group_member WHERE group_id = $1), (SELECT COUNT(*) FROM effective)`, id).
		Scan(&p.Direct, &p.Effective); err != nil {
		return nil, fmt.Errorf("count members: %w", err)
	}
	d := s.db.Dialect()
	const direct = "(SELECT user_id FROM group_member WHERE group_id = $1)"
	where := "u.id IN (SELECT user_id FROM effective)"
	switch q.Membership {
	case "direct":
		where += " AND u.id IN " + direct
	case "inherited":
		where += " AND u.id NOT IN " + direct
	}
	args := []any{id}
	if q.Text != "" {
		args = append(args, "%"+q.Text+"%")
		where += " AND (" + d.Like("u.name", "$2") + " OR " + d.Like("u.email", "$2") + ")"
	}
	if err := s.db.QueryRow(ctx, effective+`SELECT COUNT(*) FROM "user" u WHERE `+where, args...).Scan(&p.Total); err != nil {
		return nil, fmt.Errorf("count members: %w", err)
	}
	args = append(args, q.Limit, q.Skip)
	rows, err := s.db.Query(ctx, effective+`SELECT u.id FROM "user" u WHERE `+where+` ORDER BY `+d.ByCodePoint("u.name")+
		fmt.Sprintf(", u.id LIMIT $%d OFFSET $%d", len(args)-1, len(args)), args...)
	ids, err := store.Strings(rows, err)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	p.Items = make([]Member, len(ids))
	at := make(map[string]*Member, len(ids))
	for i, u := range ids {
		p.Items[i] = Member{UserID: u, Via: []string{}}
		at[u] = &p.Items[i]
	}
	return p, s.sources(ctx, id, ids, at)
}

// sources fills in of which groups the members are direct ones.
func (s *Store) sources(ctx context.Context, id string, userIDs []string, at map[string]*Member) error {
	in, args := store.In([]any{id}, userIDs)
	rows, err := s.db.Query(ctx, fmt.Sprintf(below, `SELECT id FROM "group" WHERE id = $1`)+
		`SELECT m.user_id, m.group_id FROM group_member m JOIN below b ON b.id = m.group_id WHERE m.user_id IN `+in+` ORDER BY m.group_id`, args...)
	if err != nil {
		return fmt.Errorf("member sources: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var user, group string
		if err := rows.Scan(&user, &group); err != nil {
			return err
		}
		if m := at[user]; group == id {
			m.Direct = true
		} else {
			m.Via = append(m.Via, group)
		}
	}
	return rows.Err()
}

// Users gives the direct members of a group as ids, in the order they joined.
func (s *Store) Users(ctx context.Context, id string) ([]string, error) {
	rows, err := s.db.Query(ctx, `SELECT user_id FROM group_member WHERE group_id = $1 ORDER BY created_at, `+
		s.db.Dialect().Pick("rowid", "id"), id)
	return store.Strings(rows, err)
}
