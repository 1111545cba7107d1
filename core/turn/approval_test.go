package turn

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// newAskingBench is a bench whose users may ask to be asked.
func newAskingBench(t *testing.T, lists [][]string, tools ...Tool) *bench {
	b := newToolBench(t, rounds(lists...), tools...)
	if err := b.Settings.Set(context.Background(), config.Changes{config.ChatToolPermissionsEnable.Key(): true}); err != nil {
		t.Fatal(err)
	}
	return b
}

// decide marks a call of the waiting answer as approved, as a person's decision does.
func (b *bench) decide(t *testing.T, callID string) {
	t.Helper()
	err := b.store.EditMessage(context.Background(), "c1", "a1", func(m jsondoc.Doc) (jsondoc.Doc, error) {
		items := m.Get("output").List()
		for _, i := range OpenCalls(items) {
			if CallID(items[i]) == callID {
				items[i] = items[i].Set(jsondoc.Doc(`"queued"`), "status").Set(jsondoc.Doc("true"), "approved")
			}
		}
		return m.Set(jsondoc.Array(items...), "output"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// again lets the answer go on and gives it as stored at the end of the turn.
func (b *bench) again(t *testing.T, mode string) jsondoc.Doc {
	t.Helper()
	b.rt.mu.Lock()
	b.rt.events = nil
	b.rt.mu.Unlock()
	return b.ask(t, `{"stream":true,"model":"m","session_id":"s1","chat_id":"c1","id":"a1","assistant_message_id":"a1","tool_ids":["plugin:s"],
	 "params":{"tool_approval_mode":"`+mode+`"},"user_message":{"id":"q1"},"messages":[]}`)
}

const askFirst = `"params":{"tool_approval_mode":"ask","temperature":0.5},"files":[{"id":"f"}],"variables":{"x":"1"},`

func TestApproval(t *testing.T) {
	two := [][]string{calls(delta(`{"content":"may I"}`), callDelta(0, "k1", "add", `{"a": 1}`), callDelta(1, "k2", "add", `{"a": 2}`)), says("done")}
	b := newAskingBench(t, two, tool("add", echo))
	m := b.ask(t, asking(askFirst))
	if got := summary(m.Get("output")); got != `may I in_progress | add{"a": 1} pending | add{"a": 2} queued` || m.Bool("done") {
		t.Fatalf("%s", m)
	}
	if got := kinds(b.rt.all()); !strings.HasSuffix(got, "response:completion/response.output_item.done chat:completion chat:active") {
		t.Error(got)
	}
	if len(b.TaskIDs()) != 0 {
		t.Error("a task waits")
	}
	meta := m.Get("meta")
	if meta.Text("session_id") != "s1" || string(meta.Get("tool_ids")) != `["plugin:s","gone"]` || string(meta.Get("files")) != `[{"id":"f"}]` || string(meta.Get("variables")) != `{"x":"1"}` ||
		string(meta.Get("params")) != `{"stream_delta_chunk_size":null,"reasoning_tags":null,"compact_token_threshold":null,"function_calling":"native","tool_approval_mode":"ask","model_controls":{}}` ||
		string(meta.Get("skill_ids")) != "[]" || string(meta.Get("terminal_id")) != "null" || string(meta.Get("features")) != "{}" {
		t.Errorf("%s", meta)
	}
	<-b.asked

	// Nothing is decided: nothing runs.
	if m = b.again(t, "ask"); summary(m.Get("output")) != `may I in_progress | add{"a": 1} pending | add{"a": 2} queued` {
		t.Errorf("%s", m)
	}
	// One is approved: the other is asked about next, whatever came first.
	b.decide(t, "k2")
	if m = b.again(t, "ask"); summary(m.Get("output")) != `may I in_progress | add{"a": 1} pending | add{"a":2} completed | ={"a":2} completed` || m.Bool("done") {
		t.Errorf("%s", m)
	}
	if len(b.asked) != 0 {
		t.Error("the model was asked too early")
	}
	// All are: the model goes on.
	b.decide(t, "k1")
	began := time.Now()
	m = b.again(t, "ask")
	if took := time.Since(began); took < continuedAtLeast {
		t.Errorf("the page was told of the end after %v", took)
	}
	if got := summary(m.Get("output")); got != `may I completed | add{"a":1} completed | add{"a":2} completed | ={"a":2} completed | ={"a":1} completed | done completed` || !m.Bool("done") {
		t.Errorf("%s", m)
	}
	ms := (<-b.asked).Get("messages")
	if ms.Len() != 4 || ms.Get("1", "tool_calls").Len() != 2 || ms.Text("2", "tool_call_id") != "k2" || ms.Text("3", "tool_call_id") != "k1" {
		t.Errorf("%s", ms)
	}
}

func TestApprovalOfAllThatWaits(t *testing.T) {
	b := newAskingBench(t, [][]string{calls(callDelta(0, "k1", "add", `{}`), callDelta(1, "k2", "sub", `{}`)), says("done")}, tool("add", echo))
	b.ask(t, asking(askFirst))
	m := b.again(t, "full")
	if got := summary(m.Get("output")); got != `add{} completed | sub{} failed | ={} completed | =Error: Tool "sub" not found. failed | done completed` || !m.Bool("done") {
		t.Errorf("%s", m)
	}
}

func TestStopOfAnApprovedCall(t *testing.T) {
	begun := make(chan struct{})
	b := newAskingBench(t, [][]string{calls(callDelta(0, "k1", "slow", `{}`)), says("done")}, tool("slow", func(ctx context.Context, _ ToolCall) (ToolResult, error) {
		close(begun)
		<-ctx.Done()
		return ToolResult{}, ctx.Err()
	}))
	b.ask(t, asking(askFirst))
	b.decide(t, "k1")
	res, err := b.run(`{"stream":true,"model":"m","session_id":"s1","chat_id":"c1","id":"a1","assistant_message_id":"a1","tool_ids":["plugin:s"],"params":{"tool_approval_mode":"ask"},"messages":[]}`)
	if err != nil {
		t.Fatal(err)
	}
	await(t, begun, "the tool runs")
	if m := b.store.message("c1", "a1"); summary(m.Get("output")) != "slow{} in_progress" {
		t.Errorf("%s", m)
	}
	b.Stop(context.Background(), res.Body.Text("task_ids", "0"))
	m := b.store.message("c1", "a1")
	if !strings.HasPrefix(summary(m.Get("output")), "slow{} incomplete | =Error: ") || !m.Bool("done") {
		t.Errorf("%s", m)
	}
}

// TestARunningCallIsNotRunTwice has a second request come while the first one's call runs.
func TestARunningCallIsNotRunTwice(t *testing.T) {
	b := newAskingBench(t, [][]string{calls(callDelta(0, "k1", "add", `{}`)), says("done")}, tool("add", echo))
	b.ask(t, asking(askFirst))
	if err := b.store.EditMessage(context.Background(), "c1", "a1", func(m jsondoc.Doc) (jsondoc.Doc, error) {
		return m.Set(jsondoc.Array(m.Get("output", "0").Set(jsondoc.Doc(`"in_progress"`), "status")), "output"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if m := b.again(t, "full"); summary(m.Get("output")) != "add{} in_progress" || m.Get("error") != nil {
		t.Errorf("%s", m)
	}
}

func TestWhenNobodyIsAsked(t *testing.T) {
	lists := [][]string{calls(callDelta(0, "k1", "add", `{}`)), says("done")}
	t.Run("the operator has not allowed it", func(t *testing.T) {
		b := newToolBench(t, rounds(lists...), tool("add", echo))
		if m := b.ask(t, asking(askFirst)); summary(m.Get("output")) != "add{} completed | ={} completed | done completed" {
			t.Errorf("%s", m)
		}
	})
	t.Run("a temporary chat cannot wait", func(t *testing.T) {
		b := newAskingBench(t, lists, tool("add", echo))
		if _, err := b.run(strings.Replace(asking(askFirst), `"c1"`, `"temporary:s1"`, 1)); err != nil {
			t.Fatal(err)
		}
		for _, e := range b.rt.wait(t, "end", ended) {
			if d := e.Get("data", "data"); d.Bool("done") && summary(d.Get("output")) != "add{} failed | =Error: tool call was not approved. failed | done completed" {
				t.Errorf("%s", d)
			}
		}
	})
	t.Run("calls in words are left out", func(t *testing.T) {
		b := newAskingBench(t, [][]string{says("done")}, tool("add", echo))
		b.Tasks = picker{says: `{"name":"add"}`, asked: make(chan []jsondoc.Doc, 1)}
		if m := b.ask(t, asking(`"params":{"tool_approval_mode":"ask","function_calling":"legacy"},`)); m.Get("sources") != nil || m.Text("content") != "done" {
			t.Errorf("%s", m)
		}
	})
}
