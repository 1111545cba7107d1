package users

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// full is an account with its groups and activity.
type full struct {
	users.User `json:",inline"`
	Groups     []users.Ref `json:"groups"`
	IsActive   bool        `json:"is_active"`
}

func (m *Module) get(c *web.Call, in idIn) (*full, error) {
	u, err := m.Users.ByID(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	groups, err := m.refs(c.Context(), u.ID)
	return &full{*u, groups, u.Active()}, err
}

func (m *Module) infoByID(c *web.Call, in idIn) (*users.Info, error) {
	u, err := m.Users.ByID(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	out := users.InfoOf(u)
	out.IsActive = u.Active()
	out.Groups, err = m.refs(c.Context(), u.ID)
	return &out, err
}

func (m *Module) active(c *web.Call, in idIn) (map[string]bool, error) {
	active, err := m.Users.IsActive(c.Context(), in.ID)
	return map[string]bool{"active": active}, err
}

// oauthSessions gives an account's sessions with providers, with their tokens as the reference does.
func (m *Module) oauthSessions(c *web.Call, in idIn) ([]oauth.StoredSession, error) {
	list, err := m.OAuth.Stored(c.Context(), in.ID)
	if err == nil && len(list) == 0 {
		err = web.Fail(http.StatusBadRequest, web.TextNotFound)
	}
	return list, err
}

// image answers with an account's picture: data as it is, an address by redirection where the settings allow it, and the
// default for all else.
func (m *Module) image(c *web.Call, in idIn) (any, error) {
	u, err := m.Users.ByID(c.Context(), in.ID)
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	url := *u.ProfileImageURL
	if strings.HasPrefix(url, "http") && m.Env.Images.ForwardURLs {
		return web.Raw{Status: http.StatusFound, Header: http.Header{"Location": {url}}}, nil
	}
	if kind, data, ok := imageData(url); ok && slices.Contains(m.Env.Images.MIMETypes, kind) {
		return web.Raw{Type: kind, Body: data, Header: http.Header{"Content-Disposition": {"inline"}, "X-Content-Type-Options": {"nosniff"}}}, nil
	}
	// A browser would keep this one for a while by the file's age, and not see the picture that is put in its place.
	c.W.Header().Set("Cache-Control", "no-cache")
	m.Static.ServeStatic(c.W, c.R, "user.png")
	return web.Done{}, nil
}

// imageData decodes a data: URL of an image.
func imageData(url string) (kind string, data []byte, ok bool) {
	head, text, ok := strings.Cut(url, ",")
	if !ok || !strings.HasPrefix(head, "data:image") {
		return "", nil, false
	}
	kind, _, _ = strings.Cut(strings.TrimPrefix(head, "data:"), ";")
	data, ok = decodeBase64(text)
	return strings.ToLower(kind), data, ok
}

// decodeBase64 decodes as Python does: what is not of the alphabet is skipped, a text ends with its first whole padding,
// and one without the padding that it needs is no good.
func decodeBase64(text string) ([]byte, bool) {
	digits := make([]byte, 0, len(text))
	pads := 0
	if strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return nil, false
	}
	for i := 0; i < len(text) && (len(digits)%4 < 2 || len(digits)%4+pads < 4); i++ {
		switch c := text[i]; {
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/':
			digits, pads = append(digits, c), 0
		case c == '=' && len(digits)%4 >= 2:
			pads++
		}
	}
	if rest := len(digits) % 4; rest != 0 && rest+pads < 4 {
		return nil, false
	}
	data, err := base64.RawStdEncoding.DecodeString(string(digits))
	return data, err == nil
}

// isFirst says whether an account is the primary administrator.
func (m *Module) isFirst(c *web.Call, id string) (bool, error) {
	first, err := m.Users.First(c.Context())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, web.Because(http.StatusInternalServerError, "Could not verify primary admin status.", err)
	}
	return first.ID == id, nil
}

func (m *Module) revoke(c *web.Call, in idIn) (bool, error) {
	if _, err := m.Users.ByID(c.Context(), in.ID); errors.Is(err, store.ErrNotFound) {
		return false, web.Fail(http.StatusNotFound, "User not found.")
	} else if err != nil {
		return false, err
	}
	first, err := m.isFirst(c, in.ID)
	if err != nil {
		return false, err
	}
	if first && c.UserID() != in.ID {
		return false, web.Fail(http.StatusForbidden, textRestricted)
	}
	if err := m.Sessions.RevokeUser(c.Context(), in.ID); err != nil {
		return false, err
	}
	m.publish(c, events.Event{Name: "auth.sessions_revoked", SubjectType: "user", SubjectID: in.ID})
	return true, nil
}

type updateIn struct {
	ID   string `path:"user_id"`
	Body struct {
		Role            web.Opt[string]      `json:"role"`
		Name            web.Opt[string]      `json:"name"`
		Email           web.Opt[string]      `json:"email"`
		ProfileImageURL web.Opt[jsondoc.Doc] `json:"profile_image_url"`
		Password        web.Opt[string]      `json:"password"`
	}
}

func (m *Module) update(c *web.Call, in updateIn) (*users.User, error) {
	ctx, f := c.Context(), &in.Body
	image, err := m.imageField(f.ProfileImageURL)
	if err != nil {
		return nil, err
	}
	first, err := m.isFirst(c, in.ID)
	if err != nil {
		return nil, err
	}
	// nobody takes the primary administrator's place, not even they themselves
	if first && (c.UserID() != in.ID || f.Role.Has() && f.Role.V != users.RoleAdmin) {
		return nil, web.Fail(http.StatusForbidden, textRestricted)
	}
	u, err := m.Users.ByID(ctx, in.ID)
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	email := strings.ToLower(f.Email.V)
	if f.Email.Has() && email != u.Email {
		if _, err := m.Users.ByEmail(ctx, email); err == nil {
			return nil, web.Fail(http.StatusBadRequest, textTaken)
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	if f.Password.V != "" {
		if err := m.setPassword(c, in.ID, f.Password.V); err != nil {
			return nil, err
		}
	}
	var fields []users.Field
	var names []string // of the fields, without the role
	if f.Role.Has() {
		fields = append(fields, users.SetRole(f.Role.V))
	}
	if f.Name.Has() {
		fields, names = append(fields, users.SetName(f.Name.V)), append(names, "name")
	}
	if f.Email.Has() {
		fields, names = append(fields, users.SetEmail(email)), append(names, "email")
	}
	if image != nil {
		fields, names = append(fields, users.SetProfileImageURL(*image)), append(names, "profile_image_url")
	}
	role := u.Role
	u, err = m.Users.Update(ctx, in.ID, fields...)
	if users.IsTaken(err) {
		return nil, web.Fail(http.StatusBadRequest, textTaken)
	}
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	if len(names) > 0 {
		m.publish(c, events.Event{Name: "user.updated", SubjectID: in.ID, Data: events.Pairs{"updated_fields", names}})
	}
	if u.Role != role {
		m.publish(c, events.Event{Name: "user.role_updated", SubjectID: in.ID, Data: events.Pairs{"role", u.Role}})
	}
	if f.Password.V != "" {
		m.publish(c, events.Event{Name: "auth.password_changed", SubjectType: "user", SubjectID: in.ID, Source: "admin"})
	}
	return u, nil
}

func (m *Module) imageField(f web.Opt[jsondoc.Doc]) (*string, error) {
	if !f.Has() {
		return nil, nil
	}
	text, ok := f.V.AsText()
	err := errors.New("Invalid image URL.")
	if ok {
		err = users.CheckImageURL(text, m.Env.Images)
	}
	if err != nil {
		return nil, web.Invalid(web.ValueError(web.Loc{"body", "profile_image_url"}, f.V, err.Error()))
	}
	return &text, nil
}

func (m *Module) setPassword(c *web.Call, userID, password string) error {
	ctx := c.Context()
	if err := m.Sessions.Passwords().Check(password); err != nil {
		return web.Fail(http.StatusBadRequest, err.Error())
	}
	hash, err := m.Sessions.Passwords().Hash(ctx, password)
	if err != nil {
		return err
	}
	cred, err := m.Users.Credential(ctx, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // an account without credentials signs in another way
	}
	if err != nil {
		return err
	}
	err = m.Users.SetPassword(ctx, cred, hash)
	if errors.Is(err, users.ErrStale) {
		return web.Fail(http.StatusConflict, "Authentication changed in another request. Please try again.")
	}
	if err == nil {
		m.Sessions.Disconnect(userID)
	}
	return err
}

// remove deletes an account with its chats; of one that is gone too it says true.
func (m *Module) remove(c *web.Call, in idIn) (bool, error) {
	first, err := m.isFirst(c, in.ID)
	if err != nil {
		return false, err
	}
	if first || c.UserID() == in.ID {
		return false, web.Fail(http.StatusForbidden, textRestricted)
	}
	if err := m.Users.Delete(c.Context(), in.ID); err != nil {
		return false, web.Because(http.StatusInternalServerError,
			"Oops! Something went wrong. We encountered an issue while trying to delete the user. Please give it another shot.", err)
	}
	m.Access.Forget(in.ID)
	m.Sessions.RefreshAccess(in.ID)
	m.publish(c, events.Event{Name: "user.deleted", SubjectID: in.ID})
	return true, nil
}

type previewAnswer struct {
	User      users.Ref    `json:"user"`
	Groups    []users.Ref  `json:"groups"`
	Models    access.Reach `json:"models"`
	Knowledge access.Reach `json:"knowledge"`
	Tools     access.Reach `json:"tools"`
}

// preview shows what an account can see.
func (m *Module) preview(c *web.Call, in idIn) (*previewAnswer, error) {
	ctx := c.Context()
	u, err := m.Users.ByID(ctx, in.ID)
	if err != nil {
		return nil, missing(err, http.StatusNotFound)
	}
	list, err := m.Access.Groups().OfUser(ctx, u.ID, true)
	if err != nil {
		return nil, err
	}
	out := &previewAnswer{User: users.Ref{ID: u.ID, Name: u.Name}, Groups: make([]users.Ref, len(list))}
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i], out.Groups[i] = g.ID, users.Ref{ID: g.ID, Name: g.Name}
	}
	reach, err := m.Access.ReachOf(ctx, u.ID, ids)
	out.Models, out.Knowledge, out.Tools = reach["model"], reach["knowledge"], reach["tool"]
	return out, err
}
