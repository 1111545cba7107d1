// Package presence adds to a realtime server the events that every Open WebUI
// session uses: user-join, join-channels, heartbeat, usage and events:chat. It
// keeps the pool of live sessions, who looks at which chat, and which models
// are in use.
package presence

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/replicas"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ChatUser names one question of access: may this user see this chat?
type ChatUser struct{ ChatID, UserID string }

// Chats answers questions of access to saved chats. After an error nothing
// changes, the event stays without an acknowledgement and the error is logged.
type Chats interface {
	// CanRead reports whether the user may open the chat: as its owner, as an
	// admin who may, or by a share.
	CanRead(ctx context.Context, userID, chatID string) (bool, error)
	// CanWrite reports whether the user may take part in the chat.
	CanWrite(ctx context.Context, userID, chatID string) (bool, error)
	// Readable answers CanRead for many pairs at once, in their order.
	Readable(ctx context.Context, pairs []ChatUser) ([]bool, error)
	// Owners returns the owner's id of each of the chats that exist.
	Owners(ctx context.Context, chatIDs []string) (map[string]string, error)
	// MarkRead records that the user has read the chat. It returns the data of
	// the chat:list event to send to the user's sessions: chat_id,
	// last_read_at and, if the chat was unread, folder_unread_counts. ok is
	// false if the chat is not one of the user's.
	MarkRead(ctx context.Context, userID, chatID string) (data any, ok bool, err error)
}

// Channels finds the channels whose rooms a session joins.
type Channels interface {
	// Joined returns the ids of the user's channels, none if the user may not
	// use channels.
	Joined(ctx context.Context, user realtime.User) ([]string, error)
}

// LastActive records that a user is there.
type LastActive interface {
	Touch(ctx context.Context, userID string) error
}

// Options are what presence needs of the application. A nil interface turns
// the feature off: without Chats nobody can open or read a chat.
type Options struct {
	Chats      Chats
	Channels   Channels
	LastActive LastActive
	// SessionTimeout is how long a session counts as live without a heartbeat.
	// The reference takes four heartbeats, but at least the default of 120 s.
	SessionTimeout time.Duration
	// UsageTimeout is how long a model counts as in use after the last report, 3 s.
	UsageTimeout time.Duration
	// Replicas are the other processes of the installation; nil for none.
	Replicas *replicas.Node
	// Log is slog.Default() by default.
	Log *slog.Logger
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// What processes tell one another: whose their live sessions are, and who has which chats open; which models are in use,
// and that access to chats has changed.
const (
	sessionKind  = "session"
	peopleKind   = "people"
	usageMethod  = "usage"
	accessMethod = "access"
)

// Presence is the session pool of one server.
type Presence struct {
	srv   *realtime.Server
	opts  Options
	pool  pool
	usage usage
}

// New registers the handlers and hooks on srv.
func New(srv *realtime.Server, opts Options) *Presence {
	if opts.SessionTimeout == 0 {
		opts.SessionTimeout = 120 * time.Second
	}
	if opts.UsageTimeout == 0 {
		opts.UsageTimeout = 3 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	p := &Presence{srv: srv, opts: opts}
	p.pool.others = opts.Replicas
	p.pool.init(opts)
	p.usage.init(opts)
	opts.Replicas.Listen(peopleKind, func(chatID string) { p.publish(chatID) })
	opts.Replicas.Handle(accessMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		chatID := string(body)
		go func() { // it asks the database
			if err := p.chatAccessChanged(context.Background(), chatID); err != nil {
				opts.Log.Warn("access of open chats was not looked at", "chat", chatID, "error", err)
			}
		}()
		return nil, nil
	})
	opts.Replicas.Handle(usageMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		p.usage.elsewhere(string(body))
		return nil, nil
	})
	srv.OnConnect(func(_ context.Context, s *realtime.Socket) {
		if u := s.User(); u.ID != "" {
			p.pool.put(s, u)
		}
	})
	srv.OnDisconnect(func(_ context.Context, s *realtime.Socket, _ string) {
		p.usage.drop(s.SID())
		p.publish(p.pool.remove(s.SID())...)
	})
	srv.On("user-join", realtime.Bind(p.userJoin))
	srv.On("join-channels", realtime.Bind(p.joinChannels))
	srv.On("heartbeat", p.heartbeat)
	srv.On("usage", realtime.Bind(p.reportUsage))
	srv.On("events:chat", realtime.Bind(p.chatEvent))
	return p
}

// ChatRoom is the room of the sessions that have a chat open, "chat:{id}".
func ChatRoom(chatID string) string { return "chat:" + chatID }

// ChannelRoom is the room of a channel, "channel:{id}".
func ChannelRoom(channelID string) string { return "channel:" + channelID }

// authEvent is the payload of user-join and join-channels.
type authEvent struct {
	Auth jsontext.Value `json:"auth"`
}

func (e authEvent) token() string {
	var auth struct {
		Token jsontext.Value `json:"token"`
	}
	var token string
	if json.Unmarshal(e.Auth, &auth, jsontext.AllowDuplicateNames(true)) != nil || json.Unmarshal(auth.Token, &token) != nil {
		return ""
	}
	return token
}

// userJoin makes the token's user the session's and joins the user's channels.
func (p *Presence) userJoin(ctx context.Context, s *realtime.Socket, in authEvent) (any, error) {
	token := in.token()
	u, ok := p.srv.Authenticate(ctx, token)
	if !ok {
		return nil, nil
	}
	s.SetUser(u, token)
	p.publish(p.pool.put(s, u)...)
	if err := p.enterChannels(ctx, s, u); err != nil {
		return nil, err
	}
	return struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}{u.ID, u.Name}, nil
}

func (p *Presence) joinChannels(ctx context.Context, s *realtime.Socket, in authEvent) (any, error) {
	if u, ok := p.srv.Authenticate(ctx, in.token()); ok {
		return nil, p.enterChannels(ctx, s, u)
	}
	return nil, nil
}

func (p *Presence) enterChannels(ctx context.Context, s *realtime.Socket, u realtime.User) error {
	if p.opts.Channels == nil {
		return nil
	}
	ids, err := p.opts.Channels.Joined(ctx, u)
	for _, id := range ids {
		s.Join(ChannelRoom(id))
	}
	return err
}

// heartbeat keeps the session live, or brings it back after it was given up.
func (p *Presence) heartbeat(ctx context.Context, s *realtime.Socket, _ []jsontext.Value) (any, error) {
	u, ok := p.srv.Verify(ctx, s)
	if !ok {
		return nil, nil
	}
	p.publish(p.pool.put(s, u)...)
	if p.opts.LastActive == nil {
		return nil, nil
	}
	return nil, p.opts.LastActive.Touch(ctx, u.ID)
}

type usageEvent struct {
	Model *string `json:"model"`
}

func (p *Presence) reportUsage(ctx context.Context, s *realtime.Socket, in usageEvent) (any, error) {
	if _, ok := p.srv.Verify(ctx, s); !ok {
		return nil, nil
	}
	if in.Model == nil {
		return nil, realtime.ErrNoArgument
	}
	if p.usage.report(s.SID(), *in.Model) {
		p.opts.Replicas.Tell("", usageMethod, []byte(*in.Model))
	}
	return nil, nil
}

// ModelsInUse returns the ids of the models that sessions reported in use
// lately, in the order in which they came into use; never nil.
func (p *Presence) ModelsInUse() []string { return p.usage.models() }

// SessionUser returns the user of a live session; of one of another process the id and name only.
func (p *Presence) SessionUser(sid string) (realtime.User, bool) {
	if u, ok := p.pool.user(sid); ok {
		return u, true
	}
	for _, v := range p.opts.Replicas.Values(sessionKind, sid) {
		if parts := replicas.Split(v); len(parts) == 2 {
			return realtime.User{ID: string(parts[0]), Name: string(parts[1])}, true
		}
	}
	return realtime.User{}, false
}

// ChatSession returns a live session of the user that has the chat open.
func (p *Presence) ChatSession(userID, chatID string) (sid string, ok bool) {
	return p.pool.inChat(userID, chatID)
}

// Sweep gives up the sessions that have sent no heartbeat for
// Options.SessionTimeout: they stay connected but leave their chats and are
// no longer found. The application calls it from time to time, see [Presence.Run].
func (p *Presence) Sweep() {
	p.publish(p.pool.expire()...)
}

// Run sweeps until ctx ends.
func (p *Presence) Run(ctx context.Context) {
	tick := time.NewTicker(p.opts.SessionTimeout)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.Sweep()
		}
	}
}

// AccessChanged tells the users' sessions that their permissions changed and
// ends them; the clients connect anew.
func (p *Presence) AccessChanged(userIDs ...string) {
	for _, id := range userIDs {
		for _, s := range p.srv.UserSockets(id) {
			s.Send(accessUpdated)
			s.Disconnect()
		}
	}
}

var accessUpdated = realtime.EncodeEvent("access:updated", []byte(`{}`))

// SavedChat reports whether a chat id is that of a stored chat, not of a
// temporary one or a channel.
func SavedChat(id string) bool {
	return id != "" && !strings.HasPrefix(id, "temporary:") && !strings.HasPrefix(id, "local:") && !strings.HasPrefix(id, "channel:")
}
