package realtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
)

// User is the account behind a socket. The zero User stands for nobody.
type User struct {
	ID   string
	Name string
	Role string
	// Extra is whatever the application wants to keep with the session.
	Extra any
}

// identity is a user and the token that proved it.
type identity struct {
	user  User
	token string
}

// Bounds of the events a socket may have waiting for their handlers.
const (
	maxPendingEvents = 1024
	// maxPendingPayloads bounds their size in units of Options.MaxPayload.
	maxPendingPayloads = 2
)

// ErrDisconnected is returned by [Socket.Call] when the session ends before
// the client answers.
var ErrDisconnected = errors.New("realtime: client disconnected")

// A Socket is one client's session on the default namespace. Its methods are
// safe for concurrent use.
type Socket struct {
	srv  *Server
	conn *conn
	sid  string
	done chan struct{}
	who  atomic.Pointer[identity]

	roomMu sync.Mutex
	rooms  map[string]struct{}
	gone   bool

	jobMu   sync.Mutex
	jobs    []job
	pending int // bytes of the waiting events
	running bool
	ended   bool // the disconnect job is queued, nothing may follow

	ackMu   sync.Mutex
	lastAck int64
	acks    map[int64]chan []jsontext.Value
}

type jobKind uint8

const (
	jobEvent jobKind = iota
	jobConnect
	jobDisconnect
)

// job is a piece of work for the goroutine that runs a socket's handlers.
type job struct {
	kind  jobKind
	event string // or the reason of a disconnect
	token string // of a connect
	args  []jsontext.Value
	id    int64
	size  int
}

func newSocket(c *conn) *Socket {
	return &Socket{srv: c.srv, conn: c, sid: newID(), done: make(chan struct{}), rooms: make(map[string]struct{})}
}

// SID is the session id that the client knows as socket.id.
func (s *Socket) SID() string { return s.sid }

// Done is closed when the session ends.
func (s *Socket) Done() <-chan struct{} { return s.done }

// User returns the session's user; its ID is empty if the session has none.
func (s *Socket) User() User {
	if id := s.who.Load(); id != nil {
		return id.user
	}
	return User{}
}

// Token returns the token that proved the session's user.
func (s *Socket) Token() string {
	if id := s.who.Load(); id != nil {
		return id.token
	}
	return ""
}

// SetUser makes u, proved by token, the session's user and joins the user's
// room. A session that had another user leaves that user's room.
func (s *Socket) SetUser(u User, token string) {
	old := s.who.Swap(&identity{u, token})
	if old != nil && old.user.ID != u.ID {
		s.Leave(UserRoom(old.user.ID))
	}
	s.Join(UserRoom(u.ID))
}

// UserRoom is the room of all sessions of a user, "user:{id}".
func UserRoom(userID string) string { return "user:" + userID }

// Join adds the socket to a room. It reports false if the session has ended.
func (s *Socket) Join(room string) bool {
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	if s.gone {
		return false
	}
	if _, ok := s.rooms[room]; !ok {
		s.rooms[room] = struct{}{}
		s.srv.rooms.add(room, s)
	}
	return true
}

// Leave removes the socket from a room.
func (s *Socket) Leave(room string) {
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	if _, ok := s.rooms[room]; ok && !s.gone {
		delete(s.rooms, room)
		s.srv.rooms.remove(room, s)
	}
}

// In reports whether the socket is in a room.
func (s *Socket) In(room string) bool {
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	_, ok := s.rooms[room]
	return ok && !s.gone
}

// Rooms returns the socket's rooms in sorted order, among them the one named
// after its session id. Once the session has ended they are those it was in last.
func (s *Socket) Rooms() []string {
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	return slices.Sorted(maps.Keys(s.rooms))
}

// Emit sends an event to this socket alone.
func (s *Socket) Emit(event string, args ...any) error {
	p, err := Encode(event, args...)
	if err != nil {
		return err
	}
	s.Send(p)
	return nil
}

// Send queues an encoded packet on this socket alone.
func (s *Socket) Send(p Packet) {
	if !s.over() && len(p.frame) > 0 {
		s.conn.enqueue(p.frame)
	}
}

func (s *Socket) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Call emits an event and waits for the client's acknowledgement, whose
// arguments it returns. It ends with ctx's error, or [ErrDisconnected].
// A handler may call it: answers arrive while handlers run.
func (s *Socket) Call(ctx context.Context, event string, args ...any) ([]jsontext.Value, error) {
	answer := make(chan []jsontext.Value, 1)
	s.ackMu.Lock()
	s.lastAck++
	id := s.lastAck
	if s.acks == nil {
		s.acks = make(map[int64]chan []jsontext.Value)
	}
	s.acks[id] = answer
	s.ackMu.Unlock()
	defer func() {
		s.ackMu.Lock()
		delete(s.acks, id)
		s.ackMu.Unlock()
	}()
	p, err := encodeArgs(sioEvent, id, event, args)
	if err != nil {
		return nil, err
	}
	s.Send(p)
	select {
	case v := <-answer:
		return v, nil
	case <-s.done:
		return nil, ErrDisconnected
	case <-ctx.Done():
		return nil, fmt.Errorf("realtime: call %q: %w", event, ctx.Err())
	}
}

// resolve hands an ACK to the call that waits for it; others are ignored.
func (s *Socket) resolve(id int64, args []jsontext.Value) {
	s.ackMu.Lock()
	answer := s.acks[id]
	delete(s.acks, id)
	s.ackMu.Unlock()
	if answer != nil {
		answer <- args
	}
}

// Disconnect ends the session and tells the client so, after everything that
// is queued for it. Events not handled yet are dropped. The client's connection
// stays open for a while, as it may connect anew on it.
func (s *Socket) Disconnect() {
	s.conn.mu.Lock()
	current := s.conn.sock == s
	s.conn.mu.Unlock()
	if current {
		s.conn.enqueue(frameLeave)
		s.conn.endSession(ReasonServer, true)
	}
}

// end makes the socket leave the server and queues its disconnect hook.
func (s *Socket) end(reason string, drop bool) {
	s.roomMu.Lock()
	if s.gone {
		s.roomMu.Unlock()
		return
	}
	s.gone = true
	rooms := slices.Collect(maps.Keys(s.rooms))
	s.roomMu.Unlock()
	for _, room := range rooms {
		s.srv.rooms.remove(room, s)
	}
	s.srv.removeSocket(s)
	close(s.done)

	s.jobMu.Lock()
	if drop {
		s.jobs, s.pending = nil, 0
	}
	s.jobs = append(s.jobs, job{kind: jobDisconnect, event: reason})
	s.ended = true
	s.runLocked()
	s.jobMu.Unlock()
}

// push queues work for the socket's handlers. It reports false if there is
// too much of it.
func (s *Socket) push(j job) bool {
	s.jobMu.Lock()
	defer s.jobMu.Unlock()
	if s.ended {
		return true
	}
	if len(s.jobs) >= maxPendingEvents || len(s.jobs) > 0 && int64(s.pending+j.size) > maxPendingPayloads*s.srv.opts.MaxPayload {
		return false
	}
	s.jobs = append(s.jobs, j)
	s.pending += j.size
	s.runLocked()
	return true
}

// runLocked starts the goroutine that works off the jobs, if it is not running.
func (s *Socket) runLocked() {
	if !s.running {
		s.running = true
		s.srv.wg.Add(1)
		go s.work()
	}
}

// work runs the queued jobs one after the other.
func (s *Socket) work() {
	defer s.srv.wg.Done()
	for {
		s.jobMu.Lock()
		if len(s.jobs) == 0 {
			s.jobs, s.running = nil, false
			s.jobMu.Unlock()
			return
		}
		j := s.jobs[0]
		s.jobs[0] = job{}
		s.jobs = s.jobs[1:]
		s.pending -= j.size
		s.jobMu.Unlock()
		s.do(j)
	}
}

// do runs one job. A panic costs only the event.
func (s *Socket) do(j job) {
	defer func() {
		if v := recover(); v != nil {
			s.srv.log.Error("realtime: handler panicked", "event", j.event, "sid", s.sid, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	ctx := s.srv.ctx
	switch j.kind {
	case jobConnect:
		s.authenticate(ctx, j.token)
	case jobDisconnect:
		s.srv.disconnected(ctx, s, j.event)
	case jobEvent:
		s.event(ctx, j)
	}
}

// authenticate proves the token of the CONNECT packet and reports the session.
func (s *Socket) authenticate(ctx context.Context, token string) {
	if token != "" && s.srv.opts.Authenticate != nil {
		if u, ok := s.srv.opts.Authenticate(ctx, token); ok {
			s.SetUser(u, token)
		}
	}
	s.srv.connected(ctx, s)
}

// event runs the handler of an event and acknowledges it if asked to. An
// unknown event is acknowledged without a value, as the reference's catch-all
// handler does; an event whose handler fails is not acknowledged at all.
func (s *Socket) event(ctx context.Context, j job) {
	ack, err := s.srv.route(ctx, s, j.event, j.args)
	if err != nil {
		s.srv.log.Warn("realtime: event failed", "event", j.event, "sid", s.sid, "err", err)
		return
	}
	if j.id == noAck {
		return
	}
	p, err := encodeArgs(sioAck, j.id, j.event, ackArgs(ack))
	if err != nil {
		s.srv.log.Error("realtime: acknowledgement failed", "event", j.event, "sid", s.sid, "err", err)
		return
	}
	s.Send(p)
}

// ackArgs turns a handler's result into the arguments of an ACK.
func ackArgs(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case Ack:
		return v
	default:
		return []any{v}
	}
}
