// Package users stores accounts: the tables "user", auth and api_key.
package users

import (
	"database/sql"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Roles an account can have; any other string is possible too and has no rights.
const (
	RoleAdmin   = "admin"
	RoleUser    = "user"
	RolePending = "pending"
)

// User is a row of the table "user", in the order and with the members that the reference answers with. Times are Unix
// seconds. Pointers and nil documents are NULL. A user that was read is shared by caches: it is not to be changed.
type User struct {
	ID              string      `json:"id"`
	Email           string      `json:"email"`
	Username        *string     `json:"username"`
	Role            string      `json:"role"`
	Name            string      `json:"name"`
	ProfileImageURL *string     `json:"profile_image_url"` // never nil or "" once read: the address of the picture's route then
	BannerImageURL  *string     `json:"profile_banner_image_url"`
	Bio             *string     `json:"bio"`
	Gender          *string     `json:"gender"`
	DateOfBirth     *string     `json:"date_of_birth"` // YYYY-MM-DD
	Timezone        *string     `json:"timezone"`
	PresenceState   *string     `json:"presence_state"`
	StatusEmoji     *string     `json:"status_emoji"`
	StatusMessage   *string     `json:"status_message"`
	StatusExpiresAt *int64      `json:"status_expires_at"`
	Info            jsondoc.Doc `json:"info"`
	Settings        jsondoc.Doc `json:"settings"` // once read: null, or an object whose first member is ui
	OAuth           jsondoc.Doc `json:"oauth"`
	SCIM            jsondoc.Doc `json:"scim"`
	Variables       jsondoc.Doc `json:"-"` // the reference keeps them out of its answers
	LastActiveAt    int64       `json:"last_active_at"`
	UpdatedAt       int64       `json:"updated_at"`
	CreatedAt       int64       `json:"created_at"`
}

// IsAdmin says whether the user may do everything.
func (u *User) IsAdmin() bool { return u.Role == RoleAdmin }

// IsVerified says whether the account was admitted: its role is user or admin.
func (u *User) IsVerified() bool { return u.Role == RoleAdmin || u.Role == RoleUser }

// activeSeconds is how long a user counts as active after a request.
const activeSeconds = 180

// Active says whether the user made a request in the last three minutes.
func (u *User) Active() bool {
	return u.LastActiveAt != 0 && u.LastActiveAt >= time.Now().Unix()-activeSeconds
}

// Ref is what other parts of the API show of a user.
type Ref struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// columnsOf are the columns that scan reads, with a table's alias before. DATE columns are read as text, since the SQLite
// driver makes times of them.
func columnsOf(alias string) string {
	return strings.ReplaceAll(`@id, COALESCE(@email, ''), @username, COALESCE(@role, ''), COALESCE(@name, ''), @profile_image_url,
	@profile_banner_image_url, @bio, @gender, CAST(@date_of_birth AS TEXT), @timezone, @presence_state, @status_emoji, @status_message,
	@status_expires_at, @info, @settings, @oauth, @scim, @variables,
	COALESCE(@last_active_at, 0), COALESCE(@updated_at, 0), COALESCE(@created_at, 0)`, "@", alias)
}

var columns, qualified = columnsOf(""), columnsOf("u.")

// fields are the destinations of columns, before others of the same row.
func (u *User) fields(more ...any) []any {
	return append([]any{&u.ID, &u.Email, &u.Username, &u.Role, &u.Name, &u.ProfileImageURL, &u.BannerImageURL,
		&u.Bio, &u.Gender, &u.DateOfBirth, &u.Timezone, &u.PresenceState, &u.StatusEmoji, &u.StatusMessage, &u.StatusExpiresAt,
		&u.Info, &u.Settings, &u.OAuth, &u.SCIM, &u.Variables, &u.LastActiveAt, &u.UpdatedAt, &u.CreatedAt}, more...)
}

// fill sets what the reference's model sets of a row that it reads.
func (u *User) fill() *User {
	if u.ProfileImageURL == nil || *u.ProfileImageURL == "" {
		url := "/api/v1/users/" + u.ID + "/profile/image"
		u.ProfileImageURL = &url
	}
	u.Settings = settingsForm(u.Settings)
	return u
}

// settingsForm puts ui, an object or null, before the other settings; anything but an object is null.
func settingsForm(d jsondoc.Doc) jsondoc.Doc {
	if d.Kind() != '{' {
		return nil
	}
	o := jsondoc.Open(d)
	var b jsondoc.Builder
	ui := o.Pop("ui")
	if ui == nil {
		ui = jsondoc.Doc("{}")
	}
	b.Raw("ui", ui)
	o.Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

func scan(r store.Row, more ...any) (*User, error) {
	u := &User{}
	if err := r.Scan(u.fields(more...)...); err != nil {
		return nil, err
	}
	return u.fill(), nil
}

func scanRows(r *sql.Rows) (*User, error) { return scan(r) }

// Info is what the API shows of one account to others.
type Info struct {
	StatusEmoji     *string `json:"status_emoji"`
	StatusMessage   *string `json:"status_message"`
	StatusExpiresAt *int64  `json:"status_expires_at"`
	ID              string  `json:"id"`
	Name            string  `json:"name"`
	Email           string  `json:"email"`
	Role            string  `json:"role"`
	Bio             *string `json:"bio"`
	LastActiveAt    *int64  `json:"last_active_at"`
	Timezone        *string `json:"timezone"`
	Groups          []Ref   `json:"groups"`
	IsActive        bool    `json:"is_active"`
}

// InfoOf is the Info of an account, without groups and activity: lists of the reference leave those at [] and false.
func InfoOf(u *User) Info {
	return Info{StatusEmoji: u.StatusEmoji, StatusMessage: u.StatusMessage, StatusExpiresAt: u.StatusExpiresAt, ID: u.ID, Name: u.Name,
		Email: u.Email, Role: u.Role, Bio: u.Bio, LastActiveAt: &u.LastActiveAt, Timezone: u.Timezone, Groups: []Ref{}}
}
