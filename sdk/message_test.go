package sdk

import (
	"encoding/json"
	"math"
	"testing"
)

func TestMessage(t *testing.T) {
	for _, c := range []struct{ in, text, role string }{
		{`{"role":"user","content":"a < b & \"c\""}`, `a < b & "c"`, "user"},
		{`{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"b"}],"role":"user","name":"n"}`, "ab", "user"},
		{`{"role":"assistant","content":null,"tool_calls":[{"id":"1","n":12345678901234567890}]}`, "", "assistant"},
		{`{"role":"tool","tool_call_id":"1"}`, "", "tool"},
		{`{"x":1.0,"role":null,"content":"\ud800"}`, "\uFFFD", ""},
		{`{}`, "", ""},
	} {
		var m Message
		if err := json.Unmarshal([]byte(c.in), &m); err != nil {
			t.Fatal(err)
		}
		if m.Text() != c.text || m.Role != c.role {
			t.Errorf("%s: %q of %q", c.in, m.Text(), m.Role)
		}
		if got, err := marshal(m); err != nil || string(got) != c.in {
			t.Errorf("%s became %s, %v", c.in, got, err)
		}
	}
	m := AssistantMessage("hi <b>")
	other := m
	if err := m.Set("tool_calls", []int{1}); err != nil {
		t.Fatal(err)
	}
	var calls []int
	if !m.Get("tool_calls", &calls) || len(calls) != 1 || other.Get("tool_calls", &calls) {
		t.Errorf("%v, copy %v", calls, other)
	}
	if got, _ := marshal(m); string(got) != `{"tool_calls":[1],"role":"assistant","content":"hi <b>"}` {
		t.Errorf("%s", got)
	}
	if m.Set("x", math.NaN()) == nil {
		t.Error("NaN was taken")
	}
	for _, bad := range []string{`1`, `"x"`, `null`, `[]`} {
		if ms := NewBody([]byte(`{"messages":[{"role":"user"},` + bad + `]}`)).Messages(); ms != nil {
			t.Errorf("%s: %v", bad, ms)
		}
	}
	// a list that is read into again keeps nothing of before
	ms := []Message{UserMessage("old")}
	if err := json.Unmarshal([]byte(`[{"content":"new"}]`), &ms); err != nil || ms[0].Role != "" || ms[0].Text() != "new" {
		t.Errorf("%+v, %v", ms, err)
	}
}

func TestBody(t *testing.T) {
	const text = `{"model":"m", "messages":[{"role":"user","content":"<hi>","x":1}],"n":1e400,"big":12345678901234567890,"a<b":true}`
	b := NewBody([]byte(text))
	ms := b.Messages()
	if b.Changed() || string(b.Raw()) != text || len(ms) != 1 || ms[0].Text() != "<hi>" {
		t.Fatalf("%s, %v", b.Raw(), ms)
	}
	b.SetMessages(append(ms, AssistantMessage("ok")))
	b.Set("model", "other")
	b.Set("new", map[string]string{"k": "<v>"})
	b.Delete("absent")
	want := `{"model":"other","messages":[{"role":"user","content":"<hi>","x":1},{"role":"assistant","content":"ok"}],"n":1e400,"big":12345678901234567890,"a<b":true,"new":{"k":"<v>"}}`
	if got := string(b.Raw()); got != want || !b.Changed() || b.Err() != nil {
		t.Errorf(" got %s\nwant %s (%v)", got, want, b.Err())
	}
	if got, err := marshal(&ChatRequest{Body: b}); err != nil || string(got) != want {
		t.Errorf("as JSON: %s, %v", got, err)
	}
	for name, change := range map[string]func(*Body){
		"a value that JSON does not know": func(b *Body) { b.Set("n", math.NaN()) },
		"a message that is no JSON":       func(b *Body) { b.SetMessages([]Message{{Role: "user", Content: json.RawMessage(`{`)}}) },
	} {
		b := NewBody([]byte(text))
		change(b)
		if b.Err() == nil || string(b.Raw()) != text {
			t.Errorf("%s: %v, %s", name, b.Err(), b.Raw())
		}
	}
	for _, bad := range []string{``, `[]`, `{"a":NaN}`, `{"a":1`, `{"a":1} {}`} {
		b := NewBody([]byte(bad))
		var v any
		if b.Get("a", &v) || b.Err() != nil {
			t.Errorf("%q: got %v, %v", bad, v, b.Err())
		}
		b.Set("b", 1)
		if b.Err() == nil || string(b.Raw()) != bad {
			t.Errorf("%q was changed to %s", bad, b.Raw())
		}
	}
	if got := NewBody([]byte(`{"a":1,"a":2}`)); true {
		got.Set("b", 3)
		if string(got.Raw()) != `{"a":2,"b":3}` {
			t.Errorf("%s", got.Raw())
		}
	}
}
