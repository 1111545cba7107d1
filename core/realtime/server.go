package realtime

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/replicas"
)

// Options configure a [Server]. The zero value is usable; the defaults are
// those of the reference.
type Options struct {
	// Authenticate resolves a session token to its user. It is called with the
	// token of a CONNECT packet, again by [Server.Verify] and every
	// RecheckInterval. Without it no socket ever has a user.
	Authenticate func(ctx context.Context, token string) (User, bool)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// AllowPolling adds HTTP long polling, with an upgrade to WebSocket.
	AllowPolling bool
	// NoWebSocket refuses WebSocket connections, as ENABLE_WEBSOCKET_SUPPORT=false
	// does in the reference. It implies AllowPolling.
	NoWebSocket bool
	// AllowOrigin decides on the Origin header of browsers; nil allows all.
	AllowOrigin func(origin string) bool
	// PingInterval is the time between a pong and the next ping, 25 s.
	PingInterval time.Duration
	// PingTimeout is how long a pong may take, 20 s.
	PingTimeout time.Duration
	// MaxPayload bounds an incoming message in bytes, 16 MiB.
	MaxPayload int64
	// QueueBytes bounds what may wait to be sent to one client, 16 MiB. A
	// packet larger than that still passes if nothing else waits.
	QueueBytes int
	// QueuePackets bounds the number of waiting packets, 65536.
	QueuePackets int
	// FlushInterval is the least time between two writes to one client. Events
	// that come sooner after a write than this are sent together. 0 sends at once.
	FlushInterval time.Duration
	// RecheckInterval is the time between two checks of the tokens of all
	// sockets, 30 s; a socket whose token is no longer good is disconnected.
	// Negative turns the checks off.
	RecheckInterval time.Duration
	// OnConnect is called for each new session, after its token was checked.
	OnConnect func(ctx context.Context, s *Socket)
	// OnDisconnect is called after a session's last handler has returned. The
	// reason is one of the Reason constants.
	OnDisconnect func(ctx context.Context, s *Socket, reason string)
	// Replicas are the other processes with sockets of this installation; nil for none.
	Replicas *replicas.Node
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.NoWebSocket {
		o.AllowPolling = true
	}
	setDefault(&o.PingInterval, 25*time.Second)
	setDefault(&o.PingTimeout, 20*time.Second)
	setDefault(&o.MaxPayload, 16<<20)
	setDefault(&o.QueueBytes, 16<<20)
	setDefault(&o.QueuePackets, 1<<16)
	setDefault(&o.RecheckInterval, 30*time.Second)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// A Handler handles an event. Handlers of one socket run one after the other,
// in the order of arrival; those of different sockets run concurrently. The
// args are the event's arguments as JSON. If the client asked for an
// acknowledgement it gets ack: nothing for nil, several values for an [Ack],
// one value otherwise. An error is logged and leaves the client without an
// acknowledgement. ctx ends with the server, not with the socket, so that what
// a client did just before it left is still carried out; see [Socket.Done].
type Handler func(ctx context.Context, s *Socket, args []jsontext.Value) (ack any, err error)

// Ack is an acknowledgement of any number of values.
type Ack []any

// ErrNoArgument is returned by handlers made with [Bind] for events without a payload.
var ErrNoArgument = errors.New("realtime: event without a payload")

// Bind makes a Handler of a function that takes the event's first argument,
// decoded into a T.
func Bind[T any](fn func(ctx context.Context, s *Socket, in T) (ack any, err error)) Handler {
	return func(ctx context.Context, s *Socket, args []jsontext.Value) (any, error) {
		if len(args) == 0 || args[0].Kind() == 'n' {
			return nil, ErrNoArgument
		}
		var in T
		if err := json.Unmarshal(args[0], &in, marshalOptions); err != nil {
			return nil, fmt.Errorf("realtime: payload: %w", err)
		}
		return fn(ctx, s, in)
	}
}

// Server is a Socket.IO server. Create it with [New], end it with [Server.Close].
type Server struct {
	opts   Options
	log    *slog.Logger
	rooms  roomTable
	ctx    context.Context // of handlers
	cancel context.CancelFunc
	wg     counter // connections, handlers and the token check

	mu      sync.RWMutex
	closed  bool
	conns   map[string]*conn
	sockets map[string]*Socket

	hooks      sync.RWMutex
	handlers   map[string]Handler
	catchAll   func(ctx context.Context, s *Socket, event string, args []jsontext.Value) (any, error)
	connect    []func(context.Context, *Socket)
	disconnect []func(context.Context, *Socket, string)
}

// New returns a running server.
func New(opts Options) *Server {
	opts.setDefaults()
	s := &Server{
		opts:     opts,
		log:      opts.Logger,
		conns:    make(map[string]*conn),
		sockets:  make(map[string]*Socket),
		handlers: make(map[string]Handler),
	}
	s.rooms.init()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if opts.OnConnect != nil {
		s.OnConnect(opts.OnConnect)
	}
	if opts.OnDisconnect != nil {
		s.OnDisconnect(opts.OnDisconnect)
	}
	if opts.Replicas != nil {
		s.join(opts.Replicas)
	}
	if opts.Authenticate != nil && opts.RecheckInterval > 0 {
		s.wg.Add(1)
		go s.recheck()
	}
	return s
}

// On sets the handler of an event. Handlers can be added at any time.
func (s *Server) On(event string, h Handler) {
	s.hooks.Lock()
	defer s.hooks.Unlock()
	s.handlers[event] = h
}

// OnAny sets the handler of all events that have none of their own.
func (s *Server) OnAny(h func(ctx context.Context, s *Socket, event string, args []jsontext.Value) (ack any, err error)) {
	s.hooks.Lock()
	defer s.hooks.Unlock()
	s.catchAll = h
}

// OnConnect adds a hook like Options.OnConnect.
func (s *Server) OnConnect(f func(ctx context.Context, s *Socket)) {
	s.hooks.Lock()
	defer s.hooks.Unlock()
	s.connect = append(s.connect, f)
}

// OnDisconnect adds a hook like Options.OnDisconnect.
func (s *Server) OnDisconnect(f func(ctx context.Context, s *Socket, reason string)) {
	s.hooks.Lock()
	defer s.hooks.Unlock()
	s.disconnect = append(s.disconnect, f)
}

func (s *Server) route(ctx context.Context, sock *Socket, event string, args []jsontext.Value) (any, error) {
	s.hooks.RLock()
	h, any := s.handlers[event], s.catchAll
	s.hooks.RUnlock()
	switch {
	case h != nil:
		return h(ctx, sock, args)
	case any != nil:
		return any(ctx, sock, event, args)
	default:
		return nil, nil
	}
}

func (s *Server) connected(ctx context.Context, sock *Socket) {
	s.hooks.RLock()
	hooks := s.connect
	s.hooks.RUnlock()
	for _, f := range hooks {
		f(ctx, sock)
	}
}

func (s *Server) disconnected(ctx context.Context, sock *Socket, reason string) {
	s.hooks.RLock()
	hooks := s.disconnect
	s.hooks.RUnlock()
	for _, f := range hooks {
		f(ctx, sock, reason)
	}
}

// Verify checks that the socket's token is still good and returns its user as
// it is now. A socket without a user or with a stale token is disconnected:
// handlers that need a user begin with Verify and return at once if it fails.
func (s *Server) Verify(ctx context.Context, sock *Socket) (User, bool) {
	if token := sock.Token(); token != "" && s.opts.Authenticate != nil {
		u, ok := s.opts.Authenticate(ctx, token)
		if ok || ctx.Err() != nil {
			return u, ok
		}
	}
	sock.Disconnect()
	return User{}, false
}

// Authenticate resolves a token through Options.Authenticate.
func (s *Server) Authenticate(ctx context.Context, token string) (User, bool) {
	if token == "" || s.opts.Authenticate == nil {
		return User{}, false
	}
	return s.opts.Authenticate(ctx, token)
}

// recheck disconnects sockets whose token expired or was revoked.
func (s *Server) recheck() {
	defer s.wg.Done()
	tick := time.NewTicker(s.opts.RecheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		byToken := make(map[string][]*Socket)
		for _, sock := range s.Sockets() {
			if token := sock.Token(); token != "" {
				byToken[token] = append(byToken[token], sock)
			}
		}
		for token, socks := range byToken {
			if _, ok := s.opts.Authenticate(s.ctx, token); ok || s.ctx.Err() != nil {
				continue
			}
			for _, sock := range socks {
				if sock.Token() == token {
					sock.Disconnect()
				}
			}
		}
	}
}

// register admits a connection; it reports false once the server is closed.
func (s *Server) register(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c.id] = c
	s.wg.Add(1)
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c.id)
	s.mu.Unlock()
	s.wg.Done()
}

func (s *Server) conn(id string) *conn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.conns[id]
}

// addSocket makes a session known and puts it into the room of its own id. A
// session that ended in the meantime stays out: roomMu orders this against end.
func (s *Server) addSocket(sock *Socket) {
	sock.roomMu.Lock()
	defer sock.roomMu.Unlock()
	if sock.gone {
		return
	}
	s.mu.Lock()
	s.sockets[sock.sid] = sock
	s.mu.Unlock()
	sock.rooms[sock.sid] = struct{}{}
	s.rooms.add(sock.sid, sock)
}

func (s *Server) removeSocket(sock *Socket) {
	s.mu.Lock()
	delete(s.sockets, sock.sid)
	s.mu.Unlock()
}

// Close ends all connections with "going away", upon which clients reconnect
// elsewhere, and waits for the handlers. When ctx ends first, handlers are
// cancelled and ctx's error is returned.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	conns := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.close(websocket.StatusGoingAway, "server shutdown", ReasonTransport)
	}
	idle := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.cancel()
		for _, c := range conns {
			c.finish(ReasonTransport)
		}
	})
	defer stop()
	go func() {
		for _, c := range conns {
			<-c.done
		}
		s.cancel() // ends the token check
		s.wg.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("realtime: close: %w", ctx.Err())
	}
}

// newID returns an unguessable session id of 20 URL-safe characters.
func newID() string {
	var b [15]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

var _ http.Handler = (*Server)(nil)
