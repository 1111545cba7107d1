package app

import (
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// checkChat lets only the owner of a saved chat on, and administrators where they may see all chats.
func (m *Module) checkChat(c *web.Call, chatID string) error {
	if chatID == "" || strings.HasPrefix(chatID, "temporary:") || strings.HasPrefix(chatID, "local:") {
		return nil
	}
	if strings.HasPrefix(chatID, "channel:") {
		return web.Fail(http.StatusBadRequest, "Channel chats are not supported on this endpoint")
	}
	if c.IsAdmin() && m.Env.AdminChatAccess {
		return nil
	}
	ok, err := m.Chats.IsOwner(c.Context(), chatID, c.UserID())
	if err == nil && !ok {
		err = web.Fail(http.StatusNotFound, web.TextDefault)
	}
	return err
}

// completed takes what older clients post once an answer is complete, and gives it back: what it was for happens with the
// answer itself now.
func (m *Module) completed(c *web.Call, in bodyIn) (jsondoc.Doc, error) {
	f := jsondoc.Open(in.Body.Doc())
	if err := m.checkChat(c, f.Text("chat_id")); err != nil {
		return nil, err
	}
	f.Pop("model_item")
	if !f.Get("id").Truthy() {
		return nil, web.Fail(http.StatusBadRequest, "Missing message id")
	}
	if !f.Has("model") {
		return nil, web.Fail(http.StatusBadRequest, "'model'")
	}
	if _, ok := m.Models.Find(c.Context(), m.caller(c), f.Text("model")); !ok {
		return nil, web.Fail(http.StatusBadRequest, models.ErrNotFound.Error())
	}
	for _, name := range [...]string{"chat_id", "session_id"} {
		if !f.Has(name) { // the reference names the missing member, in quotes
			return nil, web.Fail(http.StatusBadRequest, "'"+name+"'")
		}
	}
	return f.Doc(), nil
}

type actionIn struct {
	ID   string `path:"action_id"`
	Body web.Dict
}

// action runs a function on an answer; there are no functions yet.
func (m *Module) action(c *web.Call, in actionIn) (jsondoc.Doc, error) {
	if err := m.checkChat(c, in.Body.Doc().Text("chat_id")); err != nil {
		return nil, err
	}
	if !m.Env.Functions {
		return nil, web.Fail(http.StatusBadRequest, "Functions are disabled by ENABLE_PLUGINS or ENABLE_FUNCTIONS")
	}
	id, _, _ := strings.Cut(in.ID, ".")
	return nil, web.Fail(http.StatusBadRequest, "Action not found: "+id)
}

type resolveIn struct {
	ChatID    string `path:"id"`
	MessageID string `path:"message_id"`
	Body      struct {
		CallID   string               `json:"call_id"`
		Action   string               `json:"action" enum:"approve,reject,answer"`
		Answers  web.Opt[jsondoc.Doc] `json:"answers"`
		TimedOut bool                 `json:"timed_out" default:"false"`
	}
}

// resolved is the answer to a decision that does not let the answer go on yet.
type resolved struct {
	Status    bool     `json:"status"`
	ChatID    string   `json:"chat_id"`
	MessageID string   `json:"message_id"`
	TaskIDs   []string `json:"task_ids"`
}

// resolve takes a person's decision on a tool call: to let it run, to refuse it, or to answer its question. Once nothing
// waits any more the answer goes on.
func (m *Module) resolve(c *web.Call, in resolveIn) (any, error) {
	ctx := c.Context()
	chat, err := m.TurnStore.Chat(ctx, c.Principal, in.ChatID)
	if errors.Is(err, store.ErrNotFound) {
		err = web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	if err != nil {
		return nil, err
	}
	d := decision{form: &in, caller: c.UserID(), owner: chat.UserID}
	err = m.Chats.EditMessage(ctx, in.ChatID, in.MessageID, d.apply)
	if errors.Is(err, store.ErrNotFound) {
		err = web.Because(http.StatusNotFound, web.TextNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	m.emit(c, in.ChatID, in.MessageID, "chat:completion", jsondoc.Object("output", d.output))
	if !d.resume {
		return resolved{true, in.ChatID, in.MessageID, []string{}}, nil
	}
	body, err := m.resumption(c, chat, d.message)
	if err != nil {
		return nil, err
	}
	res, err := m.Turns.Run(ctx, turn.Request{Principal: c.Principal, Caller: m.caller(c), Body: body})
	if err != nil {
		return providerAnswer(err)
	}
	if res.Response != nil {
		_ = res.Response.Close()
	}
	out := jsondoc.Object("status", jsondoc.Doc("true")).Set(jsondoc.Text(in.ChatID), "chat_id").Set(jsondoc.Text(in.MessageID), "message_id")
	if res.Body.Kind() == '{' {
		out = out.Merge(res.Body)
	}
	return out, nil
}

// resumption is the request by which an answer goes on, made of what the message remembers of the first one.
func (m *Module) resumption(c *web.Call, at *turn.Chat, message jsondoc.Doc) (jsondoc.Doc, error) {
	chat, err := m.Chats.Get(c.Context(), at.ID)
	if err != nil {
		return nil, err
	}
	id, parentID := message.Get("id"), message.Text("parentId")
	user := chat.Doc.Get("history", "messages", parentID)
	if parentID == "" || user.Kind() != '{' {
		return nil, web.Fail(http.StatusConflict, "Tool call parent message is missing.")
	}
	owned := authorOf(message, chat.UserID) == chat.UserID
	meta := message.Get("meta")
	var chatParams jsondoc.Doc
	if owned {
		chatParams = chat.Doc.Get("params")
	}
	params := jsondoc.Doc("{}").Merge(chatParams).Merge(meta.Get("params"))
	switch mode := chatParams.Text("tool_approval_mode"); {
	case mode == "ask" || mode == "full":
		params = params.Set(jsondoc.Text(mode), "tool_approval_mode")
	case params.Get("tool_approval_mode") == nil:
		params = params.Set(jsondoc.Doc(`"ask"`), "tool_approval_mode")
	}
	model := message.Get("model")
	if !model.Truthy() {
		model = chat.Doc.Get("models", "0")
	}
	if !model.Truthy() {
		return nil, web.Fail(http.StatusConflict, "Tool call message model is missing.")
	}
	messages := jsondoc.Doc("[]")
	if system := m.systemPrompt(c, params); system != "" {
		messages = jsondoc.Array(jsondoc.Object("role", jsondoc.Doc(`"system"`)).Set(jsondoc.Text(system), "content"))
	}
	files := meta.Get("files")
	if files == nil {
		files = chat.Doc.Get("files")
	}
	variables := jsondoc.Doc("{}")
	if owned {
		variables = chat.Variables
	}
	var b jsondoc.Builder
	b.Raw("stream", params.Get("stream_response").Or(jsondoc.Doc("true")))
	b.Raw("model", model)
	b.Raw("messages", messages)
	b.Raw("params", params)
	b.Raw("files", files)
	for _, name := range [...]string{"filter_ids", "tool_ids", "skill_ids", "terminal_id", "tool_servers"} {
		if v := meta.Get(name); v.Truthy() {
			b.Raw(name, v)
		} else {
			b.Raw(name, nil)
		}
	}
	b.Raw("features", meta.Get("features").Or(jsondoc.Doc("{}")))
	b.Raw("variables", meta.Get("variables").Or(jsondoc.Doc("{}")))
	b.Raw("chat_variables", variables)
	b.Raw("session_id", meta.Get("session_id"))
	b.Raw("chat_id", jsondoc.Text(at.ID))
	b.Raw("id", id)
	b.Raw("parent_id", user.Get("parentId"))
	b.Raw("user_message", user)
	b.Raw("assistant_message_id", id)
	return b.Done(), nil
}

// systemPrompt is what the page would send: the chat's own, the user's, or the administrator's for all.
func (m *Module) systemPrompt(c *web.Call, params jsondoc.Doc) string {
	if s := params.Text("system"); s != "" {
		return s
	}
	if own := c.Principal.Settings.Get("ui", "system"); !own.IsNull() {
		s, _ := own.AsText()
		return s
	}
	return jsondoc.Doc(config.UIDefaultInterfaceSettings.Raw(m.Settings.Snapshot())).Text("system")
}

func authorOf(message jsondoc.Doc, owner string) string {
	if id := message.Text("user_id"); id != "" {
		return id
	}
	return owner
}
