package folders

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// NewFolder is what a folder is made of.
type NewFolder struct {
	UserID   string
	ParentID *string // need not exist
	Name     string
	Data     jsondoc.Doc
	Meta     jsondoc.Doc
}

// jsonValue is a JSON column's value as the reference writes it: a Python None is the text null.
func jsonValue(d jsondoc.Doc) string { return d.String() }

// Insert makes a folder.
func (s *Store) Insert(ctx context.Context, n NewFolder) (*Folder, error) {
	now := s.now().Unix()
	f := &Folder{ID: store.NewID(), ParentID: n.ParentID, UserID: n.UserID, Name: n.Name, Data: n.Data, Meta: n.Meta, CreatedAt: now, UpdatedAt: now}
	_, err := s.db.Exec(ctx, "INSERT INTO folder (id, parent_id, user_id, name, items, meta, data, is_expanded, created_at, updated_at) "+
		"VALUES ($1, $2, $3, $4, 'null', $5, $6, FALSE, $7, $7)", f.ID, f.ParentID, f.UserID, f.Name, jsonValue(f.Meta), jsonValue(f.Data), now)
	if err != nil {
		return nil, fmt.Errorf("insert folder: %w", err)
	}
	return f, nil
}

// Change is what Update does. Data and Meta are merged into what there is, member by member.
type Change struct {
	Name *string
	Data jsondoc.Doc // nil leaves it
	Meta jsondoc.Doc // nil leaves it
}

// Update changes a folder; store.ErrNotFound where there is none, store.ErrConflict where a sibling has just that name.
func (s *Store) Update(ctx context.Context, id string, c Change) (f *Folder, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		f, err = s.UpdateTx(ctx, tx, id, c)
		return err
	})
	return f, err
}

// Tx runs f in a write transaction, for changes that go along with others.
func (s *Store) Tx(ctx context.Context, f func(*store.Tx) error) error { return s.db.Tx(ctx, f) }

// UpdateTx is Update within a transaction.
func (s *Store) UpdateTx(ctx context.Context, tx *store.Tx, id string, c Change) (*Folder, error) {
	return s.editTx(ctx, tx, id, func(f *Folder) error {
		if c.Name != nil {
			if err := nameIsFree(ctx, tx, f, *c.Name); err != nil {
				return err
			}
			f.Name = *c.Name
		}
		if c.Data != nil {
			f.Data = f.Data.Merge(c.Data)
		}
		if c.Meta != nil {
			f.Meta = f.Meta.Merge(c.Meta)
		}
		return nil
	})
}

func nameIsFree(ctx context.Context, tx *store.Tx, f *Folder, name string) error {
	parent, args := "parent_id IS NULL", []any{f.UserID, name, f.ID}
	if f.ParentID != nil {
		parent, args = "parent_id = $4", append(args, *f.ParentID)
	}
	var one int
	err := tx.QueryRow(ctx, "SELECT 1 FROM folder WHERE user_id = $1 AND name = $2 AND id <> $3 AND "+parent+" LIMIT 1", args...).Scan(&one)
	switch {
	case err == nil:
		return fmt.Errorf("folder %q: %w", name, store.ErrConflict)
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}

// SetParent puts a folder below another, nil for the root. That the other exists is not asked.
func (s *Store) SetParent(ctx context.Context, id string, parentID *string) (*Folder, error) {
	return s.edit(ctx, id, func(f *Folder) error {
		f.ParentID = parentID
		return nil
	})
}

// SetExpanded keeps whether the folder is shown open.
func (s *Store) SetExpanded(ctx context.Context, id string, expanded bool) (*Folder, error) {
	return s.edit(ctx, id, func(f *Folder) error {
		f.IsExpanded = expanded
		return nil
	})
}

func (s *Store) edit(ctx context.Context, id string, change func(*Folder) error) (f *Folder, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		f, err = s.editTx(ctx, tx, id, change)
		return err
	})
	return f, err
}

func (s *Store) editTx(ctx context.Context, tx *store.Tx, id string, change func(*Folder) error) (*Folder, error) {
	f, err := scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM folder f WHERE f.id = $1"+tx.Dialect().ForUpdate(), id))
	if err == nil {
		err = change(f)
	}
	if err == nil {
		f.UpdatedAt = s.now().Unix()
		_, err = tx.Exec(ctx, "UPDATE folder SET parent_id = $2, name = $3, meta = $4, data = $5, is_expanded = $6, updated_at = $7 WHERE id = $1",
			f.ID, f.ParentID, f.Name, jsonValue(f.Meta), jsonValue(f.Data), f.IsExpanded, f.UpdatedAt)
	}
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", id, err)
	}
	return f, nil
}

// Root puts folders at the root: those that [Strays] found.
func (s *Store) Root(ctx context.Context, list []*Folder) error {
	if len(list) == 0 {
		return nil
	}
	now := s.now().Unix()
	ids := make([]string, len(list))
	for i, f := range list {
		ids[i] = f.ID
	}
	in, args := store.In([]any{now}, ids)
	if _, err := s.db.Exec(ctx, "UPDATE folder SET parent_id = NULL, updated_at = $1 WHERE id IN "+in, args...); err != nil {
		return fmt.Errorf("folders to the root: %w", err)
	}
	for _, f := range list {
		f.ParentID, f.UpdatedAt = nil, now
	}
	return nil
}

// Delete removes an owner's folder, all below it and their grants, in one transaction with what more does (delete chats in
// them). Chats and automations that are left have no folder then. It gives the ids, none where the owner has no such folder.
func (s *Store) Delete(ctx context.Context, id, userID string, more func(tx *store.Tx, ids []string) error) (ids []string, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		if ids, err = subtree(ctx, tx, id, userID); err != nil || len(ids) == 0 {
			return err
		}
		in, args := store.In(nil, ids)
		if _, err = tx.Exec(ctx, "DELETE FROM folder WHERE id IN "+in, args...); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, "DELETE FROM access_grant WHERE resource_type = 'folder' AND resource_id IN "+in, args...); err != nil {
			return err
		}
		if more != nil {
			if err = more(tx, ids); err != nil {
				return err
			}
		}
		if _, err = tx.Exec(ctx, "UPDATE chat SET folder_id = NULL WHERE folder_id IN "+in, args...); err != nil {
			return err
		}
		in, args = store.In([]any{s.now().UnixNano(), userID}, ids)
		_, err = tx.Exec(ctx, "UPDATE automation SET folder_id = NULL, updated_at = $1 WHERE user_id = $2 AND folder_id IN "+in, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delete folder %s: %w", id, err)
	}
	return ids, nil
}
