package jsondoc

import (
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
