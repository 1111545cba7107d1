package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/store"
)

// oldDatabase is how the reference's file was called in its first weeks. It renames such a file to webui.db at each start.
const oldDatabase = "ollama.db"

// refuseOllama refuses a data folder whose database is still called ollama.db, rather than to make a new one beside it.
func refuseOllama(env *config.Env) error {
	old, now := filepath.Join(env.DataDir, oldDatabase), filepath.Join(env.DataDir, "webui.db")
	if _, err := os.Stat(old); err != nil {
		return nil
	}
	if _, err := os.Stat(now); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is of the time before Open WebUI's first release; make a backup and start Open WebUI %s once on it, which brings it up to date; nothing was changed",
			store.ErrForeign, old, store.Release)
	}
	return nil
}

// loadSecretKey finds the key that sessions are signed with, and tells what a new one means for those who have accounts.
func (a *App) loadSecretKey(ctx context.Context) error {
	own := a.Env.SecretKeyFile
	created, err := a.Env.LoadSecretKey()
	if err != nil {
		return &SettingError{Err: err}
	}
	if !created {
		if a.Env.SecretKeyFile != own {
			a.Log.Info("secret key of Open WebUI's start", "file", a.Env.SecretKeyFile)
		}
		return a.tellOtherKey(ctx)
	}
	a.Log.Info("new secret key", "file", a.Env.SecretKeyFile)
	var accounts, tokens, factors int64
	err = a.DB.QueryRow(ctx, `SELECT (SELECT count(*) FROM auth), (SELECT count(*) FROM oauth_session),
		(SELECT count(*) FROM auth WHERE NOT `+a.DB.Dialect().JSONIsNull("mfa")+`)`).Scan(&accounts, &tokens, &factors)
	if err != nil {
		return fmt.Errorf("count accounts: %w", err)
	}
	if accounts > 0 {
		a.Log.Warn("the database has accounts, but no secret key was found and a new one was made: everybody has to sign in again, and stored OAuth tokens, "+
			"second factors and other things that were encrypted with the old one cannot be read; to prevent it set WEBUI_SECRET_KEY to the one Open WebUI has, "+
			"or WEBUI_SECRET_KEY_FILE to its file "+config.SecretKeyName+" in the folder it was started in",
			"accounts", accounts, "oauth_tokens", tokens, "second_factors", factors)
	}
	return nil
}

// tellOtherKey says where stored tokens were encrypted with another key than the one there is: sessions are signed with it
// too. Of second factors that cannot be read the start is told by their policy.
func (a *App) tellOtherKey(ctx context.Context) error {
	var token string
	switch err := a.DB.QueryRow(ctx, "SELECT token FROM oauth_session ORDER BY updated_at DESC LIMIT 1").Scan(&token); {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("read a token: %w", err)
	}
	key, err := fernet.NewKey(a.Env.OAuth.SessionTokenKey)
	if err != nil {
		return &SettingError{Err: fmt.Errorf("OAUTH_SESSION_TOKEN_ENCRYPTION_KEY: %w", err)}
	}
	if _, err := key.Decrypt(token); err != nil {
		a.Log.Warn("stored OAuth tokens cannot be read with this secret key, so those who have them sign in again; set WEBUI_SECRET_KEY, or OAUTH_SESSION_TOKEN_ENCRYPTION_KEY, to the one that Open WebUI has")
	}
	return nil
}
