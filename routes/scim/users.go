package scim

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type emailForm struct {
	Value   string          `json:"value"`
	Type    web.Opt[string] `json:"type"`
	Primary bool            `json:"primary" default:"true"`
	Display web.Opt[string] `json:"display"`
}

type nameForm struct {
	Formatted       web.Opt[string] `json:"formatted"`
	FamilyName      web.Opt[string] `json:"familyName"`
	GivenName       web.Opt[string] `json:"givenName"`
	MiddleName      web.Opt[string] `json:"middleName"`
	HonorificPrefix web.Opt[string] `json:"honorificPrefix"`
	HonorificSuffix web.Opt[string] `json:"honorificSuffix"`
}

// text is the name as one, "" where the form has none.
func (f *nameForm) text() string {
	if f.Formatted.V != "" {
		return f.Formatted.V
	}
	return strings.TrimSpace(f.GivenName.V + " " + f.FamilyName.V)
}

type userForm struct {
	Schemas     []string             `json:"schemas" default:"[]"`
	ExternalID  web.Opt[string]      `json:"externalId"`
	UserName    string               `json:"userName"`
	Name        web.Opt[nameForm]    `json:"name"`
	DisplayName string               `json:"displayName"`
	Emails      []emailForm          `json:"emails"`
	Active      bool                 `json:"active" default:"true"`
	Password    web.Opt[string]      `json:"password"`
	Photos      web.Opt[[]emailForm] `json:"photos"`
}

type userChange struct {
	Schemas     []string             `json:"schemas" default:"[]"`
	ID          web.Opt[string]      `json:"id"`
	ExternalID  web.Opt[string]      `json:"externalId"`
	UserName    web.Opt[string]      `json:"userName"`
	Name        web.Opt[nameForm]    `json:"name"`
	DisplayName web.Opt[string]      `json:"displayName"`
	Emails      web.Opt[[]emailForm] `json:"emails"`
	Active      web.Opt[bool]        `json:"active"`
	Photos      web.Opt[[]emailForm] `json:"photos"`
}

func (m *Module) listUsers(c *web.Call, in listIn) (*listResource, error) {
	ctx := c.Context()
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	list, total, err := m.Users.Provisioned(ctx, m.Env.SCIM.Provider, q)
	if err != nil {
		return nil, listError(err)
	}
	docs, err := m.userDocs(c, in.shape(), list...)
	if err != nil {
		return nil, err
	}
	return &listResource{[]string{schemaList}, total, len(docs), in.Start, docs}, nil
}

// userDocs are the documents of accounts. Their groups take one query.
func (m *Module) userDocs(c *web.Call, s *shape, list ...*users.User) ([]jsondoc.Doc, error) {
	ids := make([]string, len(list))
	for i, u := range list {
		ids[i] = u.ID
	}
	docs := make([]jsondoc.Doc, len(list))
	in := map[string][]groups.Ref{}
	var err error
	if len(ids) > 0 && s.has("groups") {
		in, err = m.groups.OfUsers(c.Context(), ids...)
	}
	for i, u := range list {
		docs[i] = userDoc(c.Origin()+Prefix, u, in[u.ID], s)
	}
	return docs, err
}

type userIn struct {
	ID string `path:"user_id"`
	shapeIn
}

func (m *Module) user(c *web.Call, in userIn) (any, error) {
	u, err := m.Users.ProvisionedByID(c.Context(), in.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("User", in.ID)
	}
	if err != nil {
		return nil, err
	}
	if unchanged(c, userVersion(u)) {
		tag(c, userVersion(u))
		return web.Raw{Status: http.StatusNotModified}, nil
	}
	return m.answerUser(c, u, in.shape())
}

func (m *Module) answerUser(c *web.Call, u *users.User, s *shape) (jsondoc.Doc, error) {
	docs, err := m.userDocs(c, s, u)
	if err != nil {
		return nil, err
	}
	tag(c, userVersion(u))
	return docs[0], nil
}

type createUserIn struct {
	Body userForm
	shapeIn
}

func (m *Module) createUser(c *web.Call, in createUserIn) (any, error) {
	ctx, f := c.Context(), &in.Body
	provider, err := m.provider()
	if err != nil {
		return nil, err
	}
	if id := f.ExternalID.V; id != "" {
		_, err := m.Users.ByExternalID(ctx, provider, id)
		if err == nil {
			return nil, web.Fail(http.StatusConflict, "User with externalId "+id+" already exists")
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	n := users.NewUser{Email: f.UserName, Name: f.DisplayName, Role: users.RoleUser, ProfileImageURL: users.DefaultImage,
		SCIM: identityOf(nil, provider, f.ExternalID.Ptr())}
	for _, e := range f.Emails {
		if e.Primary {
			n.Email = e.Value
			break
		}
	}
	n.Email = strings.ToLower(n.Email)
	if name := f.Name.V.text(); name != "" {
		n.Name = name
	}
	if !f.Active {
		n.Role = users.RolePending
	}
	if image, ok := m.picture(f.Photos.V); ok {
		n.ProfileImageURL = image
	}
	// a check before the work of the hash; that of the database decides
	if _, err := m.Users.ByEmail(ctx, n.Email); err == nil {
		return nil, taken(n.Email)
	}
	if n.Password, err = m.Sessions.Passwords().Hash(ctx, store.NewID()); err != nil {
		return nil, err
	}
	u, err := m.Users.Insert(ctx, n)
	if users.IsTaken(err) {
		return nil, taken(n.Email)
	}
	if err != nil {
		return nil, err
	}
	m.publish(ctx, "user.created", u.ID, web.M{"email": u.Email, "role": u.Role, "external_id": f.ExternalID})
	c.Status(http.StatusCreated)
	c.Header().Set("Location", c.Origin()+Prefix+"/Users/"+u.ID)
	return m.answerUser(c, u, in.shape())
}

func taken(email string) error {
	return web.Fail(http.StatusConflict, "User with email "+email+" already exists")
}

// picture is the first photo, if it may be an account's picture.
func (m *Module) picture(photos []emailForm) (string, bool) {
	if len(photos) == 0 || users.CheckImageURL(photos[0].Value, m.Env.Images) != nil {
		return "", false
	}
	return photos[0].Value, true
}

// identityOf is a column of external ids with a provider's.
func identityOf(d jsondoc.Doc, provider string, id *string) jsondoc.Doc {
	return d.Or(jsondoc.Doc("{}")).Set(jsondoc.Of(struct {
		ID *string `json:"external_id"`
	}{id}), provider)
}

// draft is an account as a change leaves it, and which fields the change named, under the names of events.
type draft struct {
	users.User
	image  string
	fields []string
}

func (d *draft) set(field string, to *string, value string) {
	*to = value
	if !slices.Contains(d.fields, field) {
		d.fields = append(d.fields, field)
	}
}

func (d *draft) setEmail(v string) { d.set("email", &d.Email, strings.ToLower(v)) }
func (d *draft) setName(v string)  { d.set("name", &d.Name, v) }
func (d *draft) setImage(v string) { d.set("profile_image_url", &d.image, v) }

func (d *draft) setExternalID(provider string, id *string) {
	var field string
	d.set("externalId", &field, "")
	d.SCIM = identityOf(d.SCIM, provider, id)
}

// setActive admits the account, or takes that back. Administrators stay what they are: a fault of the directory shall not
// lock all of them out.
func (d *draft) setActive(active bool) {
	switch {
	case d.IsAdmin():
	case active:
		d.Role = users.RoleUser
	default:
		d.Role = users.RolePending
	}
}

// change edits an account and tells of it: with named of all fields that the change named, else of those that became
// others.
func (m *Module) change(c *web.Call, id string, named bool, s *shape, edit func(*draft) error) (jsondoc.Doc, error) {
	ctx := c.Context()
	var d *draft
	role := ""
	u, err := m.Users.Change(ctx, id, func(old *users.User) ([]users.Field, error) {
		if !old.IsProvisioned() {
			return nil, store.ErrNotFound
		}
		if err := ifMatch(c, userVersion(old)); err != nil {
			return nil, err
		}
		d = &draft{User: *old, image: *old.ProfileImageURL}
		role = old.Role
		if err := edit(d); err != nil {
			return nil, err
		}
		changed := map[string]bool{}
		var fields []users.Field
		add := func(name string, differs bool, f users.Field) {
			if changed[name] = differs; differs {
				fields = append(fields, f)
			}
		}
		add("email", d.Email != old.Email, users.SetEmail(d.Email))
		add("name", d.Name != old.Name, users.SetName(d.Name))
		add("profile_image_url", d.image != *old.ProfileImageURL, users.SetProfileImageURL(d.image))
		add("externalId", d.SCIM.String() != old.SCIM.String(), users.SetSCIM(d.SCIM))
		add("role", d.Role != old.Role, users.SetRole(d.Role))
		if len(fields) > 0 {
			fields = append(fields, users.SetUpdatedAt(time.Now().Unix()))
		}
		if !named {
			d.fields = slices.DeleteFunc(d.fields, func(f string) bool { return !changed[f] })
		}
		return fields, nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, notFound("User", id)
	case users.IsTaken(err):
		return nil, taken(d.Email)
	case err != nil:
		return nil, err
	}
	if len(d.fields) > 0 {
		m.publish(ctx, "user.updated", id, web.M{"updated_fields": d.fields})
	}
	if u.Role != role {
		m.publish(ctx, "user.role_updated", id, web.M{"role": u.Role})
		m.Sessions.RefreshAccess(id)
	}
	return m.answerUser(c, u, s)
}

type putUserIn struct {
	ID   string `path:"user_id"`
	Body userChange
	shapeIn
}

// putUser changes what the form has; what it has not stays, as in the reference.
func (m *Module) putUser(c *web.Call, in putUserIn) (any, error) {
	f := &in.Body
	return m.change(c, in.ID, true, in.shape(), func(d *draft) error {
		if f.UserName.V != "" {
			d.setEmail(f.UserName.V)
		}
		if f.DisplayName.V != "" {
			d.setName(f.DisplayName.V)
		} else if name := f.Name.V.text(); name != "" {
			d.setName(name)
		}
		if len(f.Emails.V) > 0 {
			d.setEmail(f.Emails.V[0].Value)
		}
		if f.Active.Has() {
			d.setActive(f.Active.V)
		}
		if image, ok := m.picture(f.Photos.V); ok {
			d.setImage(image)
		}
		if f.ExternalID.V != "" {
			provider, err := m.provider()
			if err != nil {
				return err
			}
			d.setExternalID(provider, f.ExternalID.Ptr())
		}
		return nil
	})
}

// deleteUser deletes an account with all that is its own. Administrators cannot be deleted this way.
func (m *Module) deleteUser(c *web.Call, in userIn) (any, error) {
	ctx := c.Context()
	u, err := m.Users.ProvisionedByID(ctx, in.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, notFound("User", in.ID)
	case err != nil:
		return nil, err
	case u.IsAdmin():
		return nil, web.Fail(http.StatusForbidden, "The requested action has been restricted as a security measure.")
	}
	if err := ifMatch(c, userVersion(u)); err != nil {
		return nil, err
	}
	if err := m.Users.Delete(ctx, in.ID); err != nil {
		return nil, web.Because(http.StatusInternalServerError, "Failed to delete user", err)
	}
	m.Access.Forget(in.ID)
	m.Sessions.RefreshAccess(in.ID)
	m.publish(ctx, "user.deleted", in.ID, web.M{"email": u.Email})
	return web.Raw{Status: http.StatusNoContent}, nil
}
