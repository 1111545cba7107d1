package process

import (
	"bytes"
	"strings"
)

// trace collects a Go panic or a Python traceback, which becomes one Line.
type trace struct {
	text   []byte
	python bool
	last   bool // Python's line with the exception has been seen
	cut    bool
}

var (
	goStarts    = [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("unexpected fault address "), []byte("SIG")}
	pythonStart = []byte("Traceback (most recent call last):")
	// goGoesOn begins the lines of a Go trace that are neither indented nor calls.
	goGoesOn = [][]byte{
		[]byte("goroutine "), []byte("created by "), []byte("[signal "), []byte("[recovered"), []byte("runtime stack:"),
		[]byte("panic: "), []byte("fatal error: "), []byte("exit status "), []byte("\t"), []byte(" "), []byte("..."),
	}
	// pythonGoesOn begins the lines that join two tracebacks.
	pythonGoesOn = [][]byte{
		pythonStart, []byte("During handling of the above exception"), []byte("The above exception was the direct cause"),
	}
)

func hasAny(text []byte, prefixes [][]byte) bool {
	for _, p := range prefixes {
		if bytes.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

// starts tells whether a line is the first of a trace.
func starts(text []byte) bool {
	if len(text) == 0 || !bytes.ContainsRune([]byte("pfuST"), rune(text[0])) {
		return false
	}
	if bytes.HasPrefix(text, []byte("SIG")) { // "SIGQUIT: quit", of a process that was asked for its stacks
		return bytes.Contains(text, []byte(": "))
	}
	return hasAny(text, goStarts) || bytes.HasPrefix(text, pythonStart)
}

func (t *trace) open() bool { return len(t.text) > 0 }

func (t *trace) begin(text []byte) {
	*t = trace{text: t.text[:0], python: bytes.HasPrefix(text, pythonStart)}
	t.add(text)
}

// takes adds a line that goes on with the trace.
func (t *trace) takes(text []byte) bool {
	switch {
	case !t.open():
		return false
	case t.python:
		if !t.takesPython(text) {
			return false
		}
	case !goLine(text):
		return false
	}
	t.add(text)
	return true
}

// takesPython: indented lines, one with the exception, and what joins it to the next traceback.
func (t *trace) takesPython(text []byte) bool {
	if t.last {
		more := len(text) == 0 || hasAny(text, pythonGoesOn) || text[0] == ' '
		if more && len(text) > 0 && text[0] != ' ' {
			t.last = !bytes.HasPrefix(text, pythonStart)
		}
		return more
	}
	t.last = len(text) > 0 && text[0] != ' '
	return true
}

// goLine: blank, indented, a heading, a register or a call.
func goLine(text []byte) bool {
	if len(text) == 0 || hasAny(text, goGoesOn) {
		return true
	}
	if text[len(text)-1] == ')' || bytes.HasSuffix(text, []byte("[...])")) {
		open := bytes.IndexByte(text, '(')
		return open > 0 && bytes.IndexByte(text[:open], ' ') < 0
	}
	name, value, ok := bytes.Cut(text, []byte(" "))
	return ok && len(name) <= 6 && bytes.HasPrefix(bytes.TrimLeft(value, " "), []byte("0x"))
}

func (t *trace) add(text []byte) {
	if len(t.text)+len(text)+1 > maxLine {
		t.cut = true
		return
	}
	t.text = append(append(t.text, text...), '\n')
}

// end returns the text of the trace, empty for none.
func (t *trace) end() string {
	if !t.open() {
		return ""
	}
	text := strings.ToValidUTF8(strings.TrimRight(string(t.text), "\n"), "\uFFFD")
	if t.cut {
		text += cutMark
	}
	t.text = t.text[:0]
	return text
}
