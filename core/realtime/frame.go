package realtime

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Packet is an encoded Engine.IO packet, ready to be queued on any number
// of sockets. It is kept as a complete unmasked WebSocket text frame, so that
// sending it needs no further encoding. Packets are immutable; the zero Packet
// is sent to nobody.
type Packet struct {
	frame []byte
}

// Bytes returns the Engine.IO text of the packet, e.g. `42["events",{…}]`.
// The slice is shared and must not be modified.
func (p Packet) Bytes() []byte { return frameText(p.frame) }

// RawPacket wraps an Engine.IO text such as one taken from [Packet.Bytes] on
// another node.
func RawPacket(text []byte) Packet {
	return Packet{append(newFrame(len(text)), text...)}
}

// EncodeEvent encodes an event whose single argument is already JSON. It makes
// one allocation and builds no tree. payloadJSON must be one valid JSON value;
// bytes that are not UTF-8 are replaced, as browsers drop a connection over them.
// An empty payload makes an event without arguments.
func EncodeEvent(event string, payloadJSON []byte) Packet {
	if !plain(event) || !utf8.Valid(payloadJSON) {
		name, _ := jsontext.AppendQuote(nil, event) // invalid UTF-8 is replaced and only then reported
		return encodeQuoted(name[1:len(name)-1], bytes.ToValidUTF8(payloadJSON, []byte("\uFFFD")))
	}
	return encodeQuoted(event, payloadJSON)
}

func encodeQuoted[T string | []byte](name T, payload []byte) Packet {
	n := len(`42[""]`) + len(name) + len(payload)
	if len(payload) > 0 {
		n++
	}
	b := append(newFrame(n), `42["`...)
	b = append(b, name...)
	b = append(b, '"')
	if len(payload) > 0 {
		b = append(b, ',')
		b = append(b, payload...)
	}
	return Packet{append(b, ']')}
}

// plain reports whether s needs no escaping inside a JSON string.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keepBuffer is the largest buffer worth returning to the pool.
const keepBuffer = 64 << 10

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// marshalOptions encode payloads: strings that are not UTF-8 are repaired
// rather than refused, raw values may repeat names.
var marshalOptions = json.JoinOptions(lenient...)

// Encode encodes an event with its arguments.
func Encode(event string, args ...any) (Packet, error) {
	if len(args) == 0 {
		return EncodeEvent(event, nil), nil
	}
	return encodeArgs(sioEvent, noAck, event, args)
}

// encodeArgs builds an EVENT packet, or an ACK packet if event is empty.
func encodeArgs(kind byte, id int64, event string, args []any) (Packet, error) {
	buf := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buf)
	buf.WriteByte(engMessage)
	buf.WriteByte(kind)
	if id != noAck {
		buf.Write(strconv.AppendInt(buf.AvailableBuffer(), id, 10))
	}
	buf.WriteByte('[')
	sep := false
	if kind == sioEvent {
		name, _ := jsontext.AppendQuote(buf.AvailableBuffer(), event)
		buf.Write(name)
		sep = true
	}
	for _, arg := range args {
		if sep {
			buf.WriteByte(',')
		}
		sep = true
		if err := json.MarshalWrite(buf, arg, marshalOptions); err != nil {
			return Packet{}, fmt.Errorf("encode event %q: %w", event, err)
		}
	}
	buf.WriteByte(']')
	return RawPacket(buf.Bytes()), nil
}

// textFrame is the WebSocket frame of a short constant text.
func textFrame(text string) []byte { return append(newFrame(len(text)), text...) }

// newFrame returns the header of an unmasked, final text frame with room for
// n bytes of payload (RFC 6455, 5.2).
func newFrame(n int) []byte {
	const finText = 0x81
	switch {
	case n < 126:
		return append(make([]byte, 0, 2+n), finText, byte(n))
	case n <= 0xffff:
		b := append(make([]byte, 0, 4+n), finText, 126)
		return binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b := append(make([]byte, 0, 10+n), finText, 127)
		return binary.BigEndian.AppendUint64(b, uint64(n))
	}
}

// frameText is the payload of a frame made by newFrame.
func frameText(frame []byte) []byte {
	if len(frame) < 2 {
		return nil
	}
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	default:
		return frame[2:]
	}
}
