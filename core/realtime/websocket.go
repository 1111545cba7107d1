package realtime

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Sizes of the write path: frames up to gatherMax are copied together into
// buffers of gatherSize, so that a burst of events costs one system call.
const (
	gatherSize = 32 << 10
	gatherMax  = 8 << 10
	// keepBatch is the longest queue slice worth keeping for the next batch.
	keepBatch = 4096
)

var gatherBuffers = sync.Pool{New: func() any { return &[gatherSize]byte{} }}

// wsTransport is a WebSocket whose incoming side is read through
// coder/websocket and whose outgoing data frames are written by us: they are
// encoded once per event, and a batch of them goes out in one write.
type wsTransport struct {
	ws *websocket.Conn
	fc *frameConn
}

// frameConn serialises our data frames with the control frames that
// coder/websocket writes. Every Write is one or more whole frames.
type frameConn struct {
	net.Conn
	mu   sync.Mutex
	shut bool // a close frame was sent, nothing may follow
}

func (f *frameConn) Write(p []byte) (int, error) {
	const opClose = 8
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return len(p), nil
	}
	f.shut = len(p) > 0 && p[0]&0xf == opClose
	return f.Conn.Write(p)
}

// writeClose sends a close frame.
func (f *frameConn) writeClose(code websocket.StatusCode, reason string) {
	const maxReason = 123
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	b := append(make([]byte, 0, 4+maxReason), 0x88, byte(2+len(reason)))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	f.Write(append(b, reason...))
}

// hijacker hands coder/websocket a frameConn in place of the bare connection.
type hijacker struct {
	http.ResponseWriter
	fc *frameConn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil { // the 101 response
		nc.Close()
		return nil, nil, err
	}
	h.fc = &frameConn{Conn: nc}
	const controlFrame = 2 + 125
	return h.fc, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(h.fc, controlFrame)), nil
}

// accept performs the WebSocket handshake; on failure it has answered.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (*wsTransport, error) {
	h := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // ServeHTTP checked the origin
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(s.opts.MaxPayload)
	return &wsTransport{ws: ws, fc: h.fc}, nil
}

// abort closes the connection without ceremony.
func (t *wsTransport) abort() { t.ws.CloseNow() }

// write sends a batch of frames with as few system calls as possible and
// returns the number of bytes it took off the queue.
func (t *wsTransport) write(batch [][]byte) (n int, err error) {
	for _, frame := range batch {
		n += len(frame)
	}
	if len(batch) == 1 {
		_, err = t.fc.Write(batch[0])
		return n, err
	}
	store := gatherBuffers.Get().(*[gatherSize]byte)
	defer gatherBuffers.Put(store)
	buf := store[:0]
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := t.fc.Write(buf)
		buf = buf[:0]
		return err
	}
	for _, frame := range batch {
		if len(frame) > gatherMax {
			if err := flush(); err != nil {
				return n, err
			}
			if _, err := t.fc.Write(frame); err != nil {
				return n, err
			}
			continue
		}
		if len(buf)+len(frame) > gatherSize {
			if err := flush(); err != nil {
				return n, err
			}
		}
		buf = append(buf, frame...)
	}
	return n, flush()
}

// writeLoop sends what is queued until the connection ends.
func (c *conn) writeLoop(t *wsTransport) {
	var spare [][]byte
	for {
		batch, state := c.take(spare)
		if len(batch) > 0 {
			n, err := t.write(batch)
			c.sent(n)
			clear(batch)
			if spare = batch; cap(spare) > keepBatch {
				spare = nil
			}
			if err != nil {
				c.finish(ReasonTransport)
				return
			}
			if d := c.srv.opts.FlushInterval; d > 0 {
				time.Sleep(d)
			}
			continue
		}
		switch state {
		case connOpen:
			<-c.wake
		case connClosing:
			c.mu.Lock()
			code, reason := c.code, c.reason
			c.mu.Unlock()
			t.fc.writeClose(code, reason)
			return // the reader waits for the peer's close frame
		default:
			return
		}
	}
}

// readLoop handles incoming messages until the connection ends.
func (c *conn) readLoop(t *wsTransport) {
	for {
		kind, r, err := t.ws.Reader(context.Background())
		var data []byte
		if err == nil {
			data, err = io.ReadAll(r)
		}
		if err != nil {
			c.readFailed(t, err)
			return
		}
		if !c.isOpen() {
			continue // only the peer's close frame is of interest
		}
		c.readMu.Lock()
		if kind == websocket.MessageText {
			c.receiveText(data)
		} else {
			c.receiveBinary(data)
		}
		c.readMu.Unlock()
	}
}

func (c *conn) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == connOpen
}

// readFailed ends the connection after its last read.
func (c *conn) readFailed(t *wsTransport, err error) {
	if !errors.Is(err, websocket.ErrMessageTooBig) {
		c.finish(ReasonTransport)
		return
	}
	// The peer is still sending. Closing over unread data would reset the
	// connection and with it the close frame on its way, so read on a little.
	c.srv.log.Debug("realtime: message too big", "sid", c.id)
	c.endSession(ReasonError, true)
	t.fc.SetReadDeadline(time.Now().Add(closeTimeout))
	io.CopyN(io.Discard, t.fc.Conn, 4*c.srv.opts.MaxPayload)
	c.finish(ReasonError)
}

// serveWebSocket runs a connection that is a WebSocket from the start.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	t, err := s.accept(w, r)
	if err != nil {
		s.log.Debug("realtime: handshake failed", "err", err)
		return
	}
	c := s.newConn()
	c.ws = t
	if !s.register(c) {
		t.fc.writeClose(websocket.StatusGoingAway, "server shutdown")
		t.abort()
		return
	}
	c.enqueue(s.openFrame(c, false))
	c.run(t)
}

// run serves an open WebSocket until it ends.
func (c *conn) run(t *wsTransport) {
	c.startHeartbeat()
	go c.writeLoop(t)
	c.readLoop(t)
}

// serveUpgrade moves a polling connection to a WebSocket: the client probes,
// the poll in progress is ended with a noop after the probe is answered, and
// the client's "5" completes the change.
func (s *Server) serveUpgrade(w http.ResponseWriter, r *http.Request, c *conn) {
	t, err := s.accept(w, r)
	if err != nil {
		s.log.Debug("realtime: handshake failed", "err", err)
		return
	}
	t.fc.SetReadDeadline(time.Now().Add(s.opts.PingTimeout))
	if !t.expect("2probe") {
		t.abort()
		return
	}
	if _, err := t.write([][]byte{textFrame("3probe")}); err != nil || !c.setUpgrading(true) {
		t.abort()
		return
	}
	if !t.expect("5") || !c.adopt(t) {
		c.setUpgrading(false)
		t.abort()
		return
	}
	t.fc.SetReadDeadline(time.Time{})
	go c.writeLoop(t)
	c.readLoop(t)
}

// expect reads one text message and compares it.
func (t *wsTransport) expect(text string) bool {
	kind, data, err := t.ws.Read(context.Background())
	return err == nil && kind == websocket.MessageText && string(data) == text
}

// setUpgrading holds back or releases what is queued for polling. It fails if
// another upgrade is under way or done.
func (c *conn) setUpgrading(on bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on && (c.upgrading || c.ws != nil || c.state != connOpen) {
		return false
	}
	c.upgrading = on
	c.asleep = true
	c.notifyLocked() // ends the poll with a noop
	return true
}

// adopt makes t the connection's transport.
func (c *conn) adopt(t *wsTransport) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connOpen {
		return false
	}
	c.ws, c.upgrading = t, false
	return true
}
