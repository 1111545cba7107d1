package sdk

import (
	"io"
	"log/slog"
)

// newLogHandler writes lines of JSON in the form that go-plugin's hosts read: @level, @message, @timestamp and the
// attributes.
func newLogHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch v := a.Value; {
		case a.Key == slog.TimeKey && v.Kind() == slog.KindTime:
			return slog.String("@timestamp", v.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
		case a.Key == slog.LevelKey && v.Kind() == slog.KindAny:
			if l, ok := v.Any().(slog.Level); ok {
				return slog.String("@level", levelName(l))
			}
		case a.Key == slog.MessageKey:
			a.Key = "@message"
		case v.Kind() == slog.KindDuration:
			return slog.String(a.Key, v.Duration().String())
		}
		return a
	}})
}

func levelName(l slog.Level) string {
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
