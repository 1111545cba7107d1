package presence

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/replicas"
)

// pool holds the live sessions. Its lock is never held across I/O; emitting
// under it only queues packets, and keeps presence lists in their order.
type pool struct {
	timeout time.Duration
	now     func() time.Time
	others  *replicas.Node

	mu       sync.Mutex
	sessions map[string]*session
	chats    map[string]map[*session]struct{}
}

type session struct {
	socket *realtime.Socket
	user   realtime.User
	seen   time.Time
	chats  map[string]struct{}
}

func (p *pool) init(opts Options) {
	p.timeout, p.now = opts.SessionTimeout, opts.Now
	p.sessions = make(map[string]*session)
	p.chats = make(map[string]map[*session]struct{})
}

func (p *pool) live(s *session, now time.Time) bool { return now.Sub(s.seen) <= p.timeout }

// put records that a user's session is live now. A socket that has ended is
// kept out, as nothing would remove it again. If the session was another
// user's before, it leaves that user's chats, which are returned.
func (p *pool) put(sock *realtime.Socket, u realtime.User) (left []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-sock.Done():
		return nil
	default:
	}
	s := p.sessions[sock.SID()]
	if s == nil {
		s = &session{socket: sock, chats: make(map[string]struct{})}
		p.sessions[sock.SID()] = s
	}
	if s.user.ID != u.ID {
		left = p.leaveAllLocked(s)
	}
	s.user, s.seen = u, p.now()
	if p.others != nil {
		p.others.Set(sessionKind, sock.SID(), replicas.Join(u.ID, u.Name))
	}
	return left
}

// remove forgets a session and returns the chats it had open.
func (p *pool) remove(sid string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[sid]
	if s == nil {
		return nil
	}
	delete(p.sessions, sid)
	p.others.Delete(sessionKind, sid)
	return p.leaveAllLocked(s)
}

// leaveAllLocked closes a session's chats and returns them.
func (p *pool) leaveAllLocked(s *session) (chats []string) {
	for id := range s.chats {
		chats = append(chats, id)
		s.socket.Leave(ChatRoom(id))
		p.leaveLocked(s, id)
	}
	slices.Sort(chats)
	return chats
}

func (p *pool) leaveLocked(s *session, chatID string) {
	delete(s.chats, chatID)
	delete(p.chats[chatID], s)
	if len(p.chats[chatID]) == 0 {
		delete(p.chats, chatID)
	}
}

// enter opens a chat for a live session.
func (p *pool) enter(sock *realtime.Socket, chatID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[sock.SID()]
	if s == nil || !sock.Join(ChatRoom(chatID)) {
		return false
	}
	s.chats[chatID] = struct{}{}
	if p.chats[chatID] == nil {
		p.chats[chatID] = make(map[*session]struct{})
	}
	p.chats[chatID][s] = struct{}{}
	return true
}

// leave closes a chat. It reports false if the session is not live.
func (p *pool) leave(sock *realtime.Socket, chatID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	sock.Leave(ChatRoom(chatID))
	s := p.sessions[sock.SID()]
	if s == nil {
		return false
	}
	p.leaveLocked(s, chatID)
	return true
}

// expire gives up silent sessions and returns the chats they had open.
func (p *pool) expire() (chats []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for sid, s := range p.sessions {
		if p.live(s, now) {
			continue
		}
		delete(p.sessions, sid)
		p.others.Delete(sessionKind, sid)
		chats = append(chats, p.leaveAllLocked(s)...)
	}
	slices.Sort(chats)
	return slices.Compact(chats)
}

func (p *pool) user(sid string) (realtime.User, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[sid]; s != nil {
		return s.user, true
	}
	return realtime.User{}, false
}

func (p *pool) inChat(userID, chatID string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for s := range p.chats[chatID] {
		if s.user.ID == userID && p.live(s, now) {
			return s.socket.SID(), true
		}
	}
	return "", false
}

// person is an entry of a presence list.
type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// people calls emit with those who have the chat open, sorted by id, while no
// one of this process can come or go.
func (p *pool) people(chatID string, emit func([]person)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	out := make([]person, 0, len(p.chats[chatID]))
	for s := range p.chats[chatID] {
		if p.live(s, now) {
			out = append(out, person{s.user.ID, s.user.Name})
		}
	}
	out = distinct(out)
	if p.others != nil {
		out = p.withOthers(chatID, out)
	}
	emit(out)
}

// withOthers tells other processes who has a chat open here, and adds those who have it open there.
func (p *pool) withOthers(chatID string, out []person) []person {
	if len(out) == 0 {
		p.others.Delete(peopleKind, chatID)
	} else {
		var here []string
		for _, person := range out {
			here = append(here, person.ID, person.Name)
		}
		p.others.Set(peopleKind, chatID, replicas.Join(here...))
	}
	for _, v := range p.others.Values(peopleKind, chatID) {
		parts := replicas.Split(v)
		for i := 0; i+1 < len(parts); i += 2 {
			out = append(out, person{string(parts[i]), string(parts[i+1])})
		}
	}
	return distinct(out)
}

// distinct sorts people by id and takes out those who are there twice.
func distinct(people []person) []person {
	slices.SortFunc(people, func(a, b person) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name)) })
	return slices.CompactFunc(people, func(a, b person) bool { return a.ID == b.ID })
}

// viewer is a session that has a chat open.
type viewer struct {
	ChatUser
	socket *realtime.Socket
}

// viewers lists who has a chat open, or all chats if chatID is "".
func (p *pool) viewers(chatID string) (out []viewer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add := func(id string, in map[*session]struct{}) {
		for s := range in {
			out = append(out, viewer{ChatUser{id, s.user.ID}, s.socket})
		}
	}
	if chatID != "" {
		add(chatID, p.chats[chatID])
		return out
	}
	for id, in := range p.chats {
		add(id, in)
	}
	return out
}
