package llm

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// slot is a provider with what it said about its models.
type slot struct {
	provider Provider
	kind     Kind
	conn     *Connection // nil for registered providers
	circuit  circuit

	mu     sync.Mutex
	listed []Model       // what to list: the last answer, nothing if that was an error
	known  []Model       // the last good answer, from which chats resolve ids
	at     time.Time     // of the last answer; zero: take none as fresh
	state  slotState     // how the last attempt ended
	flight chan struct{} // closed when the running attempt ends; nil if none runs
	since  time.Time     // when the running attempt began
	epoch  int           // counts expirations, so that an answer asked for earlier is not taken as fresh
}

type slotState int

const (
	slotNew slotState = iota
	slotOK
	slotFailed
)

type wait struct {
	done     <-chan struct{}
	patience time.Duration
}

// upstream is the provider's own name of a model.
func (s *slot) upstream(m Model) string {
	if s.conn == nil {
		return m.Upstream
	}
	return s.conn.Upstream(m.ID)
}

func (s *slot) expire() {
	s.mu.Lock()
	s.at = time.Time{}
	s.epoch++
	s.mu.Unlock()
}

// refresh starts an attempt, or joins the running one, if the list is stale.
func (s *slot) refresh(ctx context.Context, caller *Caller, r *Registry) (wait, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ttl := r.opts.CacheTTL; !s.at.IsZero() && (ttl < 0 || time.Since(s.at) < ttl) {
		return wait{}, false
	}
	w := wait{patience: r.opts.Patience}
	switch s.state {
	case slotOK:
		w.patience /= 2
	case slotFailed:
		w.patience /= 16
	}
	if s.flight == nil {
		done := make(chan struct{})
		s.flight, s.since = done, time.Now()
		go s.ask(context.WithoutCancel(ctx), caller, r, done, s.epoch)
	}
	w.done = s.flight
	w.patience -= time.Since(s.since) // one that hangs was waited for already
	return w, true
}

// ask asks the provider. It outlives the request that wanted the list.
func (s *slot) ask(ctx context.Context, caller *Caller, r *Registry, done chan struct{}, epoch int) {
	if limit := r.opts.Client.opts.ListTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	models, err := models(ctx, s.provider, caller)
	s.mu.Lock()
	news := s.state != slotFailed
	changed := s.settle(models, err)
	if epoch != s.epoch {
		s.at = time.Time{}
	}
	s.flight = nil
	if changed {
		r.want.Add(1) // before the lock goes: whoever finds the list fresh must find the snapshot old
	}
	s.mu.Unlock()
	if err != nil && news {
		r.log.Warn("listing models failed", "provider", s.provider.ID(), "err", err)
	}
	close(done)
}

// settle takes over an answer and reports whether the listing changes.
func (s *slot) settle(models []Model, err error) bool {
	s.at = time.Now()
	if err != nil {
		s.state = slotFailed
		changed := len(s.listed) > 0
		s.listed = nil
		return changed
	}
	s.state = slotOK
	if slices.EqualFunc(s.listed, models, sameModel) && slices.EqualFunc(s.known, models, sameModel) {
		return false
	}
	s.listed, s.known = models, models
	return true
}

func sameModel(a, b Model) bool {
	return a.ID == b.ID && a.Expires == b.Expires && bytes.Equal(a.Native, b.Native) && bytes.Equal(a.Entry, b.Entry)
}

// models asks a provider; one that panics fails alone.
func models(ctx context.Context, p Provider, caller *Caller) (list []Model, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("llm: provider %s panicked: %v", p.ID(), v)
		}
	}()
	return p.Models(ctx, caller)
}

// snapshot is what all slots said, merged. It never changes.
type snapshot struct {
	version uint64
	models  []Model
	byKind  map[Kind][]Model
	routes  map[routeKey]route
}

// routeKey finds a model among all providers (kind "") or those of one kind.
type routeKey struct {
	kind Kind
	id   string
}

type route struct {
	model Model
	slots []*slot
}

// snapshot returns the current snapshot, building it if a list changed.
func (r *Registry) snapshot() *snapshot {
	if snap := r.snap.Load(); snap.version == r.want.Load() {
		return snap
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	snap := r.snap.Load()
	if want := r.want.Load(); snap.version != want {
		snap = r.build()
		snap.version = want // read before building: a change meanwhile makes it old again
		r.snap.Store(snap)
	}
	return snap
}

// kindOrder is the order of the listing; registered providers (kind "") come last.
var kindOrder = []Kind{KindOpenAI, KindOllama, ""}

func (r *Registry) build() *snapshot {
	snap := &snapshot{byKind: map[Kind][]Model{}, routes: map[routeKey]route{}}
	for _, kind := range kindOrder {
		var slots []*slot
		var listed, known [][]Model
		for _, s := range *r.slots.Load() {
			if s.kind != kind || s.conn != nil && !s.conn.Config.Enable {
				continue
			}
			s.mu.Lock()
			slots, listed, known = append(slots, s), append(listed, s.listed), append(known, s.known)
			s.mu.Unlock()
		}
		merge := r.opts.Backends[kind].Merge
		if merge == nil {
			merge = FirstWins
		}
		list := merge(listed)
		if kind == "" {
			list = slices.DeleteFunc(list, func(m Model) bool { _, taken := snap.routes[routeKey{"", m.ID}]; return taken })
		}
		snap.byKind[kind] = list
		snap.models = append(snap.models, list...)
		snap.route(kind, slots, list, listed)
		if !slices.EqualFunc(listed, known, func(a, b []Model) bool { return len(a) == len(b) }) {
			snap.route(kind, slots, merge(known), known)
		}
	}
	return snap
}

// route adds ways to models; ids that have one already are left alone, except that Ollama, like on the
// reference, takes over an id that an OpenAI-compatible connection serves too.
func (snap *snapshot) route(kind Kind, slots []*slot, merged []Model, lists [][]Model) {
	serving := map[string][]*slot{}
	for i, list := range lists {
		for _, m := range list {
			if !slices.Contains(serving[m.ID], slots[i]) {
				serving[m.ID] = append(serving[m.ID], slots[i])
			}
		}
	}
	for _, m := range merged {
		own := routeKey{kind, m.ID}
		rt := route{m, serving[m.ID]}
		if _, taken := snap.routes[own]; taken || len(rt.slots) == 0 {
			continue
		}
		if kind == "" {
			rt.slots = rt.slots[:1]
		}
		all := routeKey{"", m.ID}
		if _, taken := snap.routes[all]; !taken || kind == KindOllama {
			snap.routes[all] = rt
		}
		if kind != "" {
			snap.routes[own] = rt
		}
	}
}

// FirstWins joins lists; of models with one id the first is kept.
func FirstWins(lists [][]Model) []Model {
	seen := map[string]bool{}
	out := []Model{}
	for _, list := range lists {
		for _, m := range list {
			if !seen[m.ID] {
				seen[m.ID] = true
				out = append(out, m)
			}
		}
	}
	return out
}
