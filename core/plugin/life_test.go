package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

func init() {
	testPlugins["host of plugins"] = playHost
}

// playHost is a Galley that runs the plugins in a folder until it is killed.
func playHost() {
	db, err := store.Open(context.Background(), "sqlite:///"+os.Getenv("HOST_DB"), store.Options{})
	if err != nil {
		panic(err)
	}
	m := New(Options{Dir: os.Getenv("HOST_DIR"), DataDir: os.Getenv("HOST_DATA"), DB: db})
	if err := m.Start(context.Background()); err != nil {
		panic(err)
	}
	for {
		for _, i := range m.List(context.Background()) {
			if i.State == StateReady {
				fmt.Println("plugin", i.PID, m.run.Path)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestHostKilled kills a host: its plugins end, and the next host removes its folder.
func TestHostKilled(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(exe)
	host.Env = append(os.Environ(), "TEST_PLUGIN=host of plugins", "HOST_DIR="+b.dir, "HOST_DATA="+t.TempDir(), "HOST_DB="+filepath.Join(t.TempDir(), "db"))
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var folder string
	if _, err := fmt.Fscanf(out, "plugin %d %s\n", &pid, &folder); err != nil {
		t.Fatal(err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	await(t, "ended", func() (bool, string) { return !running(pid), "the plugin lives" })
	b.start(t)
	if _, err := os.Stat(folder); err == nil {
		t.Errorf("%s is left", folder)
	}
	b.becomes(t, "faulty", StateReady, "")
}

// running says whether a process is there and no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// TestFolder has plugins come to the folder in all ways that people find.
func TestFolder(t *testing.T) {
	b := newBench(t, Options{Backoff: 10 * time.Millisecond, Poll: 200 * time.Millisecond})
	b.o.Dir = filepath.Join(b.dir, "later")
	b.dir = b.o.Dir
	b.start(t)
	if got := b.Statuses(); len(got) != 0 {
		t.Fatal(got)
	}
	// hidden files, backups, and what cannot be executed
	for _, name := range []string{".hidden", "old~", "README"} {
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o755)
		if name == "README" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	// slowly, bit by bit: none of what is half there is started
	file := filepath.Join(b.dir, "slow")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(t.TempDir(), "script")
	writeScript(t, tmp, "slow", "1")
	body, _ := os.ReadFile(tmp)
	body = append([]byte("#!/bin/sh\n"), append(bytes.Repeat([]byte("# a long text\n"), 60), body...)...)
	var tick = time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < len(body); i += 20 {
		<-tick.C
		if _, err := f.Write(body[i:min(i+20, len(body))]); err != nil {
			t.Fatal(err)
		}
	}
	_ = f.Close()
	s := b.becomes(t, "slow", StateReady, "")
	if s.Restarts != 0 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	// a manifest with an error
	dir := filepath.Join(b.dir, "faulty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, ManifestName)
	for text, want := range map[string]string{
		`{"id":"faulty",`: "EOF", `{"id":"faulty","command":"x","grant":[]}`: "grant", `{"id":"F"}`: "lower case", `{"id":"faulty","command":"not-there"}`: "neither in the folder nor on the PATH",
	} {
		if err := os.WriteFile(manifest, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		b.becomes(t, "faulty", StateRefused, want)
	}
	b.faulty(t, Manifest{ID: "faulty"})
	b.becomes(t, "faulty", StateReady, "")
	if got := b.Statuses(); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	// away and back within a look, and away for good
	aside := filepath.Join(t.TempDir(), "aside")
	pid := b.pid(t, "faulty")
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	await(t, "gone", func() (bool, string) { _, err := b.Get(t.Context(), "faulty"); return err != nil, "it is there" })
	await(t, "ended", func() (bool, string) { return !alive(pid), "it lives" })
	if err := os.Rename(aside, dir); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateReady, "")
}

// TestRemoved disables, enables and removes a plugin while it is called: calls end, its addresses are gone at once, what
// administrators set stays.
func TestRemoved(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY_MODEL", "talker")
	b.start(t)
	if _, err := b.SetConfig(t.Context(), "faulty", []byte(`{"count":4}`)); err != nil {
		t.Fatal(err)
	}
	pid := b.pid(t, "faulty")
	_, in := b.first(t, "/api/v1/plugins/faulty/sse")
	if err := b.SetEnabled(t.Context(), "faulty", false); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateDisabled, "")
	if code, _ := b.get(t, "/api/v1/plugins/faulty/x"); code == 200 || code == 503 {
		t.Errorf("disabled: %d", code)
	}
	if got := b.models(); got != "" {
		t.Errorf("models %q", got)
	}
	if err := b.SetEnabled(t.Context(), "faulty", true); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateReady, "")
	if now := b.pid(t, "faulty"); now == pid || !alive(pid) {
		t.Errorf("process %d, before %d", now, pid)
	}
	_, second := b.first(t, "/api/v1/plugins/faulty/sse")
	if err := os.RemoveAll(filepath.Join(b.dir, "faulty")); err != nil {
		t.Fatal(err)
	}
	await(t, "gone", func() (bool, string) {
		code, _ := b.get(t, "/api/v1/plugins/faulty/x")
		_, err := b.Get(t.Context(), "faulty")
		return code != 200 && code != 503 && err != nil, fmt.Sprint(code, err)
	})
	// again, while the old one still drains
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY_MODEL", "talker")
	b.becomes(t, "faulty", StateReady, "")
	if c, err := b.Config("faulty"); err != nil || string(c.Get("count")) != "4" {
		t.Errorf("%s %v", c, err)
	}
	if err := os.WriteFile(b.overFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []io.Reader{in, second} {
		if text, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(text), "data: end\n\n") {
			t.Errorf("a call was broken: %v", err)
		}
	}
	await(t, "one process", func() (bool, string) { n := children(t); return n == 1, fmt.Sprint(n) })
	if got := b.models(); got != "talker" {
		t.Errorf("models %q", got)
	}
}

// TestLogFlood has a plugin write as fast as it can; others answer as before.
func TestLogFlood(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty", Grants: []string{"log"}})
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	before := heap()
	flood := make(chan struct{})
	go func() {
		defer close(flood)
		b.get(t, "/api/v1/plugins/faulty/log?n=60000")
		b.get(t, "/api/v1/plugins/faulty/log?n=2&size=10485760")
	}()
	var worst time.Duration
	n := 0
	for done := false; !done; n++ {
		select {
		case <-flood:
			done = true
		default:
		}
		begun := time.Now()
		if code, _ := b.get(t, "/api/v1/plugins/basic/hello/x"); code != 200 {
			t.Fatal(code)
		}
		worst = max(worst, time.Since(begun))
	}
	if worst > time.Second {
		t.Errorf("the longest of %d answers took %v", n, worst)
	}
	u, _ := b.find("faulty")
	await(t, "dropped and counted", func() (bool, string) {
		said := false
		for _, line := range u.logs.last(0) {
			said = said || strings.Contains(line.Message, "lines dropped")
		}
		return said && u.logs.log.Dropped() > 10000, fmt.Sprint(u.logs.log.Dropped())
	})
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

func TestPluginMetrics(t *testing.T) {
	b := newBench(t, quick())
	grants := []string{"metrics"}
	b.faulty(t, Manifest{ID: "a", Grants: grants}, "FAULTY", "metrics")
	b.faulty(t, Manifest{ID: "b", Grants: grants}, "FAULTY", "metrics flood", "FAULTY_CLASH", "counter")
	b.faulty(t, Manifest{ID: "c", Grants: grants}, "FAULTY", "metrics hang")
	b.faulty(t, Manifest{ID: "d"}, "FAULTY", "metrics")
	b.start(t)
	begun := time.Now()
	count := map[string]int{}
	families := b.Scrape(nil)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the scrape took %v", took)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			count[f.GetName()+" "+label(m, "plugin")]++
		}
	}
	want := map[string]int{"work_total a": 1, "work_total b": 1, "clash a": 1, "zz b": 499}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", count, want)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b.Metrics())
	own, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range own {
		for _, m := range f.Metric {
			seen[f.GetName()+" "+label(m, "plugin")] = true
		}
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		for _, name := range []string{"state", "resident_memory_bytes", "cpu_seconds_total", "start_time_seconds", "processes"} {
			if !seen["galley_plugin_"+name+" "+id] {
				t.Errorf("%s of %s is missing", name, id)
			}
		}
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// TestSocketEnds has a WebSocket through a plugin, which dies.
func TestSocketEnds(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, b.url+"/api/v1/plugins/faulty/socket", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer x"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for i := range 3 {
		if err := c.Write(ctx, websocket.MessageText, []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if _, text, err := c.Read(ctx); err != nil || string(text) != strconv.Itoa(i) {
			t.Fatalf("%s %v", text, err)
		}
	}
	if i, _ := b.Get(ctx, "faulty"); i.Calls != 1 {
		t.Errorf("%d calls", i.Calls)
	}
	if err := syscall.Kill(b.pid(t, "faulty"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the socket of a dead plugin: %v", err)
	}
}

// TestNothingLeft restarts, crashes and stops plugins and looks for what is left of them.
func TestNothingLeft(t *testing.T) {
	b := newBench(t, quick())
	b.now = func() time.Time { return time.Now().Add(time.Duration(b.launched.Load()) * 20 * time.Minute) } // crashes are never too many
	b.faulty(t, Manifest{ID: "faulty", Grants: []string{"log", "kv"}}, "FAULTY_MODEL", "talker", "FAULTY_FILTER", "1")
	b.start(t)
	round := func(i int) {
		b.models()
		chat, err := b.chat(t, "talker", "talk")
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := b.Filters().For(&filter.Call{Kind: filter.KindChat}).Stream(t.Context()); ok {
			_, _ = s.Chunk(t.Context(), []byte(`{"choices":[]}`))
			_ = s.Close()
		}
		pid := b.pid(t, "faulty")
		if i%2 == 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		} else if err := b.Restart(t.Context(), "faulty"); err != nil {
			t.Fatal(err)
		}
		_ = chat.Close()
		await(t, "another process", func() (bool, string) {
			i, err := b.Get(t.Context(), "faulty")
			return err == nil && i.PID != 0 && i.PID != pid, fmt.Sprint(i, err)
		})
		await(t, "one process", func() (bool, string) { n := children(t); return n == 1, fmt.Sprint(n) })
	}
	round(0)
	round(1)
	http.DefaultClient.CloseIdleConnections()
	goroutines, files := settled(), descriptors(t)
	for i := range 10 {
		round(i)
	}
	http.DefaultClient.CloseIdleConnections()
	await(t, "as before", func() (bool, string) {
		n, f := runtime.NumGoroutine(), descriptors(t)
		return n <= goroutines+3 && f <= files+3, fmt.Sprintf("%d goroutines, before %d; %d files, before %d\n%s", n, goroutines, f, files, stacks())
	})
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing left", func() (bool, string) {
		all := stacks()
		return !strings.Contains(all, "go-plugin") && !strings.Contains(all, "plugin.(*unit)") && !strings.Contains(all, "plugin.(*supervisor)") && strings.Count(all, "plugin/process.") == strings.Count(all, "plugin/process.init"), all
	})
	if n := children(t); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if left, _ := os.ReadDir(b.run.Path); len(left) != 0 {
		t.Errorf("%d folders are left", len(left))
	}
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// settled is the number of goroutines once it has stayed the same for a while.
func settled() int {
	n, same := runtime.NumGoroutine(), 0
	for range 500 {
		time.Sleep(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n, same = now, 0
		} else if same++; same == 50 {
			break
		}
	}
	return n
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestConfigStays configures a plugin between the reading of the table of states and the taking over of what was read: it
// must not bring back what was there.
func TestConfigStays(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	set := func(count string) {
		t.Helper()
		got, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(`{"count":`+count+`}`))
		if err != nil || string(got.Get("count")) != count {
			t.Fatal(string(got), err)
		}
	}
	set("1")
	u, err := b.find("faulty")
	if err != nil {
		t.Fatal(err)
	}
	asked := u.askedSoFar()
	old, err := b.states.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set("2")
	if u.adopt(asked, true, old["faulty"].Config) {
		t.Error("what was read before a change was taken over after it")
	}
	now, err := b.states.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !u.adopt(u.askedSoFar(), true, now["faulty"].Config) {
		t.Error("what was read after a change was not taken over")
	}
	if err := b.Wait(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Config("faulty"); err != nil || string(got.Get("count")) != "2" {
		t.Error(string(got), err)
	}
}
