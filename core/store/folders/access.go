package folders

import (
	"context"
	"database/sql"
	"slices"

	"github.com/galleychat/galley/core/store"
)

// Permissions that a grant gives.
const (
	Read  = "read"
	Write = "write"
)

// Grants says which of several resources a user was granted; core/access has it.
type Grants interface {
	CanAmong(ctx context.Context, userID, resourceType string, ids []string, permission string) (map[string]bool, error)
}

// Access says who may do what with a folder: its owner everything, others what they were granted on it or on a folder
// above. Administrators are not special here; callers that let them do more ask for the role first.
type Access struct {
	store  *Store
	grants Grants
}

// NewAccess makes the rules over a store.
func NewAccess(s *Store, g Grants) *Access { return &Access{store: s, grants: g} }

// CanRead says whether a user may read a folder and its chats; false where there is no such folder.
func (a *Access) CanRead(ctx context.Context, userID, folderID string) (bool, error) {
	return a.can(ctx, userID, folderID, Read)
}

// CanWrite says whether a user may put chats and folders into a folder; false where there is no such folder.
func (a *Access) CanWrite(ctx context.Context, userID, folderID string) (bool, error) {
	return a.can(ctx, userID, folderID, Write)
}

func (a *Access) can(ctx context.Context, userID, folderID, permission string) (bool, error) {
	ok, err := a.CanAmong(ctx, userID, []string{folderID}, permission)
	return ok[folderID], err
}

// Find gives a folder that a user has a permission on (Read or Write); store.ErrNotFound where there is none such.
func (a *Access) Find(ctx context.Context, userID, folderID, permission string) (*Folder, error) {
	f, err := a.store.Get(ctx, folderID)
	if err != nil || f.UserID == userID {
		return f, err
	}
	if ok, err := a.can(ctx, userID, folderID, permission); err != nil || !ok {
		if err == nil {
			err = store.ErrNotFound
		}
		return nil, err
	}
	return f, nil
}

// step is a folder on the way from another one to its root.
type step struct {
	start, id, owner, parent string
}

// ways gives the folders with the ids and all above them, whoever owns those.
func (s *Store) ways(ctx context.Context, ids []string) ([]step, error) {
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, "WITH RECURSIVE up(start, id) AS (SELECT id, id FROM folder WHERE id IN "+in+
		" UNION SELECT u.start, f.parent_id FROM up u JOIN folder f ON f.id = u.id WHERE f.parent_id IS NOT NULL) "+
		"SELECT u.start, f.id, f.user_id, COALESCE(f.parent_id, '') FROM up u JOIN folder f ON f.id = u.id", args...)
	return store.Collect(rows, err, func(r *sql.Rows) (st step, err error) {
		err = r.Scan(&st.start, &st.id, &st.owner, &st.parent)
		return st, err
	})
}

// CanAmong says which of several folders a user has a permission on. It takes two queries, and where the user owns all of
// the folders one.
func (a *Access) CanAmong(ctx context.Context, userID string, folderIDs []string, permission string) (map[string]bool, error) {
	can := make(map[string]bool, len(folderIDs))
	if len(folderIDs) == 0 {
		return can, nil
	}
	steps, err := a.store.ways(ctx, folderIDs)
	if err != nil {
		return nil, err
	}
	for _, st := range steps {
		if st.owner == userID {
			can[st.start] = true
		}
	}
	var ask []string
	for _, st := range steps {
		if !can[st.start] && !slices.Contains(ask, st.id) {
			ask = append(ask, st.id)
		}
	}
	if len(ask) == 0 {
		return can, nil
	}
	granted, err := a.grants.CanAmong(ctx, userID, ResourceType, ask, permission)
	if err != nil {
		return nil, err
	}
	for _, st := range steps {
		if granted[st.id] {
			can[st.start] = true
		}
	}
	return can, nil
}

// CanMove says whether the owner of folders may move somebody else's chat from one to another: only within one tree, and
// not out of the part of it that is shared.
func (a *Access) CanMove(ctx context.Context, userID string, from, to *string) (bool, error) {
	if from == nil || to == nil {
		return false, nil
	}
	steps, err := a.store.ways(ctx, []string{*from, *to})
	if err != nil {
		return false, err
	}
	byID := make(map[string]step, len(steps))
	ids := make([]string, 0, len(steps))
	for _, st := range steps {
		if _, ok := byID[st.id]; !ok {
			byID[st.id] = st
			ids = append(ids, st.id)
		}
	}
	shared, err := a.store.shared(ctx, ids)
	if err != nil {
		return false, err
	}
	source := sharedRoot(byID, shared, userID, *from)
	return source != "" && source == sharedRoot(byID, shared, userID, *to), nil
}

// sharedRoot is the highest shared folder above a folder, or the root where none is shared; "" unless the user owns all
// of the way.
func sharedRoot(byID map[string]step, shared map[string]bool, userID, id string) (root string) {
	for range len(byID) {
		st, ok := byID[id]
		if !ok || st.owner != userID {
			return ""
		}
		if shared[id] {
			root = id
		}
		if st.parent == "" {
			if root == "" {
				root = id
			}
			return root
		}
		id = st.parent
	}
	return ""
}

// shared says which of the folders have grants.
func (s *Store) shared(ctx context.Context, ids []string) (map[string]bool, error) {
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, "SELECT DISTINCT resource_id FROM access_grant WHERE resource_type = 'folder' AND resource_id IN "+in, args...)
	list, err := store.Strings(rows, err)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(list))
	for _, id := range list {
		out[id] = true
	}
	return out, nil
}
