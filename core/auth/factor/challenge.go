package factor

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// newChallenge makes a challenge for an account, and its token: the account's id leads to the row that has its hash.
func newChallenge(c *users.Credential, kind, method string, authTime, now int64) (string, *challenge) {
	token := c.ID + "." + newToken()
	return token, &challenge{Hash: hashOf(token), Type: kind, Expires: now + challengeSeconds, Method: method, AuthTime: authTime, Stamp: orNull(c.Stamp)}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// answer is what the client is told of a challenge.
func (c *challenge) answer(token string, now int64) *session.Challenge {
	next := c.Type
	if next == replace {
		next = enroll
	}
	return &session.Challenge{NextStep: next, Token: token, ExpiresIn: max(0, c.Expires-now)}
}

// StartLogin implements session.Factor: it begins the second step of a sign-in, which ends one that was begun before.
func (f *Factors) StartLogin(ctx context.Context, _ *users.User, c *users.Credential, method string) (*session.Challenge, error) {
	var out *session.Challenge
	_, err := f.edit(ctx, c.ID, func(ch *change) error {
		if ch.cred.Stamp != c.Stamp || ch.cred.Password != c.Password {
			return web.Fail(http.StatusConflict, session.TextChanged)
		}
		kind := enroll
		switch {
		case ch.MustReset:
			kind = recovery
		case ch.Secret != nil && *ch.Secret != "":
			kind = verify
		}
		token, next := newChallenge(ch.cred, kind, method, ch.now, ch.now)
		from := session.OAuthOf(ctx)
		next.OAuthSession, next.Provider = orNull(from.SessionID), orNull(from.Provider)
		ch.Login, out = next, next.answer(token, ch.now)
		return nil
	})
	return out, err
}

// Throttle implements session.Factor.
func (f *Factors) Throttle(ctx context.Context, userID string) error {
	_, err := f.edit(ctx, userID, func(ch *change) error { return f.count(ctx, ch, "password") })
	return err
}

func (f *Factors) count(ctx context.Context, ch *change, kind string) error {
	err := ch.state.count(kind, ch.now)
	if err != nil {
		f.log(ctx, "auth.mfa.throttled", ch.cred.ID, "")
	}
	return err
}

// slot finds the challenge of a token among those of an account, if its kind is one of kinds and it is not over.
func (s *state) slot(token string, kinds ...string) **challenge {
	hash := hashOf(token)
	for _, slot := range []**challenge{&s.Login, &s.Manage} {
		c := *slot
		if c == nil || !sameHash(c.Hash, hash) {
			continue
		}
		for _, kind := range kinds {
			if c.Type == kind {
				return slot
			}
		}
	}
	return nil
}

// meet checks that a token is that of a challenge which may be met now.
func (f *Factors) meet(ctx context.Context, cred *users.Credential, s *state, token string, now int64, kinds ...string) (*users.User, *challenge, error) {
	slot := s.slot(token, kinds...)
	if slot == nil || (*slot).Expires <= now || text((*slot).Stamp) != cred.Stamp {
		return nil, nil, web.Fail(http.StatusUnauthorized, TextExpired)
	}
	u, err := f.o.Users.ByID(ctx, cred.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, unavailable(err)
	}
	if u == nil || !u.IsVerified() {
		return nil, nil, web.Fail(http.StatusForbidden, "Account is awaiting approval.")
	}
	if !f.enabled() {
		return nil, nil, web.Fail(http.StatusForbidden, "MFA is disabled. Please sign in again.")
	}
	return u, *slot, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// owner is the account that a token names.
func owner(token string) (string, error) {
	id, _, ok := strings.Cut(token, ".")
	if !ok || utf8.RuneCountInString(id) > 64 {
		return "", web.Fail(http.StatusUnauthorized, TextExpired)
	}
	return id, nil
}

// try has somebody meet a challenge: do looks at what they give, and an error of it is a try that failed, which counts.
func (f *Factors) try(ctx context.Context, token string, do func(*change, *users.User, *challenge) error, kinds ...string) (*change, *users.User, *challenge, error) {
	id, err := owner(token)
	if err != nil {
		return nil, nil, nil, err
	}
	var u *users.User
	var c *challenge
	ch, err := f.edit(ctx, id, func(ch *change) (err error) {
		if u, c, err = f.meet(ctx, ch.cred, ch.state, token, ch.now, kinds...); err != nil {
			return err
		}
		if c.Attempts >= triesPerChallenge {
			return tooMany("Too many codes. Please sign in again.", c.Expires-ch.now)
		}
		if err := ch.state.count("factor", ch.now); err != nil {
			return err
		}
		c.Attempts++
		ch.refused = do(ch, u, c)
		return nil
	})
	return ch, u, c, err
}

// Find gives a challenge for a browser that came back from another sign-in with its token in a cookie.
func (f *Factors) Find(ctx context.Context, token string) (*session.Challenge, error) {
	id, err := owner(token)
	if err != nil {
		return nil, err
	}
	cred, s, err := f.credential(ctx, id)
	if err != nil {
		return nil, err
	}
	now := f.now()
	_, c, err := f.meet(ctx, cred, s, token, now, enroll, verify, recovery)
	if err != nil {
		return nil, err
	}
	return c.answer(token, now), nil
}

// Setup is what people need to add an account to an authenticator.
type Setup struct {
	Key string `json:"manual_key"`
	QR  string `json:"qr_code"` // data URL of a picture
}

// StartEnrollment gives the secret of a factor that is being set up; the same one for the same challenge.
func (f *Factors) StartEnrollment(ctx context.Context, token string) (*Setup, error) {
	id, err := owner(token)
	if err != nil {
		return nil, err
	}
	cred, s, err := f.credential(ctx, id)
	if err != nil {
		return nil, err
	}
	u, c, err := f.meet(ctx, cred, s, token, f.now(), enroll, replace)
	if err != nil {
		return nil, err
	}
	if text(c.Secret) == "" {
		_, err := f.edit(ctx, id, func(ch *change) (err error) {
			if u, c, err = f.meet(ctx, ch.cred, ch.state, token, ch.now, enroll, replace); err != nil || text(c.Secret) != "" {
				return err // another request was quicker
			}
			stored, err := f.encrypt(newSecret())
			c.Secret = &stored
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	secret, err := f.decrypt(*c.Secret)
	if err != nil {
		return nil, err
	}
	qr, err := qrImage(provisioningURI(secret, u.Email))
	if err != nil {
		return nil, err
	}
	return &Setup{Key: secret, QR: qr}, nil
}

// Passed is a challenge that was met.
type Passed struct {
	User       *users.User
	Credential *users.Credential // as they are now
	Method     string            // how the sign-in began
	AuthTime   int64             // and when
	OAuth      session.OAuth     // and where, if it was by OAuth
	// Replaced says that it was not a sign-in: there is a factor in place of another.
	Replaced bool
	// Codes are the recovery codes of a factor that was set up.
	Codes []string
}

func passed(ch *change, u *users.User, c *challenge) *Passed {
	return &Passed{User: u, Credential: ch.cred, AuthTime: c.AuthTime, Replaced: c.Type == replace,
		Method: c.Method, OAuth: session.OAuth{SessionID: text(c.OAuthSession), Provider: text(c.Provider)}}
}

// ConfirmEnrollment makes a secret the factor of its account, given a code of it. It ends all sessions.
func (f *Factors) ConfirmEnrollment(ctx context.Context, token, code string) (*Passed, error) {
	var codes []string
	ch, u, c, err := f.try(ctx, token, func(ch *change, _ *users.User, c *challenge) error {
		step, ok := int64(0), false
		if text(c.Secret) != "" {
			secret, err := f.decrypt(*c.Secret)
			if err != nil {
				return err
			}
			step, ok = matchingStep(secret, strings.TrimSpace(code), ch.now, -1)
		}
		if !ok {
			return web.Fail(http.StatusUnauthorized, "Invalid code. Check your authenticator and try again.")
		}
		var hashes []string
		codes, hashes = recoveryCodes()
		ch.Secret, ch.LastStep, ch.Recovery, ch.MustReset, ch.revoke = c.Secret, step, hashes, false, true
		ch.dropChallenges()
		return nil
	}, enroll, replace)
	if err != nil {
		f.failed(ctx, ch, err)
		return nil, err
	}
	out := passed(ch, u, c)
	out.Codes = codes
	f.o.Sessions.Disconnect(u.ID)
	name := "auth.mfa.enrolled"
	if out.Replaced {
		name = "auth.mfa.replaced"
	}
	f.publish(ctx, name, u.ID)
	return out, nil
}

// Verify takes a code, of the authenticator or a recovery code, for the second step of a sign-in.
func (f *Factors) Verify(ctx context.Context, token, code string, byRecovery bool) (*Passed, error) {
	ch, u, c, err := f.try(ctx, token, func(ch *change, _ *users.User, _ *challenge) error {
		if err := f.consume(ch.state, code, byRecovery, ch.now); err != nil {
			return err
		}
		ch.Login = nil
		return nil
	}, verify)
	if err != nil {
		f.failed(ctx, ch, err)
		return nil, err
	}
	if byRecovery {
		f.publish(ctx, "auth.mfa.recovery_used", u.ID)
	}
	return passed(ch, u, c), nil
}

// failed tells of a code that was not good; ch is nil where none was looked at.
func (f *Factors) failed(ctx context.Context, ch *change, err error) {
	var e *web.Error
	if ch != nil && errors.As(err, &e) {
		f.publish(ctx, "auth.mfa.failed", ch.cred.ID)
	}
}
