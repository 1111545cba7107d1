package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// limiter bounds exchanges by caller; nil lets all pass.
type limiter struct{ *auth.RateLimiter }

func newLimiter(o config.OAuth) limiter {
	if o.ExchangeLimit <= 0 {
		return limiter{}
	}
	return limiter{auth.NewRateLimiter(o.ExchangeLimit, o.ExchangeWindow)}
}

// Exchange begins a session for the bearer of an access token that a provider has given to another program; the account
// must be there already. The answer is that of a sign-in; errors are answers.
func (s *Service) Exchange(ctx context.Context, id, accessToken, caller string) (any, error) {
	if !s.Env.OAuth.TokenExchange {
		return nil, web.Fail(http.StatusForbidden, textNoExchange)
	}
	if s.exchanges.RateLimiter != nil && s.exchanges.Limited(caller) {
		return nil, web.Fail(http.StatusTooManyRequests, textRateLimited)
	}
	id = strings.ToLower(id)
	p := s.provider(id)
	if p == nil {
		return nil, web.Fail(http.StatusNotFound, "Provider '"+id+"' is not configured")
	}
	bad := func(text string, err error) error { return web.Because(http.StatusBadRequest, text, err) }
	m, err := s.describe(ctx, p)
	if trusted := s.Env.OAuth.ExchangeClients; len(trusted) > 0 {
		var client string
		if err == nil {
			client, err = s.introspect(ctx, p, m, accessToken)
		}
		switch {
		case err != nil:
			return nil, bad("Unable to determine which client the token was issued to", err)
		case !slices.Contains(trusted, client):
			return nil, errProhibited
		}
	}
	var claims *jsondoc.Obj
	if err == nil {
		claims, err = s.userInfo(ctx, p, m, accessToken, &jsondoc.Obj{})
	}
	if err == nil && claims.Len() == 0 {
		err = errors.New("the provider says nothing of the person")
	}
	if err != nil {
		return nil, bad("Invalid token or unable to validate with provider", err)
	}
	person := &identity{provider: p, claims: claims, access: accessToken, token: jsondoc.Doc("{}")}
	if inside := unverified(accessToken); inside != nil { // the provider has accepted the token, so that its claims are the provider's
		person.token = inside
	}
	snap := s.Settings.Snapshot()
	subject := text(claims.Get(firstOf(config.OAuthSubClaim.Get(snap), p.subject, "sub")))
	if subject == "" {
		return nil, bad("Token missing required 'sub' claim", nil)
	}
	email := strings.ToLower(text(claims.Get(config.OAuthEmailClaim.Get(snap))))
	if email == "" {
		return nil, bad("Token missing required email claim", nil)
	}
	if !domainAllowed(snap, email) {
		return nil, errProhibited
	}
	u, err := s.find(ctx, person, subject, email)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, web.Fail(http.StatusForbidden, "User not found. Please sign in via the web interface first.")
	}
	if u, err = s.setRole(ctx, person, u); err != nil {
		return nil, err
	}
	if config.OAuthEnableGroupMapping.Get(snap) {
		if err := s.syncGroups(ctx, person, u); err != nil {
			return nil, err
		}
	}
	out, err := s.Sessions.SignIn(ctx, nil, u, nil, "oauth")
	if _, ok := out.(*session.Session); ok && err == nil {
		s.signedIn(ctx, u)
	}
	return out, err
}

// introspect asks the provider (RFC 7662) which client an access token was given to.
func (s *Service) introspect(ctx context.Context, p *provider, m *metadata, accessToken string) (string, error) {
	address := m.Text("introspection_endpoint")
	if address == "" {
		return "", errors.New("the provider has no introspection endpoint")
	}
	c := &tokenClient{http: s.HTTP, timeout: p.timeout, url: address, id: p.clientID, secret: p.secret, method: "client_secret_basic"}
	answer, err := c.ask(ctx, url.Values{"token": {accessToken}, "token_type_hint": {"access_token"}})
	if err != nil {
		return "", err
	}
	if !answer.Get("active").Truthy() || answer.Text("client_id") == "" {
		return "", errors.New("the token is not active, or nobody's in particular")
	}
	return answer.Text("client_id"), nil
}
