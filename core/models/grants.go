package models

import (
	"slices"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
)

// Grant lets a principal do something with a model.
type Grant = access.Grant

// viewer is a user as grants see one.
type viewer struct {
	id     string
	groups []string
}

// may says whether one of the grants gives the permission.
func (v *viewer) may(grants []Grant, permission string) bool {
	for i := range grants {
		g := &grants[i]
		if g.Permission == permission && v.is(g.PrincipalType, g.PrincipalID) {
			return true
		}
	}
	return false
}

// mayRead does the same for grants that stand in a setting, as a list of objects.
func (v *viewer) mayRead(grants jsondoc.Doc) bool {
	found := false
	if grants.Kind() != '[' {
		return false
	}
	grants.Items(func(_ int, g jsondoc.Doc) bool {
		found = g.Text("permission") == "read" && v.is(g.Text("principal_type"), g.Text("principal_id"))
		return !found
	})
	return found
}

func (v *viewer) is(kind, id string) bool {
	switch kind {
	case access.PrincipalUser:
		return id == access.Everyone || id == v.id
	case access.PrincipalGroup:
		return slices.Contains(v.groups, id)
	}
	return false
}
