package chats

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Map is the messages of a chat by id, each an object as in history.messages.
type Map struct {
	ids  []string
	byID map[string]jsondoc.Doc
}

// Len is the number of messages; a nil Map has none.
func (m *Map) Len() int {
	if m == nil {
		return 0
	}
	return len(m.ids)
}

// Get is a message, nil where there is none.
func (m *Map) Get(id string) jsondoc.Doc {
	if m == nil {
		return nil
	}
	return m.byID[id]
}

// Set adds or replaces a message.
func (m *Map) Set(id string, d jsondoc.Doc) {
	if m.byID == nil {
		m.byID = map[string]jsondoc.Doc{}
	}
	if _, ok := m.byID[id]; !ok {
		m.ids = append(m.ids, id)
	}
	m.byID[id] = d
}

// Each calls f for each message, in order, until it returns false.
func (m *Map) Each(f func(id string, message jsondoc.Doc) bool) {
	if m == nil {
		return
	}
	for _, id := range m.ids {
		if !f(id, m.byID[id]) {
			return
		}
	}
}

// Chain is the branch that ends in a message, from its root on; empty where the message is unknown.
func (m *Map) Chain(id string) []jsondoc.Doc {
	var out []jsondoc.Doc
	seen := map[string]bool{}
	for id != "" && !seen[id] {
		d := m.Get(id)
		if d.Kind() != '{' || !d.Truthy() {
			break
		}
		seen[id] = true
		out = append(out, d)
		id, _ = text(member(d, "parentId"))
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// HistoryMap is the map of a document's history.
func HistoryMap(d jsondoc.Doc) *Map {
	m := &Map{byID: map[string]jsondoc.Doc{}}
	each(trim(member(member(d, "history"), "messages")), func(n []byte, v jsondoc.Doc) bool {
		m.Set(name(n), v)
		return true
	})
	return m
}

// stored is a row of chat_message read back.
type stored struct {
	id, userID, role, parent, model, summary      sql.NullString
	content, output, files, sources, embeds, meta jsondoc.Doc
	statusHistory, err, usage                     jsondoc.Doc
	done                                          sql.NullBool
	created                                       sql.NullInt64
}

const storedColumns = "id, user_id, role, parent_id, content, output, model_id, files, sources, embeds, meta, done, status_history, error, usage, context_summary, created_at"

// readMessages reads the rows that match a condition on $1…; ids are without the chat's.
func readMessages(ctx context.Context, q store.Querier, where, chatID string, args ...any) ([]stored, error) {
	rows, err := q.Query(ctx, "SELECT "+storedColumns+" FROM chat_message WHERE "+where, args...)
	return store.Collect(rows, err, func(r *sql.Rows) (m stored, err error) {
		err = r.Scan(&m.id, &m.userID, &m.role, &m.parent, &m.content, &m.output, &m.model, &m.files, &m.sources, &m.embeds, &m.meta, &m.done,
			&m.statusHistory, &m.err, &m.usage, &m.summary, &m.created)
		m.id.String = strings.TrimPrefix(m.id.String, chatID+"-")
		return m, err
	})
}

// fields are the columns that are not null under the names they have in a document.
func (m *stored) fields() jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("id", jsondoc.Text(m.id.String))
	txt := func(name string, v sql.NullString) {
		if v.Valid {
			b.Raw(name, jsondoc.Text(v.String))
		}
	}
	doc := func(name string, v jsondoc.Doc) {
		if !v.IsNull() {
			b.Raw(name, v)
		}
	}
	txt("user_id", m.userID)
	txt("role", m.role)
	txt("parentId", m.parent)
	doc("content", m.content)
	doc("output", m.output)
	txt("model", m.model)
	doc("files", m.files)
	doc("sources", m.sources)
	doc("embeds", m.embeds)
	doc("meta", m.meta)
	if m.done.Valid {
		b.Add("done", m.done.Bool)
	}
	doc("statusHistory", m.statusHistory)
	doc("error", m.err)
	doc("usage", m.usage)
	txt("contextSummary", m.summary)
	if m.created.Valid {
		b.Add("timestamp", m.created.Int64)
	}
	return b.Done()
}

// message is fields completed to what callers of the messages map expect.
func (m *stored) message(children []string) jsondoc.Doc {
	d := m.fields()
	if m.content.IsNull() {
		d = d.Set(jsondoc.Doc(`""`), "content")
	}
	if !m.usage.IsNull() {
		d = d.Set(jsondoc.Object("usage", m.usage), "info")
	}
	ids := make([]jsondoc.Doc, len(children))
	for i, c := range children {
		ids[i] = jsondoc.Text(c)
	}
	return d.Set(jsondoc.Array(ids...), "childrenIds")
}

// rowMap is the map made of a chat's rows, nil where it has none.
func (s *Store) rowMap(ctx context.Context, chatID string) (*Map, error) {
	rows, err := readMessages(ctx, s.db, "chat_id = $1", chatID, chatID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	children := map[string][]string{}
	for _, r := range rows {
		if r.parent.String != "" {
			children[r.parent.String] = append(children[r.parent.String], r.id.String)
		}
	}
	m := &Map{byID: make(map[string]jsondoc.Doc, len(rows))}
	for i := range rows {
		m.Set(rows[i].id.String, rows[i].message(children[rows[i].id.String]))
	}
	return m, nil
}

// Messages is the map of a chat's messages for walking its branches: from the rows, completed from the document where
// a parent has no row (rows are then made, so that it happens once). It is empty where the chat has no messages, and
// nil where there is no such chat.
func (s *Store) Messages(ctx context.Context, chatID string) (*Map, error) {
	m, err := s.rowMap(ctx, chatID)
	if err != nil {
		return nil, err
	}
	missing := m.unresolved()
	if m != nil && len(missing) == 0 {
		return m, nil
	}
	c, err := s.Get(ctx, chatID)
	if errors.Is(err, store.ErrNotFound) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	doc := openDocument(c.Doc)
	doc.repair()
	found := &messages{at: map[string]int{}}
	if m == nil {
		m = &Map{byID: map[string]jsondoc.Doc{}}
		found = doc.msgs
	} else {
		for _, id := range missing {
			if have := doc.msgs.get(id); have != nil {
				found.add(id, have.raw)
			}
		}
	}
	for i := range found.list {
		m.Set(found.list[i].key, found.list[i].raw)
	}
	return m, s.backfill(ctx, c, found)
}

// unresolved are parents that messages name and that are not in the map.
func (m *Map) unresolved() (ids []string) {
	m.Each(func(_ string, d jsondoc.Doc) bool {
		if p, ok := text(member(d, "parentId")); ok && p != "" && m.Get(p) == nil {
			ids = append(ids, p)
		}
		return true
	})
	return ids
}

// backfill makes rows for messages that have none; rows that another request has made in the meantime stay.
func (s *Store) backfill(ctx context.Context, c *Chat, ms *messages) error {
	rows := ms.rows(c.UserID)
	if len(rows) == 0 {
		return nil
	}
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		return insertMessages(ctx, tx, c.ID, rows, " ON CONFLICT (id) DO NOTHING")
	})
	if err != nil {
		return fmt.Errorf("complete messages of chat %s: %w", c.ID, err)
	}
	return nil
}

// Message is one message: from its row, or from the document where it has none; nil where it is unknown, and
// store.ErrNotFound where the chat is.
func (s *Store) Message(ctx context.Context, chatID, messageID string) (jsondoc.Doc, error) {
	rows, err := readMessages(ctx, s.db, "id = $1", chatID, chatID+"-"+messageID)
	if err != nil {
		return nil, err
	}
	if len(rows) > 0 {
		kids, err := store.Strings(s.db.Query(ctx, "SELECT id FROM chat_message WHERE chat_id = $1 AND parent_id = $2", chatID, messageID))
		for i := range kids {
			kids[i] = strings.TrimPrefix(kids[i], chatID+"-")
		}
		return rows[0].message(kids), err
	}
	c, err := s.Get(ctx, chatID)
	if err != nil {
		return nil, err
	}
	m := HistoryMap(c.Doc).Get(messageID)
	return Clean(m), nil
}

// MessageList reads a JSON column of a message's row ("files", "sources" or "embeds"), or the member of the document
// where there is no row; nil where it is absent.
func (s *Store) MessageList(ctx context.Context, chatID, messageID, name string) (jsondoc.Doc, error) {
	switch name {
	case "files", "sources", "embeds":
	default:
		return nil, fmt.Errorf("chats: no list %q", name)
	}
	var c jsondoc.Doc
	err := s.db.QueryRow(ctx, "SELECT "+name+" FROM chat_message WHERE id = $1", chatID+"-"+messageID).Scan(&c)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return c, err
	}
	chat, err := s.Get(ctx, chatID)
	if err != nil {
		return nil, err
	}
	return member(HistoryMap(chat.Doc).Get(messageID), name), nil
}

// Unfinished are the chats of a list in which an answer is not done.
func (s *Store) Unfinished(ctx context.Context, ids []string) (map[string]bool, error) {
	out := map[string]bool{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := store.In(nil, padded(ids))
	found, err := store.Strings(s.db.Query(ctx, "SELECT DISTINCT chat_id FROM chat_message WHERE role = 'assistant' AND done = FALSE AND chat_id IN "+list, args...))
	for _, id := range found {
		out[id] = true
	}
	return out, err
}
