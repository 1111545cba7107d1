package plugin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	return sdk.Plugin{ID: "rogue", Version: "1", HTTP: mux}
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

// TestUpgradeUnderStreams replaces a plugin while a hundred streams run: none breaks, and new calls meet the new version.
// copyOf puts a copy of the test program into a plugin's folder.
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
