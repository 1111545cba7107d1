// Package factor asks for second factors: codes of an authenticator app (TOTP), and recovery codes for those who lost it.
//
// Who has proved the first factor is given a challenge in place of a session: a token by which a factor may be set up, or
// a code be given, for five minutes and five tries. All there is of it is stored in the account's row (auth.mfa), as the
// reference does: replicas on one database share challenges, limits and used codes, and a restart loses none. Changes are
// compare-and-swap, so that of two requests with one code one succeeds; a new password, an end of all sessions and a change
// of policy in between end every challenge.
package factor

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Options are what Factors need. Log, Events and Now may be nil. Reset needs but Users.
type Options struct {
	Users    *users.Store
	Settings *config.Settings
	Env      *config.Env
	Sessions *session.Sessions
	Events   *events.Bus
	Log      *slog.Logger
	Now      func() time.Time
}

// Factors asks for second factors. It implements session.Factor. Its methods may be called at once; their errors are
// answers.
type Factors struct {
	o   Options
	key func() (fernet.Key, error)
}

// New makes Factors. Give them to Sessions.SetFactor to have them asked for.
func New(o Options) *Factors {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Factors{o: o, key: sync.OnceValues(func() (fernet.Key, error) { return secretsKey(o.Env) })}
}

// challengeSeconds is how long a challenge may be met, and how long after a sign-in a factor may be changed.
const challengeSeconds = 300

// TextExpired refuses a challenge that is over or never was.
const TextExpired = "This authentication step expired. Please start again."

func (f *Factors) now() int64 { return f.o.Now().Unix() }

func (f *Factors) enabled() bool { return config.AuthMFAEnable.Get(f.o.Settings.Snapshot()) }

// credential reads the credentials of an account that may be used, and the state of its factor.
func (f *Factors) credential(ctx context.Context, userID string) (*users.Credential, *state, error) {
	c, err := f.o.Users.Credential(ctx, userID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !c.Active {
		return nil, nil, web.Fail(http.StatusUnauthorized, session.TextNoAccount)
	}
	if err != nil {
		return nil, nil, unavailable(err)
	}
	s, err := parse(c.MFA)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	return c, s, nil
}

func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return web.Because(http.StatusServiceUnavailable, session.TextUnavailable, err)
}

// change is a change of an account's state while it is made.
type change struct {
	*state
	cred   *users.Credential
	now    int64
	revoke bool // ends all sessions
	// refused is the answer though the change is stored, since a try that fails counts.
	refused error
}

// casTries is how often a change is made anew because another request was quicker.
const casTries = 5

// edit reads an account's state, has f change it and stores it; it begins anew where another request was quicker. An error
// of f leaves all as it was. It gives the credentials as they are then.
func (f *Factors) edit(ctx context.Context, userID string, do func(*change) error) (*change, error) {
	for range casTries {
		c, s, err := f.credential(ctx, userID)
		if err != nil {
			return nil, err
		}
		ch := &change{state: s, cred: c, now: f.now()}
		if err := do(ch); err != nil {
			return nil, err
		}
		ch.cred, err = f.o.Users.SetMFA(ctx, c, s.doc(), ch.revoke)
		switch {
		case err == nil:
			return ch, ch.refused
		case !errors.Is(err, users.ErrStale):
			return nil, unavailable(err)
		}
	}
	return nil, web.Fail(http.StatusConflict, "Authentication is busy. Please try again.")
}

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
func (f *Factors) StartLogin(ctx context.Context, _ *users.User, c *users.Credential, l session.Login) (*session.Challenge, error) {
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
		token, next := newChallenge(ch.cred, kind, l.Method, ch.now, ch.now)
		next.OAuthSession, next.Provider = orNull(l.OAuthSession), orNull(l.Provider)
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
	Login      session.Login     // how the sign-in began
	AuthTime   int64             // and when
	// Replaced says that it was not a sign-in: there is a factor in place of another.
	Replaced bool
	// Codes are the recovery codes of a factor that was set up.
	Codes []string
}

func passed(ch *change, u *users.User, c *challenge) *Passed {
	return &Passed{User: u, Credential: ch.cred, AuthTime: c.AuthTime, Replaced: c.Type == replace,
		Login: session.Login{Method: c.Method, OAuthSession: text(c.OAuthSession), Provider: text(c.Provider)}}
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

// Status is what people are told of their factor.
type Status struct {
	Enabled  bool `json:"enabled"`
	Required bool `json:"required"`
	Codes    int  `json:"recovery_codes_remaining"`
}

// Status says whether the caller has a factor and needs one.
func (f *Factors) Status(ctx context.Context, p *auth.Principal) (*Status, error) {
	_, s, err := f.credential(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	return &Status{Enabled: text(s.Secret) != "", Required: f.o.Sessions.FactorRequired(p.Claims.Method), Codes: len(s.Recovery)}, nil
}

// manage has the caller change their factor, for which they need a code and a session that began a moment ago.
func (f *Factors) manage(ctx context.Context, p *auth.Principal, code string, byRecovery bool, do func(*change)) (*change, error) {
	if f.now()-p.Claims.AuthTime > challengeSeconds {
		return nil, web.Fail(http.StatusForbidden, "reauthentication_required")
	}
	if !f.enabled() {
		return nil, web.Fail(http.StatusForbidden, "MFA is disabled.")
	}
	ch, err := f.edit(ctx, p.ID, func(ch *change) error {
		if ch.cred.Stamp != p.Claims.Stamp {
			return web.Fail(http.StatusUnauthorized, "Session expired. Please sign in again.")
		}
		if err := f.count(ctx, ch, "factor"); err != nil {
			return err
		}
		if ch.refused = f.consume(ch.state, code, byRecovery, ch.now); ch.refused == nil {
			do(ch)
		}
		return nil
	})
	if err != nil {
		f.failed(ctx, ch, err)
	}
	return ch, err
}

// Replace begins to set up another factor in place of the caller's.
func (f *Factors) Replace(ctx context.Context, p *auth.Principal, code string, byRecovery bool) (*session.Challenge, error) {
	var out *session.Challenge
	_, err := f.manage(ctx, p, code, byRecovery, func(ch *change) {
		token, next := newChallenge(ch.cred, replace, p.Claims.Method, p.Claims.AuthTime, ch.now)
		ch.Manage, out = next, next.answer(token, ch.now)
	})
	if err != nil {
		return nil, err
	}
	if byRecovery {
		f.publish(ctx, "auth.mfa.recovery_used", p.ID)
	}
	return out, nil
}

// RenewCodes gives the caller new recovery codes in place of the old ones. It ends all sessions.
func (f *Factors) RenewCodes(ctx context.Context, p *auth.Principal, code string, byRecovery bool) ([]string, error) {
	codes, hashes := recoveryCodes()
	_, err := f.manage(ctx, p, code, byRecovery, func(ch *change) {
		ch.Recovery, ch.revoke = hashes, true
		ch.dropChallenges()
	})
	if err != nil {
		return nil, err
	}
	f.o.Sessions.Disconnect(p.ID)
	f.publish(ctx, "auth.mfa.recovery_codes_regenerated", p.ID)
	return codes, nil
}

// log writes down what happened, whether or not anybody hears of it by an event.
func (f *Factors) log(ctx context.Context, name, userID, reason string) {
	args := []any{"event", name, "user_id", userID}
	if reason != "" {
		args = append(args, "reason", reason)
	}
	f.o.Log.InfoContext(ctx, "second factor", args...)
}

func (f *Factors) publish(ctx context.Context, name, userID string) {
	f.log(ctx, name, userID, "")
	f.o.Events.Publish(ctx, events.Event{Name: name, SubjectType: "user", SubjectID: userID, Data: map[string]string{"event": name}})
}
