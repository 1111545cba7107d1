package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

func TestModels(t *testing.T) {
	s := newServer(t).people()
	for _, path := range []string{"/api/models", "/api/v1/models?refresh=true"} {
		if d := s.Call(s.adminKey, "GET "+path, "").Doc(); d.Get("data").Len() != 6 || d.Text("data", "0", "id") != "good" {
			t.Errorf("%s: %s", path, d)
		}
		want(t, s.Call(s.userKey, "GET "+path, ""), 200, `{"data":[]}`)
	}
	if d := s.Call(s.adminKey, "GET /api/models/base", "").Doc(); d.Get("data").Len() != 6 {
		t.Errorf("base: %s", d)
	}
	want(t, s.Call(s.userKey, "GET /api/models/base", ""), 401, "")
	s.provider.requests("")
	want(t, s.Call(s.adminKey, "POST /api/models/unload", `{"model":"llama:1b"}`), 200, `{"status":true}`)
	if sent := s.provider.requests("/api/generate"); len(sent) != 1 || sent[0] != `{"model":"llama:1b","keep_alive":0,"prompt":""}` {
		t.Errorf("asked %v", sent)
	}
	want(t, s.Call(s.adminKey, "POST /api/models/unload", `{"model":"good"}`), 400, `{"detail":"Provider \"default\" does not support model unloading"}`)
	want(t, s.Call(s.adminKey, "POST /api/models/unload", `{"model":"none"}`), 404, `{"detail":"Model \"none\" not found"}`)
	want(t, s.Call(s.adminKey, "POST /api/models/unload", `{}`), 422, "")
	want(t, s.Call(s.userKey, "POST /api/models/unload", `{"model":"good"}`), 401, "")
}

func TestEmbeddings(t *testing.T) {
	s := newServer(t).people()
	for _, path := range []string{"/api/embeddings", "/api/v1/embeddings"} {
		want(t, s.Call(s.adminKey, "POST "+path, `{"model":"good","input":"x"}`), 200, `{"object":"list","data":[{"embedding":[0.5]}]}`)
	}
	if d := s.Call(s.adminKey, "POST /api/embeddings", `{"model":"llama:1b","input":["x"]}`).Doc(); d.Get("data", "0", "embedding").String() != "[1,0]" {
		t.Errorf("ollama: %s", d)
	}
	want(t, s.Call(s.adminKey, "POST /api/embeddings", `{"model":"none","input":"x"}`), 400, modelNotFound)
	want(t, s.Call(s.userKey, "POST /api/embeddings", `{"model":"good","input":"x"}`), 400, modelNotFound)
	want(t, s.Call(s.adminKey, "POST /api/embeddings", `["x"]`), 422, "")
}

func TestMessages(t *testing.T) {
	s := newServer(t).people()
	ask := func(model string, stream bool) (int, string) {
		a := s.Call(s.adminKey, "POST /api/v1/messages", fmt.Sprintf(`{"model":%q,"max_tokens":5,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream))
		return a.Code, a.Body.String()
	}
	if code, body := ask("good", false); code != 200 || jsondoc.Doc(body).Text("content", "0", "text") != "hello" || jsondoc.Doc(body).Get("usage", "input_tokens").String() != "21" {
		t.Errorf("whole: %d %s", code, body)
	}
	code, body := ask("good", true)
	if code != 200 || !strings.Contains(body, `"input_tokens":21`) || !strings.Contains(body, `"text_delta","text":"lo"`) || !strings.HasSuffix(body, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n") {
		t.Errorf("stream: %d %s", code, body)
	}
	if code, body := ask("broken", true); code != 200 || !strings.HasSuffix(body, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Chat completion stream failed\"}}\n\n") {
		t.Errorf("broken off: %d %s", code, body)
	}
	for _, streamed := range []bool{false, true} {
		if code, body := ask("refusing", streamed); code != 429 || body != `{"error":{"message":"slow down"}}` {
			t.Errorf("refused: %d %s", code, body)
		}
	}
	if code, body := ask("none", false); code != 400 || body != modelNotFound {
		t.Errorf("unknown: %d %s", code, body)
	}
	want(t, s.Call(s.adminKey, "POST /api/message", `{"model":"good","messages":"x"}`), 400, "")
	want(t, s.Call(s.adminKey, "POST /api/message/count_tokens", `{"model":"good","messages":[]}`), 200, `{"input_tokens":21}`)
	want(t, s.Call(s.adminKey, "POST /api/message/count_tokens", `{"model":"mute","messages":[]}`), 418, `{"detail":{"error":"no"}}`)
	want(t, s.Call(s.adminKey, "POST /api/message/count_tokens", `{"messages":[]}`), 400, `{"detail":"model is required"}`)
	want(t, s.Call(s.adminKey, "POST /api/v1/messages/count_tokens", `{"model":"llama:1b"}`), 404, `{"detail":"Model '' was not found"}`)
	want(t, s.Call(s.userKey, "POST /api/v1/messages/count_tokens", `{"model":"good"}`), 403, modelNotFound)
	want(t, s.Call("", "POST /api/v1/messages", `{}`), 401, "")
}

// TestMessagesPassThrough has a connection that speaks Messages itself.
func TestMessagesPassThrough(t *testing.T) {
	s := newServer(t).people()
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/models":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"data":[{"id":"claude"}]}`)
		case "/v1/messages":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: ping\ndata: {}\n\n")
		}
	})
	srv := httptest.NewServer(upstream)
	t.Cleanup(srv.Close)
	s.module.Providers.Configure(llm.Settings{OpenAIEnable: true, OpenAIURLs: []string{srv.URL + "/v1"}, OpenAIConfigs: jsontext.Value(`{"0":{"provider":"litellm"}}`)}.Connections())
	a := s.Call(s.adminKey, "POST /api/v1/messages", `{"model":"claude","stream":true,"messages":[]}`)
	if a.Code != 200 || a.Body.String() != "event: ping\ndata: {}\n\n" || !strings.HasPrefix(a.Header().Get("Content-Type"), "text/event-stream") {
		t.Errorf("%d %q %v", a.Code, a.Body, a.Header())
	}
	want(t, s.Call(s.userKey, "POST /api/v1/messages", `{"model":"claude","messages":[]}`), 403, modelNotFound)
}
