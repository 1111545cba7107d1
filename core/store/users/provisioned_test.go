package users_test

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
		ctx, s := t.Context(), users.New(db)
		ids := map[string]string{}
		add := func(name, email, role, image string, scim, oauth jsondoc.Doc, created int64) {
			t.Helper()
			u, err := s.Insert(ctx, users.NewUser{Email: email, Name: name, Role: role, ProfileImageURL: image, SCIM: scim, OAuth: oauth})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(ctx, `UPDATE "user" SET created_at = $2, updated_at = $3 WHERE id = $1`, u.ID, created, created+5); err != nil {
				t.Fatal(err)
			}
			ids[name] = u.ID
		}
		add("Ann Lee", "ann@x.test", "user", "/user.png", jsondoc.Doc(`{"my-idp":{"external_id":"E-1"}}`), nil, 1_600_000_000)
		add("Ben", "ben@y.test", "pending", "https://x.test/b.png", jsondoc.Doc(`{"my-idp":{"external_id":null}}`), nil, 1_600_000_100)
		add("Cid van Dam", "cid_1%@x.test", "admin", "/user.png", nil, jsondoc.Doc(`{"my-idp":{"sub":"77"}}`), 1_600_000_200)
		add("Dan Over", "dan@x.test", "user", "/user.png", jsondoc.Doc(`{"other":{"external_id":"E-1"}}`), nil, 1_600_000_300)
		add("Local", "local@x.test", "admin", "/user.png", nil, nil, 1_600_000_400)
		add("Local Null", "null@x.test", "user", "/user.png", jsondoc.Doc(`null`), jsondoc.Doc(`null`), 1_600_000_500)
		g, err := groups.New(db).Insert(ctx, groups.NewGroup{Name: "Staff", Members: []string{ids["Ann Lee"], ids["Ben"]}})
		if err != nil {
			t.Fatal(err)
		}

		list := func(q scim.Query) ([]string, int, error) {
			found, total, err := s.Provisioned(ctx, "my-idp", q)
			names := []string{}
			for _, u := range found {
				names = append(names, u.Email[:3])
			}
			return names, total, err
		}
		for text, want := range map[string][]string{
			"":                                  {"dan", "cid", "ben", "ann"},
			`userName eq "ANN@x.test"`:          {"ann"},
			`userName eq "ann"`:                 {},
			`userName ne "ann@x.test"`:          {"dan", "cid", "ben"},
			`userName co "_1%"`:                 {"cid"},
			`userName co "%"`:                   {"cid"},
			`userName sw "BEN@"`:                {"ben"},
			`userName sw "ben@y.test and more"`: {},
			`userName ew "x.TEST"`:              {"dan", "cid", "ann"},
			`userName ew "much longer than any address, @x.test"`: {},
			`userName ew ""`:                                      {"dan", "cid", "ben", "ann"},
			`userName gt "ben@y.test"`:                            {"dan", "cid"},
			`userName ge "ben@y.test"`:                            {"dan", "cid", "ben"},
			`userName lt "ben@y.test"`:                            {"ann"},
			`userName le "ben@y.test"`:                            {"ben", "ann"},
			`id eq "` + ids["Ann Lee"] + `"`:                      {"ann"},
			`externalId eq "E-1"`:                                 {"ann"},
			`externalId eq "e-1"`:                                 {},
			`externalId eq "77"`:                                  {"cid"},
			`externalId pr`:                                       {"cid", "ann"},
			`not (externalId pr)`:                                 {"dan", "ben"},
			`externalId eq null`:                                  {"dan", "ben"},
			`externalId ne null`:                                  {"cid", "ann"},
			`externalId ne "E-1"`:                                 {"dan", "cid", "ben"},
			`not (externalId eq "E-1")`:                           {"dan", "cid", "ben"},
			`name.familyName eq "van dam"`:                        {"cid"},
			`name.givenName eq "cid"`:                             {"cid"},
			`name.familyName pr`:                                  {"dan", "cid", "ann"},
			`not (name.familyName pr)`:                            {"ben"},
			`name.formatted sw "Dan" or displayName eq "ben"`:     {"dan", "ben"},
			`name co "an"`:                                        {"dan", "cid", "ann"},
			`active eq true`:                                      {"dan", "cid", "ann"},
			`active eq "False"`:                                   {"ben"},
			`active ne true`:                                      {"ben"},
			`active pr`:                                           {"dan", "cid", "ben", "ann"},
			`emails eq "ann@x.test"`:                              {"ann"},
			`emails.value co "y.test"`:                            {"ben"},
			`emails[type eq "work" and value eq "ann@x.test"]`:    {"ann"},
			`emails[type eq "work"].value eq "ANN@x.test"`:        {"ann"},
			`emails[type eq "home" and value eq "ann@x.test"]`:    {},
			`emails[primary eq true and not (value ew "x.test")]`: {"ben"},
			`emails.display pr`:                                   {},
			`photos.value sw "https:"`:                            {"ben"},
			`groups.value eq "` + g.ID + `"`:                      {"ben", "ann"},
			`groups eq "` + g.ID + `" and active eq true`:         {"ann"},
			`not (groups[display eq "staff"])`:                    {"dan", "cid"},
			`groups pr`:                                           {"ben", "ann"},
			`meta.created gt "2020-09-13T12:28:20Z"`:              {"dan", "cid"},
			`meta.created ge "2020-09-13T12:28:20Z"`:              {"dan", "cid", "ben"},
			`meta.created eq "2020-09-13T14:28:20+02:00"`:         {"ben"},
			`meta.lastModified lt "2020-09-13T12:26:45.001"`:      {"ann"},
			`title pr`:                                                   {},
			`title ne "boss" and userName sw "a"`:                        {"ann"},
			`addresses[type eq "work"]`:                                  {},
			`phoneNumbers.value eq "1"`:                                  {},
			`userName eq "'; DROP TABLE auth; --"`:                       {},
			`userName eq "a\u0000b"`:                                     {},
			`displayName co "Ann" and (active eq false or id pr)`:        {"ann"},
			`urn:ietf:params:scim:schemas:core:2.0:User:active eq false`: {"ben"},
		} {
			q := scim.Query{Limit: 10}
			if text != "" {
				if q.Filter, err = scim.ParseFilter(text); err != nil {
					t.Errorf("%s: %v", text, err)
					continue
				}
			}
			got, total, err := list(q)
			if err != nil || !slices.Equal(got, want) || total != len(want) {
				t.Errorf("%s: %v, %d (%v); want %v", text, got, total, err, want)
			}
		}
		for _, text := range []string{`password eq "x"`, `role eq "admin"`, `userName eq 5`, `userName gt null`, `active gt true`, `active eq "maybe"`,
			`meta.created co "2020"`, `meta.created gt "yesterday"`, `name.nick pr`, `emails[nothing eq "x"]`, `emails[groups[value pr]]`, `emails.value[type pr]`, `meta pr`} {
			f, err := scim.ParseFilter(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := list(scim.Query{Filter: f, Limit: 1}); !errors.Is(err, scim.ErrSyntax) {
				t.Errorf("%s: %v", text, err)
			}
		}
		for _, test := range []struct {
			q    scim.Query
			want []string
		}{
			{scim.Query{SortBy: "userName", Limit: 10}, []string{"ann", "ben", "cid", "dan"}},
			{scim.Query{SortBy: "USERNAME", Descending: true, Limit: 2}, []string{"dan", "cid"}},
			{scim.Query{SortBy: "name.familyName", Limit: 10}, []string{"ben", "ann", "dan", "cid"}},
			{scim.Query{SortBy: "emails", Limit: 1, Skip: 1}, []string{"ben"}},
			{scim.Query{SortBy: "meta.created", Limit: 2}, []string{"ann", "ben"}},
			{scim.Query{SortBy: "externalId", Descending: true, Filter: &scim.Compare{Attr: scim.Attr{Name: "externalid"}, Op: "pr"}, Limit: 5}, []string{"ann", "cid"}},
			{scim.Query{Limit: 2, Skip: 3}, []string{"ann"}},
			{scim.Query{Limit: 2, Skip: 4}, []string{}},
			{scim.Query{}, []string{}},
		} {
			got, total, err := list(test.q)
			if err != nil || !slices.Equal(got, test.want) || total == 0 {
				t.Errorf("%+v: %v, %d, %v", test.q, got, total, err)
			}
		}
		for _, by := range []string{"groups", "title", "nothing", ""} {
			if _, _, err := list(scim.Query{SortBy: by, Limit: 1}); (by != "") != errors.Is(err, scim.ErrSyntax) {
				t.Errorf("sorted by %q: %v", by, err)
			}
		}

		for id, want := range map[string]string{"E-1": "Ann Lee", "77": "Cid van Dam", "nobody": ""} {
			u, err := s.ByExternalID(ctx, "my-idp", id)
			if want == "" && !errors.Is(err, store.ErrNotFound) || want != "" && (err != nil || u.Name != want) {
				t.Errorf("external id %s: %v %v", id, u, err)
			}
		}
		for name, want := range map[string]bool{"Ann Lee": true, "Cid van Dam": true, "Local": false, "Local Null": false} {
			u, err := s.ProvisionedByID(ctx, ids[name])
			if want != (err == nil) || want && !u.IsProvisioned() {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestChangeRefused changes an account by a function that refuses: nothing is written, and its error comes back.
func TestChangeRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, s := t.Context(), users.New(db)
		u, err := s.Insert(ctx, users.NewUser{Email: "a@x.test", Name: "Ann", Role: "user"})
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		s.OnChange(func(string) { told++ })
		no := errors.New("no")
		if _, err := s.Change(ctx, u.ID, func(*users.User) ([]users.Field, error) { return []users.Field{users.SetName("Eve")}, no }); !errors.Is(err, no) {
			t.Errorf("refused: %v", err)
		}
		if got, err := s.Change(ctx, u.ID, func(*users.User) ([]users.Field, error) { return nil, nil }); err != nil || got.Name != "Ann" || told != 0 {
			t.Errorf("no fields: %v %v, told %d times", got, err, told)
		}
		got, err := s.Change(ctx, u.ID, func(u *users.User) ([]users.Field, error) {
			return []users.Field{users.SetName(u.Name + "a"), users.SetUpdatedAt(7)}, nil
		})
		if err != nil || got.Name != "Anna" || got.UpdatedAt != 7 || told != 1 {
			t.Errorf("changed: %v %v, told %d times", got, err, told)
		}
	})
}
