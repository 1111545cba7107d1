package turn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

const question = `{"stream":true,"model":"m","session_id":"s1","id":"a1","parent_id":null,"params":{"temperature":0.5,"system":"ignored"},
 "background_tasks":{"title_generation":true,"tags_generation":true,"follow_up_generation":true},
 "user_message":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"hello","timestamp":1,"models":["m"]}}`

func TestNewChatTurn(t *testing.T) {
	b := newBench(t, streamed(delta(`{"role":"assistant","content":""}`), delta(`{"content":"Hi "}`), delta(`{"content":"there "}`), finished))
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	chatID := res.Body.Text("chat_id")
	if !res.Body.Bool("status") || res.Body.Get("task_ids").Len() != 1 || chatID == "" {
		t.Fatalf("%s", res.Body)
	}
	b.rt.wait(t, "title", func(e jsondoc.Doc) bool { return e.Text("data", "type") == "chat:title" })
	events := b.rt.wait(t, "end", ended)
	var rest []jsondoc.Doc
	for _, e := range events {
		if e.Text("data", "type") != "chat:title" { // made beside the answer, so anywhere among the events
			rest = append(rest, e)
		}
	}
	want := "chat:list chat:active response:completion response:completion/response.output_text.delta chat:completion chat:list chat:completion " +
		"chat:message:follow_ups chat:tags chat:active"
	if got := kinds(rest); got != want {
		t.Errorf("events\n%s\nwant\n%s", got, want)
	}
	m := b.store.message(chatID, "a1")
	if m.Text("content") != "Hi there" || !m.Bool("done") || m.Text("output", "0", "status") != "completed" || m.Text("followUps", "0") != "More?" ||
		m.Text("meta", "task_id") != res.Body.Text("task_ids", "0") {
		t.Errorf("%s", m)
	}
	if title, _ := b.store.Title(context.Background(), chatID); title != "A Title" {
		t.Error(title)
	}
	asked := <-b.asked
	if string(asked.Get("temperature")) != "0.5" || asked.Get("params") != nil || asked.Get("background_tasks") != nil || asked.Get("session_id") != nil ||
		asked.Text("messages", "0", "content") != "hello" || asked.Get("messages").Len() != 1 {
		t.Errorf("%s", asked)
	}
	if len(b.TaskIDs()) != 0 || b.InFlight() != 0 {
		t.Error("a task is left")
	}
}

func TestDeltasThatHaveArrivedAreJoined(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		var s strings.Builder
		for range 50 {
			s.WriteString("data: " + delta(`{"content":"w "}`) + "\n\n")
		}
		_, _ = w.Write([]byte(s.String() + "data: " + finished + "\n\ndata: [DONE]\n\n"))
	})
	if _, err := b.run(question); err != nil {
		t.Fatal(err)
	}
	n, text := 0, ""
	for _, e := range b.rt.wait(t, "end", ended) {
		if e.Text("data", "data", "type") == "response.output_text.delta" {
			n++
			text += e.Text("data", "data", "delta")
		}
	}
	if n >= 50 || text != strings.Repeat("w ", 50) {
		t.Errorf("%d events, text %q", n, text)
	}
}

// TestTheLastDeltaIsSentWithoutAnother holds a stream open: what it said last must not wait for more.
func TestTheLastDeltaIsSentWithoutAnother(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"one ", "two ", "three"} {
			_, _ = w.Write([]byte("data: " + delta(`{"content":"`+word+`"}`) + "\n\n"))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	b.rt.wait(t, "all words", func(e jsondoc.Doc) bool {
		text = ""
		for _, e := range b.rt.all() {
			text += e.Text("data", "data", "delta")
		}
		return text == "one two three"
	})
	b.Stop(context.Background(), res.Body.Text("task_ids", "0"))
}

func TestReasoning(t *testing.T) {
	for name, deltas := range map[string][]string{
		"field":      {delta(`{"reasoning_content":"pon"}`), delta(`{"reasoning_content":"der"}`), delta(`{"content":"done"}`)},
		"other name": {delta(`{"thinking":"ponder"}`), delta(`{"content":"done"}`)},
		"tags":       {delta(`{"content":"<thi"}`), delta(`{"content":"nk>pon"}`), delta(`{"content":"der</th"}`), delta(`{"content":"ink>\n\ndone"}`)},
		"attributes": {delta(`{"content":"<think effort=\"high\">ponder</think>done"}`), delta(`{"content":""}`)},
		"thought":    {delta(`{"content":"◁think▷ponder◁/think▷ done"}`), delta(`{"content":" "}`)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, streamed(append(deltas, finished)...))
			res, err := b.run(question)
			if err != nil {
				t.Fatal(err)
			}
			b.rt.wait(t, "end", ended)
			m := b.store.message(res.Body.Text("chat_id"), "a1")
			out := m.Get("output")
			if out.Len() != 2 || out.Text("0", "type") != "reasoning" || out.Text("0", "content", "0", "text") != "ponder" || out.Text("0", "status") != "completed" ||
				out.Text("1", "content", "0", "text") != "done" || m.Text("content") != "done" {
				t.Errorf("%s", m)
			}
		})
	}
}

func TestProviderErrors(t *testing.T) {
	for name, c := range map[string]struct {
		chat http.HandlerFunc
		text string
	}{
		"status": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(429)
			_, _ = w.Write([]byte(`{"error":{"message":"slow down"}}`))
		}, "slow down"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte("data: " + delta(`{"content":"so"}`) + "\n\n"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "The provider broke off its answer"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.chat)
			res, err := b.run(question)
			if err != nil {
				t.Fatal(err)
			}
			events := b.rt.wait(t, "end", ended)
			m := b.store.message(res.Body.Text("chat_id"), "a1")
			if !strings.HasPrefix(m.Text("error", "content"), c.text) || !m.Bool("done") {
				t.Errorf("%s", m)
			}
			if !strings.Contains(kinds(events), "chat:message:error") {
				t.Error(kinds(events))
			}
		})
	}
}

func TestStop(t *testing.T) {
	cancelled := make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + delta(`{"content":"on and "}`) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(cancelled)
	})
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	chatID := res.Body.Text("chat_id")
	b.rt.wait(t, "first words", func(e jsondoc.Doc) bool { return e.Text("data", "data", "delta") != "" })
	if p := b.Partials(t.Context(), chatID); len(p) != 1 || p[0].Content != "on and " || p[0].MessageID != "a1" {
		t.Errorf("partials %+v", p)
	}
	if !b.Active([]string{chatID, "other"})[chatID] {
		t.Error("not active")
	}
	id := res.Body.Text("task_ids", "0")
	if got := b.Stop(context.Background(), id); !got.Status || got.Message != "Task "+id+" successfully stopped." {
		t.Errorf("%+v", got)
	}
	select {
	case <-cancelled:
	case <-time.After(5 * time.Second):
		t.Error("the provider was not told")
	}
	m := b.store.message(chatID, "a1")
	if m.Text("output", "0", "status") != "incomplete" || !m.Bool("done") || m.Text("content") != "on and " {
		t.Errorf("%s", m)
	}
	n := 0
	for _, e := range b.rt.all() {
		if e.Text("data", "type") == "chat:tasks:cancel" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d cancel events, want 2", n)
	}
	if got := b.Stop(context.Background(), id); got.Status {
		t.Errorf("%+v", got)
	}
}

func TestDrain(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + delta(`{"content":"half"}`) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "first words", func(e jsondoc.Doc) bool { return e.Text("data", "data", "delta") != "" })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := b.Drain(ctx); err == nil {
		t.Error("a running turn was not reported")
	}
	if m := b.store.message(res.Body.Text("chat_id"), "a1"); m.Text("content") != "half" || !m.Bool("done") {
		t.Errorf("%s", m)
	}
	if _, err := b.run(question); !errors.Is(err, errUnavailable) {
		t.Errorf("a new turn after the end: %v", err)
	}
}

func TestContinueAppends(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":" and on"}`), finished))
	b.store.add("c1", "u1")
	b.store.messages["c1"]["q1"] = jsondoc.Doc(`{"id":"q1","role":"user","content":"go"}`)
	b.store.messages["c1"]["a1"] = jsondoc.Doc(`{"id":"a1","role":"assistant","parentId":"q1","content":"on","done":true,"model":"m",
	 "output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"on"}]}]}`)
	_, err := b.run(`{"stream":true,"model":"m","session_id":"s","chat_id":"c1","id":"a1","assistant_message_id":"a1","messages":[]}`)
	if err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "end", ended)
	m := b.store.message("c1", "a1")
	if m.Text("content") != "on and on" || m.Get("output").Len() != 1 || m.Get("output", "0", "content").Len() != 2 || m.Text("output", "0", "id") != "msg_1" {
		t.Errorf("%s", m)
	}
	asked := <-b.asked
	if asked.Text("messages", "1", "content") != "on" || asked.Get("messages").Len() != 2 {
		t.Errorf("%s", asked)
	}
}

func TestPrograms(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":"hi"}`), finished))
	res, err := b.run(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}],"custom":1}`)
	if err != nil || res.Response == nil {
		t.Fatal(err)
	}
	defer res.Response.Close()
	if asked := <-b.asked; string(asked.Get("custom")) != "1" || asked.Get("messages").Len() != 1 {
		t.Errorf("%s", asked)
	}
	if n := len(b.rt.all()); n != 0 {
		t.Errorf("%d events", n)
	}
}

func TestSystemPrompts(t *testing.T) {
	b := newBench(t, streamed(finished))
	base := "m"
	b.rows["chef"] = &models.Row{ID: "chef", BaseModelID: &base, Params: jsondoc.Doc(`{"system":"Be a chef.","temperature":0.1,"top_p":0.2,"custom_params":{"x":"true","y":"word"}}`)}
	res, err := b.run(`{"model":"chef","top_p":0.9,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"x"},{"role":"system","content":"Be kind."}]}`)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Response.Close()
	asked := <-b.asked
	if got := asked.Text("messages", "0", "content"); got != "Be a chef.\nBe brief.\nBe kind." {
		t.Errorf("%q", got)
	}
	if asked.Text("model") != "m" || string(asked.Get("temperature")) != "0.1" || string(asked.Get("top_p")) != "0.9" || string(asked.Get("x")) != "true" || asked.Text("y") != "word" {
		t.Errorf("%s", asked)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t, streamed(finished))
	for name, c := range map[string]struct {
		body   string
		status int
		detail string
	}{
		"unknown model":    {`{"model":"x","messages":[]}`, 400, "Model not found"},
		"no model":         {`{"messages":[]}`, 400, "Model not found"},
		"model is no text": {`{"model":{"a":1}}`, 400, "Model not found"},
		"unknown chat":     {`{"model":"m","chat_id":"nope","id":"a","messages":[]}`, 404, web.TextNotFound},
		"odd controls":     {`{"model":"m","params":{"model_controls":[1]}}`, 400, "Model control options must be keyed by model."},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.run(c.body)
			var w *web.Error
			if !errors.As(err, &w) || w.Status != c.status || w.Detail != c.detail {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := b.Run(context.Background(), Request{Principal: &auth.Principal{User: &users.User{ID: "u2", Role: "user"}}, Caller: &llm.Caller{}, Body: jsondoc.Doc(`{"model":"m"}`)})
	var w *web.Error
	if !errors.As(err, &w) || w.Status != 400 || w.Detail != "Model not found" {
		t.Errorf("without a grant: %v", err)
	}
}

func TestOtherReadersSeeTheAnswer(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":"hi"}`), finished))
	b.rt.watch = true
	if _, err := b.run(question); err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "end", ended)
	b.rt.mu.Lock()
	defer b.rt.mu.Unlock()
	last := b.rt.others[len(b.rt.others)-1]
	if !last.Bool("shared") || last.Text("user_id") != "u1" {
		t.Errorf("%s", last)
	}
	seen := false
	for _, e := range b.rt.others {
		seen = seen || e.Text("data", "data", "output", "0", "content", "0", "text") == "hi"
		if k := e.Text("data", "type"); k == "response:completion" || k == "chat:title" || k == "chat:tags" || k == "chat:list" {
			t.Errorf("others got %s", k)
		}
	}
	if !seen {
		t.Error("nobody saw the answer")
	}
}

// TestBrokenOff checks that what people have read of an answer is kept when its provider dies.
func TestBrokenOff(t *testing.T) {
	die := make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + delta(`{"content":"so far"}`) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-die
		panic(http.ErrAbortHandler)
	})
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	b.rt.wait(t, "first words", func(e jsondoc.Doc) bool { return e.Text("data", "data", "delta") != "" })
	time.AfterFunc(glance, func() { close(die) })
	b.rt.wait(t, "end", ended)
	m := b.store.message(res.Body.Text("chat_id"), "a1")
	if m.Text("content") != "so far" || m.Text("output", "0", "status") != "incomplete" || !m.Bool("done") ||
		!strings.HasPrefix(m.Text("error", "content"), "The provider broke off its answer") {
		t.Errorf("%s", m)
	}
}
