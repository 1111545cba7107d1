package chats

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Errors of InsertTurn; the texts are those that clients see.
var (
	ErrMessageExists = errors.New("Message already exists or has an invalid ID.")      //nolint:staticcheck // see above
	ErrNotUser       = errors.New("You can only regenerate replies to user messages.") //nolint:staticcheck // see above
	ErrNoParent      = errors.New("Parent message no longer exists.")                  //nolint:staticcheck // see above
)

// Reply is an answer that a turn is about to write.
type Reply struct {
	MessageID string
	ModelID   string
	ModelIdx  jsondoc.Doc // as sent; nil is null
	Meta      jsondoc.Doc // the message's meta; nil for none
}

// Begin is what a turn begins with.
type Begin struct {
	User    Author
	Message jsondoc.Doc // the user's message; nil: the answers have no parent
	Replies []Reply
	// What the owner selected; nil leaves as it is: the chat's models, its files and its variables.
	Models, Files, Variables jsondoc.Doc
}

// Turn is what InsertTurn has put into the chat: the messages, their parent among them, and where the chat is now.
type Turn struct {
	Messages  jsondoc.Doc // an object by id
	CurrentID jsondoc.Doc
}

// InsertTurn is BeginTurn with nothing selected.
func (s *Store) InsertTurn(ctx context.Context, chatID string, user Author, userMessage jsondoc.Doc, replies []Reply) (*Turn, error) {
	return s.BeginTurn(ctx, chatID, Begin{User: user, Message: userMessage, Replies: replies})
}

// BeginTurn puts a user's message and empty answers to it into a chat, in one step under the chat's lock, so that two
// people who write at once cannot lose each other's messages. Without a message (nil) the answers have no parent. A
// known user message is answered again: the answers become siblings. An empty answer that its author prepared is taken
// over. With neither message nor answers it only keeps what was selected. Errors: ErrMessageExists, ErrNotUser, ErrNoParent, store.ErrNotFound.
func (s *Store) BeginTurn(ctx context.Context, chatID string, begin Begin) (*Turn, error) {
	user, userMessage, replies := begin.User, begin.Message, begin.Replies
	turn := &Turn{}
	_, err := s.edit(ctx, chatID, func(tx *store.Tx, c *Chat, d *document) (bool, error) {
		if d.history == nil {
			d.ensureHistory()
			d.history.Set("currentId", jsondoc.Doc("null"))
		}
		d.ensureHistory()
		userID := ""
		if userMessage.Truthy() {
			userID, _ = text(trim(member(userMessage, "id")))
		}
		if err := d.checkTurn(c, user.ID, userMessage, userID, replies); err != nil {
			return false, err
		}
		var changed []string
		parent := jsondoc.Doc("null")
		above := ""
		if userMessage.Truthy() {
			var err error
			if above, err = d.putUserMessage(c, user, Clean(userMessage), userID); err != nil {
				return false, err
			}
			parent = jsondoc.Text(userID)
			changed = append(changed, userID)
		}
		for _, r := range replies {
			var b jsondoc.Builder
			b.Add("id", r.MessageID)
			b.Raw("parentId", parent)
			b.Raw("childrenIds", jsondoc.Doc("[]"))
			b.Add("role", "assistant")
			b.Add("content", "")
			b.Add("done", false)
			b.Add("model", r.ModelID)
			b.Raw("modelIdx", r.ModelIdx)
			b.Add("timestamp", s.unix())
			b.Add("user_id", user.ID)
			if r.Meta != nil {
				b.Raw("meta", r.Meta)
			}
			d.upsert(r.MessageID, b.Done())
			changed = append(changed, r.MessageID)
		}
		var rows []messageRow
		var out jsondoc.Builder
		for _, id := range changed {
			m := d.msgs.get(id)
			rows = append(rows, messageRow{id: id, userID: c.authorOf(m), fields: m.raw})
			out.Raw(id, m.raw)
		}
		if above != "" {
			out.Raw(above, d.msgs.get(above).raw)
		}
		turn.Messages, turn.CurrentID = out.Done(), d.history.Get("currentId").Or(jsondoc.Doc("null"))
		c.CurrentMessageID = nil
		if id, ok := turn.CurrentID.AsText(); ok {
			c.CurrentMessageID = &id
		}
		if len(changed) > 0 {
			c.UpdatedAt = s.unix()
		}
		if begin.Models != nil {
			d.top.Set("models", Clean(begin.Models))
		}
		if begin.Files != nil {
			d.top.Set("files", Clean(begin.Files))
		}
		if begin.Variables != nil && !equal(begin.Variables, c.Variables) {
			if _, err := tx.Exec(ctx, "UPDATE chat SET variables = $2 WHERE id = $1", chatID, Clean(begin.Variables)); err != nil {
				return false, err
			}
		}
		return true, upsertMessages(ctx, tx, chatID, rows)
	})
	return turn, err
}

// checkTurn refuses ids that are taken, twice in the list or empty.
func (d *document) checkTurn(c *Chat, user string, userMessage jsondoc.Doc, userMessageID string, replies []Reply) error {
	seen := map[string]bool{}
	if userMessage.Truthy() {
		if userMessageID == "" {
			return ErrMessageExists
		}
		seen[userMessageID] = true
	}
	for _, r := range replies {
		if r.MessageID == "" || seen[r.MessageID] {
			return ErrMessageExists
		}
		seen[r.MessageID] = true
		m := d.msgs.get(r.MessageID)
		if m == nil || !m.raw.Truthy() {
			continue
		}
		if !m.isRole("assistant") || m.done.Truthy() || m.output.Truthy() || member(m.raw, "content").Truthy() || c.authorOf(m) != user ||
			userMessage.Truthy() && m.parentID() != userMessageID {
			return ErrMessageExists
		}
	}
	return nil
}

// putUserMessage adds a turn's user message, or takes the models of one that is there. It gives the parent's id.
func (d *document) putUserMessage(c *Chat, user Author, sent jsondoc.Doc, id string) (string, error) {
	existing := d.msgs.get(id)
	parent := member(sent, "parentId")
	if existing != nil {
		if !existing.isRole("user") {
			return "", ErrNotUser
		}
		parent = existing.parent
	}
	parentID, ok := text(parent)
	if !parent.IsNull() && (!ok || d.msgs.get(parentID) == nil) {
		return "", ErrNoParent
	}
	if existing != nil {
		m := existing.raw
		if models := member(sent, "models"); len(models) > 0 && c.authorOf(existing) == user.ID {
			m = m.Set(models, "models")
		}
		d.upsert(id, m)
		return parentID, nil
	}
	o := jsondoc.Open(sent)
	if c.UserID != user.ID {
		o = &jsondoc.Obj{}
		for _, n := range []string{"content", "files", "models"} {
			if v := member(sent, n); len(v) > 0 {
				o.Set(n, v)
			}
		}
	}
	o.Set("id", jsondoc.Text(id))
	o.Set("parentId", parent.Or(jsondoc.Doc("null")))
	o.Set("role", jsondoc.Text("user"))
	o.Set("childrenIds", jsondoc.Doc("[]"))
	o.Set("timestamp", jsondoc.Of(timeNow()))
	o.Set("user_id", jsondoc.Text(user.ID))
	o.Set("user", jsondoc.Of(map[string]string{"id": user.ID, "name": user.Name}))
	d.upsert(id, o.Doc())
	return parentID, nil
}
