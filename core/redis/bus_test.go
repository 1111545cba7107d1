package redis

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/replicas"
)

// replica is a node by Redis that keeps what it is told.
type replica struct {
	*replicas.Node
	bus  *Bus
	stop func() // as when the process ends
	log  *lines

	mu   sync.Mutex
	told []string
}

func newReplica(t *testing.T, e config.Redis) *replica {
	t.Helper()
	r := &replica{log: &lines{}}
	e.KeyPrefix = "open-webui"
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.bus, err = OpenBus(e, log); err != nil {
		t.Fatal(err)
	}
	r.Node = replicas.New(r.bus, log)
	r.Handle("note", func(_ context.Context, _ string, body []byte) ([]byte, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, string(body))
		return nil, nil
	})
	r.Handle("size", func(_ context.Context, _ string, body []byte) ([]byte, error) { return fmt.Append(nil, len(body)), nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(r.stop)
	return r
}

func (r *replica) heard() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.told...)
}

// converse takes two replicas through what they do, and gives the id by which the first knows the second.
func converse(t *testing.T, a, b *replica) (id string) {
	t.Helper()
	a.Set("k", "a", []byte("1"))
	b.Set("k", "b", []byte("2"))
	until(t, "each knows the other's", func() bool { return a.Has("k", "b") && b.Has("k", "a") })
	id = a.Holders("k", "b")[0]
	before := len(b.heard())
	for i := range 1000 {
		a.Tell(id, "note", fmt.Append(nil, i))
	}
	until(t, "all is heard", func() bool { return len(b.heard()) == before+1000 })
	for i, text := range b.heard()[before:] {
		if text != fmt.Sprint(i) {
			t.Fatalf("heard %s as the message %d", text, i)
		}
	}
	big := strings.Repeat("x", 5<<20)
	if n, err := a.Call(t.Context(), id, "size", []byte(big)); string(n) != fmt.Sprint(len(big)) || err != nil {
		t.Errorf("a large message: %s, %v", n, err)
	}
	return id
}

func TestBus(t *testing.T) {
	dir := folder(t)
	port := freePort(t)
	args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir}
	e := config.Redis{URL: "redis://127.0.0.1:" + port + "/1"}
	client := open(t, e, &lines{})
	kill := start(t, client, args...)
	a, b := newReplica(t, e), newReplica(t, e)
	id := converse(t, a, b)

	// Redis goes away and comes back: what was said meanwhile is heard, once and in order, and what was set is known
	before := len(b.heard())
	kill()
	for i := range 500 {
		a.Tell(id, "note", fmt.Append(nil, i))
		if i == 250 {
			b.Set("k", "meanwhile", nil)
			kill = start(t, client, args...)
		}
	}
	until(t, "all is heard", func() bool { return len(b.heard()) >= before+500 })
	for i, text := range b.heard()[before:] {
		if text != fmt.Sprint(i) {
			t.Fatalf("heard %s as the message %d after Redis was away", text, i)
		}
	}
	until(t, "what was set is known", func() bool { return a.Has("k", "meanwhile") })
	if got := ask(t, client, "CLIENT", "", "LIST", "TYPE", "pubsub"); strings.Count(got, "cmd=subscribe") != 2 {
		t.Errorf("not one connection to hear by for each process:\n%s", got)
	}
	until(t, "it is said that Redis was away and is back", func() bool {
		return a.log.count("Redis cannot be reached") == 1 && a.log.count("Redis is back") == 1
	})

	// one process ends, without another word being lost
	b.Tell("", "note", []byte("the last"))
	_ = b.Stop(t.Context())
	b.stop()
	until(t, "one has ended", func() bool { return !a.Has("k", "b") })
	if got := a.heard(); len(got) != 1 || got[0] != "the last" {
		t.Errorf("heard %v", got)
	}

	// without Redis nobody waits, and what waits is bounded
	kill()
	text := []byte(strings.Repeat("x", 1<<20))
	began := time.Now()
	for range 50 {
		a.Tell("", "note", text)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("telling took %v", took)
	}
	a.bus.mu.Lock()
	if a.bus.size > maxWaiting || a.bus.lost == 0 {
		t.Errorf("%d bytes wait, %d messages lost", a.bus.size, a.bus.lost)
	}
	a.bus.mu.Unlock()
	start(t, client, args...)
	until(t, "all that waited is out", func() bool {
		a.bus.mu.Lock()
		defer a.bus.mu.Unlock()
		return a.bus.size == 0
	})
	if a.log.count("were lost") == 0 {
		t.Error("not said that messages were lost")
	}
}

// TestBusNobody has a message for a process that hears nothing: it is kept for a while.
func TestBusNobody(t *testing.T) {
	dir := folder(t)
	port := freePort(t)
	e := config.Redis{URL: "redis://127.0.0.1:" + port}
	start(t, open(t, e, &lines{}), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	a := newReplica(t, e)
	a.Tell("nobody", "note", []byte("hello"))
	until(t, "it is held", func() bool {
		a.bus.mu.Lock()
		defer a.bus.mu.Unlock()
		return a.bus.held["nobody"] != nil && a.bus.size > 0
	})
	a.bus.mu.Lock()
	a.bus.held["nobody"].since = time.Now().Add(-2 * silentFor)
	a.bus.mu.Unlock()
	until(t, "it is given up", func() bool {
		a.bus.mu.Lock()
		defer a.bus.mu.Unlock()
		return a.bus.held["nobody"] == nil && a.bus.size == 0
	})
	if b, err := OpenBus(config.Redis{}, nil); b != nil || err != nil {
		t.Errorf("without an address: %v, %v", b, err)
	}
	if _, err := OpenBus(config.Redis{URL: "http://x"}, nil); err == nil || !strings.HasPrefix(err.Error(), "WEBSOCKET_REDIS_URL: ") {
		t.Errorf("with a bad address: %v", err)
	}
}
