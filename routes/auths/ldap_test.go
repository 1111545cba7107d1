package auths_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/auth/ldap/ldaptest"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/auths"
)

func ldapCall(s *sessiontest.Server, user, password string) *sessiontest.Answer {
	return s.Call("", "POST "+base+"/ldap", string(jsondoc.Of(map[string]string{"user": user, "password": password})))
}

// withEvents is a server of auths alone, and what it publishes: name, source and role of each event.
func withEvents(t *testing.T, db *store.DB, vars ...string) (*sessiontest.Server, func() []string) {
	t.Helper()
	s := sessiontest.New(t, db, vars...)
	var mu sync.Mutex
	var seen []string
	bus := &events.Bus{}
	bus.Subscribe(func(_ context.Context, e events.Event) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, strings.Join([]string{e.Name, e.Source, jsondoc.Of(e.Data).Text("role")}, " "))
	})
	s.Router.Mount(base, auths.New(auths.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, Events: bus, Log: s.Log}))
	s.Router.Finish()
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := seen
		seen = nil
		return out
	}
}

func TestLDAP(t *testing.T) {
	dir := ldaptest.New(t)
	dir.Person("boss", "The Boss", "Boss@Galley.test", "boss-secret")
	ann := dir.Person("ann", "Ann Lee", "ann@galley.test", "ann-secret")
	dir.Person("ben", "Ben", "ben@galley.test", "ben-secret")
	staff := dir.Group("staff", ann)
	dir.Group("night shift", ann)

	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s, published := withEvents(t, db, "DEFAULT_USER_ROLE", "user")
		ctx := t.Context()
		expect(t, "switched off", ldapCall(s, "boss", "boss-secret"), 400, "LDAP authentication is not enabled")
		s.Set(dir.Settings()...)

		a := ldapCall(s, "boss", "boss-secret")
		expect(t, "first account", a, 200, "")
		d := a.Doc()
		if d.Text("role") != "admin" || d.Text("email") != "boss@galley.test" || d.Text("name") != "The Boss" || d.Text("token_type") != "Bearer" {
			t.Errorf("first account: %s", d)
		}
		if !slices.ContainsFunc(a.Result().Cookies(), func(c *http.Cookie) bool { return c.Name == "token" && c.HttpOnly && c.Value == d.Text("token") }) {
			t.Errorf("cookies %v", a.Result().Cookies())
		}
		if got := published(); !slices.Contains(got, "user.created ldap admin") {
			t.Errorf("published %q", got)
		}
		expect(t, "its session", s.Call(d.Text("token"), "GET "+base+"/", ""), 200, "")
		expect(t, "sign-up", s.Call("", "POST "+base+"/signup", signUp("Eve")), 403, "")

		group, err := s.Access.Groups().CreateByNames(ctx, d.Text("id"), []string{"everyone"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Set("ui.default_group_id", group[0].ID)
		groups := func(id string) []string {
			t.Helper()
			list, err := s.Access.Groups().OfUser(ctx, id, false)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, g := range list {
				names = append(names, g.Name)
			}
			slices.Sort(names)
			return names
		}
		a = ldapCall(s, "Ann", "ann-secret")
		expect(t, "second account", a, 200, "")
		id := a.Doc().Text("id")
		if a.Doc().Text("role") != "user" || !slices.Equal(groups(id), []string{"everyone"}) {
			t.Errorf("second account: %s, groups %v", a.Body, groups(id))
		}
		published()

		// groups are only taken over where the administrator says so; made only where they say that too
		s.Set("ldap.group.enable_management", true)
		for _, step := range []struct {
			create bool
			change func()
			want   []string
		}{
			{want: nil},
			{create: true, want: []string{"night shift", "staff"}},
			{change: func() { dir.Remove(staff) }, want: []string{"night shift"}},
		} {
			if step.change != nil {
				step.change()
			}
			s.Set("ldap.group.enable_creation", step.create)
			s.Realtime.Take()
			if a := ldapCall(s, "ann", "ann-secret"); a.Code != 200 || a.Doc().Text("id") != id {
				t.Fatalf("again: %d %s", a.Code, a.Body)
			}
			if got := groups(id); !slices.Equal(got, step.want) {
				t.Errorf("groups %q, want %q", got, step.want)
			}
			if got := s.Realtime.Take(); !slices.Contains(got, "disconnect "+id) {
				t.Errorf("live sessions were told %v", got)
			}
		}
		if got := published(); len(slices.DeleteFunc(got, func(e string) bool { return !strings.HasPrefix(e, "user.") })) != 0 {
			t.Errorf("published %q", got)
		}
		dir.Remove("cn=night shift," + ldaptest.Groups)
		staff = dir.Group("staff", ann)
		dir.Group("night shift", ann)

		for what, test := range map[string][3]string{
			"wrong password": {"ann", "wrong", "Authentication failed."},
			"no password":    {"ann", "", "The email or password provided is incorrect. Please check for typos and try logging in again."},
			"blank password": {"ann", " \t", "The email or password provided is incorrect. Please check for typos and try logging in again."},
			"unknown":        {"nobody", "secret", "User not found in the LDAP server"},
			"wildcard":       {"*", "secret", "User not found in the LDAP server"},
		} {
			expect(t, what, ldapCall(s, test[0], test[1]), 400, test[2])
		}
		expect(t, "form", s.Call("", "POST "+base+"/ldap", `{"user":"ann"}`), 422, "Invalid authentication request.")

		if _, err := db.Exec(ctx, `UPDATE auth SET active = $2 WHERE id = $1`, id, false); err != nil {
			t.Fatal(err)
		}
		expect(t, "locked", ldapCall(s, "ann", "ann-secret"), 400, "The email or password provided is incorrect. Please check for typos and try logging in again.")

		s.Set("ldap.server.app_password", "wrong")
		expect(t, "service account", ldapCall(s, "ben", "ben-secret"), 400, "Application account bind failed")
		s.Set("ldap.server.ca_cert_file", "/no/such/file")
		expect(t, "CA file", ldapCall(s, "ben", "ben-secret"), 400, "Failed to configure TLS for LDAP connection.")
		s.Set("ldap.server.ca_cert_file", "", "ldap.server.port", 1)
		expect(t, "nobody there", ldapCall(s, "ben", "ben-secret"), 400, "LDAP authentication failed.")
	})
}

// TestLDAPTooOften tries without end; another name is not concerned.
func TestLDAPTooOften(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	s.Set("ldap.enable", true, "ldap.server.host", "127.0.0.1", "ldap.server.port", 1)
	for range 15 {
		expect(t, "try", ldapCall(s, "ann", "x"), 400, "")
	}
	expect(t, "one too many", ldapCall(s, "Ann", "x"), 429, "API rate limit exceeded")
	expect(t, "another", ldapCall(s, "ben", "x"), 400, "")
	expect(t, "by password", s.Call("", "POST "+base+"/signin", `{"email":"ann","password":"x"}`), 400, "")
}

// TestLDAPAtOnce signs one person in many times at once: they get one account.
func TestLDAPAtOnce(t *testing.T) {
	dir := ldaptest.New(t)
	dir.Person("ann", "Ann", "ann@galley.test", "secret")
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.Set(dir.Settings()...)
		ids := make([]string, 8)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				a := ldapCall(s, "ann", "secret")
				ids[i] = a.Doc().Text("id")
				expect(t, "sign-in", a, 200, "")
			})
		}
		wg.Wait()
		if ids = slices.Compact(ids); len(ids) != 1 {
			t.Errorf("accounts %v", ids)
		}
	})
}

func TestLDAPSwitchedOff(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), "ENABLE_PASSWORD_AUTH", "False", "ENABLE_LDAP", "true")
	expect(t, "sign-in", ldapCall(s, "ann", "secret"), 403, "The requested action has been restricted as a security measure.")
}
