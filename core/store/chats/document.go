package chats

import (
	"time"

	"github.com/galleychat/galley/core/jsondoc"
)

// document is a chat's document opened for edits: its members, those of history, and the messages.
type document struct {
	top     *jsondoc.Obj
	history *jsondoc.Obj // nil where there is none; its member "messages" is only a place holder
	msgs    *messages
}

// openDocument reads a document in one pass.
func openDocument(d jsondoc.Doc) *document {
	doc := &document{top: &jsondoc.Obj{}, msgs: &messages{at: map[string]int{}}}
	b := []byte(trim(d))
	if !isObject(b) {
		return doc
	}
	walk(b, 0, func(n []byte, start int) int {
		var end int
		if string(n) == "history" && start < len(b) && b[start] == '{' {
			doc.history = &jsondoc.Obj{}
			end = doc.openHistory(b, start)
		} else {
			end = endValue(b, start)
		}
		doc.top.Set(name(n), b[start:end:end])
		return end
	})
	return doc
}

func (d *document) openHistory(b []byte, i int) int {
	return walk(b, i, func(n []byte, start int) int {
		var end int
		if string(n) == "messages" {
			d.msgs, end = messagesAt(b, start)
		} else {
			end = endValue(b, start)
		}
		d.history.Set(name(n), b[start:end:end])
		return end
	})
}

// doc writes the document in one pass.
func (d *document) doc() jsondoc.Doc {
	n := 64 + d.msgs.size()
	d.top.Each(func(name string, v jsondoc.Doc) bool {
		if name != "history" {
			n += len(name) + len(v) + 8
		}
		return true
	})
	out := make([]byte, 0, n+256)
	out = append(out, '{')
	first := true
	d.top.Each(func(name string, v jsondoc.Doc) bool {
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(jsondoc.AppendString(out, name), ':')
		if name == "history" && d.history != nil {
			out = d.appendHistory(out)
		} else {
			out = append(out, v...)
		}
		return true
	})
	return append(out, '}')
}

func (d *document) appendHistory(out []byte) []byte {
	out = append(out, '{')
	first := true
	d.history.Each(func(name string, v jsondoc.Doc) bool {
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(jsondoc.AppendString(out, name), ':')
		if name == "messages" && (isObject(v) || len(d.msgs.list) > 0) {
			out = d.msgs.appendTo(out)
		} else {
			out = append(out, v...)
		}
		return true
	})
	return append(out, '}')
}

// ensureHistory makes the history and its messages if there are none.
func (d *document) ensureHistory() {
	if d.history == nil {
		d.history = &jsondoc.Obj{}
		d.top.Set("history", jsondoc.Doc("{}"))
	}
	if !d.history.Has("messages") {
		d.history.Set("messages", jsondoc.Doc("{}"))
	}
}

// repair is messages.repair on the document.
func (d *document) repair() bool {
	if d.history == nil {
		return false
	}
	kind := d.history.Get("messages").Kind()
	if kind != '{' && len(d.msgs.list) == 0 {
		return false
	}
	current, changed := d.msgs.repair(d.history.Get("currentId"))
	changed = changed || kind != '{'
	if changed && len(current) > 0 {
		d.history.Set("currentId", current)
	}
	return changed
}

func (d *document) title() string {
	if !d.top.Has("title") {
		return "New Chat"
	}
	return d.top.Text("title")
}

// currentMessageID is the message that a chat is at: nil where it has none.
func (d *document) currentMessageID() *string {
	candidates := []jsondoc.Doc{d.top.Get("currentId"), d.top.Get("branchPointMessageId")}
	if d.history != nil {
		candidates = append([]jsondoc.Doc{d.history.Get("currentId")}, candidates...)
	}
	for _, c := range candidates {
		if s, ok := c.AsText(); ok && s != "" {
			return &s
		}
	}
	var last *string
	items(d.top.Get("messages"), func(v jsondoc.Doc) bool {
		if s, ok := member(v, "id").AsText(); ok && s != "" {
			last = &s
		}
		return true
	})
	return last
}

// mergeHistory is what becomes of a history when a client sends its own: the union of the messages, the client's over
// the stored ones, childrenIds rebuilt. Messages of others and answers that are still being written stay as stored.
func (d *document) mergeHistory(from *document, owner string) (sent []string) {
	stored, in, add := d.msgs, from.history, from.msgs
	sent = make([]string, 0, len(add.list))
	merged := &messages{list: append(make([]message, 0, len(stored.list)+4), stored.list...), at: make(map[string]int, len(stored.list)+4)}
	for i := range merged.list {
		merged.at[merged.list[i].key] = i
	}
	for i := range add.list {
		m := add.list[i]
		sent = append(sent, m.key)
		at, known := merged.at[m.key]
		if !known {
			merged.at[m.key] = len(merged.list)
			merged.list = append(merged.list, m)
			continue
		}
		old := &stored.list[at]
		author := old.author()
		if author != "" && author != owner || old.isRole("assistant") && (old.unfinished() || m.unfinished()) {
			continue
		}
		merged.list[at] = m
	}
	before := jsondoc.Doc(nil)
	if d.history != nil {
		before = d.history.Get("currentId")
	}
	d.msgs = merged
	d.msgs.relink()
	d.ensureHistory()
	in.Each(func(name string, v jsondoc.Doc) bool {
		d.history.Set(name, v)
		return true
	})
	current := jsondoc.Doc("null")
	for _, c := range []jsondoc.Doc{in.Get("currentId"), before} {
		if s, ok := text(c); ok && d.msgs.get(s) != nil {
			current = c
			break
		}
	}
	d.history.Set("currentId", current)
	return sent
}

// upsert merges fields into a message, or makes it and moves currentId to it. It gives the saved message.
func (d *document) upsert(id string, fields jsondoc.Doc) *message {
	d.ensureHistory()
	if old := d.msgs.get(id); old != nil {
		fields = keepMeta(old, fields)
		old.raw = old.raw.Merge(fields)
		old.parse()
	} else {
		d.msgs.add(id, d.newMessage(id, fields))
		d.history.Set("currentId", jsondoc.Text(id))
	}
	d.msgs.addChild(d.msgs.get(id).parentID(), id)
	return d.msgs.get(id)
}

// keepMeta merges the meta of a message with the one sent: an update that only brings speech or a task leaves the rest
// alone, any other replaces all but these two.
func keepMeta(old *message, fields jsondoc.Doc) jsondoc.Doc {
	incoming := trim(member(fields, "meta"))
	if !isObject(incoming) {
		return fields
	}
	base := jsondoc.Doc("{}")
	minor := true
	each(incoming, func(n []byte, _ jsondoc.Doc) bool {
		minor = minor && (string(n) == "voice" || string(n) == "task_id")
		return true
	})
	if isObject(old.meta) {
		each(old.meta, func(n []byte, v jsondoc.Doc) bool {
			if minor || string(n) == "voice" || string(n) == "task_id" {
				base = base.Set(v, name(n))
			}
			return true
		})
	}
	return fields.Set(base.Merge(incoming), "meta")
}

// newMessage completes a message that is not in the tree yet: parent, role and time are inferred.
func (d *document) newMessage(id string, fields jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(fields)
	parent := o.Get("parentId")
	if parent.IsNull() {
		for i := range d.msgs.list {
			if d.msgs.list[i].hasChild(id) {
				parent = jsondoc.Text(d.msgs.list[i].key)
				break
			}
		}
	}
	role := o.Get("role")
	if !role.Truthy() {
		role = outputRole(o.Get("output"))
	}
	if !role.Truthy() {
		role = jsondoc.Text("assistant")
		if s, ok := text(parent); ok {
			if p := d.msgs.get(s); p != nil && p.isRole("assistant") {
				role = jsondoc.Text("user")
			}
		}
	}
	if !o.Get("id").Truthy() {
		o.Set("id", jsondoc.Text(id))
	}
	o.Set("parentId", parent)
	if o.Get("childrenIds").Kind() != '[' {
		o.Set("childrenIds", jsondoc.Doc("[]"))
	}
	o.Set("role", role)
	if !o.Get("timestamp").Truthy() {
		o.Set("timestamp", jsondoc.Of(time.Now().Unix()))
	}
	return o.Doc()
}

// deleteMessage takes a message and its direct children out; the grandchildren move up to its parent and currentId goes
// to the last leaf there. It gives the ids that are gone.
func (d *document) deleteMessage(id string) map[string]bool {
	m := d.msgs.get(id)
	if m == nil || !m.object() {
		return nil
	}
	parent := m.parent
	parentID, hasParent := text(parent)
	var children, grandchildren []string
	for _, c := range d.childIDs(m) {
		children = append(children, c)
		grandchildren = append(grandchildren, d.childIDs(d.msgs.get(c))...)
	}
	if p := d.msgs.get(parentID); hasParent && p != nil {
		var ids []jsondoc.Doc
		items(p.children, func(v jsondoc.Doc) bool {
			if s, ok := text(v); !ok || s != id {
				ids = append(ids, v)
			}
			return true
		})
		for _, g := range grandchildren {
			ids = append(ids, jsondoc.Text(g))
		}
		p.set("childrenIds", jsondoc.Array(ids...))
	}
	for _, g := range grandchildren {
		d.msgs.get(g).set("parentId", parent.Or(jsondoc.Doc("null")))
	}
	gone := map[string]bool{id: true}
	for _, c := range children {
		gone[c] = true
	}
	d.msgs.remove(gone)
	d.history.Set("currentId", d.leafBelow(parent))
	return gone
}

// leafBelow follows the last children from a message, or from the last root, to a leaf.
func (d *document) leafBelow(parent jsondoc.Doc) jsondoc.Doc {
	current, _ := text(parent)
	var children []string
	if parent.IsNull() {
		for i := range d.msgs.list {
			if d.msgs.list[i].parent.IsNull() {
				children = append(children, d.msgs.list[i].key)
			}
		}
	} else if p := d.msgs.get(current); p != nil {
		children = allChildren(p)
	}
	seen := map[string]bool{}
	for len(children) > 0 && !seen[children[len(children)-1]] {
		current = children[len(children)-1]
		seen[current] = true
		children = nil
		if m := d.msgs.get(current); m != nil {
			children = allChildren(m)
		}
	}
	if d.msgs.get(current) == nil {
		return jsondoc.Doc("null")
	}
	return jsondoc.Text(current)
}

func allChildren(m *message) (ids []string) {
	items(m.children, func(v jsondoc.Doc) bool {
		if s, ok := text(v); ok {
			ids = append(ids, s)
		}
		return true
	})
	return ids
}

// childIDs are the children of a message that exist.
func (d *document) childIDs(m *message) (ids []string) {
	for _, id := range allChildren(m) {
		if d.msgs.get(id) != nil {
			ids = append(ids, id)
		}
	}
	return ids
}
