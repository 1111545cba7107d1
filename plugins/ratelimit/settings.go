package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/sdk"
)

// Settings are what administrators set. Limits of 0 are none.
type Settings struct {
	RequestsPerMinute int `json:"requests_per_minute" title:"Requests per minute" description:"of each user; 0 is no limit" minimum:"0"`
	RequestsPerHour   int `json:"requests_per_hour" title:"Requests per hour" description:"of each user; 0 is no limit" minimum:"0"`
	RequestsPerDay    int `json:"requests_per_day" title:"Requests per day" description:"of each user; 0 is no limit" minimum:"0"`
	TokensPerMinute   int `json:"tokens_per_minute" title:"Tokens per minute" description:"of each user; 0 is no limit" minimum:"0"`
	TokensPerHour     int `json:"tokens_per_hour" title:"Tokens per hour" description:"of each user; 0 is no limit" minimum:"0"`
	TokensPerDay      int `json:"tokens_per_day" title:"Tokens per day" description:"of each user; 0 is no limit" minimum:"0"`

	GroupRequestsPerMinute []string `json:"group_requests_per_minute" title:"Requests per minute of groups" description:"group name=number; all members share it"`
	GroupTokensPerDay      []string `json:"group_tokens_per_day" title:"Tokens per day of groups" description:"group name=number; all members share it"`

	Models          []string `json:"models" title:"Models" description:"ids of the models that are limited; none means all"`
	ExemptAdmins    bool     `json:"exempt_admins" title:"Administrators are exempt"`
	CountTasks      bool     `json:"count_tasks" title:"Count titles, tags and the like" description:"requests that Galley makes by itself"`
	WhenUnavailable string   `json:"when_unavailable" title:"When the counters cannot be reached" description:"open lets requests pass, closed refuses them" enum:"open,closed"`
}

func defaults() Settings {
	return Settings{GroupRequestsPerMinute: []string{}, GroupTokensPerDay: []string{}, Models: []string{}, ExemptAdmins: true, WhenUnavailable: "open"}
}

// Validate implements what sdk.NewConfig asks for.
func (s *Settings) Validate() error {
	_, err := s.compile()
	return err
}

// limit is one limit: so many requests or tokens in a window.
type limit struct {
	what   string // "requests" or "tokens"
	window time.Duration
	name   string // of the window, for people
	most   int64
}

func (l limit) tokens() bool { return l.what == "tokens" }

// rules are settings as they are applied.
type rules struct {
	*Settings
	users  []limit
	groups map[string][]limit // by the group's name
	models []string
}

func (s *Settings) compile() (*rules, error) {
	r := &rules{Settings: s, groups: map[string][]limit{}, models: withoutEmpty(s.Models)}
	for _, l := range []limit{
		{"requests", time.Minute, "minute", int64(s.RequestsPerMinute)}, {"requests", time.Hour, "hour", int64(s.RequestsPerHour)},
		{"requests", 24 * time.Hour, "day", int64(s.RequestsPerDay)}, {"tokens", time.Minute, "minute", int64(s.TokensPerMinute)},
		{"tokens", time.Hour, "hour", int64(s.TokensPerHour)}, {"tokens", 24 * time.Hour, "day", int64(s.TokensPerDay)},
	} {
		if l.most > 0 {
			r.users = append(r.users, l)
		}
	}
	if err := r.addGroups("group_requests_per_minute", s.GroupRequestsPerMinute, limit{"requests", time.Minute, "minute", 0}); err != nil {
		return nil, err
	}
	if err := r.addGroups("group_tokens_per_day", s.GroupTokensPerDay, limit{"tokens", 24 * time.Hour, "day", 0}); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *rules) addGroups(field string, lines []string, l limit) error {
	for _, line := range withoutEmpty(lines) {
		at := strings.LastIndexByte(line, '=') // names may have one
		if at <= 0 {
			return &sdk.FieldError{Field: field, Err: fmt.Errorf("%q is not of the form name=number", line)}
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line[at+1:]), 10, 64)
		if err != nil || n < 0 {
			return &sdk.FieldError{Field: field, Err: fmt.Errorf("%q is no number of %s", line[at+1:], l.what)}
		}
		name := strings.TrimSpace(line[:at])
		if slices.ContainsFunc(r.groups[name], func(o limit) bool { return o.what == l.what }) {
			return &sdk.FieldError{Field: field, Err: errors.New("two limits of group " + strconv.Quote(name))}
		}
		if l.most = n; n > 0 {
			r.groups[name] = append(r.groups[name], l)
		}
	}
	return nil
}

// withoutEmpty leaves out the empty texts that forms give for an empty list.
func withoutEmpty(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
