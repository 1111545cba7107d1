package chats

import (
	"context"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
)

// Head reads a chat, without its document, that a user may read or write; store.ErrNotFound where there is none such.
func (a *Access) Head(ctx context.Context, userID, role, chatID, permission string) (*Chat, error) {
	c, err := a.store.Head(ctx, chatID)
	if err != nil {
		return nil, err
	}
	ok, err := a.Can(ctx, userID, role, c, permission)
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return c, err
}

// Writable is Head for a user who wants to write.
func (a *Access) Writable(ctx context.Context, u *users.User, id string) (*Chat, error) {
	return a.Head(ctx, u.ID, u.Role, id, Write)
}
