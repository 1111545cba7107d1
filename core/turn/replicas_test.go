package turn

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/replicas/replicastest"
)

// TestReplicas has two processes, of which one works and the other is asked.
func TestReplicas(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + delta(`{"content":"on and "}`) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	var net replicastest.Network
	engine := func(rt Realtime) (e *Engine) {
		net.NewNode(t, func(n *replicas.Node) {
			d := b.Deps
			d.Replicas, d.Realtime = n, rt
			e = New(d)
		})
		return e
	}
	pages := newRecorder()
	other := engine(pages)
	b.Engine = engine(b.rt)
	begin := func() (chatID, taskID string) {
		t.Helper()
		res, err := b.run(question)
		if err != nil {
			t.Fatal(err)
		}
		chatID, taskID = res.Body.Text("chat_id"), res.Body.Text("task_ids", "0")
		for end := time.Now().Add(30 * time.Second); !other.Active([]string{chatID})[chatID] || len(b.Partials(t.Context(), chatID)) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the other process does not hear of it")
			}
		}
		return chatID, taskID
	}
	chatID, taskID := begin()
	if got := append(other.TaskIDs(), other.ChatTaskIDs(chatID)...); len(got) != 2 || got[0] != taskID || got[1] != taskID || other.InFlight() != 0 {
		t.Errorf("tasks %v", got)
	}
	if p := other.Partials(t.Context(), chatID); len(p) != 1 || p[0].Content != "on and " || p[0].MessageID != "a1" || p[0].Output.Kind() != '[' {
		t.Errorf("partials %+v", p)
	}
	if got := other.Stop(t.Context(), taskID); !got.Status || got.Message != "Task "+taskID+" successfully stopped." {
		t.Errorf("%+v", got)
	}
	if m := b.store.message(chatID, "a1"); !m.Bool("done") || m.Text("content") != "on and " {
		t.Errorf("%s", m)
	}
	if got := other.Stop(t.Context(), taskID); got.Status {
		t.Errorf("again: %+v", got)
	}

	// a process that is not heard of any more: its pages are told that nothing will follow
	chatID, _ = begin()
	net.Cut(true)
	told := pages.wait(t, "the end", ended)
	for _, e := range told {
		if e.Text("chat_id") != chatID || e.Text("message_id") != "a1" {
			t.Errorf("%s", e)
		}
	}
	if got := kinds(told); got != "chat:tasks:cancel chat:active" || other.Active([]string{chatID})[chatID] {
		t.Errorf("told of %s", got)
	}
	if p := other.Partials(t.Context(), chatID); p != nil {
		t.Errorf("partials of one that is gone: %+v", p)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.Drain(over) // says how many were stopped
}
