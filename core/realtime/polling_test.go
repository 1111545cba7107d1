package realtime

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"
)

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// poller speaks Engine.IO over HTTP long polling.
type poller struct {
	t   testing.TB
	ts  *httptest.Server
	sid string
}

func (p *poller) url() string {
	return p.ts.URL + "/ws/socket.io/?EIO=4&transport=polling&sid=" + p.sid
}

func (p *poller) get() (int, string) {
	p.t.Helper()
	res, err := http.Get(p.url())
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, readAll(p.t, res)
}

// poll returns the packets of one GET.
func (p *poller) poll() []string {
	p.t.Helper()
	status, body := p.get()
	if status != 200 {
		p.t.Fatalf("poll: %d %s", status, body)
	}
	return strings.Split(body, "\x1e")
}

func (p *poller) post(packets ...string) (int, string) {
	p.t.Helper()
	res, err := http.Post(p.url(), "text/plain;charset=UTF-8", strings.NewReader(strings.Join(packets, "\x1e")))
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, readAll(p.t, res)
}

func openPolling(t testing.TB, ts *httptest.Server, upgrades string) *poller {
	t.Helper()
	p := &poller{t: t, ts: ts}
	_, body := p.get()
	sid, rest, ok := strings.Cut(strings.TrimPrefix(body, `0{"sid":"`), `"`)
	if !ok || !strings.HasPrefix(rest, `,"upgrades":`+upgrades+`,`) {
		t.Fatalf("open packet %s", body)
	}
	p.sid = sid
	if status, body := p.post(`40{"token":"tok-alice"}`); status != 200 || body != "OK" {
		t.Fatalf("connect: %d %s", status, body)
	}
	if got := p.poll(); len(got) != 1 || !strings.HasPrefix(got[0], `40{"sid":"`) {
		t.Fatalf("connect answered %q", got)
	}
	return p
}

func TestPolling(t *testing.T) {
	srv, ts := start(t, Options{NoWebSocket: true})
	srv.On("u", func(_ context.Context, _ *Socket, args []jsontext.Value) (any, error) { return args[0], nil })
	p := openPolling(t, ts, `[]`)
	p.post(`451-3["u",{"_placeholder":true,"num":0}]`, `bAQL/`)
	if got := strings.Join(p.poll(), "|"); got != `433[[1,2,255]]` {
		t.Errorf("polled %s", got)
	}
	eventually(t, "the user", func() bool { return srv.RoomSize("user:1") == 1 })
	srv.Emit("user:1", "a", "é")
	srv.Emit("user:1", "b", 2)
	if got := strings.Join(p.poll(), "|"); got != `42["a","é"]|42["b",2]` {
		t.Errorf("polled %s", got)
	}
	polled := make(chan string, 2)
	for range 2 { // the later poll ends the earlier one
		go func() { polled <- strings.Join(p.poll(), "|") }()
	}
	if got := received(t, "the older poll's end", polled); got != "6" {
		t.Errorf("older poll got %s", got)
	}
	srv.Emit("user:1", "c", 3)
	if got := received(t, "the event", polled); got != `42["c",3]` {
		t.Errorf("polled %s", got)
	}
	p.post("1")
	eventually(t, "the session's end", func() bool { return srv.Count() == 0 })
	p.poll()
	if status, _ := p.get(); status != 400 {
		t.Errorf("poll after the end: %d", status)
	}
}

func TestPollingHeartbeat(t *testing.T) {
	srv, ts := start(t, Options{AllowPolling: true, PingInterval: 5 * time.Millisecond, PingTimeout: 50 * time.Millisecond})
	p := openPolling(t, ts, `["websocket"]`)
	for range 3 {
		if got := p.poll(); got[0] != "2" {
			t.Fatalf("polled %q", got)
		}
		p.post("3")
	}
	eventually(t, "the session's end", func() bool { return srv.Count() == 0 })
	if got := p.poll(); got[len(got)-1] != "1" {
		t.Errorf("polled %q", got)
	}
}

func TestPollingErrors(t *testing.T) {
	srv, ts := start(t, Options{AllowPolling: true, MaxPayload: 1000})
	for _, packets := range [][]string{{"x"}, {`42["a"`}, {""}, {strings.Repeat("x", 2000)}, strings.Split(strings.Repeat("3", 1000)[:999], "")[:500]} {
		p := openPolling(t, ts, `["websocket"]`)
		status, body := p.post(packets...)
		if len(packets) == 500 { // many packets are fine
			if status != 200 {
				t.Errorf("%d packets: %d %s", len(packets), status, body)
			}
			p.post("1")
			p.poll()
			continue
		}
		if status != 400 || body != `"Bad Request"` {
			t.Errorf("%.20q: %d %s", packets, status, body)
		}
		if got := p.poll(); got[len(got)-1] != "1" {
			t.Errorf("%.20q: polled %q", packets, got)
		}
	}
	eventually(t, "the sessions' end", func() bool { return srv.Count() == 0 })
}

func TestUpgrade(t *testing.T) {
	srv, ts := start(t, Options{AllowPolling: true})
	p := openPolling(t, ts, `["websocket"]`)
	eventually(t, "the user", func() bool { return srv.RoomSize("user:1") == 1 })

	failed := dial(t, ts, "&sid="+p.sid)
	failed.send("2probe")
	failed.want("3probe")
	failed.ws.Close(websocket.StatusNormalClosure, "")
	c := srv.conn(p.sid)
	eventually(t, "the end of the failed upgrade", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.upgrading
	})
	srv.Emit("user:1", "a", 1)
	if got := p.poll(); got[0] != `42["a",1]` {
		t.Fatalf("polled %q after a failed upgrade", got)
	}

	polled := make(chan []string, 1)
	go func() { polled <- p.poll() }()
	ws := dial(t, ts, "&sid="+p.sid)
	ws.send("2probe")
	ws.want("3probe")
	for got := received(t, "the poll's end", polled); got[0] != "6"; {
		t.Fatalf("poll ended with %q", got)
	}
	srv.Emit("user:1", "b", 2) // waits for the new transport
	ws.send("5")
	ws.want(`42["b",2]`)
	ws.send(`421["x"]`)
	ws.want(`431[]`)
	if status, body := p.get(); status != 400 || body != `"Unexpected HTTP request"` {
		t.Errorf("poll after the upgrade: %d %s", status, body)
	}
	if status, _ := p.post("3"); status != 400 {
		t.Errorf("post after the upgrade: %d", status)
	}
	if srv.Count() != 1 {
		t.Errorf("%d sessions", srv.Count())
	}
}
