package users

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store"
)

// provisioned are the accounts that a directory may know: those with an identity of a provider. Others are nobody's but
// this server's.
const provisioned = `(CAST(u.oauth AS TEXT) <> 'null' OR CAST(u.scim AS TEXT) <> 'null')`

// attributes are those of SCIM's users, for a provider of external ids.
func attributes(d store.Dialect, provider string) scim.Table {
	name := func(part string) scim.Column {
		space := d.Pick("instr(u.name || ' ', ' ')", "strpos(u.name || ' ', ' ')")
		switch part {
		case "given":
			return scim.Column{SQL: "substr(u.name, 1, " + space + " - 1)", Kind: scim.Text}
		case "family":
			return scim.Column{SQL: "substr(u.name, " + space + " + 1)", Kind: scim.Text}
		}
		return scim.Column{SQL: "u.name", Kind: scim.Text}
	}
	none := scim.One(scim.Column{Kind: scim.None})
	t := scim.Table{
		"id":       scim.One(scim.Column{SQL: "u.id", Kind: scim.Exact}),
		"username": scim.One(scim.Column{SQL: "u.email", Kind: scim.Text}),
		"externalid": scim.One(scim.Column{SQL: "COALESCE(" + identity(d, "u.scim") + ", " + identity(d, "u.oauth") + ")",
			Args: []any{identityPath(d, provider, "external_id"), identityPath(d, provider, "sub")}, Kind: scim.Exact}),
		"displayname": scim.One(name("")),
		"name": {Default: "formatted", Parts: map[string]scim.Column{
			"formatted": name(""), "givenname": name("given"), "familyname": name("family"),
			"middlename": {Kind: scim.None}, "honorificprefix": {Kind: scim.None}, "honorificsuffix": {Kind: scim.None},
		}},
		"active": scim.One(scim.Column{SQL: "COALESCE(u.role, '') <> '" + RolePending + "'", Kind: scim.Bool}),
		"emails": {Default: "value", Parts: map[string]scim.Column{
			"value": {SQL: "u.email", Kind: scim.Text}, "type": {SQL: "'work'", Kind: scim.Text}, "primary": {SQL: "1 = 1", Kind: scim.Bool},
			"display": {Kind: scim.None},
		}},
		"photos": {Default: "value", Parts: map[string]scim.Column{
			"value": {SQL: "u.profile_image_url", Kind: scim.Exact}, "type": {SQL: "'photo'", Kind: scim.Text}, "primary": {SQL: "1 = 1", Kind: scim.Bool},
			"display": {Kind: scim.None},
		}},
		"groups": {
			Default: "value",
			Parts: map[string]scim.Column{"value": {SQL: "g.id", Kind: scim.Exact}, "display": {SQL: "g.name", Kind: scim.Text},
				"type": {SQL: "'direct'", Kind: scim.Text}},
			Each: `EXISTS (SELECT 1 FROM group_member m JOIN "group" g ON g.id = m.group_id WHERE m.user_id = u.id AND %s)`,
		},
		"meta": {Parts: map[string]scim.Column{
			"created": {SQL: "u.created_at", Kind: scim.Time}, "lastmodified": {SQL: "u.updated_at", Kind: scim.Time},
			"resourcetype": {SQL: "'User'", Kind: scim.Exact},
		}},
	}
	// of the standard's user and enterprise user, but not kept here
	for _, n := range []string{"nickname", "profileurl", "title", "usertype", "preferredlanguage", "locale", "timezone", "phonenumbers", "ims",
		"addresses", "entitlements", "roles", "x509certificates", "employeenumber", "costcenter", "organization", "division", "department", "manager"} {
		t[n] = none
	}
	return t
}

// identity is the text in a JSON column of identities, at the path that its argument says.
func identity(d store.Dialect, column string) string {
	return d.Pick("CAST(json_extract("+d.JSON(column)+", ?) AS TEXT)", "("+column+" #>> CAST(? AS TEXT[]))")
}

// identityPath is where a column of identities has what a provider says of an account.
func identityPath(d store.Dialect, provider, member string) any {
	return d.Pick("$."+string(jsondoc.Text(provider))+"."+member, "{"+string(jsondoc.Text(provider))+","+member+"}")
}

// Provisioned gives accounts that a directory may know, and their number without Skip and Limit. The error may be
// scim.ErrSyntax.
func (s *Store) Provisioned(ctx context.Context, provider string, q scim.Query) ([]*User, int, error) {
	d := s.db.Dialect()
	text, err := attributes(d, provider).Statement(d, q, provisioned, "u.created_at DESC", d.Pick("u.rowid", "u.id"))
	if err != nil {
		return nil, 0, err
	}
	var total int
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM "user" u`+text.Where, text.Args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count provisioned users: %w", err)
	}
	if q.Limit <= 0 || q.Skip >= total {
		return []*User{}, total, nil
	}
	rows, err := s.db.Query(ctx, `SELECT `+qualified+` FROM "user" u`+text.Where+text.Tail, text.WholeArgs...)
	list, err := store.Collect(rows, err, scanRows)
	if err != nil {
		return nil, 0, fmt.Errorf("list provisioned users: %w", err)
	}
	return list, total, nil
}

// ProvisionedByID finds an account that a directory may know; ErrNotFound where there is none.
func (s *Store) ProvisionedByID(ctx context.Context, id string) (*User, error) {
	return scan(s.db.QueryRow(ctx, `SELECT `+qualified+` FROM "user" u WHERE u.id = $1 AND `+provisioned, id))
}

// IsProvisioned says whether a directory may know the account.
func (u *User) IsProvisioned() bool { return !u.OAuth.IsNull() || !u.SCIM.IsNull() }

// ByExternalID finds the account that a provider has an id for: one that it was provisioned with, or else the subject of
// a sign-in. ErrNotFound where there is none.
func (s *Store) ByExternalID(ctx context.Context, provider, id string) (*User, error) {
	d := s.db.Dialect()
	u, err := s.byIdentity(ctx, "scim", identityPath(d, provider, "external_id"), id)
	if errors.Is(err, store.ErrNotFound) {
		u, err = s.byIdentity(ctx, "oauth", identityPath(d, provider, "sub"), id)
	}
	return u, err
}

func (s *Store) byIdentity(ctx context.Context, column string, path any, id string) (*User, error) {
	text := s.db.Dialect().Pick("CAST(json_extract("+s.db.Dialect().JSON(column)+", $1) AS TEXT)", "("+column+" #>> CAST($1 AS TEXT[]))")
	return scan(s.db.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE `+text+` = $2 LIMIT 1`, path, id))
}
