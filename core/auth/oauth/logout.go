package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// SignedOut says what is to follow when the browser with a stored session has signed out here: the provider that the
// session is of ("" where it is not known), and where the browser goes to end the provider's session too ("" for nowhere).
// The error is an answer.
func (s *Service) SignedOut(ctx context.Context, sessionID string) (provider, to string, err error) {
	row, err := found(s.Users.OAuthSession(ctx, sessionID))
	if err != nil {
		return "", "", err
	}
	var token jsondoc.Doc
	if row != nil {
		provider = row.Provider
		if token, err = s.open(row); err != nil {
			s.Log.WarnContext(ctx, "tokens cannot be read", "error", err)
			row = nil
		}
	}
	snap := s.Settings.Snapshot()
	if end := config.OAuthEndSessionEndpoint.Get(snap); end != "" || row == nil {
		return provider, end, nil
	}
	p := s.provider(row.Provider)
	if p == nil || p.description == "" {
		if p = s.provider("oidc"); p == nil {
			return provider, "", nil
		}
	}
	m, err := s.describe(ctx, p)
	if err != nil {
		return provider, "", web.Because(http.StatusInternalServerError, "Failed to sign out from the OpenID provider.", err)
	}
	end := m.Text("end_session_endpoint")
	if end == "" {
		return provider, "", nil
	}
	to = end + "?id_token_hint=" + firstOf(token.Text("id_token"), "None")
	if back := s.Env.SignoutRedirectURL; back != "" {
		to += "&post_logout_redirect_uri=" + back
	}
	return provider, to, nil
}

// logoutEvent is what a logout token is about.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutAlgorithms are those that logout tokens may be signed with.
var logoutAlgorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512}

// badLogout is the answer to a logout token that is not followed.
func badLogout(why string) (int, web.M) {
	return http.StatusBadRequest, web.M{"error": "invalid_request", "error_description": why}
}

// BackchannelLogout ends all sessions of the account that a provider's logout token names (OpenID Connect Back-Channel
// Logout 1.0): status and body of the answer.
func (s *Service) BackchannelLogout(ctx context.Context, token string) (int, web.M) {
	if token == "" {
		return badLogout("Missing logout_token parameter")
	}
	claims := unverified(token)
	if claims == nil || strings.Count(token, ".") != 2 {
		return badLogout("Malformed logout_token")
	}
	issuer := claims.Text("iss")
	if issuer == "" {
		return badLogout("logout_token missing iss claim")
	}
	p, m := s.issuedBy(ctx, issuer)
	if p == nil {
		s.Log.WarnContext(ctx, "a logout token of an unknown issuer", "issuer", issuer)
		return badLogout("No configured provider matches token issuer")
	}
	// from here on claims are those that the signature vouches for
	claims, err := s.verifyLogout(ctx, p, m, token)
	if err != nil {
		s.Log.WarnContext(ctx, "a logout token that is not good", "provider", p.id, "error", err)
		return badLogout("Invalid logout_token: " + err.Error())
	}
	switch {
	case claims.Get("events").Kind() != '{' || claims.Get("events", logoutEvent) == nil:
		return badLogout("Missing backchannel-logout event claim")
	case claims.Get("nonce") != nil:
		return badLogout("logout_token must not contain nonce")
	case !claims.Get("sub").Truthy() && !claims.Get("sid").Truthy():
		return badLogout("logout_token must contain sub or sid")
	}
	subject := text(claims.Get("sub"))
	u, err := found(s.Users.ByOAuth(ctx, p.id, subject))
	if err == nil && (u == nil || subject == "") {
		return http.StatusOK, web.M{}
	}
	if err == nil {
		_, err = s.Users.DeleteOAuthSessions(ctx, u.ID, "")
	}
	if err == nil {
		err = s.Sessions.RevokeUser(ctx, u.ID)
	}
	if err != nil {
		// not done, so that the provider is not to believe it
		s.Log.ErrorContext(ctx, "a provider's logout is not carried out", "provider", p.id, "error", err)
		return http.StatusInternalServerError, web.M{"error": "server_error", "error_description": "The sessions could not be ended"}
	}
	s.Log.InfoContext(ctx, "a provider has signed an account out", "provider", p.id, "user_id", u.ID)
	return http.StatusOK, web.M{}
}

// issuedBy finds the provider of an issuer.
func (s *Service) issuedBy(ctx context.Context, issuer string) (*provider, *metadata) {
	list, _ := providersOf(s.Settings.Snapshot(), s.Env)
	for _, p := range list {
		if p.description == "" {
			continue
		}
		m, err := s.describe(ctx, p)
		if err == nil && m.Text("issuer") == issuer && m.keys != nil {
			return p, m
		}
	}
	return nil, nil
}

// verifyLogout checks signature, times and addressee of a logout token. Errors are in PyJWT's words, which the answer has.
func (s *Service) verifyLogout(ctx context.Context, p *provider, m *metadata, token string) (jsondoc.Doc, error) {
	head, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	header, bad := jsondoc.Check(raw)
	switch {
	case err != nil || bad != nil:
		return nil, errors.New("Invalid header string")
	case header.Text("kid") == "":
		return nil, errors.New("logout_token missing kid header")
	case !slices.Contains(logoutAlgorithms, header.Text("alg")):
		return nil, errors.New("The specified alg value is not allowed")
	}
	payload, err := m.keys.VerifySignature(oidc.ClientContext(ctx, s.HTTP), token)
	if err != nil {
		s.Log.DebugContext(ctx, "signature of a logout token", "error", err)
		return nil, errors.New("Signature verification failed")
	}
	claims, bad := jsondoc.Check(payload)
	if bad != nil {
		return nil, errors.New("Invalid payload")
	}
	for _, name := range []string{"iss", "aud", "iat", "events"} {
		if claims.Get(name).IsNull() {
			return nil, fmt.Errorf("Token is missing the %q claim", name)
		}
	}
	audience := claims.Get("aud").Texts()
	if one, ok := claims.Get("aud").AsText(); ok {
		audience = []string{one}
	}
	issued, isTime := number(claims.Get("iat"))
	expires, ends := number(claims.Get("exp"))
	switch now := s.now(); {
	case !slices.Contains(audience, p.clientID):
		return nil, errors.New("Audience doesn't match")
	case claims.Text("iss") != m.Text("issuer"):
		return nil, errors.New("Invalid issuer")
	case !isTime:
		return nil, errors.New("Issued At claim (iat) must be an integer.")
	case time.Unix(issued, 0).After(now.Add(clockSkew)):
		return nil, errors.New("The token is not yet valid (iat)")
	case ends && !now.Before(time.Unix(expires, 0).Add(clockSkew)):
		return nil, errors.New("Signature has expired")
	}
	return claims, nil
}
