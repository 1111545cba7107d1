package presence

import (
	"slices"
	"sync"
	"time"
)

// maxModelsPerSession bounds what one client can have in the usage pool.
const maxModelsPerSession = 256

// usage records which sessions use which models. Reports expire on their own,
// when the pool is looked at or added to.
type usage struct {
	timeout time.Duration
	now     func() time.Time

	mu     sync.Mutex
	order  []string                        // models as they came into use
	inUse  map[string]map[string]time.Time // model → session → last report
	counts map[string]int                  // session → number of its models
	swept  time.Time
}

func (u *usage) init(opts Options) {
	u.timeout, u.now = opts.UsageTimeout, opts.Now
	u.inUse = make(map[string]map[string]time.Time)
	u.counts = make(map[string]int)
}

// report records that a session uses a model now.
func (u *usage) report(sid, model string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if now.Sub(u.swept) >= u.timeout {
		u.sweepLocked(now)
	}
	sessions := u.inUse[model]
	if _, known := sessions[sid]; !known {
		if u.counts[sid] >= maxModelsPerSession {
			return
		}
		u.counts[sid]++
	}
	if sessions == nil {
		sessions = make(map[string]time.Time)
		u.inUse[model] = sessions
		u.order = append(u.order, model)
	}
	sessions[sid] = now
}

// models returns what is in use.
func (u *usage) models() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweepLocked(u.now())
	return append([]string{}, u.order...)
}

// drop forgets a session.
func (u *usage) drop(sid string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counts[sid] == 0 {
		return
	}
	u.removeLocked(func(s string, _ time.Time) bool { return s == sid })
}

func (u *usage) sweepLocked(now time.Time) {
	u.swept = now
	u.removeLocked(func(_ string, at time.Time) bool { return now.Sub(at) > u.timeout })
}

// removeLocked removes reports and then the models left without any.
func (u *usage) removeLocked(gone func(sid string, at time.Time) bool) {
	for _, sessions := range u.inUse {
		for sid, at := range sessions {
			if !gone(sid, at) {
				continue
			}
			delete(sessions, sid)
			if u.counts[sid]--; u.counts[sid] == 0 {
				delete(u.counts, sid)
			}
		}
	}
	u.order = slices.DeleteFunc(u.order, func(model string) bool {
		if len(u.inUse[model]) > 0 {
			return false
		}
		delete(u.inUse, model)
		return true
	})
}
