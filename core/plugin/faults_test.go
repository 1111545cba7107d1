package plugin

import (
	"bufio"
	"context"
	"errors"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/sdk"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

func init() {
	testPlugins["faulty"] = func() {
		if os.Getenv("TEST_FAULT") == "start" {
			fmt.Fprintln(os.Stderr, "cannot start")
			os.Exit(3)
		}
		sdk.Serve(faultyPlugin())
	}
	testPlugins["silent"] = func() { time.Sleep(time.Hour) }
	testPlugins["garbage"] = func() {
		fmt.Println("hello, this is no handshake")
		time.Sleep(time.Hour)
	}
}

// faultyPlugin does what plugins should not.
func faultyPlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, os.Getenv("TEST_VERSION"))
	})
	mux.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("GET /die", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("GET /hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
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
	return sdk.Plugin{ID: orText(os.Getenv("TEST_ID"), "faulty"), Version: orText(os.Getenv("TEST_VERSION"), "1"), HTTP: mux, LLM: ticker{}, Routes: routesOf(os.Getenv("TEST_ROUTES"))}
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

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

const faulty = "/api/v1/plugins/faulty"

func TestCrashLoop(t *testing.T) {
	b := newBench(t, Options{Backoff: time.Millisecond})
	b.put(t, Manifest{ID: "faulty", Environment: map[string]string{"TEST_FAULT": "start"}}, "faulty")
	b.start(t)
	i := b.inState(t, "faulty", StateFailed)
	if i.Restarts != maxCrashes-1 || !strings.Contains(i.Error, "given up after 3 failures") || !strings.Contains(i.Error, "cannot start") {
		t.Errorf("%+v", i)
	}
	// an administrator may try again, and is told the same
	if err := b.Restart(context.Background(), "faulty"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is tried again", func() bool { return b.state(t, "faulty").Restarts > i.Restarts })
	b.inState(t, "faulty", StateFailed)
	// a new version helps
	b.put(t, Manifest{ID: "faulty"}, "faulty")
	b.inState(t, "faulty", StateReady)
}

func TestStartThatHangsOrTalksNonsense(t *testing.T) {
	for kind, want := range map[string]string{"silent": "in time", "garbage": "something else than the line"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, Options{Backoff: time.Millisecond, Patience: time.Millisecond})
			b.put(t, Manifest{ID: "faulty", Limits: Limits{StartSeconds: 1}}, kind)
			b.start(t)
			if i := b.inState(t, "faulty", StateFailed); !strings.Contains(i.Error, want) {
				t.Error(i.Error)
			}
		})
	}
}

func TestCrashWhileItRuns(t *testing.T) {
	b := newBench(t, Options{Backoff: 300 * time.Millisecond})
	b.put(t, Manifest{ID: "faulty"}, "faulty")
	b.start(t)
	models := func() int { return len(b.llm.Models(context.Background(), nil)) }
	until(t, "the model is listed", func() bool { return models() == 1 })
	// the call in which it dies has no answer; those that follow are told to come again
	if code, body := b.ask(t, faulty+"/die"); code != http.StatusBadGateway || !strings.Contains(body, `"detail"`) {
		t.Error(code, body)
	}
	b.inState(t, "faulty", StateBackoff)
	resp, err := b.open(context.Background(), faulty+"/pid")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Error(resp.Status, resp.Header)
	}
	if n := models(); n != 0 {
		t.Errorf("%d models while it is down", n)
	}
	i := b.inState(t, "faulty", StateReady)
	if code, _ := b.ask(t, faulty+"/pid"); code != http.StatusOK || i.Restarts != 1 {
		t.Error(code, i.Restarts)
	}
	until(t, "the model is back", func() bool { return models() == 1 })
}

func TestHang(t *testing.T) {
	b := newBench(t, Options{Backoff: time.Millisecond, CheckEvery: 100 * time.Millisecond, CheckTimeout: 2 * time.Second})
	b.put(t, Manifest{ID: "faulty", Limits: Limits{ResponseSeconds: 1}}, "faulty")
	b.start(t)
	if code, body := b.ask(t, faulty+"/hang"); code != http.StatusGatewayTimeout || !strings.Contains(body, "in time") {
		t.Error(code, body)
	}
	for path, want := range map[string]int{"/header": http.StatusBadGateway, "/garbage": http.StatusBadGateway} {
		if code, body := b.ask(t, faulty+path); code != want || !strings.Contains(body, "no valid answer") {
			t.Error(path, code, body)
		}
	}
	// a process that stands still is found out by its health
	before := b.state(t, "faulty")
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "another process runs", func() bool {
		i := b.state(t, "faulty")
		return i.State == StateReady && i.PID != before.PID
	})
	until(t, "the old one is gone", func() bool { return !alive(before.PID) })
}

func TestKilledInTheMiddleOfAStream(t *testing.T) {
	b := newBench(t, Options{Backoff: time.Millisecond})
	b.put(t, Manifest{ID: "faulty"}, "faulty")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	never := filepath.Join(t.TempDir(), "never")
	resp, err := b.open(context.Background(), faulty+"/ticks?until="+never)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	answer := b.chat(t, "ticker", never)
	defer func() { _ = answer.Close() }()
	if err := syscall.Kill(b.state(t, "faulty").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, lines); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	var last error
	for _, err := range answer.Chunks() {
		last = err
	}
	var broken *llm.StreamError
	if !errors.As(last, &broken) {
		t.Errorf("the answer ended with %v", last)
	}
	if code, _ := b.ask(t, "/api/v1/plugins/basic/hello/x"); code != http.StatusOK {
		t.Error("another plugin is disturbed:", code)
	}
	b.inState(t, "faulty", StateReady)
}

func (b *bench) chat(t testing.TB, model, text string) *llm.Response {
	t.Helper()
	target, err := b.llm.Resolve(context.Background(), nil, model)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, model, text)
	resp, err := target.Chat(context.Background(), &llm.Request{Body: []byte(body), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestUpgradeUnderStreams replaces a plugin while a hundred streams run: none breaks, and new calls meet the new version.
func TestUpgradeUnderStreams(t *testing.T) {
	b := newBench(t, Options{})
	version := func(v string) {
		b.put(t, Manifest{ID: "faulty", Environment: map[string]string{"TEST_VERSION": v}}, "faulty")
	}
	version("1")
	b.start(t)
	old := b.state(t, "faulty").PID
	done := filepath.Join(t.TempDir(), "done")
	var begun, ended sync.WaitGroup
	failures := make(chan string, 200)
	for range 50 {
		begun.Add(2)
		ended.Go(func() {
			resp, err := b.open(context.Background(), faulty+"/ticks?until="+done)
			begun.Done()
			if err != nil {
				failures <- err.Error()
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				failures <- "HTTP: " + err.Error()
			}
		})
		ended.Go(func() {
			resp := b.chat(t, "ticker", done)
			begun.Done()
			var text strings.Builder
			for c, err := range resp.Chunks() {
				if err != nil {
					failures <- "chat: " + err.Error()
					return
				}
				text.WriteString(c.Content)
			}
			if !strings.HasSuffix(text.String(), "end") {
				failures <- "chat ended with " + text.String()[max(0, text.Len()-20):]
			}
		})
	}
	begun.Wait()
	version("2")
	until(t, "the new version answers", func() bool {
		_, body := b.ask(t, faulty+"/version")
		return body == "2"
	})
	if !alive(old) {
		t.Error("the old process did not wait for its streams")
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended.Wait()
	close(failures)
	for f := range failures {
		t.Error(f)
	}
	until(t, "the old process has ended", func() bool { return !alive(old) })
	// a version that cannot start leaves the one that runs
	b.put(t, Manifest{ID: "faulty", Environment: map[string]string{"TEST_FAULT": "start"}}, "faulty")
	until(t, "the failure is told", func() bool { return strings.Contains(b.state(t, "faulty").Error, "new version was not started") })
	if code, body := b.ask(t, faulty+"/version"); code != http.StatusOK || body != "2" {
		t.Error(code, body)
	}
}

// copyOf puts a copy of the test program into a plugin's folder.
func (b *bench) copyOf(t testing.TB, id string) (path, digest string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(b.dir, id, "program")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	digest, err = Digest(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, digest
}

func TestChecksum(t *testing.T) {
	b := newBench(t, Options{RequireChecksum: true})
	path, digest := b.copyOf(t, "faulty")
	b.put(t, Manifest{ID: "faulty", Command: "program", SHA256: digest}, "faulty")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	b.inState(t, "faulty", StateReady)
	if i := b.inState(t, "basic", StateRefused); !strings.Contains(i.Error, "checksum") {
		t.Error(i.Error)
	}
	// what runs is the copy that was verified: the file itself can be overwritten in place, and is not run then
	pid := b.state(t, "faulty").PID
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil && (exe == path || strings.HasPrefix(exe, b.dir)) {
		t.Errorf("the file in the plugins folder is executed: %s", exe)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho bad\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	until(t, "the change is refused", func() bool { return strings.Contains(b.state(t, "faulty").Error, "checksum of program") })
	if i := b.state(t, "faulty"); i.State != StateReady || i.PID != pid {
		t.Errorf("%+v", i)
	}
	v, err := b.Verify("faulty")
	if err != nil || v.OK || v.Pinned != 1 {
		t.Errorf("%+v %v", v, err)
	}
}

// TestLogFlood has a plugin write much faster than its log takes lines, while another one is asked.
func TestLogFlood(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "faulty"}, "faulty")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	flooded := make(chan int, 1)
	go func() {
		code, _ := b.ask(t, faulty+"/log?n=50000")
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
	u, err := b.find("faulty")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "lines were dropped and counted", func() bool { return u.logs.log.Dropped() > 0 })
	if lines, err := b.Logs("faulty", 5000); err != nil || len(lines) > 1000 {
		t.Errorf("%d lines are kept, %v", len(lines), err)
	}
}

func TestRouteConflicts(t *testing.T) {
	b := newBench(t, Options{})
	b.router.Handle("GET /builtin/{id}", http.NotFoundHandler())
	b.put(t, Manifest{ID: "one", Prefixes: []string{"/shared"}, Environment: map[string]string{"TEST_ID": "one", "TEST_ROUTES": "GET /pid"}}, "faulty")
	b.put(t, Manifest{ID: "three", Prefixes: []string{"/builtin"}, Environment: map[string]string{"TEST_ID": "three", "TEST_ROUTES": "GET /pid"}}, "faulty")
	b.start(t)
	b.inState(t, "one", StateReady)
	if i := b.inState(t, "three", StateRefused); !strings.Contains(i.Error, "/builtin/pid") {
		t.Error(i.Error)
	}
	b.put(t, Manifest{ID: "two", Prefixes: []string{"/shared"}, Environment: map[string]string{"TEST_ID": "two", "TEST_ROUTES": "GET /pid"}}, "faulty")
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
		b.put(t, Manifest{ID: id, Environment: map[string]string{"TEST_ID": id, "TEST_MODEL": "same"}}, "faulty")
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
	b.put(t, Manifest{ID: "faulty"}, "faulty")
	b.start(t)
	pid := b.state(t, "faulty").PID
	done := filepath.Join(t.TempDir(), "done")
	resp, err := b.open(context.Background(), faulty+"/ticks?until="+done)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := os.RemoveAll(filepath.Join(b.dir, "faulty")); err != nil {
		t.Fatal(err)
	}
	until(t, "its routes are gone", func() bool {
		code, _ := b.ask(t, faulty+"/pid")
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
		b.put(t, Manifest{ID: "faulty"}, "faulty")
		b.put(t, Manifest{ID: "basic"}, "basic")
		b.start(t)
		for _, path := range []string{"/pid", "/die"} {
			b.ask(t, faulty+path)
		}
		until(t, "it runs again", func() bool { i := b.state(t, "faulty"); return i.State == StateReady && i.Restarts == 1 })
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
