package turn

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	remembered "github.com/galleychat/galley/core/memory"
)

// Memories is what the server remembers of its users; *memory.Service has it.
type Memories interface {
	// Prompt is what a model is told of a person's memories, for the questions of a chat; "" for nothing.
	Prompt(ctx context.Context, p *auth.Principal, questions []string) (string, error)
	// ReviewEvery is after how many questions of a chat each a model goes over its person's memories; 0 means never.
	ReviewEvery() int
	// ReviewRequest is what a model is asked after a conversation; nil for nothing.
	ReviewRequest(ctx context.Context, p *auth.Principal, conversation []jsondoc.Doc) ([]jsondoc.Doc, error)
	// Reviewed makes the changes that a model has answered a review with.
	Reviewed(ctx context.Context, p *auth.Principal, answer jsondoc.Doc, chatID, modelID string) error
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

// reviewTime is how long a model may take to go over memories.
const reviewTime = 2 * time.Minute

// reviews says whether memories may be gone over after this turn.
func (e *Engine) reviews(t *Turn) bool {
	return e.Memories != nil && t.wantsMemories(t.features) && e.Memories.ReviewEvery() > 0
}

// reviewMemories has the model go over the person's memories from time to time, beside what else goes on.
func (e *Engine) reviewMemories(ctx context.Context, t *Turn, conversation []jsondoc.Doc) {
	questions := 0
	for _, m := range conversation {
		if m.Text("role") == "user" {
			questions++
		}
	}
	if every := e.Memories.ReviewEvery(); every == 0 || questions == 0 || questions%every != 0 {
		return
	}
	e.running.aside(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTime)
		defer cancel()
		messages, err := e.Memories.ReviewRequest(ctx, t.p, conversation)
		if err == nil && messages != nil {
			if answer := e.runTask(ctx, t, TaskMemoryReview, messages); answer != nil {
				err = e.Memories.Reviewed(ctx, t.p, inBraces(completionText(answer)), t.chatID, t.modelID)
			}
		}
		if err != nil {
			e.Log.DebugContext(ctx, "memories were not gone over", "chat", t.chatID, "error", err)
		}
	})
}
