package models

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// Rows are the tables behind the list.
type Rows interface {
	// All reads all models in the order they were made.
	All(ctx context.Context) ([]Row, error)
	// Grants reads the access grants of all models.
	Grants(ctx context.Context) ([]Grant, error)
	// Version tells states of the tables apart.
	Version(ctx context.Context) (Version, error)
}

// Version is a cheap sign of change of the tables: counts, and latest Unix seconds.
type Version struct{ Rows, Updated, Grants, Granted int64 }

// settledAfter is how long after the last change a version is trusted: two changes within a second look the same.
const settledAfter = 2

func (v Version) settled(now int64) bool { return now-max(v.Updated, v.Granted) >= settledAfter }

// Groups finds the groups of a user, with inherited ones.
type Groups interface {
	GroupIDs(ctx context.Context, userID string) ([]string, error)
}

// Functions says what functions (actions and filters) add to models. Version changes whenever an answer of Items would.
type Functions interface {
	Version() uint64
	// Items gives the "actions" and "filters" of a model as JSON arrays. meta is that of the model's row, nil if none.
	Items(meta jsondoc.Doc) (actions, filters jsondoc.Doc)
}

// Options are the parts of a [Catalog].
type Options struct {
	Registry  *llm.Registry
	Rows      Rows
	Settings  *config.Settings
	Env       *config.Env
	Groups    Groups
	Functions Functions    // may be nil
	Log       *slog.Logger // nil: slog.Default

	// Fresh is how long the providers' lists are served without asking (MODELS_CACHE_TTL); 0 means 1 s, negative for
	// ever. For four times as long they are served while the providers are asked in the background.
	Fresh time.Duration
}

// Catalog is the list of models. What it serves is an immutable snapshot, made anew when the providers' lists, the
// tables or the settings change. It implements [Finder].
type Catalog struct {
	o   Options
	log *slog.Logger

	snap atomic.Pointer[snapshot]
	mu   sync.Mutex // guards the making of snapshots; not held across I/O

	tables  atomic.Pointer[tables]
	changes atomic.Uint64          // counts local changes of the tables
	checked atomic.Int64           // Unix nanoseconds of the last look at their version
	flight  atomic.Pointer[flight] // the load of the tables that runs or ran last

	asked    atomic.Int64                // Unix nanoseconds of the last time the providers were asked
	askedFor atomic.Pointer[[]llm.Model] // the registry's list then
	asking   atomic.Bool                 // a background refresh is under way
	lastGood atomic.Pointer[[]llm.Model] // the last list that was not empty
}

var _ Finder = (*Catalog)(nil)

// tables are the rows at one moment.
type tables struct {
	change  uint64
	version Version
	settled bool
	rows    []Row
	byID    map[string]*Row
	grants  map[string][]Grant
}

// New returns a catalog. It asks nobody before the first list is wanted.
func New(o Options) *Catalog {
	if o.Fresh == 0 {
		o.Fresh = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Catalog{o: o, log: o.Log}
}

// Changed is to be called after this process changed models or their grants.
func (c *Catalog) Changed() { c.changes.Add(1) }

// current is the list now. With refresh all providers are asked.
func (c *Catalog) current(ctx context.Context, caller *llm.Caller, refresh bool) (*snapshot, error) {
	base := c.base(ctx, caller, refresh)
	return c.over(ctx, base)
}

// kept is the list without asking providers, unless none was ever asked.
func (c *Catalog) kept(ctx context.Context, caller *llm.Caller) (*snapshot, error) {
	if c.askedFor.Load() == nil {
		return c.current(ctx, caller, false)
	}
	return c.over(ctx, c.orLastGood(c.o.Registry.Cached()))
}

// base is the providers' list: as it is while fresh, asked for in the background while not much older, else asked for.
func (c *Catalog) base(ctx context.Context, caller *llm.Caller, refresh bool) []llm.Model {
	reg := c.o.Registry
	if refresh {
		reg.Refresh()
		c.lastGood.Store(nil)
		return c.ask(ctx, caller)
	}
	now, last := reg.Cached(), c.askedFor.Load()
	if last == nil || !sameList(*last, now) { // the connections or what they said changed
		return c.ask(ctx, caller)
	}
	age := time.Duration(time.Now().UnixNano() - c.asked.Load())
	switch {
	case c.o.Fresh < 0 || age < c.o.Fresh:
	case config.ModelsBaseModelsCache.Get(c.o.Settings.Snapshot()) && len(now) > 0:
	case age < 5*c.o.Fresh && len(now) > 0:
		if c.asking.CompareAndSwap(false, true) {
			go func() {
				defer c.asking.Store(false)
				c.ask(context.WithoutCancel(ctx), caller)
			}()
		}
	default:
		return c.ask(ctx, caller)
	}
	return c.orLastGood(now)
}

func (c *Catalog) ask(ctx context.Context, caller *llm.Caller) []llm.Model {
	list := c.o.Registry.Models(ctx, caller)
	c.askedFor.Store(&list)
	c.asked.Store(time.Now().UnixNano())
	return c.orLastGood(list)
}

// orLastGood keeps serving the last list while every provider fails, as long as there are connections at all.
func (c *Catalog) orLastGood(list []llm.Model) []llm.Model {
	if len(list) > 0 {
		if last := c.lastGood.Load(); last == nil || !sameList(*last, list) {
			c.lastGood.Store(&list)
		}
		return list
	}
	last := c.lastGood.Load()
	if last == nil || !c.connected() {
		return list
	}
	return *last
}

func (c *Catalog) connected() bool {
	for _, kind := range []llm.Kind{llm.KindOpenAI, llm.KindOllama} {
		for _, p := range c.o.Registry.Connections(kind) {
			if conn := p.Connection(); conn.Config.Enable {
				return true
			}
		}
	}
	return false
}

// sameList says whether two lists are one: the registry makes a new one whenever it changes.
func sameList(a, b []llm.Model) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// over is the snapshot made of the providers' list and what stands now in tables and settings.
func (c *Catalog) over(ctx context.Context, base []llm.Model) (*snapshot, error) {
	t, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	in := inputs{base: base, tables: t, settings: c.o.Settings.Snapshot()}
	if c.o.Functions != nil {
		in.functions = c.o.Functions.Version()
	}
	if s := c.snap.Load(); s != nil && s.in.same(&in) {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.snap.Load(); s != nil && s.in.same(&in) {
		return s, nil
	}
	s := c.build(in)
	c.snap.Store(s)
	return s, nil
}

// rows are the tables as this process knows them; once a second it is looked whether another one changed them.
func (c *Catalog) rows(ctx context.Context) (*tables, error) {
	t := c.tables.Load()
	if t == nil || t.change != c.changes.Load() {
		return c.load(ctx)
	}
	now := time.Now()
	last := c.checked.Load()
	if now.UnixNano()-last < int64(time.Second) || !c.checked.CompareAndSwap(last, now.UnixNano()) {
		return t, nil
	}
	v, err := c.o.Rows.Version(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("looking for changes of models failed", "err", err)
		}
		return t, nil
	}
	if v == t.version && t.settled {
		return t, nil
	}
	return c.load(ctx)
}

// flight is a load of the tables that all who need it share.
type flight struct {
	change uint64
	done   chan struct{}
	tables *tables
	err    error
}

// load reads the tables, or waits for a load that began after the last change.
func (c *Catalog) load(ctx context.Context) (*tables, error) {
	f := &flight{change: c.changes.Load(), done: make(chan struct{})}
	for {
		old := c.flight.Load()
		if old != nil && old.change >= f.change && !old.ended() {
			f = old
			break
		}
		if c.flight.CompareAndSwap(old, f) {
			go c.fly(context.WithoutCancel(ctx), f)
			break
		}
	}
	select {
	case <-f.done:
		return f.tables, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *flight) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func (c *Catalog) fly(ctx context.Context, f *flight) {
	defer close(f.done)
	if f.tables, f.err = c.read(ctx, f.change); f.err != nil {
		return
	}
	for {
		old := c.tables.Load()
		if old != nil && old.change > f.change || c.tables.CompareAndSwap(old, f.tables) {
			return
		}
	}
}

func (c *Catalog) read(ctx context.Context, change uint64) (*tables, error) {
	c.checked.Store(time.Now().UnixNano())
	version, err := c.o.Rows.Version(ctx) // before the rows: a change meanwhile makes them old
	if err != nil {
		return nil, err
	}
	rows, err := c.o.Rows.All(ctx)
	if err != nil {
		return nil, err
	}
	grants, err := c.o.Rows.Grants(ctx)
	if err != nil {
		return nil, err
	}
	t := &tables{change: change, version: version, settled: version.settled(time.Now().Unix()), grants: map[string][]Grant{}}
	for _, g := range grants {
		t.grants[g.ResourceID] = append(t.grants[g.ResourceID], g)
	}
	for _, r := range rows {
		if c.shape(&r) {
			t.rows = append(t.rows, r)
		}
	}
	t.byID = make(map[string]*Row, len(t.rows))
	for i := range t.rows {
		t.byID[t.rows[i].ID] = &t.rows[i]
	}
	return t, nil
}

// shape brings what the table keeps into the reference's form; a row that has none is left out.
func (c *Catalog) shape(r *Row) bool {
	if err := Shape(r, c.o.Env.Images); err != nil {
		c.log.Error("model left out", "model", r.ID, "err", err)
		return false
	}
	return true
}

// Find implements [Finder].
func (c *Catalog) Find(ctx context.Context, caller *llm.Caller, id string) (*Model, bool) {
	s, err := c.kept(ctx, caller)
	if err != nil {
		c.log.Error("listing models failed", "err", err)
		return nil, false
	}
	m, ok := s.byID[id]
	return m, ok
}

// All implements [Finder].
func (c *Catalog) All(ctx context.Context, caller *llm.Caller) []*Model {
	s, err := c.kept(ctx, caller)
	if err != nil {
		c.log.Error("listing models failed", "err", err)
		return nil
	}
	return s.all
}

// List is the list as it is when providers are asked that were not asked lately: for those who must not miss a model.
func (c *Catalog) List(ctx context.Context, caller *llm.Caller) ([]*Model, error) {
	s, err := c.current(ctx, caller, false)
	if err != nil {
		return nil, err
	}
	return s.all, nil
}

// Row finds the row of a model among those kept; nil where there is none.
func (c *Catalog) Row(ctx context.Context, id string) (*Row, error) {
	t, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	return t.row(id), nil
}

func (t *tables) row(id string) *Row { return t.byID[id] }

// Target implements [Finder].
func (c *Catalog) Target(ctx context.Context, caller *llm.Caller, m *Model) (llm.Target, error) {
	id := m.ID
	switch {
	case m.Base != nil:
		id = m.Base.ID
	case m.BaseID() != "":
		id = m.BaseID()
	}
	return c.o.Registry.Resolve(ctx, caller, id)
}

// ListJSON is the answer of GET /api/models for a caller: {"data": […]}. It is shared: do not change it.
func (c *Catalog) ListJSON(ctx context.Context, p *auth.Principal, refresh bool) (jsondoc.Doc, error) {
	s, err := c.current(ctx, CallerOf(p), refresh)
	if err != nil {
		return nil, err
	}
	if c.seesAll(p) {
		return s.everything(), nil
	}
	v, err := c.viewer(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.visible(v, p.IsAdmin()), nil
}

// Listed are the models of ListJSON, in its order. The slice is the caller's.
func (c *Catalog) Listed(ctx context.Context, p *auth.Principal) ([]*Model, error) {
	s, err := c.current(ctx, CallerOf(p), false)
	if err != nil {
		return nil, err
	}
	all := c.seesAll(p)
	var v access.Viewer
	if !all {
		if v, err = c.viewer(ctx, p); err != nil {
			return nil, err
		}
	}
	out := make([]*Model, 0, len(s.listed))
	for _, m := range s.listed {
		if all || m.visible(v, p.IsAdmin()) {
			out = append(out, m.Model)
		}
	}
	return out, nil
}

// BaseJSON is the answer of GET /api/models/base: the providers' own models.
func (c *Catalog) BaseJSON(ctx context.Context, p *auth.Principal) jsondoc.Doc {
	out := []byte(`{"data":[`)
	for i, m := range c.ask(ctx, CallerOf(p)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m.Entry...)
	}
	return append(out, "]}"...)
}

// CallerOf describes a caller to providers.
func CallerOf(p *auth.Principal) *llm.Caller {
	if p == nil || p.User == nil || p.System {
		return nil
	}
	c := &llm.Caller{ID: p.ID, Name: p.Name, Email: p.Email, Role: p.Role, AuthType: "jwt", Token: p.Token}
	if p.APIKey {
		c.AuthType = "api_key"
	}
	return c
}
