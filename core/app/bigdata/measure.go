package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
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

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/store"
)

// measuring says what is measured and how.
type measuring struct {
	url, galley string
	spread      int // users that take part, besides the heaviest
	seconds     int // of the load
	clients     int // of the load
	port        int
	only        string
	cold        bool // throw the system's page cache away before each start
	settle      bool // wait until the server has done what it does in the background after a start
	writes      int  // a second, so that no answer is remembered for long
}

// The limits that a large database has to keep.
const (
	maxStart  = time.Second
	maxList   = 20 * time.Millisecond
	maxSearch = 100 * time.Millisecond
	maxMemory = 150 << 20
	secretKey = "bigdata"
)

// account is a user that requests are sent for.
type account struct {
	id, name, email, token string
	chats                  int
}

// server is the process that is measured.
type server struct {
	*measuring
	cmd    *exec.Cmd
	log    *os.File
	dir    string
	client *http.Client
	bytes  atomic.Int64
}

func measure(ctx context.Context, m measuring) error {
	users, err := accounts(ctx, m.url)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "big-measure-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := &report{out: os.Stdout}
	s := &server{measuring: &m, dir: dir, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: m.clients + 1}}}
	fmt.Printf("%s, %d users; process-wide page cache: %s\n", m.url, len(users), map[bool]string{true: "dropped before each start", false: "as it was"}[m.cold])
	var starts []time.Duration
	for range 3 {
		took, err := s.start(ctx)
		if err != nil {
			return err
		}
		starts = append(starts, took)
		if len(starts) < 3 {
			s.stop()
		}
	}
	defer s.stop()
	r.row("start until /ready", starts, maxStart, 0)
	fmt.Printf("idle: %.1f MiB resident\n", mib(s.status("VmRSS")))
	if err := s.signIn(ctx, users[adminUser].email); err != nil {
		return err
	}
	if m.settle {
		begin := time.Now()
		if err := s.settled(ctx); err != nil {
			return err
		}
		fmt.Printf("settled after %v, %.1f MiB resident, %.1f MiB at the peak\n", time.Since(begin).Round(time.Second), mib(s.status("VmRSS")), mib(s.status("VmHWM")))
		text, _ := os.ReadFile(s.log.Name())
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "index made") || strings.Contains(line, "search prepared") || strings.Contains(line, "level=WARN") {
				fmt.Print("  ", line)
			}
		}
	}
	stop := s.write(ctx, users[adminUser])
	defer stop()
	for _, c := range s.cases(users) {
		if m.only != "" && !strings.Contains(c.name, m.only) {
			continue
		}
		if err := s.run(ctx, r, c); err != nil {
			return err
		}
	}
	if m.seconds > 0 {
		if err := s.load(ctx, r, users); err != nil {
			return err
		}
	}
	return r.verdict()
}

// accounts reads who there is, with session tokens made by the key that the server is started with.
func accounts(ctx context.Context, address string) ([]account, error) {
	db, err := store.Open(ctx, address, store.Options{Existing: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(ctx, `SELECT u.id, u.name, u.email, COALESCE(a.session_stamp, ''), (SELECT COUNT(*) FROM chat c WHERE c.user_id = u.id) FROM "user" u JOIN auth a ON a.id = u.id ORDER BY u.created_at`)
	tokens := auth.NewTokens(secretKey)
	list, err := store.Collect(rows, err, func(r *sql.Rows) (a account, err error) {
		var stamp string
		if err = r.Scan(&a.id, &a.name, &a.email, &stamp, &a.chats); err != nil {
			return a, err
		}
		a.token, _, err = tokens.Make(auth.Claims{ID: a.id, Stamp: stamp, Expires: time.Now().Add(24 * time.Hour).Unix()})
		return a, err
	})
	if err == nil && len(list) <= taggedUser {
		err = errors.New("this database was not made by bigdata generate")
	}
	return list, err
}

// start starts the server and gives how long it took until it was ready.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	if s.cold {
		syscall.Sync()
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
			return 0, fmt.Errorf("--cold needs root: %w", err)
		}
	}
	var err error
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return 0, err
	}
	s.cmd = exec.Command(s.galley, "serve")
	s.cmd.Env = append(os.Environ(), "HOST=127.0.0.1", "PORT="+strconv.Itoa(s.port), "DATA_DIR="+s.dir, "DATABASE_URL="+s.url, "WEBUI_SECRET_KEY="+secretKey,
		"ENABLE_OPENAI_API=false", "ENABLE_OLLAMA_API=false", "ENABLE_VERSION_UPDATE_CHECK=false", "LICENSE_KEY=")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return 0, err
	}
	for time.Since(begin) < 2*time.Minute && ctx.Err() == nil {
		resp, err := s.client.Get(s.address("/ready"))
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(begin), nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.log.Name())
	s.stop()
	return 0, fmt.Errorf("the server did not become ready: %s", bytes.TrimSpace(text))
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	_ = s.log.Close()
	s.client.CloseIdleConnections()
}

func (s *server) address(path string) string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) + path
}

// settled waits until the server has used next to no processor, and stored no more sieves, for ten seconds.
func (s *server) settled(ctx context.Context) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	defer db.Close()
	last, since := s.cpu(), time.Now()
	var stored, before int
	for time.Since(since) < 10*time.Second {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM galley_chat_sieve").Scan(&stored); err != nil {
			return err
		}
		if now := s.cpu(); now-last > 50*time.Millisecond || stored != before {
			last, before, since = now, stored, time.Now()
		}
	}
	return nil
}

// write changes something that concerns no chat, over and over until stop is called.
func (s *server) write(ctx context.Context, u account) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	if s.writes <= 0 {
		return cancel
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(s.writes))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			q := request{http.MethodPost, "/api/v1/users/user/info/update", fmt.Sprintf(`{"measured":%d}`, n)}
			if _, err := s.send(ctx, u.token, q); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "bigdata: write:", err)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// signIn shows that the accounts' password is good.
func (s *server) signIn(ctx context.Context, email string) error {
	_, err := s.send(ctx, "", request{method: http.MethodPost, path: "/api/v1/auths/signin", body: fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)})
	return err
}

// request is one question to the server.
type request struct {
	method, path, body string
}

func get(path string) request { return request{http.MethodGet, path, ""} }

// send asks and gives how long it took until the whole answer was there.
func (s *server) send(ctx context.Context, token string, q request) (time.Duration, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, q.method, s.address(q.path), strings.NewReader(q.body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return 0, fmt.Errorf("%s %s: %s %s", q.method, q.path, resp.Status, text)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	s.bytes.Add(n)
	return time.Since(begin), err
}

// run measures a case: each of its users in turn, as often as it says.
func (s *server) run(ctx context.Context, r *report, c measurement) error {
	for pass := range max(c.passes, 1) {
		var all []time.Duration
		before := s.cpu()
		for _, u := range c.users {
			for _, q := range c.requests(u) {
				took, err := s.send(ctx, u.token, q)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				all = append(all, took)
			}
		}
		if len(all) == 0 {
			return nil
		}
		name := c.name
		if c.passes > 1 {
			name += []string{", first time", ", again"}[min(pass, 1)]
		}
		r.row(name, all, c.limit, (s.cpu()-before)/time.Duration(len(all)))
	}
	return nil
}

// load sends what many users do at once, and watches the server's memory.
func (s *server) load(ctx context.Context, r *report, users []account) error {
	var peak, count atomic.Int64
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for watch.Err() == nil {
			peak.Store(max(peak.Load(), s.status("VmRSS")))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	end := time.Now().Add(time.Duration(s.seconds) * time.Second)
	errs := make(chan error, s.clients)
	var mu sync.Mutex
	took := map[string][]time.Duration{}
	before := s.cpu()
	for i := range s.clients {
		go func() {
			rng := rand.New(rand.NewPCG(uint64(i), 5))
			for time.Now().Before(end) {
				u := users[rng.IntN(len(users))]
				if rng.IntN(20) == 0 {
					u = users[heavyUser]
				}
				kind := "a list"
				q := get("/api/v1/chats/?page=" + strconv.Itoa(1+rng.IntN(3)))
				switch rng.IntN(10) {
				case 0, 1:
					kind, q = "a search", get("/api/v1/chats/search?text="+url.QueryEscape(someTerm(rng)))
				case 2:
					kind, q = "a search everywhere", get("/api/v1/search?q="+url.QueryEscape(someTerm(rng)))
				}
				d, err := s.send(ctx, u.token, q)
				if err != nil {
					errs <- err
					return
				}
				count.Add(1)
				mu.Lock()
				took[kind] = append(took[kind], d)
				mu.Unlock()
			}
			errs <- nil
		}()
	}
	var err error
	for range s.clients {
		err = errors.Join(err, <-errs)
	}
	stop()
	if err != nil {
		return err
	}
	n := count.Load()
	fmt.Printf("\nload: %d clients for %d s, seven lists to three searches, a twentieth by the heaviest user: %.0f requests/s, %.2f ms CPU each\n",
		s.clients, s.seconds, float64(n)/float64(s.seconds), float64((s.cpu()-before).Microseconds())/float64(n)/1000)
	for _, kind := range []string{"a list", "a search", "a search everywhere"} {
		r.row("under load, "+kind, took[kind], 0, 0)
	}
	fmt.Printf("memory: %.1f MiB at the peak of the load, %.1f MiB at the peak since the start, %.1f MiB at the end (%.1f MiB of it the program's own pages)\n",
		mib(peak.Load()), mib(s.status("VmHWM")), mib(s.status("VmRSS")), mib(s.status("RssFile")))
	if hwm := s.status("VmHWM"); hwm > maxMemory {
		r.failed = append(r.failed, fmt.Sprintf("memory: %.1f MiB", mib(hwm)))
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// status reads a line of the server's /proc/PID/status, in bytes.
func (s *server) status(key string) int64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// cpu is the time that the server has used; that of Postgres is not in it.
func (s *server) cpu() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// report is the table of results.
type report struct {
	out    io.Writer
	head   bool
	failed []string
}

// row writes one line. A limit counts for the median.
func (r *report) row(name string, all []time.Duration, limit, cpu time.Duration) {
	if !r.head {
		r.head = true
		fmt.Fprintf(r.out, "%-52s %6s %9s %9s %9s %9s %9s\n", "", "n", "median", "p99", "max", "CPU", "limit")
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(int(float64(len(all))*q), len(all)-1)] }
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	bound, mark, spent := "", "", ""
	if cpu > 0 {
		spent = ms(cpu)
	}
	if len(all) == 0 {
		return
	}
	if limit > 0 {
		bound = fmt.Sprintf("%d ms", limit.Milliseconds())
		if at(.5) > limit {
			mark = "  TOO SLOW"
			r.failed = append(r.failed, name)
		}
	}
	fmt.Fprintf(r.out, "%-52s %6d %9s %9s %9s %9s %9s%s\n", name, len(all), ms(at(.5)), ms(at(.99)), ms(all[len(all)-1]), spent, bound, mark)
}

func (r *report) verdict() error {
	if len(r.failed) > 0 {
		return errors.New("over the limit: " + strings.Join(r.failed, "; "))
	}
	return nil
}

// database opens what the server serves, besides it.
func (s *server) database() (*store.DB, error) {
	return store.Open(context.Background(), s.url, store.Options{Existing: true, SkipSchemaCheck: true, Readers: 1, PoolSize: 1})
}

func storeStrings(db *store.DB, query string, args ...any) ([]string, error) {
	return store.Strings(db.Query(context.Background(), query, args...))
}
