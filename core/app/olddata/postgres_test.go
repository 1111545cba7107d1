package olddata

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// each runs f on a database of SQLite and on its rows in Postgres.
func each(t *testing.T, name string, f func(t *testing.T, s *server)) {
	t.Helper()
	t.Run(name+" sqlite", func(t *testing.T) { f(t, open(t, name, nil)) })
	t.Run(name+" postgres", func(t *testing.T) {
		address := storetest.PostgresURL(t)
		to, err := store.Open(t.Context(), address, store.Options{PoolSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		from, err := store.Open(t.Context(), unpack(t, name, t.TempDir()), store.Options{SkipSchemaCheck: true})
		if err != nil {
			t.Fatal(err)
		}
		move(t, from, to)
		if err := from.Close(); err != nil {
			t.Fatal(err)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
		f(t, serve(t, t.TempDir(), address, nil))
	})
}

// move copies all rows that Postgres takes: not those that point to nothing, and what is no JSON becomes null.
func move(t *testing.T, from, to *store.DB) {
	t.Helper()
	ctx := t.Context()
	kinds, err := store.Strings(to.Query(ctx, `SELECT table_name || ' ' || column_name || ' ' || data_type FROM information_schema.columns WHERE table_schema = current_schema()`))
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]map[string]string{} // the kinds of the columns of each
	for _, line := range kinds {
		words := strings.SplitN(line, " ", 3)
		if tables[words[0]] == nil {
			tables[words[0]] = map[string]string{}
		}
		tables[words[0]][words[1]] = words[2]
	}
	exec(t, to, `DELETE FROM alembic_version`)
	for left := slices.Sorted(func(yield func(string) bool) {
		for name := range tables {
			if !strings.HasPrefix(name, "galley_") && !yield(name) {
				return
			}
		}
	}); len(left) > 0; {
		// what a row points to may come later: as often as something moves, what is left is tried again
		var again []string
		moved := 0
		for _, table := range left {
			n, refused := moveTable(t, from, to, table, tables[table])
			moved += n
			if refused > 0 {
				again = append(again, table)
			}
		}
		if moved == 0 {
			break
		}
		left = again
	}
}

func moveTable(t *testing.T, from, to *store.DB, table string, kinds map[string]string) (moved, refused int) {
	t.Helper()
	ctx := t.Context()
	rows, err := from.Query(ctx, fmt.Sprintf(`SELECT * FROM "%s"`, table))
	if err != nil {
		t.Fatal(err)
	}
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]any
	for rows.Next() {
		values := make([]any, len(names))
		to := make([]any, len(names))
		for i := range to {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, values := range lines {
		var columns, marks []string
		var args []any
		for i, v := range values {
			kind := kinds[names[i]]
			if kind == "" {
				continue // of the first versions
			}
			switch n, isInt := v.(int64); {
			case kind == "boolean" && isInt:
				v = n != 0
			case (kind == "json" || kind == "jsonb") && v != nil:
				var d jsondoc.Doc
				if err := d.Scan(v); err != nil {
					t.Fatal(err)
				}
				v = d.String()
			case (kind == "text" || kind == "character varying") && v != nil && !isInt:
				v = strings.ReplaceAll(fmt.Sprintf("%s", v), "\x00", "")
			case kind == "text" || kind == "character varying":
				if isInt {
					v = fmt.Sprint(n)
				}
			}
			args = append(args, v)
			columns = append(columns, `"`+names[i]+`"`)
			marks = append(marks, fmt.Sprintf("$%d", len(args)))
		}
		result, err := to.Exec(ctx, fmt.Sprintf(`INSERT INTO "%s" (%s) VALUES (%s) ON CONFLICT DO NOTHING`, table, strings.Join(columns, ","), strings.Join(marks, ",")), args...)
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), "foreign key") {
				t.Logf("%s: %v", table, err)
			}
			continue
		}
		n, _ := result.RowsAffected()
		moved += int(n)
	}
	return moved, refused
}
