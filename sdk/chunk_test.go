package sdk

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestEncode(t *testing.T) {
	const head = `{"id":"i\"d","object":"chat.completion.chunk","created":7,"model":"m","choices":[`
	for _, c := range []struct {
		name string
		in   Chunk
		want string
	}{
		{"text", Chunk{Text: "a<b>\n\u2028é"}, head + `{"index":0,"delta":{"content":"a<b>\n\u2028é"},"finish_reason":null}]}`},
		{"reasoning before text", Chunk{Text: "t", Reasoning: "r"}, head + `{"index":0,"delta":{"reasoning_content":"r","content":"t"},"finish_reason":null}]}`},
		{"finish", Chunk{FinishReason: "length"}, head + `{"index":0,"delta":{},"finish_reason":"length"}]}`},
		{"usage alone", Chunk{Usage: &Usage{1, 2, 3}}, head + `],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`},
		{"tool calls", Chunk{ToolCalls: []ToolCallDelta{{0, "c1", "f", `{"a"`}, {1, "", "", `:1}`}}},
			head + `{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\""}},{"index":1,"function":{"arguments":":1}"}}]},"finish_reason":null}]}`},
		{"raw", Chunk{Raw: json.RawMessage(`{"choices":[{"finish_reason":"stop"}]}`), Text: "not looked at"}, `{"choices":[{"finish_reason":"stop"}]}`},
	} {
		e := newChunkEncoder(`i"d`, "m", 7)
		if got := string(e.encode(&c.in)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if want := c.name == "finish" || c.name == "raw"; e.finished != want {
			t.Errorf("%s: finished is %v", c.name, e.finished)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("id", "model", "text", "reason", "call", "args", "stop", 1)
	f.Add("\xff", "\"\\", "\x00\x7f", "\u2028", "", "\xed\xa0\x80", "", -1)
	f.Fuzz(func(t *testing.T, id, model, text, reasoning, call, args, finish string, n int) {
		c := Chunk{Text: text, Reasoning: reasoning, FinishReason: finish, Usage: &Usage{PromptTokens: n}}
		if call != "" {
			c.ToolCalls = []ToolCallDelta{{ID: call, Name: call, Arguments: args}}
		}
		raw := newChunkEncoder(id, model, int64(n)).encode(&c)
		back, err := decodeChunk(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if back.Text != clean(text) || back.Reasoning != clean(reasoning) || back.FinishReason != clean(finish) || len(back.ToolCalls) != len(c.ToolCalls) || back.Usage.PromptTokens != n {
			t.Errorf("%+v became %s", c, raw)
		}
		// a filter that changes the text gives JSON too
		out, err := through(StreamFunc(func(c Chunk) ([]Chunk, error) { c.Text += text + "x"; return []Chunk{c, {Text: text}}, nil }), raw)
		if err != nil || len(out) == 0 || !json.Valid(out[0]) {
			t.Errorf("%s: %q, %v", raw, out, err)
		}
	})
}

// clean is a text as JSON carries it: every byte that is not UTF-8 replaced.
func clean(s string) string { return string([]rune(s)) }

func TestThrough(t *testing.T) {
	const raw = `{"id":"1","model":"m","created":5, "choices":[{"index":0,"delta":{"role":"assistant","content":"secret <word>","annotations":[1]},"finish_reason":null,"logprobs":{}},{"index":1}],"system_fingerprint":"f","usage":null}`
	const withCalls = `{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"},"extra":1}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"details":{}}}`
	change := func(f func(*Chunk)) StreamFunc {
		return func(c Chunk) ([]Chunk, error) { f(&c); return []Chunk{c}, nil }
	}
	for name, c := range map[string]struct {
		raw  string
		f    StreamFunc
		want []string
	}{
		"unchanged":   {raw, change(func(*Chunk) {}), []string{raw}},
		"not a chunk": {`{"choices":"none"}`, change(func(c *Chunk) { c.Text = "x" }), []string{`{"choices":"none"}`}},
		"dropped":     {raw, func(Chunk) ([]Chunk, error) { return nil, nil }, nil},
		"emptied":     {raw, func(Chunk) ([]Chunk, error) { return []Chunk{{}}, nil }, nil},
		"text": {raw, change(func(c *Chunk) { c.Text = "public <word>" }),
			[]string{`{"id":"1","model":"m","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":"public <word>","annotations":[1]},"finish_reason":null,"logprobs":{}},{"index":1}],"system_fingerprint":"f","usage":null}`}},
		"finish and usage": {raw, change(func(c *Chunk) { c.FinishReason, c.Usage = "stop", &Usage{1, 1, 2} }),
			[]string{`{"id":"1","model":"m","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":"secret <word>","annotations":[1]},"finish_reason":"stop","logprobs":{}},{"index":1}],"system_fingerprint":"f","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`}},
		"more after it": {raw, func(c Chunk) ([]Chunk, error) { return []Chunk{c, {Text: "!"}}, nil },
			[]string{raw, `{"id":"1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":"!"},"finish_reason":null}]}`}},
		"made anew": {raw, func(Chunk) ([]Chunk, error) { return []Chunk{{Raw: json.RawMessage(`{"choices":[]}`)}}, nil }, []string{`{"choices":[]}`}},
		"no delta": {`{"id":"1","choices":[]}`, change(func(c *Chunk) { c.Text = "x" }),
			[]string{`{"id":"1","object":"chat.completion.chunk","created":0,"model":"","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`}},
		"arguments written to in place": {withCalls, change(func(c *Chunk) { c.ToolCalls[0].Arguments = "[]" }),
			[]string{`{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"[]"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"details":{}}}`}},
		"calls, reasoning, finish and usage away": {withCalls, change(func(c *Chunk) { c.ToolCalls, c.Reasoning, c.FinishReason, c.Usage = nil, "", "", nil }),
			[]string{`{"choices":[{"delta":{"reasoning":"","reasoning_content":""},"finish_reason":null}]}`}},
		"usage written to in place": {`{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}`, change(func(c *Chunk) { c.Usage.PromptTokens = 2 }),
			[]string{`{"choices":[{"delta":{}}],"usage":{"prompt_tokens":2,"completion_tokens":0,"total_tokens":0}}`}},
	} {
		out, err := through(c.f, []byte(c.raw))
		var got []string
		for _, o := range out {
			got = append(got, string(o))
		}
		if err != nil || strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	boom := errors.New("boom")
	if _, err := through(StreamFunc(func(Chunk) ([]Chunk, error) { return nil, boom }), []byte(raw)); !errors.Is(err, boom) {
		t.Error(err)
	}
}

func BenchmarkEncode(b *testing.B) {
	e := newChunkEncoder("chatcmpl-1", "m", 1)
	c := Chunk{Text: "hello "}
	b.ReportAllocs()
	for b.Loop() {
		e.encode(&c)
	}
}
