package turn

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

// item events of a response, as providers send them.
const (
	thought = `{"type":"response.output_item.added","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[]}}
{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}
{"type":"response.reasoning_summary_text.delta","item_id":"rs","output_index":0,"summary_index":0,"delta":"Hm "}
{"type":"response.reasoning_summary_text.delta","item_id":"rs","output_index":0,"summary_index":0,"delta":"yes"}
`
	said = `{"type":"response.output_item.added","output_index":1,"item":{"id":"msg","type":"message","status":"in_progress","role":"assistant","content":[]}}
{"type":"response.content_part.added","output_index":1,"content_index":0,"part":{"type":"output_text","text":""}}
{"type":"response.output_text.delta","item_id":"msg","output_index":1,"content_index":0,"delta":"Hel"}
{"type":"response.output_text.delta","item_id":"msg","output_index":1,"content_index":0,"delta":"lo"}
`
	completed = `{"type":"response.completed","response":{"id":"resp","status":"completed","output":[],"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}}}
`
)

func responded(events string) []string { return strings.Split(strings.TrimSpace(events), "\n") }

func TestResponsesStream(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		text   string
		fail   string
		check  func(m jsondoc.Doc) bool
	}{
		"text and reasoning": {thought + said + completed, "Hello", "", func(m jsondoc.Doc) bool {
			return m.Text("output", "0", "summary", "0", "text") == "Hm yes" && m.Text("output", "0", "status") == "completed" && m.Text("output", "1", "id") == "msg" &&
				string(m.Get("usage", "output_tokens")) == "7"
		}},
		"items as they end": {said + `{"type":"response.output_item.done","output_index":0,"item":{"id":"msg","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello!","annotations":[{"type":"url_citation","url":"http://x/","title":"X"}]}]}}
` + completed, "Hello!", "", func(m jsondoc.Doc) bool { return m.Text("saved source", "source", "name") == "X" }},
		"the final output counts": {said + `{"type":"response.completed","response":{"output":[{"type":"message","id":"m2","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Bye"}]}]}}`, "Bye", "", nil},
		"deltas only": {`{"type":"response.output_text.delta","item_id":"x","output_index":1,"content_index":0,"delta":"hi"}`, "hi", "",
			func(m jsondoc.Doc) bool { return m.Get("output").Len() == 2 && m.Text("output", "1", "id") == "x" }},
		"failed":     {said + `{"type":"response.failed","response":{"error":{"message":"broke"}}}`, "Hello", `{"message":"broke"}`, nil},
		"error":      {`{"type":"error","message":"bad"}`, "", `{"type":"error","message":"bad"}`, nil},
		"wild index": {`{"type":"response.output_text.delta","output_index":999999999,"content_index":999999999,"delta":"hi"}` + "\n" + completed, "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			// the first item of these streams is the message
			events := c.events
			if !strings.HasPrefix(events, thought) {
				events = strings.ReplaceAll(events, `"output_index":1,"item":{"id":"msg"`, `"output_index":0,"item":{"id":"msg"`)
				if name != "deltas only" {
					events = strings.ReplaceAll(events, `"output_index":1`, `"output_index":0`)
				}
			}
			b := newBench(t, streamed(responded(events)...))
			res, err := b.run(question)
			if err != nil {
				t.Fatal(err)
			}
			sent := b.rt.wait(t, "end", ended)
			m := b.store.message(res.Body.Text("chat_id"), "a1")
			if m.Text("content") != c.text || string(m.Get("error", "content")) != c.fail || !m.Bool("done") || c.check != nil && !c.check(m) {
				t.Errorf("%s", m)
			}
			shown := ""
			for _, e := range sent {
				if e.Text("data", "data", "type") == "response.output_text.delta" {
					shown += e.Text("data", "data", "delta")
				}
			}
			if strings.Contains(c.events, `"delta":"Hel"`) && shown != "Hello" {
				t.Errorf("shown %q", shown)
			}
		})
	}
}

// TestResponsesCalls has the model call a tool by the Responses API; the events of the second round count on.
func TestResponsesCalls(t *testing.T) {
	call := `{"id":"fc","type":"function_call","call_id":"c1","name":"look","arguments":"{}","status":"completed"}`
	first := thought + `{"type":"response.output_item.added","output_index":1,"item":{"id":"fc","type":"function_call","call_id":"c1","name":"look","arguments":""}}
{"type":"response.function_call_arguments.delta","item_id":"fc","output_index":1,"delta":"{}"}
{"type":"response.output_item.done","output_index":1,"item":` + call + "}\n" + completed
	second := strings.ReplaceAll(said, `"output_index":1`, `"output_index":0`) + completed
	b := newBench(t, rounds(responded(first), responded(second)))
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	sent := b.rt.wait(t, "end", ended)
	m := b.store.message(res.Body.Text("chat_id"), "a1")
	if m.Text("content") != "Hello" || m.Get("output").Len() != 4 || m.Text("output", "1", "call_id") != "c1" || m.Text("output", "2", "type") != "function_call_output" {
		t.Errorf("%s", m)
	}
	for _, e := range sent {
		if e.Text("data", "data", "type") == "response.output_text.delta" && string(e.Get("data", "data", "output_index")) != "3" {
			t.Errorf("%s", e)
		}
	}
	<-b.asked
	if again := <-b.asked; again.Text("messages", "1", "tool_calls", "0", "id") != "c1" || again.Text("messages", "2", "role") != "tool" {
		t.Errorf("%s", again)
	}
}

// TestResponsesContinue has an answer go on by the Responses API: its text goes behind what was there.
func TestResponsesContinue(t *testing.T) {
	more := strings.ReplaceAll(said, `"output_index":1`, `"output_index":0`) + completed
	b := newBench(t, streamed(responded(more)...))
	b.store.add("c1", "u1")
	b.store.messages["c1"]["q1"] = jsondoc.Doc(`{"id":"q1","role":"user","content":"go"}`)
	b.store.messages["c1"]["a1"] = jsondoc.Doc(`{"id":"a1","role":"assistant","parentId":"q1","content":"on ","done":true,"model":"m",
	 "output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"on "}]}]}`)
	if _, err := b.run(`{"stream":true,"model":"m","session_id":"s","chat_id":"c1","id":"a1","assistant_message_id":"a1","messages":[]}`); err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "end", ended)
	m := b.store.message("c1", "a1")
	if m.Text("content") != "on Hello" || m.Get("output").Len() != 1 || m.Get("output", "0", "content").Len() != 2 || m.Text("output", "0", "id") != "msg_1" {
		t.Errorf("%s", m)
	}
}
