package config_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// TestReplicas has two servers on one database follow each other.
func TestReplicas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		a := load(t, db, config.Options{})
		b := load(t, db, config.Options{Poll: 5 * time.Millisecond})
		var changes atomic.Int32
		b.OnChange(func([]string, *config.Snapshot) { changes.Add(1) })
		run, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(run) })
		defer wg.Wait()
		defer stop()
		// All within one second, so that updated_at tells little.
		for _, text := range []string{"one", "two", "three"} {
			if err := a.Set(ctx, config.Changes{"ui.watermark": text}); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { return config.UIWatermark.Get(b.Snapshot()) == text })
		}
		if _, err := db.Exec(ctx, "DELETE FROM config WHERE key = $1", "ui.watermark"); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return config.UIWatermark.Get(b.Snapshot()) == "" })
		if n := changes.Load(); n != 4 {
			t.Errorf("subscribers were called %d times", n)
		}
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("not within 5 s")
		}
		<-time.After(time.Millisecond)
	}
}

// TestPollIsCheap looks that a poll reads the rows only when there is a reason to.
func TestPollIsCheap(t *testing.T) {
	db := &counting{DB: storetest.SQLite(t)}
	now := time.Unix(1_700_000_000, 0)
	s, err := config.Load(ctx, db, environment(t), config.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(want int32, why string) {
		t.Helper()
		before := db.queries.Load()
		if err := s.Poll(ctx); err != nil {
			t.Fatal(err)
		}
		if got := db.queries.Load() - before; got != want {
			t.Errorf("%s: %d queries, want %d", why, got, want)
		}
	}
	poll(2, "just after a write")
	now = now.Add(time.Minute)
	poll(2, "the first after a while")
	poll(1, "nothing changed")
	write(t, db.DB, "ui.watermark", `"x"`, 1_600_000_000)
	poll(2, "a row written by a slow clock")
	if got := config.UIWatermark.Get(s.Snapshot()); got != "x" {
		t.Errorf("%q", got)
	}
	poll(1, "nothing changed again")
}

// counting counts the queries of a database, and does something after each.
type counting struct {
	*store.DB
	queries atomic.Int32
	after   func()
}

func (c *counting) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	c.queries.Add(1)
	rows, err := c.DB.Query(ctx, text, args...)
	if c.after != nil {
		c.after()
	}
	return rows, err
}

func TestConcurrent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 10 {
					text := fmt.Sprint(w, "-", i)
					if err := s.Set(ctx, config.Changes{"ui.watermark": text, "ui.default_locale": text}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for range 20 {
					if err := s.Reload(ctx); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range 2000 {
					snap := s.Snapshot()
					if a, b := config.UIWatermark.Get(snap), config.UIDefaultLocale.Get(snap); a != b {
						t.Errorf("half a change: %q, %q", a, b)
						return
					}
				}
			})
		}
		wg.Wait()
		if got, want := string(config.UIWatermark.Raw(s.Snapshot())), row(t, db, "ui.watermark"); got != want {
			t.Errorf("memory has %s, the database %s", got, want)
		}
	})
}

// TestOrder has a write told of later than one that the database made after it.
func TestOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{})
		err := db.Tx(ctx, func(tx *store.Tx) error {
			tx.AfterCommit(func() {
				if err := s.Set(ctx, config.Changes{"ui.watermark": "second"}); err != nil {
					t.Error(err)
				}
			})
			return s.SetTx(ctx, tx, config.Changes{"ui.watermark": "first", "ui.default_locale": "first"})
		})
		if err != nil {
			t.Fatal(err)
		}
		snap := s.Snapshot()
		if a, b := config.UIWatermark.Get(snap), config.UIDefaultLocale.Get(snap); a != "second" || b != "first" || row(t, db, "ui.watermark") != `"second"` {
			t.Errorf("%q and %q in memory, %s stored", a, b, row(t, db, "ui.watermark"))
		}
	})
}

// TestReloadOfOldRows has a write happen between a reload's query and what it does with the rows.
func TestReloadOfOldRows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		c := &counting{DB: db}
		s, err := config.Load(ctx, c, environment(t), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.after = func() {
			if err := s.Set(ctx, config.Changes{"ui.watermark": "new", "events.webhooks": []int{}}); err != nil {
				t.Error(err)
			}
		}
		if err := s.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		c.after = nil
		if got := config.UIWatermark.Get(s.Snapshot()); got != "new" || string(s.Snapshot().Namespace("events")) != `{"events.webhooks":[]}` {
			t.Errorf("the reload took back the write: %q, %s", got, s.Snapshot().Namespace("events"))
		}
		if err := s.Reload(ctx); err != nil || config.UIWatermark.Get(s.Snapshot()) != "new" {
			t.Errorf("%q (%v)", config.UIWatermark.Get(s.Snapshot()), err)
		}
	})
}
