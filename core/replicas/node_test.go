package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/replicas/replicastest"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func values(n *replicas.Node, kind, key string) string {
	var out []string
	for _, v := range n.Values(kind, key) {
		out = append(out, string(v))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestEntries(t *testing.T) {
	var net replicastest.Network
	var mu sync.Mutex
	changes := map[string]int{}
	a := net.NewNode(t, func(n *replicas.Node) {
		n.Listen("k", func(key string) {
			mu.Lock()
			defer mu.Unlock()
			changes[key]++
		})
	})
	b, c := net.NewNode(t, nil), net.NewNode(t, nil)
	b.Set("k", "x", []byte("1"))
	b.Set("k", "x", []byte("1"))
	c.Set("k", "x", []byte("2"))
	c.Set("other", "x", nil)
	eventually(t, "the others' values", func() bool { return values(a, "k", "x") == "1 2" && a.Has("other", "x") })
	if a.Has("k", "y") || b.Has("k", "z") || len(a.Holders("k", "x")) != 2 {
		t.Errorf("holders %v", a.Holders("k", "x"))
	}
	var all []string
	a.Each("k", func(_, key string, value []byte) { all = append(all, key+string(value)) })
	if slices.Sort(all); fmt.Sprint(all) != "[x1 x2]" {
		t.Errorf("all: %v", all)
	}
	b.Set("k", "x", []byte("3"))
	eventually(t, "a new value", func() bool { return values(a, "k", "x") == "2 3" })
	c.Delete("k", "x")
	c.Delete("k", "never")
	eventually(t, "one value less", func() bool { return values(a, "k", "x") == "3" && values(b, "k", "x") == "" })
	mu.Lock()
	if changes["x"] != 4 {
		t.Errorf("told of %v", changes)
	}
	mu.Unlock()

	late := net.NewNode(t, nil)
	eventually(t, "what was there before", func() bool { return values(late, "k", "x") == "3" && late.Has("other", "x") })

	// what is lost is asked for again
	net.Cut(true)
	b.Set("k", "x", []byte("lost"))
	b.Set("k", "y", []byte("too"))
	c.Delete("other", "x")
	net.Cut(false)
	b.Set("k", "z", nil)
	eventually(t, "what was lost", func() bool { return values(a, "k", "x") == "lost" && values(a, "k", "y") == "too" && a.Has("k", "z") })
	eventually(t, "what was lost, by the heartbeat", func() bool { return !a.Has("other", "x") })

	// one that is silent is gone, until it is heard of again
	lost := make(chan string, 10)
	d := net.NewNode(t, func(n *replicas.Node) { n.Lost("k", func(key string, value []byte) { lost <- key + string(value) }) })
	eventually(t, "who is there", func() bool { return d.Has("k", "x") && d.Others() == 4 })
	net.Cut(true)
	eventually(t, "nobody is there", func() bool { return d.Others() == 0 && a.Others() == 0 })
	got := []string{<-lost, <-lost, <-lost}
	if slices.Sort(got); fmt.Sprint(got) != "[xlost ytoo z]" {
		t.Errorf("lost %v", got)
	}
	net.Cut(false)
	eventually(t, "all are back", func() bool { return d.Others() == 4 && d.Has("k", "x") && a.Has("k", "z") })

	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing of one that has left", func() bool { return !a.Has("k", "x") && !late.Has("k", "z") })
	b.Set("k", "x", nil)
	if b.Others() != 0 || len(lost) != 0 {
		t.Errorf("one that has left knows of %d others, %d entries are lost", b.Others(), len(lost))
	}
}

func TestCalls(t *testing.T) {
	var net replicastest.Network
	a := net.NewNode(t, nil)
	told, cancelled := make(chan string, 10), make(chan struct{})
	b := net.NewNode(t, func(n *replicas.Node) {
		n.Handle("double", func(_ context.Context, _ string, body []byte) ([]byte, error) { return append(body, body...), nil })
		n.Handle("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("not today") })
		n.Handle("panic", func(context.Context, string, []byte) ([]byte, error) { panic("x") })
		n.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			told <- "waits"
			<-ctx.Done()
			cancelled <- struct{}{}
			return nil, ctx.Err()
		})
		n.Handle("note", func(_ context.Context, _ string, body []byte) ([]byte, error) {
			told <- string(body)
			return nil, nil
		})
	})
	b.Set("b", "", nil)
	eventually(t, "the other", func() bool { return a.Has("b", "") })
	id := a.Holders("b", "")[0]
	ctx := t.Context()
	if out, err := a.Call(ctx, id, "double", []byte("xy")); string(out) != "xyxy" || err != nil {
		t.Errorf("%s, %v", out, err)
	}
	for method, want := range map[string]string{"fail": "not today", "panic": "panicked", "unknown": "another version"} {
		if _, err := a.Call(ctx, id, method, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", method, err)
		}
	}
	for i := range 5 {
		a.Tell([]string{id, ""}[i%2], "note", fmt.Append(nil, i))
	}
	for i := range 5 {
		if got := <-told; got != fmt.Sprint(i) {
			t.Errorf("told %s, want %d", got, i)
		}
	}
	if _, err := a.Call(ctx, "nobody", "double", nil); !errors.Is(err, replicas.ErrGone) {
		t.Errorf("nobody: %v", err)
	}
	short, cancel := context.WithCancel(ctx)
	go func() {
		<-told
		cancel()
	}()
	if _, err := a.Call(short, id, "wait", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	<-cancelled
	go func() {
		<-told
		_ = b.Stop(ctx)
	}()
	if _, err := a.Call(ctx, id, "wait", nil); !errors.Is(err, replicas.ErrGone) {
		t.Errorf("one that leaves: %v", err)
	}
	<-cancelled
}

// TestAlone is of a process without others.
func TestAlone(t *testing.T) {
	var n *replicas.Node
	n.Set("k", "x", nil)
	n.Delete("k", "x")
	n.Tell("", "m", nil)
	n.Handle("m", nil)
	n.Listen("k", nil)
	n.Each("k", nil)
	if _, err := n.Call(t.Context(), "", "m", nil); n.Has("k", "x") || n.Values("k", "x") != nil || !errors.Is(err, replicas.ErrGone) {
		t.Error(err)
	}
}

func TestJoin(t *testing.T) {
	for _, parts := range [][]string{nil, {""}, {"a", "", "b\nc"}, {strings.Repeat("x", 1000)}} {
		got := replicas.Split(replicas.Join(parts...))
		if len(got) != len(parts) {
			t.Errorf("%q: %q", parts, got)
		}
		for i := range got {
			if string(got[i]) != parts[i] {
				t.Errorf("%q: %q", parts, got)
			}
		}
	}
	for _, bad := range []string{"\x05ab", "\xff"} {
		if got := replicas.Split([]byte(bad)); got != nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
