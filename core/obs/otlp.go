package obs

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Values of the label signal.
const (
	signalTraces  = "traces"
	signalMetrics = "metrics"
)

// startTraces makes the tracer and its exporter if traces are on.
func (o *Obs) startTraces(c Config, version string) error {
	if !c.Traces.Enabled {
		return nil
	}
	client, err := traceClient(c.Traces)
	if err != nil {
		return err
	}
	exp, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return fmt.Errorf("obs: trace exporter: %w", err)
	}
	res, err := newResource(c, version)
	if err != nil {
		return err
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sampler(c.Sampler, c.SamplerRatio)),
		sdktrace.WithBatcher(&watchedExporter{SpanExporter: exp, report: o.reporter(signalTraces)}),
	)
	o.Tracer = newTracer(p, c.Semconv)
	o.stop = append(o.stop, func(ctx context.Context) error {
		if err := p.Shutdown(ctx); err != nil {
			return fmt.Errorf("obs: flush traces: %w", err)
		}
		return nil
	})
	return nil
}

func traceClient(c OTLP) (otlptrace.Client, error) {
	target, err := c.target("/v1/traces")
	if err != nil {
		return nil, err
	}
	if c.Protocol == ProtocolHTTP {
		opts := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(target)}
		if h := c.headers(); h != nil {
			opts = append(opts, otlptracehttp.WithHeaders(h))
		}
		return otlptracehttp.NewClient(opts...), nil
	}
	opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(target)}
	if h := c.headers(); h != nil {
		opts = append(opts, otlptracegrpc.WithHeaders(h))
	}
	return otlptracegrpc.NewClient(opts...), nil
}

// target is the endpoint as a URL whose scheme alone says whether TLS is used.
// Over HTTP it ends in a path, defaultPath if none is configured: collectors
// take nothing at the root.
func (c OTLP) target(defaultPath string) (string, error) {
	scheme, u, err := splitEndpoint(c.Endpoint)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, Redact(c.Endpoint))
	}
	out := url.URL{Scheme: "https", Host: u.Host}
	if c.Protocol != ProtocolHTTP {
		if c.Insecure && scheme != "https" {
			out.Scheme = "http"
		}
		return out.String(), nil
	}
	if scheme == "http" || scheme == "" && c.Insecure {
		out.Scheme = "http"
	}
	out.Path = u.Path
	if out.Path == "" || out.Path == "/" {
		out.Path = defaultPath
	}
	return out.String(), nil
}

// headers are the basic credentials, nil unless both halves are set. The name
// is in lower case as gRPC metadata wants it.
func (c OTLP) headers() map[string]string {
	if c.Username == "" || c.Password == "" {
		return nil
	}
	pair := c.Username + ":" + string(c.Password)
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}
}

// newResource describes this process. As in the reference the service name
// wins over one among the resource attributes.
func newResource(c Config, version string) (*resource.Resource, error) {
	var attrs []attribute.KeyValue
	if version != "" {
		attrs = append(attrs, attribute.String("service.version", version))
	}
	for k, v := range c.ResourceAttributes {
		attrs = append(attrs, attribute.String(k, v))
	}
	if c.ServiceName != "" {
		attrs = append(attrs, attribute.String("service.name", c.ServiceName))
	}
	res, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(attrs...))
	if err != nil {
		return nil, fmt.Errorf("obs: resource: %w", err)
	}
	return res, nil
}

func sampler(name string, ratio float64) sdktrace.Sampler {
	switch name {
	case "always_on":
		return sdktrace.AlwaysSample()
	case "always_off":
		return sdktrace.NeverSample()
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio)
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample())
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	}
	return sdktrace.ParentBased(sdktrace.AlwaysSample())
}

// watchedExporter keeps export errors away from otel's global error handler.
type watchedExporter struct {
	sdktrace.SpanExporter
	report func(error)
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *watchedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.report(err)
	}
	return nil
}

// reportEvery spaces the log lines about a collector that stays away.
const reportEvery = time.Minute

// reporter counts the failures of a signal and logs at most one a minute.
func (o *Obs) reporter(signal string) func(error) {
	var mu sync.Mutex
	var last time.Time
	var silent int
	return func(err error) {
		o.Metrics.exportFailed(signal)
		mu.Lock()
		if !last.IsZero() && time.Since(last) < reportEvery {
			silent++
			mu.Unlock()
			return
		}
		n := silent
		last, silent = time.Now(), 0
		mu.Unlock()
		o.Log.Warn("telemetry export failed",
			slog.String("signal", signal), slog.Any("error", err), slog.Int("failures_not_logged", n))
	}
}
