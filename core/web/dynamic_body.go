package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// dynamicPause is how long the client of a dynamic route may pause within its body: long enough for whoever is at work
// still, and an end for those who are not.
const dynamicPause = 10 * time.Minute

// patientBody limits how long each read may take, until the handler decides for itself.
type patientBody struct {
	io.ReadCloser
	ctl   *http.ResponseController
	pause time.Duration
	mu    sync.Mutex
	over  bool
}

// pace has the reading of the request's body fail if the client pauses for longer than d.
func (w *response) pace(req *http.Request, d time.Duration) {
	if req.ContentLength == 0 || req.Body == nil || req.Body == http.NoBody {
		return
	}
	if d == 0 {
		d = dynamicPause
	}
	w.body = &patientBody{ReadCloser: req.Body, ctl: http.NewResponseController(w.ResponseWriter), pause: d}
	req.Body = w.body
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	b.limit(time.Now().Add(b.pause))
	n, err := b.ReadCloser.Read(p)
	// What net/http reads of the body once the handler has returned is not to fail for a limit of long ago.
	b.limit(time.Time{})
	return n, err
}

func (b *patientBody) limit(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(t)
}

// set sets the deadline. mu is held.
func (b *patientBody) set(t time.Time) {
	if !b.over {
		_ = b.ctl.SetReadDeadline(t) // not supported by tests' recorders
	}
}

// end leaves deadlines to the handler.
func (b *patientBody) end() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.set(time.Time{})
		b.over = true
	}
}

// SetReadDeadline is for http.ResponseController.
func (w *response) SetReadDeadline(t time.Time) error {
	w.body.end()
	return http.NewResponseController(w.ResponseWriter).SetReadDeadline(t)
}

// EnableFullDuplex is for http.ResponseController.
func (w *response) EnableFullDuplex() error {
	w.body.end()
	return http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
}

// Hijack hands the connection over. Nothing can be answered on it from then on; for observers the answer is 101 if
// nobody gave another status.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.body.end()
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.mode = plain
		if w.status == 0 {
			w.status = http.StatusSwitchingProtocols
		}
	}
	return conn, rw, err
}
