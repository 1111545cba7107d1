package plugin

import (
	"bufio"
	"io"
	"sync"
	"time"

	"github.com/galleychat/galley/core/plugin/process"
)

// Line is a line of a plugin's log.
type Line struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Text  string    `json:"text"`
}

// logs is what the processes of a plugin wrote, the last lines of it.
type logs struct {
	u    *unit
	mu   sync.Mutex
	ring []Line
}

func newLogs(u *unit) *logs { return &logs{u: u} }

func (l *logs) follow(p *process.Process) {
	go func() {
		s := bufio.NewScanner(p.Stderr())
		for s.Scan() {
			l.add(s.Text())
		}
	}()
}

func (l *logs) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring = append(l.ring, Line{time.Now(), "info", text})
	if len(l.ring) > 1000 {
		l.ring = l.ring[1:]
	}
}

func (l *logs) stdout() io.Writer { return lineWriter{l} }
func (l *logs) stderr() io.Writer { return lineWriter{l} }

type lineWriter struct{ l *logs }

func (w lineWriter) Write(p []byte) (int, error) { w.l.add(string(p)); return len(p), nil }

// last gives the last n lines, the oldest first.
func (l *logs) last(n int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Line{}, l.ring[max(0, len(l.ring)-n):]...)
}
