package realtime

import (
	"errors"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Reasons for the end of a session, as python-socketio names them to its
// disconnect handler.
const (
	ReasonClient      = "client disconnect"
	ReasonServer      = "server disconnect"
	ReasonTransport   = "transport close"
	ReasonError       = "transport error"
	ReasonPingTimeout = "ping timeout"
)

// closeTimeout bounds the goodbye of a connection: sending what is queued and
// the close frame, and waiting for the peer's.
const closeTimeout = 5 * time.Second

type connState uint8

const (
	connOpen    connState = iota
	connClosing           // sends what is queued, accepts no more
	connClosed
)

var (
	framePing   = textFrame("2")
	frameClose  = textFrame("1")
	frameNoop   = textFrame("6")
	frameLeave  = textFrame("41")
	errOverflow = errors.New("send queue is full")
)

// conn is an Engine.IO connection: a transport, a bounded queue of frames for
// it and a heartbeat. It outlives the session of a socket that the server
// disconnects, as clients may connect anew on it.
type conn struct {
	srv  *Server
	id   string
	done chan struct{} // closed by finish
	wake chan struct{} // capacity 1: the queue or the state changed
	once sync.Once

	mu         sync.Mutex
	state      connState
	queue      [][]byte
	queued     int  // bytes in the queue and in the batch being written
	asleep     bool // the consumer of wake waits
	ws         *wsTransport
	upgrading  bool
	polling    chan struct{} // closed to end the poll in progress
	sock       *Socket
	idleSince  time.Time // since when there is no socket
	timer      *time.Timer
	pingSent   bool
	code       websocket.StatusCode
	reason     string // of the close frame
	closeCause string // reported to OnDisconnect

	// readMu orders incoming packets; it is contended only by polling POSTs.
	readMu  sync.Mutex
	partial *partialPacket
}

// partialPacket is a binary packet that waits for its attachments.
type partialPacket struct {
	head  inbound
	parts [][]byte
	size  int
}

func (s *Server) newConn() *conn {
	c := &conn{
		srv:       s,
		id:        newID(),
		done:      make(chan struct{}),
		wake:      make(chan struct{}, 1),
		idleSince: time.Now(),
	}
	return c
}

// startHeartbeat begins the ping cycle.
func (c *conn) startHeartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == connOpen {
		c.timer = time.AfterFunc(c.srv.opts.PingInterval, c.beat)
	}
}

// beat runs on the timer: it sends the ping that is due, or ends a connection
// whose pong is overdue or that never opened a session.
func (c *conn) beat() {
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		return
	}
	overdue := c.pingSent
	unused := c.sock == nil && time.Since(c.idleSince) >= c.srv.opts.PingTimeout
	if !overdue && !unused {
		c.pingSent = true
		c.timer.Reset(c.srv.opts.PingTimeout)
	}
	c.mu.Unlock()
	switch {
	case overdue:
		c.close(websocket.StatusNormalClosure, "ping timeout", ReasonPingTimeout)
	case unused:
		c.close(websocket.StatusNormalClosure, "no session", ReasonServer)
	default:
		c.enqueue(framePing)
	}
}

// pong ends the wait for an answer to a ping.
func (c *conn) pong() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pingSent && c.state == connOpen {
		c.pingSent = false
		c.timer.Reset(c.srv.opts.PingInterval)
	}
}

// enqueue queues a frame. It never blocks; a connection that has too much
// queued already is dropped. It may be called with a room lock held.
func (c *conn) enqueue(frame []byte) bool {
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		return false
	}
	if c.queued > 0 && (c.queued+len(frame) > c.srv.opts.QueueBytes || len(c.queue) >= c.srv.opts.QueuePackets) {
		c.state = connClosing
		c.code, c.reason = websocket.StatusPolicyViolation, errOverflow.Error()
		c.queue = nil
		c.mu.Unlock()
		go c.drop(errOverflow) // takes the room locks
		return false
	}
	c.queue = append(c.queue, frame)
	c.queued += len(frame)
	c.notifyLocked()
	c.mu.Unlock()
	return true
}

// notifyLocked wakes the goroutine that drains the queue.
func (c *conn) notifyLocked() {
	if !c.asleep {
		return
	}
	c.asleep = false
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take exchanges the queue for spare. It returns an empty batch and marks the
// consumer asleep if there is nothing to send.
func (c *conn) take(spare [][]byte) (batch [][]byte, state connState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.asleep = c.state == connOpen
		return spare[:0], c.state
	}
	batch, c.queue = c.queue, spare[:0]
	return batch, c.state
}

// sent takes n written bytes off the account of the queue.
func (c *conn) sent(n int) {
	c.mu.Lock()
	c.queued -= n
	c.mu.Unlock()
}

// close ends the connection in an orderly way: the session ends now, what is
// queued is still sent, then the transport is closed with code and reason.
func (c *conn) close(code websocket.StatusCode, reason, cause string) {
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		return
	}
	c.code, c.reason, c.closeCause = code, reason, cause
	if c.ws == nil {
		c.queue = append(c.queue, frameClose)
		c.queued += len(frameClose)
	} else {
		c.ws.fc.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	c.state = connClosing
	c.asleep = true // make sure that the wake-up is sent
	c.notifyLocked()
	c.restartTimerLocked(closeTimeout, func() { c.finish(cause) })
	c.mu.Unlock()
	c.endSession(cause, cause != ReasonClient && cause != ReasonTransport)
}

// fail closes the connection over a protocol error of the peer.
func (c *conn) fail(code websocket.StatusCode, err error) {
	c.srv.log.Debug("realtime: closing connection", "sid", c.id, "err", err)
	c.close(code, err.Error(), ReasonError)
}

// drop ends the connection at once; what is queued is lost.
func (c *conn) drop(err error) {
	c.srv.log.Debug("realtime: dropping connection", "sid", c.id, "err", err)
	c.finish(ReasonError)
}

func (c *conn) restartTimerLocked(d time.Duration, f func()) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, f)
}

// finish releases everything; it is the last step of every connection.
func (c *conn) finish(cause string) {
	c.once.Do(func() {
		c.mu.Lock()
		if c.closeCause != "" {
			cause = c.closeCause
		}
		c.state = connClosed
		c.queue = nil
		if c.timer != nil {
			c.timer.Stop()
		}
		c.asleep = true
		c.notifyLocked()
		ws := c.ws
		c.mu.Unlock()
		c.endSession(cause, cause != ReasonClient && cause != ReasonTransport)
		close(c.done)
		if ws != nil {
			ws.abort()
		}
		c.srv.forget(c)
	})
}

// endSession ends the session of the connection's socket, if it has one.
// Events that the socket has not handled yet are dropped if drop is set.
func (c *conn) endSession(cause string, drop bool) {
	c.mu.Lock()
	s := c.sock
	c.sock = nil
	c.idleSince = time.Now()
	c.mu.Unlock()
	if s != nil {
		s.end(cause, drop)
	}
}

// socket returns the connection's session, or nil.
func (c *conn) socket() *Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sock
}
