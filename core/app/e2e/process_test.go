// Package e2e tests the program as a process: how it starts, stops, and survives being killed; and, with a browser, the
// whole of it.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/sdk"
)

// patience bounds every wait of these tests: they share the machine with other tests.
const patience = 60 * time.Second

// program is the built binary; GALLEY_BINARY names one that is there already.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("GALLEY_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(binDir, "galley")
	out, err := exec.Command("go", "build", "-o", path, "github.com/galleychat/galley/cmd/galley").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

var binDir string

// TestMain has the test binary play a plugin where a manifest says so.
func TestMain(m *testing.M) {
	if play, ok := playedPlugins[os.Getenv(playVariable)]; ok {
		sdk.Serve(play())
		return
	}
	var err error
	if binDir, err = os.MkdirTemp("", "galley-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binDir)
	os.Exit(code)
}

// command is the program with arguments and an environment of nothing but vars ("NAME=value") and the search path.
func command(t testing.TB, vars []string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, vars...)
	return cmd
}

// server is a running process.
type server struct {
	cmd    *exec.Cmd
	url    string
	took   time.Duration // from the start to the first 200 of /ready
	exited chan struct{}
	err    error // of the process, once it has exited

	mu  sync.Mutex
	log bytes.Buffer
}

var listening = regexp.MustCompile(`msg=listening url=(\S+)`)

// start runs "galley serve" on a free port and waits until it is ready.
func start(t testing.TB, vars ...string) *server {
	t.Helper()
	s, err := launch(t, vars...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// launch is start for goroutines other than the test's.
func launch(t testing.TB, vars ...string) (*server, error) {
	cmd := command(t, append([]string{"HOST=127.0.0.1", "PORT=0"}, vars...), "serve")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, exited: make(chan struct{})}
	address := make(chan string, 1)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.read(stderr, address)
		s.err = cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.exited
	})
	select {
	case s.url = <-address:
	case <-s.exited:
		return nil, fmt.Errorf("the server ended: %w\n%s", s.err, s.logged())
	case <-time.After(patience):
		return nil, fmt.Errorf("the server does not listen\n%s", s.logged())
	}
	if err := s.waitReady(); err != nil {
		return nil, err
	}
	s.took = time.Since(begin)
	return s, nil
}

func (s *server) read(r io.Reader, address chan<- string) {
	for in := bufio.NewScanner(r); in.Scan(); {
		line := in.Text()
		s.mu.Lock()
		s.log.WriteString(line + "\n")
		s.mu.Unlock()
		if m := listening.FindStringSubmatch(line); m != nil {
			address <- m[1]
		}
	}
}

func (s *server) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *server) waitReady() error {
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get(s.url + "/ready")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready: %w\n%s", err, s.logged())
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended: %w\n%s", s.err, s.logged())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// stop sends a signal and gives the exit code.
func (s *server) stop(t testing.TB, sig os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	return s.wait(t)
}

// wait waits for the process's end and gives the exit code.
func (s *server) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatalf("the server does not end\n%s", s.logged())
	}
	return s.cmd.ProcessState.ExitCode()
}

func TestStartAndStop(t *testing.T) {
	dir := t.TempDir()
	first := start(t, "DATA_DIR="+dir)
	if code := first.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d after SIGTERM\n%s", code, first.logged())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "webui.db-*")); err != nil || left != nil {
		t.Errorf("left beside the database: %v, %v", left, err)
	}
	// The second start finds a database.
	var times []time.Duration
	for range 3 {
		s := start(t, "DATA_DIR="+dir)
		times = append(times, s.took)
		if code := s.stop(t, os.Interrupt); code != 0 {
			t.Fatalf("exit code %d after Ctrl-C\n%s", code, s.logged())
		}
	}
	best := slices.Min(times)
	t.Logf("ready on an existing database after %v (of %v)", best.Round(time.Millisecond), times)
	if best > 2*time.Second {
		t.Errorf("ready only after %v", best)
	}
}

// TestStopEndsOpenConnections has clients that would keep a careless server from stopping.
func TestStopEndsOpenConnections(t *testing.T) {
	s := start(t, "DATA_DIR="+t.TempDir(), "GALLEY_SHUTDOWN_TIMEOUT=2", "ENABLE_WEBSOCKET_SUPPORT=false")
	open, err := http.Get(s.url + "/ws/socket.io/?EIO=4&transport=polling")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(open.Body)
	_ = open.Body.Close()
	sid := regexp.MustCompile(`"sid":"([^"]+)"`).FindSubmatch(body)
	if err != nil || sid == nil {
		t.Fatalf("%d %s %v", open.StatusCode, body, err)
	}
	// This poll is answered with the next ping after 25 s, or when the server stops.
	polled := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent := make(chan struct{})
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/ws/socket.io/?EIO=4&transport=polling&sid="+string(sid[1]), http.NoBody)
		if err == nil {
			close(sent)
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		polled <- err
	}()
	<-sent
	begin := time.Now()
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d\n%s", code, s.logged())
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if err := <-polled; errors.Is(err, context.DeadlineExceeded) {
		t.Error("the poll was left hanging")
	}
}

func TestBadSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		vars []string
		args []string
		code int
		want string // in the one line
	}{
		{"port", []string{"PORT=eighty"}, []string{"serve"}, 2, `PORT="eighty"`},
		{"port flag", nil, []string{"serve", "--port", "70000"}, 2, `--port="70000"`},
		{"several", []string{"PORT=x", "GALLEY_SHUTDOWN_TIMEOUT=soon"}, []string{"serve"}, 2, "GALLEY_SHUTDOWN_TIMEOUT"},
		{"log level", []string{"GLOBAL_LOG_LEVEL=loud"}, []string{"serve"}, 2, "GLOBAL_LOG_LEVEL"},
		{"telemetry", []string{"ENABLE_OTEL=yes please"}, []string{"serve"}, 2, "ENABLE_OTEL"},
		{"database address", []string{"DATABASE_URL=oracle://x"}, []string{"serve", "--port", "0"}, 2, "DATABASE_URL"},
		{"data folder", []string{"DATA_DIR=" + file}, []string{"serve", "--port", "0"}, 2, "DATA_DIR"},
		{"up too", []string{"GALLEY_DEMO=perhaps"}, []string{"up"}, 2, "GALLEY_DEMO"},
		{"unknown flag", nil, []string{"serve", "--prot", "1"}, 2, "prot"},
		{"unknown command", nil, []string{"server"}, 2, "server"},
		{"argument", nil, []string{"serve", "now"}, 2, "now"},
		{"no database there", []string{"DATABASE_URL=postgresql://nobody@127.0.0.1:1/none"}, []string{"serve", "--port", "0"}, 1, "database"},
		{"no frontend to verify", nil, []string{"frontend", "verify"}, 1, "no installed frontend"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := command(t, append([]string{"DATA_DIR=" + dir}, tt.vars...), tt.args...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			cmd.Dir = dir
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			// Log lines may come before; of errors there is one.
			var lines []string
			for l := range strings.Lines(errs.String()) {
				if !strings.Contains(l, "level=INFO") {
					lines = append(lines, strings.TrimSuffix(l, "\n"))
				}
			}
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "galley: ") || !strings.Contains(lines[0], tt.want) {
				t.Errorf("want one line with %q, got %q", tt.want, lines)
			}
			if out.Len() > 0 {
				t.Errorf("standard output: %s", out.String())
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	s := start(t, "DATA_DIR="+t.TempDir())
	dir := t.TempDir()
	port := s.url[strings.LastIndexByte(s.url, ':')+1:]
	out, err := command(t, []string{"DATA_DIR=" + dir, "HOST=127.0.0.1", "PORT=" + port}, "serve").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("address already in use")) {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the second process made %v", left)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{
		{"help"}, {"--help"}, {"up", "-h"}, {"serve", "--help"}, {"frontend", "-h"}, {"frontend", "install", "-h"},
		{"frontend", "verify", "-h"}, {"version", "-h"}, {"help", "serve"}, {"version"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			out, err := command(t, nil, args...).Output()
			if err != nil || !bytes.Contains(bytes.ToLower(out), []byte("galley")) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
