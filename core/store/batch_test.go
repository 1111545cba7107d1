package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// TestSharedCommits has transactions that succeed, fail and panic at once, as they share commits: each stands or falls
// alone, and what was acknowledged is there.
func TestSharedCommits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const insert = "INSERT INTO tag (id, name, user_id) VALUES ($1, $2, 'u')"
		refused := errors.New("refused")
		write := func(id string, end error) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			return db.Tx(ctx, func(tx *store.Tx) error {
				if _, err := tx.Exec(ctx, insert, id, "n"); err != nil {
					return err
				}
				if end != nil && end.Error() == "boom" {
					panic("boom")
				}
				return end
			})
		}
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for i := range 20 {
					id := fmt.Sprintf("%d-%d", w, i)
					switch i % 4 {
					case 0, 1:
						if err := write(id, nil); err != nil {
							t.Errorf("%s: %v", id, err)
						}
					case 2:
						if err := write(id, refused); !errors.Is(err, refused) {
							t.Errorf("%s: %v, want the function's error", id, err)
						}
					case 3:
						if err := write(id, errors.New("boom")); err == nil || err.Error() != "panic: boom" {
							t.Errorf("%s: %v, want the panic", id, err)
						}
						if err := write(fmt.Sprintf("%d-0", w), nil); !errors.Is(err, store.ErrConflict) {
							t.Errorf("a taken id: %v", err)
						}
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.QueryRow(ctx, "SELECT count(*) FROM tag").Scan(&n); err != nil || n != 16*10 {
			t.Errorf("%d rows, %v; want 160", n, err)
		}
	})
}

func TestACancelledWriteHarmsNobody(t *testing.T) {
	db := storetest.SQLite(t)
	gone, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c := ctx
			if i%2 == 0 {
				c = gone
			}
			_, err := db.Exec(c, "INSERT INTO tag (id, name, user_id) VALUES ($1, 'n', 'u')", fmt.Sprint(i))
			if i%2 == 1 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
			if i == 10 {
				cancel()
			}
		})
	}
	wg.Wait()
	cancel()
	if _, err := db.Exec(gone, "DELETE FROM tag"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	var n int
	if err := db.QueryRow(ctx, "SELECT count(*) FROM tag").Scan(&n); err != nil || n < 25 {
		t.Errorf("%d rows, %v", n, err)
	}
}
