package obs

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP collector in this process, over HTTP and gRPC.
type collector struct {
	coltrace.UnimplementedTraceServiceServer
	mu       sync.Mutex
	spans    map[string]*tracepb.Span
	resource map[string]string
	metrics  map[string]*metricspb.Metric
	auth     []string
	paths    []string
}

func newCollector() *collector {
	return &collector{spans: map[string]*tracepb.Span{}, resource: map[string]string{}, metrics: map[string]*metricspb.Metric{}}
}

func (c *collector) addSpans(m *coltrace.ExportTraceServiceRequest, auth string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.auth = append(c.auth, auth)
	for _, rs := range m.ResourceSpans {
		c.resource = attrMap(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans[s.Name] = s
			}
		}
	}
}

func (c *collector) addMetrics(m *colmetrics.ExportMetricsServiceRequest, auth string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.auth = append(c.auth, auth)
	for _, rm := range m.ResourceMetrics {
		c.resource = attrMap(rm.Resource.Attributes)
		for _, sm := range rm.ScopeMetrics {
			for _, x := range sm.Metrics {
				c.metrics[x.Name] = x
			}
		}
	}
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.paths = append(c.paths, r.URL.Path)
	c.mu.Unlock()
	auth := r.Header.Get("Authorization")
	var traces coltrace.ExportTraceServiceRequest
	var metrics colmetrics.ExportMetricsServiceRequest
	switch {
	case r.URL.Path == "/v1/traces" && proto.Unmarshal(body, &traces) == nil:
		c.addSpans(&traces, auth)
	case r.URL.Path == "/v1/metrics" && proto.Unmarshal(body, &metrics) == nil:
		c.addMetrics(&metrics, auth)
	default:
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func firstAuth(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get("authorization"), ",")
}

func (c *collector) Export(ctx context.Context, m *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	c.addSpans(m, firstAuth(ctx))
	return &coltrace.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	colmetrics.UnimplementedMetricsServiceServer
	c *collector
}

func (s metricsService) Export(ctx context.Context, m *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	s.c.addMetrics(m, firstAuth(ctx))
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

// grpc starts the gRPC side and returns its address.
func (c *collector) grpc(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	coltrace.RegisterTraceServiceServer(srv, c)
	colmetrics.RegisterMetricsServiceServer(srv, metricsService{c: c})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func attrMap(kvs []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.Key] = slog.Int64Value(v.IntValue).String()
		}
	}
	return out
}

func flush(t *testing.T, o *Obs) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := o.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// traced returns an Obs exporting to a fresh collector over HTTP.
func traced(t *testing.T, change func(*Config)) (*Obs, *collector) {
	t.Helper()
	col := newCollector()
	srv := httptest.NewServer(col)
	t.Cleanup(srv.Close)
	cfg := Config{
		ServiceName: "galley-test", ResourceAttributes: map[string]string{"deployment": "x", "service.name": "loses"},
		Traces: OTLP{Enabled: true, Protocol: ProtocolHTTP, Endpoint: srv.URL, Username: "u", Password: "p"},
	}
	if change != nil {
		change(&cfg)
	}
	o, err := New(Options{Config: cfg, Output: io.Discard, Version: "9.9"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Shutdown(context.Background()) })
	return o, col
}
