package realtime

import (
	"encoding/base64"
	"errors"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var errFlood = errors.New("too many pending events")

// receiveText handles one Engine.IO text packet. The bytes are kept.
func (c *conn) receiveText(b []byte) {
	if len(b) == 0 {
		c.fail(websocket.StatusProtocolError, malformed("empty"))
		return
	}
	switch b[0] {
	case engBinary:
		raw, err := base64.StdEncoding.DecodeString(string(b[1:]))
		if err != nil {
			c.fail(websocket.StatusInvalidFramePayloadData, malformed("base64"))
			return
		}
		c.receiveBinary(raw)
	case engMessage:
		c.receivePacket(b[1:])
	case engPong:
		c.pong()
	case engClose:
		c.close(websocket.StatusNormalClosure, "", ReasonClient)
	case engPing, engUpgrade, engNoop, engOpen:
		// Out of place but harmless, as the reference takes it.
	default:
		c.fail(websocket.StatusProtocolError, malformed("unknown engine packet"))
	}
}

// receivePacket handles one Socket.IO text packet.
func (c *conn) receivePacket(b []byte) {
	if c.partial != nil {
		c.fail(websocket.StatusProtocolError, malformed("attachment expected"))
		return
	}
	p, err := parsePacket(b)
	if err != nil {
		c.fail(websocket.StatusInvalidFramePayloadData, err)
		return
	}
	if p.attachments > 0 {
		c.partial = &partialPacket{head: p}
		return
	}
	c.handle(p)
}

// receiveBinary handles one attachment.
func (c *conn) receiveBinary(b []byte) {
	w := c.partial
	if w == nil {
		c.fail(websocket.StatusUnsupportedData, malformed("unexpected attachment"))
		return
	}
	w.parts = append(w.parts, b)
	w.size += len(b)
	if int64(w.size) > c.srv.opts.MaxPayload {
		c.fail(websocket.StatusMessageTooBig, malformed("attachments too large"))
		return
	}
	if len(w.parts) < w.head.attachments {
		return
	}
	c.partial = nil
	data, err := fillAttachments(w.head.data, w.parts)
	if err != nil {
		c.fail(websocket.StatusInvalidFramePayloadData, err)
		return
	}
	w.head.data = data
	c.handle(w.head)
}

// handle acts on a complete packet.
func (c *conn) handle(p inbound) {
	if p.namespace != "/" {
		c.refuseNamespace(p)
		return
	}
	if p.kind == sioConnect {
		c.connect(p.data)
		return
	}
	s := c.socket()
	if s == nil {
		return // late packets of a session that has ended
	}
	switch p.kind {
	case sioDisconnect:
		c.endSession(ReasonClient, false)
	case sioEvent, sioBinaryEvent:
		name, args, err := splitEvent(p.data)
		if err != nil {
			c.fail(websocket.StatusInvalidFramePayloadData, err)
			return
		}
		if !s.push(job{kind: jobEvent, event: name, args: args, id: p.id, size: len(p.data)}) {
			c.fail(websocket.StatusPolicyViolation, errFlood)
		}
	case sioAck, sioBinaryAck:
		args, err := splitArray(p.data)
		if err != nil {
			c.fail(websocket.StatusInvalidFramePayloadData, err)
			return
		}
		s.resolve(p.id, args)
	default:
		c.fail(websocket.StatusProtocolError, malformed("unexpected packet type"))
	}
}

// refuseNamespace answers a CONNECT to any namespace but the default one.
func (c *conn) refuseNamespace(p inbound) {
	if p.kind != sioConnect {
		return
	}
	ns, _ := jsontext.AppendQuote(nil, p.namespace) // repairs invalid UTF-8
	var name string
	if json.Unmarshal(ns, &name) == nil {
		c.enqueue(textFrame("44" + name + `,"Unable to connect"`))
	}
}

// connect opens a session. As with python-socketio's always_connect the client
// gets its session id at once; whether its token is good shows only in
// the rooms that the session joins.
func (c *conn) connect(auth []byte) {
	if len(auth) > 0 && !jsontext.Value(auth).IsValid(lenient...) {
		c.fail(websocket.StatusInvalidFramePayloadData, malformed("auth"))
		return
	}
	s := newSocket(c)
	c.mu.Lock()
	if c.state != connOpen || c.sock != nil {
		c.mu.Unlock()
		return // a second CONNECT on the same namespace changes nothing
	}
	c.sock = s
	c.mu.Unlock()
	c.srv.addSocket(s) // first, so that whoever hears the id finds the session
	c.enqueue(textFrame(`40{"sid":"` + s.sid + `"}`))
	s.push(job{kind: jobConnect, token: tokenOf(auth)})
}

// tokenOf takes the token out of the auth object of a CONNECT packet.
func tokenOf(auth []byte) string {
	var in struct {
		Token jsontext.Value `json:"token"`
	}
	var token string
	if len(auth) == 0 || json.Unmarshal(auth, &in, marshalOptions) != nil || json.Unmarshal(in.Token, &token, marshalOptions) != nil {
		return ""
	}
	return token
}
