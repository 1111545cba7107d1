package access_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

var ctx = context.Background()

type fixture struct {
	*access.Access
	t        *testing.T
	db       *store.DB
	settings *config.Settings
	users    *users.Store
}

func newFixture(t *testing.T, db *store.DB) *fixture {
	t.Helper()
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(ctx, db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{access.New(db, settings), t, db, settings, users.New(db)}
}

func (f *fixture) user(name, role string) *users.User {
	f.t.Helper()
	u, err := f.users.Insert(ctx, users.NewUser{Name: name, Email: name + "@x.test", Role: role})
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func (f *fixture) group(name, parent, permissions string, members ...*users.User) string {
	f.t.Helper()
	n := groups.NewGroup{Name: name, Permissions: jsondoc.Doc(permissions)}
	if parent != "" {
		n.ParentID = &parent
	}
	g, err := f.Groups().Insert(ctx, n)
	if err != nil {
		f.t.Fatal(err)
	}
	var ids []string
	for _, u := range members {
		ids = append(ids, u.ID)
	}
	if _, _, err := f.Groups().AddMembers(ctx, g.ID, ids); err != nil {
		f.t.Fatal(err)
	}
	return g.ID
}

func (f *fixture) has(u *users.User, permission string) bool {
	f.t.Helper()
	ok, err := f.Has(ctx, u, permission)
	if err != nil {
		f.t.Fatal(err)
	}
	return ok
}

func (f *fixture) grant(kind, id string, grants ...string) []access.Grant {
	f.t.Helper()
	out, err := f.SetGrants(ctx, f.db, kind, id, parse(grants...))
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// parse reads grants written as "user:ID:read".
func parse(grants ...string) []access.Grant {
	var docs []jsondoc.Doc
	for _, g := range grants {
		p := strings.Split(g, ":")
		docs = append(docs, jsondoc.Of(map[string]string{"principal_type": p[0], "principal_id": p[1], "permission": p[2]}))
	}
	return access.ParseGrants(jsondoc.Array(docs...))
}

func text(grants []access.Grant) string {
	var out []string
	for _, g := range grants {
		out = append(out, g.PrincipalType+":"+g.PrincipalID+":"+g.Permission)
	}
	return strings.Join(out, " ")
}

func TestPermissions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		ann, bob, boss := f.user("ann", "user"), f.user("bob", "user"), f.user("boss", "admin")
		top := f.group("top", "", `{"features":{"api_keys":true},"chat":{"delete":false}}`)
		f.group("sub", top, `{"workspace":{"models":true},"own":{"x":1}}`, ann)
		f.group("bare", "", ``, bob)
		for _, c := range []struct {
			permission string
			ann, bob   bool
		}{
			{"chat.delete", true, true}, // the defaults allow it, and groups only add
			{"features.api_keys", true, false},
			{"workspace.models", true, false},
			{"workspace.tools", false, false},
			{"own.x", true, false},
			{"chat", true, true},
			{"nothing.at.all", false, false},
			{"", false, false},
		} {
			if a, b := f.has(ann, c.permission), f.has(bob, c.permission); a != c.ann || b != c.bob {
				t.Errorf("%q: Ann %v, Bob %v; want %v, %v", c.permission, a, b, c.ann, c.bob)
			}
		}
		if f.has(boss, "workspace.models") {
			t.Error("Has looks at the role")
		}
		if ok, err := f.HasOrAdmin(ctx, boss, "workspace.models"); !ok || err != nil {
			t.Errorf("HasOrAdmin: %v, %v", ok, err)
		}
		doc, err := f.Permissions(ctx, ann)
		if err != nil || !doc.Bool("workspace", "models") || !doc.Bool("features", "api_keys") || !doc.Bool("chat", "delete") || doc.Get("own", "x").String() != "1" {
			t.Errorf("Ann's tree %s, %v", doc, err)
		}
		if err := f.settings.Set(ctx, config.Changes{"user.permissions": map[string]any{"chat": map[string]any{"delete": false}, "workspace": map[string]any{"tools": true}}}); err != nil {
			t.Fatal(err)
		}
		if f.has(bob, "chat.delete") || !f.has(bob, "workspace.tools") || !f.has(bob, "chat.edit") {
			t.Error("a change of the settings is not seen, or what they leave out is not filled in")
		}
		if f.Builtin().Get("chat", "delete").String() != "true" {
			t.Errorf("built-in permissions changed: %s", f.Builtin())
		}
	})
}

func TestGroupChangesAreSeen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		ann := f.user("ann", "user")
		g := f.group("g", "", `{"workspace":{"models":true}}`)
		steps := []struct {
			name string
			do   func() error
			want bool
		}{
			{"joins", func() error { _, _, err := f.Groups().AddMembers(ctx, g, []string{ann.ID}); return err }, true},
			{"loses the permission", func() error {
				_, _, err := f.Groups().Update(ctx, g, groups.Patch{Permissions: jsondoc.Doc("{}")})
				return err
			}, false},
			{"gets it again", func() error {
				_, _, err := f.Groups().Update(ctx, g, groups.Patch{Permissions: jsondoc.Doc(`{"workspace":{"models":true}}`)})
				return err
			}, true},
			{"leaves", func() error { _, _, err := f.Groups().RemoveMembers(ctx, g, []string{ann.ID}); return err }, false},
			{"is set", func() error { _, err := f.Groups().SetMembers(ctx, g, []string{ann.ID}); return err }, true},
			{"group goes", func() error { _, err := f.Groups().Delete(ctx, g); return err }, false},
		}
		for _, s := range steps {
			if err := s.do(); err != nil {
				t.Fatal(err)
			}
			if got := f.has(ann, "workspace.models"); got != s.want {
				t.Errorf("%s: %v", s.name, got)
			}
		}
	})
}

// TestNoStaleCache changes memberships while others read them: the last state is what is seen afterwards.
func TestNoStaleCache(t *testing.T) {
	f := newFixture(t, storetest.SQLite(t))
	ann := f.user("ann", "user")
	g := f.group("g", "", `{"workspace":{"models":true}}`)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := f.Has(ctx, ann, "workspace.models"); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for i := range 30 {
		var members []string
		if i%2 == 0 {
			members = []string{ann.ID}
		}
		if _, err := f.Groups().SetMembers(ctx, g, members); err != nil {
			t.Fatal(err)
		}
		if got := f.has(ann, "workspace.models"); got != (i%2 == 0) {
			t.Fatalf("step %d: %v", i, got)
		}
	}
	close(done)
	wg.Wait()
}

func TestParseGrants(t *testing.T) {
	for _, c := range []struct{ name, list, want string }{
		{"sound", `[{"principal_type":"user","principal_id":"u","permission":"read"},{"principal_type":"group","principal_id":"g","permission":"write"}]`, "user:u:read group:g:write"},
		{"repeated", `[{"principal_type":"user","principal_id":"u","permission":"read"},{"id":"x","principal_type":"user","principal_id":"u","permission":"read"}]`, "user:u:read"},
		{"anyone reads", `[{"principal_type":"anyone","principal_id":"*","permission":"read"}]`, "anyone:*:read"},
		{"anyone writes", `[{"principal_type":"anyone","principal_id":"*","permission":"write"}]`, ""},
		{"anyone in particular", `[{"principal_type":"anyone","principal_id":"u","permission":"read"}]`, ""},
		{"unknown principal", `[{"principal_type":"robot","principal_id":"u","permission":"read"}]`, ""},
		{"unknown permission", `[{"principal_type":"user","principal_id":"u","permission":"own"}]`, ""},
		{"no principal", `[{"principal_type":"user","principal_id":"","permission":"read"},{"principal_type":"user","permission":"read"},{"principal_type":"user","principal_id":5,"permission":"read"}]`, ""},
		{"no objects", `[1,null,"x",[]]`, ""},
	} {
		got := access.ParseGrants(jsondoc.Doc(c.list))
		if text(got) != c.want || got == nil {
			t.Errorf("%s: %q, want %q", c.name, text(got), c.want)
		}
	}
	if access.ParseGrants(jsondoc.Doc("null")) != nil || access.ParseGrants(nil) != nil {
		t.Error("null is not nil")
	}
}

func TestGrants(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		ann, bob := f.user("ann", "user"), f.user("bob", "user")
		top := f.group("top", "", "")
		f.group("sub", top, "", ann)
		f.grant("note", "public", "user:*:read")
		f.grant("note", "anns", "user:"+ann.ID+":read", "user:"+ann.ID+":write")
		f.grant("note", "tops", "group:"+top+":read")
		f.grant("note", "strangers", "anyone:*:read")
		f.grant("note", "writers", "user:"+bob.ID+":write")
		f.grant("tool", "other", "user:"+ann.ID+":read")
		all := []string{"public", "anns", "tops", "strangers", "writers", "other", "none"}
		for _, c := range []struct {
			user       *users.User
			permission string
			want       []string
		}{
			{ann, "read", []string{"anns", "public", "tops"}},
			{ann, "write", []string{"anns"}},
			{bob, "read", []string{"public"}},
			{bob, "write", []string{"writers"}},
		} {
			got, err := f.Accessible(ctx, c.user.ID, "note", c.permission)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s may %s %v, %v; want %v", c.user.Name, c.permission, got, err, c.want)
			}
			among, err := f.CanAmong(ctx, c.user.ID, "note", all, c.permission)
			if err != nil || len(among) != len(c.want) {
				t.Errorf("%s may %s among %v, %v", c.user.Name, c.permission, among, err)
			}
			for _, id := range all {
				ok, err := f.Can(ctx, c.user.ID, "note", id, c.permission)
				if err != nil || ok != slices.Contains(c.want, id) || among[id] != ok {
					t.Errorf("%s may %s %s: %v, %v", c.user.Name, c.permission, id, ok, err)
				}
			}
			clause, args, err := f.Clause(ctx, []any{"first"}, c.user.ID, "note", "x.resource_id", c.permission)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := db.Query(ctx, `SELECT DISTINCT x.resource_id FROM access_grant x WHERE x.resource_id <> $1 AND `+clause+` ORDER BY 1`, args...)
			if got, err := store.Strings(rows, err); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("clause: %v, %v; want %v", got, err, c.want)
			}
		}
		for id, want := range map[string]bool{"strangers": true, "public": false, "none": false} {
			if ok, err := f.Anyone(ctx, "note", id); ok != want || err != nil {
				t.Errorf("strangers may read %s: %v, %v", id, ok, err)
			}
		}
		// replacing gives new ids, and leaves other resources alone
		first := f.grant("note", "anns", "user:"+ann.ID+":read", "user:"+ann.ID+":read", "robot:x:read")
		again := f.grant("note", "anns", "user:"+ann.ID+":read")
		if len(first) != 1 || len(again) != 1 || first[0].ID == again[0].ID || again[0].CreatedAt == 0 || again[0].ResourceID != "anns" {
			t.Errorf("%+v, then %+v", first, again)
		}
		got, err := f.Grants(ctx, "note", "anns", "public", "none")
		if err != nil || len(got) != 3 || text(got["anns"]) != "user:"+ann.ID+":read" || text(got["public"]) != "user:*:read" || got["none"] == nil {
			t.Errorf("%v, %v", got, err)
		}
		if err := f.DeleteGrants(ctx, db, "note", "anns", "public"); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Grants(ctx, "note", "anns", "public", "tops"); err != nil || len(got["anns"])+len(got["public"]) != 0 || len(got["tops"]) != 1 {
			t.Errorf("after deletion %v, %v", got, err)
		}
		if got, err := f.Grants(ctx, "tool", "other"); err != nil || len(got["other"]) != 1 {
			t.Errorf("another kind: %v, %v", got, err)
		}
	})
}

func TestFilterAllowed(t *testing.T) {
	f := newFixture(t, storetest.SQLite(t))
	boss, plain := f.user("boss", "admin"), f.user("plain", "user")
	sharer := f.user("sharer", "user")
	f.group("sharers", "", `{"sharing":{"notes":true,"public_notes":true,"open_chats":true}}`, sharer)
	shy := f.user("shy", "user")
	f.group("shy", "", `{"sharing":{"notes":true}}`, shy)
	everything := []string{"user:u:read", "group:g:write", "user:*:read", "anyone:*:read"}
	for _, c := range []struct {
		user *users.User
		kind string
		want string
	}{
		{boss, "note", "user:u:read group:g:write user:*:read"},
		{boss, "folder", "user:u:read group:g:write"},
		{boss, "shared_chat", "user:u:read group:g:write user:*:read anyone:*:read"},
		{plain, "note", ""},
		{plain, "calendar", "user:u:read group:g:write"},
		{shy, "note", "user:u:read group:g:write"},
		{sharer, "note", "user:u:read group:g:write user:*:read"},
		{sharer, "shared_chat", "user:u:read group:g:write anyone:*:read"},
	} {
		got, err := f.FilterAllowed(ctx, c.user, c.kind, parse(everything...))
		if err != nil || text(got) != c.want {
			t.Errorf("%s, %s: %q, %v; want %q", c.user.Name, c.kind, text(got), err, c.want)
		}
		ok, err := f.MayGive(ctx, c.user, c.kind, parse(everything...))
		if err != nil || ok != (len(got) == len(everything)) {
			t.Errorf("%s, %s: may give all is %v, %v", c.user.Name, c.kind, ok, err)
		}
	}
	if err := f.settings.Set(ctx, config.Changes{"user.permissions": jsondocOf(f.Builtin().Set(jsondoc.Doc("false"), "access_grants", "allow_users"))}); err != nil {
		t.Fatal(err)
	}
	if got, err := f.FilterAllowed(ctx, shy, "note", parse(everything...)); err != nil || text(got) != "group:g:write" {
		t.Errorf("without allow_users: %q, %v", text(got), err)
	}
	if _, err := f.FilterAllowed(ctx, boss, "spaceship", nil); err == nil {
		t.Error("an unknown kind is no error")
	}
}

func jsondocOf(d jsondoc.Doc) any {
	var v any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

func TestLists(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		ann, bob, wait := f.user("ann", "user"), f.user("bob", "user"), f.user("wait", "pending")
		top := f.group("top", "", "")
		f.group("sub", top, "", ann)
		for _, c := range []struct {
			list     string
			ann, bob bool
		}{
			{`null`, false, false}, {`[]`, false, false},
			{`[{"principal_type":"user","principal_id":"*","permission":"read"}]`, true, true},
			{`[{"principal_type":"user","principal_id":"*","permission":"write"}]`, false, false},
			{`[{"principal_type":"user","principal_id":"` + bob.ID + `","permission":"read"}]`, false, true},
			{`[5,{"principal_type":"group","principal_id":"` + top + `","permission":"read"}]`, true, false},
		} {
			a, err := f.InList(ctx, ann.ID, "read", jsondoc.Doc(c.list))
			b, err2 := f.InList(ctx, bob.ID, "read", jsondoc.Doc(c.list))
			if err != nil || err2 != nil || a != c.ann || b != c.bob {
				t.Errorf("%s: Ann %v, Bob %v; %v, %v", c.list, a, b, err, err2)
			}
		}
		for _, c := range []struct {
			grants []string
			want   []string
		}{
			{nil, nil},
			{[]string{"user:*:read"}, []string{ann.ID, bob.ID}},
			{[]string{"group:" + top + ":read", "user:" + wait.ID + ":read", "user:" + bob.ID + ":write"}, []string{ann.ID, wait.ID}},
		} {
			got, err := f.UserIDs(ctx, parse(c.grants...), "read")
			slices.Sort(got)
			slices.Sort(c.want)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v: %v, %v; want %v", c.grants, got, err, c.want)
			}
		}
		lost, err := f.Revoked(ctx, parse("user:*:read"), parse("user:"+ann.ID+":read"), "read")
		if err != nil || !slices.Equal(lost, []string{bob.ID}) {
			t.Errorf("lost %v, %v", lost, err)
		}
	})
}

func TestReach(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		ann := f.user("ann", "user")
		g := f.group("g", "", "", ann)
		for i, m := range []struct {
			owner  string
			active bool
		}{{ann.ID, true}, {"x", true}, {"x", true}, {ann.ID, false}} {
			if _, err := db.Exec(ctx, `INSERT INTO model (id, user_id, name, params, meta, is_active, created_at, updated_at) VALUES ($1, $2, $3, '{}', '{}', $4, 1, 1)`,
				fmt.Sprint("m", i), m.owner, fmt.Sprint("M", i), m.active); err != nil {
				t.Fatal(err)
			}
		}
		f.grant("model", "m1", "group:"+g+":read")
		f.grant("model", "m3", "user:*:read")
		show := func(r access.Reach) string {
			var out []string
			for _, i := range r.Items {
				out = append(out, i.ID+"="+i.Name)
			}
			slices.Sort(out)
			return fmt.Sprint(out, r.Total)
		}
		got, err := f.ReachOf(ctx, ann.ID, []string{g})
		if err != nil || show(got["model"]) != "[m0=M0 m1=M1] 3" || show(got["knowledge"]) != "[] 0" || got["tool"].Items == nil {
			t.Errorf("Ann: %v, %v", got, err)
		}
		if got, err = f.ReachOf(ctx, "", []string{g}); err != nil || show(got["model"]) != "[m1=M1] 3" {
			t.Errorf("group: %v, %v", got, err)
		}
	})
}
