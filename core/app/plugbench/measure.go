package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// bench is the server under load.
type bench struct {
	url, host, token string
	server, plugin   int // process ids
}

// sides are the addresses and models that take turns.
var sides = []struct{ name, path, model string }{{"plugin", "/api/v1/plugins/bench", "plugin"}, {"built in", "/builtin", "builtin"}}

func measure() error {
	dir, err := os.MkdirTemp("", "plugbench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b, stop, err := start(dir)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("idle: server %.1f MiB, plugin %.1f MiB resident\n\n", mib(rss(b.server)), mib(rss(b.plugin)))
	for _, m := range []struct {
		name string
		run  func(*bench) error
	}{{"get", (*bench).get}, {"load", (*bench).load}, {"stream", (*bench).stream}, {"upload", (*bench).upload}, {"sockets", (*bench).sockets}} {
		if !wanted(m.name) {
			continue
		}
		if err := m.run(b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Println()
	}
	return nil
}

// start starts the server and signs up.
func start(dir string) (*bench, func(), error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(exe, "serve")
	cmd.Env = append(os.Environ(), "DATA_DIR="+filepath.Join(dir, "data"), "GLOBAL_LOG_LEVEL=WARNING", "ENABLE_OLLAMA_API=false", "ENABLE_OPENAI_API=false")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, errors.New("the server did not start")
	}
	b := &bench{url: strings.TrimSpace(line), server: cmd.Process.Pid}
	b.host = strings.TrimPrefix(b.url, "http://")
	if err := b.signUp(); err != nil {
		stop()
		return nil, nil, err
	}
	return b, stop, nil
}

func (b *bench) signUp() error {
	raw, err := b.ask(http.MethodPost, "/api/v1/auths/signup", `{"name":"Bench","email":"bench@bench.test","password":"bench-bench-1"}`)
	if err != nil {
		return err
	}
	var v struct{ Token string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	b.token = v.Token
	if _, err := b.ask(http.MethodGet, "/api/models", ""); err != nil {
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", b.server, b.server))
	if err != nil || len(bytes.TrimSpace(children)) == 0 {
		children = childrenOf(b.server)
	}
	for _, field := range strings.Fields(string(children)) {
		pid, _ := strconv.Atoi(field)
		if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.Contains(cmd, []byte("plugbench")) || rss(pid) > 8<<20 {
			b.plugin = pid
		}
	}
	if b.plugin == 0 {
		return errors.New("the plugin's process was not found")
	}
	return nil
}

// childrenOf lists the processes that a process started, whichever thread did.
func childrenOf(pid int) []byte {
	var out []byte
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		out = append(out, raw...)
	}
	return out
}

func (b *bench) request(method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequest(method, b.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if b.token != "" {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return req, nil
}

func (b *bench) ask(method, path, body string) ([]byte, error) {
	req, err := b.request(method, path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s %.200s", method, path, resp.Status, raw)
	}
	return raw, err
}

// caller asks for one address over and over on one connection, with as little work as can be.
type caller struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

func (b *bench) caller(path string) (*caller, error) {
	conn, err := net.Dial("tcp", b.host)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, b.host, b.token)
	return &caller{conn, bufio.NewReader(conn), []byte(text)}, nil
}

func (c *caller) call() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != int64(len(greeting))) {
		err = fmt.Errorf("%s, %d bytes", resp.Status, n)
	}
	return err
}

// get measures the latency of one client.
func (b *bench) get() error {
	all := make([][]time.Duration, len(sides))
	for range *rounds {
		for i, side := range sides {
			c, err := b.caller(side.path + "/hello")
			if err != nil {
				return err
			}
			for range 200 { // warm
				if err := c.call(); err != nil {
					return err
				}
			}
			for end := time.Now().Add(turn() / 2); time.Now().Before(end); {
				begin := time.Now()
				if err := c.call(); err != nil {
					return err
				}
				all[i] = append(all[i], time.Since(begin))
			}
			_ = c.conn.Close()
		}
	}
	fmt.Println("GET, one client:")
	medians := make([]time.Duration, len(sides))
	for i, side := range sides {
		slices.Sort(all[i])
		medians[i] = at(all[i], .5)
		fmt.Printf("  %-9s median %v, p99 %v (%d requests)\n", side.name, medians[i].Round(time.Microsecond/10), at(all[i], .99).Round(time.Microsecond), len(all[i]))
	}
	fmt.Printf("  a plugin costs %v more at the median (150 µs allowed)\n", (medians[0] - medians[1]).Round(time.Microsecond/10))
	return nil
}

func turn() time.Duration { return time.Duration(*seconds * float64(time.Second)) }

func at(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// load measures how many requests are carried.
func (b *bench) load() error {
	fmt.Println("GET, 32 clients:")
	rates, costs := make([][]float64, len(sides)), make([][]float64, len(sides))
	for range *rounds {
		for i, side := range sides {
			before := cpu(b.server) + cpu(b.plugin)
			n, took, err := b.clients(32, side.path+"/hello")
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], float64(n)/took.Seconds())
			costs[i] = append(costs[i], (cpu(b.server)+cpu(b.plugin)-before).Seconds()/float64(n)*1e6)
		}
	}
	for i, side := range sides {
		fmt.Printf("  %-9s %.0f requests/s, %.0f µs CPU each\n", side.name, median(rates[i]), median(costs[i]))
	}
	fmt.Println("  (8,000 requests/s through a plugin are asked for)")
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func (b *bench) clients(n int, path string) (total int64, took time.Duration, err error) {
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, n)
	begin := time.Now()
	end := begin.Add(turn())
	for range n {
		wg.Go(func() {
			c, err := b.caller(path)
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = c.conn.Close() }()
			for time.Now().Before(end) {
				if err := c.call(); err != nil {
					errs <- err
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err = <-errs:
	default:
	}
	return count.Load(), time.Since(begin), err
}

// stream measures chunks of streamed answers.
func (b *bench) stream() error {
	fmt.Println("streamed answers of a model (POST /api/chat/completions):")
	const size = 100_000
	for _, clients := range []int{1, 8} {
		for _, side := range sides {
			var rates []float64
			for range *rounds {
				var wg sync.WaitGroup
				errs := make(chan error, clients)
				begin := time.Now()
				for range clients {
					wg.Go(func() { errs <- b.oneStream(side.model, size/clients) })
				}
				wg.Wait()
				for range clients {
					if err := <-errs; err != nil {
						return err
					}
				}
				rates = append(rates, size/time.Since(begin).Seconds())
			}
			fmt.Printf("  %-9s %d at once: %.0f chunks/s\n", side.name, clients, median(rates))
		}
	}
	fmt.Println("  (50,000 chunks/s from a plugin are asked for)")
	return nil
}

func (b *bench) oneStream(model string, n int) error {
	body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"%d"}]}`, model, n)
	req, err := b.request(http.MethodPost, "/api/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got := 0
	buf := make([]byte, 64<<10)
	for {
		k, err := resp.Body.Read(buf)
		got += bytes.Count(buf[:k], []byte("\n\n"))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if got < n {
		return fmt.Errorf("%s: %d of %d events", resp.Status, got, n)
	}
	return nil
}

// zeros is a body of a length.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// upload measures a body of 1 GB.
func (b *bench) upload() error {
	fmt.Println("PUT of 1 GB:")
	for _, side := range sides {
		before := rss(b.server)
		var peak atomic.Int64
		done := make(chan struct{})
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
					peak.Store(max(peak.Load(), rss(b.server)))
				}
			}
		}()
		begin := time.Now()
		req, err := b.request(http.MethodPut, side.path+"/upload", &zeros{left: 1 << 30})
		if err != nil {
			return err
		}
		req.ContentLength = 1 << 30
		req.Header.Set("Content-Type", "application/octet-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		close(done)
		if err != nil || !strings.Contains(string(raw), "1073741824") {
			return fmt.Errorf("%s %s %w", resp.Status, raw, err)
		}
		took := time.Since(begin)
		fmt.Printf("  %-9s %.1f s, %.0f MiB/s, memory of the server grew by %.1f MiB\n", side.name, took.Seconds(), 1024/took.Seconds(), mib(max(peak.Load()-before, 0)))
	}
	fmt.Println("  (less than 20 MiB with a plugin is asked for)")
	return nil
}

// sockets measures 500 WebSockets at once.
func (b *bench) sockets() error {
	const n = 500
	fmt.Println("500 WebSockets open at once, 20 messages echoed on each:")
	for _, side := range sides {
		before := rss(b.server)
		conns := make([]*websocket.Conn, n)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		for i := range conns {
			c, resp, err := websocket.Dial(ctx, b.url+side.path+"/socket", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + b.token}}})
			if resp != nil && resp.Body != nil {
				_ = resp.Body.Close()
			}
			if err != nil {
				cancel()
				return err
			}
			conns[i] = c
		}
		opened := time.Since(begin)
		begin = time.Now()
		errs := make(chan error, n)
		for _, c := range conns {
			go func() { errs <- echoes(ctx, c, 20) }()
		}
		var err error
		for range conns {
			err = errors.Join(err, <-errs)
		}
		took := time.Since(begin)
		grown := rss(b.server) - before
		for _, c := range conns {
			_ = c.CloseNow()
		}
		cancel()
		if err != nil {
			return err
		}
		fmt.Printf("  %-9s opened in %.2f s, %.0f echoes/s, memory of the server grew by %.1f MiB\n", side.name, opened.Seconds(), n*20/took.Seconds(), mib(max(grown, 0)))
	}
	return nil
}

func echoes(ctx context.Context, c *websocket.Conn, n int) error {
	for i := range n {
		text := []byte("message " + strconv.Itoa(i))
		if err := c.Write(ctx, websocket.MessageText, text); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, text) {
			return fmt.Errorf("%q came back for %q", got, text)
		}
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// rss is the resident memory of a process in bytes.
func rss(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw))
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// cpu is the time a process has used.
func cpu(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
