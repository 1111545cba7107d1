package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// newModels is an OpenAI-compatible server with one model that repeats what it is told, and answers what asks for a
// title, tags or follow-up questions with such.
func newModels(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"echo-small","object":"model","created":1700000000,"owned_by":"echo"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Stream   bool `json:"stream"`
			Messages []struct {
				Content any `json:"content"`
			} `json:"messages"`
		}
		if err := json.UnmarshalRead(r.Body, &in); err != nil || len(in.Messages) == 0 {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		reply := echo(fmt.Sprint(in.Messages[len(in.Messages)-1].Content))
		if !in.Stream {
			w.Header().Set("Content-Type", "application/json")
			_ = json.MarshalWrite(w, map[string]any{"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "echo-small",
				"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": reply}}}})
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range append(strings.SplitAfter(reply, " "), "") {
			choice := map[string]any{"index": 0, "delta": map[string]any{"content": word}, "finish_reason": nil}
			if word == "" {
				choice = map[string]any{"index": 0, "delta": map[string]any{}, "finish_reason": "stop"}
			}
			event, _ := json.Marshal(map[string]any{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000,
				"model": "echo-small", "choices": []any{choice}})
			_, _ = fmt.Fprintf(w, "data: %s\n\n", event)
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func echo(prompt string) string {
	switch {
	case strings.Contains(prompt, `"follow_ups"`):
		return `{"follow_ups": ["First question?", "Second question?"]}`
	case strings.Contains(prompt, `"title"`):
		return `{"title": "Echo Title"}`
	case strings.Contains(prompt, `"tags"`):
		return `{"tags": ["Alpha", "Beta"]}`
	}
	return "You said: " + prompt
}
