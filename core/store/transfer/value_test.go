package transfer

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

func TestPostgresJSON(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, c := range []struct{ in, want string }{
		{`{"a": 1,  "a":2.50}`, ""}, // "" for unchanged
		{" [true,false,null]\n", ""},
		{`"\ud83d\ude00 é \u00e9 \\u0000"`, ""},
		{`-0.5e+10`, ""},
		{`[NaN, -Infinity,Infinity]`, `[null, -1e999,1e999]`},
		{`{"a\u0000b": "x\u0000"}`, `{"ab": "x"}`},
		{`"\ud800x"`, `"x"`},
		{`"\ud800\ud83d\ude00\udc00"`, `"\ud83d\ude00"`},
		{`"\ud800\n"`, `"\n"`},
		{"\"a\nb\x00\x1f\"", `"a\u000ab\u001f"`},
		{"\"\xff\"", "\"\uFFFD\""},
		{``, `""`},
		{`{'a': 1}`, `"{'a': 1}"`},
		{`[1,]`, `"[1,]"`},
		{`01`, `"01"`},
		{`[1] x`, `"[1] x"`},
		{`"\x41"`, `"\"\\x41\""`},
		{deep, `"` + deep + `"`},
	} {
		got, changed := postgresJSON(c.in)
		want := c.want
		if want == "" {
			want = c.in
		}
		if got != want || changed != (want != c.in) {
			t.Errorf("%.40q: %.60q, %v", c.in, got, changed)
		}
	}
}

// TestPostgresTakesAllJSON has the server look into what came out of texts put together at random.
func TestPostgresTakesAllJSON(t *testing.T) {
	db := storetest.Postgres(t)
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"{", "}", "[", "]", ",", ":", `"`, `"a"`, `"b":`, "1", "-", ".5", "e9", "NaN", "-Infinity", "null", `\u0000`, `\ud800`, `\udfff`, `\ud83d\ude00`, `\`, `\n`, " ", "\n", "\x00", "\x01", "\xff", "é", `\\`, `\u12`}
	for range 3000 {
		var b strings.Builder
		if random.IntN(2) == 0 {
			b.WriteString(`{"a": [`)
		}
		for range random.IntN(12) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		if strings.HasPrefix(b.String(), `{"a": [`) {
			b.WriteString(`]}`)
		}
		out, changed := postgresJSON(b.String())
		var same bool
		var value *string
		if err := db.QueryRow(context.Background(), "SELECT $1::text::json::text = $1, $1::text::json ->> 'a'", out).Scan(&same, &value); err != nil || !same {
			t.Fatalf("%q became %q: %v", b.String(), out, err)
		}
		if again, more := postgresJSON(out); more || again != out {
			t.Fatalf("%q became %q and then %q", b.String(), out, again)
		}
		if !changed && !json.Valid([]byte(out)) {
			t.Fatalf("%q is no JSON", out)
		}
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[string]any{
		"1": int64(1), " -12 ": int64(-12), "1.50": 1.5, "1e3": int64(1000), "-0.0": int64(0), "9223372036854775808": 9223372036854775808.0,
		"1e999": math.Inf(1), "": nil, "x": nil, "01": nil, "1x": nil, "+1": nil, "NaN": nil, `"1"`: nil,
	} {
		if got, ok := number(in); !reflect.DeepEqual(got, want) || ok != (want != nil) {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestToPostgres(t *testing.T) {
	for _, c := range []struct {
		kind     kind
		in, want any
		changed  bool
	}{
		{text, "a\x00b", "ab", true},
		{text, "\xffa", "\uFFFDa", true},
		{text, int64(7), "7", false},
		{text, []byte("x"), "x", true},
		{integer, 1.0, int64(1), false},
		{integer, 1.6, int64(2), true},
		{integer, " 12 ", int64(12), true},
		{integer, "soon", nil, true},
		{integer, 1e300, nil, true},
		{boolean, int64(1), true, false},
		{boolean, int64(2), true, true},
		{boolean, "False", false, true},
		{boolean, "perhaps", nil, true},
		{document, int64(3), "3", false},
		{document, 1e22, "1e+22", false},
		{document, math.Inf(-1), "-1e999", false},
		{day, "1990-01-02", "1990-01-02", false},
		{day, "1990-01-02 03:04:05", "1990-01-02", true},
		{day, "1990-13-02", nil, true},
		{moment, "2024-01-02 03:04:05", "2024-01-02 03:04:05", false},
		{moment, "2024-01-02 03:04:05.120000", "2024-01-02 03:04:05.12", false},
		{binaryData, []byte{0, 255}, []byte{0, 255}, false},
		{binaryData, "text", []byte("text"), true},
		{float, int64(2), 2.0, false},
		{float, "x", nil, true},
	} {
		got, changed := (&pair{kind: c.kind}).toPostgres(c.in)
		if !reflect.DeepEqual(got, c.want) || changed != c.changed {
			t.Errorf("kind %d, %#v: %#v, %v", c.kind, c.in, got, changed)
		}
	}
	must := &pair{kind: integer, to: column{notNull: true}}
	if v, changed := must.toPostgres("soon"); v != int64(0) || !changed {
		t.Errorf("a column that must have a value got %v", v)
	}
	short := &pair{kind: text, to: column{length: 3}}
	if v, changed := short.toPostgres("äöüß"); v != "äöü" || !changed {
		t.Errorf("a column of three characters got %v", v)
	}
}

// TestColumns holds the two schemas against each other: each table has the same columns of the same kinds, and a key that
// sorts the same way on both.
func TestColumns(t *testing.T) {
	read := func(db *store.DB) map[string]*table {
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
	lite, pg := read(storetest.SQLite(t)), read(storetest.Postgres(t))
	if len(lite) != len(pg) || len(lite) < 40 {
		t.Errorf("%d and %d tables", len(lite), len(pg))
	}
	plans, missing, err := makePlans(lite, pg, store.SQLite, store.Postgres)
	if err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	for _, p := range plans {
		if p.key == nil {
			t.Errorf("%s has no key", p.name)
		}
		if len(p.columns) != len(pg[p.name].columns) {
			t.Errorf("%s: %d columns of %d", p.name, len(p.columns), len(pg[p.name].columns))
		}
		for _, c := range p.columns {
			if c.from.kind != c.to.kind || c.kind == other {
				t.Errorf("%s.%s is %s and %s", p.name, c.name, c.from.typ, c.to.typ)
			}
		}
	}
}
