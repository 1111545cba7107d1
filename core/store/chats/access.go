package chats

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/folders"
)

// ResourceType is what access grants call a shared chat; they name the chat, not the link.
const ResourceType = "shared_chat"

// Permissions on a chat.
const (
	Read  = "read"
	Write = "write"
)

// Grants says whether a user was granted something; core/access has it.
type Grants interface {
	Can(ctx context.Context, userID, resourceType, resourceID, permission string) (bool, error)
}

// Folders gives the folders that a user may read; *folders.Access is one.
type Folders interface {
	Find(ctx context.Context, userID, folderID, permission string) (*folders.Folder, error)
}

// Access says who may read a chat and who may go on with it.
type Access struct {
	store   *Store
	grants  Grants
	folders Folders
	admins  bool
}

// NewAccess makes the rules over a store. adminAccess lets administrators read all chats (ENABLE_ADMIN_CHAT_ACCESS).
func NewAccess(s *Store, g Grants, f Folders, adminAccess bool) *Access {
	return &Access{store: s, grants: g, folders: f, admins: adminAccess}
}

// Admins says whether administrators may read all chats.
func (a *Access) Admins() bool { return a.admins }

// Can says whether a user with a role may read a chat, or write in it: its owner; administrators, to read, where the
// operator lets them; those it was shared with to continue; and who reads its folder, to write where the folder is
// shared to continue. The chat's document is not looked at.
func (a *Access) Can(ctx context.Context, userID, role string, c *Chat, permission string) (bool, error) {
	if role != "user" && role != "admin" {
		return false, nil
	}
	if c.UserID == userID || role == "admin" && permission == Read && (a.admins || c.Internal()) {
		return true, nil
	}
	continues, err := a.store.SharedMode(ctx, c.ID)
	if err != nil {
		return false, err
	}
	if continues {
		if ok, err := a.grants.Can(ctx, userID, ResourceType, c.ID, Read); ok || err != nil {
			return ok, err
		}
	}
	if c.FolderID == nil || *c.FolderID == "" {
		return false, nil
	}
	f, err := a.folders.Find(ctx, userID, *c.FolderID, folders.Read)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && (permission == Read || f.Continues()), err
}

// Get reads a chat that a user may read or write; store.ErrNotFound where there is none such.
func (a *Access) Get(ctx context.Context, userID, role, chatID, permission string) (*Chat, error) {
	c, err := a.store.Get(ctx, chatID)
	if err != nil {
		return nil, err
	}
	ok, err := a.Can(ctx, userID, role, c, permission)
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return c, err
}

// Recall is Get for chats that are opened again and again.
func (a *Access) Recall(ctx context.Context, userID, role, chatID, permission string) (*Known, error) {
	k, err := a.store.Recall(ctx, chatID)
	if err != nil {
		return nil, err
	}
	ok, err := a.Can(ctx, userID, role, k.chat, permission)
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return k, err
}
