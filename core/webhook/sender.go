package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/galleychat/galley/core/outbound"
)

// Limits of a Sender.
const (
	workers    = 16
	maxQueue   = 256  // messages of one address
	maxQueued  = 4096 // messages in all
	maxAnswer  = 64 << 10
	retries    = 2
	maxTimeout = 20 * time.Second
)

// Outcome is what became of a message.
type Outcome string

// The outcomes of messages.
const (
	Delivered Outcome = "delivered"
	Failed    Outcome = "failed"  // refused, or not to be had after all retries
	Dropped   Outcome = "dropped" // the queue was full, or the server stopped
)

// Options are what a Sender works with.
type Options struct {
	Guard    outbound.Guard
	HTTP     *http.Client // best the Guard's
	Name     string       // the server's
	Icon     func() string
	Timeout  time.Duration // of one request; 0 or more than 20 s means 20 s
	Backoff  time.Duration // before the first retry, four times that before the next; 0 means a second
	Log      *slog.Logger
	Observed func(Outcome) // is told of each message's end; nil for nobody
}

// Sender sends messages. Its methods may be called at once.
type Sender struct {
	o    Options
	life context.Context
	end  context.CancelFunc

	mu       sync.Mutex // never held while something is sent
	lanes    map[string]*lane
	ready    []*lane // that have a message and no worker, those that wait longest first
	queued   int     // messages, with those in flight
	running  int     // workers
	draining bool
	drained  chan struct{} // closed once draining and nothing is queued
	working  sync.WaitGroup
}

// lane is the queue of one address. It is ready, or in a worker's hands, or waits for its retry.
type lane struct {
	url     string
	queue   []func(context.Context) (Message, bool)
	attempt int         // of the first message
	message *Message    // the first message, once it is made; touched by the worker alone that has the lane
	pause   *time.Timer // before a retry; nil while there is none
}

// New makes a sender. Close ends it.
func New(o Options) *Sender {
	if o.Timeout <= 0 || o.Timeout > maxTimeout {
		o.Timeout = maxTimeout
	}
	if o.Backoff == 0 {
		o.Backoff = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Observed == nil {
		o.Observed = func(Outcome) {}
	}
	if o.Icon == nil {
		o.Icon = func() string { return "" }
	}
	s := &Sender{o: o, lanes: map[string]*lane{}, drained: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Queue has a message sent in the background.
func (s *Sender) Queue(m Message) {
	s.QueueLater(m.URL, func(context.Context) (Message, bool) { return m, true })
}

// QueueLater is Queue for a message that is made, or found not to be wanted, by a worker: what needs the database first.
// key names the queue it waits in, best the address.
func (s *Sender) QueueLater(key string, make func(context.Context) (Message, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[key]
	if s.draining && s.queued == 0 || s.life.Err() != nil || s.queued >= maxQueued || l != nil && len(l.queue) >= maxQueue {
		s.o.Observed(Dropped)
		s.o.Log.Warn("a message to a webhook was dropped", "to", place(key))
		return
	}
	s.queued++
	if l != nil {
		l.queue = append(l.queue, make)
		return
	}
	l = &lane{url: key, queue: []func(context.Context) (Message, bool){make}}
	s.lanes[key] = l
	s.readied(l)
}

// readied gives a lane to a worker. mu is held.
func (s *Sender) readied(l *lane) {
	s.ready = append(s.ready, l)
	if s.running < workers {
		s.running++
		s.working.Go(s.work)
	}
}

// work serves the lanes that are ready until there is none.
func (s *Sender) work() {
	for {
		s.mu.Lock()
		if len(s.ready) == 0 {
			s.running--
			s.mu.Unlock()
			return
		}
		l := s.ready[0]
		s.ready = s.ready[1:]
		first := l.queue[0]
		s.mu.Unlock()
		s.serve(l, first)
	}
}

// serve sends the first message of a lane.
func (s *Sender) serve(l *lane, first func(context.Context) (Message, bool)) {
	outcome, err := Delivered, error(nil)
	if l.message == nil {
		l.message = s.made(first)
	}
	if l.message == nil {
		outcome = "" // not wanted
	} else if err = s.Send(s.life, *l.message); err != nil {
		outcome = Failed
		if s.life.Err() != nil {
			outcome = Dropped
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcome == Failed && l.attempt < retries && worthRetry(err) && !s.draining {
		pause := s.o.Backoff << (2 * l.attempt)
		l.attempt++
		l.pause = time.AfterFunc(pause, func() { s.again(l) })
		return
	}
	s.ended(l, outcome, err)
	switch {
	case len(l.queue) == 0, s.life.Err() != nil, s.draining && outcome == Failed:
		s.drop(l) // a receiver that fails gets no more of the time that is left at the end
	default:
		s.readied(l)
	}
	s.check()
}

// made has a message made.
func (s *Sender) made(f func(context.Context) (Message, bool)) (m *Message) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("panic while a message to a webhook was made", "panic", p)
			m = nil
		}
	}()
	ctx, cancel := context.WithTimeout(s.life, s.o.Timeout)
	defer cancel()
	if v, ok := f(ctx); ok {
		return &v
	}
	return nil
}

// again readies a lane after its pause.
func (s *Sender) again(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.pause == nil {
		return
	}
	l.pause = nil
	if s.life.Err() == nil {
		s.readied(l)
	} else {
		s.drop(l)
	}
}

// ended takes the first message out of a lane. mu is held.
func (s *Sender) ended(l *lane, o Outcome, err error) {
	l.queue[0] = nil
	l.queue, l.attempt, l.message = l.queue[1:], 0, nil
	s.queued--
	if o != "" {
		s.o.Observed(o)
	}
	if err != nil {
		s.o.Log.Warn("a message to a webhook was not delivered", "to", place(l.url), "error", err)
	}
}

// drop takes all messages out of a lane. mu is held.
func (s *Sender) drop(l *lane) {
	for len(l.queue) > 0 {
		s.ended(l, Dropped, nil)
	}
	delete(s.lanes, l.url)
}

// check tells Drain that nothing is left. mu is held.
func (s *Sender) check() {
	if s.draining && s.queued == 0 {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// Drain sends what is queued, without further retries, until ctx ends. Messages that come meanwhile are sent too, as long
// as there is anything left to send.
func (s *Sender) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for _, l := range s.lanes {
		if l.pause != nil && l.pause.Stop() {
			l.pause = nil
			s.readied(l)
		}
	}
	s.check()
	s.mu.Unlock()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	n := s.queued
	s.mu.Unlock()
	return fmt.Errorf("%d messages to webhooks were not delivered", n)
}

// Close drops what is queued, breaks off what is in flight, and waits for the workers to end.
func (s *Sender) Close() {
	s.mu.Lock()
	s.end()
	s.draining = true
	for _, l := range s.lanes {
		if l.pause != nil && l.pause.Stop() {
			s.drop(l)
		}
	}
	s.check()
	s.mu.Unlock()
	s.working.Wait()
}

// StatusError is a receiver's refusal.
type StatusError int

// Error implements error.
func (e StatusError) Error() string { return fmt.Sprintf("the receiver answered %d", int(e)) }

// errAddress is an address that is not called.
type errAddress struct{ error }

// worthRetry says whether a message that failed may be delivered by trying again, and will not arrive twice by it.
func worthRetry(err error) bool {
	var status StatusError
	var op *net.OpError
	switch {
	case errors.As(err, &status):
		return status >= 500
	case errors.As(err, &errAddress{}):
		return false
	case errors.As(err, &op) && op.Op == "dial":
		return true
	}
	return !errors.Is(err, context.DeadlineExceeded) // it may well have taken it
}

// Send sends a message and waits for the answer.
func (s *Sender) Send(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	if err := s.o.Guard.Check(ctx, m.URL); err != nil {
		return errAddress{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.body(s.o.Name, s.o.Icon())))
	if err != nil {
		return errAddress{err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Galley")
	resp, err := s.o.HTTP.Do(req)
	if err != nil {
		var u *url.Error // whose text has the whole address, which is a secret
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection can be used again
	if resp.StatusCode >= 400 {
		return StatusError(resp.StatusCode)
	}
	return nil
}

// place is an address for the log, without what makes it a secret.
func place(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Host
}
