package groups

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store"
)

// attributes are those of SCIM's groups, for a provider of external ids.
func attributes(d store.Dialect, provider string) scim.Table {
	return scim.Table{
		"id":          scim.One(scim.Column{SQL: "g.id", Kind: scim.Exact}),
		"displayname": scim.One(scim.Column{SQL: "g.name", Kind: scim.Text}),
		"externalid": scim.One(scim.Column{
			SQL: d.Pick("json_extract("+d.JSON("g.data")+", ?)", "g.data #>> CAST(? AS TEXT[])"),
			Args: []any{d.Pick("$.scim."+string(jsondoc.Text(provider))+".external_id",
				"{scim,"+string(jsondoc.Text(provider))+",external_id}")},
			Kind: scim.Exact,
		}),
		"members": {
			Default: "value",
			Parts: map[string]scim.Column{"value": {SQL: "u.id", Kind: scim.Exact}, "display": {SQL: "u.name", Kind: scim.Text},
				"type": {SQL: "'User'", Kind: scim.Text}},
			Each: `EXISTS (SELECT 1 FROM group_member m JOIN "user" u ON u.id = m.user_id WHERE m.group_id = g.id AND %s)`,
		},
		"meta": {Parts: map[string]scim.Column{
			"created": {SQL: "g.created_at", Kind: scim.Time}, "lastmodified": {SQL: "g.updated_at", Kind: scim.Time},
			"resourcetype": {SQL: "'Group'", Kind: scim.Exact},
		}},
	}
}

// ExternalID is the id that a provider has for the group, nil for none.
func (g *Group) ExternalID(provider string) *string {
	if id, ok := g.Data.Get("scim", provider, "external_id").AsText(); ok {
		return &id
	}
	return nil
}

// Provisioned gives groups, and their number without Skip and Limit. The error may be scim.ErrSyntax.
func (s *Store) Provisioned(ctx context.Context, provider string, q scim.Query) ([]*Group, int, error) {
	d := s.db.Dialect()
	text, err := attributes(d, provider).Statement(d, q, "1 = 1", "g.updated_at DESC", "g.id")
	if err != nil {
		return nil, 0, err
	}
	var total int
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM "group" g`+text.Where, text.Args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count groups: %w", err)
	}
	if q.Limit <= 0 || q.Skip >= total {
		return []*Group{}, total, nil
	}
	rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM "group" g`+text.Where+text.Tail, text.WholeArgs...)
	list, err := store.Collect(rows, err, scanRows)
	if err != nil {
		return nil, 0, fmt.Errorf("list groups: %w", err)
	}
	return list, total, nil
}

// Ref is the id and the name of a group or of a member.
type Ref struct{ ID, Name string }

// MembersOf gives the direct members of groups, by group, in the order that their accounts were made.
func (s *Store) MembersOf(ctx context.Context, ids ...string) (map[string][]Ref, error) {
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, `SELECT m.group_id, u.id, COALESCE(u.name, '') FROM group_member m JOIN "user" u ON u.id = m.user_id
		WHERE m.group_id IN `+in+` ORDER BY u.created_at, u.id`, args...)
	return refs(rows, err)
}

// OfUsers gives the direct groups of accounts, by account, those changed last first.
func (s *Store) OfUsers(ctx context.Context, userIDs ...string) (map[string][]Ref, error) {
	in, args := store.In(nil, userIDs)
	rows, err := s.db.Query(ctx, `SELECT m.user_id, g.id, COALESCE(g.name, '') FROM group_member m JOIN "group" g ON g.id = m.group_id
		WHERE m.user_id IN `+in+` ORDER BY g.updated_at DESC, g.id`, args...)
	return refs(rows, err)
}

// refs collects rows of an owner and a Ref.
func refs(rows *sql.Rows, err error) (map[string][]Ref, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[string][]Ref{}
	for rows.Next() {
		var owner string
		var r Ref
		if err := rows.Scan(&owner, &r.ID, &r.Name); err != nil {
			return nil, err
		}
		out[owner] = append(out[owner], r)
	}
	return out, rows.Err()
}

// Children gives the ids of the groups right below a group.
func (s *Store) Children(ctx context.Context, id string) ([]string, error) {
	rows, err := s.db.Query(ctx, `SELECT id FROM "group" WHERE parent_group_id = $1 ORDER BY created_at, id`, id)
	return store.Strings(rows, err)
}

// Draft is a group as a change leaves it.
type Draft struct {
	Name    string
	Data    jsondoc.Doc
	Members []string // ids of accounts
}

// Redraft changes a group and its direct members at once: f gets them as they are, and changes the draft. Its error is
// given back; the error may be store.ErrNotFound too. Added and removed are members.
func (s *Store) Redraft(ctx context.Context, id string, f func(g *Group, d *Draft) error) (g *Group, added, removed []string, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		old, err := byID(ctx, tx, id)
		if err != nil {
			return err
		}
		have, err := memberIDs(ctx, tx, false, id)
		if err != nil {
			return err
		}
		draft := &Draft{Name: old.Name, Data: old.Data, Members: slices.Clone(have)}
		if err := f(old, draft); err != nil {
			return err
		}
		added, removed = difference(draft.Members, have), difference(have, draft.Members)
		if err := removeRows(ctx, tx, id, removed); err != nil {
			return err
		}
		if err := addRows(ctx, tx, pairs(added, id)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE "group" SET name = $2, data = $3, updated_at = $4 WHERE id = $1`, id, draft.Name, draft.Data,
			time.Now().Unix()); err != nil {
			return err
		}
		g, err = byID(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("change group: %w", err)
	}
	s.notify(append(slices.Clone(added), removed...))
	return g, added, removed, nil
}

// difference gives what a list has and another has not, each once, sorted.
func difference(a, b []string) []string {
	known := make(map[string]bool, len(b))
	for _, v := range b {
		known[v] = true
	}
	var out []string
	for _, v := range a {
		if !known[v] {
			known[v] = true
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}
