package prompt

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

var (
	promptVariable   = regexp.MustCompile(`(?i){{prompt}}|{{prompt:start:(\d+)}}|{{prompt:end:(\d+)}}|{{prompt:middletruncate:(\d+)}}`)
	messagesVariable = regexp.MustCompile(`{{MESSAGES(?:\|(\w+:\d+))?}}` +
		`|{{MESSAGES:START:(\d+)(?:\|(\w+:\d+))?}}` +
		`|{{MESSAGES:END:(\d+)(?:\|(\w+:\d+))?}}` +
		`|{{MESSAGES:MIDDLETRUNCATE:(\d+)(?:\|(\w+:\d+))?}}`)
)

// Prompt fills {{prompt}} and its forms {{prompt:start:N}}, {{prompt:end:N}} and {{prompt:middletruncate:N}}, N in code
// points, in any case of letters.
func Prompt(template, text string) string {
	return replaceMatches(promptVariable, template, func(g []string) string {
		runes := []rune(text)
		switch {
		case g[1] != "":
			return string(first(runes, number(g[1])))
		case g[2] != "":
			return string(last(runes, number(g[2])))
		case g[3] != "":
			n := number(g[3])
			if len(runes) <= n {
				return text
			}
			return string(first(runes, (n+1)/2)) + "..." + string(last(runes, n/2))
		}
		return text
	})
}

// Messages fills {{MESSAGES}} and its forms {{MESSAGES:START:N}}, {{MESSAGES:END:N}} and {{MESSAGES:MIDDLETRUNCATE:N}}
// with "ROLE: text" lines. After a bar may stand how to shorten each text: {{MESSAGES:END:2|middletruncate:500}}, or
// start or end.
func Messages(template string, messages []jsondoc.Doc) string {
	return replaceMatches(messagesVariable, template, func(g []string) string {
		if messages == nil {
			return ""
		}
		chosen, filter := messages, g[1]
		switch {
		case g[2] != "":
			chosen, filter = first(messages, number(g[2])), g[3]
		case g[4] != "":
			chosen, filter = last(messages, number(g[4])), g[5]
		case g[6] != "":
			n := number(g[6])
			filter = g[7]
			if len(messages) > n {
				chosen = append(first(messages, n/2), last(messages, (n+1)/2)...)
			}
		}
		return Conversation(chosen, filter)
	})
}

// Conversation writes messages as "ROLE: text" lines. filter may be "" or one of "start:N", "end:N" and
// "middletruncate:N".
func Conversation(messages []jsondoc.Doc, filter string) string {
	mode, size, _ := strings.Cut(strings.ToLower(filter), ":")
	limit := number(size)
	var b strings.Builder
	for i, m := range messages {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.ToUpper(m.Text("role")))
		b.WriteString(": ")
		b.WriteString(Truncate(Content(m), limit, mode))
	}
	return b.String()
}

// Truncate shortens a text to limit code points: its "start", its "end", or ("middletruncate") both around "...". Any
// other mode leaves it as it is.
func Truncate(text string, limit int, mode string) string {
	if mode != "start" && mode != "end" && mode != "middletruncate" {
		return text
	}
	if limit <= 0 {
		return ""
	}
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	switch mode {
	case "start":
		return string(runes[:limit])
	case "end":
		return string(runes[len(runes)-limit:])
	}
	return string(runes[:limit/2]) + "..." + string(runes[len(runes)-(limit-limit/2):])
}

// Content is the text of a message: its content, the first text part of it, or else the text of its output items.
func Content(m jsondoc.Doc) string {
	content := m.Get("content")
	if content.Kind() == '[' {
		for _, part := range content.List() {
			if part.Kind() == '{' && part.Text("type") == "text" {
				return part.Text("text")
			}
		}
	} else if s, ok := content.AsText(); ok && s != "" {
		return s
	}
	var texts []string
	for _, item := range m.Get("output").List() {
		if item.Text("type") != "message" {
			continue
		}
		var b strings.Builder
		for _, part := range item.Get("content").List() {
			b.WriteString(part.Text("text"))
		}
		if strings.TrimSpace(b.String()) != "" {
			texts = append(texts, b.String())
		}
	}
	return strings.Join(texts, "\n")
}

// LastUser is the text of the last message of a user.
func LastUser(messages []jsondoc.Doc) string {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Text("role") == "user" {
			return Content(messages[i])
		}
	}
	return ""
}

// Responses fills {{responses}} with answers in triple quotes.
func Responses(template string, answers []string) string {
	quoted := make([]string, len(answers))
	for i, a := range answers {
		quoted[i] = `"""` + a + `"""`
	}
	return strings.ReplaceAll(template, "{{responses}}", strings.Join(quoted, "\n\n"))
}

// first and last are slices as Python's [:n] and [-n:]; the last 0 are all.
func first[T any](s []T, n int) []T { return s[:min(n, len(s)):min(n, len(s))] }

func last[T any](s []T, n int) []T {
	if n == 0 || n >= len(s) {
		return s
	}
	return s[len(s)-n:]
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil && s != "" { // more digits than an int holds: as good as all
		return int(^uint(0) >> 2)
	}
	return n
}

// replaceMatches replaces every match by what f makes of its groups; group 0 is the match, absent ones are "".
func replaceMatches(re *regexp.Regexp, s string, f func(groups []string) string) string {
	var b strings.Builder
	at := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		groups := make([]string, len(m)/2)
		for i := range groups {
			if m[2*i] >= 0 {
				groups[i] = s[m[2*i]:m[2*i+1]]
			}
		}
		b.WriteString(s[at:m[0]])
		b.WriteString(f(groups))
		at = m[1]
	}
	b.WriteString(s[at:])
	return b.String()
}
