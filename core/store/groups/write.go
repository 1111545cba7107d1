package groups

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Errors of a parent that is not possible; the text is the detail that clients are shown, with 400 where nothing else is said.
var (
	ErrEmptyParent = errors.New("Parent group must be a group ID or null.")
	ErrNoParent    = errors.New("Parent group not found.") // for a 404
	ErrLoop        = errors.New("A group cannot be its own parent or a descendant of itself.")
)

// hierarchyLock is the reference's advisory lock for changes to groups, so that both servers may share a database.
const hierarchyLock = 731947205

// tx runs f alone: SQLite has one writer, on Postgres changes to groups wait for each other.
func (s *Store) tx(ctx context.Context, f func(*store.Tx) error) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if tx.Dialect() == store.Postgres {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", hierarchyLock); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

func checkParent(ctx context.Context, tx *store.Tx, id string, parent *string) error {
	if parent == nil {
		return nil
	}
	if *parent == "" {
		return ErrEmptyParent
	}
	above, err := ancestorIDs(ctx, tx, *parent)
	switch {
	case err != nil:
		return err
	case len(above) == 0:
		return ErrNoParent
	case slices.Contains(above, id):
		return ErrLoop
	}
	return nil
}

// NewGroup is a group to be made.
type NewGroup struct {
	UserID      string
	ParentID    *string
	Name        string
	Description string
	Data        jsondoc.Doc // data.config.share is filled in
	Permissions jsondoc.Doc
	Share       jsondoc.Doc // default of data.config.share: "members", true or false
	Members     []string    // ids of accounts
}

// ShareOf is the Share of a setting's text: "members", "true" or "false".
func ShareOf(text string) jsondoc.Doc {
	if text == "true" || text == "false" {
		return jsondoc.Doc(text)
	}
	return jsondoc.Of(text)
}

// Insert makes a group. The error may be ErrEmptyParent or ErrNoParent.
func (s *Store) Insert(ctx context.Context, n NewGroup) (*Group, error) {
	id := store.NewID()
	var g *Group
	err := s.tx(ctx, func(tx *store.Tx) (err error) {
		if err := checkParent(ctx, tx, id, n.ParentID); err != nil {
			return err
		}
		if g, err = insert(ctx, tx, id, n); err != nil {
			return err
		}
		return addRows(ctx, tx, pairs(n.Members, id))
	})
	if err != nil {
		return nil, err
	}
	s.notify(n.Members)
	return g, nil
}

func insert(ctx context.Context, tx *store.Tx, id string, n NewGroup) (*Group, error) {
	data := n.Data.Or(jsondoc.Doc("{}"))
	if data.Get("config", "share") == nil {
		data = data.Set(n.Share.Or(jsondoc.Doc(`"members"`)), "config", "share")
	}
	now := time.Now().Unix()
	_, err := tx.Exec(ctx, `INSERT INTO "group" (id, user_id, parent_group_id, name, description, data, permissions, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, id, n.UserID, n.ParentID, n.Name, n.Description, data, n.Permissions, now, now)
	if err != nil {
		return nil, fmt.Errorf("insert group: %w", err)
	}
	return byID(ctx, tx, id)
}

// Patch is a change of a group; nil documents stay as they are.
type Patch struct {
	SetParent   bool
	ParentID    *string
	Name        string
	Description string
	Data        jsondoc.Doc // merged: at the top and in config
	Permissions jsondoc.Doc // replaces
}

// Update changes a group. The error may be store.ErrNotFound or one about its parent. Affected are the members whose
// permissions or default models may be others now.
func (s *Store) Update(ctx context.Context, id string, p Patch) (g *Group, affected []string, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		old, err := byID(ctx, tx, id)
		if err != nil {
			return err
		}
		parent, data, permissions := old.ParentID, old.Data, old.Permissions
		if p.SetParent {
			if err := checkParent(ctx, tx, id, p.ParentID); err != nil {
				return err
			}
			parent = p.ParentID
		}
		if !p.Data.IsNull() {
			config := old.Data.Get("config").Or(jsondoc.Doc("{}")).Merge(p.Data.Get("config"))
			data = old.Data.Or(jsondoc.Doc("{}")).Merge(p.Data).Set(config, "config")
		}
		if !p.Permissions.IsNull() {
			permissions = p.Permissions
		}
		if _, err := tx.Exec(ctx, `UPDATE "group" SET parent_group_id = $2, name = $3, description = $4, data = $5, permissions = $6, updated_at = $7
			WHERE id = $1`, id, parent, p.Name, p.Description, data, permissions, time.Now().Unix()); err != nil {
			return err
		}
		if g, err = byID(ctx, tx, id); err != nil {
			return err
		}
		if !equal(parent, old.ParentID) || !bytes.Equal(permissions, old.Permissions) || !bytes.Equal(g.DefaultModels(), old.DefaultModels()) {
			affected, err = memberIDs(ctx, tx, true, id)
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("update group: %w", err)
	}
	s.notify(affected)
	return g, affected, nil
}

func equal(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (s *Store) notify(userIDs []string) {
	if len(userIDs) > 0 {
		s.changed(userIDs)
	}
}

// Delete removes a group with its memberships and grants; the groups below it move up to its parent. Affected are its
// members, inherited ones too.
func (s *Store) Delete(ctx context.Context, id string) (affected []string, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		g, err := byID(ctx, tx, id)
		if err != nil {
			return err
		}
		if affected, err = memberIDs(ctx, tx, true, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE "group" SET parent_group_id = $2, updated_at = $3 WHERE parent_group_id = $1`,
			id, g.ParentID, time.Now().Unix()); err != nil {
			return err
		}
		for _, text := range []string{
			`DELETE FROM group_member WHERE group_id = $1`,
			`DELETE FROM access_grant WHERE principal_type = 'group' AND principal_id = $1`,
			`DELETE FROM "group" WHERE id = $1`,
		} {
			if _, err := tx.Exec(ctx, text, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("delete group: %w", err)
	}
	s.notify(affected)
	return affected, nil
}

// AddMembers makes accounts members of a group; affected are those that were none before.
func (s *Store) AddMembers(ctx context.Context, id string, userIDs []string) (g *Group, affected []string, err error) {
	return s.members(ctx, id, func(tx *store.Tx, have []string) ([]string, error) {
		var added []string
		for _, u := range userIDs {
			if !slices.Contains(have, u) && !slices.Contains(added, u) {
				added = append(added, u)
			}
		}
		return added, addRows(ctx, tx, pairs(added, id))
	})
}

// RemoveMembers ends memberships; affected are those that were members before.
func (s *Store) RemoveMembers(ctx context.Context, id string, userIDs []string) (g *Group, affected []string, err error) {
	return s.members(ctx, id, func(tx *store.Tx, have []string) ([]string, error) {
		removed := slices.DeleteFunc(have, func(u string) bool { return !slices.Contains(userIDs, u) })
		return removed, removeRows(ctx, tx, id, removed)
	})
}

// SetMembers makes these accounts the members of a group, and no others.
func (s *Store) SetMembers(ctx context.Context, id string, userIDs []string) (affected []string, err error) {
	_, affected, err = s.members(ctx, id, func(tx *store.Tx, have []string) ([]string, error) {
		var added, removed []string
		for _, u := range userIDs {
			if !slices.Contains(have, u) && !slices.Contains(added, u) {
				added = append(added, u)
			}
		}
		for _, u := range have {
			if !slices.Contains(userIDs, u) {
				removed = append(removed, u)
			}
		}
		if err := removeRows(ctx, tx, id, removed); err != nil {
			return nil, err
		}
		return append(added, removed...), addRows(ctx, tx, pairs(added, id))
	})
	return affected, err
}

func (s *Store) members(ctx context.Context, id string, f func(tx *store.Tx, have []string) ([]string, error)) (g *Group, affected []string, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		if _, err := byID(ctx, tx, id); err != nil {
			return err
		}
		have, err := memberIDs(ctx, tx, false, id)
		if err != nil {
			return err
		}
		if affected, err = f(tx, have); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE "group" SET updated_at = $2 WHERE id = $1`, id, time.Now().Unix()); err != nil {
			return err
		}
		g, err = byID(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("members of group: %w", err)
	}
	s.notify(affected)
	return g, affected, nil
}

// membership is a row of group_member.
type membership struct{ user, group string }

func pairs(userIDs []string, group string) []membership {
	out := make([]membership, len(userIDs))
	for i, u := range userIDs {
		out[i] = membership{u, group}
	}
	return out
}

// addRows writes memberships, many a statement.
func addRows(ctx context.Context, tx *store.Tx, rows []membership) error {
	now := time.Now().Unix()
	for part := range slices.Chunk(rows, 100) {
		text := []byte(`INSERT INTO group_member (id, group_id, user_id, created_at, updated_at) VALUES `)
		args := []any{now}
		for i, m := range part {
			if i > 0 {
				text = append(text, ',')
			}
			args = append(args, store.NewID(), m.group, m.user)
			n := len(args)
			text = fmt.Appendf(text, "($%d,$%d,$%d,$1,$1)", n-2, n-1, n)
		}
		if _, err := tx.Exec(ctx, string(text), args...); err != nil {
			return err
		}
	}
	return nil
}

func removeRows(ctx context.Context, tx *store.Tx, group string, userIDs []string) error {
	for part := range slices.Chunk(userIDs, 500) {
		in, args := store.In([]any{group}, part)
		if _, err := tx.Exec(ctx, `DELETE FROM group_member WHERE group_id = $1 AND user_id IN `+in, args...); err != nil {
			return err
		}
	}
	return nil
}

// CreateByNames makes the groups of these names that are not there.
func (s *Store) CreateByNames(ctx context.Context, userID string, names []string, share jsondoc.Doc) ([]*Group, error) {
	list := make([]NewGroup, len(names))
	for i, name := range names {
		list[i] = NewGroup{UserID: userID, Name: name, Share: share}
	}
	return s.InsertMissing(ctx, list)
}

// InsertMissing makes those groups of whose name there is none yet, and gives them.
func (s *Store) InsertMissing(ctx context.Context, list []NewGroup) ([]*Group, error) {
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	var made []*Group
	err := s.tx(ctx, func(tx *store.Tx) error {
		made = nil
		in, args := store.In(nil, names)
		rows, err := tx.Query(ctx, `SELECT name FROM "group" WHERE name IN `+in, args...)
		have, err := store.Strings(rows, err)
		if err != nil {
			return err
		}
		for _, n := range list {
			if slices.Contains(have, n.Name) {
				continue
			}
			have = append(have, n.Name)
			g, err := insert(ctx, tx, store.NewID(), n)
			if err != nil {
				return err
			}
			made = append(made, g)
		}
		return nil
	})
	return made, err
}

// SyncByNames makes an account a member of just the groups of these names, as far as they are there.
func (s *Store) SyncByNames(ctx context.Context, userID string, names []string) (changed bool, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		in, args := store.In(nil, names)
		rows, err := tx.Query(ctx, `SELECT id FROM "group" WHERE name IN `+in, args...)
		want, err := store.Strings(rows, err)
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT group_id FROM group_member WHERE user_id = $1`, userID)
		have, err := store.Strings(rows, err)
		if err != nil {
			return err
		}
		var added []membership
		var touched, removed []string
		for _, id := range want {
			if !slices.Contains(have, id) {
				added, touched = append(added, membership{userID, id}), append(touched, id)
			}
		}
		for _, id := range have {
			if !slices.Contains(want, id) {
				removed, touched = append(removed, id), append(touched, id)
			}
		}
		if changed = len(touched) > 0; !changed {
			return nil
		}
		in, args = store.In([]any{userID}, removed)
		if _, err := tx.Exec(ctx, `DELETE FROM group_member WHERE user_id = $1 AND group_id IN `+in, args...); err != nil {
			return err
		}
		if err := addRows(ctx, tx, added); err != nil {
			return err
		}
		in, args = store.In([]any{time.Now().Unix()}, touched)
		_, err = tx.Exec(ctx, `UPDATE "group" SET updated_at = $1 WHERE id IN `+in, args...)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("sync groups: %w", err)
	}
	if changed {
		s.changed([]string{userID})
	}
	return changed, nil
}
