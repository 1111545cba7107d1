package replicas

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// ErrGone is the error of a call to a process that is not there, or goes before it has answered.
var ErrGone = errors.New("replicas: the process is gone")

// Handler does what another process asks for. A call has a goroutine of its own; what is merely told comes one after the
// other and is to be done quickly. ctx ends when the caller does not wait any more.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// Node is one of the processes. A nil Node is a process without others.
type Node struct {
	id        string
	bus       Bus
	log       *slog.Logger
	every     time.Duration // between heartbeats
	patience  time.Duration // how long a process may be silent
	handlers  map[string]Handler
	listeners map[string]func(key string)
	mourners  map[string]func(key string, value []byte)
	life      context.Context // of handlers
	end       context.CancelFunc

	mu      sync.RWMutex
	stopped bool
	linked  bool                         // the bus works
	own     map[string]map[string][]byte // by kind and key
	version uint64                       // counts the changes of own
	peers   map[string]*peer
	holders map[string]map[string][]string // ids by kind and key; the lists are not changed but replaced

	callMu   sync.Mutex
	lastCall uint64
	calls    map[uint64]*call
	serving  map[served]context.CancelFunc
}

// peer is another process.
type peer struct {
	heard   time.Time
	asked   time.Time // when it was last asked for its state
	known   bool      // entries are those of version
	version uint64
	entries map[string]map[string][]byte
}

// call waits for an answer.
type call struct {
	to   string
	done chan reply
}

type reply struct {
	body []byte
	err  error
}

// served is a call of another process.
type served struct {
	from   string
	number uint64
}

// New makes a Node. Its handlers and listeners are to be set before Run.
func New(bus Bus, log *slog.Logger) *Node {
	n := &Node{
		id: rand.Text(), bus: bus, log: log, every: 3 * time.Second, patience: 12 * time.Second,
		handlers: map[string]Handler{}, listeners: map[string]func(string){}, mourners: map[string]func(string, []byte){},
		own: map[string]map[string][]byte{}, peers: map[string]*peer{}, holders: map[string]map[string][]string{},
		calls: map[uint64]*call{}, serving: map[served]context.CancelFunc{},
	}
	n.life, n.end = context.WithCancel(context.Background())
	return n
}

// SetPace sets how often the process says that it is there, and how long others may be silent; before Run.
func (n *Node) SetPace(every, patience time.Duration) { n.every, n.patience = every, patience }

// Handle sets what is done when others ask for method.
func (n *Node) Handle(method string, h Handler) {
	if n != nil {
		n.handlers[method] = h
	}
}

// Listen sets what is told of each change of the others' entries of a kind.
func (n *Node) Listen(kind string, f func(key string)) {
	if n != nil {
		n.listeners[kind] = f
	}
}

// Lost sets what is told of each entry of a kind whose process has gone without a goodbye: nobody else will end what it
// stands for.
func (n *Node) Lost(kind string, f func(key string, value []byte)) {
	if n != nil {
		n.mourners[kind] = f
	}
}

// Set tells the others of an entry, which it keeps. It does not wait.
func (n *Node) Set(kind, key string, value []byte) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := n.own[kind]
	if old, there := keys[key]; there && bytes.Equal(old, value) {
		return
	}
	if keys == nil {
		keys = map[string][]byte{}
		n.own[kind] = keys
	}
	keys[key] = value
	n.version++
	n.sendLocked("", appendEntry(n.head(msgChanges), true, kind, key, value))
}

// Delete takes an entry back.
func (n *Node) Delete(kind, key string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.own[kind][key]; !there {
		return
	}
	delete(n.own[kind], key)
	n.version++
	n.sendLocked("", appendEntry(n.head(msgChanges), false, kind, key, nil))
}

// head begins a message that has the version.
func (n *Node) head(kind byte) []byte { return binary.AppendUvarint([]byte{kind}, n.version) }

func appendEntry(b []byte, there bool, kind, key string, value []byte) []byte {
	b = append(b, flag(there))
	b = appendText(appendText(b, kind), key)
	if there {
		b = appendText(b, value)
	}
	return b
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// sendLocked queues a message; the lock has messages with versions be queued in order.
func (n *Node) sendLocked(to string, message []byte) {
	if !n.stopped {
		n.bus.Send(to, message)
	}
}

func (n *Node) send(to string, message []byte) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	n.sendLocked(to, message)
}

// Has says whether another process has an entry.
func (n *Node) Has(kind, key string) bool { return len(n.Holders(kind, key)) > 0 }

// Holders are the ids of the other processes that have an entry. The list must not be changed.
func (n *Node) Holders(kind, key string) []string {
	if n == nil {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.holders[kind][key]
}

// Values are the values of the other processes' entries.
func (n *Node) Values(kind, key string) (out [][]byte) {
	if n == nil {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, id := range n.holders[kind][key] {
		out = append(out, n.peers[id].entries[kind][key])
	}
	return out
}

// Each gives all entries of a kind that other processes have, in no order. f must not call the node.
func (n *Node) Each(kind string, f func(from, key string, value []byte)) {
	if n == nil {
		return
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for key, ids := range n.holders[kind] {
		for _, id := range ids {
			f(id, key, n.peers[id].entries[kind][key])
		}
	}
}

// Others is the number of other processes.
func (n *Node) Others() int {
	if n == nil {
		return 0
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.peers)
}

// Tell has another process do something, or all others with "". It does not wait.
func (n *Node) Tell(to, method string, body []byte) {
	if n != nil {
		n.send(to, appendText(appendText([]byte{msgTell}, method), body))
	}
}

// Call has another process do something and waits for its answer.
func (n *Node) Call(ctx context.Context, to, method string, body []byte) ([]byte, error) {
	if n == nil {
		return nil, ErrGone
	}
	c := &call{to: to, done: make(chan reply, 1)}
	n.callMu.Lock()
	n.lastCall++
	number := n.lastCall
	n.calls[number] = c
	n.callMu.Unlock()
	defer func() {
		n.callMu.Lock()
		delete(n.calls, number)
		n.callMu.Unlock()
	}()
	n.mu.RLock()
	there := n.peers[to] != nil && !n.stopped
	n.mu.RUnlock()
	if !there {
		return nil, ErrGone
	}
	n.send(to, appendText(appendText(binary.AppendUvarint([]byte{msgCall}, number), method), body))
	select {
	case r := <-c.done:
		return r.body, r.err
	case <-ctx.Done():
		n.send(to, binary.AppendUvarint([]byte{msgCancel}, number))
		return nil, ctx.Err()
	}
}

// Run has the node take part until ctx ends.
func (n *Node) Run(ctx context.Context) {
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(n.every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				n.beat()
			}
		}
	})
	n.bus.Run(ctx, n.id, n.up, n.receive)
	beating.Wait()
	n.end()
}

// Stop says goodbye: the others forget the process at once.
func (n *Node) Stop(context.Context) error {
	n.mu.Lock()
	n.sendLocked("", []byte{msgBye})
	n.stopped = true
	var all []string
	for id := range n.peers {
		all = append(all, id)
	}
	n.mu.Unlock()
	for _, id := range all {
		n.drop(id, false)
	}
	return nil
}

// up tells the others everything and asks them to do so too.
func (n *Node) up(linked bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.linked = linked; linked {
		n.sendLocked("", n.stateLocked(true))
	}
}

func (n *Node) stateLocked(answer bool) []byte {
	b := append(n.head(msgState), flag(answer))
	for kind, keys := range n.own {
		for key, value := range keys {
			b = appendEntry(b, true, kind, key, value)
		}
	}
	return b
}

// beat says that the process is there, and looks for those that are not any more.
func (n *Node) beat() {
	n.mu.Lock()
	n.sendLocked("", n.head(msgHeartbeat))
	var silent []string
	for id, p := range n.peers {
		if time.Since(p.heard) > n.patience {
			silent = append(silent, id)
		}
	}
	linked := n.linked // if not, it is no wonder, and they may well be at work
	n.mu.Unlock()
	for _, id := range silent {
		n.log.Warn("another process of this installation is not heard of any more", "process", id)
		n.drop(id, linked)
	}
}

// entry names an entry.
type entry struct{ kind, key string }

func (n *Node) receive(from string, message []byte) {
	r := reader{b: message}
	kind := r.byte()
	if kind == msgBye {
		n.drop(from, false)
		return
	}
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return
	}
	p := n.peers[from]
	if p == nil {
		p = &peer{entries: map[string]map[string][]byte{}}
		n.peers[from] = p
		n.log.Info("another process serves this installation", "process", from)
	}
	p.heard = time.Now()
	var changed []entry
	switch kind {
	case msgChanges:
		changed = n.changesLocked(from, p, &r)
	case msgState:
		changed = n.stateOfLocked(from, p, &r)
	case msgHeartbeat:
		if v := r.number(); !p.known || v != p.version {
			n.askLocked(from, p)
		}
	case msgAsk:
		n.sendLocked(from, n.stateLocked(false))
	}
	n.mu.Unlock()
	for _, e := range changed {
		if f := n.listeners[e.kind]; f != nil {
			f(e.key)
		}
	}
	switch kind {
	case msgTell:
		method, body := string(r.text()), r.text()
		if r.bad {
			return
		}
		if _, err := n.handle(n.life, from, method, body); err != nil {
			n.log.Warn("what another process has told was not done", "what", method, "error", err)
		}
	case msgCall:
		number, method, body := r.number(), string(r.text()), r.text()
		if !r.bad {
			n.serve(from, number, method, body)
		}
	case msgCancel:
		n.callMu.Lock()
		cancel := n.serving[served{from, r.number()}]
		n.callMu.Unlock()
		if cancel != nil {
			cancel()
		}
	case msgReply:
		number, failed, body := r.number(), r.byte() != 0, r.text()
		n.callMu.Lock()
		c := n.calls[number]
		delete(n.calls, number)
		n.callMu.Unlock()
		switch {
		case c == nil || r.bad:
		case failed:
			c.done <- reply{err: errors.New(string(body))}
		default:
			c.done <- reply{body: body}
		}
	}
}

// askLocked asks a process for its state, but not again while the answer is on its way.
func (n *Node) askLocked(from string, p *peer) {
	p.known = false
	if time.Since(p.asked) > n.every/2 {
		p.asked = time.Now()
		n.sendLocked(from, []byte{msgAsk})
	}
}

func (n *Node) changesLocked(from string, p *peer, r *reader) (changed []entry) {
	version := r.number()
	switch {
	case p.known && version <= p.version:
		return nil // from before the state that was sent
	case !p.known, version != p.version+1:
		n.askLocked(from, p)
		return nil
	}
	p.version = version
	for len(r.b) > 0 && !r.bad {
		there, e, value := readEntry(r)
		if !r.bad {
			n.putLocked(from, p, e, value, there)
			changed = append(changed, e)
		}
	}
	return changed
}

func readEntry(r *reader) (there bool, e entry, value []byte) {
	there = r.byte() != 0
	e = entry{string(r.text()), string(r.text())}
	if there {
		value = r.text()
	}
	return there, e, value
}

// stateOfLocked takes a process's whole state.
func (n *Node) stateOfLocked(from string, p *peer, r *reader) (changed []entry) {
	version, answer := r.number(), r.byte() != 0
	old := map[entry]bool{}
	for kind, keys := range p.entries {
		for key := range keys {
			old[entry{kind, key}] = true
		}
	}
	for len(r.b) > 0 && !r.bad {
		_, e, value := readEntry(r)
		if r.bad {
			break
		}
		if before, there := p.entries[e.kind][e.key]; !there || !bytes.Equal(before, value) {
			n.putLocked(from, p, e, value, true)
			changed = append(changed, e)
		}
		delete(old, e)
	}
	for e := range old {
		n.putLocked(from, p, e, nil, false)
		changed = append(changed, e)
	}
	p.version, p.known = version, !r.bad
	if answer {
		n.sendLocked(from, n.stateLocked(false))
	}
	return changed
}

// putLocked notes an entry of another process.
func (n *Node) putLocked(id string, p *peer, e entry, value []byte, there bool) {
	_, before := p.entries[e.kind][e.key]
	if there {
		if p.entries[e.kind] == nil {
			p.entries[e.kind] = map[string][]byte{}
		}
		p.entries[e.kind][e.key] = bytes.Clone(value)
	} else {
		delete(p.entries[e.kind], e.key)
	}
	if before == there {
		return
	}
	if n.holders[e.kind] == nil {
		n.holders[e.kind] = map[string][]string{}
	}
	ids := slices.DeleteFunc(slices.Clone(n.holders[e.kind][e.key]), func(other string) bool { return other == id })
	if there {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		delete(n.holders[e.kind], e.key)
	} else {
		n.holders[e.kind][e.key] = ids
	}
}

// drop forgets a process; lost says that it did not end in order.
func (n *Node) drop(id string, lost bool) {
	n.mu.Lock()
	p := n.peers[id]
	var changed []entry
	var values [][]byte
	if p != nil {
		for kind, keys := range p.entries {
			for key, value := range keys {
				changed, values = append(changed, entry{kind, key}), append(values, value)
			}
		}
		for _, e := range changed {
			n.putLocked(id, p, e, nil, false)
		}
		delete(n.peers, id)
	}
	n.mu.Unlock()
	n.bus.Forget(id)
	n.callMu.Lock()
	for number, c := range n.calls {
		if c.to == id {
			delete(n.calls, number)
			c.done <- reply{err: ErrGone}
		}
	}
	for s, cancel := range n.serving {
		if s.from == id {
			cancel()
		}
	}
	n.callMu.Unlock()
	for i, e := range changed {
		if f := n.listeners[e.kind]; f != nil {
			f(e.key)
		}
		if f := n.mourners[e.kind]; f != nil && lost {
			f(e.key, values[i])
		}
	}
}

// serve answers a call.
func (n *Node) serve(from string, number uint64, method string, body []byte) {
	ctx, cancel := context.WithCancel(n.life)
	key := served{from, number}
	n.callMu.Lock()
	n.serving[key] = cancel
	n.callMu.Unlock()
	go func() {
		defer func() {
			cancel()
			n.callMu.Lock()
			delete(n.serving, key)
			n.callMu.Unlock()
		}()
		out, err := n.handle(ctx, from, method, body)
		answer := append(binary.AppendUvarint([]byte{msgReply}, number), flag(err != nil))
		if err != nil {
			out = []byte(err.Error())
		}
		n.send(from, appendText(answer, out))
	}()
}

// handle does what another process asks for. A panic costs only that.
func (n *Node) handle(ctx context.Context, from, method string, body []byte) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			n.log.Error("panic in what another process asked for", "what", method, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("it panicked")
		}
	}()
	h := n.handlers[method]
	if h == nil {
		return nil, errors.New("not known here, by another version of the program: " + method)
	}
	return h(ctx, from, body)
}
