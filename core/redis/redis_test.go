package redis

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
)

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func open(t *testing.T, e config.Redis, log *lines) *Client {
	t.Helper()
	if e.KeyPrefix == "" {
		e.KeyPrefix = "open-webui"
	}
	c, err := Open(e, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

// use takes a client through all that it does.
func use(t *testing.T, c *Client, get func(key string) string, set func(key, value string)) {
	t.Helper()
	ctx := t.Context()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	revoked := func(claims auth.Claims) bool {
		t.Helper()
		gone, err := c.Revoked(ctx, claims)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	for _, expires := range []int64{0, time.Now().Add(time.Hour).Unix()} {
		token := auth.Claims{ID: "u1", JTI: "j" + time.Unix(expires, 0).UTC().Format("2006"), Issued: 1000}
		if revoked(token) {
			t.Errorf("%+v is revoked", token)
		}
		if err := c.Revoke(ctx, token.JTI, expires); err != nil {
			t.Fatal(err)
		}
		if !revoked(token) || get("open-webui:auth:token:"+token.JTI+":revoked") != "1" {
			t.Errorf("%+v is not revoked", token)
		}
	}
	if err := c.Revoke(ctx, "over", 5); err != nil || get("open-webui:auth:token:over:revoked") != "" {
		t.Errorf("a token that has expired: %v", err)
	}
	for value, want := range map[string]bool{"999": false, "1000": true, "2000": true, "never": false} {
		set("open-webui:auth:user:u2:revoked_at", value)
		if got := revoked(auth.Claims{ID: "u2", JTI: "x", Issued: 1000}); got != want {
			t.Errorf("revoked at %s: %v", value, got)
		}
	}
	if revoked(auth.Claims{ID: "u3", JTI: "x"}) {
		t.Error("of another account")
	}
	set("open-webui:ratelimit:ann@x:98", "3")
	set("open-webui:ratelimit:ann@x:96", "100")
	for i := range 2 {
		if n, err := c.Count("ann@x", 100, 3, 4*time.Minute); err != nil || n != 4+i {
			t.Errorf("count %d, %v", n, err)
		}
	}
	if got := get("open-webui:ratelimit:ann@x:100"); got != "2" {
		t.Errorf("the bucket has %q", got)
	}
}

func TestClient(t *testing.T) {
	m := miniredis.RunT(t)
	get := func(key string) string { v, _ := m.Get(key); return v }
	set := func(key, value string) { _ = m.Set(key, value) }
	use(t, open(t, config.Redis{URL: "redis://" + m.Addr() + "/0?socket_timeout=1"}, &lines{}), get, set)
	if ttl := m.TTL("open-webui:ratelimit:ann@x:100"); ttl != 4*time.Minute {
		t.Errorf("the bucket stays %v", ttl)
	}
	m.FlushAll()
	use(t, open(t, config.Redis{URL: "redis://" + m.Addr(), Cluster: true}, &lines{}), get, set)

	m.RequireUserAuth("joe", "p w")
	c := open(t, config.Redis{URL: "redis://joe:p%20w@" + m.Addr() + "/3", KeyPrefix: "mine"}, &lines{})
	if err := c.Revoke(t.Context(), "j", 0); err != nil {
		t.Fatal(err)
	}
	m.Select(3)
	if v, err := m.Get("mine:auth:token:j:revoked"); v != "1" {
		t.Errorf("%q, %v", v, err)
	}
	if c, err := Open(config.Redis{SentinelHosts: []string{"a"}}, nil); c != nil || err != nil {
		t.Errorf("without an address: %v, %v", c, err)
	}
}

// start starts redis-server and waits until a client reaches it.
func start(t *testing.T, c *Client, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "redis-server", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has ended, and so does the server
	for end := time.Now().Add(20 * time.Second); c.rdb.Ping(t.Context()).Err() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("redis-server %v does not answer", args)
		}
	}
}

// folder is a folder for a server's files; a socket's path has to be short.
func folder(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("GALLEY_CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no redis-server")
	}
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// useReal is use with a server that is asked by the client's own connection.
func useReal(t *testing.T, c *Client) {
	t.Helper()
	use(t, c, func(key string) string { return c.rdb.Get(t.Context(), key).Val() },
		func(key, value string) {
			if err := c.rdb.Set(t.Context(), key, value, 0).Err(); err != nil {
				t.Fatal(err)
			}
		})
}

// TestServer is against a real server, over a Unix socket.
func TestServer(t *testing.T) {
	dir := folder(t)
	c := open(t, config.Redis{URL: "unix://" + filepath.Join(dir, "s") + "?db=2"}, &lines{})
	start(t, c, "--port", "0", "--unixsocket", filepath.Join(dir, "s"), "--save", "", "--dir", dir)
	useReal(t, c)
}

// TestSentinel finds a real server by way of a real sentinel, which knows it by a name.
func TestSentinel(t *testing.T) {
	dir := folder(t)
	port, sentinel := freePort(t), freePort(t)
	direct := open(t, config.Redis{URL: "redis://127.0.0.1:" + port}, &lines{})
	start(t, direct, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, []byte("port "+sentinel+"\nbind 127.0.0.1\ndir "+dir+"\nsentinel monitor MyMaster 127.0.0.1 "+port+" 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(sentinel)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, config.Redis{URL: "redis://MyMaster:1/1", SentinelHosts: []string{"127.0.0.1"}, SentinelPort: n, SentinelRetries: 2}, &lines{})
	start(t, c, conf, "--sentinel")
	useReal(t, c)
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func TestDown(t *testing.T) {
	m := miniredis.RunT(t)
	log := &lines{}
	c := open(t, config.Redis{URL: "redis://" + m.Addr()}, log)
	ctx := t.Context()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	m.Close()
	if _, err := c.Revoked(ctx, auth.Claims{ID: "u", JTI: "j"}); err == nil || err == ErrDown {
		t.Fatalf("down: %v", err)
	}
	for range 3 {
		if _, err := c.Count("k", 1, 3, time.Minute); err != ErrDown {
			t.Errorf("down, soon after: %v", err)
		}
	}
	now = now.Add(probeEvery)
	if err := c.Ping(ctx); err == nil || err == ErrDown {
		t.Errorf("down, later: %v", err)
	}
	if n := log.count("Redis cannot be asked"); n != 1 {
		t.Errorf("said %d times that it is down", n)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(ctx); err != ErrDown {
		t.Errorf("too soon: %v", err)
	}
	now = now.Add(2 * probeEvery)
	if err := c.Ping(ctx); err != nil {
		t.Errorf("back: %v", err)
	}
	if log.count("Redis is back") != 1 {
		t.Error("not said that it is back")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Ping(gone); err == nil || c.probe.Load() != 0 {
		t.Errorf("a caller who has gone: %v, probe %d", err, c.probe.Load())
	}
}

// TestHangs has a server that takes connections and says nothing.
func TestHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := open(t, config.Redis{URL: "redis://" + ln.Addr().String(), Timeout: 50 * time.Millisecond, ConnectTimeout: 50 * time.Millisecond}, &lines{})
	start := time.Now()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("answered")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"redis://h", "tcp h:6379 0"},
		{"redis://", "tcp localhost:6379 0"},
		{"redis://u:p@h:7/5", "tcp h:7 5 u p"},
		{"redis://:p%40@h?db=4&decode_responses=true", "tcp h:6379 4  p@"},
		{"rediss://h:7?ssl_cert_reqs=none", "tcp h:7 0 TLS skip"},
		{"rediss://h", "tcp h:6379 0 TLS"},
		{"unix://u:p@/run/x.sock?db=1", "unix /run/x.sock 1 u p"},
		{"http://h", "error"},
		{"redis://h/x", "error"},
		{"rediss://h?ssl_ca_certs=/none", "error"},
		{"redis://h:port", "error"},
	} {
		a, err := parse(c.url)
		got := "error"
		if err == nil {
			got = a.network + " " + a.host + " " + string(rune('0'+a.db))
			if a.username+a.password != "" {
				got += " " + a.username + " " + a.password
			}
			if a.tls != nil {
				got += " TLS"
				if a.tls.InsecureSkipVerify {
					got += " skip"
				}
			}
		} else if strings.Contains(err.Error(), "p%40") {
			t.Errorf("%v shows a secret", err)
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.url, got, err, c.want)
		}
	}
}
