package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// foreign are databases that are refused: what makes one of a database as Galley makes it, and what is said of it.
var foreign = map[string]struct {
	change string
	kind   store.Kind
	says   []string
}{
	"older":           {"UPDATE alembic_version SET version_num = '018012973d35'", store.Older, []string{"older", "018012973d35", "0.6.23", "start Open WebUI 0.12.4 once"}},
	"first":           {"UPDATE alembic_version SET version_num = '7e5b5dc7342b'", store.Older, []string{"older", "7e5b5dc7342b"}},
	"last but one":    {"UPDATE alembic_version SET version_num = 'c92da83b017f'", store.Older, []string{"older", "0.12.1"}},
	"newer":           {"UPDATE alembic_version SET version_num = 'ffffffffffff'", store.Unknown, []string{"newer", `"ffffffffffff"`, "newer Galley"}},
	"empty revision":  {"UPDATE alembic_version SET version_num = ''", store.Unknown, []string{`""`}},
	"several":         {"INSERT INTO alembic_version VALUES ('018012973d35')", store.Several, []string{"2 revisions", "018012973d35"}},
	"none":            {"DELETE FROM alembic_version", store.Unversioned, []string{"holds no revision"}},
	"unversioned":     {"DROP TABLE alembic_version", store.Unversioned, []string{"access_grant", "no alembic_version"}},
	"before Alembic":  {"DROP TABLE alembic_version; CREATE TABLE migratehistory (id INTEGER)", store.Unversioned, []string{"before release 0.3.6"}},
	"without table":   {"DROP TABLE feedback", store.Incomplete, []string{"incomplete", "without feedback,"}},
	"without column":  {"ALTER TABLE auth DROP COLUMN mfa", store.Incomplete, []string{"without auth.mfa,"}},
	"without many":    {"ALTER TABLE chat RENAME TO chat2; ALTER TABLE file RENAME TO file2; ALTER TABLE \"user\" RENAME TO user2; ALTER TABLE app RENAME TO app2; ALTER TABLE tag RENAME TO tag2; ALTER TABLE tool RENAME TO tool2; ALTER TABLE note RENAME TO note2", store.Incomplete, []string{" and 1 more"}},
	"renamed columns": {"ALTER TABLE feedback RENAME COLUMN snapshot TO snap", store.Incomplete, []string{"feedback.snapshot"}},
}

func databases() map[string]func(testing.TB) string {
	return map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:///" + filepath.Join(t.TempDir(), "webui.db") },
		"postgres": storetest.PostgresURL,
	}
}

func make0124(t *testing.T, url string, statements ...string) {
	t.Helper()
	db, err := store.Open(ctx, url, store.Options{PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForeign(t *testing.T) {
	for kind, make := range databases() {
		for name, c := range foreign {
			t.Run(kind+" "+name, func(t *testing.T) {
				url := make(t)
				make0124(t, url, strings.Split(c.change, "; ")...)
				refused(t, url, c.kind, c.says...)
			})
		}
	}
}

// refused says whether Inspect and Open find a database to be of a kind, and leave it as it was.
func refused(t *testing.T, url string, kind store.Kind, says ...string) {
	t.Helper()
	before := fingerprint(t, url)
	s, err := store.Inspect(ctx, url, store.Options{})
	if err != nil || s.Kind != kind {
		t.Fatalf("found %v, %v", s, err)
	}
	_, err = store.Open(ctx, url, store.Options{PoolSize: 1})
	if !errors.Is(err, store.ErrForeign) {
		t.Fatalf("Open: %v", err)
	}
	for _, text := range append(says, "nothing was changed") {
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("it says %q, without %q", err, text)
		}
	}
	if after := fingerprint(t, url); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// fingerprint is the folder of an SQLite file, or what a schema of Postgres holds.
func fingerprint(t *testing.T, url string) string {
	t.Helper()
	if path, ok := strings.CutPrefix(url, "sqlite:///"); ok {
		return storetest.Tree(t, filepath.Dir(path))
	}
	db, err := store.Open(ctx, url, store.Options{SkipSchemaCheck: true, PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	names, err := store.Strings(db.Query(ctx, "SELECT relname || ' ' || relfilenode FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// TestForeignFiles are foreign files of SQLite in the states in which a program may have left them.
func TestForeignFiles(t *testing.T) {
	const change = "UPDATE alembic_version SET version_num = 'ffffffffffff'"
	for name, c := range map[string]struct {
		leave func(t *testing.T, path string)
		kind  store.Kind
	}{
		"rollback journal": {func(t *testing.T, path string) {
			make0124(t, "sqlite:///"+path)
			sqliteExec(t, path, "PRAGMA journal_mode=DELETE", change)
		}, store.Unknown},
		"killed with a log":             {func(t *testing.T, path string) { killed(t, path, change) }, store.Unknown},
		"killed, the index is lost":     {func(t *testing.T, path string) { killed(t, path, change); remove(t, path+"-shm") }, store.Unknown},
		"an index without a log":        {func(t *testing.T, path string) { make0124(t, "sqlite:///"+path, change); write(t, path+"-shm", "") }, store.Unknown},
		"an empty log":                  {func(t *testing.T, path string) { make0124(t, "sqlite:///"+path, change); write(t, path+"-wal", "") }, store.Unknown},
		"a log and a folder to read":    {func(t *testing.T, path string) { killed(t, path, change); readOnly(t, path) }, store.Unknown},
		"a log alone, a folder to read": {func(t *testing.T, path string) { killed(t, path, change); remove(t, path+"-shm"); readOnly(t, path) }, store.Unknown},
		"a folder to read":              {func(t *testing.T, path string) { make0124(t, "sqlite:///"+path, change); readOnly(t, path) }, store.Unknown},
		"other tables":                  {func(t *testing.T, path string) { sqliteExec(t, path, "CREATE TABLE recipe (id TEXT)") }, store.Unversioned},
		"text":                          {func(t *testing.T, path string) { write(t, path, strings.Repeat("This is no database. ", 500)) }, store.NoDatabase},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "webui.db")
			c.leave(t, path)
			refused(t, "sqlite:///"+path, c.kind)
		})
	}
}

// TestKilledIsOpened: what a killed program left in its log is seen, by the first look as by what follows.
func TestKilledIsOpened(t *testing.T) {
	for _, lose := range []string{"", "-shm"} {
		path := filepath.Join(t.TempDir(), "webui.db")
		killed(t, path, "INSERT INTO tag (id, name, user_id) VALUES ('a', 'a', 'u')")
		if lose != "" {
			remove(t, path+lose)
		}
		before := storetest.Tree(t, filepath.Dir(path))
		s, err := store.Inspect(ctx, "sqlite:///"+path, store.Options{})
		if err != nil || s.Kind != store.Ours || storetest.Tree(t, filepath.Dir(path)) != before {
			t.Fatalf("%v, %v\n%s", s.Kind, err, storetest.Tree(t, filepath.Dir(path)))
		}
		make0124(t, "sqlite:///"+path, "UPDATE tag SET name = 'b' WHERE id = 'a'")
		if names := files(t, filepath.Dir(path)); !slices.Equal(names, []string{"webui.db"}) {
			t.Errorf("left behind: %v", names)
		}
	}
}

func TestInspectLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"none.db", "sub/none.db"} {
		s, err := store.Inspect(ctx, "sqlite:///"+filepath.Join(dir, name), store.Options{})
		if err != nil || s.Kind != store.Empty || s.Err() != nil {
			t.Errorf("%v, %v", s, err)
		}
	}
	if names := files(t, dir); len(names) != 0 {
		t.Errorf("made %v", names)
	}
	write(t, filepath.Join(dir, "empty.db"), "")
	if s, err := store.Inspect(ctx, "sqlite:///"+filepath.Join(dir, "empty.db"), store.Options{}); err != nil || s.Kind != store.Empty {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := store.Inspect(ctx, "sqlite:///"+dir, store.Options{}); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Error(err)
	}
}

// TestUnknownThings: tables, columns, indexes and rows of others stay, and rows are written beside them.
func TestUnknownThings(t *testing.T) {
	for kind, make := range databases() {
		t.Run(kind, func(t *testing.T) {
			url := make(t)
			make0124(t, url, "ALTER TABLE tag ADD COLUMN colour TEXT", "ALTER TABLE tag ADD COLUMN weight BIGINT NOT NULL DEFAULT 7", "CREATE TABLE recipe (id TEXT)",
				"INSERT INTO recipe VALUES ('soup')", "CREATE INDEX tag_colour ON tag (colour)", "DROP TABLE chatidtag", "ALTER TABLE knowledge DROP COLUMN data")
			make0124(t, url, "INSERT INTO tag (id, name, user_id) VALUES ('a', 'a', 'u')")
			db, err := store.Open(ctx, url, store.Options{PoolSize: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var n int
			err = db.QueryRow(ctx, "SELECT count(*) FROM recipe, tag WHERE recipe.id = 'soup' AND tag.colour IS NULL AND weight = 7").Scan(&n)
			if err != nil || n != 1 {
				t.Errorf("%d, %v", n, err)
			}
			// A column that has to be filled, and which Galley does not know: the row is refused, the others stay.
			for _, s := range []string{"CREATE TABLE tag2 (id VARCHAR PRIMARY KEY, name VARCHAR, user_id VARCHAR, meta JSON, must TEXT NOT NULL)", "DROP TABLE tag", "ALTER TABLE tag2 RENAME TO tag"} {
				if _, err := db.Exec(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			_, err = db.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ('b', 'b', 'u')")
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "not null") && !strings.Contains(err.Error(), "not-null") || !strings.Contains(err.Error(), "must") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSchemaOption(t *testing.T) {
	url := storetest.PostgresURL(t)
	admin, err := store.Open(ctx, url, store.Options{SkipSchemaCheck: true, PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	schema := "My Schema " + store.NewID()
	o := store.Options{PostgresSchema: schema, PoolSize: 1}
	if _, err := store.Open(ctx, url, o); err == nil || !strings.HasPrefix(err.Error(), "DATABASE_SCHEMA:") {
		t.Errorf("no schema: %v", err)
	}
	exec := func(text string) {
		t.Helper()
		if _, err := admin.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE SCHEMA "` + schema + `"`)
	t.Cleanup(func() { exec(`DROP SCHEMA "` + schema + `" CASCADE`) })
	exec(`CREATE TABLE "` + schema + `".recipe (id TEXT)`)
	if _, err := store.Open(ctx, url, o); !errors.Is(err, store.ErrForeign) || !strings.Contains(err.Error(), "recipe") {
		t.Errorf("a schema of others: %v", err)
	}
	exec(`DROP TABLE "` + schema + `".recipe`)
	for range 2 {
		db, err := store.Open(ctx, url, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(ctx, `SELECT version_num FROM "`+schema+`".alembic_version`).Scan(new(string)); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	}
}

// TestOpenReading: reading works while a server writes, sees what it writes, and cannot write.
func TestOpenReading(t *testing.T) {
	for kind, make := range databases() {
		t.Run(kind, func(t *testing.T) {
			url := make(t)
			db, err := store.Open(ctx, url, store.Options{PoolSize: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			r, err := store.OpenReading(ctx, url, store.Options{Readers: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for i := range 3 {
				if _, err := db.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ($1, 'a', 'u')", fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
				var n int
				if err := r.QueryRow(ctx, "SELECT count(*) FROM tag").Scan(&n); err != nil || n != i+1 {
					t.Errorf("%d, %v", n, err)
				}
			}
			if _, err := r.Exec(ctx, "DELETE FROM tag"); !errors.Is(err, store.ErrReading) {
				t.Error(err)
			}
			if err := r.Tx(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrReading) {
				t.Error(err)
			}
		})
	}
	if _, err := store.OpenReading(ctx, "sqlite:///"+filepath.Join(t.TempDir(), "none.db"), store.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestNoWAL: the journal is the reference's of DATABASE_ENABLE_SQLITE_WAL=false, and back.
func TestNoWAL(t *testing.T) {
	url := "sqlite:///" + filepath.Join(t.TempDir(), "webui.db")
	for _, o := range []store.Options{{}, {NoWAL: true}, {}} {
		db, err := store.Open(ctx, url, o)
		if err != nil {
			t.Fatal(err)
		}
		var mode string
		if err := db.QueryRow(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil || mode != map[bool]string{true: "delete", false: "wal"}[o.NoWAL] {
			t.Errorf("%q, %v", mode, err)
		}
		if _, err := db.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ($1, 'a', 'u')", store.NewID()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReferenceShape(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		s := d.Reference()
		if len(s) != 48 || !slices.Equal(s["auth"], []string{"id", "email", "password", "active", "mfa", "session_stamp"}) || !s.Has("config", "key") || !s.Has("user", "variables") {
			t.Errorf("%s: %d tables, auth %v, config %v", d, len(s), s["auth"], s["config"])
		}
	}
	sqlite := store.SQLite.Reference()
	for table, columns := range store.Postgres.Reference() {
		a, b := slices.Sorted(slices.Values(columns)), slices.Sorted(slices.Values(sqlite[table]))
		if !slices.Equal(a, b) {
			t.Errorf("%s: %v on Postgres, %v on SQLite", table, a, b)
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// readOnly takes the rights to write from a file's folder and all in it, which root has all the same.
func readOnly(t *testing.T, path string) {
	t.Helper()
	dir := filepath.Dir(path)
	for _, name := range append(files(t, dir), ".") {
		if err := os.Chmod(filepath.Join(dir, name), map[bool]os.FileMode{true: 0o555, false: 0o444}[name == "."]); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
}

func sqliteExec(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

// killed runs statements on a file in a process that is killed then, so that they are in the log alone.
func killed(t *testing.T, path string, statements ...string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("processes are not killed there")
	}
	make0124(t, "sqlite:///"+path)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledHelper$")
	cmd.Env = append(os.Environ(), "KILLED_DB="+path, "KILLED_DO="+strings.Join(statements, "; "))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("no log: %v, %v", info, err)
	}
}

func TestKilledHelper(t *testing.T) {
	path := os.Getenv("KILLED_DB")
	if path == "" {
		t.Skip("for killed alone")
	}
	db, err := store.Open(ctx, "sqlite:///"+path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for s := range strings.SplitSeq(os.Getenv("KILLED_DO"), "; ") {
		if _, err := db.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	select {}
}

// TestFewRights: a role that may not make tables opens a database whose tables are there.
func TestFewRights(t *testing.T) {
	address := storetest.PostgresURL(t)
	db, err := store.Open(ctx, address, store.Options{PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	role := "r_" + strings.ReplaceAll(store.NewID(), "-", "")
	exec := func(text string) {
		t.Helper()
		if _, err := db.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	var schema string
	if err := db.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	exec("CREATE ROLE " + role + " LOGIN PASSWORD 'p/w#%40'")
	t.Cleanup(func() { exec("DROP OWNED BY " + role); exec("DROP ROLE " + role) })
	exec("GRANT USAGE ON SCHEMA " + schema + " TO " + role)
	exec("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + schema + " TO " + role)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	// The password as the reference takes it, not encoded but for its "%".
	other := "postgresql+psycopg2://" + role + ":p/w#%2540@" + u.Host + u.Path + "?" + u.RawQuery
	few, err := store.Open(ctx, other, store.Options{PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := few.Exec(ctx, "INSERT INTO tag (id, name, user_id) VALUES ('a', 'a', 'u')"); err != nil {
		t.Error(err)
	}
	if err := few.Close(); err != nil {
		t.Error(err)
	}
}
