package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/store"
)

func (s *Sessions) revoked(ctx context.Context, jti string) (bool, error) {
	if jti == "" {
		return false, nil
	}
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1 FROM galley_revoked_token WHERE jti = $1`, jti).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// SignOut ends the session of a token: it is refused from now on, here and on other replicas within their TTL. It gives
// the account's id, "" for a token that is not good anyway. Where the operator has not asked for it
// (GALLEY_SIGNOUT_REVOKES) the token stays good, as it does in the reference without Redis.
func (s *Sessions) SignOut(ctx context.Context, token string) (userID string, err error) {
	claims, err := s.o.Tokens.Parse(token)
	if err != nil || claims.JTI == "" {
		return "", nil
	}
	// What was signed out or revoked before must not disconnect newer sessions.
	if _, err := s.check(ctx, claims); err != nil {
		return "", nil
	}
	if !s.o.Env.SignOutRevokes {
		return claims.ID, nil
	}
	now := s.now().Unix()
	if _, err := s.db.Exec(ctx, `INSERT INTO galley_revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING`,
		claims.JTI, claims.Expires); err != nil {
		return "", fmt.Errorf("revoke token: %w", err)
	}
	s.cache.forget(claims.ID)
	if _, err := s.db.Exec(ctx, `DELETE FROM galley_revoked_token WHERE expires_at > 0 AND expires_at < $1`, now); err != nil {
		return claims.ID, fmt.Errorf("forget expired tokens: %w", err)
	}
	s.Disconnect(claims.ID)
	return claims.ID, nil
}

// RevokeUser ends all sessions of an account, and its live connections.
func (s *Sessions) RevokeUser(ctx context.Context, userID string) error {
	if _, err := s.o.Users.RevokeSessions(ctx, userID); err != nil {
		return err
	}
	s.Disconnect(userID)
	return nil
}
