package realtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"
)

// Answers of python-engineio, as clients see them.
const (
	msgBadTransport = "Invalid transport"
	msgBadVersion   = "The client is using an unsupported version of the Socket.IO or Engine.IO protocols"
	msgBadUpgrade   = "Invalid websocket upgrade"
	msgUnexpected   = "Unexpected HTTP request"
	msgBadRequest   = "Bad Request"
)

// Bounds of the packets in one POST and in the answer to one GET. The second
// is what python-engineio's client is prepared to decode.
const (
	maxPollPackets = 1024
	maxPollBatch   = 16
)

var errTooManyPackets = errors.New("too many packets in a POST")

// separator stands between the packets of a polling payload.
const separator = 0x1e

// ServeHTTP serves both transports. It does not look at the path: mount it at
// /ws/socket.io and /ws/socket.io/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin != "" && s.opts.AllowOrigin != nil && !s.opts.AllowOrigin(origin) {
		refuse(w, r, origin+" is not an accepted origin.")
		return
	}
	setCORS(w, r, origin)
	q := r.URL.Query()
	transport := q.Get("transport")
	if transport == "" {
		transport = "polling"
	}
	if transport == "polling" && !s.opts.AllowPolling || transport == "websocket" && s.opts.NoWebSocket ||
		transport != "polling" && transport != "websocket" {
		refuse(w, r, msgBadTransport)
		return
	}
	sid := q.Get("sid")
	if sid == "" && q.Get("EIO") != "4" {
		refuse(w, r, msgBadVersion)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.serveGet(w, r, transport, sid)
	case http.MethodPost:
		s.servePost(w, r, sid)
	case http.MethodOptions:
		plainText(w, http.StatusOK, "OK")
	default:
		plainText(w, http.StatusMethodNotAllowed, "Method Not Found")
	}
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, transport, sid string) {
	upgrade := isUpgrade(r)
	if sid == "" {
		switch {
		case transport == "polling":
			s.openPolling(w, r)
		case upgrade:
			s.serveWebSocket(w, r)
		default:
			refuse(w, r, msgBadUpgrade)
		}
		return
	}
	c := s.conn(sid)
	switch {
	case c == nil:
		refuse(w, r, "Invalid session "+sid)
	case c.transport() != nil:
		refuse(w, r, msgUnexpected)
	case transport == "websocket" && upgrade:
		s.serveUpgrade(w, r, c)
	case transport == "websocket":
		refuse(w, r, msgBadTransport)
	default:
		s.servePoll(w, r, c)
	}
}

func (c *conn) transport() *wsTransport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws
}

// openFrame is the first packet of a connection.
func (s *Server) openFrame(c *conn, polling bool) []byte {
	upgrades := `[]`
	if polling && !s.opts.NoWebSocket {
		upgrades = `["websocket"]`
	}
	return textFrame(fmt.Sprintf(`0{"sid":"%s","upgrades":%s,"pingTimeout":%d,"pingInterval":%d,"maxPayload":%d}`,
		c.id, upgrades, s.opts.PingTimeout.Milliseconds(), s.opts.PingInterval.Milliseconds(), s.opts.MaxPayload))
}

// openPolling starts a polling connection.
func (s *Server) openPolling(w http.ResponseWriter, r *http.Request) {
	c := s.newConn()
	if !s.register(c) {
		http.Error(w, "server shutdown", http.StatusServiceUnavailable)
		return
	}
	c.startHeartbeat()
	writePayload(w, [][]byte{s.openFrame(c, true)})
}

// servePoll answers a GET as soon as there is something to send. A second poll
// ends the first one, whose client has given it up.
func (s *Server) servePoll(w http.ResponseWriter, r *http.Request, c *conn) {
	mine := make(chan struct{})
	c.mu.Lock()
	if c.polling != nil {
		close(c.polling)
	}
	c.polling = mine
	for {
		if c.polling != mine || c.upgrading || c.ws != nil || c.state == connClosed {
			c.asleep = true
			c.notifyLocked() // pass on a wake-up that was meant for the newer poll
			c.endPollLocked(mine)
			c.mu.Unlock()
			writePayload(w, [][]byte{frameNoop})
			return
		}
		if len(c.queue) > 0 {
			break
		}
		c.asleep = true
		c.mu.Unlock()
		select {
		case <-c.wake:
		case <-mine:
		case <-c.done:
		case <-r.Context().Done():
			c.mu.Lock()
			c.endPollLocked(mine)
			c.mu.Unlock()
			return
		}
		c.mu.Lock()
	}
	batch := c.pollBatchLocked()
	last := c.state == connClosing && len(c.queue) == 0
	c.endPollLocked(mine)
	c.mu.Unlock()
	if err := writePayload(w, batch); err != nil || last {
		c.finish(ReasonTransport)
	}
}

// pollBatchLocked takes the packets of one poll off the queue.
func (c *conn) pollBatchLocked() [][]byte {
	batch := c.queue[:min(len(c.queue), maxPollBatch)]
	c.queue = c.queue[len(batch):]
	for _, frame := range batch {
		c.queued -= len(frame)
	}
	return batch
}

func (c *conn) endPollLocked(mine chan struct{}) {
	if c.polling == mine {
		c.polling = nil
	}
}

// servePost takes the packets of a polling client.
func (s *Server) servePost(w http.ResponseWriter, r *http.Request, sid string) {
	c := s.conn(sid)
	if c == nil {
		if sid == "" {
			sid = "None"
		}
		refuse(w, r, "Invalid session "+sid)
		return
	}
	if c.transport() != nil {
		refuse(w, r, msgUnexpected)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxPayload))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			c.fail(websocket.StatusMessageTooBig, err)
		}
		refuse(w, r, msgBadRequest)
		return
	}
	if bytes.Count(body, []byte{separator}) >= maxPollPackets {
		c.fail(websocket.StatusPolicyViolation, errTooManyPackets)
		refuse(w, r, msgBadRequest)
		return
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for _, p := range bytes.Split(body, []byte{separator}) {
		if !c.isOpen() {
			break
		}
		c.receiveText(p)
	}
	if cause := c.cause(); cause == ReasonError {
		refuse(w, r, msgBadRequest)
		return
	}
	plainText(w, http.StatusOK, "OK")
}

// cause is why the connection was closed, or "".
func (c *conn) cause() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeCause
}

// writePayload answers a poll.
func writePayload(w http.ResponseWriter, batch [][]byte) error {
	var body []byte
	for i, frame := range batch {
		if i > 0 {
			body = append(body, separator)
		}
		body = append(body, frameText(frame)...)
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err := w.Write(body)
	return err
}

func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// refuse answers like the reference: 400 with the message as a JSON string, or
// an empty 403 for a WebSocket handshake, which an ASGI server can only deny.
func refuse(w http.ResponseWriter, r *http.Request, message string) {
	if isUpgrade(r) {
		plainText(w, http.StatusForbidden, "")
		return
	}
	b, _ := jsontext.AppendQuote(nil, message) // repairs invalid UTF-8
	plainText(w, http.StatusBadRequest, string(b))
}

func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// setCORS sets the headers of an allowed cross-origin request, unless a
// middleware has done so.
func setCORS(w http.ResponseWriter, r *http.Request, origin string) {
	h := w.Header()
	if origin == "" || h.Get("Access-Control-Allow-Origin") != "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "OPTIONS, GET, POST")
	}
	if v := r.Header.Get("Access-Control-Request-Headers"); v != "" {
		h.Set("Access-Control-Allow-Headers", v)
	}
}
