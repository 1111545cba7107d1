package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// errProhibited refuses somebody whom the provider knows, and this server does not let in.
var errProhibited = web.Fail(http.StatusForbidden, web.TextProhibited)

// account finds, or makes, the account of somebody whom a provider has vouched for, and brings it up to date.
func (s *Service) account(ctx context.Context, id *identity) (*users.User, error) {
	snap := s.Settings.Snapshot()
	subject := text(id.claims.Get(firstOf(config.OAuthSubClaim.Get(snap), id.provider.subject, "sub")))
	if subject == "" {
		return nil, failure(errors.New("the provider does not say who the person is"))
	}
	email, err := s.email(ctx, id, subject)
	if err != nil {
		return nil, err
	}
	if !domainAllowed(snap, email) {
		return nil, failure(fmt.Errorf("the domain of %s is not allowed", email))
	}
	u, err := s.find(ctx, id, subject, email)
	if err != nil {
		return nil, err
	}
	if u != nil {
		u, err = s.update(ctx, id, u)
	} else {
		u, err = s.create(ctx, id, subject, email)
	}
	if err == nil && config.OAuthEnableGroupMapping.Get(snap) {
		err = s.syncGroups(ctx, id, u)
	}
	return u, err
}

// email is the person's address, in lower case.
func (s *Service) email(ctx context.Context, id *identity, subject string) (string, error) {
	email := text(id.claims.Get(config.OAuthEmailClaim.Get(s.Settings.Snapshot())))
	switch {
	case email != "":
	case id.provider.id == "github": // people may hide it
		list, err := fetchJSON(ctx, s.HTTP, id.provider.userInfoURL+"/emails", id.access, id.provider.timeout)
		if err != nil {
			return "", failure(err)
		}
		for _, e := range list.List() {
			if e.Bool("primary") && email == "" {
				email = e.Text("email")
			}
		}
		if email == "" {
			return "", failure(errors.New("none of the person's addresses is the primary one"))
		}
	case s.Env.OAuth.EmailFallback:
		email = id.provider.id + "@" + subject + ".local"
	default:
		return "", failure(errors.New("the provider does not tell the person's address"))
	}
	return strings.ToLower(email), nil
}

// domainAllowed says whether people with an address may sign in.
func domainAllowed(s *config.Snapshot, email string) bool {
	allowed := config.OAuthAllowedDomains.Get(s)
	return slices.Contains(allowed, "*") || slices.Contains(allowed, email[strings.LastIndexByte(email, '@')+1:])
}

// emailUnverified says whether the provider says that it has not made sure of the address, and the operator wants to know.
func (s *Service) emailUnverified(id *identity) bool {
	return s.Env.OAuth.VerifiedEmail && !id.claims.Get("email_verified").Truthy()
}

// find finds the account that the provider's subject is known for; else, where accounts may be merged, the one that has the
// address. nil where there is none.
func (s *Service) find(ctx context.Context, id *identity, subject, email string) (*users.User, error) {
	u, err := found(s.Users.ByOAuth(ctx, id.provider.id, subject))
	if err == nil && u == nil && config.OAuthMergeAccountsByEmail.Get(s.Settings.Snapshot()) && !s.emailUnverified(id) {
		u, err = found(s.Users.ByEmail(ctx, email))
	}
	if err != nil || u == nil {
		return nil, err
	}
	if known, ok := u.OAuth.Get(id.provider.id, "sub").AsText(); !ok || known != subject {
		return s.Users.LinkOAuth(ctx, u.ID, id.provider.id, subject)
	}
	return u, nil
}

// role is the role that somebody is to have; u is nil for somebody new.
func (s *Service) role(ctx context.Context, id *identity, u *users.User) (string, error) {
	snap := s.Settings.Snapshot()
	role := config.UIDefaultUserRole.Get(snap)
	n, err := s.Users.Count(ctx)
	switch {
	case err != nil:
		return "", err
	case u != nil && n == 1:
		return users.RoleAdmin, nil
	case u == nil && n == 0:
		return role, nil // the first account becomes an administrator's when it is made
	}
	if u != nil {
		role = u.Role
	}
	if !config.OAuthEnableRoleMapping.Get(snap) {
		return role, nil
	}
	allowed, admins := config.OAuthAllowedRoles.Get(snap), config.OAuthAdminRoles.Get(snap)
	d := id.claimed(config.OAuthRolesClaim.Get(snap))
	roles, any := values(d, s.Env.OAuth.RolesSeparator)
	switch d.Kind() {
	case '0':
		roles, any = []string{strings.TrimSpace(d.String())}, true
	case 't', 'f':
		roles, any = []string{map[bool]string{true: "True", false: "False"}[d.Truthy()]}, true
	}
	if !any {
		if id.token != nil && len(allowed) > 0 && !slices.Contains(allowed, "*") {
			return "", errProhibited
		}
		return role, nil
	}
	has := func(r string) bool { return slices.Contains(roles, r) }
	switch {
	case slices.ContainsFunc(admins, has):
		return users.RoleAdmin, nil
	case slices.Contains(allowed, "*"), slices.ContainsFunc(allowed, has):
		return users.RoleUser, nil
	}
	return "", errProhibited
}

// setRole gives an account the role that the provider says.
func (s *Service) setRole(ctx context.Context, id *identity, u *users.User) (*users.User, error) {
	role, err := s.role(ctx, id, u)
	if err != nil || role == u.Role {
		return u, err
	}
	if u, err = s.Users.Update(ctx, u.ID, users.SetRole(role)); err != nil {
		return nil, err
	}
	s.publish(ctx, "user.role_updated", u, u.ID, web.M{"role": role, "provider": id.provider.id})
	return u, nil
}

// update brings an account up to date with what the provider says, as far as the settings ask for it.
func (s *Service) update(ctx context.Context, id *identity, u *users.User) (*users.User, error) {
	u, err := s.setRole(ctx, id, u)
	if err != nil {
		return nil, err
	}
	snap := s.Settings.Snapshot()
	var fields []users.Field
	var names []string
	if name := text(id.claims.Get(config.OAuthUsernameClaim.Get(snap))); config.OAuthUpdateNameOnLogin.Get(snap) && name != "" && name != u.Name {
		fields, names = append(fields, users.SetName(name)), append(names, "name")
	}
	if config.OAuthUpdateEmailOnLogin.Get(snap) && !s.emailUnverified(id) {
		if email := strings.ToLower(text(id.claims.Get(config.OAuthEmailClaim.Get(snap)))); email != "" && email != strings.ToLower(u.Email) {
			other, err := found(s.Users.ByEmail(ctx, email))
			if err != nil {
				return nil, err
			}
			if other == nil {
				fields, names = append(fields, users.SetEmail(email)), append(names, "email")
			} else {
				s.Log.WarnContext(ctx, "another account has the new address", "user_id", u.ID, "other", other.ID)
			}
		}
	}
	if config.OAuthUpdatePictureOnLogin.Get(snap) && config.OAuthPictureClaim.Get(snap) != "" {
		if picture := s.picture(ctx, id); picture != *u.ProfileImageURL {
			fields, names = append(fields, users.SetProfileImageURL(picture)), append(names, "profile_image_url")
		}
	}
	if len(fields) == 0 {
		return u, nil
	}
	if u, err = s.Users.Update(ctx, u.ID, fields...); err != nil {
		return nil, err
	}
	s.publish(ctx, "user.updated", u, u.ID, web.M{"updated_fields": names, "provider": id.provider.id})
	return u, nil
}

// create makes an account for somebody new, where that is allowed.
func (s *Service) create(ctx context.Context, id *identity, subject, email string) (*users.User, error) {
	snap := s.Settings.Snapshot()
	if !config.OAuthEnableSignup.Get(snap) {
		return nil, errProhibited
	}
	taken, err := found(s.Users.ByEmail(ctx, email))
	if err != nil {
		return nil, err
	}
	if taken != nil {
		return nil, web.Fail(http.StatusBadRequest, textTaken)
	}
	role, err := s.role(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	hash, err := s.Sessions.Passwords().Hash(ctx, store.NewID()) // a password that nobody knows
	if err != nil {
		return nil, err
	}
	u, err := s.Users.Insert(ctx, users.NewUser{
		Email: email, Name: firstOf(text(id.claims.Get(config.OAuthUsernameClaim.Get(snap))), email), Password: hash, Role: role,
		ProfileImageURL: s.picture(ctx, id), FirstIsAdmin: true,
		OAuth: jsondoc.Object(id.provider.id, jsondoc.Object("sub", jsondoc.Text(subject))),
	})
	if users.IsTaken(err) {
		// The same person in two windows, perhaps.
		if u, err := found(s.Users.ByOAuth(ctx, id.provider.id, subject)); err != nil || u != nil {
			return u, err
		}
		return nil, web.Fail(http.StatusBadRequest, textTaken)
	}
	if err != nil {
		return nil, err
	}
	if group := config.UIDefaultGroupID.Get(snap); group != "" {
		if _, _, err := s.Access.Groups().AddMembers(ctx, group, []string{u.ID}); err != nil {
			s.Log.ErrorContext(ctx, "new account not in the default group", "user_id", u.ID, "group_id", group, "error", err)
		}
	}
	s.publish(ctx, "user.created", u, u.ID, web.M{"role": u.Role, "provider": id.provider.id})
	return u, nil
}

// syncGroups makes an account a member of the groups that the provider names, and of no others but blocked ones. A provider
// that names none changes nothing.
func (s *Service) syncGroups(ctx context.Context, id *identity, u *users.User) error {
	snap := s.Settings.Snapshot()
	names, any := values(id.claimed(config.OAuthGroupClaim.Get(snap)), s.Env.OAuth.GroupsSeparator)
	if !any {
		return nil
	}
	blocked := blockedGroups(snap)
	wanted := slices.DeleteFunc(slices.Clone(names), blocked.match)
	all := s.Access.Groups()
	if config.OAuthEnableGroupCreation.Get(snap) {
		if err := s.makeGroups(ctx, u, wanted); err != nil {
			return err
		}
	}
	now, err := all.OfUser(ctx, u.ID, false)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, g := range now {
		have[g.Name] = true
		if slices.Contains(names, g.Name) || blocked.match(g.Name) {
			continue
		}
		if _, _, err := all.RemoveMembers(ctx, g.ID, []string{u.ID}); err != nil {
			return err
		}
		s.publish(ctx, "group.member_removed", u, g.ID, web.M{"user_ids": []string{u.ID}})
		if err := s.completeGroup(ctx, g); err != nil {
			return err
		}
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool { return have[name] })
	if len(wanted) == 0 {
		return nil
	}
	there, err := all.ByNames(ctx, wanted)
	if err != nil {
		return err
	}
	for _, g := range there {
		if _, _, err := all.AddMembers(ctx, g.ID, []string{u.ID}); err != nil {
			return err
		}
		s.publish(ctx, "group.member_added", u, g.ID, web.M{"user_ids": []string{u.ID}})
		if err := s.completeGroup(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// makeGroups makes those groups that are not there, in the name of an administrator.
func (s *Service) makeGroups(ctx context.Context, u *users.User, names []string) error {
	owner := u.ID
	admin, err := found(s.Users.SuperAdmin(ctx))
	if err != nil {
		return err
	}
	if admin != nil {
		owner = admin.ID
	}
	snap := s.Settings.Snapshot()
	var list []groups.NewGroup
	for _, name := range names {
		if name != "" {
			list = append(list, groups.NewGroup{UserID: owner, Name: name, Description: "Group '" + name + "' created automatically via OAuth.",
				Permissions: jsondoc.Doc(config.UserPermissions.Raw(snap)), Share: jsondoc.Doc(config.OAuthGroupDefaultShare.Raw(snap))})
		}
	}
	if len(list) == 0 {
		return nil
	}
	made, err := s.Access.Groups().InsertMissing(ctx, list)
	for _, g := range made {
		s.publish(ctx, "group.created", nil, g.ID, web.M{"name": g.Name})
	}
	return err
}

// completeGroup gives a group that has no permissions of its own those of everybody, as the reference does.
func (s *Service) completeGroup(ctx context.Context, g *groups.Group) error {
	if g.Permissions.Truthy() {
		return nil
	}
	_, _, err := s.Access.Groups().Update(ctx, g.ID, groups.Patch{Name: g.Name, Description: g.Description,
		Permissions: jsondoc.Doc(config.UserPermissions.Raw(s.Settings.Snapshot()))})
	return err
}
