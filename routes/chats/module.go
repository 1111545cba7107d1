// Package chats serves /api/v1/chats: conversations, their lists, search, sharing, tags, statistics and settings.
package chats

import (
	"context"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Realtime sends events to browsers; core/realtime's Server.
type Realtime interface {
	Emit(room, event string, payload any, except ...string) error
}

// Tasks are the running turns.
type Tasks interface {
	// Active says which of some chats a task runs for.
	Active(chatIDs []string) map[string]bool
	// Stop cancels what runs for a chat and waits until it has ended.
	Stop(ctx context.Context, chatID string) error
	// Streams are the answers being written in a chat, as far as they are.
	Streams(ctx context.Context, chatID string) []chats.Stream
}

// Completer asks a model, as POST /api/chat/completions does without streaming; the answer is in OpenAI form.
type Completer interface {
	// Complete sends body, whose metadata names the task, on behalf of a user.
	Complete(ctx context.Context, p *auth.Principal, body jsondoc.Doc) (jsondoc.Doc, error)
	// Known says whether a model is in the list, and gives its params.
	Known(ctx context.Context, p *auth.Principal, modelID string) (params jsondoc.Doc, ok bool)
}

// Deps are what the module uses. Fields from Realtime on may be nil.
type Deps struct {
	Store       *chats.Store
	Access      *chats.Access
	Grants      *access.Access
	Folders     *folders.Store
	FolderRules *folders.Access
	Users       *users.Store
	Settings    *config.Settings
	AdminExport bool // ENABLE_ADMIN_EXPORT

	Realtime  Realtime
	Tasks     Tasks
	Completer Completer
	Render    func(ctx context.Context, u *users.User, template string) string // fills the server's variables in prompts
	Events    *events.Bus
	// AccessChanged is told when the grants of a chat change, so that sockets of those who may no longer read it leave.
	AccessChanged func(ctx context.Context, chatID string)
}

// Module serves the chats.
type Module struct {
	Deps
}

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "chats" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	second := web.Under("GET /{a}/{b}")

	g.Add("GET /", web.JSON(auth.Verified, m.list))
	g.Add("GET /list", web.JSON(auth.Verified, m.list))
	g.Add("GET /list/user/{user_id}", web.JSON(auth.Admin, m.listOfUser))
	g.Add("GET /search", web.JSON(auth.Verified, m.search))
	g.Add("GET /pinned", web.JSON(auth.Verified, m.pinnedList))
	g.Add("GET /archived", web.JSON(auth.Verified, m.archivedList))
	g.Add("GET /archived/count", web.JSON(auth.Verified, m.archivedCount))
	g.Add("GET /folder/{folder_id}", web.JSON(auth.Verified, m.inFolder), second)
	g.Add("GET /folder/{folder_id}/list", web.JSON(auth.Verified, m.folderList))
	g.Add("POST /tags", web.JSON(auth.Verified, m.listByTag))
	g.Add("POST /read", web.JSON(auth.Verified, m.readAll))

	g.Add("GET /all", web.JSON(auth.Verified, m.exportAll))
	g.Add("GET /all/archived", web.JSON(auth.Verified, m.exportArchived))
	g.Add("GET /all/tags", web.JSON(auth.Verified, m.allTags))
	g.Add("GET /all/db", web.JSON(auth.Admin, m.exportDatabase))
	g.Add("GET /stats/usage", web.JSON(auth.Verified, m.usageStats))
	g.Add("GET /stats/export", web.JSON(auth.Verified, m.exportStats))
	g.Add("GET /stats/export/{chat_id}", web.JSON(auth.Verified, m.exportStatsOf))
	g.Add("GET /config", web.JSON(auth.Admin, m.config))
	g.Add("POST /config", web.JSON(auth.Admin, m.setConfig))

	g.Add("POST /new", web.JSON(auth.Verified, m.create))
	g.Add("POST /import", web.JSON(auth.Verified, m.importChats))
	g.Add("DELETE /", web.JSON(auth.Verified, m.deleteAll))
	g.Add("POST /archive/all", web.JSON(auth.Verified, m.archiveAll))
	g.Add("POST /unarchive/all", web.JSON(auth.Verified, m.unarchiveAll))

	g.Add("GET /{id}", web.JSON(auth.Verified, m.get))
	g.Add("POST /{id}", web.JSON(auth.Verified, m.update))
	g.Add("DELETE /{id}", web.JSON(auth.Verified, m.remove))
	g.Add("PATCH /{id}/params", web.JSON(auth.Verified, m.setParams))
	g.Add("POST /{id}/messages/{message_id}", web.JSON(auth.Verified, m.updateMessage))
	g.Add("DELETE /{id}/messages/{message_id}", web.JSON(auth.Verified, m.deleteMessage))
	g.Add("POST /{id}/messages/{message_id}/event", web.JSON(auth.Verified, m.messageEvent))
	g.Add("GET /{id}/pinned", web.JSON(auth.Verified, m.isPinned))
	g.Add("POST /{id}/pin", web.JSON(auth.Verified, m.pin))
	g.Add("POST /{id}/archive", web.JSON(auth.Verified, m.archive))
	g.Add("POST /{id}/unread", web.JSON(auth.Verified, m.unread))
	g.Add("POST /{id}/folder", web.JSON(auth.Verified, m.move))
	g.Add("POST /{id}/compact", web.JSON(auth.Verified, m.compact))
	g.Add("POST /{id}/fork", web.JSON(auth.Verified, m.fork))
	g.Add("POST /{id}/clone", web.JSON(auth.Verified, m.clone))
	g.Add("POST /{id}/clone/shared", web.JSON(auth.Verified, m.cloneShared))
	g.Add("GET /{id}/tags", web.JSON(auth.Verified, m.tags))
	g.Add("POST /{id}/tags", web.JSON(auth.Verified, m.addTag))
	g.Add("DELETE /{id}/tags", web.JSON(auth.Verified, m.removeTag))

	g.Add("GET /shared", web.JSON(auth.Verified, m.sharedList))
	g.Add("GET /share/{share_id}", web.JSON(auth.Optional, m.getShared), second)
	g.Add("DELETE /share/all", web.JSON(auth.Verified, m.unshareAll))
	g.Add("POST /{id}/share", web.JSON(auth.Verified, m.share))
	g.Add("DELETE /{id}/share", web.JSON(auth.Verified, m.unshare))
	g.Add("POST /shared/{id}/access/update", web.JSON(auth.Verified, m.setShareAccess))
	g.Add("GET /shared/{id}/access", web.JSON(auth.Verified, m.shareAccess))
}

var (
	errProhibited = web.Fail(http.StatusUnauthorized, web.TextProhibited)
	errNotFound   = web.Fail(http.StatusNotFound, web.TextNotFound)
	errUnfound    = web.Fail(http.StatusUnauthorized, web.TextNotFound)
	errDefault    = web.Fail(http.StatusUnauthorized, web.TextDefault)
	errForbidden  = web.Fail(http.StatusForbidden, web.TextProhibited)
	errWrong      = web.Fail(http.StatusBadRequest, web.TextDefault)
)

// orElse gives instead where err says that there is no such row.
func orElse(err error, instead *web.Error) error {
	if errors.Is(err, store.ErrNotFound) {
		return instead
	}
	return err
}

type idIn struct {
	ID string `path:"id"`
}

// publish tells of what the caller did to a chat, a message, or all chats of theirs.
func (m *Module) publish(c *web.Call, name, subject string, data ...any) {
	e := events.Event{Name: name, Actor: c.Principal.User, SubjectID: subject, Data: events.Pairs(data)}
	switch {
	case name == "chat.imported":
		e.SubjectType = "chat.import"
	case subject == c.UserID():
		e.SubjectType = "user"
	}
	m.Events.Publish(c.Context(), e)
}

// readsAll says whether the caller is an administrator who may read everybody's chats.
func (m *Module) readsAll(c *web.Call) bool { return c.IsAdmin() && m.Access.Admins() }

// role is the caller's.
func role(c *web.Call) string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.Role
}

// mayImport refuses those who may not bring in chats.
func (m *Module) mayImport(c *web.Call) error {
	if c.IsAdmin() {
		return nil
	}
	return m.need(c, "chat.import", errForbidden)
}

// need refuses with otherwise where the caller has not a permission; administrators are asked too.
func (m *Module) need(c *web.Call, permission string, otherwise *web.Error) error {
	ok, err := m.Grants.Has(c.Context(), c.Principal.User, permission)
	if err == nil && !ok {
		return otherwise
	}
	return err
}

// mayCreate refuses those who are bound to temporary chats.
func (m *Module) mayCreate(c *web.Call) error {
	if c.IsAdmin() {
		return nil
	}
	for _, p := range []string{"chat.temporary", "chat.temporary_enforced"} {
		if ok, err := m.Grants.Has(c.Context(), c.Principal.User, p); err != nil || !ok {
			return err
		}
	}
	return errForbidden
}

func (m *Module) active(ids []string) map[string]bool {
	if m.Tasks == nil || len(ids) == 0 {
		return nil
	}
	return m.Tasks.Active(ids)
}

func (m *Module) stop(ctx context.Context, id string) error {
	if m.Tasks == nil {
		return nil
	}
	return m.Tasks.Stop(ctx, id)
}

// author is to whom messages that the caller sends are attributed.
func author(c *web.Call) *chats.Author {
	return &chats.Author{ID: c.Principal.ID, Name: c.Principal.Name}
}
