package transfer

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// randomValue is a value that the reference could have written into a column of SQLite.
func randomValue(r *rand.Rand, c *column) any {
	if !c.notNull && r.IntN(4) == 0 {
		return nil
	}
	words := []string{"", "a", "Größe", "tab\there", "line\nfeed\r", `back\slash`, "'quote\"", `\N`, `\.`, "😀", "\u2028", "\x01\x7f", "null", "12", "1.50", "\ufeffbom", "{\"a\": 1}", "%_"}
	sentence := func() string {
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(words[r.IntN(len(words))])
		}
		return b.String()
	}
	switch c.kind {
	case integer:
		return []int64{0, 1, -1, 1700000000, math.MaxInt64, math.MinInt64, r.Int64()}[r.IntN(7)]
	case boolean:
		return int64(r.IntN(2))
	case day:
		return time.Unix(r.Int64N(4e9), 0).UTC().Format(dayForm)
	case moment:
		return time.Unix(r.Int64N(4e9), r.Int64N(1e9)).UTC().Format(momentSQLite)
	case binaryData:
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	case document:
		s, _ := json.Marshal(map[string]any{sentence(): sentence(), "n": r.NormFloat64(), "list": []any{nil, true, sentence()}})
		return []any{
			string(s), " " + string(s) + "\n", `{"a": 1, "a" : 2.50}`, "[]", "null", `"text"`, `"\u00e9\ud83d\ude00"`, "true",
			r.Int64(), r.NormFloat64(), 1.0e22, 0.1, int64(0), // numbers are numbers in SQLite, whatever was written
		}[r.IntN(13)]
	}
	return sentence()
}

// fillAtRandom puts rows into every table of an SQLite database.
func fillAtRandom(t *testing.T, db *store.DB, r *rand.Rand, rows int) {
	t.Helper()
	tables := tablesOf(t, db)
	err := db.Tx(context.Background(), func(tx *store.Tx) error {
		for _, name := range sortedNames(tables) {
			if slices.Contains(notCopied, name) {
				continue
			}
			for n := range rows {
				var names, marks []string
				var args []any
				for _, c := range tables[name].columns {
					v := randomValue(r, &c)
					switch {
					case slices.Contains(tables[name].key, c.name) && c.kind == text:
						v = fmt.Sprintf("%s %d-%d", v, r.IntN(1000), n)
					case name == "config_old" || name == "galley_plugin_version":
						if c.kind == integer {
							v = int64(n + 2)
						}
					case c.kind == text && c.typ == "VARCHAR(50)":
						v = "short"
					case name == "channel_member" && c.name == "user_id":
						v = "somebody"
					case name == "channel_member" && c.name == "app_id":
						v = nil
					case c.kind == text && v != nil: // unique ones among them
						v = fmt.Sprintf("%s%x", v, r.Uint64())
					case c.typ == "INTEGER":
						v = int64(r.Int32())
					}
					names, marks, args = append(names, store.Quote(c.name)), append(marks, fmt.Sprintf("$%d", len(args)+1)), append(args, v)
				}
				if _, err := tx.Exec(context.Background(), "INSERT INTO "+store.Quote(name)+" ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", args...); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func tablesOf(t *testing.T, db *store.DB) map[string]*table {
	t.Helper()
	conn, err := reader(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tables, err := readTables(context.Background(), conn, db.Dialect())
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// dump is every row of an SQLite database to the last byte, with the types it is stored as.
func dump(t *testing.T, db *store.DB) []string {
	t.Helper()
	var all []string
	for _, name := range sortedNames(tablesOf(t, db)) {
		var parts []string
		for _, c := range tablesOf(t, db)[name].columns {
			parts = append(parts, fmt.Sprintf(`'%[1]s=' || typeof(%[2]s) || ':' || hex(CAST(%[2]s AS BLOB)) || ':' || quote(%[2]s)`, c.name, store.Quote(c.name)))
		}
		slices.Sort(parts)
		rows, err := db.Query(context.Background(), "SELECT '"+name+" ' || "+strings.Join(parts, ` || ' ' || `)+" FROM "+store.Quote(name))
		lines, err := store.Strings(rows, err)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, lines...)
	}
	slices.Sort(all)
	return all
}

func sameDump(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d rows, not %d", len(got), len(want))
	}
	wrong := 0
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("\n got %s\nwant %s", got[i], want[i])
			if wrong++; wrong == 3 {
				return
			}
		}
	}
}

func TestRoundTripIsExact(t *testing.T) {
	from := storetest.SQLite(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	fillAtRandom(t, from, rand.New(rand.NewPCG(seed, 0)), 25)
	middle := emptyTarget(t, store.Postgres)
	there, err := Copy(context.Background(), from, middle, Options{Verify: true, BatchBytes: 10_000})
	if err != nil {
		t.Fatalf("%v: %+v", err, there.Refused)
	}
	if len(there.Changed) > 0 {
		t.Errorf("changed: %v", there.Changed)
	}
	back := emptyTarget(t, store.SQLite)
	again, err := Copy(context.Background(), middle, back, Options{Verify: true, BatchBytes: 10_000})
	if err != nil {
		t.Fatalf("%v: %+v", err, again.Refused)
	}
	if len(again.Changed) > 0 {
		t.Errorf("changed on the way back: %v", again.Changed)
	}
	for i, c := range there.Tables {
		if o := again.Tables[i]; c.Name != o.Name || c.Sum != o.Sum || c.TargetSum != o.TargetSum {
			t.Errorf("checksums of %s: %s, %s", c.Name, c.Sum, o.Sum)
		}
	}
	sameDump(t, dump(t, back), dump(t, from))

	beside := emptyTarget(t, store.SQLite)
	if report, err := Copy(context.Background(), from, beside, Options{Verify: true}); err != nil {
		t.Fatalf("%v: %+v", err, report.Refused)
	}
	sameDump(t, dump(t, beside), dump(t, from))
}

// TestLaxRows copies what SQLite lets anybody write.
func TestLaxRows(t *testing.T) {
	from := storetest.SQLite(t)
	fill(t, from, 1, 2)
	for _, c := range []string{
		`INSERT INTO chat (id, title, created_at, updated_at, archived, pinned, chat, meta) VALUES ('lax', 'a' || char(0) || 'b', 'soon', 12.5, 'true', 7, '{"x": NaN, "y": "\u0000"}', 'no json')`,
		`INSERT INTO chat (id, title, chat, meta) VALUES (CAST(x'ff41' AS TEXT), CAST(x'c3' AS TEXT), x'7b7d', '{}')`,
		`INSERT INTO tag (id, name, user_id) VALUES ('orphan', 'Orphan', NULL), ('orphan', 'Orphan', NULL)`,
		`INSERT INTO chat_message (id, chat_id, role, content, created_at) VALUES ('m', 'gone', 'user', '"\ud800x"', 1)`,
		`UPDATE "user" SET username = 'äöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöü', date_of_birth = 'long ago'`,
		`INSERT INTO config_old (id, data, version, created_at) VALUES (41, '{}', 0, '2024-01-02 03:04:05')`,
	} {
		execute(t, from, c)
	}
	to := emptyTarget(t, store.Postgres)
	report, err := Copy(context.Background(), from, to, Options{Verify: true})
	if !isRefused(err) || len(report.Refused) != 1 || report.Refused[0].Table != "tag" {
		t.Fatalf("two equal tags: %v, %+v", err, report.Refused)
	}
	if _, err := store.Open(context.Background(), addresses[to], store.Options{}); err == nil {
		t.Error("an unfinished copy was opened")
	}
	report, err = Copy(context.Background(), from, to, Options{Verify: true, SkipRefused: true})
	if err != nil || !report.Resumed || !report.Verified {
		t.Fatal(err, report)
	}
	var changed []string
	for _, c := range report.Changed {
		changed = append(changed, c.Table+" "+c.Key+" "+c.Note)
	}
	want := []string{
		`chat lax [archived chat created_at meta pinned title updated_at]`, `chat "\xffA" [chat id title]`,
		`chat_message m [content]`, `tag orphan, <nil>, Orphan [user_id]`, `tag orphan, <nil>, Orphan [user_id]`, `user user-0 [date_of_birth username]`,
	}
	slices.Sort(changed)
	slices.Sort(want)
	if !slices.Equal(changed, want) {
		t.Errorf("changed:\n%s", strings.Join(changed, "\n"))
	}
	var row [7]sql.NullString
	if err := to.QueryRow(context.Background(), `SELECT title, created_at, updated_at, archived, pinned, chat, meta FROM chat WHERE id = 'lax'`).
		Scan(&row[0], &row[1], &row[2], &row[3], &row[4], &row[5], &row[6]); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(row); got != fmt.Sprint([7]sql.NullString{{String: "ab", Valid: true}, {}, {String: "13", Valid: true}, {String: "true", Valid: true}, {String: "true", Valid: true},
		{String: `{"x": null, "y": ""}`, Valid: true}, {String: `"no json"`, Valid: true}}) {
		t.Errorf("the row is %s", got)
	}
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "1 rows of chat_message") {
		t.Errorf("warnings %v", report.Warnings)
	}
	var next int
	if err := to.Returning(context.Background(), `INSERT INTO config_old (data, version) VALUES ('{}', 0) RETURNING id`, nil, []any{&next}); err != nil || next != 42 {
		t.Errorf("the sequence gave %d, %v", next, err)
	}
	// What was changed once is not changed again.
	back := emptyTarget(t, store.SQLite)
	if report, err := Copy(context.Background(), to, back, Options{Verify: true}); err != nil || len(report.Changed) > 0 {
		t.Errorf("back: %v, %v", err, report.Changed)
	}
}

// addresses of the databases that open opened: their own hide the password.
var addresses = map[*store.DB]string{}

func TestLongRow(t *testing.T) {
	from := storetest.SQLite(t)
	fill(t, from, 1, 1)
	long := `{"text": "` + strings.Repeat(`long\n é\\ `, 300_000) + `"}`
	execute(t, from, `UPDATE chat SET chat = $1`, long)
	middle := emptyTarget(t, store.Postgres)
	if _, err := Copy(context.Background(), from, middle, Options{Verify: true}); err != nil {
		t.Fatal(err)
	}
	back := emptyTarget(t, store.SQLite)
	if _, err := Copy(context.Background(), middle, back, Options{Verify: true}); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := back.QueryRow(context.Background(), `SELECT chat FROM chat`).Scan(&got); err != nil || got != long {
		t.Errorf("%d bytes, not %d: %v", len(got), len(long), err)
	}
}
