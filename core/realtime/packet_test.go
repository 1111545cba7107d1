package realtime

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestParsePacket(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want inbound // data compared apart
		data string
		bad  bool
	}{
		{in: `0`, want: inbound{kind: '0', namespace: "/", id: noAck}},
		{in: `0{"token":"x"}`, want: inbound{kind: '0', namespace: "/", id: noAck}, data: `{"token":"x"}`},
		{in: `0/admin,{}`, want: inbound{kind: '0', namespace: "/admin", id: noAck}, data: `{}`},
		{in: `0/admin?a=b,`, want: inbound{kind: '0', namespace: "/admin", id: noAck}},
		{in: `0/admin`, want: inbound{kind: '0', namespace: "/admin", id: noAck}},
		{in: `1`, want: inbound{kind: '1', namespace: "/", id: noAck}},
		{in: `2["a"]`, want: inbound{kind: '2', namespace: "/", id: noAck}, data: `["a"]`},
		{in: `217["a",1]`, want: inbound{kind: '2', namespace: "/", id: 17}, data: `["a",1]`},
		{in: `2/x,0["a"]`, want: inbound{kind: '2', namespace: "/x", id: 0}, data: `["a"]`},
		{in: `35[]`, want: inbound{kind: '3', namespace: "/", id: 5}, data: `[]`},
		{in: `52-["a",{}]`, want: inbound{kind: '5', namespace: "/", id: noAck, attachments: 2}, data: `["a",{}]`},
		{in: `51-/x,7["a"]`, want: inbound{kind: '5', namespace: "/x", id: 7, attachments: 1}, data: `["a"]`},
		{in: `61-3[{}]`, want: inbound{kind: '6', namespace: "/", id: 3, attachments: 1}, data: `[{}]`},
		{in: ``, bad: true},
		{in: `7[]`, bad: true},
		{in: `x`, bad: true},
		{in: `2`, bad: true},
		{in: `2{}`, bad: true},
		{in: `3[]`, bad: true},
		{in: `5["a"]`, bad: true},
		{in: `5-["a"]`, bad: true},
		{in: `5999999999-["a"]`, bad: true},
		{in: `5257-["a"]`, bad: true},
		{in: `2` + strings.Repeat("1", 19) + `["a"]`, bad: true},
	} {
		got, err := parsePacket([]byte(tc.in))
		if tc.bad {
			if !errors.Is(err, errMalformed) {
				t.Errorf("%q: error %v, want malformed", tc.in, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
			continue
		}
		data := string(got.data)
		got.data = nil
		if got.kind != tc.want.kind || got.namespace != tc.want.namespace || got.id != tc.want.id ||
			got.attachments != tc.want.attachments || data != tc.data {
			t.Errorf("%q: got %+v data %q", tc.in, got, data)
		}
	}
}

func TestSplitEvent(t *testing.T) {
	for _, tc := range []struct {
		in, name string
		args     []string
		bad      bool
	}{
		{in: `["a"]`, name: "a"},
		{in: ` [ "a b\u00e9" , {"x": [1, 2]} , null,"s" ] `, name: "a bé", args: []string{`{"x": [1, 2]}`, `null`, `"s"`}},
		{in: `["a",{"x":1,"x":2}]`, name: "a", args: []string{`{"x":1,"x":2}`}},
		{in: `["a","\ud800"]`, name: "a", args: []string{`"\ud800"`}},
		{in: "[\"a\",\"\xff\"]", name: "a", args: []string{"\"\xff\""}},
		{in: `[]`, bad: true},
		{in: `[1]`, bad: true},
		{in: `["a"`, bad: true},
		{in: `["a",]`, bad: true},
		{in: `["a"]x`, bad: true},
		{in: `["a"][]`, bad: true},
		{in: strings.Repeat("[", 20000), bad: true},
	} {
		name, args, err := splitEvent([]byte(tc.in))
		if tc.bad {
			if !errors.Is(err, errMalformed) {
				t.Errorf("%.40q: error %v, want malformed", tc.in, err)
			}
			continue
		}
		if err != nil || name != tc.name || len(args) != len(tc.args) {
			t.Errorf("%q: %q %q %v", tc.in, name, args, err)
			continue
		}
		for i := range args {
			if string(args[i]) != tc.args[i] {
				t.Errorf("%q: argument %d is %q, want %q", tc.in, i, args[i], tc.args[i])
			}
		}
	}
}

func TestFillAttachments(t *testing.T) {
	parts := [][]byte{{0, 7, 255}, {}}
	for _, tc := range []struct {
		in, want string
		bad      bool
	}{
		{in: `["u",{"_placeholder":true,"num":0}]`, want: `["u",[0,7,255]]`},
		{in: `["u",{"a":{"_placeholder":true,"num":1},"b":[{"_placeholder":true,"num":0},{}]}]`, want: `["u",{"a":[],"b":[[0,7,255],{}]}]`},
		{in: `["u",{"_placeholder":true,"x":{"num":9},"num":0}]`, want: `["u",[0,7,255]]`},
		{in: `["u",{"_placeholder":false,"num":0}]`, want: `["u",{"_placeholder":false,"num":0}]`},
		{in: `["u",{"a":1.50,"b":"é\u0001"}]`, want: `["u",{"a":1.50,"b":"é\u0001"}]`},
		{in: `["u",{"_placeholder":true,"num":2}]`, bad: true},
		{in: `["u",{"_placeholder":true,"num":-1}]`, bad: true},
		{in: `["u",{"_placeholder":true,"num":"0"}]`, bad: true},
		{in: `["u",{"_placeholder":true}]`, bad: true},
		{in: `["u",{"_placeholder":true`, bad: true},
		{in: `["u",{"a"]`, bad: true},
	} {
		got, err := fillAttachments([]byte(tc.in), parts)
		if tc.bad {
			if !errors.Is(err, errMalformed) {
				t.Errorf("%q: %q, error %v, want malformed", tc.in, got, err)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%q: %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
}

func TestEncode(t *testing.T) {
	type in struct {
		A []string `json:"a"`
		B string   `json:"b"`
	}
	for _, tc := range []struct {
		args []any
		want string
	}{
		{nil, `42["e"]`},
		{[]any{in{B: "<é>"}}, `42["e",{"a":[],"b":"<é>"}]`},
		{[]any{1, nil, "x"}, `42["e",1,null,"x"]`},
		{[]any{"\xff"}, `42["e","` + "\uFFFD" + `"]`},
		{[]any{jsontext.Value(`{"x":1}`)}, `42["e",{"x":1}]`},
	} {
		p, err := Encode("e", tc.args...)
		if err != nil || string(p.Bytes()) != tc.want {
			t.Errorf("%v: %s, %v; want %s", tc.args, p.Bytes(), err, tc.want)
		}
	}
	if _, err := Encode("e", func() {}); err == nil {
		t.Error("a function was encoded")
	}
	for _, tc := range []struct{ event, payload, want string }{
		{"events", `{"a":1}`, `42["events",{"a":1}]`},
		{"x", ``, `42["x"]`},
		{`a"b`, `1`, `42["a\"b",1]`},
		{"é", "\"\xff\"", `42["é","` + "\uFFFD" + `"]`},
	} {
		if got := string(EncodeEvent(tc.event, []byte(tc.payload)).Bytes()); got != tc.want {
			t.Errorf("EncodeEvent(%q, %q) = %s, want %s", tc.event, tc.payload, got, tc.want)
		}
	}
}

func TestFrameSizes(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		text := strings.Repeat("x", n)
		p := RawPacket([]byte(text))
		if string(p.Bytes()) != text {
			t.Errorf("%d bytes: text lost", n)
		}
		if cap(p.frame) != len(p.frame) && n > 0 && cap(p.frame)-len(p.frame) > n/4+32 {
			t.Errorf("%d bytes: frame of %d has capacity %d", n, len(p.frame), cap(p.frame))
		}
	}
}

// FuzzPacket feeds the decoder what a hostile client might send; whatever it
// accepts must survive being encoded and decoded again.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{`0{"token":"x"}`, `2["a",{"b":[1]}]`, `21["a"]`, `31[]`, `1`, `0/x?y,`, `51-["u",{"_placeholder":true,"num":0}]`,
		`61-2[{"_placeholder":true,"num":0}]`, `5`, `2[`, `44`, `2["\ud800"]`} {
		f.Add([]byte(s), []byte{1, 2})
	}
	f.Fuzz(func(t *testing.T, b, part []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		tokenOf(p.data)
		data := p.data
		if p.attachments > 0 {
			parts := make([][]byte, p.attachments)
			for i := range parts {
				parts[i] = part
			}
			if data, err = fillAttachments(data, parts); err != nil {
				return
			}
			if !jsontext.Value(data).IsValid(lenient...) {
				t.Fatalf("%q: filled to invalid JSON %q", b, data)
			}
		}
		name, args, err := splitEvent(data)
		if err != nil {
			return
		}
		again := make([]any, len(args))
		for i, a := range args {
			again[i] = a
		}
		out, err := Encode(name, again...)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		q, err := parsePacket(out.Bytes()[1:])
		if err != nil {
			t.Fatalf("%q encoded as %q: %v", b, out.Bytes(), err)
		}
		name2, args2, err := splitEvent(q.data)
		if err != nil || name2 != name || len(args2) != len(args) {
			t.Fatalf("%q encoded as %q: %q %q %v", b, out.Bytes(), name2, args2, err)
		}
	})
}
