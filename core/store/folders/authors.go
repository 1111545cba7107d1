package folders

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Authors gives who wrote user messages in chats, by chat, each list sorted by id; a chat without any is absent. Chats
// that have no rows of messages (older than those) are read from their documents.
func (s *Store) Authors(ctx context.Context, chatIDs []string) (map[string][]string, error) {
	out := make(map[string][]string, len(chatIDs))
	if len(chatIDs) == 0 {
		return out, nil
	}
	in, args := store.In(nil, chatIDs)
	rows, err := s.db.Query(ctx, "SELECT DISTINCT chat_id, CASE WHEN role = 'user' THEN COALESCE(user_id, '') ELSE '' END FROM chat_message WHERE chat_id IN "+in, args...)
	if err != nil {
		return nil, fmt.Errorf("authors: %w", err)
	}
	defer rows.Close()
	var seen = map[string]bool{}
	for rows.Next() {
		var chat, author string
		if err := rows.Scan(&chat, &author); err != nil {
			return nil, fmt.Errorf("authors: %w", err)
		}
		seen[chat] = true
		if author != "" {
			out[chat] = append(out[chat], author)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("authors: %w", err)
	}
	rest := slices.DeleteFunc(slices.Clone(chatIDs), func(id string) bool { return seen[id] })
	if err := s.documentAuthors(ctx, rest, out); err != nil {
		return nil, fmt.Errorf("authors: %w", err)
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out, nil
}

func (s *Store) documentAuthors(ctx context.Context, chatIDs []string, out map[string][]string) error {
	if len(chatIDs) == 0 {
		return nil
	}
	in, args := store.In(nil, chatIDs)
	rows, err := s.db.Query(ctx, "SELECT id, COALESCE(user_id, ''), chat FROM chat WHERE id IN "+in, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, owner string
		var doc jsondoc.Doc
		if err := rows.Scan(&id, &owner, &doc); err != nil {
			return err
		}
		add := func(m jsondoc.Doc) bool {
			if m.Text("role") != "user" {
				return true
			}
			for _, a := range []string{m.Text("user_id"), m.Text("user", "id"), owner} {
				if strings.TrimSpace(a) != "" {
					if !slices.Contains(out[id], a) {
						out[id] = append(out[id], a)
					}
					break
				}
			}
			return true
		}
		// an empty history counts, so that deleted messages stay deleted
		if h := doc.Get("history", "messages"); h.Kind() == '{' {
			h.Each(func(_ string, m jsondoc.Doc) bool { return add(m) })
		} else {
			doc.Get("messages").Items(func(_ int, m jsondoc.Doc) bool { return add(m) })
		}
	}
	return rows.Err()
}
