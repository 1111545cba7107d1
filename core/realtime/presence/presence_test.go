package presence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/replicas/replicastest"
)

const patience = 10 * time.Second

// fake is the application behind a Presence.
type fake struct {
	mu      sync.Mutex
	now     time.Time
	read    map[ChatUser]bool
	write   map[ChatUser]bool
	owner   map[string]string
	touched []string
	broken  error
	asked   []ChatUser
	revoked bool
}

func (f *fake) CanRead(_ context.Context, userID, chatID string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read[ChatUser{chatID, userID}], f.broken
}

func (f *fake) CanWrite(_ context.Context, userID, chatID string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write[ChatUser{chatID, userID}], f.broken
}

func (f *fake) Readable(_ context.Context, pairs []ChatUser) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = pairs
	out := make([]bool, len(pairs))
	for i, p := range pairs {
		out[i] = f.read[p]
	}
	return out, f.broken
}

func (f *fake) Owners(context.Context, []string) (map[string]string, error) { return f.owner, f.broken }

func (f *fake) MarkRead(_ context.Context, userID, chatID string) (any, bool, error) {
	if f.owner[chatID] != userID {
		return nil, false, f.broken
	}
	return map[string]any{"chat_id": chatID}, true, f.broken
}

func (f *fake) Joined(_ context.Context, u realtime.User) ([]string, error) {
	return []string{"all", "of-" + u.ID}, nil
}

func (f *fake) Touch(_ context.Context, userID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touched = append(f.touched, userID)
	return nil
}

func (f *fake) authenticate(_ context.Context, token string) (realtime.User, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, name, ok := strings.Cut(token, ":")
	return realtime.User{ID: id, Name: name}, ok && !f.revoked
}

func (f *fake) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fake) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

type world struct {
	*fake
	*Presence
	t   *testing.T
	srv *realtime.Server
	ts  *httptest.Server
}

func start(t *testing.T) *world {
	f := &fake{now: time.Unix(1_700_000_000, 0), read: map[ChatUser]bool{}, write: map[ChatUser]bool{}, owner: map[string]string{}}
	return startWith(t, f, func(use func(*replicas.Node)) { use(nil) })
}

// startWith starts a world on the node that join gives it.
func startWith(t *testing.T, f *fake, join func(use func(*replicas.Node))) *world {
	var srv *realtime.Server
	var p *Presence
	join(func(n *replicas.Node) {
		srv = realtime.New(realtime.Options{Authenticate: f.authenticate, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Replicas: n})
		p = New(srv, Options{Chats: f, Channels: f, LastActive: f, Now: f.clock, Replicas: n})
	})
	ts := httptest.NewServer(srv)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
		ts.Close()
		if len(p.pool.sessions) != 0 || len(p.pool.chats) != 0 || len(p.usage.inUse) != 0 || len(p.usage.counts) != 0 {
			t.Errorf("left over: %v %v %v %v", p.pool.sessions, p.pool.chats, p.usage.inUse, p.usage.counts)
		}
	})
	return &world{f, p, t, srv, ts}
}

type client struct {
	t   *testing.T
	ws  *websocket.Conn
	sid string
	ack int
}

// join opens a session; token is "id:name".
func (w *world) join(token string) *client {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, w.ts.URL+"/?EIO=4&transport=websocket", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ws.CloseNow() })
	c := &client{t: w.t, ws: ws}
	c.recv()
	c.send(fmt.Sprintf(`40{"token":%q}`, token))
	c.sid = strings.TrimSuffix(strings.TrimPrefix(c.recv(), `40{"sid":"`), `"}`)
	c.call("none", `{}`, ``) // by now the token has been checked
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func (c *client) want(text string) {
	c.t.Helper()
	if got := c.recv(); got != text {
		c.t.Fatalf("received %s\nwant %s", got, text)
	}
}

// call emits an event, expects the events given and then the acknowledgement.
func (c *client) call(event, payload, ack string, events ...string) {
	c.t.Helper()
	c.ack++
	c.send(fmt.Sprintf(`42%d["%s",%s]`, c.ack, event, payload))
	for _, e := range events {
		c.want(e)
	}
	c.want(fmt.Sprintf(`43%d[%s]`, c.ack, ack))
}

func presenceOf(chat, users string) string {
	return `42["events",{"chat_id":"` + chat + `","shared":true,"data":{"type":"chat:presence","data":{"users":[` + users + `]}}}]`
}

const (
	alice = `{"id":"1","name":"Alice"}`
	bob   = `{"id":"2","name":"Bob"}`
)

func TestUserJoin(t *testing.T) {
	w := start(t)
	c := w.join("")
	for _, payload := range []string{`{}`, `{"auth":{}}`, `{"auth":null}`, `{"auth":"x"}`, `{"auth":{"token":7}}`, `{"auth":{"token":"nonsense"}}`} {
		c.call("user-join", payload, ``)
	}
	if _, ok := w.SessionUser(c.sid); ok {
		t.Error("a session without a user is in the pool")
	}
	c.call("user-join", `{"auth":{"token":"1:Alice"}}`, alice)
	for _, room := range []string{"user:1", "channel:all", "channel:of-1"} {
		if !w.srv.SocketByID(c.sid).In(room) {
			t.Errorf("not in %s", room)
		}
	}
	if u, ok := w.SessionUser(c.sid); !ok || u.Name != "Alice" {
		t.Errorf("session user %v %v", u, ok)
	}
	c.call("join-channels", `{"auth":{"token":"2:Bob"}}`, ``)
	c.call("join-channels", `{}`, ``)
	if s := w.srv.SocketByID(c.sid); !s.In("channel:of-2") || s.User().ID != "1" {
		t.Errorf("rooms %v of %v", s.Rooms(), s.User())
	}
}

func TestHeartbeat(t *testing.T) {
	w := start(t)
	c := w.join("1:Alice")
	c.call("heartbeat", `{}`, ``)
	if len(w.touched) != 1 || w.touched[0] != "1" {
		t.Errorf("touched %v", w.touched)
	}
	w.read[ChatUser{"c", "1"}] = true
	c.call("events:chat", `{"chat_id":"c","data":{"type":"join"}}`, `true`, presenceOf("c", alice))
	w.pass(119 * time.Second)
	w.Sweep()
	if sid, ok := w.ChatSession("1", "c"); !ok || sid != c.sid {
		t.Error("the session was given up too early")
	}
	w.pass(2 * time.Second)
	w.Sweep()
	if _, ok := w.SessionUser(c.sid); ok || w.srv.RoomSize("chat:c") != 0 {
		t.Error("a silent session is still live")
	}
	c.call("events:chat", `{"chat_id":"c","data":{"type":"join"}}`, `false`)
	c.call("events:chat", `{"chat_id":"c","data":{"type":"leave"}}`, `false`)
	c.call("heartbeat", `{}`, ``)
	c.call("events:chat", `{"chat_id":"c","data":{"type":"join"}}`, `true`, presenceOf("c", alice))
	w.set(func() { w.revoked = true })
	c.send(`42["heartbeat",{}]`)
	c.want("41")
}

func TestEventsNeedAUser(t *testing.T) {
	w := start(t)
	for _, event := range []string{`"heartbeat",{}`, `"usage",{"model":"m"}`, `"events:chat",{"chat_id":"c","data":{"type":"join"}}`} {
		c := w.join("")
		c.send(`421[` + event + `]`)
		c.want("41")
	}
	if got := w.ModelsInUse(); len(got) != 0 || got == nil {
		t.Errorf("models %v", got)
	}
}

func TestUsage(t *testing.T) {
	w := start(t)
	a, b := w.join("1:Alice"), w.join("2:Bob")
	models := func(want string) {
		t.Helper()
		if got := strings.Join(w.ModelsInUse(), " "); got != want {
			t.Errorf("models in use %q, want %q", got, want)
		}
	}
	a.call("usage", `{"model":"m1"}`, ``)
	b.call("usage", `{"model":"m2"}`, ``)
	w.pass(2 * time.Second)
	b.call("usage", `{"model":"m1"}`, ``)
	a.call("usage", `{"model":"m1"}`, ``)
	models("m1 m2")
	w.pass(2 * time.Second)
	models("m1")
	b.ws.Close(websocket.StatusNormalClosure, "")
	a.ws.Close(websocket.StatusNormalClosure, "")
	eventually(t, func() bool { return len(w.ModelsInUse()) == 0 })

	c := w.join("3:Carol")
	c.send(`421["usage",{}]`) // no acknowledgement
	for i := range maxModelsPerSession + 10 {
		c.send(fmt.Sprintf(`42["usage",{"model":"x%d"}]`, i))
	}
	c.ack = 1
	c.call("none", `{}`, ``)
	if n := len(w.ModelsInUse()); n != maxModelsPerSession {
		t.Errorf("%d models of one session", n)
	}
	w.pass(4 * time.Second)
	c.call("usage", `{"model":"m3"}`, ``)
	models("m3")
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("never happened")
		}
	}
}

func TestChatPresence(t *testing.T) {
	w := start(t)
	for _, id := range []string{"1", "2"} {
		w.read[ChatUser{"c", id}], w.write[ChatUser{"c", id}] = true, true
	}
	a, b, a2, carol := w.join("1:Alice"), w.join("2:Bob"), w.join("1:Alice"), w.join("3:Carol")
	const joinC, leaveC = `{"chat_id":"c","data":{"type":"join"}}`, `{"chat_id":"c","data":{"type":"leave"}}`
	b.call("events:chat", joinC, `true`, presenceOf("c", bob))
	a.call("events:chat", joinC, `true`, presenceOf("c", alice+","+bob))
	b.want(presenceOf("c", alice+","+bob))
	a2.call("events:chat", joinC, `true`, presenceOf("c", alice+","+bob))
	a.want(presenceOf("c", alice+","+bob))
	b.want(presenceOf("c", alice+","+bob))
	carol.call("events:chat", joinC, `false`)

	const typingC = `{"chat_id":"c","data":{"type":"typing","data":{"typing":%s}}}`
	b.call("events:chat", fmt.Sprintf(typingC, "true"), `true`) // not told to the sender
	typing := `42["events",{"chat_id":"c","user_id":"2","user":` + bob + `,"shared":true,"data":{"type":"typing","data":{"typing":true}}}]`
	a.want(typing)
	a2.want(typing)
	for _, bad := range []string{`"yes"`, `null`, `1`} {
		b.call("events:chat", fmt.Sprintf(typingC, bad), `false`)
	}
	carol.call("events:chat", fmt.Sprintf(typingC, "true"), `false`)
	w.set(func() { w.write[ChatUser{"c", "2"}] = false })
	b.call("events:chat", fmt.Sprintf(typingC, "true"), `false`)

	for _, id := range []string{`"local:c"`, `"temporary:c"`, `"channel:c"`, `""`, `7`, `null`, `"none"`} {
		b.call("events:chat", `{"chat_id":`+id+`,"data":{"type":"join"}}`, `false`)
	}
	b.call("events:chat", `{"data":{"type":"join"}}`, `false`)
	b.call("events:chat", `{"chat_id":"c","data":{"type":"nonsense"}}`, ``)
	b.call("events:chat", `{"chat_id":"c","data":{"type":7}}`, ``)
	b.call("events:chat", `{"chat_id":"c"}`, ``)

	b.call("events:chat", leaveC, `true`)
	a.want(presenceOf("c", alice))
	a2.want(presenceOf("c", alice))
	b.call("events:chat", fmt.Sprintf(typingC, "true"), `false`)
	a.ws.CloseNow()
	a2.want(presenceOf("c", alice)) // her other session
	a2.call("user-join", `{"auth":{"token":"9:Zoe"}}`, `{"id":"9","name":"Zoe"}`)
	if w.srv.RoomSize("chat:c") != 0 {
		t.Error("the session kept the chats of its former user")
	}
	w.set(func() { w.broken = errors.New("no database") })
	b.send(`4299["events:chat",` + joinC + `]`) // no acknowledgement
	b.call("none", `{}`, ``)
}

func TestMarkRead(t *testing.T) {
	w := start(t)
	w.owner["c"] = "1"
	a, a2, b := w.join("1:Alice"), w.join("1:Alice"), w.join("2:Bob")
	const read = `{"chat_id":"c","data":{"type":"last_read_at"}}`
	told := `42["events",{"chat_id":"c","data":{"type":"chat:list","data":{"chat_id":"c"}}}]`
	a.call("events:chat", read, ``, told)
	a2.want(told)
	b.call("events:chat", read, ``)
	a.send(`4299["events:chat",{"data":{"type":"last_read_at"}}]`) // no acknowledgement
	a.call("none", `{}`, ``)
}

func TestChatAccessChanged(t *testing.T) {
	w := start(t)
	w.owner["c"] = "1"
	w.read[ChatUser{"c", "1"}], w.read[ChatUser{"c", "2"}] = true, true
	a, b, b2 := w.join("1:Alice"), w.join("2:Bob"), w.join("2:Bob")
	for _, c := range []*client{a, b, b2} {
		c.send(`42["events:chat",{"chat_id":"c","data":{"type":"join"}}]`)
		eventually(t, func() bool { return w.srv.SocketByID(c.sid).In("chat:c") })
	}
	// Reads what came before; then only new events follow.
	settle := func(c *client) {
		c.ack++
		c.send(fmt.Sprintf(`42%d["none"]`, c.ack))
		for c.recv() != fmt.Sprintf(`43%d[]`, c.ack) {
		}
	}
	for range 2 { // once all have joined, everybody has been told
		for _, c := range []*client{a, b, b2} {
			settle(c)
		}
	}
	const access = `42["events",{"chat_id":"c","shared":true,"data":{"type":"chat:access","data":{}}}]`
	if err := w.ChatAccessChanged(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.want(access)
	b2.want(access)
	if len(w.asked) != 1 || w.asked[0] != (ChatUser{"c", "2"}) {
		t.Errorf("asked about %v", w.asked)
	}
	w.set(func() { w.read[ChatUser{"c", "2"}] = false })
	if err := w.ChatAccessChanged(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	a.want(access)
	a.want(presenceOf("c", alice))
	b.want(access)
	b2.want(access)
	b.call("none", `{}`, ``)
	if w.srv.RoomSize("chat:c") != 1 {
		t.Errorf("%d sockets in the chat", w.srv.RoomSize("chat:c"))
	}
	if err := w.ChatAccessChanged(t.Context(), "unknown"); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.broken = errors.New("no database") })
	for _, id := range []string{"", "c"} {
		if err := w.ChatAccessChanged(t.Context(), id); !errors.Is(err, w.broken) {
			t.Errorf("chat %q: %v", id, err)
		}
	}
}

func TestAccessChanged(t *testing.T) {
	w := start(t)
	a, b := w.join("1:Alice"), w.join("2:Bob")
	w.AccessChanged("1", "unknown")
	a.want(`42["access:updated",{}]`)
	a.want(`41`)
	b.call("none", `{}`, ``)
	eventually(t, func() bool { _, ok := w.SessionUser(a.sid); return !ok })
}

func TestRun(t *testing.T) {
	w := start(t)
	w.opts.SessionTimeout = time.Millisecond
	c := w.join("1:Alice")
	w.pass(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	eventually(t, func() bool { _, ok := w.SessionUser(c.sid); return !ok })
	cancel()
	<-done
}

// TestReplicas has two processes with sessions of the same chat.
func TestReplicas(t *testing.T) {
	var net replicastest.Network
	f := &fake{now: time.Unix(1_700_000_000, 0), read: map[ChatUser]bool{}, write: map[ChatUser]bool{}, owner: map[string]string{}}
	replica := func() *world {
		return startWith(t, f, func(use func(*replicas.Node)) { net.NewNode(t, use) })
	}
	w1, w2 := replica(), replica()
	f.read[ChatUser{"c", "1"}], f.read[ChatUser{"c", "2"}] = true, true
	f.write[ChatUser{"c", "2"}] = true
	a, b := w1.join("1:Alice"), w2.join("2:Bob")
	const join = `{"chat_id":"c","data":{"type":"join"}}`
	a.call("events:chat", join, `true`, presenceOf("c", alice))
	eventually(t, func() bool { return w2.srv.RoomSize("chat:c") == 1 })
	b.send(`421["events:chat",` + join + `]`)
	both, answered := false, false
	for !both || !answered { // it is told of Alice when its process has heard of her
		got := b.recv()
		both, answered = both || got == presenceOf("c", alice+","+bob), answered || got == `431[true]`
	}
	a.want(presenceOf("c", alice+","+bob))
	if u, ok := w1.SessionUser(b.sid); !ok || u.ID != "2" || u.Name != "Bob" {
		t.Errorf("the other's session: %v, %v", u, ok)
	}
	b.ack = 1
	b.call("events:chat", `{"chat_id":"c","data":{"type":"typing","data":{"typing":true}}}`, `true`)
	a.want(`42["events",{"chat_id":"c","user_id":"2","user":` + bob + `,"shared":true,"data":{"type":"typing","data":{"typing":true}}}]`)

	b.call("usage", `{"model":"m"}`, ``)
	eventually(t, func() bool { return len(w1.ModelsInUse()) == 1 })
	w1.pass(5 * time.Second)
	if got := append(w1.ModelsInUse(), w2.ModelsInUse()...); len(got) != 0 {
		t.Errorf("still in use: %v", got)
	}

	w2.set(func() { f.read[ChatUser{"c", "1"}] = false })
	if err := w2.ChatAccessChanged(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	a.want(`42["events",{"chat_id":"c","shared":true,"data":{"type":"chat:access","data":{}}}]`)
	eventually(t, func() bool { return w2.srv.RoomSize("chat:c") == 1 })
	a.ws.CloseNow()
	eventually(t, func() bool { _, ok := w2.SessionUser(a.sid); return !ok })
}
