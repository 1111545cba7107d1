package chats

import (
	"net/http"
	"strconv"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

// chatHead and chatTail are what stands before and after the document in an answer, in the reference's order. The
// document itself is written as it is stored: encoding would look at each of its bytes.
type chatHead struct {
	ID     string `json:"id"`
	UserID string `json:"user_id"`
	Title  string `json:"title"`
}

type chatTail struct {
	UpdatedAt        int64       `json:"updated_at"`
	CreatedAt        int64       `json:"created_at"`
	ShareID          *string     `json:"share_id"`
	Archived         bool        `json:"archived"`
	Pinned           *bool       `json:"pinned"`
	Meta             jsondoc.Doc `json:"meta"`
	Variables        jsondoc.Doc `json:"variables"`
	FolderID         *string     `json:"folder_id"`
	Tasks            jsondoc.Doc `json:"tasks"`
	Summary          *string     `json:"summary"`
	CurrentMessageID *string     `json:"current_message_id"`
	ContextUsage     jsondoc.Doc `json:"context_usage"`
}

// frame gives the bytes before and after the document.
func frame(c *chats.Chat, usage jsondoc.Doc) (before, after []byte) {
	head := jsondoc.Of(chatHead{c.ID, c.UserID, c.Title})
	tail := jsondoc.Of(chatTail{c.UpdatedAt, c.CreatedAt, c.ShareID, c.Archived, c.Pinned, c.Meta, c.Variables, c.FolderID, c.Tasks, c.Summary, c.CurrentMessageID, usage})
	before = append(head[:len(head)-1], `,"chat":`...)
	tail[0] = ','
	return before, tail
}

// answer writes a chat with its document as stored.
func answer(c *web.Call, chat *chats.Chat) (web.Done, error) {
	before, after := frame(chat, nil)
	return send(c, before, chat.Doc, after)
}

// answerView writes a chat with its document as its reader sees it.
func answerView(c *web.Call, chat *chats.Chat, v *chats.View, usage jsondoc.Doc) (web.Done, error) {
	before, after := frame(chat, usage)
	header(c, "application/json", len(before)+v.Len()+len(after))
	if _, err := c.W.Write(before); err != nil {
		return web.Done{}, err
	}
	if _, err := v.WriteTo(c.W); err != nil {
		return web.Done{}, err
	}
	_, err := c.W.Write(after)
	return web.Done{}, err
}

// answerAll writes an array of chats with their documents as stored. A long one goes out while it is read.
func answerAll(c *web.Call, each func(func(*chats.Chat) error) error) (web.Done, error) {
	parts, size, sent := [][]byte{{'['}}, 1, false
	flush := func() error {
		if !sent {
			sent = true
			header(c, "application/json", -1)
		}
		for _, p := range parts {
			if _, err := c.W.Write(p); err != nil {
				return err
			}
		}
		parts, size = parts[:0], 0
		return nil
	}
	first := true
	err := each(func(chat *chats.Chat) error {
		if !first {
			parts = append(parts, []byte{','})
		}
		first = false
		before, after := frame(chat, nil)
		parts = append(parts, before, chat.Doc, after)
		if size += len(before) + len(chat.Doc) + len(after); size < answerHeld {
			return nil
		}
		return flush()
	})
	if err != nil {
		return web.Done{}, err
	}
	if parts = append(parts, []byte{']'}); !sent {
		return send(c, parts...)
	}
	return web.Done{}, flush()
}

// answerHeld is how much of an answer is held back to tell its length, or of an error, before it begins.
const answerHeld = 2 << 20

func send(c *web.Call, parts ...[]byte) (web.Done, error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	header(c, "application/json", n)
	for _, p := range parts {
		if _, err := c.W.Write(p); err != nil {
			return web.Done{}, err
		}
	}
	return web.Done{}, nil
}

func header(c *web.Call, kind string, length int) {
	c.Header().Set("Content-Type", kind)
	if length >= 0 {
		c.Header().Set("Content-Length", strconv.Itoa(length))
	}
	c.W.WriteHeader(http.StatusOK)
}

// item is a chat in a list.
type item struct {
	chats.Head
	snippet  *string
	active   bool
	archived bool
}

// answerItems writes a list. It is encoded by hand: it is the most frequent answer of the server.
func answerItems(c *web.Call, list []item) (web.Done, error) {
	size := 2
	for i := range list {
		size += 240 + len(list[i].Title)
		if list[i].snippet != nil {
			size += len(*list[i].snippet) + 16
		}
	}
	out := make([]byte, 0, size)
	out = append(out, '[')
	for i := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = list[i].appendTo(out)
	}
	return send(c, append(out, ']'))
}

func (it *item) appendTo(out []byte) []byte {
	out = jsondoc.AppendString(append(out, `{"id":`...), it.ID)
	out = jsondoc.AppendString(append(out, `,"title":`...), it.Title)
	out = strconv.AppendInt(append(out, `,"updated_at":`...), it.UpdatedAt, 10)
	out = strconv.AppendInt(append(out, `,"created_at":`...), it.CreatedAt, 10)
	out = append(out, `,"last_read_at":`...)
	if it.LastReadAt == nil {
		out = append(out, "null"...)
	} else {
		out = strconv.AppendInt(out, *it.LastReadAt, 10)
	}
	out = append(out, `,"snippet":`...)
	if it.snippet == nil {
		out = append(out, "null"...)
	} else {
		out = jsondoc.AppendString(out, *it.snippet)
	}
	out = strconv.AppendBool(append(out, `,"active":`...), it.active)
	out = strconv.AppendBool(append(out, `,"archived":`...), it.archived)
	return append(out, '}')
}

// items makes list items of heads and marks those with a running answer.
func (m *Module) items(c *web.Call, heads []chats.Head) ([]item, error) {
	list := make([]item, len(heads))
	for i, h := range heads {
		list[i].Head = h
	}
	return list, m.markActive(c, list)
}

func (m *Module) markActive(c *web.Call, list []item) error {
	if m.Tasks == nil || len(list) == 0 {
		return nil
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	busy := m.Tasks.Active(ids)
	if len(busy) == 0 {
		return nil
	}
	ids = ids[:0]
	for i := range list {
		if busy[list[i].ID] {
			ids = append(ids, list[i].ID)
		}
	}
	unfinished, err := m.Store.Unfinished(c.Context(), ids)
	for i := range list {
		list[i].active = busy[list[i].ID] && unfinished[list[i].ID]
	}
	return err
}
