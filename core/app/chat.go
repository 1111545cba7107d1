package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/builtin"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/memory"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/pytools"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/realtime/presence"
	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/memories"
	storedmodels "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/tasks"
	"github.com/galleychat/galley/core/toolserver"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/vector"
)

// conversation are the parts that chatting is made of.
type conversation struct {
	Chats       *chats.Store
	ChatAccess  *chats.Access
	Folders     *folders.Store
	FolderRules *folders.Access
	Models      *models.Catalog
	Tasks       *tasks.Runner
	Turns       *turn.Engine
	Presence    *presence.Presence
	Prompts     *prompt.Renderer
	Files       *files.Store
	FileAccess  *files.Access
	Uploads     *files.Folder // contents of files; made with the modules
	Embedder    embed.Embedder
	Vectors     vector.Store
	Memories    *memory.Service
	PythonTools *pytools.Service
	ToolServers *toolserver.Servers
}

func (a *App) turnStore() turn.ChatStore {
	return turn.ChatStore{Chats: a.Chats, Gate: a.ChatAccess, Files: readableFiles{a}}
}

// readableFiles is the turn engine's view of the files.
type readableFiles struct{ a *App }

// Readable implements turn.FileGate.
func (f readableFiles) Readable(ctx context.Context, u *users.User, ids []string) ([]string, error) {
	known, err := f.a.Files.ByIDs(ctx, ids)
	if err != nil {
		return nil, err
	}
	entries := make([]jsondoc.Doc, len(known))
	for i, file := range known {
		entries[i] = jsondoc.Of(map[string]string{"type": "file", "id": file.ID})
	}
	may, err := f.a.FileAccess.MayRead(ctx, u, entries)
	var out []string
	for i, ok := range may {
		if ok || u.IsAdmin() {
			out = append(out, known[i].ID)
		}
	}
	return out, err
}

func (a *App) openConversation() {
	c := &a.conversation
	c.Chats = chats.New(a.DB)
	c.Folders = folders.New(a.DB)
	c.FolderRules = folders.NewAccess(c.Folders, a.Access)
	c.ChatAccess = chats.NewAccess(c.Chats, a.Access, c.FolderRules, a.Env.AdminChatAccess)
	c.Models = models.New(models.Options{
		Registry: a.LLM, Rows: storedmodels.New(a.DB), Settings: a.Settings, Env: a.Env, Groups: a.Access, Log: a.Log, Fresh: a.Env.ModelsCache,
	})
	c.Files = files.New(a.DB)
	c.FileAccess = files.NewAccess(a.DB, c.Files, a.Access, c.ChatAccess)
	c.Embedder = embed.New(embed.Options{Settings: a.Settings, Client: a.LLM.Client(), Prefixes: a.Env.Embedding, Timeout: a.Env.Client.EmbeddingTimeout})
	c.Vectors = vector.New(a.DB)
	c.Memories = memory.New(memory.Deps{
		Store: memories.New(a.DB), Users: a.Users, Access: a.Access, Settings: a.Settings, Embedder: c.Embedder, Vectors: c.Vectors, Events: a.Events, Log: a.Log,
	})
	c.Prompts = &prompt.Renderer{GroupNames: a.groupNames}
	c.Tasks = &tasks.Runner{Models: c.Models, Settings: a.Settings, Prompts: c.Prompts, Filters: a.Filters}
	c.Presence = presence.New(a.Realtime, presence.Options{Chats: readers{a}, LastActive: lastActive{a.Users}, Replicas: a.Replicas, Log: a.Log})
	a.openPython()
	c.Turns = turn.New(turn.Deps{
		Models: c.Models, Store: a.turnStore(), Folders: projects{a}, Tasks: taskRunner{c.Tasks},
		Prompts: c.Prompts, Toolbox: turn.Toolboxes{pluginTools{a}, a.PythonTools, a.ToolServers}, Permit: a.permit, Builtins: a.builtins(), Memories: c.Memories, Images: a.inlineImages(), Browsers: newBrowsers(a), Realtime: a.Realtime, Replicas: a.Replicas, Filters: a.Filters, Events: a.Events, Settings: a.Settings, Env: a.Env, Log: a.Log, Started: a.TurnStarted,
	})
	a.parts = append(a.parts, c.PythonTools.Host, c.Presence, c.Turns)
}

// builtins are the server's own tools for models. Parts that have some add their group here.
func (a *App) builtins() *builtin.Registry {
	r := builtin.NewRegistry(a.Access, a.Settings)
	r.Add(
		builtin.Time(time.Now), builtin.Ask(), builtin.Chats(a.Chats, a.Folders), builtin.Memories(a.Memories), builtin.Tasks(a.Chats),
	)
	return r
}

// browsers is the turn engine's way to ask people, whose pages may be connected to another process.
type browsers struct {
	a *App

	mu        sync.Mutex
	listening map[string]listener // by event
}

type listener struct {
	userID string
	f      func(jsondoc.Doc)
}

// What processes tell one another: the events that they wait for, with the user whose pages send them. They pass these on,
// and ask pages for each other.
const (
	listenKind  = "listen"
	heardMethod = "heard"
	askMethod   = "ask"
)

func newBrowsers(a *App) *browsers {
	b := &browsers{a: a, listening: map[string]listener{}}
	a.Realtime.OnAny(b.hear)
	a.Replicas.Handle(heardMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		if parts := replicas.Split(body); len(parts) == 3 {
			b.heard(string(parts[0]), string(parts[1]), jsondoc.Doc(parts[2]))
		}
		return nil, nil
	})
	a.Replicas.Handle(askMethod, func(ctx context.Context, _ string, body []byte) ([]byte, error) {
		parts := replicas.Split(body)
		if len(parts) != 3 {
			return nil, turn.ErrGone
		}
		answer, err := b.askHere(ctx, string(parts[0]), string(parts[1]), jsondoc.Doc(parts[2]))
		if err != nil {
			return nil, err
		}
		return answer, nil
	})
	return b
}

// hear takes in an event that nobody else handles.
func (b *browsers) hear(_ context.Context, s *realtime.Socket, event string, args []jsontext.Value) (any, error) {
	userID := s.User().ID
	if len(args) == 0 || userID == "" || b.heard(userID, event, jsondoc.Doc(args[0])) {
		return nil, nil
	}
	for _, id := range b.a.Replicas.Holders(listenKind, event) {
		b.a.Replicas.Tell(id, heardMethod, replicas.Join(userID, event, string(args[0])))
	}
	return nil, nil
}

// heard gives what a user's page has sent to who waits for it, if that is here.
func (b *browsers) heard(userID, event string, arg jsondoc.Doc) bool {
	b.mu.Lock()
	l, ok := b.listening[event]
	b.mu.Unlock()
	if ok && userID == l.userID {
		l.f(arg)
	}
	return ok
}

// Listen implements turn.Browsers.
func (b *browsers) Listen(userID, event string, f func(jsondoc.Doc)) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listening[event] = listener{userID, f}
	b.a.Replicas.Set(listenKind, event, nil)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listening, event)
		b.a.Replicas.Delete(listenKind, event)
	}
}

// Ask implements turn.Browsers.
func (b *browsers) Ask(ctx context.Context, userID, sessionID string, payload jsondoc.Doc) (jsondoc.Doc, error) {
	process := b.a.Realtime.SocketHolder(sessionID)
	if process == "" {
		return b.askHere(ctx, userID, sessionID, payload)
	}
	answer, err := b.a.Replicas.Call(ctx, process, askMethod, replicas.Join(userID, sessionID, string(payload)))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, turn.ErrGone
	case len(answer) == 0:
		return nil, nil
	}
	return jsondoc.Doc(answer), nil
}

// askHere asks a page that is connected to this process.
func (b *browsers) askHere(ctx context.Context, userID, sessionID string, payload jsondoc.Doc) (jsondoc.Doc, error) {
	socket := b.a.Realtime.SocketByID(sessionID)
	if socket == nil || socket.User().ID != userID {
		return nil, turn.ErrGone
	}
	answer, err := socket.Call(ctx, "events", payload)
	switch {
	case errors.Is(err, realtime.ErrDisconnected):
		return nil, turn.ErrGone
	case err != nil || len(answer) == 0:
		return nil, err
	}
	return jsondoc.Doc(answer[0]), nil
}

// groupNames are the names of a user's groups, with inherited ones, for prompts that tell them.
func (a *App) groupNames(ctx context.Context, userID string) ([]string, error) {
	groups, err := a.Access.GroupsOf(ctx, userID)
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	return names, err
}

// taskRunner is the turn engine's view of the tasks.
type taskRunner struct{ *tasks.Runner }

// Run implements turn.Tasks.
func (r taskRunner) Run(ctx context.Context, p *auth.Principal, task turn.Task, modelID string, messages []jsondoc.Doc, chatID, messageID string) (jsondoc.Doc, error) {
	return r.Runner.Run(ctx, p, tasks.Kind(task), modelID, messages, llm.CallMeta{ChatID: chatID, MessageID: messageID})
}

// projects is the turn engine's view of the folders.
type projects struct{ a *App }

// Folder implements turn.Folders.
func (f projects) Folder(ctx context.Context, p *auth.Principal, id string) (*turn.Folder, error) {
	var found *folders.Folder
	var err error
	if p.IsAdmin() {
		found, err = f.a.Folders.Get(ctx, id)
	} else {
		found, err = f.a.FolderRules.Find(ctx, p.ID, id, folders.Read)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &turn.Folder{ID: found.ID, SystemPrompt: found.SystemPrompt(), Files: found.Data.Get("files")}, nil
}

// CanWrite implements turn.Folders.
func (f projects) CanWrite(ctx context.Context, p *auth.Principal, id string) (bool, error) {
	return f.a.FolderRules.CanWrite(ctx, p.ID, id)
}

// chatTasks is the chat module's view of the turns.
type chatTasks struct{ *turn.Engine }

// Stop ends what runs in a chat.
func (t chatTasks) Stop(ctx context.Context, chatID string) error {
	for _, id := range t.ChatTaskIDs(chatID) {
		t.Engine.Stop(ctx, id)
	}
	return ctx.Err()
}

// Streams are the answers that are being written in a chat.
func (t chatTasks) Streams(ctx context.Context, chatID string) []chats.Stream {
	var out []chats.Stream
	for _, p := range t.Partials(ctx, chatID) {
		out = append(out, chats.Stream{MessageID: p.MessageID, Content: p.Content, Output: p.Output})
	}
	return out
}

// completer asks models on behalf of the chat module.
type completer struct{ a *App }

// Complete sends a request that belongs to no chat.
func (c completer) Complete(ctx context.Context, p *auth.Principal, body jsondoc.Doc) (jsondoc.Doc, error) {
	res, err := c.a.Turns.Run(ctx, turn.Request{Principal: p, Caller: models.CallerOf(p), Body: body.Set(jsondoc.Doc("false"), "stream")})
	if err != nil || res.Response == nil {
		return res.Body, err
	}
	defer res.Response.Close()
	return jsondoc.Doc(res.Response.JSON()), nil
}

// Known says whether a model is in the list, and gives its params.
func (c completer) Known(ctx context.Context, p *auth.Principal, modelID string) (jsondoc.Doc, bool) {
	m, ok := c.a.Models.Find(ctx, models.CallerOf(p), modelID)
	if !ok {
		return nil, false
	}
	return m.Params(), true
}

// lastActive notes who is there.
type lastActive struct{ users *users.Store }

// Touch implements presence.LastActive.
func (l lastActive) Touch(_ context.Context, userID string) error {
	l.users.Touch(userID)
	return nil
}

// readers is the presence's view of the chats.
type readers struct{ a *App }

func (r readers) can(ctx context.Context, userID, chatID, permission string) (bool, error) {
	u, err := r.a.Users.ByID(ctx, userID)
	if err == nil {
		_, err = r.a.ChatAccess.Head(ctx, u.ID, u.Role, chatID, permission)
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// CanRead implements presence.Chats.
func (r readers) CanRead(ctx context.Context, userID, chatID string) (bool, error) {
	return r.can(ctx, userID, chatID, chats.Read)
}

// CanWrite implements presence.Chats.
func (r readers) CanWrite(ctx context.Context, userID, chatID string) (bool, error) {
	return r.can(ctx, userID, chatID, chats.Write)
}

// Readable implements presence.Chats.
func (r readers) Readable(ctx context.Context, pairs []presence.ChatUser) ([]bool, error) {
	out := make([]bool, len(pairs))
	known := map[presence.ChatUser]bool{}
	for i, p := range pairs {
		ok, seen := known[p]
		if !seen {
			var err error
			if ok, err = r.CanRead(ctx, p.UserID, p.ChatID); err != nil {
				return nil, err
			}
			known[p] = ok
		}
		out[i] = ok
	}
	return out, nil
}

// Owners implements presence.Chats.
func (r readers) Owners(ctx context.Context, chatIDs []string) (map[string]string, error) {
	return r.a.Chats.OwnerIDs(ctx, chatIDs)
}

// readEvent is what the user's other sessions are told of a chat that was read.
type readEvent struct {
	ChatID     string         `json:"chat_id"`
	LastReadAt int64          `json:"last_read_at"`
	Unread     map[string]int `json:"folder_unread_counts,omitzero"`
}

// MarkRead implements presence.Chats.
func (r readers) MarkRead(ctx context.Context, userID, chatID string) (any, bool, error) {
	at, unread, err := r.a.Chats.MarkRead(ctx, chatID, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	e := readEvent{ChatID: chatID, LastReadAt: at}
	if unread {
		if e.Unread, err = r.a.Folders.UnreadCounts(ctx, userID); err != nil {
			return nil, false, err
		}
	}
	return e, true, nil
}

var _ turn.Realtime = (*realtime.Server)(nil)
