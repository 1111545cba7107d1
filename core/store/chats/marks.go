package chats

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// change runs an UPDATE of one chat and gives the chat as it is then; store.ErrNotFound if there is none.
func (s *Store) change(ctx context.Context, id, set string, args ...any) (*Chat, error) {
	var c *Chat
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		if _, err := tx.Exec(ctx, "UPDATE chat SET "+set+" WHERE id = $1", append([]any{id}, args...)...); err != nil {
			return err
		}
		c, err = get(ctx, tx, id)
		return err
	})
	return c, err
}

// TogglePinned pins or unpins a chat, which counts as reading it.
func (s *Store) TogglePinned(ctx context.Context, id string) (*Chat, error) {
	return s.change(ctx, id, "pinned = NOT COALESCE(pinned, FALSE), updated_at = $2, last_read_at = $2", s.unix())
}

// ToggleArchived archives or unarchives a chat; either takes it out of its folder and counts as reading it.
func (s *Store) ToggleArchived(ctx context.Context, id string) (*Chat, error) {
	return s.change(ctx, id, "archived = NOT COALESCE(archived, FALSE), folder_id = NULL, updated_at = $2, last_read_at = $2", s.unix())
}

// Move puts a chat into a folder, or out of any (nil). It is unpinned, and in a folder unarchived; moved by its owner it
// counts as read.
func (s *Store) Move(ctx context.Context, id, userID string, folderID *string) (*Chat, error) {
	return s.change(ctx, id, "folder_id = $2, updated_at = $3, last_read_at = CASE WHEN user_id = $4 THEN $3 ELSE last_read_at END, pinned = FALSE, "+
		"archived = CASE WHEN $5 THEN FALSE ELSE archived END", folderID, s.unix(), userID, folderID != nil)
}

// ArchiveAll archives all chats of a user and takes them out of their folders.
func (s *Store) ArchiveAll(ctx context.Context, userID string) error {
	_, err := s.db.Exec(ctx, "UPDATE chat SET archived = TRUE, folder_id = NULL WHERE user_id = $1", userID)
	return err
}

// UnarchiveAll takes all chats of a user out of the archive.
func (s *Store) UnarchiveAll(ctx context.Context, userID string) error {
	_, err := s.db.Exec(ctx, "UPDATE chat SET archived = FALSE WHERE user_id = $1", userID)
	return err
}

// MarkRead notes that its owner has read a chat now. It gives the time and whether the chat was unread;
// store.ErrNotFound for others' and unknown chats.
func (s *Store) MarkRead(ctx context.Context, id, userID string) (at int64, wasUnread bool, err error) {
	at = s.unix()
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		var updated int64
		var read *int64
		if err := tx.QueryRow(ctx, "SELECT COALESCE(updated_at, 0), last_read_at FROM chat WHERE id = $1 AND user_id = $2", id, userID).Scan(&updated, &read); err != nil {
			return err
		}
		wasUnread = read == nil || updated > *read
		_, err := tx.Exec(ctx, "UPDATE chat SET last_read_at = $2 WHERE id = $1", id, at)
		return err
	})
	return at, wasUnread, err
}

// MarkUnread marks a chat unread for its owner and gives its folder; store.ErrNotFound for others' and unknown chats.
func (s *Store) MarkUnread(ctx context.Context, id, userID string) (folderID *string, err error) {
	n, err := store.Affected(s.db.Exec(ctx, "UPDATE chat SET last_read_at = 0 WHERE id = $1 AND user_id = $2", id, userID))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, store.ErrNotFound
	}
	err = s.db.QueryRow(ctx, "SELECT folder_id FROM chat WHERE id = $1", id).Scan(&folderID)
	return folderID, err
}

// MarkAllRead marks all unarchived chats of a user read and gives their number.
func (s *Store) MarkAllRead(ctx context.Context, userID string) (int64, error) {
	return store.Affected(s.db.Exec(ctx, "UPDATE chat SET last_read_at = updated_at WHERE user_id = $1 AND archived = FALSE AND "+s.listed(), userID))
}

// MarkFoldersRead is MarkAllRead for the chats in some folders.
func (s *Store) MarkFoldersRead(ctx context.Context, userID string, folderIDs []string) (int64, error) {
	if len(folderIDs) == 0 {
		return 0, nil
	}
	list, args := store.In([]any{userID}, folderIDs)
	return store.Affected(s.db.Exec(ctx, "UPDATE chat SET last_read_at = updated_at WHERE user_id = $1 AND folder_id IN "+list+" AND archived = FALSE AND "+s.listed(), args...))
}

// FolderOf is the folder of an owner's chat, nil where it has none or is not theirs.
func (s *Store) FolderOf(ctx context.Context, id, userID string) (folderID *string, err error) {
	err = s.db.QueryRow(ctx, "SELECT folder_id FROM chat WHERE id = $1 AND user_id = $2", id, userID).Scan(&folderID)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return folderID, err
}

// MoveFolder moves all chats of a folder to another, or out of any (nil).
func (s *Store) MoveFolder(ctx context.Context, q store.Querier, folderID string, to *string) error {
	_, err := q.Exec(ctx, "UPDATE chat SET folder_id = $2 WHERE folder_id = $1", folderID, to)
	return err
}

// SetMetaTags replaces the tag ids in a chat's meta within a transaction and gives those before; store.ErrNotFound if
// there is no such chat.
func (s *Store) SetMetaTags(ctx context.Context, tx *store.Tx, id string, f func(old []string) []string) (before, after []string, err error) {
	var meta jsondoc.Doc
	if err := tx.QueryRow(ctx, "SELECT meta FROM chat WHERE id = $1"+tx.Dialect().ForUpdate(), id).Scan(&meta); err != nil {
		return nil, nil, err
	}
	before = meta.Get("tags").Texts()
	after = f(before)
	docs := make([]jsondoc.Doc, len(after))
	for i, t := range after {
		docs[i] = jsondoc.Text(t)
	}
	if meta.Kind() != '{' {
		meta = jsondoc.Doc("{}")
	}
	_, err = tx.Exec(ctx, "UPDATE chat SET meta = $2 WHERE id = $1", id, meta.Set(jsondoc.Array(docs...), "tags"))
	return before, after, err
}

// Delete removes a chat with its messages, its shared copies and its files' links; userID, if not "", must own it.
func (s *Store) Delete(ctx context.Context, id, userID string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		return deleteWhere(ctx, tx, "id = $1 AND ($2 = '' OR user_id = $2)", id, userID)
	})
}

// DeleteMany removes chats in one transaction.
func (s *Store) DeleteMany(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	list, args := store.In(nil, padded(ids))
	return s.db.Tx(ctx, func(tx *store.Tx) error { return deleteWhere(ctx, tx, "id IN "+list, args...) })
}

// DeleteAllOf removes all chats of a user.
func (s *Store) DeleteAllOf(ctx context.Context, userID string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM shared_chat WHERE user_id = $1", userID); err != nil {
			return err
		}
		return deleteWhere(ctx, tx, "user_id = $1", userID)
	})
}

// DeleteInFolder removes a user's chats in a folder.
func (s *Store) DeleteInFolder(ctx context.Context, q store.Querier, userID, folderID string) error {
	return deleteWhere(ctx, q, "user_id = $1 AND folder_id = $2", userID, folderID)
}

func deleteWhere(ctx context.Context, q store.Querier, where string, args ...any) error {
	ids := "(SELECT id FROM chat WHERE " + where + ")"
	for _, statement := range []string{
		"UPDATE automation_run SET chat_id = NULL WHERE chat_id IN " + ids,
		"DELETE FROM chat_message WHERE chat_id IN " + ids,
		"DELETE FROM shared_chat WHERE chat_id IN " + ids,
		"DELETE FROM chat_file WHERE chat_id IN " + ids,
		"DELETE FROM galley_chat_sieve WHERE (user_id, chat_id) IN (SELECT user_id, id FROM chat WHERE " + where + ")",
		"DELETE FROM chat WHERE " + where,
	} {
		if _, err := q.Exec(ctx, statement, args...); err != nil {
			return err
		}
	}
	return nil
}

// Children are the internal chats that were started from a chat.
func (s *Store) Children(ctx context.Context, id, userID string) ([]string, error) {
	d := s.db.Dialect()
	return store.Strings(s.db.Query(ctx, "SELECT id FROM chat WHERE user_id = $1 AND "+d.JSONText("meta", "internal")+d.Pick(" = 1", " = 'true'")+
		" AND "+d.JSONText("meta", "parent_chat_id")+" = $2", userID, id))
}

// OwnerIDs are the owners of chats by chat id; unknown chats are absent.
func (s *Store) OwnerIDs(ctx context.Context, ids []string) (map[string]string, error) {
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := store.In(nil, padded(ids))
	rows, err := s.db.Query(ctx, "SELECT id, COALESCE(user_id, '') FROM chat WHERE id IN "+list, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, owner string
		if err := rows.Scan(&id, &owner); err != nil {
			return nil, err
		}
		out[id] = owner
	}
	return out, rows.Err()
}
