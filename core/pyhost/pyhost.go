package pyhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/python"
)

// Options are what a Host works with.
type Options struct {
	Python  string // the interpreter; "" for python3 of PATH
	Dir     string // for packages; the process works in it
	Offline bool   // install nothing
	// Requirements has pip install what sources ask for; PipOptions and PipIndex are options of it before and behind them.
	Requirements         bool
	PipOptions, PipIndex []string
	Log                  *slog.Logger
	Idle                 time.Duration // without a request, after which the process ends; 0 for 30 minutes
	LoadTime             time.Duration // that a source may take to load, 0 for a minute
	Hang                 time.Duration // for which the process may not answer, before it is ended; 0 for a minute
}

// Kinds of modules.
const (
	KindTool     = "tool"
	KindFunction = "function"
)

// Source is somebody's Python.
type Source struct{ Kind, ID, Text string }

func (s *Source) hash() string {
	sum := sha256.Sum256([]byte(s.Text))
	return hex.EncodeToString(sum[:16])
}

// Module is what a source turned out to hold.
type Module struct {
	Class      string // Tools; Pipe, Filter, Action or Event
	Valves     bool   // it has a class of that name
	UserValves bool
	Specs      []jsondoc.Doc       // of a tool's functions: name, description, parameters
	Offered    map[string]string   // descriptions of the functions as models are given them
	Takes      map[string][]string // which of the parameters __user__, __metadata__, … each function has
	Manifest   jsondoc.Doc         // of its first lines, an object
}

// Error is what Python raised.
type Error struct {
	Kind string // "raised", "source", "valves", "no_valves", "stopped", …
	Type string // the name of the exception, for "raised"
	Text string
}

func (e *Error) Error() string { return e.Text }

// ErrNoValves says that a module has no such class.
var ErrNoValves = errors.New("the module has no valves")

// UnavailableError says why no Python runs.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "Python code cannot run: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Host runs modules. Its methods may be called at once.
type Host struct {
	o         Options
	installer *python.Installer

	mu      sync.Mutex
	child   *child // nil while none runs
	start   *starting
	crashes int       // one after the other
	notYet  time.Time // when the next may start
	closed  bool
	loads   map[string]*loading
	known   map[string]*Module // by module and hash, of this child
	idle    *time.Timer
}

// loading is a source being loaded, for all who need it.
type loading struct {
	done   chan struct{}
	module *Module
	err    error
}

// New makes a host. Nothing runs before it is needed.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Idle == 0 {
		o.Idle = 30 * time.Minute
	}
	if o.LoadTime == 0 {
		o.LoadTime = time.Minute
	}
	if o.Hang == 0 {
		o.Hang = time.Minute
	}
	return &Host{
		o: o, loads: map[string]*loading{}, known: map[string]*Module{},
		installer: &python.Installer{Dir: o.Dir, Offline: o.Offline, Log: o.Log},
	}
}

// Load loads a source, if this version of it is not loaded yet, and says what it holds. What it raises is an *Error.
func (h *Host) Load(ctx context.Context, s Source) (*Module, error) {
	c, err := h.running(ctx)
	if err != nil {
		return nil, err
	}
	key := s.Kind + " " + s.ID + " " + s.hash()
	h.mu.Lock()
	if m := h.known[key]; m != nil && h.child == c {
		h.mu.Unlock()
		return m, nil
	}
	l := h.loads[key]
	if l == nil {
		l = &loading{done: make(chan struct{})}
		h.loads[key] = l
		go func() { // goes on for others when this caller has gone
			l.module, l.err = h.load(context.WithoutCancel(ctx), c, s)
			h.mu.Lock()
			delete(h.loads, key)
			if l.err == nil && h.child == c {
				h.known[key] = l.module
			}
			h.mu.Unlock()
			close(l.done)
		}()
	}
	h.mu.Unlock()
	select {
	case <-l.done:
		return l.module, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (h *Host) load(ctx context.Context, c *child, s Source) (*Module, error) {
	manifest := Frontmatter(s.Text)
	paths, err := h.require(ctx, manifest.Text("requirements"))
	if err != nil {
		return nil, fmt.Errorf("its requirements were not installed: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.o.LoadTime, fmt.Errorf("the code took longer than %v to load", h.o.LoadTime))
	defer cancel()
	r := request("load", s)
	r.Add("paths", paths)
	r.Raw("source", jsondoc.Text(s.Text))
	v, err := c.do(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	m := &Module{
		Class: v.Text("class"), Valves: v.Bool("valves"), UserValves: v.Bool("user_valves"), Specs: v.Get("specs").List(),
		Offered: map[string]string{}, Takes: map[string][]string{}, Manifest: manifest,
	}
	v.Get("offered").Each(func(name string, text jsondoc.Doc) bool {
		m.Offered[name], _ = text.AsText()
		return true
	})
	v.Get("takes").Each(func(name string, list jsondoc.Doc) bool {
		m.Takes[name] = list.Texts()
		return true
	})
	return m, nil
}

// request is the beginning of a request.
func request(op string, s Source) *jsondoc.Builder {
	var b jsondoc.Builder
	b.Raw("op", jsondoc.Text(op))
	b.Raw("kind", jsondoc.Text(s.Kind))
	b.Raw("module", jsondoc.Text(s.ID))
	b.Raw("hash", jsondoc.Text(s.hash()))
	return &b
}

// on sends a request to a module, which is loaded before if it is not.
func (h *Host) on(ctx context.Context, s Source, op string, fill func(*jsondoc.Builder), events *Call) (jsondoc.Doc, error) {
	for range 3 {
		if _, err := h.Load(ctx, s); err != nil {
			return nil, err
		}
		c, err := h.running(ctx)
		if err != nil {
			return nil, err
		}
		r := request(op, s)
		fill(r)
		v, err := c.do(ctx, r, events)
		var e *Error
		if errors.As(err, &e) {
			switch e.Kind {
			case "unloaded":
				h.forget(s)
				continue
			case "no_valves":
				return nil, ErrNoValves
			}
		}
		return v, err
	}
	return nil, errors.New("too many modules are in use at once")
}

func (h *Host) forget(s Source) {
	h.mu.Lock()
	delete(h.known, s.Kind+" "+s.ID+" "+s.hash())
	h.mu.Unlock()
}

// quickTime is what looking at valves may take.
const quickTime = 30 * time.Second

func quickly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, quickTime, fmt.Errorf("the code took longer than %v", quickTime))
}

// ValvesSchema is the JSON Schema of a module's valves, or of those of its users; null where it has none. user is who
// asks, for options that depend on it.
func (h *Host) ValvesSchema(ctx context.Context, s Source, ofUsers bool, user jsondoc.Doc) (jsondoc.Doc, error) {
	if _, err := h.Load(ctx, s); err != nil {
		return nil, err
	}
	ctx, cancel := quickly(ctx)
	defer cancel()
	return h.on(ctx, s, "schema", func(b *jsondoc.Builder) {
		b.Add("user_valves", ofUsers)
		b.Raw("user", user.Or(jsondoc.Doc("null")))
	}, nil)
}

// Valves are values as they are to be stored: those that are set and not null, as the module's class reads them.
// ErrNoValves says that it has none, an *Error that they are wrong.
func (h *Host) Valves(ctx context.Context, s Source, ofUsers bool, values jsondoc.Doc) (jsondoc.Doc, error) {
	if _, err := h.Load(ctx, s); err != nil {
		return nil, err
	}
	ctx, cancel := quickly(ctx)
	defer cancel()
	return h.on(ctx, s, "valves", func(b *jsondoc.Builder) {
		b.Add("user_valves", ofUsers)
		b.Raw("values", values)
	}, nil)
}

// CheckValves says why stored values do not suit a source: an *Error of the kind "valves".
func (h *Host) CheckValves(ctx context.Context, s Source, values jsondoc.Doc) error {
	if _, err := h.Load(ctx, s); err != nil {
		return err
	}
	ctx, cancel := quickly(ctx)
	defer cancel()
	_, err := h.on(ctx, s, "check", func(b *jsondoc.Builder) { b.Raw("values", values) }, nil)
	return err
}

// Call is a call of a function.
type Call struct {
	Function   string
	Arguments  jsondoc.Doc // an object
	Extra      jsondoc.Doc // an object: __user__, __metadata__ and others, of which the function gets those that it takes
	Valves     jsondoc.Doc // stored values, an object
	UserValves jsondoc.Doc // become the valves of __user__
	// Emit takes an event, Ask a question, of which it gives the answer; both have a type and data. Either may be nil.
	Emit func(event jsondoc.Doc)
	Ask  func(ctx context.Context, event jsondoc.Doc) (jsondoc.Doc, error)
}

// Result is what a function gave.
type Result struct {
	Content jsondoc.Doc
	Page    *string // HTML to be shown
	Status  int     // of the page, as of an HTTP answer
}

// Call calls a function. It returns as soon as ctx ends; the code is told to stop, and cannot be waited for.
func (h *Host) Call(ctx context.Context, s Source, call Call) (Result, error) {
	v, err := h.on(ctx, s, "call", func(b *jsondoc.Builder) {
		b.Raw("function", jsondoc.Text(call.Function))
		b.Raw("arguments", call.Arguments.Or(jsondoc.Doc("{}")))
		b.Raw("extra", call.Extra.Or(jsondoc.Doc("{}")))
		b.Raw("valves", call.Valves.Or(jsondoc.Doc("null")))
		b.Raw("user_valves", call.UserValves.Or(jsondoc.Doc("null")))
	}, &call)
	if err != nil {
		return Result{}, err
	}
	r := Result{Content: v.Get("content")}
	if page := v.Get("page"); page != nil {
		text, _ := page.AsText()
		status, _ := v.Int("status")
		r.Page, r.Status = &text, int(status)
	}
	return r, nil
}

// Running says whether there is a process.
func (h *Host) Running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.child != nil
}

// Stop ends the process.
func (h *Host) Stop(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	c := h.child
	if h.idle != nil {
		h.idle.Stop()
	}
	h.mu.Unlock()
	h.installer.Stop()
	if c == nil {
		return nil
	}
	return c.kill(ctx)
}
