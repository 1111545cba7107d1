// Package folders serves the folders of chats: the tag "folders", mounted at /api/v1/folders.
package folders

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

// Chats is what the module needs of the chats in folders; *chats.Store has it.
type Chats interface {
	InFolderOfAll(ctx context.Context, folderID, readerID, sort, dir string, p chats.Page) ([]chats.Head, error)
	CountInFolder(ctx context.Context, folderID string) (int, error)
	CountOf(ctx context.Context, userID string, folderIDs []string) (int, error)
	MarkFoldersRead(ctx context.Context, userID string, folderIDs []string) (int64, error)
	DeleteInFolder(ctx context.Context, q store.Querier, userID, folderID string) error
	Unfinished(ctx context.Context, ids []string) (map[string]bool, error)
}

// Users finds owners and the names of authors; *users.Store has it.
type Users interface {
	ByID(ctx context.Context, id string) (*users.User, error)
	Names(ctx context.Context, ids []string) (map[string]string, error)
}

// Files says which entries of a folder's file list ({type: file|collection|note, id}) a user may read; entries of any
// other shape nobody may.
type Files interface {
	MayRead(ctx context.Context, u *users.User, entries []jsondoc.Doc) ([]bool, error)
}

// Deps are what the module works with.
type Deps struct {
	Folders  *folders.Store
	Access   *access.Access
	Chats    Chats
	Users    Users
	Files    Files
	Settings *config.Settings
	Active   func(chatIDs []string) map[string]bool // which chats an answer is being written in; nil where none can be
	Events   *events.Bus
}

// Module is the tag "folders".
type Module struct {
	Deps
	access *folders.Access
}

// New makes the module.
func New(d Deps) *Module {
	return &Module{Deps: d, access: folders.NewAccess(d.Folders, d.Access)}
}

// Name implements web.Module.
func (m *Module) Name() string { return "folders" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Verified, enabled(m, m.list)))
	g.Add("POST /", web.JSON(auth.Verified, enabled(m, m.create)))
	g.Add("GET /shared", web.JSON(auth.Verified, enabled(m, m.shared)))
	g.Add("GET /{id}", web.JSON(auth.Verified, enabled(m, m.get)))
	g.Add("DELETE /{id}", web.JSON(auth.Verified, enabled(m, m.delete)))
	g.Add("POST /{id}/update", web.JSON(auth.Verified, enabled(m, m.update)))
	g.Add("POST /{id}/update/parent", web.JSON(auth.Verified, enabled(m, m.setParent)))
	g.Add("POST /{id}/update/expanded", web.JSON(auth.Verified, enabled(m, m.setExpanded)))
	g.Add("POST /{id}/access/update", web.JSON(auth.Verified, enabled(m, m.share)))
	g.Add("GET /{id}/shared/chats", web.JSON(auth.Verified, enabled(m, m.sharedChats)))
	g.Add("POST /{id}/read", web.JSON(auth.Verified, enabled(m, m.markRead)))
}

var (
	errNotFound   = web.Fail(http.StatusNotFound, web.TextNotFound)
	errProhibited = web.Fail(http.StatusForbidden, web.TextProhibited)
)

// enabled puts the check before a handler that folders are switched on, for all and for the caller.
func enabled[In, Out any](m *Module, h func(*web.Call, In) (Out, error)) func(*web.Call, In) (Out, error) {
	return func(c *web.Call, in In) (out Out, err error) {
		if string(config.FoldersEnable.Raw(m.Settings.Snapshot())) == "false" {
			return out, errProhibited
		}
		switch ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "features.folders"); {
		case err != nil:
			return out, err
		case !ok:
			return out, errProhibited
		}
		return h(c, in)
	}
}

type idIn struct {
	ID string `path:"id"`
}

// find gives a folder that the caller may use so (folders.Read or folders.Write): the owner, whoever was granted it, any
// administrator. It is a 404 otherwise.
func (m *Module) find(c *web.Call, id, permission string) (*folders.Folder, error) {
	f, err := m.Folders.Get(c.Context(), id)
	if err == nil {
		var ok bool
		if ok, err = m.may(c, f, permission); err == nil && !ok {
			return nil, errNotFound
		}
	}
	return f, missing(err)
}

func (m *Module) may(c *web.Call, f *folders.Folder, permission string) (bool, error) {
	if f.UserID == c.UserID() || c.IsAdmin() {
		return true, nil
	}
	can, err := m.access.CanAmong(c.Context(), c.UserID(), []string{f.ID}, permission)
	return can[f.ID], err
}

// publish tells of what the caller did to a folder, with pairs of a name and a value.
func (m *Module) publish(c *web.Call, name, id string, pairs ...any) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectID: id, Data: events.Pairs(pairs)})
}

// missing makes the 404 of a folder that is not there.
func missing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errNotFound
	}
	return err
}
