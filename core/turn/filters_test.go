package turn

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/filter/filtertest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// asked is a turn in a browser about a text.
func asked(chatID, text string, more string) string {
	return `{"stream":true,"model":"m","session_id":"s1","chat_id":"` + chatID + `","id":"a1","filter_ids":["on"]` + more + `,
 "user_message":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"` + text + `","timestamp":1,"models":["m"]}}`
}

// lastContent changes the content of a document's last message.
func lastContent(change func(string) string) func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) {
	return func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
		ms := body.Get("messages").List()
		last := len(ms) - 1
		ms[last] = ms[last].Set(jsondoc.Text(change(ms[last].Text("content"))), "content")
		return body.Set(jsondoc.Array(ms...), "messages"), nil
	}
}

func suffix(s string) func(string) string { return func(text string) string { return text + s } }

func filtered(t *testing.T, chat http.HandlerFunc, list ...filtertest.Filter) (*bench, *filtertest.Set) {
	b := newBench(t, chat)
	return b, b.filter(list...)
}

// filter begins anew with other filters: an empty chat c1, no events, nothing asked.
func (b *bench) filter(list ...filtertest.Filter) *filtertest.Set {
	set := &filtertest.Set{Filters: list}
	b.Filters, b.Log = set, slog.New(slog.DiscardHandler)
	b.store.add("c1", "u1")
	b.rt = newRecorder()
	b.Realtime = b.rt
	for len(b.asked) > 0 {
		<-b.asked
	}
	return set
}

// ofKind gives the data of the events of a kind.
func ofKind(events []jsondoc.Doc, kind string) (out []jsondoc.Doc) {
	for _, e := range events {
		if e.Text("data", "type") == kind {
			out = append(out, e.Get("data", "data"))
		}
	}
	return out
}

func TestFilteredTurn(t *testing.T) {
	var inlet, outlet jsondoc.Doc
	b, set := filtered(t, streamed(delta(`{"content":"Hi "}`), delta(`{"content":"there"}`), finished),
		filtertest.Filter{OnInlet: func(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
			inlet = body
			return lastContent(suffix(" one"))(ctx, body)
		}, OnOutlet: lastContent(suffix(" [seen]"))},
		filtertest.Filter{OnInlet: lastContent(suffix(" two")), OnOutlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
			outlet = body
			return body, nil
		}})
	b.rows["m"] = &models.Row{ID: "m", Params: jsondoc.Doc(`{"system":"Be kind."}`), Meta: jsondoc.Doc(`{"filterIds":["f"]}`)}
	if _, err := b.run(asked("c1", "hello", `,"params":{"temperature":0.5}`)); err != nil {
		t.Fatal(err)
	}
	events := b.rt.wait(t, "end", ended)
	if sent := <-b.asked; sent.Text("messages", "1", "content") != "hello one two" || sent.Text("messages", "0", "content") != "Be kind." {
		t.Errorf("sent %s", sent)
	}
	if inlet.Get("messages").Len() != 1 || string(inlet.Get("temperature")) != "0.5" || inlet.Text("model") != "m" {
		t.Errorf("inlet got %s", inlet)
	}
	calls := set.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	c := calls[0]
	if c.Kind != filter.KindChat || c.ModelID != "m" || c.ChatID != "c1" || c.MessageID != "a1" || c.SessionID != "s1" || !c.Stream || c.Principal.ID != "u1" ||
		strings.Join(c.FilterIDs, ",") != "on" || c.Meta.Text("filterIds", "0") != "f" || c.Emit == nil {
		t.Errorf("%+v", c)
	}
	answer := outlet.Get("messages", "1")
	if outlet.Get("messages").Len() != 2 || answer.Text("content") != "Hi there [seen]" || answer.Text("finish_reason") != "stop" || answer.Text("id") != "a1" ||
		answer.Text("output", "0", "type") != "message" || string(answer.Get("info")) != "null" || outlet.Text("id") != "a1" || outlet.Text("session_id") != "s1" ||
		outlet.Text("filter_ids", "0") != "on" || outlet.Get("messages", "0", "finish_reason") != nil {
		t.Errorf("outlet got %s", outlet)
	}
	m := b.store.message("c1", "a1")
	if m.Text("content") != "Hi there [seen]" || m.Text("originalContent") != "Hi there" || m.Text("output", "0", "content", "0", "text") != "Hi there" || !m.Bool("done") {
		t.Errorf("stored %s", m)
	}
	if q := b.store.message("c1", "q1"); q.Get("originalContent") != nil || q.Text("content") != "hello" {
		t.Errorf("the question became %s", q)
	}
	if got := kinds(events); !strings.HasSuffix(got, "chat:list chat:completion chat:outlet chat:active") {
		t.Error(got)
	}
	if shown := ofKind(events, "chat:outlet"); len(shown) != 1 || shown[0].Text("messages", "1", "content") != "Hi there [seen]" {
		t.Errorf("%s", shown)
	}
}

// TestInletOnly holds that filters without an outlet leave an answer and its events alone.
func TestInletOnly(t *testing.T) {
	b, _ := filtered(t, streamed(delta(`{"content":"Hi"}`), finished), filtertest.Filter{OnInlet: lastContent(suffix("!"))})
	if _, err := b.run(asked("c1", "hello", "")); err != nil {
		t.Fatal(err)
	}
	if got := kinds(b.rt.wait(t, "end", ended)); strings.Contains(got, "outlet") {
		t.Error(got)
	}
	if m := b.store.message("c1", "a1"); m.Text("content") != "Hi" || m.Get("originalContent") != nil {
		t.Errorf("%s", m)
	}
}

func TestInletRefuses(t *testing.T) {
	limit := &web.Error{Status: http.StatusTooManyRequests, Detail: "Rate limit of 3 questions reached.", Header: http.Header{"Retry-After": {"20"}}}
	b := newBench(t, streamed(finished))
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"with words", limit, "Rate limit of 3 questions reached."},
		{"without words", &web.Error{Status: 429, Header: http.Header{"Retry-After": {"20"}}}, "Too Many Requests. Try again in 20 seconds."},
		{"with an object", web.Fail(429, map[string]any{"error": map[string]any{"message": "slow down"}}), "slow down"},
		{"any error", errors.New("not that word"), "not that word"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.filter(filtertest.Filter{OnInlet: func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) { return nil, tt.err }})
			if _, err := b.run(asked("c1", "hello", "")); err != nil {
				t.Fatal(err)
			}
			events := b.rt.wait(t, "end", ended)
			shown := ofKind(events, "chat:message:error")
			if len(shown) != 1 || shown[0].Text("error", "content") != tt.want {
				t.Errorf("shown %s", shown)
			}
			if m := b.store.message("c1", "a1"); m.Text("error", "content") != tt.want || !m.Bool("done") {
				t.Errorf("stored %s", m)
			}
			if len(b.asked) != 0 {
				t.Error("the model was asked")
			}
		})
	}
	for name, body := range map[string]string{
		"program":        `{"model":"m","messages":[{"role":"user","content":"x"}]}`,
		"program's chat": `{"model":"m","chat_id":"c1","id":"a1","messages":[],"user_message":{"id":"q1","role":"user","content":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			b.filter(filtertest.Filter{OnInlet: func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) { return nil, limit }})
			_, err := b.run(body)
			var e *web.Error
			if !errors.As(err, &e) || e.Status != 429 || e.Header.Get("Retry-After") != "20" || e.Detail != limit.Detail {
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestStreamFilters(t *testing.T) {
	text := func(c []byte) string { return jsondoc.Doc(c).Text("choices", "0", "delta", "content") }
	tests := []struct {
		name  string
		chunk func(context.Context, []byte) ([][]byte, error)
		want  string // content
		fails string
	}{
		{"dropped", func(_ context.Context, c []byte) ([][]byte, error) {
			if text(c) == "bad " {
				return nil, nil
			}
			return [][]byte{c}, nil
		}, "one two", ""},
		{"doubled", func(_ context.Context, c []byte) ([][]byte, error) { return [][]byte{c, c}, nil }, "one one bad bad twotwo", ""},
		{"changed", func(_ context.Context, c []byte) ([][]byte, error) {
			return [][]byte{[]byte(strings.ReplaceAll(string(c), "bad", "good"))}, nil
		}, "one good two", ""},
		{"error", func(_ context.Context, c []byte) ([][]byte, error) {
			if text(c) == "bad " {
				return nil, web.Fail(400, "that may not be said")
			}
			return [][]byte{c}, nil
		}, "one", "that may not be said"},
		{"panic", func(_ context.Context, c []byte) ([][]byte, error) {
			if text(c) == "bad " {
				panic("secret")
			}
			return [][]byte{c}, nil
		}, "one", "A filter failed"},
	}
	b := newBench(t, streamed(delta(`{"content":"one "}`), delta(`{"content":"bad "}`), delta(`{"content":"two"}`), finished))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			closed := make(chan bool, 2)
			b.filter(filtertest.Filter{OnChunk: tt.chunk, Closed: func() error { closed <- true; return nil }})
			if _, err := b.run(asked("c1", "hello", "")); err != nil {
				t.Fatal(err)
			}
			b.rt.wait(t, "end", ended)
			m := b.store.message("c1", "a1")
			if m.Text("content") != tt.want || m.Text("error", "content", "message") != tt.fails || !m.Bool("done") {
				t.Errorf("%s", m)
			}
			if len(closed) != 1 {
				t.Errorf("closed %d times", len(closed))
			}
		})
		t.Run(tt.name+" to a program", func(t *testing.T) {
			b.filter(filtertest.Filter{OnChunk: tt.chunk})
			res, err := b.run(`{"model":"m","stream":true,"messages":[]}`)
			if err != nil {
				t.Fatal(err)
			}
			var got, failed string
			for c, err := range res.Response.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				got += c.Content
				failed += jsondoc.Doc(c.Error).Text("message")
			}
			if strings.TrimSpace(got) != tt.want || failed != tt.fails {
				t.Errorf("%q %q", got, failed)
			}
		})
	}
}

// TestUnlookedStream holds that a program's stream which no filter looks at is passed on byte by byte.
func TestUnlookedStream(t *testing.T) {
	b, _ := filtered(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": comment\n\nevent: x\ndata: {\"a\": 1}\n\ndata: [DONE]\n\n")
	}, filtertest.Filter{OnInlet: lastContent(suffix("!"))})
	res, err := b.run(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := res.Response.CopyTo(&out, nil); err != nil || !strings.HasPrefix(out.String(), ": comment\n\nevent: x\ndata: {\"a\": 1}\n\n") {
		t.Errorf("%q %v", out.String(), err)
	}
}

func whole(content string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"`+content+`"},"finish_reason":"stop"}],"usage":{"total_tokens":3}}`)
	}
}

func TestOutletOfWholeAnswers(t *testing.T) {
	seen := filtertest.Filter{OnOutlet: lastContent(suffix(" [seen]"))}
	const inChat = `{"model":"m","chat_id":"c1","id":"a1","messages":[],"user_message":{"id":"q1","role":"user","content":"x"}}`
	b := newBench(t, whole("Hi"))
	t.Run("to a program", func(t *testing.T) {
		b.filter(seen)
		res, err := b.run(`{"model":"m","messages":[{"role":"user","content":"x"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		if got := jsondoc.Doc(res.Response.JSON()); got.Text("choices", "0", "message", "content") != "Hi [seen]" || got.Text("id") != "c" {
			t.Errorf("%s", got)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		b.filter(seen)
		env := *b.Env
		env.Chat.APIOutlets = false
		defer func(on *config.Env) { b.Env = on }(b.Env)
		b.Env = &env
		res, err := b.run(`{"model":"m","messages":[]}`)
		if err != nil || jsondoc.Doc(res.Response.JSON()).Text("choices", "0", "message", "content") != "Hi" {
			t.Errorf("%v %v", res, err)
		}
	})
	t.Run("to a program's chat", func(t *testing.T) {
		b.filter(seen)
		res, err := b.run(inChat)
		if err != nil || res.Body.Text("choices", "0", "message", "content") != "Hi [seen]" {
			t.Errorf("%s %v", res.Body, err)
		}
		if m := b.store.message("c1", "a1"); m.Text("content") != "Hi [seen]" || m.Text("originalContent") != "Hi" {
			t.Errorf("%s", m)
		}
	})
	t.Run("failing", func(t *testing.T) {
		b.filter(filtertest.Filter{OnOutlet: func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) { panic("no") }})
		res, err := b.run(inChat)
		if err != nil || res.Body.Text("choices", "0", "message", "content") != "Hi" {
			t.Errorf("%s %v", res.Body, err)
		}
		if m := b.store.message("c1", "a1"); m.Text("content") != "Hi" || m.Get("originalContent") != nil {
			t.Errorf("%s", m)
		}
	})
}

// TestOutletOfTemporaryChat holds that an answer which is stored nowhere has its outlet too.
func TestOutletOfTemporaryChat(t *testing.T) {
	b, _ := filtered(t, streamed(delta(`{"content":"Hi"}`), finished), filtertest.Filter{OnOutlet: lastContent(suffix("!"))})
	if _, err := b.run(asked("temporary:s1", "hello", `,"messages":[{"role":"user","content":"hello"}]`)); err != nil {
		t.Fatal(err)
	}
	shown := ofKind(b.rt.wait(t, "end", ended), "chat:outlet")
	if len(shown) != 1 || shown[0].Text("messages", "1", "content") != "Hi!" || shown[0].Text("messages", "1", "id") != "a1" || shown[0].Text("messages", "0", "content") != "hello" {
		t.Errorf("%s", shown)
	}
}

// TestOutletChangesOutput holds that changed output items are stored, and only then.
func TestOutletChangesOutput(t *testing.T) {
	for change, want := range map[string]string{`[{"type":"message","content":[{"type":"output_text","text":"New"}]}]`: "New", ``: "Hi"} {
		b, _ := filtered(t, streamed(delta(`{"content":"Hi"}`), finished), filtertest.Filter{OnOutlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
			ms := body.Get("messages").List()
			if change != "" {
				ms[1] = ms[1].Set(jsondoc.Doc(change), "output").Delete("content")
			}
			return body.Set(jsondoc.Array(ms...), "messages"), nil
		}})
		if _, err := b.run(asked("c1", "hello", "")); err != nil {
			t.Fatal(err)
		}
		b.rt.wait(t, "end", ended)
		m := b.store.message("c1", "a1")
		if m.Text("output", "0", "content", "0", "text") != want || m.Text("content") != want || (change != "") != (m.Text("originalContent") == "Hi") {
			t.Errorf("%s", m)
		}
	}
}

// TestReroute holds that a filter can have another model answer, if the caller may use that.
func TestReroute(t *testing.T) {
	to := func(id string) filtertest.Filter {
		return filtertest.Filter{OnInlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
			return body.Set(jsondoc.Text(id), "model"), nil
		}}
	}
	b, _ := filtered(t, whole("Hi"), to("m2"))
	if _, err := b.run(`{"model":"m","messages":[]}`); err != nil {
		t.Fatal(err)
	}
	if sent := <-b.asked; sent.Text("model") != "m2" {
		t.Errorf("%s", sent)
	}
	b.Filters = &filtertest.Set{Filters: []filtertest.Filter{to("gone")}}
	if _, err := b.run(`{"model":"m","messages":[]}`); !errors.Is(err, errNoModel) {
		t.Errorf("unknown: %v", err)
	}
	b.Filters = &filtertest.Set{Filters: []filtertest.Filter{to("m2")}}
	b.Models = grants{b.Models, "m"}
	ann := &auth.Principal{User: &users.User{ID: "u1", Name: "Ann", Role: "user"}}
	_, err := b.Run(context.Background(), Request{Principal: ann, Caller: &llm.Caller{ID: "u1"}, Body: jsondoc.Doc(`{"model":"m","messages":[]}`)})
	if !errors.Is(err, errNoModel) || len(b.asked) != 0 {
		t.Errorf("not granted: %v", err)
	}
}

// grants lets everybody use one model, and nobody another.
type grants struct {
	models.Finder
	id string
}

func (g grants) Access(_ context.Context, _ *auth.Principal, m *models.Model) error {
	if m.ID == g.id {
		return nil
	}
	return models.ErrNotFound
}

// TestStoppedInFilter holds that a turn can be stopped while a filter works.
func TestStoppedInFilter(t *testing.T) {
	working := make(chan bool, 1)
	b, _ := filtered(t, streamed(finished), filtertest.Filter{OnInlet: func(ctx context.Context, _ jsondoc.Doc) (jsondoc.Doc, error) {
		working <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	res, err := b.run(asked("c1", "hello", ""))
	if err != nil {
		t.Fatal(err)
	}
	<-working
	b.Stop(context.Background(), res.Body.Text("task_ids", "0"))
	events := b.rt.wait(t, "end", ended)
	if len(ofKind(events, "chat:tasks:cancel")) == 0 || len(ofKind(events, "chat:message:error")) != 0 || b.InFlight() != 0 {
		t.Error(kinds(events))
	}
}

// TestGoneInFilter holds that a program which goes ends the filter's work.
func TestGoneInFilter(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	b, _ := filtered(t, whole("Hi"), filtertest.Filter{OnInlet: func(ctx context.Context, _ jsondoc.Doc) (jsondoc.Doc, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	_, err := b.Run(ctx, Request{Principal: b.admin, Caller: &llm.Caller{ID: "u1"}, Body: jsondoc.Doc(`{"model":"m","messages":[]}`)})
	if !errors.Is(err, context.Canceled) || errors.As(err, new(*web.Error)) || len(b.asked) != 0 {
		t.Errorf("%v", err)
	}
}

// TestFilterEvents holds that filters can tell the caller's browser something.
func TestFilterEvents(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":"Hi"}`), finished))
	b.store.add("c1", "u1")
	b.Filters = emitting{}
	if _, err := b.run(asked("c1", "hello", "")); err != nil {
		t.Fatal(err)
	}
	events := b.rt.wait(t, "end", ended)
	if got := ofKind(events, "status"); len(got) != 1 || got[0].Text("description") != "checking" {
		t.Errorf("%s", kinds(events))
	}
	if _, err := b.run(`{"model":"m","messages":[]}`); err != nil {
		t.Error(err)
	}
}

// emitting tells of every call that has a message.
type emitting struct{}

func (emitting) For(c *filter.Call) filter.Chain {
	if c.Emit != nil {
		c.Emit("status", jsondoc.Doc(`{"description":"checking"}`))
	}
	return nil
}

// TestFiltersAndTools holds that an answer in several rounds has one inlet and one outlet, that each round's stream is
// filtered, and that no tool runs for an answer which a filter has ended.
func TestFiltersAndTools(t *testing.T) {
	for _, forbidden := range []bool{false, true} {
		ran, inlets, outlets := 0, 0, 0
		add := tool("add", func(ctx context.Context, c ToolCall) (ToolResult, error) {
			ran++
			return echo(ctx, c)
		})
		b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", `{"a":1}`)), says("bad end")), add)
		b.filter(filtertest.Filter{
			OnInlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) { inlets++; return body, nil },
			OnChunk: func(_ context.Context, c []byte) ([][]byte, error) {
				if forbidden && jsondoc.Doc(c).Text("choices", "0", "finish_reason") == "tool_calls" {
					return nil, errors.New("no tools for you")
				}
				return [][]byte{[]byte(strings.ReplaceAll(string(c), "bad", "good"))}, nil
			},
			OnOutlet: func(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) { outlets++; return body, nil },
		})
		m := b.ask(t, asking(""))
		want, wantRan := "good end", 1
		if forbidden {
			want, wantRan = "", 0
		}
		if m.Text("content") != want || ran != wantRan || inlets != 1 || outlets != 1 || forbidden != (m.Text("error", "content", "message") == "no tools for you") {
			t.Errorf("%s: %d calls, %d inlets, %d outlets", m, ran, inlets, outlets)
		}
	}
}
