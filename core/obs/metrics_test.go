package obs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

func scrape(t *testing.T, h http.Handler, header ...string) (int, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, _ := http.NewRequest("GET", srv.URL+"/metrics", nil)
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l+"\n") {
			t.Errorf("no line %q", l)
		}
	}
}

func TestMetricsText(t *testing.T) {
	m := newMetrics(10, "1.2.3", "abc")
	route := m.HTTP("/api/v1/chats/{id}", "get")
	idle := m.HTTP("/never/asked", "POST")
	for _, status := range []int{200, 200, 404, 418, 9999, -1} {
		route.Start()
		route.Done(status, 30*time.Millisecond, 10, 100)
	}
	route.Start()
	idle.Start()
	m.Sockets(func() int { return 7 })
	m.TurnStarted()
	m.TurnStarted()
	m.TurnDone()
	if err := m.GaugeFunc("galley_users", "Users.", func() float64 { return 3 }); err != nil {
		t.Fatal(err)
	}
	if err := m.GaugeFunc("galley_users", "Users.", func() float64 { return 3 }); err == nil {
		t.Error("a name can be taken twice")
	}
	db, err := sql.Open("sqlite", t.TempDir()+"/a.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := m.DB("write", db); err != nil {
		t.Fatal(err)
	}
	if err := m.DB("read", db); err != nil {
		t.Fatal(err)
	}
	_, text := scrape(t, m.Handler(""))
	const at = `route="/api/v1/chats/{id}"`
	wantLines(t, text,
		`galley_http_requests_total{method="GET",`+at+`,status="200"} 2`,
		`galley_http_requests_total{method="GET",`+at+`,status="404"} 1`,
		`galley_http_requests_total{method="GET",`+at+`,status="418"} 1`,
		`galley_http_requests_total{method="GET",`+at+`,status="other"} 2`,
		`galley_http_request_duration_seconds_bucket{method="GET",`+at+`,le="0.025"} 0`,
		`galley_http_request_duration_seconds_bucket{method="GET",`+at+`,le="0.05"} 6`,
		`galley_http_request_duration_seconds_count{method="GET",`+at+`} 6`,
		`galley_http_request_bytes_total{method="GET",`+at+`} 60`,
		`galley_http_response_bytes_total{method="GET",`+at+`} 600`,
		`galley_http_requests_in_flight 2`, `galley_socket_connections 7`,
		`galley_turns_total 2`, `galley_turns_in_flight 1`, `galley_users 3`,
		`go_sql_max_open_connections{db_name="write"} 0`, `go_sql_max_open_connections{db_name="read"} 0`,
		`galley_telemetry_export_failures_total{signal="traces"} 0`,
	)
	for _, part := range []string{"go_goroutines ", "process_start_time_seconds ",
		`galley_build_info{goversion="go1.`, `revision="abc",version="1.2.3"} 1`} {
		if !strings.Contains(text, part) {
			t.Errorf("%q missing", part)
		}
	}
	if strings.Contains(text, "/never/asked") {
		t.Error("a route without requests has series")
	}
}

func TestMetricsToken(t *testing.T) {
	h := newMetrics(0, "", "").Handler("s3cret")
	for header, want := range map[string]int{"": 401, "Bearer no": 401, "s3cret": 401, "Bearer s3cret": 200} {
		if code, _ := scrape(t, h, "Authorization", header); code != want {
			t.Errorf("%q: %d, want %d", header, code, want)
		}
	}
	if code, _ := scrape(t, (*Metrics)(nil).Handler("")); code != 404 {
		t.Errorf("off: %d", code)
	}
}

func TestLLMSeries(t *testing.T) {
	m := newMetrics(10, "", "")
	s := m.LLM("openai", "gpt\xff")
	call := s.Start()
	call.FirstToken()
	call.FirstToken()
	call.first = call.first.Add(-2 * time.Second)
	call.Done(11, 50, nil)
	call.Done(11, 50, nil)
	for _, err := range []error{errors.New("x"), fmt.Errorf("w: %w", context.Canceled), context.DeadlineExceeded} {
		c := s.Start()
		c.Done(0, 0, err)
	}
	open := s.Start()
	_, text := scrape(t, m.Handler(""))
	const at = "model=\"gpt\uFFFD\",provider=\"openai\""
	wantLines(t, text,
		`galley_llm_requests_total{`+at+`} 5`, `galley_llm_requests_in_flight 1`,
		`galley_llm_errors_total{model="gpt`+"\uFFFD"+`",provider="openai",reason="error"} 1`,
		`galley_llm_errors_total{model="gpt`+"\uFFFD"+`",provider="openai",reason="timeout"} 1`,
		`galley_llm_errors_total{model="gpt`+"\uFFFD"+`",provider="openai",reason="canceled"} 1`,
		`galley_llm_tokens_total{kind="prompt",`+at+`} 11`, `galley_llm_tokens_total{kind="completion",`+at+`} 50`,
		`galley_llm_time_to_first_token_seconds_count{`+at+`} 1`,
		`galley_llm_request_duration_seconds_count{`+at+`} 4`,
		// 50 tokens in a little over 2 s
		`galley_llm_tokens_per_second_bucket{`+at+`,le="20"} 0`, `galley_llm_tokens_per_second_bucket{`+at+`,le="30"} 1`,
	)
	open.Done(0, 0, nil)
}

func TestModelLabelCap(t *testing.T) {
	m := newMetrics(5, "", "")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				c := m.LLM("p", fmt.Sprintf("m%d", (i+g*50)%200)).Start()
				c.Done(0, 0, nil)
			}
		})
	}
	wg.Wait()
	for i := range 100 {
		c := m.LLM(fmt.Sprintf("provider%d", i), "m").Start()
		c.Done(0, 0, nil)
	}
	_, text := scrape(t, m.Handler(""))
	const prefix = "galley_llm_requests_total{"
	total, models := 0.0, map[string]bool{}
	series := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		series++
		var n float64
		fmt.Sscan(line[strings.LastIndex(line, " "):], &n)
		total += n
		if strings.Contains(line, `provider="p"`) {
			models[line] = true
		}
	}
	if len(models) != 6 {
		t.Errorf("provider p has %d models, want 5 and other", len(models))
	}
	// 6 of p, 31 more providers with other, and other/other
	if series != 6+maxProviders-1+1 {
		t.Errorf("%d series", series)
	}
	if total != 900 {
		t.Errorf("%v calls counted, want 900", total)
	}
	if a, b := m.LLM("p", "m77"), m.LLM("p", "brand new"); b == nil || (a != b && b.v == nil) {
		t.Error("over the cap: no series")
	}
	if n := testing.AllocsPerRun(100, func() { m.LLM("p", "brand new") }); n != 0 {
		t.Errorf("looking up a capped model: %v allocations", n)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	m := newMetrics(5, "", "")
	r, s := m.HTTP("/x", "GET"), m.LLM("p", "m")
	for name, f := range map[string]func(){
		"http": func() { r.Start(); r.Done(200, time.Millisecond, 1, 2) },
		"llm":  func() { c := s.Start(); c.FirstToken(); c.Done(1, 2, nil) },
	} {
		f()
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkHTTPRouteDone(b *testing.B) {
	r := newMetrics(5, "", "").HTTP("/x", "GET")
	for b.Loop() {
		r.Start()
		r.Done(200, time.Millisecond, 1, 2)
	}
}

// TestOwnedRoute has a route go: its series go, and requests that end later bring none back.
func TestOwnedRoute(t *testing.T) {
	m := newMetrics(10, "", "")
	stays := m.HTTP("/x/{id}", "POST")
	stays.Start()
	stays.Done(200, time.Millisecond, 1, 1)
	r := m.OwnedHTTP("plugin:hello", "/x/{id}", "")
	for range 3 {
		r.Start()
	}
	r.Done(200, time.Millisecond, 3, 4)
	_, text := scrape(t, m.Handler(""))
	wantLines(t, text, `galley_http_route_info{method="ANY",owner="plugin:hello",route="/x/{id}"} 1`,
		`galley_http_requests_total{method="ANY",route="/x/{id}",status="200"} 1`)
	long := strings.Repeat("/segment", 30)
	for _, end := range []string{"/a", "/b"} {
		m.OwnedHTTP("plugin:long", long+end, "GET")
	}
	r.Forget()
	r.Done(200, time.Millisecond, 3, 4)
	r.Done(500, time.Millisecond, 3, 4)
	late := m.OwnedHTTP("plugin:hello", "/late", "GET")
	late.Start()
	late.Forget()
	late.Done(200, time.Millisecond, 3, 4)
	(*Metrics)(nil).OwnedHTTP("o", "/x", "GET").Forget()
	_, text = scrape(t, m.Handler(""))
	wantLines(t, text, `galley_http_requests_total{method="POST",route="/x/{id}",status="200"} 1`, `galley_http_requests_in_flight 0`)
	for _, gone := range []string{`"ANY"`, "/late", "plugin:hello"} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	if n := strings.Count(text, `owner="plugin:long"`); n != 2 {
		t.Errorf("%d long routes", n)
	}
	again := m.OwnedHTTP("plugin:hello", "/x/{id}", "")
	again.Start()
	again.Done(404, time.Millisecond, 0, 0)
	_, text = scrape(t, m.Handler(""))
	wantLines(t, text, `galley_http_requests_total{method="ANY",route="/x/{id}",status="404"} 1`)
}
