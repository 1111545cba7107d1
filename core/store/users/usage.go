package users

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Usage is how an account used the server in a period.
type Usage struct {
	Lifetime struct {
		Input, Output int64 // tokens, of all time
		Models        int   // different ones, of all time
	}
	Messages          int
	UserMessages      int
	AssistantMessages int
	ActiveDays        int
	Days              []Day // of the period, each of them
	Models            []ModelUsage
	Tools             []ToolUsage
	Chats             int   // of all time
	LongestChat       int64 // seconds in which its messages came without a break
}

// Day is what happened on a day, or in what begins with it.
type Day struct {
	Date     string         `json:"date"` // YYYY-MM-DD
	Messages int            `json:"messages"`
	Chats    int            `json:"chats"`
	Tokens   int64          `json:"tokens"`
	Models   map[string]int `json:"models"` // answers by model
}

// ModelUsage is how much a model was used.
type ModelUsage struct {
	ModelID      string `json:"model_id"`
	Messages     int    `json:"messages"`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	TotalTokens  int64  `json:"total_tokens"`
}

// ToolUsage is how often a tool was used.
type ToolUsage struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

const (
	// topUsage is how many models and tools are named.
	topUsage = 5
	// chatBreak is how many seconds without a message make a break in a chat.
	chatBreak = 30 * 60
	// earliest is the time before which a timestamp is taken for wrong: 2020.
	earliest = 1577836800
	// latestSeconds is where timestamps are in milliseconds from.
	latestSeconds = 10_000_000_000
)

// tokens is the number of tokens of a kind that the usage of a message names, in either spelling: an expression.
func tokens(d store.Dialect, name, openAI string) string {
	get := func(key string) string {
		text := d.JSONText("m.usage", key)
		// Postgres fails on what is no number
		return d.Pick("CAST("+text+" AS BIGINT)", "CASE WHEN "+text+` ~ '^-?[0-9]{1,15}(\.[0-9]+)?$' THEN CAST(CAST(`+text+" AS NUMERIC) AS BIGINT) END")
	}
	return "COALESCE(" + get(name) + ", " + get(openAI) + ")"
}

// Usage reads the usage of an account from start to end (Unix seconds, inclusive), by days of a time zone (UTC where its
// name is unknown).
func (s *Store) Usage(ctx context.Context, userID string, start, end int64, zone string) (*Usage, error) {
	tz, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		tz = time.UTC
	}
	u := &Usage{}
	for _, step := range []func() error{
		func() error { return s.lifetime(ctx, u, userID) },
		func() error { return s.days(ctx, u, userID, start, end, tz) },
		func() error { return s.tools(ctx, u, userID, start, end) },
		func() error { return s.chats(ctx, u, userID) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
	}
	return u, nil
}

func (s *Store) lifetime(ctx context.Context, u *Usage, userID string) error {
	d := s.db.Dialect()
	return s.db.QueryRow(ctx, `SELECT COALESCE(SUM(`+tokens(d, "input_tokens", "prompt_tokens")+`), 0),
		COALESCE(SUM(`+tokens(d, "output_tokens", "completion_tokens")+`), 0), COUNT(DISTINCT m.model_id)
		FROM chat_message m WHERE m.user_id = $1 AND m.role = 'assistant'`, userID).
		Scan(&u.Lifetime.Input, &u.Lifetime.Output, &u.Lifetime.Models)
}

// days reads the messages of the period once and counts them by day and by model.
func (s *Store) days(ctx context.Context, u *Usage, userID string, start, end int64, tz *time.Location) error {
	d := s.db.Dialect()
	rows, err := s.db.Query(ctx, `SELECT m.created_at, m.chat_id, m.role, COALESCE(m.model_id, ''),
		COALESCE(`+tokens(d, "input_tokens", "prompt_tokens")+`, 0), COALESCE(`+tokens(d, "output_tokens", "completion_tokens")+`, 0)
		FROM chat_message m WHERE m.user_id = $1 AND m.created_at >= $2 AND m.created_at <= $3 ORDER BY m.created_at`, userID, start, end)
	if err != nil {
		return err
	}
	defer rows.Close()
	now := time.Now().Unix()
	days, chats := map[string]*Day{}, map[[2]string]bool{}
	models := map[string]*ModelUsage{}
	for rows.Next() {
		var at, in, out int64
		var chat, role, model string
		if err := rows.Scan(&at, &chat, &role, &model, &in, &out); err != nil {
			return err
		}
		day := dayOf(days, dateKey(at, now, tz))
		day.Messages++
		day.Tokens += in + out
		if k := [2]string{day.Date, chat}; !chats[k] {
			chats[k] = true
			day.Chats++
		}
		u.Messages++
		switch role {
		case RoleUser:
			u.UserMessages++
		case "assistant":
			u.AssistantMessages++
			if model == "" {
				break
			}
			day.Models[model]++
			if models[model] == nil {
				models[model] = &ModelUsage{ModelID: model}
				u.Models = append(u.Models, ModelUsage{ModelID: model})
			}
			m := models[model]
			m.Messages++
			m.InputTokens += in
			m.OutputTokens += out
			m.TotalTokens += in + out
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	u.ActiveDays = len(days)
	first, last := midnight(start, now, tz), midnight(end, now, tz)
	for t := first; !t.After(last); t = t.AddDate(0, 0, 1) {
		dayOf(days, t.Format(time.DateOnly))
	}
	for _, date := range slices.Sorted(maps.Keys(days)) {
		u.Days = append(u.Days, *days[date])
	}
	for i := range u.Models {
		u.Models[i] = *models[u.Models[i].ModelID]
	}
	// of equals the last by name comes first: SQLite groups in the direction that it orders in
	slices.SortFunc(u.Models, func(a, b ModelUsage) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(b.ModelID, a.ModelID))
	})
	u.Models = append([]ModelUsage{}, u.Models[:min(topUsage, len(u.Models))]...)
	return nil
}

func dayOf(days map[string]*Day, date string) *Day {
	if days[date] == nil {
		days[date] = &Day{Date: date, Models: map[string]int{}}
	}
	return days[date]
}

// seconds reads a timestamp that may be in milliseconds; what cannot be is taken for now.
func seconds(at, now int64) int64 {
	if at > latestSeconds {
		at /= 1000
	}
	if at < earliest || at > now+86400 {
		return now
	}
	return at
}

func dateKey(at, now int64, tz *time.Location) string {
	return time.Unix(seconds(at, now), 0).In(tz).Format(time.DateOnly)
}

func midnight(at, now int64, tz *time.Location) time.Time {
	y, m, d := time.Unix(seconds(at, now), 0).In(tz).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, tz)
}

// tools counts the tools that messages of the period name in their output and meta.
func (s *Store) tools(ctx context.Context, u *Usage, userID string, start, end int64) error {
	d := s.db.Dialect()
	rows, err := s.db.Query(ctx, `SELECT m.output, m.meta FROM chat_message m WHERE m.user_id = $1 AND m.created_at >= $2 AND m.created_at <= $3
		AND NOT (`+d.JSONIsNull("m.output")+` AND `+d.JSONIsNull("m.meta")+`) ORDER BY m.created_at`, userID, start, end)
	docs, err := store.Collect(rows, err, func(r *sql.Rows) (v [2]jsondoc.Doc, err error) {
		err = r.Scan(&v[0], &v[1])
		return
	})
	if err != nil {
		return err
	}
	u.Tools = []ToolUsage{}
	at := map[string]int{}
	for _, pair := range docs {
		for _, doc := range pair {
			toolNames(doc, func(name string) {
				if _, ok := at[name]; !ok {
					at[name] = len(u.Tools)
					u.Tools = append(u.Tools, ToolUsage{Name: name})
				}
				u.Tools[at[name]].Count++
			})
		}
	}
	slices.SortStableFunc(u.Tools, func(a, b ToolUsage) int { return b.Count - a.Count })
	u.Tools = u.Tools[:min(topUsage, len(u.Tools))]
	return nil
}

// toolNames finds the names of tools in a message's output or meta.
func toolNames(d jsondoc.Doc, f func(string)) {
	switch d.Kind() {
	case '[':
		d.Items(func(_ int, v jsondoc.Doc) bool {
			toolNames(v, f)
			return true
		})
	case '{':
		o := jsondoc.Open(d)
		add := func(v jsondoc.Doc) {
			if name, ok := v.AsText(); ok {
				if name = strings.TrimSpace(name); name != "" && len([]rune(name)) <= 128 {
					f(name)
				}
			}
		}
		if kind := o.Text("type"); strings.Contains(kind, "tool") || kind == "function_call" || kind == "function_call_output" {
			if name := o.Get("name"); name.Truthy() {
				add(name)
			} else {
				add(o.Get("tool_name"))
			}
			add(o.Get("function").Get("name"))
		}
		for _, key := range []string{"tool_calls", "tools", "output", "meta"} {
			toolNames(o.Get(key), f)
		}
	}
}

// chats counts an account's chats, but for the server's own, and finds the longest.
func (s *Store) chats(ctx context.Context, u *Usage, userID string) error {
	own := `c.user_id = $1 AND COALESCE(CAST(` + s.db.Dialect().JSONText("c.meta", "internal") + ` AS TEXT), '') NOT IN ('1', 'true')`
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM chat c WHERE `+own, userID).Scan(&u.Chats); err != nil {
		return err
	}
	rows, err := s.db.Query(ctx, `SELECT m.chat_id, m.created_at FROM chat_message m JOIN chat c ON c.id = m.chat_id
		WHERE `+own+` AND m.created_at IS NOT NULL ORDER BY m.chat_id, m.created_at`, userID)
	if err != nil {
		return err
	}
	defer rows.Close()
	var chat string
	var last, total int64
	for rows.Next() {
		var id string
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return err
		}
		if at > latestSeconds {
			at /= 1000
		}
		if id != chat {
			chat, last, total = id, at, 0
			continue
		}
		if d := at - last; d > 0 && d <= chatBreak {
			total += d
			u.LongestChat = max(u.LongestChat, total)
		}
		last = at
	}
	return rows.Err()
}

// Weekly sums days by week, named by its Monday.
func Weekly(days []Day) []Day {
	out := []Day{}
	for _, d := range days {
		t, err := time.Parse(time.DateOnly, d.Date)
		if err != nil {
			continue
		}
		monday := t.AddDate(0, 0, -(int(t.Weekday())+6)%7).Format(time.DateOnly)
		if len(out) == 0 || out[len(out)-1].Date != monday {
			out = append(out, Day{Date: monday, Models: map[string]int{}})
		}
		out[len(out)-1].add(d)
	}
	return out
}

// Cumulative gives for each day the sum of all until then.
func Cumulative(days []Day) []Day {
	sum := Day{Models: map[string]int{}}
	out := make([]Day, len(days))
	for i, d := range days {
		sum.add(d)
		out[i] = sum
		out[i].Date, out[i].Models = d.Date, maps.Clone(sum.Models)
	}
	return out
}

func (d *Day) add(other Day) {
	d.Messages += other.Messages
	d.Chats += other.Chats
	d.Tokens += other.Tokens
	for model, n := range other.Models {
		d.Models[model] += n
	}
}
