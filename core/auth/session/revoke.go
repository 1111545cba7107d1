package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/auth"
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

// revokedElsewhere says whether any process has revoked a token. While nobody can be asked, what the database says counts,
// as in the reference: sessions are not to end because Redis does.
func (s *Sessions) revokedElsewhere(ctx context.Context, claims auth.Claims) bool {
	if s.o.Shared == nil {
		return false
	}
	gone, err := s.o.Shared.Revoked(ctx, claims)
	return err == nil && gone
}

// SignOut ends the session of the bearer token that a sign-out came with and that of the browser's cookie, each "" for
// none: they are refused from now on, by all processes. Whether it does is [config.Env.SignOutRevokes]; a session that is
// not ended stays good, and only the browser forgets it. SignOut gives the account's id, "" for tokens that are not good
// anyway.
func (s *Sessions) SignOut(ctx context.Context, bearer, cookie string) (userID string, err error) {
	var good []auth.Claims
	person := false
	for i, token := range []string{bearer, cookie} {
		claims, err := s.o.Tokens.Parse(token)
		if err != nil || claims.JTI == "" {
			continue
		}
		// What was signed out or revoked before must not disconnect newer sessions.
		if _, err := s.check(ctx, claims); err != nil {
			continue
		}
		person = person || i == 1
		good = append(good, claims)
	}
	if len(good) == 0 {
		return "", nil
	}
	userID = good[0].ID
	switch asked := s.o.Env.SignOutRevokes; {
	case asked != nil && *asked, asked == nil && (person || s.o.Shared != nil):
	case s.o.Shared != nil:
		good = good[:1] // as the reference
	default:
		return userID, nil
	}
	for _, claims := range good {
		if err := s.revoke(ctx, claims); err != nil {
			return "", err
		}
	}
	if _, err := s.db.Exec(ctx, `DELETE FROM galley_revoked_token WHERE expires_at > 0 AND expires_at < $1`, s.now().Unix()); err != nil {
		return userID, fmt.Errorf("forget expired tokens: %w", err)
	}
	return userID, nil
}

// revoke has a token refused. The database knows it too where there is Redis, which may be down or lose it.
func (s *Sessions) revoke(ctx context.Context, claims auth.Claims) error {
	if _, err := s.db.Exec(ctx, `INSERT INTO galley_revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING`,
		claims.JTI, claims.Expires); err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	if s.o.Shared != nil {
		// A failure is in the log, and the session has ended all the same for who asks the database.
		_ = s.o.Shared.Revoke(ctx, claims.JTI, claims.Expires)
	}
	s.cache.forget(claims.ID)
	s.Disconnect(claims.ID)
	return nil
}

// RevokeUser ends all sessions of an account, and its live connections.
func (s *Sessions) RevokeUser(ctx context.Context, userID string) error {
	if _, err := s.o.Users.RevokeSessions(ctx, userID); err != nil {
		return err
	}
	s.Disconnect(userID)
	return nil
}
