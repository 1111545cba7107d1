package chats

import (
	"context"
	"slices"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/tags"
)

// AddTag gives a chat a tag and makes the tag for the user.
func (s *Store) AddTag(ctx context.Context, id, userID, name string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := tags.Ensure(ctx, tx, userID, []string{name}); err != nil {
			return err
		}
		_, _, err := s.SetMetaTags(ctx, tx, id, func(old []string) []string {
			if slices.Contains(old, tags.ID(name)) {
				return old
			}
			return append(old, tags.ID(name))
		})
		return err
	})
}

// RemoveTag takes a tag from a chat; a tag that no chat of the user has any more is deleted.
func (s *Store) RemoveTag(ctx context.Context, id, userID, name string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, _, err := s.SetMetaTags(ctx, tx, id, func(old []string) []string {
			return slices.DeleteFunc(old, func(t string) bool { return t == tags.ID(name) })
		}); err != nil {
			return err
		}
		return s.deleteOrphans(ctx, tx, userID, []string{tags.ID(name)}, 0)
	})
}

// SetTags replaces a chat's tags, as generated after an answer: missing ones are made for the user, those that no chat
// has any more deleted. The name "none" is left out. An unknown chat is store.ErrNotFound.
func (s *Store) SetTags(ctx context.Context, id, userID string, names []string) error {
	var kept, ids []string
	for _, n := range names {
		if t := tags.ID(n); t != "none" {
			kept = append(kept, n)
			ids = append(ids, t)
		}
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		before, _, err := s.SetMetaTags(ctx, tx, id, func([]string) []string { return ids })
		if err != nil {
			return err
		}
		if err := tags.Ensure(ctx, tx, userID, kept); err != nil {
			return err
		}
		removed := slices.DeleteFunc(before, func(t string) bool { return slices.Contains(ids, t) })
		return s.deleteOrphans(ctx, tx, userID, removed, 0)
	})
}

// DeleteOrphanTags deletes those of some tags that at most threshold chats of the user have.
func (s *Store) DeleteOrphanTags(ctx context.Context, userID string, ids []string, threshold int) error {
	if len(ids) == 0 {
		return nil
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error { return s.deleteOrphans(ctx, tx, userID, ids, threshold) })
}

func (s *Store) deleteOrphans(ctx context.Context, tx *store.Tx, userID string, ids []string, threshold int) error {
	if len(ids) == 0 {
		return nil
	}
	counts, err := s.TagCounts(ctx, tx, userID, ids)
	if err != nil {
		return err
	}
	orphans := slices.DeleteFunc(slices.Clone(ids), func(t string) bool { return counts[t] > threshold })
	return tags.Delete(ctx, tx, userID, orphans...)
}

// TagsOf are the tags of a user, for routes that have only this store.
func (s *Store) TagsOf(ctx context.Context, userID string) ([]tags.Tag, error) {
	return tags.Of(ctx, s.db, userID)
}

// TagsByIDs are those of a user's tags that have one of the ids.
func (s *Store) TagsByIDs(ctx context.Context, userID string, ids []string) ([]tags.Tag, error) {
	return tags.ByIDs(ctx, s.db, userID, ids)
}

// DeleteTag removes a tag of a user, whatever chats have it.
func (s *Store) DeleteTag(ctx context.Context, userID, id string) error {
	return tags.Delete(ctx, s.db, userID, id)
}

// EnsureTags makes tags that a user does not have yet.
func (s *Store) EnsureTags(ctx context.Context, userID string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error { return tags.Ensure(ctx, tx, userID, names) })
}
