package scim

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// show writes a filter with all its brackets.
func show(f Filter) string {
	switch f := f.(type) {
	case *Both:
		return "(" + show(f.Left) + " & " + show(f.Right) + ")"
	case *Either:
		return "(" + show(f.Left) + " | " + show(f.Right) + ")"
	case *Not:
		return "!" + show(f.Filter)
	case *Within:
		return f.Attr.String() + "[" + show(f.Filter) + "]"
	case *Compare:
		return strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Attr, f.Op, string(f.Value)))
	}
	return "?"
}

func TestParseFilter(t *testing.T) {
	for text, want := range map[string]string{
		`userName eq "ann"`: `username eq "ann"`,
		`USERNAME Eq "Ann"`: `username eq "Ann"`,
		`urn:ietf:params:scim:schemas:core:2.0:User:name.familyName co "O'Malley"`: `name.familyname co "O'Malley"`,
		`title pr`:                                       `title pr`,
		`title pr and userType eq "Employee"`:            `(title pr & usertype eq "Employee")`,
		`a pr or b pr and c pr`:                          `(a pr | (b pr & c pr))`,
		`(a pr or b pr) and c pr`:                        `((a pr | b pr) & c pr)`,
		`a pr and b pr and c pr or d pr`:                 `(((a pr & b pr) & c pr) | d pr)`,
		`not (a pr) and b pr`:                            `(!a pr & b pr)`,
		`not(a pr)`:                                      `!a pr`,
		`emails[type eq "work" and value co "@x"]`:       `emails[(type eq "work" & value co "@x")]`,
		`emails[type eq "work"].value eq "a@x"`:          `emails[(type eq "work" & value eq "a@x")]`,
		`emails[not (type eq "work")] or active eq True`: `(emails[!type eq "work"] | active eq true)`,
		`meta.lastModified gt "2011-05-13T04:42:34Z"`:    `meta.lastmodified gt "2011-05-13T04:42:34Z"`,
		`a eq null`:                                      `a eq null`,
		`a ge 5.5`:                                       `a ge 5.5`,
		`displayName eq "a \"b\" \\ \u00e4 and (c) [d]"`: `displayname eq "a \"b\" \\ \u00e4 and (c) [d]"`,
		`  a   pr  `:                                     `a pr`,
	} {
		f, err := ParseFilter(text)
		if err != nil || show(f) != want {
			t.Errorf("%s: %v %v, want %s", text, f, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "userName", "userName eq", `userName eq ann`, `userName is "ann"`, `userName eq "ann`, `userName eq 'ann'`, `"ann" eq userName`,
		`userName eq "ann" and`, `and userName pr`, `(userName pr`, `userName pr)`, `not userName pr`, `userName pr userName pr`, `emails[type eq "work"`,
		`emails[]`, `emails[type eq "work"].value`, `a[b pr)`, `userName eq "a\x"`, `: pr`, `. pr`, strings.Repeat("(", 100) + "a pr" + strings.Repeat(")", 100),
		`a eq "` + strings.Repeat("x", maxLength) + `"`, strings.Repeat("a pr or ", maxTerms) + "a pr",
	} {
		if f, err := ParseFilter(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.80q: %v %v", text, f, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	for text, want := range map[string]string{
		"userName": "username", "name.givenName": "name.givenname",
		"urn:ietf:params:scim:schemas:core:2.0:User:userName":                "username",
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager": "manager",
		`members[value eq "1"]`:              `members[value eq "1"]`,
		`emails[type eq "work"].value`:       `emails.value[type eq "work"]`,
		`emails[primary eq true].VALUE`:      `emails.value[primary eq true]`,
		`addresses[type eq "work"].locality`: `addresses.locality[type eq "work"]`,
	} {
		p, err := ParsePath(text)
		got := p.Attr.String()
		if p.Filter != nil {
			got += "[" + show(p.Filter) + "]"
		}
		if err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a b", `members[value eq "1"`, `members[value eq "1"]value`, `[value pr]`, `members[]`, `"members"`, ".value"} {
		if p, err := ParsePath(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v %v", text, p, err)
		}
	}
}

func TestMatches(t *testing.T) {
	value := jsondoc.Doc(`{"type":"Work","primary":true,"value":"ann@x.test"}`)
	for text, want := range map[string]bool{
		`type eq "work"`: true, `primary eq true`: true, `primary eq false`: false, `value co "@X"`: true, `value sw "ann"`: true, `value ew ".test"`: true,
		`display pr`: false, `display eq null`: true, `not (display pr)`: true, `type ne "home" and value pr`: true, `type eq "home" or value gt "a"`: true,
		`value lt "a"`: false, `value.sub pr`: false, `type ge "work"`: true, `type le "work"`: true, `emails[type pr]`: false,
	} {
		f, err := ParseFilter(text)
		if err != nil || Matches(f, value) != want {
			t.Errorf("%s: not %v (%v)", text, want, err)
		}
	}
}

// FuzzParseFilter holds filters against a table: nothing panics, and no text of theirs is in the SQL.
func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{`userName eq "a"`, `not (emails[type eq "work" and value co "@x"].value pr) or meta.created gt "2020-01-01T00:00:00Z"`, `a[b pr`, `((`} {
		f.Add(s)
	}
	table := Table{"username": One(Column{SQL: "u.email", Kind: Text}), "emails": {Default: "value", Parts: map[string]Column{"value": {SQL: "u.email", Kind: Exact}, "type": {SQL: "'work'", Kind: Text}}},
		"meta": {Parts: map[string]Column{"created": {SQL: "u.created_at", Kind: Time}}}, "active": One(Column{SQL: "u.active", Kind: Bool}), "a": One(Column{Kind: None})}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatal(err)
			}
			return
		}
		for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
			sql, args, err := table.SQL(d, filter, nil)
			if err != nil {
				if !errors.Is(err, ErrSyntax) {
					t.Fatal(err)
				}
				continue
			}
			for i := range args {
				if !strings.Contains(sql, fmt.Sprintf("$%d", i+1)) {
					t.Errorf("%q: argument %d is not in %s", text, i+1, sql)
				}
			}
			if rest := strings.NewReplacer("'work'", "", "''", "").Replace(sql); strings.Contains(rest, "'") {
				t.Errorf("%q: %s", text, sql)
			}
		}
	})
}
