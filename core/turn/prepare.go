package turn

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
)

// step is one change to a request on its way to the model.
type step struct {
	name string
	run  func(*Engine, context.Context, *Turn) error
}

// prepareSteps are the steps, in order.
var prepareSteps = []step{
	{"controls", (*Engine).applyControls},
	{"arena", (*Engine).pickArena},
	{"params", (*Engine).applyParams},
	{"tools", (*Engine).findTools},
	{"approved calls", (*Engine).resumeCalls},
	{"history", (*Engine).loadHistory},
	{"compaction", (*Engine).compactHistory},
	{"outputs", (*Engine).expandHistory},
	{"caller's prompt", (*Engine).renderCallerPrompt},
	{"images", (*Engine).inlineImages},
	{"folder", (*Engine).applyFolder},
	{"filters", (*Engine).inlet},
	{"voice", (*Engine).addVoice},
	{"memories", (*Engine).addMemories},
	{"offer of tools", (*Engine).offerTools},
	{"trim", (*Engine).trim},
	{"model's prompt", (*Engine).applyModelPrompt},
	{"shape", (*Engine).shape},
}

// ask prepares the request and sends it to the model's provider.
func (e *Engine) ask(ctx context.Context, t *Turn) (*llm.Response, error) {
	if t.em == nil {
		t.em = newEmitter(e.Realtime, t.p.ID, t.chatID, t.messageID, t.session)
	}
	for _, s := range prepareSteps {
		if err := s.run(e, ctx, t); err != nil {
			return nil, err
		}
	}
	// An arena's pick is checked as well: a grant on the arena is none on its models.
	if t.selectedModelID != "" {
		if err := e.Models.Access(ctx, t.p, t.model); err != nil {
			return nil, errNoModel
		}
	}
	return e.send(ctx, t, t.form)
}

// callerNow is the caller with what the turn is about, for the headers of requests to other servers.
func (t *Turn) callerNow() *llm.Caller {
	caller := *t.caller
	caller.Meta = llm.CallMeta{ChatID: t.chatID, MessageID: t.messageID, UserMessageID: t.userMessageID, UserMessageParentID: t.userMessage.Text("parentId"), ModelID: t.modelID}
	return &caller
}

// send sends a request to the model's provider.
func (e *Engine) send(ctx context.Context, t *Turn, form *jsondoc.Obj) (*llm.Response, error) {
	target, err := e.target(ctx, t)
	if err != nil {
		return nil, err
	}
	resp, err := target.Chat(ctx, &llm.Request{
		Body:     []byte(form.Doc()),
		Stream:   form.Get("stream").Truthy(),
		Params:   []byte(t.model.Params().Delete("system")),
		Caller:   t.callerNow(),
		Continue: t.assistantID != "",
	})
	if err == nil {
		t.filters.Stream(ctx, resp)
	}
	return resp, err
}

func (e *Engine) applyControls(_ context.Context, t *Turn) error {
	controls := t.model.Params().Get("model_controls")
	params, err := applyControls(t.params, controls, t.controls.Get(t.modelID))
	if err != nil {
		return web.Fail(400, err.Error())
	}
	t.params = params
	return nil
}

// pickArena has one of an arena's models answer, so that everything after goes by that model's settings.
func (e *Engine) pickArena(ctx context.Context, t *Turn) error {
	if t.model.OwnedBy != "arena" {
		return nil
	}
	var ids []string
	arena := t.model.Arena
	if arena != nil && !arena.Exclude {
		ids = arena.ModelIDs
	}
	if len(ids) == 0 {
		for _, m := range e.Models.All(ctx, t.caller) {
			if m.OwnedBy != "arena" && (arena == nil || !slices.Contains(arena.ModelIDs, m.ID)) {
				ids = append(ids, m.ID)
			}
		}
	}
	if len(ids) == 0 {
		return errNoModel
	}
	id := ids[rand.IntN(len(ids))]
	m, ok := e.Models.Find(ctx, t.caller, id)
	if !ok {
		return errNoModel
	}
	t.model, t.selectedModelID = m, id
	t.form.Set("model", jsondoc.Text(id))
	return nil
}

func (e *Engine) applyParams(_ context.Context, t *Turn) error {
	applyParams(t.form, t.params, t.model.OwnedBy)
	return nil
}

// loadHistory takes the messages from the stored chat, which keeps what a page leaves out: tool calls, reasoning.
func (e *Engine) loadHistory(ctx context.Context, t *Turn) error {
	hint, _ := t.form.Pop("regeneration_prompt").AsText()
	t.messages = openMessages(t.form.Get("messages"))
	if savedChat(t.chatID) && t.userMessageID != "" {
		stored, _, err := e.Store.Chain(ctx, t.chatID, t.userMessageID)
		if err != nil {
			return err
		}
		var chain []message
		for _, m := range stored {
			if m.Text("role") != "assistant" || m.Get("content").Truthy() || m.Get("output").Truthy() {
				chain = append(chain, replay(m))
			}
		}
		if len(chain) > 0 {
			chain = append(chain, replayOf(t.continued)...)
			if t.regenerationID != "" {
				again, err := e.Store.Message(ctx, t.chatID, t.regenerationID)
				if err != nil {
					return err
				}
				chain = append(chain, replayOf(again)...)
			}
			if s := systemOf(t.messages); s != nil {
				chain = append([]message{s}, chain...)
			}
			for _, m := range chain {
				withImages(m)
			}
			t.messages = chain
		}
	}
	if hint != "" {
		t.messages = append(t.messages, newMessage("user", hint))
	}
	return nil
}

func replayOf(stored jsondoc.Doc) []message {
	if stored == nil || !stored.Get("content").Truthy() && !stored.Get("output").Truthy() {
		return nil
	}
	return []message{replay(stored)}
}

func (e *Engine) expandHistory(_ context.Context, t *Turn) error {
	t.messages = pairTools(expandOutputs(t.messages, t.reasoningFormat(), t.model.ID, e.namesFiles(t)))
	return nil
}

func (e *Engine) render(ctx context.Context, t *Turn, prompt string) string {
	if prompt == "" || e.Prompts == nil {
		return prompt
	}
	return e.Prompts.Render(ctx, t.p, prompt, t.chatVariables, t.variables)
}

// renderCallerPrompt fills in the variables of the caller's own system message.
func (e *Engine) renderCallerPrompt(ctx context.Context, t *Turn) error {
	if s := systemOf(t.messages); s != nil && s.Get("content").Kind() == '"' {
		text := s.Text("content")
		if out := e.render(ctx, t, text); out != "" && out != text {
			s.Set("content", jsondoc.Text(out))
		}
	}
	return nil
}

func (e *Engine) applyFolder(ctx context.Context, t *Turn) error {
	if t.folderID == "" || e.Folders == nil {
		return nil
	}
	f, err := e.Folders.Folder(ctx, t.p, t.folderID)
	if err != nil || f == nil {
		return err
	}
	if text := e.render(ctx, t, f.SystemPrompt); text != "" {
		t.messages = addSystem(t.messages, text, false)
	}
	return nil
}

// trim takes out of the request what is not for the provider.
func (e *Engine) trim(_ context.Context, t *Turn) error {
	for _, name := range []string{"variables", "features", "terminal_id", "files", "folder_id", "skill_ids", "metadata"} {
		t.form.Pop(name)
	}
	return nil
}

// applyModelPrompt puts the model's system prompt before the caller's.
func (e *Engine) applyModelPrompt(ctx context.Context, t *Turn) error {
	system := t.model.Params().Text("system")
	if text := e.render(ctx, t, system); strings.TrimSpace(text) != "" {
		t.messages = addSystem(mergeSystem(t.messages), text, false)
	}
	return nil
}

// shape puts the messages into the form that providers take.
func (e *Engine) shape(_ context.Context, t *Turn) error {
	dropEmptyParts(t.messages)
	t.form.Set("messages", closeMessages(mergeSystem(t.messages)))
	return nil
}
