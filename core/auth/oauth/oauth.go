// Package oauth lets people sign in at an identity provider: any that describes itself (OpenID Connect discovery), and
// Google, Microsoft, GitHub and Feishu. It keeps the tokens that providers give, renews them, and ends sessions when a
// provider says so. It also makes this server a client of the authorization servers that guard servers of tools.
//
// A sign-in begins with [Service.Login], which sends the browser to the provider and notes the sign-in in a cookie, and
// ends with [Service.Callback], which finds or makes the account and begins a session. Rows and cookies are those of the
// reference, so that both servers can work on one database.
package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Texts that people are shown, as the reference words them.
const (
	textFailed      = "Sign-in with your identity provider failed. Please contact your administrator for assistance."
	textUnexpected  = "[ERROR: Error during OAuth process]"
	textTaken       = "Uh-oh! This email is already registered. Sign in with your existing account or choose another email to start anew."
	textNotFound    = "Not Found"
	textNoExchange  = "Token exchange is disabled"
	textRateLimited = "API rate limit exceeded"
)

// Options are what a Service needs.
type Options struct {
	Users    *users.Store
	Access   *access.Access
	Settings *config.Settings
	Env      *config.Env
	Sessions *session.Sessions
	Events   *events.Bus  // may be nil
	Log      *slog.Logger // nil: slog.Default
	HTTP     *http.Client // asks providers; nil: http.DefaultClient
	Pictures *http.Client // asks for people's pictures, at addresses that providers name; nil: there are no pictures
}

// Service signs people in. Its methods may be called at once.
type Service struct {
	Options
	Clients *Clients

	tokens    fernet.Key // of stored tokens
	states    states
	exchanges limiter
	renewing  singleflight.Group // by the id of a stored session
	now       func() time.Time

	mu       sync.Mutex
	metadata map[string]*metadata // by the address of a provider's description
}

// New makes a Service. The error is about a key that cannot be used.
func New(o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	s := &Service{Options: o, now: time.Now, metadata: map[string]*metadata{}}
	var errs [3]error
	s.tokens, errs[0] = fernet.NewKey(firstOf(o.Env.OAuth.SessionTokenKey, o.Env.SecretKey))
	s.states.cookies = o.Env.Cookies
	s.states.key, errs[1] = fernet.NewKey("pending sign-ins " + o.Env.SecretKey)
	s.Clients = &Clients{s: s}
	s.Clients.secrets, errs[2] = fernet.NewKey(firstOf(o.Env.OAuth.ClientInfoKey, o.Env.SecretKey))
	s.exchanges = newLimiter(o.Env.OAuth)
	return s, errors.Join(errs[:]...)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// baseURL is the address under which the browser that sent a request sees this server, without a slash at the end.
func baseURL(r *http.Request) string { return web.Scheme(r) + "://" + r.Host }

// publicURL is where browsers find this server: the setting webui.url, else what the request says.
func (s *Service) publicURL(r *http.Request) string {
	if u := config.WebUIURL.Get(s.Settings.Snapshot()); u != "" {
		return strings.TrimRight(u, "/")
	}
	return baseURL(r)
}

// publish tells of something that a sign-in brought about.
func (s *Service) publish(ctx context.Context, name string, actor *users.User, subject string, data web.M) {
	s.Events.Publish(ctx, events.Event{Name: name, Actor: actor, SubjectID: subject, Source: "oauth", Data: data})
}

// signedIn tells that a session began.
func (s *Service) signedIn(ctx context.Context, u *users.User) {
	s.Events.Publish(ctx, events.Event{Name: "auth.login", Actor: u, SubjectType: "user", SubjectID: u.ID, Source: "oauth", Data: web.M{"auth_method": "oauth"}})
}

// found makes nil of ErrNotFound.
func found[T any](v *T, err error) (*T, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}
