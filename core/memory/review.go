package memory

import (
	"context"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/memories"
)

// reviewPrompt has a model say what to remember of a conversation.
const reviewPrompt = `Read the conversation below and decide what of it is to be remembered for later chats with the same user.

Remember what lasts: facts about the user, likes and dislikes, how to be answered (type "user"), and whatever else later chats
will need to know (type "context"). Do not remember what is true for today only, unless the user asks for it, nor passwords and
other secrets, nor what you merely suppose. Rather change, move or remove a memory that is there than add one that says nearly
the same. Give a path such as work/project where one fits, and none otherwise.

Reply with one JSON object and nothing else. Its member "operations" is a list of changes, which is empty if there is nothing
to do:
{"operations": [
  {"action": "add", "type": "user or context", "path": "…", "content": "…"},
  {"action": "replace", "id": "…", "type": "user or context", "path": "…", "content": "…"},
  {"action": "move", "id": "…", "path": "…"},
  {"action": "remove", "id": "…"}
]}

These memories are there:
%s

Conversation:
%s`

const (
	reviewMemories = 80 // how many memories a review is told of
	reviewMessages = 16 // and how many of the last messages
)

// ReviewEvery is after how many questions of a chat each a model goes over its person's memories; 0 means never.
func (s *Service) ReviewEvery() int {
	snap := s.Settings.Snapshot()
	if !config.MemoriesEnable.Get(snap) || !config.MemoriesBackgroundReviewEnable.Get(snap) {
		return 0
	}
	return max(1, config.MemoriesReviewIntervalTurns.Get(snap))
}

// ReviewRequest is what a model is asked after a conversation, nil where the person can have no memories.
func (s *Service) ReviewRequest(ctx context.Context, p *auth.Principal, conversation []jsondoc.Doc) ([]jsondoc.Doc, error) {
	if ok, err := s.Access.HasOrAdmin(ctx, p.User, Permission); err != nil || !ok {
		return nil, err
	}
	list, err := s.Store.OfUser(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	known := "(none)"
	if len(list) > 0 {
		lines := make([]string, min(len(list), reviewMemories))
		for i := range lines {
			m := &list[i]
			lines[i] = fmt.Sprintf("- id=%s type=%s path=%s content=%s", m.ID, m.Type, m.PathText(), m.Content)
		}
		known = strings.Join(lines, "\n")
	}
	var said []string
	for _, m := range conversation[max(0, len(conversation)-reviewMessages):] {
		role, text := m.Text("role"), strings.TrimSpace(m.Text("content"))
		if text != "" && (role == "user" || role == "assistant") {
			said = append(said, role+": "+shortened(text))
		}
	}
	return []jsondoc.Doc{
		jsondoc.Of(message{"system", "You keep the memories of a chat server. Reply with valid JSON only."}),
		jsondoc.Of(message{"user", fmt.Sprintf(reviewPrompt, known, strings.Join(said, "\n\n"))}),
	}, nil
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// shortened is a text without the middle of a long one.
func shortened(s string) string {
	if r := []rune(s); len(r) > 1600 {
		return string(r[:1000]) + "\n…\n" + string(r[len(r)-400:])
	}
	return s
}

// Reviewed makes the changes that a model has answered a review with: {"operations": […]}.
func (s *Service) Reviewed(ctx context.Context, p *auth.Principal, answer jsondoc.Doc, chatID, modelID string) error {
	list := answer.Get("operations").List()
	if len(list) == 0 {
		return nil
	}
	ops, err := OperationsOf(list)
	if err != nil {
		return err
	}
	_, err = s.Apply(ctx, p, ops, Source{CreatedBy: "background_review", ChatID: chatID, ModelID: modelID})
	return err
}

// OperationsOf reads operations that a model has written. The error says, for the model, what is wrong with one.
func OperationsOf(list []jsondoc.Doc) ([]Operation, error) {
	out := make([]Operation, len(list))
	for i, d := range list {
		op := &out[i]
		op.Action = d.Text("action")
		switch op.Action {
		case memories.Add, memories.Replace, memories.Move, memories.Remove:
		default:
			return nil, fmt.Errorf("operation %d: the action must be add, replace, move or remove", i+1)
		}
		for name, to := range map[string]**string{"id": &op.ID, "content": &op.Content, "type": &op.Type, "path": &op.Path} {
			v := d.Get(name)
			if v.IsNull() {
				continue
			}
			text, ok := v.AsText()
			if !ok || name == "type" && text != memories.User && text != memories.Context {
				return nil, fmt.Errorf("operation %d: %s is not valid", i+1, name)
			}
			*to = &text
		}
	}
	return out, nil
}
