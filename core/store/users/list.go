package users

import (
	"context"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// Query says which accounts List gives, and how. The zero value gives all of them, latest first; with a filter and no
// order they come as they were made.
type Query struct {
	Text      string   // part of the name or the address, in any case; "%" and "_" are wildcards
	ChannelID string   // members of a channel
	UserIDs   []string // of these, where there are any
	GroupIDs  []string // members of these groups or of groups below, where there are any
	Roles     []string // with one of these roles; those with "!" before are left out
	// OrderBy is name, email, created_at, last_active_at, updated_at, role, or group_id:ID (members first).
	OrderBy   string
	Direction string // "asc"; anything else is descending
	Skip      int
	Limit     int // 0 means all
}

// sortable are the columns that lists are sorted by.
var sortable = map[string]bool{"name": true, "email": true, "created_at": true, "last_active_at": true, "updated_at": true, "role": true}

// List gives accounts and their number without Skip and Limit.
func (s *Store) List(ctx context.Context, q Query) ([]*User, int, error) {
	d := s.db.Dialect()
	where, args := q.where(d)
	var total int
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM "user" u`+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count users: %w", err)
	}
	if total == 0 {
		return []*User{}, 0, nil
	}
	order, args := q.order(d, where != "", args)
	text := `SELECT ` + qualified + ` FROM "user" u` + where + order
	if q.Limit > 0 {
		args = append(args, q.Limit, q.Skip)
		text += fmt.Sprintf(" LIMIT $%d OFFSET $%d", len(args)-1, len(args))
	}
	rows, err := s.db.Query(ctx, text, args...)
	list, err := store.Collect(rows, err, scanRows)
	if err != nil {
		return nil, 0, fmt.Errorf("list users: %w", err)
	}
	return list, total, nil
}

func (q Query) where(d store.Dialect) (string, []any) {
	var parts []string
	var args []any
	if q.Text != "" {
		args = append(args, "%"+q.Text+"%")
		p := fmt.Sprintf("$%d", len(args))
		parts = append(parts, "("+d.Like("u.name", p)+" OR "+d.Like("u.email", p)+")")
	}
	if q.ChannelID != "" {
		args = append(args, q.ChannelID)
		parts = append(parts, fmt.Sprintf("EXISTS (SELECT 1 FROM channel_member m WHERE m.user_id = u.id AND m.channel_id = $%d)", len(args)))
	}
	var in string
	if len(q.UserIDs) > 0 {
		in, args = store.In(args, q.UserIDs)
		parts = append(parts, "u.id IN "+in)
	}
	if len(q.GroupIDs) > 0 {
		in, args = store.In(args, q.GroupIDs)
		parts = append(parts, `u.id IN (WITH RECURSIVE below(id) AS (SELECT id FROM "group" WHERE id IN `+in+
			` UNION SELECT g.id FROM "group" g JOIN below b ON g.parent_group_id = b.id)
			SELECT m.user_id FROM group_member m JOIN below b ON b.id = m.group_id)`)
	}
	var with, without []string
	for _, r := range q.Roles {
		if rest, not := strings.CutPrefix(r, "!"); not {
			without = append(without, rest)
		} else {
			with = append(with, r)
		}
	}
	if len(with) > 0 {
		in, args = store.In(args, with)
		parts = append(parts, "u.role IN "+in)
	}
	if len(without) > 0 {
		in, args = store.In(args, without)
		parts = append(parts, "u.role NOT IN "+in)
	}
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

func (q Query) order(d store.Dialect, filtered bool, args []any) (string, []any) {
	direction := " DESC"
	if q.Direction == "asc" {
		direction = " ASC"
	}
	// ties, and lists in no order, are in the order of insertion
	last := d.Pick("u.rowid", "u.created_at, u.id")
	column := "u." + q.OrderBy
	group, byGroup := strings.CutPrefix(q.OrderBy, "group_id:")
	switch {
	case byGroup:
		args = append(args, group)
		return fmt.Sprintf(` ORDER BY EXISTS (SELECT 1 FROM group_member m WHERE m.user_id = u.id AND m.group_id = $%d)`, len(args)) +
			direction + ", " + d.ByCodePoint("u.name") + ", " + last, args
	case sortable[q.OrderBy] && strings.HasSuffix(q.OrderBy, "_at"):
		return " ORDER BY " + column + direction + ", " + last, args
	case sortable[q.OrderBy]:
		return " ORDER BY " + d.ByCodePoint(column) + direction + ", " + last, args
	case !filtered:
		return " ORDER BY u.created_at DESC, " + last, args
	}
	return " ORDER BY " + last, args
}
