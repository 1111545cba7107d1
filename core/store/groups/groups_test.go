package groups_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

var ctx = context.Background()

func make1(t testing.TB, s *groups.Store, name, parent string) *groups.Group {
	t.Helper()
	n := groups.NewGroup{UserID: "admin", Name: name}
	if parent != "" {
		n.ParentID = &parent
	}
	g, err := s.Insert(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// fixture is the tree top > mid > low beside lone, with Ann in low, Bob in mid and low, Cal in lone.
type fixture struct {
	*groups.Store
	db                  *store.DB
	top, mid, low, lone *groups.Group
	ann, bob, cal       string
	told                [][]string
}

func newFixture(t *testing.T, db *store.DB) *fixture {
	f := &fixture{Store: groups.New(db), db: db}
	us := users.New(db)
	for name, id := range map[string]*string{"Ann": &f.ann, "bob": &f.bob, "Cal": &f.cal} {
		u, err := us.Insert(ctx, users.NewUser{Name: name, Email: name + "@x.test", Role: "user"})
		if err != nil {
			t.Fatal(err)
		}
		*id = u.ID
	}
	f.top = make1(t, f.Store, "top", "")
	f.mid = make1(t, f.Store, "mid", f.top.ID)
	f.low = make1(t, f.Store, "low", f.mid.ID)
	f.lone = make1(t, f.Store, "lone", "")
	for group, ids := range map[string][]string{f.low.ID: {f.ann, f.bob}, f.mid.ID: {f.bob}, f.lone.ID: {f.cal}} {
		if _, _, err := f.AddMembers(ctx, group, ids); err != nil {
			t.Fatal(err)
		}
	}
	f.OnChange(func(ids []string) { f.told = append(f.told, slices.Sorted(slices.Values(ids))) })
	return f
}

// names gives the names of groups, sorted.
func names(list []*groups.Group) []string {
	var out []string
	for _, g := range list {
		out = append(out, g.Name)
	}
	slices.Sort(out)
	return out
}

func sorted(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }

func TestTree(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		check := func(what string, got, want []string, err error) {
			t.Helper()
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %v, %v; want %v", what, got, err, want)
			}
		}
		list, err := f.OfUser(ctx, f.ann, false)
		check("Ann's own", names(list), []string{"low"}, err)
		list, err = f.OfUser(ctx, f.ann, true)
		check("Ann's", names(list), []string{"low", "mid", "top"}, err)
		ids, err := f.UserIDs(ctx, false, f.mid.ID)
		check("members of mid", ids, []string{f.bob}, err)
		ids, err = f.UserIDs(ctx, true, f.top.ID)
		check("members of top", slices.Sorted(slices.Values(ids)), sorted(f.ann, f.bob), err)
		ids, err = f.Ancestors(ctx, f.low.ID)
		check("above low", slices.Sorted(slices.Values(ids)), sorted(f.low.ID, f.mid.ID, f.top.ID), err)
		ids, err = f.Ancestors(ctx, "none")
		check("above none", ids, []string{}, err)
		byUser, err := f.IDsOfUsers(ctx, []string{f.ann, f.bob, "nobody"})
		if err != nil || len(byUser[f.bob]) != 2 || len(byUser["nobody"]) != 0 {
			t.Errorf("groups by user: %v, %v", byUser, err)
		}

		for name, c := range map[string]struct {
			parent string
			want   error
		}{"empty": {"", groups.ErrEmptyParent}, "missing": {"none", groups.ErrNoParent}, "itself": {f.top.ID, groups.ErrLoop}, "below": {f.low.ID, groups.ErrLoop}} {
			if _, _, err := f.Update(ctx, f.top.ID, groups.Patch{SetParent: true, ParentID: &c.parent, Name: "top"}); !errors.Is(err, c.want) {
				t.Errorf("parent %s: %v, want %v", name, err, c.want)
			}
		}
		if _, err := f.Insert(ctx, groups.NewGroup{ParentID: new(string)}); !errors.Is(err, groups.ErrEmptyParent) {
			t.Errorf("insert below nothing: %v", err)
		}
		f.told = nil
		affected, err := f.Delete(ctx, f.mid.ID)
		check("affected by deletion", slices.Sorted(slices.Values(affected)), sorted(f.ann, f.bob), err)
		if len(f.told) != 1 {
			t.Errorf("told %v", f.told)
		}
		if g, err := f.ByID(ctx, f.low.ID); err != nil || g.ParentID == nil || *g.ParentID != f.top.ID {
			t.Errorf("the group below did not move up: %+v, %v", g, err)
		}
		if _, err := f.Delete(ctx, f.mid.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		// a loop from elsewhere ends nothing
		if _, err := db.Exec(ctx, `UPDATE "group" SET parent_group_id = $1 WHERE id = $2`, f.low.ID, f.top.ID); err != nil {
			t.Fatal(err)
		}
		list, err = f.OfUser(ctx, f.ann, true)
		check("Ann's, in a loop", names(list), []string{"low", "top"}, err)
	})
}

func TestMembers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		f.told = nil
		if _, added, err := f.AddMembers(ctx, f.mid.ID, []string{f.bob, f.cal, f.cal}); err != nil || !slices.Equal(added, []string{f.cal}) {
			t.Errorf("added %v, %v", added, err)
		}
		if _, removed, err := f.RemoveMembers(ctx, f.mid.ID, []string{f.cal, "nobody"}); err != nil || !slices.Equal(removed, []string{f.cal}) {
			t.Errorf("removed %v, %v", removed, err)
		}
		if _, removed, err := f.RemoveMembers(ctx, f.mid.ID, []string{f.cal}); err != nil || len(removed) != 0 {
			t.Errorf("removed again %v, %v", removed, err)
		}
		if _, _, err := f.AddMembers(ctx, "none", nil); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("added to none: %v", err)
		}
		if affected, err := f.SetMembers(ctx, f.lone.ID, []string{f.ann}); err != nil || !slices.Equal(slices.Sorted(slices.Values(affected)), sorted(f.ann, f.cal)) {
			t.Errorf("set %v, %v", affected, err)
		}
		if want := [][]string{{f.cal}, {f.cal}, sorted(f.ann, f.cal)}; fmt.Sprint(f.told) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", f.told, want)
		}
		if g, err := f.CountedByID(ctx, f.low.ID); err != nil || g.MemberCount != 2 {
			t.Errorf("count %+v, %v", g, err)
		}
		for _, c := range []struct {
			q     groups.MembersQuery
			want  string
			total int
		}{
			{groups.MembersQuery{Membership: "effective", Limit: 30}, "Ann:low bob:direct,low", 2},
			{groups.MembersQuery{Membership: "direct", Limit: 30}, "bob:direct,low", 1},
			{groups.MembersQuery{Membership: "inherited", Limit: 30}, "Ann:low", 1},
			{groups.MembersQuery{Text: "BO", Limit: 30}, "bob:direct,low", 1},
			{groups.MembersQuery{Limit: 1, Skip: 1}, "bob:direct,low", 2},
			{groups.MembersQuery{Text: "zzz", Limit: 30}, "", 0},
		} {
			p, err := f.Members(ctx, f.mid.ID, c.q)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for i, m := range p.Items {
				if i > 0 {
					got += " "
				}
				got += map[string]string{f.ann: "Ann", f.bob: "bob", f.cal: "Cal"}[m.UserID] + ":"
				if m.Direct {
					got += "direct,"
				}
				for _, id := range m.Via {
					got += map[string]string{f.low.ID: "low", f.mid.ID: "mid", f.top.ID: "top"}[id]
				}
			}
			if got != c.want || p.Total != c.total || p.Direct != 1 || p.Effective != 2 {
				t.Errorf("%+v: %q, %+v; want %q of %d", c.q, got, p, c.want, c.total)
			}
		}
	})
}

func TestUpdate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		if f.top.Data.String() != `{"config":{"share":"members"}}` || f.top.Permissions != nil || f.top.Meta != nil {
			t.Errorf("made %+v", f.top)
		}
		g, err := f.Insert(ctx, groups.NewGroup{Name: "x", Data: jsondoc.Doc(`{"a":1,"config":{"b":2}}`), Share: jsondoc.Doc("false")})
		if err != nil || g.Data.String() != `{"a":1,"config":{"b":2,"share":false}}` {
			t.Errorf("made with data: %+v, %v", g, err)
		}
		both := sorted(f.ann, f.bob)
		for _, c := range []struct {
			name     string
			patch    groups.Patch
			affected []string
			data     string
		}{
			{"names alone affect nobody", groups.Patch{Name: "M", Description: "d"}, nil, `{"config":{"share":"members"}}`},
			{"data is merged", groups.Patch{Data: jsondoc.Doc(`{"a":1,"config":{"share":true}}`)}, nil, `{"config":{"share":true},"a":1}`},
			{"default models", groups.Patch{Data: jsondoc.Doc(`{"config":{"default_models":["m"]}}`)}, both, `{"config":{"share":true,"default_models":["m"]},"a":1}`},
			{"permissions", groups.Patch{Permissions: jsondoc.Doc(`{"chat":{"delete":true}}`)}, both, ""},
			{"same permissions", groups.Patch{Permissions: jsondoc.Doc(`{"chat":{"delete":true}}`)}, nil, ""},
			{"parent", groups.Patch{SetParent: true}, both, ""},
			{"same parent", groups.Patch{SetParent: true}, nil, ""},
		} {
			g, affected, err := f.Update(ctx, f.mid.ID, c.patch)
			if err != nil || !slices.Equal(slices.Sorted(slices.Values(affected)), c.affected) {
				t.Errorf("%s: affected %v, %v; want %v", c.name, affected, err, c.affected)
			}
			if c.data != "" && g.Data.String() != c.data {
				t.Errorf("%s: data %s, want %s", c.name, g.Data, c.data)
			}
		}
		if _, _, err := f.Update(ctx, "none", groups.Patch{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("none: %v", err)
		}
	})
}

func TestLists(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		for id, share := range map[string]string{f.top.ID: `{"config":{"share":true}}`, f.mid.ID: `{"config":{"share":"false"}}`, f.lone.ID: `null`} {
			if _, err := db.Exec(ctx, `UPDATE "group" SET data = $1 WHERE id = $2`, share, id); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			name string
			q    groups.Query
			want []string
		}{
			{"all", groups.Query{}, []string{"lone", "low", "mid", "top"}},
			{"by name", groups.Query{Text: "LO"}, []string{"lone", "low"}},
			{"a member's", groups.Query{MemberID: f.ann}, []string{"low", "mid", "top"}},
			{"nobody's", groups.Query{MemberID: "nobody"}, nil},
			{"a member may share with", groups.Query{MemberID: f.ann, Share: groups.Shareable}, []string{"lone", "low", "top"}},
			{"anybody may share with", groups.Query{MemberID: f.cal, Share: groups.Shareable}, []string{"lone", "top"}},
			{"nobody may share with", groups.Query{MemberID: f.cal, Share: groups.Unshared}, []string{"mid"}},
		} {
			list, err := f.List(ctx, c.q)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			var got []*groups.Group
			for _, g := range list {
				got = append(got, &g.Group)
			}
			if !slices.Equal(names(got), c.want) {
				t.Errorf("%s: %v, want %v", c.name, names(got), c.want)
			}
		}
	})
}

// TestListOfOneSecond holds that groups which were changed in one second come in the order they were made in.
func TestListOfOneSecond(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := groups.New(db)
		want := make([]string, 8)
		for i := range want {
			want[i] = fmt.Sprint("g", i)
			make1(t, s, want[i], "")
		}
		if _, err := db.Exec(ctx, `UPDATE "group" SET updated_at = 5, created_at = CAST(substr(name, 2) AS BIGINT)`); err != nil {
			t.Fatal(err)
		}
		list, err := s.List(ctx, groups.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range list {
			if g.Name != want[i] {
				t.Errorf("%d is %s", i, g.Name)
			}
		}
	})
}

func TestByNames(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := newFixture(t, db)
		made, err := f.CreateByNames(ctx, "admin", []string{"low", "new", "new", "newer"}, nil)
		if err != nil || !slices.Equal(names(made), []string{"new", "newer"}) {
			t.Errorf("made %v, %v", names(made), err)
		}
		f.told = nil
		for i, want := range []bool{true, false} {
			if changed, err := f.SyncByNames(ctx, f.bob, []string{"new", "low", "not there"}); err != nil || changed != want {
				t.Errorf("sync %d: %v, %v", i, changed, err)
			}
		}
		list, err := f.OfUser(ctx, f.bob, false)
		if err != nil || !slices.Equal(names(list), []string{"low", "new"}) {
			t.Errorf("after the sync: %v, %v", names(list), err)
		}
		if len(f.told) != 1 {
			t.Errorf("told %v", f.told)
		}
	})
}

func TestDefaultModels(t *testing.T) {
	group := func(id, parent, models string, at int64) *groups.Group {
		g := &groups.Group{ID: id, CreatedAt: at}
		if parent != "" {
			g.ParentID = &parent
		}
		if models != "" {
			g.Data = jsondoc.Doc(`{"config":{"default_models":` + models + `}}`)
		}
		return g
	}
	for _, c := range []struct {
		name   string
		list   []*groups.Group
		source string
	}{
		{"none", nil, ""},
		{"none configured", []*groups.Group{group("a", "", "", 1), group("b", "a", "[]", 1)}, ""},
		{"the deepest", []*groups.Group{group("a", "", `["x"]`, 1), group("b", "a", `["y"]`, 2)}, "b"},
		{"the older", []*groups.Group{group("a", "", `["x"]`, 2), group("b", "", `["y"]`, 1)}, "b"},
		{"the lesser id", []*groups.Group{group("b", "", `["x"]`, 1), group("a", "", `["y"]`, 1)}, "a"},
		{"a loop", []*groups.Group{group("a", "b", `["x"]`, 1), group("b", "a", "", 1)}, "a"},
	} {
		models, source := groups.DefaultModels(c.list)
		got := ""
		if source != nil {
			got = *source
		}
		if got != c.source || (models == nil) != (c.source == "") {
			t.Errorf("%s: %s of %q, want of %q", c.name, models, got, c.source)
		}
	}
}
