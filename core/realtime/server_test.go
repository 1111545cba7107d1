package realtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func TestOpenPacket(t *testing.T) {
	_, ts := start(t, Options{})
	c := dial(t, ts, "")
	var open struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingTimeout  int      `json:"pingTimeout"`
		PingInterval int      `json:"pingInterval"`
		MaxPayload   int      `json:"maxPayload"`
	}
	if err := json.Unmarshal([]byte(c.recv()[1:]), &open, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if len(open.SID) != 20 || len(open.Upgrades) != 0 || open.PingTimeout != 20000 || open.PingInterval != 25000 || open.MaxPayload != 16777216 {
		t.Errorf("open packet %+v", open)
	}
}

func TestRefusals(t *testing.T) {
	_, ts := start(t, Options{AllowOrigin: func(o string) bool { return o == "http://good" }})
	_, off := start(t, Options{NoWebSocket: true})
	for _, tc := range []struct {
		base, method, query, origin string
		status                      int
		body                        string
	}{
		{ts.URL, "GET", "EIO=4&transport=polling", "", 400, `"Invalid transport"`},
		{ts.URL, "GET", "", "", 400, `"Invalid transport"`},
		{ts.URL, "POST", "EIO=4&transport=polling&sid=x", "", 400, `"Invalid transport"`},
		{ts.URL, "GET", "EIO=4&transport=carrier-pigeon", "", 400, `"Invalid transport"`},
		{ts.URL, "GET", "EIO=3&transport=websocket", "", 400, `"The client is using an unsupported version of the Socket.IO or Engine.IO protocols"`},
		{ts.URL, "GET", "EIO=4&transport=websocket", "", 400, `"Invalid websocket upgrade"`},
		{ts.URL, "GET", "EIO=4&transport=websocket&sid=nope", "", 400, `"Invalid session nope"`},
		{ts.URL, "GET", "EIO=4&transport=websocket", "http://evil", 400, `"http://evil is not an accepted origin."`},
		{ts.URL, "PUT", "EIO=4&transport=websocket", "", 405, `Method Not Found`},
		{ts.URL, "OPTIONS", "EIO=4&transport=websocket", "http://good", 200, `OK`},
		{off.URL, "GET", "EIO=4&transport=websocket", "", 400, `"Invalid transport"`},
		{off.URL, "POST", "EIO=4&transport=polling", "", 400, `"Invalid session None"`},
		{off.URL, "GET", "EIO=4&transport=polling&sid=nope", "", 400, `"Invalid session nope"`},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), tc.method, tc.base+"/ws/socket.io/?"+tc.query, nil)
		if tc.origin != "" {
			req.Header.Set("Origin", tc.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, res)
		if res.StatusCode != tc.status || body != tc.body {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.query, res.StatusCode, body, tc.status, tc.body)
		}
	}
}

func TestAlwaysConnect(t *testing.T) {
	connected := make(chan *Socket, 1)
	srv, ts := start(t, Options{OnConnect: func(_ context.Context, s *Socket) { connected <- s }})
	for _, tc := range []struct{ packet, userID string }{
		{`40{"token":"tok-alice"}`, "1"},
		{`40{"token":"wrong"}`, ""},
		{`40{"token":7}`, ""},
		{`40{}`, ""},
		{`40[]`, ""},
		{`40`, ""},
		{`40/?x=1,{"token":"tok-bob"}`, "2"},
	} {
		c := dial(t, ts, "")
		c.recv()
		c.send(tc.packet)
		if answer := c.recv(); !strings.HasPrefix(answer, `40{"sid":"`) {
			t.Fatalf("%s answered %s", tc.packet, answer)
		}
		s := received(t, "connect hook", connected)
		if s.User().ID != tc.userID {
			t.Errorf("%s: user %+v", tc.packet, s.User())
		}
		rooms := []string{s.SID()}
		if tc.userID != "" {
			rooms = append(rooms, UserRoom(tc.userID))
			slices.Sort(rooms)
		}
		if !slices.Equal(s.Rooms(), rooms) || srv.SocketByID(s.SID()) != s {
			t.Errorf("%s: rooms %v, want %v", tc.packet, s.Rooms(), rooms)
		}
	}
	if srv.Count() != 7 || srv.RoomSize("user:1") != 1 || len(srv.UserSockets("2")) != 1 {
		t.Errorf("%d sockets, %d of user 1", srv.Count(), srv.RoomSize("user:1"))
	}
}

func TestOtherNamespaces(t *testing.T) {
	_, ts := start(t, Options{})
	c := join(t, ts, "tok-alice")
	c.send(`40/admin,{"token":"tok-alice"}`)
	c.want(`44/admin,"Unable to connect"`)
	c.send(`42/admin,1["x"]`) // ignored
	c.send(`421["x"]`)
	c.want(`431[]`)
}

func TestAcks(t *testing.T) {
	srv, ts := start(t, Options{})
	answers := map[string]any{"nil": nil, "false": false, "list": []int{1, 2}, "several": Ack{1, "b", nil}, "none": Ack{}}
	for name, v := range answers {
		srv.On(name, func(context.Context, *Socket, []jsontext.Value) (any, error) { return v, nil })
	}
	srv.On("error", func(context.Context, *Socket, []jsontext.Value) (any, error) { return nil, errors.New("refused") })
	srv.On("panic", func(context.Context, *Socket, []jsontext.Value) (any, error) { panic("oops") })
	srv.On("unencodable", func(context.Context, *Socket, []jsontext.Value) (any, error) { return func() {}, nil })
	srv.On("echo", Bind(func(_ context.Context, _ *Socket, in map[string]int) (any, error) { return in, nil }))
	c := join(t, ts, "tok-alice")
	for _, tc := range []struct{ in, want string }{
		{`421["nil"]`, `431[]`},
		{`42["nil"]`, ``},
		{`4222["false"]`, `4322[false]`},
		{`423["list"]`, `433[[1,2]]`},
		{`424["several"]`, `434[1,"b",null]`},
		{`425["none"]`, `435[]`},
		{`426["unknown"]`, `436[]`},
		{`427["error"]`, ``},
		{`428["panic"]`, ``},
		{`429["unencodable"]`, ``},
		{`4210["echo",{"a":1}]`, `4310[{"a":1}]`},
		{`4211["echo",[]]`, ``},
		{`4212["echo",null]`, ``},
		{`4213["echo"]`, ``},
		{`420["nil"]`, `430[]`},
	} {
		c.send(tc.in)
		if tc.want != "" {
			c.want(tc.want)
		}
	}
	srv.OnAny(func(_ context.Context, _ *Socket, event string, args []jsontext.Value) (any, error) {
		return Ack{event, len(args)}, nil
	})
	c.send(`421["a:b:c",1,2]`)
	c.want(`431["a:b:c",2]`)
}

func TestHandlersRunInOrder(t *testing.T) {
	srv, ts := start(t, Options{})
	var running atomic.Int32
	srv.On("n", Bind(func(_ context.Context, s *Socket, n int) (any, error) {
		if running.Add(1) > 1 {
			t.Error("two handlers of one socket at a time")
		}
		defer running.Add(-1)
		return nil, s.Emit("n", n)
	}))
	c := join(t, ts, "tok-alice")
	for i := range 500 {
		c.send(fmt.Sprintf(`42["n",%d]`, i))
	}
	for i := range 500 {
		c.want(fmt.Sprintf(`42["n",%d]`, i))
	}
}

func TestBinaryEvents(t *testing.T) {
	srv, ts := start(t, Options{})
	srv.On("u", func(_ context.Context, _ *Socket, args []jsontext.Value) (any, error) { return args[0], nil })
	c := join(t, ts, "tok-alice")
	c.send(`452-8["u",{"a":{"_placeholder":true,"num":1},"b":{"_placeholder":true,"num":0}}]`)
	c.write(websocket.MessageBinary, []byte{1, 2})
	c.write(websocket.MessageBinary, []byte{255})
	c.want(`438[{"a":[255],"b":[1,2]}]`)
	c.send(`450-9["u",1]`)
	c.want(`439[1]`)
}

func TestProtocolErrorsCloseOneConnection(t *testing.T) {
	srv, ts := start(t, Options{MaxPayload: 1000})
	block := make(chan struct{})
	defer close(block)
	srv.On("wait", func(context.Context, *Socket, []jsontext.Value) (any, error) { <-block; return nil, nil })
	bystander := join(t, ts, "tok-bob")
	for _, tc := range []struct {
		name string
		send func(*client)
		code websocket.StatusCode
	}{
		{"unknown engine packet", func(c *client) { c.send("x") }, websocket.StatusProtocolError},
		{"empty message", func(c *client) { c.send("") }, websocket.StatusProtocolError},
		{"unknown packet", func(c *client) { c.send("49") }, websocket.StatusInvalidFramePayloadData},
		{"bad JSON", func(c *client) { c.send(`42["a",}`) }, websocket.StatusInvalidFramePayloadData},
		{"bad auth", func(c *client) { c.send(`40{"token"`) }, websocket.StatusInvalidFramePayloadData},
		{"client sends CONNECT_ERROR", func(c *client) { c.send(`44"x"`) }, websocket.StatusProtocolError},
		{"bad base64", func(c *client) { c.send("b###") }, websocket.StatusInvalidFramePayloadData},
		{"unexpected attachment", func(c *client) { c.write(websocket.MessageBinary, []byte{1}) }, websocket.StatusUnsupportedData},
		{"missing attachment", func(c *client) { c.send(`451-["a"]`); c.send(`42["a"]`) }, websocket.StatusProtocolError},
		{"bad placeholder", func(c *client) {
			c.send(`451-["a",{"_placeholder":true,"num":5}]`)
			c.write(websocket.MessageBinary, []byte{1})
		}, websocket.StatusInvalidFramePayloadData},
		{"message too big", func(c *client) { c.send(`42["a","` + strings.Repeat("x", 1000) + `"]`) }, websocket.StatusMessageTooBig},
		{"attachments too big", func(c *client) {
			c.send(`452-["a"]`)
			c.write(websocket.MessageBinary, make([]byte, 600))
			c.write(websocket.MessageBinary, make([]byte, 600))
		}, websocket.StatusMessageTooBig},
		{"flood", func(c *client) {
			c.send(`42["wait"]`)
			for range maxPendingEvents + 2 {
				if c.ws.Write(context.Background(), websocket.MessageText, []byte(`42["wait"]`)) != nil {
					break
				}
			}
		}, websocket.StatusPolicyViolation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := join(t, ts, "tok-alice")
			c.t = t
			tc.send(c)
			if code := c.closed(); code != tc.code {
				t.Errorf("close code %d, want %d", code, tc.code)
			}
			eventually(t, "the session's end", func() bool { return srv.SocketByID(c.sid) == nil })
		})
	}
	bystander.send(`421["x"]`)
	bystander.want(`431[]`)
}

func TestDisconnectReasons(t *testing.T) {
	reasons := make(chan string, 1)
	srv, ts := start(t, Options{OnDisconnect: func(_ context.Context, s *Socket, reason string) {
		if s.Join("late") || s.In(s.SID()) || len(s.Rooms()) == 0 {
			t.Errorf("rooms of an ended session: %v", s.Rooms())
		}
		reasons <- reason
	}})
	for _, tc := range []struct {
		do   func(*client)
		want string
	}{
		{func(c *client) { c.send("41") }, ReasonClient},
		{func(c *client) { c.send("1") }, ReasonClient},
		{func(c *client) { c.ws.Close(websocket.StatusNormalClosure, "") }, ReasonTransport},
		{func(c *client) { c.ws.CloseNow() }, ReasonTransport},
		{func(c *client) { srv.SocketByID(c.sid).Disconnect() }, ReasonServer},
		{func(c *client) { c.send("42") }, ReasonError},
	} {
		c := join(t, ts, "tok-alice")
		tc.do(c)
		if got := received(t, "the disconnect hook", reasons); got != tc.want {
			t.Errorf("reason %q, want %q", got, tc.want)
		}
	}
	if n := srv.RoomSize("user:1"); n != 0 {
		t.Errorf("%d sockets left in the user's room", n)
	}
}

func TestDisconnectHookRunsAfterHandlers(t *testing.T) {
	order := make(chan string, 3)
	srv, ts := start(t, Options{OnDisconnect: func(context.Context, *Socket, string) { order <- "disconnect" }})
	entered, release := make(chan struct{}), make(chan struct{})
	srv.On("slow", func(ctx context.Context, s *Socket, _ []jsontext.Value) (any, error) {
		close(entered)
		<-release
		order <- "slow"
		return nil, ctx.Err()
	})
	srv.On("last", func(context.Context, *Socket, []jsontext.Value) (any, error) { order <- "last"; return nil, nil })
	c := join(t, ts, "tok-alice")
	c.send(`421["slow"]`)
	c.send(`422["last"]`)
	received(t, "the handler", entered)
	s := srv.SocketByID(c.sid)
	c.ws.Close(websocket.StatusNormalClosure, "")
	received(t, "the session's end", s.Done())
	close(release)
	for _, want := range []string{"slow", "last", "disconnect"} {
		if got := received(t, want, order); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestReconnectOnSameConnection(t *testing.T) {
	srv, ts := start(t, Options{})
	c := join(t, ts, "tok-alice")
	first := c.sid
	eventually(t, "the user", func() bool { return srv.RoomSize("user:1") == 1 })
	srv.Emit("user:1", "access:updated", struct{}{})
	if n := srv.DisconnectUser("1"); n != 1 {
		t.Errorf("%d sessions ended", n)
	}
	c.want(`42["access:updated",{}]`)
	c.want(`41`)
	c.send(`421["ignored"]`)
	c.connect("tok-alice")
	if c.sid == first {
		t.Error("the session id was used again")
	}
	c.send(`40`) // a second CONNECT changes nothing
	c.send(`421["x"]`)
	c.want(`431[]`)
}

func TestVerify(t *testing.T) {
	var revoked atomic.Bool
	srv, ts := start(t, Options{Authenticate: func(ctx context.Context, token string) (User, bool) {
		u, ok := users[token]
		return u, ok && !revoked.Load()
	}})
	srv.On("me", func(ctx context.Context, s *Socket, _ []jsontext.Value) (any, error) {
		u, ok := srv.Verify(ctx, s)
		if !ok {
			return nil, nil
		}
		return u.Name, nil
	})
	anon, c := join(t, ts, "wrong"), join(t, ts, "tok-alice")
	anon.send(`421["me"]`)
	anon.want(`41`)
	c.send(`421["me"]`)
	c.want(`431["Alice"]`)
	revoked.Store(true)
	c.send(`422["me"]`)
	c.send(`423["me"]`)
	c.want(`41`)
	eventually(t, "no sockets", func() bool { return srv.Count() == 0 })
}

func TestRecheck(t *testing.T) {
	var revoked atomic.Bool
	srv, ts := start(t, Options{RecheckInterval: 5 * time.Millisecond, Authenticate: func(ctx context.Context, token string) (User, bool) {
		u, ok := users[token]
		return u, ok && !(revoked.Load() && u.Name == "Alice")
	}})
	a, b := join(t, ts, "tok-alice"), join(t, ts, "tok-bob")
	eventually(t, "Alice", func() bool { return srv.SocketByID(a.sid).User().Name == "Alice" }) // the token is looked at behind the greeting
	revoked.Store(true)
	a.want("41")
	b.send(`421["x"]`)
	b.want(`431[]`)
}

func TestHeartbeat(t *testing.T) {
	reasons := make(chan string, 4)
	srv, ts := start(t, Options{PingInterval: 10 * time.Millisecond, PingTimeout: 500 * time.Millisecond,
		OnDisconnect: func(_ context.Context, _ *Socket, reason string) { reasons <- reason }})
	c := join(t, ts, "tok-alice")
	for range 5 { // more intervals than the time-out of a single ping allows for
		if text, err := c.next(); err != nil || text != "2" {
			t.Fatalf("%q, %v instead of a ping", text, err)
		}
		c.send("3")
	}
	if srv.Count() != 1 {
		t.Fatal("session lost although it answered")
	}
	if code := c.closed(); code != websocket.StatusNormalClosure {
		t.Errorf("close code %d", code)
	}
	if got := received(t, "the disconnect hook", reasons); got != ReasonPingTimeout {
		t.Errorf("reason %q", got)
	}
}

func TestConnectionWithoutSessionIsClosed(t *testing.T) {
	_, ts := start(t, Options{PingInterval: 5 * time.Millisecond, PingTimeout: 30 * time.Millisecond})
	c := dial(t, ts, "")
	for {
		text, err := c.next()
		if err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusNormalClosure {
				t.Errorf("close code %d", code)
			}
			return
		}
		if text == "2" {
			c.send("3")
		}
	}
}

func TestClose(t *testing.T) {
	srv, ts := start(t, Options{})
	entered := make(chan struct{})
	srv.On("wait", func(ctx context.Context, _ *Socket, _ []jsontext.Value) (any, error) {
		close(entered)
		<-ctx.Done()
		return nil, nil
	})
	c := join(t, ts, "tok-alice")
	srv.Emit(c.sid, "last", 1)
	done := make(chan error, 1)
	go func() { done <- srv.Close(context.Background()) }()
	c.want(`42["last",1]`)
	if code := c.closed(); code != websocket.StatusGoingAway {
		t.Errorf("close code %d", code)
	}
	if err := received(t, "the end", done); err != nil {
		t.Error(err)
	}
	late := dial(t, ts, "")
	if code := late.closed(); code != websocket.StatusGoingAway {
		t.Errorf("close code %d after the end", code)
	}
}

func TestCloseDoesNotWaitForever(t *testing.T) {
	srv, ts := start(t, Options{})
	entered := make(chan struct{})
	srv.On("wait", func(ctx context.Context, _ *Socket, _ []jsontext.Value) (any, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := join(t, ts, "tok-alice")
	c.send(`42["wait"]`)
	received(t, "the handler", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	srv.Close(ctx) // the client does not answer the close frame
	if took := time.Since(start); took > patience/2 {
		t.Errorf("closing took %v", took)
	}
}
