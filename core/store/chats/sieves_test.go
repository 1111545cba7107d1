package chats_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

// sieved is how many chats have a sieve in the database.
func sieved(t testing.TB, db *store.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM galley_chat_sieve").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("not in time:", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// old puts chats of u1 into a database, last changed in the past.
func old(t testing.TB, s *chats.Store, n int, text string) []*chats.Chat {
	t.Helper()
	list := make([]chats.NewChat, n)
	for i := range list {
		list[i] = chats.NewChat{ID: fmt.Sprintf("c%03d", i), UserID: "u1", Doc: jsondoc.Doc(say("Talk", fmt.Sprintf("%s number%03d", text, i))), UpdatedAt: 1700000000 - int64(i)}
	}
	return must(s.InsertAll(ctx, list))(t)
}

func TestSievesAreStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		old(t, s, 3, "plain words of")
		if got, _ := search(t, s, "number002"); len(got) != 1 {
			t.Fatalf("found %v", got)
		}
		until(t, "stored", func() bool { return sieved(t, db) == 3 })
		// another process relies on what is stored: empty sieves hide the texts …
		if _, err := db.Exec(ctx, "UPDATE galley_chat_sieve SET grams = $1", make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		if got, _ := search(t, chats.New(db), "number002"); len(got) != 0 {
			t.Errorf("the stored sieves are not used: %v", got)
		}
		// … but the title is looked at, and so are chats that have changed since
		if got, _ := search(t, chats.New(db), "talk"); len(got) != 3 {
			t.Errorf("by title: %v", got)
		}
		if _, err := db.Exec(ctx, "UPDATE chat SET updated_at = updated_at + 1 WHERE id = 'c002'"); err != nil {
			t.Fatal(err)
		}
		if got, _ := search(t, chats.New(db), "number002"); len(got) != 1 {
			t.Errorf("a changed chat: %v", got)
		}
		for _, broken := range []string{"", "x", strings.Repeat("x", 65), strings.Repeat("x", 1<<15)} {
			if _, err := db.Exec(ctx, "UPDATE galley_chat_sieve SET grams = $1", []byte(broken)); err != nil {
				t.Fatal(err)
			}
			if got, _ := search(t, chats.New(db), "number001"); len(got) != 1 {
				t.Errorf("sieves of %d bytes: %v", len(broken), got)
			}
		}
		if err := s.Delete(ctx, "c001", "u1"); err != nil {
			t.Fatal(err)
		}
		if n := 0; db.QueryRow(ctx, "SELECT COUNT(*) FROM galley_chat_sieve WHERE chat_id = 'c001'").Scan(&n) != nil || n != 0 {
			t.Error("the sieve of a deleted chat is there")
		}
	})
}

// TestRowsSayMore has messages whose rows say something that their chat does not, which a search on Postgres finds.
func TestRowsSayMore(t *testing.T) {
	db := storetest.Postgres(t)
	s := chats.New(db)
	old(t, s, 2, "plain words of")
	if got, _ := search(t, s, "unheard"); len(got) != 0 {
		t.Fatal(got)
	}
	if err := s.Progress(ctx, "c001", "a", jsondoc.Doc(`{"content":"an unheard thing","done":false}`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := search(t, s, "unheard"); len(got) != 1 {
		t.Errorf("of an answer that is being written: %v", got)
	}
	if _, err := db.Exec(ctx, "UPDATE chat_message SET content = '\"wholly different\"', done = TRUE WHERE chat_id = 'c000'"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "UPDATE chat SET title = 'Talk again' WHERE id = 'c000'"); err != nil { // as every change of a message moves its chat
		t.Fatal(err)
	}
	if got, _ := search(t, s, "wholly different"); len(got) != 1 {
		t.Errorf("of a row alone: %v", got)
	}
}

func TestPrepareSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		old(t, s, 99, "plain words of")
		var out bytes.Buffer
		prepare := func() {
			t.Helper()
			out.Reset()
			if err := s.PrepareSearch(ctx, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
				t.Fatal(err)
			}
		}
		if prepare(); sieved(t, db) != 0 || out.Len() > 0 {
			t.Errorf("a user of few chats: %d prepared, log %q", sieved(t, db), out.String())
		}
		must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: jsondoc.Doc(say("Another", "text")), UpdatedAt: 1600000000}))(t)
		if prepare(); sieved(t, db) != 100 || !strings.Contains(out.String(), "chats=100 users=1") {
			t.Errorf("%d prepared, log %q", sieved(t, db), out.String())
		}
		if got, _ := search(t, chats.New(db), "number055"); len(got) != 1 {
			t.Errorf("found %v", got)
		}
		if prepare(); out.Len() > 0 {
			t.Errorf("prepared twice: %s", out.String())
		}
		// the reference deletes one and changes another
		if _, err := db.Exec(ctx, "DELETE FROM chat WHERE id = 'c003'"); err != nil {
			t.Fatal(err)
		}
		must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: jsondoc.Doc(say("A third", "text")), UpdatedAt: 1600000001}))(t)
		if _, err := db.Exec(ctx, "UPDATE chat SET updated_at = updated_at - 7 WHERE id = 'c004'"); err != nil {
			t.Fatal(err)
		}
		if prepare(); sieved(t, db) != 100 || !strings.Contains(out.String(), "chats=2 ") {
			t.Errorf("after changes: %d prepared, log %q", sieved(t, db), out.String())
		}
	})
}

// TestSearchOfMany compares searches of many chats, page by page, with what the texts say.
func TestSearchOfMany(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		var list []chats.NewChat
		words := []string{"alpha", "beta", "gamma", "delta", "alpha beta"}
		want := map[string][]string{}
		for i := range 300 {
			text := words[i%5] + " and " + words[i%3]
			id := fmt.Sprintf("c%03d", i)
			list = append(list, chats.NewChat{ID: id, UserID: "u1", Doc: jsondoc.Doc(say(id, text, "more")), UpdatedAt: 1700000000 - int64(i)})
		}
		must(s.InsertAll(ctx, list))(t)
		for _, query := range []string{"alpha", "beta", "alpha beta", "beta gamma", "delta and", "epsilon"} {
			var exact, partial []string
			for i := range 300 {
				text := words[i%5] + " and " + words[i%3]
				all := true
				for _, w := range strings.Fields(query) {
					all = all && strings.Contains(text, w)
				}
				switch {
				case strings.Contains(text, query):
					exact = append(exact, fmt.Sprintf("c%03d", i))
				case all:
					partial = append(partial, fmt.Sprintf("c%03d", i))
				}
			}
			want[query] = append(exact, partial...)
		}
		for range 2 {
			for query, ids := range want {
				var got []string
				for page := 0; ; page++ {
					q := chats.ParseQuery(query)
					q.UserID, q.Page = "u1", chats.Page{Offset: page * 7, Limit: 7}
					found := must(s.Search(ctx, q))(t)
					for _, f := range found {
						got = append(got, f.ID)
					}
					if len(found) < 7 {
						break
					}
				}
				if strings.Join(got, " ") != strings.Join(ids, " ") {
					t.Errorf("%q finds %d in pages, want %d:\n%v\n%v", query, len(got), len(ids), got, ids)
				}
			}
		}
	})
}
