package chats

import (
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

type chatForm struct {
	Chat      web.Dict          `json:"chat"`
	Variables web.Opt[web.Dict] `json:"variables"`
	FolderID  web.Opt[string]   `json:"folder_id"`
}

// titled refuses documents whose title is no text.
func titled(d jsondoc.Doc) error {
	if t := d.Get("title"); len(t) > 0 && t.Kind() != '"' {
		return errWrong
	}
	return nil
}

func (m *Module) create(c *web.Call, in struct{ Body chatForm }) (web.Done, error) {
	form := in.Body
	if form.FolderID.Has() {
		if ok, err := m.FolderRules.CanWrite(c.Context(), c.UserID(), form.FolderID.V); err != nil || !ok {
			return web.Done{}, either(err, errNotFound)
		}
	}
	if err := m.mayCreate(c); err != nil {
		return web.Done{}, err
	}
	if err := titled(form.Chat.Doc()); err != nil {
		return web.Done{}, err
	}
	chat, err := m.Store.Insert(c.Context(), chats.NewChat{UserID: c.UserID(), Doc: form.Chat.Doc(), FolderID: form.FolderID.Ptr(), Variables: form.Variables.V.Doc(),
		Author: author(c)})
	if err != nil {
		return web.Done{}, err
	}
	m.publish(c, "chat.created", chat.ID, "title", chat.Title, "folder_id", chat.FolderID)
	return answer(c, chat)
}

// either gives err where there is one, else the answer.
func either(err error, otherwise *web.Error) error {
	if err != nil {
		return err
	}
	return otherwise
}

type importForm struct {
	Chat      web.Dict          `json:"chat"`
	Variables web.Opt[web.Dict] `json:"variables"`
	FolderID  web.Opt[string]   `json:"folder_id"`
	Meta      web.Opt[web.Dict] `json:"meta"`
	Pinned    web.Opt[bool]     `json:"pinned"`
	Archived  web.Opt[bool]     `json:"archived"`
	Current   web.Opt[string]   `json:"current_message_id"`
	CreatedAt web.Opt[int64]    `json:"created_at"`
	UpdatedAt web.Opt[int64]    `json:"updated_at"`
}

type importIn struct {
	Body struct {
		Chats []importForm `json:"chats"`
	}
}

func (m *Module) importChats(c *web.Call, in importIn) (web.Done, error) {
	if err := m.mayImport(c); err != nil {
		return web.Done{}, err
	}
	list := make([]chats.NewChat, len(in.Body.Chats))
	for i, f := range in.Body.Chats {
		if f.Meta.Null || f.Archived.Null {
			return web.Done{}, errWrong
		}
		if err := titled(f.Chat.Doc()); err != nil {
			return web.Done{}, err
		}
		list[i] = chats.NewChat{UserID: c.UserID(), Doc: f.Chat.Doc(), FolderID: f.FolderID.Ptr(), Meta: f.Meta.V.Doc(), Variables: f.Variables.V.Doc(), Pinned: f.Pinned.Or(false),
			Archived: f.Archived.Or(false), CreatedAt: f.CreatedAt.Or(0), UpdatedAt: f.UpdatedAt.Or(0), Author: author(c)}
		if f.Current.Or("") != "" {
			list[i].Current = f.Current.Ptr()
		}
	}
	made, err := m.bringIn(c, list)
	if err != nil {
		return web.Done{}, err
	}
	var tagIDs []string
	ids := []string{}
	for _, chat := range made {
		tagIDs = append(tagIDs, chat.Tags()...)
		ids = append(ids, chat.ID)
	}
	if err := m.Store.EnsureTags(c.Context(), c.UserID(), tagIDs); err != nil {
		return web.Done{}, err
	}
	m.publish(c, "chat.imported", "", "count", len(made), "chat_ids", ids)
	return answerAll(c, func(f func(*chats.Chat) error) error {
		for _, chat := range made {
			if err := f(chat); err != nil {
				return err
			}
		}
		return nil
	})
}

// bringIn makes chats; folders that the caller may not write to, or that are gone, are left out.
func (m *Module) bringIn(c *web.Call, list []chats.NewChat) ([]*chats.Chat, error) {
	if err := m.mayCreate(c); err != nil {
		return nil, err
	}
	var ids []string
	for _, n := range list {
		if n.FolderID != nil && *n.FolderID != "" {
			ids = append(ids, *n.FolderID)
		}
	}
	if len(ids) > 0 {
		ok, err := m.FolderRules.CanAmong(c.Context(), c.UserID(), ids, "write")
		if err != nil {
			return nil, err
		}
		for i := range list {
			if f := list[i].FolderID; f != nil && *f != "" && !ok[*f] {
				list[i].FolderID = nil
			}
		}
	}
	return m.Store.InsertAll(c.Context(), list)
}

type updateIn struct {
	ID   string `path:"id"`
	Body chatForm
}

func (m *Module) update(c *web.Call, in updateIn) (web.Done, error) {
	patch := chats.NewPatch(in.Body.Chat.Doc())
	owner, err := m.Store.OwnerID(c.Context(), in.ID)
	if err != nil {
		return web.Done{}, orElse(err, errProhibited)
	}
	if owner != c.UserID() {
		if patch, err = m.titleByFolderOwner(c, in, patch); err != nil {
			return web.Done{}, err
		}
	}
	if patch.Has("title") && patch.Get("title").Kind() != '"' {
		return web.Done{}, errWrong
	}
	chat, err := m.Store.Update(c.Context(), in.ID, patch, author(c), patch.Has("history") || patch.Has("messages"))
	if err != nil {
		return web.Done{}, orElse(err, errProhibited)
	}
	if in.Body.Variables.Has() {
		if err := m.Store.SetVariables(c.Context(), in.ID, in.Body.Variables.V.Doc()); err != nil {
			return web.Done{}, err
		}
		chat.Variables = in.Body.Variables.V.Doc()
	}
	m.publish(c, "chat.updated", in.ID, "title", chat.Title)
	return m.answerTo(c, chat)
}

// titleByFolderOwner lets the owner of a folder rename the chats of others in it, and nothing else.
func (m *Module) titleByFolderOwner(c *web.Call, in updateIn, patch *chats.Patch) (*chats.Patch, error) {
	head, err := m.Store.Head(c.Context(), in.ID)
	if err != nil {
		return nil, orElse(err, errProhibited)
	}
	if head.FolderID == nil || *head.FolderID == "" || patch.Len() != 1 || !patch.Has("title") || in.Body.Variables.Has() || in.Body.FolderID.Has() {
		return nil, errProhibited
	}
	if _, err := m.Folders.GetOwned(c.Context(), *head.FolderID, c.UserID()); err != nil {
		return nil, orElse(err, errProhibited)
	}
	title, _ := patch.Get("title").AsText()
	if title = strings.TrimSpace(title); title == "" {
		return nil, web.Fail(http.StatusBadRequest, web.TextDetail("Invalid title"))
	}
	return chats.NewPatch(jsondoc.Object("title", jsondoc.Text(title))), nil
}

// answerTo writes a chat as stored to its owner, and as readers see it to others.
func (m *Module) answerTo(c *web.Call, chat *chats.Chat) (web.Done, error) {
	if chat.UserID == c.UserID() {
		return answer(c, chat)
	}
	v, err := chat.View(c.Context(), chats.Viewer{ID: c.UserID(), Mode: "-", Names: m.Users.Names})
	if err != nil {
		return web.Done{}, err
	}
	chat.Variables = jsondoc.Doc("{}")
	return answerView(c, chat, v, nil)
}

type paramsIn struct {
	ID   string `path:"id"`
	Body web.Dict
}

func (m *Module) setParams(c *web.Call, in paramsIn) (jsondoc.Doc, error) {
	if ok, err := m.Store.IsOwner(c.Context(), in.ID, c.UserID()); err != nil || !ok {
		return nil, either(err, errProhibited)
	}
	chat, err := m.Store.MergeParams(c.Context(), in.ID, in.Body.Doc())
	if err != nil {
		return nil, orElse(err, errNotFound)
	}
	m.publish(c, "chat.updated", in.ID, "title", chat.Title)
	return chat.Doc.Get("params"), nil
}

func (m *Module) deleteAll(c *web.Call, _ web.None) (bool, error) {
	if role(c) == "user" {
		if err := m.need(c, "chat.delete", errProhibited); err != nil {
			return false, err
		}
	}
	ctx := c.Context()
	list, err := m.Store.TagsOf(ctx, c.UserID())
	if err != nil {
		return false, err
	}
	if err := m.Store.DeleteAllOf(ctx, c.UserID()); err != nil {
		return false, err
	}
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i] = t.ID
	}
	if err := m.Store.DeleteOrphanTags(ctx, c.UserID(), ids, 0); err != nil {
		return false, err
	}
	m.publish(c, "chat.deleted_all", c.UserID())
	return true, nil
}

func (m *Module) remove(c *web.Call, in idIn) (bool, error) {
	ctx := c.Context()
	if !c.IsAdmin() {
		if err := m.need(c, "chat.delete", errProhibited); err != nil {
			return false, err
		}
	}
	chat, err := m.Store.Head(ctx, in.ID)
	if err == nil && chat.UserID != c.UserID() && !m.readsAll(c) {
		err = store.ErrNotFound
	}
	if err != nil {
		return false, orElse(err, errNotFound)
	}
	// what runs for the chat would write into it again
	if err := m.stop(ctx, in.ID); err != nil {
		return false, err
	}
	if err := m.Store.DeleteOrphanTags(ctx, chat.UserID, chat.Tags(), 1); err != nil {
		return false, err
	}
	children, err := m.Store.Children(ctx, in.ID, chat.UserID)
	if err != nil {
		return false, err
	}
	for _, child := range children {
		if err := m.stop(ctx, child); err != nil {
			return false, err
		}
	}
	if err := m.Store.DeleteMany(ctx, append(children, in.ID)); err != nil {
		return false, err
	}
	m.publish(c, "chat.deleted", in.ID, "owner_id", chat.UserID)
	return true, nil
}

func (m *Module) isPinned(c *web.Call, in idIn) (web.Opt[bool], error) {
	chat, err := m.Store.HeadOwned(c.Context(), in.ID, c.UserID())
	if err != nil || chat.Pinned == nil {
		return web.Opt[bool]{}, orElse(err, errDefault)
	}
	return web.Some(*chat.Pinned), nil
}

// owned refuses with otherwise where the caller does not own a chat.
func (m *Module) owned(c *web.Call, id string, otherwise *web.Error) error {
	ok, err := m.Store.IsOwner(c.Context(), id, c.UserID())
	if err == nil && !ok {
		return otherwise
	}
	return err
}

func (m *Module) pin(c *web.Call, in idIn) (web.Done, error) {
	if err := m.owned(c, in.ID, errDefault); err != nil {
		return web.Done{}, err
	}
	chat, err := m.Store.TogglePinned(c.Context(), in.ID)
	if err != nil {
		return web.Done{}, orElse(err, errDefault)
	}
	name := "chat.unpinned"
	if chat.Pinned != nil && *chat.Pinned {
		name = "chat.pinned"
	}
	m.publish(c, name, in.ID)
	return answer(c, chat)
}

func (m *Module) archive(c *web.Call, in idIn) (web.Done, error) {
	if err := m.owned(c, in.ID, errDefault); err != nil {
		return web.Done{}, err
	}
	ctx := c.Context()
	chat, err := m.Store.ToggleArchived(ctx, in.ID)
	if err != nil {
		return web.Done{}, orElse(err, errDefault)
	}
	name := "chat.archived"
	if chat.Archived {
		err = m.stop(ctx, in.ID)
	} else {
		name = "chat.unarchived"
		err = m.Store.EnsureTags(ctx, c.UserID(), chat.Tags())
	}
	if err != nil {
		return web.Done{}, err
	}
	m.publish(c, name, in.ID)
	return answer(c, chat)
}

func (m *Module) archiveAll(c *web.Call, _ web.None) (bool, error) {
	if err := m.Store.ArchiveAll(c.Context(), c.UserID()); err != nil {
		return false, err
	}
	m.publish(c, "chat.archived", c.UserID())
	return true, nil
}

func (m *Module) unarchiveAll(c *web.Call, _ web.None) (bool, error) {
	ctx := c.Context()
	ids, err := m.Store.ArchivedTags(ctx, c.UserID())
	if err != nil {
		return false, err
	}
	if err := m.Store.UnarchiveAll(ctx, c.UserID()); err != nil {
		return false, err
	}
	if err := m.Store.EnsureTags(ctx, c.UserID(), ids); err != nil {
		return false, err
	}
	m.publish(c, "chat.unarchived", c.UserID())
	return true, nil
}

type moveIn struct {
	ID   string `path:"id"`
	Body struct {
		FolderID web.Opt[string] `json:"folder_id"`
	}
}

func (m *Module) move(c *web.Call, in moveIn) (web.Done, error) {
	ctx := c.Context()
	chat, err := m.Store.Head(ctx, in.ID)
	if err != nil {
		return web.Done{}, orElse(err, errDefault)
	}
	to := in.Body.FolderID.Ptr()
	if chat.UserID != c.UserID() {
		if ok, err := m.FolderRules.CanMove(ctx, c.UserID(), chat.FolderID, to); err != nil || !ok {
			return web.Done{}, either(err, errDefault)
		}
	}
	if to != nil {
		if ok, err := m.FolderRules.CanWrite(ctx, c.UserID(), *to); err != nil || !ok {
			return web.Done{}, either(err, errNotFound)
		}
	}
	if chat, err = m.Store.Move(ctx, in.ID, c.UserID(), to); err != nil {
		return web.Done{}, orElse(err, errDefault)
	}
	m.publish(c, "chat.folder_updated", in.ID, "folder_id", to)
	return m.answerTo(c, chat)
}
