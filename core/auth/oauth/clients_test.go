package oauth_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// connect makes a tool server known, with a client that was registered; more are members of the connection's info.
func (w *world) connect(kind string, r oauth.Registration, more ...string) {
	w.t.Helper()
	r.ID, r.Server = "mcp:shed", w.URL+"/mcp"
	sealed, err := w.OAuth.Clients.Register(ctx, w.browser().request("http://chat.test/"), r)
	if err != nil {
		w.t.Fatal(err)
	}
	info := jsondoc.Object("id", jsondoc.Text("shed")).Set(jsondoc.Text(sealed), "oauth_client_info")
	for i := 0; i+1 < len(more); i += 2 {
		info = info.Set(jsondoc.Text(more[i+1]), more[i])
	}
	c := jsondoc.Object("type", jsondoc.Text("mcp")).Set(jsondoc.Text(w.URL+"/mcp"), "url").Set(jsondoc.Text(kind), "auth_type").Set(info, "info").Set(jsondoc.Doc("null"), "config")
	w.Set("tool_server.connections", jsontext.Value(jsondoc.Array(c)))
}

// info is what is stored of the client.
func (w *world) info() jsondoc.Doc {
	w.t.Helper()
	key, err := fernet.NewKey(w.Env.SecretKey)
	if err != nil {
		w.t.Fatal(err)
	}
	list := jsondoc.Doc(w.Settings.Snapshot().Raw("tool_server.connections")).List()
	text, err := key.Decrypt(list[0].Get("info").Text("oauth_client_info"))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (b *browser) authorize(userID string) string {
	b.w.t.Helper()
	return b.get("http://chat.test/oauth/clients/mcp:shed/authorize", func(rw http.ResponseWriter, r *http.Request) (string, error) {
		return b.w.OAuth.Clients.Authorize(rw, r, "mcp:shed", userID)
	})
}

func (b *browser) connected(callback string) string {
	b.w.t.Helper()
	to := b.get(callback, func(rw http.ResponseWriter, r *http.Request) (string, error) {
		return b.w.OAuth.Clients.Callback(rw, r, "mcp:shed")
	})
	if rest, ok := strings.CutPrefix(to, "http://chat.test/?error="); ok {
		text, _ := url.QueryUnescape(rest)
		return text
	}
	return to
}

func TestToolServer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.connect("oauth_2.1", oauth.Registration{ClientID: "shed"})
		if i := w.info(); i.Text("scope") != "tools" || i.Text("resource") != w.URL+"/mcp" || i.Text("issuer") != w.URL+"/.well-known/oauth-authorization-server" ||
			i.Get("redirect_uris").Texts()[0] != "http://chat.test/oauth/clients/mcp:shed/callback" || i.Get("server_metadata").Text("token_endpoint") != w.URL+"/token" {
			t.Errorf("registered %s", i)
		}
		b := w.browser()
		to := b.authorize(w.boss.ID)
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		if q := u.Query(); q.Get("resource") != w.URL+"/mcp" || q.Get("scope") != "tools" || q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != "http://chat.test/oauth/clients/mcp:shed/callback" {
			t.Errorf("asked %s", to)
		}
		if got := b.connected(w.Approve(t, "ann", to)); got != "http://chat.test" {
			t.Fatal(got)
		}
		if form, _ := w.LastToken(); form.Get("resource") != w.URL+"/mcp" {
			t.Errorf("asked %v", form)
		}
		if w.account("ann@example.com") != nil {
			t.Error("an account was made")
		}
		token := func(force bool) string {
			t.Helper()
			got, err := w.OAuth.Clients.Token(ctx, w.boss.ID, "mcp:shed", force)
			if err != nil {
				t.Fatal(err)
			}
			return got.Text("access_token")
		}
		first := token(false)
		if rows := w.stored(w.boss.ID); len(rows) != 1 || rows[0].Provider != "mcp:shed" || first == "" {
			t.Fatalf("%q, rows %+v", first, rows)
		}
		if got := token(true); got == first || got == "" {
			t.Errorf("by force: %q", got)
		}
		w.OAuth.SetNow(func() time.Time { return time.Now().Add(time.Hour) })
		second := token(false)
		if form, _ := w.LastToken(); second == first || form.Get("grant_type") != "refresh_token" || form.Get("resource") != w.URL+"/mcp" || form.Get("client_secret") == "" {
			t.Errorf("renewed: %q, %v", second, form)
		}
		w.OAuth.SetNow(time.Now)
		if got := b.connected(w.Approve(t, "ann", b.authorize(w.boss.ID))); got != "http://chat.test" || len(w.stored(w.boss.ID)) != 1 {
			t.Errorf("again: %q, %d rows", got, len(w.stored(w.boss.ID)))
		}
		w.Do(oidctest.TokenRefuses)
		if got := token(true); got != "" || len(w.stored(w.boss.ID)) != 0 {
			t.Errorf("refused: %q, %d rows", got, len(w.stored(w.boss.ID)))
		}
		for _, id := range []string{"mcp:other", "oidc"} {
			if got, err := w.OAuth.Clients.Token(ctx, w.boss.ID, id, false); got != nil || err != nil {
				t.Errorf("%s: %s, %v", id, got, err)
			}
		}
	})
}

// TestToolServerRefusals is what may go wrong on the way, and who may not go it.
func TestToolServerRefusals(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.connect("oauth_2.1", oauth.Registration{ClientID: "shed"})
	eve, eveToken := w.User("Eve", "user")
	pending, _ := w.User("Wait", "pending")
	const begins = "OAuth callback failed: "
	for name, c := range map[string]struct {
		user   string
		change func(b *browser, callback string) string
		fault  oidctest.Fault
		want   string
	}{
		"another state":   {w.boss.ID, func(_ *browser, cb string) string { return strings.ReplaceAll(cb, "state=", "state=x") }, "", "OAuth callback state is invalid or expired"},
		"another browser": {w.boss.ID, func(b *browser, cb string) string { clear(b.cookies); return cb }, "", "OAuth callback state is invalid or expired"},
		"another account": {w.boss.ID, func(b *browser, cb string) string {
			b.cookies["token"] = &http.Cookie{Name: "token", Value: eveToken}
			return cb
		}, "", "OAuth callback user does not match authenticated session"},
		"the same account": {eve.ID, func(b *browser, cb string) string {
			b.cookies["token"] = &http.Cookie{Name: "token", Value: eveToken}
			return cb
		}, "", ""},
		"not admitted":       {pending.ID, func(_ *browser, cb string) string { return cb }, "", "OAuth callback user is not authorized"},
		"another code":       {w.boss.ID, func(_ *browser, cb string) string { return strings.ReplaceAll(cb, "code=", "code=x") }, "", "invalid_grant: the code is not good"},
		"the person says no": {w.boss.ID, func(_ *browser, cb string) string { return cb }, oidctest.Denied, "access_denied: The person said no"},
		"another issuer":     {w.boss.ID, func(_ *browser, cb string) string { return cb }, oidctest.OtherIss, `the answer is of another issuer, "https://other.example"`},
		"out of order":       {w.boss.ID, func(_ *browser, cb string) string { return cb }, oidctest.TokenFails, "the token endpoint answered 500"},
		"a sign-in's state": {w.boss.ID, func(b *browser, _ string) string {
			return strings.ReplaceAll(w.Approve(t, "ann", b.begin("oidc")), "/oauth/oidc/callback", "/oauth/clients/mcp:shed/callback")
		}, "", "OAuth callback state is invalid or expired"},
	} {
		w.Do()
		b := w.browser()
		to := b.authorize(c.user)
		if c.fault != "" {
			w.Do(c.fault)
		}
		got := b.connected(c.change(b, w.Approve(t, "ann", to)))
		if c.want != "" && got != begins+c.want || c.want == "" && got != "http://chat.test" {
			t.Errorf("%s: %s", name, got)
		}
	}
	w.Do()
	// the tokens of a tool server sign nobody in
	b := w.browser()
	cb := strings.ReplaceAll(w.Approve(t, "ann", b.authorize(eve.ID)), "/oauth/clients/mcp:shed/callback", "/oauth/oidc/callback")
	if got := b.end("oidc", cb); got != failed {
		t.Errorf("signed in: %q", got)
	}
	if got, err := w.OAuth.Token(ctx, eve.ID, w.stored(eve.ID)[0].ID); got != nil || err != nil {
		t.Errorf("as those of a sign-in: %s, %v", got, err)
	}
	w.Env.ToolServers = false
	for _, got := range []string{b.authorize(eve.ID), b.connected("http://chat.test/oauth/clients/mcp:shed/callback")} {
		if got != "403 Tool servers are disabled" {
			t.Error(got)
		}
	}
	w.Env.ToolServers = true
	w.Set("tool_server.connections", jsontext.Value(`[{"type":"mcp","auth_type":"oauth_2.1","info":{"id":"shed","oauth_client_info":"made with another key"}}]`))
	for _, got := range []string{b.authorize(eve.ID), b.connected("http://chat.test/oauth/clients/mcp:shed/callback")} {
		if got != "404 Not Found" {
			t.Error(got)
		}
	}
}

// TestForgottenClient has the authorization server forget a client: it is registered anew.
func TestForgottenClient(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.connect("oauth_2.1", oauth.Registration{ClientID: "shed"})
	old := w.info().Text("client_id")
	w.Forget(old)
	b := w.browser()
	if got := b.connected(w.Approve(t, "ann", b.authorize(w.boss.ID))); got != "http://chat.test" {
		t.Error(got)
	}
	if now := w.info().Text("client_id"); now == old || !slices.Contains(w.Take(), "POST /register") {
		t.Errorf("still %s", now)
	}
	// one that an administrator has made cannot be made anew
	w.connect("oauth_2.1_static", oauth.Registration{ClientID: "gone", Secret: "s"})
	if got := b.authorize(w.boss.ID); got != "500 OAuth client registration is still invalid after re-registration" {
		t.Error(got)
	}
}

func TestStaticClient(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Describe(map[string]any{"token_endpoint_auth_methods_supported": []string{"private_key_jwt", "client_secret_basic"}, "code_challenge_methods_supported": []string{"plain"}})
	w.connect("oauth_2.1_static", oauth.Registration{ClientID: "galley", Secret: "out of date", Scope: "a, b"},
		"oauth_client_id", "galley", "oauth_client_secret", "a secret", "oauth_resource_parameter", "omit", "oauth_scope", "c,d")
	b := w.browser()
	to := b.authorize(w.boss.ID)
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); q.Get("client_id") != "galley" || q.Get("scope") != "c d" || q.Has("resource") || q.Has("code_challenge") {
		t.Errorf("asked %s", to)
	}
	if got := b.connected(w.Approve(t, "ann", to)); got != "http://chat.test" {
		t.Error(got)
	}
	if form, auth := w.LastToken(); !strings.HasPrefix(auth, "Basic ") || form.Has("client_secret") || form.Has("resource") {
		t.Errorf("asked %v", form)
	}
}
