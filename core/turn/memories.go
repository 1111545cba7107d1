package turn

import (
	"context"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	remembered "github.com/galleychat/galley/core/memory"
)

// Memories is what the server remembers of its users; *memory.Service has it.
type Memories interface {
	// Prompt is what a model is told of a person's memories, for the questions of a chat; "" for nothing.
	Prompt(ctx context.Context, p *auth.Principal, questions []string) (string, error)
}

// memoryQuestions is how many of the last questions memories are looked for by.
const memoryQuestions = 7

// wantsMemories says whether the request has memories switched on, and the model's settings let it.
func (t *Turn) wantsMemories(features jsondoc.Doc) bool {
	return features.Get("memory").Truthy() && Unless(t.model.Meta().Get("capabilities"), "memory")
}

// addMemories tells the model what is remembered of the person. Where that cannot be found out it is asked without.
func (e *Engine) addMemories(ctx context.Context, t *Turn) error {
	if e.Memories == nil || !t.wantsMemories(t.form.Get("features")) {
		return nil
	}
	var questions []string
	for _, m := range slices.Backward(t.messages) {
		if m.Text("role") != "user" {
			continue
		}
		if q := textOf(m); strings.TrimSpace(q) != "" {
			questions = append(questions, q)
		}
		if len(questions) == memoryQuestions {
			break
		}
	}
	slices.Reverse(questions)
	told, err := e.Memories.Prompt(ctx, t.p, questions)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		e.Log.WarnContext(ctx, "a model was not told of memories", "chat", t.chatID, "error", err)
		return nil
	}
	if told == "" {
		return nil
	}
	if len(t.messages) > 0 && t.messages[0].Text("role") == "system" {
		if system := t.messages[0].Text("content"); system != "" {
			m := t.messages[0].Clone()
			m.Set("content", jsondoc.Text(remembered.WithoutPrompt(system)))
			t.messages[0] = m
		}
	}
	t.messages = addSystem(t.messages, told, true)
	return nil
}
