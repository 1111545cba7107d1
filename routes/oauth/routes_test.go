package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/oauth"
)

func newServer(t *testing.T, backchannel bool, vars ...string) *sessiontest.Server {
	t.Helper()
	s := sessiontest.New(t, storetest.SQLite(t), vars...)
	s.Router.Mount("/oauth", oauth.New(oauth.Deps{OAuth: s.OAuth, Backchannel: backchannel}))
	s.Router.Finish()
	return s
}

func TestNothingSetUp(t *testing.T) {
	s := newServer(t, false)
	_, alice := s.User("Alice", "user")
	_, wait := s.User("Wait", "pending")
	for _, c := range []struct {
		token, call string
		status      int
		detail      string
	}{
		{"", "GET /oauth/google/login", 404, "Not Found"},
		{"", "GET /oauth/google/login/callback", 404, "Not Found"},
		{"", "GET /oauth/google/callback", 404, "Not Found"},
		{"", "GET /oauth/clients/login/callback", 404, "Not Found"},
		{alice, "GET /oauth/clients/mcp:none/authorize", 404, "Not Found"},
		{"", "GET /oauth/clients/mcp:none/authorize", 401, "Not authenticated"},
		{wait, "GET /oauth/clients/mcp:none/authorize", 401, "You do not have permission to access this resource. Please contact your administrator for assistance."},
		{"", "GET /oauth/clients/mcp:none/callback", 404, "Not Found"},
		{"", "POST /oauth/backchannel-logout", 404, "Not Found"},
	} {
		if a := s.Call(c.token, c.call, ""); a.Code != c.status || a.Detail() != c.detail {
			t.Errorf("%s: %d %s", c.call, a.Code, a.Body)
		}
	}
}

// TestSignIn follows both addresses that providers may send browsers back to.
func TestSignIn(t *testing.T) {
	p := oidctest.New(t)
	s := newServer(t, true, "OPENID_PROVIDER_URL", p.Discovery(), "OAUTH_CLIENT_ID", "galley", "OAUTH_CLIENT_SECRET", "a secret", "ENABLE_OAUTH_SIGNUP", "true")
	for _, path := range []string{"/oauth/oidc/callback", "/oauth/oidc/login/callback"} {
		s.Set("oauth.redirect_uri", "http://example.com"+path)
		begun := s.Call("", "GET /oauth/oidc/login", "")
		if begun.Code != http.StatusFound {
			t.Fatalf("%d %s", begun.Code, begun.Body)
		}
		back := p.Approve(t, "ann", begun.Header().Get("Location"))
		cookie := begun.Result().Cookies()[0]
		ended := s.Call("", "GET "+strings.TrimPrefix(back, "http://example.com"), "", "Cookie", cookie.Name+"="+cookie.Value)
		if ended.Code != http.StatusTemporaryRedirect || ended.Header().Get("Location") != "http://example.com/auth" || len(ended.Result().Cookies()) != 4 {
			t.Errorf("%s: %d to %s, cookies %v", path, ended.Code, ended.Header().Get("Location"), ended.Result().Cookies())
		}
	}
	server := httptest.NewServer(s.Router)
	defer server.Close()
	resp, err := p.SendLogout(t.Context(), server.URL+"/oauth/backchannel-logout", p.Sign(p.LogoutClaims("galley", "ann-1"), nil, nil))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", resp, err)
	}
	for _, body := range []string{"", "{", "logout_token=", url.Values{"logout_token": {"x.y.z"}}.Encode()} {
		a := s.Call("", "POST /oauth/backchannel-logout", body, "Content-Type", "application/x-www-form-urlencoded")
		if a.Code != http.StatusBadRequest || a.Doc().Text("error") != "invalid_request" || a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %s", body, a.Code, a.Body)
		}
	}
}
