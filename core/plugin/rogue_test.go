package plugin

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/sdk"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

func init() {
	testPlugins["rogue"] = func() { sdk.Serve(roguePlugin()) }
}

// roguePlugin does what plugins should not.
func roguePlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("GET /die", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("GET /header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 4<<20))
	})
	mux.HandleFunc("GET /garbage", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "this is not HTTP\r\n\r\n")
		_ = c.Close()
	})
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		for i := range n {
			slog.Info("a line of some length that says nothing", "i", i)
		}
	})
	// ticks until the file that it is given is there
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 0; ; n++ {
			_, gone := os.Stat(r.FormValue("until"))
			if _, err := fmt.Fprintf(w, "data: %d\n\n", n); err != nil || http.NewResponseController(w).Flush() != nil || gone == nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return sdk.Plugin{ID: orText(os.Getenv("TEST_ID"), "rogue"), Version: orText(os.Getenv("TEST_VERSION"), "1"), HTTP: mux, LLM: ticker{}, Routes: routesOf(os.Getenv("TEST_ROUTES"))}
}

func routesOf(list string) []sdk.Route {
	var out []sdk.Route
	for p := range strings.SplitSeq(list, ",") {
		if p != "" {
			out = append(out, sdk.Route{Pattern: p})
		}
	}
	return out
}

// ticker says words until the file that the question names is there.
type ticker struct{}

func (ticker) Models(context.Context) ([]sdk.Model, error) {
	return []sdk.Model{{ID: orText(os.Getenv("TEST_MODEL"), "ticker"), Name: os.Getenv("TEST_ID")}}, nil
}

func (ticker) Chat(ctx context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		for {
			if !yield(sdk.Chunk{Text: "tick "}, nil) {
				return
			}
			if _, err := os.Stat(req.Last("user")); err == nil {
				yield(sdk.Chunk{Text: "end"}, nil)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bench) state(t testing.TB, id string) Info {
	t.Helper()
	i, err := b.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (b *bench) inState(t testing.TB, id string, s State) Info {
	t.Helper()
	var i Info
	until(t, fmt.Sprintf("%s is %s", id, s), func() bool {
		i, _ = b.Get(context.Background(), id)
		return i.State == s
	})
	return i
}

// ask gives the status and the body of an answer.
func (b *bench) ask(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := b.open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body) // it may break off: the tests look at what came
	return resp.StatusCode, string(raw)
}

func (b *bench) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer x")
	return http.DefaultClient.Do(req)
}

const rogue = "/api/v1/plugins/rogue"

func TestAnswersThatAreNoHTTP(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "rogue"}, "rogue")
	b.start(t)
	for _, path := range []string{"/header", "/garbage"} {
		if code, body := b.ask(t, rogue+path); code != http.StatusBadGateway || !strings.Contains(body, "no valid answer") {
			t.Error(path, code, body)
		}
	}
	if code, _ := b.ask(t, rogue+"/pid"); code != http.StatusOK {
		t.Error(code)
	}
}

// TestUpgradeUnderStreams replaces a plugin while a hundred streams run: none breaks, and new calls meet the new version.
// copyOf puts a copy of the test program into a plugin's folder.
// TestLogFlood has a plugin write much faster than its log takes lines, while another one is asked.
func TestLogFlood(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "rogue"}, "rogue")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	flooded := make(chan int, 1)
	go func() {
		code, _ := b.ask(t, rogue+"/log?n=50000")
		flooded <- code
	}()
	asked := 0
	for code := 0; code == 0; asked++ {
		if code, _ := b.ask(t, "/api/v1/plugins/basic/hello/x"); code != http.StatusOK {
			t.Fatal(code)
		}
		select {
		case code = <-flooded:
			if code != http.StatusOK {
				t.Fatal(code)
			}
		default:
		}
	}
	u, err := b.find("rogue")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "lines were dropped and counted", func() bool { return u.logs.log.Dropped() > 0 })
	if lines, err := b.Logs("rogue", 5000); err != nil || len(lines) > 1000 {
		t.Errorf("%d lines are kept, %v", len(lines), err)
	}
}

func TestRouteConflicts(t *testing.T) {
	b := newBench(t, Options{})
	b.router.Handle("GET /builtin/{id}", http.NotFoundHandler())
	b.put(t, Manifest{ID: "one", Prefixes: []string{"/shared"}, Environment: map[string]string{"TEST_ID": "one", "TEST_ROUTES": "GET /pid"}}, "rogue")
	b.put(t, Manifest{ID: "three", Prefixes: []string{"/builtin"}, Environment: map[string]string{"TEST_ID": "three", "TEST_ROUTES": "GET /pid"}}, "rogue")
	b.start(t)
	b.inState(t, "one", StateReady)
	if i := b.inState(t, "three", StateRefused); !strings.Contains(i.Error, "/builtin/pid") {
		t.Error(i.Error)
	}
	b.put(t, Manifest{ID: "two", Prefixes: []string{"/shared"}, Environment: map[string]string{"TEST_ID": "two", "TEST_ROUTES": "GET /pid"}}, "rogue")
	if i := b.inState(t, "two", StateRefused); !strings.Contains(i.Error, "/shared/pid") || !strings.Contains(i.Error, "plugin:one") {
		t.Error(i.Error)
	}
	if code, _ := b.ask(t, "/shared/pid"); code != http.StatusOK {
		t.Error(code)
	}
	// once the other is gone, the address is free
	if err := os.RemoveAll(filepath.Join(b.dir, "one")); err != nil {
		t.Fatal(err)
	}
	b.inState(t, "two", StateReady)
	if code, _ := b.ask(t, "/shared/pid"); code != http.StatusOK {
		t.Error(code)
	}
}

func TestOneModelOfTwoPlugins(t *testing.T) {
	b := newBench(t, Options{})
	for _, id := range []string{"one", "two"} {
		b.put(t, Manifest{ID: id, Environment: map[string]string{"TEST_ID": id, "TEST_MODEL": "same"}}, "rogue")
	}
	b.start(t)
	b.inState(t, "one", StateReady)
	b.inState(t, "two", StateReady)
	serving := func() string {
		list := b.llm.Models(context.Background(), nil)
		if len(list) != 1 {
			return fmt.Sprint(len(list), " models")
		}
		return list[0].Name
	}
	var first string
	until(t, "the model is listed once", func() bool {
		first = serving()
		return first == "one" || first == "two"
	})
	if err := b.SetEnabled(context.Background(), first, false); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"one": "two", "two": "one"}[first]
	until(t, "the other serves it", func() bool { b.llm.Refresh(); return serving() == other })
}

func TestRemovedWhileCalled(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "rogue"}, "rogue")
	b.start(t)
	pid := b.state(t, "rogue").PID
	done := filepath.Join(t.TempDir(), "done")
	resp, err := b.open(context.Background(), rogue+"/ticks?until="+done)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := os.RemoveAll(filepath.Join(b.dir, "rogue")); err != nil {
		t.Fatal(err)
	}
	until(t, "its routes are gone", func() bool {
		code, _ := b.ask(t, rogue+"/pid")
		return code == http.StatusNotFound
	})
	if !alive(pid) {
		t.Error("the process did not wait for its stream")
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error("the stream broke:", err)
	}
	until(t, "the process has ended", func() bool { return !alive(pid) })
	until(t, "it is listed no more", func() bool { return len(b.List(context.Background())) == 0 })
}

// TestNothingIsLeft starts, crashes and stops plugins again and again, and counts goroutines and files.
func TestNothingIsLeft(t *testing.T) {
	cycle := func() {
		b := newBench(t, Options{Backoff: time.Millisecond})
		b.put(t, Manifest{ID: "rogue"}, "rogue")
		b.put(t, Manifest{ID: "basic"}, "basic")
		b.start(t)
		for _, path := range []string{"/pid", "/die"} {
			b.ask(t, rogue+path)
		}
		until(t, "it runs again", func() bool { i := b.state(t, "rogue"); return i.State == StateReady && i.Restarts == 1 })
		var pids []int
		for _, i := range b.List(context.Background()) {
			pids = append(pids, i.PID)
		}
		if err := b.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(pids, alive); i >= 0 {
			t.Errorf("process %d is left", pids[i])
		}
		http.DefaultClient.CloseIdleConnections()
	}
	cycle() // what is made once
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		cycle()
	}
	// each cycle's database and HTTP server are closed at the end of the test: count what they take
	until(t, "no goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines+3*12 })
	until(t, "no files are left", func() bool { return openFiles(t) <= files+3*12 })
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(list)
}
