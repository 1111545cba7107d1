package chats

import (
	"net/http"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

// tally is what the statistics of a chat count.
type tally struct {
	models, historyModels                 map[string]int
	messages, history, users, assistants  int
	responseTime, userLength, replyLength float64
	last                                  jsondoc.Doc // timestamp of the branch's last message
	broken                                bool        // a message is of no known form
}

// contentLength is the length of a message's content: the characters of a text, and of a list either the number of its
// parts or, with parts, the characters of its texts.
func contentLength(m jsondoc.Doc, parts bool) (n int, ok bool) {
	content := m.Get("content")
	switch content.Kind() {
	case '"':
		s, _ := content.AsText()
		return utf8.RuneCountInString(s), true
	case '[':
		if !parts {
			return content.Len(), true
		}
		content.Items(func(_ int, p jsondoc.Doc) bool {
			if p.Text("type") == "text" {
				n += utf8.RuneCountInString(p.Text("text"))
			}
			return true
		})
		return n, true
	}
	return 0, parts || len(content) == 0
}

// count goes through a chat's document. parts is how exports count lists of content; they also leave out messages without
// an id, and answers of which a time is missing.
func count(d jsondoc.Doc, parts bool) tally {
	m := chats.HistoryMap(d)
	t := tally{models: map[string]int{}, historyModels: map[string]int{}, history: m.Len()}
	var userSum, replySum, times int
	var timeSum float64
	m.Each(func(_ string, msg jsondoc.Doc) bool {
		if _, known := statsOf(msg); parts && !known {
			return true
		}
		n, ok := contentLength(msg, parts)
		switch msg.Text("role") {
		case "user":
			t.users++
			userSum += n
		case "assistant":
			t.assistants++
			replySum += n
			if name := msg.Text("model"); name != "" {
				t.historyModels[name]++
			}
			if q := m.Get(msg.Text("parentId")); q != nil {
				at, okA := seconds(msg)
				asked, okQ := seconds(q)
				if !parts || okA && okQ {
					timeSum += at - asked
					times++
				}
			}
		default:
			ok = true
		}
		t.broken = t.broken || !ok
		return true
	})
	t.userLength, t.replyLength, t.responseTime = mean(float64(userSum), t.users), mean(float64(replySum), t.assistants), mean(timeSum, times)
	chain := m.Chain(d.Text("history", "currentId"))
	t.messages = len(chain)
	for _, msg := range chain {
		if name := msg.Text("model"); name != "" && msg.Text("role") == "assistant" {
			t.models[name]++
		}
		t.last = msg.Get("timestamp")
	}
	return t
}

func mean(sum float64, n int) float64 {
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// seconds is a message's timestamp; false where it has none, or zero.
func seconds(m jsondoc.Doc) (float64, bool) {
	var f float64
	if ts := m.Get("timestamp"); ts.Kind() == '0' {
		_ = ts.Decode(&f)
	}
	return f, f != 0
}

type usageItem struct {
	ID              string         `json:"id"`
	Models          map[string]int `json:"models"`
	MessageCount    int            `json:"message_count"`
	HistoryModels   map[string]int `json:"history_models"`
	HistoryCount    int            `json:"history_message_count"`
	UserCount       int            `json:"history_user_message_count"`
	AssistantCount  int            `json:"history_assistant_message_count"`
	ResponseTime    float64        `json:"average_response_time"`
	UserLength      float64        `json:"average_user_message_content_length"`
	AssistantLength float64        `json:"average_assistant_message_content_length"`
	Tags            []string       `json:"tags"`
	LastMessageAt   int64          `json:"last_message_at"`
	UpdatedAt       int64          `json:"updated_at"`
	CreatedAt       int64          `json:"created_at"`
}

type usageOut struct {
	Items []usageItem `json:"items"`
	Total int         `json:"total"`
}

type usageIn struct {
	PerPage web.Opt[int] `query:"items_per_page" default:"50"`
	Page    web.Opt[int] `query:"page" default:"1"`
}

func (m *Module) usageStats(c *web.Call, in usageIn) (usageOut, error) {
	size, number := 50, 1
	if in.PerPage.Has() {
		size = in.PerPage.V
	}
	if in.Page.Has() {
		number = in.Page.V
	}
	ctx := c.Context()
	total, err := m.Store.CountWhole(ctx, c.UserID(), -1)
	if err != nil {
		return usageOut{}, err
	}
	out := usageOut{Items: []usageItem{}, Total: total}
	if size == 0 {
		return out, nil
	}
	list, err := m.Store.Whole(ctx, c.UserID(), -1, false, page(number, max(0, size)))
	if err != nil {
		return usageOut{}, err
	}
	for _, chat := range list {
		t := count(chat.Doc, false)
		if t.broken || t.messages == 0 {
			continue
		}
		last, ok := t.last.Int()
		if !ok {
			return usageOut{}, errWrong
		}
		out.Items = append(out.Items, usageItem{chat.ID, t.models, t.messages, t.historyModels, t.history, t.users, t.assistants, t.responseTime, t.userLength, t.replyLength,
			tagList(chat), last, chat.UpdatedAt, chat.CreatedAt})
	}
	return out, nil
}

func tagList(c *chats.Chat) []string { return append([]string{}, c.Tags()...) }

type messageStats struct {
	ID            string      `json:"id"`
	Role          string      `json:"role"`
	Model         *string     `json:"model"`
	ContentLength int         `json:"content_length"`
	TokenCount    *int        `json:"token_count"`
	Timestamp     *int64      `json:"timestamp"`
	Rating        *int64      `json:"rating"`
	Tags          jsondoc.Doc `json:"tags"`
}

type aggregate struct {
	ResponseTime    float64        `json:"average_response_time"`
	UserLength      float64        `json:"average_user_message_content_length"`
	AssistantLength float64        `json:"average_assistant_message_content_length"`
	Models          map[string]int `json:"models"`
	MessageCount    int            `json:"message_count"`
	HistoryModels   map[string]int `json:"history_models"`
	HistoryCount    int            `json:"history_message_count"`
	UserCount       int            `json:"history_user_message_count"`
	AssistantCount  int            `json:"history_assistant_message_count"`
}

type exportItem struct {
	ID        string     `json:"id"`
	UserID    string     `json:"user_id"`
	CreatedAt int64      `json:"created_at"`
	UpdatedAt int64      `json:"updated_at"`
	Tags      []string   `json:"tags"`
	Stats     aggregate  `json:"stats"`
	Chat      exportBody `json:"chat"`
}

type exportBody struct {
	History exportHistory `json:"history"`
}

type exportHistory struct {
	Messages  jsondoc.Doc `json:"messages"`
	CurrentID *string     `json:"currentId"`
}

func export(chat *chats.Chat) exportItem {
	t := count(chat.Doc, true)
	item := exportItem{ID: chat.ID, UserID: chat.UserID, CreatedAt: chat.CreatedAt, UpdatedAt: chat.UpdatedAt, Tags: tagList(chat), Stats: aggregate{t.responseTime,
		t.userLength, t.replyLength, t.models, t.messages, t.historyModels, t.history, t.users, t.assistants}}
	if id := chat.Doc.Text("history", "currentId"); id != "" {
		item.Chat.History.CurrentID = &id
	}
	var b jsondoc.Builder
	chats.HistoryMap(chat.Doc).Each(func(id string, msg jsondoc.Doc) bool {
		if s, ok := statsOf(msg); ok {
			b.Add(id, s)
		}
		return true
	})
	item.Chat.History.Messages = b.Done()
	return item
}

// statsOf describes a message without its text; false where it has no id or role.
func statsOf(msg jsondoc.Doc) (s messageStats, ok bool) {
	s.ID, s.Role = msg.Text("id"), msg.Text("role")
	if msg.Get("id").Kind() != '"' || msg.Get("role").Kind() != '"' {
		return s, false
	}
	if v, ok := msg.Get("model").AsText(); ok {
		s.Model = &v
	}
	if v, ok := msg.Int("timestamp"); ok {
		s.Timestamp = &v
	}
	if v, ok := msg.Int("annotation", "rating"); ok {
		s.Rating = &v
	}
	if v := msg.Get("annotation", "tags"); v.Kind() == '[' {
		s.Tags = v
	}
	s.ContentLength, _ = contentLength(msg, true)
	return s, true
}

type exportOut struct {
	Type  string       `json:"type"`
	Items []exportItem `json:"items"`
	Total int          `json:"total"`
	Page  int          `json:"page"`
}

type exportIn struct {
	UpdatedAt web.Opt[int64] `query:"updated_at"`
	Page      web.Opt[int]   `query:"page" default:"1"`
	Stream    bool           `query:"stream" default:"false"`
}

const exportPage = 10

// mayExport refuses members where the operator has switched community sharing off.
func (m *Module) mayExport(c *web.Call) error {
	if !c.IsAdmin() && !config.UIEnableCommunitySharing.Get(m.Settings.Snapshot()) {
		return errProhibited
	}
	return nil
}

func (m *Module) exportStats(c *web.Call, in exportIn) (any, error) {
	if err := m.mayExport(c); err != nil {
		return nil, err
	}
	since := int64(-1)
	if n := in.UpdatedAt.Or(0); n != 0 {
		since = n
	}
	ctx := c.Context()
	if in.Stream {
		return m.streamStats(c, since)
	}
	number := 1
	if in.Page.Has() {
		number = in.Page.V
	}
	list, err := m.Store.Whole(ctx, c.UserID(), since, true, page(number, exportPage))
	if err != nil {
		return nil, err
	}
	out := exportOut{Type: "chats", Items: []exportItem{}, Page: number}
	for _, chat := range list {
		out.Items = append(out.Items, export(chat))
	}
	out.Total, err = m.Store.CountWhole(ctx, c.UserID(), since)
	return out, err
}

func (m *Module) streamStats(c *web.Call, since int64) (any, error) {
	c.Header().Set("Content-Disposition", "attachment; filename=chat-stats-export-"+c.UserID()+".jsonl")
	header(c, "application/x-ndjson", -1)
	rc := http.NewResponseController(c.W)
	err := m.Store.EachOf(c.Context(), c.UserID(), since, true, func(chat *chats.Chat) error {
		if _, err := c.W.Write(append(jsondoc.Of(export(chat)), '\n')); err != nil {
			return err
		}
		_ = rc.Flush() // a writer that cannot flush sends at the end
		return nil
	})
	return web.Done{}, err
}

type chatIDIn struct {
	ID string `path:"chat_id"`
}

func (m *Module) exportStatsOf(c *web.Call, in chatIDIn) (exportItem, error) {
	if err := m.mayExport(c); err != nil {
		return exportItem{}, err
	}
	chat, err := m.Store.Get(c.Context(), in.ID)
	if err != nil {
		return exportItem{}, orElse(err, errNotFound)
	}
	if chat.UserID != c.UserID() && !m.readsAll(c) {
		return exportItem{}, errProhibited
	}
	chat.Doc = chats.Clean(chats.Repaired(chat.Doc))
	return export(chat), nil
}
