// Package session finds out who sends a request: it checks session tokens and API keys against the accounts, keeps what
// it found for a moment, and begins and ends sessions.
package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Texts that the reference refuses a caller with.
const (
	TextNotAuthenticated = "Not authenticated"
	TextInvalidToken     = "Invalid token"
	TextNoAccount        = "Invalid authentication request."
	TextSignInAgain      = "Your session has expired or the token is invalid. Please sign in again."
	TextMismatch         = "User mismatch. Please sign in again."
	TextNoAPIKeys        = "Use of API key is not enabled in the environment."
	TextHuman            = "A human session is required."
	TextUnavailable      = "Authentication is temporarily unavailable."
	TextChanged          = "Authentication changed. Please sign in again."
)

// Realtime is told of changes that concern the live connections of accounts; core/realtime's Server is one.
type Realtime interface {
	// Emit sends an event to a room; that of an account is "user:" and its id.
	Emit(room, event string, payload any, except ...string) error
	// DisconnectUser ends all connections of an account and gives their number.
	DisconnectUser(userID string) int
}

// Factor is what asks for second factors; core/auth/factor's Factors is one.
type Factor interface {
	// StartLogin begins the second step of a sign-in, for which no session is made yet; see also OAuthOf.
	StartLogin(ctx context.Context, u *users.User, c *users.Credential, method string) (*Challenge, error)
	// Throttle counts a try at an account's password, and refuses it where there were too many of them.
	Throttle(ctx context.Context, userID string) error
}

// Shared is what the processes of an installation know together; core/redis's Client is one.
type Shared interface {
	auth.Counter
	// Revoke has a token refused until it expires (Unix seconds; 0 means never).
	Revoke(ctx context.Context, jti string, expires int64) error
	// Revoked says whether a token was revoked.
	Revoked(ctx context.Context, t auth.Claims) (bool, error)
}

// Options are what Sessions need. Realtime, Factor and Shared may be nil.
type Options struct {
	Users     *users.Store
	Access    *access.Access
	Settings  *config.Settings
	Env       *config.Env
	Tokens    *auth.Tokens // nil makes one with Env.SecretKey
	Passwords *auth.Passwords
	Realtime  Realtime
	Factor    Factor
	Shared    Shared
	// TTL is for how long a caller is taken for who they were found to be; 0 means 5 s on SQLite and 1 s on Postgres,
	// where other replicas change accounts. Changes in this process count at once.
	TTL time.Duration
}

// Sessions checks and makes sessions. It implements web.Authenticator. Its methods may be called at once.
type Sessions struct {
	o     Options
	db    *store.DB
	cache cache
	now   func() time.Time
}

// New makes Sessions.
func New(o Options) *Sessions {
	s := &Sessions{o: o, db: o.Users.DB(), now: time.Now}
	if o.Tokens == nil {
		s.o.Tokens = auth.NewTokens(o.Env.SecretKey)
	}
	if o.Passwords == nil {
		s.o.Passwords = auth.NewPasswords(o.Env.Password)
	}
	if o.TTL == 0 {
		s.o.TTL = 5 * time.Second
		if s.db.Dialect() == store.Postgres {
			s.o.TTL = time.Second
		}
	}
	s.cache.entries = map[string]*entry{}
	o.Users.OnChange(s.cache.forget)
	o.Access.Groups().OnChange(func(userIDs []string) { s.RefreshAccess(userIDs...) })
	o.Settings.OnChange(func(changed []string, _ *config.Snapshot) {
		for _, key := range changed {
			if strings.HasPrefix(key, "auth.mfa.") {
				s.cache.forget("")
			}
		}
	})
	return s
}

// Passwords are the hashes of this server.
func (s *Sessions) Passwords() *auth.Passwords { return s.o.Passwords }

// SetRealtime sets what ends live connections, where it is made after the Sessions. Call it before requests are served.
func (s *Sessions) SetRealtime(r Realtime) { s.o.Realtime = r }

// NewLimiter makes a rate limiter that counts with the other processes, where there is a way to.
func (s *Sessions) NewLimiter(limit int, window time.Duration) *auth.RateLimiter {
	l := auth.NewRateLimiter(limit, window)
	if s.o.Shared != nil {
		l.Share(s.o.Shared)
	}
	return l
}

// SetFactor sets what begins the second step of sign-ins. Call it before requests are served.
func (s *Sessions) SetFactor(f Factor) { s.o.Factor = f }

// HasFactor says whether there is something that begins the second step of sign-ins.
func (s *Sessions) HasFactor() bool { return s.o.Factor != nil }

// Forget drops what is kept of the sessions of an account, or with "" of all, as another process has changed it.
func (s *Sessions) Forget(userID string) { s.cache.forget(userID) }

// Disconnect ends the live connections of accounts.
func (s *Sessions) Disconnect(userIDs ...string) {
	if s.o.Realtime == nil {
		return
	}
	for _, id := range userIDs {
		s.o.Realtime.DisconnectUser(id)
	}
}

// RefreshAccess tells the live connections of accounts that what they may do has changed, and ends them: clients connect
// again, with fresh data. Changes of groups come here by themselves.
func (s *Sessions) RefreshAccess(userIDs ...string) {
	if s.o.Realtime == nil {
		return
	}
	for _, id := range userIDs {
		// an error would be one of the payload, which is constant
		_ = s.o.Realtime.Emit("user:"+id, "access:updated", struct{}{})
		s.o.Realtime.DisconnectUser(id)
	}
}

// Authorize finds the caller of a request and whether a level lets them in; its errors are answers. On auth.Optional a
// caller who cannot be found is nil, and so is one with an API key or role that would not be let in elsewhere.
func (s *Sessions) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	if level == auth.Public {
		return nil, nil
	}
	p, err := s.caller(r)
	if level == auth.Optional {
		if err != nil {
			var answer *web.Error
			if errors.As(err, &answer) && answer.Status != http.StatusServiceUnavailable {
				return nil, nil
			}
			return nil, err
		}
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if level == auth.Verified && !p.IsVerified() || level == auth.Admin && !p.IsAdmin() {
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	return p, nil
}

// Credential gives what a request says of its caller: a bearer token, else the cookie, else another kind of
// Authorization, else an API key in its header. found is false where there is none of them.
func (s *Sessions) Credential(r *http.Request) (token string, found bool) {
	header := r.Header.Get("Authorization")
	scheme, rest, _ := strings.Cut(header, " ")
	rest = strings.TrimSpace(rest)
	if rest != "" && strings.EqualFold(scheme, "bearer") {
		return rest, true
	}
	if c, err := r.Cookie("token"); err == nil {
		return c.Value, true
	}
	if header != "" && rest != "" && !strings.Contains(rest, " ") {
		return rest, true
	}
	if key := r.Header.Get(s.o.Env.APIKeyHeader); key != "" {
		return key, true
	}
	return "", false
}

func (s *Sessions) caller(r *http.Request) (*auth.Principal, error) {
	token, ok := s.Credential(r)
	if !ok {
		return nil, web.Fail(http.StatusUnauthorized, TextNotAuthenticated)
	}
	if strings.HasPrefix(token, auth.APIKeyPrefix) {
		p, err := s.byAPIKey(r.Context(), token, r.URL.Path)
		if err == nil {
			s.o.Users.Touch(p.ID)
		}
		return p, err
	}
	p, err := s.ByToken(r.Context(), token)
	if err != nil {
		return nil, err
	}
	if header := s.o.Env.Trusted.Email; header != "" {
		if email := strings.ToLower(r.Header.Get(header)); email != "" && email != p.Email {
			return nil, web.Fail(http.StatusUnauthorized, TextMismatch)
		}
	}
	s.o.Users.Touch(p.ID)
	return p, nil
}

// ByToken finds the account of a session token, whatever its role; its errors are answers (401).
func (s *Sessions) ByToken(ctx context.Context, token string) (*auth.Principal, error) {
	now := s.now()
	if p := s.cache.get(token, now); p != nil {
		if s.revokedElsewhere(ctx, p.Claims) {
			s.cache.forget(p.ID)
			return nil, web.Fail(http.StatusUnauthorized, TextInvalidToken)
		}
		return p, nil
	}
	claims, err := s.o.Tokens.Parse(token)
	if err != nil || claims.ID == "" {
		return nil, web.Because(http.StatusUnauthorized, web.TextUnauthorized, err)
	}
	epoch := s.cache.now()
	u, err := s.check(ctx, claims)
	if err != nil {
		return nil, err
	}
	p := &auth.Principal{User: u, Token: token, Claims: claims}
	s.cache.put(token, p, now.Add(s.o.TTL), epoch)
	return p, nil
}

// check holds a token's claims against the account.
func (s *Sessions) check(ctx context.Context, claims auth.Claims) (*users.User, error) {
	u, c, err := s.o.Users.Account(ctx, claims.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, unavailable(err)
	}
	if c == nil || !c.Active {
		return nil, web.Fail(http.StatusUnauthorized, TextNoAccount)
	}
	invalid := web.Fail(http.StatusUnauthorized, TextInvalidToken)
	if claims.Stamp != c.Stamp {
		return nil, invalid
	}
	switch claims.Type {
	case auth.TypeSession:
		if s.FactorRequired(claims.Method) && !(claims.MFAVerified && hasFactor(c.MFA)) {
			return nil, invalid
		}
	case auth.TypeAutomation, auth.TypeSubagent:
	default:
		return nil, invalid
	}
	gone, err := s.revoked(ctx, claims.JTI)
	if err != nil {
		return nil, unavailable(err)
	}
	if gone || s.revokedElsewhere(ctx, claims) {
		return nil, invalid
	}
	if u == nil {
		return nil, web.Fail(http.StatusUnauthorized, TextSignInAgain)
	}
	return u, nil
}

func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return web.Because(http.StatusServiceUnavailable, TextUnavailable, err)
}

// hasFactor says whether a second factor is set up, and need not be set up anew.
func hasFactor(mfa jsondoc.Doc) bool {
	return mfa.Get("secret").Truthy() && !mfa.Get("reset_required").Truthy()
}

// FactorRequired says whether sessions that begin by a method need a second factor.
func (s *Sessions) FactorRequired(method string) bool {
	snap := s.o.Settings.Snapshot()
	switch {
	case !config.AuthMFAEnable.Get(snap):
		return false
	case method == "oauth" && config.AuthMFAAllowOAuthBypass.Get(snap):
		return false
	case method == "trusted_header" && config.AuthMFAAllowTrustedHeaderBypass.Get(snap):
		return false
	}
	return true
}

// Verified finds the account of a session token for connections outside of requests, such as sockets: false where the
// token is not good, or its account was not admitted.
func (s *Sessions) Verified(ctx context.Context, token string) (*auth.Principal, bool) {
	if token == "" || strings.HasPrefix(token, auth.APIKeyPrefix) {
		return nil, false
	}
	p, err := s.ByToken(ctx, token)
	if err != nil || !p.IsVerified() {
		return nil, false
	}
	return p, true
}

// byAPIKey finds the owner of an API key and whether it may be used here.
func (s *Sessions) byAPIKey(ctx context.Context, key, path string) (*auth.Principal, error) {
	now := s.now()
	p := s.cache.get(key, now)
	if p == nil {
		epoch := s.cache.now()
		u, err := s.o.Users.ByAPIKey(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil, web.Fail(http.StatusUnauthorized, TextSignInAgain)
		}
		if err != nil {
			return nil, fmt.Errorf("find API key: %w", err)
		}
		p = &auth.Principal{User: u, APIKey: true, Token: key}
		s.cache.put(key, p, now.Add(s.o.TTL), epoch)
	}
	snap := s.o.Settings.Snapshot()
	if !config.AuthEnableAPIKeys.Get(snap) {
		return nil, web.Fail(http.StatusForbidden, TextNoAPIKeys)
	}
	ok, err := s.o.Access.HasOrAdmin(ctx, p.User, "features.api_keys")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, web.Fail(http.StatusForbidden, TextNoAPIKeys)
	}
	if config.AuthAPIKeyEndpointRestrictions.Get(snap) && !allowedPath(config.AuthAPIKeyAllowedEndpoints.Get(snap), path) {
		return nil, web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	return p, nil
}

// allowedPath says whether a comma-separated list holds a path or one that it lies below.
func allowedPath(list, path string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" && (path == part || strings.HasPrefix(path, part+"/")) {
			return true
		}
	}
	return false
}
