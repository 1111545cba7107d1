package pyhost

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/plugin/process"
)

//go:embed host.py
var script string

const (
	startTime  = 30 * time.Second // until the process says hello
	closedTime = 2 * time.Second  // between the end of the output and that of the process
	// maxEvents is how many events of a call may wait to be told on.
	maxEvents = 10_000
	maxPause  = 30 * time.Second // between a crash and the next start
	stableFor = time.Minute      // a process that ran for longer did not crash at the start
)

// child is a running process.
type child struct {
	host    *Host
	process *process.Process
	log     *process.Log
	in      *os.File
	stopped atomic.Bool // it ends because Galley wants it to

	writing sync.Mutex

	mu    sync.Mutex
	last  int64
	waits map[int64]*waiting
	ended error // why nothing is answered any more
	used  time.Time
}

// waiting is a request that waits for its answer.
type waiting struct {
	wake   chan struct{} // has one once there is something new
	mu     sync.Mutex
	events []jsondoc.Doc
	value  jsondoc.Doc
	err    error
	done   bool
}

func (w *waiting) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *waiting) finish(v jsondoc.Doc, err error) {
	w.mu.Lock()
	if !w.done {
		w.value, w.err, w.done = v, err, true
	}
	w.mu.Unlock()
	w.signal()
}

// take gives the events that came, and whether the answer has.
func (w *waiting) take() (events []jsondoc.Doc, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, w.events = w.events, nil
	return events, w.done
}

// hello is what a process says first.
type hello struct{ python, pydantic string }

// launch starts a process with folders of packages and waits for its hello.
func (h *Host) launch(ctx context.Context, python string, paths []string) (*child, hello, error) {
	if err := os.MkdirAll(h.o.Dir, 0o755); err != nil {
		return nil, hello{}, err
	}
	if left, err := filepath.Glob(filepath.Join(h.o.Dir, "source-*.py")); err == nil { // by a process that was killed
		for _, f := range left {
			_ = os.Remove(f)
		}
	}
	env := os.Environ()
	if len(paths) > 0 {
		if old := os.Getenv("PYTHONPATH"); old != "" {
			paths = append(paths, old)
		}
		env = append(env, "PYTHONPATH="+strings.Join(paths, string(os.PathListSeparator)))
	}
	env = append(env, "PYTHONUTF8=1", "PYTHONUNBUFFERED=1")
	p, err := process.Start(process.Spec{Name: "python", Path: python, Args: []string{"-c", script}, Env: env, Dir: h.o.Dir})
	if err != nil {
		return nil, hello{}, err
	}
	c := &child{host: h, process: p, log: process.NewLog(process.LogOptions{}), in: p.Stdin(), waits: map[int64]*waiting{}, used: time.Now()}
	_, lines, stop := c.log.Follow(0)
	go func() {
		for l := range lines {
			h.o.Log.Info("Python: " + l.Message)
		}
	}()
	logged := make(chan struct{})
	go func() {
		_, _ = c.log.ReadFrom(p.Stderr())
		stop()
		close(logged)
	}()
	hi := make(chan hello, 1)
	go c.read(hi, logged)
	go c.watch()
	late := time.NewTimer(startTime)
	defer late.Stop()
	select {
	case said, ok := <-hi:
		if ok {
			return c, said, nil
		}
		return nil, hello{}, c.dead()
	case <-late.C:
		err = fmt.Errorf("%s did not start within %v", python, startTime)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_ = c.kill(ctx)
	return nil, hello{}, err
}

// read hands on what the process sends, until its end.
func (c *child) read(hi chan<- hello, logged <-chan struct{}) {
	in := bufio.NewReaderSize(c.process.Stdout(), 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		d, bad := jsondoc.Check(bytes.TrimSuffix(line, []byte("\n")))
		if bad != nil {
			c.host.o.Log.Warn("Python sent what is no JSON", "error", bad)
			continue
		}
		if h := d.Get("hello"); h != nil && hi != nil {
			hi <- hello{h.Text("python"), h.Text("pydantic")}
			hi = nil
			continue
		}
		c.take(d)
	}
	select {
	case <-c.process.Done():
	case <-time.After(closedTime): // it closed its output, and cannot be talked to
		_ = c.process.Kill(context.Background())
	}
	<-c.process.Done()
	<-logged
	exit, _ := c.process.Exit()
	text := exit.String()
	if words := c.lastWords(); words != "" && !c.stopped.Load() {
		text += ": " + words
	}
	c.end(fmt.Errorf("the Python process ended (%s)", text))
	if hi != nil {
		close(hi)
	}
}

// lastWords is the last line of the log.
func (c *child) lastWords() string {
	lines := c.log.Last(1)
	if len(lines) == 0 {
		return ""
	}
	text := strings.TrimSpace(lines[0].Message)
	text = text[strings.LastIndexByte(text, '\n')+1:]
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// end fails all requests. The host hears of it first: who sees a request fail may ask again at once, and gets another process.
func (c *child) end(err error) {
	c.mu.Lock()
	c.ended = err
	waits := c.waits
	c.waits = map[int64]*waiting{}
	c.mu.Unlock()
	c.host.gone(c)
	for _, w := range waits {
		w.finish(nil, err)
	}
}

// take hands a message to the request that it is about.
func (c *child) take(d jsondoc.Doc) {
	if ask, ok := d.Int("ask"); ok {
		call, _ := d.Int("call")
		c.mu.Lock()
		w := c.waits[call]
		c.mu.Unlock()
		if w == nil {
			c.answer(ask, nil, errEnded)
			return
		}
		w.mu.Lock()
		full := len(w.events) >= maxEvents
		if !full {
			w.events = append(w.events, d)
		}
		w.mu.Unlock()
		if full {
			c.answer(ask, nil, errEnded)
		}
		w.signal()
		return
	}
	id, _ := d.Int("id")
	c.mu.Lock()
	w := c.waits[id]
	c.mu.Unlock()
	if w == nil {
		return
	}
	if e := d.Get("error"); e != nil {
		w.finish(nil, &Error{Kind: e.Text("kind"), Type: e.Text("type"), Text: e.Text("text")})
	} else {
		w.finish(d.Get("value"), nil)
	}
}

var errEnded = errors.New("the call has ended")

// answer answers a question of the code.
func (c *child) answer(ask int64, value jsondoc.Doc, err error) {
	var b jsondoc.Builder
	b.Raw("answer", jsondoc.Doc(strconv.FormatInt(ask, 10)))
	if err != nil {
		b.Raw("error", jsondoc.Text(err.Error()))
	} else {
		b.Raw("value", value.Or(jsondoc.Doc("null")))
	}
	_ = c.write(b.Done())
}

// write sends a line. A process that does not read is ended, with all calls.
func (c *child) write(d jsondoc.Doc) error {
	line := append(bytes.ReplaceAll(d, []byte("\n"), []byte(" ")), '\n') // only between values: texts have them escaped
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.in.SetWriteDeadline(time.Now().Add(c.host.o.Hang))
	_, err := c.in.Write(line)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		go c.hangs()
	}
	return err
}

// hangs ends a process that does not answer.
func (c *child) hangs() {
	c.host.o.Log.Error("the Python process does not answer and is ended", "after", c.host.o.Hang)
	_ = c.process.Kill(context.Background())
}

// watch asks a process that has something to do whether it is there: code may hold up the whole of it, where it calls
// into a library that does not let others run.
func (c *child) watch() {
	for {
		select {
		case <-c.process.Done():
			return
		case <-time.After(c.host.o.Hang / 4):
		}
		if _, quiet := c.quiet(); quiet {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.host.o.Hang)
		var ping jsondoc.Builder
		ping.Raw("op", jsondoc.Doc(`"ping"`))
		_, err := c.do(ctx, &ping, nil)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			c.hangs()
			return
		}
	}
}

// do sends a request and waits for its answer. Events of the call go to events.
func (c *child) do(ctx context.Context, r *jsondoc.Builder, events *Call) (jsondoc.Doc, error) {
	w := &waiting{wake: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.ended != nil {
		defer c.mu.Unlock()
		return nil, c.ended
	}
	c.last++
	id := c.last
	c.waits[id] = w
	c.used = time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waits, id)
		c.used = time.Now()
		c.mu.Unlock()
		rest, _ := w.take()
		for _, d := range rest {
			if ask, ok := d.Int("ask"); ok {
				c.answer(ask, nil, errEnded)
			}
		}
	}()
	number := jsondoc.Doc(strconv.FormatInt(id, 10))
	r.Raw("id", number)
	if err := c.write(r.Done()); err != nil {
		<-c.process.Done()
		return nil, fmt.Errorf("the Python process ended: %w", err)
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			go func() { _ = c.write(jsondoc.Object("op", jsondoc.Doc(`"stop"`)).Set(number, "call")) }()
			return nil, context.Cause(ctx)
		}
		list, done := w.take()
		for _, d := range list {
			c.tell(asking, d, events)
		}
		if done {
			return w.value, w.err
		}
	}
}

// tell passes an event on, or a question, whose answer is not waited for here.
func (c *child) tell(ctx context.Context, d jsondoc.Doc, to *Call) {
	ask, _ := d.Int("ask")
	if event := d.Get("emit"); event != nil {
		if to != nil && to.Emit != nil {
			to.Emit(event)
		}
		c.answer(ask, nil, nil)
		return
	}
	if to == nil || to.Ask == nil {
		c.answer(ask, nil, errors.New("Client session disconnected.")) //nolint:staticcheck // as tools know it
		return
	}
	go func() {
		value, err := to.Ask(ctx, d.Get("question"))
		c.answer(ask, value, err)
	}()
}

func (c *child) kill(ctx context.Context) error {
	c.stopped.Store(true)
	_ = c.in.Close()
	return c.process.Kill(ctx)
}

// quiet says since when nothing was asked of the process; false while something is.
func (c *child) quiet() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.used), len(c.waits) == 0
}
