package groups_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

func TestProvisioned(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, s := t.Context(), groups.New(db)
		var people []string
		for _, name := range []string{"Ann", "Ben", "Cid"} {
			u, err := users.New(db).Insert(ctx, users.NewUser{Email: name + "@x.test", Name: name, Role: "user"})
			if err != nil {
				t.Fatal(err)
			}
			people = append(people, u.ID)
		}
		var told [][]string
		s.OnChange(func(ids []string) { told = append(told, ids) })
		ids := map[string]string{}
		for i, n := range []groups.NewGroup{
			{Name: "Staff", Members: people[:2], Data: jsondoc.Doc(`{"scim":{"my-idp":{"external_id":"G-1"}}}`)},
			{Name: "staff of the night", Members: people[1:]},
			{Name: "Empty"},
		} {
			g, err := s.Insert(ctx, n)
			if err != nil {
				t.Fatal(err)
			}
			ids[n.Name] = g.ID
			if _, err := db.Exec(ctx, `UPDATE "group" SET updated_at = $2, created_at = $2 WHERE id = $1`, g.ID, 1_600_000_000+i); err != nil {
				t.Fatal(err)
			}
		}
		if len(told) != 2 {
			t.Errorf("told %v", told)
		}
		for text, want := range map[string][]string{
			"":                               {"Empty", "staff of the night", "Staff"},
			`displayName eq "STAFF"`:         {"Staff"},
			`displayName sw "staff"`:         {"staff of the night", "Staff"},
			`externalId eq "G-1"`:            {"Staff"},
			`not (externalId pr)`:            {"Empty", "staff of the night"},
			`members eq "` + people[0] + `"`: {"Staff"},
			`members[value eq "` + people[1] + `" and type eq "User"]`: {"staff of the night", "Staff"},
			`members.display eq "cid"`:                                 {"staff of the night"},
			`not (members pr)`:                                         {"Empty"},
			`meta.lastModified gt "2020-09-13T12:26:41Z"`:              {"Empty"},
			`id eq "` + ids["Empty"] + `"`:                             {"Empty"},
		} {
			q, err := scim.Query{Limit: 10}, error(nil)
			if text != "" {
				q.Filter, err = scim.ParseFilter(text)
			}
			if err != nil {
				t.Fatal(err)
			}
			found, total, err := s.Provisioned(ctx, "my-idp", q)
			var got []string
			for _, g := range found {
				got = append(got, g.Name)
			}
			if err != nil || !slices.Equal(got, want) || total != len(want) {
				t.Errorf("%s: %v %d %v", text, got, total, err)
			}
		}
		if found, total, err := s.Provisioned(ctx, "", scim.Query{SortBy: "displayName", Limit: 1, Skip: 1}); err != nil || total != 3 || found[0].Name != "Staff" {
			t.Errorf("sorted: %v %d %v", found, total, err)
		}

		members, err := s.MembersOf(ctx, ids["Staff"], ids["staff of the night"], ids["Empty"])
		if err != nil || len(members) != 2 || len(members[ids["Staff"]]) != 2 || members[ids["Staff"]][0].Name == "" {
			t.Errorf("members %v %v", members, err)
		}
		of, err := s.OfUsers(ctx, people...)
		if err != nil || len(of) != 3 || len(of[people[1]]) != 2 || of[people[1]][0].Name != "staff of the night" {
			t.Errorf("groups %v %v", of, err)
		}

		// a change that is refused changes nothing; another tells those who came and went
		told = nil
		no := errors.New("no")
		change := func(_ *groups.Group, d *groups.Draft) error {
			d.Name = "Crew"
			d.Members = []string{people[2], people[1], people[2]}
			return nil
		}
		if _, _, _, err := s.Redraft(ctx, ids["Staff"], func(g *groups.Group, d *groups.Draft) error { _ = change(g, d); return no }); !errors.Is(err, no) {
			t.Errorf("refused: %v", err)
		}
		if g, err := s.ByID(ctx, ids["Staff"]); err != nil || g.Name != "Staff" || told != nil {
			t.Errorf("after a refusal: %v %v, told %v", g, err, told)
		}
		g, added, removed, err := s.Redraft(ctx, ids["Staff"], change)
		if err != nil || g.Name != "Crew" || !slices.Equal(added, people[2:]) || !slices.Equal(removed, people[:1]) {
			t.Errorf("changed: %v, added %v, removed %v, %v", g, added, removed, err)
		}
		if *g.ExternalID("my-idp") != "G-1" || g.ExternalID("other") != nil {
			t.Errorf("external ids of %s", g.Data)
		}
		if got, err := s.UserIDs(ctx, false, ids["Staff"]); err != nil || len(got) != 2 || len(told) != 1 || len(told[0]) != 2 {
			t.Errorf("members %v %v, told %v", got, err, told)
		}
		if _, _, _, err := s.Redraft(ctx, "none", change); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("no group: %v", err)
		}
	})
}
