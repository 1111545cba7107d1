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
	"sync"
	"time"

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
