package chats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

func timeNow() int64 { return time.Now().Unix() }

// Author is to whom messages that a client sends are attributed.
type Author struct{ ID, Name string }

// attribute marks all messages as the author's; those of role "user" also get a member user.
func (d *document) attribute(a Author) (changed bool) {
	id := jsondoc.Text(a.ID)
	user := jsondoc.Doc(`{"id":` + string(id) + `,"name":` + string(jsondoc.Text(a.Name)) + `}`)
	for i := range d.msgs.list {
		changed = d.msgs.list[i].attribute(id, user) || changed
	}
	list := d.top.Get("messages")
	if !isArray(trim(list)) || !list.Truthy() {
		return changed
	}
	var out []jsondoc.Doc
	legacy := false
	items(list, func(v jsondoc.Doc) bool {
		m := message{raw: v}
		m.parse()
		legacy = m.attribute(id, user) || legacy
		out = append(out, m.raw)
		return true
	})
	if legacy {
		d.top.Set("messages", jsondoc.Array(out...))
	}
	return changed || legacy
}

func (m *message) attribute(id, user jsondoc.Doc) (changed bool) {
	if !m.object() {
		return false
	}
	if string(m.userID) != string(id) {
		m.raw = m.raw.Set(id, "user_id")
		changed = true
	}
	if m.isRole("user") && string(m.user) != string(user) && !equal(m.user, user) {
		m.raw = m.raw.Set(user, "user")
		changed = true
	}
	if changed {
		m.parse()
	}
	return changed
}

// edit runs f on a chat and its document under the chat's lock, and writes what f leaves behind: document, title,
// current message. f says whether anything is to be written. store.ErrNotFound if there is no such chat.
func (s *Store) edit(ctx context.Context, id string, f func(tx *store.Tx, c *Chat, d *document) (bool, error)) (*Chat, error) {
	var c *Chat
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		c, err = scanOne(tx.QueryRow(ctx, "SELECT "+columns+" FROM chat WHERE id = $1"+tx.Dialect().ForUpdate(), id))
		if err != nil {
			return err
		}
		before := *c
		d := openDocument(c.Doc)
		write, err := f(tx, c, d)
		if err != nil || !write {
			return err
		}
		c.Doc = Clean(d.doc())
		if bytes.Equal(c.Doc, before.Doc) && c.Title == before.Title && c.UpdatedAt == before.UpdatedAt && same(c.CurrentMessageID, before.CurrentMessageID) {
			return nil
		}
		_, err = tx.Exec(ctx, "UPDATE chat SET chat = $2, title = $3, current_message_id = $4, updated_at = $5 WHERE id = $1",
			id, c.Doc, c.Title, c.CurrentMessageID, c.UpdatedAt)
		tx.AfterCommit(func() { s.texts.drop(id) })
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("edit chat %s: %w", id, err)
	}
	return c, err
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// derive takes title and current message from the document.
func (c *Chat) derive(d *document) {
	c.Title = d.title()
	c.CurrentMessageID = d.currentMessageID()
}

func (c *Chat) authorOf(m *message) string {
	if a := m.author(); a != "" {
		return a
	}
	return c.UserID
}

// Patch is a client's document that is to be merged into a chat, read once.
type Patch struct{ d *document }

// NewPatch reads a document, an object.
func NewPatch(d jsondoc.Doc) *Patch { return &Patch{openDocument(Clean(d))} }

// Has says whether a member is there, be it null.
func (p *Patch) Has(name string) bool { return p.d.top.Has(name) }

// Get is the raw value of a member, nil where it is absent.
func (p *Patch) Get(name string) jsondoc.Doc { return p.d.top.Get(name) }

// Len is the number of members.
func (p *Patch) Len() int { return p.d.top.Len() }

// Update merges a client's document into a chat: top-level members replace those stored, the history is united with
// the stored one. Its messages are attributed to author if that is set. Rows follow for the messages that changed. A
// patch can be merged once.
func (s *Store) Update(ctx context.Context, id string, patch *Patch, author *Author, touch bool) (*Chat, error) {
	in := patch.d
	if author != nil {
		in.attribute(*author)
	}
	return s.edit(ctx, id, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		stored := d.msgs
		var sent []string
		moved := false
		in.top.Each(func(name string, v jsondoc.Doc) bool {
			switch name {
			case "history":
				if in.history != nil {
					sent = d.mergeHistory(in, c.UserID)
				}
				moved = true
				return true
			case "messages", "currentId", "branchPointMessageId":
				moved = true
			}
			d.top.Set(name, v)
			return true
		})
		c.Title = d.title()
		if moved {
			c.CurrentMessageID = d.currentMessageID()
		}
		if touch {
			c.UpdatedAt = s.unix()
		}
		var rows []messageRow
		for _, id := range sent {
			m := d.msgs.get(id)
			if m == nil || !m.role.Truthy() {
				continue
			}
			if old := stored.get(id); old != nil && equal(old.raw, m.raw) {
				continue
			}
			rows = append(rows, messageRow{id: id, userID: c.authorOf(m), fields: m.raw})
		}
		return true, upsertMessages(ctx, tx, id, rows)
	})
}

// UpsertMessage merges fields into a message of a chat, in the document and in its row, or makes the message. Without
// content the text of output is taken. touch moves updated_at. It gives the chat as it is then; store.ErrNotFound if
// there is none.
func (s *Store) UpsertMessage(ctx context.Context, chatID, messageID string, fields jsondoc.Doc, touch bool) (*Chat, error) {
	fields, messageID = Clean(withContent(fields)), CleanText(messageID)
	return s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		d.repair()
		m := d.upsert(messageID, fields)
		row := messageRow{id: messageID, userID: c.authorOf(m), fields: m.raw}
		c.derive(d)
		if touch {
			c.UpdatedAt = s.unix()
		}
		return true, upsertMessages(ctx, tx, chatID, []messageRow{row})
	})
}

// withContent gives fields without content the text of their output.
func withContent(fields jsondoc.Doc) jsondoc.Doc {
	if member(fields, "content").Truthy() {
		return fields
	}
	if t := OutputText(member(fields, "output")); t != "" {
		return fields.Set(jsondoc.Text(t), "content")
	}
	return fields
}

// OutputText joins the texts of the message items of an answer's output.
func OutputText(output jsondoc.Doc) string {
	var texts []string
	items(output, func(item jsondoc.Doc) bool {
		if kind, _ := text(member(item, "type")); kind != "message" {
			return true
		}
		var b strings.Builder
		items(member(item, "content"), func(part jsondoc.Doc) bool {
			t, _ := text(member(part, "text"))
			b.WriteString(t)
			return true
		})
		if strings.TrimSpace(b.String()) != "" {
			texts = append(texts, b.String())
		}
		return true
	})
	return strings.Join(texts, "\n")
}

// Progress writes fields of a message that is being answered to its row only, which costs the same however long the
// chat is. The document follows with the last [Store.UpsertMessage]; until then readers of the document see what a
// response stream lays over it. A message without a row is left alone.
func (s *Store) Progress(ctx context.Context, chatID, messageID string, fields jsondoc.Doc) error {
	fields = Clean(withContent(fields)).Delete("usage").Delete("info")
	return updateMessage(ctx, s.db, chatID+"-"+messageID, fields, nil)
}

// EditMessage changes one message by f, in the document and in its row, under the chat's lock. What the row knows
// better (fields written by Progress) is laid over the document's message first. f returning nil changes nothing.
// store.ErrNotFound if there is no such chat or message.
func (s *Store) EditMessage(ctx context.Context, chatID, messageID string, f func(message jsondoc.Doc) (jsondoc.Doc, error)) error {
	_, err := s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		m := jsondoc.Doc(nil)
		if have := d.msgs.get(messageID); have != nil {
			m = have.raw
		}
		rows, err := readMessages(ctx, tx, "id = $1", chatID, chatID+"-"+messageID)
		if err != nil {
			return false, err
		}
		if len(rows) > 0 {
			m = jsondoc.Doc("{}").Merge(m).Merge(rows[0].fields())
		}
		if m.Kind() != '{' {
			return false, store.ErrNotFound
		}
		changed, err := f(m)
		if err != nil || changed == nil {
			return false, err
		}
		changed = Clean(changed)
		d.ensureHistory()
		d.msgs.add(messageID, changed)
		return true, upsertMessages(ctx, tx, chatID, []messageRow{{id: messageID, userID: c.authorOf(d.msgs.get(messageID)), fields: changed}})
	})
	return err
}

// AddStatus appends a status to a message's statusHistory; an unknown message is left alone.
func (s *Store) AddStatus(ctx context.Context, chatID, messageID string, status jsondoc.Doc) error {
	status = Clean(status)
	_, err := s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		d.repair()
		c.derive(d)
		return s.appendTo(ctx, tx, c, d, messageID, "statusHistory", status)
	})
	return err
}

// AddFiles appends files to a message and gives all it has then; an unknown message has none.
func (s *Store) AddFiles(ctx context.Context, chatID, messageID string, files ...jsondoc.Doc) (jsondoc.Doc, error) {
	all := jsondoc.Doc("[]")
	_, err := s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		c.UpdatedAt = s.unix()
		clean := make([]jsondoc.Doc, len(files))
		for i, f := range files {
			clean[i] = Clean(f)
		}
		write, err := s.appendTo(ctx, tx, c, d, messageID, "files", clean...)
		if m := d.msgs.get(messageID); m != nil {
			all = member(m.raw, "files")
		}
		return write, err
	})
	return all, err
}

func (s *Store) appendTo(ctx context.Context, tx *store.Tx, c *Chat, d *document, messageID, list string, values ...jsondoc.Doc) (bool, error) {
	m := d.msgs.get(messageID)
	if m == nil || !m.object() {
		return true, nil
	}
	have := member(m.raw, list).List()
	m.set(list, jsondoc.Array(append(have, values...)...))
	return true, upsertMessages(ctx, tx, c.ID, []messageRow{{id: messageID, userID: c.authorOf(m), fields: m.raw}})
}

// DeleteMessage takes a message and its direct children out of a chat; the grandchildren move up. An unknown message
// changes nothing.
func (s *Store) DeleteMessage(ctx context.Context, chatID, messageID string) (*Chat, error) {
	return s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		repaired := d.repair()
		parent := jsondoc.Doc(nil)
		if m := d.msgs.get(messageID); m != nil {
			parent = m.parent
		}
		gone := d.deleteMessage(messageID)
		c.derive(d)
		if len(gone) == 0 {
			return repaired, nil
		}
		c.UpdatedAt = s.unix()
		if err := deleteMessages(ctx, tx, chatID, gone); err != nil {
			return false, err
		}
		var rows []messageRow
		for i := range d.msgs.list {
			m := &d.msgs.list[i]
			if m.object() && (parent.IsNull() && m.parent.IsNull() || string(m.parent) == string(parent)) {
				rows = append(rows, messageRow{id: m.key, userID: c.authorOf(m), fields: m.raw})
			}
		}
		return true, upsertMessages(ctx, tx, chatID, rows)
	})
}

// SetTitle changes a chat's title, in the column and in the document.
func (s *Store) SetTitle(ctx context.Context, id, title string) error {
	title = CleanText(title)
	_, err := s.edit(ctx, id, func(_ *store.Tx, c *Chat, d *document) (bool, error) {
		c.Title = title
		d.top.Set("title", jsondoc.Text(title))
		return true, nil
	})
	return err
}

// MergeParams sets members of the document's params and gives the chat.
func (s *Store) MergeParams(ctx context.Context, id string, params jsondoc.Doc) (*Chat, error) {
	return s.edit(ctx, id, func(_ *store.Tx, c *Chat, d *document) (bool, error) {
		d.top.Set("params", Clean(jsondoc.Doc("{}").Merge(d.top.Get("params")).Merge(params)))
		return true, nil
	})
}

// SetVariables replaces a chat's variables.
func (s *Store) SetVariables(ctx context.Context, id string, v jsondoc.Doc) error {
	if v.Kind() != '{' {
		v = jsondoc.Doc("{}")
	}
	_, err := s.db.Exec(ctx, "UPDATE chat SET variables = $2 WHERE id = $1", id, Clean(v))
	return err
}

// SetTasks replaces the list of a chat's tasks.
func (s *Store) SetTasks(ctx context.Context, id string, tasks jsondoc.Doc) error {
	_, err := s.db.Exec(ctx, "UPDATE chat SET tasks = $2 WHERE id = $1", id, jsonValue(tasks))
	return err
}

// Tasks is the list of a chat's tasks, [] where there is none.
func (s *Store) Tasks(ctx context.Context, id string) (jsondoc.Doc, error) {
	var d jsondoc.Doc
	err := s.db.QueryRow(ctx, "SELECT tasks FROM chat WHERE id = $1", id).Scan(&d)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return d.Or(jsondoc.Doc("[]")), err
}

// Title is a chat's title, "New Chat" where it has none; store.ErrNotFound if there is no such chat.
func (s *Store) Title(ctx context.Context, id string) (string, error) {
	var title string
	err := s.db.QueryRow(ctx, "SELECT COALESCE(title, '') FROM chat WHERE id = $1", id).Scan(&title)
	if title == "" {
		title = "New Chat"
	}
	return title, err
}
