package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/plugin"
)

// pluginServer is a server with a plugins folder, and its administrator.
type pluginServer struct {
	*server
	t      *testing.T
	folder string
	token  string
}

func startWithPlugins(t *testing.T, vars ...string) *pluginServer {
	t.Helper()
	p := &pluginServer{t: t, folder: t.TempDir()}
	p.server = start(t, append(vars, "DATA_DIR="+t.TempDir(), "PLUGINS_DIR="+p.folder, "ENABLE_OPENAI_API=false", "ENABLE_OLLAMA_API=false")...)
	p.token = signUp(t, p.server)
	return p
}

// open sends a request as the administrator. The answer's body is closed with the test.
func (p *pluginServer) open(ctx context.Context, method, path, body string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", method, path, err, p.logged())
	}
	p.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (p *pluginServer) call(method, path, body string) (status int, text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	resp := p.open(ctx, method, path, body)
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(raw)
}

// until waits for a condition.
func (p *pluginServer) until(what string, met func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !met(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not in time\n%s", what, p.logged())
		}
	}
}

// process is the process that answers for the plugin "whole", and its version; 0 if none does.
func (p *pluginServer) process() (pid int, version string) {
	p.t.Helper()
	_, text := p.call("GET", "/api/v1/plugins/whole/process", "")
	if _, err := fmt.Sscan(text, &pid, &version); err != nil {
		return 0, "" // an error, or the page that unknown addresses have
	}
	return pid, version
}

// awaitVersion waits until a version answers and gives its process.
func (p *pluginServer) awaitVersion(version string) (pid int) {
	p.t.Helper()
	p.until("version "+version, func() bool {
		var v string
		pid, v = p.process()
		return v == version
	})
	return pid
}

// stream asks the plugin's model for an answer without end and gives it once it has begun.
func (p *pluginServer) stream(ctx context.Context) *bufio.Reader {
	p.t.Helper()
	resp := p.open(ctx, "POST", "/api/chat/completions", `{"model":"`+talkerModel+`","stream":true,"messages":[{"role":"user","content":"endless"}]}`)
	in := bufio.NewReader(resp.Body)
	p.awaitWords(in)
	return in
}

// answers holds that the plugin's model is there for a chat, also where nobody has listed the models since it came.
func (p *pluginServer) answers() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	p.stream(ctx)
}

func (p *pluginServer) awaitWords(in *bufio.Reader) {
	p.t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			p.t.Fatalf("the stream broke off: %q %v\n%s", line, err, p.logged())
		}
		if strings.Contains(line, `"content":"on `) {
			return
		}
	}
}

// running says whether a process is there; one that has ended and is only not waited for is not.
func running(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err) && syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// shows compares what the server says of the plugin in all places with whether it is there.
func (p *pluginServer) shows(there bool) {
	p.t.Helper()
	for path, want := range map[string]string{
		"/api/models":    `"id":"` + talkerModel + `"`,
		"/openapi.json":  `"/api/v1/plugins/whole/process"`,
		"/metrics":       `galley_plugin_state{plugin="whole",state="ready"} 1`,
		"/api/v1/tools/": `"plugin:whole"`,
	} {
		p.until(fmt.Sprintf("%s has %s: %v", path, want, there), func() bool {
			status, text := p.call("GET", path, "")
			return status == http.StatusOK && strings.Contains(text, want) == there
		})
	}
	status, text := p.call("GET", "/metrics", "")
	if strings.Contains(text, `whole_answer{plugin="whole"} 42`) != there {
		p.t.Errorf("the plugin's own metrics: %d, want %v", status, there)
	}
}

// TestPluginsProcess has a plugin come, be replaced, crash and go while the server runs.
func TestPluginsProcess(t *testing.T) {
	p := startWithPlugins(t)
	p.shows(false)

	// dropped in
	putPlugin(t, p.folder, "whole", plugin.Manifest{Version: "1.0.0", Grants: []string{"metrics"}})
	first := p.awaitVersion("1.0.0")
	p.shows(true)

	// upgraded: an answer that has begun goes on from the old process, everything else comes from the new one
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answer := p.stream(ctx)
	putPlugin(t, p.folder, "whole", plugin.Manifest{Version: "1.1.0", Grants: []string{"metrics"}})
	p.until("the new version", func() bool {
		pid, version := p.process()
		if pid == 0 {
			t.Fatalf("nobody answers during the upgrade\n%s", p.logged())
		}
		return version == "1.1.0"
	})
	second := p.awaitVersion("1.1.0")
	if second == first {
		t.Error("both versions are one process")
	}
	p.awaitWords(answer)
	if !running(first) {
		t.Error("the old process is gone before its answer")
	}
	cancel()
	p.until("the old process ends", func() bool { return !running(first) })
	p.shows(true)

	// a version that cannot be: the one before goes on
	putPlugin(t, p.folder, "whole", plugin.Manifest{ID: "whole", Version: "2.0.0", Limits: plugin.Limits{Processes: -1}})
	p.until("the refusal is logged", func() bool { return strings.Contains(p.logged(), "processes is negative") })
	if pid, _ := p.process(); pid != second {
		t.Errorf("process %d answers, not %d", pid, second)
	}
	putPlugin(t, p.folder, "whole", plugin.Manifest{Version: "1.2.0", Grants: []string{"metrics"}})
	third := p.awaitVersion("1.2.0")
	p.answers()

	p.testCrash(third)
	p.testSwitch()

	// removed
	last, _ := p.process()
	if err := os.RemoveAll(filepath.Join(p.folder, "whole")); err != nil {
		t.Fatal(err)
	}
	p.until("the process ends", func() bool { return !running(last) })
	p.shows(false)
	if pid, _ := p.process(); pid != 0 {
		t.Errorf("process %d answers for a removed plugin", pid)
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.logged())
	}
}

// testCrash has the plugin's process end in the middle of a request and of an answer.
func (p *pluginServer) testCrash(pid int) {
	p.t.Helper()
	answer := p.stream(p.t.Context())
	if status, text := p.call("POST", "/api/v1/plugins/whole/crash", ""); status != http.StatusBadGateway && status != http.StatusServiceUnavailable || !strings.Contains(text, `"detail"`) {
		p.t.Errorf("the request that it crashes in: %d %s", status, text)
	}
	if rest, err := io.ReadAll(answer); err != nil && !strings.Contains(err.Error(), "EOF") {
		p.t.Errorf("the answer that it crashes in: %.200q %v", rest, err)
	}
	p.until("it is back", func() bool {
		status, text := p.call("GET", "/api/v1/plugins/whole/process", "")
		switch status {
		case http.StatusOK:
			return text != fmt.Sprintf("%d 1.2.0", pid)
		case http.StatusServiceUnavailable, http.StatusBadGateway:
		default:
			p.t.Fatalf("while it is down: %d %s", status, text)
		}
		return false
	})
	p.answers()
	p.shows(true)
	if _, text := p.call("GET", "/metrics", ""); !strings.Contains(text, `galley_plugin_restarts_total{plugin="whole"} 1`) {
		p.t.Error("the restart is not counted")
	}
}

// testSwitch switches the plugin off and on.
func (p *pluginServer) testSwitch() {
	p.t.Helper()
	pid, _ := p.process()
	status, text := p.call("POST", "/api/v1/plugins/whole/disable", "")
	if status == http.StatusMethodNotAllowed || status == http.StatusNotFound {
		p.t.Log("plugins cannot be switched")
		return
	}
	if status != http.StatusOK {
		p.t.Fatalf("disable: %d %s", status, text)
	}
	p.until("its process ends", func() bool { return !running(pid) })
	if pid, _ := p.process(); pid != 0 {
		p.t.Errorf("process %d answers for a disabled plugin", pid)
	}
	if _, text := p.call("GET", "/api/models", ""); strings.Contains(text, talkerModel) {
		p.t.Error("the models of a disabled plugin are listed")
	}
	if status, text := p.call("POST", "/api/v1/plugins/whole/enable", ""); status != http.StatusOK {
		p.t.Fatalf("enable: %d %s", status, text)
	}
	p.awaitVersion("1.2.0")
	p.answers()
	p.shows(true)
}

// TestPluginsEnd holds that no process of a plugin outlives the server, however that ends.
func TestPluginsEnd(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := startWithPlugins(t, "GALLEY_SHUTDOWN_TIMEOUT=1", "GALLEY_DEMO=true")
			putPlugin(t, p.folder, "whole", plugin.Manifest{})
			putPlugin(t, p.folder, "adder", plugin.Manifest{})
			putPlugin(t, p.folder, "editor", plugin.Manifest{})
			p.awaitVersion("1.0.0")
			p.until("all four are ready", func() bool {
				_, text := p.call("GET", "/metrics", "")
				return strings.Count(text, `state="ready"} 1`) == 4
			})
			pids := children(t, p.cmd.Process.Pid) // the plugins, and what watches over them
			if len(pids) < 4 {
				t.Fatalf("four plugins are %v", pids)
			}
			answer := p.stream(t.Context())
			slow := p.open(t.Context(), "GET", "/api/v1/plugins/whole/slow", "")
			begin := time.Now()
			code := p.stop(t, sig)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if sig != syscall.SIGKILL && code != 0 {
				t.Errorf("exit code %d\n%s", code, p.logged())
			}
			for _, body := range []io.Reader{answer, slow.Body} {
				_, _ = io.Copy(io.Discard, body) // ends, or the test hangs
			}
			for _, pid := range pids {
				p.until(fmt.Sprintf("process %d ends", pid), func() bool { return !running(pid) })
			}
		})
	}
}

// children are the processes that one has started.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		var state string
		var of, pid int
		_, rest, _ := strings.Cut(string(raw), ") ")
		if _, err := fmt.Sscan(rest, &state, &of); err == nil && of == parent && state != "Z" {
			if _, err := fmt.Sscanf(name, "/proc/%d/stat", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// TestDemo holds that the demo model, a plugin, is there with the first request, and that the start does not wait long.
func TestDemo(t *testing.T) {
	data := t.TempDir()
	var times []time.Duration
	for i := range 3 {
		s := start(t, "DATA_DIR="+data, "GALLEY_DEMO=true", "ENABLE_OPENAI_API=false", "ENABLE_OLLAMA_API=false")
		times = append(times, s.took)
		if i == 0 {
			p := &pluginServer{server: s, t: t, token: signUp(t, s)}
			if _, text := p.call("GET", "/api/models", ""); !strings.Contains(text, `"id":"galley-demo"`) {
				t.Errorf("the demo model is not listed: %.300s", text)
			}
			status, text := p.call("POST", "/api/chat/completions", `{"model":"galley-demo","stream":true,"messages":[{"role":"user","content":"How do I sharpen a plane iron?"}]}`)
			if status != http.StatusOK || !strings.Contains(text, "sharpen") || !strings.Contains(text, "[DONE]") {
				t.Errorf("%d %.300s", status, text)
			}
		}
		pids := children(t, s.cmd.Process.Pid)
		if code := s.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.logged())
		}
		for _, pid := range pids {
			if running(pid) {
				t.Errorf("process %d has outlived the server", pid)
			}
		}
	}
	best := slices.Min(times)
	t.Logf("ready with the demo after %v (of %v)", best.Round(time.Millisecond), times)
	if best > 2*time.Second {
		t.Errorf("ready only after %v", best)
	}
}
