package obs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	remoteTrace  = "0af7651916cd43dd8448eb211c80319c"
	remoteSpan   = "b7ad6b7169203331"
	remoteParent = "00-" + remoteTrace + "-" + remoteSpan + "-01"
)

func TestTraceAcrossProcesses(t *testing.T) {
	o, col := traced(t, nil)
	var seen http.Header
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "data: x\n\n")
	}))
	defer upstream.Close()

	in := httptest.NewRequest("POST", "/api/v1/chats/7?token=hunter2", nil)
	in.Header.Set("traceparent", remoteParent)
	in.Header.Set("baggage", "tenant=a")
	ctx, server := o.Tracer.Server(in, "POST /api/v1/chats/{id}")
	_, query := o.Tracer.Query(ctx, "sqlite", "select id from chat where id = $1")
	query.Fail(errors.New("boom key=1 Bearer abcdefghijklmnopqrstuvwxyz"))
	query.End()
	llmCtx, llm := o.Tracer.LLM(ctx, "chat", "openai", "gpt")
	req, _ := http.NewRequestWithContext(llmCtx, "POST", upstream.URL+"/v1/chat?key=hunter2", nil)
	res, err := (&http.Client{Transport: o.Tracer.Transport(nil)}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if req.Header.Get("traceparent") != "" {
		t.Error("the caller's headers were changed")
	}
	llm.Tokens(3, 4)
	llm.End()
	server.Status(500)
	server.End()
	flush(t, o)

	s, q, l, c := col.spans["POST /api/v1/chats/{id}"], col.spans["SELECT"], col.spans["chat gpt"], col.spans["POST"]
	if s == nil || q == nil || l == nil || c == nil {
		t.Fatalf("spans: %v", col.spans)
	}
	for _, span := range col.spans {
		if got := hexOf(span.TraceId); got != remoteTrace {
			t.Errorf("%s is in trace %s", span.Name, got)
		}
		if strings.Contains(span.String(), "hunter2") || strings.Contains(span.String(), "abcdefghijkl") {
			t.Errorf("secret in %s", span)
		}
	}
	for _, tc := range []struct {
		child *tracepb.Span
		want  string
	}{{s, remoteSpan}, {q, hexOf(s.SpanId)}, {l, hexOf(s.SpanId)}, {c, hexOf(l.SpanId)}} {
		if got := hexOf(tc.child.ParentSpanId); got != tc.want {
			t.Errorf("parent of %s is %s, want %s", tc.child.Name, got, tc.want)
		}
	}
	if want := "00-" + remoteTrace + "-" + hexOf(c.SpanId) + "-01"; seen.Get("traceparent") != want {
		t.Errorf("upstream saw %q, want %q", seen.Get("traceparent"), want)
	}
	if seen.Get("baggage") != "tenant=a" {
		t.Errorf("baggage %q", seen.Get("baggage"))
	}
	checkSpan(t, s, tracepb.Span_SPAN_KIND_SERVER, true, map[string]string{"http.method": "POST",
		"http.route": "/api/v1/chats/{id}", "http.target": "/api/v1/chats/7", "http.status_code": "500", "http.scheme": "http"})
	checkSpan(t, q, tracepb.Span_SPAN_KIND_CLIENT, true, map[string]string{"db.system": "sqlite",
		"db.operation": "SELECT", "db.statement": "select id from chat where id = $1"})
	checkSpan(t, l, tracepb.Span_SPAN_KIND_CLIENT, false, map[string]string{"gen_ai.operation.name": "chat",
		"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt", "gen_ai.usage.input_tokens": "3", "gen_ai.usage.output_tokens": "4"})
	checkSpan(t, c, tracepb.Span_SPAN_KIND_CLIENT, true, map[string]string{"http.url": upstream.URL + "/v1/chat",
		"http.status_code": "429"})
	if col.resource["service.name"] != "galley-test" || col.resource["deployment"] != "x" || col.resource["service.version"] != "9.9" {
		t.Errorf("resource %v", col.resource)
	}
	if col.auth[0] != "Basic dTpw" {
		t.Errorf("authorization %q", col.auth[0])
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, x := range b {
		out.WriteByte(digits[x>>4])
		out.WriteByte(digits[x&15])
	}
	return out.String()
}

func checkSpan(t *testing.T, s *tracepb.Span, kind tracepb.Span_SpanKind, failed bool, want map[string]string) {
	t.Helper()
	if s.Kind != kind {
		t.Errorf("%s: kind %v", s.Name, s.Kind)
	}
	if got := s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; got != failed {
		t.Errorf("%s: failed %v", s.Name, got)
	}
	got := attrMap(s.Attributes)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %s = %q, want %q", s.Name, k, got[k], v)
		}
	}
}

func TestRouteSetLater(t *testing.T) {
	o, col := traced(t, func(c *Config) { c.Semconv = SemconvStable })
	r := httptest.NewRequest("POST", "/api/v1/channels/webhooks/1/hunter2", nil)
	_, span := o.Tracer.Server(r, "")
	span.Route("POST", "POST /api/v1/channels/webhooks/{id}/{token}")
	span.Status(404)
	span.End()
	_, plain := o.Tracer.Server(httptest.NewRequest("GET", "/x/1", nil), "/x/{n}")
	plain.End()
	flush(t, o)
	s := col.spans["POST /api/v1/channels/webhooks/{id}/{token}"]
	if s == nil {
		t.Fatalf("spans: %v", col.spans)
	}
	if strings.Contains(s.String(), "hunter2") {
		t.Errorf("the webhook's token is in the span: %s", s)
	}
	checkSpan(t, s, tracepb.Span_SPAN_KIND_SERVER, false, map[string]string{"http.response.status_code": "404", "http.method": ""})
	checkSpan(t, col.spans["GET /x/{n}"], tracepb.Span_SPAN_KIND_SERVER, false, map[string]string{"url.path": "/x/1"})
}

func TestSampler(t *testing.T) {
	for _, tc := range []struct {
		name         string
		ratio        float64
		root, remote bool
	}{
		{"", 0, true, true},
		{"always_on", 0, true, true},
		{"always_off", 1, false, false},
		{"traceidratio", 0, false, false},
		{"parentbased_always_on", 0, true, true},
		{"parentbased_always_off", 1, false, true},
		{"parentbased_traceidratio", 0, false, true},
	} {
		o, _ := traced(t, func(c *Config) { c.Sampler, c.SamplerRatio = tc.name, tc.ratio })
		_, root := o.Tracer.Start(context.Background(), "root")
		in := httptest.NewRequest("GET", "/", nil)
		in.Header.Set("traceparent", remoteParent)
		_, remote := o.Tracer.Server(in, "/")
		if root.Recording() != tc.root || remote.Recording() != tc.remote {
			t.Errorf("%q: root %v, remote %v", tc.name, root.Recording(), remote.Recording())
		}
	}
}

func TestTransportEdges(t *testing.T) {
	o, col := traced(t, nil)
	boom := errors.New("refused")
	rt := o.Tracer.Transport(roundTrip(func(r *http.Request) (*http.Response, error) {
		switch r.URL.Path {
		case "/err":
			return nil, boom
		case "/upgrade":
			return &http.Response{StatusCode: 101, Body: struct{ io.ReadWriteCloser }{}}, nil
		}
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("rest"))}, nil
	}))
	do := func(method, path string) (*http.Response, error) {
		return rt.RoundTrip(httptest.NewRequest(method, "http://h"+path, nil))
	}
	if _, err := do("GET", "/err"); !errors.Is(err, boom) {
		t.Error(err)
	}
	up, _ := do("PUT", "/upgrade")
	if _, ok := up.Body.(io.ReadWriteCloser); !ok {
		t.Error("an upgraded body cannot be written to")
	}
	res, _ := do("DELETE", "/unread")
	res.Body.Close()
	res.Body.Close()
	open, _ := do("PATCH", "/open")
	flush(t, o)
	if col.spans["GET"] == nil || col.spans["PUT"] == nil || col.spans["DELETE"] == nil {
		t.Errorf("spans: %v", col.spans)
	}
	if col.spans["PATCH"] != nil {
		t.Error("a span ended before its body")
	}
	open.Body.Close()
	checkSpan(t, col.spans["GET"], tracepb.Span_SPAN_KIND_CLIENT, true, nil)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGRPCExport(t *testing.T) {
	col := newCollector()
	addr := col.grpc(t)
	to := OTLP{Enabled: true, Protocol: ProtocolGRPC, Endpoint: "http://" + addr, Insecure: true, Username: "u", Password: "p"}
	o, err := New(Options{Config: Config{Traces: to, MetricsPush: to, MetricsInterval: time.Hour}, Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	_, span := o.Tracer.Start(context.Background(), "work")
	span.End()
	flush(t, o)
	if col.spans["work"] == nil || col.metrics["galley_turns_total"] == nil {
		t.Errorf("spans %v, %d metrics", col.spans, len(col.metrics))
	}
	for _, a := range col.auth {
		if a != "Basic dTpw" {
			t.Errorf("authorization %q", a)
		}
	}
}

// As in the reference, http:// does not turn TLS off for gRPC.
func TestGRPCNeedsInsecureForPlaintext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [1]byte
		_, _ = io.ReadFull(conn, b[:])
		first <- b[0]
	}()
	o, err := New(Options{Output: io.Discard, Config: Config{
		Traces: OTLP{Enabled: true, Protocol: ProtocolGRPC, Endpoint: "http://" + l.Addr().String()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, span := o.Tracer.Start(context.Background(), "work")
	span.End()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = o.Shutdown(ctx) }()
	select {
	case b := <-first:
		if b != byte(0x16) { // the TLS record type of a ClientHello
			t.Errorf("first byte %#x, want a TLS handshake", b)
		}
	case <-time.After(5 * time.Second):
		t.Error("no connection")
	}
	cancel()
}

func TestMetricsPush(t *testing.T) {
	o, col := traced(t, func(c *Config) {
		c.MetricsPush, c.MetricsInterval = c.Traces, 5*time.Millisecond
		c.Traces.Enabled = false
	})
	if o.Tracer != nil {
		t.Fatal("traces are on")
	}
	r := o.Metrics.HTTP("/a", "GET")
	for _, d := range []time.Duration{time.Microsecond, 30 * time.Millisecond, time.Hour} {
		r.Start()
		r.Done(200, d, 0, 0)
	}
	deadline := time.Now().Add(5 * time.Second)
	for pushed := false; !pushed; { // by the ticker, before Shutdown
		<-time.After(time.Millisecond)
		col.mu.Lock()
		pushed = col.metrics["galley_http_requests_total"] != nil
		col.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("nothing was pushed")
		}
	}
	flush(t, o)
	sum := col.metrics["galley_http_requests_total"].GetSum()
	if p := sum.DataPoints[0]; p.GetAsDouble() != 3 || attrMap(p.Attributes)["status"] != "200" || !sum.IsMonotonic {
		t.Errorf("sum: %v", sum)
	}
	h := col.metrics["galley_http_request_duration_seconds"].GetHistogram().DataPoints[0]
	if len(h.BucketCounts) != len(h.ExplicitBounds)+1 || len(h.ExplicitBounds) != len(httpBuckets) {
		t.Errorf("%d counts for %d bounds", len(h.BucketCounts), len(h.ExplicitBounds))
	}
	for i, n := range h.BucketCounts {
		want := uint64(0)
		if i == 0 || i == len(h.BucketCounts)-1 || h.ExplicitBounds[i] == .05 {
			want = 1
		}
		if n != want {
			t.Errorf("bucket %d: %d, want %d", i, n, want)
		}
	}
	if h.Count != 3 || h.GetSum() < 3600 {
		t.Errorf("count %d sum %v", h.Count, h.GetSum())
	}
	if col.metrics["go_goroutines"].GetGauge() == nil || col.metrics["go_gc_duration_seconds"].GetSummary() == nil {
		t.Error("gauges or summaries missing")
	}
	if code, _ := scrape(t, o.MetricsHandler()); code != 404 {
		t.Errorf("scraping is off, answer %d", code)
	}
}

func TestExportFailureIsReported(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer srv.Close()
	var buf bytes.Buffer
	o, err := New(Options{Output: &buf, Config: Config{Metrics: true, LogsRequested: true,
		Traces: OTLP{Enabled: true, Protocol: ProtocolHTTP, Endpoint: srv.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	_, span := o.Tracer.Start(context.Background(), "lost")
	span.End()
	flush(t, o)
	if !strings.Contains(buf.String(), "telemetry export failed") || !strings.Contains(buf.String(), "signal=traces") {
		t.Errorf("log: %s", buf.String())
	}
	if !strings.Contains(buf.String(), "ENABLE_OTEL_LOGS") {
		t.Errorf("log: %s", buf.String())
	}
	_, text := scrape(t, o.MetricsHandler())
	wantLines(t, text, `galley_telemetry_export_failures_total{signal="traces"} 1`)
}

func TestReporterIsQuiet(t *testing.T) {
	var buf bytes.Buffer
	o := &Obs{Log: NewLogger(&buf, FormatText, slog.LevelInfo), Metrics: newMetrics(0, "", "")}
	report := o.reporter(signalMetrics)
	for range 50 {
		report(errors.New("away"))
	}
	if n := strings.Count(buf.String(), "\n"); n != 1 {
		t.Errorf("%d lines for 50 failures", n)
	}
}

func TestShutdownKeepsToItsContext(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer srv.Close()
	defer close(block)
	to := OTLP{Enabled: true, Protocol: ProtocolHTTP, Endpoint: srv.URL}
	o, err := New(Options{Output: io.Discard, Config: Config{Traces: to, MetricsPush: to}})
	if err != nil {
		t.Fatal(err)
	}
	_, span := o.Tracer.Start(context.Background(), "stuck")
	span.End()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := o.Shutdown(ctx); err == nil || time.Since(begin) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

func TestNewRefusesBadEndpoint(t *testing.T) {
	bad := OTLP{Enabled: true, Endpoint: "ftp://x"}
	for _, c := range []Config{{Traces: bad}, {MetricsPush: bad}} {
		if _, err := New(Options{Config: c, Output: io.Discard}); err == nil || !strings.Contains(err.Error(), "endpoint") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
