// Package auths serves /api/v1/auths: signing in and up, the caller's session, password and API key, and the settings of
// sign-in. Its 422 answers say nothing of what was wrong, and nothing of it may be kept by caches.
package auths

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module uses. Log and Events may be nil.
type Deps struct {
	Users    *users.Store
	Access   *access.Access
	Settings *config.Settings
	Env      *config.Env
	Sessions *session.Sessions
	Factors  *factor.Factors
	OAuth    *oauth.Service
	Events   *events.Bus
	Log      *slog.Logger
}

// Module is the web.Module of tag auths.
type Module struct {
	Deps
	signins *auth.RateLimiter
	tries   *auth.RateLimiter // by address of the client, where second factors are asked for
}

// New makes the module.
func New(d Deps) *Module {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return &Module{Deps: d, signins: d.Sessions.NewLimiter(15, 3*time.Minute), tries: d.Sessions.NewLimiter(100, 15*time.Minute)}
}

// Name implements web.Module.
func (m *Module) Name() string { return "auths" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Errors(Envelope)
	g.Before(m.limitClient)
	g.Add("GET /", human(m.session))
	g.Add("POST /signin", do(auth.Public, m.signIn))
	g.Add("POST /signup", do(auth.Public, m.signUp))
	g.Add("POST /signout", do(auth.Public, m.signOut))
	g.Add("POST /add", do(auth.Admin, m.add))
	g.Add("POST /update/profile", do(auth.Verified, m.updateProfile))
	g.Add("POST /update/timezone", do(auth.Any, m.updateTimezone))
	g.Add("POST /update/password", do(auth.Any, m.updatePassword))
	g.Add("POST /api_key", do(auth.Any, m.makeKey))
	g.Add("GET /api_key", do(auth.Any, m.key))
	g.Add("DELETE /api_key", do(auth.Any, m.deleteKey))
	g.Add("GET /admin/details", do(auth.Any, m.adminDetails))
	g.Add("GET /admin/config", do(auth.Admin, m.adminConfig))
	g.Add("POST /admin/config", do(auth.Admin, m.setAdminConfig))
	g.Add("POST /ldap", do(auth.Public, m.ldap))
	g.Add("GET /admin/config/ldap", do(auth.Admin, m.ldapConfig))
	g.Add("POST /admin/config/ldap", do(auth.Admin, m.setLDAPConfig))
	g.Add("GET /admin/config/ldap/server", do(auth.Admin, m.ldapServer))
	g.Add("POST /admin/config/ldap/server", do(auth.Admin, m.setLDAPServer))
	g.Add("GET /admin/config/oauth", do(auth.Admin, m.oauthConfig))
	g.Add("POST /admin/config/oauth", do(auth.Admin, m.setOAuthConfig))
	m.factorRoutes(g)
	g.Add("POST /oauth/{provider}/token/exchange", do(auth.Public, m.exchange))
	g.Add("DELETE /oauth/sessions/{provider:path}", do(auth.Verified, m.deleteOAuth))
}

// limitClient refuses a client that sends too much where second factors are asked for, so that codes cannot be guessed
// account by account.
func (m *Module) limitClient(c *web.Call) error {
	if c.R.Method != http.MethodPost || !config.AuthMFAEnable.Get(m.Settings.Snapshot()) || !m.tries.Limited(clientKey(c.ClientIP())) {
		return nil
	}
	err := web.Fail(http.StatusTooManyRequests, "Too many attempts. Please try again later.")
	err.Header = http.Header{"Retry-After": {"900"}}
	return err
}

// clientKey is the reference's name for a client.
func clientKey(ip string) string {
	sum := sha256.Sum256([]byte(ip))
	return "mfa:ip:" + hex.EncodeToString(sum[:])
}

// Envelope is the form of this module's errors. What nobody expected is most likely the database's.
func Envelope(e *web.Error) *web.Error {
	out := *e
	out.Header = out.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Set("Cache-Control", "no-store")
	switch {
	case e.Detail == web.TextInternal:
		out.Status, out.Detail = http.StatusServiceUnavailable, session.TextUnavailable
	case isProblems(e.Detail):
		out.Detail = session.TextNoAccount
	}
	return &out
}

// do declares an operation whose answer is not to be kept.
func do[In, Out any](level auth.Level, h func(*web.Call, In) (Out, error)) *web.Endpoint {
	return web.JSON(level, func(c *web.Call, in In) (Out, error) {
		c.Header().Set("Cache-Control", "no-store")
		return h(c, in)
	})
}

func isProblems(detail any) bool {
	_, ok := detail.(web.Problems)
	return ok
}

// human declares an operation of any account that takes a session of a person.
func human[In, Out any](h func(*web.Call, In) (Out, error)) *web.Endpoint {
	return do(auth.Any, h).With(func(e *web.Endpoint) {
		e.Admit = func(c *web.Call) error {
			if !c.Principal.Human() {
				return web.Fail(http.StatusForbidden, session.TextHuman)
			}
			return nil
		}
	})
}

// Texts of the reference.
const (
	textBadCredentials = "The email or password provided is incorrect. Please check for typos and try logging in again."
	textBadPassword    = "The password provided is incorrect. Please check for typos and try again."
	textBadEmail       = "The email format you entered is invalid. Please double-check and make sure you're using a valid email address (e.g., yourname@example.com)."
	textTaken          = "Uh-oh! This email is already registered. Sign in with your existing account or choose another email to start anew."
	textRestricted     = "The requested action has been restricted as a security measure."
	textRate           = "API rate limit exceeded"
	textTrusted        = "Your provider has not provided a trusted header. Please contact your administrator for assistance."
	textExisting       = "You can't turn off authentication because there are existing users. If you want to disable WEBUI_AUTH, make sure your web interface doesn't have any existing users and is a fresh installation."
	textNoKeys         = "API key creation is not allowed in the environment."
	textNoKey          = "Oops! It looks like there's a hiccup. The API key is missing. Please make sure to provide a valid API key to access this feature."
)
