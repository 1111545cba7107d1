package llm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxEventSize bounds one line and one event of a stream, in bytes. Providers send whole images as base64 in
// one event, so it is large.
const MaxEventSize = 16 << 20

// ErrEventTooLarge ends a stream whose provider sends a line or an event of more than [MaxEventSize].
var ErrEventTooLarge = fmt.Errorf("llm: stream event is larger than %d MiB", MaxEventSize>>20)

// LineReader splits a stream into lines. Lines alias its buffer and are valid until the next call.
type LineReader struct {
	r          io.Reader
	buf        []byte
	start, end int
	max        int
	err        error
}

// NewLineReader reads lines of at most [MaxEventSize] from r.
func NewLineReader(r io.Reader) *LineReader {
	return &LineReader{r: r, buf: make([]byte, 8<<10), max: MaxEventSize}
}

// Next returns the next line without its line end. The last line may lack one. The error is io.EOF at a clean
// end, after every line was returned.
func (l *LineReader) Next() ([]byte, error) {
	seen := l.start
	for {
		if i := bytes.IndexByte(l.buf[seen:l.end], '\n'); i >= 0 {
			line := l.buf[l.start : seen+i]
			l.start = seen + i + 1
			return trimCR(line), nil
		}
		seen = l.end
		if l.end-l.start > l.max {
			return nil, ErrEventTooLarge
		}
		if l.err != nil {
			if l.err == io.EOF && l.end > l.start {
				line := l.buf[l.start:l.end]
				l.start = l.end
				return trimCR(line), nil
			}
			return nil, l.err
		}
		seen -= l.room()
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		l.err = err
	}
}

// More reports whether the next line that is not empty has arrived whole and is a data field: a comment that keeps the
// connection alive, or the end mark, is nothing to wait for.
func (l *LineReader) More() bool {
	rest := bytes.TrimLeft(l.buf[l.start:l.end], "\r\n")
	end := bytes.IndexByte(rest, '\n')
	if end < 0 {
		return false
	}
	data, ok := bytes.CutPrefix(rest[:end], []byte("data:"))
	return ok && !bytes.HasPrefix(bytes.TrimLeft(data, " "), []byte("[DONE]"))
}

// room makes space to read into and returns by how much it moved the data down.
func (l *LineReader) room() int {
	if l.end < len(l.buf) {
		return 0
	}
	moved := l.start
	if l.start < len(l.buf)/2 { // nearly full of one line: grow
		bigger := make([]byte, 2*len(l.buf))
		copy(bigger, l.buf[l.start:l.end])
		l.buf = bigger
	} else {
		copy(l.buf, l.buf[l.start:l.end])
	}
	l.end -= l.start
	l.start = 0
	return moved
}

func trimCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// sseReader turns a Server-Sent Events stream into the payloads of its data fields.
//
// A data line that is a whole JSON value is an event of its own, whether or not a blank line follows: several
// providers leave the blank lines out. Otherwise the data lines up to the next blank line are joined, as the
// SSE specification says. Comments and the fields event, id and retry are skipped.
type sseReader struct {
	lines   *LineReader
	joined  []byte // data lines of an event that is not yet complete
	started bool
}

// next returns the next payload; plain marks a line that is no SSE field but looks like a JSON object.
// complete is called with a data line to learn whether it can stand alone.
func (s *sseReader) next(complete func([]byte) bool) (payload []byte, plain bool, err error) {
	for {
		line, err := s.lines.Next()
		if err != nil {
			if err == io.EOF && len(s.joined) > 0 {
				return s.take(), false, nil
			}
			return nil, false, err
		}
		if !s.started {
			s.started = true
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		data, isData := bytes.CutPrefix(line, []byte("data:"))
		switch {
		case isData:
			data = bytes.TrimSpace(data)
			if len(s.joined) == 0 {
				if len(data) == 0 {
					continue
				}
				if string(data) == "[DONE]" || complete(data) {
					return data, false, nil
				}
			} else {
				s.joined = append(s.joined, '\n')
			}
			if len(s.joined)+len(data) > s.lines.max {
				return nil, false, ErrEventTooLarge
			}
			s.joined = append(s.joined, data...)
		case len(bytes.TrimSpace(line)) == 0:
			if len(s.joined) > 0 {
				return s.take(), false, nil
			}
		default:
			if t := bytes.TrimSpace(line); t[0] == '{' {
				return t, true, nil
			}
		}
	}
}

func (s *sseReader) take() []byte {
	p := s.joined
	s.joined = s.joined[:0]
	return p
}

// StreamError reports a stream that broke off: the provider closed the connection or stopped sending before
// the end of its answer.
type StreamError struct{ Err error }

func (e *StreamError) Error() string { return "llm: stream broke off: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StreamError) Unwrap() error { return e.Err }

// streamErr wraps what a read returned; io.EOF stays as it is.
func streamErr(err error) error {
	var se *StreamError
	if err == nil || err == io.EOF || errors.Is(err, ErrEventTooLarge) || errors.As(err, &se) {
		return err
	}
	return &StreamError{err}
}
