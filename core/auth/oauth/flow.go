package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Cookies of people who signed in at a provider.
const (
	// SessionCookie names the stored session with the provider.
	SessionCookie = "oauth_session_id"
	// IDTokenCookie holds the ID token, for programs in front of this one.
	IDTokenCookie = "oauth_id_token"
)

// errNoProvider is the answer where a provider is not offered.
var errNoProvider = web.Fail(http.StatusNotFound, textNotFound)

// authorization begins a request for authorization: the address to send the browser to, and what is to be remembered.
func authorization(endpoint, clientID, redirect, scope string, pkce bool, params map[string]any) (string, pending, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return "", pending{}, fmt.Errorf("authorization endpoint %q is no address", endpoint)
	}
	p := pending{State: rand.Text(), Redirect: redirect}
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", clientID)
	if redirect != "" {
		q.Set("redirect_uri", redirect)
	}
	if scope != "" {
		q.Set("scope", scope)
	}
	for name, v := range params {
		text, isText := v.(string)
		if !isText {
			text = fmt.Sprint(v)
		}
		q.Set(name, text)
	}
	if pkce {
		p.Verifier = oauth2.GenerateVerifier()
		q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(p.Verifier))
		q.Set("code_challenge_method", "S256")
	}
	q.Set("state", p.State)
	u.RawQuery = q.Encode()
	return u.String(), p, nil
}

// Login begins a sign-in at a provider and gives where the browser is to go. The error is an answer: 404 where the
// provider is not offered.
func (s *Service) Login(w http.ResponseWriter, r *http.Request, id string) (string, error) {
	p := s.enabled(id)
	if p == nil {
		return "", errNoProvider
	}
	ctx := r.Context()
	to, err := s.login(w, r, p)
	if err != nil {
		s.Log.WarnContext(ctx, "a sign-in could not begin", "provider", id, "error", err)
		return s.back(r, textFailed), nil
	}
	return to, nil
}

func (s *Service) login(w http.ResponseWriter, r *http.Request, p *provider) (string, error) {
	m, err := s.describe(r.Context(), p)
	if err != nil {
		return "", err
	}
	params := map[string]any{}
	if audience := config.OAuthAudience.Get(s.Settings.Snapshot()); audience != "" {
		params["audience"] = audience
	}
	for _, more := range []map[string]any{s.Env.OAuth.AuthorizeParams, p.params} {
		for name, v := range more {
			params[name] = v
		}
	}
	nonce := ""
	if p.wantsOpenID() {
		nonce = rand.Text()
		params["nonce"] = nonce
	}
	redirect := firstOf(p.redirect, baseURL(r)+"/oauth/"+p.id+"/callback")
	to, state, err := authorization(m.Text("authorization_endpoint"), p.clientID, redirect, p.scope, p.pkce, params)
	if err != nil {
		return "", err
	}
	state.Provider, state.Nonce = p.id, nonce
	return to, s.states.add(w, r, state, s.now())
}

// back is the address of the sign-in page, with what went wrong.
func (s *Service) back(r *http.Request, wrong string) string {
	to := s.publicURL(r) + "/auth"
	if wrong != "" {
		to += "?error=" + url.QueryEscape(wrong)
	}
	return to
}

// failure is an error that the person is told of as something that the administrator has to look at.
func failure(err error) error { return web.Because(http.StatusBadRequest, textFailed, err) }

// Callback ends a sign-in that Login began: it gives where the browser is to go, after the cookies of a session or those
// of its second step were set. The error is an answer: 404 where the provider is not offered.
func (s *Service) Callback(w http.ResponseWriter, r *http.Request, id string) (string, error) {
	p := s.enabled(id)
	if p == nil {
		return "", errNoProvider
	}
	ctx := r.Context()
	wrong := func(err error) (string, error) {
		text := textUnexpected
		var answer *web.Error
		if errors.As(err, &answer) {
			if detail, ok := answer.Detail.(string); ok {
				text = detail
			}
		}
		s.Log.WarnContext(ctx, "a sign-in failed", "provider", id, "error", err)
		return s.back(r, text), nil
	}
	token, person, err := s.exchangeCode(w, r, p)
	if err != nil {
		return wrong(err)
	}
	u, err := s.account(ctx, person)
	if err != nil {
		return wrong(err)
	}
	row, err := s.keep(ctx, u.ID, p.id, token, s.Env.OAuth.MaxSessions)
	if err != nil {
		s.Log.ErrorContext(ctx, "tokens of a provider are not stored", "user_id", u.ID, "provider", id, "error", err)
		row = &users.OAuthSession{}
	}
	out, err := s.Sessions.SignIn(session.WithOAuth(ctx, session.OAuth{SessionID: row.ID, Provider: p.id}), nil, u, nil, "oauth")
	if err != nil {
		return wrong(err)
	}
	w.Header().Set("Cache-Control", "no-store")
	to := s.back(r, "")
	begun, ok := out.(*session.Session)
	if !ok {
		return to + s.secondStep(w, jsondoc.Of(out)), nil
	}
	s.signedIn(ctx, u)
	s.setCookie(w, "token", begun.Token, begun.ExpiresAt, false) // the sign-in page reads it
	if row.ID != "" {
		s.setCookie(w, SessionCookie, row.ID, begun.ExpiresAt, true)
	}
	if idToken := token.Text("id_token"); idToken != "" && s.Env.OAuth.IDTokenCookie {
		s.setCookie(w, IDTokenCookie, idToken, begun.ExpiresAt, true)
	}
	return to, nil
}

// challengeCookie takes the browser's challenge to the page that asks for the second factor.
const (
	challengeCookie = "mfa_challenge"
	challengePath   = "/api/v1/auths/mfa"
	challengeLife   = 300
)

// secondStep has the browser go on with what the answer to a sign-in asks for, and gives the query of the sign-in page.
func (s *Service) secondStep(w http.ResponseWriter, answer jsondoc.Doc) string {
	session.DropCookie(w, "token")
	if answer.Text("next_step") == "pending" {
		return "?pending=1"
	}
	http.SetCookie(w, &http.Cookie{Name: challengeCookie, Value: answer.Text("challenge_token"), MaxAge: challengeLife, Path: challengePath, HttpOnly: true,
		Secure: s.Env.Cookies.AuthSecure, SameSite: s.Env.Cookies.AuthSameSite})
	return "?mfa=1"
}

func (s *Service) setCookie(w http.ResponseWriter, name, value string, expires *int64, hidden bool) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: hidden, Secure: s.Env.Cookies.AuthSecure, SameSite: s.Env.Cookies.AuthSameSite}
	if expires != nil {
		c.MaxAge = int(max(1, *expires-s.now().Unix()))
	}
	http.SetCookie(w, c)
}

// identity is who a provider says that somebody is.
type identity struct {
	provider *provider
	claims   *jsondoc.Obj
	token    jsondoc.Doc // claims of the access token, where nothing else vouches for the person; nil at a sign-in
	access   string      // token
	origins  []string    // of the provider: where the access token may be sent
}

// exchangeCode takes the code that the provider has sent the browser back with, and gives the tokens and the person.
func (s *Service) exchangeCode(w http.ResponseWriter, r *http.Request, p *provider) (*jsondoc.Obj, *identity, error) {
	q := r.URL.Query()
	state := s.states.take(w, r, p.id, q.Get("state"), s.now())
	if code := q.Get("error"); code != "" {
		return nil, nil, failure(&tokenError{code: code, description: q.Get("error_description")})
	}
	if state == nil || state.UserID != "" {
		return nil, nil, failure(errors.New("the state does not belong to a sign-in that this browser has begun"))
	}
	ctx := r.Context()
	m, err := s.describe(ctx, p)
	if err != nil {
		return nil, nil, failure(err)
	}
	if iss := q.Get("iss"); iss != "" && m.Text("issuer") != "" && iss != m.Text("issuer") {
		return nil, nil, failure(fmt.Errorf("the answer is of another issuer, %q", iss))
	}
	token, err := s.askForCode(ctx, p, m, q.Get("code"), state)
	if err != nil {
		return nil, nil, failure(err)
	}
	claims := &jsondoc.Obj{}
	if idToken := token.Text("id_token"); idToken != "" && state.Nonce != "" {
		verified, err := s.verify(ctx, p, m, idToken, token.Text("access_token"), state.Nonce)
		if err != nil {
			return nil, nil, failure(err)
		}
		token.Set("userinfo", verified)
		claims = jsondoc.Open(verified)
	}
	snap := s.Settings.Snapshot()
	if !claims.Has(config.OAuthEmailClaim.Get(snap)) || !claims.Has(config.OAuthUsernameClaim.Get(snap)) {
		if claims, err = s.userInfo(ctx, p, m, token.Text("access_token"), claims); err != nil {
			return nil, nil, err
		}
	}
	if claims.Len() == 0 {
		return nil, nil, failure(errors.New("the provider says nothing of the person"))
	}
	return token, &identity{provider: p, claims: claims, access: token.Text("access_token"), origins: m.origins()}, nil
}

func (s *Service) askForCode(ctx context.Context, p *provider, m *metadata, code string, state *pending) (*jsondoc.Obj, error) {
	if code == "" {
		return nil, errors.New("there is no code")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {state.Redirect}}
	if state.Verifier != "" {
		form.Set("code_verifier", state.Verifier)
	}
	c := s.tokenClient(p, m)
	c.sendID = s.Env.OAuth.IncludeClientID
	token, err := c.ask(ctx, form)
	if err == nil {
		if _, ok := number(token.Get("expires_at")); !ok && token.Get("expires_in").Truthy() {
			if life, ok := number(token.Get("expires_in")); ok {
				token.Set("expires_at", jsondoc.Of(s.now().Unix()+life))
			}
		}
	}
	return token, err
}

// userInfo asks the provider about the person, and adds what the ID token has said beyond that.
func (s *Service) userInfo(ctx context.Context, p *provider, m *metadata, access string, idToken *jsondoc.Obj) (*jsondoc.Obj, error) {
	if access == "" || m.Text("userinfo_endpoint") == "" {
		return nil, errors.New("the provider cannot be asked about the person")
	}
	doc, err := fetchJSON(ctx, s.HTTP, m.Text("userinfo_endpoint"), access, p.timeout)
	if err != nil {
		return nil, err
	}
	claims := jsondoc.Open(doc)
	if inner := claims.Get("data"); p.id == "feishu" && inner != nil {
		claims = jsondoc.Open(inner)
	}
	if sub := claims.Get("sub"); sub != nil && idToken.Has("sub") && text(sub) != text(idToken.Get("sub")) {
		return nil, failure(errors.New("user info is somebody else's"))
	}
	idToken.Each(func(name string, v jsondoc.Doc) bool {
		if !claims.Has(name) {
			claims.Set(name, v)
		}
		return true
	})
	return claims, nil
}

// origins are the servers of a provider.
func (m *metadata) origins() []string {
	var out []string
	for _, name := range []string{"issuer", "userinfo_endpoint"} {
		if u, err := url.Parse(m.Text(name)); err == nil && u.Host != "" {
			out = append(out, u.Scheme+"://"+u.Host)
		}
	}
	return out
}
