package obs

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scopeName is the instrumentation scope of all spans and pushed metrics.
const scopeName = "github.com/galleychat/galley/core/obs"

// Tracer starts spans and carries trace context over process borders in the
// W3C formats (traceparent, tracestate, baggage). A nil *Tracer is tracing
// switched off: contexts pass through unchanged, spans are zero, and nothing
// is allocated.
type Tracer struct {
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider
	prop     propagation.TextMapPropagator
	keys     keySet
}

func newTracer(p *sdktrace.TracerProvider, semconv int) *Tracer {
	return &Tracer{
		tracer:   p.Tracer(scopeName),
		provider: p,
		prop:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		keys:     keysFor(semconv),
	}
}

// Provider returns the OpenTelemetry provider for libraries that instrument
// themselves (gRPC). It is a no-op provider when tracing is off.
func (t *Tracer) Provider() trace.TracerProvider {
	if t == nil {
		return noop.NewTracerProvider()
	}
	return t.provider
}

// Span is a started span. The zero value does nothing. Its methods take plain
// types rather than attributes so that a call costs nothing when off.
type Span struct {
	span trace.Span
	t    *Tracer
	path string // of a server span, kept until its route is known
}

// Recording tells whether anything set on the span is kept: it guards work
// done only to describe it.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// End ends the span. Only the first call counts.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// SetString sets an attribute. Secrets that [Redact] knows are blotted out.
func (s Span) SetString(key, value string) {
	if s.Recording() {
		s.span.SetAttributes(attribute.String(key, Redact(value)))
	}
}

// SetInt sets an attribute.
func (s Span) SetInt(key string, value int) {
	if s.Recording() {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Fail marks the span as failed and records err as an exception event. A nil
// err does nothing; context.Canceled is recorded without marking a failure,
// since a client that went away is not one.
func (s Span) Fail(err error) {
	if err == nil || !s.Recording() {
		return
	}
	msg := Redact(err.Error())
	s.span.AddEvent("exception", trace.WithAttributes(attribute.String("exception.message", msg)))
	if !errors.Is(err, context.Canceled) {
		s.span.SetStatus(codes.Error, msg)
	}
}

// Tokens sets gen_ai.usage.input_tokens and gen_ai.usage.output_tokens.
func (s Span) Tokens(prompt, completion int) {
	s.SetInt("gen_ai.usage.input_tokens", prompt)
	s.SetInt("gen_ai.usage.output_tokens", completion)
}

// Route names a server span "METHOD pattern" and sets http.route, for callers
// that learn the pattern only after the span began. pattern may begin with the
// method, as in [http.Request].Pattern.
func (s Span) Route(method, pattern string) {
	if s.Recording() {
		pattern = trimMethod(pattern)
		s.span.SetName(method + " " + pattern)
		s.span.SetAttributes(s.t.routeAttrs(nil, pattern, s.path)...)
	}
}

// routeAttrs adds the route and the path, unless the path holds a secret: the
// last segment of a channel's webhook URL is its password.
func (t *Tracer) routeAttrs(dst []attribute.KeyValue, pattern, path string) []attribute.KeyValue {
	if strings.Contains(pattern, "{token") {
		path = pattern
	}
	return append(t.keys.path.add(dst, path), attribute.String("http.route", pattern))
}

// Status sets the response status of a server span; 500 and above fail it.
func (s Span) Status(code int) {
	if !s.Recording() {
		return
	}
	s.span.SetAttributes(s.t.keys.status.ints(code)...)
	if code >= 500 {
		s.span.SetStatus(codes.Error, "")
	}
}

// Server starts the server span of a request, named "METHOD pattern", as a
// child of the caller's traceparent if there is one. pattern may begin with
// the method; if it is empty the name is the method alone until [Span.Route].
// The query is left out of the attributes, as is the path of a pattern with a
// {token}: both are ways to pass secrets.
func (t *Tracer) Server(r *http.Request, pattern string) (context.Context, Span) {
	if t == nil {
		return r.Context(), Span{}
	}
	ctx := t.prop.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	name, scheme := r.Method, "http"
	if r.TLS != nil || r.URL.Scheme == "https" {
		scheme = "https"
	}
	k := &t.keys
	attrs := make([]attribute.KeyValue, 0, 12)
	attrs = k.method.add(attrs, r.Method)
	attrs = k.scheme.add(attrs, scheme)
	attrs = k.userAgent.add(attrs, r.UserAgent())
	if pattern != "" {
		pattern = trimMethod(pattern)
		name += " " + pattern
		attrs = t.routeAttrs(attrs, pattern, r.URL.Path)
	}
	ctx, span := t.start(ctx, name, trace.SpanKindServer, attrs)
	span.path = r.URL.Path
	return ctx, span
}

// Query starts the client span of a database query. system is "sqlite" or
// "postgresql", statement the SQL text with placeholders; the span is named
// after its first word.
func (t *Tracer) Query(ctx context.Context, system, statement string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	op := operation(statement)
	k := &t.keys
	attrs := make([]attribute.KeyValue, 0, 6)
	attrs = k.dbSystem.add(attrs, system)
	attrs = k.dbOperation.add(attrs, op)
	attrs = k.dbStatement.add(attrs, statement)
	return t.start(ctx, op, trace.SpanKindClient, attrs)
}

// LLM starts the span of a call to a model provider with the gen_ai.*
// attributes, named "operation model". operation is one of OpenTelemetry's
// ("chat", "embeddings", ...). Unlike the HTTP span of [Tracer.Transport]
// inside it, it covers retries and the reading of the stream.
func (t *Tracer) LLM(ctx context.Context, operation, provider, model string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	return t.start(ctx, operation+" "+model, trace.SpanKindClient, []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", operation),
		attribute.String("gen_ai.provider.name", provider),
		attribute.String("gen_ai.request.model", model),
	})
}

// Start starts a span for work inside this process.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	return t.start(ctx, name, trace.SpanKindInternal, nil)
}

func (t *Tracer) start(ctx context.Context, name string, kind trace.SpanKind, attrs []attribute.KeyValue) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	return ctx, Span{span: span, t: t}
}

// Inject writes the trace context of ctx into h (traceparent, tracestate, baggage).
func (t *Tracer) Inject(ctx context.Context, h http.Header) {
	if t != nil {
		t.prop.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// Extract returns ctx with the trace context found in h.
func (t *Tracer) Extract(ctx context.Context, h http.Header) context.Context {
	if t == nil {
		return ctx
	}
	return t.prop.Extract(ctx, propagation.HeaderCarrier(h))
}

func trimMethod(pattern string) string {
	if method, rest, ok := strings.Cut(pattern, " "); ok && !strings.Contains(method, "/") {
		return strings.TrimLeft(rest, " ")
	}
	return pattern
}

// operation is the first word of an SQL text in upper case.
func operation(statement string) string {
	s := strings.TrimLeft(statement, " \t\r\n(")
	if i := strings.IndexAny(s, " \t\r\n("); i >= 0 {
		s = s[:i]
	}
	if s == "" {
		return "QUERY"
	}
	return strings.ToUpper(s)
}

// keyNames are the one or two names an attribute goes by.
type keyNames []attribute.Key

func (k keyNames) add(dst []attribute.KeyValue, v string) []attribute.KeyValue {
	if v == "" {
		return dst
	}
	for _, key := range k {
		dst = append(dst, key.String(v))
	}
	return dst
}

func (k keyNames) ints(v int) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, 2)
	for _, key := range k {
		out = append(out, key.Int(v))
	}
	return out
}

// keySet is the vocabulary chosen by Config.Semconv.
type keySet struct {
	method, path, scheme, userAgent, status, url, host keyNames
	dbSystem, dbOperation, dbStatement                 keyNames
}

func keysFor(semconv int) keySet {
	pick := func(legacy, stable attribute.Key) (out keyNames) {
		if semconv&SemconvLegacy != 0 || semconv == 0 {
			out = append(out, legacy)
		}
		if semconv&SemconvStable != 0 {
			out = append(out, stable)
		}
		return out
	}
	return keySet{
		method:      pick("http.method", "http.request.method"),
		path:        pick("http.target", "url.path"),
		scheme:      pick("http.scheme", "url.scheme"),
		userAgent:   pick("http.user_agent", "user_agent.original"),
		status:      pick("http.status_code", "http.response.status_code"),
		url:         pick("http.url", "url.full"),
		host:        pick("net.peer.name", "server.address"),
		dbSystem:    pick("db.system", "db.system.name"),
		dbOperation: pick("db.operation", "db.operation.name"),
		dbStatement: pick("db.statement", "db.query.text"),
	}
}
