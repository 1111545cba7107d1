package demo

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

func registry(t *testing.T, p *Provider) llm.Target {
	t.Helper()
	r := llm.New(llm.Options{})
	if err := r.Register(p); err != nil {
		t.Fatal(err)
	}
	target, err := r.Resolve(t.Context(), nil, ModelID)
	if err != nil || target.Model.OwnedBy != "galley" || !target.Model.Entry.IsValid() {
		t.Fatalf("%+v, %v", target, err)
	}
	return target
}

func ask(t *testing.T, text string, stream bool, extra string) *llm.Request {
	t.Helper()
	q, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return &llm.Request{Stream: stream, Body: []byte(`{"messages":[{"role":"user","content":` + string(q) + `}]` + extra + `}`)}
}

type completion struct {
	Choices []struct {
		Message      struct{ Role, Content string }
		FinishReason string `json:"finish_reason"`
	}
	Usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
}

func complete(t *testing.T, text string) completion {
	t.Helper()
	resp, err := registry(t, &Provider{}).Chat(t.Context(), ask(t, text, false, ""))
	if err != nil || resp.Stream {
		t.Fatalf("%v, %+v", err, resp)
	}
	var c completion
	if err := json.Unmarshal(resp.JSON(), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStreamedEqualsWhole(t *testing.T) {
	const text = "How do I sharpen a plane iron, and why \"so\" often?\nÜber alles"
	whole := complete(t, text)
	resp, err := registry(t, &Provider{Pace: -1}).Chat(t.Context(), ask(t, text, true, `,"stream_options":{"include_usage":true}`))
	if err != nil || !resp.Stream {
		t.Fatal(err)
	}
	var b strings.Builder
	var finish string
	var tokens llm.Tokens
	words := 0
	for c, err := range resp.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if c.Content != "" {
			words++
		}
		b.WriteString(c.Content)
		finish += c.FinishReason
		if c.Usage != nil {
			tokens = llm.UsageTokens(c.Usage)
		}
	}
	got := whole.Choices[0].Message.Content
	if b.String() != got || finish != "stop" || words < 20 {
		t.Errorf("streamed %q (%s, %d words), whole %q", b.String(), finish, words, got)
	}
	if tokens.Completion != whole.Usage.Completion || tokens.Prompt != whole.Usage.Prompt || tokens.Prompt == 0 || whole.Usage.Total != tokens.Prompt+tokens.Completion {
		t.Errorf("tokens %+v, whole %+v", tokens, whole.Usage)
	}
	for _, want := range []string{"> How do I sharpen", "- **sharpen**", "- **plane**", "```"} {
		if !strings.Contains(got, want) {
			t.Errorf("the answer lacks %q: %s", want, got)
		}
	}
}

func TestMaxTokens(t *testing.T) {
	resp, err := registry(t, &Provider{}).Chat(t.Context(), ask(t, "hello there", false, `,"max_tokens":3`))
	if err != nil {
		t.Fatal(err)
	}
	var c completion
	if err := json.Unmarshal(resp.Body(), &c); err != nil || c.Choices[0].FinishReason != "length" || len(strings.Fields(c.Choices[0].Message.Content)) != 3 {
		t.Errorf("%v %+v", err, c)
	}
}

func TestTasks(t *testing.T) {
	prompt := func(key string) string {
		return "### Task:\nDo it.\n### Output:\nJSON format: { \"" + key + "\": … }\n### Chat History:\n<chat_history>\n" +
			"USER: How do I sharpen a plane iron?\nASSISTANT: Start with a flat stone.\nUSER: And \"then\"?\n</chat_history>"
	}
	for key, want := range map[string]string{
		"title":      `{"title": "Sharpen Plane Iron"}`,
		"tags":       `{"tags": ["Sharpen", "Plane", "Iron", "General"]}`,
		"queries":    `{"queries": ["sharpen plane iron"]}`,
		"follow_ups": `{"follow_ups": ["Can you explain sharpen plane iron in more detail?", "What is a good example of sharpen plane iron?", "What should I look at after sharpen plane iron?"]}`,
		"prompt":     `{"prompt": "How do I sharpen a plane iron?"}`,
	} {
		got := complete(t, prompt(key)).Choices[0].Message.Content
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s", key, got)
		}
	}
	if got := reply([]message{{"user", "T[x] Rock climbing basics"}}, "title_generation"); got != `{"title": "Rock Climbing Basics"}` {
		t.Errorf("own template: %s", got)
	}
	if got := complete(t, `what does {"title": 1} mean in JSON?`).Choices[0].Message.Content; !strings.HasPrefix(got, "Hello!") {
		t.Errorf("a question about JSON was taken for a task: %s", got)
	}
	if got := taskReply("title", "of the and"); got != `{"title": "New Conversation"}` {
		t.Errorf("no topic: %s", got)
	}
}

func TestParts(t *testing.T) {
	req := &llm.Request{Body: []byte(`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
		{"role":"user","content":[{"type":"text","text":"second thing"},{"type":"image_url"}]}]}`)}
	resp, err := (&Provider{}).Chat(t.Context(), req)
	if err != nil || !strings.Contains(string(resp.Body()), "message **2**") || !strings.Contains(string(resp.Body()), "second thing") {
		t.Errorf("%v %s", err, resp.Body())
	}
	for _, bad := range []string{``, `{}`, `{"messages":1}`} {
		if _, err := (&Provider{}).Chat(t.Context(), &llm.Request{Body: []byte(bad)}); !errors.Is(err, llm.ErrBadRequest) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := registry(t, &Provider{Pace: time.Hour}).Chat(ctx, ask(t, "hello", true, ""))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var last error
		for _, err := range resp.Chunks() {
			last = err
		}
		done <- last
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the stream goes on")
	}
}
