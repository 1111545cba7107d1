package process

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Line is one line of a log, or a panic or traceback with all its lines.
type Line struct {
	Time time.Time
	// Level is one of hclog's: "trace", "debug", "info", "warn", "error".
	Level string
	// Module is the name of the logger, where the line tells it.
	Module  string
	Message string
	// Fields are the further members of a structured line, nil for none.
	Fields map[string]any
	// Cut: the line was longer than 64 KiB.
	Cut bool
}

// size is what the line counts in the ring; fields are taken to be as long as the rest.
func (l *Line) size() int { return len(l.Message) + len(l.Module) + 64 + 48*len(l.Fields) }

// LogOptions bounds a log; 0 means the default.
type LogOptions struct {
	Lines int // kept lines, 1,000
	Bytes int // kept bytes, 1 MiB
	// LinesPerSecond (2,000) and BytesPerSecond (4 MiB) may come for long; twice as many at once.
	LinesPerSecond, BytesPerSecond int
}

const (
	followerBuffer = 256
	// settle is how long an unfinished panic or a count of dropped lines waits for more.
	settle = 500 * time.Millisecond
)

// Log reads the stderr of processes and keeps the last lines. It is safe for concurrent use; one that a process restarts
// with may be used for all its lives.
type Log struct {
	opts LogOptions

	mu        sync.Mutex
	ring      []Line // oldest at first
	first     int
	count     int
	bytes     int
	dropped   int64
	followers map[*follower]struct{}
}

type follower struct {
	lines  chan Line
	missed int
}

// NewLog makes an empty log.
func NewLog(opts LogOptions) *Log {
	set := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	set(&opts.Lines, 1000)
	set(&opts.Bytes, 1<<20)
	set(&opts.LinesPerSecond, 2000)
	set(&opts.BytesPerSecond, 4<<20)
	return &Log{opts: opts, ring: make([]Line, opts.Lines), followers: map[*follower]struct{}{}}
}

// ReadFrom reads lines until the stream ends, and returns the number of bytes. It never waits for a follower. Lines beyond
// the rate are dropped and counted; one line tells how many.
func (l *Log) ReadFrom(r io.Reader) (int64, error) {
	s := newSplitter(l)
	defer s.close()
	var total int64
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		s.write(buf[:n], time.Now())
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Last returns the last n lines, the oldest first; all that are kept for n <= 0.
func (l *Log) Last(n int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last(n)
}

func (l *Log) last(n int) []Line {
	if n <= 0 || n > l.count {
		n = l.count
	}
	lines := make([]Line, n)
	for i := range lines {
		lines[i] = l.ring[(l.first+l.count-n+i)%len(l.ring)]
	}
	return lines
}

// Dropped is the number of lines that came too fast, in all.
func (l *Log) Dropped() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Follow returns the last n lines (none for n <= 0) and a channel with all that come after them. A follower that does not
// keep up misses lines and gets one that says how many. stop ends it and closes the channel; it may be called again.
func (l *Log) Follow(n int) (last []Line, lines <-chan Line, stop func()) {
	f := &follower{lines: make(chan Line, followerBuffer)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		last = l.last(n)
	}
	l.followers[f] = struct{}{}
	return last, f.lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.followers[f]; ok {
			delete(l.followers, f)
			close(f.lines)
		}
	}
}

// add appends a line and tells the followers.
func (l *Log) add(line Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.count > 0 && (l.count == len(l.ring) || l.bytes+line.size() > l.opts.Bytes) {
		l.bytes -= l.ring[l.first].size()
		l.ring[l.first] = Line{}
		l.first, l.count = (l.first+1)%len(l.ring), l.count-1
	}
	l.ring[(l.first+l.count)%len(l.ring)] = line
	l.count, l.bytes = l.count+1, l.bytes+line.size()
	for f := range l.followers {
		f.send(line)
	}
}

// send never waits.
func (f *follower) send(line Line) {
	if f.missed > 0 {
		select {
		case f.lines <- droppedLine(f.missed, line.Time):
			f.missed = 0
		default:
		}
	}
	if f.missed == 0 {
		select {
		case f.lines <- line:
			return
		default:
		}
	}
	f.missed++
}

func (l *Log) drop(n int) {
	l.mu.Lock()
	l.dropped += int64(n)
	l.mu.Unlock()
}

func droppedLine(n int, at time.Time) Line {
	return Line{Time: at, Level: "warn", Message: fmt.Sprintf("… %d lines dropped", n)}
}
