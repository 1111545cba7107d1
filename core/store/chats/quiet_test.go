package chats_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
)

// TestRecallSeesEveryWrite changes a chat through this store, through another connection of the process, and through a
// second one as another process would, and looks at once after each.
func TestRecallSeesEveryWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "g.db")
	db, err := store.Open(ctx, "sqlite:///"+file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	other, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	s := chats.New(db)
	c := insert(t, s, "u1", `{"title":"t0"}`)
	seen := func() (string, string, string) {
		list := must(s.List(ctx, "u1", chats.ListOptions{Page: chats.Page{Limit: 60}}))(t)
		q := chats.ParseQuery("t")
		q.UserID, q.Limit = "u1", 60
		found := must(s.Search(ctx, q))(t)
		return must(s.Recall(ctx, c.ID))(t).Chat().Title, list[0].Title, found[0].Title
	}
	titles := []string{"t1", "t2", "t3", "t4", "t5", "t6"}
	for i, title := range titles {
		switch i % 3 {
		case 0:
			err = s.SetTitle(ctx, c.ID, title)
		case 1:
			_, err = db.Exec(ctx, "UPDATE chat SET title = $2 WHERE id = $1", c.ID, title)
		case 2:
			_, err = other.Exec("UPDATE chat SET title = ? WHERE id = ?", title, c.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if a, b, d := seen(); a != title || b != title || d != title {
				t.Fatalf("after %s: chat %s, list %s, search %s", title, a, b, d)
			}
		}
	}
}

// TestRecallConcurrently has readers and a writer at once: after a write has returned, nobody may read what was before.
func TestRecallConcurrently(t *testing.T) {
	db, err := store.Open(ctx, "sqlite:///"+filepath.Join(t.TempDir(), "g.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := chats.New(db)
	c := insert(t, s, "u1", `{"title":"a"}`)
	var latest struct {
		sync.Mutex
		n int
	}
	title := func(n int) string { return string(jsondoc.Of(n)) }
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				latest.Lock()
				atLeast := latest.n
				latest.Unlock()
				k, err := s.Recall(ctx, c.ID)
				if err != nil {
					t.Error(err)
					return
				}
				var got int
				if atLeast > 0 && (jsondoc.Doc(k.Chat().Title).Decode(&got) != nil || got < atLeast) {
					t.Errorf("read %s after %d was written", k.Chat().Title, atLeast)
					return
				}
			}
		})
	}
	for n := 1; n <= 60; n++ {
		if err := s.SetTitle(ctx, c.ID, title(n)); err != nil {
			t.Fatal(err)
		}
		latest.Lock()
		latest.n = n
		latest.Unlock()
	}
	close(stop)
	wg.Wait()
}

// TestRecallKeeps counts what reaches the database while nobody writes.
func TestRecallKeeps(t *testing.T) {
	var statements atomic.Int64
	db, err := store.Open(ctx, "sqlite:///"+filepath.Join(t.TempDir(), "g.db"), store.Options{Readers: 2, Hook: func(ctx context.Context, _ string) (context.Context, func(error)) {
		statements.Add(1)
		return ctx, func(error) {}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := chats.New(db)
	insert(t, s, "u1", `{"title":"a"}`)
	look := func() int64 {
		before := statements.Load()
		for range 20 {
			must(s.List(ctx, "u1", chats.ListOptions{}))(t)
		}
		return statements.Load() - before
	}
	if n := look(); n > 3 {
		t.Errorf("%d statements for 20 equal lists", n)
	}
	insert(t, s, "u1", `{"title":"b"}`)
	if n := look(); n == 0 || n > 3 {
		t.Errorf("%d statements for 20 equal lists after a write", n)
	}
}
