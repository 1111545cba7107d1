package sdk

import (
	"io"
	"log/slog"
	"time"
)

// newLogHandler writes lines of JSON in the form that go-plugin's hosts read: @level, @message, @timestamp and the
// attributes.
func newLogHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			return slog.String("@timestamp", a.Value.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
		case slog.LevelKey:
			return slog.String("@level", levelName(a.Value.Any()))
		case slog.MessageKey:
			a.Key = "@message"
		}
		if e, ok := a.Value.Any().(error); ok {
			return slog.String(a.Key, e.Error())
		}
		if d, ok := a.Value.Any().(time.Duration); ok {
			return slog.String(a.Key, d.String())
		}
		return a
	}})
}

func levelName(v any) string {
	l, _ := v.(slog.Level)
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}
