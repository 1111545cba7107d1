package turn

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// errStopped is the cause with which a turn is cancelled by its user or by the server's end.
var errStopped = errors.New("stopped")

// errUnavailable is the answer while the server stops.
var errUnavailable = web.Fail(http.StatusServiceUnavailable, "The server is shutting down")

// Deps are what an Engine works with. Folders, Tasks, Prompts, Toolbox, Builtins, Memories, Images and Browsers may be nil.
type Deps struct {
	Models   models.Finder
	Store    Store
	Folders  Folders
	Tasks    Tasks
	Prompts  Prompts
	Toolbox  Toolbox
	Builtins Builtins
	Memories Memories
	Images   Images
	Browsers Browsers
	Realtime Realtime
	Replicas *replicas.Node // the other processes of the installation; nil for none
	Filters  filter.Set     // may be nil
	Events   *events.Bus
	Settings *config.Settings
	Env      *config.Env
	Log      *slog.Logger
	// Started is told of each turn with a chat, and calls what it returns at its end; nil for none.
	Started func() (done func())
	// Permit says whether a principal has a permission; nil lets everybody do everything.
	Permit func(ctx context.Context, p *auth.Principal, permission string) (bool, error)
	// SaveEvery is how often an answer is stored while it is being written; 0 means every 2 s.
	SaveEvery time.Duration
}

// Engine runs turns.
type Engine struct {
	Deps
	running *running
}

// New makes an engine.
func New(d Deps) *Engine {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.SaveEvery == 0 {
		d.SaveEvery = 2 * time.Second
	}
	if d.Started == nil {
		d.Started = func() func() { return func() {} }
	}
	e := &Engine{Deps: d, running: newRunning(d.Replicas)}
	e.serveReplicas()
	return e
}

// Request is a chat completion request.
type Request struct {
	Principal *auth.Principal
	Caller    *llm.Caller
	Body      jsondoc.Doc // a JSON object
}

// Result is what a request is answered with: a document, or a provider's answer to pass on.
type Result struct {
	Body     jsondoc.Doc
	Response *llm.Response
}

// Run answers a chat completion request. With a session and a chat it returns at once with the ids of the tasks, and
// the turns go on without ctx. Errors are *web.Error and *llm.UpstreamError.
func (e *Engine) Run(ctx context.Context, r Request) (Result, error) {
	t, err := e.parse(ctx, r)
	if err != nil {
		return Result{}, badRequest(err)
	}
	if err := e.begin(ctx, t); err != nil {
		return Result{}, badRequest(err)
	}
	if t.session != "" && t.chatID != "" {
		return e.launch(ctx, t)
	}
	if len(t.entries) > 0 {
		t.messageID = t.entries[0].MessageID
	}
	return e.direct(ctx, t)
}

// badRequest is how errors of a request that name no status of their own are answered: 400 with their text.
func badRequest(err error) error {
	var w *web.Error
	var u *llm.UpstreamError
	switch {
	case errors.As(err, &w), errors.As(err, &u), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, store.ErrNotFound):
		return web.Fail(http.StatusNotFound, web.TextNotFound)
	}
	return web.Because(http.StatusBadRequest, err.Error(), err)
}

// direct runs a turn of a program, in its request.
func (e *Engine) direct(ctx context.Context, t *Turn) (Result, error) {
	defer t.end()
	resp, err := e.ask(ctx, t)
	if errors.Is(err, errWaiting) {
		return Result{Body: jsondoc.Doc("null")}, nil
	}
	if err != nil {
		if t.chatID != "" && t.messageID != "" {
			e.failed(t, err)
		}
		return Result{}, badRequest(err)
	}
	sources := t.sourcesEvent()
	if t.chatID == "" || t.messageID == "" {
		if sources != nil {
			resp.Lead(jsontext.Value(sources))
		}
		if picked := t.picked(); picked != nil {
			resp.Lead(jsontext.Value(picked))
		}
		return Result{Response: t.outgoing(ctx, resp)}, nil
	}
	// The chat keeps the answer, whether or not the program waits for it.
	keep, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	body, err := e.answer(keep, t, resp, nil)
	if err != nil && !errors.Is(err, errWaiting) {
		e.failed(t, err)
		return Result{}, badRequest(err)
	}
	if body.Kind() == '{' && sources != nil {
		body = body.Merge(sources)
	}
	return Result{Body: body.Or(jsondoc.Doc("null"))}, nil
}

// picked says which model an arena has picked, nil for other models.
func (t *Turn) picked() jsondoc.Doc {
	if t.selectedModelID == "" {
		return nil
	}
	return jsondoc.Object("selected_model_id", jsondoc.Text(t.selectedModelID))
}

// launch starts a task for each model that is to answer, and returns without waiting for them.
func (e *Engine) launch(ctx context.Context, t *Turn) (Result, error) {
	ids := []string{}
	var start []func()
	for i, entry := range t.entries {
		if entry.MessageID == "" {
			continue
		}
		own := t.forEntry(e, ctx, i)
		base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		tk := &task{id: entry.TaskID, chatID: t.chatID, messageID: entry.MessageID, userID: t.p.ID, cancel: cancel, done: make(chan struct{})}
		if !e.running.add(tk) {
			cancel(nil)
			return Result{}, errUnavailable
		}
		ids = append(ids, tk.id)
		start = append(start, func() { e.work(base, own, tk) })
	}
	if len(start) > 0 {
		em := newEmitter(e.Realtime, t.p.ID, t.chatID, t.entries[0].MessageID, t.session)
		em.emit("chat:active", t.activeData(true))
	}
	if len(start) > 0 && t.isNew {
		first := t.forEntry(e, ctx, 0)
		e.running.aside(func() {
			defer close(t.titled)
			titling, cancel := context.WithTimeout(context.WithoutCancel(ctx), titleTimeout)
			defer cancel()
			e.firstTitle(titling, first)
		})
	}
	for _, f := range start {
		go f()
	}
	return Result{Body: jsondoc.Of(launched{true, ids, t.chatID})}, nil
}

type launched struct {
	Status  bool     `json:"status"`
	TaskIDs []string `json:"task_ids"`
	ChatID  string   `json:"chat_id"`
}

func (t *Turn) activeData(active bool) jsondoc.Doc {
	return jsondoc.Of(struct {
		Active   bool    `json:"active"`
		FolderID *string `json:"folder_id"`
	}{active, t.folder()})
}

func (t *Turn) folder() *string {
	if t.folderID == "" {
		return nil
	}
	return &t.folderID
}

func (t *Turn) listData() jsondoc.Doc {
	return jsondoc.Of(struct {
		ChatID   string  `json:"chat_id"`
		FolderID *string `json:"folder_id"`
	}{t.chatID, t.folder()})
}

// work is a turn from start to end, in a goroutine of its own.
func (e *Engine) work(ctx context.Context, t *Turn, tk *task) {
	ended, began := e.Started(), time.Now()
	defer e.running.finished(tk)
	defer ended()
	defer func() {
		if p := recover(); p != nil {
			e.Log.ErrorContext(ctx, "panic in a chat turn", "chat", t.chatID, "panic", p)
			e.failed(t, errText("The server failed to answer"))
		}
		if t.continued != nil { // by a page that learns the task's id from the answer to its request, and has to hear of the end after that
			wait(ctx, continuedAtLeast-time.Since(began))
		}
		tk.cancel(nil)
		t.end()
		if e.running.remove(tk) {
			t.em.emit("chat:active", t.activeData(false))
		}
	}()
	resp, err := e.ask(ctx, t)
	if err == nil {
		_, err = e.answer(ctx, t, resp, tk)
	}
	switch {
	case err == nil, errors.Is(err, errWaiting):
	case errors.Is(context.Cause(ctx), errStopped):
		t.em.emit("chat:tasks:cancel", nil)
	default:
		e.failed(t, err)
	}
}

// failed stores and shows why a turn gave no answer.
func (e *Engine) failed(t *Turn, err error) {
	text := failureText(err)
	e.Log.Warn("chat turn failed", "chat", t.chatID, "model", t.modelID, "error", err)
	failure := jsondoc.Object("content", jsondoc.Text(text))
	if savedChat(t.chatID) {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		var b jsondoc.Builder
		if t.userMessageID != "" {
			b.Raw("parentId", jsondoc.Text(t.userMessageID))
		} else {
			b.Raw("parentId", nil)
		}
		b.Raw("error", failure)
		b.Raw("done", jsondoc.Doc("true"))
		if err := e.Store.Update(ctx, t.chatID, t.messageID, b.Done(), true); err != nil {
			e.Log.Error("a failed turn was not stored", "chat", t.chatID, "error", err)
		}
	}
	t.em.emit("chat:message:error", jsondoc.Object("error", failure).Set(jsondoc.Doc("true"), "done"))
	e.publishEnd(context.Background(), t, "", nil, text)
}

// storeTimeout is how long storing the end of a turn may take when its request has gone.
const storeTimeout = 30 * time.Second

// titleTimeout is how long a model may take to name a new chat.
const titleTimeout = 2 * time.Minute

// titlePatience is how long the end of a first answer waits for the title that is being made beside it, so that what
// browsers are told at the end has the chat's name.
const titlePatience = 250 * time.Millisecond

// failureText is what a person is shown of an error.
func failureText(err error) string {
	var u *llm.UpstreamError
	var w *web.Error
	var s *llm.StreamError
	switch {
	case errors.As(err, &u):
		return u.Message()
	case errors.As(err, &w):
		if text, ok := w.Detail.(string); ok {
			return text
		}
		return (&llm.UpstreamError{Status: w.Status, Body: jsondoc.Of(w.Detail)}).Message()
	case errors.As(err, &s):
		return "The provider broke off its answer: " + strings.TrimPrefix(s.Err.Error(), "llm: ")
	}
	return err.Error()
}
