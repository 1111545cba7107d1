// Package app serves the operations that belong to no tag: chat completions and what surrounds them (tasks, completed
// answers, approvals), models, embeddings, Anthropic's Messages, and what clients ask about the server itself. Paths are
// whole; it is mounted at "".
package app

import (
	"context"
	"log/slog"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// Turns runs chat turns; *turn.Engine does.
type Turns interface {
	Run(ctx context.Context, r turn.Request) (turn.Result, error)
	Stop(ctx context.Context, taskID string) turn.StopResult
	TaskIDs() []string
	ChatTaskIDs(chatID string) []string
}

// TurnStore is what the module needs of a turn.Store.
type TurnStore interface {
	Chat(ctx context.Context, p *auth.Principal, id string) (*turn.Chat, error)
	Update(ctx context.Context, chatID, messageID string, fields jsondoc.Doc, touch bool) error
	Unfinished(ctx context.Context, chatID, userID string) (map[string]jsondoc.Doc, error)
	TaskOwners(ctx context.Context, chatID string) (owners map[string]string, chatOwner string, err error)
}

// Chats reads and changes chats; *chats.Store does.
type Chats interface {
	IsOwner(ctx context.Context, id, userID string) (bool, error)
	Get(ctx context.Context, id string) (*chats.Chat, error)
	EditMessage(ctx context.Context, chatID, messageID string, f func(message jsondoc.Doc) (jsondoc.Doc, error)) error
}

// Presence knows the live sessions; *presence.Presence does.
type Presence interface {
	ModelsInUse() []string
	SessionUser(sid string) (realtime.User, bool)
}

// Deps are what the module works with.
type Deps struct {
	Turns     Turns
	TurnStore TurnStore
	Chats     Chats
	Models    *models.Catalog
	Providers *llm.Registry
	Access    *access.Access
	Users     *users.Store
	Settings  *config.Settings
	Env       *config.Env
	Presence  Presence
	Realtime  turn.Realtime
	Filters   filter.Set // may be nil; of the requests that are no turns
	Events    *events.Bus
	Webhooks  *events.Webhooks // administrators'
	Log       *slog.Logger     // nil: slog.Default

	// FeaturesOff are the features of GET /api/config that are reported as off whatever the settings say.
	FeaturesOff []string
	// OAuthProviders gives the object of providers to sign in with, names by id; nil for none. It is asked once for each
	// change of the settings.
	OAuthProviders func(*config.Snapshot) jsondoc.Doc
}

// Module is the operations without a tag.
type Module struct {
	Deps
	config   configs
	defaults groupDefaults
	counting counting
}

// New makes the module.
func New(d Deps) *Module {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	m := &Module{Deps: d}
	m.defaults.watch(d.Access)
	return m
}

// Name implements web.Module.
func (m *Module) Name() string { return "app" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	for _, path := range [...]string{"/api/chat/completions", "/api/v1/chat/completions"} {
		g.Add("POST "+path, web.JSON(auth.Verified, m.complete))
	}
	for _, path := range [...]string{"/api/message", "/api/v1/messages"} {
		g.Add("POST "+path, web.JSON(auth.Verified, m.messages))
		g.Add("POST "+path+"/count_tokens", web.JSON(auth.Verified, m.countTokens))
	}
	for _, path := range [...]string{"/api/embeddings", "/api/v1/embeddings"} {
		g.Add("POST "+path, web.JSON(auth.Verified, m.embeddings))
	}
	for _, path := range [...]string{"/api/models", "/api/v1/models"} {
		g.Add("GET "+path, web.JSON(auth.Verified, m.listModels))
	}
	g.Add("GET /api/models/base", web.JSON(auth.Admin, m.baseModels))
	g.Add("POST /api/models/unload", web.JSON(auth.Admin, m.unload))

	g.Add("POST /api/chat/completed", web.JSON(auth.Verified, m.completed))
	g.Add("POST /api/chat/actions/{action_id}", web.JSON(auth.Verified, m.action))
	g.Add("POST /api/v1/chats/{id}/messages/{message_id}/resolve", web.JSON(auth.Verified, m.resolve))

	g.Add("GET /api/tasks", web.JSON(auth.Admin, m.tasks))
	g.Add("POST /api/tasks/stop/{task_id}", web.JSON(auth.Admin, m.stopTask))
	g.Add("GET /api/tasks/chat/{chat_id}", web.JSON(auth.Verified, m.chatTasks))
	g.Add("POST /api/tasks/chat/{chat_id}/stop", web.JSON(auth.Verified, m.stopChat))

	g.Add("GET /api/config", web.JSON(auth.Optional, m.configuration))
	g.Add("GET /api/version", web.JSON(auth.Public, m.version))
	g.Add("GET /api/version/updates", web.JSON(auth.Verified, m.updates))
	g.Add("GET /api/changelog", web.JSON(auth.Public, m.changelog))
	g.Add("GET /api/usage", web.JSON(auth.Verified, m.usage))
	g.Add("GET /manifest.json", web.JSON(auth.Public, m.manifest))
	g.Add("GET /opensearch.xml", web.JSON(auth.Public, m.openSearch))
	g.Add("GET /cache/{path:path}", web.JSON(auth.Verified, m.cached))

	g.Add("GET /api/events", web.JSON(auth.Admin, m.events))
	g.Add("GET /api/events/webhooks", web.JSON(auth.Admin, m.listWebhooks))
	g.Add("POST /api/events/webhooks", web.JSON(auth.Admin, m.createWebhook))
	g.Add("PUT /api/events/webhooks/{webhook_id}", web.JSON(auth.Admin, m.updateWebhook))
	g.Add("DELETE /api/events/webhooks/{webhook_id}", web.JSON(auth.Admin, m.deleteWebhook))
}
