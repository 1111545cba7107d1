package realtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/replicas/replicastest"
)

func TestEmit(t *testing.T) {
	srv, ts := start(t, Options{})
	a, b, anon := join(t, ts, "tok-alice"), join(t, ts, "tok-bob"), join(t, ts, "")
	eventually(t, "both users", func() bool { return srv.RoomSize("user:1") == 1 && srv.RoomSize("user:2") == 1 })
	sockA, sockB := srv.SocketByID(a.sid), srv.SocketByID(b.sid)
	sockA.Join("r")
	sockB.Join("r")
	sockB.Join("q")
	sockB.Join("q")
	if err := srv.Emit("r", "one", map[string]any{"x": nil}); err != nil {
		t.Fatal(err)
	}
	srv.Emit("r", "two", nil, a.sid)
	srv.EmitMany([]string{"r", "q", "none"}, "three", 3)
	srv.EmitMany([]string{"r", "q"}, "four", 4, b.sid)
	srv.EmitRaw("q", EncodeEvent("five", []byte(`5`)))
	srv.Emit(anon.sid, "six", "only you")
	srv.Broadcast("seven", 7, b.sid)
	sockB.Leave("r")
	srv.Emit("r", "eight", 8)
	srv.EmitRaw("r", Packet{})
	for c, want := range map[*client][]string{
		a:    {`42["one",{"x":null}]`, `42["three",3]`, `42["four",4]`, `42["seven",7]`, `42["eight",8]`},
		b:    {`42["one",{"x":null}]`, `42["two"]`, `42["three",3]`, `42["five",5]`},
		anon: {`42["six","only you"]`, `42["seven",7]`},
	} {
		for _, w := range want {
			c.want(w)
		}
		c.send(`421["x"]`)
		c.want(`431[]`) // and nothing else came before
	}
	if err := srv.Emit("r", "bad", func() {}); err == nil {
		t.Error("an unencodable payload was emitted")
	}
	if got := srv.RoomUsers("q"); len(got) != 1 || got[0].Name != "Bob" {
		t.Errorf("users of q: %v", got)
	}
}

func TestSetUser(t *testing.T) {
	srv, ts := start(t, Options{})
	c := join(t, ts, "")
	s := srv.SocketByID(c.sid)
	s.SetUser(users["tok-alice"], "tok-alice")
	s.SetUser(users["tok-bob"], "tok-bob")
	if srv.RoomSize("user:1") != 0 || srv.RoomSize("user:2") != 1 || s.User().Name != "Bob" || s.Token() != "tok-bob" {
		t.Errorf("user %+v, rooms %v", s.User(), s.Rooms())
	}
}

func TestCall(t *testing.T) {
	srv, ts := start(t, Options{})
	c := join(t, ts, "tok-alice")
	s := srv.SocketByID(c.sid)
	type result struct {
		args []jsontext.Value
		err  error
	}
	call := func(ctx context.Context) chan result {
		out := make(chan result, 1)
		go func() {
			args, err := s.Call(ctx, "ask", map[string]int{"q": 1})
			out <- result{args, err}
		}()
		return out
	}

	out := call(t.Context())
	c.want(`421["ask",{"q":1}]`)
	c.send(`439["for nobody"]`)
	c.send(`431[{"a":2},null]`)
	if r := received(t, "the answer", out); r.err != nil || len(r.args) != 2 || string(r.args[0]) != `{"a":2}` {
		t.Errorf("answer %s, %v", r.args, r.err)
	}
	c.send(`431["again"]`) // answered before: ignored

	out = call(t.Context())
	c.want(`422["ask",{"q":1}]`)
	c.send(`461-2[{"_placeholder":true,"num":0}]`)
	c.write(websocket.MessageBinary, []byte{9})
	if r := received(t, "the binary answer", out); r.err != nil || string(r.args[0]) != `[9]` {
		t.Errorf("answer %s, %v", r.args, r.err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r := received(t, "the time-out", call(ctx)); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("time-out: %v", r.err)
	}
	c.want(`423["ask",{"q":1}]`)

	out = call(t.Context())
	c.want(`424["ask",{"q":1}]`)
	c.ws.CloseNow() // in mid-call
	if r := received(t, "the disconnect", out); !errors.Is(r.err, ErrDisconnected) {
		t.Errorf("disconnect: %v", r.err)
	}
	if _, err := s.Call(t.Context(), "ask"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("call after the end: %v", err)
	}
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	if len(s.acks) != 0 {
		t.Errorf("%d calls left", len(s.acks))
	}
}

func TestCallWithinHandler(t *testing.T) {
	srv, ts := start(t, Options{})
	srv.On("start", func(ctx context.Context, s *Socket, _ []jsontext.Value) (any, error) {
		args, err := s.Call(ctx, "confirm")
		if err != nil {
			return nil, err
		}
		return args[0], nil
	})
	c := join(t, ts, "tok-alice")
	c.send(`425["start"]`)
	c.want(`421["confirm"]`)
	c.send(`431["yes"]`)
	c.want(`435["yes"]`)
}

func TestSlowReader(t *testing.T) {
	srv, ts := start(t, Options{QueueBytes: 1 << 20})
	slow, fast := join(t, ts, "tok-alice"), join(t, ts, "tok-alice")
	eventually(t, "both sessions", func() bool { return srv.RoomSize("user:1") == 2 })
	p := EncodeEvent("events", []byte(`"`+strings.Repeat("x", 32<<10)+`"`))
	sent := 0
	for ; srv.SocketByID(slow.sid) != nil; sent++ {
		if sent == 10000 {
			t.Fatal("the slow reader was never dropped")
		}
		srv.EmitRaw("user:1", p)
		fast.want(string(p.Bytes()))
	}
	fast.send(`421["x"]`)
	fast.want(`431[]`)
}

func TestLargePacketPassesEmptyQueue(t *testing.T) {
	srv, ts := start(t, Options{QueueBytes: 1000})
	c := join(t, ts, "tok-alice")
	big := strings.Repeat("x", 100_000)
	srv.SocketByID(c.sid).Emit("big", big)
	c.want(`42["big","` + big + `"]`)
}

func TestMixedSizesKeepTheirOrder(t *testing.T) {
	srv, ts := start(t, Options{FlushInterval: time.Millisecond})
	c := join(t, ts, "tok-alice")
	var want []string
	for i := range 300 {
		text := fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", (i%7)*(i%7)*(i%7)*80))
		want = append(want, `42["e",`+text+`]`)
		srv.EmitRaw(c.sid, EncodeEvent("e", []byte(text)))
	}
	for _, w := range want {
		c.want(w)
	}
}

func TestReplicas(t *testing.T) {
	var net replicastest.Network
	srv1, ts1 := start(t, Options{Replicas: net.NewNode(t, nil)})
	srv2, ts2 := start(t, Options{Replicas: net.NewNode(t, nil)})
	c1, c2 := join(t, ts1, "tok-alice"), join(t, ts2, "tok-alice")
	eventually(t, "both sessions", func() bool { return srv1.RoomSize("user:1") == 2 && srv2.RoomSize("user:1") == 2 })
	if srv1.SocketHolder(c2.sid) == "" || srv1.SocketHolder(c1.sid) != "" {
		t.Error("who has a session")
	}
	srv1.Emit("user:1", "a", 1)
	srv1.Emit("user:1", "b", 2, c2.sid)
	srv2.EmitMany([]string{"user:1", "none"}, "c", 3, c2.sid)
	srv2.Broadcast("d", 4)
	srv1.Emit(c2.sid, "e", 5)
	srv2.EmitLocal("user:1", "f", 6)
	for c, want := range map[*client][]string{c1: {`42["a",1]`, `42["b",2]`, `42["c",3]`, `42["d",4]`}} {
		for _, w := range want {
			c.want(w)
		}
	}
	got := map[string]bool{} // of two processes, in any order
	for range 4 {
		got[c2.recv()] = true
	}
	for _, w := range []string{`42["a",1]`, `42["d",4]`, `42["e",5]`, `42["f",6]`} {
		if !got[w] {
			t.Errorf("received %v, not %s", got, w)
		}
	}
	if n := srv2.DisconnectUser("1"); n != 1 {
		t.Errorf("%d sockets of one process", n)
	}
	c1.want("41")
	c2.want("41")
	eventually(t, "nobody", func() bool { return srv1.RoomSize("user:1") == 0 && srv2.RoomSize("user:1") == 0 })
}
