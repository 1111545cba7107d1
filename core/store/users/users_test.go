package users_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

var ctx = context.Background()

func add(t testing.TB, s *users.Store, name, role string) *users.User {
	t.Helper()
	u, err := s.Insert(ctx, users.NewUser{Name: name, Email: name + "@x.test", Role: role, Password: "hash of " + name, ProfileImageURL: "/user.png"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func exec(t testing.TB, db *store.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.Exec(ctx, text, args...); err != nil {
		t.Fatal(err)
	}
}

func TestAccounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		if there, err := s.Any(ctx); there || err != nil {
			t.Fatalf("Any of none: %v, %v", there, err)
		}
		if _, err := s.First(ctx); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("First of none: %v", err)
		}
		var changed []string
		s.OnChange(func(id string) { changed = append(changed, id) })
		u := add(t, s, "Ann", "user")
		if u.Email != "ann@x.test" || u.Role != "user" || *u.ProfileImageURL != "/user.png" || u.Settings != nil || u.CreatedAt == 0 || !u.Active() {
			t.Errorf("made %+v", u)
		}
		if got, err := s.ByEmail(ctx, "ANN@X.test"); err != nil || got.ID != u.ID {
			t.Errorf("ByEmail: %v, %v", got, err)
		}
		if _, err := s.ByEmail(ctx, "nobody@x.test"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("ByEmail of nobody: %v", err)
		}
		if _, err := s.Insert(ctx, users.NewUser{Name: "Other", Email: "aNN@x.test"}); !users.IsTaken(err) {
			t.Errorf("address taken: %v", err)
		}
		var credentials int
		if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM auth`).Scan(&credentials); err != nil || credentials != 1 {
			t.Errorf("%d credentials after a refused account, %v", credentials, err)
		}
		if _, err := s.Insert(ctx, users.NewUser{Email: "b@x.test", OnlyFirst: true}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("OnlyFirst with an account: %v", err)
		}
		day := "1990-05-17"
		bio := "likes soup"
		u, err := s.Update(ctx, u.ID, users.SetDateOfBirth(&day), users.SetBio(&bio), users.SetEmail("New@X.test"), users.SetProfileImageURL(""),
			users.SetInfo(jsondoc.Doc(`{"a":[1.0]}`)))
		if err != nil {
			t.Fatal(err)
		}
		if *u.DateOfBirth != day || *u.Bio != bio || u.Email != "new@x.test" || u.Info.String() != `{"a":[1.0]}` ||
			*u.ProfileImageURL != "/api/v1/users/"+u.ID+"/profile/image" {
			t.Errorf("updated %+v", u)
		}
		if c, err := s.Credential(ctx, u.ID); err != nil || c.Email != "new@x.test" || !c.Active || c.Stamp == "" || c.MFA != nil {
			t.Errorf("credentials %+v, %v", c, err)
		}
		if _, err := s.Update(ctx, "nobody", users.SetName("x")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("update of nobody: %v", err)
		}
		b := add(t, s, "Bob", "admin")
		if _, err := s.Update(ctx, b.ID, users.SetEmail("NEW@x.test")); !users.IsTaken(err) {
			t.Errorf("update to an address taken: %v", err)
		}
		exec(t, db, `UPDATE "user" SET created_at = 5`)
		if first, err := s.First(ctx); err != nil || first.ID != b.ID {
			t.Errorf("of the same second the admin is first: %+v, %v", first, err)
		}
		if a, err := s.SuperAdmin(ctx); err != nil || a.ID != b.ID {
			t.Errorf("SuperAdmin %+v, %v", a, err)
		}
		if n, err := s.Count(ctx); n != 2 || err != nil {
			t.Errorf("Count %d, %v", n, err)
		}
		got, err := s.ByIDs(ctx, []string{u.ID, "nobody", b.ID})
		if err != nil || len(got) != 2 || got[b.ID].Name != "Bob" {
			t.Errorf("ByIDs %v, %v", got, err)
		}
		if ids, err := s.Existing(ctx, []string{b.ID, "nobody", u.ID, b.ID}); err != nil || !slices.Equal(ids, []string{b.ID, u.ID}) {
			t.Errorf("Existing %v, %v", ids, err)
		}
		if want := []string{u.ID, u.ID, b.ID}; !slices.Equal(changed, want) {
			t.Errorf("changes told: %v, want %v", changed, want)
		}
	})
}

// TestFirst makes accounts at once: one of them is the administrator, and one address belongs to one account.
func TestFirst(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		const n = 12
		var mu sync.Mutex
		var wg sync.WaitGroup
		admins, firsts, taken := 0, 0, 0
		for i := range n {
			wg.Go(func() {
				u, err := s.Insert(ctx, users.NewUser{Email: fmt.Sprintf("u%d@x.test", i/2), Role: "pending", FirstIsAdmin: true,
					InTx: func(_ *store.Tx, _ *users.User, first bool) error {
						mu.Lock()
						defer mu.Unlock()
						if first {
							firsts++
						}
						return nil
					}})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case users.IsTaken(err):
					taken++
				case err != nil:
					t.Error(err)
				case u.IsAdmin():
					admins++
				}
			})
		}
		wg.Wait()
		if admins != 1 || firsts != 1 || taken != n/2 {
			t.Errorf("%d admins, %d firsts, %d refused", admins, firsts, taken)
		}
		if count, err := s.Count(ctx); count != n/2 || err != nil {
			t.Errorf("%d accounts, %v", count, err)
		}
	})
}

func TestCredentials(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		a, b := add(t, s, "ann", "user"), add(t, s, "bob", "user")
		mfa := `{"secret":"s","login_challenge":{"x":1},"manage_challenge":null,"reset_ticket":{"y":2},"revision":"r1","limits":{}}`
		exec(t, db, `UPDATE auth SET mfa = $1 WHERE id = $2`, mfa, a.ID)
		read := func(id string) *users.Credential {
			t.Helper()
			u, c, err := s.Account(ctx, id)
			if err != nil || u == nil || u.ID != id || c == nil {
				t.Fatalf("Account: %v, %v, %v", u, c, err)
			}
			return c
		}
		old := read(a.ID)
		if err := s.SetPassword(ctx, old, "new"); err != nil {
			t.Fatal(err)
		}
		now := read(a.ID)
		if now.Password != "new" || now.Stamp == old.Stamp || now.MFA.Text("secret") != "s" || !now.MFA.Get("login_challenge").IsNull() ||
			!now.MFA.Get("reset_ticket").IsNull() || now.MFA.Text("revision") == "r1" {
			t.Errorf("after a new password: %+v", now)
		}
		if err := s.SetPassword(ctx, old, "newer"); !errors.Is(err, users.ErrStale) {
			t.Errorf("a second change from old credentials: %v", err)
		}
		if ok, err := s.RevokeSessions(ctx, a.ID); !ok || err != nil {
			t.Fatalf("revoke: %v, %v", ok, err)
		}
		if c := read(a.ID); c.Stamp == now.Stamp || c.Password != "new" {
			t.Errorf("after revocation: %+v", c)
		}
		if ok, err := s.RevokeSessions(ctx, "nobody"); ok || err != nil {
			t.Errorf("revoke of nobody: %v, %v", ok, err)
		}
		exec(t, db, `UPDATE auth SET mfa = $1 WHERE id = $2`, mfa, a.ID)
		before := map[string]*users.Credential{a.ID: read(a.ID), b.ID: read(b.ID)}
		told := 0
		s.OnChange(func(id string) {
			if id == "" {
				told++
			}
		})
		var ids []string
		if err := db.Tx(ctx, func(tx *store.Tx) (err error) {
			ids, err = s.RevokeAllTx(ctx, tx)
			return err
		}); err != nil || len(ids) != 2 || told != 1 {
			t.Fatalf("revoke all: %v, %v, told %d times", ids, err, told)
		}
		for id, old := range before {
			c := read(id)
			if c.Stamp == old.Stamp || c.Stamp == "" || c.Stamp == before[a.ID].Stamp {
				t.Errorf("%s keeps its sessions: %+v", id, c)
			}
			if id == a.ID && (c.MFA.Text("secret") != "s" || !c.MFA.Get("login_challenge").IsNull() || c.MFA.Text("revision") == "r1") {
				t.Errorf("second factor after revocation: %s", c.MFA)
			}
			if id == b.ID && c.MFA != nil {
				t.Errorf("second factor appeared: %s", c.MFA)
			}
		}
		exec(t, db, `UPDATE auth SET active = NULL WHERE id = $1`, b.ID)
		if read(b.ID).Active {
			t.Error("NULL counts as active")
		}
		exec(t, db, `DELETE FROM auth WHERE id = $1`, b.ID)
		if u, c, err := s.Account(ctx, b.ID); u == nil || c != nil || err != nil {
			t.Errorf("without credentials: %v, %v, %v", u, c, err)
		}
		exec(t, db, `DELETE FROM "user" WHERE id = $1`, a.ID)
		if u, c, err := s.Account(ctx, a.ID); u != nil || c == nil || err != nil {
			t.Errorf("credentials alone: %v, %v, %v", u, c, err)
		}
		if _, _, err := s.Account(ctx, "nobody"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
	})
}

// TestSetMFA changes a second factor from credentials as they were read: of changes at once one is stored.
func TestSetMFA(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		u := add(t, s, "ann", "user")
		read := func() *users.Credential {
			t.Helper()
			c, err := s.Credential(ctx, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		state := func(revision string) jsondoc.Doc { return jsondoc.Object("revision", jsondoc.Text(revision)) }
		var told []string
		s.OnChange(func(id string) { told = append(told, id) })
		first := read()
		now, err := s.SetMFA(ctx, first, state("1"), false)
		if err != nil || now.Stamp != first.Stamp || now.MFA.String() != state("1").String() || !slices.Equal(told, []string{u.ID}) {
			t.Fatalf("first: %+v, %v, told %q", now, err, told)
		}
		if got := read(); got.MFA.Text("revision") != "1" || got.Stamp != first.Stamp || got.Password != first.Password {
			t.Errorf("stored %+v", got)
		}
		if _, err := s.SetMFA(ctx, first, state("2"), false); !errors.Is(err, users.ErrStale) {
			t.Errorf("from credentials of before: %v", err)
		}
		if err := s.SetPassword(ctx, first, "new"); !errors.Is(err, users.ErrStale) {
			t.Errorf("a password from credentials of before, which would undo the change: %v", err)
		}
		revoked, err := s.SetMFA(ctx, now, state("2"), true)
		if err != nil || revoked.Stamp == now.Stamp || read().Stamp != revoked.Stamp {
			t.Errorf("with the sessions: %+v, %v", revoked, err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		stored, before := 0, read()
		for i := range 8 {
			wg.Go(func() {
				_, err := s.SetMFA(ctx, before, state(fmt.Sprint("race ", i)), false)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					stored++
				} else if !errors.Is(err, users.ErrStale) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if stored != 1 {
			t.Errorf("%d of 8 changes at once were stored", stored)
		}
		// rows of other times: no stamp, JSON null, an account that is off
		exec(t, db, `UPDATE auth SET mfa = 'null', session_stamp = NULL WHERE id = $1`, u.ID)
		if _, err := s.SetMFA(ctx, read(), state("3"), false); err != nil {
			t.Errorf("JSON null: %v", err)
		}
		var stamp *string
		if err := db.QueryRow(ctx, `SELECT session_stamp FROM auth WHERE id = $1`, u.ID).Scan(&stamp); err != nil || stamp != nil {
			t.Errorf("no stamp became %v, %v", stamp, err)
		}
		exec(t, db, `UPDATE auth SET active = FALSE WHERE id = $1`, u.ID)
		if _, err := s.SetMFA(ctx, read(), state("4"), false); !errors.Is(err, users.ErrStale) {
			t.Errorf("an account that is off: %v", err)
		}
		add(t, s, "bob", "user")
		cat := add(t, s, "cat", "user")
		exec(t, db, `UPDATE auth SET mfa = 'null' WHERE id = $1`, cat.ID)
		var all []string
		if err := s.EachMFA(ctx, db, func(d jsondoc.Doc) error { all = append(all, d.Text("revision")); return nil }); err != nil || !slices.Equal(all, []string{"3"}) {
			t.Errorf("all states: %q, %v", all, err)
		}
		if err := s.EachMFA(ctx, db, func(jsondoc.Doc) error { return store.ErrConflict }); !errors.Is(err, store.ErrConflict) {
			t.Errorf("an error of the caller: %v", err)
		}
	})
}

func TestAPIKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		u := add(t, s, "ann", "user")
		if key, err := s.APIKey(ctx, u.ID); key != "" || err != nil {
			t.Fatalf("%q, %v", key, err)
		}
		for _, key := range []string{"sk-1", "sk-2"} {
			if err := s.SetAPIKey(ctx, u.ID, key); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.ByAPIKey(ctx, "sk-2"); err != nil || got.ID != u.ID {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := s.ByAPIKey(ctx, "sk-1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a replaced key: %v", err)
		}
		if err := s.SetAPIKey(ctx, u.ID, ""); err != nil {
			t.Fatal(err)
		}
		if key, err := s.APIKey(ctx, u.ID); key != "" || err != nil {
			t.Errorf("after deletion: %q, %v", key, err)
		}
	})
}

func TestDelete(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		a, b := add(t, s, "ann", "user"), add(t, s, "bob", "user")
		exec(t, db, `INSERT INTO "group" (id, name, updated_at) VALUES ('g', 'g', 1)`)
		for _, u := range []*users.User{a, b} {
			exec(t, db, `INSERT INTO chat (id, user_id, title, chat, meta) VALUES ($1, $2, 't', '{}', '{}')`, "chat "+u.ID, u.ID)
			exec(t, db, `INSERT INTO chat_message (id, chat_id, user_id, role) VALUES ($1, $2, $3, 'user')`, "m "+u.ID, "chat "+u.ID, u.ID)
			exec(t, db, `INSERT INTO shared_chat (id, chat_id, user_id, title, chat, created_at, updated_at) VALUES ($1, $2, $3, 't', '{}', 1, 1)`,
				"s "+u.ID, "chat "+u.ID, u.ID)
			exec(t, db, `INSERT INTO group_member (id, group_id, user_id) VALUES ($1, 'g', $1)`, u.ID)
			exec(t, db, `INSERT INTO oauth_session (id, user_id, provider, token, expires_at, created_at, updated_at) VALUES ($1, $1, 'p', 't', 1, 1, 1)`, u.ID)
			if err := s.SetAPIKey(ctx, u.ID, "sk-"+u.ID); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Delete(ctx, a.ID); err != nil {
				t.Fatal(err)
			}
		}
		for _, table := range []string{"chat", "chat_message", "shared_chat", "group_member", "oauth_session", "api_key", `"user"`, "auth"} {
			var n int
			if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s has %d rows, want that of the other account; %v", table, n, err)
			}
		}
		var at int64
		if err := db.QueryRow(ctx, `SELECT updated_at FROM "group" WHERE id = 'g'`).Scan(&at); err != nil || at == 1 {
			t.Errorf("the group was not touched: %d, %v", at, err)
		}
		if ok, err := s.DeleteOAuthSessions(ctx, b.ID, "p"); !ok || err != nil {
			t.Errorf("delete OAuth sessions: %v, %v", ok, err)
		}
		if ok, err := s.DeleteOAuthSessions(ctx, b.ID, "p"); ok || err != nil {
			t.Errorf("delete OAuth sessions again: %v, %v", ok, err)
		}
	})
}

func TestList(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		ids := map[string]string{}
		for i, r := range []struct{ name, role string }{{"Zed", "admin"}, {"ann", "user"}, {"Bob_1", "user"}, {"Bobx1", "pending"}} {
			u := add(t, s, r.name, r.role)
			ids[r.name] = u.ID
			exec(t, db, `UPDATE "user" SET created_at = $1, last_active_at = $2 WHERE id = $3`, 100+i, 10-i, u.ID)
		}
		exec(t, db, `INSERT INTO "group" (id, name) VALUES ('top', 'top')`)
		exec(t, db, `INSERT INTO "group" (id, name, parent_group_id) VALUES ('sub', 'sub', 'top')`)
		exec(t, db, `INSERT INTO group_member (id, group_id, user_id) VALUES ('1', 'sub', $1)`, ids["ann"])
		exec(t, db, `INSERT INTO group_member (id, group_id, user_id) VALUES ('2', 'top', $1)`, ids["Zed"])
		for _, c := range []struct {
			name  string
			q     users.Query
			want  []string
			total int // 0 means the number wanted
		}{
			{"latest first", users.Query{}, []string{"Bobx1", "Bob_1", "ann", "Zed"}, 0},
			{"by code point", users.Query{OrderBy: "name", Direction: "asc"}, []string{"Bob_1", "Bobx1", "Zed", "ann"}, 0},
			{"no direction is descending", users.Query{OrderBy: "name"}, []string{"ann", "Zed", "Bobx1", "Bob_1"}, 0},
			{"other direction is descending", users.Query{OrderBy: "email", Direction: "up"}, []string{"zed", "bobx1", "bob_1", "ann"}, 0},
			{"by activity", users.Query{OrderBy: "last_active_at", Direction: "asc"}, []string{"Bobx1", "Bob_1", "ann", "Zed"}, 0},
			{"by role", users.Query{OrderBy: "role", Direction: "asc"}, []string{"Zed", "Bobx1", "ann", "Bob_1"}, 0},
			{"unknown order", users.Query{OrderBy: "password"}, []string{"Bobx1", "Bob_1", "ann", "Zed"}, 0},
			{"members first", users.Query{OrderBy: "group_id:top"}, []string{"Zed", "Bob_1", "Bobx1", "ann"}, 0},
			{"members last", users.Query{OrderBy: "group_id:top", Direction: "asc"}, []string{"Bob_1", "Bobx1", "ann", "Zed"}, 0},
			{"any case", users.Query{Text: "BOB"}, []string{"Bob_1", "Bobx1"}, 0},
			{"underscore is a wildcard", users.Query{Text: "bob_1"}, []string{"Bob_1", "Bobx1"}, 0},
			{"by address", users.Query{Text: "n@X"}, []string{"ann"}, 0},
			{"page", users.Query{OrderBy: "name", Direction: "asc", Skip: 1, Limit: 2}, []string{"Bobx1", "Zed"}, 4},
			{"behind the last page", users.Query{Skip: 30, Limit: 30}, nil, 4},
			{"ids", users.Query{UserIDs: []string{ids["Zed"], "nobody"}}, []string{"Zed"}, 0},
			{"groups below", users.Query{GroupIDs: []string{"top"}}, []string{"Zed", "ann"}, 0},
			{"roles", users.Query{Roles: []string{"user", "admin"}}, []string{"Zed", "ann", "Bob_1"}, 0},
			{"without a role", users.Query{Roles: []string{"!pending"}}, []string{"Zed", "ann", "Bob_1"}, 0},
			{"text and role", users.Query{Text: "bob", Roles: []string{"pending"}}, []string{"Bobx1"}, 0},
			{"nothing", users.Query{Text: "nobody"}, nil, 0},
		} {
			list, total, err := s.List(ctx, c.q)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			var got []string
			for _, u := range list {
				if c.q.OrderBy == "email" {
					got = append(got, u.Email[:len(u.Email)-len("@x.test")])
				} else {
					got = append(got, u.Name)
				}
			}
			if c.total == 0 {
				c.total = len(c.want)
			}
			if !slices.Equal(got, c.want) || total != c.total {
				t.Errorf("%s: %v of %d, want %v of %d", c.name, got, total, c.want, c.total)
			}
		}
	})
}

func TestTouch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		a, b := add(t, s, "ann", "user"), add(t, s, "bob", "user")
		exec(t, db, `UPDATE "user" SET last_active_at = 1`)
		s.SetActiveInterval(time.Hour)
		for range 100 {
			s.Touch(a.ID)
		}
		deadline := time.Now().Add(10 * time.Second)
		for active := false; !active; {
			if time.Now().After(deadline) {
				t.Fatal("activity was not written")
			}
			var err error
			if active, err = s.IsActive(ctx, a.ID); err != nil {
				t.Fatal(err)
			}
		}
		if active, err := s.IsActive(ctx, b.ID); active || err != nil {
			t.Errorf("the other account: %v, %v", active, err)
		}
		exec(t, db, `UPDATE "user" SET last_active_at = 1`)
		s.Touch(a.ID)
		s.Touch(b.ID)
		if err := s.FlushActive(ctx); err != nil {
			t.Fatal(err)
		}
		if active, _ := s.IsActive(ctx, a.ID); active {
			t.Error("written again within the interval")
		}
		if active, _ := s.IsActive(ctx, b.ID); !active {
			t.Error("the flush wrote nothing")
		}
		if n, err := s.CountActive(ctx); n != 1 || err != nil {
			t.Errorf("%d active, %v", n, err)
		}
		if active, err := s.IsActive(ctx, "nobody"); active || err != nil {
			t.Errorf("nobody: %v, %v", active, err)
		}
	})
}

func TestSettings(t *testing.T) {
	for _, c := range []struct{ name, old, changes, want string }{
		{"first", ``, `{"ui":{"theme":"dark"}}`, `{"ui":{"theme":"dark"}}`},
		{"merge below ui", `{"ui":{"a":1,"b":{"c":1}}}`, `{"ui":{"b":{"d":2},"e":null}}`, `{"ui":{"a":1,"b":{"d":2}}}`},
		{"null removes below ui", `{"ui":{"a":1,"b":2}}`, `{"ui":{"a":null}}`, `{"ui":{"b":2}}`},
		{"others replace", `{"ui":{"a":1},"x":{"y":1}}`, `{"x":{"z":null}}`, `{"ui":{"a":1},"x":{"z":null}}`},
		{"ui null changes nothing", `{"ui":{"a":1}}`, `{"ui":null,"x":null}`, `{"ui":{"a":1},"x":null}`},
	} {
		if got := users.MergeSettings(jsondoc.Doc(c.old), jsondoc.Doc(c.changes)).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		u := add(t, s, "ann", "user")
		for _, c := range []struct{ stored, want string }{
			{`null`, `null`}, {`{}`, `{"ui":{}}`}, {`{"x":1,"ui":{"a":1}}`, `{"ui":{"a":1},"x":1}`}, {`{"ui":null}`, `{"ui":null}`}, {`[1]`, `null`},
		} {
			exec(t, db, `UPDATE "user" SET settings = $1`, c.stored)
			if got, err := s.ByID(ctx, u.ID); err != nil || got.Settings.String() != c.want {
				t.Errorf("%s read as %s, %v; want %s", c.stored, got.Settings, err, c.want)
			}
		}
		// edits at once lose nothing
		exec(t, db, `UPDATE "user" SET settings = '{}'`)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if _, err := s.Edit(ctx, u.ID, func(u *users.User) []users.Field {
					return []users.Field{users.SetSettings(users.MergeSettings(u.Settings, jsondoc.Of(map[string]map[string]int{"ui": {fmt.Sprint(i): i}})))}
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got, err := s.ByID(ctx, u.ID); err != nil || got.Settings.Get("ui").Len() != 8 {
			t.Errorf("after 8 edits: %s, %v", got.Settings, err)
		}
		if _, err := s.Edit(ctx, "nobody", func(*users.User) []users.Field { return nil }); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("edit of nobody: %v", err)
		}
	})
}

func TestImageURL(t *testing.T) {
	allowed := config.ProfileImages{MIMETypes: []string{"image/png", "image/jpeg"}, MaxDataURI: 60}
	for text, want := range map[string]bool{
		"": true, "/user.png": true, "/favicon.png": true, "/static/favicon.png": true,
		"/api/v1/users/abc/profile/image": true, "/api/v1/users/a/b/profile/image": false, "/api/v1/users/a/profile/image?x": false,
		"/api/v1/auths/signout": false, "https://x.test/a.png": true, "HTTP://x.test": true, "http://": false, "http://:80/x": false,
		"http://u@:80/x": false, "http://[::1]/x": true, "http:x": false, "//x.test/a.png": false, "javascript:alert(1)": false,
		"ftp://x.test/a": false, "file:///etc/passwd": false, "data:image/png;base64,AAAA": true, "DATA:image/PNG;BASE64,AAAA": true,
		"data:image/svg+xml;base64,AAAA": false, "data:image/gif;base64,AAAA": false, "data:image/png,AAAA": false, "data:text/html;base64,AAAA": false,
		"data:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": false, "user.png": false, "data:": false,
	} {
		if err := users.CheckImageURL(text, allowed); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestListOfAnyLetters holds that the case of all letters is folded, not only of ASCII's.
func TestListOfAnyLetters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		add(t, s, "Éric", "user")
		for text, want := range map[string]int{"éric": 1, "ÉR": 1, "eric": 0} {
			if _, total, err := s.List(ctx, users.Query{Text: text}); err != nil || total != want {
				t.Errorf("%q: %d, %v", text, total, err)
			}
		}
	})
}

// TestEqualModels holds the order of models with as many messages: the last by name first.
func TestEqualModels(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		u := add(t, s, "ann", "user")
		exec(t, db, `INSERT INTO chat (id, user_id, title, chat, meta) VALUES ('c', $1, 't', '{}', '{}')`, u.ID)
		for i, model := range []string{"b", "c", "a", "c"} {
			exec(t, db, `INSERT INTO chat_message (id, chat_id, user_id, role, model_id, created_at) VALUES ($1, 'c', $2, 'assistant', $3, $4)`, fmt.Sprint(i), u.ID, model, 1735725600+i)
		}
		got, err := s.Usage(ctx, u.ID, 1735725000, 1735726000, "UTC")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range got.Models {
			names = append(names, m.ModelID)
		}
		if !slices.Equal(names, []string{"c", "b", "a"}) {
			t.Errorf("%v", names)
		}
	})
}

func TestUsage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := users.New(db)
		u := add(t, s, "ann", "user")
		day := int64(1735725600) // 2025-01-01 10:00 UTC, a Wednesday
		for i, internal := range []string{`{}`, `{"internal":true}`} {
			exec(t, db, `INSERT INTO chat (id, user_id, title, chat, meta) VALUES ($1, $2, 't', '{}', $3)`, fmt.Sprint("c", i), u.ID, internal)
		}
		n := 0
		message := func(chat, role, model, usage, output string, at int64) {
			n++
			exec(t, db, `INSERT INTO chat_message (id, chat_id, user_id, role, model_id, usage, output, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
				fmt.Sprint(n), chat, u.ID, role, jsondoc.Doc(nil), jsondoc.Doc(usage), jsondoc.Doc(output), at)
			if model != "" {
				exec(t, db, `UPDATE chat_message SET model_id = $1 WHERE id = $2`, model, fmt.Sprint(n))
			}
		}
		message("c0", "user", "", "", "", day)
		message("c0", "assistant", "m1", `{"input_tokens":10,"output_tokens":5}`, `[{"type":"function_call","name":" find "},{"type":"message"}]`, day+60)
		message("c0", "assistant", "m2", `{"prompt_tokens":1,"completion_tokens":2}`, `{"output":[{"type":"tool_use","function":{"name":"find"}}]}`, day+7200)
		message("c0", "assistant", "m1", `null`, "", (day+86400)*1000)
		message("c1", "assistant", "m1", "", "", day+50)
		got, err := s.Usage(ctx, u.ID, day-3600, day+2*86400, "UTC")
		if err != nil {
			t.Fatal(err)
		}
		if got.Lifetime.Input != 11 || got.Lifetime.Output != 7 || got.Lifetime.Models != 2 || got.Chats != 1 || got.LongestChat != 60 {
			t.Errorf("lifetime %+v, %d chats, longest %d", got.Lifetime, got.Chats, got.LongestChat)
		}
		if got.Messages != 4 || got.UserMessages != 1 || got.AssistantMessages != 3 || got.ActiveDays != 1 || len(got.Days) != 3 {
			t.Errorf("period %+v", got)
		}
		if d := got.Days[0]; d.Date != "2025-01-01" || d.Messages != 4 || d.Chats != 2 || d.Tokens != 18 || d.Models["m1"] != 2 {
			t.Errorf("day %+v", d)
		}
		if len(got.Models) != 2 || got.Models[0].ModelID != "m1" || got.Models[0].Messages != 2 || got.Models[0].TotalTokens != 15 {
			t.Errorf("models %+v", got.Models)
		}
		if len(got.Tools) != 1 || got.Tools[0] != (users.ToolUsage{Name: "find", Count: 2}) {
			t.Errorf("tools %+v", got.Tools)
		}
		east, err := s.Usage(ctx, u.ID, day-3600, day+7200, "Pacific/Kiritimati")
		if err != nil || east.Days[0].Date != "2025-01-01" || len(east.Days) != 2 || east.Days[1].Date != "2025-01-02" {
			t.Errorf("days 14 hours east: %+v, %v", east.Days, err)
		}
		weeks := users.Weekly(got.Days)
		if len(weeks) != 1 || weeks[0].Date != "2024-12-30" || weeks[0].Messages != 4 {
			t.Errorf("weeks %+v", weeks)
		}
		sums := users.Cumulative(got.Days)
		if sums[2].Date != "2025-01-03" || sums[2].Tokens != 18 || sums[0].Models["m1"] != 2 {
			t.Errorf("sums %+v", sums)
		}
	})
}
