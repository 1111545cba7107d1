// Package filtertest has filters made of functions, for tests of the parts that filters act in.
package filtertest

import (
	"context"
	"sync"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
)

// Filter is a filter made of functions; those that are nil change nothing.
type Filter struct {
	OnInlet  func(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error)
	OnChunk  func(ctx context.Context, chunk []byte) ([][]byte, error)
	OnOutlet func(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error)
	// Closed is called when a stream of OnChunk is closed.
	Closed func() error
}

// Set is a filter.Set of filters that apply to all calls, one after another. It keeps the calls.
type Set struct {
	Filters []Filter
	mu      sync.Mutex
	calls   []filter.Call
}

// For implements filter.Set.
func (s *Set) For(c *filter.Call) filter.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, *c)
	chains := make([]filter.Chain, len(s.Filters))
	for i, f := range s.Filters {
		chains[i] = chain{f}
	}
	return filter.Join(chains...)
}

// Calls are the calls since the last time it was called.
func (s *Set) Calls() []filter.Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

type chain struct{ f Filter }

func (c chain) Inlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	if c.f.OnInlet == nil {
		return body, nil
	}
	return c.f.OnInlet(ctx, body)
}

func (c chain) Stream(context.Context) (filter.StreamFilter, bool) {
	return stream(c), c.f.OnChunk != nil
}

func (c chain) HasOutlet() bool { return c.f.OnOutlet != nil }

func (c chain) Outlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	return c.f.OnOutlet(ctx, body)
}

type stream struct{ f Filter }

func (s stream) Chunk(ctx context.Context, chunk []byte) ([][]byte, error) {
	return s.f.OnChunk(ctx, chunk)
}

func (s stream) Close() error {
	if s.f.Closed == nil {
		return nil
	}
	return s.f.Closed()
}
