package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// many puts n chats into a database.
func many(t testing.TB, db *store.DB, n int) {
	t.Helper()
	if _, err := db.Exec(ctx, `INSERT INTO chat (id, user_id, title, chat, archived, pinned, meta, created_at, updated_at, folder_id)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < `+db.Dialect().Pick("$1", "CAST($1 AS integer)")+`)
		SELECT 'c' || i, 'u' || (i % 3), 'A chat', '{}', FALSE, FALSE, '{}', i, i, CASE WHEN i % 5 = 0 THEN 'f' END FROM n`, n); err != nil {
		t.Fatal(err)
	}
}

func ownIndexes(t testing.TB, db *store.DB) []string {
	t.Helper()
	list, err := store.Strings(db.Query(ctx, db.Dialect().Pick("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'galley!_%' ESCAPE '!' AND tbl_name NOT LIKE 'galley!_%' ESCAPE '!' ORDER BY name",
		"SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid WHERE c.relnamespace = current_schema()::regnamespace AND c.relname LIKE 'galley!_%' ESCAPE '!' AND t.relname NOT LIKE 'galley!_%' ESCAPE '!' AND x.indisvalid ORDER BY 1")))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMakeIndexes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		build := func() string {
			t.Helper()
			out.Reset()
			if err := db.MakeIndexes(ctx, log); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		many(t, db, 1999)
		if said := build(); said != "" || len(ownIndexes(t, db)) != 0 {
			t.Fatalf("a small database: %v, log %q", ownIndexes(t, db), said)
		}
		if _, err := db.Exec(ctx, "INSERT INTO chat (id, user_id, meta) VALUES ('last', 'u1', '{}')"); err != nil {
			t.Fatal(err)
		}
		said := build()
		have := ownIndexes(t, db)
		want := []string{"galley_chat_folder", "galley_chat_list", "galley_folder_parent", "galley_folder_user", "galley_shared_chat_chat", "galley_shared_chat_user"}
		if db.Dialect() == store.Postgres {
			want = []string{"galley_chat_message_undone", "galley_folder_parent", "galley_folder_user", "galley_shared_chat_chat", "galley_shared_chat_user"}
		}
		if !slices.Equal(have, want) {
			t.Errorf("indexes %v, want %v", have, want)
		}
		for _, name := range want {
			if !strings.Contains(said, "index made\" index="+name) || !strings.Contains(said, "took=") {
				t.Errorf("the log does not tell of %s: %s", name, said)
			}
		}
		if said := build(); said != "" {
			t.Errorf("made again: %s", said)
		}
	})
}

// TestIndexesServeLists looks at whether SQLite takes lists from an index alone, without the rows that hold documents.
func TestIndexesServeLists(t *testing.T) {
	db := storetest.SQLite(t)
	many(t, db, 2000)
	if err := db.MakeIndexes(ctx, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	const columns = "id, user_id, title, updated_at, created_at, last_read_at, archived"
	const listed = "(chat.meta = '{}' OR json_extract(chat.meta, '$.internal') IS NOT 1)"
	for query, index := range map[string]string{
		"SELECT " + columns + " FROM chat WHERE chat.user_id = 'u1' AND folder_id IS NULL AND (pinned = FALSE OR pinned IS NULL) AND archived = FALSE AND " + listed + " ORDER BY chat.updated_at DESC, chat.id LIMIT 60":                       "galley_chat_list",
		"SELECT " + columns + ", (SELECT octet_length(c.chat) FROM chat c WHERE c.rowid = chat.rowid) FROM chat WHERE chat.user_id = 'u1' AND archived = FALSE AND +share_id IS NULL AND " + listed + " ORDER BY chat.updated_at DESC, chat.id": "galley_chat_list",
		"SELECT " + columns + " FROM chat WHERE chat.folder_id = 'f' AND chat.user_id = 'u1' AND (pinned = FALSE OR pinned IS NULL) AND archived = FALSE AND " + listed:                                                                         "galley_chat_folder",
	} {
		rows, err := db.Query(ctx, "EXPLAIN QUERY PLAN "+query)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var a, b, c int
			var step string
			if err := rows.Scan(&a, &b, &c, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if len(plan) == 0 || !strings.HasPrefix(plan[0], "SEARCH chat USING COVERING INDEX "+index) {
			t.Errorf("%s\nis read by %q", query, plan)
		}
	}
}

// TestIndexesBesideWrites writes while indexes are made.
func TestIndexesBesideWrites(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		many(t, db, 3000)
		var stop atomic.Bool
		done := make(chan error)
		go func() {
			n := 0
			for ; !stop.Load() || n == 0; n++ {
				if _, err := db.Exec(ctx, "UPDATE chat SET updated_at = updated_at + 1 WHERE id = 'c7'"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		err := db.MakeIndexes(ctx, slog.New(slog.DiscardHandler))
		stop.Store(true)
		if err := <-done; err != nil {
			t.Error("write:", err)
		}
		if err != nil || len(ownIndexes(t, db)) == 0 {
			t.Errorf("%v, %v", err, ownIndexes(t, db))
		}
	})
}

// TestIndexesBrokenOff finds an index that an attempt has left unusable, and another replica at work.
func TestIndexesBrokenOff(t *testing.T) {
	db := storetest.Postgres(t)
	many(t, db, 2000)
	log := slog.New(slog.DiscardHandler)
	if err := db.MakeIndexes(ctx, log); err != nil {
		t.Fatal(err)
	}
	all := ownIndexes(t, db)
	if _, err := db.Exec(ctx, "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'galley_folder_user'::regclass"); err != nil {
		t.Skip("only a superuser can break an index:", err)
	}
	if got := ownIndexes(t, db); len(got) != len(all)-1 {
		t.Fatalf("not broken: %v", got)
	}
	err := db.Alone(ctx, 7217055, func(context.Context) error { // as another replica
		if err := db.MakeIndexes(ctx, log); err != nil {
			return err
		}
		if got := ownIndexes(t, db); len(got) != len(all)-1 {
			t.Errorf("made by two at once: %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.MakeIndexes(ctx, log); err != nil {
		t.Fatal(err)
	}
	if got := ownIndexes(t, db); !slices.Equal(got, all) {
		t.Errorf("after an attempt that was broken off: %v, want %v", got, all)
	}
}
