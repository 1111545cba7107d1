package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/storetest"
)

// within waits for a condition.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s", what)
		}
	}
}

// redisServer is a real Redis that can be killed and started again.
type redisServer struct {
	t    *testing.T
	port string
	dir  string
	stop func()
}

func newRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("GALLEY_CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no redis-server")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_ = ln.Close()
	r := &redisServer{t: t, port: port, dir: t.TempDir()}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *redisServer) url() string { return "redis://127.0.0.1:" + r.port }

func (r *redisServer) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "redis-server", "--port", r.port, "--bind", "127.0.0.1", "--save", "", "--dir", r.dir)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	within(r.t, "Redis answers", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// dictated is a provider whose streamed answers are what the test says, until it closes the channel.
type dictated struct {
	*httptest.Server
	words chan string
	ended chan struct{} // gets one for each answer that has ended
}

func newDictated(t *testing.T) *dictated {
	d := &dictated{words: make(chan string), ended: make(chan struct{}, 10)}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client goes
		defer func() { d.ended <- struct{}{} }()
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case word := <-d.words:
				if word == "" {
					_, _ = io.WriteString(w, "data: [DONE]\n\n")
					return
				}
				_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(func() {
		d.CloseClientConnections()
		d.Close()
	})
	return d
}

// page is a browser's page at one of the processes.
type page struct {
	t   *testing.T
	ws  *websocket.Conn
	sid string

	mu       sync.Mutex
	received []string
}

func openPage(t *testing.T, a *App, token string) *page {
	t.Helper()
	s := httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	p := &page{t: t, ws: ws}
	go func() {
		for {
			_, b, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			p.mu.Lock()
			p.received = append(p.received, string(b))
			p.mu.Unlock()
		}
	}()
	p.send(`40{"token":"` + token + `"}`)
	p.sid = regexp.MustCompile(`40\{"sid":"([^"]+)"`).FindStringSubmatch(p.wait(`40{"sid"`))[1]
	p.send(`420["user-join",{"auth":{"token":"` + token + `"}}]`)
	p.wait(`430[{`)
	return p
}

func (p *page) send(text string) {
	p.t.Helper()
	if err := p.ws.Write(p.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for a message that has a text in it, and gives it.
func (p *page) wait(part string) (found string) {
	p.t.Helper()
	within(p.t, "the page gets "+part, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, m := range p.received {
			if strings.Contains(m, part) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// said is the text of the deltas that the page has got.
func (p *page) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, m := range p.received {
		for _, found := range regexp.MustCompile(`"delta":"((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(m, -1) {
			text, _ := strconv.Unquote(`"` + found[1] + `"`)
			b.WriteString(text)
		}
	}
	return b.String()
}

// replica is one of the processes, and what calls it as the administrator.
type replica struct {
	*App
	token string
}

func (r *replica) do(t *testing.T, call, body string) jsondoc.Doc {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	w := httptest.NewRecorder()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+r.token)
	r.Handler().ServeHTTP(w, req)
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", call, w.Code, w.Body)
	}
	return jsondoc.Doc(w.Body.Bytes())
}

// openReplicas opens two processes on one database and one Redis.
func openReplicas(t *testing.T, database, redis, upstream string) (a, b *replica) {
	t.Helper()
	one := func() *replica {
		return &replica{App: open(t, map[string]string{
			"DATABASE_URL": database, "WEBUI_SECRET_KEY": "the same for all", "REDIS_URL": redis, "WEBSOCKET_MANAGER": "redis", "ENABLE_PLUGINS": "false",
			"ENABLE_OPENAI_API": "true", "OPENAI_API_BASE_URL": upstream + "/v1", "OPENAI_API_KEY": "k", "ENABLE_DIRECT_CONNECTIONS": "true",
			"ENABLE_TITLE_GENERATION": "false", "ENABLE_TAGS_GENERATION": "false", "ENABLE_FOLLOW_UP_GENERATION": "false",
			"WEBUI_ADMIN_EMAIL": "root@example.test", "WEBUI_ADMIN_PASSWORD": "root-password-1",
		})}
	}
	a, b = one(), one()
	a.token = a.do(t, "POST /api/v1/auths/signin", `{"email":"root@example.test","password":"root-password-1"}`).Text("token")
	b.token = a.token
	return a, b
}

// ask begins a turn and gives its chat and task.
func (r *replica) ask(t *testing.T, sid, rest string) (chatID, taskID string) {
	t.Helper()
	got := r.do(t, "POST /api/chat/completions", `{"stream":true,"session_id":"`+sid+`","id":"a1","parent_id":null,"user_message":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"word"},`+rest+`}`)
	return got.Text("chat_id"), got.Text("task_ids", "0")
}

func TestReplicas(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:///" + filepath.Join(t.TempDir(), "shared.db") },
		"postgres": func(t *testing.T) string { return storetest.PostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			redis, up := newRedis(t), newDictated(t)
			a, b := openReplicas(t, database(t), redis.url(), up.URL)
			pageA, pageB := openPage(t, a.App, a.token), openPage(t, b.App, b.token)
			within(t, "each process knows of the other's page", func() bool {
				return a.Realtime.SocketHolder(pageB.sid) != "" && b.Realtime.SocketHolder(pageA.sid) != ""
			})

			// the page is at one process, the turn at the other
			chatID, taskID := b.ask(t, pageA.sid, `"model":"m"`)
			up.words <- "Hel"
			within(t, "both pages get the text", func() bool { return pageA.said() == "Hel" && pageB.said() == "Hel" })
			for _, r := range []*replica{a, b} {
				if got := r.do(t, "GET /api/tasks", "").String(); got != `{"tasks":["`+taskID+`"]}` {
					t.Errorf("tasks: %s", got)
				}
				if got := r.do(t, "GET /api/tasks/chat/"+chatID, "").String(); got != `{"task_ids":["`+taskID+`"]}` {
					t.Errorf("tasks of the chat: %s", got)
				}
				if got := r.do(t, "GET /api/v1/chats/"+chatID, "").Text("chat", "history", "messages", "a1", "content"); got != "Hel" {
					t.Errorf("a page that is loaded now shows %q", got)
				}
				if got := r.do(t, "GET /api/v1/chats/?page=1", "").List()[0]; !got.Bool("active") {
					t.Errorf("not active: %s", got)
				}
			}

			// Redis goes away in mid-answer: whose page is at the turn's process notices nothing, others get it all later
			redis.stop()
			for i := range 20 {
				up.words <- fmt.Sprint("-", i)
			}
			text := "Hel"
			for i := range 20 {
				text += fmt.Sprint("-", i)
			}
			within(t, "the page at the turn's process gets the text", func() bool { return pageB.said() == text })
			if got := pageA.said(); got == text {
				t.Errorf("without Redis: %s", got)
			}
			redis.start()
			within(t, "the page at the other process gets the text", func() bool { return pageA.said() == text })

			// stopped by way of the other process
			within(t, "the other process knows of the task", func() bool { return strings.Contains(a.do(t, "GET /api/tasks", "").String(), taskID) })
			if got := a.do(t, "POST /api/tasks/stop/"+taskID, ""); !got.Bool("status") {
				t.Errorf("stop: %s", got)
			}
			<-up.ended
			pageA.wait("chat:tasks:cancel")
			within(t, "no task anywhere", func() bool {
				return a.do(t, "GET /api/tasks", "").String()+b.do(t, "GET /api/tasks", "").String() == `{"tasks":[]}{"tasks":[]}`
			})
			if got := a.do(t, "GET /api/v1/chats/"+chatID, "").Text("chat", "history", "messages", "a1", "content"); got != text {
				t.Errorf("kept: %q", got)
			}
			if got := a.do(t, "POST /api/tasks/stop/"+taskID, "").String(); got != `{"status":false,"message":"Task with ID `+taskID+` not found."}` {
				t.Errorf("stopped again: %s", got)
			}

			// stopped by the chat
			chatID, _ = b.ask(t, pageA.sid, `"model":"m"`)
			within(t, "the other process knows of the task", func() bool { return a.Turns.Active([]string{chatID})[chatID] })
			if got := a.do(t, "POST /api/tasks/chat/"+chatID+"/stop", ""); !got.Bool("status") {
				t.Errorf("stop of the chat: %s", got)
			}

			// a model that only the page can reach
			b.ask(t, pageA.sid, `"model":"d","model_item":{"id":"d","name":"D","direct":true,"owned_by":"openai"}`)
			request := pageA.wait("request:chat:completion")
			ackID, payload, _ := strings.Cut(strings.TrimPrefix(request, "42"), "[")
			var event []struct {
				Data struct{ Data struct{ Channel string } }
			}
			if err := json.Unmarshal([]byte(strings.Replace("["+payload, `"events"`, `{}`, 1)), &event); err != nil || len(event) != 2 || event[1].Data.Data.Channel == "" {
				t.Fatalf("%s: %v", request, err)
			}
			channel := event[1].Data.Data.Channel
			before := pageA.said()
			pageA.send(`43` + ackID + `[{"status":true}]`)
			for i := range 50 {
				pageA.send(fmt.Sprintf(`42[%q,"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<%d>\"}}]}"]`, channel, i))
			}
			pageA.send(`42["` + channel + `",{"done":true}]`)
			want := before
			for i := range 50 {
				want += fmt.Sprintf("<%d>", i)
			}
			within(t, "the page gets what it has passed on", func() bool { return pageA.said() == want })

			// what one process changes of an account the other knows, though it keeps who its callers are
			eve := account(t, a.App, "eve", "user", a.token)
			one := &replica{b.App, eve}
			if got := one.do(t, "GET /api/v1/auths/", "").Text("role"); got != "user" {
				t.Errorf("role %s", got)
			}
			a.do(t, "POST /api/v1/users/"+one.do(t, "GET /api/v1/auths/", "").Text("id")+"/update", `{"role":"admin","name":"eve","email":"eve@example.test","profile_image_url":"/user.png"}`)
			within(t, "the other process knows of the role", func() bool { return one.do(t, "GET /api/v1/auths/", "").Text("role") == "admin" })

			// one process ends a person's sessions at all
			me := a.do(t, "GET /api/v1/auths/", "").Text("id")
			b.Sessions.RefreshAccess(me)
			pageA.wait(`42["access:updated",{}]`)
			within(t, "no session", func() bool { return len(a.Realtime.UserSockets(me)) == 0 && len(b.Realtime.UserSockets(me)) == 0 })

			// one process ends
			if err := b.Turns.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
			within(t, "nothing is known of it", func() bool { return a.Replicas.Others() == 0 })
		})
	}
}

func TestReplicaSettings(t *testing.T) {
	for _, vars := range []map[string]string{{}, {"WEBSOCKET_MANAGER": "redis"}, {"WEBSOCKET_MANAGER": "kafka", "REDIS_URL": "redis://127.0.0.1:1"}} {
		if a := open(t, vars); a.Replicas != nil {
			t.Errorf("%v: not on its own", vars)
		}
	}
	// a Redis that is not there keeps nobody from starting, nor from ending
	if a := open(t, map[string]string{"WEBSOCKET_MANAGER": "redis", "WEBSOCKET_REDIS_URL": "redis://127.0.0.1:1"}); a.Replicas == nil || a.Redis != nil {
		t.Error("on its own")
	}
	c, err := ReadConfig(lookup(map[string]string{"DATA_DIR": t.TempDir(), "WEBSOCKET_MANAGER": "redis", "WEBSOCKET_REDIS_URL": "http://x"}))
	if err != nil {
		t.Fatal(err)
	}
	c.Log = t.Output()
	var setting *SettingError
	if _, err := Open(t.Context(), c); !errors.As(err, &setting) || !strings.Contains(err.Error(), "WEBSOCKET_REDIS_URL") {
		t.Errorf("a bad address: %v", err)
	}
}
