// Package auth decides who a caller is and what a caller may do: passwords, session tokens, API keys, roles.
package auth

import "github.com/galleychat/galley/core/store/users"

// Level is what an operation asks of its caller.
type Level uint8

// The levels, from nothing to an administrator.
const (
	Public   Level = iota // anybody; the caller is not looked up
	Optional              // anybody; the caller is looked up if credentials are sent, and a failure is no error
	Any                   // any account, whatever its role
	Verified              // an account with the role user or admin
	Admin                 // an account with the role admin
)

func (l Level) String() string {
	return [...]string{"public", "optional", "any", "verified", "admin"}[l]
}

// Principal is an authenticated caller.
type Principal struct {
	*users.User
	// System says that this is the server itself, which no grants bind: an administrator without an account.
	System bool
	// APIKey says that the caller came with an API key and not with a session token.
	APIKey bool
	// Token is the credential as it was sent: the key of a session.
	Token string
	// Claims are those of a session token.
	Claims Claims
}

// Human says that the caller came with the session of a person: no API key, and no token of an automation.
func (p *Principal) Human() bool { return !p.APIKey && p.Claims.Type == TypeSession }

// ServerItself is the caller of what nobody asked for but the server, or the operator by way of a plugin.
func ServerItself() *Principal {
	return &Principal{User: &users.User{Role: users.RoleAdmin}, System: true}
}

// Claims are what a session token says of its bearer. Times are Unix seconds.
type Claims struct {
	ID      string // the account
	JTI     string // the token's own id
	Issued  int64  // iat
	Expires int64  // exp; 0 means never
	Stamp   string // the account's session stamp when the token was made
	// Type is typ: session (also where it is absent) for a human's, automation or subagent for the server's own.
	Type string
	// Method is auth_method, how a session began: password, ldap, oauth, trusted_header, system.
	Method string
	// AuthTime is auth_time, when its owner last proved who they are.
	AuthTime int64
	// MFAVerified says that a second factor was given.
	MFAVerified bool
}
