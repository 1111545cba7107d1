package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/plugin/process"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/plugins"
	"github.com/galleychat/galley/core/web"
)

// Options are what a Manager works with.
type Options struct {
	Dir     string // the plugins folder
	DataDir string // where each plugin gets a folder of its own
	Version string // of Galley, told to plugins
	DB      *store.DB
	Router  Router        // nil: no endpoints
	LLM     *llm.Registry // nil: no models
	Host    Services
	Log     *slog.Logger
	// Builtin are plugins that come with the program.
	Builtin []Manifest
	// RequireChecksum refuses plugins without a pinned digest.
	RequireChecksum bool
	// Changed is told when the tools or filters that plugins offer changed; may be nil.
	Changed func()

	Poll         time.Duration // how often the folder is looked at; 0 means a second
	CheckEvery   time.Duration // how often health is asked for; 0 means 10 s
	CheckTimeout time.Duration // after which a plugin counts as hung; 0 means 10 s
	Backoff      time.Duration // before the first restart, doubled with each; 0 means a second
	Patience     time.Duration // how long Start waits for plugins to be ready; 0 means 3 s
}

// Router takes the routes of plugins.
type Router interface {
	SetDynamic(owner string, routes []web.DynamicRoute) error
	RemoveDynamic(owner string)
}

// maxKVKeys is how many keys a plugin may have.
const maxKVKeys = 1_000_000

// Manager runs the plugins.
type Manager struct {
	o      Options
	log    *slog.Logger
	states *plugins.Store
	run    *process.RunFolder // private folder of this process, for sockets
	// programs is where copies of what is executed are: the same folder if programs may be executed there.
	programs *process.RunFolder
	now      func() time.Time

	looking sync.Mutex // held while the folder is looked at and what it holds is taken up, and while it is changed

	mu      sync.Mutex // guards what follows; never held across I/O
	units   map[string]*unit
	ids     map[string]*unit
	pending map[string]string // fingerprints seen once, of files that may still be written
	version int64             // of the table of states
	wg      sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context

	publishing sync.Mutex // held while routes, models, filters and tools are changed, which waits for nobody
	published  published
	figures    *metrics
	launched   atomic.Int64 // counts instances
}

// New makes a manager; Start has it begin.
func New(o Options) *Manager {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.CheckEvery = cmp.Or(o.CheckEvery, 10*time.Second)
	o.CheckTimeout = cmp.Or(o.CheckTimeout, 10*time.Second)
	o.Backoff = cmp.Or(o.Backoff, time.Second)
	o.Patience = cmp.Or(o.Patience, 3*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	m := &Manager{
		o: o, log: o.Log, states: plugins.New(o.DB), units: map[string]*unit{}, ids: map[string]*unit{}, pending: map[string]string{},
		now: time.Now,
	}
	m.figures = newMetrics(m)
	return m
}

// Start looks at the plugins folder and starts what is there. It waits for it only for as long as Patience says.
func (m *Manager) Start(ctx context.Context) error {
	var err error
	if m.run, err = process.RunDir(""); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	m.programs = m.run
	if process.NoExec(m.run.Path) { // as the /tmp of a container most often is
		if err := os.MkdirAll(m.o.DataDir, 0o700); err != nil {
			return fmt.Errorf("plugins: %w", err)
		}
		if m.programs, err = process.PrivateDir(m.o.DataDir); err != nil {
			return fmt.Errorf("plugins: %w", err)
		}
	}
	if err := process.Sweep(); err != nil {
		m.log.Warn("what an earlier process left was not all ended", "error", err)
	}
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	found, err := m.look()
	if err != nil {
		return fmt.Errorf("PLUGINS_DIR: %w", err)
	}
	if err := m.readStates(ctx, true); err != nil {
		return err
	}
	m.apply(found, true)
	m.wg.Go(m.watch)
	// what is quick to start is there with the first request
	settle, cancel := context.WithTimeout(ctx, m.o.Patience)
	defer cancel()
	m.Settle(settle)
	return nil
}

// Settle waits until no plugin is starting, at most until ctx ends: for tests, and for those who want to serve only then.
func (m *Manager) Settle(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		busy := false
		for _, u := range m.all() {
			u.mu.Lock()
			busy = busy || u.state == StateStarting
			u.mu.Unlock()
		}
		if !busy {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Stop ends all plugins.
func (m *Manager) Stop(context.Context) error {
	if m.stop == nil {
		return nil
	}
	m.stop()
	m.wg.Wait()
	err := m.run.Close()
	if m.programs != m.run {
		err = errors.Join(err, m.programs.Close())
	}
	return err
}

// watch follows the folder and the table of states, which other replicas change too.
func (m *Manager) watch() {
	t := time.NewTicker(m.o.Poll)
	defer t.Stop()
	var complaint string
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-sweep.C:
			if err := m.sweep(m.ctx); err != nil && m.ctx.Err() == nil {
				m.log.Warn("plugins: expired entries were not removed", "error", err)
			}
			continue
		case <-t.C:
		}
		err := m.takeUp()
		if err == nil {
			err = m.readStates(m.ctx, false)
		}
		if text := fmt.Sprint(err); err != nil && text != complaint && m.ctx.Err() == nil {
			complaint = text
			m.log.Warn("plugins: looking for changes failed", "error", err)
		} else if err == nil {
			complaint = ""
		}
	}
}

// sweepEvery is how often expired entries of key-value stores are removed.
const sweepEvery = 10 * time.Minute

func (m *Manager) sweep(ctx context.Context) error {
	_, err := plugins.NewKV(m.o.DB, plugins.Quota{}).Sweep(ctx)
	return err
}

// look lists what is there to run.
func (m *Manager) look() ([]*source, error) {
	found, err := scan(m.o.Dir)
	if err != nil {
		return nil, err
	}
	for i := range m.o.Builtin {
		b := &m.o.Builtin[i]
		if !slices.ContainsFunc(found, func(s *source) bool { return s.name() == b.ID }) { // an operator's own goes first
			found = append(found, &source{path: "builtin:" + b.ID, print: b.Version + b.Command, manifest: b})
		}
	}
	for _, s := range found {
		if m.o.RequireChecksum && s.problem == nil && !isBuiltin(s) && (s.bare || s.manifest.SHA256 == "") {
			s.problem = errNoChecksum
		}
	}
	return found, nil
}

func isBuiltin(s *source) bool { return len(s.path) > 8 && s.path[:8] == "builtin:" }

// apply starts units for new sources, tells units of changed ones and ends those of removed ones. What changes while the
// server runs is taken up once it has stayed the same for one look: it may still be written.
func (m *Manager) apply(found []*source, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	for _, s := range found {
		seen[s.path] = true
		u := m.units[s.path]
		if u != nil && u.sameSource(s) {
			delete(m.pending, s.path)
			continue
		}
		if !first && m.pending[s.path] != s.print {
			m.pending[s.path] = s.print
			continue
		}
		delete(m.pending, s.path)
		if u != nil {
			u.replace(s)
			continue
		}
		m.add(s)
	}
	for path, u := range m.units {
		if !seen[path] {
			delete(m.units, path)
			u.remove()
		}
	}
	for path := range m.pending {
		if !seen[path] {
			delete(m.pending, path)
		}
	}
}

// add makes a unit. It is called with mu held.
func (m *Manager) add(s *source) {
	state, ok := m.published.states[s.name()]
	enabled := !ok || state.Enabled
	u := newUnit(m, s, enabled, state.Config)
	m.units[s.path] = u
	if s.manifest != nil && m.ids[u.id] == nil { // of two with one id the first has it, whichever is started first
		m.ids[u.id] = u
	}
	m.wg.Go(func() { u.run(m.ctx) })
}

func (u *unit) sameSource(s *source) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.src.print == s.print && !u.gone
}

func (u *unit) replace(s *source) {
	u.ask(func() { u.src = s })
}

// isGone says that what the unit runs is in the folder no more.
func (u *unit) isGone() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gone
}

func (u *unit) remove() {
	u.ask(func() { u.gone = true })
}

// claim gives a unit an id beside the one it may have, unless another unit has it. See own.
func (m *Manager) claim(u *unit, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.ids[id]; other != nil && other != u && !other.isGone() {
		return &conflict{fmt.Errorf("the id %q is taken by %s", id, filepath.Base(other.key))}
	}
	m.ids[id] = u
	if u.current.Load() == nil {
		m.ownLocked(u, id)
	}
	return nil
}

// own makes an id the unit's only one.
func (m *Manager) own(u *unit, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ownLocked(u, id)
}

func (m *Manager) ownLocked(u *unit, id string) {
	m.disown(u, id)
	u.mu.Lock()
	u.id = id
	u.mu.Unlock()
}

// release forgets the ids of a unit that is gone.
func (m *Manager) release(u *unit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disown(u, "")
}

// disown takes all ids from a unit but one. It is called with mu held.
func (m *Manager) disown(u *unit, but string) {
	for id, other := range m.ids {
		if other == u && id != but {
			delete(m.ids, id)
			m.figures.forget(id)
		}
	}
}

// nudge has those try again that were refused for what another plugin had: an id or a route.
func (m *Manager) nudge(by *unit) {
	for _, u := range m.all() {
		if u != by {
			u.mu.Lock()
			u.retry = u.contested
			again := u.retry
			u.mu.Unlock()
			if again {
				u.notify()
			}
		}
	}
}

func (m *Manager) all() []*unit {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*unit, 0, len(m.units))
	for _, u := range m.units {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *unit) int { return cmp.Compare(a.key, b.key) })
	return out
}

// find gives the unit of an id: the one that has it, or one that is named so and has none yet.
func (m *Manager) find(id string) (*unit, error) {
	m.mu.Lock()
	u := m.ids[id]
	m.mu.Unlock()
	if u != nil && !u.isGone() {
		return u, nil
	}
	for _, u := range m.all() {
		if u.ID() == id {
			return u, nil
		}
	}
	return nil, fmt.Errorf("plugin %q: %w", id, store.ErrNotFound)
}

// readStates takes over what stands in the table: what is enabled, and configurations. What is asked of a plugin while the
// table is read may not stand in what was read yet: the next look finds it.
func (m *Manager) readStates(ctx context.Context, first bool) error {
	units := m.all()
	asked := make([]uint64, len(units))
	for i, u := range units {
		asked[i] = u.askedSoFar()
	}
	version, err := m.states.Version(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	same := version == m.version && !first
	m.mu.Unlock()
	if same {
		return nil
	}
	states, err := m.states.States(ctx)
	if err != nil {
		return err
	}
	whole := true
	for i, u := range units {
		state, ok := states[u.ID()]
		whole = u.adopt(asked[i], !ok || state.Enabled, state.Config) && whole
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.published.states = states
	for _, u := range m.units {
		whole = whole && slices.Contains(units, u) // one that came meanwhile knows earlier states
	}
	if m.version = version; !whole {
		m.version = -1
	}
	return nil
}

// stateOf is what stands in the table for a plugin.
func (m *Manager) stateOf(ctx context.Context, id string) (enabled bool, set jsondoc.Doc, err error) {
	s, err := m.states.State(ctx, id)
	return s.Enabled, s.Config, err
}

// adopt takes over what an administrator set, here or at another replica, unless more was asked of the unit than asked says.
func (u *unit) adopt(asked uint64, enabled bool, set jsondoc.Doc) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked != asked {
		return false
	}
	if u.enabled != enabled || string(u.set) != string(set) {
		u.askLocked(func() { u.enabled, u.set = enabled, set })
	}
	return true
}

// dataDir is where a plugin may keep files.
func (m *Manager) dataDir(id string) string { return filepath.Join(m.o.DataDir, id) }

// instanceDir makes a private folder for an instance. Its name is short: sockets below it have little room for paths.
func (m *Manager) instanceDir(in *process.RunFolder) (string, error) {
	dir := filepath.Join(in.Path, strconv.FormatInt(m.launched.Add(1), 36))
	return dir, os.Mkdir(dir, 0o700)
}
