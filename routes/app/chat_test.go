package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
)

const (
	textNotHere   = `{"detail":"We could not find what you're looking for :/"}`
	textNoAccess  = `{"detail":"You do not have permission to access this resource. Please contact your administrator for assistance."}`
	modelNotFound = `{"detail":"Model not found"}`
)

func TestCompletions(t *testing.T) {
	s := newServer(t).people()
	ask := func(key, model string, stream bool) (string, int, http.Header) {
		a := s.Call(key, "POST /api/chat/completions", fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream))
		return a.Body.String(), a.Code, a.Header()
	}
	if body, code, _ := ask(s.adminKey, "good", false); code != 200 || jsondoc.Doc(body).Text("choices", "0", "message", "content") != "hello" {
		t.Errorf("whole: %d %s", code, body)
	}
	stream := chunk(`{"content":"hel"}`, "null") + chunk(`{"content":"lo"}`, `"stop"`) + "data: [DONE]\n\n"
	if body, code, h := ask(s.adminKey, "good", true); code != 200 || body != stream || h.Get("Content-Type") != "text/event-stream" {
		t.Errorf("stream: %d %q %v", code, body, h)
	}
	if body, code, _ := ask(s.adminKey, "broken", true); code != 200 || body != chunk(`{"content":"hel"}`, "null")+brokenOff {
		t.Errorf("broken off: %d %q", code, body)
	}
	for _, streamed := range []bool{false, true} {
		if body, code, h := ask(s.adminKey, "refusing", streamed); code != 429 || body != `{"error":{"message":"slow down"}}` || h.Get("Retry-After") != "7" {
			t.Errorf("refused: %d %q %v", code, body, h)
		}
	}
	for _, tc := range []struct{ key, model string }{{s.adminKey, "unknown"}, {s.adminKey, ""}, {s.userKey, "good"}} {
		if body, code, _ := ask(tc.key, tc.model, false); code != 400 || body != modelNotFound {
			t.Errorf("%q: %d %s", tc.model, code, body)
		}
	}
	want(t, s.Call("", "POST /api/v1/chat/completions", `{}`), 401, `{"detail":"Not authenticated"}`)
	want(t, s.Call(s.adminKey, "POST /api/chat/completions", `[]`), 422, "")
}

// TestStreamGoesOutAtOnce reads the first piece while the provider holds the rest back, and goes away.
func TestStreamGoesOutAtOnce(t *testing.T) {
	s := newServer(t).people()
	srv := httptest.NewServer(s.Router)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for path, first := range map[string]string{"/api/chat/completions": "data: {", "/api/v1/messages": "event: message_start"} {
		req, err := http.NewRequestWithContext(ctx, "POST", srv.URL+path, strings.NewReader(`{"model":"slow","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.adminKey)
		req.Header.Set("Content-Type", "application/json")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		n, err := resp.Body.Read(buf)
		if !strings.HasPrefix(string(buf[:n]), first) {
			t.Errorf("%s: %q, %v", path, buf[:n], err)
		}
		resp.Body.Close()
	}
}

func TestTasks(t *testing.T) {
	s := newServer(t).people()
	id := s.newChat(t, `{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","content":"!","done":true}`)
	want(t, s.Call(s.adminKey, "GET /api/tasks", ""), 200, `{"tasks":[]}`)
	want(t, s.Call(s.userKey, "GET /api/tasks", ""), 401, textNoAccess)
	want(t, s.Call(s.adminKey, "POST /api/tasks/stop/x", ""), 200, `{"status":false,"message":"Task with ID x not found."}`)
	want(t, s.Call(s.userKey, "GET /api/tasks/chat/"+id, ""), 200, `{"task_ids":[]}`)
	want(t, s.Call(s.userKey, "POST /api/tasks/chat/"+id+"/stop", ""), 200, `{"status":true,"message":"No tasks found."}`)
	want(t, s.Call(s.otherKey, "POST /api/tasks/chat/"+id+"/stop", ""), 404, textNotHere)
	want(t, s.Call(s.userKey, "POST /api/tasks/chat/none/stop", ""), 404, textNotHere)

	s.sessions["sock"] = s.user.ID
	want(t, s.Call(s.userKey, "POST /api/tasks/chat/local:sock/stop", ""), 200, `{"status":true,"message":"No tasks found for item local:sock."}`)
	want(t, s.Call(s.otherKey, "POST /api/tasks/chat/temporary:sock/stop", ""), 404, textNotHere)
	want(t, s.Call(s.adminKey, "POST /api/tasks/chat/temporary:sock/stop", ""), 200, "")
}

func TestStopTurn(t *testing.T) {
	s := newServer(t).people()
	start := func(key, chat string) string {
		t.Helper()
		a := s.Call(key, "POST /api/chat/completions", fmt.Sprintf(`{"model":"slow","stream":true,"session_id":"sock","chat_id":%q,"id":"a2","user_message":{"id":"q2","parentId":null,"role":"user","content":"hi"},"messages":[{"role":"user","content":"hi"}]}`, chat))
		task := a.Doc().Text("task_ids", "0")
		if task == "" {
			t.Fatalf("turn: %d %s", a.Code, a.Body)
		}
		return task
	}
	s.sessions["sock"] = s.admin.ID
	task := start(s.adminKey, "local:sock")
	want(t, s.Call(s.userKey, "GET /api/tasks/chat/local:sock", ""), 200, `{"task_ids":[]}`)
	want(t, s.Call(s.adminKey, "GET /api/tasks/chat/local:sock", ""), 200, `{"task_ids":["`+task+`"]}`)
	want(t, s.Call(s.adminKey, "POST /api/tasks/chat/local:sock/stop", ""), 200, `{"status":true,"message":"All tasks for item local:sock stopped."}`)

	c := s.Call(s.adminKey, "POST /api/chat/completions", `{"model":"slow","stream":true,"session_id":"sock","parent_id":null,"id":"a1","user_message":{"id":"q1","role":"user","content":"hi"},"messages":[]}`)
	chat, task := c.Doc().Text("chat_id"), c.Doc().Text("task_ids", "0")
	want(t, s.Call(s.adminKey, "GET /api/tasks", ""), 200, `{"tasks":["`+task+`"]}`)
	want(t, s.Call(s.adminKey, "GET /api/tasks/chat/"+chat, ""), 200, `{"task_ids":["`+task+`"]}`)
	want(t, s.Call(s.userKey, "GET /api/tasks/chat/"+chat, ""), 200, `{"task_ids":[]}`)
	want(t, s.Call(s.adminKey, "POST /api/tasks/chat/"+chat+"/stop", ""), 200, `{"status":true,"message":"Task `+task+` successfully stopped."}`)
	want(t, s.Call(s.adminKey, "GET /api/tasks/chat/"+chat, ""), 200, `{"task_ids":[]}`)
}

func TestStopFinishesWhatWaits(t *testing.T) {
	s := newServer(t).people()
	id := s.newChat(t, `{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","content":"","done":false,
		"output":[{"type":"function_call","call_id":"c","status":"queued","approved":true},{"type":"function_call","call_id":"d","status":"completed"}]}`)
	want(t, s.Call(s.userKey, "POST /api/tasks/chat/"+id+"/stop", ""), 200, `{"status":true,"message":"Finalized pending approval message."}`)
	if got, w := s.sockets.take(), strings.Join([]string{"user:" + s.user.ID + " chat:completion", "chat:" + id + " chat:completion",
		"user:" + s.user.ID + " chat:tasks:cancel", "chat:" + id + " chat:tasks:cancel"}, "\n"); got != w {
		t.Errorf("events\n%s\nwant\n%s", got, w)
	}
	m, err := s.chats.Message(context.Background(), id, "a")
	if err != nil || !m.Bool("done") || m.Text("output", "0", "status") != "rejected" || m.Get("output", "0", "approved") != nil || m.Text("output", "1", "status") != "completed" {
		t.Errorf("message %s, %v", m, err)
	}
	want(t, s.Call(s.userKey, "POST /api/tasks/chat/"+id+"/stop", ""), 200, `{"status":true,"message":"No tasks found."}`)
}

func TestCompletedAndActions(t *testing.T) {
	s := newServer(t).people()
	id := s.newChat(t, `{"id":"a","role":"assistant","content":""}`)
	body := `{"model":"good","messages":[],"chat_id":"` + id + `","session_id":"s","id":"m"}`
	want(t, s.Call(s.userKey, "POST /api/chat/completed", strings.Replace(body, "}", `,"model_item":{}}`, 1)), 200, body)
	for edit, detail := range map[[2]string]string{
		{`"id":"m"`, `"id":""`}:           "Missing message id",
		{`"model":"good"`, `"model":"x"`}: "Model not found",
		{`"model":"good",`, ``}:           "'model'",
		{`"session_id":"s",`, ``}:         "'session_id'",
		{id, "channel:x"}:                 "Channel chats are not supported on this endpoint",
	} {
		want(t, s.Call(s.userKey, "POST /api/chat/completed", strings.Replace(body, edit[0], edit[1], 1)), 400, `{"detail":"`+detail+`"}`)
	}
	want(t, s.Call(s.otherKey, "POST /api/chat/completed", body), 404, `{"detail":"Something went wrong :/"}`)
	want(t, s.Call(s.adminKey, "POST /api/chat/completed", body), 200, body)
	want(t, s.Call(s.otherKey, "POST /api/chat/completed", strings.Replace(body, id, "local:x", 1)), 200, "")
	want(t, s.Call(s.userKey, "POST /api/chat/actions/thing.part", body), 400, `{"detail":"Action not found: thing"}`)
	want(t, s.Call(s.otherKey, "POST /api/chat/actions/thing", body), 404, `{"detail":"Something went wrong :/"}`)
	want(t, s.Call("", "POST /api/chat/actions/thing", body), 401, "")
}

func TestResolve(t *testing.T) {
	s := newServer(t).people()
	const call = `{"type":"function_call","id":"c1","call_id":"c1","name":"f","status":"pending","arguments":"{}"}`
	const question = `{"type":"function_call","id":"c2","call_id":"c2","name":"ask_user","status":"queued","arguments":"{}"}`
	chat := func(output string) string {
		return s.newChat(t, `{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","model":"good","content":"","done":false,"output":`+output+`}`)
	}
	decide := func(key, id, body string) (int, string) {
		a := s.Call(key, "POST /api/v1/chats/"+id+"/messages/a/resolve", body)
		return a.Code, a.Body.String()
	}
	both := chat("[" + call + "," + question + "]")
	for _, tc := range []struct {
		key, chat, body string
		code            int
		detail          string
	}{
		{s.userKey, both, `{"call_id":"x","action":"approve"}`, 404, "Tool call not found."},
		{s.userKey, both, `{"call_id":"c1","action":"answer","answers":{}}`, 400, "Tool call does not accept answers."},
		{s.userKey, both, `{"call_id":"c2","action":"approve"}`, 400, "ask_user requires an answer or deny."},
		{s.userKey, both, `{"call_id":"c2","action":"answer"}`, 400, "Answers are required for ask_user."},
		{s.otherKey, both, `{"call_id":"c1","action":"reject"}`, 401, jsondoc.Doc(textNoAccess).Text("detail")},
		{s.userKey, "none", `{"call_id":"c1","action":"reject"}`, 401, jsondoc.Doc(textNoAccess).Text("detail")},
		{s.userKey, chat(`{"a":1}`), `{"call_id":"c1","action":"reject"}`, 400, "Message has no resolvable output."},
		{s.userKey, chat("[" + strings.Replace(call, "pending", "completed", 1) + "]"), `{"call_id":"c1","action":"reject"}`, 409, "Tool call has already been resolved."},
	} {
		if code, body := decide(tc.key, tc.chat, tc.body); code != tc.code || jsondoc.Doc(body).Text("detail") != tc.detail {
			t.Errorf("%s: %d %s", tc.body, code, body)
		}
	}
	if code, body := decide(s.userKey, both, `{"call_id":"c1","action":"maybe"}`); code != 422 {
		t.Errorf("unknown action: %d %s", code, body)
	}
	s.sockets.take()
	if code, body := decide(s.userKey, both, `{"call_id":"c1","action":"reject"}`); code != 200 || body != `{"status":true,"chat_id":"`+both+`","message_id":"a","task_ids":[]}` {
		t.Errorf("one of two: %d %s", code, body)
	}
	if got := s.sockets.take(); !strings.HasPrefix(got, "user:"+s.user.ID+" chat:completion") {
		t.Errorf("events %s", got)
	}
	m, err := s.chats.Message(context.Background(), both, "a")
	if err != nil || m.Text("output", "0", "status") != "rejected" || m.Text("output", "1", "status") != "pending" || m.Text("output", "2", "id") != "fco_c1" {
		t.Errorf("message %s, %v", m, err)
	}
	if code, body := decide(s.userKey, both, `{"call_id":"c1","action":"approve"}`); code != 409 {
		t.Errorf("decided before: %d %s", code, body)
	}
}

func TestResolveLetsTheAnswerGoOn(t *testing.T) {
	s := newServer(t).people()
	s.user, s.userKey = s.admin, s.adminKey // may use every model
	id := s.newChat(t, `{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","model":"good","content":"","done":false,
		"output":[{"type":"function_call","id":"c1","call_id":"c1","name":"ask_user","status":"pending","arguments":"{}"}]}`)
	want(t, s.Call(s.userKey, "POST /api/v1/chats/"+id+"/messages/a/resolve", `{"call_id":"c1","action":"answer","answers":{"x":"y"}}`), 200, "")
	m, err := s.chats.Message(context.Background(), id, "a")
	if err != nil || !m.Bool("done") || !strings.Contains(m.Text("content"), "hello") {
		t.Errorf("message %s, %v", m, err)
	}
	sent := s.provider.requests("/v1/chat/completions")
	if len(sent) != 1 || !strings.Contains(sent[0], `answered`) {
		t.Errorf("asked %v", sent)
	}
}
