package llm

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
)

// summary is what a test compares of a chunk.
type summary struct {
	content, reasoning, finish, usage, errText, typ string
	choices                                         int
	plain                                           bool
}

func summarize(c *Chunk) summary {
	return summary{c.Content, c.Reasoning, c.FinishReason, string(c.Usage), string(c.Error), c.Type, c.Choices, c.Plain}
}

func rawStream(r io.Reader) *Response {
	return NewRawStream(200, http.Header{"Content-Type": {"text/event-stream"}}, io.NopCloser(r))
}

func text(s string) summary { return summary{content: s, choices: 1} }

func TestChunks(t *testing.T) {
	const a, b = `{"choices":[{"delta":{"content":"a"}}]}`, `{"choices":[{"delta":{"content":"b"}}]}`
	tests := []struct {
		name, in string
		want     []summary
	}{
		{"plain", "data: " + a + "\n\ndata: " + b + "\n\ndata: [DONE]\n\n", []summary{text("a"), text("b")}},
		{"no space", "data:" + a + "\n\ndata:" + b + "\n\ndata:[DONE]\n\n", []summary{text("a"), text("b")}},
		{"CRLF", "data: " + a + "\r\n\r\ndata: " + b + "\r\n\r\ndata: [DONE]\r\n\r\n", []summary{text("a"), text("b")}},
		{"no blank lines", "data: " + a + "\ndata: " + b + "\ndata: [DONE]\n", []summary{text("a"), text("b")}},
		{"no end of line at the end", "data: " + a, []summary{text("a")}},
		{"no DONE", "data: " + a + "\n\n", []summary{text("a")}},
		{"nothing after DONE", "data: [DONE]\n\ndata: " + a + "\n\n", nil},
		{"comments and fields", ": keep-alive\n\nevent: x\nid: 3\nretry: 5\ndata: " + a + "\n\n:\n\n", []summary{text("a")}},
		{"byte order mark", "\xef\xbb\xbfdata: " + a + "\n\n", []summary{text("a")}},
		{"multi-line", "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\ndata: " + b + "\n\n", []summary{text("a"), text("b")}},
		{"multi-line at the end", "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}", []summary{text("a")}},
		{"empty data", "data:\n\ndata: \n\ndata: " + a + "\n\n", []summary{text("a")}},
		{"broken JSON is skipped", "data: {oops}\n\ndata: " + a + "}\n\ndata: " + a + " x\n\ndata: {\"choices\":[\n\ndata: " + b + "\n\n", []summary{text("b")}},
		{"other JSON is skipped", "data: 1\n\ndata: [1]\n\ndata: null\n\ndata: " + b + "\n\n", []summary{text("b")}},
		{"reasoning_content", `data: {"choices":[{"delta":{"reasoning_content":"r","content":null}}]}` + "\n\n", []summary{{reasoning: "r", choices: 1}}},
		{"reasoning", `data: {"choices":[{"delta":{"reasoning":"r"}}]}` + "\n\n", []summary{{reasoning: "r", choices: 1}}},
		{"thinking", `data: {"choices":[{"delta":{"thinking":"r","reasoning":""}}]}` + "\n\n", []summary{{reasoning: "r", choices: 1}}},
		{"reasoning order", `data: {"choices":[{"delta":{"thinking":"3","reasoning":"2","reasoning_content":"1"}}]}` + "\n\n", []summary{{reasoning: "1", choices: 1}}},
		{"finish", `data: {"choices":[{"finish_reason":"stop","delta":{}}]}` + "\n\n", []summary{{finish: "stop", choices: 1}}},
		{"usage only", `data: {"choices":[],"usage":{"prompt_tokens":1}}` + "\n\n", []summary{{usage: `{"prompt_tokens":1}`}}},
		{"usage null", `data: {"choices":[{"delta":{"content":"a"}}],"usage":null}` + "\n\n", []summary{text("a")}},
		{"choices null", `data: {"choices":null,"error":{"message":"x"}}` + "\n\n", []summary{{errText: `{"message":"x"}`}}},
		{"error string", `data: {"error":"x"}` + "\n\n", []summary{{errText: `"x"`}}},
		{"bare JSON error", `{"error":{"message":"x"}}` + "\n" + "data: " + a + "\n\n", []summary{{errText: `{"message":"x"}`, plain: true}, text("a")}},
		{"bare JSON else is skipped", a + "\n<html>\ndata: " + b + "\n\n", []summary{text("b")}},
		{"responses event", `data: {"type":"response.output_text.delta","delta":"x"}` + "\n\n", []summary{{typ: "response.output_text.delta"}}},
		{"content of another kind", `data: {"choices":[{"delta":{"content":{"a":1}}}]}` + "\n\n", []summary{text(`{"a":1}`)}},
		{"second choice ignored", `data: {"choices":[{"delta":{"content":"a"}},{"delta":{"content":"z"}}]}` + "\n\n", []summary{{content: "a", choices: 2}}},
		{"escapes", `data: {"choices":[{"delta":{"content":"\u00e9\n\"😀"}}]}` + "\n\n", []summary{text("é\n\"😀")}},
		{"delta null", `data: {"choices":[{"delta":null,"finish_reason":"stop"}]}` + "\n\n", []summary{{finish: "stop", choices: 1}}},
		{"odd choice", `data: {"choices":[null]}` + "\n\n", []summary{{choices: 1}}},
		{"duplicate names", `data: {"x":1,"x":2,"choices":[{"delta":{"content":"a"}}]}` + "\n\n", []summary{text("a")}},
		{"html", "<html>not json</html>", nil},
		{"empty", "", nil},
	}
	for _, tt := range tests {
		for how, r := range map[string]io.Reader{
			"whole": strings.NewReader(tt.in), "by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
			"with EOF": iotest.DataErrReader(strings.NewReader(tt.in)),
		} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				var got []summary
				for c, err := range rawStream(r).Chunks() {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, summarize(c))
				}
				if len(got) != len(tt.want) {
					t.Fatalf("got %d chunks %+v, want %+v", len(got), got, tt.want)
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Errorf("chunk %d: got %+v want %+v", i, got[i], tt.want[i])
					}
				}
			})
		}
	}
}

func TestToolCallDeltas(t *testing.T) {
	in := `{"choices":[{"delta":{"tool_calls":[
		{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}},
		{"index":1,"function":{"arguments":"{\"a\":"}},
		{"index":null,"function":{"name":"g","arguments":{"x":1}}},
		{"index":2,"function":null},
		7]}}]}`
	var c Chunk
	if err := new(Decoder).Decode([]byte(in), &c); err != nil {
		t.Fatal(err)
	}
	want := []ToolCallDelta{
		{Index: 0, HasIndex: true, ID: "call_1", Name: "f", HasArguments: true},
		{Index: 1, HasIndex: true, Arguments: `{"a":`, HasArguments: true},
		{Name: "g", Arguments: `{"x":1}`, HasArguments: true},
		{Index: 2, HasIndex: true},
	}
	if len(c.ToolCalls) != len(want) {
		t.Fatalf("got %+v", c.ToolCalls)
	}
	for i, got := range c.ToolCalls {
		if got.Raw == nil {
			t.Errorf("call %d has no raw text", i)
		}
		got.Raw = nil
		if w := want[i]; got.Index != w.Index || got.HasIndex != w.HasIndex || got.ID != w.ID || got.Name != w.Name ||
			got.Arguments != w.Arguments || got.HasArguments != w.HasArguments {
			t.Errorf("call %d: got %+v want %+v", i, got, w)
		}
	}
}

func TestDecodeKeepsUnknownFields(t *testing.T) {
	in := `{"x_vendor":{"a":[1]},"choices":[{"delta":{"content":"hi","annotations":[{"type":"url_citation"}],"images":[{"u":1}],` +
		`"reasoning_details":[{"text":"t"}]},"logprobs":{"z":0}}],"timings":{"prompt_n":3},"event":{"type":"status"},"selected_model_id":"m"}`
	var c Chunk
	if err := new(Decoder).Decode([]byte(in), &c); err != nil {
		t.Fatal(err)
	}
	if string(c.Raw) != in {
		t.Errorf("Raw = %s", c.Raw)
	}
	for name, got := range map[string][2]string{
		"annotations": {string(c.Annotations), `[{"type":"url_citation"}]`}, "images": {string(c.Images), `[{"u":1}]`},
		"reasoning_details": {string(c.ReasoningDetails), `[{"text":"t"}]`}, "timings": {string(c.Timings), `{"prompt_n":3}`},
		"event": {string(c.Event), `{"type":"status"}`}, "selected": {c.SelectedModelID, "m"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", name, got[0], got[1])
		}
	}
}

func TestDecodeCompletion(t *testing.T) {
	var c Chunk
	err := new(Decoder).Decode([]byte(`{"choices":[{"message":{"role":"assistant","content":"hi","reasoning_content":"r"},"finish_reason":"stop"}],"usage":{"completion_tokens":2}}`), &c)
	if err != nil || c.Content != "hi" || c.Reasoning != "r" || c.Role != "assistant" || c.FinishReason != "stop" || UsageTokens(c.Usage).Completion != 2 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	in := `data: {"choices":[{"delta":{"content":"` + long + `"}}]}` + "\n\ndata: " + smallChunk + "\n\n"
	n := 0
	for c, err := range rawStream(strings.NewReader(in)).Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 && len(c.Content) != len(long) {
			t.Errorf("content of %d bytes", len(c.Content))
		}
	}
	if n != 2 {
		t.Errorf("%d chunks", n)
	}
}

// endless is a stream of one line that never ends.
type endless struct{ fill byte }

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.fill
	}
	return len(p), nil
}

func TestTooLongEvents(t *testing.T) {
	lines := strings.Repeat("data: ["+strings.Repeat("1,", 1<<19)+"\n", 20)
	for name, r := range map[string]io.Reader{"one line": endless{'x'}, "many data lines": strings.NewReader(lines)} {
		var last error
		for _, err := range rawStream(r).Chunks() {
			last = err
		}
		if !errors.Is(last, ErrEventTooLarge) {
			t.Errorf("%s: got %v", name, last)
		}
	}
}

func TestCutStream(t *testing.T) {
	in := io.MultiReader(strings.NewReader("data: "+smallChunk+"\n\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	n := 0
	var last error
	for c, err := range rawStream(in).Chunks() {
		if last = err; err == nil && c.Content == "word " {
			n++
		}
	}
	var se *StreamError
	if n != 1 || !errors.As(last, &se) || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("%d chunks, then %v", n, last)
	}
}

// FuzzSSE checks that no input makes the decoder panic or loop, and that how the bytes arrive changes nothing.
func FuzzSSE(f *testing.F) {
	f.Add([]byte("data: " + smallChunk + "\n\ndata: [DONE]\n\n"))
	f.Add([]byte("data: {\"choices\":\ndata: []}\r\n\r\n: x\n{\"error\":1}\n"))
	f.Add([]byte(`data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		collect := func(r io.Reader) (out []summary) {
			for c, err := range rawStream(r).Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				if !c.Raw.IsValid(jsonOptions...) {
					t.Fatalf("invalid JSON came through: %q", c.Raw)
				}
				for _, v := range []jsontext.Value{c.Usage, c.Error, c.Images, c.Annotations} {
					if v != nil && !bytes.Contains(c.Raw, v) {
						t.Fatalf("%q is no part of %q", v, c.Raw)
					}
				}
				out = append(out, summarize(c))
			}
			return out
		}
		a, b := collect(bytes.NewReader(in)), collect(iotest.OneByteReader(bytes.NewReader(in)))
		if len(a) != len(b) {
			t.Fatalf("%d chunks whole, %d by byte", len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("chunk %d: %+v whole, %+v by byte", i, a[i], b[i])
			}
		}
	})
}
