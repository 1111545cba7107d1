package app

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
)

// ResetFactor removes the second factor of an account in the database that a server has, which may be running, and gives
// the token with which its owner can set up another. See [factor.Factors.Reset].
func ResetFactor(ctx context.Context, c Config, email, reason string) (token string, err error) {
	o := storeOptions(c.Env)
	o.Existing = true
	db, err := store.Open(ctx, c.Env.Database.URL, o)
	if err != nil {
		return "", databaseError(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	out := c.Log
	if out == nil {
		out = io.Discard
	}
	return factor.New(factor.Options{Users: users.New(db), Env: c.Env, Log: slog.New(slog.NewTextHandler(out, nil))}).Reset(ctx, email, reason)
}
