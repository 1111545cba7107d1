package turn

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store/chats"
)

// answer is what a model is saying: output items that grow with each chunk, and the events that tell browsers of it.
// Its lock is held for moments only: readers are pages that are loaded while the answer is being written.
type answer struct {
	em         *emitter
	tags       []tag // nil: text is not searched for reasoning
	continuing bool  // prior is continued: browsers are sent the whole output, not deltas
	size       int   // deltas to join in one event (stream_delta_chunk_size)

	mu       sync.Mutex
	prior    []*item // output of the answer that is continued
	items    []*item
	usage    jsondoc.Doc
	finish   string
	selected string // the model an arena picked
	failed   jsondoc.Doc
	calls    map[int]*item // tool calls by the provider's index
	events   []told        // that are not stored yet

	pending []byte // text of deltas not yet sent
	count   int
	target  *item // of the pending deltas
	// of events of the Responses API: what the pending deltas have in common, and the event that they become
	targetKey   string
	targetEvent jsondoc.Doc
	sent        time.Time
	began       time.Time   // when the first deltas were sent
	timer       *time.Timer // sends what is pending; nil while nothing waits for it
	lastSeen    time.Time
}

// pace is the least time between two events of deltas. A model that writes slower than that, as they do, has each of its
// words sent at once; one that writes faster has them joined.
const pace = 4 * time.Millisecond

// maxPending is how much text waits for more that has arrived already.
const maxPending = 4 << 10

// sharedEvery is how often other readers get the answer so far.
const sharedEvery = 150 * time.Millisecond

// output is the whole output: what was there before, and what has come.
func (a *answer) output() []*item {
	if len(a.prior) == 0 {
		return a.items
	}
	out := append([]*item(nil), a.prior...)
	if len(a.items) == 0 {
		return out
	}
	last, first := out[len(out)-1], a.items[0]
	if joined := joinTexts(last, first); a.continuing && joined != nil {
		out[len(out)-1] = joined
		return append(out, a.items[1:]...)
	}
	return append(out, a.items...)
}

// joinTexts makes one message item of two, the later one's parts behind the earlier one's; nil if either is no text.
func joinTexts(last, first *item) *item {
	if last.kind != "" || last.raw.Text("type") != "message" {
		return nil
	}
	if r := last.raw.Get("role"); r != nil && r.Text() != "assistant" {
		return nil
	}
	parts := last.raw.Get("content").List()
	if whole := first.whole(); first.kind == "" && whole.Text("type") == "message" {
		all := jsondoc.Array(append(parts, whole.Get("content").List()...)...)
		return &item{raw: last.raw.Merge(whole).Set(last.raw.Get("id"), "id").Set(all, "content"), status: first.status}
	}
	if first.kind != "message" || first.tagType != "" {
		return nil
	}
	joined := *first
	joined.id = last.raw.Text("id")
	joined.lead = append(parts, first.lead...)
	return &joined
}

// snapshot is the output so far and its text.
func (a *answer) snapshot() (output jsondoc.Doc, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.output()
	return outputDoc(out), itemsText(out)
}

// add takes in one chunk. The events it calls for are sent at once, but that deltas of text wait while further chunks
// have arrived already: a reader that is behind gets fewer, longer events.
func (a *answer) add(c *llm.Chunk) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.Event != nil {
		event := jsondoc.Doc(c.Event)
		a.tell(event.Text("type"), event.Get("data"))
	}
	switch {
	case c.SelectedModelID != "":
		a.selected = c.SelectedModelID
		a.flush()
		a.em.own("chat:completion", jsondoc.Doc(c.Raw))
		return
	case c.IsResponses():
		a.responses(jsondoc.Doc(c.Raw))
		if !c.More || len(a.pending) > maxPending {
			a.flushPaced()
		}
		a.showOthers(c.Type == "response.completed")
		return
	case c.Plain:
		a.fail(jsondoc.Doc(c.Error))
		return
	}
	if u := chunkUsage(c); u != nil {
		a.usage = chats.MergeUsage(a.usage, u)
		a.flush()
		a.em.own("chat:completion", jsondoc.Object("usage", a.usage))
	}
	if c.Choices == 0 {
		if c.Error != nil {
			a.fail(jsondoc.Doc(c.Error))
		}
		return
	}
	if c.FinishReason != "" {
		a.finish = c.FinishReason
	}
	if c.Annotations != nil {
		a.sources(jsondoc.Doc(c.Annotations))
	}
	raw := true // nothing of ours: the chunk is passed on as it is
	if len(c.ToolCalls) > 0 {
		a.toolCalls(c.ToolCalls)
		raw = false
	}
	if c.Reasoning != "" || c.ReasoningDetails != nil {
		if a.reason(c.Reasoning, jsondoc.Doc(c.ReasoningDetails)) {
			raw = false
		}
	}
	if c.Content != "" {
		a.say(c.Content)
		raw = false
	}
	if raw {
		a.passOn(jsondoc.Doc(c.Raw))
	}
	if !c.More || len(a.pending) > maxPending {
		a.flushPaced()
	}
	a.showOthers(c.FinishReason != "")
}

func chunkUsage(c *llm.Chunk) jsondoc.Doc {
	if c.Timings == nil {
		return jsondoc.Doc(c.Usage)
	}
	return jsondoc.Doc(c.Usage).Or(jsondoc.Doc("{}")).Merge(jsondoc.Doc(c.Timings))
}

// passOn sends a chunk that changed no item: one with a delta counts as a delta, others as an event of the completion.
func (a *answer) passOn(raw jsondoc.Doc) {
	a.flush()
	switch {
	case a.continuing:
		if raw.Get("choices", "0", "delta").Truthy() {
			a.em.own("chat:completion", a.wholeWith(nil))
		} else {
			a.em.own("chat:completion", bytes.Clone(raw))
		}
	case raw.Get("choices", "0", "delta").Truthy():
		a.em.own("response:completion", raw)
	default:
		a.em.own("chat:completion", raw)
	}
}

// wholeWith is {"output": …} with a type, as continued answers are sent.
func (a *answer) wholeWith(kind jsondoc.Doc) jsondoc.Doc {
	d := jsondoc.Object("output", outputDoc(a.output()))
	return d.Set(kind, "type")
}

func (a *answer) fail(e jsondoc.Doc) {
	e = bytes.Clone(e)
	a.flush()
	a.failed = e
	a.em.own("chat:completion", jsondoc.Object("error", e))
}

// told is an event about the answer that is to be stored with it.
type told struct {
	kind string
	data jsondoc.Doc
}

// tell sends an event about the answer, and notes it for whoever stores it.
func (a *answer) tell(kind string, data jsondoc.Doc) {
	data = bytes.Clone(data)
	a.em.emit(kind, data)
	a.events = append(a.events, told{kind, data})
}

// toStore gives the events that are to be stored.
func (a *answer) toStore() []told {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.events
	a.events = nil
	return events
}

// sources tells of web pages that a provider's own search cites.
func (a *answer) sources(annotations jsondoc.Doc) {
	annotations.Items(func(_ int, n jsondoc.Doc) bool {
		c := n.Get("url_citation").Or(n) // flat in the Responses API
		u := c.Text("url")
		if n.Text("type") != "url_citation" || u == "" {
			return true
		}
		title := c.Text("title")
		if title == "" {
			title = u
		}
		a.tell("source", jsondoc.Of(map[string]any{
			"source":   map[string]string{"name": title, "url": u},
			"document": []string{title},
			"metadata": []any{map[string]string{"source": u, "name": title}},
		}))
		return true
	})
}

// reason takes in reasoning that came in a field of its own. It says whether it did anything.
func (a *answer) reason(text string, details jsondoc.Doc) bool {
	list := details.List()
	if details.Kind() == '{' {
		list = []jsondoc.Doc{details}
	}
	at, textAt := -1, -1
	for i, it := range a.items {
		switch {
		case it.kind == "reasoning":
			at = i
		case it.kind == "message" && textAt < 0:
			textAt = i
		}
	}
	if text == "" && at < 0 && !substantial(list) {
		return false
	}
	if at < 0 || textAt < 0 && text != "" && a.items[len(a.items)-1].kind != "reasoning" {
		r := newReasoning("<think>", "</think>", jsondoc.Doc(`{"type":"reasoning_content"}`))
		if textAt >= 0 { // it came late: put before the text it led to
			r.end(time.Now())
			a.items = append(a.items[:textAt], append([]*item{r}, a.items[textAt:]...)...)
			at = textAt
		} else {
			a.items = append(a.items, r)
			at = len(a.items) - 1
		}
		a.event("response.output_item.added", at, r.doc())
	}
	r := a.items[at]
	if text != "" {
		r.append(text)
		a.delta(r, text)
	}
	if len(list) > 0 {
		r.details = append(r.details, cloneAll(list)...)
		a.flush()
		a.em.own("chat:completion", a.wholeWithout())
	}
	return true
}

func substantial(details []jsondoc.Doc) bool {
	for _, d := range details {
		if d.Get("text").Truthy() || d.Get("summary").Truthy() || d.Get("data").Truthy() {
			return true
		}
	}
	return false
}

func cloneAll(list []jsondoc.Doc) []jsondoc.Doc {
	out := make([]jsondoc.Doc, len(list))
	for i, d := range list {
		out[i] = bytes.Clone(d)
	}
	return out
}

func (a *answer) wholeWithout() jsondoc.Doc {
	return jsondoc.Object("output", outputDoc(a.output()))
}

// say takes in text.
func (a *answer) say(text string) {
	if n := len(a.items); n > 0 && a.items[n-1].bySeparateField() {
		r := a.items[n-1]
		r.end(time.Now())
		a.event("response.output_item.done", n-1, r.doc())
		a.items = append(a.items, newText())
	}
	n := len(a.items)
	if n == 0 || !a.items[n-1].takesText() {
		a.items = append(a.items, newText())
		n++
	}
	last := a.items[n-1]
	last.append(text)
	if a.tags != nil && a.splitTags() {
		a.flush()
		a.em.own("chat:completion", a.wholeWithout())
		return
	}
	a.delta(last, text)
}

// takesText says whether further text belongs to the item: it is text, or reasoning whose end tag has not come.
func (i *item) takesText() bool {
	return i.kind == "message" || i.kind == "reasoning" && i.status == "in_progress"
}

func (a *answer) splitTags() bool {
	changed := false
	separate := false
	for _, it := range a.items {
		separate = separate || it.bySeparateField()
	}
	if !separate {
		a.items, changed = splitTags(a.items, "reasoning", a.tags)
	}
	items, solution := splitTags(a.items, "solution", solutionTags)
	a.items = items
	return changed || solution
}

// toolCalls takes in pieces of tool calls.
func (a *answer) toolCalls(pieces []llm.ToolCallDelta) {
	if a.calls == nil {
		a.calls = map[int]*item{}
	}
	for _, p := range pieces {
		if !p.HasIndex {
			continue
		}
		call := a.calls[p.Index]
		if call == nil {
			id := p.ID
			if id == "" || a.hasCall(id) { // some providers count from one again in each round
				id = outputID("fc")
			}
			call = newCall(id, p.Name)
			a.calls[p.Index] = call
			a.items = append(a.items, call)
			a.event("response.output_item.added", len(a.items)-1, call.doc())
		} else if p.Name != "" {
			call.name = p.Name
		}
		if p.HasArguments {
			call.text = append(call.text, p.Arguments...)
			a.delta(call, p.Arguments)
		}
	}
}

func (a *answer) hasCall(id string) bool {
	for _, it := range a.output() {
		if it.callID == id || it.raw.Text("call_id") == id {
			return true
		}
	}
	return false
}

// event sends an event of the Responses API about an item.
func (a *answer) event(kind string, index int, it jsondoc.Doc) {
	a.flush()
	if a.continuing {
		a.em.own("chat:completion", a.wholeWithout())
		return
	}
	b := append([]byte(`{"type":"`), kind...)
	b = append(b, `","output_index":`...)
	b = strconv.AppendInt(b, int64(index+len(a.prior)), 10)
	b = append(append(append(b, `,"item":`...), it...), '}')
	a.em.own("response:completion", b)
}

// delta notes text that was added to an item; flush sends it.
func (a *answer) delta(it *item, text string) {
	if a.target != it {
		a.flush()
		a.target = it
	}
	a.pending = append(a.pending, text...)
	a.count++
}

// flushPaced sends the deltas that wait, now or as soon as the pace allows.
func (a *answer) flushPaced() {
	if a.count < a.size || a.timer != nil {
		return
	}
	wait := pace - time.Since(a.sent)
	if wait <= 0 || len(a.pending) > maxPending {
		a.flush()
		return
	}
	a.timer = time.AfterFunc(wait, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.timer != nil {
			a.flush()
		}
	})
}

// glance is how long people must have had some of an answer before them for it to count as read. What breaks off sooner
// is no answer: the reference stores nothing of it.
const glance = 200 * time.Millisecond

// read says whether people have seen some of the answer.
func (a *answer) read() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.began.IsZero() && time.Since(a.began) >= glance
}

// flush sends the deltas that wait.
func (a *answer) flush() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	it := a.target
	if it == nil {
		return
	}
	event := a.targetEvent
	a.target, a.targetEvent, a.count, a.sent = nil, nil, 0, time.Now()
	if a.began.IsZero() {
		a.began = a.sent
	}
	kind := "response.output_text.delta"
	switch it.kind {
	case "reasoning":
		kind = "response.reasoning_text.delta"
	case "function_call":
		kind = "response.function_call_arguments.delta"
	}
	if event != nil {
		kind = event.Text("type")
	}
	if a.continuing {
		a.pending = a.pending[:0]
		a.em.own("chat:completion", a.wholeWith(jsondoc.Text(kind)))
		return
	}
	if event != nil {
		a.em.own("response:completion", event.Set(jsondoc.Text(string(a.pending)), "delta"))
		a.pending = a.pending[:0]
		return
	}
	index := len(a.items) - 1
	for index > 0 && a.items[index] != it {
		index--
	}
	b := make([]byte, 0, len(a.pending)+160)
	b = append(append(b, `{"type":"`...), kind...)
	b = append(append(b, `","item_id":"`...), it.id...)
	b = append(b, `","output_index":`...)
	b = strconv.AppendInt(b, int64(index+len(a.prior)), 10)
	if it.kind != "function_call" {
		b = strconv.AppendInt(append(b, `,"content_index":`...), int64(max(it.parts()-1, 0)), 10)
	}
	b = append(b, `,"delta":`...)
	b = append(jsondoc.AppendString(b, string(a.pending)), '}')
	a.pending = a.pending[:0]
	a.em.own("response:completion", b)
}

// showOthers gives other readers of the chat the answer so far, from time to time and at the end.
func (a *answer) showOthers(last bool) {
	if !a.em.shared || !last && time.Since(a.lastSeen) < sharedEvery {
		return
	}
	a.lastSeen = time.Now()
	if a.em.watched() {
		a.em.others("chat:completion", a.wholeShown())
	}
}

// close ends the answer: what waits is sent, white space around the text goes, what was in progress gets the status.
func (a *answer) close(status string) jsondoc.Doc {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
	if status == "completed" {
		a.tidy()
	}
	now := time.Now()
	out := a.output()
	answered := map[string]bool{}
	for _, it := range out {
		it.settle()
		if it.kind == "" && it.raw.Text("type") == "function_call_output" {
			answered[it.raw.Text("call_id")] = true
		}
	}
	for _, it := range out {
		switch {
		case it.kind == "reasoning" && it.ended.IsZero() && status == "completed":
			it.end(now)
		case it.status == "in_progress" && it.kind == "":
			it.raw, it.status = it.raw.Set(jsondoc.Text(status), "status"), status
		case it.status == "in_progress", status == "incomplete" && it.kind == "function_call" && it.status == "completed" && !answered[it.callID]:
			it.status = status // a call counts as completed as soon as its arguments are there
		}
	}
	return outputDoc(out)
}

func (a *answer) tidy() {
	n := len(a.items)
	if n == 0 || a.continuing {
		return
	}
	last := a.items[n-1]
	switch {
	case last.kind == "" && last.raw.Text("type") == "message":
		if !last.trim() {
			return
		}
	case last.kind == "message":
		if last.text = bytes.TrimSpace(last.text); len(last.text) > 0 || len(last.lead) > 0 {
			return
		}
	default:
		return
	}
	a.items = a.items[:n-1]
	if len(a.items) == 0 {
		a.items = append(a.items, newText())
	}
}
