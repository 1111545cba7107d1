package realtime

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a test waits for something that should happen at once.
const patience = 10 * time.Second

// TestMain fails the run if goroutines of this package outlive the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var stacks string
		deadline := time.Now().Add(patience)
		for {
			if stacks = leaked(); stacks == "" || time.Now().After(deadline) {
				break
			}
			runtime.Gosched()
		}
		if stacks != "" {
			fmt.Fprintln(os.Stderr, "leaked goroutines:\n"+stacks)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that run code of this package.
func leaked() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var out []string
	for _, g := range all[1:] { // the first is this one
		if strings.Contains(g, "/core/realtime.") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

var users = map[string]User{
	"tok-alice": {ID: "1", Name: "Alice", Role: "user"},
	"tok-bob":   {ID: "2", Name: "Bob", Role: "admin"},
}

func authenticate(_ context.Context, token string) (User, bool) {
	u, ok := users[token]
	return u, ok
}

// start runs a server that is closed, and found without leftovers, at the end.
func start(t testing.TB, opts Options) (*Server, *httptest.Server) {
	t.Helper()
	if opts.Authenticate == nil {
		opts.Authenticate = authenticate
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	srv := New(opts)
	ts := httptest.NewServer(srv)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
		ts.Close()
		if n := srv.Count(); n != 0 {
			t.Errorf("%d sockets left", n)
		}
	})
	return srv, ts
}

// client speaks Engine.IO over a WebSocket, packet by packet.
type client struct {
	t   testing.TB
	ws  *websocket.Conn
	sid string
}

func dial(t testing.TB, ts *httptest.Server, query string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, ts.URL+"/ws/socket.io/?EIO=4&transport=websocket"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(64 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	return &client{t: t, ws: ws}
}

// join opens a session with a token.
func join(t testing.TB, ts *httptest.Server, token string) *client {
	t.Helper()
	c := dial(t, ts, "")
	if open := c.recv(); !strings.HasPrefix(open, `0{"sid":"`) {
		t.Fatalf("open packet %q", open)
	}
	c.connect(token)
	return c
}

func (c *client) connect(token string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`40{"token":%q}`, token))
	answer := c.recv()
	if !strings.HasPrefix(answer, `40{"sid":"`) {
		c.t.Fatalf("connect answered %q", answer)
	}
	c.sid = strings.TrimSuffix(strings.TrimPrefix(answer, `40{"sid":"`), `"}`)
}

func (c *client) send(text string) {
	c.t.Helper()
	c.write(websocket.MessageText, []byte(text))
}

func (c *client) write(kind websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.ws.Write(ctx, kind, b); err != nil {
		c.t.Fatal(err)
	}
}

// recv returns the next text that is not a ping.
func (c *client) recv() string {
	c.t.Helper()
	for {
		text, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if text != "2" {
			return text
		}
		c.send("3")
	}
}

func (c *client) next() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	return string(b), err
}

func (c *client) want(text string) {
	c.t.Helper()
	if got := c.recv(); got != text {
		c.t.Fatalf("received %.200q, want %.200q", got, text)
	}
}

// closed reads until the end and returns the code of the close frame.
func (c *client) closed() websocket.StatusCode {
	c.t.Helper()
	for {
		if _, err := c.next(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("never happened: " + what)
		}
		runtime.Gosched()
	}
}

// received takes a value from a channel that should have one soon.
func received[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("never happened: " + what)
		panic("unreachable")
	}
}
