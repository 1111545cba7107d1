package builtin

import (
	"context"
	"time"

	"github.com/galleychat/galley/core/turn"
)

// Time is the tools that know what time it is. now is time.Now, but for tests.
func Time(now func() time.Time) Group {
	t := clock{now}
	return Group{Name: "time", Tools: []turn.Tool{
		New("get_current_timestamp", "Tells the present date and time, as Unix seconds, in UTC and, where it is known, in the user's time zone.", t.current),
		New("calculate_timestamp", "Tells the present time and the time that lies some days, weeks, months or years before it. "+
			"Other tools take such times to narrow a search down: for last week give weeks_ago=1, for three days ago days_ago=3.", t.calculate),
	}}
}

type clock struct{ now func() time.Time }

// moment is what tools tell of the time.
type moment struct {
	Current         int64  `json:"current_timestamp"`
	CurrentISO      string `json:"current_iso"`
	Calculated      int64  `json:"calculated_timestamp,omitzero"`
	CalculatedISO   string `json:"calculated_iso,omitzero"`
	Local           string `json:"user_local_iso,omitzero"`
	CalculatedLocal string `json:"calculated_local_iso,omitzero"`
	Zone            string `json:"user_timezone,omitzero"`
}

// iso writes a time as Python does.
func iso(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}

// zoneOf is the user's time zone, nil where it is not known.
func zoneOf(c turn.ToolCall) *time.Location {
	if c.Principal.Timezone == nil || *c.Principal.Timezone == "" {
		return nil
	}
	zone, err := time.LoadLocation(*c.Principal.Timezone)
	if err != nil {
		return nil
	}
	return zone
}

func (t clock) current(_ context.Context, c turn.ToolCall, _ struct{}) (any, error) {
	now := t.now().UTC()
	out := moment{Current: now.Unix(), CurrentISO: iso(now)}
	if zone := zoneOf(c); zone != nil {
		out.Local, out.Zone = iso(now.In(zone)), zone.String()
	}
	return out, nil
}

type agoIn struct {
	Days   int `json:"days_ago" default:"0" about:"how many days to go back"`
	Weeks  int `json:"weeks_ago" default:"0" about:"how many weeks to go back"`
	Months int `json:"months_ago" default:"0" about:"how many months to go back"`
	Years  int `json:"years_ago" default:"0" about:"how many years to go back"`
}

func (t clock) calculate(_ context.Context, c turn.ToolCall, in agoIn) (any, error) {
	now := t.now().UTC()
	then := now.AddDate(0, 0, -in.Days-7*in.Weeks)
	if in.Months > 0 || in.Years > 0 {
		then = monthsBack(then, in.Months+12*in.Years)
	}
	out := moment{Current: now.Unix(), CurrentISO: iso(now), Calculated: then.Unix(), CalculatedISO: iso(then)}
	if zone := zoneOf(c); zone != nil {
		out.Local, out.CalculatedLocal, out.Zone = iso(now.In(zone)), iso(then.In(zone)), zone.String()
	}
	return out, nil
}

// monthsBack is the same day some months before, or the last of its month where that is shorter.
func monthsBack(t time.Time, months int) time.Time {
	first := t.AddDate(0, 0, 1-t.Day()).AddDate(0, -months, 0)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}
