package oauth

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// provider is where people can sign in, as the settings describe it.
type provider struct {
	id, name     string
	clientID     string
	secret       string
	description  string // address of its metadata; "" where the three that follow are known
	authorizeURL string
	tokenURL     string
	userInfoURL  string
	scope        string
	redirect     string // where it sends the browser back to; "" means this server's own address
	authMethod   string // at the token endpoint; "" means client_secret_basic, or none without a secret
	pkce         bool
	timeout      time.Duration
	params       map[string]any // added to the authorization request
	subject      string         // claim
	picture      string         // address of the signed-in person's picture, where claims name none
}

// defaultTimeout is how long a provider may take to answer a request of ours where OAUTH_TIMEOUT says nothing.
const defaultTimeout = 10 * time.Second

// providersOf are the providers that settings describe whole, in the order in which they are offered. The error says which
// setting keeps providers away.
func providersOf(s *config.Snapshot, env *config.Env) ([]*provider, error) {
	timeout := defaultTimeout
	if n, ok := config.OAuthTimeout.Int(s); ok && n > 0 {
		timeout = time.Duration(n) * time.Second
	}
	method := config.OAuthCodeChallengeMethod.Get(s)
	var out []*provider
	add := func(p *provider, needed ...string) {
		for _, v := range needed {
			if v == "" {
				return
			}
		}
		p.timeout, p.name = timeout, firstOf(p.name, p.id)
		p.pkce = method == "S256" && p.id != "feishu"
		out = append(out, p)
	}
	id, secret := config.OAuthGoogleClientID.Get(s), config.OAuthGoogleClientSecret.Get(s)
	add(&provider{id: "google", clientID: id, secret: secret, description: "https://accounts.google.com/.well-known/openid-configuration",
		scope: config.OAuthGoogleScope.Get(s), redirect: config.OAuthGoogleRedirectURI.Get(s), params: env.OAuth.GoogleAuthorizeAdd}, id, secret)

	id, secret = config.OAuthMicrosoftClientID.Get(s), config.OAuthMicrosoftClientSecret.Get(s)
	tenant := config.OAuthMicrosoftTenantID.Get(s)
	add(&provider{id: "microsoft", clientID: id, secret: secret,
		description: config.OAuthMicrosoftLoginBaseURL.Get(s) + "/" + tenant + "/v2.0/.well-known/openid-configuration?appid=" + url.QueryEscape(id),
		scope:       config.OAuthMicrosoftScope.Get(s), redirect: config.OAuthMicrosoftRedirectURI.Get(s), picture: config.OAuthMicrosoftPictureURL.Get(s)},
		id, secret, tenant)

	id, secret = config.OAuthGitHubClientID.Get(s), config.OAuthGitHubClientSecret.Get(s)
	add(&provider{id: "github", clientID: id, secret: secret, authorizeURL: "https://github.com/login/oauth/authorize",
		tokenURL: "https://github.com/login/oauth/access_token", userInfoURL: "https://api.github.com/user",
		scope: config.OAuthGitHubScope.Get(s), redirect: config.OAuthGitHubRedirectURI.Get(s), subject: "id"}, id, secret)

	id, secret = config.OAuthClientID.Get(s), config.OAuthClientSecret.Get(s)
	address := config.OAuthProviderURL.Get(s)
	add(&provider{id: "oidc", name: config.OAuthProviderName.Get(s), clientID: id, secret: secret, description: address,
		scope: config.OAuthScopes.Get(s), redirect: config.OAuthRedirectURI.Get(s), authMethod: config.OAuthTokenEndpointAuthMethod.Get(s)},
		id, secret+method, address)

	id, secret = config.OAuthFeishuClientID.Get(s), config.OAuthFeishuClientSecret.Get(s)
	add(&provider{id: "feishu", clientID: id, secret: secret, authorizeURL: "https://accounts.feishu.cn/open-apis/authen/v1/authorize",
		tokenURL:    "https://open.feishu.cn/open-apis/authen/v2/oauth/token",
		userInfoURL: "https://open.feishu.cn/open-apis/authen/v1/user_info",
		scope:       config.OAuthFeishuScope.Get(s), redirect: config.OAuthFeishuRedirectURI.Get(s), subject: "user_id"}, id, secret)
	if len(out) > 0 && method != "" && method != "S256" {
		return nil, fmt.Errorf("OAUTH_CODE_CHALLENGE_METHOD: %q is not supported, S256 is", method)
	}
	return out, nil
}

// Names are the providers that are offered, names by id: an object for GET /api/config.
func (s *Service) Names(snap *config.Snapshot) jsondoc.Doc {
	list, err := providersOf(snap, s.Env)
	if err != nil {
		s.Log.Error("nobody can sign in at a provider", "error", err)
	}
	var b jsondoc.Builder
	for _, p := range list {
		b.Add(p.id, p.name)
	}
	return b.Done()
}

// provider finds a provider that is offered; nil where there is none.
func (s *Service) provider(id string) *provider {
	list, _ := providersOf(s.Settings.Snapshot(), s.Env) // Names has told of an error
	for _, p := range list {
		if p.id == id {
			return p
		}
	}
	return nil
}

// enabled finds a provider that people may sign in with now; nil where there is none.
func (s *Service) enabled(id string) *provider {
	if !config.OAuthEnable.Get(s.Settings.Snapshot()) {
		return nil
	}
	return s.provider(id)
}

// wantsOpenID says whether the provider is asked for an ID token.
func (p *provider) wantsOpenID() bool {
	for _, scope := range strings.Fields(p.scope) {
		if scope == "openid" {
			return true
		}
	}
	return false
}

// tokenClient is how the provider is asked for tokens.
func (s *Service) tokenClient(p *provider, m *metadata) *tokenClient {
	return &tokenClient{http: s.HTTP, timeout: p.timeout, url: m.Text("token_endpoint"), id: p.clientID, secret: p.secret, method: p.authMethod}
}
