package obs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/trace"
)

func logLine(t *testing.T, format string, f func(*slog.Logger)) string {
	t.Helper()
	var buf bytes.Buffer
	f(NewLogger(&buf, format, slog.LevelDebug))
	return buf.String()
}

func TestLogJSON(t *testing.T) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(context.Background(), sc)
	ctx = WithAttrs(WithRequestID(ctx, "req-1"), slog.String("user_id", "u1"))
	ctx = WithAttrs(ctx, slog.String("chat_id", "c1"))
	line := logLine(t, FormatJSON, func(l *slog.Logger) {
		l.With("a", 1).WithGroup("g").With("b", 2).WarnContext(ctx, "hello <b>", "c", 3)
	})
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for k, want := range map[string]any{
		"level": "warn", "msg": "hello <b>", "a": 1.0, "request_id": "req-1", "user_id": "u1", "chat_id": "c1",
		"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String(),
	} {
		if got[k] != want {
			t.Errorf("%s = %v, want %v", k, got[k], want)
		}
	}
	if g, _ := got["g"].(map[string]any); g["b"] != 2.0 || g["c"] != 3.0 || len(g) != 2 {
		t.Errorf("group: %v", got["g"])
	}
	if c, _ := got["caller"].(string); !strings.HasPrefix(c, "obs/log_test.go:") {
		t.Errorf("caller: %v", got["caller"])
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z07:00", fmt.Sprint(got["ts"])); err != nil {
		t.Error(err)
	}
}

func TestLogText(t *testing.T) {
	line := logLine(t, FormatText, func(l *slog.Logger) {
		l.Log(WithRequestID(context.Background(), "r9"), LevelFatal, "stop", "n", 1)
	})
	for _, want := range []string{"level=FATAL", "msg=stop", "n=1", "request_id=r9"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s not in %s", want, line)
		}
	}
}

func TestScopesDoNotShare(t *testing.T) {
	base := WithAttrs(context.Background(), slog.Int("a", 1))
	left, right := WithAttrs(base, slog.Int("l", 1)), WithAttrs(base, slog.Int("r", 1))
	if l, r := contextAttrs(left, nil), contextAttrs(right, nil); l[1].Key != "l" || r[1].Key != "r" {
		t.Errorf("siblings overwrite each other: %v %v", l, r)
	}
	if a, b := NewRequestID(), NewRequestID(); len(a) != 26 || a == b {
		t.Errorf("request ids %q %q", a, b)
	}
}

func TestSecretsStayOut(t *testing.T) {
	const s = "hunter2hunter2hunter2"
	hdr := http.Header{"Authorization": {"Bearer " + s}, "X-Api-Key": {s}, "Accept": {"kept"}}
	u, _ := url.Parse("https://joe:" + s + "@host/p?token=" + s)
	netErr := &url.Error{Op: "Get", URL: "https://h/v1?a=1&key=" + s, Err: errors.New("refused")}
	for name, attr := range map[string]any{
		"password": s, "openai_api_key": s, "X-Auth-Token": s, "access_token": []byte(s), "DATABASE_URL": s,
		"headers": hdr, "url": u, "err": netErr, "wrapped": fmt.Errorf("call: %w", netErr), "value": Secret(s),
		"text": "sent Authorization: Bearer " + s, "basic": "Basic " + s, "sk": "used sk-" + s + " here",
		"jwt_in_text": "got eyJ" + s + "." + s + "." + s, "bytes": []byte("x?api_key=" + s),
	} {
		for _, format := range []string{FormatText, FormatJSON} {
			line := logLine(t, format, func(l *slog.Logger) { l.WithGroup("g").With("x", 1).Info("m", name, attr) })
			if strings.Contains(line, s) || !strings.Contains(line, "redacted]") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	line := logLine(t, FormatText, func(l *slog.Logger) {
		l.Info("call https://h/?key="+s+" failed", slog.Group("secret", "inner", s), "headers", hdr)
	})
	if strings.Contains(line, s) || !strings.Contains(line, "kept") {
		t.Errorf("message, group: %s", line)
	}
	if out := fmt.Sprintf("%v %+v %#v %s", Secret(s), OTLP{Password: Secret(s)}, Secret(s), Secret(s)); strings.Contains(out, s) {
		t.Error(out)
	}
}

func TestRedactLeavesOrdinaryText(t *testing.T) {
	for _, s := range []string{
		"", "plain", "https://host:8080/a/b?page=2&q=x", "bearer of news", "Basic authentication is off",
		"max_tokens=5", "task-list", "postgres://host/db",
	} {
		if got := Redact(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, k := range []string{"prompt_tokens", "model", "key", "path", "id"} {
		if secretKey(k) {
			t.Errorf("%s counts as secret", k)
		}
	}
	line := logLine(t, FormatText, func(l *slog.Logger) { l.Info("m", "time_to_first_token", time.Second) })
	if !strings.Contains(line, "time_to_first_token=1s") {
		t.Error(line)
	}
}
