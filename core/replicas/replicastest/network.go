// Package replicastest connects nodes of one process, for tests.
package replicastest

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/replicas"
)

// pace is how often nodes say that they are there.
const pace = 100 * time.Millisecond

// Network has the buses of some nodes.
type Network struct {
	mu    sync.Mutex
	buses map[string]*bus
	cut   bool
}

// bus is a replicas.Bus.
type bus struct {
	n       *Network
	id      string // "" before it runs
	waiting []parcel
	signal  chan struct{}
	early   []parcel // sent before it runs
}

type parcel struct {
	from, to string
	message  []byte
}

// NewNode makes a node, which takes part until the test ends. Handlers are set by prepare.
func (n *Network) NewNode(t testing.TB, prepare func(*replicas.Node)) *replicas.Node {
	t.Helper()
	node := replicas.New(&bus{n: n, signal: make(chan struct{}, 1)}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	node.SetPace(pace, 10*pace)
	if prepare != nil {
		prepare(node)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		node.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return node
}

// Cut loses all messages from now on, or none any more.
func (n *Network) Cut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// Send implements replicas.Bus.
func (b *bus) Send(to string, message []byte) {
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	b.sendLocked(parcel{b.id, to, message})
}

func (b *bus) sendLocked(p parcel) {
	if b.id == "" {
		b.early = append(b.early, p)
		return
	}
	p.from = b.id
	for id, other := range b.n.buses {
		if b.n.cut || other == b || p.to != "" && p.to != id {
			continue
		}
		other.waiting = append(other.waiting, p)
		select {
		case other.signal <- struct{}{}:
		default:
		}
	}
}

// Run implements replicas.Bus.
func (b *bus) Run(ctx context.Context, id string, up func(bool), receive func(from string, message []byte)) {
	b.n.mu.Lock()
	if b.n.buses == nil {
		b.n.buses = map[string]*bus{}
	}
	b.id, b.n.buses[id] = id, b
	for _, p := range b.early {
		b.sendLocked(p)
	}
	b.n.mu.Unlock()
	defer func() {
		b.n.mu.Lock()
		delete(b.n.buses, id)
		b.n.mu.Unlock()
	}()
	up(true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.signal:
		}
		b.n.mu.Lock()
		parcels := b.waiting
		b.waiting = nil
		b.n.mu.Unlock()
		for _, p := range parcels {
			receive(p.from, p.message)
		}
	}
}

// Forget implements replicas.Bus.
func (b *bus) Forget(string) {}
