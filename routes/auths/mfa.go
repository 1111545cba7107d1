package auths

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/web"
)

// factorRoutes are those of second factors.
func (m *Module) factorRoutes(g *web.Group) {
	g.Add("GET /mfa/status", human(m.factorStatus))
	g.Add("POST /mfa/challenge", do(auth.Public, m.challenge))
	g.Add("POST /mfa/enroll/start", do(auth.Public, m.startEnrollment))
	g.Add("POST /mfa/enroll/confirm", do(auth.Public, m.confirmEnrollment))
	g.Add("POST /mfa/verify", do(auth.Public, m.verify))
	g.Add("POST /mfa/recover", do(auth.Public, m.redeem))
	g.Add("POST /mfa/replace", human(m.replaceFactor))
	g.Add("POST /mfa/recovery/codes", human(m.renewCodes))
}

func (m *Module) factorStatus(c *web.Call, _ web.None) (*factor.Status, error) {
	return m.Factors.Status(c.Context(), c.Principal)
}

// The cookie in which a browser brings a challenge along from a redirect, and where it is sent to.
const (
	challengeCookie = "mfa_challenge"
	challengePath   = "/api/v1/auths/mfa"
)

// challenge is for browsers that come back from another sign-in with a cookie, and from this server's pages only.
func (m *Module) challenge(c *web.Call, _ web.None) (*session.Challenge, error) {
	base := config.WebUIURL.Get(m.Settings.Snapshot())
	expected := c.Origin()
	if u, err := url.Parse(base); base != "" && err == nil {
		expected = u.Scheme + "://" + u.Host
	}
	if c.R.Header.Get("Origin") != expected {
		return nil, web.Fail(http.StatusForbidden, "Invalid request origin.")
	}
	session.DropCookieAt(c.W, challengeCookie, challengePath)
	token := ""
	if cookie, err := c.R.Cookie(challengeCookie); err == nil {
		token = cookie.Value
	}
	out, err := m.Factors.Find(c.Context(), token)
	if e := (*web.Error)(nil); errors.As(err, &e) {
		return nil, web.Because(http.StatusUnauthorized, factor.TextExpired, err)
	}
	return out, err
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

type redeemIn struct {
	Body struct {
		web.Forbid
		Token string `json:"challenge_token" minlen:"20" maxlen:"160"`
		Reset string `json:"reset_token" minlen:"20" maxlen:"160"`
	}
}

type factorIn struct {
	Body struct {
		web.Forbid
		Code     string `json:"code" minlen:"1" maxlen:"128"`
		Recovery bool   `json:"recovery" default:"false"`
	}
}

func (m *Module) startEnrollment(c *web.Call, in challengeIn) (*factor.Setup, error) {
	return m.Factors.StartEnrollment(c.Context(), in.Body.Token)
}

type codesAnswer struct {
	Codes []string `json:"recovery_codes"`
}

type enrolledAnswer struct {
	session.Session `json:",inline"`
	codesAnswer     `json:",inline"`
}

// confirmEnrollment takes the first code of a new factor. In place of another factor it begins no session: all are over.
func (m *Module) confirmEnrollment(c *web.Call, in verifyIn) (any, error) {
	p, err := m.Factors.ConfirmEnrollment(c.Context(), in.Body.Token, in.Body.Code)
	if err != nil {
		return nil, err
	}
	if p.Replaced {
		return &codesAnswer{p.Codes}, nil
	}
	s, err := m.finish(c, p)
	if err != nil {
		return nil, err
	}
	return &enrolledAnswer{*s, codesAnswer{p.Codes}}, nil
}

func (m *Module) verify(c *web.Call, in verifyIn) (*session.Session, error) {
	p, err := m.Factors.Verify(c.Context(), in.Body.Token, in.Body.Code, in.Body.Recovery)
	if err != nil {
		return nil, err
	}
	return m.finish(c, p)
}

// finish begins the session of somebody who met a challenge.
func (m *Module) finish(c *web.Call, p *factor.Passed) (*session.Session, error) {
	ctx := c.Context()
	out, err := m.Sessions.Begin(ctx, c.W, p.User, p.Credential, auth.Claims{Method: p.Method, AuthTime: p.AuthTime, MFAVerified: true})
	if err != nil {
		return nil, err
	}
	if id := p.OAuth.SessionID; id != "" {
		there, err := m.Users.OAuthSessions(ctx, p.User.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range there {
			if s.ID == id {
				m.Sessions.SetOAuthCookie(c.W, id, out.ExpiresAt)
			}
		}
	}
	session.DropCookieAt(c.W, challengeCookie, challengePath)
	m.Events.Publish(ctx, events.Event{Name: "auth.login", Actor: p.User, SubjectType: "user", SubjectID: p.User.ID, Source: p.Method,
		Data: map[string]string{"auth_method": p.Method}})
	return out, nil
}

func (m *Module) replaceFactor(c *web.Call, in factorIn) (*session.Challenge, error) {
	return m.Factors.Replace(c.Context(), c.Principal, in.Body.Code, in.Body.Recovery)
}

func (m *Module) renewCodes(c *web.Call, in factorIn) (*codesAnswer, error) {
	codes, err := m.Factors.RenewCodes(c.Context(), c.Principal, in.Body.Code, in.Body.Recovery)
	if err != nil {
		return nil, err
	}
	return &codesAnswer{codes}, nil
}

func (m *Module) redeem(c *web.Call, in redeemIn) (*session.Challenge, error) {
	return m.Factors.Redeem(c.Context(), in.Body.Token, in.Body.Reset)
}
