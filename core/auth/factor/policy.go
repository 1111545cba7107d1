package factor

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// policy is who is asked for a second factor.
type policy [len(policyKeys)]bool

// policyKeys are its settings; the first is whether factors are asked for at all.
var policyKeys = [...]config.Bool{config.AuthMFAEnable, config.AuthMFAAllowOAuthBypass, config.AuthMFAAllowTrustedHeaderBypass}

// ErrPolicy says that second factors cannot be asked for as the settings are.
var ErrPolicy = errors.New("second factors cannot be asked for")

func noPolicy(why string) error { return fmt.Errorf("%w: %s", ErrPolicy, why) }

func (p *policy) set(i int, v jsontext.Value) error {
	switch v.Kind() {
	case 't', 'f':
		p[i] = v.Kind() == 't'
		return nil
	}
	return noPolicy("a setting of them is neither true nor false")
}

// stored reads the policy from the database and holds it until the transaction ends, so that of two changes at once, by
// whatever replica, the second sees the first.
func (f *Factors) stored(ctx context.Context, tx *store.Tx) (p policy, err error) {
	if !f.o.Settings.Persistent() {
		for i, k := range policyKeys {
			p[i] = k.Get(f.o.Settings.Snapshot())
		}
		return p, nil
	}
	if _, err := tx.Exec(ctx, `UPDATE config SET value = value WHERE key = $1`, policyKeys[0].Key()); err != nil {
		return p, err
	}
	for i, k := range policyKeys {
		var v jsondoc.Doc
		err := tx.QueryRow(ctx, `SELECT value FROM config WHERE key = $1`, k.Key()).Scan(&v)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = p.set(i, jsontext.Value(v))
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// Apply stores settings among which may be those of second factors: value gives what a key is to be. A change of those
// takes a person, and ends all sessions in the same transaction.
func (f *Factors) Apply(ctx context.Context, p *auth.Principal, value func(key string) (jsontext.Value, bool), put func(*store.Tx) error) (revoked bool, err error) {
	asked := map[int]jsontext.Value{}
	for i, k := range policyKeys {
		if v, ok := value(k.Key()); ok {
			asked[i] = v
		}
	}
	db := f.o.Users.DB()
	if len(asked) == 0 {
		return false, db.Tx(ctx, put)
	}
	if !p.Human() {
		return false, web.Fail(http.StatusForbidden, "A human administrator session is required to change MFA settings.")
	}
	var ended []string
	err = db.Tx(ctx, func(tx *store.Tx) error {
		ended, revoked = nil, false
		now, err := f.stored(ctx, tx)
		if err != nil {
			return refusedPolicy(err)
		}
		want := now
		for i, v := range asked {
			if err := want.set(i, v); err != nil {
				return refusedPolicy(err)
			}
		}
		if err := f.possible(ctx, tx, want); err != nil {
			return refusedPolicy(err)
		}
		if err := put(tx); err != nil || want == now {
			return err
		}
		revoked = true
		ended, err = f.o.Users.RevokeAllTx(ctx, tx)
		return err
	})
	if err != nil {
		return false, err
	}
	if revoked {
		f.o.Sessions.Disconnect(ended...)
		f.publish(ctx, "auth.mfa.policy_changed", p.ID)
	}
	return revoked, nil
}

// refusedPolicy is the answer to a policy that is no good; errors of the database stay what they are.
func refusedPolicy(err error) error {
	if errors.Is(err, ErrPolicy) {
		return web.Because(http.StatusConflict, "Unable to update MFA policy. Check configuration and retry.", err)
	}
	return err
}

// Check says whether the server can start with the policy it has: with second factors on, every secret must be readable.
// It is ErrPolicy where it cannot.
func (f *Factors) Check(ctx context.Context) error {
	return f.possible(ctx, f.o.Users.DB(), policy{f.enabled()})
}

// possible says whether a policy can be had: asking for factors takes accounts, stored settings, a key, and that all secrets
// were stored under that key.
func (f *Factors) possible(ctx context.Context, q store.Querier, p policy) error {
	if !p[0] {
		return nil
	}
	if !f.o.Env.Auth || !f.o.Settings.Persistent() {
		return noPolicy("ENABLE_MFA needs WEBUI_AUTH and ENABLE_PERSISTENT_CONFIG")
	}
	key, err := f.key()
	if err != nil {
		return noPolicy(err.Error())
	}
	return f.o.Users.EachMFA(ctx, q, func(raw jsondoc.Doc) error {
		s, err := parse(raw)
		if err == nil && text(s.Secret) != "" {
			_, err = key.Decrypt(*s.Secret)
		}
		switch {
		case errors.Is(err, fernet.ErrToken):
			return noPolicy("stored secrets cannot be read; restore the WEBUI_SECRET_KEY or MFA_ENCRYPTION_KEY that they were stored under")
		case err != nil:
			return noPolicy(err.Error())
		}
		return nil
	})
}
