package users

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/galleychat/galley/core/store"
)

// OAuthSession is a row of the table oauth_session: tokens that a provider gave for an account. Times are Unix seconds.
type OAuthSession struct {
	ID        string `json:"id"`
	UserID    string `json:"user_id"`
	Provider  string `json:"provider"` // google, oidc…, or mcp:ID for a tool server
	ExpiresAt int64  `json:"expires_at"`
	CreatedAt int64  `json:"created_at"`
	UpdatedAt int64  `json:"updated_at"`
}

// OAuthSessions gives the provider sessions of an account, without their tokens.
func (s *Store) OAuthSessions(ctx context.Context, userID string) ([]OAuthSession, error) {
	rows, err := s.db.Query(ctx, `SELECT id, user_id, provider, expires_at, created_at, updated_at FROM oauth_session WHERE user_id = $1
		ORDER BY created_at, id`, userID)
	return store.Collect(rows, err, func(r *sql.Rows) (o OAuthSession, err error) {
		err = r.Scan(&o.ID, &o.UserID, &o.Provider, &o.ExpiresAt, &o.CreatedAt, &o.UpdatedAt)
		return
	})
}

// DeleteOAuthSessions removes an account's sessions with a provider and says whether there were any.
func (s *Store) DeleteOAuthSessions(ctx context.Context, userID, provider string) (bool, error) {
	n, err := store.Affected(s.db.Exec(ctx, `DELETE FROM oauth_session WHERE user_id = $1 AND provider = $2`, userID, provider))
	if err != nil {
		return false, fmt.Errorf("delete OAuth sessions: %w", err)
	}
	return n > 0, nil
}
