package auths

import (
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// sessionAnswer is what the caller's session is.
type sessionAnswer struct {
	session.Session `json:",inline"`
	StatusEmoji     *string `json:"status_emoji"`
	StatusMessage   *string `json:"status_message"`
	StatusExpiresAt *int64  `json:"status_expires_at"`
	Bio             *string `json:"bio"`
	Gender          *string `json:"gender"`
	DateOfBirth     *string `json:"date_of_birth"`
}

func (m *Module) session(c *web.Call, _ web.None) (*sessionAnswer, error) {
	p := c.Principal
	permissions, err := m.Access.Permissions(c.Context(), p.User)
	if err != nil {
		return nil, err
	}
	m.Sessions.SetCookie(c.W, p.Token, p.Claims.Expires)
	out := &sessionAnswer{
		Session:     session.Session{Profile: session.ProfileOf(p.User), Token: p.Token, TokenType: "Bearer", Permissions: permissions},
		StatusEmoji: p.StatusEmoji, StatusMessage: p.StatusMessage, StatusExpiresAt: p.StatusExpiresAt,
		Bio: p.Bio, Gender: p.Gender, DateOfBirth: p.DateOfBirth,
	}
	out.ProfileImageURL = *p.ProfileImageURL
	if p.Claims.Expires != 0 {
		out.ExpiresAt = &p.Claims.Expires
	}
	return out, nil
}

type statusAnswer struct {
	Status      bool   `json:"status"`
	RedirectURL string `json:"redirect_url,omitempty"`
}

// signOut ends the session of the token that is sent, and has the browser forget all of it. Nobody is refused.
func (m *Module) signOut(c *web.Call, _ web.None) (*statusAnswer, error) {
	bearer, cookie := bearerToken(c.R), cookieToken(c.R)
	id, err := m.Sessions.SignOut(c.Context(), bearer, cookie)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"token", "owui-session", "oui-session", "oauth_id_token"} {
		session.DropCookie(c.W, name)
	}
	out := &statusAnswer{Status: true, RedirectURL: m.Env.SignoutRedirectURL}
	gone := events.Event{Name: "auth.logout"}
	var failed error
	if cookie, err := c.R.Cookie(oauth.SessionCookie); err == nil && cookie.Value != "" {
		session.DropCookie(c.W, oauth.SessionCookie)
		provider, to, err := m.OAuth.SignedOut(c.Context(), cookie.Value)
		if failed = err; to != "" {
			out.RedirectURL = to
		}
		if provider != "" {
			gone.Source, gone.Data = "oauth", events.Pairs{"auth_method", "oauth", "provider", provider}
		}
	}
	if bearer != "" || cookie != "" { // also where the provider's session could not be ended
		if gone.Actor, _ = m.Users.ByID(c.Context(), id); gone.Actor != nil {
			gone.SubjectType, gone.SubjectID = "user", id
		}
		m.Events.Publish(c.Context(), gone)
	}
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

func bearerToken(r *http.Request) string {
	if _, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && !strings.Contains(token, " ") {
		return token
	}
	return ""
}

func cookieToken(r *http.Request) string {
	if cookie, err := r.Cookie("token"); err == nil {
		return cookie.Value
	}
	return ""
}

type addIn struct {
	Body struct {
		signUpForm
		Role web.Opt[string] `json:"role"`
	}
}

type addAnswer struct {
	session.Profile `json:",inline"`
	Token           string `json:"token,omitempty"`
	TokenType       string `json:"token_type,omitempty"`
}

// add makes an account for somebody else.
func (m *Module) add(c *web.Call, in addIn) (*addAnswer, error) {
	ctx, f := c.Context(), &in.Body.signUpForm
	if err := m.checkImage(f.image()); err != nil {
		return nil, err
	}
	if err := m.isFree(ctx, f); err != nil {
		return nil, err
	}
	hash, err := m.Sessions.Passwords().Hash(ctx, f.Password)
	if err != nil {
		return nil, err
	}
	u, err := m.Users.Insert(ctx, users.NewUser{Email: f.Email, Name: f.Name, Password: hash,
		Role: in.Body.Role.Or(users.RolePending), ProfileImageURL: f.image()})
	if users.IsTaken(err) {
		return nil, web.Fail(http.StatusBadRequest, textTaken)
	}
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, "An internal error occurred while adding the user.", err)
	}
	m.joinDefaultGroup(ctx, u.ID)
	m.Events.Publish(ctx, events.Event{Name: "user.created", Actor: c.Principal.User, SubjectID: u.ID, Source: "admin", Data: events.Pairs{"role", u.Role}})
	out := &addAnswer{Profile: session.ProfileOf(u)}
	if config.AuthMFAEnable.Get(m.Settings.Snapshot()) {
		out.ProfileImageURL = *u.ProfileImageURL
		return out, nil
	}
	cred, err := m.Users.Credential(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	out.TokenType = "Bearer"
	out.Token, _, err = m.Sessions.Issue(u.ID, cred.Stamp, auth.Claims{})
	return out, err
}

type profileIn struct {
	Body struct {
		ProfileImageURL string          `json:"profile_image_url"`
		Name            string          `json:"name"`
		Bio             web.Opt[string] `json:"bio"`
		Gender          web.Opt[string] `json:"gender"`
		DateOfBirth     web.Opt[date]   `json:"date_of_birth"`
	}
}

func (m *Module) updateProfile(c *web.Call, in profileIn) (*session.Profile, error) {
	f := &in.Body
	if err := m.checkImage(f.ProfileImageURL); err != nil {
		return nil, err
	}
	u, err := m.Users.Update(c.Context(), c.UserID(), users.SetProfileImageURL(f.ProfileImageURL), users.SetName(f.Name),
		users.SetBio(f.Bio.Ptr()), users.SetGender(f.Gender.Ptr()), users.SetDateOfBirth((*string)(f.DateOfBirth.Ptr())))
	if errors.Is(err, store.ErrNotFound) {
		return nil, web.Fail(http.StatusBadRequest, web.TextDefault)
	}
	if err != nil {
		return nil, err
	}
	m.Events.Publish(c.Context(), events.Event{Name: "user.profile_updated", Actor: c.Principal.User, SubjectID: u.ID,
		Data: events.Pairs{"updated_fields", []string{"profile_image_url", "name", "bio", "gender", "date_of_birth"}}})
	out := session.ProfileOf(u)
	out.ProfileImageURL = *u.ProfileImageURL
	return &out, nil
}

type timezoneIn struct {
	Body struct {
		Timezone string `json:"timezone"`
	}
}

func (m *Module) updateTimezone(c *web.Call, in timezoneIn) (*statusAnswer, error) {
	_, err := m.Users.Update(c.Context(), c.UserID(), users.SetTimezone(&in.Body.Timezone))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	m.Events.Publish(c.Context(), events.Event{Name: "user.updated", Actor: c.Principal.User, SubjectID: c.UserID(), Data: events.Pairs{"updated_fields", []string{"timezone"}}})
	return &statusAnswer{Status: true}, nil
}

type passwordIn struct {
	Body struct {
		Password    string `json:"password"`
		NewPassword string `json:"new_password"`
	}
}

// updatePassword changes the caller's password, which ends all their sessions.
func (m *Module) updatePassword(c *web.Call, in passwordIn) (bool, error) {
	if m.Env.Trusted.Email != "" {
		return false, web.Fail(http.StatusBadRequest, textRestricted)
	}
	ctx := c.Context()
	u, cred, err := m.Sessions.PasswordOwner(ctx, c.Principal.Email, in.Body.Password)
	if err != nil {
		return false, err
	}
	if u == nil {
		return false, web.Fail(http.StatusBadRequest, textBadPassword)
	}
	if err := m.Sessions.Passwords().Check(in.Body.NewPassword); err != nil {
		return false, web.Fail(http.StatusBadRequest, err.Error())
	}
	hash, err := m.Sessions.Passwords().Hash(ctx, in.Body.NewPassword)
	if err != nil {
		return false, err
	}
	err = m.Users.SetPassword(ctx, cred, hash)
	if errors.Is(err, users.ErrStale) {
		return false, web.Fail(http.StatusConflict, session.TextChanged)
	}
	if err != nil {
		return false, err
	}
	m.Sessions.Disconnect(u.ID)
	m.Events.Publish(ctx, events.Event{Name: "auth.password_changed", Actor: u, SubjectType: "user", SubjectID: u.ID})
	return true, nil
}

type keyAnswer struct {
	APIKey *string `json:"api_key"`
}

// mayHaveKey says whether the caller may have an API key.
func (m *Module) mayHaveKey(c *web.Call) error {
	ok := config.AuthEnableAPIKeys.Get(m.Settings.Snapshot())
	if ok {
		var err error
		if ok, err = m.Access.HasOrAdmin(c.Context(), c.Principal.User, "features.api_keys"); err != nil {
			return err
		}
	}
	if !ok {
		return web.Fail(http.StatusForbidden, textNoKeys)
	}
	return nil
}

func (m *Module) makeKey(c *web.Call, _ web.None) (*keyAnswer, error) {
	if err := m.mayHaveKey(c); err != nil {
		return nil, err
	}
	key := auth.APIKeyPrefix + strings.ReplaceAll(store.NewID(), "-", "")
	if err := m.Users.SetAPIKey(c.Context(), c.UserID(), key); err != nil {
		return nil, err
	}
	m.Events.Publish(c.Context(), events.Event{Name: "auth.api_key.created", Actor: c.Principal.User, SubjectType: "user", SubjectID: c.UserID()})
	return &keyAnswer{&key}, nil
}

func (m *Module) key(c *web.Call, _ web.None) (*keyAnswer, error) {
	if err := m.mayHaveKey(c); err != nil {
		return nil, err
	}
	key, err := m.Users.APIKey(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, web.Fail(http.StatusNotFound, textNoKey)
	}
	return &keyAnswer{&key}, nil
}

func (m *Module) deleteKey(c *web.Call, _ web.None) (bool, error) {
	if err := m.mayHaveKey(c); err != nil {
		return false, err
	}
	err := m.Users.SetAPIKey(c.Context(), c.UserID(), "")
	if err == nil {
		m.Events.Publish(c.Context(), events.Event{Name: "auth.api_key.deleted", Actor: c.Principal.User, SubjectType: "user", SubjectID: c.UserID()})
	}
	return err == nil, err
}

type providerIn struct {
	Provider string `path:"provider"`
}

func (m *Module) deleteOAuth(c *web.Call, in providerIn) (bool, error) {
	found, err := m.Users.DeleteOAuthSessions(c.Context(), c.UserID(), in.Provider)
	if err != nil {
		return false, err
	}
	if !found {
		return false, web.Fail(http.StatusNotFound, "No OAuth session found for this provider")
	}
	m.Events.Publish(c.Context(), events.Event{Name: "auth.oauth_session.deleted", Actor: c.Principal.User, SubjectType: "user", SubjectID: c.UserID(),
		Data: events.Pairs{"provider", in.Provider}})
	return true, nil
}

type exchangeIn struct {
	Provider string `path:"provider"`
	Body     struct {
		Token string `json:"token"`
	}
}

// exchange begins a session for the bearer of a provider's token.
func (m *Module) exchange(c *web.Call, in exchangeIn) (any, error) {
	return m.OAuth.Exchange(c.Context(), in.Provider, in.Body.Token, c.ClientIP())
}
