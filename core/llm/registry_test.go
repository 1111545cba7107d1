package llm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func model(id string) Model { return Model{ID: id, Upstream: id, Entry: []byte(`{"id":"` + id + `"}`)} }

func ids(models []Model) string {
	var out []string
	for _, m := range models {
		out = append(out, m.ID)
	}
	return strings.Join(out, " ")
}

// fakes is a Backend whose providers answer with what the test puts under their connection's URL.
type fakes struct {
	mu    sync.Mutex
	lists map[string]func(context.Context) ([]Model, error)
	asked map[string]int
	made  int
}

func newFakes() *fakes {
	return &fakes{lists: map[string]func(context.Context) ([]Model, error){}, asked: map[string]int{}}
}

func (f *fakes) set(url string, list func(context.Context) ([]Model, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists[url] = list
}

func (f *fakes) times(url string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[url]
}

func (f *fakes) backend() Backend {
	return Backend{New: func(c Connection, _ *Client) Provider {
		f.made++
		return &fake{id: c.ID(), models: func(ctx context.Context) ([]Model, error) {
			f.mu.Lock()
			f.asked[c.URL]++
			list := f.lists[c.URL]
			f.mu.Unlock()
			return list(ctx)
		}}
	}}
}

func conns(kind Kind, urls ...string) (out []Connection) {
	for i, u := range urls {
		out = append(out, Connection{Kind: kind, Index: i, URL: u, Config: ParseConfig(kind, nil)})
	}
	return out
}

func quick(f *fakes, o Options) *Registry {
	o.Backends = map[Kind]Backend{KindOpenAI: f.backend(), KindOllama: f.backend()}
	return New(o)
}

func failing(context.Context) ([]Model, error) { return nil, errors.New("refused") }

// stuck never answers before its context ends.
func stuck(ctx context.Context) ([]Model, error) { <-ctx.Done(); return nil, ctx.Err() }

func TestListing(t *testing.T) {
	f := newFakes()
	f.set("a", fixed(model("m1"), model("both")))
	f.set("b", fixed(model("m2"), model("m1")))
	f.set("dead", failing)
	f.set("o", fixed(model("l1"), model("both")))
	r := quick(f, Options{})
	r.Configure(append(conns(KindOpenAI, "a", "b", "dead"), conns(KindOllama, "o")...))
	if err := r.Register(&fake{id: "plug", models: fixed(model("p1"), model("m1"))}); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(&fake{id: "plug"}); err == nil {
		t.Error("the same id was registered twice")
	}
	if err := r.Register(&fake{id: "panics", models: func(context.Context) ([]Model, error) { panic("x") }}); err != nil {
		t.Fatal(err)
	}
	if got := ids(r.Cached()); got != "" {
		t.Errorf("cached before the first listing: %s", got)
	}
	if got := ids(r.Models(t.Context(), nil)); got != "m1 both m2 l1 both p1" || ids(r.Cached()) != got {
		t.Errorf("all: %s", got)
	}
	if got := ids(r.ModelsOf(t.Context(), KindOpenAI, nil)); got != "m1 both m2" {
		t.Errorf("openai: %s", got)
	}
	for _, tt := range []struct {
		kind     Kind
		id, want string
	}{
		{"", "m1", "openai/0 openai/1"}, {"", "m2", "openai/1"}, {"", "both", "ollama/0"}, {KindOpenAI, "both", "openai/0"},
		{"", "p1", "plug"}, {KindOllama, "l1", "ollama/0"}, {KindOpenAI, "l1", ""}, {KindOllama, "m1", ""}, {"", "none", ""},
	} {
		got, err := r.ResolveOf(t.Context(), tt.kind, nil, tt.id)
		if tt.want == "" {
			var nf *ModelNotFoundError
			if !errors.Is(err, ErrModelNotFound) || !errors.As(err, &nf) || nf.ID != tt.id {
				t.Errorf("%s %s: %v", tt.kind, tt.id, err)
			}
		} else if err != nil || !slices.Contains(strings.Fields(tt.want), got.Provider.ID()) {
			t.Errorf("%s %s: %v, %v", tt.kind, tt.id, got.Provider, err)
		}
	}
	if !r.Unregister("plug") || r.Unregister("plug") || r.Unregister("openai/0") {
		t.Error("Unregister")
	}
	if got := ids(r.Models(t.Context(), nil)); got != "m1 both m2 l1 both" {
		t.Errorf("after Unregister: %s", got)
	}
}

func TestDeadConnectionDelaysNobody(t *testing.T) {
	f := newFakes()
	f.set("a", fixed(model("m1")))
	f.set("dead", stuck)
	r := quick(f, Options{Patience: 100 * time.Millisecond, CacheTTL: time.Nanosecond, Client: NewClient(ClientOptions{ListTimeout: 10 * time.Second})})
	r.Configure(conns(KindOpenAI, "a", "dead"))
	begin := time.Now()
	for i := range 50 {
		if got := ids(r.Models(t.Context(), nil)); got != "m1" {
			t.Fatalf("round %d: %s", i, got)
		}
	}
	if d := time.Since(begin); d > 2*time.Second { // the patience once, not 50 times
		t.Errorf("50 lists took %v", d)
	}
	if n := f.times("dead"); n != 1 {
		t.Errorf("the dead one was asked %d times", n)
	}
}

func TestSlowConnectionKeepsItsLastList(t *testing.T) {
	f := newFakes()
	f.set("a", fixed(model("old")))
	r := quick(f, Options{Patience: 200 * time.Millisecond, CacheTTL: time.Nanosecond})
	r.Configure(conns(KindOpenAI, "a"))
	if got := ids(r.Models(t.Context(), nil)); got != "old" {
		t.Fatal(got)
	}
	release := make(chan struct{})
	f.set("a", func(context.Context) ([]Model, error) { <-release; return []Model{model("new")}, nil })
	if got := ids(r.Models(t.Context(), nil)); got != "old" {
		t.Errorf("while slow: %q", got)
	}
	close(release)
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, ok := r.Lookup("new"); ok { // no call of Models needed: it came in the background
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the late list never arrived")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFailedConnectionIsNotListedButResolves(t *testing.T) {
	f := newFakes()
	f.set("a", fixed(model("m1")))
	r := quick(f, Options{CacheTTL: time.Nanosecond})
	r.Configure(conns(KindOpenAI, "a"))
	r.Models(t.Context(), nil)
	f.set("a", failing)
	if got := ids(r.Models(t.Context(), nil)); got != "" {
		t.Errorf("listed: %s", got)
	}
	if _, err := r.Resolve(t.Context(), nil, "m1"); err != nil {
		t.Errorf("a running chat must still find its model: %v", err)
	}
	f.set("a", fixed(model("m2")))
	if got := ids(r.Models(t.Context(), nil)); got != "m2" {
		t.Errorf("back: %s", got)
	}
	if _, err := r.Resolve(t.Context(), nil, "m1"); !errors.Is(err, ErrModelNotFound) {
		t.Errorf("gone model: %v", err)
	}
}

func TestCacheAndSingleFlight(t *testing.T) {
	f := newFakes()
	release := make(chan struct{})
	var running atomic.Int32
	f.set("a", func(context.Context) ([]Model, error) {
		if running.Add(1) > 1 {
			t.Error("two requests at once")
		}
		<-release
		running.Add(-1)
		return []Model{model("m1")}, nil
	})
	r := quick(f, Options{CacheTTL: time.Hour, Patience: 10 * time.Second})
	r.Configure(conns(KindOpenAI, "a"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := ids(r.Models(context.Background(), nil)); got != "m1" {
				t.Errorf("got %q", got)
			}
		})
	}
	for f.times("a") == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := f.times("a"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	f.set("a", fixed(model("m1"), model("m2")))
	if got := ids(r.Models(t.Context(), nil)); got != "m1" {
		t.Errorf("not cached: %s", got)
	}
	if _, err := r.Resolve(t.Context(), nil, "m2"); err == nil {
		t.Error("a fresh cache was passed by")
	}
	r.Refresh()
	if _, err := r.Resolve(t.Context(), nil, "m2"); err != nil {
		t.Errorf("after Refresh: %v", err)
	}
}

func TestConfigure(t *testing.T) {
	f := newFakes()
	for _, u := range []string{"a", "b", "c"} {
		f.set(u, fixed(model("m-"+u)))
	}
	r := quick(f, Options{CacheTTL: time.Hour})
	r.Configure(conns(KindOpenAI, "a", "b"))
	if got := ids(r.Models(t.Context(), nil)); got != "m-a m-b" {
		t.Fatal(got)
	}
	f.set("a", fixed(model("m-a2")))
	r.Configure(conns(KindOpenAI, "a", "c"))
	if f.made != 3 {
		t.Errorf("%d providers made, the unchanged one should stay", f.made)
	}
	if _, ok := r.Lookup("m-a"); !ok {
		t.Error("the unchanged connection forgot its models")
	}
	if _, ok := r.Lookup("m-b"); ok {
		t.Error("the removed connection's model is still there")
	}
	if got := ids(r.Models(t.Context(), nil)); got != "m-a2 m-c" {
		t.Errorf("after the change: %s", got)
	}
	off := conns(KindOpenAI, "a")
	off[0].Config = ParseConfig(KindOpenAI, []byte(`{"enable":false}`))
	r.Configure(off)
	if got := ids(r.Models(t.Context(), nil)); got != "" {
		t.Errorf("switched off: %s", got)
	}
	if _, err := r.Resolve(t.Context(), nil, "m-a2"); err == nil {
		t.Error("a switched-off connection resolves")
	}
	r.Configure([]Connection{{Kind: "smoke"}})
	if got := ids(r.Models(t.Context(), nil)); got != "" {
		t.Errorf("unknown kind: %s", got)
	}
}

func TestPrefixAndUpstream(t *testing.T) {
	f := newFakes()
	f.set("a", fixed(Model{ID: "far.m", Upstream: "m"}))
	cs := conns(KindOpenAI, "x", "a")
	f.set("x", fixed(model("m")))
	cs[1].Config = ParseConfig(KindOpenAI, []byte(`{"prefix_id":"far"}`))
	r := quick(f, Options{})
	r.Configure(cs)
	for id, want := range map[string]string{"m": "openai/0 m 0", "far.m": "openai/1 m 1"} {
		got, err := r.Resolve(t.Context(), nil, id)
		if s := fmt.Sprint(got.Provider.ID(), " ", got.Upstream, " ", got.Index); err != nil || s != want {
			t.Errorf("%s: %s, %v", id, s, err)
		}
	}
}

func TestResolveContext(t *testing.T) {
	f := newFakes()
	f.set("a", stuck)
	r := quick(f, Options{Client: NewClient(ClientOptions{ListTimeout: time.Second})})
	r.Configure(conns(KindOpenAI, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, nil, "m"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkResolve(b *testing.B) {
	var list []Model
	for i := range 500 {
		list = append(list, model(fmt.Sprint("m", i)))
	}
	f := newFakes()
	f.set("a", fixed(list...))
	r := quick(f, Options{CacheTTL: time.Hour})
	r.Configure(conns(KindOpenAI, "a"))
	r.Models(context.Background(), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Resolve(context.Background(), nil, "m321"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPut holds that a provider that takes another's place has models for chats before anybody lists them.
func TestPut(t *testing.T) {
	r := quick(newFakes(), Options{})
	check := func(when, id, want string) {
		t.Helper()
		if got := ids(r.Cached()); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
		if got, ok := r.Lookup(id); !ok || got.Provider.ID() != "b" {
			t.Errorf("%s: %s is %v, %v", when, id, got, ok)
		}
	}
	for _, p := range []string{"c", "a"} {
		if err := r.Register(&fake{id: p, models: fixed(model("of-" + p))}); err != nil {
			t.Fatal(err)
		}
	}
	r.Put(&fake{id: "b", models: fixed(model("now"))}, []Model{model("first")})
	check("put", "first", "first")
	if got := ids(r.Models(t.Context(), nil)); got != "of-a now of-c" {
		t.Errorf("listed: %s", got)
	}
	check("asked", "now", "of-a now of-c")
	next := &fake{id: "b", models: fixed(model("later"))}
	r.Put(next, nil)
	check("of the one before", "now", "of-a now of-c")
	if got, _ := r.Lookup("now"); got.Provider != Provider(next) {
		t.Error("the one before goes on")
	}
	r.Put(next, []Model{model("known")})
	check("replaced", "known", "of-a known of-c")
	if got := ids(r.Models(t.Context(), nil)); got != "of-a later of-c" {
		t.Errorf("listed again: %s", got)
	}
	if err := r.Register(next); err == nil {
		t.Error("registered twice")
	}
}
