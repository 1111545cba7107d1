package web

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/galleychat/galley/core/auth"
)

// Auditor keeps a record of who asked for what. Begin is asked about every request and gives nil for those that are not
// recorded; End is called once the others are answered.
type Auditor interface {
	Begin(r *http.Request) *Record
	End(r *http.Request, rec *Record)
}

// Record is what is known of a request that is recorded. The heads are filled while the bodies pass and hold nothing up.
type Record struct {
	Caller   *auth.Principal // nil for a stranger
	Model    string          // that the request is for, "" for none
	Status   int
	Sent     *Head // of the request's body; nil where it is not kept
	Answered *Head // of the answer's, before it is compressed
	Data     any   // the auditor's own
}

// RecordOf is the record of the request that a context belongs to, or that work goes on for; nil for none.
func RecordOf(ctx context.Context) *Record {
	rec, _ := ctx.Value(keyRecord).(*Record)
	return rec
}

// Head keeps the beginning of what passes by.
type Head struct {
	mu   sync.Mutex
	left int
	b    []byte
}

// NewHead keeps n bytes at most.
func NewHead(n int) *Head { return &Head{left: n} }

// Keep adds a copy of p as far as there is room.
func (h *Head) Keep(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := min(h.left, len(p)); n > 0 {
		h.b = append(h.b, p[:n]...)
		h.left -= n
	}
}

// forget begins anew: what was kept did not go out.
func (h *Head) forget() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left += len(h.b)
	h.b = nil
}

// String is what was kept.
func (h *Head) String() string {
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.b)
}

// record begins the record of a request, if there is to be one.
func (w *response) record(a Auditor, req *http.Request) {
	if w.rec = a.Begin(req); w.rec != nil && w.rec.Sent != nil && req.Body != nil && req.Body != http.NoBody {
		req.Body = &recordedBody{req.Body, w.rec.Sent}
	}
}

// recordedBody is a request's body of which the beginning is kept.
type recordedBody struct {
	io.ReadCloser
	head *Head
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.head.Keep(p[:n])
	return n, err
}

// keep keeps the beginning of the answer, if it is recorded.
func (w *response) keep(b []byte) {
	if w.rec != nil && w.rec.Answered != nil {
		w.rec.Answered.Keep(b)
	}
}

// caller notes who asks.
func (w *response) caller(p *auth.Principal) {
	if w.rec != nil {
		w.rec.Caller = p
	}
}

// ForModel notes which model a request is for, for its record.
func (c *Call) ForModel(id string) {
	if rw, ok := c.W.(*response); ok && rw.rec != nil {
		rw.rec.Model = id
	}
}
