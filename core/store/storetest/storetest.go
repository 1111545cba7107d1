// Package storetest opens databases for tests: every store test runs on SQLite and on Postgres.
package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
)

// Each runs f as a subtest on an empty database of either kind. Postgres is the server at GALLEY_TEST_POSTGRES (a
// postgresql:// URL whose user may create schemas); without it that half is skipped, or fails where GALLEY_CI is set.
func Each(t *testing.T, f func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t)) })
}

// SQLite is an empty SQLite database that the test's end removes.
func SQLite(t testing.TB) *store.DB {
	t.Helper()
	return open(t, "sqlite:///"+filepath.Join(t.TempDir(), "galley.db"), store.Options{})
}

// Postgres is an empty schema of its own on the test server.
func Postgres(t testing.TB) *store.DB {
	t.Helper()
	return open(t, PostgresURL(t), store.Options{PoolSize: 8})
}

// PostgresURL makes a schema on the test server and gives its URL; the test's end drops it.
func PostgresURL(t testing.TB) string {
	t.Helper()
	server := os.Getenv("GALLEY_TEST_POSTGRES")
	if server == "" {
		if os.Getenv("GALLEY_CI") != "" {
			t.Fatal("GALLEY_TEST_POSTGRES is not set, and CI tests both databases")
		}
		t.Skip("GALLEY_TEST_POSTGRES is not set")
	}
	schema := "t_" + strings.ReplaceAll(store.NewID(), "-", "")
	admin := open(t, server, store.Options{SkipSchemaCheck: true, PoolSize: 1})
	if _, err := admin.Exec(context.Background(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A transaction, because it is tried again after a deadlock with a statement that is still being prepared.
		err := admin.Tx(context.Background(), func(tx *store.Tx) error {
			_, err := tx.Exec(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
			return err
		})
		if err != nil {
			t.Errorf("drop schema: %v", err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

func open(t testing.TB, address string, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), address, o)
	if err != nil {
		t.Fatal(fmt.Errorf("open %s: %w", address, err))
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Tree is all that lies below a folder, with the sizes and digests of the files, to tell whether it was changed.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintf(&b, "%s %v\n", path, err)
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %x\n", path, len(text), sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
