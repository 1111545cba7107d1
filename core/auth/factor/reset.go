package factor

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// ticketSeconds is how long the token of an operator is good.
const ticketSeconds = 1800

// Reset removes the factor of somebody who lost it and their recovery codes, ends their sessions, and gives a token for
// them: who signs in with the password and gives the token may set up a new factor. It is for an operator who has made
// sure who asks. The errors are for the operator.
func (f *Factors) Reset(ctx context.Context, email, reason string) (token string, err error) {
	u, err := f.o.Users.ByEmail(ctx, strings.TrimSpace(email))
	if errors.Is(err, store.ErrNotFound) {
		return "", errors.New("there is no account with that address")
	}
	if err != nil {
		return "", err
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", errors.New("a reason is needed")
	}
	f.log(ctx, "auth.mfa.reset_requested", u.ID, reason)
	token = newToken()
	_, err = f.edit(ctx, u.ID, func(ch *change) error {
		ch.dropChallenges()
		ch.Secret, ch.LastStep, ch.Recovery = nil, -1, nil
		ch.MustReset, ch.revoke = true, true
		ch.Ticket = &ticket{Hash: hashOf(token), Expires: ch.now + ticketSeconds}
		return nil
	})
	if err != nil {
		return "", err
	}
	f.log(ctx, "auth.mfa.reset_completed", u.ID, reason)
	return token, nil
}

// Redeem takes the token of an operator, once: a new factor may be set up.
func (f *Factors) Redeem(ctx context.Context, challengeToken, token string) (*session.Challenge, error) {
	var out *session.Challenge
	_, _, _, err := f.try(ctx, challengeToken, func(ch *change, _ *users.User, c *challenge) error {
		if t := ch.Ticket; !ch.MustReset || t == nil || t.Expires <= ch.now || !sameHash(t.Hash, hashOf(token)) {
			return web.Fail(http.StatusUnauthorized, "Invalid or expired operator recovery token.")
		}
		fresh, next := newChallenge(ch.cred, enroll, c.Method, c.AuthTime, ch.now)
		next.OAuthSession, next.Provider = c.OAuthSession, c.Provider
		ch.Ticket, ch.Login, out = nil, next, next.answer(fresh, ch.now)
		return nil
	}, recovery)
	if err != nil {
		return nil, err
	}
	return out, nil
}
