package prompt

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

func TestPrompt(t *testing.T) {
	for _, c := range [][3]string{
		{"a {{prompt}} b {{PROMPT}}", "héllo", "a héllo b héllo"},
		{"{{prompt:start:2}}|{{prompt:end:2}}|{{prompt:end:0}}", "héllo", "hé|lo|héllo"},
		{"{{prompt:middletruncate:3}}", "abcdef", "ab...f"},
		{"{{Prompt:MiddleTruncate:6}}", "abcdef", "abcdef"},
		{"{{prompt:other}}", "x", "{{prompt:other}}"},
		{"{{prompt}}", "{{prompt}} again", "{{prompt}} again"},
	} {
		if got := Prompt(c[0], c[1]); got != c[2] {
			t.Errorf("%s of %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestMessages(t *testing.T) {
	messages := jsondoc.Doc(`[{"role":"user","content":"one"},{"role":"assistant","content":[{"type":"image_url"},{"type":"text","text":"two"}]},
		{"role":"user","content":"three"},{"role":"assistant","content":"","output":[{"type":"message","content":[{"text":"fo"},{"text":"ur"}]}]}]`).List()
	for _, c := range [][2]string{
		{"[{{MESSAGES}}]", "[USER: one\nASSISTANT: two\nUSER: three\nASSISTANT: four]"},
		{"{{MESSAGES:START:1}}", "USER: one"},
		{"{{MESSAGES:END:2}}", "USER: three\nASSISTANT: four"},
		{"{{MESSAGES:MIDDLETRUNCATE:3}}", "USER: one\nUSER: three\nASSISTANT: four"},
		{"{{MESSAGES:MIDDLETRUNCATE:4}}", "USER: one\nASSISTANT: two\nUSER: three\nASSISTANT: four"},
		{"{{MESSAGES:END:2|start:2}}", "USER: th\nASSISTANT: fo"},
		{"{{MESSAGES:END:2|middletruncate:3}}", "USER: t...ee\nASSISTANT: f...ur"},
		{"{{MESSAGES|end:1}}", "USER: e\nASSISTANT: o\nUSER: e\nASSISTANT: r"},
		{"{{messages}}", "{{messages}}"},
	} {
		if got := Messages(c[0], messages); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
	if len(messages) != 4 || messages[1].Text("role") != "assistant" {
		t.Error("the messages were changed")
	}
}

func TestRender(t *testing.T) {
	birth, bio := "2000-06-15", "cook"
	p := &auth.Principal{User: &users.User{ID: "u", Name: "Ann", Email: "a@x", DateOfBirth: &birth, Bio: &bio, Variables: jsondoc.Doc(`{"city":"Bonn","n":3}`)}}
	r := Renderer{
		Now:        func() time.Time { return time.Date(2026, 6, 14, 15, 4, 5, 0, time.UTC) },
		GroupNames: func(context.Context, string) ([]string, error) { return []string{"a", "b"}, nil },
	}
	for _, c := range [][2]string{
		{"{{USER_NAME}} {{USER_EMAIL}} {{USER_BIO}} {{USER_GENDER}} {{USER_BIRTH_DATE}} {{USER_AGE}} {{USER_LOCATION}} {{USER_GROUPS}}", "Ann a@x cook None 2000-06-15 25 None a, b"},
		{"{{CURRENT_DATE}}|{{CURRENT_TIME}}|{{CURRENT_DATETIME}}|{{CURRENT_WEEKDAY}}", "2026-06-14|03:04:05 PM|2026-06-14 03:04:05 PM|Sunday"},
		{"{{ user.variables.city }}-{{user.variables.n}}-{{user.variables.Bad}}", "Bonn--"},
		{"{{chat.variables.tone | select:options=[\"dry\",\"warm\"]}}/{{chat.variables.who|text:default=\"all\"}}", "warm/all"},
		{"{{SENT}} and {{UNKNOWN}}", "value and {{UNKNOWN}}"},
	} {
		got := r.Render(context.Background(), p, c[0], jsondoc.Doc(`{"tone":"warm"}`), jsondoc.Doc(`{"{{SENT}}":"value"}`))
		if got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestChatVariables(t *testing.T) {
	for _, c := range []struct{ system, values, want, err string }{
		{"{{chat.variables.a}}", `{}`, "", ""},
		{"{{chat.variables.a|text:required:label=Name}}", `{}`, "", "Missing required chat variable: Name"},
		{"{{chat.variables.a|select:options=[\"x\"]}}", `{"a":"y"}`, "", "Invalid value for chat variable: a"},
		{"{{chat.variables.a|select}}", `{}`, "", "Chat variable a select needs options."},
		{"{{chat.variables.A}}", `{}`, "", "Invalid chat variable key: A"},
		{"{{chat.variables.a|text}}{{chat.variables.a|number}}", `{}`, "", "Chat variable a has conflicting definitions."},
		{"{{chat.variables.a}}{{chat.variables.a|number:default=3}}", `{}`, "3", ""},
		{"{{chat.variables.a}}", `{"a":"x\r\ny"}`, "x\ny", ""},
	} {
		got, err := ChatVariables(c.system, jsondoc.Doc(c.values), true)
		if c.err != "" {
			if err == nil || err.Error() != c.err || !errors.Is(err, ErrVariables) {
				t.Errorf("%s: error %v, want %q", c.system, err, c.err)
			}
			continue
		}
		if err != nil || got["a"] != c.want {
			t.Errorf("%s: %q, %v, want %q", c.system, got["a"], err, c.want)
		}
	}
}

func TestUserVariables(t *testing.T) {
	got, err := UserVariables(jsondoc.Doc(`{"a":"1\r\n2"}`))
	if err != nil || string(got) != `{"a":"1\n2"}` {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{`[]`, `{"A":"x"}`, `{"a":1}`} {
		if _, err := UserVariables(jsondoc.Doc(bad)); !errors.Is(err, ErrVariables) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
