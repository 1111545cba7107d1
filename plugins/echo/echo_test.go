package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

func start(t *testing.T, pace int) *plugintest.Harness {
	t.Helper()
	return plugintest.Start(t, Plugin(), plugintest.Config(Settings{Pace: pace}))
}

// ask gives the text, the finish, the usage and the number of chunks of text of an answer.
func ask(t *testing.T, h *plugintest.Harness, body map[string]any) (text, finish string, usage *sdk.Usage, n int) {
	t.Helper()
	var b strings.Builder
	for c, err := range h.ChatStream(t.Context(), body) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Text != "" {
			n++
		}
		b.WriteString(c.Text)
		finish += c.FinishReason
		if c.Usage != nil {
			usage = c.Usage
		}
	}
	return b.String(), finish, usage, n
}

func user(text string) []sdk.Message { return []sdk.Message{sdk.UserMessage(text)} }

func TestModels(t *testing.T) {
	list, err := start(t, 0).Models()
	if err != nil || len(list) != 2 || list[0].ID != DemoModel || list[0].Name != "Galley Demo" || list[0].OwnedBy != "galley" || list[1].ID != EchoModel {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestStreamedEqualsWhole(t *testing.T) {
	h := start(t, 0)
	for _, model := range []string{DemoModel, EchoModel} {
		body := map[string]any{"model": model, "messages": user("How do I sharpen a plane iron, and why \"so\" often?\nÜber alles")}
		whole, finish, usage, _ := ask(t, h, body)
		if finish != "stop" || usage == nil || usage.PromptTokens == 0 || usage.CompletionTokens != (len(whole)+3)/4 || usage.TotalTokens != usage.PromptTokens+usage.CompletionTokens {
			t.Errorf("%s: %s, %+v", model, finish, usage)
		}
		body["stream"] = true
		streamed, _, none, n := ask(t, h, body)
		if streamed != whole || none != nil || n < 10 {
			t.Errorf("%s: streamed %q (%d words, %v), whole %q", model, streamed, n, none, whole)
		}
		body["stream_options"] = map[string]any{"include_usage": true}
		if _, _, again, _ := ask(t, h, body); again == nil || *again != *usage {
			t.Errorf("%s: usage %+v, whole %+v", model, again, usage)
		}
	}
}

func TestDemo(t *testing.T) {
	h := start(t, 0)
	text, _, _, _ := ask(t, h, map[string]any{"model": DemoModel, "messages": user("How do I sharpen a plane iron?")})
	for _, want := range []string{"> How do I sharpen", "- **sharpen**", "- **plane**", "```"} {
		if !strings.Contains(text, want) {
			t.Errorf("the answer lacks %q: %s", want, text)
		}
	}
	parts := json.RawMessage(`[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"second thing"},{"type":"image_url"}]}]`)
	if text, _, _, _ := ask(t, h, map[string]any{"model": DemoModel, "messages": parts}); !strings.Contains(text, "message **2**") || !strings.Contains(text, "second thing") {
		t.Error(text)
	}
	for _, limit := range []string{"max_tokens", "max_completion_tokens"} {
		if text, finish, _, _ := ask(t, h, map[string]any{"model": DemoModel, "messages": user("hello there"), limit: 3}); finish != "length" || len(strings.Fields(text)) != 3 {
			t.Errorf("%s: %q, %s", limit, text, finish)
		}
	}
}

func TestTasks(t *testing.T) {
	h := start(t, 0)
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
		if got, _, _, _ := ask(t, h, map[string]any{"model": DemoModel, "messages": user(prompt(key))}); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
	told := h.With(sdk.Meta{Kind: "task", Task: "title_generation"})
	for _, model := range []string{DemoModel, EchoModel} {
		if got, _, _, _ := ask(t, told, map[string]any{"model": model, "messages": user("T[x] Rock <climbing> basics")}); got != `{"title": "Rock Climbing Basics"}` {
			t.Errorf("%s, own template: %s", model, got)
		}
	}
	if got, _, _, _ := ask(t, h, map[string]any{"model": DemoModel, "messages": user(`what does {"title": 1} mean in JSON?`)}); !strings.HasPrefix(got, "Hello!") {
		t.Errorf("a question about JSON was taken for a task: %s", got)
	}
	if got := taskReply("title", "of the and"); got != `{"title": "New Conversation"}` {
		t.Errorf("no topic: %s", got)
	}
}

func TestEcho(t *testing.T) {
	h := start(t, 60_000) // which is not its pace
	for in, want := range map[string]struct {
		text string
		n    int
	}{
		"say this again": {"say this again", 3}, "": {"", 0}, "chunks": {"chunks", 1}, "chunks 2 please": {"chunks 2 please", 3},
		"chunks 50000": {strings.Repeat("chunk ", 50000), 50000}, " chunks  3\n": {"chunk chunk chunk ", 3}, "chunks 0": {"", 0},
	} {
		if got, finish, _, n := ask(t, h, map[string]any{"model": EchoModel, "stream": true, "messages": user(in)}); got != want.text || n != want.n || finish != "stop" {
			t.Errorf("%q: %.40q in %d, %s", in, got, n, finish)
		}
	}
}

func TestRefusals(t *testing.T) {
	h := start(t, 0)
	for name, c := range map[string]struct {
		body   map[string]any
		status int
	}{
		"no messages":    {map[string]any{"model": DemoModel}, 400},
		"wrong messages": {map[string]any{"model": DemoModel, "messages": 1}, 400},
		"another model":  {map[string]any{"model": "other", "messages": user("x")}, 404},
	} {
		for _, err := range h.ChatStream(t.Context(), c.body) {
			if r := sdk.RefusalFrom(err); r == nil || r.Status != c.status {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if wrong := h.Configure(map[string]int{"pace": -1}); fmt.Sprint(wrong) != "[{pace must be at least 0}]" {
		t.Error(wrong)
	}
}

func TestPaceAndCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	h := start(t, 60_000)
	go func() {
		var last error
		for _, err := range h.ChatStream(ctx, map[string]any{"model": DemoModel, "stream": true, "messages": user("hello")}) {
			last = err
		}
		done <- last
	}()
	cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "Canceled") && !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream goes on")
	}
	const pace = 5
	h = start(t, pace)
	began := time.Now()
	_, _, _, n := ask(t, h, map[string]any{"model": DemoModel, "stream": true, "messages": user("hello"), "max_tokens": 10})
	if took := time.Since(began); n != 10 || took < 10*pace*time.Millisecond {
		t.Errorf("%d words took %v", n, took)
	}
}

// BenchmarkChunks is the cost of a chunk from the model to the other side of the protocol.
func BenchmarkChunks(b *testing.B) {
	h := plugintest.Start(b, Plugin())
	b.ReportAllocs()
	n := 0
	for _, err := range h.ChatStream(b.Context(), map[string]any{"model": EchoModel, "stream": true, "messages": user(fmt.Sprintf("chunks %d", b.N))}) {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	if n < b.N {
		b.Errorf("%d chunks of %d", n, b.N)
	}
}
