package process

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"
)

const (
	maxLine = 64 << 10
	cutMark = " … (cut)"
	// traceEvery is how often a panic or traceback is kept when lines are being dropped.
	traceEvery = 100 * time.Millisecond
)

// splitter makes lines of a stream for a Log.
type splitter struct {
	log *Log

	mu      sync.Mutex // with the timer
	partial []byte
	long    bool // the rest of the current line is dropped
	rate    bucket
	skipped int // lines dropped since the last that was kept
	trace   trace
	traced  time.Time // when the last trace began
	timer   *time.Timer
	closed  bool
}

func newSplitter(l *Log) *splitter {
	s := &splitter{log: l, rate: newBucket(l.opts)}
	s.timer = time.AfterFunc(time.Hour, s.settle)
	s.timer.Stop()
	return s
}

// write takes the next bytes, which arrived at now.
func (s *splitter) write(data []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate.refill(now)
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			s.extend(data)
			break
		}
		part := data[:end]
		data = data[end+1:]
		if len(s.partial) > 0 || s.long || len(part) > maxLine {
			s.extend(part)
			part = s.partial
		}
		s.line(part, s.long, now)
		s.partial, s.long = s.partial[:0], false
	}
	if s.skipped > 0 || s.trace.open() {
		s.timer.Reset(settle)
	}
}

// extend adds to the line that has not ended yet.
func (s *splitter) extend(data []byte) {
	if room := maxLine - len(s.partial); len(data) > room {
		data, s.long = data[:room], true
	}
	s.partial = append(s.partial, data...)
}

// line takes a whole line.
func (s *splitter) line(text []byte, cut bool, now time.Time) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	if s.trace.takes(text) {
		return
	}
	s.flushTrace(now)
	if starts(text) && (s.rate.take(len(text)) || now.Sub(s.traced) > traceEvery) {
		// A panic is what operators need most, so one is kept whatever the rate was.
		s.traced = now
		s.flushSkipped(now)
		s.trace.begin(text)
		return
	}
	if !s.rate.take(len(text)) {
		s.skipped++
		return
	}
	s.flushSkipped(now)
	line := parseLine(text, now)
	if line.Cut = cut; cut {
		line.Message += cutMark
	}
	s.log.add(line)
}

func (s *splitter) flushSkipped(now time.Time) {
	if s.skipped > 0 {
		s.log.drop(s.skipped)
		s.log.add(droppedLine(s.skipped, now))
		s.skipped = 0
	}
}

func (s *splitter) flushTrace(now time.Time) {
	if text := s.trace.end(); text != "" {
		s.log.add(Line{Time: now, Level: "error", Message: text, Cut: strings.HasSuffix(text, cutMark)})
	}
}

// settle runs when nothing has come for a while.
func (s *splitter) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		now := time.Now()
		s.flushTrace(now)
		s.flushSkipped(now)
	}
}

// close takes what is left, also a last line without an end.
func (s *splitter) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.partial) > 0 {
		s.line(s.partial, s.long, now)
	}
	s.flushTrace(now)
	s.flushSkipped(now)
	s.closed = true
	s.timer.Stop()
}

// bucket is a rate limit of lines and bytes. When it is empty it stays so until a quarter second's worth is there, so that
// dropped lines are told a few times a second and not after each line.
type bucket struct {
	lines, bytes         float64 // what may be taken
	perSecond, bytesRate float64
	at                   time.Time
	empty                bool
}

func newBucket(o LogOptions) bucket {
	b := bucket{perSecond: float64(o.LinesPerSecond), bytesRate: float64(o.BytesPerSecond)}
	b.lines, b.bytes = 2*b.perSecond, 2*b.bytesRate
	return b
}

func (b *bucket) refill(now time.Time) {
	if !b.at.IsZero() {
		passed := now.Sub(b.at).Seconds()
		b.lines = min(b.lines+passed*b.perSecond, 2*b.perSecond)
		b.bytes = min(b.bytes+passed*b.bytesRate, 2*b.bytesRate)
	}
	b.at = now
	if b.lines >= b.perSecond/4 && b.bytes >= b.bytesRate/4 {
		b.empty = false
	}
}

func (b *bucket) take(size int) bool {
	if b.empty || b.lines < 1 || b.bytes < 1 {
		b.empty = true
		return false
	}
	b.lines, b.bytes = b.lines-1, b.bytes-float64(size)-1
	return true
}

// parseLine reads a line of hclog's JSON; any other is a message of level info.
func parseLine(text []byte, now time.Time) Line {
	plain := Line{Time: now, Level: "info", Message: strings.ToValidUTF8(string(text), "\uFFFD")}
	if len(text) == 0 || text[0] != '{' {
		return plain
	}
	var members map[string]any
	if json.Unmarshal(text, &members) != nil {
		return plain
	}
	message, ok := members["@message"].(string)
	if !ok {
		return plain
	}
	line := Line{Time: now, Level: "info", Message: message}
	switch level, _ := members["@level"].(string); level {
	case "trace", "debug", "info", "warn", "error":
		line.Level = level
	}
	line.Module, _ = members["@module"].(string)
	if stamp, ok := members["@timestamp"].(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			line.Time = at
		}
	}
	for _, name := range []string{"@message", "@level", "@module", "@timestamp"} {
		delete(members, name)
	}
	if len(members) > 0 {
		line.Fields = members
	}
	return line
}
