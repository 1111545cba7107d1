package folders

import (
	"cmp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/web"
)

// brief is a folder in the list of a user's own.
type brief struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Meta        *icon   `json:"meta"`
	ParentID    *string `json:"parent_id"`
	IsExpanded  bool    `json:"is_expanded"`
	UnreadCount int     `json:"unread_count"` // of the folder and all below
	CreatedAt   int64   `json:"created_at"`
	UpdatedAt   int64   `json:"updated_at"`
}

type icon struct {
	Icon jsondoc.Doc `json:"icon"`
}

func (m *Module) list(c *web.Call, _ web.None) ([]brief, error) {
	list, err := m.Folders.ByUser(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	if err := m.Folders.Root(c.Context(), folders.Strays(list)); err != nil {
		return nil, err
	}
	if err := m.dropFiles(c, list); err != nil {
		return nil, err
	}
	unread, err := m.Folders.UnreadCountsOf(c.Context(), c.UserID(), list)
	if err != nil {
		return nil, err
	}
	out := make([]brief, len(list))
	for i, f := range list {
		out[i] = brief{ID: f.ID, Name: f.Name, ParentID: f.ParentID, IsExpanded: f.IsExpanded, UnreadCount: unread[f.ID], CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt}
		if f.Meta.Kind() == '{' {
			out[i].Meta = &icon{f.Meta.Get("icon")}
		}
	}
	return out, nil
}

// dropFiles takes out of folders what their owner may not read any more.
func (m *Module) dropFiles(c *web.Call, list []*folders.Folder) error {
	var all []jsondoc.Doc
	for _, f := range list {
		all = append(all, f.Files()...)
	}
	if len(all) == 0 {
		return nil
	}
	may, err := m.Files.MayRead(c.Context(), c.Principal.User, all)
	if err != nil {
		return err
	}
	for i, f := range list {
		files := f.Files()
		own := may[:len(files)]
		may = may[len(files):]
		if !slices.Contains(own, false) {
			continue
		}
		var kept []jsondoc.Doc
		for i, e := range files {
			if own[i] {
				kept = append(kept, e)
			}
		}
		// seldom, and once for a folder
		if list[i], err = m.Folders.Update(c.Context(), f.ID, folders.Change{Data: jsondoc.Object("files", jsondoc.Array(kept...))}); err != nil {
			return err
		}
	}
	return nil
}

// sharedFolder is a folder with what somebody else needs to know of it.
type sharedFolder struct {
	folders.Folder `json:",inline"`
	OwnerName      string `json:"owner_name"`
	Permission     string `json:"permission"`
}

const unknownName = "Unknown"

func (m *Module) shared(c *web.Call, _ web.None) ([]sharedFolder, error) {
	groups, err := m.Access.GroupIDs(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	list, err := m.Folders.SharedWith(c.Context(), c.UserID(), groups)
	if err != nil {
		return nil, err
	}
	var owners []string
	for _, f := range list {
		if !slices.Contains(owners, f.UserID) {
			owners = append(owners, f.UserID)
		}
	}
	names, err := m.Users.Names(c.Context(), owners)
	if err != nil {
		return nil, err
	}
	out := make([]sharedFolder, len(list))
	for i, f := range list {
		out[i] = sharedFolder{*f.Folder, nameOr(names, f.UserID), f.Permission}
	}
	return out, nil
}

func nameOr(names map[string]string, id string) string {
	if n, ok := names[id]; ok {
		return n
	}
	return unknownName
}

// detail is a folder with its grants and what the caller may do.
type detail struct {
	folders.Folder `json:",inline"`
	AccessGrants   []access.Grant `json:"access_grants"`
	WriteAccess    bool           `json:"write_access"`
}

func (m *Module) get(c *web.Call, in idIn) (*detail, error) {
	f, err := m.find(c, in.ID, folders.Read)
	if err != nil {
		return nil, err
	}
	write, err := m.may(c, f, folders.Write)
	if err != nil {
		return nil, err
	}
	grants, err := m.Access.Grants(c.Context(), folders.ResourceType, f.ID)
	if err != nil {
		return nil, err
	}
	return &detail{*f, grants[f.ID], write}, nil
}

type chatsIn struct {
	ID   string       `path:"id"`
	Page web.Opt[int] `query:"page" ge:"1"`
	Sort string       `query:"sort_by" default:"unread_updated_at"`
	Dir  string       `query:"sort_dir" default:"desc"`
}

const (
	pageSize  = 10 // chats of a folder, where a page is named
	firstSize = 60 // where none is
)

type chatsOut struct {
	Chats      []folderChat `json:"chats"`
	Permission string       `json:"folder_permission"`
	Total      *int         `json:"total,omitzero"`    // only where a page is named
	HasMore    *bool        `json:"has_more,omitzero"` // only where a page is named
}

type folderChat struct {
	ID           string   `json:"id"`
	Title        string   `json:"title"`
	UserID       string   `json:"user_id"`
	UpdatedAt    int64    `json:"updated_at"`
	CreatedAt    int64    `json:"created_at"`
	LastReadAt   *int64   `json:"last_read_at"` // others' chats count as read
	OwnerName    string   `json:"owner_name"`
	Participants []author `json:"participants"`
	Active       bool     `json:"active"`
	ReadOnly     bool     `json:"readonly"`
}

type author struct {
	ID   string  `json:"id"`
	Name *string `json:"name"` // nil for a deleted account
}

func (m *Module) sharedChats(c *web.Call, in chatsIn) (*chatsOut, error) {
	f, err := m.Folders.Get(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err)
	}
	out := &chatsOut{Permission: folders.Write}
	if ok, err := m.may(c, f, folders.Write); err != nil {
		return nil, err
	} else if !ok {
		out.Permission = folders.Read
		if ok, err := m.may(c, f, folders.Read); err != nil || !ok {
			return nil, cmp.Or(err, error(errProhibited))
		}
	}
	page := chats.Page{Limit: firstSize}
	if in.Page.Has() {
		page = chats.Page{Offset: (in.Page.V - 1) * pageSize, Limit: pageSize}
	}
	heads, err := m.Chats.InFolderOfAll(c.Context(), f.ID, c.UserID(), in.Sort, in.Dir, page)
	if err != nil {
		return nil, err
	}
	if out.Chats, err = m.folderChats(c, heads); err != nil {
		return nil, err
	}
	if in.Page.Has() {
		total, err := m.Chats.CountInFolder(c.Context(), f.ID)
		if err != nil {
			return nil, err
		}
		more := page.Offset+page.Limit < total
		out.Total, out.HasMore = &total, &more
	}
	return out, nil
}

func (m *Module) folderChats(c *web.Call, heads []chats.Head) ([]folderChat, error) {
	ids := make([]string, len(heads))
	for i, h := range heads {
		ids[i] = h.ID
	}
	authors, err := m.Folders.Authors(c.Context(), ids)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, h := range heads {
		known[h.UserID] = true
		for _, a := range authors[h.ID] {
			known[a] = true
		}
	}
	who := make([]string, 0, len(known))
	for id := range known {
		who = append(who, id)
	}
	names, err := m.Users.Names(c.Context(), who)
	if err != nil {
		return nil, err
	}
	active, err := m.active(c, ids)
	if err != nil {
		return nil, err
	}
	out := make([]folderChat, len(heads))
	for i, h := range heads {
		own := h.UserID == c.UserID()
		out[i] = folderChat{ID: h.ID, Title: h.Title, UserID: h.UserID, UpdatedAt: h.UpdatedAt, CreatedAt: h.CreatedAt, LastReadAt: h.LastReadAt,
			OwnerName: nameOr(names, h.UserID), Participants: sorted(authors[h.ID], names, h.UserID), Active: active[h.ID], ReadOnly: !own}
		if !own {
			out[i].LastReadAt = &heads[i].UpdatedAt
		}
	}
	return out, nil
}

// active says in which chats an answer is being written: a task runs, and what it writes is not done.
func (m *Module) active(c *web.Call, ids []string) (map[string]bool, error) {
	if m.Active == nil || len(ids) == 0 {
		return nil, nil
	}
	running := m.Active(ids)
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !running[id] })
	if len(ids) == 0 {
		return nil, nil
	}
	return m.Chats.Unfinished(c.Context(), ids)
}

// sorted gives the authors of a chat: the owner first, then by name without regard to case, deleted accounts last.
func sorted(ids []string, names map[string]string, owner string) []author {
	out := make([]author, len(ids))
	for i, id := range ids {
		out[i].ID = id
		if n, ok := names[id]; ok {
			out[i].Name = &n
		}
	}
	rank := func(a author) (int, string) {
		if a.Name == nil || *a.Name == "" {
			return 1, ""
		}
		return 0, strings.ToLower(*a.Name)
	}
	slices.SortFunc(out, func(a, b author) int {
		if (a.ID == owner) != (b.ID == owner) {
			if a.ID == owner {
				return -1
			}
			return 1
		}
		ra, na := rank(a)
		rb, nb := rank(b)
		return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(na, nb), cmp.Compare(a.ID, b.ID))
	})
	return out
}
