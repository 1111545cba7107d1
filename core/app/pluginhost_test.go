package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// embedder is a provider with the model "m", which also makes embeddings.
type embedder struct {
	*httptest.Server
	mu   sync.Mutex
	last string // body of the last chat
}

func newEmbedder(t *testing.T) *embedder {
	b := &embedder{}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *embedder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/models":
		_, _ = io.WriteString(w, `{"data":[{"id":"m","created":7},{"id":"secret"}]}`)
	case "/v1/embeddings":
		if jsondoc.Doc(body).Text("input", "0") == "odd" {
			_, _ = io.WriteString(w, `{"data":[]}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":[{"index":1,"embedding":[2,0.5]},{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":9}}`)
	case "/v1/chat/completions":
		b.mu.Lock()
		b.last = string(body)
		b.mu.Unlock()
		if !jsondoc.Doc(body).Bool("stream") {
			_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"stre\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"amed\"}}]}\n\ndata: [DONE]\n\n")
	}
}

func (b *embedder) request() jsondoc.Doc {
	b.mu.Lock()
	defer b.mu.Unlock()
	return jsondoc.Doc(b.last)
}

// granted is an App with an administrator, a user in a group below another, and an account that is not admitted yet.
type granted struct {
	*App
	t        *testing.T
	s        plugin.Services
	provider *embedder
	token    string // of the administrator
	user     *users.User
	pending  *users.User
	group    *groups.Group
}

func eachGranted(t *testing.T, f func(t *testing.T, g *granted)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": nil, "postgres": storetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			provider := newEmbedder(t)
			vars := map[string]string{
				"ENABLE_OPENAI_API": "true", "OPENAI_API_BASE_URLS": provider.URL + "/v1", "OPENAI_API_KEYS": "k",
				"ENABLE_WEBSOCKET_SUPPORT": "false", "RAG_FILE_MAX_SIZE": "1", "BYPASS_ADMIN_ACCESS_CONTROL": "false", "ENABLE_PLUGINS": "false",
			}
			if url != nil {
				vars["DATABASE_URL"] = url(t)
			}
			g := &granted{App: open(t, vars), t: t, provider: provider}
			g.s = g.pluginServices()
			g.token = g.call("POST", "/api/v1/auths/signup", `{"name":"Root","email":"root@example.test","password":"root-password-1"}`).Text("token")
			g.user = g.account("Ann", users.RoleUser)
			g.pending = g.account("Bob", users.RolePending)
			above, err := g.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "Above"})
			if err == nil {
				g.group, err = g.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "Below", ParentID: &above.ID})
			}
			if err == nil {
				_, _, err = g.Access.Groups().AddMembers(t.Context(), g.group.ID, []string{g.user.ID})
			}
			if err != nil {
				t.Fatal(err)
			}
			f(t, g)
		})
	}
}

func (g *granted) account(name, role string) *users.User {
	g.t.Helper()
	u, err := g.Users.Insert(g.t.Context(), users.NewUser{Name: name, Email: strings.ToLower(name) + "@example.test", Role: role})
	if err != nil {
		g.t.Fatal(err)
	}
	return u
}

// call sends a request of the administrator's.
func (g *granted) call(method, path, body string) jsondoc.Doc {
	g.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+g.token)
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		g.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func groupNames(list []*pb.Group) (names []string) {
	for _, x := range list {
		names = append(names, x.GetName())
	}
	slices.Sort(names)
	return names
}

func TestPluginsLookUpAccounts(t *testing.T) {
	eachGranted(t, func(t *testing.T, g *granted) {
		ctx := t.Context()
		for name, get := range map[string]func() (*pb.Caller, error){
			"id":    func() (*pb.Caller, error) { return g.s.Users.Get(ctx, g.user.ID) },
			"email": func() (*pb.Caller, error) { return g.s.Users.ByEmail(ctx, "ANN@example.test") },
		} {
			c, err := get()
			if err != nil || c.GetId() != g.user.ID || c.GetName() != "Ann" || c.GetEmail() != "ann@example.test" || c.GetRole() != "user" ||
				!slices.Equal(groupNames(c.GetGroups()), []string{"Above", "Below"}) {
				t.Errorf("%s: %v, %v", name, c, err)
			}
		}
		if _, err := g.s.Users.Get(ctx, "nobody"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		for i := range 31 {
			g.account(fmt.Sprintf("Many%02d", i), users.RoleUser)
		}
		seen := map[string]bool{}
		for page, want := range map[int]int{1: 30, 2: 1, 3: 0} {
			list, total, err := g.s.Users.List(ctx, "many", page)
			if err != nil || total != 31 || len(list) != want {
				t.Errorf("page %d: %d of %d, %v", page, len(list), total, err)
			}
			for _, u := range list {
				seen[u.GetName()] = true
			}
		}
		if len(seen) != 31 {
			t.Errorf("%d accounts on the pages", len(seen))
		}
		if list, err := g.s.Groups(ctx, g.pending.ID); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
		// what is known of the groups is kept
		if err := g.DB.Close(); err != nil {
			t.Fatal(err)
		}
		if list, err := g.s.Groups(ctx, g.user.ID); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

// answer reads an answer to its end.
func answer(r *llm.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var out string
	for c, err := range r.Chunks() {
		if err != nil {
			return out, err
		}
		out += c.Content
	}
	return out, nil
}

func isStatus(err error, status int) bool {
	var w *web.Error
	return errors.As(err, &w) && w.Status == status
}

func TestPluginsAskModels(t *testing.T) {
	eachGranted(t, func(t *testing.T, g *granted) {
		ctx := t.Context()
		g.call("GET", "/api/models", "")
		grants := `[{"principal_type":"group","principal_id":"` + g.group.ID + `","permission":"read"}]`
		for _, body := range []string{
			`{"id":"m","name":"m","params":{},"meta":{},"access_grants":` + grants + `}`,
			`{"id":"brief","base_model_id":"m","name":"Brief","params":{"system":"Be brief.","temperature":0.5},"meta":{"description":"Few words","tags":[{"name":"t"}]},"access_grants":` + grants + `}`,
		} {
			g.call("POST", "/api/v1/models/create", body)
		}
		list := func(user string) string {
			models, err := g.s.Models.List(ctx, user)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, m := range models {
				out = append(out, fmt.Sprint(m.GetId(), "|", m.GetName(), "|", m.GetDescription(), "|", m.GetTags()))
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		if got, want := list(g.user.ID), "brief|Brief|Few words|[t] m|m||[]"; got != want {
			t.Errorf("the user's: %s", got)
		}
		if got, want := list(""), "brief|Brief|Few words|[t] m|m||[] secret|secret||[]"; !strings.HasSuffix(got, want) {
			t.Errorf("all: %s", got)
		}
		for user, want := range map[string]func(error) bool{
			"nobody":     func(err error) bool { return errors.Is(err, store.ErrNotFound) },
			g.pending.ID: func(err error) bool { return isStatus(err, http.StatusForbidden) },
		} {
			_, listed := g.s.Models.List(ctx, user)
			_, chatted := g.s.Models.Chat(ctx, user, []byte(`{"model":"m"}`))
			_, embedded := g.s.Models.Embed(ctx, user, "m", []string{"x"})
			if !want(listed) || !want(chatted) || !want(embedded) {
				t.Errorf("%s: %v, %v, %v", user, listed, chatted, embedded)
			}
		}

		// members that would make it a turn of a chat are not heeded
		chat := `{"model":"brief","messages":[{"role":"user","content":"hello"}],"chat_id":"c","id":"x","session_id":"s","parent_id":null,"top_p":0.1`
		text, err := answer(g.s.Models.Chat(ctx, g.user.ID, []byte(chat+`}`)))
		asked := g.provider.request()
		if err != nil || text != "streamed" || asked.Text("model") != "m" || string(asked.Get("temperature")) != "0.5" || string(asked.Get("top_p")) != "0.1" ||
			asked.Text("messages", "0", "content") != "Be brief." || asked.Text("messages", "1", "content") != "hello" || asked.Get("chat_id") != nil {
			t.Errorf("%q, %v: %s", text, err, asked)
		}
		var chats int
		if err := g.DB.QueryRow(ctx, "SELECT COUNT(*) FROM chat").Scan(&chats); err != nil || chats != 0 {
			t.Errorf("%d chats, %v", chats, err)
		}
		if text, err := answer(g.s.Models.Chat(ctx, g.user.ID, []byte(chat+`,"stream":false}`))); err != nil || text != "whole" {
			t.Errorf("%q, %v", text, err)
		}
		if _, err := g.s.Models.Chat(ctx, g.user.ID, []byte(`{"model":"secret","messages":[]}`)); !isStatus(err, http.StatusBadRequest) {
			t.Errorf("a model that is not granted: %v", err)
		}
		if text, err := answer(g.s.Models.Chat(ctx, "", []byte(`{"model":"secret","messages":[{"role":"user","content":"x"}]}`))); err != nil || text != "streamed" {
			t.Errorf("the server itself: %q, %v", text, err)
		}

		e, err := g.s.Models.Embed(ctx, g.user.ID, "brief", []string{"one", "two"})
		if err != nil || e.GetPromptTokens() != 9 || len(e.GetEmbeddings()) != 2 ||
			!slices.Equal(e.GetEmbeddings()[0].GetValues(), []float32{1}) || !slices.Equal(e.GetEmbeddings()[1].GetValues(), []float32{2, 0.5}) {
			t.Errorf("%v, %v", e, err)
		}
		if _, err := g.s.Models.Embed(ctx, g.user.ID, "secret", []string{"x"}); !isStatus(err, http.StatusBadRequest) {
			t.Error(err)
		}
		if _, err := g.s.Models.Embed(ctx, "", "secret", []string{"odd"}); !isStatus(err, http.StatusBadGateway) {
			t.Error(err)
		}
	})
}

// parts gives a content in parts.
func parts(size, n int) func() ([]byte, error) {
	return func() ([]byte, error) {
		if n == 0 {
			return nil, io.EOF
		}
		n--
		return bytes.Repeat([]byte{byte(n)}, size), nil
	}
}

func TestPluginsReadAndWriteFiles(t *testing.T) {
	eachGranted(t, func(t *testing.T, g *granted) {
		ctx := t.Context()
		long := strings.Repeat("ö", 120) + ".txt"
		for _, name := range []string{"notes.txt", long} {
			made, err := g.s.Files.Write(ctx, &pb.FileInfo{UserId: g.user.ID, Name: name, ContentType: "text/plain"}, parts(100_000, 7))
			if err != nil || made.GetSize() != 700_000 || made.GetName() != name || made.GetUserId() != g.user.ID || made.GetContentType() != "text/plain" || made.GetCreatedAt() == 0 {
				t.Fatalf("%v, %v", made, err)
			}
			info, err := g.s.Files.Get(ctx, made.GetId())
			if err != nil || info.String() != made.String() {
				t.Errorf("%v, %v", info, err)
			}
			var want, got []byte
			for next := parts(100_000, 7); ; {
				part, err := next()
				if err != nil {
					break
				}
				want = append(want, part...)
			}
			biggest := 0
			err = g.s.Files.Read(ctx, made.GetId(), func(part []byte) error {
				got, biggest = append(got, part...), max(biggest, len(part))
				return nil
			})
			if err != nil || !bytes.Equal(got, want) || biggest > 256<<10 {
				t.Errorf("%d bytes in parts of %d, %v", len(got), biggest, err)
			}
			if content := g.call("GET", "/api/v1/files/"+made.GetId()+"/content", ""); !bytes.Equal(content, want) {
				t.Errorf("%d bytes by the API", len(content))
			}
			shown := g.call("GET", "/api/v1/files/"+made.GetId(), "")
			if shown.Get("data").String() != "{}" || len(shown.Text("meta", "file_hash")) != 64 {
				t.Errorf("%s", shown)
			}
		}
		broken := errors.New("broken")
		for name, c := range map[string]struct {
			user string
			next func() ([]byte, error)
			want func(error) bool
		}{
			"nobody's":  {"nobody", parts(1, 1), func(err error) bool { return errors.Is(err, store.ErrNotFound) }},
			"empty":     {g.user.ID, parts(0, 3), func(err error) bool { return isStatus(err, http.StatusBadRequest) }},
			"too large": {g.user.ID, parts(1<<20, 2), func(err error) bool { return isStatus(err, http.StatusRequestEntityTooLarge) }},
			"broken":    {g.user.ID, func() ([]byte, error) { return nil, broken }, func(err error) bool { return errors.Is(err, broken) }},
		} {
			if _, err := g.s.Files.Write(ctx, &pb.FileInfo{UserId: c.user, Name: "x"}, c.next); !c.want(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if left, err := os.ReadDir(g.Env.UploadDir()); err != nil || len(left) != 2 {
			t.Errorf("left in the folder: %v, %v", left, err)
		}
		ignore := func([]byte) error { return nil }
		if err := g.s.Files.Read(ctx, "none", ignore); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if _, err := g.s.Files.Get(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	})
}

// poll is a Socket.IO session over polling.
type poll struct {
	t   *testing.T
	url string
}

func (g *granted) socket(token string) *poll {
	g.t.Helper()
	return connectPolling(g.t, g.App, token)
}

// connectPolling begins a session as the owner of a token.
func connectPolling(t *testing.T, a *App, token string) *poll {
	t.Helper()
	s := httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	p := &poll{t, s.URL + "/ws/socket.io/?EIO=4&transport=polling"}
	sid := regexp.MustCompile(`"sid":"([^"]+)"`).FindStringSubmatch(p.get())
	if sid == nil {
		t.Fatal("no session")
	}
	p.url += "&sid=" + sid[1]
	resp, err := http.Post(p.url, "text/plain", strings.NewReader(`40{"token":"`+token+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if first := p.get(); !strings.HasPrefix(first, "40{") {
		t.Fatalf("not connected: %s", first)
	}
	return p
}

func (p *poll) get() string {
	p.t.Helper()
	resp, err := http.Get(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

func TestPluginsTellBrowsers(t *testing.T) {
	eachGranted(t, func(t *testing.T, g *granted) {
		id := g.call("GET", "/api/v1/auths/", "").Text("id")
		p := g.socket(g.token)
		for end := time.Now().Add(10 * time.Second); len(g.Realtime.UserSockets(id)) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		emit := func(e *pb.EmitRequest) int {
			n, err := g.s.Emit(context.Background(), e)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := emit(&pb.EmitRequest{UserId: g.user.ID, ChatId: "c", Type: "status", Data: []byte(`"not for root"`)}); n != 0 {
			t.Errorf("%d sockets of a user without any", n)
		}
		for want, e := range map[string]*pb.EmitRequest{
			`42["events",{"chat_id":"ü","message_id":"m","data":{"type":"status","data":{"done":true}}}]`: {ChatId: "ü", MessageId: "m", Type: "status", Data: []byte(`{"done":true}`)},
			`42["events",{"chat_id":null,"message_id":null,"data":{"type":"notification","data":[1]}}]`:   {Type: "notification", Data: []byte(`[1]`)},
			`42["events",{"chat_id":"c","message_id":null,"data":{"type":"x:y"}}]`:                        {ChatId: "c", Type: "x:y"},
		} {
			e.UserId = id
			if n := emit(e); n != 1 {
				t.Errorf("%d sockets", n)
			}
			if got := p.get(); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		}
	})
}
