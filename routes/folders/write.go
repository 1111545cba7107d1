package folders

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

var (
	errExists = web.Fail(http.StatusBadRequest, web.TextDetail("Folder already exists"))
	errUpdate = web.Fail(http.StatusBadRequest, web.TextDetail("Error updating folder"))
	errMove   = web.Fail(http.StatusBadRequest, web.TextDetail("Cannot move a folder into itself or one of its subfolders"))
)

type createIn struct {
	Body struct {
		web.Forbid
		Name     string            `json:"name"`
		Data     web.Opt[web.Dict] `json:"data"`
		Meta     web.Opt[web.Dict] `json:"meta"`
		ParentID web.Opt[string]   `json:"parent_id"`
	}
}

func (m *Module) create(c *web.Call, in createIn) (*folders.Folder, error) {
	f := in.Body
	parentID := f.ParentID.Ptr()
	if err := m.nameIsFree(c.Context(), parentID, c.UserID(), f.Name, ""); err != nil {
		return nil, err
	}
	data := f.Data.V.Doc()
	if err := m.mayAttach(c.Context(), c.Principal.User, data); err != nil {
		return nil, err
	}
	owner := c.UserID()
	if f.ParentID.Or("") != "" {
		parent, err := m.Folders.Get(c.Context(), f.ParentID.V)
		switch {
		case errors.Is(err, store.ErrNotFound): // the next list puts the folder at the root
		case err != nil:
			return nil, err
		case parent.UserID != owner:
			if ok, err := m.may(c, parent, folders.Write); err != nil || !ok {
				return nil, cmp.Or(err, error(errProhibited))
			}
			if err := m.ownerMayAttach(c, parent.UserID, data); err != nil {
				return nil, err
			}
			owner = parent.UserID
		}
	}
	made, err := m.Folders.Insert(c.Context(), folders.NewFolder{UserID: owner, ParentID: parentID, Name: f.Name, Data: data, Meta: f.Meta.V.Doc()})
	if err != nil {
		return nil, err
	}
	m.publish(c, "folder.created", made.ID, "name", made.Name, "parent_id", made.ParentID, "owner_id", made.UserID)
	return made, nil
}

// nameIsFree refuses a name that a sibling other than self has.
func (m *Module) nameIsFree(ctx context.Context, parentID *string, owner, name, self string) error {
	f, err := m.Folders.Named(ctx, parentID, owner, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil && f.ID != self:
		return errExists
	}
	return err
}

// mayAttach refuses a folder's data with files that the user may not read.
func (m *Module) mayAttach(ctx context.Context, u *users.User, data jsondoc.Doc) error {
	if files := data.Get("files"); !files.IsNull() {
		if files.Kind() != '[' {
			return errProhibited
		}
		return m.mayRead(ctx, u, files.List())
	}
	return nil
}

func (m *Module) mayRead(ctx context.Context, u *users.User, entries []jsondoc.Doc) error {
	if len(entries) == 0 {
		return nil
	}
	may, err := m.Files.MayRead(ctx, u, entries)
	if err == nil && slices.Contains(may, false) {
		err = errProhibited
	}
	return err
}

// ownerMayAttach is mayAttach for the owner of a folder that somebody else edits.
func (m *Module) ownerMayAttach(c *web.Call, ownerID string, data jsondoc.Doc) error {
	if data.Get("files") == nil {
		return nil
	}
	owner := c.Principal.User
	if ownerID != owner.ID {
		var err error
		if owner, err = m.Users.ByID(c.Context(), ownerID); err != nil {
			return missing(err)
		}
	}
	return m.mayAttach(c.Context(), owner, data)
}

type updateIn struct {
	ID   string `path:"id"`
	Body struct {
		web.Forbid
		Name web.Opt[string]   `json:"name"`
		Data web.Opt[web.Dict] `json:"data"`
		Meta web.Opt[web.Dict] `json:"meta"`
	}
}

func (m *Module) update(c *web.Call, in updateIn) (*folders.Folder, error) {
	f, err := m.find(c, in.ID, folders.Write)
	if err != nil {
		return nil, err
	}
	b, data := in.Body, in.Body.Data.V.Doc()
	if mode := data.Get("share_mode"); mode != nil && f.UserID != c.UserID() && !c.IsAdmin() && !same(mode, f.Data.Get("share_mode")) {
		return nil, errProhibited // an editor's rights do not include sharing
	}
	if b.Name.Has() {
		if err := m.nameIsFree(c.Context(), f.ParentID, f.UserID, b.Name.V, f.ID); err != nil {
			return nil, err
		}
	}
	if err := m.mayChangeFiles(c, f, data); err != nil {
		return nil, err
	}
	if b.Name.Null && b.Name.Set || b.Data.Null && b.Data.Set || b.Meta.Null && b.Meta.Set {
		return nil, errUpdate
	}
	f, err = m.Folders.Update(c.Context(), f.ID, folders.Change{Name: b.Name.Ptr(), Data: data, Meta: b.Meta.V.Doc()})
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict):
		return nil, web.Because(errUpdate.Status, errUpdate.Detail, err) // changed meanwhile
	case err != nil:
		return nil, err
	}
	m.publish(c, "folder.updated", f.ID, "name", f.Name)
	return f, nil
}

// mayChangeFiles refuses files that the owner may not read, and new ones that the editor may not. Editors send back what
// was there, so that is not asked of them.
func (m *Module) mayChangeFiles(c *web.Call, f *folders.Folder, data jsondoc.Doc) error {
	if err := m.ownerMayAttach(c, f.UserID, data); err != nil || f.UserID == c.UserID() {
		return err
	}
	old := f.Files()
	added := slices.DeleteFunc(data.Get("files").List(), func(e jsondoc.Doc) bool {
		return slices.ContainsFunc(old, func(o jsondoc.Doc) bool { return same(e, o) })
	})
	return m.mayRead(c.Context(), c.Principal.User, added)
}

// same says whether two documents mean the same, whatever the order of their members.
func same(a, b jsondoc.Doc) bool {
	var x, y any
	if a.Or(jsondoc.Doc("null")).Decode(&x) != nil || b.Or(jsondoc.Doc("null")).Decode(&y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

type parentIn struct {
	ID   string `path:"id"`
	Body struct {
		ParentID web.Opt[string] `json:"parent_id"`
	}
}

func (m *Module) setParent(c *web.Call, in parentIn) (*folders.Folder, error) {
	f, err := m.Folders.GetOwned(c.Context(), in.ID, c.UserID())
	if err != nil {
		return nil, missing(err)
	}
	parentID := in.Body.ParentID.Ptr()
	if err := m.nameIsFree(c.Context(), parentID, f.UserID, f.Name, f.ID); err != nil {
		return nil, err
	}
	if in.Body.ParentID.Or("") != "" {
		tree, err := m.Folders.Subtree(c.Context(), f.ID, f.UserID)
		if err != nil {
			return nil, err
		}
		if slices.Contains(tree, *parentID) {
			return nil, errMove
		}
	}
	if f, err = m.Folders.SetParent(c.Context(), f.ID, parentID); err != nil {
		return nil, missing(err)
	}
	m.publish(c, "folder.parent_updated", f.ID, "parent_id", parentID)
	return f, nil
}

type expandedIn struct {
	ID   string `path:"id"`
	Body struct {
		IsExpanded bool `json:"is_expanded"`
	}
}

// setExpanded is for owners; readers get the folder as it is, and others nothing.
func (m *Module) setExpanded(c *web.Call, in expandedIn) (*folders.Folder, error) {
	f, err := m.Folders.Get(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err)
	}
	if f.UserID == c.UserID() {
		f, err = m.Folders.SetExpanded(c.Context(), f.ID, in.Body.IsExpanded)
		return f, missing(err)
	}
	if ok, err := m.may(c, f, folders.Read); err != nil || !ok {
		return nil, err
	}
	return f, nil
}

type shareIn struct {
	ID   string `path:"id"`
	Body struct {
		AccessGrants []web.Dict      `json:"access_grants"`
		ShareMode    web.Opt[string] `json:"share_mode" enum:"continue"`
	}
}

type granted struct {
	folders.Folder `json:",inline"`
	AccessGrants   []access.Grant `json:"access_grants"`
}

func (m *Module) share(c *web.Call, in shareIn) (*granted, error) {
	f, err := m.Folders.Get(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err)
	}
	if f.UserID != c.UserID() && !c.IsAdmin() {
		return nil, errProhibited
	}
	grants := access.GrantsOf(in.Body.AccessGrants)
	if ok, err := m.Access.MayGive(c.Context(), c.Principal.User, folders.ResourceType, grants); err != nil || !ok {
		return nil, cmp.Or(err, error(web.Fail(http.StatusForbidden, access.TextAudience)))
	}
	err = m.Folders.Tx(c.Context(), func(tx *store.Tx) error {
		if grants, err = m.Access.SetGrants(c.Context(), tx, folders.ResourceType, f.ID, grants); err != nil {
			return err
		}
		if in.Body.ShareMode.Set {
			f, err = m.Folders.UpdateTx(c.Context(), tx, f.ID, folders.Change{Data: jsondoc.Object("share_mode", jsondoc.Of(in.Body.ShareMode))})
		}
		return err
	})
	if err != nil {
		return nil, missing(err)
	}
	m.publish(c, "folder.access_updated", f.ID, "grant_count", len(grants))
	return &granted{*f, grants}, nil
}

type readOut struct {
	FolderID     string         `json:"folder_id"`
	FolderIDs    []string       `json:"folder_ids"`
	UpdatedCount int64          `json:"updated_count"`
	UnreadCounts map[string]int `json:"folder_unread_counts"`
}

// markRead marks all the caller's chats in a folder read; owners' and administrators' calls go for all below too.
func (m *Module) markRead(c *web.Call, in idIn) (*readOut, error) {
	f, err := m.Folders.Get(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err)
	}
	if ok, err := m.may(c, f, folders.Read); err != nil || !ok {
		return nil, cmp.Or(err, error(errProhibited))
	}
	out := &readOut{FolderID: f.ID, FolderIDs: []string{f.ID}}
	if f.UserID == c.UserID() || c.IsAdmin() {
		if out.FolderIDs, err = m.Folders.Subtree(c.Context(), f.ID, f.UserID); err != nil {
			return nil, err
		}
	}
	if out.UpdatedCount, err = m.Chats.MarkFoldersRead(c.Context(), c.UserID(), out.FolderIDs); err != nil {
		return nil, err
	}
	out.UnreadCounts, err = m.Folders.UnreadCounts(c.Context(), c.UserID())
	return out, err
}

type deleteIn struct {
	ID             string `path:"id"`
	DeleteContents bool   `query:"delete_contents" default:"true"`
}

// delete removes a folder and all below with the owner's chats in them, or leaves those chats without a folder, as it
// does with chats of others.
func (m *Module) delete(c *web.Call, in deleteIn) (bool, error) {
	f, err := m.Folders.Get(c.Context(), in.ID)
	if err != nil {
		return false, missing(err)
	}
	if f.UserID != c.UserID() && !c.IsAdmin() {
		return false, errProhibited
	}
	contents := in.DeleteContents
	if contents {
		tree, err := m.Folders.Subtree(c.Context(), f.ID, f.UserID)
		if err != nil {
			return false, err
		}
		n, err := m.Chats.CountOf(c.Context(), f.UserID, tree)
		if err != nil {
			return false, err
		}
		if n > 0 {
			if ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "chat.delete"); err != nil || !ok {
				return false, cmp.Or(err, error(errProhibited))
			}
		}
	}
	ids, err := m.Folders.Delete(c.Context(), f.ID, f.UserID, func(tx *store.Tx, ids []string) error {
		if !contents {
			return nil
		}
		for _, id := range ids {
			if err := m.Chats.DeleteInFolder(c.Context(), tx, f.UserID, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	m.publish(c, "folder.deleted", f.ID, "folder_ids", ids, "delete_contents", contents)
	return true, nil
}
