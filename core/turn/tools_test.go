package turn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
)

// box is a Toolbox of fixed tools.
type box struct {
	tools []Tool
	err   error
}

func (b box) Tools(_ context.Context, _ Scope, ids []string) ([]Tool, error) {
	var out []Tool
	for _, id := range ids {
		for _, tool := range b.tools {
			if tool.Set == id {
				out = append(out, tool)
			}
		}
	}
	return out, b.err
}

// tool is a tool of the set "plugin:s" that takes a and b.
func tool(name string, call func(ctx context.Context, c ToolCall) (ToolResult, error)) Tool {
	return Tool{Set: "plugin:s", Name: name, Description: "does " + name, Parameters: jsondoc.Doc(`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}`), Call: call}
}

// echo gives back its arguments.
func echo(_ context.Context, c ToolCall) (ToolResult, error) {
	return TextResult(string(c.Arguments)), nil
}

// rounds answers each request with the next of some lists of deltas.
func rounds(lists ...[]string) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		i := min(int(n.Add(1)), len(lists)) - 1
		streamed(lists[i]...)(w, r)
	}
}

const toolsFinished = `{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`

// callDelta is a delta with a call, or with a piece of its arguments where the id is empty.
func callDelta(index int, id, name, arguments string) string {
	call := map[string]any{"index": index, "function": map[string]string{"arguments": arguments}}
	if id != "" {
		call["id"], call["function"] = id, map[string]string{"name": name, "arguments": arguments}
	}
	b, _ := json.Marshal([]any{call})
	return delta(`{"tool_calls":` + string(b) + `}`)
}

func says(text string) []string { return []string{delta(`{"content":"` + text + `"}`), finished} }

func calls(deltas ...string) []string { return append(deltas, toolsFinished) }

// asking is a question with tools, in a chat that is there.
func asking(fields string) string {
	return `{"stream":true,"model":"m","session_id":"s1","chat_id":"c1","id":"a1","tool_ids":["plugin:s","gone"],` + fields +
		`"user_message":{"id":"q1","parentId":null,"role":"user","content":"hello"}}`
}

// newToolBench is a bench with a chat and tools.
func newToolBench(t *testing.T, chat http.HandlerFunc, tools ...Tool) *bench {
	b := newBench(t, chat)
	b.store.add("c1", "u1")
	b.Toolbox = box{tools: tools}
	return b
}

// ask runs a turn to its end and gives the stored answer.
func (b *bench) ask(t *testing.T, body string) jsondoc.Doc {
	t.Helper()
	if _, err := b.run(body); err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "end", ended)
	return b.store.message("c1", "a1")
}

// summary writes output items as one line: what calls and results say, and their status.
func summary(output jsondoc.Doc) string {
	var out []string
	output.Items(func(_ int, it jsondoc.Doc) bool {
		s := it.Text("type")
		switch s {
		case "function_call":
			s = it.Text("name") + it.Text("arguments")
		case "function_call_output":
			s = "=" + strings.Join(strings.Fields(it.Text("output", "0", "text")), " ")
		case "message":
			s = it.Text("content", "0", "text")
		}
		out = append(out, s+" "+it.Text("status"))
		return true
	})
	return strings.Join(out, " | ")
}

func TestToolRounds(t *testing.T) {
	fail := func(context.Context, ToolCall) (ToolResult, error) { return ToolResult{}, errors.New("out of order") }
	broken := func(context.Context, ToolCall) (ToolResult, error) { panic("at the disco") }
	gives := func(content string) func(context.Context, ToolCall) (ToolResult, error) {
		return func(context.Context, ToolCall) (ToolResult, error) {
			return ToolResult{Content: jsondoc.Doc(content)}, nil
		}
	}
	one := func(name, arguments string) [][]string {
		return [][]string{calls(callDelta(0, "k1", name, arguments)), says("done")}
	}
	for name, c := range map[string]struct {
		tools  []Tool
		rounds [][]string
		want   string
	}{
		"one call":                {[]Tool{tool("add", echo)}, one("add", `{"a": 1}`), `add{"a":1} completed | ={"a":1} completed | done completed`},
		"no arguments":            {[]Tool{tool("add", echo)}, one("add", ``), `add{} completed | ={} completed | done completed`},
		"arguments it knows not":  {[]Tool{tool("add", echo)}, one("add", `{"a":1,"z":2}`), `add{"a":1,"z":2} completed | ={"a":1} completed | done completed`},
		"literals of Python":      {[]Tool{tool("add", echo)}, one("add", `{'a': None, 'b': (1, True)}`), `add{"a":null,"b":[1,true]} completed | ={"a":null,"b":[1,true]} completed | done completed`},
		"arguments cut short":     {[]Tool{tool("add", echo)}, one("add", `{"a": `), "add{\"a\":  failed | =Error: Tool call arguments could not be parsed. The model generated malformed or incomplete JSON for `add`. Please try again. failed | done completed"},
		"arguments are a list":    {[]Tool{tool("add", echo)}, one("add", `[1]`), "add[1] failed | =Error: Tool call arguments for `add` must be a JSON object. Please try again. failed | done completed"},
		"unknown tool":            {[]Tool{tool("add", echo)}, one("sub", `{"a": 1}`), `sub{"a":1} failed | =Error: Tool "sub" not found. failed | done completed`},
		"tool fails":              {[]Tool{tool("add", fail)}, one("add", `{}`), `add{} failed | ={ "error": "out of order" } failed | done completed`},
		"tool panics":             {[]Tool{tool("add", broken)}, one("add", `{}`), `add{} failed | ={ "error": "The tool add broke down." } failed | done completed`},
		"result is an object":     {[]Tool{tool("add", gives(`{"x":[1,"é"]}`))}, one("add", `{}`), `add{} completed | ={ "x": [ 1, "é" ] } completed | done completed`},
		"result is a list":        {[]Tool{tool("add", gives(`[1,2]`))}, one("add", `{}`), `add{} completed | ={ "results": [ 1, 2 ] } completed | done completed`},
		"result is a number":      {[]Tool{tool("add", gives(`1.50`))}, one("add", `{}`), `add{} completed | =1.50 completed | done completed`},
		"no result":               {[]Tool{tool("add", gives(``))}, one("add", `{}`), `add{} completed | = completed | done completed`},
		"result is no JSON":       {[]Tool{tool("add", gives(`{"x`))}, one("add", `{}`), `add{} failed | ={ "error": "The tool add gave a result that is no JSON." } failed | done completed`},
		"result tells of failure": {[]Tool{tool("add", gives(`"Error: no"`))}, one("add", `{}`), `add{} failed | =Error: no failed | done completed`},
		"in pieces": {[]Tool{tool("add", echo)}, [][]string{calls(callDelta(0, "k1", "add", ""), callDelta(0, "", "", `{"a"`), callDelta(0, "", "", `:1}`)), says("done")},
			`add{"a":1} completed | ={"a":1} completed | done completed`},
		"several at once, in pieces": {[]Tool{tool("add", echo), tool("sub", echo)},
			[][]string{calls(callDelta(0, "k1", "add", `{"a"`), callDelta(1, "k2", "sub", `{"b":`), callDelta(0, "", "", `:1}`), callDelta(1, "", "", `2}`)), says("done")},
			`add{"a":1} completed | sub{"b":2} completed | ={"a":1} completed | ={"b":2} completed | done completed`},
		"several objects in one call": {[]Tool{tool("add", echo)}, one("add", `{"a":1} {"a":2}`),
			`add{"a":1} completed | add{"a":2} completed | ={"a":1} completed | ={"a":2} completed | done completed`},
		"several rounds": {[]Tool{tool("add", echo)},
			[][]string{calls(delta(`{"content":"first"}`), callDelta(0, "k1", "add", `{"a":1}`)), calls(callDelta(0, "k2", "add", `{"a":2}`)), says("done")},
			`first completed | add{"a":1} completed | ={"a":1} completed | add{"a":2} completed | ={"a":2} completed | done completed`},
		"no tools at all": {nil, one("add", `{}`), `add{} failed | =Error: Tool "add" not found. failed | done completed`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(c.rounds...), c.tools...)
			m := b.ask(t, asking(""))
			if got := summary(m.Get("output")); got != c.want || !m.Bool("done") || !strings.HasSuffix(m.Text("content"), "done") || m.Get("error") != nil {
				t.Errorf("\n%s\nwant\n%s\n%s", got, c.want, m)
			}
		})
	}
}

// TestToolEvents looks at what browsers are sent, in order.
func TestToolEvents(t *testing.T) {
	b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", ""), callDelta(0, "", "", `{"a": 1}`)), says("done")), tool("add", echo))
	b.ask(t, asking(""))
	var got []string
	for _, e := range b.rt.all() {
		d := e.Get("data", "data")
		switch kind := d.Text("type"); {
		case strings.HasSuffix(kind, ".delta") && d.Text("delta") == "":
			// the empty beginning of the arguments, where it was not joined with what follows
		case strings.HasPrefix(kind, "response."):
			got = append(got, strings.TrimPrefix(kind, "response.")+" "+d.Get("output_index").String()+" "+string(d.Get("item", "status"))+d.Text("item", "arguments")+d.Text("arguments")+d.Text("delta"))
		case d.Get("choices") != nil:
			got = append(got, "chunk "+d.Text("choices", "0", "finish_reason"))
		default:
			got = append(got, e.Text("data", "type"))
		}
	}
	want := []string{
		"chat:list", "chat:active",
		`output_item.added 0 "in_progress"`,
		`function_call_arguments.delta 0 {"a": 1}`,
		"chunk tool_calls",
		`function_call_arguments.done 0 {"a": 1}`,
		`output_item.done 0 "completed"{"a": 1}`,
		`output_item.done 0 "completed"{"a": 1}`,
		`output_item.done 0 "completed"{"a":1}`,
		`output_item.done 1 "completed"`,
		`output_text.delta 2 done`,
		"chunk stop",
		"chat:list", "chat:completion", "chat:active",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestToolRequests looks at what the provider is asked.
func TestToolRequests(t *testing.T) {
	second := tool("add", echo)
	second.Set = "other"
	second.Description, second.Parameters = " ", nil
	b := newToolBench(t, rounds(calls(delta(`{"content":"I look"}`), callDelta(0, "k1", "add", `{"a": 1}`)), calls(callDelta(0, "k1", "other_add", ``)), says("done")), tool("add", echo), second)
	m := b.ask(t, strings.Replace(asking(`"temperature":0.5,"messages":[{"role":"system","content":"Be kind."}],`), `"gone"`, `"other"`, 1))
	if !m.Bool("done") {
		t.Fatalf("%s", m)
	}
	first, next, last := <-b.asked, <-b.asked, <-b.asked
	specs := `[{"type":"function","function":{"name":"add","description":"does add","parameters":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}}},` +
		`{"type":"function","function":{"name":"other_add","description":"other_add","parameters":{"type":"object","properties":{}}}}]`
	for i, body := range []jsondoc.Doc{first, next, last} {
		if string(body.Get("tools")) != specs || body.Get("tool_ids") != nil || string(body.Get("temperature")) != "0.5" || string(body.Get("stream")) != "true" {
			t.Errorf("request %d: %s", i, body)
		}
	}
	if got := next.Get("messages").String(); got != `[{"role":"system","content":"Be kind."},{"role":"user","content":"hello"},`+
		`{"role":"assistant","content":"I look","tool_calls":[{"id":"k1","type":"function","function":{"name":"add","arguments":"{\"a\":1}"}}]},`+
		`{"role":"tool","content":"{\"a\":1}","tool_call_id":"k1"}]` {
		t.Error(got)
	}
	if ms := last.Get("messages"); ms.Len() != 6 || ms.Text("4", "tool_calls", "0", "function", "name") != "other_add" ||
		ms.Text("4", "tool_calls", "0", "id") == "k1" || ms.Text("4", "tool_calls", "0", "id") != ms.Text("5", "tool_call_id") {
		t.Errorf("%s", ms)
	}
}

func TestToolCallKnowsItsTurn(t *testing.T) {
	got := make(chan ToolCall, 1)
	b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", "{}")), says("done")), tool("add", func(_ context.Context, c ToolCall) (ToolResult, error) {
		c.Emit("status", jsondoc.Doc(`{"description":"half way","done":false}`))
		c.Emit("status", jsondoc.Doc(`{broken`))
		got <- c
		return ToolResult{
			Content: jsondoc.Doc(`{"picture":"data:image/png;base64,QUJD"}`),
			Files:   []jsondoc.Doc{jsondoc.Doc(`{"type":"image","url":"/api/v1/files/x/content"}`)},
			Embeds:  []jsondoc.Doc{jsondoc.Doc(`"<p>x</p>"`)},
		}, nil
	}))
	m := b.ask(t, asking(""))
	c := <-got
	if c.ID != "k1" || c.Name != "add" || c.Principal.ID != "u1" || c.ChatID != "c1" || c.MessageID != "a1" || c.SessionID != "s1" || c.ModelID != "m" {
		t.Errorf("%+v", c)
	}
	if m.Text("saved status", "description") != "half way" {
		t.Errorf("the status was not stored: %s", m)
	}
	n := len(b.rt.all())
	c.Emit("status", jsondoc.Doc(`{"description":"too late"}`))
	if len(b.rt.all()) != n || !strings.Contains(kinds(b.rt.all()), " status ") {
		t.Error(kinds(b.rt.all()))
	}
	result := m.Get("output", "1")
	want := `[{"type":"input_text","text":"{\n  \"picture\": \"[image]\"\n}"},{"type":"input_image","image_url":"data:image/png;base64,QUJD"},{"type":"input_image","image_url":"/api/v1/files/x/content"}]`
	if string(result.Get("output")) != want || string(result.Get("files")) != `[{"type":"image","url":"/api/v1/files/x/content"}]` || string(result.Get("embeds")) != `["<p>x</p>"]` {
		t.Errorf("%s", result)
	}
	for _, e := range b.rt.all() {
		if it := e.Get("data", "data", "item"); it.Text("type") == "function_call_output" && it.Get("output").Len() != 1 {
			t.Errorf("the page was sent the images: %s", it)
		}
	}
	<-b.asked
	again := (<-b.asked).Get("messages")
	if again.Len() != 4 || again.Get("3", "content").Len() != 3 || again.Text("3", "content", "1", "image_url", "url") != "data:image/png;base64,QUJD" {
		t.Errorf("%s", again)
	}
}

// TestCallsOfARoundRunTogether has each of two calls wait for the other.
func TestCallsOfARoundRunTogether(t *testing.T) {
	met := make(chan string)
	b := newToolBench(t, rounds(calls(callDelta(0, "k1", "left", "{}"), callDelta(1, "k2", "right", "{}")), says("done")),
		tool("left", func(ctx context.Context, _ ToolCall) (ToolResult, error) {
			select {
			case met <- "from left":
				return TextResult("left"), nil
			case <-ctx.Done():
				return ToolResult{}, ctx.Err()
			}
		}),
		tool("right", func(ctx context.Context, _ ToolCall) (ToolResult, error) {
			select {
			case s := <-met:
				return TextResult(s), nil
			case <-ctx.Done():
				return ToolResult{}, ctx.Err()
			}
		}))
	m := b.ask(t, asking(""))
	if got := summary(m.Get("output")); got != "left{} completed | right{} completed | =left completed | =from left completed | done completed" {
		t.Error(got)
	}
}

func TestLimitOfRounds(t *testing.T) {
	for limit, want := range map[int]int{0: 0, 1: 1, 3: 3} {
		var ran atomic.Int32
		b := newToolBench(t, rounds(calls(callDelta(0, "k", "add", "{}"))), tool("add", func(context.Context, ToolCall) (ToolResult, error) {
			ran.Add(1)
			return TextResult("again"), nil
		}))
		b.Env.Chat.MaxToolCalls = limit
		m := b.ask(t, asking(""))
		if int(ran.Load()) != want || !strings.Contains(m.Text("error", "content"), fmt.Sprint(limit)) || !m.Bool("done") || m.Get("output").Len() != 2*want+1 {
			t.Errorf("limit %d: ran %d times, %s", limit, ran.Load(), m)
		}
		if !strings.Contains(kinds(b.rt.all()), "chat:message:error chat:list chat:completion") {
			t.Error(kinds(b.rt.all()))
		}
	}
	b := newToolBench(t, rounds(calls(callDelta(0, "k", "add", "{}")), calls(callDelta(0, "k", "add", "{}")), says("done")), tool("add", echo))
	b.Env.Chat.MaxToolCalls = -1
	if m := b.ask(t, asking("")); m.Get("error") != nil || m.Text("content") != "done" {
		t.Errorf("without a limit: %s", m)
	}
}

func TestProviderFailsAfterTools(t *testing.T) {
	var n atomic.Int32
	b := newToolBench(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			streamed(calls(callDelta(0, "k1", "add", "{}"))...)(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(429)
		_, _ = w.Write([]byte(`{"error":{"message":"slow down"}}`))
	}, tool("add", echo))
	m := b.ask(t, asking(""))
	if m.Text("error", "content") != "slow down" || !m.Bool("done") || summary(m.Get("output")) != "add{} completed | ={} completed" {
		t.Errorf("%s", m)
	}
}

func TestAnswerWithoutStreamAfterTools(t *testing.T) {
	var n atomic.Int32
	b := newToolBench(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			streamed(calls(callDelta(0, "k1", "add", "{}"))...)(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"choices":[{"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}]}`))
	}, tool("add", echo))
	if m := b.ask(t, asking("")); m.Text("content") != "whole" || m.Get("error") != nil {
		t.Errorf("%s", m)
	}
}

func TestUsageOfAllRounds(t *testing.T) {
	used := func(in, out int) string {
		return fmt.Sprintf(`{"id":"c","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`, in, out, in+out)
	}
	b := newToolBench(t, rounds(append(calls(callDelta(0, "k1", "add", "{}")), used(10, 1)), append(says("done"), used(20, 2))), tool("add", echo))
	m := b.ask(t, asking(""))
	if u := m.Get("usage"); string(u.Get("input_tokens")) != "30" || string(u.Get("output_tokens")) != "3" || string(u.Get("total_tokens")) != "33" {
		t.Errorf("%s", m.Get("usage"))
	}
}

// TestStopWhileAToolRuns stops a turn whose one tool waits for that and whose other does not heed it.
func TestStopWhileAToolRuns(t *testing.T) {
	begun, cancelled, deaf := make(chan struct{}, 2), make(chan struct{}), make(chan struct{})
	defer close(deaf)
	b := newToolBench(t, rounds(calls(delta(`{"content":"wait"}`), callDelta(0, "k1", "slow", "{}"), callDelta(1, "k2", "deaf", "{}"))),
		tool("slow", func(ctx context.Context, _ ToolCall) (ToolResult, error) {
			begun <- struct{}{}
			<-ctx.Done()
			close(cancelled)
			return ToolResult{}, ctx.Err()
		}),
		tool("deaf", func(context.Context, ToolCall) (ToolResult, error) {
			begun <- struct{}{}
			<-deaf
			return TextResult("too late"), nil
		}))
	res, err := b.run(asking(""))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		await(t, begun, "both tools run")
	}
	// A page that is loaded now sees the calls, and so does one after the server has died.
	if p := b.Partials(t.Context(), "c1"); len(p) != 1 || summary(p[0].Output) != "wait in_progress | slow{} completed | deaf{} completed" || p[0].Content != "wait" {
		t.Errorf("%+v", p)
	}
	if m := b.store.message("c1", "a1"); m.Get("output").Len() != 3 || m.Bool("done") {
		t.Errorf("stored %s", m)
	}
	if got := b.Stop(context.Background(), res.Body.Text("task_ids", "0")); !got.Status {
		t.Errorf("%+v", got)
	}
	await(t, cancelled, "the tool is told")
	m := b.store.message("c1", "a1")
	if summary(m.Get("output")) != "wait incomplete | slow{} incomplete | deaf{} incomplete" || !m.Bool("done") || m.Get("error") != nil {
		t.Errorf("%s", m)
	}
	if got := kinds(b.rt.all()); !strings.HasSuffix(got, "chat:tasks:cancel chat:active") {
		t.Error(got)
	}
}

func TestStopAfterATool(t *testing.T) {
	var n atomic.Int32
	b := newToolBench(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			streamed(calls(callDelta(0, "k1", "add", "{}"))...)(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + delta(`{"content":"on and"}`) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, tool("add", echo))
	res, err := b.run(asking(""))
	if err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "words", func(e jsondoc.Doc) bool { return e.Text("data", "data", "delta") == "on and" })
	if p := b.Partials(t.Context(), "c1"); len(p) != 1 || summary(p[0].Output) != "add{} completed | ={} completed | on and in_progress" {
		t.Errorf("%+v", p)
	}
	b.Stop(context.Background(), res.Body.Text("task_ids", "0"))
	if m := b.store.message("c1", "a1"); summary(m.Get("output")) != "add{} completed | ={} completed | on and incomplete" {
		t.Errorf("%s", m)
	}
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("no sign that %s", what)
	}
}

// TestContinuedAnswerWithTools sends whole outputs, as for all answers that go on.
func TestContinuedAnswerWithTools(t *testing.T) {
	b := newToolBench(t, rounds(calls(delta(`{"content":" two"}`), callDelta(0, "k1", "add", "{}")), says("three")), tool("add", echo))
	b.store.messages["c1"]["q1"] = jsondoc.Doc(`{"id":"q1","role":"user","content":"go"}`)
	b.store.messages["c1"]["a1"] = jsondoc.Doc(`{"id":"a1","role":"assistant","parentId":"q1","content":"one","done":true,"model":"m",
	 "output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"one"}]}]}`)
	m := b.ask(t, `{"stream":true,"model":"m","session_id":"s","chat_id":"c1","id":"a1","assistant_message_id":"a1","tool_ids":["plugin:s"],"messages":[]}`)
	if got := summary(m.Get("output")); got != "one completed | add{} completed | ={} completed | three completed" || m.Text("content") != "one two\nthree" {
		t.Errorf("%s", m)
	}
	flushed := 0
	for _, e := range b.rt.all() {
		if strings.HasPrefix(e.Text("data", "type"), "response:") {
			t.Errorf("%s", e)
		}
		if e.Bool("data", "data", "flush") {
			flushed++
		}
	}
	if flushed != 2 {
		t.Errorf("%d flushed outputs, want 2", flushed)
	}
}

func TestProgramsAndTools(t *testing.T) {
	ran := false
	mark := tool("add", func(context.Context, ToolCall) (ToolResult, error) {
		ran = true
		return TextResult("ran"), nil
	})
	t.Run("without a chat the calls go back", func(t *testing.T) {
		b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", "{}"))), mark)
		res, err := b.run(`{"model":"m","stream":true,"tool_ids":["plugin:s"],"messages":[{"role":"user","content":"x"}]}`)
		if err != nil || res.Response == nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := res.Response.CopyTo(&text, nil); err != nil || !strings.Contains(text.String(), `"name":"add"`) || ran {
			t.Errorf("%v %s", err, text.String())
		}
		if asked := <-b.asked; asked.Text("tools", "0", "function", "name") != "add" || asked.Get("tool_ids") != nil {
			t.Errorf("%s", asked)
		}
	})
	t.Run("in a chat they run", func(t *testing.T) {
		b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", "{}")), says("done")), mark)
		res, err := b.run(`{"model":"m","stream":true,"tool_ids":["plugin:s"],"chat_id":"c1","id":"a1","user_message":{"id":"q1","role":"user","content":"x"}}`)
		if err != nil || string(res.Body) != "null" || !ran || b.store.message("c1", "a1").Text("content") != "done" {
			t.Errorf("%v %s %s", err, res.Body, b.store.message("c1", "a1"))
		}
	})
	t.Run("tools of its own stand alone", func(t *testing.T) {
		b := newToolBench(t, rounds(says("ok")), mark)
		b.ask(t, asking(`"tools":[],`))
		if asked := <-b.asked; string(asked.Get("tools")) != "[]" {
			t.Errorf("%s", asked)
		}
	})
}

func TestWhichToolsAreOffered(t *testing.T) {
	server := tool("far", echo)
	server.Set = "server:x"
	for name, c := range map[string]struct {
		env  func(*config.Env)
		box  Toolbox
		want string
	}{
		"all":          {func(*config.Env) {}, box{tools: []Tool{tool("near", echo), server}}, "near far"},
		"tools off":    {func(e *config.Env) { e.Tools = false }, box{tools: []Tool{tool("near", echo), server}}, "far"},
		"servers off":  {func(e *config.Env) { e.ToolServers = false }, box{tools: []Tool{tool("near", echo), server}}, "near"},
		"nothing":      {func(*config.Env) {}, box{}, ""},
		"no toolbox":   {func(*config.Env) {}, nil, ""},
		"not of those": {func(*config.Env) {}, box{tools: []Tool{{Set: "plugin:t", Name: "x"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(says("ok")))
			b.Toolbox = c.box
			c.env(b.Env)
			b.ask(t, asking(`"tool_ids":["plugin:s","server:x","plugin:s",7],`))
			asked := <-b.asked
			var names []string
			asked.Get("tools").Items(func(_ int, s jsondoc.Doc) bool {
				names = append(names, s.Text("function", "name"))
				return true
			})
			if strings.Join(names, " ") != c.want || c.want == "" && asked.Get("tools") != nil {
				t.Errorf("%s", asked)
			}
		})
	}
	b := newToolBench(t, rounds(says("ok")))
	b.Toolbox = box{err: errors.New("no tools today")}
	if m := b.ask(t, asking("")); m.Text("error", "content") != "no tools today" {
		t.Errorf("%s", m)
	}
}

// picker is a Tasks whose model says which tools to call.
type picker struct {
	taskModel
	says  string
	err   error
	asked chan []jsondoc.Doc
}

func (p picker) Run(ctx context.Context, who *auth.Principal, task Task, modelID string, ms []jsondoc.Doc, chatID, messageID string) (jsondoc.Doc, error) {
	if task != TaskToolCalls {
		return p.taskModel.Run(ctx, who, task, modelID, ms, chatID, messageID)
	}
	p.asked <- ms
	return jsondoc.Of(map[string]any{"choices": []any{map[string]any{"message": map[string]any{"content": p.says}}}}), p.err
}

func TestPromptedTools(t *testing.T) {
	fail := func(context.Context, ToolCall) (ToolResult, error) { return ToolResult{}, errors.New("no luck") }
	for name, c := range map[string]struct {
		says    string
		err     error
		sources string // names and texts
	}{
		"one":           {`Sure: {"tool_calls":[{"name":"add","parameters":{"a":1,"z":2}}]} there`, nil, `plugin:s/add={"a":1}`},
		"alone":         {`{"name":"add","parameters":{"b":2}}`, nil, `plugin:s/add={"b":2}`},
		"several":       {`{"tool_calls":[{"name":"add","parameters":{"a":1}},{"name":"gone"},{"name":"fail"}]}`, nil, `plugin:s/add={"a":1}|plugin:s/fail={ "error": "no luck" }`},
		"none":          {`{"tool_calls":[]}`, nil, ""},
		"unknown":       {`{"tool_calls":[{"name":"gone","parameters":{}}]}`, nil, ""},
		"no JSON":       {`I would rather not`, nil, ""},
		"broken JSON":   {`{"tool_calls":`, nil, ""},
		"the task fell": {``, errors.New("overloaded"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(says("done")), tool("add", echo), tool("fail", fail))
			p := picker{says: c.says, err: c.err, asked: make(chan []jsondoc.Doc, 1)}
			b.Tasks = p
			if err := b.Settings.Set(context.Background(), config.Changes{"rag.template": "Use {{CONTEXT}} for [query]"}); err != nil {
				t.Fatal(err)
			}
			m := b.ask(t, asking(`"params":{"function_calling":"legacy"},`))
			question := <-p.asked
			if len(question) != 2 || !strings.Contains(question[0].Text("content"), `"name":"add"`) || strings.Contains(question[0].Text("content"), "{{TOOLS}}") || question[1].Text("content") != "Query: hello" {
				t.Errorf("%s", question)
			}
			var got []string
			m.Get("sources").Items(func(_ int, s jsondoc.Doc) bool {
				got = append(got, s.Text("source", "name")+"="+strings.Join(strings.Fields(s.Text("document", "0")), " "))
				return true
			})
			if strings.Join(got, "|") != c.sources || m.Text("content") != "done" {
				t.Errorf("%s\n%s", strings.Join(got, "|"), m)
			}
			asked := <-b.asked
			text := asked.Text("messages", "0", "content")
			if asked.Get("tools") != nil || asked.Get("messages").Len() != 1 || c.sources == "" && text != "hello" {
				t.Errorf("%s", asked)
			}
			if c.sources != "" && (!strings.HasPrefix(text, `Use <source id="1" name="plugin:s/add">`) || !strings.HasSuffix(text, "</source> for hello\nhello")) {
				t.Errorf("%q", text)
			}
			shown := slices.ContainsFunc(b.rt.all(), func(e jsondoc.Doc) bool { return e.Get("data", "data", "sources") != nil })
			if shown != (c.sources != "") {
				t.Errorf("sources shown: %v", shown)
			}
		})
	}
}

func TestPromptedToolsOfPrograms(t *testing.T) {
	for _, stream := range []bool{true, false} {
		b := newToolBench(t, func(w http.ResponseWriter, r *http.Request) {
			if stream {
				streamed(says("done")...)(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"choices":[{"message":{"content":"done"}}]}`))
		}, tool("add", echo))
		b.Tasks = picker{says: `{"name":"add","parameters":{"a":1}}`, asked: make(chan []jsondoc.Doc, 1)}
		b.Env.Chat.RAGInSystem = true
		res, err := b.run(fmt.Sprintf(`{"model":"m","stream":%v,"tool_ids":["plugin:s"],"params":{"function_calling":"legacy"},"messages":[{"role":"system","content":"Be kind."},
		 {"role":"user","content":"1"},{"role":"assistant","content":"2"},{"role":"user","content":"3"}]}`, stream))
		if err != nil || res.Response == nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := res.Response.CopyTo(&text, nil); err != nil {
			t.Fatal(err)
		}
		if stream && !strings.HasPrefix(text.String(), `data: {"sources":[{"source":{"name":"plugin:s/add"}`) || !stream && jsondoc.Doc(text.String()).Text("sources", "0", "source", "name") != "plugin:s/add" {
			t.Errorf("stream %v: %s", stream, text.String())
		}
		question := <-b.Tasks.(picker).asked
		if got := question[1].Text("content"); got != "History:\nSYSTEM: \"\"\"Be kind.\"\"\"\nUSER: \"\"\"1\"\"\"\nASSISTANT: \"\"\"2\"\"\"\nQuery: 3" {
			t.Errorf("%q", got)
		}
		ms := (<-b.asked).Get("messages")
		if !strings.HasPrefix(ms.Text("0", "content"), "Be kind.\n") || !strings.Contains(ms.Text("0", "content"), `name="plugin:s/add"`) || ms.Text("3", "content") != "3" {
			t.Errorf("%s", ms)
		}
	}
}

func TestModelsOwnWayOfCalling(t *testing.T) {
	b := newToolBench(t, rounds(says("done")), tool("add", echo))
	base := "m"
	b.rows["old"] = &models.Row{ID: "old", BaseModelID: &base, Params: jsondoc.Doc(`{"function_calling":"legacy"}`)}
	b.Tasks = picker{says: `{}`, asked: make(chan []jsondoc.Doc, 1)}
	b.ask(t, strings.Replace(asking(""), `"model":"m"`, `"model":"old"`, 1))
	if asked := <-b.asked; asked.Get("tools") != nil || asked.Get("function_calling") != nil {
		t.Errorf("%s", asked)
	}
}
