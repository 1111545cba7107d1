package chats

import (
	"context"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// LinkedFiles are the ids of the files that a message of a chat brought along, in order.
func (s *Store) LinkedFiles(ctx context.Context, chatID, messageID string) ([]string, error) {
	return store.Strings(s.db.Query(ctx, "SELECT file_id FROM chat_file WHERE chat_id = $1 AND message_id = $2 ORDER BY created_at", chatID, messageID))
}

// UnlinkFile forgets a file of a chat.
func (s *Store) UnlinkFile(ctx context.Context, chatID, fileID string) error {
	_, err := s.db.Exec(ctx, "DELETE FROM chat_file WHERE chat_id = $1 AND file_id = $2", chatID, fileID)
	return err
}

// OfNote are the internal chats in which a user talks about a note, the last changed first.
func (s *Store) OfNote(ctx context.Context, noteID, userID string) ([]*Chat, error) {
	d := s.db.Dialect()
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM chat WHERE user_id = $1 AND "+d.JSONText("meta", "internal")+d.Pick(" = 1", " = 'true'")+
		" AND "+d.JSONText("meta", "type")+" = 'note' AND "+d.JSONText("meta", "note_id")+" = $2 ORDER BY updated_at DESC, created_at DESC", userID, noteID)
	return store.Collect(rows, err, scanChat)
}

// Metas are the meta objects of some chats, archived ones only if asked for.
func (s *Store) Metas(ctx context.Context, ids []string, archived bool) (map[string]jsondoc.Doc, error) {
	out := map[string]jsondoc.Doc{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := store.In(nil, padded(ids))
	where := " AND archived = FALSE"
	if archived {
		where = ""
	}
	rows, err := s.db.Query(ctx, "SELECT id, meta FROM chat WHERE id IN "+list+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var meta jsondoc.Doc
		if err := rows.Scan(&id, &meta); err != nil {
			return nil, err
		}
		out[id] = meta
	}
	return out, rows.Err()
}
