package chats

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
)

// texts are what a chat's messages say, one after another, for searching.
type texts struct {
	all      string // as written; NUL between the messages, which no text has
	lower    string // all with ASCII letters in lower case: the same bytes otherwise, so that places agree
	segments []segment

	odd bool // not of the shape of all documents, so that Postgres may see it with other eyes
	nul bool // has the escape of NUL somewhere, which keeps Postgres from looking

	updated, size int64 // updated_at and the document's bytes when it was read
	loaded        int64 // Unix seconds
}

type segment struct {
	start, end int32
	shown      bool // snippets may come from it
	text       bool // it was a string
}

// textsIn collects the contents of a document's messages, those of its history and those of its old list.
func textsIn(d jsondoc.Doc) *texts {
	d = Clean(trim(d))
	t := &texts{}
	var history, legacy jsondoc.Doc
	each(d, func(n []byte, v jsondoc.Doc) bool {
		switch string(n) {
		case "history":
			history = member(v, "messages")
		case "messages":
			legacy = v
		}
		return true
	})
	var b []byte
	seen := map[string]bool{}
	hasHistory := history.Truthy()
	t.odd = !isObject(history) && !history.IsNull() || !isArray(legacy) && !legacy.IsNull()
	add := func(shown, old bool) func(jsondoc.Doc) bool {
		return func(m jsondoc.Doc) bool {
			content := member(m, "content")
			s, ok := text(content)
			if !ok {
				// SQLite compares lists as their JSON text
				if s = string(content); content.IsNull() {
					return true
				}
			}
			if old && seen[s] {
				return true
			}
			if !old && legacy.Truthy() {
				seen[s] = true
			}
			t.segments = append(t.segments, segment{int32(len(b)), int32(len(b) + len(s)), shown && ok, ok})
			b = append(append(b, s...), 0)
			return true
		}
	}
	values(history, add(true, false))
	values(legacy, add(!hasHistory, true))
	t.all = str(b)
	t.lower = lowerASCII(t.all)
	return t
}

// values walks the values of an object or the elements of an array.
func values(d jsondoc.Doc, f func(jsondoc.Doc) bool) {
	if isArray(d) {
		items(d, f)
		return
	}
	each(d, func(_ []byte, v jsondoc.Doc) bool { return f(v) })
}

// lowerASCII is how SQLite's lower() sees a text.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; c >= 'A' && c <= 'Z' {
					b[i] = c + 32
				}
			}
			return str(b)
		}
	}
	return s
}

// has says whether the title or a message contains a text in lower case as LIKE '%text%' does, with the reference's rule of
// case: that of all letters. Without letters beyond ASCII in the text that is the rule of ASCII. "" is in all.
func (t *texts) has(title, text string) bool {
	if text == "" {
		return true
	}
	fold := lowerASCII
	if !isASCII(text) {
		fold = strings.ToLower
	}
	text, title = fold(text), fold(title)
	if !strings.ContainsAny(text, "%_") {
		return strings.Contains(title, text) || t != nil && (strings.Contains(t.lower, text) || !isASCII(text) && strings.Contains(fold(t.all), text))
	}
	if like("%"+text+"%", title) {
		return true
	}
	if t == nil {
		return false
	}
	for _, s := range t.segments {
		if like("%"+text+"%", fold(t.all[s.start:s.end])) {
			return true
		}
	}
	return false
}

func (t *texts) hasAll(title string, terms []string) bool {
	for _, term := range terms {
		if !t.has(title, term) {
			return false
		}
	}
	return true
}

// like matches a pattern with % (anything) and _ (one character).
func like(pattern, s string) bool {
	star, back := -1, 0 // where to go on after a wrong guess of what % stands for
	for i, p := 0, 0; ; {
		switch {
		case p < len(pattern) && pattern[p] == '%':
			star, back = p, i
			p++
			continue
		case i < len(s) && p < len(pattern):
			_, size := utf8.DecodeRuneInString(s[i:])
			if pattern[p] == '_' {
				i, p = i+size, p+1
				continue
			}
			if strings.HasPrefix(pattern[p:], s[i:i+size]) {
				i, p = i+size, p+size
				continue
			}
		case i == len(s) && p == len(pattern):
			return true
		}
		if star < 0 || back >= len(s) {
			return false
		}
		_, size := utf8.DecodeRuneInString(s[back:])
		back += size
		i, p = back, star+1
	}
}

// snippetLength is how many characters a snippet has.
const snippetLength = 200

// snippet is the place of the first message that has the phrase, or else a term; nil where none has.
func (t *texts) snippet(phrase string, terms []string) *string {
	if t == nil || phrase == "" {
		return nil
	}
	for i := -1; i < len(terms); i++ {
		needle := phrase
		if i >= 0 {
			needle = terms[i]
		}
		if s, at, length, ok := t.find(needle); ok {
			cut := excerpt(s, at, length)
			return &cut
		}
	}
	return nil
}

// find looks for a text in lower case and gives the message and where in it, in bytes.
func (t *texts) find(needle string) (s string, at, length int, ok bool) {
	if isASCII(needle) {
		for from := 0; from < len(t.lower); {
			n := strings.Index(t.lower[from:], needle)
			if n < 0 {
				return "", 0, 0, false
			}
			n += from
			seg := t.segmentAt(n)
			if seg.shown {
				return t.all[seg.start:seg.end], n - int(seg.start), len(needle), true
			}
			from = int(seg.end)
		}
		return "", 0, 0, false
	}
	for _, seg := range t.segments {
		if !seg.shown {
			continue
		}
		s := t.all[seg.start:seg.end]
		folded := strings.ToLower(s)
		n := strings.Index(folded, needle)
		if n < 0 {
			continue
		}
		// lower case may take other numbers of bytes, but as many characters
		at := byteOffset(s, utf8.RuneCountInString(folded[:n]))
		return s, at, byteOffset(s[at:], utf8.RuneCountInString(needle)), true
	}
	return "", 0, 0, false
}

func (t *texts) segmentAt(at int) segment {
	lo, hi := 0, len(t.segments)-1
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if int(t.segments[mid].start) <= at {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return t.segments[lo]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// byteOffset is where the n-th character of a text begins.
func byteOffset(s string, n int) int {
	i := 0
	for ; n > 0 && i < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return i
}

// excerpt cuts out the surroundings of a place and puts white space together.
func excerpt(s string, at, length int) string {
	start := at
	for n := 0; n < snippetLength/2 && start > 0; n++ {
		_, size := utf8.DecodeLastRuneInString(s[:start])
		start -= size
	}
	end := start + byteOffset(s[start:], snippetLength)
	if at+length > end {
		end = at + length
		start = end
		for n := 0; n < snippetLength && start > 0; n++ {
			_, size := utf8.DecodeLastRuneInString(s[:start])
			start -= size
		}
	}
	out := strings.Join(strings.Fields(s[start:end]), " ")
	if start > 0 {
		out = "..." + out
	}
	if end < len(s) {
		out += "..."
	}
	return out
}

// textCache keeps the texts of chats that were searched. It is bounded in bytes, and chats go at random when it is
// full, because a search over more than fits would drive out just those that it needs next.
//
// Others write to the same database, so an entry counts only while updated_at and the document's length are those it
// was read with, and only if the second of updated_at was over by then. Every change of a message's text moves
// updated_at, so what could slip through is a change that keeps both.
type textCache struct {
	mu    sync.Mutex
	byID  map[string]*texts
	bytes int
	limit int
}

const textCacheBytes = 4 << 20

func newTextCache(limit int) *textCache { return &textCache{byID: map[string]*texts{}, limit: limit} }

func (t *texts) weight() int {
	return 200 + len(t.all) + len(t.lower) + 12*len(t.segments)
}

func (c *textCache) get(id string, updated, size int64) *texts {
	c.mu.Lock()
	t := c.byID[id]
	c.mu.Unlock()
	if t == nil || t.updated != updated || t.size != size || t.loaded <= updated {
		return nil
	}
	return t
}

func (c *textCache) put(id string, t *texts) {
	if t.weight() > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(id)
	c.byID[id] = t
	c.bytes += t.weight()
	for other := range c.byID {
		if c.bytes <= c.limit {
			break
		}
		if other != id {
			c.removeLocked(other)
		}
	}
}

func (c *textCache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(id)
}

func (c *textCache) removeLocked(id string) {
	if t := c.byID[id]; t != nil {
		c.bytes -= t.weight()
		delete(c.byID, id)
	}
}
