package auths

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type signInIn struct {
	Body struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	}
}

// The account that serves everyone where WEBUI_AUTH is off.
const (
	systemEmail    = "admin@localhost"
	systemPassword = "admin"
)

func (m *Module) signIn(c *web.Call, in signInIn) (any, error) {
	if !m.Env.PasswordAuth {
		return nil, web.Fail(http.StatusForbidden, textRestricted)
	}
	var u *users.User
	var cred *users.Credential
	var err error
	method := "password"
	switch {
	case m.Env.Trusted.Email != "":
		method = "trusted_header"
		u, err = m.trusted(c)
	case !m.Env.Auth:
		method = "system"
		u, cred, err = m.system(c.Context())
	default:
		email := strings.ToLower(in.Body.Email)
		if m.signins.Limited(email) {
			return nil, web.Fail(http.StatusTooManyRequests, textRate)
		}
		if err := m.Sessions.Throttle(c.Context(), email); err != nil {
			return nil, err
		}
		u, cred, err = m.Sessions.PasswordOwner(c.Context(), email, in.Body.Password)
	}
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, web.Fail(http.StatusBadRequest, textBadCredentials)
	}
	return m.begin(c, u, cred, method)
}

// begin begins a session, or the second step of a sign-in.
func (m *Module) begin(c *web.Call, u *users.User, cred *users.Credential, method string) (any, error) {
	out, err := m.Sessions.SignIn(c.Context(), c.W, u, cred, method)
	if _, ok := out.(*session.Session); ok && err == nil {
		m.Events.Publish(c.Context(), events.Event{Name: "auth.login", Actor: u, SubjectType: "user", SubjectID: u.ID, Source: method, Data: events.Pairs{"auth_method", method}})
	}
	return out, err
}

// system signs in the one account there is where nobody needs to sign in; the first call makes it.
func (m *Module) system(ctx context.Context) (*users.User, *users.Credential, error) {
	_, err := m.Users.ByEmail(ctx, systemEmail)
	if errors.Is(err, store.ErrNotFound) {
		there, err := m.Users.Any(ctx)
		if err != nil {
			return nil, nil, err
		}
		if there {
			return nil, nil, web.Fail(http.StatusBadRequest, textExisting)
		}
		if _, err := m.register(ctx, systemEmail, systemPassword, "User", users.DefaultImage, "system"); err != nil && !users.IsTaken(err) {
			return nil, nil, err
		}
	} else if err != nil {
		return nil, nil, err
	}
	return m.Sessions.PasswordOwner(ctx, systemEmail, systemPassword)
}

// trusted finds, or makes, the account that a proxy names in a header.
func (m *Module) trusted(c *web.Call) (*users.User, error) {
	t, ctx, h := m.Env.Trusted, c.Context(), c.R.Header
	email := strings.ToLower(headerText(h, t.Email))
	if email == "" {
		return nil, web.Fail(http.StatusBadRequest, textTrusted)
	}
	u, err := m.Users.ByEmail(ctx, email)
	if errors.Is(err, store.ErrNotFound) {
		name := email
		if n := headerText(h, t.Name); n != "" {
			name = unquote(n)
		}
		if _, err := m.register(ctx, email, store.NewID(), name, users.DefaultImage, "trusted_header"); err != nil && !users.IsTaken(err) {
			return nil, err
		}
		u, err = m.Users.ByEmail(ctx, email)
	}
	if err != nil {
		return nil, err
	}
	if ok, err := m.isActive(ctx, u.ID); err != nil || !ok {
		return nil, err
	}
	if names := splitList(headerText(h, t.Groups)); len(names) > 0 {
		if _, err := m.Access.Groups().SyncByNames(ctx, u.ID, names); err != nil {
			return nil, err
		}
	}
	role := strings.TrimSpace(strings.ToLower(headerText(h, t.Role)))
	switch role {
	case "", u.Role:
	case users.RoleAdmin, users.RoleUser, users.RolePending:
		if u, err = m.Users.Update(ctx, u.ID, users.SetRole(role)); err != nil {
			return nil, err
		}
		m.Events.Publish(ctx, events.Event{Name: "user.role_updated", Actor: u, SubjectID: u.ID, Source: "trusted_header", Data: events.Pairs{"role", role}})
	default:
		m.Log.WarnContext(ctx, "unknown role in the trusted header", "role", role)
	}
	return u, nil
}

// headerText is a header's text, "" for a name that is "". Bytes that are no UTF-8 are taken for Latin-1.
func headerText(h http.Header, name string) string {
	if name == "" {
		return ""
	}
	v := h.Get(name)
	if utf8.ValidString(v) {
		return v
	}
	out := make([]rune, len(v))
	for i := range len(v) {
		out[i] = rune(v[i])
	}
	return string(out)
}

// unquote undoes the escapes of a URL; what is no escape stands for itself.
func unquote(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b[0])
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return strings.ToValidUTF8(string(out), "\uFFFD")
}

// isActive says whether an account may sign in at all.
func (m *Module) isActive(ctx context.Context, userID string) (bool, error) {
	cred, err := m.Users.Credential(ctx, userID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && cred.Active, err
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// register makes an account as a sign-up does: the first is the administrator, and switches sign-up off. source is how its
// owner came, for the event.
func (m *Module) register(ctx context.Context, email, password, name, image, source string) (*users.User, error) {
	hash, err := m.Sessions.Passwords().Hash(ctx, password)
	if err != nil {
		return nil, err
	}
	u, err := m.Users.Insert(ctx, users.NewUser{
		Email: email, Name: name, Password: hash, ProfileImageURL: image, FirstIsAdmin: true,
		Role: config.UIDefaultUserRole.Get(m.Settings.Snapshot()),
		InTx: func(tx *store.Tx, _ *users.User, first bool) error {
			if !first {
				return nil
			}
			return m.Settings.SetTx(ctx, tx, config.Changes{config.UIEnableSignup.Key(): false})
		},
	})
	if err != nil {
		return nil, err
	}
	m.joinDefaultGroup(ctx, u.ID)
	m.Events.Publish(ctx, events.Event{Name: "user.created", Actor: u, SubjectID: u.ID, Source: source, Data: events.Pairs{"role", u.Role}})
	return u, nil
}

// joinDefaultGroup makes a new account a member of the group that the settings name. A failure is no reason to refuse the
// account.
func (m *Module) joinDefaultGroup(ctx context.Context, userID string) {
	group := config.UIDefaultGroupID.Get(m.Settings.Snapshot())
	if group == "" {
		return
	}
	if _, _, err := m.Access.Groups().AddMembers(ctx, group, []string{userID}); err != nil {
		m.Log.ErrorContext(ctx, "new account not in the default group", "user_id", userID, "group_id", group, "error", err)
	}
}

type signUpForm struct {
	Name            string          `json:"name"`
	Email           string          `json:"email"`
	Password        string          `json:"password"`
	ProfileImageURL web.Opt[string] `json:"profile_image_url"`
}

type signUpIn struct{ Body signUpForm }

var emailForm = regexp.MustCompile(`^[^@]+@[^@]+\.[^@]+`)

func isEmail(s string) bool { return strings.HasSuffix(s, "@localhost") || emailForm.MatchString(s) }

// checkImage refuses a picture that accounts may not have, as a fault of the form.
func (m *Module) checkImage(image string) error {
	if err := users.CheckImageURL(image, m.Env.Images); err != nil {
		return web.Invalid(web.ValueError(web.Loc{"body", "profile_image_url"}, nil, err.Error()))
	}
	return nil
}

// isFree checks the address and password of a new account.
func (m *Module) isFree(ctx context.Context, f *signUpForm) error {
	f.Email = strings.ToLower(f.Email)
	if !isEmail(f.Email) {
		return web.Fail(http.StatusBadRequest, textBadEmail)
	}
	_, err := m.Users.ByEmail(ctx, f.Email)
	if err == nil {
		return web.Fail(http.StatusBadRequest, textTaken)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err := m.Sessions.Passwords().Check(f.Password); err != nil {
		return web.Fail(http.StatusBadRequest, err.Error())
	}
	return nil
}

// image is the picture of a new account.
func (f *signUpForm) image() string { return f.ProfileImageURL.Or(users.DefaultImage) }

func (m *Module) signUp(c *web.Call, in signUpIn) (any, error) {
	ctx, f := c.Context(), &in.Body
	if err := m.checkImage(f.image()); err != nil {
		return nil, err
	}
	there, err := m.Users.Any(ctx)
	if err != nil {
		return nil, err
	}
	if !m.signUpOpen(there) {
		return nil, web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	if err := m.isFree(ctx, f); err != nil {
		return nil, err
	}
	u, err := m.register(ctx, f.Email, f.Password, f.Name, f.image(), "")
	if users.IsTaken(err) {
		return nil, web.Fail(http.StatusBadRequest, textTaken)
	}
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, "An internal error occurred during signup.", err)
	}
	m.Events.Publish(ctx, events.Event{Name: "auth.signup", Actor: u, SubjectType: "user", SubjectID: u.ID, Data: events.Pairs{"email", u.Email}})
	return m.begin(c, u, nil, "password")
}

// signUpOpen says whether accounts may be made by anybody. The first may be made though sign-up is off, since the first
// switches it off, and the setting can outlive the accounts.
func (m *Module) signUpOpen(there bool) bool {
	snap := m.Settings.Snapshot()
	switch {
	case !m.Env.Auth:
		return !there
	case there:
		return config.UIEnableSignup.Get(snap) && config.UIEnableLoginForm.Get(snap)
	}
	return config.UIEnableLoginForm.Get(snap) || m.Env.InitialAdminSignup
}
