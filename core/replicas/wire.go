package replicas

import "encoding/binary"

// The first byte of a message says what it is.
const (
	msgChanges   = 'o' // version, then changes up to it
	msgState     = 's' // version, whether the receiver is to answer with its own, all entries
	msgHeartbeat = 'h' // version
	msgAsk       = 'q' // asks for the state
	msgBye       = 'b'
	msgCall      = 'c' // number, method, body
	msgCancel    = 'x' // number
	msgReply     = 'r' // number, 1 for an error, body or its text
	msgTell      = 'm' // method, body
)

// Join makes one text of several, which Split takes apart.
func Join[T string | []byte](parts ...T) []byte {
	n := 0
	for _, p := range parts {
		n += len(p) + binary.MaxVarintLen32
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = appendText(b, p)
	}
	return b
}

// Split takes apart what Join has made; nil if it was something else. The parts share b.
func Split(b []byte) [][]byte {
	var out [][]byte
	r := reader{b: b}
	for len(r.b) > 0 && !r.bad {
		out = append(out, r.text())
	}
	if r.bad {
		return nil
	}
	return out
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// reader takes a message apart; after the first thing that is not as it should be everything is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	t := r.b[:n:n]
	r.b = r.b[n:]
	return t
}
