// Package relaytest sets up what route modules around models work with, over a database and a provider made for a test.
package relaytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/store"
	storemodels "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Bench is a server with a provider behind it. The callers are known by name: "admin" is an administrator, anybody else
// a user whose id is the name.
type Bench struct {
	T        testing.TB
	DB       *store.DB
	Env      *config.Env
	Settings *config.Settings
	Access   *access.Access
	Registry *llm.Registry
	Catalog  *models.Catalog
	Prompts  *prompt.Renderer
	Upstream *Upstream
	Router   *web.Router
	server   *httptest.Server
}

// New sets up a bench on SQLite; env are names and values of variables. Mount modules, then call.
func New(t testing.TB, env ...string) *Bench {
	t.Helper()
	b := &Bench{T: t, DB: storetest.SQLite(t), Upstream: newUpstream(t), Prompts: &prompt.Renderer{}}
	vars := map[string]string{"DATA_DIR": t.TempDir(), "WEBUI_SECRET_KEY": "a secret for tests", "ENABLE_OLLAMA_API": "true",
		"OPENAI_API_BASE_URL": b.Upstream.URL + "/v1", "OPENAI_API_KEY": "sk-test", "OLLAMA_BASE_URL": b.Upstream.URL}
	for i := 0; i < len(env); i += 2 {
		vars[env[i]] = env[i+1]
	}
	var err error
	b.Env, err = config.ReadEnv(func(name string) (string, bool) { v, ok := vars[name]; return v, ok })
	if err == nil {
		err = b.Env.Finish()
	}
	if err == nil {
		b.Settings, err = config.Load(context.Background(), b.DB, b.Env, config.Options{Log: slog.New(slog.DiscardHandler)})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Access = access.New(b.DB, b.Settings)
	b.Registry = llm.New(llm.Options{Log: slog.New(slog.DiscardHandler),
		Backends: map[llm.Kind]llm.Backend{llm.KindOpenAI: openai.Backend, llm.KindOllama: ollama.Backend}})
	b.connect(b.Settings.Snapshot())
	b.Settings.OnChange(func(_ []string, s *config.Snapshot) { b.connect(s) })
	b.Catalog = models.New(models.Options{Registry: b.Registry, Rows: storemodels.New(b.DB), Settings: b.Settings, Env: b.Env, Groups: b.Access,
		Log: slog.New(slog.DiscardHandler)})
	b.Router = web.New(web.Options{Auth: byName{}, Logger: slog.New(slog.DiscardHandler)})
	b.server = httptest.NewServer(b.Router)
	t.Cleanup(b.server.Close)
	return b
}

func (b *Bench) connect(s *config.Snapshot) {
	b.Registry.Configure(llm.Settings{
		OpenAIEnable: config.OpenAIEnable.Get(s), OpenAIURLs: config.OpenAIAPIBaseURLs.Get(s), OpenAIKeys: config.OpenAIAPIKeys.Get(s),
		OpenAIConfigs: config.OpenAIAPIConfigs.Raw(s), OllamaEnable: config.OllamaEnable.Get(s), OllamaURLs: config.OllamaBaseURLs.Get(s),
		OllamaConfigs: config.OllamaAPIConfigs.Raw(s),
	}.Connections())
}

// byName takes the bearer's token as the name.
type byName struct{}

// Authorize implements web.Authenticator.
func (byName) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, web.Fail(http.StatusUnauthorized, "Not authenticated")
	}
	role := users.RoleUser
	if name == "admin" {
		role = users.RoleAdmin
	}
	if level == auth.Admin && role != users.RoleAdmin {
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	return &auth.Principal{User: &users.User{ID: name, Name: name, Role: role}, Token: name, Claims: auth.Claims{Type: auth.TypeSession}}, nil
}

// Answer is what a call was answered with.
type Answer struct {
	Status int
	Body   jsondoc.Doc // as it came, JSON or not
	Header http.Header
}

// Call sends a request, "POST /api/v1/models/create", with a JSON body or "" for none.
func (b *Bench) Call(who, call, body string) Answer {
	b.T.Helper()
	method, path, _ := strings.Cut(call, " ")
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, b.server.URL+path, r)
	if err != nil {
		b.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	return b.Do(req)
}

// Do sends a request without following redirects.
func (b *Bench) Do(req *http.Request) Answer {
	b.T.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.T.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.T.Fatal(err)
	}
	return Answer{resp.StatusCode, bytes.TrimSpace(data), resp.Header}
}

// URL is the address of the server.
func (b *Bench) URL() string { return b.server.URL }

// Step is a call and a part of the body ("" for any) that it has to be answered with. Test packages name a type of their
// own for it.
type Step interface {
	~struct {
		Who, Call, Body string
		Status          int
		Want            string
	}
}

// Run makes the calls one after another.
func Run[S Step](b *Bench, steps []S) {
	b.T.Helper()
	for _, step := range steps {
		s := struct {
			Who, Call, Body string
			Status          int
			Want            string
		}(step)
		got := b.Call(s.Who, s.Call, s.Body)
		if got.Status != s.Status || !bytes.Contains(got.Body, []byte(s.Want)) {
			b.T.Errorf("%s by %q: %d %.600s\nwant %d with %s", s.Call, s.Who, got.Status, got.Body, s.Status, s.Want)
		}
	}
}

// Exec writes to the database.
func (b *Bench) Exec(text string, args ...any) {
	b.T.Helper()
	if _, err := b.DB.Exec(context.Background(), text, args...); err != nil {
		b.T.Fatal(err)
	}
	b.Catalog.Changed()
}

// Upstream is a provider that speaks OpenAI's and Ollama's protocol as far as tests need: it serves the models "echo",
// "other" and "llama:latest", and repeats what it is told.
type Upstream struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newUpstream(t testing.TB) *Upstream {
	u := &Upstream{}
	mux := http.NewServeMux()
	canned := map[string]string{
		"GET /v1/models":   `{"object":"list","data":[{"id":"echo","object":"model"},{"id":"other","object":"model"}]}`,
		"GET /api/tags":    `{"models":[{"name":"llama:latest","model":"llama:latest","size":1}]}`,
		"GET /api/ps":      `{"models":[{"model":"llama:latest","expires_at":"2030-01-01T00:00:00Z"}]}`,
		"GET /api/version": `{"version":"0.9.1"}`,
	}
	for pattern, answer := range canned {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		})
	}
	mux.HandleFunc("/", u.echo)
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// echo answers a request with its own body, as a stream where it asks for one; a model named "broken" with an error.
func (u *Upstream) echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	u.mu.Unlock()
	doc, bad := jsondoc.Check(body)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.Contains(r.URL.Path, "missing"), bad == nil && doc.Text("model") == "broken":
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"error":"upstream says no"}`)
	case bad == nil && doc.Bool("stream") && strings.HasPrefix(r.URL.Path, "/v1/"):
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n")
	case bad == nil && doc.Bool("stream"):
		w.Header().Set("Content-Type", "application/x-ndjson")
		fmt.Fprintf(w, "{\"message\":{\"content\":\"hi\"},\"done\":false}\n{\"done\":true}\n")
	default:
		fmt.Fprintf(w, `{"echo":%s}`, jsondoc.Doc(body).Or(jsondoc.Doc("null")))
	}
}

// Seen gives the requests, but for lists, since the last call of it: "POST /v1/chat/completions {…}".
func (u *Upstream) Seen() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}
