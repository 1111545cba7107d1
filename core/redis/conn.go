package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"github.com/galleychat/galley/core/config"
)

// command is a command on at most one key. Nothing but SELECT, AUTH and what asks for the servers' state is without one.
type command struct {
	name string
	key  string
	args []any // after the key
}

func (c command) send(to redigo.Conn) error {
	args := make([]any, 0, 1+len(c.args))
	if c.key != "" {
		args = append(args, c.key)
	}
	return to.Send(c.name, append(args, c.args...)...)
}

// servers is one server, one that sentinels know, or a cluster.
type servers interface {
	// run has commands run and gives their answers in order, of which some may be redigo.Errors.
	run(ctx context.Context, commands []command) ([]any, error)
	// connect makes a connection that is not shared, for messages.
	connect(ctx context.Context) (*conn, error)
	close()
}

// refused is the first error that a command was answered with.
func refused(answers []any) error {
	for _, a := range answers {
		if err, ok := a.(redigo.Error); ok {
			return err
		}
	}
	return nil
}

// isError says whether an answer is an error of a kind.
func isError(answer any, kind string) bool {
	err, ok := answer.(redigo.Error)
	return ok && (string(err) == kind || strings.HasPrefix(string(err), kind+" "))
}

// dialer makes connections.
type dialer struct {
	network            string
	username, password string
	db                 int
	tls                *tls.Config
	connecting         time.Duration // that it may take
	timeout            time.Duration // of a read or write
	maybeNoPassword    bool          // sentinels often know none where the server does
}

func connect(e config.Redis) (servers, error) {
	a, err := parse(e.URL)
	if err != nil {
		return nil, err
	}
	d := &dialer{
		network: a.network, username: a.username, password: a.password, db: a.db, tls: a.tls,
		connecting: orDefault(e.ConnectTimeout), timeout: orDefault(e.Timeout),
	}
	switch {
	case len(e.SentinelHosts) > 0:
		return newSentinels(d, a.service, e), nil
	case e.Cluster:
		return newCluster(d, a.host, e.HealthInterval), nil
	}
	return newPool(d, a.host, e.HealthInterval), nil
}

// conn is a connection to one server.
type conn struct {
	redigo.Conn
	raw  net.Conn
	used time.Time
}

func (d *dialer) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.connecting)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, d.network, addr)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		conf := d.tls.Clone()
		conf.ServerName, _, _ = net.SplitHostPort(addr)
		secure := tls.Client(raw, conf)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		raw = secure
	}
	c := &conn{Conn: redigo.NewConn(raw, d.timeout, d.timeout), raw: raw}
	if err := d.greet(ctx, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// greet says who is there, and chooses the database.
func (d *dialer) greet(ctx context.Context, c *conn) error {
	if d.password != "" {
		args := []any{d.password}
		if d.username != "" {
			args = []any{d.username, d.password}
		}
		answers, err := c.exchange(ctx, []command{{name: "AUTH", args: args}})
		if err == nil && !d.maybeNoPassword {
			err = refused(answers)
		}
		if err != nil {
			return err
		}
	}
	if d.db == 0 {
		return nil
	}
	answers, err := c.exchange(ctx, []command{{name: "SELECT", args: []any{d.db}}})
	if err != nil {
		return err
	}
	return refused(answers)
}

// exchange sends commands together and reads their answers. After an error, and when ctx ends, the connection is of no use.
func (c *conn) exchange(ctx context.Context, commands []command) ([]any, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	answers, err := c.pipeline(commands)
	if !stop() {
		return nil, ctx.Err()
	}
	return answers, err
}

func (c *conn) pipeline(commands []command) ([]any, error) {
	for _, cmd := range commands {
		if err := cmd.send(c); err != nil {
			return nil, err
		}
	}
	if err := c.Flush(); err != nil {
		return nil, err
	}
	answers := make([]any, len(commands))
	for i := range commands {
		answer, err := c.Receive()
		var told redigo.Error
		switch {
		case errors.As(err, &told):
			answers[i] = told
		case err != nil:
			return nil, err
		default:
			answers[i] = answer
		}
	}
	return answers, nil
}

const (
	maxConns = 64 // to a server
	maxIdle  = 16
	idleTime = 5 * time.Minute
)

var errClosed = errors.New("redis: closed")

// pool keeps the connections to one server.
type pool struct {
	d      *dialer
	addr   string
	health time.Duration // a connection is tried before its use when it was not used for so long; 0 means never
	room   chan struct{}

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func newPool(d *dialer, addr string, health time.Duration) *pool {
	return &pool{d: d, addr: addr, health: health, room: make(chan struct{}, maxConns)}
}

func (p *pool) run(ctx context.Context, commands []command) ([]any, error) {
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := p.take(); c != nil {
		answers, err := p.use(ctx, c, commands)
		if err == nil || ctx.Err() != nil {
			return answers, err
		}
		p.drop() // the server has closed it, and so the others
	}
	c, err := p.d.dial(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	return p.use(ctx, c, commands)
}

func (p *pool) connect(ctx context.Context) (*conn, error) { return p.d.dial(ctx, p.addr) }

// use runs commands on a connection and keeps it for others.
func (p *pool) use(ctx context.Context, c *conn, commands []command) ([]any, error) {
	if p.health > 0 && !c.used.IsZero() && time.Since(c.used) > p.health {
		if _, err := c.exchange(ctx, []command{{name: "PING"}}); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	answers, err := c.exchange(ctx, commands)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	c.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == maxIdle {
		_ = c.Close()
	} else {
		p.idle = append(p.idle, c)
	}
	return answers, nil
}

// take gives the connection that was used last, nil if there is none.
func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	c := p.idle[n]
	p.idle = p.idle[:n]
	old := 0
	for old < n && time.Since(p.idle[old].used) > idleTime {
		_ = p.idle[old].Close()
		old++
	}
	p.idle = append(p.idle[:0], p.idle[old:]...)
	return c
}

// drop closes the connections that wait.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
}

// join is net.JoinHostPort with a port in an answer.
func join(host any, port any) string {
	h, _ := redigo.String(host, nil)
	if n, ok := port.(int64); ok {
		return net.JoinHostPort(h, strconv.FormatInt(n, 10))
	}
	t, _ := redigo.String(port, nil)
	return net.JoinHostPort(h, t)
}
