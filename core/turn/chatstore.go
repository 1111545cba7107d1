package turn

import (
	"context"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// ChatGate says who may take part in a chat.
type ChatGate interface {
	// Writable gives a chat, without its document, that the user may write to; store.ErrNotFound where there is none.
	Writable(ctx context.Context, u *users.User, id string) (*chats.Chat, error)
}

// FileGate says which files a user may refer to.
type FileGate interface {
	// Readable gives those of some files that the user may read.
	Readable(ctx context.Context, u *users.User, ids []string) ([]string, error)
}

// ChatStore is the Store over the tables of chats.
type ChatStore struct {
	Chats *chats.Store
	Gate  ChatGate
	Files FileGate // nil: files are not noted
}

// Chat implements Store.
func (s ChatStore) Chat(ctx context.Context, p *auth.Principal, id string) (*Chat, error) {
	c, err := s.Gate.Writable(ctx, p.User, id)
	if err != nil {
		return nil, err
	}
	out := &Chat{ID: c.ID, UserID: c.UserID, Variables: c.Variables}
	if c.FolderID != nil {
		out.FolderID = *c.FolderID
	}
	return out, nil
}

// Create implements Store.
func (s ChatStore) Create(ctx context.Context, c NewChat) error {
	n := chats.NewChat{ID: c.ID, UserID: c.UserID, Doc: c.Document, Variables: c.Variables}
	if c.FolderID != "" {
		n.FolderID = &c.FolderID
	}
	_, err := s.Chats.Insert(ctx, n)
	return err
}

// Begin implements Store.
func (s ChatStore) Begin(ctx context.Context, c *Chat, p *auth.Principal, b Begin) (jsondoc.Doc, error) {
	in := chats.Begin{User: chats.Author{ID: p.ID, Name: p.Name}, Message: b.Message, Models: b.Models, Files: b.Files, Variables: b.Variables}
	for _, e := range b.Entries {
		r := chats.Reply{MessageID: e.MessageID, ModelID: e.ModelID, ModelIdx: e.ModelIdx}
		if e.TaskID != "" {
			r.Meta = jsondoc.Object("task_id", jsondoc.Text(e.TaskID))
		}
		in.Replies = append(in.Replies, r)
	}
	t, err := s.Chats.BeginTurn(ctx, c.ID, in)
	switch {
	case errors.Is(err, chats.ErrMessageExists), errors.Is(err, chats.ErrNoParent):
		return nil, web.Fail(http.StatusConflict, rootText(err))
	case errors.Is(err, chats.ErrNotUser):
		return nil, web.Fail(http.StatusForbidden, rootText(err))
	case err != nil:
		return nil, err
	}
	return jsondoc.Object("messages", t.Messages).Set(t.CurrentID, "currentId"), nil
}

// rootText is the text of the innermost error.
func rootText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// Update implements Store.
func (s ChatStore) Update(ctx context.Context, chatID, messageID string, fields jsondoc.Doc, touch bool) error {
	_, err := s.Chats.UpsertMessage(ctx, chatID, messageID, fields, touch)
	if errors.Is(err, store.ErrNotFound) {
		return nil // the chat was deleted while the answer was being written
	}
	return err
}

// Progress implements Store.
func (s ChatStore) Progress(ctx context.Context, chatID, messageID string, fields jsondoc.Doc) error {
	return s.Chats.Progress(ctx, chatID, messageID, fields)
}

// SaveEvent implements Store.
func (s ChatStore) SaveEvent(ctx context.Context, chatID, messageID, kind string, data jsondoc.Doc) error {
	return s.Chats.SaveEvent(ctx, chatID, messageID, kind, data)
}

// Message implements Store.
func (s ChatStore) Message(ctx context.Context, chatID, messageID string) (jsondoc.Doc, error) {
	m, err := s.Chats.Message(ctx, chatID, messageID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return m, err
}

// EditMessage implements Store.
func (s ChatStore) EditMessage(ctx context.Context, chatID, messageID string, f func(message jsondoc.Doc) (jsondoc.Doc, error)) error {
	return s.Chats.EditMessage(ctx, chatID, messageID, f)
}

// Chain implements Store.
func (s ChatStore) Chain(ctx context.Context, chatID, messageID string) ([]jsondoc.Doc, int, error) {
	m, err := s.Chats.Messages(ctx, chatID)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil, 0, nil
		}
		return nil, 0, err
	}
	return m.Chain(messageID), m.Len(), nil
}

// Title implements Store.
func (s ChatStore) Title(ctx context.Context, chatID string) (string, error) {
	t, err := s.Chats.Title(ctx, chatID)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return t, err
}

// SetTitle implements Store.
func (s ChatStore) SetTitle(ctx context.Context, chatID, title string) error {
	return s.Chats.SetTitle(ctx, chatID, title)
}

// SetTags implements Store.
func (s ChatStore) SetTags(ctx context.Context, chatID, userID string, tags []string) error {
	return s.Chats.SetTags(ctx, chatID, userID, tags)
}

// AddFiles implements Store.
func (s ChatStore) AddFiles(ctx context.Context, chatID, messageID string, u *users.User, ids []string) error {
	if s.Files == nil {
		return nil
	}
	ids, err := s.Files.Readable(ctx, u, ids)
	if err != nil || len(ids) == 0 {
		return err
	}
	return s.Chats.LinkFiles(ctx, chatID, messageID, u.ID, ids)
}

// Unfinished implements Store.
func (s ChatStore) Unfinished(ctx context.Context, chatID, userID string) (map[string]jsondoc.Doc, error) {
	c, err := s.Chats.Head(ctx, chatID)
	if err != nil {
		return nil, err
	}
	all, err := s.Chats.Messages(ctx, chatID)
	if err != nil {
		return nil, err
	}
	out := map[string]jsondoc.Doc{}
	all.Each(func(id string, m jsondoc.Doc) bool {
		if m.Text("role") == "assistant" && string(m.Get("done")) == "false" && authorOr(m, c.UserID) == userID {
			out[id] = m
		}
		return true
	})
	return out, nil
}

func authorOr(m jsondoc.Doc, owner string) string {
	if id := m.Text("user_id"); id != "" {
		return id
	}
	return owner
}

// TaskOwners implements Store.
func (s ChatStore) TaskOwners(ctx context.Context, chatID string) (map[string]string, string, error) {
	c, err := s.Chats.Get(ctx, chatID)
	if err != nil {
		return nil, "", err
	}
	out := map[string]string{}
	c.Doc.Get("history", "messages").Each(func(_ string, m jsondoc.Doc) bool {
		if id := m.Text("meta", "task_id"); id != "" {
			out[id] = authorOr(m, c.UserID)
		}
		return true
	})
	return out, c.UserID, nil
}
