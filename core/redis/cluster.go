package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"golang.org/x/sync/singleflight"
)

const (
	slotCount  = 16384
	redirects  = 5                     // that a command follows
	whileMoves = 50 * time.Millisecond // until a cluster that is moving keys, or choosing a master, is asked again
)

// cluster is servers that share keys out among them.
type cluster struct {
	d      *dialer
	seed   string
	health time.Duration

	asking singleflight.Group
	mu     sync.Mutex
	ranges []slotRange // by their ends; empty before they are known
	nodes  map[string]*pool
	closed bool
}

// slotRange is slots that one server has, up to the next range.
type slotRange struct {
	first, last int
	addr        string
}

func newCluster(d *dialer, seed string, health time.Duration) *cluster {
	own := *d
	own.db = 0 // clusters have no other
	return &cluster{d: &own, seed: seed, health: health, nodes: map[string]*pool{}}
}

// connect takes any server: messages reach all of a cluster.
func (c *cluster) connect(ctx context.Context) (*conn, error) {
	ranges, err := c.known(ctx)
	if err != nil {
		return nil, err
	}
	node, err := c.d.dial(ctx, ranges[rand.IntN(len(ranges))].addr)
	if err != nil {
		c.refreshSoon(ctx)
	}
	return node, err
}

// part is the commands that go to one server.
type part struct {
	addr  string
	ask   bool  // ASKING has to come first, as the key is just being moved there
	which []int // of the commands
}

// run sends each command to the server that has its key.
func (c *cluster) run(ctx context.Context, commands []command) ([]any, error) {
	answers := make([]any, len(commands))
	parts, err := c.share(ctx, commands)
	for follow := 0; err == nil && len(parts) > 0; follow++ {
		if follow > redirects {
			return nil, errors.New("redis: the cluster sends commands back and forth")
		}
		var again []part // those which were sent elsewhere
		var failed error
		wait, stale := false, false
		for _, p := range parts {
			out, err := c.runPart(ctx, commands, p)
			if err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				failed, stale = err, true
				continue
			}
			for i, which := range p.which {
				answers[which] = out[i]
				addr, ask := redirected(out[i], p.addr)
				switch {
				case addr != "":
					again = append(again, part{addr, ask, []int{which}})
					stale = stale || !ask
				case isError(out[i], "TRYAGAIN"), isError(out[i], "CLUSTERDOWN"), isError(out[i], "LOADING"), isError(out[i], "MASTERDOWN"):
					again = append(again, part{p.addr, p.ask, []int{which}})
					wait = true
				}
			}
		}
		if stale {
			c.refreshSoon(ctx)
		}
		if failed != nil {
			return nil, failed
		}
		if wait {
			select {
			case <-time.After(whileMoves):
			case <-ctx.Done():
				return answers, ctx.Err()
			}
		}
		parts = again
	}
	return answers, err
}

// redirected is where an answer of a server sends a command, "" for nowhere.
func redirected(answer any, from string) (addr string, ask bool) {
	err, ok := answer.(redigo.Error)
	if !ok {
		return "", false
	}
	words := strings.Fields(string(err))
	if len(words) != 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return "", false
	}
	return sameHost(words[2], from), words[0] == "ASK"
}

// sameHost is an address that a server told; without a host it is that of the server.
func sameHost(addr, from string) string {
	if i := strings.LastIndexByte(addr, ':'); i == 0 {
		host, _, _ := net.SplitHostPort(from)
		return net.JoinHostPort(host, addr[1:])
	} else if host := strings.Trim(addr[:max(i, 0)], "[]"); strings.Contains(host, ":") {
		return net.JoinHostPort(host, addr[i+1:]) // an IPv6 address comes without brackets
	}
	return addr
}

func (c *cluster) runPart(ctx context.Context, commands []command, p part) ([]any, error) {
	node, err := c.node(p.addr)
	if err != nil {
		return nil, err
	}
	mine := make([]command, 0, len(p.which)+1)
	if p.ask {
		mine = append(mine, command{name: "ASKING"})
	}
	for _, i := range p.which {
		mine = append(mine, commands[i])
	}
	out, err := node.run(ctx, mine)
	if err == nil && p.ask {
		out = out[1:]
	}
	return out, err
}

// share finds out which server each command is for.
func (c *cluster) share(ctx context.Context, commands []command) ([]part, error) {
	ranges, err := c.known(ctx)
	if err != nil {
		return nil, err
	}
	var parts []part
	for i, cmd := range commands {
		addr := ranges[0].addr
		if cmd.key != "" {
			slot := slotOf(cmd.key)
			at, _ := slices.BinarySearchFunc(ranges, slot, func(r slotRange, slot int) int { return cmp.Compare(r.last, slot) })
			if at < len(ranges) && ranges[at].first <= slot {
				addr = ranges[at].addr // a slot that nobody has is asked for anywhere, and answered with CLUSTERDOWN
			}
		}
		at := slices.IndexFunc(parts, func(p part) bool { return p.addr == addr })
		if at < 0 {
			at, parts = len(parts), append(parts, part{addr: addr})
		}
		parts[at].which = append(parts[at].which, i)
	}
	return parts, nil
}

func (c *cluster) known(ctx context.Context) ([]slotRange, error) {
	c.mu.Lock()
	ranges := c.ranges
	c.mu.Unlock()
	if len(ranges) > 0 {
		return ranges, nil
	}
	select {
	case r := <-c.refreshSoon(ctx):
		ranges, _ = r.Val.([]slotRange)
		return ranges, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refreshSoon asks the servers anew who has which slots, once for all who want to know.
func (c *cluster) refreshSoon(ctx context.Context) <-chan singleflight.Result {
	return c.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*(c.d.connecting+c.d.timeout))
		defer cancel()
		return c.refresh(ctx)
	})
}

// refresh asks all servers that are known at once, and takes the first answer.
func (c *cluster) refresh(ctx context.Context) ([]slotRange, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	addrs := []string{c.seed}
	for _, r := range c.ranges {
		addrs = append(addrs, r.addr)
	}
	c.mu.Unlock()
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	type answer struct {
		ranges []slotRange
		err    error
	}
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		go func() {
			ranges, err := c.slotsBy(ctx, addr)
			answers <- answer{ranges, err}
		}()
	}
	var err error
	for range addrs {
		a := <-answers
		if a.err == nil {
			c.use(a.ranges)
			return a.ranges, nil
		}
		err = a.err
	}
	return nil, err
}

// slotsBy is who has which slots as one server knows it.
func (c *cluster) slotsBy(ctx context.Context, addr string) ([]slotRange, error) {
	node, err := c.d.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	answers, err := node.exchange(ctx, []command{{name: "CLUSTER", args: []any{"SLOTS"}}})
	if err == nil {
		err = refused(answers)
	}
	if err != nil {
		return nil, err
	}
	list, err := redigo.Values(answers[0], nil)
	if err != nil {
		return nil, err
	}
	var ranges []slotRange
	for _, item := range list {
		fields, _ := redigo.Values(item, nil)
		if len(fields) < 3 {
			continue
		}
		first, err1 := redigo.Int(fields[0], nil)
		last, err2 := redigo.Int(fields[1], nil)
		master, err3 := redigo.Values(fields[2], nil)
		if err := errors.Join(err1, err2, err3); err != nil || len(master) < 2 {
			return nil, fmt.Errorf("the server at %s does not tell who has which keys: %w", addr, err)
		}
		at := join(master[0], master[1])
		if host := text(master[0]); host == "" || host == "?" {
			at = sameHost(at[strings.LastIndexByte(at, ':'):], addr)
		}
		ranges = append(ranges, slotRange{first, last, at})
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("the server at %s knows of no keys of its cluster", addr)
	}
	slices.SortFunc(ranges, func(a, b slotRange) int { return cmp.Compare(a.last, b.last) })
	return ranges, nil
}

// use has slots be where they are, and closes the connections to servers that have none any more.
func (c *cluster) use(ranges []slotRange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ranges = ranges
	for addr, p := range c.nodes {
		if !slices.ContainsFunc(ranges, func(r slotRange) bool { return r.addr == addr }) {
			p.close()
			delete(c.nodes, addr)
		}
	}
}

func (c *cluster) node(addr string) (*pool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	p := c.nodes[addr]
	if p == nil {
		p = newPool(c.d, addr, c.health)
		c.nodes[addr] = p
	}
	return p, nil
}

func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.nodes {
		p.close()
	}
}

// slotOf is the slot of a key, which is that of a part in braces where it has one.
func slotOf(key string) int {
	if _, after, found := strings.Cut(key, "{"); found {
		if tag, _, found := strings.Cut(after, "}"); found && tag != "" {
			key = tag
		}
	}
	var crc uint16 // CRC-16/XMODEM
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slotCount
}
