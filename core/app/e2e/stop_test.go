package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// newSlowModel is an OpenAI-compatible server that says one word and keeps the rest until release is closed.
func newSlowModel(t *testing.T, release <-chan struct{}) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"slow","object":"model","created":1700000000,"owned_by":"test"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		say := func(word string) {
			_, _ = fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"slow\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", word)
			_ = http.NewResponseController(w).Flush()
		}
		say("first")
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		say("last")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

// TestStopWaitsForAnswers stops the server in the middle of a streamed answer, which comes to its end within the grace.
func TestStopWaitsForAnswers(t *testing.T) {
	release := make(chan struct{})
	model := newSlowModel(t, release)
	s := start(t, "DATA_DIR="+t.TempDir(), "OPENAI_API_BASE_URL="+model.URL+"/v1", "OPENAI_API_KEY=k", "ENABLE_OLLAMA_API=false", "GALLEY_SHUTDOWN_TIMEOUT=30")
	token := signUp(t, s)

	// The list of models is what a chat's model is looked up in.
	resp := send(t, s, token, "GET", "/api/models", "")
	_ = resp.Body.Close()
	resp = send(t, s, token, "POST", "/api/chat/completions", `{"model":"slow","stream":true,"messages":[{"role":"user","content":"go"}]}`)
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "first") {
		t.Fatalf("%q %v", line, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Once it has begun to stop, the rest of the answer may come.
	for deadline := time.Now().Add(patience); !strings.Contains(s.logged(), "msg=stopping"); {
		if time.Now().After(deadline) {
			t.Fatalf("it does not stop\n%s", s.logged())
		}
		<-time.After(time.Millisecond)
	}
	close(release)
	rest, err := io.ReadAll(in)
	if err != nil || !strings.Contains(string(rest), "last") || !strings.Contains(string(rest), "[DONE]") {
		t.Errorf("the answer broke off: %q %v", rest, err)
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.logged())
	}
}

// TestStopGivesUp stops the server while an answer never comes to its end.
func TestStopGivesUp(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	model := newSlowModel(t, release)
	s := start(t, "DATA_DIR="+t.TempDir(), "OPENAI_API_BASE_URL="+model.URL+"/v1", "OPENAI_API_KEY=k", "ENABLE_OLLAMA_API=false", "GALLEY_SHUTDOWN_TIMEOUT=1")
	token := signUp(t, s)
	resp := send(t, s, token, "GET", "/api/models", "")
	_ = resp.Body.Close()
	resp = send(t, s, token, "POST", "/api/chat/completions", `{"model":"slow","stream":true,"messages":[{"role":"user","content":"go"}]}`)
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.Contains(line, "first") {
		t.Fatalf("%q %v", line, err)
	}
	begin := time.Now()
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.logged())
	}
	if took := time.Since(begin); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("stopped after %v, the grace is one second", took)
	}
}

// signUp makes the administrator and gives a session's token.
func signUp(t *testing.T, s *server) string {
	t.Helper()
	resp := send(t, s, "", "POST", "/api/v1/auths/signup", `{"name":"Admin","email":"admin@e2e.test","password":"e2e-admin-1"}`)
	defer resp.Body.Close()
	var out struct {
		Token string `json:"token"`
	}
	if err := json.UnmarshalRead(resp.Body, &out); err != nil || out.Token == "" {
		t.Fatalf("sign up: %d %v\n%s", resp.StatusCode, err, s.logged())
	}
	return out.Token
}

func send(t *testing.T, s *server, token, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %d %s\n%s", method, path, resp.StatusCode, text, s.logged())
	}
	return resp
}
