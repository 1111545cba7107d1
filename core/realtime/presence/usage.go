package presence

import (
	"maps"
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
	told   map[string]time.Time // when other processes were last told of a model
	others map[string]time.Time // when they last told of one
}

// tellAgain is how often other processes are told that a model is still in use.
const tellAgain = time.Second

func (u *usage) init(opts Options) {
	u.timeout, u.now = opts.UsageTimeout, opts.Now
	u.inUse = make(map[string]map[string]time.Time)
	u.counts = make(map[string]int)
	u.told, u.others = make(map[string]time.Time), make(map[string]time.Time)
}

// elsewhere records that a session of another process uses a model now.
func (u *usage) elsewhere(model string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.others[model] = u.now()
}

// report records that a session uses a model now, and says whether other processes are to be told.
func (u *usage) report(sid, model string) (tell bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if now.Sub(u.swept) >= u.timeout {
		u.sweepLocked(now)
	}
	sessions := u.inUse[model]
	if _, known := sessions[sid]; !known {
		if u.counts[sid] >= maxModelsPerSession {
			return false
		}
		u.counts[sid]++
	}
	if sessions == nil {
		sessions = make(map[string]time.Time)
		u.inUse[model] = sessions
		u.order = append(u.order, model)
	}
	sessions[sid] = now
	if tell = now.Sub(u.told[model]) >= tellAgain; tell {
		u.told[model] = now
	}
	return tell
}

// models returns what is in use.
func (u *usage) models() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweepLocked(u.now())
	out := append([]string{}, u.order...)
	for _, model := range slices.Sorted(maps.Keys(u.others)) {
		if len(u.inUse[model]) == 0 {
			out = append(out, model)
		}
	}
	return out
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
	over := func(_ string, at time.Time) bool { return now.Sub(at) > u.timeout }
	u.removeLocked(over)
	maps.DeleteFunc(u.told, over)
	maps.DeleteFunc(u.others, func(_ string, at time.Time) bool { return now.Sub(at) > u.timeout+tellAgain })
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
