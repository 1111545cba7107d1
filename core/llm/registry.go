package llm

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Backend is how the registry handles the connections of one kind.
type Backend struct {
	// New makes the provider of a connection. It does no I/O.
	New func(conn Connection, client *Client) Provider
	// Merge joins the lists of all connections of the kind, ordered by index, into one. nil: the first model of
	// an id wins.
	Merge func(lists [][]Model) []Model
}

// Options configure a [Registry].
type Options struct {
	Client   *Client          // shared by all connections; nil: NewClient(ClientOptions{})
	Backends map[Kind]Backend // openai.Backend and ollama.Backend
	Observer Observer         // may be nil
	Log      *slog.Logger     // nil: slog.Default()

	// CacheTTL is how long a model list is taken as fresh (MODELS_CACHE_TTL): 0 means 1 s, negative for ever.
	CacheTTL time.Duration
	// Patience is how long a list waits for a connection that was never heard of; 0 means 2 s. One that
	// answered last time gets half of it, one that failed a sixteenth. A connection that takes longer is listed
	// with what it said last and asked further in the background.
	Patience time.Duration
}

// Registry knows all providers and their models.
//
// Lists are fetched from all providers at once, once at a time for each, and the last answer of each is kept:
// chats resolve ids from the kept lists without waiting for anybody. Readers use an immutable snapshot.
type Registry struct {
	opts Options
	log  *slog.Logger

	mu    sync.Mutex // guards changes of slots and the building of snapshots; never held across I/O
	slots atomic.Pointer[[]*slot]
	snap  atomic.Pointer[snapshot]
	want  atomic.Uint64 // version of what the slots say; a snapshot of an older one is to be built anew
}

// New returns a registry without connections.
func New(o Options) *Registry {
	if o.Client == nil {
		o.Client = NewClient(ClientOptions{ListTimeout: 10 * time.Second})
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.CacheTTL == 0 {
		o.CacheTTL = time.Second
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Second
	}
	r := &Registry{opts: o, log: o.Log}
	r.slots.Store(&[]*slot{})
	r.snap.Store(&snapshot{})
	return r
}

// Client returns the HTTP client that the connections share.
func (r *Registry) Client() *Client { return r.opts.Client }

// Configure replaces the connections. Unchanged ones keep their kept lists, but all are asked again when the
// models are listed next. Running calls go on. Connections of a kind without a Backend are ignored.
func (r *Registry) Configure(conns []Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.slots.Load()
	var slots []*slot
	for _, conn := range conns {
		b, ok := r.opts.Backends[conn.Kind]
		if !ok {
			r.log.Warn("no backend for this kind of connection", "kind", conn.Kind, "index", conn.Index)
			continue
		}
		i := slices.IndexFunc(old, func(s *slot) bool { return s.conn != nil && s.conn.same(&conn) })
		if i >= 0 {
			old[i].expire()
			slots = append(slots, old[i])
			continue
		}
		slots = append(slots, &slot{provider: b.New(conn, r.opts.Client), kind: conn.Kind, conn: &conn})
	}
	for _, s := range old {
		if s.conn == nil {
			slots = append(slots, s)
		}
	}
	r.slots.Store(&slots)
	r.want.Add(1)
}

// Register adds a provider that is no connection: a plugin. Its models are listed after those of
// the connections, which win when ids are equal, and by the ids of the providers. The id must be new.
func (r *Registry) Register(p Provider) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.registered(p.ID()); there {
		return fmt.Errorf("llm: provider %q is registered already", p.ID())
	}
	r.put(&slot{provider: p})
	return nil
}

// Put is Register for a provider that may take the place of the one with its id. Until it is asked, it counts as having
// said models; nil: what the one before had said. So chats find its models also when nobody lists any meanwhile.
func (r *Registry) Put(p Provider, models []Model) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &slot{provider: p, listed: models, known: models}
	if i, there := r.registered(p.ID()); there && models == nil {
		before := (*r.slots.Load())[i]
		before.mu.Lock()
		next.listed, next.known = before.listed, before.known
		before.mu.Unlock()
	}
	r.put(next)
}

// registered finds the slot of a provider that is no connection, or the place for it. It is called with mu held.
func (r *Registry) registered(id string) (at int, there bool) {
	slots := *r.slots.Load()
	// by id, so that of models with one id the same wins whichever provider was there first
	at = slices.IndexFunc(slots, func(s *slot) bool { return s.conn == nil && s.provider.ID() >= id })
	if at < 0 {
		return len(slots), false
	}
	return at, slots[at].provider.ID() == id
}

// put adds a slot, or has it take the place of the one of its provider's id. It is called with mu held.
func (r *Registry) put(s *slot) {
	slots := slices.Clone(*r.slots.Load())
	if at, there := r.registered(s.provider.ID()); there {
		slots[at] = s
	} else {
		slots = slices.Insert(slots, at, s)
	}
	r.slots.Store(&slots)
	r.want.Add(1)
}

// Unregister removes a registered provider and its models; it reports whether it was there.
func (r *Registry) Unregister(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.slots.Load()
	slots := slices.DeleteFunc(slices.Clone(old), func(s *slot) bool { return s.conn == nil && s.provider.ID() == id })
	r.slots.Store(&slots)
	r.want.Add(1)
	return len(slots) < len(old)
}

// Connection returns the provider of a connection by kind and index, on or off.
func (r *Registry) Connection(kind Kind, index int) (Connected, bool) {
	for _, s := range *r.slots.Load() {
		if s.conn != nil && s.kind == kind && s.conn.Index == index {
			c, ok := s.provider.(Connected)
			return c, ok
		}
	}
	return nil, false
}

// Connections returns the providers of all connections of a kind, by index, the switched-off ones included.
func (r *Registry) Connections(kind Kind) []Connected {
	var out []Connected
	for _, s := range *r.slots.Load() {
		if c, ok := s.provider.(Connected); ok && s.conn != nil && s.kind == kind {
			out = append(out, c)
		}
	}
	return out
}

// Models lists all models: OpenAI-compatible connections, Ollama connections, registered providers. Failing
// providers are left out. The result is shared: do not change it.
func (r *Registry) Models(ctx context.Context, caller *Caller) []Model {
	r.fetch(ctx, caller)
	return r.snapshot().models
}

// ModelsOf lists the models of one kind of connection.
func (r *Registry) ModelsOf(ctx context.Context, kind Kind, caller *Caller) []Model {
	r.fetch(ctx, caller)
	return r.snapshot().byKind[kind]
}

// Cached returns the list as it is known, without asking any provider; empty before the first listing. It serves
// the setting models.base_models_cache.
func (r *Registry) Cached() []Model { return r.snapshot().models }

// Refresh forgets how fresh the lists are, so that the next listing asks every provider.
func (r *Registry) Refresh() {
	for _, s := range *r.slots.Load() {
		s.expire()
	}
}

// Lookup finds a model by id in the kept lists, without asking any provider.
func (r *Registry) Lookup(id string) (Target, bool) { return r.find("", id) }

// Resolve finds a model by id. If it is unknown and the lists are no longer fresh, the providers are asked once.
// The error is a [*ModelNotFoundError] or the context's.
func (r *Registry) Resolve(ctx context.Context, caller *Caller, id string) (Target, error) {
	return r.resolve(ctx, caller, "", id)
}

// ResolveOf finds a model among the connections of one kind.
func (r *Registry) ResolveOf(ctx context.Context, kind Kind, caller *Caller, id string) (Target, error) {
	return r.resolve(ctx, caller, kind, id)
}

func (r *Registry) resolve(ctx context.Context, caller *Caller, kind Kind, id string) (Target, error) {
	if t, ok := r.find(kind, id); ok {
		return t, nil
	}
	r.fetch(ctx, caller)
	if t, ok := r.find(kind, id); ok {
		return t, nil
	}
	if err := ctx.Err(); err != nil {
		return Target{}, err
	}
	return Target{}, &ModelNotFoundError{id}
}

func (r *Registry) find(kind Kind, id string) (Target, bool) {
	rt, ok := r.snapshot().routes[routeKey{kind, id}]
	if !ok {
		return Target{}, false
	}
	s := rt.slots[0]
	if n := len(rt.slots); n > 1 { // several servers have it: share the load
		s = rt.slots[rand.IntN(n)]
	}
	t := Target{Model: rt.model, Kind: s.kind, Provider: s.provider, Upstream: rt.model.Upstream, observer: r.opts.Observer}
	if s.conn != nil {
		t.Index = s.conn.Index
		t.Upstream = s.conn.Upstream(id)
	}
	return t, true
}

// fetch brings the lists up to date as far as the providers answer in time.
func (r *Registry) fetch(ctx context.Context, caller *Caller) {
	var waits []wait
	for _, s := range *r.slots.Load() {
		if s.conn != nil && !s.conn.Config.Enable {
			continue
		}
		if w, stale := s.refresh(ctx, caller, r); stale {
			waits = append(waits, w)
		}
	}
	if len(waits) == 0 {
		return
	}
	start := time.Now()
	slices.SortFunc(waits, func(a, b wait) int { return int(a.patience - b.patience) })
	timer := time.NewTimer(max(waits[0].patience, 0))
	defer timer.Stop()
	for _, w := range waits {
		timer.Reset(max(w.patience-time.Since(start), 0))
		select {
		case <-w.done:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// Target is a model and the provider that serves it.
type Target struct {
	Model    Model
	Kind     Kind // "" for registered providers
	Index    int  // of the connection; 0 for registered providers
	Provider Provider
	Upstream string // the provider's own name of the model

	observer Observer
}

// Chat runs a chat completion on the target's provider; req.Model and req.Pipeline are set here. The call is
// reported to the registry's Observer.
func (t Target) Chat(ctx context.Context, req *Request) (*Response, error) {
	own := *req
	own.Model = t.Upstream
	own.Pipeline = t.Model.Pipeline
	if t.observer == nil {
		return t.Provider.Chat(ctx, &own)
	}
	call := t.observer.Request(ctx, t.Provider.ID(), t.Model.ID)
	resp, err := t.Provider.Chat(ctx, &own)
	if err != nil {
		call.Done(Tokens{}, err)
		return nil, err
	}
	resp.call = call
	if !resp.Stream {
		resp.finish(nil)
	}
	return resp, nil
}
