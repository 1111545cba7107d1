package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// same says whether two databases hold the same, by the checksums of all tables.
func same(t *testing.T, a, b *store.DB) {
	t.Helper()
	first, err := Sums(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Sums(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first, second) {
		t.Errorf("checksums differ:\n%v\n%v", first, second)
	}
}

// testSchema is what storetest calls a schema.
var testSchema = regexp.MustCompile(`t_[0-9a-f]{32}\.`)

// schemaOf lists the indexes and constraints of a database.
func schemaOf(t *testing.T, db *store.DB) []string {
	t.Helper()
	rows, err := db.Query(context.Background(), db.Dialect().Pick(
		"SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master ORDER BY 1",
		`SELECT pg_get_indexdef(indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = indrelid WHERE relnamespace = current_schema()::regnamespace
			UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 1`))
	all, err := store.Strings(rows, err)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range all {
		all[i] = testSchema.ReplaceAllString(line, "")
	}
	return all
}

// change writes to a source as a server does between two runs.
func change(t *testing.T, db *store.DB, round int) {
	t.Helper()
	execute(t, db, `UPDATE chat SET title = $1, updated_at = updated_at + 1 WHERE id LIKE $2`, fmt.Sprintf("changed %d", round), "%"+strconv.Itoa(round%10))
	execute(t, db, `DELETE FROM chat WHERE id LIKE $1`, "%"+strconv.Itoa(round%5+1)+"7")
	execute(t, db, `INSERT INTO chat (id, user_id, title, chat, meta) VALUES ($1, 'user-0', 'new', '{}', '{}')`, fmt.Sprintf("00-new-%d", round))
	// Two accounts exchange what has to be unique.
	var first, second string
	if err := db.QueryRow(context.Background(), `SELECT a.email, b.email FROM "user" a, "user" b WHERE a.id = 'user-0' AND b.id = 'user-1'`).Scan(&first, &second); err != nil {
		t.Fatal(err)
	}
	execute(t, db, `UPDATE "user" SET email = NULL WHERE id = 'user-0'`)
	execute(t, db, `UPDATE "user" SET email = $1 WHERE id = 'user-1'`, first)
	execute(t, db, `UPDATE "user" SET email = $1 WHERE id = 'user-0'`, second)
}

func TestStoppedCopyGoesOn(t *testing.T) {
	directions(t, func(t *testing.T, from *store.DB, d store.Dialect) {
		fill(t, from, 3, 60)
		to := emptyTarget(t, d)
		want := schemaOf(t, preparedTarget(t, d))
		o := Options{Verify: true, BatchBytes: 3000, bulkRows: 100}
		runs := 0
		for ; ; runs++ {
			if runs > 200 {
				t.Fatal("it does not end")
			}
			ctx, cancel := context.WithCancel(context.Background())
			calls := 0
			o.Progress = func(Progress) {
				// each run gets further than the one before
				if calls++; calls > 2*runs*runs {
					cancel()
				}
			}
			report, err := Copy(ctx, from, to, o)
			cancel()
			if err == nil {
				if !report.Verified {
					t.Errorf("report %+v", report)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("run %d: %v", runs, err)
			}
			if runs < 8 {
				change(t, from, runs)
			}
		}
		if runs < 5 {
			t.Errorf("only %d runs", runs)
		}
		same(t, from, to)
		if got := schemaOf(t, to); !slices.Equal(got, want) {
			t.Errorf("schema:\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func preparedTarget(t *testing.T, d store.Dialect) *store.DB {
	db := emptyTarget(t, d)
	if err := db.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestMain runs a copy that kills itself, where the environment says so.
func TestMain(m *testing.M) {
	if after, err := strconv.Atoi(os.Getenv("COPY_KILLED_AFTER")); err == nil {
		copyAndDie(after)
	}
	os.Exit(m.Run())
}

func copyAndDie(after int) {
	open := func(name string) *store.DB {
		db, err := store.Open(context.Background(), os.Getenv(name), store.Options{SkipSchemaCheck: true})
		if err != nil {
			panic(err)
		}
		return db
	}
	calls := 0
	_, err := Copy(context.Background(), open("COPY_FROM"), open("COPY_TO"), Options{Verify: true, BatchBytes: 3000, bulkRows: 100, Progress: func(Progress) {
		if calls++; calls > after {
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
			select {}
		}
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestKilledCopyGoesOn(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run("to "+d.String(), func(t *testing.T) {
			source := storetest.Postgres
			if d == store.Postgres {
				source = storetest.SQLite
			}
			from := source(t)
			fill(t, from, 2, 60)
			fromURL := from.URL()
			to := emptyTarget(t, d)
			toURL := addresses[to]
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
			killed := 0
			for after := 0; ; after += 11 {
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), "COPY_KILLED_AFTER="+strconv.Itoa(after), "COPY_FROM="+fromURL, "COPY_TO="+toURL)
				out, err := child.CombinedOutput()
				if err == nil {
					break
				}
				var exit *exec.ExitError
				if !errors.As(err, &exit) || len(out) > 0 { // it says why it failed, and nothing when it is killed
					t.Fatalf("%v: %s", err, out)
				}
				if killed++; killed > 100 {
					t.Fatal("it does not end")
				}
				if killed < 5 {
					change(t, from, killed)
				}
			}
			if killed < 5 {
				t.Errorf("killed only %d times", killed)
			}
			same(t, from, open(t, toURL))
		})
	}
}

// TestRefusesTargets tries targets that must not be written to.
func TestRefusesTargets(t *testing.T) {
	directions(t, func(t *testing.T, from *store.DB, d store.Dialect) {
		fill(t, from, 1, 1)
		for _, c := range []struct {
			name  string
			spoil string
			want  error
			force bool
		}{
			{"accounts", `INSERT INTO "user" (id) VALUES ('u')`, ErrNotEmpty, true},
			{"settings", `INSERT INTO config (key, value) VALUES ('a', '1')`, ErrNotEmpty, false},
			{"settings by force", `INSERT INTO config (key, value) VALUES ('a', '1')`, nil, true},
			{"another version", `UPDATE alembic_version SET version_num = 'cafe'`, store.ErrForeign, true},
			{"empty", `SELECT 1`, nil, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				to := preparedTarget(t, d)
				execute(t, to, c.spoil)
				before, err := Sums(context.Background(), to)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Copy(context.Background(), from, to, Options{Verify: true, Force: c.force}); !errors.Is(err, c.want) {
					t.Fatalf("%v, not %v", err, c.want)
				}
				if c.want == nil {
					same(t, from, to)
					return
				}
				after, err := Sums(context.Background(), to)
				if err != nil || !slices.Equal(after, before) {
					t.Errorf("it was written to: %v", err)
				}
			})
		}
		t.Run("itself", func(t *testing.T) {
			if _, err := Copy(context.Background(), from, from, Options{}); err == nil {
				t.Error("copied onto itself")
			}
		})
		t.Run("another source", func(t *testing.T) {
			to := emptyTarget(t, d)
			ctx, cancel := context.WithCancel(context.Background())
			_, err := Copy(ctx, from, to, Options{Progress: func(Progress) { cancel() }})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			other := storetest.SQLite(t)
			if _, err := Copy(context.Background(), other, to, Options{}); !errors.Is(err, ErrNotEmpty) {
				t.Errorf("went on with another source: %v", err)
			}
			if _, err := Copy(context.Background(), to, emptyTarget(t, d), Options{}); !errors.Is(err, store.ErrUnfinished) {
				t.Errorf("copied an unfinished copy: %v", err)
			}
			if _, err := store.Open(context.Background(), addresses[to], store.Options{}); !errors.Is(err, store.ErrUnfinished) {
				t.Errorf("opened an unfinished copy: %v", err)
			}
		})
	})
}

func TestRefusesSources(t *testing.T) {
	nothing := open(t, "sqlite:///"+filepath.Join(t.TempDir(), "x.db"))
	old := storetest.SQLite(t)
	execute(t, old, `UPDATE alembic_version SET version_num = 'cafe'`)
	for _, from := range []*store.DB{nothing, old} {
		to := emptyTarget(t, store.SQLite)
		if _, err := Copy(context.Background(), from, to, Options{}); !errors.Is(err, store.ErrForeign) {
			t.Errorf("%v", err)
		}
		if len(tablesOf(t, to)) > 0 {
			t.Error("tables were made")
		}
	}
}

func TestUnknownTables(t *testing.T) {
	directions(t, func(t *testing.T, from *store.DB, d store.Dialect) {
		fill(t, from, 1, 1)
		execute(t, from, `CREATE TABLE extra (id `+from.Dialect().Pick("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGSERIAL PRIMARY KEY")+`, what TEXT DEFAULT 'x' NOT NULL, raw `+from.Dialect().Pick("BLOB", "BYTEA")+`)`)
		execute(t, from, `CREATE INDEX extra_what ON extra (what)`)
		for range 3 {
			execute(t, from, `INSERT INTO extra (raw) VALUES (NULL)`)
		}
		execute(t, from, `DELETE FROM extra WHERE id = 3`)
		execute(t, from, `CREATE VIEW names AS SELECT name FROM "user"`)
		execute(t, from, `ALTER TABLE chat ADD COLUMN color TEXT DEFAULT 'red' NOT NULL`)
		execute(t, from, `UPDATE chat SET color = 'blue'`)
		to := emptyTarget(t, d)
		report, err := Copy(context.Background(), from, to, Options{Verify: true})
		if from.Dialect() != d {
			if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "column chat.color, table extra") || len(tablesOf(t, to)) > 0 {
				t.Errorf("%v", err)
			}
			report, err = Copy(context.Background(), from, to, Options{Verify: true, SkipUnknown: true})
			if err != nil || !slices.Equal(report.Skipped, []string{"column chat.color", "table extra", "view names"}) {
				t.Errorf("%v, %v", err, report.Skipped)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		same(t, from, to)
		var id int
		if err := to.Returning(context.Background(), `INSERT INTO extra (what) VALUES ('new') RETURNING id`, nil, []any{&id}); err != nil || id != 4 {
			t.Errorf("the next row is %d, %v", id, err)
		}
		if !slices.ContainsFunc(schemaOf(t, to), func(s string) bool { return strings.Contains(s, "INDEX extra_what") }) {
			t.Error("its index is missing")
		}
		if !slices.Equal(report.Skipped, []string{"view names"}) {
			t.Errorf("left out: %v", report.Skipped)
		}
	})
}

// TestFindsDifferences has a target that changes what is written.
func TestFindsDifferences(t *testing.T) {
	from := storetest.SQLite(t)
	fill(t, from, 2, 2)
	to := preparedTarget(t, store.SQLite)
	execute(t, to, `CREATE TRIGGER meddle AFTER INSERT ON "user" WHEN NEW.id = 'user-1' BEGIN UPDATE "user" SET name = 'x' WHERE id = NEW.id; END`)
	report, err := Copy(context.Background(), from, to, Options{Verify: true})
	if !errors.Is(err, ErrMismatch) || !slices.Equal(report.Differ, []RowNote{{"user", "user-1", "differs"}}) {
		t.Errorf("%v, %v", err, report.Differ)
	}
	execute(t, to, `DROP TRIGGER meddle`)
	if _, err := Copy(context.Background(), from, to, Options{Verify: true}); err != nil {
		t.Error(err)
	}
	same(t, from, to)
}

// TestServerGoesOn writes to the source while it is copied: the copy is of one moment.
func TestServerGoesOn(t *testing.T) {
	directions(t, func(t *testing.T, from *store.DB, d store.Dialect) {
		fill(t, from, 2, 40)
		before, err := Sums(context.Background(), from)
		if err != nil {
			t.Fatal(err)
		}
		to := emptyTarget(t, d)
		n := 0
		_, err = Copy(context.Background(), from, to, Options{Verify: true, BatchBytes: 3000, Progress: func(Progress) {
			if n++; n < 10 {
				change(t, from, n)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		after, err := Sums(context.Background(), to)
		if err != nil || !slices.Equal(before, after) {
			t.Errorf("%v:\n%v\n%v", err, before, after)
		}
	})
}
