package auth

import (
	"strings"
	"sync"
	"time"
)

// bucket is the resolution of rate limits.
const bucket = time.Minute

// RateLimiter counts events by key over a window that rolls in steps of a minute, as the reference's does without Redis.
type RateLimiter struct {
	limit   int
	buckets int64
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

// Limited counts an event and says whether it is one too many. The case of letters in the key does not matter.
func (l *RateLimiter) Limited(key string) bool {
	key = strings.ToLower(key)
	minute := l.now().Unix() / int64(bucket/time.Second)
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
