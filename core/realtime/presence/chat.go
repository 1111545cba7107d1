package presence

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/realtime"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrNoChat is returned for an events:chat event that lacks a chat id.
var ErrNoChat = errors.New("presence: event without a chat id")

// chatEvent is the payload of events:chat: chat_id and data {type, data}.
type chatEvent struct {
	ChatID jsontext.Value `json:"chat_id"`
	Data   struct {
		Type jsontext.Value `json:"type"`
		Data jsontext.Value `json:"data"`
	} `json:"data"`
}

// text returns v if it is a JSON string.
func text(v jsontext.Value) string {
	var s string
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// savedChat returns the id of the event's chat if it is a stored one.
func (e chatEvent) savedChat() (string, bool) {
	id := text(e.ChatID)
	return id, SavedChat(id)
}

// chatEvent handles events:chat. Join, leave and typing are acknowledged with
// true or false, the rest without a value.
func (p *Presence) chatEvent(ctx context.Context, s *realtime.Socket, in chatEvent) (any, error) {
	u, ok := p.srv.Verify(ctx, s)
	if !ok {
		return nil, nil
	}
	switch text(in.Data.Type) {
	case "join":
		return p.join(ctx, s, u, in)
	case "leave":
		return p.leave(s, in), nil
	case "typing":
		return p.typing(ctx, s, u, in)
	case "last_read_at":
		return nil, p.markRead(ctx, u, in)
	default:
		return nil, nil
	}
}

func (p *Presence) join(ctx context.Context, s *realtime.Socket, u realtime.User, in chatEvent) (bool, error) {
	chatID, ok := in.savedChat()
	if !ok || p.opts.Chats == nil {
		return false, nil
	}
	ok, err := p.opts.Chats.CanRead(ctx, u.ID, chatID)
	if err != nil {
		return false, fmt.Errorf("presence: join chat: %w", err)
	}
	if !ok || !p.pool.enter(s, chatID) {
		return false, nil
	}
	p.publish(chatID)
	return true, nil
}

func (p *Presence) leave(s *realtime.Socket, in chatEvent) bool {
	chatID, ok := in.savedChat()
	if !ok || !p.pool.leave(s, chatID) {
		return false
	}
	p.publish(chatID)
	return true
}

// chatMessage is an "events" event about a chat that is open to several people.
type chatMessage struct {
	ChatID string  `json:"chat_id"`
	UserID string  `json:"user_id,omitzero"`
	User   *person `json:"user,omitzero"`
	Shared bool    `json:"shared,omitzero"`
	Data   message `json:"data"`
}

type message struct {
	Type string `json:"type"`
	Data any    `json:"data"`
}

// typing tells the others in a chat that someone writes or has stopped.
func (p *Presence) typing(ctx context.Context, s *realtime.Socket, u realtime.User, in chatEvent) (bool, error) {
	type typing struct {
		Typing *bool `json:"typing"`
	}
	var state typing
	chatID, ok := in.savedChat()
	if !ok || json.Unmarshal(in.Data.Data, &state, jsontext.AllowDuplicateNames(true)) != nil || state.Typing == nil ||
		!s.In(ChatRoom(chatID)) || p.opts.Chats == nil {
		return false, nil
	}
	ok, err := p.opts.Chats.CanWrite(ctx, u.ID, chatID)
	if err != nil {
		return false, fmt.Errorf("presence: typing: %w", err)
	}
	if !ok {
		return false, nil
	}
	return true, p.srv.Emit(ChatRoom(chatID), "events", chatMessage{
		ChatID: chatID,
		UserID: u.ID,
		User:   &person{u.ID, u.Name},
		Shared: true,
		Data:   message{"typing", state},
	}, s.SID())
}

// markRead records the time of reading and tells all sessions of the reader.
func (p *Presence) markRead(ctx context.Context, u realtime.User, in chatEvent) error {
	chatID := text(in.ChatID)
	if chatID == "" {
		return ErrNoChat
	}
	if p.opts.Chats == nil {
		return nil
	}
	data, ok, err := p.opts.Chats.MarkRead(ctx, u.ID, chatID)
	if err != nil {
		return fmt.Errorf("presence: mark chat read: %w", err)
	}
	if !ok {
		return nil
	}
	return p.srv.Emit(realtime.UserRoom(u.ID), "events", chatMessage{ChatID: chatID, Data: message{"chat:list", data}})
}

// publish tells everyone in the chats who is there. Other processes tell their sessions themselves when they hear of it.
func (p *Presence) publish(chatIDs ...string) {
	type users struct {
		Users []person `json:"users"`
	}
	for _, id := range chatIDs {
		p.pool.people(id, func(people []person) {
			// Strings and structs always encode.
			_ = p.srv.EmitLocal(ChatRoom(id), "events", chatMessage{ChatID: id, Shared: true, Data: message{"chat:presence", users{people}}})
		})
	}
}

// ChatAccessChanged is called when the shares of a chat changed, or with ""
// when anything changed that access to chats depends on. Sessions whose user
// may no longer read a chat leave it; everyone asked about gets chat:access.
// Owners are not asked about unless the chat is named, as they keep access.
func (p *Presence) ChatAccessChanged(ctx context.Context, chatID string) error {
	p.opts.Replicas.Tell("", accessMethod, []byte(chatID))
	return p.chatAccessChanged(ctx, chatID)
}

// chatAccessChanged is ChatAccessChanged for the sessions of this process.
func (p *Presence) chatAccessChanged(ctx context.Context, chatID string) error {
	viewers := p.pool.viewers(chatID)
	if len(viewers) == 0 || p.opts.Chats == nil {
		return nil
	}
	if chatID == "" {
		var err error
		if viewers, err = p.withoutOwners(ctx, viewers); err != nil {
			return err
		}
	}
	pairs := make([]ChatUser, 0, len(viewers))
	index := make(map[ChatUser]int, len(viewers))
	for _, v := range viewers {
		if _, ok := index[v.ChatUser]; !ok {
			index[v.ChatUser] = len(pairs)
			pairs = append(pairs, v.ChatUser)
		}
	}
	readable, err := p.opts.Chats.Readable(ctx, pairs)
	if err != nil {
		return fmt.Errorf("presence: check chat access: %w", err)
	}
	left := make(map[string]struct{})
	for _, v := range viewers {
		if i := index[v.ChatUser]; i >= len(readable) || !readable[i] {
			p.pool.leave(v.socket, v.ChatID)
			left[v.ChatID] = struct{}{}
		}
		if err := v.socket.Emit("events", chatMessage{ChatID: v.ChatID, Shared: true, Data: message{"chat:access", struct{}{}}}); err != nil {
			return err
		}
	}
	for id := range left {
		p.publish(id)
	}
	return nil
}

func (p *Presence) withoutOwners(ctx context.Context, viewers []viewer) ([]viewer, error) {
	var ids []string
	seen := make(map[string]struct{})
	for _, v := range viewers {
		if _, ok := seen[v.ChatID]; !ok {
			seen[v.ChatID] = struct{}{}
			ids = append(ids, v.ChatID)
		}
	}
	owners, err := p.opts.Chats.Owners(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("presence: chat owners: %w", err)
	}
	out := viewers[:0]
	for _, v := range viewers {
		if owners[v.ChatID] != v.UserID {
			out = append(out, v)
		}
	}
	return out, nil
}
