package chats

import (
	"context"
	"database/sql"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Shared is a row of shared_chat: a copy of a chat behind a link. Its ID is the link's token.
type Shared struct {
	ID        string
	ChatID    string
	UserID    string
	Title     string
	Doc       jsondoc.Doc // the document when it was shared, with share_mode
	CreatedAt int64
	UpdatedAt int64
}

// Continues says that readers of the link see the chat itself and may go on with it.
func (s *Shared) Continues() bool { return s.Doc.Text("share_mode") == "continue" }

// Chat is the copy in the form of a chat.
func (s *Shared) Chat() *Chat {
	no := false
	c := &Chat{ID: s.ID, UserID: s.UserID, Title: s.Title, Doc: s.Doc, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, ShareID: &s.ID, Pinned: &no}
	c.settle()
	return c
}

const sharedColumns = "id, chat_id, user_id, COALESCE(title, ''), chat, COALESCE(created_at, 0), COALESCE(updated_at, 0)"

func scanShared(r store.Row) (*Shared, error) {
	var s Shared
	if err := r.Scan(&s.ID, &s.ChatID, &s.UserID, &s.Title, &s.Doc, &s.CreatedAt, &s.UpdatedAt); err != nil {
		return nil, err
	}
	return &s, nil
}

// Shared reads the copy behind a link; store.ErrNotFound if there is none.
func (s *Store) Shared(ctx context.Context, shareID string) (*Shared, error) {
	return scanShared(s.db.QueryRow(ctx, "SELECT "+sharedColumns+" FROM shared_chat WHERE id = $1", shareID))
}

// SharedMode says whether the newest copy of a chat lets its readers continue the chat; false where it is not shared.
func (s *Store) SharedMode(ctx context.Context, chatID string) (continues bool, err error) {
	rows, err := s.db.Query(ctx, "SELECT "+s.db.Dialect().JSONText("chat", "share_mode")+" FROM shared_chat WHERE chat_id = $1 ORDER BY updated_at DESC LIMIT 1", chatID)
	list, err := store.Collect(rows, err, func(r *sql.Rows) (m sql.NullString, err error) {
		err = r.Scan(&m)
		return m, err
	})
	return len(list) > 0 && list[0].String == "continue", err
}

// Share makes a copy of a chat behind a new link, or renews that of its link, and gives the chat. mode is the raw
// share_mode; an empty one keeps that of an existing copy.
func (s *Store) Share(ctx context.Context, chatID string, mode jsondoc.Doc) (c *Chat, renewed bool, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if c, err = scanOne(tx.QueryRow(ctx, "SELECT "+columns+" FROM chat WHERE id = $1"+tx.Dialect().ForUpdate(), chatID)); err != nil {
			return err
		}
		now := s.unix()
		if c.ShareID != nil && *c.ShareID != "" {
			var old jsondoc.Doc
			err := tx.QueryRow(ctx, "SELECT "+tx.Dialect().JSONText("chat", "share_mode")+" FROM shared_chat WHERE id = $1", *c.ShareID).Scan(textDoc{&old})
			if err == nil {
				renewed = true
				if mode == nil {
					mode = old
				}
				_, err = tx.Exec(ctx, "UPDATE shared_chat SET title = $2, chat = $3, updated_at = $4 WHERE id = $1", *c.ShareID, c.Title, c.Doc.Set(mode, "share_mode"), now)
				return err
			}
		}
		id := store.NewID()
		if _, err := tx.Exec(ctx, "INSERT INTO shared_chat (id, chat_id, user_id, title, chat, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)",
			id, chatID, c.UserID, c.Title, c.Doc.Set(mode, "share_mode"), now); err != nil {
			return err
		}
		c.ShareID = &id
		_, err := tx.Exec(ctx, "UPDATE chat SET share_id = $2 WHERE id = $1", chatID, id)
		return err
	})
	return c, renewed, err
}

// textDoc scans a text into the JSON string it stands for, NULL into nil.
type textDoc struct{ to *jsondoc.Doc }

// Scan implements sql.Scanner.
func (t textDoc) Scan(src any) error {
	var v sql.NullString
	if err := v.Scan(src); err != nil || !v.Valid {
		*t.to = nil
		return err
	}
	*t.to = jsondoc.Text(v.String)
	return nil
}

// SetShareMode changes what readers of a link may do. Ending "continue" freezes the copy as the chat is now. A link
// that is gone is no error.
func (s *Store) SetShareMode(ctx context.Context, tx *store.Tx, shareID string, mode jsondoc.Doc) error {
	shared, err := scanShared(tx.QueryRow(ctx, "SELECT "+sharedColumns+" FROM shared_chat WHERE id = $1"+tx.Dialect().ForUpdate(), shareID))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if mode.IsNull() && shared.Continues() {
		if c, err := get(ctx, tx, shared.ChatID); err == nil {
			shared.Doc, shared.Title = c.Doc, c.Title
		}
	}
	_, err = tx.Exec(ctx, "UPDATE shared_chat SET title = $2, chat = $3 WHERE id = $1", shareID, shared.Title, shared.Doc.Set(mode, "share_mode"))
	return err
}

// Unshare removes the copies of a chat and its link. f, if set, runs in the same transaction.
func (s *Store) Unshare(ctx context.Context, chatID string, f func(tx *store.Tx) error) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM shared_chat WHERE chat_id = $1", chatID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE chat SET share_id = NULL WHERE id = $1", chatID); err != nil || f == nil {
			return err
		}
		return f(tx)
	})
}

// UnshareAll removes the copies that a user has made and gives the ids of their chats. f, if set, runs in the same
// transaction.
func (s *Store) UnshareAll(ctx context.Context, userID string, f func(tx *store.Tx, chatIDs []string) error) (ids []string, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if ids, err = store.Strings(tx.Query(ctx, "SELECT DISTINCT chat_id FROM shared_chat WHERE user_id = $1", userID)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE chat SET share_id = NULL WHERE id IN (SELECT chat_id FROM shared_chat WHERE user_id = $1)", userID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM shared_chat WHERE user_id = $1", userID); err != nil || f == nil {
			return err
		}
		return f(tx, ids)
	})
	return ids, err
}

// SharedList lists the copies that a user has made, without their documents.
func (s *Store) SharedList(ctx context.Context, userID string, f Filter, p Page) ([]Shared, error) {
	where, by, args, err := f.sql(s.db.Dialect(), "shared_chat", "shared_chat.user_id = $1", []any{userID}, s.db.Dialect().Pick(", shared_chat.rowid", ", shared_chat.id"))
	if err != nil {
		return nil, err
	}
	if by != "" {
		by = " ORDER BY " + by
	}
	rows, err := s.db.Query(ctx, "SELECT id, chat_id, user_id, COALESCE(title, ''), NULL, COALESCE(created_at, 0), COALESCE(updated_at, 0) FROM shared_chat WHERE "+where+by+p.sql(), args...)
	return store.Collect(rows, err, func(r *sql.Rows) (Shared, error) {
		v, err := scanShared(r)
		if err != nil {
			return Shared{}, err
		}
		return *v, nil
	})
}
