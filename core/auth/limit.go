package auth

import (
	"strings"
	"sync"
	"time"
)

// bucket is the resolution of rate limits.
const bucket = time.Minute

// Counter counts events for all processes of an installation.
type Counter interface {
	// Count adds an event of a key to a bucket, which is forgotten after keep, and gives the sum of that and the earlier
	// buckets.
	Count(key string, bucket, earlier int64, keep time.Duration) (int, error)
}

// RateLimiter counts events by key over a window that rolls in steps of a minute: with a Counter all processes together,
// without one, or while it fails, each for itself.
type RateLimiter struct {
	limit   int
	buckets int64
	shared  Counter // nil for none
	now     func() time.Time

	mu    sync.Mutex
	count map[int64]map[string]int // minute to key to events
}

// NewRateLimiter allows limit events of a key within a window.
func NewRateLimiter(limit int, window time.Duration) *RateLimiter {
	return newRateLimiter(limit, window, time.Now)
}

func newRateLimiter(limit int, window time.Duration, now func() time.Time) *RateLimiter {
	return &RateLimiter{limit: limit, buckets: int64(window / bucket), now: now, count: map[int64]map[string]int{}}
}

// Share has the limiter count with others; nil means alone. Call it before the limiter is used.
func (l *RateLimiter) Share(c Counter) *RateLimiter {
	l.shared = c
	return l
}

// Limited counts an event and says whether it is one too many. The case of letters in the key does not matter.
func (l *RateLimiter) Limited(key string) bool {
	key = strings.ToLower(key)
	minute := l.now().Unix() / int64(bucket/time.Second)
	if l.shared != nil {
		if n, err := l.shared.Count(key, minute, l.buckets, time.Duration(l.buckets+1)*bucket); err == nil {
			return n > l.limit
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.count {
		if m < minute-l.buckets {
			delete(l.count, m)
		}
	}
	if l.count[minute] == nil {
		l.count[minute] = map[string]int{}
	}
	l.count[minute][key]++
	total := 0
	for _, keys := range l.count {
		total += keys[key]
	}
	return total > l.limit
}
