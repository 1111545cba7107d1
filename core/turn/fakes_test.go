package turn

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

// memory is a Store of one process, for tests of the engine alone.
type memory struct {
	mu       sync.Mutex
	chats    map[string]*Chat
	titles   map[string]string
	tags     map[string][]string
	messages map[string]map[string]jsondoc.Doc
	updates  int
}

func newMemory() *memory {
	return &memory{chats: map[string]*Chat{}, titles: map[string]string{}, tags: map[string][]string{}, messages: map[string]map[string]jsondoc.Doc{}}
}

func (m *memory) add(id, userID string) {
	m.chats[id] = &Chat{ID: id, UserID: userID}
	m.titles[id] = "New Chat"
	m.messages[id] = map[string]jsondoc.Doc{}
}

func (m *memory) Chat(_ context.Context, p *auth.Principal, id string) (*Chat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.chats[id]; c != nil && c.UserID == p.ID {
		return c, nil
	}
	return nil, store.ErrNotFound
}

func (m *memory) Create(_ context.Context, c NewChat) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(c.ID, c.UserID)
	c.Document.Get("history", "messages").Each(func(id string, v jsondoc.Doc) bool {
		m.messages[c.ID][id] = v
		return true
	})
	return nil
}

func (m *memory) Begin(_ context.Context, c *Chat, _ *auth.Principal, b Begin) (jsondoc.Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := b.Message.Text("id")
	if id != "" {
		m.messages[c.ID][id] = b.Message
	}
	for _, e := range b.Entries {
		m.messages[c.ID][e.MessageID] = jsondoc.Of(map[string]any{"id": e.MessageID, "role": "assistant", "content": "", "done": false, "model": e.ModelID, "parentId": id})
	}
	return jsondoc.Doc(`{"messages":{},"currentId":null}`), nil
}

func (m *memory) Update(_ context.Context, chatID, messageID string, fields jsondoc.Doc, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates++
	m.messages[chatID][messageID] = m.messages[chatID][messageID].Merge(fields)
	return nil
}

func (m *memory) Message(_ context.Context, chatID, messageID string) (jsondoc.Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.messages[chatID][messageID], nil
}

func (m *memory) Chain(_ context.Context, chatID, messageID string) ([]jsondoc.Doc, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []jsondoc.Doc
	for id := messageID; id != ""; {
		v := m.messages[chatID][id]
		if v == nil {
			break
		}
		out = append([]jsondoc.Doc{v}, out...)
		id = v.Text("parentId")
	}
	return out, len(m.messages[chatID]), nil
}

func (m *memory) Title(_ context.Context, chatID string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.titles[chatID], nil
}

func (m *memory) SetTitle(_ context.Context, chatID, title string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.titles[chatID] = title
	return nil
}

func (m *memory) SetTags(_ context.Context, chatID, _ string, tags []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tags[chatID] = tags
	return nil
}

func (m *memory) SaveEvent(ctx context.Context, chatID, messageID, kind string, data jsondoc.Doc) error {
	return m.Update(ctx, chatID, messageID, jsondoc.Object("saved "+kind, data), false)
}

func (m *memory) EditMessage(_ context.Context, chatID, messageID string, f func(jsondoc.Doc) (jsondoc.Doc, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.messages[chatID][messageID]
	if old == nil {
		return store.ErrNotFound
	}
	changed, err := f(old)
	if err == nil && changed != nil {
		m.messages[chatID][messageID] = changed
	}
	return err
}

func (m *memory) AddFiles(context.Context, string, string, *users.User, []string) error { return nil }

func (m *memory) Progress(ctx context.Context, chatID, messageID string, fields jsondoc.Doc) error {
	return m.Update(ctx, chatID, messageID, fields, false)
}

func (m *memory) Unfinished(context.Context, string, string) (map[string]jsondoc.Doc, error) {
	return nil, nil
}

func (m *memory) TaskOwners(context.Context, string) (map[string]string, string, error) {
	return nil, "", nil
}

func (m *memory) message(chatID, id string) jsondoc.Doc {
	d, _ := m.Message(context.Background(), chatID, id)
	return d
}

// recorder is a Realtime that keeps what is sent.
type recorder struct {
	mu     sync.Mutex
	events []jsondoc.Doc // of the author's room
	others []jsondoc.Doc
	watch  bool
	signal chan struct{}
}

func newRecorder() *recorder { return &recorder{signal: make(chan struct{}, 1)} }

func (r *recorder) EmitRaw(room string, p realtime.Packet, _ ...string) {
	text := string(p.Bytes())
	payload := jsondoc.Doc(text[strings.IndexByte(text, '['):]).Get("1")
	r.mu.Lock()
	if strings.HasPrefix(room, "user:") {
		r.events = append(r.events, payload)
	} else {
		r.others = append(r.others, payload)
	}
	r.mu.Unlock()
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

func (r *recorder) SendLocal(room string, p realtime.Packet, except ...string) {
	r.EmitRaw(room, p, except...)
}

func (r *recorder) RoomSize(string) int {
	if r.watch {
		return 1
	}
	return 0
}

func (r *recorder) all() []jsondoc.Doc {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]jsondoc.Doc(nil), r.events...)
}

// wait waits until an event fulfils the condition, and gives all events so far.
func (r *recorder) wait(t *testing.T, what string, ok func(jsondoc.Doc) bool) []jsondoc.Doc {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		all := r.all()
		for _, e := range all {
			if ok(e) {
				return all
			}
		}
		select {
		case <-r.signal:
		case <-timeout:
			t.Fatalf("no event: %s; have %v", what, all)
		}
	}
}

func ended(e jsondoc.Doc) bool {
	return e.Text("data", "type") == "chat:active" && string(e.Get("data", "data", "active")) == "false"
}

func kinds(events []jsondoc.Doc) string {
	var out []string
	for _, e := range events {
		k := e.Text("data", "type")
		if inner := e.Text("data", "data", "type"); inner != "" {
			k += "/" + inner
		}
		if len(out) == 0 || out[len(out)-1] != k {
			out = append(out, k)
		}
	}
	return strings.Join(out, " ")
}

// finder is a models.Finder over a registry.
type finder struct {
	reg  *llm.Registry
	rows map[string]*models.Row
}

func (f finder) Find(ctx context.Context, c *llm.Caller, id string) (*models.Model, bool) {
	row := f.rows[id]
	base := id
	if row != nil && row.BaseModelID != nil {
		base = *row.BaseModelID
	}
	t, err := f.reg.Resolve(ctx, c, base)
	if err != nil {
		return nil, false
	}
	return &models.Model{ID: id, OwnedBy: "openai", Row: row, Base: &t.Model}, true
}

func (f finder) All(context.Context, *llm.Caller) []*models.Model { return nil }

func (f finder) Access(_ context.Context, p *auth.Principal, _ *models.Model) error {
	if p.Role == "admin" {
		return nil
	}
	return models.ErrNotFound
}

func (f finder) Target(ctx context.Context, c *llm.Caller, m *models.Model) (llm.Target, error) {
	id := m.ID
	if m.BaseID() != "" {
		id = m.BaseID()
	}
	return f.reg.Resolve(ctx, c, id)
}

// taskModel answers tasks with fixed words.
type taskModel struct{}

func (taskModel) Run(_ context.Context, _ *auth.Principal, task Task, _ string, _ []jsondoc.Doc, _, _ string) (jsondoc.Doc, error) {
	text := map[Task]string{TaskTitle: `Sure: {"title": "A Title"}`, TaskTags: `{"tags": ["One", "Two"]}`, TaskFollowUps: `{"follow_ups": ["More?"]}`}[task]
	return jsondoc.Of(map[string]any{"choices": []any{map[string]any{"message": map[string]any{"content": text}}}}), nil
}

// bench is an engine with a provider made of a handler.
type bench struct {
	*Engine
	store *memory
	rt    *recorder
	rows  map[string]*models.Row
	admin *auth.Principal
	asked chan jsondoc.Doc // bodies the provider got
}

func newBench(t *testing.T, chat http.HandlerFunc) *bench {
	t.Helper()
	b := &bench{store: newMemory(), rt: newRecorder(), rows: map[string]*models.Row{}, asked: make(chan jsondoc.Doc, 16),
		admin: &auth.Principal{User: &users.User{ID: "u1", Name: "Ann", Role: "admin"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"data":[{"id":"m"},{"id":"m2"}]}`))
	})
	mux.HandleFunc("POST /chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = readFull(r, body)
		select {
		case b.asked <- body:
		default:
		}
		chat(w, r)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	reg := llm.New(llm.Options{Backends: map[llm.Kind]llm.Backend{llm.KindOpenAI: openai.Backend}})
	reg.Configure(llm.Settings{OpenAIEnable: true, OpenAIURLs: []string{srv.URL}, OpenAIKeys: []string{"k"}}.Connections())
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(context.Background(), storetest.SQLite(t), env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Engine = New(Deps{Models: finder{reg, b.rows}, Store: b.store, Tasks: taskModel{}, Realtime: b.rt, Settings: settings, Env: env})
	return b
}

func readFull(r *http.Request, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		k, err := r.Body.Read(b[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (b *bench) run(body string) (Result, error) {
	return b.Run(context.Background(), Request{Principal: b.admin, Caller: &llm.Caller{ID: "u1"}, Body: jsondoc.Doc(body)})
}

// streamed answers with deltas, each flushed.
func streamed(deltas ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, d := range deltas {
			_, _ = w.Write([]byte("data: " + d + "\n\n"))
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write([]byte("data: [DONE]\n\n"))
	}
}

func delta(fields string) string {
	return `{"id":"c","choices":[{"index":0,"delta":` + fields + `,"finish_reason":null}]}`
}

const finished = `{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
