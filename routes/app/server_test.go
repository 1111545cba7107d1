package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/folders"
	storemodels "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
)

// provider is an OpenAI-compatible server and an Ollama server. What a chat is answered with goes by the model.
type provider struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // "POST /v1/chat/completions BODY"
}

func newProvider(t testing.TB) *provider {
	p := &provider{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// requests are those to a path since the last call.
func (p *provider) requests(path string) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.asked {
		if body, ok := strings.CutPrefix(r, "POST "+path+" "); ok {
			out = append(out, body)
		}
	}
	p.asked = nil
	return out
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.URL.Path+" "+string(raw))
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/models":
		fmt.Fprint(w, `{"data":[{"id":"good"},{"id":"broken"},{"id":"refusing"},{"id":"slow"},{"id":"mute"}]}`)
	case "/api/tags":
		fmt.Fprint(w, `{"models":[{"model":"llama:1b","name":"llama:1b"}]}`)
	case "/api/ps":
		fmt.Fprint(w, `{"models":[]}`)
	case "/api/version":
		fmt.Fprint(w, `{"version":"1"}`)
	case "/api/generate":
		fmt.Fprint(w, `{}`)
	case "/api/embed":
		fmt.Fprint(w, `{"model":"llama:1b","embeddings":[[1,0]]}`)
	case "/v1/embeddings":
		fmt.Fprint(w, `{"object":"list","data":[{"embedding":[0.5]}]}`)
	case "/v1/messages/count_tokens":
		if jsondoc.Doc(raw).Text("model") == "good" {
			fmt.Fprint(w, `{"input_tokens":21}`)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, `{"error":"no"}`)
	case "/v1/chat/completions":
		p.chat(w, r, jsondoc.Doc(raw))
	default:
		http.NotFound(w, r)
	}
}

func chunk(delta, finish string) string {
	return `data: {"id":"c1","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + "}]}\n\n"
}

func (p *provider) chat(w http.ResponseWriter, r *http.Request, body jsondoc.Doc) {
	model := body.Text("model")
	if model == "refusing" {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"error":{"message":"slow down"}}`)
		return
	}
	if !body.Bool("stream") {
		fmt.Fprint(w, `{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, chunk(`{"content":"hel"}`, "null"))
	_ = http.NewResponseController(w).Flush()
	switch model {
	case "broken":
		panic(http.ErrAbortHandler)
	case "slow":
		<-r.Context().Done() // the test ends it by going away, or by stopping the turn
		return
	}
	fmt.Fprint(w, chunk(`{"content":"lo"}`, `"stop"`), "data: [DONE]\n\n")
}

// sockets stands for the realtime server.
type sockets struct {
	mu     sync.Mutex
	events []string // "ROOM KIND"
}

func (s *sockets) EmitRaw(room string, p realtime.Packet, _ ...string) {
	text := string(p.Bytes())
	_, payload, _ := strings.Cut(text, ",")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, room+" "+jsondoc.Doc(strings.TrimSuffix(payload, "]")).Text("data", "type"))
}

func (s *sockets) SendLocal(room string, p realtime.Packet, except ...string) {
	s.EmitRaw(room, p, except...)
}

func (s *sockets) RoomSize(room string) int {
	if strings.HasPrefix(room, "chat:") {
		return 1
	}
	return 0
}

func (s *sockets) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.events, "\n")
	s.events = nil
	return out
}

// sessions stands for the presence: the socket "S" is of the account it names.
type sessions map[string]string

func (s sessions) ModelsInUse() []string { return []string{"good"} }

func (s sessions) SessionUser(sid string) (realtime.User, bool) {
	id, ok := s[sid]
	return realtime.User{ID: id}, ok
}

// server is all that the module needs.
type server struct {
	*sessiontest.Server
	provider *provider
	sockets  *sockets
	sessions sessions
	chats    *chats.Store
	models   *models.Catalog
	module   *Module

	admin, user, other          *users.User
	adminKey, userKey, otherKey string
}

func newServer(t testing.TB, vars ...string) *server {
	t.Helper()
	p := newProvider(t)
	vars = append([]string{"DATA_DIR", t.TempDir(), "OPENAI_API_BASE_URL", p.URL + "/v1", "OPENAI_API_KEY", "k", "OLLAMA_BASE_URL", p.URL,
		"ENABLE_OLLAMA_API", "true"}, vars...)
	s := &server{Server: sessiontest.New(t, storetest.SQLite(t), vars...), provider: p, sockets: &sockets{}, sessions: sessions{}}
	registry := llm.New(llm.Options{Backends: map[llm.Kind]llm.Backend{llm.KindOpenAI: openai.Backend, llm.KindOllama: ollama.Backend}, Log: s.Log})
	registry.Configure(llm.Settings{OpenAIEnable: true, OpenAIURLs: []string{p.URL + "/v1"}, OpenAIKeys: []string{"k"}, OllamaEnable: true, OllamaURLs: []string{p.URL}}.Connections())
	t.Cleanup(registry.Client().CloseIdle)
	s.models = models.New(models.Options{Registry: registry, Rows: storemodels.New(s.DB), Settings: s.Settings, Env: s.Env, Groups: s.Access, Log: s.Log})
	s.chats = chats.New(s.DB)
	rules := chats.NewAccess(s.chats, s.Access, folders.NewAccess(folders.New(s.DB), s.Access), s.Env.AdminChatAccess)
	kept := turn.ChatStore{Chats: s.chats, Gate: rules}
	turns := turn.New(turn.Deps{Models: s.models, Store: kept, Realtime: s.sockets, Settings: s.Settings, Env: s.Env, Log: s.Log})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = turns.Drain(ctx)
	})
	s.module = New(Deps{Turns: turns, TurnStore: kept, Chats: s.chats, Models: s.models, Providers: registry, Access: s.Access, Users: s.Users,
		Settings: s.Settings, Env: s.Env, Presence: s.sessions, Realtime: s.sockets, Webhooks: events.NewWebhooks(s.Settings), Log: s.Log, FeaturesOff: []string{"enable_notes"}})
	s.Router.Mount("", s.module)
	s.Router.Finish()
	return s
}

// people makes an administrator and two users.
func (s *server) people() *server {
	s.admin, s.adminKey = s.User("Admin", users.RoleAdmin)
	s.user, s.userKey = s.User("Alice", users.RoleUser)
	s.other, s.otherKey = s.User("Bob", users.RoleUser)
	return s
}

// newChat makes a chat of Alice's with one answer, and gives its id. The message "q" asks, "a" answers.
func (s *server) newChat(t *testing.T, answer string) string {
	t.Helper()
	doc := jsondoc.Doc(`{"title":"T","models":["good"],"history":{"currentId":"a","messages":{"q":{"id":"q","parentId":null,"childrenIds":["a"],"role":"user","content":"?"},"a":` + answer + `}}}`)
	if err := jsondoc.Valid(doc); err != nil {
		t.Fatal(err)
	}
	c, err := s.chats.Insert(context.Background(), chats.NewChat{UserID: s.user.ID, Doc: doc})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// want checks an answer's status and, unless body is "", its body.
func want(t *testing.T, a *sessiontest.Answer, status int, body string) {
	t.Helper()
	if got := strings.TrimSpace(a.Body.String()); a.Code != status || body != "" && got != body {
		t.Errorf("got %d %s\nwant %d %s", a.Code, got, status, body)
	}
}
