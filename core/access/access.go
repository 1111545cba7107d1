// Package access decides what users may do: permissions, which the settings and a user's groups give, and access grants,
// which open a resource to users, groups or everyone.
//
// Permissions are dotted names such as "chat.delete" and "features.notes" in the tree of the setting user.permissions.
// Groups add to them: what one group or the defaults allow is allowed. Nothing here treats administrators specially but
// for the functions whose comment says so; in the reference, callers ask for the role first.
package access

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
)

// Access answers questions about permissions and grants. Its methods may be called at once.
type Access struct {
	db       *store.DB
	settings *config.Settings
	groups   *groups.Store
	ttl      time.Duration

	base atomic.Pointer[defaults]

	mu      sync.Mutex
	epoch   uint64 // counts invalidations, so that what was read before one is not kept after it
	members map[string]*membership
}

// maxMembers bounds the cache of memberships.
const maxMembers = 10_000

// defaults are the permissions of users who are in no group.
type defaults struct {
	raw     []byte // of the setting, whose identity tells whether it changed
	doc     jsondoc.Doc
	allowed map[string]bool
}

// membership is what a user's groups give, kept for a moment.
type membership struct {
	groups      []string
	list        []*groups.Group
	permissions []jsondoc.Doc // of each group that has some
	allowed     map[string]bool
	until       time.Time
}

// New makes the Access of a database. Memberships are cached: for 5 s on SQLite, 1 s on Postgres, where other replicas
// change them too. Changes through Groups are seen at once.
func New(db *store.DB, settings *config.Settings) *Access {
	a := &Access{db: db, settings: settings, groups: groups.New(db), ttl: 5 * time.Second, members: map[string]*membership{}}
	if db.Dialect() == store.Postgres {
		a.ttl = time.Second
	}
	a.groups.OnChange(func(userIDs []string) { a.Forget(userIDs...) })
	return a
}

// Groups is the store of groups whose changes this Access sees at once.
func (a *Access) Groups() *groups.Store { return a.groups }

// Forget drops what is cached of users; without any, of all. For changes that come another way than Groups.
func (a *Access) Forget(userIDs ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	if len(userIDs) == 0 {
		clear(a.members)
	}
	for _, id := range userIDs {
		delete(a.members, id)
	}
}

func (a *Access) membership(ctx context.Context, userID string) (*membership, error) {
	a.mu.Lock()
	m, epoch := a.members[userID], a.epoch
	a.mu.Unlock()
	now := time.Now()
	if m != nil && now.Before(m.until) {
		return m, nil
	}
	list, err := a.groups.OfUser(ctx, userID, true)
	if err != nil {
		return nil, fmt.Errorf("groups of user: %w", err)
	}
	m = &membership{groups: make([]string, len(list)), list: list, allowed: map[string]bool{}, until: now.Add(a.ttl)}
	for i, g := range list {
		m.groups[i] = g.ID
		if g.Permissions.Kind() == '{' {
			m.permissions = append(m.permissions, g.Permissions)
			flatten(m.allowed, "", g.Permissions)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if epoch == a.epoch {
		if len(a.members) >= maxMembers {
			clear(a.members)
		}
		a.members[userID] = m
	}
	return m, nil
}

// flatten collects the dotted names of all that is truthy in a tree.
func flatten(into map[string]bool, prefix string, d jsondoc.Doc) {
	d.Each(func(name string, v jsondoc.Doc) bool {
		if v.Truthy() {
			into[prefix+name] = true
		}
		if v.Kind() == '{' {
			flatten(into, prefix+name+".", v)
		}
		return true
	})
}

// fill adds to a tree what it lacks of another.
func fill(d, from jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(d)
	from.Each(func(name string, v jsondoc.Doc) bool {
		switch have := o.Get(name); {
		case have == nil:
			o.Set(name, v)
		case have.Kind() == '{' && v.Kind() == '{':
			o.Set(name, fill(have, v))
		}
		return true
	})
	return o.Doc()
}

// Combine gives the tree of permissions that either of two trees allows.
func Combine(d, with jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(d)
	with.Each(func(name string, v jsondoc.Doc) bool {
		have := o.Get(name)
		switch {
		case v.Kind() == '{':
			o.Set(name, Combine(have, v))
		case !have.Truthy():
			o.Set(name, v)
		}
		return true
	})
	return o.Doc()
}

func (a *Access) defaults() *defaults {
	raw := config.UserPermissions.Raw(a.settings.Snapshot())
	b := a.base.Load()
	if b != nil && len(b.raw) == len(raw) && (len(raw) == 0 || &b.raw[0] == &raw[0]) {
		return b
	}
	b = &defaults{raw: raw, allowed: map[string]bool{}}
	b.doc = fill(jsondoc.Doc(raw), a.Builtin())
	flatten(b.allowed, "", b.doc)
	a.base.Store(b)
	return b
}

// Defaults are the permissions of users who are in no group: the setting user.permissions, complete.
func (a *Access) Defaults() jsondoc.Doc { return a.defaults().doc }

// Builtin are the permissions that the environment gives, before an administrator changed them.
func (a *Access) Builtin() jsondoc.Doc {
	return jsondoc.Doc(config.UserPermissions.Raw(a.settings.Initial()))
}

// Has says whether the defaults or a group of the user's allow something. It does not look at the role: ask for
// administrators before where they may do it anyway.
func (a *Access) Has(ctx context.Context, u *users.User, permission string) (bool, error) {
	return a.HasID(ctx, u.ID, permission)
}

// HasID is Has by the user's id.
func (a *Access) HasID(ctx context.Context, userID, permission string) (bool, error) {
	if a.defaults().allowed[permission] {
		return true, nil
	}
	m, err := a.membership(ctx, userID)
	if err != nil {
		return false, err
	}
	return m.allowed[permission], nil
}

// HasOrAdmin is Has, and true for administrators.
func (a *Access) HasOrAdmin(ctx context.Context, u *users.User, permission string) (bool, error) {
	if u.IsAdmin() {
		return true, nil
	}
	return a.Has(ctx, u, permission)
}

// Permissions is the tree of all that the defaults and the user's groups allow, regardless of the role.
func (a *Access) Permissions(ctx context.Context, u *users.User) (jsondoc.Doc, error) {
	m, err := a.membership(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	doc := a.defaults().doc
	for _, p := range m.permissions {
		doc = Combine(doc, p)
	}
	return doc, nil
}

// GroupIDs are the groups of a user, with those above them, those changed last first. The slice is shared.
func (a *Access) GroupIDs(ctx context.Context, userID string) ([]string, error) {
	m, err := a.membership(ctx, userID)
	if err != nil {
		return nil, err
	}
	return m.groups, nil
}

// GroupsOf is GroupIDs with all that there is to say of the groups. The slice and the groups are shared.
func (a *Access) GroupsOf(ctx context.Context, userID string) ([]*groups.Group, error) {
	m, err := a.membership(ctx, userID)
	if err != nil {
		return nil, err
	}
	return m.list, nil
}

// sharing are the permissions that it takes to open a resource to anybody, to all accounts, and to strangers; "" is not
// possible at all (or, for the first, not asked for).
type sharing struct{ share, public, anyone string }

var sharingOf = map[string]sharing{
	"model":       {"sharing.models", "sharing.public_models", ""},
	"knowledge":   {"sharing.knowledge", "sharing.public_knowledge", ""},
	"prompt":      {"sharing.prompts", "sharing.public_prompts", ""},
	"tool":        {"sharing.tools", "sharing.public_tools", ""},
	"skill":       {"sharing.skills", "sharing.public_skills", ""},
	"note":        {"sharing.notes", "sharing.public_notes", ""},
	"folder":      {"sharing.folders", "", ""},
	"channel":     {"", "sharing.public_channels", ""},
	"calendar":    {"", "sharing.public_calendars", ""},
	"shared_chat": {"", "sharing.public_chats", "sharing.open_chats"},
}

// FilterAllowed gives those of the grants that the user may give on a resource of a type: for the creation of a resource,
// where the others are dropped silently. Grants come from ParseGrants. Administrators may give all that is possible at
// all; strangers can be let into shared chats only, all accounts not into folders.
func (a *Access) FilterAllowed(ctx context.Context, u *users.User, resourceType string, grants []Grant) ([]Grant, error) {
	s, ok := sharingOf[resourceType]
	if !ok {
		return nil, fmt.Errorf("access: no rule for sharing a %q", resourceType)
	}
	grants = slices.DeleteFunc(slices.Clone(grants), func(g Grant) bool {
		return g.PrincipalType == PrincipalAnyone && s.anyone == "" || g.isPublic() && s.public == ""
	})
	if u.IsAdmin() || len(grants) == 0 {
		return grants, nil
	}
	m, err := a.membership(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	base := a.defaults()
	allowed := func(p string) bool { return p != "" && (base.allowed[p] || m.allowed[p]) }
	if s.share != "" && !allowed(s.share) {
		return grants[:0], nil
	}
	return slices.DeleteFunc(grants, func(g Grant) bool {
		switch {
		case g.isPublic():
			return !allowed(s.public)
		case g.PrincipalType == PrincipalAnyone:
			return !allowed(s.anyone)
		case g.PrincipalType == PrincipalGroup:
			return !allowed("access_grants.allow_groups")
		}
		return !allowed("access_grants.allow_users")
	}), nil
}

// TextAudience is the detail of the 403 that MayGive's callers answer with.
const TextAudience = "You do not have permission to share with the requested audience"

// MayGive says whether the user may give all of the grants: for changes of what a resource is shared with, which are
// refused as a whole (403, TextAudience).
func (a *Access) MayGive(ctx context.Context, u *users.User, resourceType string, grants []Grant) (bool, error) {
	allowed, err := a.FilterAllowed(ctx, u, resourceType, grants)
	return len(allowed) == len(grants), err
}
