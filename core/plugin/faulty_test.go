package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

// await waits for a condition, of which the last thing it said is told if it does not come.
func await(t testing.TB, what string, ok func() (bool, string)) {
	t.Helper()
	said := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var is bool
		if is, said = ok(); is {
			return
		}
	}
	t.Fatalf("not %s: %s", what, said)
}

// becomes waits until the plugin of an id is in a state, with an error that has a text in it.
func (b *bench) becomes(t testing.TB, id string, state State, problem string) Status {
	t.Helper()
	var now Status
	await(t, id+" "+string(state)+" "+problem, func() (bool, string) {
		for _, s := range b.Statuses() {
			if s.ID == id && s.State == state && strings.Contains(s.Error, problem) {
				now = s
				return true, ""
			}
		}
		return false, fmt.Sprint(b.Statuses())
	})
	return now
}

// faulty writes the manifest of a faulty plugin; env has pairs of names and values.
func (b *bench) faulty(t testing.TB, m Manifest, env ...string) {
	t.Helper()
	m.Environment = map[string]string{"FAULTY_ID": m.ID, "FAULTY_OVER": b.overFile()}
	for i := 0; i < len(env); i += 2 {
		m.Environment[env[i]] = env[i+1]
	}
	b.put(t, m, "faulty")
}

// overFile is the file whose existence ends streams.
func (b *bench) overFile() string { return filepath.Join(b.o.DataDir, "over") }

// do asks a plugin as an account.
func (b *bench) do(t testing.TB, method, path string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// get gives status and body of a plugin's answer.
func (b *bench) get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp := b.do(t, "GET", path, nil)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (b *bench) pid(t testing.TB, id string) int {
	t.Helper()
	_, text := b.get(t, "/api/v1/plugins/"+id+"/pid")
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(text)
	}
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// models are the ids of the models that there are.
func (b *bench) models() string {
	var ids []string
	for _, m := range b.llm.Models(context.Background(), nil) {
		ids = append(ids, m.ID)
	}
	return strings.Join(ids, " ")
}

// chat asks a model for a stream.
func (b *bench) chat(t testing.TB, model, text string) (*llm.Response, error) {
	t.Helper()
	target, err := b.llm.Resolve(t.Context(), nil, model)
	if err != nil {
		return nil, err
	}
	return target.Chat(t.Context(), &llm.Request{Stream: true, Body: fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":%q}]}`, model, text)})
}

// words reads all of an answer.
func readAll(resp *llm.Response) (text string, err error) {
	for c, err := range resp.Chunks() {
		if err != nil {
			return text, err
		}
		text += c.Content
	}
	return text, nil
}

func (b *bench) first(t testing.TB, path string) (*http.Response, *bufio.Reader) {
	t.Helper()
	resp := b.do(t, "GET", path, nil)
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, line, err)
	}
	return resp, in
}

func quick() Options { return Options{Backoff: 10 * time.Millisecond} }

func TestCrashLoop(t *testing.T) {
	b := newBench(t, quick())
	now := time.Now()
	b.now = func() time.Time { return now }
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY", "exit")
	b.start(t)
	s := b.becomes(t, "faulty", StateFailed, "given up after 3 failures")
	if s.Restarts != 2 || !strings.Contains(s.Error, "exited with code 3") || !strings.Contains(s.Error, "cannot find my keys") || strings.Contains(s.Error, "by the host") {
		t.Errorf("%+v", s)
	}
	if err := b.Restart(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	if s := b.becomes(t, "faulty", StateFailed, "given up"); s.Restarts != 4 {
		t.Errorf("after a restart by hand: %+v", s)
	}
	b.faulty(t, Manifest{ID: "faulty"})
	b.becomes(t, "faulty", StateReady, "")
}

// TestCrashesOverTime has a plugin crash often, but not too often in ten minutes.
func TestCrashesOverTime(t *testing.T) {
	b := newBench(t, quick())
	var offset time.Duration
	u := &unit{m: b.Manager, wake: make(chan struct{}, 1), id: "x"}
	b.now = func() time.Time { return time.Unix(0, 0).Add(offset) }
	for i := range 20 {
		offset = time.Duration(i) * 5 * time.Minute
		if u.backoff(errEnded) == nil {
			t.Fatalf("given up with the crash after %v", offset)
		}
	}
	offset += time.Minute
	if u.backoff(errEnded) != nil || u.state != StateFailed {
		t.Error("three crashes in six minutes are not too many")
	}
}

func TestCrashWhileRunning(t *testing.T) {
	b := newBench(t, Options{Backoff: time.Second})
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY_MODEL", "talker")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	if got := b.models(); got != "parrot flood talker" {
		t.Fatalf("models %q", got)
	}
	pid := b.pid(t, "faulty")
	if resp := b.do(t, "POST", "/api/v1/plugins/faulty/exit", nil); resp.StatusCode != 502 {
		t.Errorf("the call that broke: %d", resp.StatusCode)
	}
	b.becomes(t, "faulty", StateBackoff, "exited with code 5")
	resp := b.do(t, "GET", "/api/v1/plugins/faulty/pid", nil)
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(string(text), `{"detail":`) {
		t.Errorf("while it is down: %d %v %s", resp.StatusCode, resp.Header, text)
	}
	if got := b.models(); got != "parrot flood" {
		t.Errorf("models while it is down: %q", got)
	}
	if code, _ := b.get(t, "/api/v1/plugins/basic/hello/x"); code != 200 {
		t.Errorf("another plugin meanwhile: %d", code)
	}
	if s := b.becomes(t, "faulty", StateReady, ""); s.Restarts != 1 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if now := b.pid(t, "faulty"); now == pid {
		t.Error("it is the same process")
	}
	if got := b.models(); got != "parrot flood talker" {
		t.Errorf("models afterwards: %q", got)
	}
}

func TestHangingHandler(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty", Limits: Limits{ResponseSeconds: 1}}, "FAULTY_MODEL", "talker")
	b.start(t)
	if code, text := b.get(t, "/api/v1/plugins/faulty/hang"); code != 504 || !strings.Contains(text, "in time") {
		t.Errorf("%d %s", code, text)
	}
	// nobody reads the body: the client may be told so while it still sends, and see the end of the connection first
	req, err := http.NewRequest(http.MethodPost, b.url+"/api/v1/plugins/faulty/hang", io.LimitReader(nothing{}, 32<<20))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer x")
	resp, err := http.DefaultClient.Do(req)
	switch {
	case err == nil && resp.StatusCode != 504:
		t.Errorf("a body that is not read: %d", resp.StatusCode)
	case err == nil:
		_ = resp.Body.Close()
	case !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
		t.Error(err)
	}
	if _, err := b.chat(t, "talker", "hang"); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("chat: %v", err)
	}
}

type nothing struct{}

func (nothing) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestStoppedProcess(t *testing.T) {
	b := newBench(t, Options{Backoff: 10 * time.Millisecond, CheckEvery: 50 * time.Millisecond, CheckTimeout: 200 * time.Millisecond})
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	pid := b.pid(t, "faulty")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "started anew", func() (bool, string) {
		i, err := b.Get(t.Context(), "faulty")
		return err == nil && i.State == StateReady && i.PID != pid && i.PID != 0, fmt.Sprint(i, err)
	})
	if alive(pid) {
		t.Error("the hung process lives")
	}
}

func TestHangAtStart(t *testing.T) {
	b := newBench(t, quick())
	testPlugins := []struct{ id, kind, fault string }{{"a", "silent", ""}, {"b", "faulty", "hangs at start"}, {"c", "stubborn", ""}}
	for _, p := range testPlugins {
		m := Manifest{ID: p.id, Limits: Limits{StartSeconds: 1}, Environment: map[string]string{"FAULTY": p.fault, "FAULTY_ID": p.id}}
		b.put(t, m, p.kind)
	}
	begun := time.Now()
	b.start(t)
	b.becomes(t, "a", StateFailed, "did not say how to reach it in time")
	b.becomes(t, "b", StateFailed, "no answer in time")
	b.becomes(t, "c", StateFailed, "in time")
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestDisableDuringStart stops, replaces and removes what hangs at its start, without waiting for it.
func TestDisableDuringStart(t *testing.T) {
	b := newBench(t, quick())
	b.o.Patience = 10 * time.Millisecond
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY", "hangs at start")
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	begun := time.Now()
	b.becomes(t, "faulty", StateStarting, "")
	if err := b.SetEnabled(t.Context(), "faulty", false); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateDisabled, "")
	if err := b.Restart(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateDisabled, "")
	if err := b.SetEnabled(t.Context(), "faulty", true); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateStarting, "")
	b.faulty(t, Manifest{ID: "faulty"}, "TEST_VERSION", "2")
	b.becomes(t, "faulty", StateReady, "")
	b.faulty(t, Manifest{ID: "other"}, "FAULTY", "hangs at start")
	b.becomes(t, "other", StateStarting, "")
	if err := os.RemoveAll(filepath.Join(b.dir, "other")); err != nil {
		t.Fatal(err)
	}
	await(t, "gone", func() (bool, string) { return len(b.Statuses()) == 1, fmt.Sprint(b.Statuses()) })
	b.faulty(t, Manifest{ID: "third"}, "FAULTY", "hangs at start")
	b.becomes(t, "third", StateStarting, "")
	if err := b.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestStopHung ends a manager with plugins that do not want to end.
func TestStopHung(t *testing.T) {
	b := newBench(t, quick())
	var pids []int
	for _, id := range []string{"a", "b", "c"} {
		b.faulty(t, Manifest{ID: id})
	}
	b.start(t)
	for _, id := range []string{"a", "b", "c"} {
		pid := b.pid(t, id)
		pids = append(pids, pid)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if err := b.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
}

// TestKilledInStreams kills a plugin while it answers, and sees who notices.
func TestKilledInStreams(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "a"}, "FAULTY_MODEL", "one")
	b.faulty(t, Manifest{ID: "b"}, "FAULTY_MODEL", "two")
	b.start(t)
	_, broken := b.first(t, "/api/v1/plugins/a/sse")
	_, whole := b.first(t, "/api/v1/plugins/b/sse")
	b.models()
	chat, err := b.chat(t, "one", "talk")
	if err != nil {
		t.Fatal(err)
	}
	pid := b.pid(t, "a")
	said := 0
	for c, err := range chat.Chunks() {
		if err != nil {
			if !strings.Contains(err.Error(), "not reachable") && !strings.Contains(err.Error(), "has ended") {
				t.Errorf("the chat ended with %v", err)
			}
			said = -said
			break
		}
		if c.Content != "" {
			if said++; said == 2 {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if said >= 0 {
		t.Error("the chat ended as if it were whole")
	}
	if _, err := io.ReadAll(broken); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	if err := os.WriteFile(b.overFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(whole); err != nil || !strings.HasSuffix(string(text), "data: end\n\n") {
		t.Errorf("the other plugin's stream: %v", err)
	}
	await(t, "started anew", func() (bool, string) {
		i, err := b.Get(t.Context(), "a")
		return err == nil && i.State == StateReady && i.Restarts == 1 && i.PID != 0 && i.PID != pid, fmt.Sprint(i, err)
	})
}
