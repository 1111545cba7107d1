package turn

import (
	"bytes"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
)

// maxParts bounds the index of a part that a provider may write to.
const maxParts = 1 << 10

// growth is text that is being added to a member of an item of a provider. It is joined to the item only where somebody
// looks, so that a long text does not cost its length for each word.
type growth struct {
	list string // content or summary, of whose part the member is; "" for the item itself
	at   int    // which part
	key  string // the member
	fill string // the type of parts that are missing
	text []byte
}

// whole is an item as it stands in the output: what is carried along, or comes from a provider, with what was added.
func (i *item) whole() jsondoc.Doc {
	g := i.grow
	if g == nil || len(g.text) == 0 {
		return i.raw
	}
	if g.list == "" {
		return i.raw.Set(jsondoc.Text(i.raw.Text(g.key)+string(g.text)), g.key)
	}
	parts := i.raw.Get(g.list).List()
	for len(parts) <= g.at {
		parts = append(parts, jsondoc.Object("type", jsondoc.Text(g.fill)).Set(jsondoc.Doc(`""`), "text"))
	}
	parts[g.at] = parts[g.at].Set(jsondoc.Text(parts[g.at].Text(g.key)+string(g.text)), g.key)
	return i.raw.Set(jsondoc.Array(parts...), g.list)
}

// settle ends the growth of an item.
func (i *item) settle() {
	if i.grow != nil {
		i.raw, i.grow = i.whole(), nil
	}
}

// trim takes white space from around the last text of the item, and says whether nothing is left of that.
func (i *item) trim() (empty bool) {
	i.settle()
	parts := i.raw.Get("content").List()
	n := len(parts) - 1
	if n < 0 || parts[n].Text("type") != "output_text" {
		return false
	}
	text := parts[n].Text("text")
	if t := strings.TrimSpace(text); t != text {
		parts[n] = parts[n].Set(jsondoc.Text(t), "text")
		i.raw = i.raw.Set(jsondoc.Array(parts...), "content")
		text = t
	}
	return text == ""
}

// take makes the item what the provider says it is.
func (i *item) take(raw jsondoc.Doc) {
	i.raw, i.grow = bytes.Clone(raw), nil
	i.status = i.raw.Text("status")
}

// responses takes in an event of the Responses API, whose items are kept as the provider makes them.
func (a *answer) responses(event jsondoc.Doc) {
	kind := event.Text("type")
	if name, ok := deltaOf(kind); ok {
		a.grow(event, name)
		return
	}
	a.flush()
	usage, failure := a.reduce(kind, event)
	if kind == "response.completed" && event.Get("response", "output").Len() > 0 {
		event = event.Set(outputDoc(a.items), "response", "output") // as it was taken over
	}
	if kind == "response.output_item.done" && event.Text("item", "type") == "message" {
		event.Get("item", "content").Items(func(_ int, part jsondoc.Doc) bool {
			a.sources(part.Get("annotations"))
			return true
		})
	}
	if failure.Truthy() {
		a.fail(failure)
	}
	if a.continuing {
		a.em.own("chat:completion", a.wholeWithout())
	} else {
		a.em.own("response:completion", a.shifted(trimmed(event)))
	}
	if usage.Truthy() {
		a.usage = chats.MergeUsage(a.usage, usage)
		a.em.own("chat:completion", jsondoc.Object("usage", a.usage))
	}
}

// deltaOf is the name of the text that an event adds to.
func deltaOf(kind string) (string, bool) {
	name, ok := strings.CutPrefix(kind, "response.")
	if ok {
		name, ok = strings.CutSuffix(name, ".delta")
	}
	return name, ok
}

// trimmed is an event without what pages do not need of the response that it tells of.
func trimmed(event jsondoc.Doc) jsondoc.Doc {
	response := event.Get("response")
	if response.Kind() != '{' {
		return event
	}
	kept := &jsondoc.Obj{}
	for _, name := range []string{"error", "id", "output", "usage"} {
		if v := response.Get(name); v != nil {
			kept.Set(name, v)
		}
	}
	return event.Set(kept.Doc(), "response")
}

// shifted is an event as it concerns the whole output, where the answer has earlier rounds.
func (a *answer) shifted(event jsondoc.Doc) jsondoc.Doc {
	if len(a.prior) == 0 {
		return event
	}
	if n, ok := event.Int("output_index"); ok {
		return event.Set(jsondoc.Of(int(n)+len(a.prior)), "output_index")
	}
	if event.Get("response").Kind() == '{' {
		return event.Delete("response", "output")
	}
	return event
}

// at is the item that an event is about, nil for none.
func (a *answer) at(event jsondoc.Doc) *item {
	i := len(a.items) - 1
	if n, ok := event.Int("output_index"); ok {
		i = int(n)
	}
	if i < 0 || i >= len(a.items) || a.items[i].kind != "" {
		return nil
	}
	return a.items[i]
}

// reduce changes the output as an event says, and gives the usage and the failure that it tells of.
func (a *answer) reduce(kind string, event jsondoc.Doc) (usage, failure jsondoc.Doc) {
	switch kind {
	case "error":
		return nil, event
	case "response.failed":
		return nil, event.Get("response", "error")
	case "response.completed", "response.incomplete":
		a.completed(event.Get("response", "output"))
		return event.Get("response", "usage"), nil
	case "response.output_item.added":
		a.added(event)
	case "response.output_item.done":
		switch raw, it := event.Get("item"), a.at(event); {
		case !raw.Truthy():
		case it != nil:
			it.take(raw)
		default:
			it = &item{}
			it.take(raw)
			a.items = append(a.items, it)
		}
	default:
		if it := a.at(event); it != nil {
			it.settle()
			it.change(kind, event)
		}
	}
	return nil, nil
}

// completed is the output as the provider gives it in the end; some give none.
func (a *answer) completed(output jsondoc.Doc) {
	if output.Len() > 0 {
		a.items = nil
		output.Items(func(_ int, raw jsondoc.Doc) bool {
			it := &item{}
			it.take(raw)
			a.items = append(a.items, it)
			return true
		})
	}
	for _, it := range a.items {
		if it.kind == "" && it.raw.Text("type") == "reasoning" && it.status != "completed" {
			it.settle()
			it.raw, it.status = it.raw.Set(jsondoc.Doc(`"completed"`), "status"), "completed"
		}
	}
}

// added puts a new item into the output, or has it take the place of the one that it is.
func (a *answer) added(event jsondoc.Doc) {
	raw := event.Get("item")
	if !raw.Truthy() {
		return
	}
	id, call, kind := raw.Text("id"), raw.Text("call_id"), raw.Text("type")
	for _, it := range a.items {
		if it.kind == "" && (id != "" && it.raw.Text("id") == id || call != "" && it.raw.Text("type") == kind && it.raw.Text("call_id") == call) {
			it.take(raw)
			return
		}
	}
	it := &item{}
	it.take(raw)
	at := len(a.items)
	if n, ok := event.Int("output_index"); ok && n >= 0 && int(n) < at {
		at = int(n)
	}
	a.items = slices.Insert(a.items, at, it)
}

// change changes an item as an event says: a part is there, or a text has come to its end.
func (i *item) change(kind string, event jsondoc.Doc) {
	reasoning := i.raw.Text("type") == "reasoning"
	name := strings.TrimPrefix(kind, "response.")
	switch name {
	case "content_part.added":
		if reasoning {
			return
		}
		i.addPart("content", event)
	case "reasoning_summary_part.added":
		i.addPart("summary", event)
	case "content_part.done":
		i.setPart("content", event, "content_index", event.Get("part"))
	case "reasoning_summary_part.done":
		i.setPart("summary", event, "summary_index", event.Get("part"))
	default:
		if name, ok := strings.CutSuffix(name, ".done"); ok {
			i.textEnded(name, event, reasoning)
		}
	}
}

func (i *item) addPart(list string, event jsondoc.Doc) {
	i.raw = i.raw.Set(jsondoc.Array(append(i.raw.Get(list).List(), event.Get("part").Or(jsondoc.Doc("{}")))...), list)
}

func (i *item) setPart(list string, event jsondoc.Doc, index string, part jsondoc.Doc) {
	parts := i.raw.Get(list).List()
	at := len(parts) - 1
	if n, ok := event.Int(index); ok {
		at = int(n)
	}
	if part.Truthy() && at >= 0 && at < len(parts) {
		parts[at] = part
		i.raw = i.raw.Set(jsondoc.Array(parts...), list)
	}
}

// textEnded is the last state of a text.
func (i *item) textEnded(name string, event jsondoc.Doc, reasoning bool) {
	key := name
	switch name {
	case "text", "output_text", "reasoning_text", "reasoning_summary_text":
		key = "text"
	case "function_call_arguments":
		key = "arguments"
	}
	v := event.Get(key)
	switch kind := i.raw.Text("type"); {
	case v == nil:
	case key == "arguments":
		if kind == "function_call" {
			i.raw = i.raw.Set(v, key)
		}
	case kind == "message":
		n, _ := event.Int("content_index")
		if part := i.raw.Get("content").List(); n >= 0 && int(n) < len(part) {
			i.setPart("content", event.Set(jsondoc.Of(n), "content_index"), "content_index", part[n].Set(v, key))
		}
	case reasoning:
		i.raw, i.status = i.raw.Set(jsondoc.Doc(`"completed"`), "status"), "completed"
	default:
		i.raw = i.raw.Set(v, key)
	}
}

// grow takes in text that is added to an item.
func (a *answer) grow(event jsondoc.Doc, name string) {
	it := a.at(event)
	if n, ok := event.Int("output_index"); it == nil && (ok && int(n) >= len(a.items) || len(a.items) == 0) && n < maxParts {
		for len(a.items) < int(n) { // no event said that they begin
			a.items = append(a.items, newForeign("", nil))
		}
		it = newForeign(name, event.Get("item_id"))
		a.items = append(a.items, it)
	}
	text, isText := event.Get("delta").AsText()
	if it == nil || !isText {
		a.flush()
		a.em.own("response:completion", a.shifted(event))
		return
	}
	if g := it.growthFor(name, event); g != nil {
		if old := it.grow; old == nil || old.list != g.list || old.at != g.at || old.key != g.key {
			it.settle()
			it.grow = g
		}
		it.grow.text = append(it.grow.text, text...)
	}
	key := name
	for _, member := range []string{"item_id", "output_index", "content_index", "summary_index"} {
		key += "\x00" + string(event.Get(member))
	}
	if a.target != it || a.targetKey != key {
		a.flush()
		a.target, a.targetKey, a.targetEvent = it, key, bytes.Clone(a.shifted(event))
	}
	a.pending = append(a.pending, text...)
	a.count++
}

func newForeign(name string, id jsondoc.Doc) *item {
	kind := "message"
	switch {
	case strings.HasPrefix(name, "reasoning"):
		kind = "reasoning"
	case name == "function_call_arguments":
		kind = "function_call"
	}
	var b jsondoc.Builder
	b.Raw("type", jsondoc.Text(kind))
	b.Raw("status", jsondoc.Doc(`"in_progress"`))
	b.Raw("role", jsondoc.Doc(`"assistant"`))
	b.Raw("content", jsondoc.Doc("[]"))
	if id != nil {
		b.Raw("id", id)
	}
	it := &item{}
	it.take(b.Done())
	return it
}

// growthFor says where text of a name goes, nil for nowhere.
func (i *item) growthFor(name string, event jsondoc.Doc) *growth {
	index := func(member string) int {
		n, _ := event.Int(member)
		return int(n)
	}
	isText := name == "text" || name == "output_text"
	g := &growth{key: name, fill: "text"}
	switch kind := i.raw.Text("type"); {
	case name == "function_call_arguments":
		if kind != "function_call" {
			return nil
		}
		g.key = "arguments"
	case kind == "message":
		if name == "reasoning_text" || name == "reasoning_summary_text" {
			return nil
		}
		g.list, g.at = "content", index("content_index")
		if isText {
			g.key = "text"
		}
	case kind == "reasoning":
		switch name {
		case "reasoning_summary_text":
			g.list, g.at, g.key, g.fill = "summary", index("summary_index"), "text", "summary_text"
		case "reasoning_text":
			g.list, g.at, g.key = "content", index("content_index"), "text"
		default:
			return nil
		}
	case isText:
		g.key = "text"
	}
	if g.at < 0 || g.at > maxParts {
		return nil
	}
	return g
}

// callOf is an item of a provider as a call of ours, nil where it is none.
func (i *item) callOf() *item {
	if i.kind != "" || i.raw.Text("type") != "function_call" {
		return nil
	}
	id := i.raw.Text("call_id")
	if id == "" {
		id = i.raw.Text("id")
	}
	if id == "" {
		id = outputID("fc")
	}
	call := newCall(id, i.raw.Text("name"))
	if own := i.raw.Text("id"); own != "" {
		call.id = own
	}
	arguments := i.raw.Get("arguments")
	if s, ok := arguments.AsText(); ok {
		call.text = []byte(s)
	} else {
		call.text = bytes.Clone(arguments)
	}
	call.status = "completed"
	return call
}
