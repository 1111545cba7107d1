package anthropic

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// same compares JSON texts without regard to white space and the order of members.
func same(t *testing.T, got jsondoc.Doc, want string) {
	t.Helper()
	canonical := func(v jsontext.Value) string {
		v = v.Clone()
		if err := v.Canonicalize(); err != nil {
			t.Fatalf("%v in %s", err, v)
		}
		return string(v)
	}
	if g, w := canonical(jsontext.Value(got)), canonical(jsontext.Value(want)); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func TestRequest(t *testing.T) {
	const image = `{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"QUJD"}}`
	const imageURL = `{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,QUJD"}}`
	for name, tc := range map[string]struct{ in, pass, want string }{
		"text": {`{"model":"m","max_tokens":9,"system":"Be kind.","messages":[{"role":"user","content":"hi"}],"stop_sequences":["x"],"top_k":3,"stream":true,"metadata":{"user_id":"u"}}`, ``,
			`{"model":"m","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}],"max_tokens":9,"top_k":3,"stop":["x"],"stream":true,"metadata":{"user_id":"u"}}`},
		"nothing": {`{}`, ``, `{"model":"","messages":[]}`},
		"system blocks": {`{"system":["a",{"type":"text","text":"b"},{"type":"image"}],"messages":[{"content":null},{"role":"assistant","content":[]}]}`, ``,
			`{"model":"","messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":""},{"role":"assistant","content":""}]}`},
		"image": {`{"messages":[{"role":"user","content":[{"type":"text","text":"see"},` + image + `,{"type":"image","source":{"type":"url","url":"https://x/y"}},{"type":"image","source":{"type":"file"}}]}]}`, ``,
			`{"model":"","messages":[{"role":"user","content":[{"type":"text","text":"see"},` + imageURL + `,{"type":"image_url","image_url":{"url":"https://x/y"}}]}]}`},
		"cache control": {`{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}`, ``,
			`{"model":"","messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}`},
		"tool use": {`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"h"},{"type":"thinking","thinking":"s","signature":"z"},{"type":"tool_use","id":"t1","name":"f","input":{"a": 1}}]}]}`, ``,
			`{"model":"","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"s","signature":"z"}],"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}]}`},
		"tool result": {`{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"a"},{"type":"document","title":"D","context":"c","source":{"type":"text","data":"d"}},{"type":"search_result","title":"S","source":"u","content":[{"type":"text","text":"x"}]}]},{"type":"text","text":"go on"}]}]}`, ``,
			`{"model":"","messages":[{"role":"tool","tool_call_id":"t1","content":"Error: a\n[Document: D]\nc\nd\n[Search Result: S]\nSource: u\nx"},{"role":"user","content":"go on"}]}`},
		"tool result with image": {`{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","is_error":true,"content":[` + image + `]}]}]}`, ``,
			`{"model":"","messages":[{"role":"tool","tool_call_id":"t","content":[{"type":"text","text":"Error: "},` + imageURL + `]}]}`},
		"tools": {`{"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"}}`, ``,
			`{"model":"","messages":[],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}}}`},
		"any tool":    {`{"tools":[{"name":"f"}],"tool_choice":{"type":"any"}}`, ``, `{"model":"","messages":[],"tools":[{"type":"function","function":{"name":"f","description":"","parameters":{}}}],"tool_choice":"required"}`},
		"no tools":    {`{"tools":[],"tool_choice":{"type":"any"}}`, ``, `{"model":"","messages":[]}`},
		"output":      {`{"output_config":{"effort":"low","format":{"type":"json_schema","schema":{"a":1},"strict":true}}}`, ``, `{"model":"","messages":[],"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"response_schema","schema":{"a":1},"strict":true}}}`},
		"passthrough": {`{"thinking":{"type":"enabled"},"container":1}`, `["thinking"]`, `{"model":"","messages":[],"thinking":{"type":"enabled"}}`},
		"all through": {`{"thinking":{"type":"enabled"},"container":1,"top_k":2}`, `" * "`, `{"model":"","messages":[],"thinking":{"type":"enabled"},"container":1,"top_k":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Request(jsondoc.Doc(tc.in), jsondoc.Doc(tc.pass))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, tc.want)
		})
	}
	for _, in := range []string{`{"messages":"x"}`, `{"messages":["x"]}`, `{"messages":[{"content":[1]}]}`, `{"tools":{"a":1}}`, `{"tools":["f"]}`} {
		if _, err := Request(jsondoc.Doc(in), nil); !errors.Is(err, llm.ErrBadRequest) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestResponse(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		input int64
		want  string
	}{
		"text": {`{"id":"c1","model":"up","choices":[{"message":{"content":"hello"},"finish_reason":"length"}],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}`, 99,
			`{"id":"c1","type":"message","role":"assistant","content":[{"type":"text","text":"hello"}],"model":"m","stop_reason":"max_tokens","stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":4,"cache_read_input_tokens":3}}`},
		"tool": {`{"id":"c","choices":[{"message":{"content":null,"reasoning":"why","tool_calls":[{"id":"t","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"u","function":{"name":"g","arguments":"{"}}]},"finish_reason":"tool_calls"}]}`, 5,
			`{"id":"c","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"why"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}},{"type":"tool_use","id":"u","name":"g","input":{}}],"model":"m","stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":0}}`},
		"signed thinking": {`{"id":"c","choices":[{"message":{"thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s","x":1},{"type":"redacted_thinking","data":"d","x":1}],"reasoning":"a","content":"b"}}],"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"s"}}`, -1,
			`{"id":"c","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"redacted_thinking","data":"d"},{"type":"text","text":"b"}],"model":"m","stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"s"}}`},
		"empty": {`{"id":"c","choices":[]}`, -1, `{"id":"c","type":"message","role":"assistant","content":[],"model":"m","stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}`},
	} {
		t.Run(name, func(t *testing.T) { same(t, Response(jsondoc.Doc(tc.in), "m", tc.input), tc.want) })
	}
	if id := Response(jsondoc.Doc(`{}`), "m", -1).Text("id"); !regexp.MustCompile(`^msg_[0-9a-f]{24}$`).MatchString(id) {
		t.Errorf("made id %q", id)
	}
}

// convert runs a provider's stream, one chunk a line, through a Stream and gives the events' data.
func convert(t *testing.T, model string, input int64, chunks ...string) []string {
	t.Helper()
	text := ""
	for _, c := range chunks {
		text += "data: " + c + "\n\n"
	}
	resp := llm.NewRawStream(200, http.Header{}, io.NopCloser(strings.NewReader(text)))
	s := NewStream(model, input)
	out := s.Start(nil)
	var failed error
	for c, err := range resp.Chunks() {
		if failed = err; err != nil {
			break
		}
		var more bool
		if out, more = s.Chunk(out, c); !more {
			break
		}
	}
	var events []string
	for e := range strings.SplitSeq(strings.TrimSuffix(string(s.End(out, failed)), "\n\n"), "\n\n") {
		name, data, ok := strings.Cut(e, "\ndata: ")
		if !ok || "event: "+jsondoc.Doc(data).Text("type") != name {
			t.Fatalf("event %q", e)
		}
		if err := jsondoc.Valid([]byte(data)); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		events = append(events, data)
	}
	return events
}

func TestStream(t *testing.T) {
	const end = `{"type":"message_stop"}`
	delta := func(d string) string { return `{"choices":[{"index":0,"delta":` + d + `,"finish_reason":null}]}` }
	stop := func(reason string) string { return `{"choices":[{"delta":{},"finish_reason":"` + reason + `"}]}` }
	messageEnd := func(reason, usage string) string {
		return `{"type":"message_delta","delta":{"stop_reason":"` + reason + `","stop_sequence":null},"usage":` + usage + `}`
	}
	for name, tc := range map[string]struct {
		chunks []string
		want   []string // after message_start
	}{
		"text": {[]string{delta(`{"role":"assistant","content":""}`), delta(`{"content":"a\""}`), delta(`{"content":"b"}`), stop("stop"),
			`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":2}}}`, "[DONE]"}, []string{
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}`,
			`{"type":"content_block_stop","index":0}`,
			messageEnd("end_turn", `{"output_tokens":2,"input_tokens":5,"cache_read_input_tokens":2}`), end}},
		"thinking, text, tools": {[]string{delta(`{"reasoning_content":"hm"}`), delta(`{"content":"x"}`), delta(`{"reasoning":"late"}`),
			delta(`{"tool_calls":[{"index":0,"id":"t1","function":{"name":"f","arguments":""}}]}`),
			delta(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}`), delta(`{"content":"dropped"}`),
			delta(`{"tool_calls":[{"index":0,"function":{"arguments":"{}}"}}]}`),
			delta(`{"tool_calls":[{"index":0,"id":"t2","function":{"name":"g","arguments":"{"}}]}`), stop("tool_calls")}, []string{
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}`,
			`{"type":"content_block_stop","index":1}`,
			`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}}"}}`,
			`{"type":"content_block_stop","index":2}`,
			`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{}}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{"}}`,
			`{"type":"content_block_stop","index":3}`,
			messageEnd("tool_use", `{"output_tokens":0}`), end}},
		"thinking blocks": {[]string{delta(`{"thinking_blocks":[{"thinking":""},{"thinking":"deep"}]}`), stop("length")}, []string{
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"deep"}}`,
			`{"type":"content_block_stop","index":0}`, messageEnd("max_tokens", `{"output_tokens":0}`), end}},
		"error": {[]string{delta(`{"content":"a"}`), `{"error":{"message":"no more"}}`, delta(`{"content":"b"}`)}, []string{
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`,
			`{"type":"error","error":{"type":"api_error","message":"no more"}}`}},
		"nothing": {[]string{"[DONE]"}, []string{messageEnd("end_turn", `{"output_tokens":0}`), end}},
	} {
		t.Run(name, func(t *testing.T) {
			got := convert(t, "m", -1, tc.chunks...)
			if jsondoc.Doc(got[0]).Text("message", "model") != "m" || string(jsondoc.Doc(got[0]).Get("message", "usage")) != `{"input_tokens":0,"output_tokens":0}` {
				t.Errorf("start %s", got[0])
			}
			if g, w := strings.Join(got[1:], "\n"), strings.Join(tc.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func TestStreamCountsAndFailures(t *testing.T) {
	got := convert(t, "m", 12, "[DONE]")
	if jsondoc.Doc(got[0]).Get("message", "usage", "input_tokens").String() != "12" || jsondoc.Doc(got[1]).Get("usage", "input_tokens").String() != "12" {
		t.Errorf("known input count: %v", got)
	}
	s := NewStream("m", -1)
	if out := string(s.End(nil, io.ErrUnexpectedEOF)); out != "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\""+TextFailed+"\"}}\n\n" {
		t.Errorf("broken off: %q", out)
	}
}
