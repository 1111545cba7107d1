package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// EventStream is the content type of server-sent events.
const EventStream = "text/event-stream; charset=utf-8"

// Stream is an answer that is written bit by bit: each write goes out at once. Its methods may be called from several
// goroutines.
type Stream struct {
	c       *Call
	ctl     *http.ResponseController
	mu      sync.Mutex
	timeout time.Duration
	buf     bytes.Buffer
	last    time.Time
	err     error
}

// Stream begins an answer of the given content type, with the status that was set by Status and headers that keep
// proxies from buffering it. The header goes out at once. The handler writes until it is done or the call's context
// ends, which it does when the client goes, and then returns Done.
func (c *Call) Stream(contentType string) *Stream {
	h := c.W.Header()
	h.Set("Content-Type", contentType)
	if h["Cache-Control"] == nil {
		h.Set("Cache-Control", "no-cache")
	}
	h.Set("X-Accel-Buffering", "no")
	delete(h, "Content-Length")
	status := c.status
	if status == 0 {
		status = http.StatusOK
	}
	c.W.WriteHeader(status)
	s := &Stream{c: c, ctl: http.NewResponseController(c.W), last: time.Now()}
	s.err = s.flush()
	return s
}

// SSE begins an answer of server-sent events.
func (c *Call) SSE() *Stream { return c.Stream(EventStream) }

// WriteTimeout is how long each write may take: a client that stopped reading is then dropped. 0 means for ever.
func (s *Stream) WriteTimeout(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timeout = d
}

// Write sends p at once. It fails once the client has gone.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(p)
}

func (s *Stream) write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if err := s.c.R.Context().Err(); err != nil {
		s.err = err
		return 0, err
	}
	s.last = time.Now()
	if s.timeout > 0 {
		s.c.writeDeadline(s.timeout)
	}
	n, err := s.c.W.Write(p)
	if err == nil {
		err = s.flush()
	}
	s.err = err
	return n, err
}

func (s *Stream) flush() error {
	if err := s.ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Event sends "data: …" and an empty line. Each line of data is a line of the event.
func (s *Stream) Event(data []byte) error { return s.Named("", data) }

// Named sends an event with a name.
func (s *Stream) Named(event string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Reset()
	if event != "" {
		s.line("event: ", []byte(event))
	}
	for more := true; more; {
		var line []byte
		line, data, more = bytes.Cut(data, []byte{'\n'})
		s.line("data: ", line)
	}
	s.buf.WriteByte('\n')
	_, err := s.write(s.buf.Bytes())
	return err
}

func (s *Stream) line(field string, text []byte) {
	s.buf.WriteString(field)
	s.buf.Write(text)
	s.buf.WriteByte('\n')
}

// Comment sends a line that clients ignore.
func (s *Stream) Comment(text string) error {
	_, err := s.Write([]byte(": " + text + "\n\n"))
	return err
}

// Heartbeat sends a comment whenever nothing else was sent for d, so that proxies keep the connection, until stop is
// called, which waits for the last. Only between whole events is a comment allowed: use it with Event and Named.
func (s *Stream) Heartbeat(d time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-s.c.R.Context().Done():
				return
			case now := <-t.C:
				if s.beat(now, d) != nil {
					return
				}
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

func (s *Stream) beat(now time.Time, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.last) < d {
		return s.err
	}
	_, err := s.write([]byte(": ping\n\n"))
	return err
}

// relayBuffers are for Relay.
var relayBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// Relay sends what r gives as it comes, without looking at it, until r ends or the client goes. r must end by itself
// when the call's context does, as the body of a response does whose request has that context.
func (s *Stream) Relay(r io.Reader) error {
	buf := relayBuffers.Get().(*[16 << 10]byte)
	defer relayBuffers.Put(buf)
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			if _, werr := s.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
