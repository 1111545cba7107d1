package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"github.com/galleychat/galley/core/config"
)

const (
	maxWaiting  = 16 << 20 // bytes of messages that wait to be sent, unless there is but one
	maxPublish  = 1 << 20  // bytes of messages that are sent as one, unless one alone is larger
	pingEvery   = 5 * time.Second
	silentFor   = 12 * time.Second // then a connection is given up, and what is held for a process
	lastMoment  = 500 * time.Millisecond
	retryAtMost = 2 * time.Second
)

// Bus carries messages between processes by Redis' Pub/Sub: it implements replicas.Bus. There is one channel that all
// processes hear and one for each of them; each holds one connection to hear by and one to speak by.
//
// Messages wait while Redis is down, and while the process they are for hears nothing, as when Redis has started anew: up
// to a number of bytes, from which on they are lost. What is queued while others are on their way travels together.
type Bus struct {
	servers servers
	channel string
	counts  bool // publishing tells how many hear it; a cluster counts those of one server only
	timeout time.Duration
	retry   time.Duration
	log     *slog.Logger
	wake    chan struct{} // capacity 1: there is something in the queue

	mu    sync.Mutex
	queue []outgoing
	held  map[string]*waiting // for processes that did not hear, by id
	size  int                 // bytes of all messages that have not been heard
	lost  int                 // messages, since it was last said
	seen  map[string]uint64   // the numbers of the last publications of others, by id
}

// outgoing is a message for a process, or for all with "".
type outgoing struct {
	to      string
	message []byte
}

// waiting is what a process that hears nothing will be sent.
type waiting struct {
	since    time.Time
	messages []outgoing
}

// OpenBus makes a Bus by the settings of WEBSOCKET_REDIS_URL and so on; nil where they name no Redis.
func OpenBus(e config.Redis, log *slog.Logger) (*Bus, error) {
	if e.URL == "" {
		return nil, nil
	}
	s, err := connect(e)
	if err != nil {
		return nil, fmt.Errorf("WEBSOCKET_REDIS_URL: %w", err)
	}
	a, err := parse(e.URL)
	if err != nil {
		return nil, err // it was none to connect
	}
	_, many := s.(*cluster)
	return &Bus{
		servers: s, channel: channelName(e.KeyPrefix, a.db), counts: !many, log: log, wake: make(chan struct{}, 1),
		timeout: orDefault(e.ConnectTimeout) + orDefault(e.Timeout), retry: min(max(e.ReconnectDelay, 50*time.Millisecond), retryAtMost),
		held: map[string]*waiting{}, seen: map[string]uint64{},
	}, nil
}

// channelName is the channel that all processes hear. Channels are those of all databases of a server; the number of the
// database keeps installations apart that share one.
func channelName(prefix string, db int) string {
	return fmt.Sprintf("%s:galley:%d:replicas", prefix, db)
}

// Send implements replicas.Bus.
func (b *Bus) Send(to string, message []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > 0 && b.size+len(message) > maxWaiting {
		b.lost++
		return
	}
	b.size += len(message)
	b.queue = append(b.queue, outgoing{to, message})
	b.wakeLocked()
}

func (b *Bus) wakeLocked() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Forget implements replicas.Bus.
func (b *Bus) Forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(id)
	b.queue = slices.DeleteFunc(b.queue, func(o outgoing) bool {
		if o.to == id {
			b.size -= len(o.message)
		}
		return o.to == id
	})
	delete(b.seen, id)
}

// dropLocked drops what is held for a process.
func (b *Bus) dropLocked(id string) {
	if h := b.held[id]; h != nil {
		for _, o := range h.messages {
			b.size -= len(o.message)
		}
		delete(b.held, id)
	}
}

// Run implements replicas.Bus.
func (b *Bus) Run(ctx context.Context, id string, up func(bool), receive func(from string, message []byte)) {
	var speaking sync.WaitGroup
	speaking.Go(func() { (&speaker{b: b, id: id}).run(ctx) })
	b.hear(ctx, id, up, receive)
	speaking.Wait()
	b.servers.close()
}

// pause waits before something is tried again, the next time for longer.
func pause(ctx context.Context, d *time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(*d):
	}
	*d = min(2**d, retryAtMost)
}

// publication is messages that travel together. Its payload has the sender's id, its number and the messages.
type publication struct {
	to       string
	messages []outgoing
	payload  []byte
}

// speaker sends what is in a Bus's queue.
type speaker struct {
	b      *Bus
	id     string
	number uint64 // of the last publication
	conn   *conn  // nil while there is none
}

func (s *speaker) run(ctx context.Context) {
	defer s.hangUp()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.b.wake:
			for batch := s.take(); len(batch) > 0; batch = s.take() {
				s.deliver(ctx, batch)
			}
		}
	}
	// what is left, a goodbye among it, if that is quick
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastMoment)
	defer cancel()
	if batch := s.take(); len(batch) > 0 {
		_ = s.publish(last, batch)
	}
}

func (s *speaker) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// take empties the queue.
func (s *speaker) take() (batch []publication) {
	b := s.b
	b.mu.Lock()
	queue, lost := b.queue, b.lost
	b.queue, b.lost = nil, 0
	for id, h := range b.held {
		if time.Since(h.since) > silentFor {
			b.dropLocked(id)
		}
	}
	for _, o := range queue {
		if h := b.held[o.to]; h != nil {
			h.messages = append(h.messages, o)
			continue
		}
		last := len(batch) - 1
		if last < 0 || batch[last].to != o.to || len(batch[last].payload)+len(o.message) > maxPublish {
			s.number++
			payload := append(binary.AppendUvarint(nil, uint64(len(s.id))), s.id...)
			batch = append(batch, publication{to: o.to, payload: binary.AppendUvarint(payload, s.number)})
			last++
		}
		p := &batch[last]
		p.messages = append(p.messages, o)
		p.payload = append(binary.AppendUvarint(p.payload, uint64(len(o.message))), o.message...)
	}
	b.mu.Unlock()
	if lost > 0 {
		b.log.Warn("messages to other processes of this installation were lost", "number", lost)
	}
	return batch
}

// deliver sends a batch, again and again until it is out or ctx ends. Those who have heard it already know by its numbers.
func (s *speaker) deliver(ctx context.Context, batch []publication) {
	for delay := s.b.retry; ; pause(ctx, &delay) {
		if err := s.publish(ctx, batch); err == nil || ctx.Err() != nil {
			return
		}
		s.hangUp()
	}
}

func (s *speaker) publish(ctx context.Context, batch []publication) error {
	b := s.b
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if s.conn == nil {
		c, err := b.servers.connect(ctx)
		if err != nil {
			return err
		}
		s.conn = c
	}
	commands := make([]command, len(batch))
	for i, p := range batch {
		commands[i] = command{name: "PUBLISH", key: b.channelOf(p.to), args: []any{p.payload}}
	}
	answers, err := s.conn.exchange(ctx, commands)
	if err == nil {
		err = refused(answers)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range batch {
		if n, _ := answers[i].(int64); n == 0 && p.to != "" && b.counts {
			if b.held[p.to] == nil {
				b.held[p.to] = &waiting{since: time.Now()}
			}
			b.held[p.to].messages = append(b.held[p.to].messages, p.messages...)
			continue
		}
		for _, o := range p.messages {
			b.size -= len(o.message)
		}
	}
	return nil
}

// channelOf is the channel of a process, or of all with "".
func (b *Bus) channelOf(id string) string {
	if id == "" {
		return b.channel
	}
	return b.channel + ":" + id
}

// hear receives what others send until ctx ends.
func (b *Bus) hear(ctx context.Context, id string, up func(bool), receive func(from string, message []byte)) {
	down := time.Time{} // since when
	for delay := b.retry; ctx.Err() == nil; pause(ctx, &delay) {
		heard := false
		err := b.listen(ctx, id, func() {
			delay, heard = b.retry, true
			if !down.IsZero() {
				b.log.Info("Redis is back: processes of this installation hear of one another again", "after", time.Since(down).Round(time.Millisecond))
				down = time.Time{}
			}
			up(true)
		}, receive)
		if heard {
			up(false)
		}
		if ctx.Err() == nil && down.IsZero() {
			down = time.Now()
			b.log.Warn("Redis cannot be reached: processes of this installation do not hear of one another", "error", err)
		}
	}
}

// listen receives by one connection until it breaks.
func (b *Bus) listen(ctx context.Context, id string, up func(), receive func(from string, message []byte)) error {
	dialing, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	c, err := b.servers.connect(dialing)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.raw.Close() })()
	if err := c.Send("SUBSCRIBE", b.channel, b.channelOf(id)); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	stop := make(chan struct{})
	var pinging sync.WaitGroup
	pinging.Go(func() { ping(c, stop) })
	defer func() {
		close(stop)
		pinging.Wait()
	}()
	for channels := 0; ; {
		parts, err := redigo.Values(redigo.ReceiveWithTimeout(c.Conn, silentFor))
		if err != nil {
			return err
		}
		if len(parts) < 3 {
			continue // the answer to a ping
		}
		switch text(parts[0]) {
		case "subscribe":
			if channels++; channels == 2 {
				up()
			}
		case "message":
			payload, err := redigo.Bytes(parts[2], nil)
			if err == nil {
				b.heard(id, payload, receive)
			}
		}
	}
}

// ping has the server say something now and then.
func ping(c *conn, stop <-chan struct{}) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if c.Send("PING") != nil || c.Flush() != nil {
				return // and reading ends too
			}
		}
	}
}

// heard takes a publication apart.
func (b *Bus) heard(own string, payload []byte, receive func(from string, message []byte)) {
	id, rest, ok := cutText(payload)
	number, n := binary.Uvarint(rest)
	if from := string(id); ok && n > 0 && from != own && b.isNew(from, number) {
		for rest = rest[n:]; len(rest) > 0; {
			var message []byte
			if message, rest, ok = cutText(rest); !ok {
				return
			}
			receive(from, message)
		}
	}
}

// isNew says whether a publication of another process has not been heard yet. The process hears, so that what is held for it
// can be sent.
func (b *Bus) isNew(from string, number uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.held[from]; h != nil {
		b.queue = append(h.messages, b.queue...)
		delete(b.held, from)
		b.wakeLocked()
	}
	if number <= b.seen[from] {
		return false
	}
	b.seen[from] = number
	return true
}

// cutText takes a text off that follows its length.
func cutText(b []byte) (text, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}
