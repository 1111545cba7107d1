package transfer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// target is an empty database that was not looked at.
func emptyTarget(t *testing.T, d store.Dialect) *store.DB {
	t.Helper()
	address := "sqlite:///" + filepath.Join(t.TempDir(), "target.db")
	if d == store.Postgres {
		address = storetest.PostgresURL(t)
	}
	return open(t, address)
}

func open(t *testing.T, address string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), address, store.Options{SkipSchemaCheck: true, PoolSize: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	addresses[db] = address
	return db
}

func isRefused(err error) bool { return errors.Is(err, ErrRefused) }

func execute(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// fill puts some accounts and chats into a database.
func fill(t *testing.T, db *store.DB, users, chats int) {
	t.Helper()
	err := db.Tx(context.Background(), func(tx *store.Tx) error {
		for u := range users {
			id := fmt.Sprintf("user-%d", u)
			if _, err := tx.Exec(context.Background(), `INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, settings, date_of_birth) VALUES ($1, $2, $3, 'user', '', 1, '{"ui": {"a": 1}}', '1990-05-06')`,
				id, "Ünï "+id, id+"@example.com"); err != nil {
				return err
			}
			for c := range chats {
				if _, err := tx.Exec(context.Background(), `INSERT INTO chat (id, user_id, title, created_at, updated_at, archived, pinned, chat, meta) VALUES ($1, $2, $3, $4, $4, $5, $6, $7, '{}')`,
					fmt.Sprintf("%x-%s", (c*7919)%1000, id)+fmt.Sprint(c), id, fmt.Sprintf("Chat\t%d\n\\", c), 1700000000+c, c%2 == 0, c%3 == 0, fmt.Sprintf(`{"history": {"n": %d}, "n" : 1.50}`, c)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func directions(t *testing.T, f func(t *testing.T, from *store.DB, to store.Dialect)) {
	for _, from := range []store.Dialect{store.SQLite, store.Postgres} {
		for _, to := range []store.Dialect{store.SQLite, store.Postgres} {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				db := storetest.SQLite
				if from == store.Postgres {
					db = storetest.Postgres
				}
				f(t, db(t), to)
			})
		}
	}
}

func TestCopy(t *testing.T) {
	directions(t, func(t *testing.T, from *store.DB, d store.Dialect) {
		fill(t, from, 3, 50)
		to := emptyTarget(t, d)
		report, err := Copy(context.Background(), from, to, Options{Verify: true, BatchBytes: 2000})
		if err != nil {
			t.Fatal(err)
		}
		if !report.Verified || report.Resumed || len(report.Skipped)+len(report.Warnings)+len(report.Changed)+len(report.Refused) > 0 {
			t.Errorf("report %+v", report)
		}
		if err := to.Prepare(context.Background()); err != nil {
			t.Errorf("the target is not whole: %v", err)
		}
		var n int
		if err := to.QueryRow(context.Background(), `SELECT COUNT(*) FROM chat WHERE pinned AND NOT archived`).Scan(&n); err != nil || n != 3*8 {
			t.Errorf("%d pinned chats, %v", n, err)
		}
	})
}
