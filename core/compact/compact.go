// Package compact keeps long conversations within a model's context: it measures how much of it a branch of messages
// takes, and has a model summarise the older part. A summary is kept on the message from which the conversation goes on
// (its contextSummary); what is before it is not sent any more.
package compact

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/prompt"
)

// Config are the settings of compaction. Tokens are those of a model, estimated where it does not report them.
type Config struct {
	Enable    bool
	Threshold int // tokens from which on a request's messages are compacted
	Cap       int // the most that a chat's own threshold may be
	Retention int // percent of the messages that stay, 10 to 50
	Template  string
	Model     string // model that writes summaries; "" takes the chat's
}

// FromSettings reads the settings.
func FromSettings(s *config.Snapshot) Config {
	c := Config{
		Enable:    config.ChatContextCompactionEnable.Get(s),
		Threshold: config.ChatContextCompactionTokenThreshold.Get(s),
		Template:  config.ChatContextCompactionPromptTemplate.Get(s),
		Model:     config.ChatContextCompactionModel.Get(s),
		Retention: min(50, max(10, config.ChatContextCompactionRetentionPercentage.Get(s))),
	}
	if c.Threshold <= 0 {
		c.Threshold = 80_000
	}
	if c.Cap, _ = config.ChatContextCompactionTokenCap.Int(s); c.Cap <= 0 {
		c.Cap = c.Threshold
	}
	return c
}

// Limit is the threshold of a chat with params (compact_token_threshold).
func (c Config) Limit(params jsondoc.Doc) int {
	if n, ok := params.Int("compact_token_threshold"); ok && n > 0 {
		return min(int(n), c.Cap)
	}
	return min(c.Threshold, c.Cap)
}

// Usage is how much of the context a conversation takes, as GET of a chat shows it.
type Usage struct {
	Tokens    int    `json:"tokens"`
	Estimated int    `json:"estimated_tokens"`
	Threshold int    `json:"threshold"`
	Percent   int    `json:"percent"` // of the threshold, rounded half to even
	Source    string `json:"source"`  // "estimated"
}

// Measure estimates the tokens of a branch: what the last answer reported and what came after it, or else by length.
func Measure(messages []jsondoc.Doc, threshold int) Usage {
	messages, summary := Checkpoint(messages)
	n, ok := reported(messages)
	if !ok {
		n = textTokens(summary) + Estimate(messages)
	}
	u := Usage{Tokens: n, Estimated: n, Threshold: threshold, Source: "estimated"}
	if threshold > 0 {
		u.Percent = int(math.RoundToEven(float64(n) / float64(threshold) * 100))
	}
	return u
}

// Exceeds says whether messages with a system prompt and the summary before them are over a threshold.
func Exceeds(messages []jsondoc.Doc, system, summary string, threshold int) bool {
	if threshold <= 0 {
		return false
	}
	n, ok := reported(messages)
	if !ok {
		n = textTokens(system) + textTokens(summary) + Estimate(messages)
	}
	return n > threshold
}

// reported are the tokens up to the last message with usage, and an estimate of those after it.
func reported(messages []jsondoc.Doc) (int, bool) {
	for i := len(messages) - 1; i >= 0; i-- {
		u := messages[i].Get("usage")
		if !u.Truthy() {
			u = messages[i].Get("info", "usage")
		}
		if n := usageTokens(u); n > 0 {
			return n + Estimate(messages[i+1:]), true
		}
	}
	return 0, false
}

func usageTokens(u jsondoc.Doc) int {
	if u.Kind() != '{' {
		return 0
	}
	first := func(names ...string) int64 {
		for _, name := range names {
			if n, ok := u.Int(name); ok && n != 0 {
				return n
			}
		}
		return 0
	}
	in := first("prompt_tokens", "prompt_eval_count")
	if in == 0 {
		in = first("prompt_n") + first("cache_n")
	}
	if in == 0 {
		in = first("input_tokens")
	}
	return int(in + first("completion_tokens", "output_tokens", "eval_count", "predicted_n"))
}

const markerType = "open_webui:context_compaction"

// Checkpoint leaves out what the latest summary stands for, and gives that summary, "" where there is none.
func Checkpoint(messages []jsondoc.Doc) ([]jsondoc.Doc, string) {
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		for _, name := range []string{"contextSummary", "context_summary"} {
			if v := m.Get(name); v.Truthy() {
				if s := m.Text(name); strings.TrimSpace(s) != "" {
					return messages[i:], s
				}
				break
			}
		}
		if cut, summary, ok := toolCheckpoint(messages, i); ok {
			return cut, summary
		}
	}
	return messages, ""
}

// toolCheckpoint looks for a summary made between the tool calls of an answer: its marker names the first call that
// was kept, which may stand in an earlier answer.
func toolCheckpoint(messages []jsondoc.Doc, i int) ([]jsondoc.Doc, string, bool) {
	var marker jsondoc.Doc
	messages[i].Get("output").Items(func(_ int, item jsondoc.Doc) bool {
		if item.Text("type") == markerType {
			marker = item
		}
		return true
	})
	if marker == nil {
		return nil, "", false
	}
	for cut := i; cut >= 0; cut-- {
		output := messages[cut].Get("output").List()
		start := slices.IndexFunc(output, func(item jsondoc.Doc) bool {
			return item.Text("type") == "function_call" && item.Text("call_id") == marker.Text("call_id")
		})
		if start < 0 {
			continue
		}
		for start > 0 && output[start-1].Text("type") != "function_call_output" {
			start--
		}
		kept := slices.DeleteFunc(slices.Clone(output[start:]), func(item jsondoc.Doc) bool { return item.Text("type") == markerType })
		out := slices.Clone(messages[max(0, cut-1):])
		out[min(cut, 1)] = messages[cut].Set(jsondoc.Array(kept...), "output")
		return out, marker.Text("summary"), true
	}
	return nil, "", false
}

// Boundary is the index of the first message that stays when messages are compacted, 0 where they cannot be: whole
// turns stay together, and so do tool calls and their results.
func Boundary(messages []jsondoc.Doc, retention int) int {
	retention = min(50, max(10, retention))
	target := max(1, len(messages)-max(2, len(messages)*retention/100))
	tools := slices.ContainsFunc(messages, func(m jsondoc.Doc) bool { return m.Text("role") == "tool" })
	var starts []int
	for i, m := range messages {
		if tools && m.Text("role") == "assistant" && m.Get("tool_calls").Truthy() || !tools && m.Text("role") == "user" {
			starts = append(starts, i)
		}
	}
	if len(starts) > 0 {
		starts = starts[1:]
	}
	if !tools && len(starts) > 0 {
		target = max(target, starts[0])
	}
	for i := len(starts) - 1; i >= 0; i-- {
		if starts[i] <= target {
			return starts[i]
		}
	}
	return 0
}

var inlineData = regexp.MustCompile(`data:[\w/+.;=%-]*;base64,[A-Za-z0-9+/=]*`)

// Estimate is the number of tokens of messages by the length of their text: four characters each.
func Estimate(messages []jsondoc.Doc) int {
	n := 0
	for _, m := range messages {
		n += 4
		if content := m.Get("content"); content.Kind() == '[' {
			content.Items(func(_ int, part jsondoc.Doc) bool {
				n += partTokens(part)
				return true
			})
		} else {
			n += valueTokens(content)
		}
		n += valueTokens(m.Get("output")) + valueTokens(m.Get("tool_calls"))
		if files := m.Get("files"); files.Truthy() {
			n += valueTokens(jsondoc.Doc(inlineData.ReplaceAll(files, nil)))
		}
	}
	return n
}

// imageTokens is what an image counts for.
const imageTokens = 1000

func partTokens(part jsondoc.Doc) int {
	if part.Kind() != '{' {
		return valueTokens(part)
	}
	if kind := part.Text("type"); kind == "image" || kind == "image_url" {
		return imageTokens
	}
	for _, name := range []string{"text", "content"} {
		if v := part.Get(name); v.Truthy() {
			return valueTokens(v)
		}
	}
	return valueTokens(part)
}

func textTokens(s string) int {
	if s == "" {
		return 0
	}
	return max(1, utf8.RuneCountInString(s)/4)
}

func valueTokens(v jsondoc.Doc) int {
	if v.IsNull() {
		return 0
	}
	if s, ok := v.AsText(); ok {
		return textTokens(s)
	}
	return max(1, compactLen(v)/4)
}

// compactLen is the number of characters of a document without white space, and with nothing escaped that need not be.
func compactLen(d jsondoc.Doc) (n int) {
	inside := false
	for i := 0; i < len(d); i++ {
		switch c := d[i]; {
		case !inside && c <= ' ':
		case c == '"':
			inside = !inside
			n++
		case inside && c == '\\' && i+1 < len(d):
			i++
			switch d[i] {
			case 'u':
				i += 4
				n++
			case '/':
				n++
			default:
				n += 2
			}
		case c&0xC0 != 0x80: // not a later byte of a character
			n++
		}
	}
	return n
}

// Completer asks a model for a summary and gives the answer in OpenAI form.
type Completer interface {
	Complete(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error)
	// Known says whether a model is in the list, and gives its params.
	Known(ctx context.Context, modelID string) (params jsondoc.Doc, ok bool)
}

// ErrNoModel says that the model which should write the summary is not there.
var ErrNoModel = errors.New("no model is available to compact the context")

// Job is a summary to be written.
type Job struct {
	Old        []jsondoc.Doc                // messages that the summary will stand for
	Recent     []jsondoc.Doc                // messages that stay
	Previous   string                       // summary of what was before Old
	ModelID    string                       // the chat's model
	TaskParams jsondoc.Doc                  // setting task.model.params
	Render     func(template string) string // fills the server's variables; may be nil
}

// Summarize has a model write the summary. Where the model says nothing, the beginnings of the messages stand for them.
func Summarize(ctx context.Context, c Config, ask Completer, j Job) (string, error) {
	model := j.ModelID
	var params jsondoc.Doc
	ok := false
	if c.Model != "" {
		if params, ok = ask.Known(ctx, c.Model); ok {
			model = c.Model
		}
	}
	if !ok {
		if params, ok = ask.Known(ctx, model); !ok {
			return "", ErrNoModel
		}
	}
	var b jsondoc.Builder
	b.Add("model", model)
	b.Raw("messages", jsondoc.Array(jsondoc.Of(map[string]string{"role": "user", "content": j.prompt(c.Template)})))
	b.Add("stream", false)
	b.Raw("metadata", jsondoc.Object("task", jsondoc.Text("context_compaction")))
	b.Raw("params", taskParams(j.TaskParams, params))
	answer, err := ask.Complete(ctx, b.Done())
	if err != nil {
		return "", fmt.Errorf("summarise context: %w", err)
	}
	if s := strings.TrimSpace(answerText(answer)); s != "" {
		return s, nil
	}
	return j.fallback(), nil
}

// taskParams are the params of the request: those set for tasks, or a bound on the answer's length.
func taskParams(task, model jsondoc.Doc) jsondoc.Doc {
	kept := &jsondoc.Obj{}
	task.Each(func(name string, v jsondoc.Doc) bool {
		if !v.IsNull() && string(v) != `""` {
			kept.Set(name, v)
		}
		return true
	})
	if kept.Len() == 0 {
		kept.Set("max_tokens", model.Get("max_tokens").Or(jsondoc.Doc("1000")))
	}
	return kept.Doc()
}

// answerText is the text of a chat completion or of a response.
func answerText(d jsondoc.Doc) string {
	if d.Kind() == '[' && d.Len() == 1 {
		d = d.Get("0")
	}
	if choice := d.Get("choices", "0"); choice != nil {
		if s := choice.Text("message", "content"); s != "" {
			return s
		}
		return choice.Text("message", "reasoning_content")
	}
	var parts []string
	d.Get("output").Items(func(_ int, item jsondoc.Doc) bool {
		item.Get("content").Items(func(_ int, part jsondoc.Doc) bool {
			s := part.Text("text")
			if s == "" {
				s = part.Text("content")
			}
			if s != "" {
				parts = append(parts, s)
			}
			return true
		})
		return true
	})
	return strings.Join(parts, "\n")
}

// defaultTemplate asks for the summary where the operator has set no text of their own.
const defaultTemplate = `You keep the memory of a long conversation. Its older messages are about to be dropped, and your summary will take their place.

Write down what is needed to go on without them:
- what was decided, what the user prefers, and which limits were set
- files, results of tools, and pieces of code that will matter again
- what is being worked on, what is still open, and what comes next

Stay with the facts of the conversation, be specific, and keep it short.

Summary of what was dropped before:
{{PREVIOUS_SUMMARY}}

Messages that are dropped now:
{{COMPACTED_MESSAGES}}

Messages that stay:
{{RECENT_MESSAGES}}`

func (j *Job) prompt(template string) string {
	if template = strings.TrimSpace(template); template == "" {
		template = defaultTemplate
	}
	old, recent := withCalls(j.Old), withCalls(j.Recent)
	all := append(slices.Clone(old), recent...)
	template = prompt.Prompt(template, prompt.LastUser(all))
	template = prompt.Messages(template, all)
	template = fill(template, "COMPACTED_MESSAGES", old)
	template = fill(template, "RECENT_MESSAGES", recent)
	template = strings.ReplaceAll(template, "{{PREVIOUS_SUMMARY}}", j.Previous)
	if j.Render != nil {
		template = j.Render(template)
	}
	return template
}

var variableForms = map[string]*regexp.Regexp{
	"COMPACTED_MESSAGES": regexp.MustCompile(`{{COMPACTED_MESSAGES((?::(?:START|END|MIDDLETRUNCATE):\d+)?(?:\|\w+:\d+)?)}}`),
	"RECENT_MESSAGES":    regexp.MustCompile(`{{RECENT_MESSAGES((?::(?:START|END|MIDDLETRUNCATE):\d+)?(?:\|\w+:\d+)?)}}`),
}

// fill puts messages in the place of a variable that has all the forms of {{MESSAGES}}.
func fill(template, variable string, messages []jsondoc.Doc) string {
	return variableForms[variable].ReplaceAllStringFunc(template, func(found string) string {
		return prompt.Messages("{{MESSAGES"+strings.TrimPrefix(found, "{{"+variable), messages)
	})
}

// withCalls adds the tool calls of messages to their text.
func withCalls(messages []jsondoc.Doc) []jsondoc.Doc {
	out := slices.Clone(messages)
	for i, m := range out {
		if calls := m.Get("tool_calls"); calls.Truthy() {
			out[i] = m.Set(jsondoc.Text(prompt.Content(m)+"\n[TOOL CALLS] "+calls.String()), "content")
		}
	}
	return out
}

// maxFallback is how many characters a summary has that no model wrote.
const maxFallback = 4000

func (j *Job) fallback() string {
	var parts []string
	if j.Previous != "" {
		parts = append(parts, j.Previous)
	}
	for _, m := range j.Old {
		if content := prompt.Content(m); content != "" {
			role := m.Text("role")
			if role == "" {
				role = "unknown"
			}
			parts = append(parts, "- "+role+": "+prompt.Truncate(content, 500, "start"))
		}
	}
	return prompt.Truncate(strings.Join(parts, "\n"), maxFallback, "start")
}
