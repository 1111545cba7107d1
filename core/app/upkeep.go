package app

import (
	"context"
)

// upkeep prepares a large database for lists and searches, after the server has become ready and while it serves.
type upkeep struct{ *App }

// Run implements Runner.
func (u upkeep) Run(ctx context.Context) {
	if err := u.DB.MakeIndexes(ctx, u.Log); err != nil && ctx.Err() == nil {
		u.Log.Warn("indexes not looked at", "error", err)
	}
	if err := u.Chats.PrepareSearch(ctx, u.Log); err != nil && ctx.Err() == nil {
		u.Log.Warn("search not prepared", "error", err)
	}
}
