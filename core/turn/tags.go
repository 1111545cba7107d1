package turn

import (
	"bytes"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
)

// tag is a pair of marks that some models put around their reasoning within the text.
type tag struct{ start, end string }

// reasoningTags are those that are known; an operator or user can name another pair instead.
var reasoningTags = []tag{
	{"<think>", "</think>"}, {"<thinking>", "</thinking>"}, {"<reason>", "</reason>"}, {"<reasoning>", "</reasoning>"},
	{"<thought>", "</thought>"}, {"<Thought>", "</Thought>"}, {"<|begin_of_thought|>", "<|end_of_thought|>"}, {"◁think▷", "◁/think▷"},
}

var solutionTags = []tag{{"<|begin_of_solution|>", "<|end_of_solution|>"}}

// matchStart looks for the tag's beginning at the head of b. A tag in angle brackets may have attributes:
// <think effort="high">. more means that b could become a match with further text.
func (t tag) matchStart(b []byte) (length int, attributes string, more bool) {
	if !strings.HasPrefix(t.start, "<") || !strings.HasSuffix(t.start, ">") {
		if bytes.HasPrefix(b, []byte(t.start)) {
			return len(t.start), "", false
		}
		return 0, "", len(b) < len(t.start) && strings.HasPrefix(t.start, string(b))
	}
	open := t.start[:len(t.start)-1]
	if len(b) <= len(open) {
		return 0, "", strings.HasPrefix(open, string(b))
	}
	if string(b[:len(open)]) != open {
		return 0, "", false
	}
	rest := b[len(open):]
	if rest[0] == '>' {
		return len(open) + 1, "", false
	}
	if rest[0] != ' ' && rest[0] != '\t' && rest[0] != '\n' && rest[0] != '\r' {
		return 0, "", false
	}
	end := bytes.IndexByte(rest, '>')
	line := bytes.IndexByte(rest[1:], '\n') + 1
	switch {
	case end > 0 && (line == 0 || end < line):
		return len(open) + end + 1, string(rest[:end]), false
	case line > 0:
		return 0, "", false
	}
	return 0, "", true
}

// findStart looks in text from position from on for the first beginning of any of the tags. next is where to look
// from when more text has come.
func findStart(tags []tag, text []byte, from int) (at, length int, which tag, attributes string, next int) {
	for i := from + candidate(tags, text[from:]); i < len(text); i += 1 + candidate(tags, text[i+1:]) {
		waits := false
		for _, t := range tags {
			n, a, more := t.matchStart(text[i:])
			if n > 0 {
				return i, n, t, a, 0
			}
			waits = waits || more
		}
		if waits {
			return -1, 0, tag{}, "", i
		}
	}
	return -1, 0, tag{}, "", len(text)
}

// candidate is the first place in text where a tag could begin, its length if there is none.
func candidate(tags []tag, text []byte) int {
	at := len(text)
	var before byte
	for _, t := range tags {
		if t.start == "" || t.start[0] == before {
			continue // the same first character as the tag before it
		}
		before = t.start[0]
		if i := bytes.IndexByte(text[:at], before); i >= 0 {
			at = i
		}
	}
	return at
}

// tagAttributes reads name="value" pairs.
func tagAttributes(s string) jsondoc.Doc {
	var b jsondoc.Builder
	for {
		eq := strings.Index(s, "=")
		if eq < 0 {
			return b.Done()
		}
		name := strings.TrimSpace(s[:eq])
		if i := strings.LastIndexAny(name, " \t\r\n"); i >= 0 {
			name = name[i+1:]
		}
		s = strings.TrimLeft(s[eq+1:], " \t\r\n")
		if !strings.HasPrefix(s, `"`) {
			continue
		}
		end := strings.Index(s[1:], `"`)
		if end < 0 {
			return b.Done()
		}
		if name != "" && end > 0 {
			b.Raw(name, jsondoc.Text(s[1:1+end]))
		}
		s = s[end+2:]
	}
}

// splitTags rewrites the end of the output where its text has begun or ended a tagged block, and says whether it did.
func splitTags(items []*item, kind string, tags []tag) ([]*item, bool) {
	if len(items) == 0 {
		return items, false
	}
	last := items[len(items)-1]
	inside := last.kind == "reasoning" && kind == "reasoning" && !last.bySeparateField() || last.kind == "message" && last.tagType == kind
	switch {
	case inside && last.endTag != "":
		return endBlock(items, last)
	case last.kind == "message" && last.tagType != kind:
		return beginBlock(items, last, kind, tags)
	}
	return items, false
}

func beginBlock(items []*item, last *item, kind string, tags []tag) ([]*item, bool) {
	at, n, which, attributes, next := findStart(tags, last.text, last.scanned(kind))
	if at < 0 {
		last.setScanned(kind, next)
		return items, false
	}
	after := string(last.text[at+n:])
	last.text = last.text[:at]
	last.scan = 0
	if len(bytes.TrimSpace(last.text)) == 0 && len(last.lead) == 0 {
		items = items[:len(items)-1]
	}
	block := newReasoning(which.start, which.end, tagAttributes(attributes))
	if kind != "reasoning" {
		block.kind, block.id, block.tagType, block.has = "message", outputID("msg"), kind, true
	}
	if after != "" {
		block.append(after)
	}
	items = append(items, block)
	if after != "" {
		items, _ = splitTags(items, kind, tags)
	}
	return items, true
}

// scanned is kept for reasoning tags only: solution tags are rare, and looked for from the start of the text.
func (i *item) scanned(kind string) int {
	if kind == "reasoning" {
		return min(i.scan, len(i.text))
	}
	return 0
}

func (i *item) setScanned(kind string, n int) {
	if kind == "reasoning" {
		i.scan = n
	}
}

func endBlock(items []*item, block *item) ([]*item, bool) {
	from := max(block.scan-len(block.endTag)+1, 0)
	at := bytes.Index(block.text[from:], []byte(block.endTag))
	if at < 0 {
		block.scan = len(block.text)
		return items, false
	}
	at += from
	rest := strings.TrimLeft(string(block.text[at+len(block.endTag):]), " \t\r\n")
	block.text = bytes.TrimSpace(block.text[:at])
	block.scan = 0
	if len(block.text) > 0 {
		if block.kind == "reasoning" {
			block.end(time.Now())
		} else {
			block.ended = time.Now()
		}
	} else {
		items = items[:len(items)-1]
	}
	next := newText()
	next.append(rest)
	return append(items, next), true
}
