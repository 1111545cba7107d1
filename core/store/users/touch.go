package users

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/galleychat/galley/core/store"
)

// touchDelay is for how long activity is gathered before it is written: many users, one statement.
const touchDelay = 200 * time.Millisecond

// maxTouched bounds the memory of who was written when.
const maxTouched = 100_000

// toucher writes last activity in the background, at most once per account and interval.
type toucher struct {
	interval time.Duration
	write    func(ctx context.Context, ids []string, at int64) error

	mu      sync.Mutex
	written map[string]time.Time
	pending []string
	timer   *time.Timer
	flush   sync.Mutex // held while writing
}

// SetActiveInterval sets the least time between two writes of one account's last activity; 0 writes every one. The
// default is a minute.
func (s *Store) SetActiveInterval(d time.Duration) { s.touch.interval = d }

// Touch notes that an account is active now. It does not wait: the database is written a moment later.
func (s *Store) Touch(id string) {
	t := &s.touch
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.written[id]; ok && now.Sub(last) < max(t.interval, touchDelay) {
		return
	}
	if t.written == nil || len(t.written) >= maxTouched {
		t.written = map[string]time.Time{}
	}
	t.written[id] = now
	t.pending = append(t.pending, id)
	if t.timer == nil {
		t.timer = time.AfterFunc(touchDelay, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.FlushActive(ctx); err != nil {
				slog.Warn("last activity not written", "error", err)
			}
		})
	}
}

// FlushActive writes the activity that is pending, for the end of the process.
func (s *Store) FlushActive(ctx context.Context) error {
	t := &s.touch
	t.flush.Lock()
	defer t.flush.Unlock()
	t.mu.Lock()
	ids := t.pending
	t.pending, t.timer = nil, nil
	t.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := t.write(ctx, ids, time.Now().Unix()); err != nil {
		return fmt.Errorf("last activity: %w", err)
	}
	return nil
}

func (s *Store) writeActive(ctx context.Context, ids []string, at int64) error {
	return chunked(ids, func(part []string) error {
		in, args := store.In([]any{at}, part)
		_, err := s.db.Exec(ctx, `UPDATE "user" SET last_active_at = $1 WHERE id IN `+in, args...)
		return err
	})
}
