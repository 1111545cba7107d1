// Package obs is Galley's observability: structured logs (log/slog), Prometheus
// metrics in a registry of its own, and OpenTelemetry traces.
//
// Every part can be off, and off is a nil pointer: all methods of [Metrics],
// [HTTPRoute], [LLMSeries], [Tracer] and [Span] accept a nil or zero receiver
// and then do nothing and allocate nothing, so callers never test for it.
//
// Nothing here touches process-wide state: not prometheus.DefaultRegisterer,
// not otel's global provider, propagator or error handler, not slog.Default.
package obs
