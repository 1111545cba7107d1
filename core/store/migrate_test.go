package store

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// steps are files of steps that are the same on both databases.
func steps(texts ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i, text := range texts {
		for _, d := range []string{"sqlite", "postgres"} {
			out["schema/galley/00"+string(rune('1'+i))+"_"+d+".sql"] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return out
}

// eachDialect runs f on an empty database without tables.
func eachDialect(t *testing.T, f func(t *testing.T, db *DB)) {
	open := func(t *testing.T, address string) *DB {
		db, err := Open(context.Background(), address, Options{SkipSchemaCheck: true, PoolSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	t.Run("sqlite", func(t *testing.T) { f(t, open(t, "sqlite:///"+filepath.Join(t.TempDir(), "w.db"))) })
	t.Run("postgres", func(t *testing.T) {
		server := os.Getenv("GALLEY_TEST_POSTGRES")
		if server == "" {
			t.Skip("GALLEY_TEST_POSTGRES is not set")
		}
		admin, schema := open(t, server), "m_"+strings.ReplaceAll(NewID(), "-", "")
		if _, err := admin.Exec(context.Background(), "CREATE SCHEMA "+schema); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = admin.Exec(context.Background(), "DROP SCHEMA "+schema+" CASCADE") })
		u, err := url.Parse(server)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("search_path", schema)
		u.RawQuery = q.Encode()
		f(t, open(t, u.String()))
	})
}

func TestMigrateOwn(t *testing.T) {
	const one, two = "CREATE TABLE galley_a (id TEXT)", "CREATE TABLE galley_b (id TEXT); INSERT INTO galley_b VALUES ('x')"
	ctx := context.Background()
	eachDialect(t, func(t *testing.T, db *DB) {
		migrate := func(files fstest.MapFS) error {
			return db.tx(ctx, func(tx *Tx) error { return migrateOwn(ctx, tx, files) })
		}
		state := func() string {
			t.Helper()
			names, err := Strings(db.Query(ctx, db.dialect.Pick("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1", "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")))
			if err != nil {
				t.Fatal(err)
			}
			var version string
			if len(names) > 0 {
				if err := db.QueryRow(ctx, "SELECT CAST(MAX(version) AS TEXT) FROM galley_schema").Scan(&version); err != nil {
					t.Fatal(err)
				}
			}
			return strings.Join(names, " ") + " " + version
		}
		check := func(what string, files fstest.MapFS, fails bool, want string) {
			t.Helper()
			if err := migrate(files); (err != nil) != fails || fails && !strings.Contains(err.Error(), "step 2") {
				t.Errorf("%s: %v", what, err)
			}
			if got := state(); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		check("a step fails at the start", steps(one, "CREATE TABLE galley_b (id TEXT); CREATE TABEL x"), true, " ")
		check("one step", steps(one), false, "galley_a galley_schema 1")
		check("its second statement fails", steps(one, "CREATE TABLE galley_b (id TEXT); INSERT INTO galley_b VALUES (1, 2, 3)"), true, "galley_a galley_schema 1")
		check("two steps", steps(one, two), false, "galley_a galley_b galley_schema 2")
		check("an older program", steps(one), false, "galley_a galley_b galley_schema 2")
		check("again", steps(one, two), false, "galley_a galley_b galley_schema 2")
	})
	for _, files := range []fstest.MapFS{{"schema/galley/002_sqlite.sql": {}}, {"schema/galley/one_sqlite.sql": {}}} {
		if _, err := ownSteps(files, SQLite); err == nil {
			t.Errorf("%v are no steps", files)
		}
	}
}

// TestSteps: both databases have as many.
func TestSteps(t *testing.T) {
	a, err := ownSteps(ownSchema, SQLite)
	b, err2 := ownSteps(ownSchema, Postgres)
	if err != nil || err2 != nil || len(a) != len(b) || len(a) == 0 {
		t.Errorf("%d and %d steps, %v, %v", len(a), len(b), err, err2)
	}
}
