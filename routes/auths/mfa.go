package auths

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// factorRoutes are those of second factors where none is asked for: no challenge was ever given out, so none is known.
func (m *Module) factorRoutes(g *web.Group) {
	g.Add("GET /mfa/status", do(auth.Any, m.factorStatus))
	g.Add("POST /mfa/challenge", do(auth.Public, m.challenge))
	g.Add("POST /mfa/enroll/start", do(auth.Public, func(c *web.Call, in challengeIn) (jsondoc.Doc, error) { return m.noChallenge(c, in.Body.Token) }))
	g.Add("POST /mfa/enroll/confirm", do(auth.Public, m.noVerify))
	g.Add("POST /mfa/verify", do(auth.Public, m.noVerify))
	g.Add("POST /mfa/recover", do(auth.Public, func(c *web.Call, in recoverIn) (jsondoc.Doc, error) { return m.noChallenge(c, in.Body.Token) }))
	g.Add("POST /mfa/replace", do(auth.Any, m.manage))
	g.Add("POST /mfa/recovery/codes", do(auth.Any, m.manage))
}

type factorAnswer struct {
	Enabled  bool `json:"enabled"`
	Required bool `json:"required"`
	Codes    int  `json:"recovery_codes_remaining"`
}

func (m *Module) factorStatus(c *web.Call, _ web.None) (*factorAnswer, error) {
	if !c.Principal.Human() {
		return nil, web.Fail(http.StatusForbidden, session.TextHuman)
	}
	cred, err := m.Users.Credential(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	return &factorAnswer{Enabled: cred.MFA.Get("secret").Truthy(), Required: m.Sessions.FactorRequired(c.Principal.Claims.Method),
		Codes: cred.MFA.Get("recovery_hashes").Len()}, nil
}

const (
	challengeCookie = "mfa_challenge"
	textStepExpired = "This authentication step expired. Please start again."
	// reauthAfter is how long after a sign-in the second factor may be changed.
	reauthAfter = 5 * time.Minute
)

// challenge is for browsers that come back from another sign-in with a cookie, and from this server's pages only.
func (m *Module) challenge(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	base := config.WebUIURL.Get(m.Settings.Snapshot())
	expected := c.Origin()
	if u, err := url.Parse(base); base != "" && err == nil {
		expected = u.Scheme + "://" + u.Host
	}
	if c.R.Header.Get("Origin") != expected {
		return nil, web.Fail(http.StatusForbidden, "Invalid request origin.")
	}
	http.SetCookie(c.W, &http.Cookie{Name: challengeCookie, Path: "/api/v1/auths/mfa", MaxAge: -1, SameSite: http.SameSiteLaxMode})
	return nil, web.Fail(http.StatusUnauthorized, textStepExpired)
}

type challengeIn struct {
	Body struct {
		web.Forbid
		Token string `json:"challenge_token" minlen:"20" maxlen:"160"`
	}
}

type verifyIn struct {
	Body struct {
		web.Forbid
		Token    string `json:"challenge_token" minlen:"20" maxlen:"160"`
		Code     string `json:"code" minlen:"1" maxlen:"128"`
		Recovery bool   `json:"recovery" default:"false"`
	}
}

type recoverIn struct {
	Body struct {
		web.Forbid
		Token string `json:"challenge_token" minlen:"20" maxlen:"160"`
		Reset string `json:"reset_token" minlen:"20" maxlen:"160"`
	}
}

func (m *Module) noVerify(c *web.Call, in verifyIn) (jsondoc.Doc, error) {
	return m.noChallenge(c, in.Body.Token)
}

// noChallenge refuses a challenge as the reference refuses one that is over, or of an account that is not there.
func (m *Module) noChallenge(c *web.Call, token string) (jsondoc.Doc, error) {
	id, _, ok := strings.Cut(token, ".")
	if ok && len(id) <= 64 {
		cred, err := m.Users.Credential(c.Context(), id)
		if errors.Is(err, store.ErrNotFound) || err == nil && !cred.Active {
			return nil, web.Fail(http.StatusUnauthorized, session.TextNoAccount)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, web.Fail(http.StatusUnauthorized, textStepExpired)
}

type factorIn struct {
	Body struct {
		web.Forbid
		Code     string `json:"code" minlen:"1" maxlen:"128"`
		Recovery bool   `json:"recovery" default:"false"`
	}
}

// manage refuses changes of a second factor.
func (m *Module) manage(c *web.Call, _ factorIn) (jsondoc.Doc, error) {
	switch {
	case !c.Principal.Human():
		return nil, web.Fail(http.StatusForbidden, session.TextHuman)
	case time.Now().Unix()-c.Principal.Claims.AuthTime > int64(reauthAfter/time.Second):
		return nil, web.Fail(http.StatusForbidden, "reauthentication_required")
	case !config.AuthMFAEnable.Get(m.Settings.Snapshot()):
		return nil, web.Fail(http.StatusForbidden, "MFA is disabled.")
	}
	return nil, web.Fail(http.StatusServiceUnavailable, "Authentication is temporarily unavailable.")
}
