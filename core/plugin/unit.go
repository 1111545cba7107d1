package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/plugins"
)

// State is where a plugin is in its life.
type State string

// The states of a plugin.
const (
	StateStarting State = "starting"
	StateReady    State = "ready"
	StateBackoff  State = "backoff"  // it crashed and is started again soon
	StateFailed   State = "failed"   // it crashed too often
	StateRefused  State = "refused"  // what the folder holds cannot be run
	StateDisabled State = "disabled" // by an administrator
	StateStopping State = "stopping"
)

const (
	// maxCrashes in crashWindow, and a plugin is given up until an administrator or a new version comes.
	maxCrashes  = 3
	crashWindow = 10 * time.Minute
	maxBackoff  = time.Minute
)

// unit supervises one plugin. Its goroutine (run) alone starts, switches and ends instances.
type unit struct {
	m    *Manager
	log  *slog.Logger
	key  string // where the source is; constant
	logs *logs
	wake chan struct{} // something below wanted or src changed
	done chan struct{} // closed when run has ended

	current atomic.Pointer[instance]
	series  *series
	kv      atomic.Pointer[plugins.KV]
	asking  atomic.Int64 // calls of host services that run

	mu       sync.Mutex
	id       string // as the plugin says, or as its source is named until then
	src      *source
	enabled  bool
	gone     bool // the source was removed
	restart  bool // an administrator wants a new process
	set      jsondoc.Doc
	state    State
	problem  string // last error
	warning  string
	since    time.Time // of the state
	crashes  []time.Time
	restarts int
	started  time.Time     // of the current process
	asked    uint64        // changes that were asked for
	dealt    uint64        // those that run has dealt with
	turned   chan struct{} // closed and made anew when dealt grows
	draining sync.WaitGroup
}

func newUnit(m *Manager, src *source, enabled bool, set jsondoc.Doc) *unit {
	u := &unit{
		m: m, key: src.path, id: src.name(), src: src, enabled: enabled, set: set, state: StateStarting, since: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), asked: 1, turned: make(chan struct{}),
	}
	u.log = m.log.With("plugin", u.id)
	u.logs = newLogs(u)
	return u
}

// notify has run look again.
func (u *unit) notify() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (u *unit) setState(s State, err error) {
	u.mu.Lock()
	changed := u.state != s
	u.state = s
	if changed {
		u.since = time.Now()
	}
	if err != nil {
		u.problem = err.Error()
	}
	if s == StateReady && err == nil {
		u.problem = ""
	}
	u.mu.Unlock()
	if changed {
		u.m.changed()
	}
}

func (u *unit) setWarning(text string) {
	u.mu.Lock()
	before := u.warning
	u.warning = text
	u.mu.Unlock()
	if text != "" && text != before {
		u.log.Warn("plugin is degraded", "reason", text)
	}
}

// wanted is what the unit should be doing now.
type wanted struct {
	src              *source
	run, gone, again bool
	set              jsondoc.Doc
	asked            uint64
}

func (u *unit) want() wanted {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := wanted{src: u.src, run: u.enabled && !u.gone, gone: u.gone, again: u.restart, set: u.set, asked: u.asked}
	u.restart = false
	return w
}

// ID is the plugin's id.
func (u *unit) ID() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.id
}

// run is the unit's life. ctx ends with the manager.
func (u *unit) run(ctx context.Context) {
	defer close(u.done)
	defer u.stopped()
	var tried *source // what failed or was refused; nil to try at once
	var again <-chan time.Time
	tick := time.NewTicker(u.m.o.CheckEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		w := u.want()
		inst := u.current.Load()
		switch {
		case !w.run:
			u.park(ctx, w.gone)
			tried, again = nil, nil
			if w.gone {
				return
			}
		case w.again:
			u.forgive()
			tried, again = u.bring(ctx, w, inst)
		case inst == nil && (tried == nil || tried.print != w.src.print):
			if tried != nil {
				u.forgive()
			}
			tried, again = u.bring(ctx, w, nil)
		case inst != nil && inst.src.print != w.src.print && (tried == nil || tried.print != w.src.print):
			tried, again = u.bring(ctx, w, inst)
		}
		u.dealtWith(w.asked)
		if u.current.Load() != inst {
			continue
		}
		var exited <-chan struct{}
		if inst != nil {
			exited = inst.child.done
		}
		select {
		case <-ctx.Done():
		case <-u.wake:
		case <-again:
			tried, again = nil, nil
		case <-exited:
			again = u.crashed(inst, inst.child.explain(errEnded))
			tried = inst.src
		case <-tick.C:
			if inst != nil {
				if err := u.checkup(ctx, inst); err != nil && ctx.Err() == nil {
					again = u.crashed(inst, err)
					tried = inst.src
				}
			}
		}
	}
}

// bring starts an instance and has it take the place of old, which may be nil. It returns the source that could not be
// started, and when to try again; nil for never.
func (u *unit) bring(ctx context.Context, w wanted, old *instance) (tried *source, again <-chan time.Time) {
	if old == nil {
		u.setState(StateStarting, nil)
	}
	limits := Limits{}
	if w.src.manifest != nil {
		limits = w.src.manifest.Limits
	}
	start, cancel := context.WithTimeout(ctx, limits.start())
	defer cancel()
	inst, err := u.launch(start, w.src, w.set)
	if err == nil {
		if err = u.take(start, inst); err != nil {
			inst.end()
		}
	}
	if err != nil {
		return w.src, u.notStarted(ctx, err, old)
	}
	if old != nil {
		u.retire(ctx, old)
	}
	return nil, nil
}

// notStarted records why an instance could not be started.
func (u *unit) notStarted(ctx context.Context, err error, old *instance) <-chan time.Time {
	if ctx.Err() != nil {
		return nil
	}
	u.log.Error("plugin was not started", "error", err)
	if old != nil { // the version before goes on
		u.setState(StateReady, fmt.Errorf("the new version was not started: %w", err))
		return nil
	}
	var r *refusal
	if errors.As(err, &r) {
		u.m.unpublish(u)
		u.setState(StateRefused, err)
		return nil
	}
	return u.backoff(err)
}

// take makes an instance the current one: its id, routes, models, filter and tools.
func (u *unit) take(ctx context.Context, inst *instance) error {
	if err := u.m.claim(u, inst.id()); err != nil {
		return &refusal{err}
	}
	if enabled, set, err := u.m.stateOf(ctx, inst.id()); err != nil {
		return err
	} else if id := inst.id(); id != inst.src.name() && (!enabled || set != nil) {
		// only now is it known whose settings these are
		u.mu.Lock()
		u.enabled, u.set = enabled, set
		u.mu.Unlock()
		if !enabled {
			return errors.New("disabled by an administrator")
		}
		if err := inst.configure(ctx, set); err != nil {
			return err
		}
	}
	if err := u.m.publish(ctx, u, inst); err != nil {
		return &refusal{err}
	}
	if contains(inst.grants(), "log") {
		var follow context.Context
		follow, inst.unfollow = context.WithCancel(u.m.ctx)
		go u.logs.forward(follow)
	}
	u.mu.Lock()
	u.started = time.Now()
	u.mu.Unlock()
	u.setState(StateReady, nil)
	u.log.Info("plugin is ready", "version", inst.what.GetVersion(), "pid", inst.child.pid, "sdk", inst.what.GetSdk())
	return nil
}

// retire lets an instance that was replaced end its calls.
func (u *unit) retire(ctx context.Context, old *instance) {
	old.retire()
	u.draining.Go(func() { old.drain(ctx, old.limits().drain()) })
}

// park ends the current instance because the plugin is disabled or gone.
func (u *unit) park(ctx context.Context, gone bool) {
	inst := u.current.Swap(nil)
	u.m.unpublish(u)
	if inst != nil {
		u.setState(StateStopping, nil)
		limit := inst.limits().drain()
		u.draining.Go(func() { inst.drain(ctx, limit) })
		if gone {
			u.draining.Wait()
		}
	}
	u.forgive()
	u.setState(StateDisabled, nil)
}

// stopped ends everything with the manager.
func (u *unit) stopped() {
	if inst := u.current.Swap(nil); inst != nil {
		u.m.unpublish(u)
		inst.end()
	}
	u.draining.Wait()
}

// checkup asks a running instance for its health.
func (u *unit) checkup(ctx context.Context, inst *instance) error {
	ctx, cancel := context.WithTimeout(ctx, u.m.o.CheckTimeout)
	defer cancel()
	err := inst.check(ctx)
	if err != nil {
		select {
		case <-inst.child.done: // told as such
			return inst.child.explain(errEnded)
		default:
		}
	}
	return err
}

// crashed ends an instance that failed and says when to try again.
func (u *unit) crashed(inst *instance, err error) <-chan time.Time {
	u.log.Error("plugin failed", "error", err)
	u.current.CompareAndSwap(inst, nil)
	u.m.withdraw(u)
	inst.end()
	return u.backoff(err)
}

// backoff counts a crash and says when to try again; nil if it was one too many.
func (u *unit) backoff(err error) <-chan time.Time {
	now := time.Now()
	u.mu.Lock()
	u.crashes = slices.DeleteFunc(u.crashes, func(t time.Time) bool { return now.Sub(t) > crashWindow })
	u.crashes = append(u.crashes, now)
	n := len(u.crashes)
	if n < maxCrashes {
		u.restarts++
	}
	id := u.id
	u.mu.Unlock()
	if n < maxCrashes {
		u.m.figures.restarts.WithLabelValues(id).Inc()
	}
	if n >= maxCrashes {
		u.setState(StateFailed, fmt.Errorf("given up after %d failures in %s: %w", n, crashWindow, err))
		u.log.Error("plugin is given up until an administrator restarts it or a new version comes")
		return nil
	}
	u.setState(StateBackoff, err)
	wait := min(u.m.o.Backoff<<(n-1), maxBackoff)
	return time.After(wait + rand.N(wait/4+1))
}

// forgive forgets crashes.
func (u *unit) forgive() {
	u.mu.Lock()
	u.crashes = nil
	u.mu.Unlock()
}

// errNotRunning is the answer to calls of a plugin that is not there.
var errNotRunning = errors.New("the plugin is not running")

// call gives the current instance, counted in; release it.
func (u *unit) call() (*instance, error) {
	for range 3 {
		inst := u.current.Load()
		if inst == nil {
			return nil, errNotRunning
		}
		if inst.acquire() {
			return inst, nil
		}
		// it was replaced between the two steps
	}
	return nil, errNotRunning
}
