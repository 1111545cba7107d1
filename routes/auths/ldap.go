package auths

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth/ldap"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type ldapSignIn struct {
	Body struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
}

// ldap signs in by a directory. The account is found by the address that the directory has, and made where there is none.
func (m *Module) ldap(c *web.Call, in ldapSignIn) (any, error) {
	ctx, snap := c.Context(), m.Settings.Snapshot()
	switch {
	case !config.LDAPEnable.Get(snap):
		return nil, web.Fail(http.StatusBadRequest, "LDAP authentication is not enabled")
	case !m.Env.PasswordAuth:
		return nil, web.Fail(http.StatusForbidden, textRestricted)
	case strings.TrimSpace(in.Body.Password) == "":
		return nil, web.Fail(http.StatusBadRequest, textBadCredentials)
	case m.signins.Limited("ldap:" + in.Body.User):
		return nil, web.Fail(http.StatusTooManyRequests, textRate)
	}
	o := ldap.OptionsOf(snap)
	p, err := m.person(ctx, o, in.Body.User, in.Body.Password)
	if err != nil {
		return nil, m.ldapError(ctx, err)
	}
	u, err := m.Users.ByEmail(ctx, p.Email)
	if errors.Is(err, store.ErrNotFound) {
		if _, err := m.register(ctx, p.Email, store.NewID(), p.Name, users.DefaultImage, "ldap"); err != nil && !users.IsTaken(err) {
			return nil, web.Because(http.StatusInternalServerError, "Internal error occurred during LDAP user creation.", err)
		}
		u, err = m.Users.ByEmail(ctx, p.Email)
	}
	if err != nil {
		return nil, err
	}
	switch ok, err := m.isActive(ctx, u.ID); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, web.Fail(http.StatusBadRequest, textBadCredentials)
	}
	m.joinDirectoryGroups(ctx, u.ID, o, p.Groups)
	return m.begin(c, u, nil, "ldap")
}

// person is who a user name and a password prove to be.
func (m *Module) person(ctx context.Context, o ldap.Options, user, password string) (*ldap.Person, error) {
	d, err := ldap.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	p, err := d.Find(user)
	if err != nil {
		return nil, err
	}
	if err := m.Sessions.Throttle(ctx, p.Email); err != nil {
		return nil, err
	}
	return p, d.Prove(p, password)
}

// ldapError is the answer to a sign-in that a directory did not confirm.
func (m *Module) ldapError(ctx context.Context, err error) error {
	if errors.As(err, new(*web.Error)) {
		return err // an answer already
	}
	for _, known := range []error{ldap.ErrTLS, ldap.ErrAppAccount, ldap.ErrNotFound, ldap.ErrNoEmail, ldap.ErrMismatch, ldap.ErrPassword} {
		if errors.Is(err, known) {
			if known == ldap.ErrTLS || known == ldap.ErrAppAccount {
				m.Log.ErrorContext(ctx, "sign-in by LDAP is not set up well", "error", err)
			}
			return web.Because(http.StatusBadRequest, known.Error(), err)
		}
	}
	if ctx.Err() == nil {
		m.Log.ErrorContext(ctx, "LDAP server was not asked", "error", err)
	}
	return web.Because(http.StatusBadRequest, ldap.ErrFailed.Error(), err)
}

// joinDirectoryGroups makes an account a member of the groups that the directory names, and of no others. A failure is no
// reason to refuse the account.
func (m *Module) joinDirectoryGroups(ctx context.Context, userID string, o ldap.Options, names []string) {
	if len(names) == 0 {
		return
	}
	var err error
	if o.CreateGroups {
		_, err = m.Access.Groups().CreateByNames(ctx, userID, names, groups.ShareOf(m.Env.GroupShare))
	}
	if err == nil {
		_, err = m.Access.Groups().SyncByNames(ctx, userID, names)
	}
	if err != nil {
		m.Log.ErrorContext(ctx, "groups of the directory not taken over", "user_id", userID, "error", err)
	}
}
