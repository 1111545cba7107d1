package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Profile is what answers about a session say of its account.
type Profile struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	Role            string `json:"role"`
	Email           string `json:"email"`
	ProfileImageURL string `json:"profile_image_url"`
}

// ImageURL is the address of an account's picture.
func ImageURL(userID string) string { return "/api/v1/users/" + userID + "/profile/image" }

// ProfileOf is the profile of an account, its picture by address.
func ProfileOf(u *users.User) Profile {
	return Profile{u.ID, u.Name, u.Role, u.Email, ImageURL(u.ID)}
}

// Session is the answer to a sign-in.
type Session struct {
	Profile     `json:",inline"`
	Token       string      `json:"token"`
	TokenType   string      `json:"token_type"`
	ExpiresAt   *int64      `json:"expires_at"` // Unix seconds; null for never
	Permissions jsondoc.Doc `json:"permissions"`
}

// Pending is the answer to the sign-in of an account that was not admitted yet, where a second factor is asked for.
type Pending struct {
	NextStep string `json:"next_step"`
}

// Challenge is the answer to a sign-in where a second step comes before the session.
type Challenge struct {
	NextStep  string `json:"next_step"` // enroll, verify, recover
	Token     string `json:"challenge_token"`
	ExpiresIn int64  `json:"expires_in"` // seconds
}

// SignIn begins a session for an account whose owner has proved who they are by a method ("password", "ldap", "oauth",
// "trusted_header", "system"), and sets the cookie. c are the credentials that proved it, as they were read; nil reads
// them. The answer is a *Session, or where a second factor is required a *Pending or a *Challenge.
func (s *Sessions) SignIn(ctx context.Context, w http.ResponseWriter, u *users.User, c *users.Credential, method string) (any, error) {
	now, err := s.credential(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	if c != nil && (c.Stamp != now.Stamp || c.Password != now.Password) {
		return nil, web.Fail(http.StatusConflict, TextChanged)
	}
	if config.AuthMFAEnable.Get(s.o.Settings.Snapshot()) && !u.IsVerified() {
		return &Pending{"pending"}, nil
	}
	if s.FactorRequired(method) {
		if s.o.Factor == nil {
			return nil, web.Fail(http.StatusServiceUnavailable, TextUnavailable)
		}
		return s.o.Factor.StartLogin(ctx, u, now, method)
	}
	return s.Begin(ctx, w, u, now, auth.Claims{Method: method})
}

// Throttle counts a try at the password of the account with an address: call it before the password is looked at. Without
// second factors, or without such an account, it counts nothing.
func (s *Sessions) Throttle(ctx context.Context, email string) error {
	if s.o.Factor == nil || !config.AuthMFAEnable.Get(s.o.Settings.Snapshot()) {
		return nil
	}
	u, err := s.o.Users.ByEmail(ctx, email)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.o.Factor.Throttle(ctx, u.ID)
}

func (s *Sessions) credential(ctx context.Context, userID string) (*users.Credential, error) {
	c, err := s.o.Users.Credential(ctx, userID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, web.Fail(http.StatusUnauthorized, TextNoAccount)
	case err != nil:
		return nil, unavailable(err)
	case !c.Active:
		return nil, web.Fail(http.StatusUnauthorized, TextNoAccount)
	}
	return c, nil
}

// Begin makes a session without looking at second factors, and sets the cookie where w is not nil. The claims hold what
// the session is to say: Method, MFAVerified, AuthTime (now by default).
func (s *Sessions) Begin(ctx context.Context, w http.ResponseWriter, u *users.User, c *users.Credential, claims auth.Claims) (*Session, error) {
	if claims.AuthTime == 0 {
		claims.AuthTime = s.now().Unix()
	}
	token, made, err := s.Issue(u.ID, c.Stamp, claims)
	if err != nil {
		return nil, err
	}
	permissions, err := s.o.Access.Permissions(ctx, u)
	if err != nil {
		return nil, err
	}
	out := &Session{Profile: ProfileOf(u), Token: token, TokenType: "Bearer", Permissions: permissions}
	if made.Expires != 0 {
		out.ExpiresAt = &made.Expires
	}
	if w != nil {
		s.SetCookie(w, token, made.Expires)
	}
	return out, nil
}

// usualExpiry is the initial value of auth.jwt_expiry.
const usualExpiry = 28 * 24 * time.Hour

// Issue signs a token for an account with the session stamp of its credentials. Where the claims say nothing of it, it
// expires as the setting auth.jwt_expiry says.
func (s *Sessions) Issue(userID, stamp string, claims auth.Claims) (string, auth.Claims, error) {
	claims.ID, claims.Stamp = userID, stamp
	if claims.Expires == 0 {
		d, err := auth.ParseExpiry(config.AuthJWTExpiry.Get(s.o.Settings.Snapshot()))
		if err != nil {
			d = usualExpiry // or nobody could sign in to put the setting right
		}
		if d != 0 {
			claims.Expires = s.now().Add(d).Unix()
		}
	}
	return s.o.Tokens.Make(claims)
}

// SetOAuthCookie has the browser keep the id of its session with a provider until its session here expires (Unix
// seconds; nil for as long as it runs).
func (s *Sessions) SetOAuthCookie(w http.ResponseWriter, id string, expires *int64) {
	var at int64
	if expires != nil {
		at = *expires
	}
	s.setCookie(w, "oauth_session_id", id, at)
}

// SetCookie has the browser keep a token until it expires (Unix seconds; 0 for as long as it runs).
func (s *Sessions) SetCookie(w http.ResponseWriter, token string, expires int64) {
	s.setCookie(w, "token", token, expires)
}

func (s *Sessions) setCookie(w http.ResponseWriter, name, value string, expires int64) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, Secure: s.o.Env.Cookies.AuthSecure, SameSite: s.o.Env.Cookies.AuthSameSite}
	if expires != 0 {
		c.Expires = time.Unix(expires, 0).UTC()
		c.MaxAge = int(max(1, expires-s.now().Unix()))
	}
	http.SetCookie(w, c)
}

// DropCookie has the browser forget a cookie.
func DropCookie(w http.ResponseWriter, name string) { DropCookieAt(w, name, "/") }

// DropCookieAt is DropCookie for a cookie of a path.
func DropCookieAt(w http.ResponseWriter, name, path string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: path, MaxAge: -1, Expires: time.Unix(0, 0), SameSite: http.SameSiteLaxMode})
}

// PasswordOwner finds the account of an address and a password; nil where the two do not belong together. It takes as
// long for addresses that nobody has.
func (s *Sessions) PasswordOwner(ctx context.Context, email, password string) (*users.User, *users.Credential, error) {
	u, err := s.o.Users.ByEmail(ctx, email)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err
	}
	c := &users.Credential{}
	if u != nil {
		if c, err = s.o.Users.Credential(ctx, u.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
		if c == nil || !c.Active {
			c = &users.Credential{}
		}
	}
	ok, err := s.o.Passwords.Verify(ctx, c.Password, password)
	if err != nil || !ok {
		return nil, nil, err
	}
	return u, c, nil
}

// MakeAdmin makes the administrator that the environment names, where there is no account yet: for the start. It gives
// nil where it made none.
func (s *Sessions) MakeAdmin(ctx context.Context) (*users.User, error) {
	a := s.o.Env.Admin
	if a.Email == "" || a.Password == "" {
		return nil, nil
	}
	if there, err := s.o.Users.Any(ctx); err != nil || there {
		return nil, err
	}
	hash, err := s.o.Passwords.Hash(ctx, a.Password)
	if err != nil {
		return nil, fmt.Errorf("WEBUI_ADMIN_PASSWORD: %w", err)
	}
	u, err := s.o.Users.Insert(ctx, users.NewUser{Email: a.Email, Name: a.Name, Password: hash, Role: users.RoleAdmin,
		ProfileImageURL: "/user.png", OnlyFirst: true,
		InTx: func(tx *store.Tx, _ *users.User, _ bool) error {
			return s.o.Settings.SetTx(ctx, tx, config.Changes{config.UIEnableSignup.Key(): false})
		}})
	if errors.Is(err, store.ErrConflict) {
		return nil, nil // another replica was quicker
	}
	return u, err
}
