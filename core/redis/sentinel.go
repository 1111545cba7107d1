package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"golang.org/x/sync/singleflight"

	"github.com/galleychat/galley/core/config"
)

// askAgain is how often sentinels are asked for a server that seems well. One that was cut off from them would go on
// taking what is then lost.
const askAgain = 10 * time.Second

// sentinels is a server which sentinels know by a name: another one from time to time.
type sentinels struct {
	d        *dialer // to servers
	ask      *dialer // to sentinels
	addrs    []string
	name     string
	health   time.Duration
	attempts int
	delay    time.Duration // between them

	asking singleflight.Group
	mu     sync.Mutex
	master *pool // nil before it is known
	asked  time.Time
	closed bool
}

func newSentinels(d *dialer, name string, e config.Redis) *sentinels {
	ask := *d
	ask.network, ask.db, ask.maybeNoPassword = "tcp", 0, true
	if name == "" {
		name = "mymaster"
	}
	s := &sentinels{d: d, ask: &ask, name: name, health: e.HealthInterval, attempts: max(e.SentinelRetries, 1), delay: e.ReconnectDelay}
	for _, h := range e.SentinelHosts {
		if h = strings.TrimSpace(h); h != "" {
			s.addrs = append(s.addrs, net.JoinHostPort(h, strconv.Itoa(e.SentinelPort)))
		}
	}
	return s
}

func (s *sentinels) run(ctx context.Context, commands []command) ([]any, error) {
	for attempt := 1; ; attempt++ {
		var answers []any
		p, err := s.current(ctx)
		if err == nil {
			answers, err = p.run(ctx, commands)
			demoted := false
			for _, a := range answers {
				demoted = demoted || isError(a, "READONLY")
			}
			if err == nil && !demoted {
				return answers, nil
			}
			s.forget(p)
		}
		if attempt >= s.attempts || ctx.Err() != nil {
			return answers, err
		}
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *sentinels) connect(ctx context.Context) (*conn, error) {
	p, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	c, err := p.connect(ctx)
	if err != nil {
		s.forget(p)
	}
	return c, err
}

// current is the server that is the master now.
func (s *sentinels) current(ctx context.Context) (*pool, error) {
	s.mu.Lock()
	p, old := s.master, time.Since(s.asked) > askAgain
	if old {
		s.asked = time.Now() // by others not, for a while
	}
	s.mu.Unlock()
	if p != nil && !old {
		return p, nil
	}
	found := s.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*(s.d.connecting+s.d.timeout))
		defer cancel()
		return s.find(ctx)
	})
	if p != nil {
		return p, nil // the answer is for those who come later
	}
	select {
	case r := <-found:
		p, _ := r.Val.(*pool)
		return p, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// find asks all sentinels, and takes the first server they name that says that it is a master.
func (s *sentinels) find(ctx context.Context) (*pool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer, len(s.addrs))
	for _, addr := range s.addrs {
		go func() {
			master, err := s.masterOf(ctx, addr)
			answers <- answer{master, err}
		}()
	}
	err := errors.New("no sentinels")
	for range s.addrs {
		a := <-answers
		if a.err == nil {
			return s.use(a.addr)
		}
		err = a.err
	}
	return nil, err
}

// masterOf is the address of the master that a sentinel knows.
func (s *sentinels) masterOf(ctx context.Context, sentinel string) (string, error) {
	c, err := s.ask.dial(ctx, sentinel)
	if err != nil {
		return "", err
	}
	defer c.Close()
	answers, err := c.exchange(ctx, []command{{name: "SENTINEL", args: []any{"get-master-addr-by-name", s.name}}})
	if err == nil {
		err = refused(answers)
	}
	if err != nil {
		return "", err
	}
	named, err := redigo.Values(answers[0], nil)
	if err != nil || len(named) != 2 {
		return "", fmt.Errorf("the sentinel at %s knows no master named %q", sentinel, s.name)
	}
	addr := join(named[0], named[1])
	server, err := s.d.dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer server.Close()
	answers, err = server.exchange(ctx, []command{{name: "ROLE"}})
	if err == nil {
		err = refused(answers)
	}
	if err != nil {
		return "", err
	}
	if role, err := redigo.Values(answers[0], nil); err != nil || len(role) == 0 || text(role[0]) != "master" {
		return "", fmt.Errorf("%s, which the sentinel at %s names, is no master", addr, sentinel)
	}
	return addr, nil
}

// use has a server be the master from now on.
func (s *sentinels) use(addr string) (*pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	s.asked = time.Now()
	if s.master != nil {
		if s.master.addr == addr {
			return s.master, nil
		}
		s.master.close()
	}
	s.master = newPool(s.d, addr, s.health)
	return s.master, nil
}

// forget has the sentinels be asked again.
func (s *sentinels) forget(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.master == p {
		s.master = nil
		p.close()
	}
}

func (s *sentinels) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.master != nil {
		s.master.close()
	}
}
