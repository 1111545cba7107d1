package access

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Kinds of principals.
const (
	PrincipalUser   = "user"   // an account, or all of them: Everyone
	PrincipalGroup  = "group"  // a group's members, and those of the groups below it
	PrincipalAnyone = "anyone" // strangers too; only Everyone, only reading
)

// Everyone is the principal id that means all.
const Everyone = "*"

// Permissions of grants. Writing does not include reading.
const (
	Read  = "read"
	Write = "write"
)

// Grant opens a resource to a principal: a row of the table access_grant.
type Grant struct {
	ID            string `json:"id"`
	ResourceType  string `json:"resource_type"` // model, knowledge, prompt, tool, skill, note, folder, channel, calendar, shared_chat, file…
	ResourceID    string `json:"resource_id"`
	PrincipalType string `json:"principal_type"`
	PrincipalID   string `json:"principal_id"`
	Permission    string `json:"permission"`
	CreatedAt     int64  `json:"created_at"` // Unix seconds
}

// Slim is a grant as answers hold it that belong to one resource.
type Slim struct {
	ID            string `json:"id"`
	PrincipalType string `json:"principal_type"`
	PrincipalID   string `json:"principal_id"`
	Permission    string `json:"permission"`
}

// Slims shortens grants; the slice is never nil.
func Slims(grants []Grant) []Slim {
	out := make([]Slim, len(grants))
	for i, g := range grants {
		out[i] = Slim{g.ID, g.PrincipalType, g.PrincipalID, g.Permission}
	}
	return out
}

// isPublic says whether the grant is to all accounts.
func (g Grant) isPublic() bool { return g.PrincipalType == PrincipalUser && g.PrincipalID == Everyone }

// sound says whether the grant is one that the reference keeps.
func (g Grant) sound() bool {
	if g.PrincipalID == "" || g.Permission != Read && g.Permission != Write {
		return false
	}
	switch g.PrincipalType {
	case PrincipalUser, PrincipalGroup:
		return true
	case PrincipalAnyone:
		return g.PrincipalID == Everyone && g.Permission == Read
	}
	return false
}

// ParseGrants reads the access_grants of a request. Elements that are malformed, or that say what another says, are
// dropped silently. The slice is nil for null (no change, in most places) and empty for an empty list.
func ParseGrants(list jsondoc.Doc) []Grant {
	if list.Kind() != '[' {
		return nil
	}
	out := []Grant{}
	list.Items(func(_ int, d jsondoc.Doc) bool {
		out = append(out, Grant{ID: d.Text("id"), PrincipalType: d.Text("principal_type"), PrincipalID: d.Text("principal_id"), Permission: d.Text("permission")})
		return true
	})
	return normalize(out)
}

// GrantsOf is ParseGrants of a list whose elements were told apart already; it is never nil.
func GrantsOf[D interface{ Doc() jsondoc.Doc }](list []D) []Grant {
	docs := make([]jsondoc.Doc, len(list))
	for i, g := range list {
		docs[i] = g.Doc()
	}
	return ParseGrants(jsondoc.Array(docs...))
}

func normalize(grants []Grant) []Grant {
	type key struct{ kind, id, permission string }
	seen := make(map[key]int, len(grants))
	out := []Grant{}
	for _, g := range grants {
		if !g.sound() {
			continue
		}
		k := key{g.PrincipalType, g.PrincipalID, g.Permission}
		if i, ok := seen[k]; ok {
			out[i].ID = g.ID
			continue
		}
		seen[k] = len(out)
		out = append(out, g)
	}
	return out
}

// IsPublic says whether a list of grants lets all accounts do something.
func IsPublic(grants []Grant, permission string) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.isPublic() && g.Permission == permission })
}

const grantColumns = `id, resource_type, resource_id, principal_type, principal_id, permission, created_at`

func scanGrant(r *sql.Rows) (g Grant, err error) {
	err = r.Scan(&g.ID, &g.ResourceType, &g.ResourceID, &g.PrincipalType, &g.PrincipalID, &g.Permission, &g.CreatedAt)
	return
}

// Grants gives the grants of resources, by resource; each id is in the map.
func (a *Access) Grants(ctx context.Context, resourceType string, ids ...string) (map[string][]Grant, error) {
	return ReadGrants(ctx, a.db, resourceType, ids...)
}

// ReadGrants is Grants on any Querier, for use within a transaction.
func ReadGrants(ctx context.Context, q store.Querier, resourceType string, ids ...string) (map[string][]Grant, error) {
	out := make(map[string][]Grant, len(ids))
	for _, id := range ids {
		out[id] = []Grant{}
	}
	for part := range slices.Chunk(ids, 500) {
		in, args := store.In([]any{resourceType}, part)
		rows, err := q.Query(ctx, `SELECT `+grantColumns+` FROM access_grant WHERE resource_type = $1 AND resource_id IN `+in+
			q.Dialect().Pick(" ORDER BY rowid", " ORDER BY created_at, id"), args...)
		list, err := store.Collect(rows, err, scanGrant)
		if err != nil {
			return nil, fmt.Errorf("read grants: %w", err)
		}
		for _, g := range list {
			out[g.ResourceID] = append(out[g.ResourceID], g)
		}
	}
	return out, nil
}

// AllGrants reads the grants of all resources of a type, the oldest first.
func AllGrants(ctx context.Context, q store.Querier, resourceType string) ([]Grant, error) {
	rows, err := q.Query(ctx, `SELECT `+grantColumns+` FROM access_grant WHERE resource_type = $1`+
		q.Dialect().Pick(" ORDER BY rowid", " ORDER BY created_at, ctid"), resourceType)
	list, err := store.Collect(rows, err, scanGrant)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return list, nil
}

// SetGrants replaces the grants of a resource; malformed ones and repetitions are dropped. It gives those there are
// then, with new ids.
func (a *Access) SetGrants(ctx context.Context, q store.Querier, resourceType, resourceID string, grants []Grant) ([]Grant, error) {
	if err := a.DeleteGrants(ctx, q, resourceType, resourceID); err != nil {
		return nil, err
	}
	grants = normalize(grants)
	now := time.Now().Unix()
	for i := range grants {
		g := &grants[i]
		g.ID, g.ResourceType, g.ResourceID, g.CreatedAt = store.NewID(), resourceType, resourceID, now
	}
	for part := range slices.Chunk(grants, 100) {
		text := []byte(`INSERT INTO access_grant (` + grantColumns + `) VALUES `)
		args := []any{resourceType, resourceID, now}
		for i, g := range part {
			if i > 0 {
				text = append(text, ',')
			}
			args = append(args, g.ID, g.PrincipalType, g.PrincipalID, g.Permission)
			n := len(args)
			text = fmt.Appendf(text, "($%d,$1,$2,$%d,$%d,$%d,$3)", n-3, n-2, n-1, n)
		}
		if _, err := q.Exec(ctx, string(text), args...); err != nil {
			return nil, fmt.Errorf("set grants: %w", err)
		}
	}
	return grants, nil
}

// DeleteGrants removes all grants of resources.
func (a *Access) DeleteGrants(ctx context.Context, q store.Querier, resourceType string, ids ...string) error {
	for part := range slices.Chunk(ids, 500) {
		in, args := store.In([]any{resourceType}, part)
		if _, err := q.Exec(ctx, `DELETE FROM access_grant WHERE resource_type = $1 AND resource_id IN `+in, args...); err != nil {
			return fmt.Errorf("delete grants: %w", err)
		}
	}
	return nil
}

// Viewer is an account as grants see one: by its id and the groups it is in, those above them included. A user id of ""
// is no account, but members of the groups.
type Viewer struct {
	UserID   string
	GroupIDs []string
}

// Viewer is the account of an id.
func (a *Access) Viewer(ctx context.Context, userID string) (Viewer, error) {
	ids, err := a.GroupIDs(ctx, userID)
	return Viewer{userID, ids}, err
}

// is says whether the account is meant by a principal. PrincipalsOf says the same in SQL.
func (v Viewer) is(kind, id string) bool {
	switch kind {
	case PrincipalUser:
		return id == Everyone || id == v.UserID && id != ""
	case PrincipalGroup:
		return slices.Contains(v.GroupIDs, id)
	}
	return false
}

// May says whether one of some grants lets the account do something.
func (v Viewer) May(grants []Grant, permission string) bool {
	for i := range grants {
		if g := &grants[i]; g.Permission == permission && v.is(g.PrincipalType, g.PrincipalID) {
			return true
		}
	}
	return false
}

// MayIn is May for a list of grants in a document: of a connection's config, or of an arena model. null and [] let nobody.
func (v Viewer) MayIn(list jsondoc.Doc, permission string) bool {
	found := false
	list.Items(func(_ int, g jsondoc.Doc) bool {
		found = g.Text("permission") == permission && v.is(g.Text("principal_type"), g.Text("principal_id"))
		return !found
	})
	return found
}

// PrincipalsOf is the SQL condition that a grant, under an alias, is to the account, one of its groups, or all accounts.
// args are those of the statement so far; they are returned with more.
func (v Viewer) PrincipalsOf(args []any, alias string) (string, []any) {
	return v.principals(args, alias, "'*', ")
}

func (v Viewer) principals(args []any, alias, everyone string) (string, []any) {
	args = append(args, v.UserID)
	text := fmt.Sprintf("(%[1]s.principal_type = 'user' AND %[1]s.principal_id IN (%[3]s$%[2]d)", alias, len(args), everyone)
	if len(v.GroupIDs) > 0 {
		var in string
		in, args = store.In(args, v.GroupIDs)
		text += fmt.Sprintf(" OR %[1]s.principal_type = 'group' AND %[1]s.principal_id IN %[2]s", alias, in)
	}
	return text + ")", args
}

// Clause is the SQL condition that a grant lets the user do something with the resource whose id is in a column, for
// lists: owners are the caller's business. args are those of the statement so far; they are returned with more.
func (a *Access) Clause(ctx context.Context, args []any, userID, resourceType, column, permission string) (string, []any, error) {
	v, err := a.Viewer(ctx, userID)
	if err != nil {
		return "", nil, err
	}
	text, args := v.Clause(args, resourceType, column, permission)
	return text, args, nil
}

// Clause is Access.Clause for a Viewer.
func (v Viewer) Clause(args []any, resourceType, column, permission string) (string, []any) {
	return v.clause(args, resourceType, column, permission, "'*', ")
}

// NamedClause is Clause without the grants to all accounts.
func (v Viewer) NamedClause(args []any, resourceType, column, permission string) (string, []any) {
	return v.clause(args, resourceType, column, permission, "")
}

func (v Viewer) clause(args []any, resourceType, column, permission, everyone string) (string, []any) {
	args = append(args, resourceType, permission)
	// not EXISTS, so that a database may begin with the few grants rather than with all resources
	head := fmt.Sprintf("%s IN (SELECT ag.resource_id FROM access_grant ag WHERE ag.resource_type = $%d AND ag.permission = $%d AND ", column, len(args)-1, len(args))
	cond, args := v.principals(args, "ag", everyone)
	return head + cond + ")", args
}

// Can says whether a grant lets a user do something ("read", "write") with a resource.
func (a *Access) Can(ctx context.Context, userID, resourceType, resourceID, permission string) (bool, error) {
	found, err := a.CanAmong(ctx, userID, resourceType, []string{resourceID}, permission)
	return found[resourceID], err
}

// CanAmong says of many resources which a user may do something with; the others are missing.
func (a *Access) CanAmong(ctx context.Context, userID, resourceType string, ids []string, permission string) (map[string]bool, error) {
	if len(ids) == 0 {
		return map[string]bool{}, nil
	}
	v, err := a.Viewer(ctx, userID)
	if err != nil {
		return nil, err
	}
	return a.canAmong(ctx, v, resourceType, ids, permission)
}

func (a *Access) canAmong(ctx context.Context, v Viewer, resourceType string, ids []string, permission string) (map[string]bool, error) {
	out := make(map[string]bool, len(ids))
	for part := range slices.Chunk(ids, 500) {
		in, args := store.In([]any{resourceType, permission}, part)
		cond, args := v.PrincipalsOf(args, "ag")
		rows, err := a.db.Query(ctx, `SELECT DISTINCT ag.resource_id FROM access_grant ag WHERE ag.resource_type = $1 AND ag.permission = $2
			AND ag.resource_id IN `+in+` AND `+cond, args...)
		found, err := store.Strings(rows, err)
		if err != nil {
			return nil, fmt.Errorf("check access: %w", err)
		}
		for _, id := range found {
			out[id] = true
		}
	}
	return out, nil
}

// Accessible gives the ids of all resources of a type that grants let a user do something with.
func (a *Access) Accessible(ctx context.Context, userID, resourceType, permission string) ([]string, error) {
	v, err := a.Viewer(ctx, userID)
	if err != nil {
		return nil, err
	}
	cond, args := v.PrincipalsOf([]any{resourceType, permission}, "ag")
	rows, err := a.db.Query(ctx, `SELECT DISTINCT ag.resource_id FROM access_grant ag WHERE ag.resource_type = $1 AND ag.permission = $2 AND `+cond, args...)
	ids, err := store.Strings(rows, err)
	if err != nil {
		return nil, fmt.Errorf("list accessible: %w", err)
	}
	return ids, nil
}

// Anyone says whether strangers may read a resource.
func (a *Access) Anyone(ctx context.Context, resourceType, resourceID string) (bool, error) {
	var n int
	err := a.db.QueryRow(ctx, `SELECT COUNT(*) FROM access_grant WHERE resource_type = $1 AND resource_id = $2
		AND principal_type = 'anyone' AND principal_id = '*' AND permission = 'read'`, resourceType, resourceID).Scan(&n)
	return n > 0, err
}

// InList is Viewer.MayIn for the account of an id.
func (a *Access) InList(ctx context.Context, userID, permission string, list jsondoc.Doc) (bool, error) {
	v, err := a.Viewer(ctx, userID)
	return err == nil && v.MayIn(list, permission), err
}

// UserIDs gives the accounts that grants let do something; for grants to all accounts these are all but pending ones.
func (a *Access) UserIDs(ctx context.Context, grants []Grant, permission string) ([]string, error) {
	var ids, groupIDs []string
	for _, g := range grants {
		if g.Permission != permission {
			continue
		}
		switch {
		case g.isPublic():
			rows, err := a.db.Query(ctx, `SELECT id FROM "user" WHERE role <> 'pending'`)
			return store.Strings(rows, err)
		case g.PrincipalType == PrincipalUser:
			ids = append(ids, g.PrincipalID)
		case g.PrincipalType == PrincipalGroup:
			groupIDs = append(groupIDs, g.PrincipalID)
		}
	}
	if len(groupIDs) > 0 {
		members, err := a.groups.UserIDs(ctx, true, groupIDs...)
		if err != nil {
			return nil, err
		}
		ids = append(ids, members...)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Revoked gives the accounts that before a change of grants could do something and cannot now.
func (a *Access) Revoked(ctx context.Context, before, now []Grant, permission string) ([]string, error) {
	was, err := a.UserIDs(ctx, before, permission)
	if err != nil {
		return nil, err
	}
	is, err := a.UserIDs(ctx, now, permission)
	if err != nil {
		return nil, err
	}
	keep := make(map[string]bool, len(is))
	for _, id := range is {
		keep[id] = true
	}
	return slices.DeleteFunc(was, func(id string) bool { return keep[id] }), nil
}
