package chats

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/tags"
	"github.com/galleychat/galley/core/web"
)

const pageSize = 60

// page is a page of a list; those before the first are the first.
func page(n, size int) chats.Page { return chats.Page{Offset: max(0, (n-1)*size), Limit: size} }

type listIn struct {
	Page    web.Opt[int]  `query:"page"`
	Pinned  web.Opt[bool] `query:"include_pinned"`
	Folders web.Opt[bool] `query:"include_folders"`
	SortBy  string        `query:"sort_by" default:"updated_at"`
	SortDir string        `query:"sort_dir" default:"desc"`
}

func (m *Module) list(c *web.Call, in listIn) (web.Done, error) {
	o := chats.ListOptions{Folders: in.Folders.Or(false), Pinned: in.Pinned.Or(false), Sort: in.SortBy, Dir: in.SortDir}
	if in.Page.Has() {
		o.Page = page(in.Page.V, pageSize)
	}
	return m.answerHeads(c)(m.Store.List(c.Context(), c.UserID(), o))
}

// answerHeads writes what a store's list gives.
func (m *Module) answerHeads(c *web.Call) func([]chats.Head, error) (web.Done, error) {
	return func(heads []chats.Head, err error) (web.Done, error) {
		if err != nil {
			return web.Done{}, err
		}
		list, err := m.items(c, heads)
		if err != nil {
			return web.Done{}, err
		}
		return answerItems(c, list)
	}
}

type filterIn struct {
	Page      web.Opt[int]    `query:"page"`
	Query     web.Opt[string] `query:"query"`
	OrderBy   web.Opt[string] `query:"order_by"`
	Direction web.Opt[string] `query:"direction"`
}

func (in *filterIn) filter() (chats.Filter, chats.Page) {
	return chats.Filter{Query: in.Query.Or(""), OrderBy: in.OrderBy.Or(""), Direction: in.Direction.Or("")}, page(in.Page.Or(1), pageSize)
}

type userListIn struct {
	UserID    string          `path:"user_id"`
	Page      web.Opt[int]    `query:"page"`
	Query     web.Opt[string] `query:"query"`
	OrderBy   web.Opt[string] `query:"order_by"`
	Direction web.Opt[string] `query:"direction"`
}

func (m *Module) listOfUser(c *web.Call, in userListIn) (web.Done, error) {
	if !m.Access.Admins() {
		return web.Done{}, errProhibited
	}
	f, p := (&filterIn{in.Page, in.Query, in.OrderBy, in.Direction}).filter()
	return m.answerHeads(c)(m.Store.AllOf(c.Context(), in.UserID, f, p))
}

func (m *Module) archivedList(c *web.Call, in filterIn) (web.Done, error) {
	f, p := in.filter()
	heads, err := m.Store.Archived(c.Context(), c.UserID(), f, p)
	for i := range heads { // the reference's answer leaves it out
		heads[i].LastReadAt = nil
	}
	return m.answerHeads(c)(heads, err)
}

func (m *Module) archivedCount(c *web.Call, _ web.None) (int, error) {
	return m.Store.CountArchived(c.Context(), c.UserID())
}

func (m *Module) pinnedList(c *web.Call, _ web.None) (web.Done, error) {
	return m.answerHeads(c)(m.Store.PinnedList(c.Context(), c.UserID()))
}

type folderIn struct {
	FolderID string `path:"folder_id"`
}

func (m *Module) inFolder(c *web.Call, in folderIn) (web.Done, error) {
	ids, err := m.Folders.Subtree(c.Context(), in.FolderID, c.UserID())
	if err != nil {
		return web.Done{}, err
	}
	if len(ids) == 0 {
		ids = []string{in.FolderID}
	}
	list, err := m.Store.WholeInFolders(c.Context(), c.UserID(), ids)
	if err != nil {
		return web.Done{}, err
	}
	return answerAll(c, list)
}

type folderListIn struct {
	FolderID string       `path:"folder_id"`
	Page     web.Opt[int] `query:"page" default:"1"`
	SortBy   string       `query:"sort_by" default:"unread_updated_at"`
	SortDir  string       `query:"sort_dir" default:"desc"`
}

func (m *Module) folderList(c *web.Call, in folderListIn) (web.Done, error) {
	return m.answerHeads(c)(m.Store.InFolder(c.Context(), in.FolderID, c.UserID(), in.SortBy, in.SortDir, page(in.Page.Or(1), 10)))
}

type tagFilterIn struct {
	Body struct {
		Name  string       `json:"name"`
		Skip  web.Opt[int] `json:"skip" default:"0"`
		Limit web.Opt[int] `json:"limit" default:"50"`
	}
}

func (m *Module) listByTag(c *web.Call, in tagFilterIn) (web.Done, error) {
	limit := 50
	if in.Body.Limit.Set {
		limit = in.Body.Limit.Or(0)
	}
	id := tags.ID(in.Body.Name)
	heads, err := m.Store.WithTag(c.Context(), c.UserID(), id, chats.Page{Offset: max(0, in.Body.Skip.Or(0)), Limit: max(0, limit)})
	if err == nil && len(heads) == 0 {
		err = m.Store.DeleteTag(c.Context(), c.UserID(), id)
	}
	return m.answerHeads(c)(heads, err)
}

type readAllOut struct {
	Updated int64          `json:"updated_count"`
	Unread  map[string]int `json:"folder_unread_counts"`
}

func (m *Module) readAll(c *web.Call, _ web.None) (out readAllOut, err error) {
	if out.Updated, err = m.Store.MarkAllRead(c.Context(), c.UserID()); err != nil {
		return out, err
	}
	out.Unread, err = m.Folders.UnreadCounts(c.Context(), c.UserID())
	return out, err
}

type unreadOut struct {
	ChatID     string         `json:"chat_id"`
	LastReadAt int64          `json:"last_read_at"`
	FolderID   *string        `json:"folder_id"`
	Unread     map[string]int `json:"folder_unread_counts"`
}

func (m *Module) unread(c *web.Call, in idIn) (out unreadOut, err error) {
	out.ChatID = in.ID
	if out.FolderID, err = m.Store.MarkUnread(c.Context(), in.ID, c.UserID()); err != nil {
		return out, orElse(err, errNotFound)
	}
	out.Unread, err = m.Folders.UnreadCounts(c.Context(), c.UserID())
	return out, err
}

func (m *Module) allTags(c *web.Call, _ web.None) ([]tags.Tag, error) {
	return m.Store.TagsOf(c.Context(), c.UserID())
}

// exportAll streams a user's chats, one to a line.
func (m *Module) exportAll(c *web.Call, _ web.None) (web.Done, error) {
	header(c, "application/x-ndjson", -1)
	rc := http.NewResponseController(c.W)
	n := 0
	err := m.Store.EachOf(c.Context(), c.UserID(), 0, false, 20, func(chat *chats.Chat) error {
		before, after := frame(chat, nil)
		for _, part := range [][]byte{before, chat.Doc, append(after, '\n')} {
			if _, err := c.W.Write(part); err != nil {
				return err
			}
		}
		if n++; n%20 == 0 {
			if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		return nil
	})
	return web.Done{}, err
}

func (m *Module) exportArchived(c *web.Call, _ web.None) (web.Done, error) {
	list, err := m.Store.WholeArchived(c.Context(), c.UserID())
	if err != nil {
		return web.Done{}, err
	}
	return answerAll(c, list)
}

// exportDatabase writes all chats of all users, a few at a time.
func (m *Module) exportDatabase(c *web.Call, _ web.None) (web.Done, error) {
	if !m.AdminExport {
		return web.Done{}, errProhibited
	}
	var open byte = '['
	err := m.Store.EachOfAll(c.Context(), 50, func(chat *chats.Chat) error {
		if open == '[' {
			header(c, "application/json", -1)
		}
		before, after := frame(chat, nil)
		for _, part := range [][]byte{{open}, before, chat.Doc, after} {
			if _, err := c.W.Write(part); err != nil {
				return err
			}
		}
		open = ','
		return nil
	})
	if err != nil {
		return web.Done{}, err
	}
	end := []byte("]")
	if open == '[' {
		header(c, "application/json", -1)
		end = []byte("[]")
	}
	_, err = c.W.Write(end)
	return web.Done{}, err
}

func isMissing(err error) bool { return errors.Is(err, store.ErrNotFound) }
