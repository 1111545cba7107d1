package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

func TestSchema(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var head string
		if err := db.QueryRow(ctx, "SELECT version_num FROM alembic_version").Scan(&head); err != nil || head != store.Head {
			t.Fatalf("head %q, %v", head, err)
		}
		for _, table := range []string{"chat", "chat_message", `"user"`, "auth", "config", "access_grant", "folder", "model", "channel_member", "app"} {
			var n int
			if err := db.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: %d, %v", table, n, err)
			}
		}
	})
}

func TestTx(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const insert = "INSERT INTO tag (id, name, user_id) VALUES ($1, $2, $3)"
		stop := errors.New("stop")
		committed := 0
		put := func(id string, end error) error {
			return db.Tx(ctx, func(tx *store.Tx) error {
				tx.AfterCommit(func() { committed++ })
				if _, err := tx.Exec(ctx, insert, id, id, "u"); err != nil {
					return err
				}
				return end
			})
		}
		if err := put("a", nil); err != nil {
			t.Fatal(err)
		}
		if err := put("b", stop); err != stop {
			t.Fatalf("want the function's error, got %v", err)
		}
		if err := put("a", nil); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("want a conflict, got %v", err)
		}
		ids, err := store.Strings(db.Query(ctx, "SELECT id FROM tag"))
		if err != nil || len(ids) != 1 || ids[0] != "a" || committed != 1 {
			t.Fatalf("%v %v, %d committed", ids, err, committed)
		}
		var name string
		if err := db.QueryRow(ctx, "SELECT name FROM tag WHERE id = $1", "x").Scan(&name); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("want not found, got %v", err)
		}
	})
}

// TestWriters has many goroutines write and read: nothing is lost, nobody sees "database is locked".
func TestWriters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					id := store.NewID()
					err := db.Tx(ctx, func(tx *store.Tx) error {
						_, err := tx.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ($1, $2, $3)", id, "n", "u")
						return err
					})
					if err != nil {
						t.Errorf("writer %d row %d: %v", w, i, err)
					}
					var name string
					if err := db.QueryRow(ctx, "SELECT name FROM tag WHERE id = $1", id).Scan(&name); err != nil {
						t.Errorf("read own write: %v", err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.QueryRow(ctx, "SELECT count(*) FROM tag").Scan(&n); err != nil || n != 200 {
			t.Fatalf("%d rows, %v", n, err)
		}
	})
}

func TestBadURLs(t *testing.T) {
	for _, address := range []string{"webui.db", "mysql://u:secret@h/d", "sqlite://", "postgresql://u:secret@h:port/d"} {
		_, err := store.Open(ctx, address, store.Options{})
		if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestReopen(t *testing.T) {
	address := "sqlite:///" + filepath.Join(t.TempDir(), "a b", "w.db")
	for range 2 {
		db, err := store.Open(ctx, address, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIn(t *testing.T) {
	text, args := store.In([]any{"x"}, []string{"a", "b"})
	if text != "($2,$3)" || len(args) != 3 {
		t.Errorf("%s %v", text, args)
	}
	if text, _ := store.In(nil, []string{}); text != "(NULL)" {
		t.Error(text)
	}
}

// TestOwnTables: they are made beside the reference's, also in a database that has only those, once, and whoever opens it.
func TestOwnTables(t *testing.T) {
	for name, address := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:///" + filepath.Join(t.TempDir(), "w.db") },
		"postgres": storetest.PostgresURL,
	} {
		t.Run(name, func(t *testing.T) {
			url := address(t)
			open := func(t *testing.T) *store.DB {
				db, err := store.Open(ctx, url, store.Options{PoolSize: 4})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = db.Close() })
				return db
			}
			db := open(t)
			exec := func(text string) {
				t.Helper()
				if _, err := db.Exec(ctx, text); err != nil {
					t.Fatal(err)
				}
			}
			exec("INSERT INTO tag (id, name, user_id) VALUES ('t', 't', 'u')")
			for _, table := range []string{"plugin", "plugin_version", "plugin_kv", "plugin_usage", "revoked_token", "schema"} {
				exec("DROP TABLE galley_" + table)
			}
			var wg sync.WaitGroup
			for range 4 { // replicas that start together
				wg.Go(func() {
					other, err := store.Open(ctx, url, store.Options{PoolSize: 1})
					if err != nil {
						t.Error(err)
						return
					}
					_ = other.Close()
				})
			}
			wg.Wait()
			var versions, rows, tags int
			err := db.QueryRow(ctx, "SELECT (SELECT COUNT(*) FROM galley_schema), (SELECT COUNT(*) FROM galley_plugin_version), (SELECT COUNT(*) FROM tag)").
				Scan(&versions, &rows, &tags)
			if err != nil || versions != 1 || rows != 1 || tags != 1 {
				t.Errorf("%d versions, %d rows, %d tags, %v", versions, rows, tags, err)
			}
			exec("UPDATE galley_schema SET version = 1000") // of a newer Galley
			if err := open(t).QueryRow(ctx, "SELECT MAX(version) FROM galley_schema").Scan(&versions); err != nil || versions != 1000 {
				t.Errorf("%d, %v", versions, err)
			}
		})
	}
}

func TestReturning(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const text = "UPDATE tag SET name = name || $1 WHERE id = $2 RETURNING name"
		if _, err := db.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ('t', 'a', 'u')"); err != nil {
			t.Fatal(err)
		}
		var name string
		if err := db.Returning(ctx, text, []any{"b", "t"}, []any{&name}); err != nil || name != "ab" {
			t.Errorf("%q, %v", name, err)
		}
		if err := db.Returning(ctx, text, []any{"b", "none"}, []any{&name}); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if err := db.QueryRow(ctx, "SELECT name FROM tag").Scan(&name); err != nil || name != "ab" {
			t.Errorf("stored: %q, %v", name, err)
		}
	})
}
