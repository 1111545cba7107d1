package realtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Engine.IO 4 packet types, the first character of a text message.
const (
	engOpen    = '0'
	engClose   = '1'
	engPing    = '2'
	engPong    = '3'
	engMessage = '4'
	engUpgrade = '5'
	engNoop    = '6'
	engBinary  = 'b' // a binary message in base64, on polling
)

// Socket.IO 5 packet types, the first character of an Engine.IO message.
const (
	sioConnect      = '0'
	sioDisconnect   = '1'
	sioEvent        = '2'
	sioAck          = '3'
	sioConnectError = '4'
	sioBinaryEvent  = '5'
	sioBinaryAck    = '6'
)

// maxAttachments bounds how many binary messages may follow one packet.
const maxAttachments = 256

// noAck marks a packet without an acknowledgement id.
const noAck = -1

// errMalformed is wrapped by every decoding error: the peer broke the protocol.
var errMalformed = errors.New("malformed packet")

func malformed(what string) error { return fmt.Errorf("%w: %s", errMalformed, what) }

// lenient are the decoding options that match what Python's json accepts from
// a client and the encoding options that keep a broken string from losing an event.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// inbound is a decoded Socket.IO packet header; data is its undecoded JSON.
type inbound struct {
	kind        byte
	namespace   string // "/" when absent
	id          int64  // noAck when absent
	attachments int
	data        []byte
}

// parsePacket splits a Socket.IO packet:
//
//	<type>[<attachments>-][<namespace>,][<ack id>][JSON]
func parsePacket(b []byte) (inbound, error) {
	p := inbound{namespace: "/", id: noAck}
	if len(b) == 0 {
		return p, malformed("empty")
	}
	p.kind = b[0]
	if p.kind < sioConnect || p.kind > sioBinaryAck {
		return p, malformed("unknown type")
	}
	b = b[1:]
	if p.kind == sioBinaryEvent || p.kind == sioBinaryAck {
		n, rest, ok := leadingInt(b, 9)
		if !ok || len(rest) == 0 || rest[0] != '-' {
			return p, malformed("no attachment count")
		}
		if n > maxAttachments {
			return p, malformed("too many attachments")
		}
		p.attachments, b = int(n), rest[1:]
	}
	if len(b) > 0 && b[0] == '/' {
		ns, rest, _ := bytes.Cut(b, []byte{','})
		ns, _, _ = bytes.Cut(ns, []byte{'?'})
		p.namespace, b = string(ns), rest
	}
	if len(b) > 0 && isDigit(b[0]) {
		n, rest, ok := leadingInt(b, 18)
		if !ok || len(rest) > 0 && isDigit(rest[0]) {
			return p, malformed("ack id too long")
		}
		p.id, b = n, rest
	}
	p.data = b
	return p, p.check()
}

// check verifies that the packet has the parts its type needs.
func (p inbound) check() error {
	switch p.kind {
	case sioAck, sioBinaryAck:
		if p.id == noAck {
			return malformed("ack without id")
		}
		fallthrough
	case sioEvent, sioBinaryEvent:
		if len(p.data) == 0 || p.data[0] != '[' {
			return malformed("payload is not an array")
		}
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// leadingInt reads a run of at most limit decimal digits.
func leadingInt(b []byte, limit int) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < limit && isDigit(b[i]) {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	return n, b[i:], i > 0
}

// splitArray returns the elements of a JSON array as subslices of data.
func splitArray(data []byte) ([]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), lenient...)
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '[' {
		return nil, malformed("payload is not an array")
	}
	var out []jsontext.Value
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err != nil {
			return nil, malformed("invalid JSON")
		}
		end := dec.InputOffset()
		out = append(out, jsontext.Value(data[end-int64(len(v)):end:end]))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed("invalid JSON")
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, malformed("data after the payload")
	}
	return out, nil
}

// splitEvent separates an event's name from its arguments.
func splitEvent(data []byte) (name string, args []jsontext.Value, err error) {
	all, err := splitArray(data)
	if err != nil {
		return "", nil, err
	}
	if len(all) == 0 || all[0].Kind() != '"' {
		return "", nil, malformed("event without a name")
	}
	b, err := jsontext.AppendUnquote(nil, all[0])
	if err != nil && len(b) == 0 {
		return "", nil, malformed("event without a name")
	}
	return string(b), all[1:], nil
}

// fillAttachments replaces each {"_placeholder":true,"num":n} of data by
// attachment n written as a list of byte values, the form in which the
// reference stores and applies Yjs updates.
func fillAttachments(data []byte, attachments [][]byte) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), lenient...)
	var out bytes.Buffer
	enc := jsontext.NewEncoder(&out, lenient...)
	for {
		tok, err := dec.ReadToken()
		if err == io.EOF {
			return bytes.TrimSpace(out.Bytes()), nil
		}
		if err != nil {
			return nil, malformed("invalid JSON")
		}
		if tok.Kind() == '{' && dec.PeekKind() == '"' {
			if err := copyObjectStart(dec, enc, attachments); err != nil {
				return nil, err
			}
			continue
		}
		if err := enc.WriteToken(tok); err != nil {
			return nil, malformed("invalid JSON")
		}
	}
}

// copyObjectStart is called after "{": it writes the attachment in place of a
// placeholder object, or the brace and the first member's name of any other.
func copyObjectStart(dec *jsontext.Decoder, enc *jsontext.Encoder, attachments [][]byte) error {
	name, err := dec.ReadValue()
	if err != nil {
		return malformed("invalid JSON")
	}
	name = name.Clone() // peeking may overwrite it
	if string(name) != `"_placeholder"` || dec.PeekKind() != 't' {
		if enc.WriteToken(jsontext.BeginObject) != nil || enc.WriteValue(name) != nil {
			return malformed("invalid JSON")
		}
		return nil
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformed("invalid JSON")
	}
	num := -1
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return malformed("invalid JSON")
		}
		isNum := tok.String() == "num"
		v, err := dec.ReadValue()
		if err != nil {
			return malformed("invalid JSON")
		}
		if !isNum {
			continue
		}
		if num, err = strconv.Atoi(string(v)); err != nil {
			return malformed("attachment number")
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformed("invalid JSON")
	}
	if num < 0 || num >= len(attachments) {
		return malformed("attachment number")
	}
	if err := enc.WriteValue(AppendInts(nil, attachments[num])); err != nil {
		return malformed("attachment")
	}
	return nil
}

// AppendInts appends b as a JSON list of byte values ("[1,255]"), the way the
// protocol of the reference carries binary data.
func AppendInts(dst, b []byte) []byte {
	dst = append(dst, '[')
	for i, c := range b {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(c), 10)
	}
	return append(dst, ']')
}
