package chats

import (
	"context"
	"io"

	"github.com/galleychat/galley/core/jsondoc"
)

// Stream is what a running turn has written so far of an answer; it is laid over the document's message.
type Stream struct {
	MessageID string
	Content   string
	Output    jsondoc.Doc // a list; nil is []
}

// Viewer is for whom a document is shown.
type Viewer struct {
	ID      string   // "" for a stranger
	Mode    string   // share_mode of the answer; "" is null, "-" leaves the member alone
	Repair  bool     // mend childrenIds and currentId, as for documents that are read from the table chat
	Streams []Stream // answers that are being written
	// Names gives the names of accounts by id, for messages that do not say who wrote them.
	Names func(ctx context.Context, ids []string) (map[string]string, error)
}

// View is a document as a viewer gets it: the stored bytes with a few splices.
type View struct {
	parts [][]byte
	size  int
}

// Len is the number of bytes.
func (v *View) Len() int { return v.size }

// WriteTo implements io.WriterTo.
func (v *View) WriteTo(w io.Writer) (n int64, err error) {
	for _, p := range v.parts {
		k, err := w.Write(p)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Doc is the document in one piece.
func (v *View) Doc() jsondoc.Doc {
	if len(v.parts) == 1 {
		return v.parts[0]
	}
	out := make(jsondoc.Doc, 0, v.size)
	for _, p := range v.parts {
		out = append(out, p...)
	}
	return out
}

func (v *View) add(p ...[]byte) {
	for _, b := range p {
		v.parts = append(v.parts, b)
		v.size += len(b)
	}
}

// private are the members of a document that only its owner sees.
var private = []string{"params", "tool_servers", "tool_ids", "filter_ids", "variables"}

// View shows a chat's document to someone: every user message names its author, the owner's settings and others'
// message meta are taken out, and NUL characters are gone.
func (c *Chat) View(ctx context.Context, v Viewer) (*View, error) {
	d := Clean(trim(c.Doc))
	doc := openDocument(d)
	changed := false
	if v.Repair {
		changed = doc.repair()
	}
	if v.ID != c.UserID {
		for _, n := range private {
			if doc.top.Has(n) {
				doc.top.Pop(n)
				changed = true
			}
		}
	}
	legacy := legacyMessages(doc)
	all := [][]message{doc.msgs.list, legacy}
	touched, err := show(ctx, all, c.UserID, v)
	if err != nil {
		return nil, err
	}
	if len(v.Streams) > 0 {
		touched = overlay(all, v.Streams) || touched
	}
	if touched && len(legacy) > 0 {
		docs := make([]jsondoc.Doc, len(legacy))
		for i := range legacy {
			docs[i] = legacy[i].raw
		}
		doc.top.Set("messages", jsondoc.Array(docs...))
	}
	out := &View{}
	mode := jsondoc.Doc("null")
	if v.Mode != "" {
		mode = jsondoc.Text(v.Mode)
	}
	switch {
	case changed || touched || v.Mode != "-" && doc.top.Has("share_mode"):
		if v.Mode != "-" {
			doc.top.Set("share_mode", mode)
		}
		out.add(doc.doc())
	case v.Mode == "-":
		out.add(d)
	case doc.top.Len() == 0:
		out.add([]byte(`{"share_mode":`), mode, []byte{'}'})
	default:
		out.add(d[:len(d)-1], []byte(`,"share_mode":`), mode, []byte{'}'})
	}
	return out, nil
}

func legacyMessages(doc *document) (out []message) {
	items(trim(doc.top.Get("messages")), func(v jsondoc.Doc) bool {
		m := message{raw: v}
		m.parse()
		m.key, _ = text(m.id)
		out = append(out, m)
		return true
	})
	return out
}

// show completes authors and hides what is not the viewer's; it says whether any message changed.
func show(ctx context.Context, all [][]message, owner string, v Viewer) (changed bool, err error) {
	known := map[string]string{}
	var missing, named []*message
	renamed := false
	for _, list := range all {
		for i := range list {
			m := &list[i]
			if !m.object() {
				continue
			}
			author := m.author()
			if m.isRole("user") {
				uid, name, exact := m.namedUser()
				if author == "" {
					if author = uid; author == "" {
						author = owner
					}
					m.set("user_id", jsondoc.Text(author))
					changed = true
				}
				if uid == author && name != "" {
					old, ok := known[uid]
					renamed = renamed || ok && old != name
					known[uid] = name
				}
				if uid != author || name == "" || !exact {
					missing = append(missing, m)
				} else {
					named = append(named, m)
				}
			}
			if author == "" {
				author = owner
			}
			if len(m.meta) > 0 && (v.ID == "" || author != v.ID) {
				m.raw = m.raw.Delete("meta")
				m.parse()
				changed = true
			}
		}
	}
	if renamed { // the last name counts for all
		missing = append(missing, named...)
	}
	if len(missing) == 0 {
		return changed, nil
	}
	var unknown []string
	for _, m := range missing {
		if _, ok := known[m.author()]; !ok {
			known[m.author()] = ""
			unknown = append(unknown, m.author())
		}
	}
	if len(unknown) > 0 && v.Names != nil {
		names, err := v.Names(ctx, unknown)
		if err != nil {
			return false, err
		}
		for id, n := range names {
			known[id] = n
		}
	}
	for _, m := range missing {
		id := m.author()
		m.set("user", jsondoc.Doc(`{"id":`+string(jsondoc.Text(id))+`,"name":`+string(jsondoc.Text(known[id]))+`}`))
	}
	return true, nil
}

// namedUser reads the member user; exact says that it holds nothing but id and name.
func (m *message) namedUser() (id, userName string, exact bool) {
	n := 0
	each(m.user, func(k []byte, v jsondoc.Doc) bool {
		n++
		switch string(k) {
		case "id":
			id, _ = text(v)
		case "name":
			userName, _ = text(v)
		}
		return true
	})
	return id, userName, n == 2
}

// overlay lays running answers over their messages.
func overlay(all [][]message, streams []Stream) (changed bool) {
	for _, list := range all {
		for i := range list {
			for _, s := range streams {
				m := &list[i]
				if m.key != s.MessageID || !m.object() {
					continue
				}
				changed = true
				m.raw = m.raw.Set(jsondoc.Text(s.Content), "content").Set(s.Output.Or(jsondoc.Doc("[]")), "output").Set(jsondoc.Doc("false"), "done")
			}
		}
	}
	return changed
}
