package store_test

import (
	"context"
	"database/sql"
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

func TestForeignDatabaseIsRefusedUntouched(t *testing.T) {
	for name, setup := range map[string]string{
		"older head":  "CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('abc')",
		"no head":     `CREATE TABLE "user" (id TEXT)`,
		"empty table": "CREATE TABLE alembic_version (version_num VARCHAR(32))",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "w.db")
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if _, err := raw.Exec(setup); err != nil {
				t.Fatal(err)
			}
			if _, err = store.Open(ctx, "sqlite:///"+path, store.Options{}); name == "empty table" || !errors.Is(err, store.ErrForeign) {
				if !errors.Is(err, store.ErrForeign) {
					t.Fatalf("want ErrForeign, got %v", err)
				}
			}
			var n int
			if err := raw.QueryRow("SELECT count(*) FROM sqlite_master WHERE name = 'chat'").Scan(&n); err != nil || n != 0 {
				t.Fatalf("tables were made: %d %v", n, err)
			}
		})
	}
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
