package jsondoc

import (
	"math"
	"strings"
	"testing"
)

func TestGetAndSet(t *testing.T) {
	d := Doc(`{"a": {"b": [1, "two", null]}, "n": 5, "s": "x\ny", "é": true}`)
	for path, want := range map[[3]string]string{
		{"a", "b", "1"}: `"two"`, {"a", "b", "2"}: "null", {"a", "b", "3"}: "", {"a", "x", ""}: "", {"n", "x", ""}: "",
	} {
		p := path[:]
		for len(p) > 0 && p[len(p)-1] == "" {
			p = p[:len(p)-1]
		}
		if got := string(d.Get(p...)); got != want {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
	}
	if d.Text("s") != "x\ny" || !d.Bool("é") {
		t.Error("text or bool")
	}
	if n, ok := d.Int("n"); n != 5 || !ok {
		t.Error(n, ok)
	}
	for _, c := range []struct {
		path  []string
		value string
		want  string
	}{
		{[]string{"n"}, "6", `{"a": {"b": [1, "two", null]}, "n": 6, "s": "x\ny", "é": true}`},
		{[]string{"a", "c", "d"}, `"v"`, `{"a": {"b": [1, "two", null],"c":{"d":"v"}}, "n": 5, "s": "x\ny", "é": true}`},
		{[]string{"n", "d"}, `1`, `{"a": {"b": [1, "two", null]}, "n": {"d":1}, "s": "x\ny", "é": true}`},
	} {
		if got := string(d.Set(Doc(c.value), c.path...)); got != c.want {
			t.Errorf("%v: %s", c.path, got)
		}
	}
	if got := string(Doc(`{ }`).Set(Doc("1"), "a")); got != `{ "a":1}` {
		t.Error(got)
	}
	if got := string(Doc(nil).Set(Doc("1"), "a", "b")); got != `{"a":{"b":1}}` {
		t.Error(got)
	}
	if got := string(Doc(`{"a":1,"b":{"c":1,"d":2}}`).Delete("b", "c")); got != `{"a":1,"b":{"d":2}}` {
		t.Error(got)
	}
}

func TestMerge(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":1,"b":2}`, `{"b":3,"c":4}`, `{"a":1,"b":3,"c":4}`},
		{`{}`, `{"b":3}`, `{"b":3}`},
		{`null`, `{"b":3}`, `{"b":3}`},
		{`{"a":1}`, `7`, `{"a":1}`},
		{`{"a":1,"a":2}`, `{"a":3}`, `{"a":3}`},
	} {
		if got := string(Doc(c[0]).Merge(Doc(c[1]))); got != c[2] {
			t.Errorf("%s + %s = %s", c[0], c[1], got)
		}
	}
}

func TestEachKeepsBytes(t *testing.T) {
	d := Doc(`{"one": 1.0, "two" : {"x":[ ]}, "three":"\ud800"}`)
	got := ""
	d.Each(func(name string, v Doc) bool { got += name + "=" + string(v) + ";"; return true })
	if got != `one=1.0;two={"x":[ ]};three="\ud800";` {
		t.Error(got)
	}
	got = ""
	Doc(`[1, {"a":2} ,"z"]`).Items(func(_ int, v Doc) bool { got += string(v) + ";"; return true })
	if got != `1;{"a":2};"z";` {
		t.Error(got)
	}
}

func TestTruthy(t *testing.T) {
	for in, want := range map[string]bool{"": false, "null": false, "0": false, "0.00": false, `""`: false, "[]": false, "{ }": false, "false": false,
		"1": true, `"0"`: true, "[0]": true, `{"a":null}`: true, "true": true, "-2": true} {
		if Doc(in).Truthy() != want {
			t.Errorf("%q", in)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), "a", "b")
	f.Fuzz(func(t *testing.T, raw []byte, a, b string) {
		if Valid(raw) != nil {
			return
		}
		d := Doc(raw).Set(Doc("[7]"), a, b)
		if err := Valid(d); err != nil {
			t.Fatalf("%q -> %q: %v", raw, d, err)
		}
	})
}

func TestCheckSpeaksPython(t *testing.T) {
	for _, c := range []struct {
		in, msg string
		pos     int
	}{
		{"", "Expecting value", 0}, {"  ", "Expecting value", 2}, {"{", "Expecting property name enclosed in double quotes", 1},
		{"{broken", "Expecting property name enclosed in double quotes", 1}, {`{"a"}`, "Expecting ':' delimiter", 4},
		{`{"a": }`, "Expecting value", 6}, {`{"a":1,}`, "Expecting property name enclosed in double quotes", 7},
		{`[1,]`, "Expecting value", 3}, {`[1 2]`, "Expecting ',' delimiter", 3}, {`{} x`, "Extra data", 3}, {"01", "Extra data", 1},
		{`"abc`, "Unterminated string starting at", 0}, {"\"é\n\"", "Invalid control character at", 2}, {`"\x"`, `Invalid \escape`, 1},
		{`"\u12"`, `Invalid \uXXXX escape`, 2}, {`"\u1234`, `Invalid \uXXXX escape`, 2}, {"-", "Expecting value", 0}, {"1.", "Extra data", 1}, {"nul", "Expecting value", 0},
	} {
		_, err := Check([]byte(c.in))
		if err == nil || err.Msg != c.msg || err.Pos != c.pos {
			t.Errorf("%q: %+v", c.in, err)
		}
	}
	for in, want := range map[string]string{
		` {"a": NaN, "b":[-Infinity,Infinity ], "a":1} `: `{"a": null, "b":[null,null ], "a":1}`,
		`"\ud800"`: `"\ud800"`, "1e5": "1e5", "-0.5E-3": "-0.5E-3", "[]": "[]", "{ }": "{ }",
	} {
		got, err := Check([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %s %v", in, got, err)
		}
	}
	deep := make([]byte, 5000)
	for i := range deep {
		deep[i] = '['
	}
	if _, err := Check(deep); err == nil || err.Msg != ErrDepth {
		t.Error(err)
	}
}

func FuzzSkim(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\\\""}]}`, `[`, `{"`, `{"a":"\`, `{"a" 1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := Doc(raw)
		d.Get("a", "b", "0")
		_, err := Check(raw)
		n := 0
		d.Each(func(_ string, v Doc) bool {
			n++
			if err == nil {
				if _, e := Check(v); e != nil {
					t.Fatalf("%q: member %q: %v", raw, v, e)
				}
			}
			return true
		})
	})
}

func BenchmarkCheck(b *testing.B) {
	doc := []byte(`{"messages":[`)
	for range 200 {
		doc = append(doc, `{"id":"00000000-0000-4000-8000-000000000000","content":"a plain word or two a plain word or two a plain word or two a plain word or two","n":17},`...)
	}
	doc = append(doc, `1]}`...)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := Check(doc); err != nil {
			b.Fatal(err)
		}
	}
}

func TestScan(t *testing.T) {
	for _, tt := range []struct {
		stored any
		want   string
	}{
		{nil, "null"}, {"null", "null"}, {`{"a": 1}`, `{"a": 1}`}, {[]byte("[]"), "[]"}, {int64(5), "5"}, {5.5, "5.5"}, {math.Inf(1), "1.7976931348623157e308"}, {true, "true"},
		{`{"a": NaN, "b": "NaN"}`, `{"a": null, "b": "NaN"}`}, {"no JSON", "null"}, {"", "null"}, {`{"a":`, "null"},
		{`{"a":"` + strings.Repeat("x", checked) + `","b":-Infinity}`, `{"a":"` + strings.Repeat("x", checked) + `","b":null}`},
	} {
		var d Doc
		if err := d.Scan(tt.stored); err != nil || !Same(Doc(d.String()), Doc(tt.want)) {
			t.Errorf("%.40v: %.40s %v, want %.40s", tt.stored, d, err, tt.want)
		}
	}
	var d Doc
	if err := d.Scan(struct{}{}); err == nil {
		t.Error("a struct is scanned")
	}
}
