package oauth_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

var ctx = context.Background()

const (
	failed     = "Sign-in with your identity provider failed. Please contact your administrator for assistance."
	unexpected = "[ERROR: Error during OAuth process]"
	prohibited = "You do not have permission to access this resource. Please contact your administrator for assistance."
	taken      = "Uh-oh! This email is already registered. Sign in with your existing account or choose another email to start anew."
)

// world is a server and a provider that it lets people sign in at. Boss is its administrator.
type world struct {
	*sessiontest.Server
	*oidctest.Provider
	t    *testing.T
	boss *users.User

	quiet bool // sign-ins are not noted

	mu     sync.Mutex
	events []string
}

// newWorld makes one where new people may sign in; vars are more variables.
func newWorld(t *testing.T, db *store.DB, vars ...string) *world {
	t.Helper()
	p := oidctest.New(t)
	vars = append(vars, "OPENID_PROVIDER_URL", p.Discovery(), "OAUTH_CLIENT_ID", "galley", "OAUTH_CLIENT_SECRET", "a secret", "ENABLE_OAUTH_SIGNUP", "true",
		"DEFAULT_USER_ROLE", "user")
	w := &world{Server: sessiontest.New(t, db, vars...), Provider: p, t: t}
	w.boss, _ = w.User("Boss", "admin")
	w.Events.Subscribe(func(_ context.Context, e events.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if e.Name == "auth.login" && w.quiet {
			return
		}
		w.events = append(w.events, e.Name+" "+e.Source+" "+mustJSON(t, e.Data))
	})
	return w
}

// happened gives the events since it was last called.
func (w *world) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

// browser keeps cookies.
type browser struct {
	w       *world
	cookies map[string]*http.Cookie
	last    *httptest.ResponseRecorder // the answer of the last call
}

func (w *world) browser() *browser { return &browser{w: w, cookies: map[string]*http.Cookie{}} }

func (b *browser) request(address string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, address, nil)
	for _, c := range b.cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	return r
}

// get has f answer a request for an address, and keeps the cookies that it sets.
func (b *browser) get(address string, f func(http.ResponseWriter, *http.Request) (string, error)) string {
	b.w.t.Helper()
	b.last = httptest.NewRecorder()
	to, err := f(b.last, b.request(address))
	if err != nil {
		to = err.Error()
	}
	for _, c := range b.last.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c
		}
	}
	return to
}

// begin begins a sign-in and gives the address at the provider.
func (b *browser) begin(provider string) string {
	b.w.t.Helper()
	return b.get("http://chat.test/oauth/"+provider+"/login", func(w http.ResponseWriter, r *http.Request) (string, error) {
		return b.w.OAuth.Login(w, r, provider)
	})
}

// end follows the provider's answer, and gives what the sign-in page is told ("" where all is well).
func (b *browser) end(provider, callback string) string {
	b.w.t.Helper()
	to := b.get(callback, func(w http.ResponseWriter, r *http.Request) (string, error) {
		return b.w.OAuth.Callback(w, r, provider)
	})
	u, err := url.Parse(to)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != "http://chat.test/auth" {
		return to
	}
	if text := u.Query().Get("error"); text != "" {
		return text
	}
	return u.RawQuery
}

// signIn is a whole sign-in.
func (b *browser) signIn(person string) string {
	b.w.t.Helper()
	return b.end("oidc", b.w.Approve(b.w.t, person, b.begin("oidc")))
}

// account finds an account by its address; nil where there is none.
func (w *world) account(email string) *users.User {
	w.t.Helper()
	u, err := w.Users.ByEmail(ctx, email)
	if err != nil {
		return nil
	}
	return u
}

func (w *world) stored(userID string) []users.OAuthSession {
	w.t.Helper()
	rows, err := w.Users.OAuthSessions(ctx, userID)
	if err != nil {
		w.t.Fatal(err)
	}
	out := make([]users.OAuthSession, len(rows))
	for i, r := range rows {
		out[i] = *r
	}
	return out
}

// person is somebody with claims besides the usual ones.
func person(name string, more ...any) oidctest.Person {
	p := oidctest.Person{"sub": name + "-1", "email": name + "@example.com", "name": strings.ToUpper(name[:1]) + name[1:]}
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i].(string)] = more[i+1]
	}
	return p
}

func TestSignIn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "WEBUI_AUTH_COOKIE_SECURE", "true", "WEBUI_AUTH_COOKIE_SAME_SITE", "strict", "JWT_EXPIRES_IN", "2h", "OAUTH_CODE_CHALLENGE_METHOD", "S256")
		w.Add("ann", oidctest.Person{"sub": "ann-1", "email": "Ann@Example.com", "name": "Ann Example", "picture": w.URL + "/picture"})
		b := w.browser()
		to, err := url.Parse(b.begin("oidc"))
		if err != nil {
			t.Fatal(err)
		}
		q := to.Query()
		if q.Get("redirect_uri") != "http://chat.test/oauth/oidc/callback" || q.Get("scope") != "openid email profile" || q.Get("code_challenge_method") != "S256" ||
			len(q.Get("state")) < 20 || len(q.Get("nonce")) < 20 {
			t.Errorf("the provider is asked %s", to)
		}
		if c := b.cookies["owui-session"]; c == nil || !c.HttpOnly || c.Path != "/" || c.SameSite != http.SameSiteLaxMode || strings.Contains(c.Value, q.Get("state")) {
			t.Errorf("cookie of the sign-in: %v", c)
		}
		if got := b.end("oidc", w.Approve(t, "ann", to.String())); got != "" {
			t.Fatal(got)
		}
		if got := b.last.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q", got)
		}
		token, stored, id := b.cookies["token"], b.cookies["oauth_session_id"], b.cookies["oauth_id_token"]
		for _, c := range []*http.Cookie{token, stored, id} {
			if c == nil || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 7200 || c.Path != "/" || c.HttpOnly != (c != token) {
				t.Fatalf("cookie %v", c)
			}
		}
		if b.cookies["owui-session"] != nil {
			t.Error("the cookie of the sign-in is kept")
		}
		p, err := w.Sessions.ByToken(ctx, token.Value)
		if err != nil || p.Email != "ann@example.com" || p.Name != "Ann Example" || p.Role != "user" || p.Claims.Method != "oauth" {
			t.Fatalf("%+v, %v", p, err)
		}
		if string(p.OAuth) != `{"oidc":{"sub":"ann-1"}}` || !strings.HasPrefix(*p.ProfileImageURL, "data:image/png;base64,iVBOR") {
			t.Errorf("%s, picture %.40s", p.OAuth, *p.ProfileImageURL)
		}
		list, err := w.OAuth.Stored(ctx, p.ID)
		if err != nil || len(list) != 1 || list[0].ID != stored.Value || list[0].Provider != "oidc" || list[0].Token.Text("id_token") != id.Value ||
			list[0].Token.Get("userinfo").Text("sub") != "ann-1" || list[0].Token.Get("issued_at") == nil {
			t.Fatalf("stored %+v, %v", list, err)
		}
		if n, _ := list[0].Token.Int("expires_at"); n != list[0].ExpiresAt || n < time.Now().Add(59*time.Minute).Unix() {
			t.Errorf("ends at %d", n)
		}
		if raw := w.stored(p.ID)[0].Token; strings.Contains(raw, "at-") || !strings.HasPrefix(raw, "gAAAA") {
			t.Errorf("stored as %s", raw)
		}
		if got := w.happened(); !slices.Equal(got, []string{`user.created oauth {"provider":"oidc","role":"user"}`, `auth.login oauth {"auth_method":"oauth"}`}) {
			t.Errorf("events %q", got)
		}
		again := w.browser()
		if got := again.signIn("ann"); got != "" {
			t.Fatal(got)
		}
		if p2, err := w.Sessions.ByToken(ctx, again.cookies["token"].Value); err != nil || p2.ID != p.ID {
			t.Errorf("another account: %+v, %v", p2, err)
		}
		if got := w.happened(); !slices.Equal(got, []string{`auth.login oauth {"auth_method":"oauth"}`}) {
			t.Errorf("events %q", got)
		}
		if rows := w.stored(p.ID); len(rows) != 2 {
			t.Errorf("%d stored sessions", len(rows))
		}
	})
}

func TestFirstIsAdministrator(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_ROLE_MANAGEMENT", "true", "OAUTH_ALLOWED_ROLES", "staff")
	if err := w.Users.Delete(ctx, w.boss.ID); err != nil {
		t.Fatal(err)
	}
	if got := w.browser().signIn("ann"); got != "" || !w.account("ann@example.com").IsAdmin() {
		t.Errorf("%q, %+v", got, w.account("ann@example.com"))
	}
	w.Add("bob", person("bob"))
	if got := w.browser().signIn("bob"); got != "" || w.account("bob@example.com").Role != "user" {
		t.Errorf("%q", got)
	}
	// the only account is repaired
	if err := w.Users.Delete(ctx, w.account("ann@example.com").ID); err != nil {
		t.Fatal(err)
	}
	if got := w.browser().signIn("bob"); got != "" || !w.account("bob@example.com").IsAdmin() {
		t.Errorf("%q", got)
	}
}

// TestFaults has the provider answer wrongly, or an attacker in its name: nobody is signed in.
func TestFaults(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "OAUTH_CODE_CHALLENGE_METHOD", "S256")
	for _, f := range []oidctest.Fault{oidctest.WrongIssuer, oidctest.WrongAudience, oidctest.WrongNonce, oidctest.NoNonce, oidctest.Expired, oidctest.FromTheFuture,
		oidctest.ManyAudiences, oidctest.WrongHash, oidctest.AlgNone, oidctest.AlgHS256, oidctest.AlgHS256Client, oidctest.OtherKey,
		oidctest.TokenFails, oidctest.TokenRefuses, oidctest.TokenGarbage, oidctest.Denied, oidctest.OtherIss} {
		w.Do(f)
		b := w.browser()
		if got := b.signIn("ann"); got != failed || b.cookies["token"] != nil {
			t.Errorf("%s: %q, cookies %v", f, got, b.cookies)
		}
	}
	w.InToken("nothing") // so that user info is asked for
	w.Do(oidctest.UserInfoFails)
	if got := w.browser().signIn("ann"); got != unexpected {
		t.Errorf("user info fails: %q", got)
	}
	w.Do(oidctest.WrongSubject)
	if got := w.browser().signIn("ann"); got != failed {
		t.Errorf("user info of somebody else: %q", got)
	}
	if w.account("ann@example.com") != nil {
		t.Error("there is an account")
	}
	w.Do()
	if got := w.browser().signIn("ann"); got != "" {
		t.Errorf("all is well: %q", got)
	}
	w.Rotate()
	if got := w.browser().signIn("ann"); got != "" {
		t.Errorf("another key: %q", got)
	}
}

func TestProviderDown(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Do(oidctest.DiscoveryFails)
	b := w.browser()
	if got := b.begin("oidc"); got != "http://chat.test/auth?error="+url.QueryEscape(failed) {
		t.Error(got)
	}
	w.Do()
	if got := b.signIn("ann"); got != "" {
		t.Error(got)
	}
	// once it is known, its description may be gone for a while
	w.Do(oidctest.DiscoveryFails)
	w.OAuth.SetNow(func() time.Time { return time.Now().Add(2 * time.Hour) })
	if got := b.begin("oidc"); !strings.HasPrefix(got, w.URL+"/authorize?") {
		t.Error(got)
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "OAUTH_TIMEOUT", "1")
	w.Do(oidctest.Slow)
	w.Delay = time.Minute
	b := w.browser()
	to := b.begin("oidc")
	start := time.Now()
	if got := b.end("oidc", w.Approve(t, "ann", to)); got != failed || time.Since(start) > 20*time.Second {
		t.Errorf("%q after %v", got, time.Since(start))
	}
}

// TestState is about sign-ins that this browser has not begun, or that are over.
func TestState(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "GITHUB_CLIENT_ID", "galley", "GITHUB_CLIENT_SECRET", "a secret")
	for name, attack := range map[string]func(b *browser, callback string) string{
		"another state": func(b *browser, cb string) string {
			u, _ := url.Parse(cb)
			q := u.Query()
			q.Set("state", "other")
			u.RawQuery = q.Encode()
			return b.end("oidc", u.String())
		},
		"no state":         func(b *browser, cb string) string { return b.end("oidc", strings.Split(cb, "?")[0]+"?code=x") },
		"another browser":  func(_ *browser, cb string) string { return w.browser().end("oidc", cb) },
		"another provider": func(b *browser, cb string) string { return b.end("github", cb) },
		"another code": func(b *browser, cb string) string {
			return b.end("oidc", strings.ReplaceAll(cb, "code=", "code=x"))
		},
		"too late": func(b *browser, cb string) string {
			w.OAuth.SetNow(func() time.Time { return time.Now().Add(61 * time.Minute) })
			defer w.OAuth.SetNow(time.Now)
			return b.end("oidc", cb)
		},
		"a forged cookie": func(b *browser, cb string) string {
			b.cookies["owui-session"].Value = b.cookies["owui-session"].Value[:40]
			return b.end("oidc", cb)
		},
	} {
		b := w.browser()
		if got := attack(b, w.Approve(t, "ann", b.begin("oidc"))); got != failed || b.cookies["token"] != nil {
			t.Errorf("%s: %q, cookies %v", name, got, slices.Collect(maps.Keys(b.cookies)))
		}
	}
	if w.account("ann@example.com") != nil {
		t.Error("there is an account")
	}
	b := w.browser()
	cb := w.Approve(t, "ann", b.begin("oidc"))
	kept := maps.Clone(b.cookies)
	if got := b.end("oidc", cb); got != "" {
		t.Fatal(got)
	}
	if got := b.end("oidc", cb); got != failed {
		t.Errorf("replayed: %q", got)
	}
	thief := w.browser()
	thief.cookies = kept
	if got := thief.end("oidc", cb); got != failed {
		t.Errorf("replayed with the old cookie: %q", got)
	}
}

// TestTabs has several tabs of a browser sign in at once, in any order.
func TestTabs(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.browser()
	var callbacks []string
	for range 6 {
		callbacks = append(callbacks, w.Approve(t, "ann", b.begin("oidc")))
	}
	if n := len(b.cookies["owui-session"].String()); n > 4000 {
		t.Errorf("a cookie of %d bytes", n)
	}
	for i, want := range []string{failed, "", "", "", "", ""} { // the first of six is forgotten
		if got := b.end("oidc", callbacks[i]); got != want {
			t.Errorf("tab %d: %q", i, got)
		}
	}
}

// TestReplicas begins a sign-in at one server and ends it at another.
func TestReplicas(t *testing.T) {
	db := storetest.SQLite(t)
	w := newWorld(t, db)
	other := sessiontest.New(t, db, "OPENID_PROVIDER_URL", w.Discovery(), "OAUTH_CLIENT_ID", "galley", "OAUTH_CLIENT_SECRET", "a secret", "ENABLE_OAUTH_SIGNUP", "true")
	b := w.browser()
	cb := w.Approve(t, "ann", b.begin("oidc"))
	w.OAuth = other.OAuth
	if got := b.end("oidc", cb); got != "" {
		t.Error(got)
	}
}

func TestNoOpenRedirect(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Set("webui.url", "https://chat.example/")
	b := w.browser()
	to := b.begin("oidc")
	cb := w.Approve(t, "ann", to)
	for _, more := range []string{"", "&redirect=https://evil.example", "&next=//evil.example", "&redirect_uri=https://evil.example"} {
		if more != "" {
			cb = w.Approve(t, "ann", b.begin("oidc")) + more
		}
		if got := b.end("oidc", cb); got != "https://chat.example/auth" {
			t.Errorf("%q leads to %s", more, got)
		}
	}
}

// TestRequest is what providers are asked with, by settings.
func TestRequest(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "OAUTH_AUTHORIZE_PARAMS", `{"prompt":"login","max_age":60}`)
	query := func() url.Values {
		t.Helper()
		u, err := url.Parse(w.browser().begin("oidc"))
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	if q := query(); q.Get("prompt") != "login" || q.Get("max_age") != "60" || q.Has("code_challenge") || q.Has("audience") {
		t.Errorf("asked %v", q)
	}
	w.Set("oauth.audience", "api", "oauth.scopes", "email", "oauth.redirect_uri", "https://chat.example/cb", "oauth.code_challenge_method", "S256")
	if q := query(); q.Get("audience") != "api" || q.Get("scope") != "email" || q.Has("nonce") || q.Get("redirect_uri") != "https://chat.example/cb" || !q.Has("code_challenge") {
		t.Errorf("asked %v", q)
	}
	w.Set("oauth.code_challenge_method", "plain")
	if got := w.browser().begin("oidc"); got != "404 Not Found" {
		t.Error(got)
	}
	w.Set("oauth.code_challenge_method", nil, "oauth.enable", false)
	for _, got := range []string{w.browser().begin("oidc"), w.browser().end("oidc", "http://chat.test/oauth/oidc/callback?code=x")} {
		if got != "404 Not Found" {
			t.Error(got)
		}
	}
}

// TestTokenRequest is how this server shows the provider who it is.
func TestTokenRequest(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Register(oidctest.Client{ID: "public", Public: true})
	for _, c := range []struct {
		name     string
		settings []any
		include  bool
		basic    bool
		body     string // members of the form that say who asks
	}{
		{"by default", nil, false, true, ""},
		{"with the id", nil, true, true, "client_id"},
		{"post", []any{"oauth.token_endpoint_auth_method", "client_secret_post"}, false, false, "client_id client_secret"},
		{"public", []any{"oauth.token_endpoint_auth_method", nil, "oauth.client_id", "public", "oauth.client_secret", "", "oauth.code_challenge_method", "S256"}, false, false, "client_id"},
	} {
		w.Set(c.settings...)
		w.Env.OAuth.IncludeClientID = c.include
		if got := w.browser().signIn("ann"); got != "" {
			t.Errorf("%s: %q", c.name, got)
		}
		form, auth := w.LastToken()
		var body []string
		for _, name := range []string{"client_id", "client_secret"} {
			if form.Has(name) {
				body = append(body, name)
			}
		}
		if strings.HasPrefix(auth, "Basic ") != c.basic || strings.Join(body, " ") != c.body {
			t.Errorf("%s: Authorization %q, form %v", c.name, auth, form)
		}
	}
}

func TestProviders(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	names := func() string { return w.OAuth.Names(w.Settings.Snapshot()).String() }
	if got := names(); got != `{"oidc":"SSO"}` {
		t.Error(got)
	}
	w.Set("oauth.provider_name", "Staff", "oauth.google.client_id", "g", "oauth.google.client_secret", "s", "oauth.microsoft.client_id", "m", "oauth.microsoft.client_secret", "s",
		"oauth.github.client_id", "h", "oauth.github.client_secret", "s", "oauth.feishu.client_id", "f", "oauth.feishu.client_secret", "s")
	if got := names(); got != `{"google":"google","github":"github","oidc":"Staff","feishu":"feishu"}` {
		t.Error(got)
	}
	w.Set("oauth.microsoft.tenant_id", "t", "oauth.client_id", "")
	if got := names(); got != `{"google":"google","microsoft":"microsoft","github":"github","feishu":"feishu"}` {
		t.Error(got)
	}
	w.Set("oauth.google.client_secret", "", "oauth.microsoft.client_secret", nil, "oauth.github.client_id", "", "oauth.feishu.client_id", "")
	if got := names(); got != `{}` {
		t.Error(got)
	}
}

// elsewhere sends requests for hosts of the real world to the provider of the test.
type elsewhere struct{ to string }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := url.Parse(e.to)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	switch {
	case r.URL.Path == "/open-apis/authen/v2/oauth/token":
		r.URL.Path = "/token"
	case r.URL.Path == "/open-apis/authen/v1/user_info":
		r.URL.Path = "/userinfo"
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		r.URL.Path = "/.well-known/openid-configuration"
	}
	r.URL.Scheme, r.URL.Host = u.Scheme, u.Host
	return http.DefaultTransport.RoundTrip(r)
}

// TestPresets signs in at the providers that are known by name.
func TestPresets(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "GITHUB_CLIENT_ID", "galley", "GITHUB_CLIENT_SECRET", "a secret", "FEISHU_CLIENT_ID", "galley", "FEISHU_CLIENT_SECRET", "a secret",
		"GOOGLE_CLIENT_ID", "galley", "GOOGLE_CLIENT_SECRET", "a secret", "GOOGLE_OAUTH_AUTHORIZE_PARAMS", `{"access_type":"offline"}`,
		"MICROSOFT_CLIENT_ID", "galley", "MICROSOFT_CLIENT_SECRET", "a secret", "MICROSOFT_CLIENT_TENANT_ID", "t", "MICROSOFT_CLIENT_PICTURE_URL", "http://graph.test/picture?bearer=1",
		"OAUTH_CODE_CHALLENGE_METHOD", "S256")
	w.OAuth.HTTP = &http.Client{Transport: elsewhere{w.URL}}
	w.OAuth.Pictures = w.OAuth.HTTP
	w.Add("octo", oidctest.Person{"id": 583231, "login": "octo", "name": "Octo Cat", "email": nil,
		"emails": []map[string]any{{"email": "other@x.test", "primary": false}, {"email": "Octo@X.test", "primary": true}}})
	w.Add("hidden", oidctest.Person{"id": 7, "name": "Hidden", "emails": []map[string]any{}})
	w.Add("fei", oidctest.Person{"data": map[string]any{"user_id": "f-1", "email": "fei@x.test", "name": "Fei"}})
	w.Add("bob", person("bob"))
	for _, c := range []struct {
		provider, person, host, asked, want, email, oauth string
	}{
		{"github", "octo", "https://github.com/login/oauth/authorize?", "scope=user%3Aemail", "", "octo@x.test", `{"github":{"sub":"583231"}}`},
		{"github", "octo", "https://github.com/login/oauth/authorize?", "code_challenge=", "", "octo@x.test", `{"github":{"sub":"583231"}}`},
		{"github", "hidden", "https://github.com/login/oauth/authorize?", "", failed, "", ""},
		{"feishu", "fei", "https://accounts.feishu.cn/open-apis/authen/v1/authorize?", "scope=contact", "", "fei@x.test", `{"feishu":{"sub":"f-1"}}`},
		{"google", "bob", w.URL + "/authorize?", "access_type=offline", "", "bob@example.com", `{"google":{"sub":"bob-1"}}`},
		{"microsoft", "bob", w.URL + "/authorize?", "nonce=", taken, "bob@example.com", `{"google":{"sub":"bob-1"}}`},
	} {
		b := w.browser()
		to := b.begin(c.provider)
		if !strings.HasPrefix(to, c.host) || !strings.Contains(to, c.asked) {
			t.Errorf("%s: %s", c.provider, to)
		}
		if got := b.end(c.provider, w.Approve(t, c.person, w.URL+"/authorize?"+to[strings.IndexByte(to, '?')+1:])); got != c.want {
			t.Errorf("%s, %s: %q", c.provider, c.person, got)
		}
		if u := w.account(c.email); c.email != "" && (u == nil || u.OAuth.String() != c.oauth) {
			t.Errorf("%s, %s: %+v", c.provider, c.person, u)
		}
	}
	w.Add("mia", person("mia"))
	b := w.browser()
	if got := b.end("microsoft", w.Approve(t, "mia", b.begin("microsoft"))); got != "" || !strings.HasPrefix(*w.account("mia@example.com").ProfileImageURL, "data:image/png") {
		t.Errorf("Microsoft's picture: %q, %.40s", got, *w.account("mia@example.com").ProfileImageURL)
	}
}

func TestUserInfoCompletes(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_ROLE_MANAGEMENT", "true")
	w.Add("ann", person("ann", "roles", []string{"admin"}))
	w.InToken("roles") // as Microsoft has it: the rest is at the endpoint
	if got := w.browser().signIn("ann"); got != "" || !w.account("ann@example.com").IsAdmin() {
		t.Errorf("%q", got)
	}
	if !slices.Contains(w.Take(), "GET /userinfo") {
		t.Error("user info was not asked for")
	}
	w.InToken()
	if got := w.browser().signIn("ann"); got != "" {
		t.Error(got)
	}
	if slices.Contains(w.Take(), "GET /userinfo") {
		t.Error("user info was asked for in vain")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
