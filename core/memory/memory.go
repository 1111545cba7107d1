// Package memory is what the server remembers of its users from one chat to the next: facts about them and whatever else
// later chats may need. People write memories on the page, models by tools, and both are told of them: in the system
// message of a chat and by searches, by words or by meaning.
//
// Memories are found by meaning where the settings name an embedding engine ([embed.Embedder]). A vector that is missing
// or out of date, because the engine was not there or another program changed the memory, is made when it is first looked
// for. Without an engine, or where it fails, memories are found by the words they share with the question.
package memory

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/vector"
	"github.com/galleychat/galley/core/web"
)

// Memory is one thing that is remembered.
type Memory = memories.Memory

// Permission is what users need to have memories.
const Permission = "features.memories"

// Deps are what a Service works with.
type Deps struct {
	Store    *memories.Store
	Users    Users
	Access   *access.Access
	Settings *config.Settings
	Embedder embed.Embedder
	Vectors  vector.Store
	Events   *events.Bus
	Log      *slog.Logger
}

// Users lists accounts; *users.Store has it.
type Users interface {
	ByIDs(ctx context.Context, ids []string) (map[string]*users.User, error)
	Count(ctx context.Context) (int, error)
}

// Service reads and changes memories. Its errors are *web.Error where they are the caller's fault.
type Service struct{ Deps }

// New makes a Service.
func New(d Deps) *Service { return &Service{d} }

var (
	errOff       = web.Fail(http.StatusNotFound, web.TextNotFound)
	errForbidden = web.Fail(http.StatusForbidden, web.TextProhibited)
	errUnknown   = web.Fail(http.StatusNotFound, web.TextNotFound)
)

// Check says why a caller can have no memories: nobody can, or these may not.
func (s *Service) Check(ctx context.Context, p *auth.Principal) error {
	if !config.MemoriesEnable.Get(s.Settings.Snapshot()) {
		return errOff
	}
	switch ok, err := s.Access.HasOrAdmin(ctx, p.User, Permission); {
	case err != nil:
		return err
	case !ok:
		return errForbidden
	}
	return nil
}

// List gives a user's memories in the order in which they were made.
func (s *Service) List(ctx context.Context, userID string) ([]Memory, error) {
	return s.Store.OfUser(ctx, userID)
}

// Add makes a memory of a type.
func (s *Service) Add(ctx context.Context, p *auth.Principal, content, kind, path string) (*Memory, error) {
	content, err := cleanContent(content)
	if err != nil {
		return nil, err
	}
	clean, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	m, err := s.Store.Insert(ctx, Memory{UserID: p.ID, Content: content, Type: kind, Path: clean, Meta: byHand})
	if err != nil {
		return nil, err
	}
	s.index(ctx, p, []Memory{*m})
	s.tell(ctx, p, "memory.created", m, "")
	return m, nil
}

// byHand is the meta of memories that a person, or a tool for one memory, has written.
var byHand = jsondoc.Doc(`{"created_by":"manual"}`)

// Update changes a memory; nil lets a part be, and an empty path is none.
func (s *Service) Update(ctx context.Context, p *auth.Principal, id string, content, kind, path *string) (*Memory, error) {
	c := memories.Change{Content: content, Type: kind, Meta: byHand}
	if content != nil {
		clean, err := cleanContent(*content)
		if err != nil {
			return nil, err
		}
		c.Content = &clean
	}
	if path != nil {
		clean, err := cleanPath(*path)
		if err != nil {
			return nil, err
		}
		c.Path = &clean
	}
	if content == nil && kind == nil && path == nil {
		return nil, web.Fail(http.StatusBadRequest, "No memory update provided")
	}
	m, err := s.Store.Update(ctx, p.ID, id, c)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errUnknown
	}
	if err != nil {
		return nil, err
	}
	if content != nil || path != nil {
		s.index(ctx, p, []Memory{*m})
	}
	s.tell(ctx, p, "memory.updated", m, "")
	return m, nil
}

// Delete removes a memory and says whether there was one.
func (s *Service) Delete(ctx context.Context, p *auth.Principal, id string) (bool, error) {
	ok, err := s.Store.Delete(ctx, p.ID, id)
	if err != nil || !ok {
		return false, err
	}
	s.forget(ctx, p.ID, []string{id})
	s.Events.Publish(ctx, events.Event{Name: "memory.deleted", Actor: p.User, SubjectID: id})
	return true, nil
}

// DeleteAll removes all memories of the caller.
func (s *Service) DeleteAll(ctx context.Context, p *auth.Principal) error {
	if err := s.Store.DeleteAll(ctx, p.ID); err != nil {
		return err
	}
	if err := s.Vectors.Drop(ctx, collection(p.ID)); err != nil {
		s.Log.WarnContext(ctx, "vectors of memories were not deleted", "user", p.ID, "error", err)
	}
	s.Events.Publish(ctx, events.Event{Name: "memory.deleted", Actor: p.User, SubjectType: "user", SubjectID: p.ID})
	return nil
}

// Source is what changes of several memories come from: the meta of those that are written.
type Source struct {
	CreatedBy                  string // tool, background_review
	ChatID, MessageID, ModelID string // "" for none
}

func (s Source) meta() jsondoc.Doc {
	orNull := func(v string) *string {
		if v == "" {
			return nil
		}
		return &v
	}
	var b jsondoc.Builder
	b.Raw("created_by", jsondoc.Text(s.CreatedBy))
	b.Add("chat_id", orNull(s.ChatID))
	b.Add("message_id", orNull(s.MessageID))
	b.Add("model", orNull(s.ModelID))
	return b.Done()
}

// Outcome is what came of an operation, as clients see it. Memory is without its meta.
type Outcome struct {
	Action string `json:"action"`
	Status string `json:"status"`
	ID     string `json:"id,omitzero"`
	Memory *Plain `json:"memory,omitzero"`
	Reason string `json:"reason,omitzero"`
}

// Plain is a memory without its meta.
type Plain struct {
	ID        string  `json:"id"`
	UserID    string  `json:"user_id"`
	Type      string  `json:"type"`
	Path      *string `json:"path"`
	Content   string  `json:"content"`
	UpdatedAt int64   `json:"updated_at"`
	CreatedAt int64   `json:"created_at"`
}

func plain(m *Memory) *Plain {
	return &Plain{m.ID, m.UserID, m.Type, m.Path, m.Content, m.UpdatedAt, m.CreatedAt}
}

// Apply makes several changes, or none of them.
func (s *Service) Apply(ctx context.Context, p *auth.Principal, ops []Operation, from Source) ([]Outcome, error) {
	clean, err := cleanOperations(ops, from.meta())
	if err != nil {
		return nil, err
	}
	results, err := s.Store.Apply(ctx, p.ID, clean)
	var missing *memories.MissingError
	if errors.As(err, &missing) {
		return nil, web.Fail(http.StatusNotFound, missing.Error())
	}
	if err != nil {
		return nil, err
	}
	out := make([]Outcome, len(results))
	written := map[string]Memory{}
	var gone []string
	for i, r := range results {
		out[i] = Outcome{Action: r.Action, Status: r.Status, ID: r.ID}
		switch {
		case r.Memory == nil:
			gone = append(gone, r.ID)
			delete(written, r.ID)
			continue
		case r.Status == "skipped":
			out[i].Reason = "duplicate"
		default:
			written[r.Memory.ID] = *r.Memory
		}
		out[i].Memory = plain(r.Memory)
	}
	list := make([]Memory, 0, len(written))
	for _, r := range results {
		if r.Memory == nil {
			continue
		}
		if m, ok := written[r.Memory.ID]; ok {
			list = append(list, m)
			delete(written, m.ID)
		}
	}
	s.index(ctx, p, list)
	s.forget(ctx, p.ID, gone)
	for _, r := range results {
		switch r.Status {
		case "created", "updated":
			s.tell(ctx, p, "memory."+r.Status, r.Memory, r.Action)
		case "deleted":
			s.tell(ctx, p, "memory.deleted", &Memory{ID: r.ID}, r.Action)
		}
	}
	return out, nil
}

// tell publishes what happened to a memory; operation is what was asked for, "" outside of batches.
func (s *Service) tell(ctx context.Context, p *auth.Principal, name string, m *Memory, operation string) {
	var b jsondoc.Builder
	b.Raw("content_preview", jsondoc.Text(head(m.Content, 300)))
	if m.Type != "" {
		b.Raw("type", jsondoc.Text(m.Type))
	} else {
		b.Raw("type", nil)
	}
	b.Add("path", m.Path)
	if operation != "" {
		b.Raw("operation", jsondoc.Text(operation))
	}
	s.Events.Publish(ctx, events.Event{Name: name, Actor: p.User, SubjectID: m.ID, Data: b.Done()})
}

// head is the first n characters of a text.
func head(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// tail is the last n characters of a text.
func tail(s string, n int) string {
	r := []rune(s)
	return string(r[max(0, len(r)-n):])
}
