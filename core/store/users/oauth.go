package users

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// OAuthSession is a row of the table oauth_session: tokens that a provider gave for an account. Times are Unix seconds.
type OAuthSession struct {
	ID        string
	UserID    string
	Provider  string // google, oidc…, or mcp:ID for a tool server
	Token     string // encrypted
	ExpiresAt int64
	CreatedAt int64
	UpdatedAt int64
}

const oauthColumns = `id, user_id, provider, token, expires_at, created_at, updated_at`

func scanOAuth(r store.Row) (*OAuthSession, error) {
	o := &OAuthSession{}
	err := r.Scan(&o.ID, &o.UserID, &o.Provider, &o.Token, &o.ExpiresAt, &o.CreatedAt, &o.UpdatedAt)
	return o, err
}

// OAuthSessions gives the provider sessions of an account, the earliest first.
func (s *Store) OAuthSessions(ctx context.Context, userID string) ([]*OAuthSession, error) {
	rows, err := s.db.Query(ctx, `SELECT `+oauthColumns+` FROM oauth_session WHERE user_id = $1 ORDER BY created_at, id`, userID)
	return store.Collect(rows, err, func(r *sql.Rows) (*OAuthSession, error) { return scanOAuth(r) })
}

// OAuthSession finds a provider session; ErrNotFound where there is none.
func (s *Store) OAuthSession(ctx context.Context, id string) (*OAuthSession, error) {
	return scanOAuth(s.db.QueryRow(ctx, `SELECT `+oauthColumns+` FROM oauth_session WHERE id = $1`, id))
}

// AddOAuthSession stores a session with a provider, of which an account keeps the newest keep; its ID and times are set.
func (s *Store) AddOAuthSession(ctx context.Context, o *OAuthSession, keep int) error {
	o.ID, o.CreatedAt = store.NewID(), time.Now().Unix()
	o.UpdatedAt = o.CreatedAt
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM oauth_session WHERE user_id = $1 AND provider = $2 AND id NOT IN (
			SELECT id FROM oauth_session WHERE user_id = $1 AND provider = $2 ORDER BY created_at DESC, id LIMIT $3)`,
			o.UserID, o.Provider, max(keep-1, 0)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO oauth_session (`+oauthColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			o.ID, o.UserID, o.Provider, o.Token, o.ExpiresAt, o.CreatedAt, o.UpdatedAt)
		return err
	})
	if err != nil {
		return fmt.Errorf("store OAuth session: %w", err)
	}
	return nil
}

// RenewOAuthSession replaces the token of a session; one that is gone stays gone.
func (s *Store) RenewOAuthSession(ctx context.Context, o *OAuthSession, token string, expiresAt int64) error {
	if _, err := s.db.Exec(ctx, `UPDATE oauth_session SET token = $2, expires_at = $3, updated_at = $4 WHERE id = $1`,
		o.ID, token, expiresAt, time.Now().Unix()); err != nil {
		return fmt.Errorf("renew OAuth session: %w", err)
	}
	return nil
}

// DropOAuthSession removes a session, unless its token is not the one that was read any more.
func (s *Store) DropOAuthSession(ctx context.Context, o *OAuthSession) error {
	if _, err := s.db.Exec(ctx, `DELETE FROM oauth_session WHERE id = $1 AND token = $2`, o.ID, o.Token); err != nil {
		return fmt.Errorf("delete OAuth session: %w", err)
	}
	return nil
}

// DeleteOAuthSessions removes an account's sessions with a provider, "" for all, and says whether there were any.
func (s *Store) DeleteOAuthSessions(ctx context.Context, userID, provider string) (bool, error) {
	n, err := store.Affected(s.db.Exec(ctx, `DELETE FROM oauth_session WHERE user_id = $1 AND (provider = $2 OR $2 = '')`, userID, provider))
	if err != nil {
		return false, fmt.Errorf("delete OAuth sessions: %w", err)
	}
	return n > 0, nil
}

// ByOAuth finds the account that a provider (a name of letters and digits) knows under a subject; ErrNotFound where there
// is none. Older versions of the reference stored numeric subjects as numbers.
func (s *Store) ByOAuth(ctx context.Context, provider, subject string) (*User, error) {
	sub := `CAST(` + s.db.Dialect().JSONText("oauth", provider+".sub") + ` AS TEXT)`
	return scan(s.db.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE `+sub+` = $1 ORDER BY created_at, id LIMIT 1`, subject))
}

// LinkOAuth notes the subject under which a provider knows an account.
func (s *Store) LinkOAuth(ctx context.Context, id, provider, subject string) (*User, error) {
	return s.Edit(ctx, id, func(u *User) []Field {
		all := jsondoc.Open(u.OAuth)
		own := jsondoc.Open(all.Get(provider))
		own.Set("sub", jsondoc.Text(subject))
		all.Set(provider, own.Doc())
		return []Field{SetOAuth(all.Doc())}
	})
}

// ClaimOAuthRenewal says whether the caller, of all servers on the database, may renew a session's token now. It has d for
// that, and calls DoneOAuthRenewal in the end.
func (s *Store) ClaimOAuthRenewal(ctx context.Context, id string, d time.Duration) (bool, error) {
	now := time.Now()
	n, err := store.Affected(s.db.Exec(ctx, `INSERT INTO galley_oauth_renewal (session_id, until) VALUES ($1, $2)
		ON CONFLICT (session_id) DO UPDATE SET until = excluded.until WHERE galley_oauth_renewal.until < $3`,
		id, now.Add(d).UnixMilli(), now.UnixMilli()))
	if err != nil {
		return false, fmt.Errorf("claim renewal: %w", err)
	}
	return n > 0, nil
}

// DoneOAuthRenewal lets others renew the session's token again.
func (s *Store) DoneOAuthRenewal(ctx context.Context, id string) error {
	_, err := s.db.Exec(ctx, `DELETE FROM galley_oauth_renewal WHERE session_id = $1 OR until < $2`, id, time.Now().Add(-time.Hour).UnixMilli())
	return err
}
