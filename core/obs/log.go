package obs

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"

	"go.opentelemetry.io/otel/trace"
)

// LevelFatal is the level above [slog.LevelError], Python's CRITICAL: the
// process cannot go on.
const LevelFatal = slog.Level(12)

// NewLogger returns a logger that writes to w in the given format
// (FormatText or FormatJSON). Lines carry the
// request id, the attributes of [WithAttrs] and, inside a recorded span,
// trace_id and span_id from the context given to the ...Context methods.
// Secrets are blotted out as [Redact] and [Secret] describe. level may be
// changed while the process runs.
//
// JSON lines have the reference's keys ts (ISO 8601, milliseconds), level
// (debug, info, warn, error, fatal), msg and caller.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: textAttr}
	var h slog.Handler
	if format == FormatJSON {
		opts.AddSource, opts.ReplaceAttr = true, jsonAttr
		h = slog.NewJSONHandler(w, opts)
	} else {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(&Handler{next: h})
}

func textAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey {
		if l, ok := a.Value.Any().(slog.Level); ok && l == LevelFatal {
			return slog.String(slog.LevelKey, "FATAL")
		}
	}
	return redactAttr(groups, a)
}

func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return redactAttr(groups, a)
	}
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			return slog.String("ts", a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
		}
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("level", levelName(l))
		}
	case slog.SourceKey:
		if src, ok := a.Value.Any().(*slog.Source); ok {
			dir, file := filepath.Split(src.File)
			return slog.String("caller", filepath.Base(dir)+"/"+file+":"+strconv.Itoa(src.Line))
		}
	}
	return redactAttr(nil, a)
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	case l < LevelFatal:
		return "error"
	}
	return "fatal"
}

// Handler adds to each record what its context knows: request id, attributes
// and trace. Wrap any handler with [NewHandler].
type Handler struct {
	next slog.Handler
	// groups and open hold back WithGroup and what follows it, so that the
	// context's attributes stay at the top level of the line.
	open []func(slog.Handler) slog.Handler
	top  slog.Handler
}

// NewHandler wraps next.
func NewHandler(next slog.Handler) *Handler { return &Handler{next: next} }

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	var buf [8]slog.Attr
	attrs := contextAttrs(ctx, buf[:0])
	if len(attrs) == 0 {
		return h.next.Handle(ctx, r)
	}
	if h.open == nil {
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.next.Handle(ctx, r)
	}
	out := h.top.WithAttrs(attrs)
	for _, f := range h.open {
		out = f(out)
	}
	return out.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if h.open == nil {
		return &Handler{next: h.next.WithAttrs(attrs)}
	}
	return h.extend(func(n slog.Handler) slog.Handler { return n.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.extend(func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *Handler) extend(f func(slog.Handler) slog.Handler) *Handler {
	top := h.top
	if h.open == nil {
		top = h.next
	}
	open := append(h.open[:len(h.open):len(h.open)], f)
	return &Handler{next: f(h.next), open: open, top: top}
}

type ctxKey struct{}

// scope is what a context carries for its log lines. It is never changed once
// it is in a context.
type scope struct {
	requestID string
	attrs     []slog.Attr
}

func scopeOf(ctx context.Context) scope {
	if s, ok := ctx.Value(ctxKey{}).(*scope); ok {
		return *s
	}
	return scope{}
}

// WithRequestID returns a context whose log lines carry request_id.
func WithRequestID(ctx context.Context, id string) context.Context {
	s := scopeOf(ctx)
	s.requestID = id
	return context.WithValue(ctx, ctxKey{}, &s)
}

// RequestID returns the id set by [WithRequestID], or "".
func RequestID(ctx context.Context) string { return scopeOf(ctx).requestID }

// NewRequestID returns a random id of 26 letters and digits.
func NewRequestID() string { return rand.Text() }

// WithAttrs returns a context whose log lines carry attrs as well as those of
// the contexts it is made from.
func WithAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	s := scopeOf(ctx)
	s.attrs = append(s.attrs[:len(s.attrs):len(s.attrs)], attrs...)
	return context.WithValue(ctx, ctxKey{}, &s)
}

func contextAttrs(ctx context.Context, dst []slog.Attr) []slog.Attr {
	if ctx == nil {
		return dst
	}
	s, _ := ctx.Value(ctxKey{}).(*scope)
	if s != nil && s.requestID != "" {
		dst = append(dst, slog.String("request_id", s.requestID))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		dst = append(dst, slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if s != nil {
		dst = append(dst, s.attrs...)
	}
	return dst
}
