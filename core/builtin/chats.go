package builtin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/turn"
)

// ChatStore is what the tools need of the chats; *chats.Store has it.
type ChatStore interface {
	Search(ctx context.Context, q chats.Query) ([]chats.Found, error)
	Docs(ctx context.Context, ids []string) (map[string]*chats.Chat, error)
	GetOwned(ctx context.Context, id, userID string) (*chats.Chat, error)
	Tasks(ctx context.Context, id string) (jsondoc.Doc, error)
	SetTasks(ctx context.Context, id string, tasks jsondoc.Doc) error
}

// FolderNames finds folders by name; *folders.Store has it.
type FolderNames interface {
	SearchNames(ctx context.Context, userID string, names []string) ([]string, error)
}

// Chats is the tools that look into the user's other chats.
func Chats(s ChatStore, f FolderNames) Group {
	t := chatTools{s, f}
	return Group{Name: "chats", Tools: []turn.Tool{
		New("search_chats", "Looks for earlier chats of the user by their titles and what was said in them; the present chat is left out. "+
			"Use it when the user refers to something from another conversation. Chats with the exact words come first, those with all of them in any order after.", t.search),
		New("view_chat", "Reads a whole earlier chat, which search_chats has found.", t.view),
	}}
}

type chatTools struct {
	chats   ChatStore
	folders FolderNames
}

type searchChatsIn struct {
	Query string `json:"query" about:"the words to look for, best as they were said"`
	Count int    `json:"count" default:"5" about:"how many chats to give at most"`
	Start *int   `json:"start_timestamp" about:"leave out chats last changed before this time (Unix seconds)"`
	End   *int   `json:"end_timestamp" about:"leave out chats last changed after this time (Unix seconds)"`
}

type foundChat struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Snippet   string `json:"snippet"`
	UpdatedAt int64  `json:"updated_at"`
}

// maxFound bounds the chats that one search gives.
const maxFound = 100

func (t chatTools) search(ctx context.Context, c turn.ToolCall, in searchChatsIn) (any, error) {
	found := []foundChat{}
	count := min(in.Count, maxFound)
	if count < 1 {
		return found, nil
	}
	q := chats.ParseQuery(in.Query)
	q.UserID, q.Page = c.Principal.ID, chats.Page{Limit: 3 * count}
	if len(q.FolderNames) > 0 {
		ids, err := t.folders.SearchNames(ctx, q.UserID, q.FolderNames)
		if err != nil {
			return nil, err
		}
		q.FolderIDs = ids
	}
	list, err := t.chats.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, f := range list {
		before := in.Start != nil && *in.Start != 0 && f.UpdatedAt < int64(*in.Start)
		after := in.End != nil && *in.End != 0 && f.UpdatedAt > int64(*in.End)
		if f.ID == c.ChatID || before || after {
			continue
		}
		found = append(found, foundChat{f.ID, f.Title, "", f.UpdatedAt})
		if ids = append(ids, f.ID); len(ids) == count {
			break
		}
	}
	if q.Phrase == "" {
		return found, nil
	}
	docs, err := t.chats.Docs(ctx, ids)
	if err != nil {
		return nil, err
	}
	needles := append([]string{q.Phrase}, q.Terms...)
	for i := range found {
		f := &found[i]
		if chat := docs[f.ID]; chat != nil {
			f.Snippet = snippet(chat.Doc, needles)
		}
		inTitle := func(needle string) bool { return strings.Contains(strings.ToLower(f.Title), needle) }
		if f.Snippet == "" && slices.ContainsFunc(needles, inTitle) {
			f.Snippet = "Title match: " + f.Title
		}
	}
	return found, nil
}

// snippet is the place in a chat's messages that has the first of some texts in lower case that is there.
func snippet(doc jsondoc.Doc, needles []string) string {
	var said [][2][]rune // as written, and in lower case
	take := func(m jsondoc.Doc) {
		if s, ok := m.Get("content").AsText(); ok {
			said = append(said, [2][]rune{[]rune(s), []rune(strings.ToLower(s))})
		}
	}
	messages := doc.Get("history", "messages")
	if !messages.Truthy() {
		messages = doc.Get("messages")
	}
	messages.Each(func(_ string, m jsondoc.Doc) bool { take(m); return true })
	messages.Items(func(_ int, m jsondoc.Doc) bool { take(m); return true })
	for _, needle := range needles {
		for _, s := range said {
			lower := string(s[1])
			at := strings.Index(lower, needle)
			if at < 0 {
				continue
			}
			// in characters, of which the lower case may have more or fewer
			at = len([]rune(lower[:at]))
			start, end := max(0, at-50), min(len(s[0]), at+len([]rune(needle))+100)
			cut := string(s[0][min(start, end):end])
			if start > 0 {
				cut = "..." + cut
			}
			if end < len(s[0]) {
				cut += "..."
			}
			return cut
		}
	}
	return ""
}

type viewChatIn struct {
	ID string `json:"chat_id" about:"the id of the chat"`
}

type viewedChat struct {
	ID        string          `json:"id"`
	Title     string          `json:"title"`
	Messages  []viewedMessage `json:"messages"`
	UpdatedAt int64           `json:"updated_at"`
	CreatedAt int64           `json:"created_at"`
}

type viewedMessage struct {
	Role    jsondoc.Doc `json:"role"`
	Content jsondoc.Doc `json:"content"`
}

func (t chatTools) view(ctx context.Context, c turn.ToolCall, in viewChatIn) (any, error) {
	chat, err := t.chats.GetOwned(ctx, in.ID, c.Principal.ID)
	if errors.Is(err, store.ErrNotFound) {
		err = errors.New("Chat not found or access denied") //nolint:staticcheck // the text is what models are told
	}
	if err != nil {
		return nil, err
	}
	history := chat.Doc.Get("history")
	byID := map[string]jsondoc.Doc{}
	history.Get("messages").Each(func(id string, m jsondoc.Doc) bool {
		byID[id] = m
		return true
	})
	empty := jsondoc.Doc(`""`)
	out := viewedChat{ID: chat.ID, Title: chat.Title, Messages: []viewedMessage{}, UpdatedAt: chat.UpdatedAt, CreatedAt: chat.CreatedAt}
	for id := history.Text("currentId"); id != ""; {
		m, ok := byID[id]
		if !ok {
			break
		}
		delete(byID, id) // a chain that bites its own tail ends
		v := viewedMessage{m.Get("role"), m.Get("content")}
		if v.Role == nil {
			v.Role = empty
		}
		if v.Content == nil {
			v.Content = empty
		}
		out.Messages = append(out.Messages, v)
		id = m.Text("parentId")
	}
	slices.Reverse(out.Messages)
	return out, nil
}
