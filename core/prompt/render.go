package prompt

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

// Renderer fills in prompts for a user. The zero value works, but knows no groups.
type Renderer struct {
	// GroupNames gives the names of a user's groups, with inherited ones. It is asked only where a prompt names them.
	GroupNames func(ctx context.Context, userID string) ([]string, error)
	// Now is the clock, in the zone that prompts tell; nil means time.Now.
	Now func() time.Time
}

// Render fills in a system prompt: the variables of the chat and of the account, then those that the client sent
// (names with their braces, and values), then the server's own. chatVariables and variables are JSON objects or nil.
func (r *Renderer) Render(ctx context.Context, p *auth.Principal, system string, chatVariables, variables jsondoc.Doc) string {
	if !strings.Contains(system, "{{") {
		return system
	}
	system = RenderChat(system, chatVariables, false)
	var u *users.User
	if p != nil {
		u = p.User
	}
	if u != nil {
		system = RenderUser(system, u.Variables)
	} else {
		system = RenderUser(system, nil)
	}
	return r.Server(ctx, u, Replace(system, variables))
}

// Replace puts values in the place of names, one after another; values that are no strings are left out.
func Replace(template string, variables jsondoc.Doc) string {
	variables.Each(func(name string, v jsondoc.Doc) bool {
		if s, ok := v.AsText(); ok {
			template = strings.ReplaceAll(template, name, s)
		}
		return true
	})
	return template
}

// Server fills the server's own variables: {{CURRENT_DATE}}, {{CURRENT_TIME}}, {{CURRENT_DATETIME}},
// {{CURRENT_WEEKDAY}}, and {{USER_NAME}}, _EMAIL, _BIO, _GENDER, _BIRTH_DATE, _AGE, _LOCATION and _GROUPS. What an
// account does not say reads "None"; without an account all read "Unknown".
func (r *Renderer) Server(ctx context.Context, u *users.User, template string) string {
	if !strings.Contains(template, "{{CURRENT_") && !strings.Contains(template, "{{USER_") {
		return template
	}
	now := time.Now()
	if r.Now != nil {
		now = r.Now()
	}
	date, clock := now.Format("2006-01-02"), now.Format("03:04:05 PM")
	for _, v := range [][2]string{
		{"{{CURRENT_DATE}}", date}, {"{{CURRENT_TIME}}", clock}, {"{{CURRENT_DATETIME}}", date + " " + clock},
		{"{{CURRENT_WEEKDAY}}", now.Weekday().String()},
	} {
		template = strings.ReplaceAll(template, v[0], v[1])
	}
	for _, v := range r.userValues(ctx, u, template, now) {
		template = strings.ReplaceAll(template, v[0], v[1])
	}
	return template
}

func (r *Renderer) userValues(ctx context.Context, u *users.User, template string, now time.Time) [][2]string {
	if !strings.Contains(template, "{{USER_") {
		return nil
	}
	names := []string{"NAME", "EMAIL", "BIO", "GENDER", "BIRTH_DATE", "AGE", "LOCATION", "GROUPS"}
	values := []string{"Unknown", "Unknown", "Unknown", "Unknown", "Unknown", "Unknown", "Unknown", ""}
	if u != nil {
		values = []string{u.Name, u.Email, orNone(u.Bio), orNone(u.Gender), orNone(u.DateOfBirth), age(u.DateOfBirth, now),
			location(u.Info), r.groups(ctx, u.ID, template)}
	}
	out := make([][2]string, len(names))
	for i, n := range names {
		out[i] = [2]string{"{{USER_" + n + "}}", values[i]}
	}
	return out
}

func (r *Renderer) groups(ctx context.Context, userID, template string) string {
	if r.GroupNames == nil || !strings.Contains(template, "{{USER_GROUPS}}") {
		return ""
	}
	names, err := r.GroupNames(ctx, userID)
	if err != nil {
		slog.WarnContext(ctx, "groups for a prompt are not known", "err", err)
	}
	return strings.Join(names, ", ")
}

func orNone(s *string) string {
	if s == nil {
		return "None"
	}
	return *s
}

func location(info jsondoc.Doc) string {
	if info.Kind() != '{' || info.Get("location").IsNull() {
		return "None"
	}
	return plainText(info.Get("location"))
}

func age(birth *string, now time.Time) string {
	if birth == nil {
		return "None"
	}
	b, err := time.Parse("2006-01-02", *birth)
	if err != nil {
		return "None"
	}
	years := now.Year() - b.Year()
	if now.Month() < b.Month() || now.Month() == b.Month() && now.Day() < b.Day() {
		years--
	}
	return strconv.Itoa(years)
}
