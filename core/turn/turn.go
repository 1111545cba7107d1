package turn

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Turn is one question on its way to one model.
type Turn struct {
	p      *auth.Principal
	caller *llm.Caller

	modelID string
	model   *models.Model
	page    *models.Model // model, where the page of the session asks it; nil for those that the server asks
	form    *jsondoc.Obj  // the request as it goes to the model, in the end
	params  jsondoc.Doc   // of the request over those of the model

	chatID          string
	isNew           bool // the turn makes the chat
	chat            *Chat
	messageID       string // the answer
	userMessage     jsondoc.Doc
	userMessageID   string
	assistantID     string // an answer that is to be continued
	regenerationID  string // an answer that is to be made anew with a hint
	session         string
	folderID        string
	entries         []Entry
	files           jsondoc.Doc
	features        jsondoc.Doc
	variables       jsondoc.Doc
	chatVariables   jsondoc.Doc
	controls        jsondoc.Doc
	background      jsondoc.Doc // tasks to do after the answer
	reasoningTags   jsondoc.Doc
	deltaSize       int
	systemTemplate  string      // the model's system prompt
	continued       jsondoc.Doc // the message that is continued
	selectedModelID string      // of an arena
	messages        []message   // while the request is prepared
	em              *emitter
	titled          chan struct{} // closed once the first title has been made; nil for chats that have one
	asked           jsondoc.Doc   // the request as it came
	askFirst        bool          // tools run only once a person has approved
	toolIDs         []string
	tools           toolset
	directServers   []jsondoc.Doc // tool servers that the page calls
	instructions    []string      // of tool servers, for the system prompt
	ends            []func()      // what is to be done at the end
	toolsFor        *models.Model // whose model's switches tools went by
	ownTools        bool          // the request has tools of its own, be it none
	sources         []jsondoc.Doc // what the question was enriched with, for citations
	onlyFollowUps   bool          // another model's turn does title and tags
	filterIDs       []string      // filters that the request switches on
	filters         *filter.Filters
	finishReason    string // of the answer
}

// errNoModel is the answer for models that are unknown and for those that are not granted.
var errNoModel = web.Fail(http.StatusBadRequest, models.ErrNotFound.Error())

// parse reads a request: the model and whether the caller may use it, the params, and what the request is about.
func (e *Engine) parse(ctx context.Context, r Request) (*Turn, error) {
	t := &Turn{p: r.Principal, caller: r.Caller, asked: r.Body, form: jsondoc.Open(r.Body)}
	f := t.form
	item := f.Pop("model_item")
	t.background = f.Pop("background_tasks")
	t.modelID = f.Text("model")
	var fallback *models.Model
	if item.Get("direct").Truthy() {
		t.page = pageModel(t.modelID, item)
		t.model = t.page
	} else {
		m, ok := e.Models.Find(ctx, r.Caller, t.modelID)
		if !ok {
			return nil, errNoModel
		}
		t.model = m
		var err error
		if fallback, err = e.access(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := e.parseParams(t); err != nil {
		return nil, err
	}
	if fallback != nil {
		if t.controls.Get(t.modelID).Truthy() {
			return nil, web.Fail(http.StatusBadRequest, "Model control options cannot be applied to the fallback model.")
		}
		t.model, t.modelID = fallback, fallback.ID
		f.Set("model", jsondoc.Text(fallback.ID))
	}
	e.parseChat(t)
	return t, e.parseTools(ctx, t)
}

// access checks that the caller may use the model. Where its base model is gone, the operator can have the default
// model stand in.
func (e *Engine) access(ctx context.Context, t *Turn) (fallback *models.Model, err error) {
	missing := t.model.BaseID() != "" && t.model.Base == nil
	if missing && e.Env.Chat.ModelFallback {
		for id := range strings.SplitSeq(config.UIDefaultModels.Get(e.Settings.Snapshot()), ",") {
			if id = strings.TrimSpace(id); id != "" {
				fallback, _ = e.Models.Find(ctx, t.caller, id)
				break
			}
		}
	}
	if missing && fallback == nil {
		return nil, errNoModel
	}
	for _, m := range []*models.Model{t.model, fallback} {
		if m == nil || m == t.model && missing {
			continue
		}
		if err := e.Models.Access(ctx, t.p, m); err != nil {
			return nil, errNoModel
		}
	}
	return fallback, nil
}

// parseParams lays the request's params over the model's, and those over the administrator's defaults.
func (e *Engine) parseParams(t *Turn) error {
	f := t.form
	own := mergeParams(jsondoc.Doc(config.ModelsDefaultParams.Raw(e.Settings.Snapshot())).Or(jsondoc.Doc("{}")), t.model.Params().Or(jsondoc.Doc("{}"))).Delete("model_controls")
	given := withoutNulls(f.Pop("params"))
	t.controls = given.Pop("model_controls").Or(jsondoc.Doc("{}"))
	if t.controls.Kind() != '{' {
		return web.Fail(http.StatusBadRequest, "Model control options must be keyed by model.")
	}
	e.parseApproval(t, given.Text("tool_approval_mode"))
	t.params = mergeParams(own, given.Doc())
	t.systemTemplate = t.params.Text("system")
	if s := own.Get("stream_response"); !s.IsNull() {
		f.Set("stream", s)
	}
	if f.Get("stream").Truthy() && t.model.Meta().Get("capabilities", "usage").Truthy() {
		f.Set("stream_options", f.Get("stream_options").Or(jsondoc.Doc("{}")).Merge(jsondoc.Doc(`{"include_usage":true}`)))
	}
	t.reasoningTags = own.Get("reasoning_tags").Or(t.params.Get("reasoning_tags"))
	size := own.Get("stream_delta_chunk_size")
	if !size.Truthy() {
		size = t.params.Get("stream_delta_chunk_size")
	}
	n, _ := size.Int()
	t.deltaSize = max(int(n), e.Env.Chat.DeltaChunk, 1)
	return nil
}

// parseChat reads which chat and messages the request is about.
func (e *Engine) parseChat(t *Turn) {
	f := t.form
	parent := f.Pop("parent_id")
	hasParent := parent != nil
	f.Pop("new_chat")
	ids := f.Pop("message_ids")
	switch ids.Kind() {
	case '[':
		f.Pop("id")
		ids.Items(func(_ int, v jsondoc.Doc) bool {
			t.entries = append(t.entries, Entry{ModelID: v.Text("model_id"), MessageID: v.Text("message_id"), ModelIdx: v.Get("modelIdx")})
			return true
		})
	case '{':
		f.Pop("id")
		ids.Each(func(model string, v jsondoc.Doc) bool {
			id, _ := v.AsText()
			t.entries = append(t.entries, Entry{ModelID: model, MessageID: id})
			return true
		})
	default:
		id, _ := f.Pop("id").AsText()
		t.entries = []Entry{{ModelID: t.modelID, MessageID: id}}
	}
	t.userMessage = f.Pop("user_message")
	if legacy := f.Pop("parent_message"); !t.userMessage.Truthy() {
		t.userMessage = legacy
	}
	if t.userMessage.Kind() != '{' {
		t.userMessage = nil
	}
	t.userMessageID = t.userMessage.Text("id")
	t.chatID, _ = f.Pop("chat_id").AsText()
	t.isNew = hasParent && parent.IsNull() && t.chatID == ""
	t.chatVariables = f.Pop("chat_variables")
	pop := func(name string) string {
		s, _ := f.Pop(name).AsText()
		return s
	}
	t.assistantID, t.regenerationID, t.session, t.folderID = pop("assistant_message_id"), pop("regeneration_message_id"), pop("session_id"), pop("folder_id")
	f.Pop("automation_id")
	t.filterIDs = f.Pop("filter_ids").Texts()
	t.files, t.features, t.variables = f.Get("files"), f.Get("features"), f.Get("variables")
	if t.isNew {
		t.chatID = store.NewID()
		t.titled = make(chan struct{})
	}
}

// begin stores the question and empty answers to it, and tells those who watch.
func (e *Engine) begin(ctx context.Context, t *Turn) error {
	if strings.HasPrefix(t.chatID, "channel:") {
		return web.Fail(http.StatusNotFound, web.TextNotFound) // channels are not built yet
	}
	if t.session != "" && t.chatID != "" {
		for i := range t.entries {
			t.entries[i].TaskID = store.NewID()
		}
	}
	switch {
	case !savedChat(t.chatID):
		t.chatVariables = t.chatVariables.Or(jsondoc.Doc("{}"))
		return nil
	case t.isNew:
		return e.beginNew(ctx, t)
	}
	return e.beginKnown(ctx, t)
}

func (e *Engine) beginNew(ctx context.Context, t *Turn) error {
	if t.folderID != "" && e.Folders != nil {
		switch ok, err := e.Folders.CanWrite(ctx, t.p, t.folderID); {
		case err != nil:
			return err
		case !ok:
			return web.Fail(http.StatusNotFound, web.TextNotFound)
		}
	}
	t.chatVariables = t.chatVariables.Or(jsondoc.Doc("{}"))
	err := e.Store.Create(ctx, NewChat{ID: t.chatID, UserID: t.p.ID, FolderID: t.folderID, Variables: t.chatVariables, Document: t.newDocument()})
	if err != nil {
		return err
	}
	t.chat = &Chat{ID: t.chatID, UserID: t.p.ID, FolderID: t.folderID, Variables: t.chatVariables}
	newEmitter(e.Realtime, t.p.ID, t.chatID, t.userMessageID, t.session).own("chat:list", t.listData())
	e.publishNew(ctx, t)
	return e.noteFiles(ctx, t)
}

// newDocument is the document of a chat that a turn makes: the question and an empty answer of each model.
func (t *Turn) newDocument() jsondoc.Doc {
	now := time.Now()
	var answers, asked []string
	for _, en := range t.entries {
		asked = append(asked, en.ModelID)
		if en.MessageID != "" {
			answers = append(answers, en.MessageID)
		}
	}
	var all jsondoc.Builder
	list := []any{}
	if t.userMessageID != "" {
		q := jsondoc.Open(t.userMessage)
		q.Set("childrenIds", jsondoc.Of(append([]string{}, answers...)))
		q.Set("user_id", jsondoc.Text(t.p.ID))
		q.Set("user", jsondoc.Of(web.M{"id": t.p.ID, "name": t.p.Name}))
		t.userMessage = q.Doc()
		all.Raw(t.userMessageID, t.userMessage)
		content := t.userMessage.Get("content").Or(jsondoc.Doc(`""`))
		list = append(list, web.M{"role": "user", "content": content})
	}
	for _, en := range t.entries {
		if en.MessageID == "" {
			continue
		}
		var m jsondoc.Builder
		m.Raw("id", jsondoc.Text(en.MessageID))
		if t.userMessageID != "" {
			m.Raw("parentId", jsondoc.Text(t.userMessageID))
		} else {
			m.Raw("parentId", nil)
		}
		m.Raw("childrenIds", jsondoc.Doc("[]"))
		m.Raw("role", jsondoc.Doc(`"assistant"`))
		m.Raw("content", jsondoc.Doc(`""`))
		m.Raw("done", jsondoc.Doc("false"))
		m.Raw("model", jsondoc.Text(en.ModelID))
		m.Add("timestamp", now.Unix())
		if !en.ModelIdx.IsNull() {
			m.Raw("modelIdx", en.ModelIdx)
		}
		if en.TaskID != "" {
			m.Raw("meta", jsondoc.Object("task_id", jsondoc.Text(en.TaskID)))
		}
		all.Raw(en.MessageID, m.Done())
	}
	current := jsondoc.Doc("null")
	if len(answers) > 0 {
		current = jsondoc.Text(answers[0])
	} else if t.userMessageID != "" {
		current = jsondoc.Text(t.userMessageID)
	}
	var b jsondoc.Builder
	b.Raw("id", jsondoc.Text(t.chatID))
	b.Raw("title", jsondoc.Doc(`"New Chat"`))
	b.Add("models", append([]string{}, asked...))
	b.Raw("history", jsondoc.Object("currentId", current).Set(all.Done(), "messages"))
	b.Add("messages", list)
	b.Raw("files", t.files.Or(jsondoc.Doc("[]")))
	b.Raw("tags", jsondoc.Doc("[]"))
	b.Add("timestamp", now.UnixMilli())
	return b.Done()
}

func (e *Engine) beginKnown(ctx context.Context, t *Turn) error {
	chat, err := e.Store.Chat(ctx, t.p, t.chatID)
	if err != nil {
		return err
	}
	t.chat = chat
	if t.folderID == "" && chat.UserID == t.p.ID {
		t.folderID = chat.FolderID
	}
	owner := chat.UserID == t.p.ID
	switch {
	case !owner:
		t.chatVariables = jsondoc.Doc("{}")
		t.onlyFollowUps = true
	case t.chatVariables == nil:
		t.chatVariables = chat.Variables.Or(jsondoc.Doc("{}"))
	default:
		t.chatVariables = t.chatVariables.Or(jsondoc.Doc("{}"))
	}
	var b Begin
	if owner {
		b = t.selected()
	}
	if t.assistantID != "" {
		if err := e.beginContinued(ctx, t); err != nil || !owner {
			return err
		}
		_, err := e.Store.Begin(ctx, chat, t.p, b)
		return err
	}
	b.Message, b.Entries = t.userMessage, t.entries
	written, err := e.Store.Begin(ctx, chat, t.p, b)
	if err != nil {
		return err
	}
	em := newEmitter(e.Realtime, t.p.ID, t.chatID, written.Text("currentId"), t.session)
	if em.watched() {
		em.others("chat:messages", withoutMeta(written))
	}
	newEmitter(e.Realtime, t.p.ID, t.chatID, t.userMessageID, t.session).own("chat:list", t.listData())
	e.publishBegun(ctx, t, written.Get("messages"))
	return e.noteFiles(ctx, t)
}

// selected is what the owner has selected for the chat with the request.
func (t *Turn) selected() Begin {
	b := Begin{Models: t.userMessage.Get("models"), Variables: t.chatVariables}
	if !b.Models.Truthy() {
		var asked []string
		for _, en := range t.entries {
			asked = append(asked, en.ModelID)
		}
		b.Models = jsondoc.Of(asked)
	}
	if !t.files.IsNull() {
		b.Files = t.files
	}
	return b
}

func withoutMeta(written jsondoc.Doc) jsondoc.Doc {
	all := &jsondoc.Obj{}
	written.Get("messages").Each(func(id string, m jsondoc.Doc) bool {
		all.Set(id, m.Delete("meta"))
		return true
	})
	return written.Set(all.Doc(), "messages")
}

// beginContinued checks the answer that is to go on.
func (e *Engine) beginContinued(ctx context.Context, t *Turn) error {
	m, err := e.Store.Message(ctx, t.chatID, t.assistantID)
	if err != nil {
		return err
	}
	author := m.Text("user_id")
	if author == "" {
		author = t.chat.UserID
	}
	if m == nil || author != t.p.ID {
		return web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	for _, en := range t.entries {
		if en.MessageID != t.assistantID {
			return web.Fail(http.StatusBadRequest, "Invalid response ID.")
		}
	}
	t.userMessageID = m.Text("parentId")
	t.continued = m
	for _, en := range t.entries {
		if en.TaskID != "" {
			meta := jsondoc.Object("meta", jsondoc.Object("task_id", jsondoc.Text(en.TaskID)))
			if err := e.Store.Update(ctx, t.chatID, en.MessageID, meta, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) noteFiles(ctx context.Context, t *Turn) error {
	var ids []string
	t.userMessage.Get("files").Items(func(_ int, f jsondoc.Doc) bool {
		if f.Text("type") == "file" && f.Text("id") != "" {
			ids = append(ids, f.Text("id"))
		}
		return true
	})
	if len(ids) == 0 {
		return nil
	}
	if err := e.Store.AddFiles(ctx, t.chatID, t.userMessageID, t.p.User, ids); err != nil {
		e.Log.DebugContext(ctx, "files of a message were not noted", "chat", t.chatID, "error", err)
	}
	return nil
}

// forEntry is the turn for one of the models that answer.
func (t *Turn) forEntry(e *Engine, ctx context.Context, i int) *Turn {
	own := *t
	en := t.entries[i]
	own.form = t.form.Clone()
	own.messageID = en.MessageID
	if en.ModelID != t.modelID && en.ModelID != "" && len(t.entries) > 1 {
		if m, ok := e.Models.Find(ctx, t.caller, en.ModelID); ok {
			own.model, own.modelID = m, en.ModelID
			own.form.Set("model", jsondoc.Text(en.ModelID))
		}
	}
	own.onlyFollowUps = t.onlyFollowUps || i > 0
	own.em = newEmitter(e.Realtime, t.p.ID, t.chatID, en.MessageID, t.session)
	return &own
}
