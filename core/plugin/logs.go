package plugin

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/galleychat/galley/core/plugin/process"
)

// Line is a line of a plugin's log.
type Line struct {
	Time    time.Time      `json:"time"`
	Level   string         `json:"level"`
	Message string         `json:"message"`
	Fields  map[string]any `json:"fields,omitempty"`
}

func lineOf(l process.Line) Line { return Line{l.Time, l.Level, l.Message, l.Fields} }

// logs is what the processes of a plugin write, of which the last lines are kept.
type logs struct {
	u   *unit
	log *process.Log
}

func newLogs(u *unit) *logs { return &logs{u, process.NewLog(process.LogOptions{})} }

// last gives the last n lines, the oldest first.
func (l *logs) last(n int) []Line {
	out := []Line{}
	for _, line := range l.log.Last(n) {
		out = append(out, lineOf(line))
	}
	return out
}

// lastWords is the last line since a time, for errors: of a panic or traceback its first and last lines.
func (l *logs) lastWords(since time.Time) string {
	lines := l.log.Last(1)
	if len(lines) == 0 || lines[0].Time.Before(since) {
		return ""
	}
	text := strings.TrimSpace(lines[0].Message)
	if first, rest, many := strings.Cut(text, "\n"); many {
		text = first + " … " + strings.TrimSpace(rest[strings.LastIndexByte(rest, '\n')+1:])
	}
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// Follow gives the last n lines of a plugin's log and a channel with those that come; stop ends it.
func (m *Manager) Follow(id string, n int) (last []Line, lines <-chan Line, stop func(), err error) {
	u, err := m.find(id)
	if err != nil {
		return nil, nil, nil, err
	}
	before, more, end := u.logs.log.Follow(n)
	for _, line := range before {
		last = append(last, lineOf(line))
	}
	out := make(chan Line)
	ctx, cancel := context.WithCancel(m.ctx)
	go func() {
		defer close(out)
		for line := range more {
			select {
			case out <- lineOf(line):
			case <-ctx.Done():
				return
			}
		}
	}()
	return last, out, func() {
		cancel()
		end()
	}, nil
}

// follow has the lines of a plugin written into Galley's own log, or no more.
func (u *unit) follow(ctx context.Context, on bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case on && u.unfollow == nil:
		ctx, u.unfollow = context.WithCancel(ctx)
		_, lines, stop := u.logs.log.Follow(0)
		u.beside.Go(func() {
			defer stop()
			u.logs.forward(ctx, lines)
		})
	case !on && u.unfollow != nil:
		u.unfollow()
		u.unfollow = nil
	}
}

// forward writes lines into Galley's own log until ctx ends.
func (l *logs) forward(ctx context.Context, lines <-chan process.Line) {
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-lines:
			attrs := make([]any, 0, 2*len(line.Fields))
			for k, v := range line.Fields {
				attrs = append(attrs, k, v)
			}
			l.u.logger().Log(ctx, levelOf(line.Level), line.Message, attrs...)
		}
	}
}

func levelOf(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// writer takes what a plugin prints after its handshake, which go-plugin brings over its own channel. Close it.
func (l *logs) writer() *io.PipeWriter {
	r, w := io.Pipe()
	go func() { _, _ = l.log.ReadFrom(r) }()
	return w
}
