package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// hook receives events; it answers after delay.
type hook struct {
	*httptest.Server
	delay time.Duration
	mu    sync.Mutex
	got   []jsondoc.Doc
}

func newHook(t *testing.T, delay time.Duration) *hook {
	h := &hook{delay: delay}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	h.got = append(h.got, body)
	h.mu.Unlock()
	select {
	case <-time.After(h.delay):
	case <-r.Context().Done():
	}
}

// events are the names of what was received.
func (h *hook) events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, d := range h.got {
		out = append(out, d.Text("event"))
	}
	return out
}

// wait waits for an event and gives it.
func (h *hook) wait(t *testing.T, name string) jsondoc.Doc {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		i := slices.IndexFunc(h.got, func(d jsondoc.Doc) bool { return d.Text("event") == name })
		var d jsondoc.Doc
		if i >= 0 {
			d = h.got[i]
		}
		h.mu.Unlock()
		if d != nil {
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("no %s among %v", name, h.events())
		}
	}
}

func TestEventsReachWebhooks(t *testing.T) {
	h := newHook(t, 0)
	a, _, do := filteredApp(t, nil, "WEBHOOK_URL", h.URL, "ENABLE_LOCAL_WEB_FETCH", "true", "INSTANCE_ID", "i1")
	w := do("POST /api/chat/completions", `{"model":"m","stream":true,"session_id":"s","id":"an","parent_id":null,"user_message":{"id":"q","role":"user","content":"hello","parentId":null},"messages":[{"role":"user","content":"hello"}]}`)
	chat := jsondoc.Doc(w.Body.Bytes()).Text("chat_id")
	if chat == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	done := h.wait(t, "chat.finished")
	id := done.Text("actor", "id")
	if got := done.Get("data").String(); got != `{"user_id":"`+id+`","chat_id":"`+chat+`","message_id":"an","model_id":"m","title":"New Chat","url":"/c/`+chat+`","message":"hi"}` ||
		done.Text("message") != "New Chat" || done.Text("instance_id") != "i1" || done.Text("subject", "id") != chat {
		t.Errorf("chat.finished: %s", done)
	}
	got := h.events()
	want := []string{"system.startup.started", "system.startup.completed", "auth.login", "model.provider_config.updated", "chat.created", "message.created", "message.created", "chat.finished"}
	if !slices.Equal(got, want) {
		t.Errorf("events %v\nwant   %v", got, want)
	}
	if d := h.wait(t, "message.created"); d.Get("data").String() != `{"chat_id":"`+chat+`","role":"user","content_preview":"hello"}` {
		t.Errorf("message.created: %s", d)
	}
	if _, text := get(t, a, "/metrics"); !strings.Contains(text, `galley_webhook_messages_total{outcome="failed"} 0`) {
		t.Errorf("metrics: %.200s", text)
	}
}

func TestShutdownIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		delay time.Duration
		all   bool
	}{"a quick receiver": {0, true}, "one that hangs": {time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, tc.delay)
			a := open(t, map[string]string{"WEBHOOK_URL": h.URL, "ENABLE_LOCAL_WEB_FETCH": "true", "GALLEY_SHUTDOWN_TIMEOUT": "1.2"})
			ctx, cancel := context.WithCancel(t.Context())
			a.Config.Ready = func(*App, string) { cancel() }
			begin := time.Now()
			if err := listenAndServe(ctx, a); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			want := []string{"system.startup.started", "system.startup.completed", "system.shutdown.started", "system.shutdown.completed"}
			if !tc.all {
				want = want[:1]
			}
			if got := h.events(); !slices.Equal(got, want) {
				t.Errorf("events %v", got)
			}
		})
	}
}

// TestConnectionsFollowRoles: the sessions of an account end with its role, and with the account.
func TestConnectionsFollowRoles(t *testing.T) {
	a, _, do := filteredApp(t, nil, "ENABLE_WEBSOCKET_SUPPORT", "false")
	added := jsondoc.Doc(do("POST /api/v1/auths/add", `{"name":"Ann","email":"ann@x.test","password":"secret-1","role":"user"}`).Body.Bytes())
	id := added.Text("id")
	sockets := func(n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); len(a.Realtime.UserSockets(id)) != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d sockets, want %d", len(a.Realtime.UserSockets(id)), n)
			}
		}
	}
	connect := func() {
		t.Helper()
		connectPolling(t, a, added.Text("token"))
		sockets(1)
	}
	connect()
	do("POST /api/v1/users/"+id+"/update", `{"name":"Anna"}`)
	sockets(1)
	do("POST /api/v1/users/"+id+"/update", `{"role":"admin"}`)
	sockets(0)
	connect()
	do("DELETE /api/v1/users/"+id, "")
	sockets(0)
}

func TestRefusalData(t *testing.T) {
	openAI := llm.Connection{Kind: llm.KindOpenAI, URL: "http://p/v1", Key: "sk-secret"}
	for _, tc := range []struct {
		name string
		r    llm.Refusal
		want string
	}{
		{"OpenAI's form", llm.Refusal{Connection: openAI, Address: "http://p/v1", Model: "m", Status: 500, Type: "application/json", Body: []byte(`{"error":{"message":"exploded","type":"server_error"}}`)},
			`{"error_type":"server_failed","status":500,"provider":"openai-compatible","base_url":"http://p/v1","requested_model":"m","api_key_suffix":"...cret","upstream_error_code":"server_error","upstream_message":"exploded"}`},
		{"no such model", llm.Refusal{Connection: openAI, Address: "a", Model: "m", Status: 404, Type: "application/json; charset=utf-8", Body: []byte(`{"error":{"message":"The model m Does Not Exist","code":404}}`)},
			`{"error_type":"model_not_found","status":404,"provider":"openai-compatible","base_url":"a","requested_model":"m","api_key_suffix":"...cret","upstream_error_code":404,"upstream_message":"The model m Does Not Exist"}`},
		{"text", llm.Refusal{Connection: llm.Connection{Kind: llm.KindOpenAI}, Address: "a", Status: 429, Type: "text/plain", Body: []byte("slow down")},
			`{"error_type":"rate_limited","status":429,"provider":"openai-compatible","base_url":"a","upstream_message":"slow down"}`},
		{"Ollama", llm.Refusal{Connection: llm.Connection{Kind: llm.KindOllama, Key: "k"}, Address: "http://o/api/chat", Status: 401, Type: "application/json", Body: []byte(`{"error":"no"}`)},
			`{"error_type":"authentication_failed","status":401,"provider":"ollama","base_url":"http://o/api/chat","upstream_message":"no"}`},
		{"nothing", llm.Refusal{Address: "a", Status: 404}, `{"error_type":"upstream_error","status":404,"provider":"openai-compatible","base_url":"a"}`},
		{"another object", llm.Refusal{Address: "a", Status: 400, Type: "application/json", Body: []byte(`{"detail":"x"}`)}, `{"error_type":"upstream_error","status":400,"provider":"openai-compatible","base_url":"a"}`},
	} {
		if got := jsondoc.Of(refusalData(tc.r)).String(); got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, got, tc.want)
		}
	}
}
