package factor

import (
	"context"
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/web"
)

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
