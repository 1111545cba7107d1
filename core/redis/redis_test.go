package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redigo "github.com/gomodule/redigo/redis"

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

	m.RequireUserAuth("joe", "p%w")
	c := open(t, config.Redis{URL: "redis://joe:p%25w@" + m.Addr() + "/3", KeyPrefix: "mine"}, &lines{})
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

// serve starts redis-server; stop kills it.
func serve(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "redis-server", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(stop)
	return stop
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s", what)
		}
	}
}

// start starts redis-server and waits until a client reaches it.
func start(t *testing.T, c *Client, args ...string) (stop func()) {
	t.Helper()
	stop = serve(t, args...)
	until(t, "redis-server answers", func() bool {
		_, err := c.servers.run(t.Context(), []command{{name: "PING"}})
		return err == nil
	})
	return stop
}

// ask has a server of a client run a command.
func ask(t *testing.T, c *Client, name, key string, args ...any) string {
	t.Helper()
	answers, err := c.servers.run(t.Context(), []command{{name: name, key: key, args: args}})
	if err == nil {
		err = refused(answers)
	}
	if err != nil {
		t.Fatalf("%s %s %v: %v", name, key, args, err)
	}
	return text(answers[0])
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
	use(t, c, func(key string) string { return ask(t, c, "GET", key) }, func(key, value string) { ask(t, c, "SET", key, value) })
}

// TestServer is against a real server, over a Unix socket.
func TestServer(t *testing.T) {
	dir := folder(t)
	c := open(t, config.Redis{URL: "unix://" + filepath.Join(dir, "s") + "?db=2"}, &lines{})
	start(t, c, "--port", "0", "--unixsocket", filepath.Join(dir, "s"), "--save", "", "--dir", dir)
	useReal(t, c)
}

// TestSecure is against a real server that speaks TLS and knows the client by an account.
func TestSecure(t *testing.T) {
	dir := folder(t)
	port, ca := freePort(t), certificate(t, dir)
	e := config.Redis{URL: "rediss://joe:p%25w@127.0.0.1:" + port + "/1?ssl_ca_certs=" + ca}
	c := open(t, e, &lines{})
	users := filepath.Join(dir, "users.acl")
	if err := os.WriteFile(users, []byte("user joe on >p%w ~* +@all\nuser default off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, c, "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(dir, "cert.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"), "--aclfile", users)
	useReal(t, c)
	for what, u := range map[string]string{
		"another password": "rediss://joe:p@127.0.0.1:" + port + "/1?ssl_ca_certs=" + ca,
		"no account":       "rediss://127.0.0.1:" + port + "/1?ssl_ca_certs=" + ca,
		"not trusted":      "rediss://joe:p%25w@127.0.0.1:" + port + "/1",
		"another name":     "rediss://joe:p%25w@localhost:" + port + "/1?ssl_ca_certs=" + ca,
	} {
		if err := open(t, config.Redis{URL: u}, &lines{}).Ping(t.Context()); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := open(t, config.Redis{URL: "rediss://joe:p%25w@localhost:" + port + "/1?ssl_cert_reqs=none"}, &lines{}).Ping(t.Context()); err != nil {
		t.Errorf("not looked at: %v", err)
	}
}

// certificate makes cert.pem and key.pem for 127.0.0.1.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "cert.pem")
	for name, b := range map[string]*pem.Block{path: {Type: "CERTIFICATE", Bytes: der}, filepath.Join(dir, "key.pem"): {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestSentinel finds a real server by way of a real sentinel, which knows it by a name, and the one that takes its place.
func TestSentinel(t *testing.T) {
	dir := folder(t)
	port, other, sentinel := freePort(t), freePort(t), freePort(t)
	direct := open(t, config.Redis{URL: "redis://:secret@127.0.0.1:" + port}, &lines{})
	kill := start(t, direct, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--requirepass", "secret", "--masterauth", "secret")
	replica := open(t, config.Redis{URL: "redis://:secret@127.0.0.1:" + other + "/1"}, &lines{})
	start(t, replica, "--port", other, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--requirepass", "secret", "--masterauth", "secret",
		"--replicaof", "127.0.0.1 "+port, "--repl-diskless-sync-delay", "0")
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, []byte("port "+sentinel+"\nbind 127.0.0.1\ndir "+dir+"\nsentinel monitor MyMaster 127.0.0.1 "+port+" 1\n"+
		"sentinel auth-pass MyMaster secret\nsentinel down-after-milliseconds MyMaster 300\nsentinel failover-timeout MyMaster 2000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(sentinel)
	if err != nil {
		t.Fatal(err)
	}
	// the sentinel has no password; another is not there
	e := config.Redis{URL: "redis://:secret@MyMaster:1/1", SentinelHosts: []string{"127.0.0.2", " 127.0.0.1"}, SentinelPort: n, SentinelRetries: 2, ReconnectDelay: 10 * time.Millisecond}
	c := open(t, e, &lines{})
	start(t, c, conf, "--sentinel")
	useReal(t, c)
	unknown := e
	unknown.URL = "redis://:secret@Other/1"
	if err := open(t, unknown, &lines{}).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), `no master named "Other"`) && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a name that the sentinel does not know: %v", err)
	}

	speaker, hearer := newReplica(t, e), newReplica(t, e)
	converse(t, speaker, hearer)
	until(t, "the replica has the keys, and the sentinel knows it", func() bool {
		return ask(t, replica, "GET", "open-webui:ratelimit:ann@x:100") == "2" && sentinelKnows(t, sentinel, other)
	})
	kill()
	until(t, "the other server is the master", func() bool { return c.Revoke(t.Context(), "after", 0) == nil })
	if got := ask(t, replica, "GET", "open-webui:auth:token:after:revoked"); got != "1" {
		t.Errorf("the other server has %q", got)
	}
	if gone, err := c.Revoked(t.Context(), auth.Claims{ID: "u1", JTI: "j1970", Issued: 1}); !gone || err != nil {
		t.Errorf("what was there before: %v, %v", gone, err)
	}

	converse(t, speaker, hearer)

	// a master that becomes a replica is left, though it answers
	third := freePort(t)
	last := open(t, config.Redis{URL: "redis://:secret@127.0.0.1:" + third + "/1"}, &lines{})
	start(t, last, "--port", third, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--requirepass", "secret", "--masterauth", "secret",
		"--replicaof", "127.0.0.1 "+other, "--repl-diskless-sync-delay", "0")
	until(t, "the sentinel knows the third server", func() bool { return sentinelKnows(t, sentinel, third) })
	watcher := open(t, config.Redis{URL: "redis://127.0.0.1:" + sentinel}, &lines{})
	until(t, "the sentinel takes the third server", func() bool {
		_, err := watcher.servers.run(t.Context(), []command{{name: "SENTINEL", args: []any{"failover", "MyMaster"}}})
		if err != nil {
			t.Fatal(err)
		}
		return c.Revoke(t.Context(), "again", 0) == nil && ask(t, last, "GET", "open-webui:auth:token:again:revoked") == "1"
	})
	converse(t, speaker, hearer)
}

// sentinelKnows says whether a sentinel knows of a replica that is well.
func sentinelKnows(t *testing.T, sentinel, port string) bool {
	t.Helper()
	c := open(t, config.Redis{URL: "redis://127.0.0.1:" + sentinel}, &lines{})
	answers, err := c.servers.run(t.Context(), []command{{name: "SENTINEL", args: []any{"replicas", "MyMaster"}}})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := redigo.Values(answers[0], nil)
	for _, r := range list {
		m, err := redigo.StringMap(r, nil)
		if err == nil && m["port"] == port && m["flags"] == "slave" && m["master-link-status"] == "ok" {
			return true
		}
	}
	return false
}

// TestCluster is against three real servers and one that takes the place of another, of which keys move about.
func TestCluster(t *testing.T) {
	dir := folder(t)
	var nodes []*Client
	var ports, buses, ids []string
	for i := range 4 {
		port, bus := freePort(t), freePort(t)
		c := open(t, config.Redis{URL: "redis://127.0.0.1:" + port}, &lines{})
		start(t, c, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--cluster-enabled", "yes", "--cluster-port", bus,
			"--cluster-config-file", "nodes-"+port, "--cluster-node-timeout", "5000", "--repl-diskless-sync-delay", "0")
		nodes, ports, buses, ids = append(nodes, c), append(ports, port), append(buses, bus), append(ids, ask(t, c, "CLUSTER", "", "MYID"))
		if i < 3 {
			ask(t, c, "CLUSTER", "", "ADDSLOTSRANGE", i*5461, min((i+1)*5461-1, slotCount-1)+i/2)
		}
	}
	for i := 1; i < 4; i++ {
		ask(t, nodes[0], "CLUSTER", "", "MEET", "127.0.0.1", ports[i], buses[i])
	}
	until(t, "the cluster is whole", func() bool {
		for _, n := range nodes {
			info := ask(t, n, "CLUSTER", "", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:4") {
				return false
			}
		}
		return true
	})
	c := open(t, config.Redis{URL: "redis://127.0.0.1:" + ports[1] + "/7", Cluster: true}, &lines{})
	useReal(t, c)
	e := config.Redis{URL: "redis://127.0.0.1:" + ports[1], Cluster: true}
	converse(t, newReplica(t, e), newReplica(t, e))
	for key, want := range map[string]int{"123456789": 0x31c3, "{user1000}.following": slotOf("user1000"), "foo{}{bar}": slotOf("foo{}{bar}"), "foo{{bar}}zap": slotOf("{bar")} {
		answers, err := nodes[0].servers.run(t.Context(), []command{{name: "CLUSTER", args: []any{"KEYSLOT", key}}})
		if err != nil || slotOf(key) != want || answers[0] != int64(want) {
			t.Errorf("the slot of %s: %d, want %d, %v says the server (%v)", key, slotOf(key), want, answers, err)
		}
	}

	// a slot on its way from the first server to the second
	key := func(i int) string { return c.tokenKey("{move}" + strconv.Itoa(i)) }
	slot := slotOf(key(0))
	from := min(slot/5461, 2)
	to := (from + 1) % 3
	ask(t, c, "SET", key(0), "old")
	ask(t, nodes[to], "CLUSTER", "", "SETSLOT", slot, "IMPORTING", ids[from])
	ask(t, nodes[from], "CLUSTER", "", "SETSLOT", slot, "MIGRATING", ids[to])
	ask(t, c, "SET", key(1), "new")
	if got := ask(t, nodes[from], "GET", key(0)) + ask(t, c, "GET", key(0)) + ask(t, c, "GET", key(1)); got != "oldoldnew" {
		t.Errorf("while keys move: %q", got)
	}
	ask(t, nodes[from], "MIGRATE", "127.0.0.1", ports[to], key(0), 0, 1000)
	for _, i := range []int{to, from} {
		ask(t, nodes[i], "CLUSTER", "", "SETSLOT", slot, "NODE", ids[to])
	}
	if got := ask(t, c, "GET", key(0)) + ask(t, nodes[to], "GET", key(1)); got != "oldnew" {
		t.Errorf("after keys moved: %q", got)
	}

	// the fourth server takes the place of the first
	ask(t, nodes[3], "CLUSTER", "", "REPLICATE", ids[0])
	until(t, "the fourth server follows the first", func() bool {
		return strings.Contains(ask(t, nodes[3], "INFO", "", "replication"), "master_link_status:up")
	})
	until(t, "the fourth server has taken over", func() bool {
		answers, err := nodes[3].servers.run(t.Context(), []command{{name: "CLUSTER", args: []any{"FAILOVER"}}, {name: "INFO", args: []any{"replication"}}})
		return err == nil && strings.Contains(text(answers[1]), "role:master")
	})
	for i := range 20 {
		token := auth.Claims{ID: "u9", JTI: "moved" + strconv.Itoa(i), Issued: 1}
		if err := c.Revoke(t.Context(), token.JTI, 0); err != nil {
			t.Fatal(err)
		}
		if gone, err := c.Revoked(t.Context(), token); !gone || err != nil {
			t.Errorf("%s: %v, %v", token.JTI, gone, err)
		}
	}
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
