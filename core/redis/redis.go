// Package redis is what the processes of one installation share by way of Redis: tokens that were revoked and counts of
// rate limits, under the keys of the reference, so that both may stand side by side.
//
// Nothing here may hold a request up: calls end in time, and while the server cannot be reached they fail at once, but for
// one a second that finds out whether it is back.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
)

// ErrDown says that Redis could not be reached a moment ago.
var ErrDown = errors.New("redis: not reachable")

const (
	defaultTimeout = 2 * time.Second
	probeEvery     = time.Second      // while it is down
	logEvery       = 30 * time.Second // while it is down
)

// Client is a connection to Redis. Its methods may be called at once.
type Client struct {
	servers servers
	prefix  string
	timeout time.Duration // of a call
	log     *slog.Logger
	now     func() time.Time
	probe   atomic.Int64 // when the next call may find out whether it is back, in Unix ns; 0 while it is there
	logged  atomic.Int64 // when it was last said that it is down
}

// Open makes a Client; nil where the settings name no Redis. It does not wait for a connection.
func Open(e config.Redis, log *slog.Logger) (*Client, error) {
	if e.URL == "" {
		return nil, nil
	}
	s, err := connect(e)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	return &Client{servers: s, prefix: e.KeyPrefix, timeout: max(orDefault(e.ConnectTimeout), orDefault(e.Timeout)), log: log, now: time.Now}, nil
}

func orDefault(d time.Duration) time.Duration {
	if d == 0 {
		return defaultTimeout
	}
	return d
}

// address is REDIS_URL taken apart.
type address struct {
	network, host string // of a single server
	service       string // its name, where sentinels know it
	username      string
	password      string
	db            int
	tls           *tls.Config
}

// parse reads redis://, rediss:// and unix:// as redis-py does. Options that are of no meaning here are let pass.
func parse(text string) (*address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not an address") // the error would show the password
	}
	a := &address{network: "tcp", service: u.Hostname(), username: u.User.Username()}
	a.password, _ = u.User.Password()
	q := u.Query()
	db := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "unix":
		a.network, a.host, db = "unix", u.Path, ""
	case "rediss":
		a.tls = &tls.Config{MinVersion: tls.VersionTLS12} // the name is that of the server, which sentinels and clusters tell
		if q.Get("ssl_cert_reqs") == "none" {
			a.tls.InsecureSkipVerify = true
		}
		if file := q.Get("ssl_ca_certs"); file != "" {
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			a.tls.RootCAs = x509.NewCertPool()
			if !a.tls.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("no certificate in %s", file)
			}
		}
		fallthrough
	case "redis":
		host, port := u.Hostname(), u.Port()
		if host == "" {
			host = "localhost"
		}
		if port == "" {
			port = "6379"
		}
		a.host = net.JoinHostPort(host, port)
	default:
		return nil, fmt.Errorf("scheme %q, want redis, rediss or unix", u.Scheme)
	}
	if v := q.Get("db"); v != "" {
		db = v
	}
	if db != "" {
		if a.db, err = strconv.Atoi(db); err != nil {
			return nil, fmt.Errorf("database %q, want a number", db)
		}
	}
	return a, nil
}

// Stop closes all connections.
func (c *Client) Stop(context.Context) error {
	c.servers.close()
	return nil
}

// do runs a call in time. It fails at once while Redis is down, but for the call whose turn it is to try.
func (c *Client) do(ctx context.Context, call func(ctx context.Context) error) error {
	now := c.now()
	next := c.probe.Load()
	if next != 0 && (now.UnixNano() < next || !c.probe.CompareAndSwap(next, now.Add(c.timeout+probeEvery).UnixNano())) {
		return ErrDown
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := call(limited)
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // the caller has gone: that says nothing of Redis
	}
	if err != nil {
		c.probe.Store(c.now().Add(probeEvery).UnixNano())
		c.warn(now, err)
		return err
	}
	if c.probe.Load() != 0 && c.probe.Swap(0) != 0 {
		c.logged.Store(0)
		c.log.Info("Redis is back")
	}
	return nil
}

// run has commands run in time; an error that one is answered with is an error of them all.
func (c *Client) run(ctx context.Context, commands ...command) (answers []any, err error) {
	err = c.do(ctx, func(ctx context.Context) error {
		if answers, err = c.servers.run(ctx, commands); err != nil {
			return err
		}
		return refused(answers)
	})
	return answers, err
}

// warn says that Redis is down, now and then.
func (c *Client) warn(now time.Time, err error) {
	last := c.logged.Load()
	if now.UnixNano()-last >= int64(logEvery) && c.logged.CompareAndSwap(last, now.UnixNano()) {
		c.log.Warn("Redis cannot be asked: revoked tokens are known from the database alone, rate limits count in this process alone", "error", err)
	}
}

// Ping says whether Redis answers, for probes of readiness.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.run(ctx, command{name: "PING"})
	return err
}

// Revoke has a token refused by all processes until it expires (Unix seconds; 0 means never).
func (c *Client) Revoke(ctx context.Context, jti string, expires int64) error {
	var keep time.Duration
	if expires != 0 {
		if keep = time.Unix(expires, 0).Sub(c.now()); keep <= 0 {
			return nil
		}
	}
	set := command{name: "SET", key: c.tokenKey(jti), args: []any{"1"}}
	if keep > 0 {
		set.args = append(set.args, "PX", max(keep.Milliseconds(), 1))
	}
	_, err := c.run(ctx, set)
	return err
}

func (c *Client) tokenKey(jti string) string { return c.prefix + ":auth:token:" + jti + ":revoked" }

// Revoked says whether a token was revoked, alone or with all of its account that were made until a moment.
func (c *Client) Revoked(ctx context.Context, t auth.Claims) (bool, error) {
	commands := []command{{name: "GET", key: c.prefix + ":auth:user:" + t.ID + ":revoked_at"}}
	if t.JTI != "" {
		commands = append(commands, command{name: "GET", key: c.tokenKey(t.JTI)})
	}
	answers, err := c.run(ctx, commands...)
	if err != nil {
		return false, err
	}
	if len(answers) > 1 && text(answers[1]) != "" {
		return true, nil
	}
	at, err := strconv.ParseInt(strings.TrimSpace(text(answers[0])), 10, 64)
	return err == nil && t.Issued <= at, nil
}

// text is an answer as text; "" for a key that does not exist.
func text(answer any) string {
	s, _ := redigo.String(answer, nil) // no error says more than ""
	return s
}

// Count implements auth.Counter.
func (c *Client) Count(key string, bucket, earlier int64, keep time.Duration) (int, error) {
	name := func(i int64) string { return c.prefix + ":ratelimit:" + key + ":" + strconv.FormatInt(i, 10) }
	commands := []command{
		{name: "INCR", key: name(bucket)},
		{name: "PEXPIRE", key: name(bucket), args: []any{keep.Milliseconds()}},
	}
	for i := bucket - earlier; i < bucket; i++ {
		commands = append(commands, command{name: "GET", key: name(i)})
	}
	answers, err := c.run(context.Background(), commands...)
	if err != nil {
		return 0, err
	}
	total, err := redigo.Int(answers[0], nil)
	if err != nil {
		return 0, err
	}
	for _, before := range answers[2:] {
		n, _ := strconv.Atoi(text(before)) // a key that is not there, or no number, counts nothing
		total += n
	}
	return total, nil
}
