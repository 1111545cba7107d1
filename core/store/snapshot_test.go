package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// TestSnapshot copies a database in which two rows are always written together.
func TestSnapshot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		dir := t.TempDir()
		if db.Dialect() != store.SQLite {
			if err := db.Snapshot(ctx, filepath.Join(dir, "copy")); !errors.Is(err, store.ErrNotSQLite) {
				t.Errorf("%v", err)
			}
			return
		}
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				err := db.Tx(ctx, func(tx *store.Tx) error {
					for _, half := range []string{"a", "b"} {
						if _, err := tx.Exec(ctx, `INSERT INTO galley_revoked_token (jti, expires_at) VALUES ($1, 0)`, fmt.Sprint(half, i)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		var copies []string
		for i := range 5 {
			file := filepath.Join(dir, fmt.Sprintf("copy %d.db", i))
			copies = append(copies, file)
			if err := db.Snapshot(ctx, file); err != nil {
				t.Fatal(err)
			}
			if err := db.Snapshot(ctx, file); err == nil {
				t.Error("a file that is there was overwritten")
			}
		}
		close(stop)
		writer.Wait()
		for _, file := range copies {
			halves(t, file)
		}
	})
}

// halves looks whether a copy has both halves of everything.
func halves(t *testing.T, file string) {
	t.Helper()
	ctx := t.Context()
	c, err := store.Open(ctx, "sqlite:///"+file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var a, b int
	if err := c.QueryRow(ctx, `SELECT COUNT(*) FROM galley_revoked_token WHERE jti LIKE 'a%'`).Scan(&a); err != nil {
		t.Fatal(err)
	}
	if err := c.QueryRow(ctx, `SELECT COUNT(*) FROM galley_revoked_token WHERE jti LIKE 'b%'`).Scan(&b); err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("%d and %d halves", a, b)
	}
}
