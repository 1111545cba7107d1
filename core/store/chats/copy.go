package chats

import (
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
)

// Errors of Fork, in the words that clients see.
var (
	ErrNoMessages = errors.New("chat has no messages to fork")
	ErrNoMessage  = errors.New("message not found")
	ErrCycle      = errors.New("message branch contains a cycle")
)

// Fork makes the document of a new chat from the branch of messages that ends in one. Answers that were never finished
// count as done, unless they wait for somebody's approval of a tool.
func Fork(c *Chat, from *Map, messageID string) (jsondoc.Doc, error) {
	if from.Len() == 0 {
		return nil, ErrNoMessages
	}
	var ids []string
	seen := map[string]bool{}
	for id := messageID; id != ""; {
		if seen[id] {
			return nil, ErrCycle
		}
		seen[id] = true
		m := from.Get(id)
		if m.Kind() != '{' {
			return nil, ErrNoMessage
		}
		ids = append([]string{id}, ids...)
		id = m.Text("parentId")
	}
	authors := HistoryMap(c.Doc)
	list := make([]jsondoc.Doc, len(ids))
	var history jsondoc.Builder
	for i, id := range ids {
		m := from.Get(id).Set(jsondoc.Text(id), "id")
		parent, children := jsondoc.Doc("null"), jsondoc.Doc("[]")
		if i > 0 {
			parent = jsondoc.Text(ids[i-1])
		}
		if i+1 < len(ids) {
			children = jsondoc.Array(jsondoc.Text(ids[i+1]))
		}
		m = m.Set(parent, "parentId").Set(children, "childrenIds")
		if user := authors.Get(id).Get("user"); user.Kind() == '{' && user.Text("id") != "" && user.Text("id") == m.Text("user_id") {
			m = m.Set(user, "user")
		}
		if m.Text("role") == "assistant" && string(m.Get("done")) == "false" && !waits(m.Get("output")) {
			m = m.Set(jsondoc.Doc("true"), "done")
		}
		list[i] = m
		history.Raw(id, m)
	}
	var h, b jsondoc.Builder
	h.Raw("messages", history.Done())
	h.Add("currentId", messageID)
	b.Add("originalChatId", c.ID)
	b.Add("branchPointMessageId", messageID)
	b.Add("title", c.Title+" (fork)")
	b.Raw("history", h.Done())
	b.Raw("messages", jsondoc.Array(list...))
	return c.Doc.Delete("currentId").Delete("share_mode").Merge(b.Done()), nil
}

// waits says whether an answer's output holds a call that nobody has approved yet.
func waits(output jsondoc.Doc) (found bool) {
	items(trim(output), func(item jsondoc.Doc) bool {
		if item.Text("type") == "function_call" {
			switch item.Text("status") {
			case "pending", "queued", "requires_approval":
				found = true
			}
		}
		return !found
	})
	return found
}

// Reassign makes the messages of one account those of another.
func Reassign(d jsondoc.Doc, from string, to Author) jsondoc.Doc {
	id := jsondoc.Text(to.ID)
	user := jsondoc.Of(map[string]string{"id": to.ID, "name": to.Name})
	return eachMessage(d, func(m *message) bool {
		if a := m.author(); a != "" && a != from {
			return false
		}
		return m.attribute(id, user)
	})
}

// Owned gives messages that do not say who wrote them to an account.
func Owned(d jsondoc.Doc, userID string) jsondoc.Doc {
	return eachMessage(d, func(m *message) bool {
		if m.author() != "" {
			return false
		}
		id, _ := text(member(m.user, "id"))
		if id == "" {
			id = userID
		}
		m.set("user_id", jsondoc.Text(id))
		return true
	})
}

// eachMessage changes the messages of a document, in its history and in its old list, by f, which says whether it did.
func eachMessage(d jsondoc.Doc, f func(*message) bool) jsondoc.Doc {
	doc := openDocument(d)
	changed := false
	for i := range doc.msgs.list {
		if m := &doc.msgs.list[i]; m.object() {
			changed = f(m) || changed
		}
	}
	legacy := legacyMessages(doc)
	docs := make([]jsondoc.Doc, len(legacy))
	for i := range legacy {
		if legacy[i].object() {
			changed = f(&legacy[i]) || changed
		}
		docs[i] = legacy[i].raw
	}
	if !changed {
		return d
	}
	if len(legacy) > 0 {
		doc.top.Set("messages", jsondoc.Array(docs...))
	}
	return doc.doc()
}
