package jupyter

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// server is a Jupyter server with one kernel, which answers with what the test says.
type server struct {
	t        *testing.T
	token    string
	password string
	say      []map[string]any // msg_type, content and, for messages that answer somebody else, other

	mu      sync.Mutex
	code    string
	kernels int
	ended   int
}

func (s *server) admits(r *http.Request) bool {
	if s.token != "" {
		return r.URL.Query().Get("token") == s.token
	}
	if s.password != "" {
		c, err := r.Cookie("user")
		return err == nil && c.Value == "in" && (r.Method == http.MethodGet && r.Header.Get("Upgrade") == "" || r.Header.Get("X-XSRFToken") == "x1")
	}
	return true
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.URL.Path == "/lab/login" && r.Method == http.MethodGet:
		http.SetCookie(w, &http.Cookie{Name: "_xsrf", Value: "x1", Path: "/lab/"})
	case r.URL.Path == "/lab/login":
		if r.FormValue("password") != s.password || r.FormValue("_xsrf") != "x1" || r.Header.Get("X-XSRFToken") != "x1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "user", Value: "in", Path: "/"})
		http.Redirect(w, r, "/lab/missing", http.StatusFound)
	case !s.admits(r):
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/lab/api/kernels" && r.Method == http.MethodPost:
		s.kernels++
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"id":"k1","name":"python3"}`))
	case r.URL.Path == "/lab/api/kernels/k1" && r.Method == http.MethodDelete:
		s.ended++
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/lab/api/kernels/k1/channels":
		s.kernel(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *server) kernel(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.CloseNow()
	_, b, err := conn.Read(r.Context())
	if err != nil {
		s.t.Error(err)
		return
	}
	var request struct {
		Channel string
		Header  map[string]any
		Content struct{ Code string }
	}
	if err := json.Unmarshal(b, &request); err != nil || request.Channel != "shell" || request.Header["msg_type"] != "execute_request" {
		s.t.Errorf("%v: %s", err, b)
	}
	s.code = request.Content.Code
	_ = conn.Write(r.Context(), websocket.MessageBinary, []byte("\x00\x01"))
	for _, m := range s.say {
		parent := request.Header["msg_id"]
		if m["other"] != nil {
			parent = "other"
		}
		m["parent_header"] = map[string]any{"msg_id": parent}
		b, err := json.Marshal(m)
		if err != nil {
			s.t.Error(err)
		}
		if conn.Write(r.Context(), websocket.MessageText, b) != nil {
			return
		}
	}
	_, _, _ = conn.Read(r.Context()) // until the client goes
}

func say(kind string, content map[string]any) map[string]any {
	return map[string]any{"msg_type": kind, "content": content}
}

var idle = say("status", map[string]any{"execution_state": "idle"})

func stream(name, text string) map[string]any {
	return say("stream", map[string]any{"name": name, "text": text})
}

func TestRun(t *testing.T) {
	other := stream("stdout", "of another")
	other["other"] = true
	for _, c := range []*struct {
		name     string
		server   server
		use      Server
		want     Result
		prefixed bool // want.Stderr is how it begins
		kernels  int
	}{
		{"output", server{say: []map[string]any{
			say("status", map[string]any{"execution_state": "busy"}), other, say("execute_input", map[string]any{"code": "x", "data": 5}),
			stream("stdout", "a\n"), stream("stderr", "warn\n"), stream("stdout", "b\n"), idle,
		}}, Server{}, Result{Stdout: "a\nb", Stderr: "warn"}, false, 1},
		{"results and pictures", server{token: "t&1", say: []map[string]any{
			say("display_data", map[string]any{"data": map[string]any{"image/png": "iVBO", "text/plain": "<Figure>"}}),
			say("execute_result", map[string]any{"data": map[string]any{"text/plain": "42", "text/html": "<b>42</b>"}}),
			say("display_data", map[string]any{"data": map[string]any{"text/html": "<i></i>"}}), idle,
		}}, Server{Token: "t&1", Password: "unused"}, Result{Result: "data:image/png;base64,iVBO\n42"}, false, 1},
		{"an error", server{say: []map[string]any{
			stream("stdout", "a"), say("error", map[string]any{"ename": "E", "traceback": []string{"line 1", "\x1b[31mline 2"}}), idle,
		}}, Server{}, Result{Stdout: "a", Stderr: "line 1\n\x1b[31mline 2"}, false, 1},
		{"by password", server{password: "pw", say: []map[string]any{stream("stdout", "in"), idle}}, Server{Password: "pw"}, Result{Stdout: "in"}, false, 1},
		{"a wrong password", server{password: "pw"}, Server{Password: "no"}, Result{Stderr: "Error: 401, message='Unauthorized', url='http://"}, true, 0},
		{"a wrong token", server{token: "t1"}, Server{Token: "secret"}, Result{Stderr: "Error: 403, message='Forbidden', url='http://"}, true, 0},
		{"silence", server{say: []map[string]any{stream("stdout", "a")}}, Server{Timeout: 50 * time.Millisecond}, Result{Stdout: "a", Stderr: "Execution timed out."}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.server.t = t
			srv := httptest.NewServer(&c.server)
			defer srv.Close()
			c.use.URL = srv.URL + "/lab"
			got := Run(t.Context(), c.use, "print(1)")
			want := c.want
			if c.prefixed && strings.HasPrefix(got.Stderr, want.Stderr) && !strings.Contains(got.Stderr, "secret") {
				want.Stderr = got.Stderr
			}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			c.server.mu.Lock()
			defer c.server.mu.Unlock()
			if c.server.kernels != c.kernels || c.server.ended != c.kernels {
				t.Errorf("%d kernels, %d ended", c.server.kernels, c.server.ended)
			}
			if c.kernels == 1 && c.server.code != "print(1)" {
				t.Errorf("ran %q", c.server.code)
			}
		})
	}
}

func TestNoServer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	for _, s := range []Server{{}, {URL: "x"}, {URL: "ftp://h"}, {URL: srv.URL, Token: "secret"}} {
		if got := Run(t.Context(), s, "1"); !strings.HasPrefix(got.Stderr, "Error: ") || strings.Contains(got.Stderr, "secret") || got.Stdout+got.Result != "" {
			t.Errorf("%+v: %+v", s, got)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Run(gone, Server{URL: srv.URL}, "1"); !strings.HasPrefix(got.Stderr, "Error: ") {
		t.Errorf("%+v", got)
	}
}
