package chats

import (
	"bytes"
	"strconv"

	"github.com/galleychat/galley/core/jsondoc"
)

// message is a member of history.messages, skimmed: the members that the server looks at, raw.
type message struct {
	key    string
	rawKey []byte // between the quotes
	raw    jsondoc.Doc

	id, role, parent, children, timestamp, userID, user, meta, done, output jsondoc.Doc
}

func (m *message) object() bool { return isObject(m.raw) }

// parse reads the members of m.raw.
func (m *message) parse() {
	if b := []byte(m.raw); isObject(m.raw) {
		m.parseAt(b, 0)
	}
}

// parseAt reads the message that starts at i, sets raw, and gives the index after it.
func (m *message) parseAt(b []byte, i int) int {
	m.id, m.role, m.parent, m.children, m.timestamp, m.userID, m.user, m.meta, m.done, m.output = nil, nil, nil, nil, nil, nil, nil, nil, nil, nil
	if i >= len(b) || b[i] != '{' {
		end := endValue(b, i)
		m.raw = b[i:end:end]
		return end
	}
	end := walk(b, i, func(n []byte, start int) int {
		end := endValue(b, start)
		var to *jsondoc.Doc
		switch string(n) {
		case "id":
			to = &m.id
		case "role":
			to = &m.role
		case "parentId":
			to = &m.parent
		case "childrenIds":
			to = &m.children
		case "timestamp":
			to = &m.timestamp
		case "user_id":
			to = &m.userID
		case "user":
			to = &m.user
		case "meta":
			to = &m.meta
		case "done":
			to = &m.done
		case "output":
			to = &m.output
		default:
			return end
		}
		*to = b[start:end:end]
		return end
	})
	end = min(end, len(b))
	m.raw = b[i:end:end]
	return end
}

// set replaces or adds a member.
func (m *message) set(name string, v jsondoc.Doc) {
	m.raw = m.raw.Set(v, name)
	m.parse()
}

func (m *message) parentID() string {
	s, _ := text(m.parent)
	return s
}

// author is the message's own user id, "" where it has none.
func (m *message) author() string {
	s, _ := text(m.userID)
	return s
}

func (m *message) isRole(role string) bool {
	s, _ := text(m.role)
	return s == role
}

// unfinished says that done is false, not merely absent.
func (m *message) unfinished() bool { return string(m.done) == "false" }

// hasChild says whether an id stands in childrenIds.
func (m *message) hasChild(id string) (found bool) {
	items(m.children, func(v jsondoc.Doc) bool {
		s, ok := text(v)
		found = ok && s == id
		return !found
	})
	return found
}

// messages are the messages of a history, in order.
type messages struct {
	list []message
	at   map[string]int
}

// messagesAt reads the messages of the object that starts at i and gives the index after it. A list in its place is read
// too, by the ids that its items have: so nothing is lost when the object is written.
func messagesAt(b []byte, i int) (*messages, int) {
	ms := &messages{}
	if i >= len(b) || b[i] != '{' {
		ms.at = map[string]int{}
		end := endValue(b, i)
		items(b[i:end:end], func(v jsondoc.Doc) bool {
			id, _ := text(member(v, "id"))
			for n := len(ms.list); id == "" || ms.get(id) != nil; n++ {
				id = strconv.Itoa(n)
			}
			ms.add(id, v)
			return true
		})
		return ms, end
	}
	ms.list = make([]message, 0, 8+(len(b)-i)/4096)
	ms.at = make(map[string]int, cap(ms.list))
	end := walk(b, i, func(n []byte, start int) int {
		ms.list = append(ms.list, message{key: name(n), rawKey: n})
		m := &ms.list[len(ms.list)-1]
		end := m.parseAt(b, start)
		if at, ok := ms.at[m.key]; ok {
			ms.list[at] = *m
			ms.list = ms.list[:len(ms.list)-1]
		} else {
			ms.at[m.key] = len(ms.list) - 1
		}
		return end
	})
	return ms, end
}

func (ms *messages) put(key string, rawKey []byte, v jsondoc.Doc) {
	m := message{key: key, rawKey: rawKey, raw: v}
	m.parse()
	if i, ok := ms.at[key]; ok {
		ms.list[i] = m
		return
	}
	ms.at[key] = len(ms.list)
	ms.list = append(ms.list, m)
}

// add puts a message that is not from a document.
func (ms *messages) add(key string, v jsondoc.Doc) {
	q := jsondoc.AppendString(nil, key)
	ms.put(key, q[1:len(q)-1], v)
}

func (ms *messages) get(key string) *message {
	if i, ok := ms.at[key]; ok {
		return &ms.list[i]
	}
	return nil
}

func (ms *messages) remove(keys map[string]bool) {
	kept := ms.list[:0:0]
	for _, m := range ms.list {
		if !keys[m.key] {
			kept = append(kept, m)
		}
	}
	ms.list = kept
	ms.at = make(map[string]int, len(kept))
	for i := range kept {
		ms.at[kept[i].key] = i
	}
}

func (ms *messages) size() int {
	n := 2
	for i := range ms.list {
		n += len(ms.list[i].rawKey) + len(ms.list[i].raw) + 4
	}
	return n
}

func (ms *messages) appendTo(out []byte) []byte {
	out = append(out, '{')
	for i := range ms.list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, ms.list[i].rawKey...)
		out = append(out, '"', ':')
		out = append(out, ms.list[i].raw...)
	}
	return append(out, '}')
}

// addChild notes a child with its parent, and says whether that changed anything.
func (ms *messages) addChild(parent, child string) bool {
	if parent == "" {
		return false
	}
	p := ms.get(parent)
	if p == nil || !p.object() || p.hasChild(child) {
		return false
	}
	ids := []jsondoc.Doc{}
	items(p.children, func(v jsondoc.Doc) bool {
		ids = append(ids, v)
		return true
	})
	p.set("childrenIds", jsondoc.Array(append(ids, jsondoc.Text(child))...))
	return true
}

// relink drops what is no object and rebuilds every childrenIds from the parents, in order.
func (ms *messages) relink() {
	for i := range ms.list {
		if !ms.list[i].object() {
			drop := map[string]bool{}
			for _, m := range ms.list {
				if !m.object() {
					drop[m.key] = true
				}
			}
			ms.remove(drop)
			break
		}
	}
	n := len(ms.list)
	parents := make([]int, n)
	// The children of all are one list, sorted by parent: starts[p] is where those of p begin.
	starts := make([]int, n+2)
	for i := range ms.list {
		parents[i] = -1
		if id, ok := text(ms.list[i].parent); ok {
			if p, ok := ms.at[id]; ok {
				parents[i] = p
				starts[p+2]++
			}
		}
	}
	for p := 2; p < len(starts); p++ {
		starts[p] += starts[p-1]
	}
	children := make([]int, starts[n+1])
	for i, p := range parents {
		if p >= 0 {
			children[starts[p+1]] = i
			starts[p+1]++
		}
	}
	for i := range ms.list {
		ms.relinkOne(&ms.list[i], children[starts[i]:starts[i+1]])
	}
}

func (ms *messages) relinkOne(m *message, children []int) {
	n, same := 0, isArray(m.children)
	if same {
		items(m.children, func(v jsondoc.Doc) bool {
			same = n < len(children) && len(v) >= 2 && v[0] == '"' && bytes.Equal(v[1:len(v)-1], ms.list[children[n]].rawKey)
			n++
			return same
		})
	}
	if same && n == len(children) {
		return
	}
	ids := make(jsondoc.Doc, 0, 2+len(children)*40)
	ids = append(ids, '[')
	for k, c := range children {
		if k > 0 {
			ids = append(ids, ',')
		}
		ids = append(append(append(ids, '"'), ms.list[c].rawKey...), '"')
	}
	m.set("childrenIds", append(ids, ']'))
}

// lastDescendant follows the last sound child from a message to its leaf.
func (ms *messages) lastDescendant(id string) string {
	seen := map[string]bool{}
	for {
		m := ms.get(id)
		if m == nil || seen[id] {
			return id
		}
		seen[id] = true
		next := ""
		items(m.children, func(v jsondoc.Doc) bool {
			child, ok := text(v)
			if !ok || seen[child] {
				return true
			}
			// stale links and malformed messages are passed over; the last sound one counts
			if c := ms.get(child); c != nil && c.object() && c.parentID() == id && c.role.Truthy() {
				if own, ok := text(c.id); ok && own == child {
					next = child
				}
			}
			return true
		})
		if next == "" {
			return id
		}
		id = next
	}
}

// outputRole is the role of the first output item that has one.
func outputRole(output jsondoc.Doc) (role jsondoc.Doc) {
	items(output, func(item jsondoc.Doc) bool {
		if r := member(item, "role"); r.Truthy() {
			role = r
		}
		return role == nil
	})
	return role
}

// repair adds missing childrenIds and gives the currentId that a reader sees: the last descendant of the stored one,
// or the newest leaf where the stored one is of no use. changed says whether anything differs from what is stored.
func (ms *messages) repair(currentID jsondoc.Doc) (current jsondoc.Doc, changed bool) {
	for i := range ms.list {
		if m := &ms.list[i]; m.object() {
			changed = ms.addChild(m.parentID(), m.key) || changed
		}
	}
	id, ok := text(currentID)
	var cur *message
	if ok {
		cur = ms.get(id)
	}
	if cur != nil && cur.object() && cur.id.Truthy() && cur.role.Truthy() && !ms.badLeaf(cur) {
		if last := ms.lastDescendant(id); last != id {
			return jsondoc.Text(last), true
		}
		return currentID, changed
	}
	latest, newest := "", float64(-1)
	for i := range ms.list {
		m := &ms.list[i]
		if !m.object() || !m.role.Truthy() || isArray(m.children) && m.children.Truthy() {
			continue
		}
		if t := number(m.timestamp); t > newest {
			latest, newest = m.key, t
		}
	}
	if latest == "" || ok && latest == id {
		return currentID, changed
	}
	return jsondoc.Text(latest), true
}

// badLeaf recognises an answer that was saved without its place in the tree.
func (ms *messages) badLeaf(m *message) bool {
	if !m.parent.IsNull() || m.timestamp.Truthy() || len(ms.list) < 2 {
		return false
	}
	role, _ := text(outputRole(m.output))
	return role == "assistant"
}
