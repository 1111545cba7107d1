package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// factor stands for the module of second factors.
type factor struct{ begun []session.OAuth }

func (f *factor) StartLogin(ctx context.Context, _ *users.User, _ *users.Credential, _ string) (*session.Challenge, error) {
	f.begun = append(f.begun, session.OAuthOf(ctx))
	return &session.Challenge{NextStep: "verify", Token: "a challenge", ExpiresIn: 300}, nil
}

func (*factor) Throttle(context.Context, string) error { return nil }

func TestSecondStep(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	f := &factor{}
	w.Sessions.SetFactor(f)
	w.Set("auth.mfa.enable", true)
	b := w.browser()
	if got := b.signIn("ann"); got != "mfa=1" {
		t.Fatal(got)
	}
	ann := w.account("ann@example.com")
	c := b.cookies["mfa_challenge"]
	if c == nil || c.Value != "a challenge" || c.Path != "/api/v1/auths/mfa" || !c.HttpOnly || c.MaxAge != 300 || b.cookies["token"] != nil || b.cookies["oauth_session_id"] != nil {
		t.Errorf("cookies %v", b.cookies)
	}
	if len(f.begun) != 1 || f.begun[0] != (session.OAuth{SessionID: w.stored(ann.ID)[0].ID, Provider: "oidc"}) {
		t.Errorf("begun %+v", f.begun)
	}
	w.Set("ui.default_user_role", "pending")
	w.Add("bob", person("bob"))
	b = w.browser()
	if got := b.signIn("bob"); got != "pending=1" || b.cookies["mfa_challenge"] != nil || b.cookies["token"] != nil {
		t.Errorf("%q, cookies %v", got, b.cookies)
	}
	w.Set("auth.mfa.allow_oauth_bypass", true)
	b = w.browser()
	if got := b.signIn("ann"); got != "" || b.cookies["token"] == nil {
		t.Errorf("%q, cookies %v", got, b.cookies)
	}
}

// TestSwitchedOff is an account whose credentials were switched off.
func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	if got := w.browser().signIn("ann"); got != "" {
		t.Fatal(got)
	}
	if _, err := w.DB.Exec(ctx, `UPDATE auth SET active = $1`, false); err != nil {
		t.Fatal(err)
	}
	b := w.browser()
	if got := b.signIn("ann"); got != session.TextNoAccount || b.cookies["token"] != nil {
		t.Errorf("%q", got)
	}
}

func TestSignedOut(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	ann, id := signedIn(t, w)
	hint := func() string {
		list, err := w.OAuth.Stored(ctx, ann.ID)
		if err != nil {
			t.Fatal(err)
		}
		return "id_token_hint=" + list[0].Token.Text("id_token")
	}()
	check := func(step, session, provider, want string) {
		t.Helper()
		p, to, err := w.OAuth.SignedOut(ctx, session)
		if err != nil {
			to = err.Error()
		}
		if p != provider || to != want && !strings.HasPrefix(to, want+":") {
			t.Errorf("%s: %q, %s", step, p, to)
		}
	}
	check("known", id, "oidc", w.URL+"/end_session?"+hint)
	w.Env.SignoutRedirectURL = "https://chat.example/bye"
	check("and back", id, "oidc", w.URL+"/end_session?"+hint+"&post_logout_redirect_uri=https://chat.example/bye")
	check("unknown", "nope", "", "")
	w.Set("oauth.end_session_endpoint", "https://idp.example/logout")
	check("an address of its own", id, "oidc", "https://idp.example/logout")
	check("… without a session", "nope", "", "https://idp.example/logout")
	w.Set("oauth.end_session_endpoint", "")
	w.Describe(map[string]any{"end_session_endpoint": nil})
	w.OAuth.SetNow(func() time.Time { return time.Now().Add(2 * time.Hour) })
	check("no such address", id, "oidc", "")
	w.Set("oauth.provider_url", w.URL+"/nowhere")
	check("out of order", id, "oidc", "500 Failed to sign out from the OpenID provider.")
}

func TestBackchannelLogout(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		b := w.browser()
		if got := b.signIn("ann"); got != "" {
			t.Fatal(got)
		}
		ann := w.account("ann@example.com")
		const event = "http://schemas.openid.net/event/backchannel-logout"
		now := time.Now()
		send := func(token string) string {
			status, body := w.OAuth.BackchannelLogout(ctx, token)
			if why, ok := body["error_description"].(string); ok && status == http.StatusBadRequest && body["error"] == "invalid_request" {
				return why
			}
			return http.StatusText(status)
		}
		claims := func(change func(jwt.MapClaims)) string {
			c := w.LogoutClaims("galley", "ann-1")
			change(c)
			return w.Sign(c, nil, nil)
		}
		for name, c := range map[string]struct{ token, want string }{
			"none":             {"", "Missing logout_token parameter"},
			"junk":             {"junk", "Malformed logout_token"},
			"no issuer":        {claims(func(c jwt.MapClaims) { delete(c, "iss") }), "logout_token missing iss claim"},
			"another issuer":   {claims(func(c jwt.MapClaims) { c["iss"] = "https://x" }), "No configured provider matches token issuer"},
			"another client":   {claims(func(c jwt.MapClaims) { c["aud"] = "x" }), "Invalid logout_token: Audience doesn't match"},
			"no client":        {claims(func(c jwt.MapClaims) { delete(c, "aud") }), `Invalid logout_token: Token is missing the "aud" claim`},
			"no time":          {claims(func(c jwt.MapClaims) { delete(c, "iat") }), `Invalid logout_token: Token is missing the "iat" claim`},
			"from the future":  {claims(func(c jwt.MapClaims) { c["iat"] = now.Add(time.Hour).Unix() }), "Invalid logout_token: The token is not yet valid (iat)"},
			"over":             {claims(func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Hour).Unix() }), "Invalid logout_token: Signature has expired"},
			"another event":    {claims(func(c jwt.MapClaims) { c["events"] = map[string]any{"x": 1} }), "Missing backchannel-logout event claim"},
			"an ID token":      {claims(func(c jwt.MapClaims) { c["nonce"] = "n" }), "logout_token must not contain nonce"},
			"nobody":           {claims(func(c jwt.MapClaims) { delete(c, "sub") }), "logout_token must contain sub or sid"},
			"somebody unknown": {claims(func(c jwt.MapClaims) { c["sub"] = "x" }), "OK"},
			"a session":        {claims(func(c jwt.MapClaims) { delete(c, "sub"); c["sid"] = "s" }), "OK"},
			"not signed":       {w.Sign(w.LogoutClaims("galley", "ann-1"), jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), "Invalid logout_token: The specified alg value is not allowed"},
			"a shared secret":  {w.Sign(w.LogoutClaims("galley", "ann-1"), jwt.SigningMethodHS256, []byte("a secret")), "Invalid logout_token: The specified alg value is not allowed"},
			"a signature moved": {func() string {
				a, z := claims(func(jwt.MapClaims) {}), claims(func(c jwt.MapClaims) { c["events"] = map[string]any{event: 1} })
				return a[:strings.LastIndexByte(a, '.')] + z[strings.LastIndexByte(z, '.'):]
			}(), "Invalid logout_token: Signature verification failed"},
		} {
			if got := send(c.token); got != c.want {
				t.Errorf("%s: %s", name, got)
			}
		}
		if _, err := w.Sessions.ByToken(ctx, b.cookies["token"].Value); err != nil {
			t.Fatalf("signed out by one of them: %v", err)
		}
		if got := send(claims(func(c jwt.MapClaims) { c["aud"] = []string{"x", "galley"}; delete(c, "exp") })); got != "OK" {
			t.Error(got)
		}
		replica := session.New(session.Options{Users: users.New(db), Access: w.Access, Settings: w.Settings, Env: w.Env})
		for name, s := range map[string]*session.Sessions{"here": w.Sessions, "on a replica": replica} {
			if _, err := s.ByToken(ctx, b.cookies["token"].Value); err == nil {
				t.Errorf("still signed in %s", name)
			}
		}
		if n := len(w.stored(ann.ID)); n != 0 {
			t.Errorf("%d stored sessions", n)
		}
		if !slices.Contains(w.Realtime.Take(), "disconnect "+ann.ID) {
			t.Error("still connected")
		}
		// keys may be exchanged
		w.Rotate()
		if got := send(claims(func(jwt.MapClaims) {})); got != "OK" {
			t.Errorf("another key: %s", got)
		}
	})
}

func TestExchange(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_TOKEN_EXCHANGE", "true")
	ann, _ := signedIn(t, w)
	access := func() string {
		list, err := w.OAuth.Stored(ctx, ann.ID)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Token.Text("access_token")
	}()
	try := func(provider, token string) string {
		t.Helper()
		out, err := w.OAuth.Exchange(ctx, provider, token, "1.2.3.4")
		var answer *web.Error
		if errors.As(err, &answer) {
			return http.StatusText(answer.Status) + ": " + answer.Detail.(string)
		}
		if err != nil {
			t.Fatal(err)
		}
		return jsondoc.Of(out).Text("email")
	}
	check := func(step, provider, token, want string) {
		t.Helper()
		if got := try(provider, token); got != want {
			t.Errorf("%s: %s", step, got)
		}
	}
	check("good", "OIDC", access, "ann@example.com")
	check("no such provider", "Google", access, "Not Found: Provider 'google' is not configured")
	check("no token", "oidc", "x", "Bad Request: Invalid token or unable to validate with provider")
	w.Set("oauth.allowed_domains", []string{"x.test"})
	check("domain", "oidc", access, "Forbidden: "+prohibited)
	w.Set("oauth.allowed_domains", []string{"*"}, "oauth.enable_role_mapping", true)
	check("no roles", "oidc", access, "Forbidden: "+prohibited)
	w.Add("ann", person("ann", "email", "ann@example.com", "roles", []string{"admin"}, "groups", []string{"g"}))
	if _, err := w.Access.Groups().Insert(ctx, groups.NewGroup{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	w.Set("oauth.enable_group_mapping", true)
	check("roles and groups", "oidc", access, "ann@example.com")
	if list, err := w.Access.Groups().OfUser(ctx, ann.ID, false); err != nil || len(list) != 1 || !w.account("ann@example.com").IsAdmin() {
		t.Errorf("%d groups, %v", len(list), err)
	}
	w.Env.OAuth.ExchangeClients = []string{"mobile"}
	check("another client's", "oidc", access, "Forbidden: "+prohibited)
	w.Env.OAuth.ExchangeClients = []string{"mobile", "galley"}
	check("a trusted client's", "oidc", access, "ann@example.com")
	check("inactive", "oidc", "x", "Bad Request: Unable to determine which client the token was issued to")
	w.Add("ann", oidctest.Person{"sub": "ann-1"})
	check("no address", "oidc", access, "Bad Request: Token missing required email claim")
	w.Add("ann", oidctest.Person{"email": "a@x.test"})
	check("no subject", "oidc", access, "Bad Request: Token missing required 'sub' claim")
	w.Add("ann", oidctest.Person{"sub": "new", "email": "new@x.test"})
	check("nobody known", "oidc", access, "Forbidden: User not found. Please sign in via the web interface first.")
	if w.account("new@x.test") != nil {
		t.Error("an account was made")
	}
	w.Env.OAuth.TokenExchange = false
	check("switched off", "oidc", access, "Forbidden: Token exchange is disabled")

	limited := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_TOKEN_EXCHANGE", "true", "OAUTH_TOKEN_EXCHANGE_RATE_LIMIT", "2")
	for i, want := range []string{"Not Found", "Not Found", "Too Many Requests"} {
		if _, err := limited.OAuth.Exchange(ctx, "x", "y", "1.2.3.4"); err == nil || !strings.HasPrefix(err.Error()[4:], map[string]string{"Not Found": "Provider", "Too Many Requests": "API rate"}[want]) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
