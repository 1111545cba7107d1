package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/sdk"
)

// storeTimeout is how long a request waits for the counters.
const storeTimeout = 2 * time.Second

// limiter counts requests and tokens.
type limiter struct {
	settings *sdk.Config[Settings]
	rules    atomic.Pointer[rules]
	prompts  prompts
	now      func() time.Time
	failedAt atomic.Int64 // when the counters were last out of reach: Unix nanoseconds
}

func newLimiter() *limiter {
	l := &limiter{settings: sdk.NewConfig(defaults()), now: time.Now}
	l.settings.OnChange(func(s *Settings) {
		r, err := s.compile()
		if err != nil {
			return // Validate has said so
		}
		l.rules.Store(r)
	})
	return l
}

// counted is a limit as it holds for somebody.
type counted struct {
	limit
	who string // "u/ID" or "g/ID"
}

// limits are those that a call is subject to; none costs nothing.
func (l *limiter) limits(m sdk.Meta) []counted {
	r := l.rules.Load()
	switch {
	case r == nil, m.Caller.Anonymous(), r.ExemptAdmins && m.Caller.IsAdmin(), !r.CountTasks && (m.Task != "" || m.Kind == "task"),
		len(r.models) > 0 && !slices.Contains(r.models, m.Model):
		return nil
	}
	var out []counted
	for _, x := range r.users {
		out = append(out, counted{x, "u/" + m.Caller.ID})
	}
	for _, g := range m.Caller.Groups {
		for _, x := range r.groups[g.Name] {
			out = append(out, counted{x, "g/" + g.ID})
		}
	}
	return out
}

// key names the counter of the window that now is in. Windows are aligned, by UTC.
func (c counted) key(now time.Time) (key string, ends time.Time) {
	begins := now.UTC().Truncate(c.window)
	return c.what + "/" + c.name + "/" + strconv.FormatInt(begins.Unix(), 10) + "/" + c.who, begins.Add(c.window)
}

// inlet counts a request, and refuses it if a limit is reached.
func (l *limiter) inlet(ctx context.Context, req *sdk.Body) error {
	meta := sdk.MetaFrom(ctx)
	limits := l.limits(meta)
	if len(limits) == 0 {
		return nil
	}
	if slices.ContainsFunc(limits, func(c counted) bool { return c.tokens() }) {
		l.prompts.put(promptKey(meta), estimate(req), l.now())
	}
	now := l.now()
	var done []counted
	for _, c := range limits {
		// one after the other: a request that one limit refuses must not take the place of another in the next
		delta := int64(1)
		if c.tokens() {
			delta = 0 // they are counted once they are known
		}
		value, err := l.add(ctx, now, c, delta)
		if err == nil && delta > 0 {
			done = append(done, c)
		}
		switch {
		case err == nil && value <= c.most-1+delta:
			continue
		case err != nil && l.rules.Load().WhenUnavailable == "open":
			continue
		}
		l.takeBack(ctx, now, done)
		if err != nil {
			return sdk.Refuse(http.StatusServiceUnavailable, "The rate limits cannot be checked right now.")
		}
		return refusal(c, now)
	}
	return nil
}

// takeBack uncounts a request that was refused: it shall not use up limits of longer windows.
func (l *limiter) takeBack(ctx context.Context, now time.Time, limits []counted) {
	for _, c := range limits {
		_, _ = l.add(context.WithoutCancel(ctx), now, c, -1) // an error is logged
	}
}

// refusal tells which limit is reached, and until when.
func refusal(c counted, now time.Time) error {
	_, ends := c.key(now)
	wait := int64(ends.Sub(now)/time.Second) + 1
	text := fmt.Sprintf("The limit of %d %s per %s is reached. Try again in %d seconds.", c.most, c.what, c.name, wait)
	return sdk.Refuse(http.StatusTooManyRequests, text).With("Retry-After", strconv.FormatInt(wait, 10))
}

// add adds to a counter and gives its value.
func (l *limiter) add(ctx context.Context, now time.Time, c counted, delta int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	key, ends := c.key(now)
	// the counter outlives its window, so that clocks of replicas may differ
	value, _, err := sdk.HostFrom(ctx).KV.Add(ctx, key, delta, ends.Sub(now)+time.Minute)
	if err != nil {
		l.unreachable(err)
	}
	return value, err
}

// unreachable logs that the counters are out of reach, once a minute.
func (l *limiter) unreachable(err error) {
	now := l.now().UnixNano()
	if was := l.failedAt.Swap(now); now-was > int64(time.Minute) {
		slog.Error("the counters cannot be reached", "error", err, "requests", l.rules.Load().WhenUnavailable)
	}
}

func (l *limiter) check(context.Context) error {
	if l.now().UnixNano()-l.failedAt.Load() < int64(time.Minute) {
		return sdk.Degraded("the counters cannot be reached")
	}
	return nil
}
