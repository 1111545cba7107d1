package users

import (
	"math"
	"net/http"
	"time"

	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type usageIn struct {
	Days  web.Opt[int]   `query:"days" ge:"7" le:"732"`
	Start web.Opt[int64] `query:"start_date"`
	End   web.Opt[int64] `query:"end_date"`
}

type totals struct {
	LifetimeTokens     int64 `json:"lifetime_tokens"`
	InputTokens        int64 `json:"input_tokens"`
	OutputTokens       int64 `json:"output_tokens"`
	PeakDailyTokens    int64 `json:"peak_daily_tokens"`
	LongestChatSeconds int64 `json:"longest_chat_seconds"`
	CurrentStreak      int   `json:"current_streak"`
	LongestStreak      int   `json:"longest_streak"`
	TotalChats         int   `json:"total_chats"`
	ActiveDays         int   `json:"active_days"`
	ModelsUsed         int   `json:"models_used"`
	Messages           int   `json:"messages"`
	UserMessages       int   `json:"user_messages"`
	AssistantMessages  int   `json:"assistant_messages"`
}

type insights struct {
	MostUsedModel  *string `json:"most_used_model"`
	TokensPerChat  float64 `json:"average_tokens_per_chat"`
	MessagesPerDay float64 `json:"average_messages_per_active_day"`
	UserShare      float64 `json:"user_message_share"`
	AssistantShare float64 `json:"assistant_message_share"`
}

type period struct {
	Start int64 `json:"start_date"`
	End   int64 `json:"end_date"`
	Days  int64 `json:"days"`
}

type usageAnswer struct {
	Totals     totals             `json:"totals"`
	Heatmap    []users.Day        `json:"heatmap"`
	Weekly     []users.Day        `json:"weekly_heatmap"`
	Cumulative []users.Day        `json:"cumulative_heatmap"`
	Insights   insights           `json:"insights"`
	TopModels  []users.ModelUsage `json:"top_models"`
	TopTools   []users.ToolUsage  `json:"top_tools"`
	Period     period             `json:"period"`
}

const daySeconds = 86400

// usage says how the caller has used the server: two years, unless told otherwise.
func (m *Module) usage(c *web.Call, in usageIn) (*usageAnswer, error) {
	end := in.End.V
	if end == 0 {
		end = time.Now().Unix()
	}
	start := end - int64(in.Days.Or(730)-1)*daySeconds
	if in.Start.Has() {
		start = in.Start.V
	}
	if start > end {
		return nil, web.Fail(http.StatusBadRequest, "start_date must be before end_date")
	}
	zone := "UTC"
	if c.Principal.Timezone != nil {
		zone = *c.Principal.Timezone
	}
	u, err := m.Users.Usage(c.Context(), c.UserID(), start, end, zone)
	if err != nil {
		return nil, err
	}
	out := &usageAnswer{
		Heatmap: u.Days, Weekly: users.Weekly(u.Days), Cumulative: users.Cumulative(u.Days), TopModels: u.Models, TopTools: u.Tools,
		Period: period{start, end, max(1, (end-start)/daySeconds+1)},
	}
	t := &out.Totals
	*t = totals{LifetimeTokens: u.Lifetime.Input + u.Lifetime.Output, InputTokens: u.Lifetime.Input, OutputTokens: u.Lifetime.Output,
		LongestChatSeconds: u.LongestChat, TotalChats: u.Chats, ActiveDays: u.ActiveDays, ModelsUsed: u.Lifetime.Models,
		Messages: u.Messages, UserMessages: u.UserMessages, AssistantMessages: u.AssistantMessages}
	t.CurrentStreak, t.LongestStreak = streaks(u.Days)
	for _, d := range u.Days {
		t.PeakDailyTokens = max(t.PeakDailyTokens, d.Tokens)
	}
	if len(u.Models) > 0 {
		out.Insights.MostUsedModel = &u.Models[0].ModelID
	}
	out.Insights.TokensPerChat = ratio(float64(t.LifetimeTokens), t.TotalChats)
	out.Insights.MessagesPerDay = ratio(float64(t.Messages), t.ActiveDays)
	out.Insights.UserShare = ratio(float64(t.UserMessages)*100, t.Messages)
	out.Insights.AssistantShare = ratio(float64(t.AssistantMessages)*100, t.Messages)
	return out, nil
}

// ratio has one decimal place.
func ratio(a float64, b int) float64 {
	if b == 0 {
		return 0
	}
	return math.RoundToEven(a/float64(b)*10) / 10
}

// streaks are the days in a row with messages: until now, and at most.
func streaks(days []users.Day) (current, longest int) {
	for _, d := range days {
		if d.Messages > 0 {
			current++
			longest = max(longest, current)
		} else {
			current = 0
		}
	}
	return current, longest
}
