package openai

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

// wire is a provider on a real socket that lists the model "m" and does with each chat request what chat says.
type wire struct {
	net.Listener
	chat  func(n int, c net.Conn)
	asked atomic.Int32
}

func newWire(t *testing.T, chat func(n int, c net.Conn)) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, chat: chat}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(c)
		}
	}()
	return w
}

func (w *wire) url() string { return "http://" + w.Addr().String() }

func (w *wire) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if strings.HasSuffix(r.URL.Path, "/models") {
		const list = `{"data":[{"id":"m"}]}`
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "+strconv.Itoa(len(list))+"\r\n\r\n"+list)
		return
	}
	w.chat(int(w.asked.Add(1)), c)
}

const (
	head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	word = `data: {"choices":[{"index":0,"delta":{"content":"word "}}]}` + "\n\n"
	end  = "data: [DONE]\n\n"
)

func good(_ int, c net.Conn) { _, _ = io.WriteString(c, head+word+word+end) }

// reset ends a connection so that the other side sees it reset.
func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }

// hang waits until the other side goes.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// again notes what the registry sends again.
type again struct {
	mu   sync.Mutex
	seen []string
}

func (a *again) Request(context.Context, string, string) llm.Call { return silent{} }
func (a *again) Circuit(string, bool)                             {}
func (a *again) Again(provider, how string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, how+" "+provider)
}

type silent struct{}

func (silent) FirstToken()            {}
func (silent) Done(llm.Tokens, error) {}

func wired(o llm.ClientOptions, notes *again, urls ...string) *llm.Registry {
	reg := llm.New(llm.Options{Client: llm.NewClient(o), Observer: notes, Backends: map[llm.Kind]llm.Backend{llm.KindOpenAI: Backend}, CacheTTL: -1})
	reg.Configure(llm.Settings{OpenAIEnable: true, OpenAIURLs: urls, OpenAIKeys: make([]string, len(urls))}.Connections())
	return reg
}

// say asks for a stream and gives its text, and the error with which it began or ended.
func say(ctx context.Context, t *testing.T, reg *llm.Registry) (string, error) {
	target, err := reg.Resolve(ctx, nil, "m")
	if err != nil {
		t.Error(err)
		return "", err
	}
	resp, err := target.Chat(ctx, &llm.Request{Body: []byte(`{"messages":[]}`), Stream: true})
	if err != nil {
		return "", err
	}
	text := ""
	for c, err := range resp.Chunks() {
		if err != nil {
			return text, err
		}
		text += c.Content
	}
	return text, nil
}

func TestFaults(t *testing.T) {
	isDown := func(err error) bool {
		var u *llm.UpstreamError
		return errors.As(err, &u) && u.Status == http.StatusInternalServerError && strings.Contains(string(u.Body), llm.ServerConnectionError)
	}
	isBroken := func(err error) bool {
		var s *llm.StreamError
		return errors.As(err, &s)
	}
	for name, c := range map[string]struct {
		chat  func(n int, c net.Conn)
		opts  llm.ClientOptions
		text  string
		is    func(error) bool // nil: no error
		asked int32
		again []string
	}{
		"good": {good, llm.ClientOptions{}, "word word ", nil, 1, nil},
		"reset before the first byte, once": {func(n int, c net.Conn) {
			if n == 1 {
				reset(c)
				return
			}
			good(n, c)
		}, llm.ClientOptions{}, "word word ", nil, 2, []string{"retry openai/0"}},
		"closed before the first byte, always": {func(int, net.Conn) {}, llm.ClientOptions{}, "", isDown, 2, []string{"retry openai/0"}},
		"reset in mid-stream": {func(_ int, c net.Conn) {
			_, _ = io.WriteString(c, head+word)
			_, _ = c.Read(make([]byte, 1)) // until the reader has it and goes, or for a moment
			reset(c)
		}, llm.ClientOptions{StreamIdle: 300 * time.Millisecond}, "word ", isBroken, 1, nil},
		"ended within a chunk of its transfer": {func(_ int, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"+strconv.FormatInt(int64(len(word)), 16)+"\r\n"+word+"\r\n40\r\ndata:")
		}, llm.ClientOptions{}, "word ", isBroken, 1, nil},
		"silent before the first byte":     {func(_ int, c net.Conn) { hang(c) }, llm.ClientOptions{Timeout: 150 * time.Millisecond}, "", isDown, 1, nil},
		"no head within the idle limit":    {func(_ int, c net.Conn) { hang(c) }, llm.ClientOptions{StreamIdle: 150 * time.Millisecond}, "", isDown, 1, nil},
		"silent in mid-stream":             {func(_ int, c net.Conn) { _, _ = io.WriteString(c, head+word); hang(c) }, llm.ClientOptions{StreamIdle: 150 * time.Millisecond}, "word ", isBroken, 1, nil},
		"silent in mid-stream, whole call": {func(_ int, c net.Conn) { _, _ = io.WriteString(c, head+word); hang(c) }, llm.ClientOptions{Timeout: 150 * time.Millisecond}, "word ", isBroken, 1, nil},
		"not HTTP":                         {func(_ int, c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }, llm.ClientOptions{}, "", isDown, 2, []string{"retry openai/0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, c.chat)
			notes := &again{}
			text, err := say(t.Context(), t, wired(c.opts, notes, w.url()))
			if text != c.text || (err == nil) != (c.is == nil) || c.is != nil && !c.is(err) {
				t.Errorf("%q, %v", text, err)
			}
			if n := w.asked.Load(); n != c.asked || !slices.Equal(notes.seen, c.again) {
				t.Errorf("asked %d times, %q", n, notes.seen)
			}
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	w := newWire(t, good)
	notes := &again{}
	reg := wired(llm.ClientOptions{}, notes, w.url())
	if text, err := say(t.Context(), t, reg); text != "word word " || err != nil {
		t.Fatal(text, err)
	}
	_ = w.Close()
	_, err := say(t.Context(), t, reg)
	var u *llm.UpstreamError
	if !errors.As(err, &u) || u.Status != http.StatusInternalServerError || !slices.Equal(notes.seen, []string{"retry openai/0"}) {
		t.Errorf("%v, %q", err, notes.seen)
	}
}

// TestCancelled has a reader go in mid-stream: the provider sees its connection end.
func TestCancelled(t *testing.T) {
	gone := make(chan struct{})
	w := newWire(t, func(_ int, c net.Conn) {
		_, _ = io.WriteString(c, head+word)
		hang(c)
		close(gone)
	})
	reg := wired(llm.ClientOptions{}, &again{}, w.url())
	ctx, cancel := context.WithCancel(t.Context())
	target, err := reg.Resolve(ctx, nil, "m")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := target.Chat(ctx, &llm.Request{Body: []byte(`{}`), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range resp.Chunks() {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the provider was not told")
	}
}

// TestOneOfTwoDies has one of two servers of a model die while many ask: what had not begun to be answered is answered by
// the other, what had is told to have broken off.
func TestOneOfTwoDies(t *testing.T) {
	dead := make(chan struct{})
	var die sync.Once
	dying := newWire(t, func(n int, c net.Conn) {
		select {
		case <-dead:
			reset(c)
			return
		default:
		}
		if n < 8 {
			good(n, c)
			return
		}
		_, _ = io.WriteString(c, head+word)
		_, _ = c.(*net.TCPConn).Write(nil)
		die.Do(func() { close(dead) })
		reset(c)
	})
	living := newWire(t, good)
	reg := wired(llm.ClientOptions{}, &again{}, dying.url(), living.url())
	reg.Models(t.Context(), nil) // both are known
	var whole, cut atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 40 {
				text, err := say(t.Context(), t, reg)
				var s *llm.StreamError
				switch {
				case err == nil && text == "word word ":
					whole.Add(1)
				case errors.As(err, &s):
					cut.Add(1)
				default:
					t.Errorf("%q, %v", text, err)
				}
			}
		})
	}
	all.Wait()
	if whole.Load()+cut.Load() != 320 || cut.Load() > 16 || living.asked.Load() < 150 {
		t.Errorf("%d whole, %d broken off, the living was asked %d times", whole.Load(), cut.Load(), living.asked.Load())
	}
}
