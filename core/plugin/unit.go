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

// unit is one plugin, which its goroutine (see supervisor) supervises.
type unit struct {
	m    *Manager
	key  string // where the source is; constant
	logs *logs
	wake chan struct{} // something below wanted or src changed
	done chan struct{} // closed when run has ended

	current atomic.Pointer[instance]
	filter  atomic.Pointer[filterEntry] // of the last instance that was published; nil for none
	kv      atomic.Pointer[plugins.KV]
	asking  atomic.Int64 // calls of host services that run

	beside      sync.WaitGroup // what runs beside its goroutine, which alone waits for it
	configuring sync.Mutex     // held while an instance is configured with what is set

	mu        sync.Mutex
	id        string // as the plugin says, or as its source is named until then
	src       *source
	enabled   bool
	gone      bool               // the source was removed
	restart   bool               // an administrator wants a new process
	retry     bool               // another plugin gave up what this one may have been refused for
	contested bool               // what it was refused for is another plugin's
	unfollow  context.CancelFunc // ends the forwarding of its log; nil if there is none
	set       jsondoc.Doc
	state     State
	problem   string // last error
	warning   string
	since     time.Time // of the state
	crashes   []time.Time
	restarts  int
	started   time.Time     // of the current process
	asked     uint64        // changes that were asked for
	dealt     uint64        // those that run has dealt with
	turned    chan struct{} // closed and made anew when dealt grows
}

func newUnit(m *Manager, src *source, enabled bool, set jsondoc.Doc) *unit {
	u := &unit{
		m: m, key: src.path, id: src.name(), src: src, enabled: enabled, set: set, state: StateStarting, since: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), asked: 1, turned: make(chan struct{}),
	}
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
	if err == nil && (s == StateReady || s == StateDisabled) {
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
		u.logger().Warn("plugin is degraded", "reason", text)
	}
}

// wanted is what the unit should be doing now.
type wanted struct {
	src              *source
	run, gone, again bool
	retry            bool
	set              jsondoc.Doc
	asked            uint64
}

func (u *unit) want() wanted {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := wanted{src: u.src, run: u.enabled && !u.gone, gone: u.gone, again: u.restart, retry: u.retry && u.contested, set: u.set, asked: u.asked}
	u.restart, u.retry = false, false
	return w
}

// logger is the log that says which plugin it is about.
func (u *unit) logger() *slog.Logger { return u.m.log.With("plugin", u.ID()) }

// ID is the plugin's id.
func (u *unit) ID() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.id
}

// notStarted records why an instance could not be started.
func (u *unit) notStarted(err error, old *instance) <-chan time.Time {
	u.logger().Error("plugin was not started", "error", err)
	var c *conflict
	u.mu.Lock()
	u.contested = errors.As(err, &c)
	u.mu.Unlock()
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

// backoff counts a crash and says when to try again; nil if it was one too many.
func (u *unit) backoff(err error) <-chan time.Time {
	now := u.m.now()
	u.mu.Lock()
	u.crashes = slices.DeleteFunc(u.crashes, func(t time.Time) bool { return now.Sub(t) >= crashWindow })
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
		u.logger().Error("plugin is given up until an administrator restarts it or a new version comes")
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
