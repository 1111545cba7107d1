package filter_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/filter/filtertest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
)

type doc = jsondoc.Doc

var quiet = slog.New(slog.DiscardHandler)

func filters(c filter.Call, list ...filtertest.Filter) *filter.Filters {
	return filter.For(&filtertest.Set{Filters: list}, c, quiet)
}

// mark appends to the text at a member.
func mark(name, text string) func(context.Context, doc) (doc, error) {
	return func(_ context.Context, body doc) (doc, error) {
		return body.Set(jsondoc.Text(body.Text(name)+text), name), nil
	}
}

func TestInlet(t *testing.T) {
	refuse := func(err error) func(context.Context, doc) (doc, error) {
		return func(context.Context, doc) (doc, error) { return nil, err }
	}
	give := func(text string) func(context.Context, doc) (doc, error) {
		return func(context.Context, doc) (doc, error) { return doc(text), nil }
	}
	tests := []struct {
		name   string
		run    []filtertest.Filter
		want   string // the body
		status int    // or the refusal
		detail any
		header string // Retry-After
	}{
		{"none", nil, `{"x":"a"}`, 0, nil, ""},
		{"in order", []filtertest.Filter{{OnInlet: mark("x", "b")}, {}, {OnInlet: mark("x", "c")}}, `{"x":"abc"}`, 0, nil, ""},
		{"refusal", []filtertest.Filter{{OnInlet: refuse(&web.Error{Status: 429, Detail: "slow down", Header: http.Header{"retry-after": {"7"}}})}, {OnInlet: mark("x", "c")}},
			"", 429, "slow down", "7"},
		{"refusal without words", []filtertest.Filter{{OnInlet: refuse(&web.Error{Status: 429, Header: http.Header{"Retry-After": {"7"}}})}},
			"", 429, "Too Many Requests. Try again in 7 seconds.", "7"},
		{"refusal with a date", []filtertest.Filter{{OnInlet: refuse(&web.Error{Status: 503, Detail: "", Header: http.Header{"Retry-After": {"Fri, 01 Jan 2027 00:00:00 GMT"}}})}},
			"", 503, "Service Unavailable. Try again after Fri, 01 Jan 2027 00:00:00 GMT.", "Fri, 01 Jan 2027 00:00:00 GMT"},
		{"plain error", []filtertest.Filter{{OnInlet: refuse(errors.New("not allowed here"))}}, "", 400, "not allowed here", ""},
		{"success is no refusal", []filtertest.Filter{{OnInlet: refuse(web.Fail(200, "odd"))}}, "", 400, "odd", ""},
		{"panic", []filtertest.Filter{{OnInlet: func(context.Context, doc) (doc, error) { panic("secret") }}}, "", 500, "A filter failed", ""},
		{"no JSON", []filtertest.Filter{{OnInlet: give(`{"x":`)}}, "", 500, "A filter failed", ""},
		{"no object", []filtertest.Filter{{OnInlet: give(`["x"]`)}}, "", 500, "A filter failed", ""},
		{"nothing", []filtertest.Filter{{OnInlet: give(``)}}, "", 500, "A filter failed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := filters(filter.Call{}, tt.run...).Inlet(t.Context(), doc(`{"x":"a"}`))
			var e *web.Error
			errors.As(err, &e)
			switch {
			case tt.status == 0 && (err != nil || string(got) != tt.want):
				t.Errorf("%s %v", got, err)
			case tt.status != 0 && (e == nil || e.Status != tt.status || e.Detail != tt.detail || e.Header.Get("Retry-After") != tt.header):
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestInletRefusalHeaders(t *testing.T) {
	err := &web.Error{Status: 403, Detail: "no", Header: http.Header{"Content-Length": {"0"}, "content-type": {"x/y"}, "X-Limit": {"1", "2"}}}
	f := filters(filter.Call{}, filtertest.Filter{OnInlet: func(context.Context, doc) (doc, error) { return nil, err }})
	_, got := f.Inlet(t.Context(), doc(`{}`))
	var e *web.Error
	if !errors.As(got, &e) || len(e.Header) != 1 || len(e.Header["X-Limit"]) != 2 {
		t.Errorf("%#v", got)
	}
	if err.Header.Get("Content-Length") != "0" {
		t.Error("the filter's own error was changed")
	}
}

func TestInletCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := filters(filter.Call{}, filtertest.Filter{OnInlet: func(ctx context.Context, _ doc) (doc, error) { cancel(); return nil, ctx.Err() }})
	if _, err := f.Inlet(ctx, doc(`{}`)); !errors.Is(err, context.Canceled) || errors.As(err, new(*web.Error)) {
		t.Errorf("%v", err)
	}
}

type panics struct{}

func (panics) For(*filter.Call) filter.Chain { panic("secret") }

// TestBrokenSet holds that a request is refused when it cannot be said which filters it has.
func TestBrokenSet(t *testing.T) {
	f := filter.For(panics{}, filter.Call{}, quiet)
	_, err := f.Inlet(t.Context(), doc(`{}`))
	if e := new(web.Error); !errors.As(err, &e) || e.Status != 500 {
		t.Errorf("%v", err)
	}
}

// TestNoFilters holds that calls without filters cost nothing.
func TestNoFilters(t *testing.T) {
	ctx, body, r := t.Context(), doc(`{"x":1}`), llm.NewBody(200, http.Header{}, []byte("{}"))
	allocs := testing.AllocsPerRun(100, func() {
		f := filter.For(nil, filter.Call{ModelID: "m"}, quiet)
		out, err := f.Inlet(ctx, body)
		if f.Response(ctx, body, r) != r || err != nil || &out[0] != &body[0] || f.HasOutlet() || f.Allow(ctx, body) != nil {
			t.Fatal("changed")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if filters(filter.Call{}) != nil {
		t.Error("filters of nothing")
	}
}

func TestCommon(t *testing.T) {
	for body, want := range map[string]string{
		`{"model":"m","prompt":"p","system":"s","stream":false}`:                    `{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"p"}],"stream":false}`,
		`{"model":"m","prompt":["a","b"],"suffix":"x"}`:                             `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}`,
		`{"model":"m","input":"hi","instructions":"be"}`:                            `{"model":"m","messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}]}`,
		`{"model":"m","input":[{"role":"user","content":"hi"},{"type":"x"},"a",1]}`: `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"user","content":"a"}]}`,
		`{"messages":[{"role":"user","content":"hi","images":["x"]}]}`:              `{"model":"","messages":[{"role":"user","content":"hi","images":["x"]}]}`,
		`{"model":"m"}`: `{"model":"m","messages":[]}`,
	} {
		if got := string(filter.Common(doc(body))); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

// source is a stream of fixed events.
type source struct {
	events []string
	end    error
	closed int
}

func (s *source) Next() ([]byte, error) {
	if len(s.events) == 0 {
		return nil, s.end
	}
	e := s.events[0]
	s.events = s.events[1:]
	return []byte(e), nil
}

func (s *source) Close() error { s.closed++; return nil }

func say(text string) string {
	return `{"choices":[{"index":0,"delta":{"content":"` + text + `"}}]}`
}

func TestStream(t *testing.T) {
	replace := func(from, to string) func(context.Context, []byte) ([][]byte, error) {
		return func(_ context.Context, c []byte) ([][]byte, error) {
			return [][]byte{[]byte(strings.ReplaceAll(string(c), from, to))}, nil
		}
	}
	twice := func(_ context.Context, c []byte) ([][]byte, error) { return [][]byte{c, c}, nil }
	tests := []struct {
		name   string
		run    []filtertest.Filter
		events []string
		want   string // events, joined by spaces
	}{
		{"none looks", []filtertest.Filter{{OnInlet: mark("x", "y")}}, []string{`{"a":1}`}, `{"a":1}`},
		{"changed in order", []filtertest.Filter{{OnChunk: replace("a", "b")}, {OnChunk: replace("b", "c")}}, []string{`{"a":1}`, `{"b":2}`}, `{"c":1} {"c":2}`},
		{"doubled, then changed", []filtertest.Filter{{OnChunk: twice}, {OnChunk: replace("a", "b")}}, []string{`{"a":1}`, `{"x":2}`}, `{"b":1} {"b":1} {"x":2} {"x":2}`},
		{"dropped", []filtertest.Filter{{OnChunk: func(_ context.Context, c []byte) ([][]byte, error) {
			if strings.Contains(string(c), "a") {
				return nil, nil
			}
			return [][]byte{c, nil, []byte("null"), []byte("{}"), []byte(" ")}, nil
		}}}, []string{`{"a":1}`, `{"b":1}`, `{"a":2}`}, `{"b":1}`},
		{"on one line", []filtertest.Filter{{OnChunk: replace(`:`, ":\n\t")}}, []string{`{"a":"x"}`}, `{"a":"x"}`},
		{"error", []filtertest.Filter{{OnChunk: func(_ context.Context, c []byte) ([][]byte, error) {
			if strings.Contains(string(c), "a") {
				return nil, errors.New("no such words")
			}
			return [][]byte{c}, nil
		}}}, []string{`{"b":1}`, `{"a":1}`, `{"b":2}`}, `{"b":1} {"error":{"message":"no such words"}}`},
		{"panic", []filtertest.Filter{{OnChunk: func(context.Context, []byte) ([][]byte, error) { panic("secret") }}}, []string{`{"b":1}`}, `{"error":{"message":"A filter failed"}}`},
		{"no JSON", []filtertest.Filter{{OnChunk: replace("}", "")}}, []string{`{"b":1}`}, ""},
		{"no object", []filtertest.Filter{{OnChunk: replace(`{"b":1}`, "[1]")}}, []string{`{"b":1}`}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			closed := 0
			for i := range tt.run {
				tt.run[i].Closed = func() error { closed++; return nil }
			}
			src := &source{events: tt.events, end: io.EOF}
			r := filters(filter.Call{}, tt.run...).Response(t.Context(), nil, llm.NewStream(http.Header{}, src))
			var b strings.Builder
			if err := r.CopyTo(&b, nil); err != nil {
				t.Fatal(err)
			}
			got := strings.TrimSpace(strings.ReplaceAll(strings.TrimSuffix(b.String(), "data: [DONE]\n\n"), "\n\ndata: ", " "))
			got = strings.TrimPrefix(got, "data: ")
			if tt.want == "" && !strings.HasPrefix(got, `{"error":{"message":"a filter gave no`) || tt.want != "" && got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			looking := 0
			for _, f := range tt.run {
				if f.OnChunk != nil {
					looking++
				}
			}
			if closed != looking || src.closed == 0 {
				t.Errorf("closed %d of %d filters, the source %d times", closed, looking, src.closed)
			}
		})
	}
}

func TestStreamCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	src := &source{events: []string{say("a"), say("b")}, end: io.EOF}
	f := filters(filter.Call{}, filtertest.Filter{OnChunk: func(ctx context.Context, _ []byte) ([][]byte, error) { cancel(); return nil, ctx.Err() }})
	var b strings.Builder
	err := f.Response(ctx, nil, llm.NewStream(http.Header{}, src)).CopyTo(&b, nil)
	if !errors.Is(err, context.Canceled) || b.Len() != 0 || src.closed == 0 {
		t.Errorf("%v %q %d", err, b.String(), src.closed)
	}
}

// TestStreamOutlet holds that the outlet of a streamed answer learns all of it, also where its reader goes before the end.
func TestStreamOutlet(t *testing.T) {
	tests := []struct {
		name   string
		events []string
		end    error
		want   string // of the answer; "" if the outlet is not asked
		usage  string
	}{
		{"whole", []string{say("Hi "), say("there"), `{"choices":[{"delta":{},"finish_reason":"stop"}]}`, `{"choices":[],"usage":{"total_tokens":3}}`}, io.EOF, "Hi there", `{"total_tokens":3}`},
		{"cut", []string{say("Hi ")}, errors.New("cut"), "Hi ", ""},
		{"nothing said", nil, io.EOF, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []doc
			f := filters(filter.Call{ModelID: "m", MessageID: "a1"}, filtertest.Filter{OnOutlet: func(_ context.Context, body doc) (doc, error) {
				got = append(got, body)
				return doc(`{"messages":[{"id":"a1","content":"changed"}]}`), nil
			}})
			r := f.Response(t.Context(), doc(`{"messages":[{"role":"user","content":"?"}]}`), llm.NewStream(http.Header{}, &source{events: tt.events, end: tt.end}))
			var b strings.Builder
			_ = r.CopyTo(&b, nil)
			if strings.Contains(b.String(), "changed") {
				t.Errorf("%s", b.String())
			}
			if tt.want == "" {
				if len(got) != 0 {
					t.Errorf("%s", got)
				}
				return
			}
			if len(got) != 1 || got[0].Text("messages", "1", "content") != tt.want || got[0].Text("messages", "0", "content") != "?" || string(got[0].Get("usage")) != tt.usage ||
				got[0].Text("id") != "a1" || got[0].Text("model") != "m" {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	shout := func(_ context.Context, body doc) (doc, error) {
		ms := body.Get("messages").List()
		last := len(ms) - 1
		ms[last] = ms[last].Set(jsondoc.Text(strings.ToUpper(ms[last].Text("content"))), "content")
		return body.Set(jsondoc.Array(ms...), "messages"), nil
	}
	const two = `{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"a"}},{"index":1,"message":{"role":"assistant","content":"b"},"finish_reason":"stop"}]}`
	tests := []struct {
		name     string
		outlet   func(context.Context, doc) (doc, error)
		noOutlet bool
		body     string
		want     string
	}{
		{"every choice", shout, false, two, strings.NewReplacer(`"a"`, `"A"`, `"b"`, `"B"`).Replace(two)},
		{"switched off", shout, true, two, two},
		{"failing", func(context.Context, doc) (doc, error) { return nil, errors.New("no") }, false, two, two},
		{"panic", func(context.Context, doc) (doc, error) { panic("no") }, false, two, two},
		{"no JSON", func(context.Context, doc) (doc, error) { return doc("{"), nil }, false, two, two},
		{"another message", func(context.Context, doc) (doc, error) { return doc(`{"messages":[{"id":"x","content":"y"}]}`), nil }, false, two, two},
		{"error of the provider", shout, false, `{"error":{"message":"a"}}`, `{"error":{"message":"a"}}`},
		{"tool call", shout, false, `{"choices":[{"message":{"content":null,"tool_calls":[]}}]}`, `{"choices":[{"message":{"content":null,"tool_calls":[]}}]}`},
		{"no object", shout, false, `"text"`, `"text"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := filters(filter.Call{NoOutlet: tt.noOutlet}, filtertest.Filter{OnOutlet: tt.outlet})
			r := llm.NewBody(200, http.Header{"Content-Type": {"application/json"}, "X-A": {"1"}}, []byte(tt.body))
			got := f.Response(t.Context(), doc(`{"messages":[]}`), r)
			if string(got.JSON()) != tt.want || got.Status != 200 || got.Header.Get("X-A") != "1" {
				t.Errorf("%d %s", got.Status, got.JSON())
			}
		})
	}
}
