// Package users stores accounts: the tables "user", auth and api_key.
package users

import "github.com/galleychat/galley/core/jsondoc"

// Roles an account can have; any other string is possible too and has no rights.
const (
	RoleAdmin   = "admin"
	RoleUser    = "user"
	RolePending = "pending"
)

// User is a row of the table "user". Times are Unix seconds. Pointers and nil documents are NULL.
type User struct {
	ID              string      `json:"id"`
	Email           string      `json:"email"`
	Username        *string     `json:"username"`
	Role            string      `json:"role"`
	Name            string      `json:"name"`
	ProfileImageURL *string     `json:"profile_image_url"`
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
	Settings        jsondoc.Doc `json:"settings"`
	OAuth           jsondoc.Doc `json:"oauth"`
	SCIM            jsondoc.Doc `json:"scim"`
	Variables       jsondoc.Doc `json:"variables"`
	LastActiveAt    int64       `json:"last_active_at"`
	UpdatedAt       int64       `json:"updated_at"`
	CreatedAt       int64       `json:"created_at"`
}

// IsAdmin says whether the user may do everything.
func (u *User) IsAdmin() bool { return u.Role == RoleAdmin }
