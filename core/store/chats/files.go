package chats

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/store"
)

// LinkFiles notes that a message of a chat refers to files (table chat_file). Files the chat is linked with already
// stay as they are.
func (s *Store) LinkFiles(ctx context.Context, chatID, messageID, userID string, fileIDs []string) error {
	if len(fileIDs) == 0 {
		return nil
	}
	now := s.unix()
	args := []any{userID, chatID, messageID, now}
	text := "INSERT INTO chat_file (id, user_id, chat_id, message_id, file_id, created_at, updated_at) VALUES "
	for i, id := range fileIDs {
		if i > 0 {
			text += ", "
		}
		args = append(args, store.NewID(), id)
		text += fmt.Sprintf("($%d, $1, $2, $3, $%d, $4, $4)", len(args)-1, len(args))
	}
	_, err := s.db.Exec(ctx, text+" ON CONFLICT (chat_id, file_id) DO NOTHING", args...)
	return err
}
