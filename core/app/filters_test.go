package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/filter/filtertest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/web"

	"golang.org/x/crypto/bcrypt"
)

// backend is a provider in all forms: OpenAI's below /v1 with the model "m", a connection that speaks Messages below
// /lite with "claude", and an Ollama server with "l:1". It keeps what asks a model.
type backend struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // "PATH BODY"
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *backend) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.asked
	b.asked = nil
	return out
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/models":
		_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
	case "/lite/models":
		_, _ = io.WriteString(w, `{"data":[{"id":"claude"}]}`)
	case "/api/tags":
		_, _ = io.WriteString(w, `{"models":[{"model":"l:1","name":"l:1"}]}`)
	case "/api/ps":
		_, _ = io.WriteString(w, `{"models":[]}`)
	case "/api/version":
		_, _ = io.WriteString(w, `{"version":"1"}`)
	default:
		b.mu.Lock()
		b.asked = append(b.asked, r.URL.Path+" "+string(body))
		b.mu.Unlock()
		if jsondoc.Doc(body).Bool("stream") && strings.HasPrefix(r.URL.Path, "/v1/") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n")
			return
		}
		_, _ = io.WriteString(w, `{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`)
	}
}

// filteredApp is an App with filters before a backend, and what calls it as its administrator. more are further
// variables, names and values.
func filteredApp(t *testing.T, set filter.Set, more ...string) (*App, *backend, func(call, body string) *httptest.ResponseRecorder) {
	t.Helper()
	up := newBackend(t)
	vars := map[string]string{
		"DATA_DIR": t.TempDir(), "PORT": "0", "HOST": "127.0.0.1", "OPENAI_API_BASE_URLS": up.URL + "/v1;" + up.URL + "/lite", "OPENAI_API_KEYS": "k;k",
		"ENABLE_OLLAMA_API": "true", "OLLAMA_BASE_URL": up.URL, "ENABLE_OPENAI_API_PASSTHROUGH": "true",
		"WEBUI_ADMIN_EMAIL": "root@example.test", "WEBUI_ADMIN_PASSWORD": "root-password-1",
	}
	for i := 0; i < len(more); i += 2 {
		vars[more[i]] = more[i+1]
	}
	c, err := ReadConfig(lookup(vars))
	if err != nil {
		t.Fatal(err)
	}
	c.Log, c.Filters, c.PasswordCost = t.Output(), set, bcrypt.MinCost
	a, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.Turns.Drain(context.Background()), a.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	token := ""
	do := func(call, body string) *httptest.ResponseRecorder {
		method, path, _ := strings.Cut(call, " ")
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		a.Handler().ServeHTTP(w, r)
		return w
	}
	token = jsondoc.Doc(do("POST /api/v1/auths/signin", `{"email":"root@example.test","password":"root-password-1"}`).Body.Bytes()).Text("token")
	settings := `{"ENABLE_OPENAI_API":true,"OPENAI_API_BASE_URLS":["` + up.URL + `/v1","` + up.URL + `/lite"],"OPENAI_API_KEYS":["k","k"],"OPENAI_API_CONFIGS":{"1":{"enable":true,"provider":"litellm"}}}`
	if w := do("POST /openai/config/update", settings); token == "" || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	do("GET /api/models", "")
	up.take()
	return a, up, do
}

// way is one on which a model can be asked.
type way struct {
	call, body string
	kind       filter.Kind
	changes    bool // filters may change the request
}

const said = `"messages":[{"role":"user","content":"word"}]`

var ways = []way{
	{"POST /api/chat/completions", `{"model":"m",` + said + `}`, filter.KindChat, true},
	{"POST /api/chat/completions", `{"model":"m","stream":true,` + said + `}`, filter.KindChat, true},
	{"POST /api/chat/completions", `{"model":"l:1",` + said + `}`, filter.KindChat, true},
	{"POST /api/v1/chat/completions", `{"model":"m",` + said + `}`, filter.KindChat, true},
	{"POST /api/v1/messages", `{"model":"m","max_tokens":5,` + said + `}`, filter.KindChat, true},
	{"POST /api/v1/messages", `{"model":"m","max_tokens":5,"stream":true,` + said + `}`, filter.KindChat, true},
	{"POST /api/v1/messages", `{"model":"claude","max_tokens":5,` + said + `}`, filter.KindProxy, false},
	{"POST /openai/chat/completions", `{"model":"m",` + said + `}`, filter.KindProxy, true},
	{"POST /openai/chat/completions", `{"model":"m","stream":true,` + said + `}`, filter.KindProxy, true},
	{"POST /openai/responses", `{"model":"m","input":"word"}`, filter.KindProxy, false},
	{"POST /openai/v1/chat/completions", `{"model":"m",` + said + `}`, filter.KindProxy, true},
	{"POST /openai/completions", `{"model":"m","prompt":"word"}`, filter.KindProxy, false},
	{"POST /ollama/api/chat", `{"model":"l:1",` + said + `}`, filter.KindProxy, false},
	{"POST /ollama/api/chat/0", `{"model":"l:1","stream":false,` + said + `}`, filter.KindProxy, false},
	{"POST /ollama/api/generate", `{"model":"l:1","prompt":"word"}`, filter.KindProxy, false},
	{"POST /ollama/api/generate/0", `{"model":"l:1","prompt":"word","stream":false}`, filter.KindProxy, false},
	{"POST /ollama/v1/chat/completions", `{"model":"l:1",` + said + `}`, filter.KindProxy, true},
	{"POST /ollama/v1/chat/completions/0", `{"model":"l:1","stream":true,` + said + `}`, filter.KindProxy, true},
	{"POST /ollama/v1/completions", `{"model":"l:1","prompt":"word"}`, filter.KindProxy, false},
	{"POST /ollama/v1/messages", `{"model":"l:1",` + said + `}`, filter.KindProxy, false},
	{"POST /ollama/v1/responses", `{"model":"l:1","input":[{"role":"user","content":"word"}]}`, filter.KindProxy, false},
	{"POST /api/v1/tasks/title/completions", `{"model":"m",` + said + `}`, filter.KindTask, true},
	{"POST /api/v1/tasks/tags/completions", `{"model":"m",` + said + `}`, filter.KindTask, true},
	{"POST /api/v1/tasks/follow_up/completions", `{"model":"m",` + said + `}`, filter.KindTask, true},
	{"POST /api/v1/tasks/queries/completions", `{"model":"m","type":"web_search",` + said + `}`, filter.KindTask, true},
	{"POST /api/v1/tasks/image_prompt/completions", `{"model":"m",` + said + `}`, filter.KindTask, true},
	{"POST /api/v1/tasks/emoji/completions", `{"model":"m","prompt":"word"}`, filter.KindTask, true},
	{"POST /api/v1/tasks/moa/completions", `{"model":"m","prompt":"word","responses":["a"],"stream":true}`, filter.KindTask, true},
}

// TestRefusalOnEveryWay holds that a limit cannot be got round: what a filter refuses reaches no model, and the program
// learns when it may come again.
func TestRefusalOnEveryWay(t *testing.T) {
	set := &filtertest.Set{Filters: []filtertest.Filter{{OnInlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
		if body.Text("model") == "" || !bytes.Contains(body.Get("messages"), []byte("word")) {
			return nil, web.Fail(500, "the filter was not told enough: "+string(body))
		}
		return nil, &web.Error{Status: http.StatusTooManyRequests, Detail: "Limit reached", Header: http.Header{"Retry-After": {"30"}}}
	}}}}
	_, up, do := filteredApp(t, set)
	for _, w := range ways {
		got := do(w.call, w.body)
		if got.Code != 429 || got.Header().Get("Retry-After") != "30" || strings.TrimSpace(got.Body.String()) != `{"detail":"Limit reached"}` {
			t.Errorf("%s %s: %d %s %v", w.call, w.body, got.Code, got.Body, got.Header())
		}
		if asked := up.take(); len(asked) != 0 {
			t.Errorf("%s: the model was asked: %s", w.call, asked)
		}
		calls := set.Calls()
		if len(calls) == 0 {
			t.Errorf("%s: no call", w.call)
			continue
		}
		if last := calls[len(calls)-1]; last.Kind != w.kind || last.Principal == nil || (last.Task != "") != (w.kind == filter.KindTask) || last.Emit != nil {
			t.Errorf("%s: call %+v", w.call, last)
		}
	}
	for call, body := range map[string]string{
		"POST /api/embeddings":       `{"model":"m","input":"word"}`,
		"POST /openai/embeddings":    `{"model":"m","input":"word"}`,
		"POST /ollama/api/embed":     `{"model":"l:1","input":"word"}`,
		"POST /ollama/v1/embeddings": `{"model":"l:1","input":"word"}`,
	} {
		if got := do(call, body); got.Code != 200 || len(set.Calls()) != 0 {
			t.Errorf("%s: %d %s", call, got.Code, got.Body)
		}
	}
}

// TestChangesOnEveryWay holds that filters change requests in OpenAI's form, and leave the others as they were sent.
func TestChangesOnEveryWay(t *testing.T) {
	set := &filtertest.Set{Filters: []filtertest.Filter{{OnInlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
		return jsondoc.Doc(strings.ReplaceAll(string(body), "word", "tea")), nil
	}}}}
	_, up, do := filteredApp(t, set)
	for _, w := range ways {
		got := do(w.call, w.body)
		asked := strings.Join(up.take(), "\n")
		changed := strings.Contains(asked, "tea") && !strings.Contains(asked, "word")
		if got.Code != 200 || changed != w.changes || asked == "" {
			t.Errorf("%s %s: %d %s\nasked %s", w.call, w.body, got.Code, got.Body, asked)
		}
	}
}

// TestAnswersOfPrograms holds what filters make of answers to programs.
func TestAnswersOfPrograms(t *testing.T) {
	outlets := 0
	set := &filtertest.Set{Filters: []filtertest.Filter{{
		OnChunk: func(_ context.Context, c []byte) ([][]byte, error) {
			return [][]byte{bytes.ReplaceAll(c, []byte(`"hi"`), []byte(`"ho"`)), []byte(`{"choices":[{"index":0,"delta":{"content":"!"}}]}`)}, nil
		},
		OnOutlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
			outlets++
			ms := body.Get("messages").List()
			ms[len(ms)-1] = ms[len(ms)-1].Set(jsondoc.Text(ms[len(ms)-1].Text("content")+" [seen]"), "content")
			return body.Set(jsondoc.Array(ms...), "messages"), nil
		},
	}}}
	_, _, do := filteredApp(t, set)
	for _, w := range []struct{ call, body, whole, stream string }{
		{"POST /api/chat/completions", `{"model":"m",` + said + `}`, `"content":"hi [seen]"`, `"content":"ho"}}]}`},
		{"POST /openai/chat/completions", `{"model":"m",` + said + `}`, `"content":"hi [seen]"`, `"content":"ho"}}]}`},
		{"POST /openai/v1/chat/completions", `{"model":"m",` + said + `}`, `"content":"hi [seen]"`, `"content":"ho"}}]}`},
		{"POST /ollama/v1/chat/completions", `{"model":"l:1",` + said + `}`, `"content":"hi [seen]"`, `"content":"ho"}}]}`},
		{"POST /api/v1/messages", `{"model":"m","max_tokens":5,` + said + `}`, `"text":"hi [seen]"`, `"text":"ho"`},
	} {
		outlets = 0
		if got := do(w.call, w.body); got.Code != 200 || !strings.Contains(got.Body.String(), w.whole) || outlets != 1 {
			t.Errorf("%s: %d %s, %d outlets", w.call, got.Code, got.Body, outlets)
		}
		outlets = 0
		got := do(w.call, strings.Replace(w.body, "{", `{"stream":true,`, 1))
		if text := got.Body.String(); got.Code != 200 || !strings.Contains(text, w.stream) || !strings.Contains(text, `"!"`) || strings.Contains(text, "seen") || outlets != 1 {
			t.Errorf("%s: %d %s, %d outlets", w.call, got.Code, got.Body, outlets)
		}
	}
}

// TestFilterFailsWithinStream holds that programs are told, in their form, that a filter ended their answer.
func TestFilterFailsWithinStream(t *testing.T) {
	set := &filtertest.Set{Filters: []filtertest.Filter{{OnChunk: func(context.Context, []byte) ([][]byte, error) { return nil, errors.New("not that") }}}}
	_, _, do := filteredApp(t, set)
	for call, want := range map[string]string{
		"POST /api/chat/completions":    "data: {\"error\":{\"message\":\"not that\"}}\n\ndata: [DONE]",
		"POST /openai/chat/completions": "data: {\"error\":{\"message\":\"not that\"}}\n\ndata: [DONE]",
		"POST /api/v1/messages":         `not that`,
	} {
		got := do(call, `{"model":"m","max_tokens":5,"stream":true,`+said+`}`)
		if text := got.Body.String(); got.Code != 200 || !strings.Contains(text, want) || strings.Contains(text, `"hi"`) {
			t.Errorf("%s: %d %s", call, got.Code, text)
		}
	}
}

// TestRefusedTurn is a refusal in a browser's turn: the request is accepted, the message shows why there is no answer.
func TestRefusedTurn(t *testing.T) {
	set := &filtertest.Set{Filters: []filtertest.Filter{{OnInlet: func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) {
		return nil, &web.Error{Status: 429, Header: http.Header{"Retry-After": {"30"}}}
	}}}}
	a, _, do := filteredApp(t, set)
	got := do("POST /api/chat/completions", `{"model":"m","stream":true,"session_id":"s","id":"a1","parent_id":null,"user_message":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"word"}}`)
	var in struct {
		ChatID string `json:"chat_id"`
	}
	if err := json.Unmarshal(got.Body.Bytes(), &in); err != nil || got.Code != 200 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	if err := a.Turns.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	chat := jsondoc.Doc(do("GET /api/v1/chats/"+in.ChatID, "").Body.Bytes())
	if text := chat.Text("chat", "history", "messages", "a1", "error", "content"); text != "Too Many Requests. Try again in 30 seconds." {
		t.Errorf("%s", chat)
	}
}

// TestOutletOfTurn holds that what an outlet makes of an answer is what the chat keeps, with the answer before it.
func TestOutletOfTurn(t *testing.T) {
	for name, vars := range map[string]func(t *testing.T) []string{
		"sqlite":   func(*testing.T) []string { return nil },
		"postgres": func(t *testing.T) []string { return []string{"DATABASE_URL", storetest.PostgresURL(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			set := &filtertest.Set{Filters: []filtertest.Filter{{OnOutlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
				ms := body.Get("messages").List()
				for i, m := range ms {
					ms[i] = m.Set(jsondoc.Text(m.Text("content")+" ["+m.Text("role")+"]"), "content")
				}
				return body.Set(jsondoc.Array(ms...), "messages"), nil
			}}}}
			a, _, do := filteredApp(t, set, vars(t)...)
			got := do("POST /api/chat/completions", `{"model":"m","stream":true,"session_id":"s","id":"a1","parent_id":null,"user_message":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"word"}}`)
			chatID := jsondoc.Doc(got.Body.Bytes()).Text("chat_id")
			if err := a.Turns.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			messages := jsondoc.Doc(do("GET /api/v1/chats/"+chatID, "").Body.Bytes()).Get("chat", "history", "messages")
			for id, want := range map[string][2]string{"q1": {"word [user]", "word"}, "a1": {"hi [assistant]", "hi"}} {
				m := messages.Get(id)
				if m.Text("content") != want[0] || m.Text("originalContent") != want[1] {
					t.Errorf("%s", m)
				}
			}
			if m := messages.Get("a1"); !m.Bool("done") || m.Text("output", "0", "content", "0", "text") != "hi" {
				t.Errorf("%s", m)
			}
		})
	}
}
