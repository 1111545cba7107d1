package llm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// script is a Source of fixed events.
type script struct {
	events []string
	end    error
	closed bool
}

func (s *script) Next() ([]byte, error) {
	if len(s.events) == 0 {
		return nil, s.end
	}
	e := s.events[0]
	s.events = s.events[1:]
	return []byte(e), nil
}

func (s *script) Close() error { s.closed = true; return nil }

func TestRelay(t *testing.T) {
	sse := ": hi\r\nevent: x\ndata: {\"a\":1}\n\ndata: [DONE]\n\n"
	tests := []struct {
		name, want, ctype string
		resp              *Response
	}{
		{"raw bytes unchanged", sse, "text/event-stream; x=y",
			NewRawStream(200, http.Header{"Content-Type": {"text/event-stream; x=y"}}, io.NopCloser(iotest.HalfReader(strings.NewReader(sse))))},
		{"events", "data: {\"a\":1}\n\ndata: {}\n\ndata: [DONE]\n\n", "text/event-stream",
			NewStream(http.Header{}, &script{events: []string{`{"a":1}`, `{}`}, end: io.EOF})},
		{"JSON", `{"a":1.0}`, "application/json", NewBody(200, http.Header{"Content-Type": {"application/json"}}, []byte("\n"+`{"a":1.0}`+"\n"))},
		{"garbage becomes a string", `"<html>not json</html>"`, "application/json",
			NewBody(200, http.Header{"Content-Type": {"text/html"}}, []byte("<html>not json</html>"))},
		{"JSON under another type becomes a string", `"{}"`, "application/json", NewBody(200, http.Header{"Content-Type": {"text/plain"}}, []byte("{}"))},
		{"nothing", `null`, "application/json", NewBody(200, http.Header{"Content-Type": {"application/json"}}, nil)},
		{"broken JSON", `"{"`, "application/json", NewBody(200, http.Header{"Content-Type": {"application/json"}}, []byte("{"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			if err := tt.resp.Relay(rec); err != nil {
				t.Fatal(err)
			}
			if rec.Body.String() != tt.want || rec.Header().Get("Content-Type") != tt.ctype || rec.Code != 200 {
				t.Errorf("got %d %q %q", rec.Code, rec.Header().Get("Content-Type"), rec.Body)
			}
			if tt.resp.Stream && !rec.Flushed {
				t.Error("not flushed")
			}
		})
	}
}

func TestLead(t *testing.T) {
	header := http.Header{"Content-Type": {"application/json"}}
	for _, tt := range []struct {
		name, want string
		resp       *Response
	}{
		{"raw", "data: {\"x\":1}\n\ndata: {\"a\":1}\n\n", NewRawStream(200, http.Header{}, io.NopCloser(strings.NewReader("data: {\"a\":1}\n\n")))},
		{"events", "data: {\"x\":1}\n\ndata: {\"a\":1}\n\ndata: [DONE]\n\n", NewStream(http.Header{}, &script{events: []string{`{"a":1}`}, end: io.EOF})},
		{"object", `{"a":1,"x":1}`, NewBody(200, header, []byte(`{"a":1}`))},
		{"list", `[1]`, NewBody(200, header, []byte(`[1]`))},
	} {
		rec := httptest.NewRecorder()
		tt.resp.Lead([]byte(`{"x":1}`))
		if err := tt.resp.Relay(rec); err != nil || rec.Body.String() != tt.want {
			t.Errorf("%s: %v %q", tt.name, err, rec.Body)
		}
	}
	r := NewStream(http.Header{}, &script{events: []string{`{"a":1}`}, end: io.EOF})
	r.Lead([]byte(`{"x":1}`))
	for c, err := range r.Chunks() {
		if err != nil || string(c.Raw) != `{"a":1}` {
			t.Errorf("Chunks gave %s, %v", c.Raw, err)
		}
	}
}

func TestCopyToErrors(t *testing.T) {
	boom := errors.New("boom")
	var se *StreamError
	src := &script{events: []string{"{}"}, end: boom}
	if err := NewStream(http.Header{}, src).CopyTo(io.Discard, nil); !errors.As(err, &se) || !errors.Is(err, boom) || !src.closed {
		t.Errorf("events cut: %v, closed %v", err, src.closed)
	}
	r := rawStream(io.MultiReader(strings.NewReader("data: {}\n\n"), iotest.ErrReader(boom)))
	if err := r.CopyTo(io.Discard, nil); !errors.As(err, &se) || !errors.Is(err, boom) {
		t.Errorf("raw cut: %v", err)
	}
	gone := errors.New("client gone")
	r = rawStream(endless{'x'})
	if err := r.CopyTo(io.Discard, func() error { return gone }); !errors.Is(err, gone) || errors.As(err, &se) {
		t.Errorf("client gone: %v", err)
	}
}

// recorder is an Observer that keeps what it is told.
type recorder struct {
	mu       sync.Mutex
	calls    []*recordedCall
	again    []string // "retry openai/0"
	circuits []string // "openai/0 true"
}

type recordedCall struct {
	provider, model string
	first, done     int
	tokens          Tokens
	err             error
}

func (r *recorder) Request(_ context.Context, provider, model string) Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &recordedCall{provider: provider, model: model}
	r.calls = append(r.calls, c)
	return c
}

func (r *recorder) Again(provider, how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = append(r.again, how+" "+provider)
}

func (r *recorder) Circuit(provider string, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.circuits = append(r.circuits, fmt.Sprintf("%s %t", provider, open))
}

func (c *recordedCall) FirstToken()              { c.first++ }
func (c *recordedCall) Done(t Tokens, err error) { c.done++; c.tokens, c.err = t, err }

// fake is a provider of fixed models that answers with what chat returns.
type fake struct {
	id     string
	models func(ctx context.Context) ([]Model, error)
	chat   func(*Request) (*Response, error)
}

func (f *fake) ID() string                                             { return f.id }
func (f *fake) Models(ctx context.Context, _ *Caller) ([]Model, error) { return f.models(ctx) }
func (f *fake) Chat(_ context.Context, r *Request) (*Response, error)  { return f.chat(r) }
func fixed(models ...Model) func(context.Context) ([]Model, error) {
	return func(context.Context) ([]Model, error) { return models, nil }
}

func TestObserver(t *testing.T) {
	const usage = `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}`
	sse := "data: " + smallChunk + "\n\ndata: " + usage + "\n\ndata: [DONE]\n\n"
	relay := func(r *Response) { _ = r.CopyTo(io.Discard, nil) }
	chunks := func(r *Response) {
		for range r.Chunks() {
		}
	}
	tests := []struct {
		name  string
		resp  func() (*Response, error)
		use   func(*Response)
		first int
		want  Tokens
		fails bool
	}{
		{"raw relay", func() (*Response, error) { return rawStream(strings.NewReader(sse)), nil }, relay, 1, Tokens{3, 5}, false},
		{"raw chunks", func() (*Response, error) { return rawStream(strings.NewReader(sse)), nil }, chunks, 1, Tokens{3, 5}, false},
		{"long relay", func() (*Response, error) {
			return rawStream(iotest.HalfReader(io.MultiReader(bytes.NewReader(bytes.Repeat([]byte(": x\n"), 20000)), strings.NewReader(sse)))), nil
		}, relay, 1, Tokens{3, 5}, false},
		{"events", func() (*Response, error) {
			return NewStream(http.Header{}, &script{events: []string{smallChunk, usage}, end: io.EOF}), nil
		}, relay, 1, Tokens{3, 5}, false},
		{"cut", func() (*Response, error) {
			return NewStream(http.Header{}, &script{events: []string{smallChunk}, end: io.ErrUnexpectedEOF}), nil
		}, chunks, 1, Tokens{}, true},
		{"body", func() (*Response, error) {
			return NewBody(200, http.Header{}, []byte(`{"choices":[],"usage":{"input_tokens":1,"output_tokens":2}}`)), nil
		}, func(*Response) {}, 0, Tokens{1, 2}, false},
		{"refused", func() (*Response, error) { return nil, DetailError(500, "x", nil) }, nil, 0, Tokens{}, true},
		{"reader stops", func() (*Response, error) { return rawStream(strings.NewReader(sse)), nil }, func(r *Response) {
			for range r.Chunks() {
				break
			}
		}, 1, Tokens{}, false},
		{"closed unread", func() (*Response, error) { return rawStream(strings.NewReader(sse)), nil }, func(r *Response) {
			_ = r.Close()
			_ = r.Close()
		}, 0, Tokens{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{}
			p := &fake{id: "fake", models: fixed(Model{ID: "pre.m", Upstream: "m"}), chat: func(r *Request) (*Response, error) {
				if r.Model != "m" {
					t.Errorf("upstream model %q", r.Model)
				}
				return tt.resp()
			}}
			reg := New(Options{Observer: rec})
			if err := reg.Register(p); err != nil {
				t.Fatal(err)
			}
			target, err := reg.Resolve(t.Context(), nil, "pre.m")
			if err != nil {
				t.Fatal(err)
			}
			resp, err := target.Chat(t.Context(), &Request{})
			if err == nil {
				tt.use(resp)
			}
			if len(rec.calls) != 1 {
				t.Fatalf("%d calls", len(rec.calls))
			}
			c := rec.calls[0]
			if c.provider != "fake" || c.model != "pre.m" || c.first != tt.first || c.done != 1 || c.tokens != tt.want || (c.err != nil) != tt.fails {
				t.Errorf("got %+v", *c)
			}
		})
	}
}

func TestUpstreamErrors(t *testing.T) {
	h := func(ct string) http.Header { return http.Header{"Content-Type": {ct}, "Retry-After": {"7"}} }
	tests := []struct {
		name, ct, in           string
		sse                    bool
		body, outType, message string
	}{
		{"object", "application/json", `{"error":{"message":"bad key"}}`, false, `{"error":{"message":"bad key"}}`, "application/json", "bad key"},
		{"detail", "application/json", `{"detail":"x"}`, false, `{"detail":"x"}`, "application/json", "x"},
		{"array", "application/json; charset=utf-8", `[1]`, false, `[1]`, "application/json", "[1]"},
		{"text", "text/html", `<b>no</b>`, false, `<b>no</b>`, "text/plain; charset=utf-8", "<b>no</b>"},
		{"JSON as text", "text/plain", `{"error":"x"}`, false, `{"error":"x"}`, "text/plain; charset=utf-8", "x"},
		{"JSON string", "application/json", `"no"`, false, `no`, "text/plain; charset=utf-8", "no"},
		{"empty", "application/json", ``, false, ``, "text/plain; charset=utf-8", "Provider returned HTTP 429"},
		{"SSE with JSON", "text/event-stream", `{"error":"x"}`, true, `{"error":"x"}`, "application/json", "x"},
		{"SSE with text", "text/event-stream", `no`, true, `{"error":{"message":"no","code":429}}`, "application/json", "no"},
		{"no known member", "application/json", `{"a":1}`, false, `{"a":1}`, "application/json", `{"a":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := NewUpstreamError(429, h(tt.ct), []byte(tt.in), tt.sse)
			if string(e.Body) != tt.body || e.ContentType != tt.outType || e.Message() != tt.message || e.RetryAfter != "7" {
				t.Errorf("got %q %q %q", e.Body, e.ContentType, e.Message())
			}
			if e.Header().Get("Retry-After") != "7" || e.Header().Get("Content-Type") != tt.outType {
				t.Errorf("headers %v", e.Header())
			}
		})
	}
}

func TestUsageTokens(t *testing.T) {
	for in, want := range map[string]Tokens{
		`{"prompt_tokens":1,"completion_tokens":2}`:              {1, 2},
		`{"input_tokens":3,"output_tokens":4,"prompt_tokens":9}`: {3, 4},
		`{"prompt_eval_count":5,"eval_count":6}`:                 {5, 6},
		`{"prompt_n":1,"cache_n":2,"predicted_n":3.0}`:           {3, 3},
		`null`: {}, `[]`: {}, ``: {},
	} {
		if got := UsageTokens([]byte(in)); got != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

// unflushable is a ResponseWriter that cannot flush.
type unflushable struct {
	bytes.Buffer
	h http.Header
}

func (u *unflushable) Header() http.Header { return u.h }
func (u *unflushable) WriteHeader(int)     {}

func TestRelayWithoutFlush(t *testing.T) {
	w := &unflushable{h: http.Header{}}
	if err := rawStream(strings.NewReader("data: x\n\n")).Relay(w); err != nil || w.String() != "data: x\n\n" {
		t.Errorf("%v %q", err, w)
	}
}

func TestRelaySendsHeadersAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = rawStream(pr).Relay(w) }))
	defer srv.Close()
	defer pw.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req) // nothing was written yet
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, want := range []string{"data: 1\n\n", "data: 2\n\n"} { // each arrives before the next is written
		if _, err := io.WriteString(pw, want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
