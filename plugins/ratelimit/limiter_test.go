package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

// rig is the plugin with a clock of the test's.
type rig struct {
	*plugintest.Harness
	t     *testing.T
	clock *atomic.Int64 // Unix milliseconds
	n     *atomic.Int64 // of the message
}

func start(t *testing.T, settings map[string]any) *rig {
	t.Helper()
	r := &rig{t: t, clock: &atomic.Int64{}, n: &atomic.Int64{}}
	r.clock.Store(time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC).UnixMilli())
	l := newLimiter()
	l.now = func() time.Time { return time.UnixMilli(r.clock.Load()) }
	r.Harness = plugintest.Start(t, l.plugin(), plugintest.Config(settings))
	return r
}

// by is the plugin seen by a call of somebody's for one message.
func (r *rig) by(c sdk.Caller, change ...func(*sdk.Meta)) *plugintest.Harness {
	m := sdk.Meta{Caller: c, RequestID: "r", ChatID: "c", MessageID: "m" + strconv.FormatInt(r.n.Add(1), 10), Kind: "chat", Model: "gpt"}
	for _, f := range change {
		f(&m)
	}
	return r.With(m)
}

func (r *rig) advance(d time.Duration) { r.clock.Add(d.Milliseconds()) }

var question = map[string]any{"model": "gpt", "messages": []sdk.Message{sdk.UserMessage("0123456789abcdef")}} // 4 tokens

// ask sends a question and gives the status that it is refused with, 0 for none.
func ask(h *plugintest.Harness) (status int, r *sdk.Refusal) {
	_, err := h.Inlet(question)
	if err == nil {
		return 0, nil
	}
	if r = sdk.RefusalFrom(err); r == nil {
		return -1, nil
	}
	return r.Status, r
}

func (r *rig) expect(h *plugintest.Harness, want ...int) {
	r.t.Helper()
	for i, w := range want {
		if got, _ := ask(h); got != w {
			r.t.Errorf("request %d: %d, want %d", i+1, got, w)
		}
	}
}

// until waits for what happens after an answer.
func (r *rig) until(h *plugintest.Harness, want int) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got, _ := ask(h); got == want {
			return
		}
	}
	r.t.Fatalf("never %d", want)
}

func TestRequests(t *testing.T) {
	r := start(t, map[string]any{"requests_per_minute": 2, "requests_per_hour": 3})
	ann, bob := sdk.Caller{ID: "ann", Role: "user"}, sdk.Caller{ID: "bob", Role: "user"}
	r.expect(r.by(ann), 0, 0, 429, 429)
	r.expect(r.by(bob), 0) // has a limit of his own
	_, refused := ask(r.by(ann))
	if refused.Headers["Retry-After"] != "52" || refused.Detail != "The limit of 2 requests per minute is reached. Try again in 52 seconds." {
		t.Errorf("%+v", refused)
	}
	r.advance(50 * time.Second)
	r.expect(r.by(ann), 429)
	r.advance(time.Second) // a new minute; the refused requests have not used up the hour
	r.expect(r.by(ann), 0, 429)
	_, refused = ask(r.by(ann))
	if refused.Headers["Retry-After"] != "3061" {
		t.Errorf("%+v", refused)
	}
	r.advance(51 * time.Minute)
	r.expect(r.by(ann), 0)
	if wrong := r.Configure(map[string]any{"requests_per_minute": 5}); wrong != nil {
		t.Error(wrong)
	}
	r.expect(r.by(ann), 0, 0, 0, 0, 429)
}

func TestExempt(t *testing.T) {
	group := []sdk.Group{{ID: "g1", Name: "a=b"}}
	asTask := func(m *sdk.Meta) { m.Kind, m.Task = "task", "title_generation" }
	for name, c := range map[string]struct {
		settings map[string]any
		caller   sdk.Caller
		change   func(*sdk.Meta)
		limited  bool
	}{
		"limited":                 {map[string]any{}, plugintest.User, nil, true},
		"no limits":               {map[string]any{"requests_per_minute": 0}, plugintest.User, nil, false},
		"administrators":          {map[string]any{}, plugintest.Admin, nil, false},
		"administrators too":      {map[string]any{"exempt_admins": false}, plugintest.Admin, nil, true},
		"the server itself":       {map[string]any{}, sdk.Caller{}, nil, false},
		"tasks":                   {map[string]any{}, plugintest.User, asTask, false},
		"tasks too":               {map[string]any{"count_tasks": true}, plugintest.User, asTask, true},
		"another model":           {map[string]any{"models": []string{"claude", ""}}, plugintest.User, nil, false},
		"this model":              {map[string]any{"models": []string{"claude", "gpt"}}, plugintest.User, nil, true},
		"an empty form":           {map[string]any{"models": []string{""}, "group_tokens_per_day": []string{""}}, plugintest.User, nil, true},
		"a limited group":         {map[string]any{"requests_per_minute": 0, "group_requests_per_minute": []string{"a=b=1"}}, sdk.Caller{ID: "x", Groups: group}, nil, true},
		"another group":           {map[string]any{"requests_per_minute": 0, "group_requests_per_minute": []string{"other=1"}}, sdk.Caller{ID: "x", Groups: group}, nil, false},
		"a group without a limit": {map[string]any{"requests_per_minute": 0, "group_requests_per_minute": []string{"a=b=0"}}, sdk.Caller{ID: "x", Groups: group}, nil, false},
	} {
		settings := map[string]any{"requests_per_minute": 1}
		for k, v := range c.settings {
			settings[k] = v
		}
		r := start(t, settings)
		change := c.change
		if change == nil {
			change = func(*sdk.Meta) {}
		}
		h := r.by(c.caller, change)
		first, _ := ask(h)
		calls := r.HostCalls("kv")
		second, _ := ask(h)
		if first != 0 || (second == 429) != c.limited || !c.limited && second != 0 {
			t.Errorf("%s: %d, %d", name, first, second)
		}
		if want := map[bool]int{true: 1, false: 0}[c.limited]; calls != want {
			t.Errorf("%s: %d calls of the store for a request", name, calls)
		}
	}
}

func TestGroupsShare(t *testing.T) {
	r := start(t, map[string]any{"group_requests_per_minute": []string{"Staff=3"}})
	staff := []sdk.Group{{ID: "g", Name: "Staff"}}
	r.expect(r.by(sdk.Caller{ID: "ann", Groups: staff}), 0, 0)
	r.expect(r.by(sdk.Caller{ID: "bob", Groups: staff}), 0, 429)
	r.expect(r.by(sdk.Caller{ID: "cat"}), 0)
}

func TestTokens(t *testing.T) {
	usage := &sdk.Usage{PromptTokens: 30, CompletionTokens: 70, TotalTokens: 100}
	text := sdk.Chunk{Text: "0123456789abcdef0123456789abcdef"} // 8 tokens
	for name, c := range map[string]struct {
		stream []sdk.Chunk
		outlet map[string]any
		want   int64
	}{
		"usage":                 {[]sdk.Chunk{text, {FinishReason: "stop"}, {Usage: usage}}, nil, 100},
		"usage without a total": {[]sdk.Chunk{text, {Usage: &sdk.Usage{PromptTokens: 1, CompletionTokens: 2}}}, nil, 3},
		"the last usage":        {[]sdk.Chunk{{Usage: &sdk.Usage{TotalTokens: 1}}, text, {Usage: usage}}, nil, 100},
		"estimate":              {[]sdk.Chunk{text, {Reasoning: "0123"}, {ToolCalls: []sdk.ToolCallDelta{{Arguments: "0123"}}}}, nil, 4 + 8 + 1 + 1},
		"counted once":          {[]sdk.Chunk{text, {Usage: usage}}, map[string]any{"messages": []any{map[string]any{"role": "assistant", "content": "x", "usage": usage}}}, 100},
		"outlet, usage":         {nil, map[string]any{"messages": []any{map[string]any{"role": "assistant", "content": "x", "usage": usage}}}, 100},
		"outlet, other usage":   {nil, map[string]any{"messages": []any{}, "usage": usage}, 100},
		"outlet, estimate":      {nil, map[string]any{"messages": []any{map[string]any{"role": "assistant", "content": "01234567"}}}, 4 + 2},
	} {
		r := start(t, map[string]any{"tokens_per_day": 1000})
		h := r.by(plugintest.User)
		r.expect(h, 0)
		if c.stream != nil {
			out, err := h.Stream(c.stream...)
			if err != nil || len(out) != len(c.stream) {
				t.Errorf("%s: %d chunks, %v", name, len(out), err)
			}
		}
		if c.outlet != nil {
			if _, err := h.Outlet(c.outlet); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := h.Outlet(map[string]any{"messages": []any{}}); err != nil && c.stream != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := int64(0)
		for end := time.Now().Add(10 * time.Second); got != c.want && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = r.counters(t)
		}
		if got != c.want {
			t.Errorf("%s: %d tokens, want %d", name, got, c.want)
		}
	}
}

// counters is the sum of all counters.
func (r *rig) counters(t *testing.T) (sum int64) {
	t.Helper()
	for e, err := range r.Host().KV.List(t.Context(), "tokens/") {
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(string(e.Value), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestPromptsAreKeptApart has two requests under way at once that only one thing tells apart.
func TestPromptsAreKeptApart(t *testing.T) {
	long := map[string]any{"model": "gpt", "messages": []sdk.Message{sdk.UserMessage(strings.Repeat("x", 400))}} // 100 tokens
	for name, c := range map[string]struct {
		second sdk.Meta
		want   int64 // of the first: 4 of the question, 2 of the answer
	}{
		"messages":               {sdk.Meta{RequestID: "r", MessageID: "other"}, 6},
		"requests":               {sdk.Meta{RequestID: "other"}, 6},
		"a task of the message":  {sdk.Meta{RequestID: "r", MessageID: "m", Task: "title_generation"}, 6},
		"nothing tells it apart": {sdk.Meta{}, 6},
	} {
		r := start(t, map[string]any{"tokens_per_day": 1000, "count_tasks": true})
		first := r.With(sdk.Meta{Caller: plugintest.User, RequestID: "r", MessageID: "m", Model: "gpt"})
		c.second.Caller = plugintest.User
		if _, err := first.Inlet(question); err != nil {
			t.Fatal(err)
		}
		if _, err := r.With(c.second).Inlet(long); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Stream(sdk.Chunk{Text: "01234567"}); err != nil {
			t.Fatal(err)
		}
		got := int64(0)
		for end := time.Now().Add(10 * time.Second); got == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = r.counters(t)
		}
		if got != c.want {
			t.Errorf("%s: %d tokens, want %d", name, got, c.want)
		}
	}
	r := start(t, map[string]any{"tokens_per_day": 1000})
	nameless := r.With(sdk.Meta{Caller: plugintest.User})
	if _, err := nameless.Inlet(long); err != nil {
		t.Fatal(err)
	}
	if _, err := nameless.Stream(sdk.Chunk{Text: "01234567"}, sdk.Chunk{Usage: &sdk.Usage{TotalTokens: 50}}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); r.counters(t) != 50; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d tokens", r.counters(t))
		}
	}
}

func TestTokensRefuse(t *testing.T) {
	r := start(t, map[string]any{"tokens_per_minute": 10, "group_tokens_per_day": []string{"Staff=25"}})
	staff := sdk.Caller{ID: "ann", Groups: []sdk.Group{{ID: "g", Name: "Staff"}}}
	answer := func(h *plugintest.Harness) {
		t.Helper()
		r.expect(h, 0)
		if _, err := h.Stream(sdk.Chunk{Text: "x"}, sdk.Chunk{Usage: &sdk.Usage{TotalTokens: 12}}); err != nil {
			t.Error(err)
		}
	}
	answer(r.by(staff))
	r.until(r.by(staff), 429)
	r.advance(time.Minute)
	answer(r.by(staff))
	r.until(r.by(staff), 429)
	r.advance(time.Minute)
	answer(r.by(staff)) // 36 of 25
	r.advance(time.Minute)
	r.until(r.by(staff), 429)
	if _, refused := ask(r.by(staff)); refused == nil || refused.Detail != "The limit of 25 tokens per day is reached. Try again in "+refused.Headers["Retry-After"]+" seconds." {
		t.Errorf("%+v", refused)
	}
	// requests that only tokens limit leave no trace
	if n := r.counters(t); n != 36+36 {
		t.Errorf("%d tokens are counted", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	r := start(t, map[string]any{"requests_per_minute": 20, "requests_per_day": 50})
	var passed atomic.Int64
	var wait sync.WaitGroup
	for range 60 {
		wait.Go(func() {
			switch got, _ := ask(r.by(plugintest.User)); got {
			case 0:
				passed.Add(1)
			case 429:
			default:
				t.Errorf("answered %d", got)
			}
		})
	}
	wait.Wait()
	if passed.Load() != 20 {
		t.Errorf("%d passed", passed.Load())
	}
	for e, err := range r.Host().KV.List(t.Context(), "") {
		if err != nil || string(e.Value) != "20" || e.Expires.IsZero() {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	for mode, want := range map[string]int{"open": 0, "closed": 503} {
		r := start(t, map[string]any{"requests_per_minute": 1, "tokens_per_day": 1, "when_unavailable": mode})
		if state, _ := r.Check(); state != "ok" {
			t.Errorf("%s: %s", mode, state)
		}
		r.FailHost("kv", status.Error(codes.Unavailable, "gone"))
		r.expect(r.by(plugintest.User), want, want)
		if state, message := r.Check(); state != "degraded" || message == "" {
			t.Errorf("%s: %s %s", mode, state, message)
		}
		r.FailHost("kv", nil)
		r.advance(2 * time.Minute)
		r.expect(r.by(plugintest.User), 0, 429)
		if state, _ := r.Check(); state != "ok" {
			t.Errorf("%s: %s", mode, state)
		}
	}
}

func TestSettings(t *testing.T) {
	r := start(t, nil)
	for _, c := range []struct {
		settings map[string]any
		want     string
	}{
		{map[string]any{"requests_per_minute": -1}, "[{requests_per_minute must be at least 0}]"},
		{map[string]any{"when_unavailable": "ajar"}, "[{when_unavailable must be one of open, closed}]"},
		{map[string]any{"group_requests_per_minute": []string{"Staff"}}, `[{group_requests_per_minute "Staff" is not of the form name=number}]`},
		{map[string]any{"group_requests_per_minute": []string{"=5"}}, `[{group_requests_per_minute "=5" is not of the form name=number}]`},
		{map[string]any{"group_tokens_per_day": []string{"Staff=many"}}, `[{group_tokens_per_day "many" is no number of tokens}]`},
		{map[string]any{"group_tokens_per_day": []string{"A=1", " A = 2"}}, `[{group_tokens_per_day two limits of group "A"}]`},
		{map[string]any{"group_tokens_per_day": []string{"A=1"}, "group_requests_per_minute": []string{"A=1"}}, `[]`},
	} {
		if got := fmt.Sprint(r.Configure(c.settings)); got != c.want {
			t.Errorf("%v: %s", c.settings, got)
		}
	}
	if f := r.Describe().GetFilter(); !f.GetInlet() || !f.GetOutlet() || !f.GetStream() || !f.GetTasks() {
		t.Error(f)
	}
}

func TestPromptsAreForgotten(t *testing.T) {
	var p prompts
	now := time.Now()
	for i := range 100 {
		p.put(strconv.Itoa(i), 1, now.Add(time.Duration(i)*time.Minute))
	}
	if n := len(p.known); n > 70 {
		t.Errorf("%d are known", n)
	}
	if _, waiting := p.waiting("99"); !waiting {
		t.Error("the last one is forgotten")
	}
	if p.take("99"); func() bool { _, w := p.waiting("99"); return w }() {
		t.Error("it still waits")
	}
}
