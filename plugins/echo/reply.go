package echo

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/galleychat/galley/sdk"
)

// reply makes the answer to a conversation; task names a background task, if the caller said so.
func reply(conv []sdk.Message, task string) string {
	prompt, turns := "", 0
	for _, m := range conv {
		if m.Role == "user" {
			prompt = m.Text()
			turns++
		}
	}
	if key := taskKey(prompt, task); key != "" {
		return taskReply(key, subject(prompt))
	}
	return chatReply(strings.TrimSpace(prompt), turns)
}

// taskKeys are the JSON keys that prompts of background tasks ask for, the more telling first, with the tasks'
// names.
var taskKeys = []struct{ key, task string }{
	{"follow_ups", "follow_up_generation"}, {"queries", "query_generation"}, {"tags", "tags_generation"},
	{"title", "title_generation"}, {"prompt", "image_prompt_generation"}, {"text", "autocomplete_generation"},
	{"emoji", "emoji_generation"},
}

// taskKey finds what a task's prompt asks for; "" if it is no task.
func taskKey(prompt, task string) string {
	for _, t := range taskKeys {
		if task == t.task {
			return t.key
		}
	}
	if !strings.Contains(prompt, "JSON") || !strings.Contains(prompt, "<chat_history>") && !strings.Contains(prompt, "### Task") {
		return ""
	}
	for _, t := range taskKeys {
		if strings.Contains(prompt, `"`+t.key+`"`) {
			return t.key
		}
	}
	return ""
}

var (
	history  = regexp.MustCompile(`(?s)<chat_history>(.*)</chat_history>`)
	userTurn = regexp.MustCompile(`(?ms)^\s*USER:\s*(.*?)\s*(?:^\s*ASSISTANT:|\z)`)
)

// subject finds what the user talks about in a task's prompt: their first message in the history it quotes.
func subject(prompt string) string {
	text := prompt
	if m := history.FindStringSubmatch(prompt); m != nil {
		text = m[1]
	}
	if m := userTurn.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Trim(lines[len(lines)-1], " \t\"`")
}

func taskReply(key, text string) string {
	topics := keywords(text, 4)
	topic := strings.Join(topics, " ")
	if topic == "" {
		topic = "this"
	}
	switch key {
	case "title":
		if len(topics) == 0 {
			return object(key, "New Conversation")
		}
		return object(key, titled(topics))
	case "tags":
		tags := []string{}
		for _, t := range topics[:min(len(topics), 3)] {
			tags = append(tags, capital(t))
		}
		return object(key, append(tags, "General")...)
	case "follow_ups":
		return object(key, "Can you explain "+topic+" in more detail?", "What is a good example of "+topic+"?",
			"What should I look at after "+topic+"?")
	case "queries":
		return object(key, topic)
	case "emoji":
		return "🙂"
	}
	return object(key, text)
}

// object is {"key": value}; tags, follow_ups and queries are lists whatever their number.
func object(key string, values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	text := strings.Join(quoted, ", ")
	if key == "tags" || key == "follow_ups" || key == "queries" {
		text = "[" + text + "]"
	}
	return `{"` + key + `": ` + text + "}"
}

// quote is a JSON string that keeps <, > and &.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

func chatReply(text string, turns int) string {
	if text == "" {
		return "Hello! I am the **Galley demo**. Say something and I will answer, word by word."
	}
	var b strings.Builder
	if turns <= 1 {
		b.WriteString("Hello! I am the **Galley demo**, a stand-in that needs no model and no network. ")
	} else {
		fmt.Fprintf(&b, "Thanks, that is message **%d** of our chat. ", turns)
	}
	fmt.Fprintf(&b, "You wrote:\n\n> %s\n\n", strings.ReplaceAll(excerpt(text, 280), "\n", "\n> "))
	if topics := keywords(text, 5); len(topics) > 0 {
		b.WriteString("The words that carry your message are:\n\n")
		for _, t := range topics {
			fmt.Fprintf(&b, "- **%s**\n", t)
		}
		b.WriteString("\n")
	}
	words := len(strings.Fields(text))
	fmt.Fprintf(&b, "That is %d %s and %d characters. ", words, plural(words, "word"), utf8.RuneCountInString(text))
	if strings.HasSuffix(text, "?") {
		b.WriteString("A real model would now answer your question; ")
	} else {
		b.WriteString("A real model would now take it from here; ")
	}
	b.WriteString("to get one, add an OpenAI-compatible or Ollama connection under *Admin Settings → Connections*.\n\n" +
		"```text\nstream: on · stop button: works · cost: nothing\n```")
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func excerpt(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:limit])) + " …"
}

// stopWords are English words that say nothing about a topic.
var stopWords = func() map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(`a about after again all also am an and any are as at be been before but by can could did
		do does doing for from get give had has have he hello help her here hi him his how i if in into is it its just
		know let like make me more most my need no not now of on one or our out please say she should so some tell than
		thank thanks that the their them then there these they thing things this to too up us use very want was way we
		were what when where which who why will with would you your`) {
		m[w] = true
	}
	return m
}()

// keywords returns up to n different words of text in their order, without stop words.
func keywords(text string, n int) []string {
	seen := map[string]bool{}
	var out []string
	for _, w := range strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '-' && r != '\''
	}) {
		w = strings.Trim(w, "-'")
		low := strings.ToLower(w)
		if utf8.RuneCountInString(w) < 2 || utf8.RuneCountInString(w) > 40 || stopWords[low] || seen[low] || strings.Contains(low, "'") {
			continue
		}
		seen[low] = true
		if out = append(out, w); len(out) == n {
			break
		}
	}
	return out
}

func titled(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = capital(w)
	}
	return strings.Join(out, " ")
}

func capital(w string) string {
	r, n := utf8.DecodeRuneInString(w)
	return string(unicode.ToTitle(r)) + w[n:]
}
