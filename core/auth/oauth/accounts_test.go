package oauth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

// TestClaims is who a person is taken for, and who is let in.
func TestClaims(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for _, c := range []struct {
		name     string
		settings []any
		person   oidctest.Person
		want     string
		email    string
		is       string // name and subject
	}{
		{"plain", nil, oidctest.Person{"sub": "a1", "email": "A1@X.test", "name": "A"}, "", "a1@x.test", "A a1"},
		{"no name", nil, oidctest.Person{"sub": "a2", "email": "a2@x.test"}, "", "a2@x.test", "a2@x.test a2"},
		{"no address", nil, oidctest.Person{"sub": "a3", "name": "A"}, failed, "", ""},
		{"an address that is a list", nil, oidctest.Person{"sub": "a3", "email": []string{"a3@x.test"}, "name": "A"}, failed, "", ""},
		{"no subject", []any{"oauth.sub_claim", "uid"}, oidctest.Person{"sub": "a4", "email": "a4@x.test", "name": "A"}, failed, "", ""},
		{"own claims", []any{"oauth.email_claim", "mail", "oauth.username_claim", "nick"}, oidctest.Person{"sub": "x", "uid": 42, "mail": "a5@x.test", "nick": "Nick"}, "", "a5@x.test", "Nick 42"},
		{"a domain that is allowed", []any{"oauth.sub_claim", nil, "oauth.email_claim", "email", "oauth.username_claim", "name", "oauth.allowed_domains", []string{"y.test", "x.test"}},
			oidctest.Person{"sub": "a6", "email": "a6@X.test", "name": "A"}, "", "a6@x.test", "A a6"},
		{"a domain that is not", nil, oidctest.Person{"sub": "a7", "email": "a7@x.test.evil", "name": "A"}, failed, "", ""},
		{"a domain in the name", nil, oidctest.Person{"sub": "a8", "email": "x.test@evil.test", "name": "A"}, failed, "", ""},
		{"nobody new", []any{"oauth.allowed_domains", []string{"*"}, "oauth.enable_signup", false}, oidctest.Person{"sub": "a9", "email": "a9@x.test", "name": "A"}, prohibited, "", ""},
		{"somebody known", nil, oidctest.Person{"sub": "a6", "email": "other@x.test", "name": "B"}, "", "a6@x.test", "A a6"},
	} {
		w.Set(c.settings...)
		w.Add("p", c.person)
		if got := w.browser().signIn("p"); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
		if c.email == "" {
			continue
		}
		u := w.account(c.email)
		if u == nil || u.Name+" "+u.OAuth.Get("oidc").Text("sub") != c.is {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
	w.Env.OAuth.EmailFallback = true
	w.Set("oauth.enable_signup", true)
	w.Add("p", oidctest.Person{"sub": "B1", "name": "B"})
	if got := w.browser().signIn("p"); got != "" || w.account("oidc@b1.local") == nil {
		t.Errorf("an address made up: %q", got)
	}
}

// TestMerging is about accounts that have the address of somebody who signs in.
func TestMerging(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		bob, _ := w.User("Bob", "user") // bob@contract.test
		if _, err := w.Users.Update(ctx, bob.ID, users.SetOAuth(jsondoc.Doc(`{"google":{"sub":"g","x":1},"oidc":{"y":2}}`))); err != nil {
			t.Fatal(err)
		}
		sub := func() string { return w.account("bob@contract.test").OAuth.String() }
		w.Add("bob", oidctest.Person{"sub": "bob-1", "email": "BOB@contract.test", "email_verified": false, "name": "Bob"})
		if got := w.browser().signIn("bob"); got != taken || strings.Contains(sub(), "bob-1") {
			t.Errorf("not allowed: %q, %s", got, sub())
		}
		w.Set("oauth.merge_accounts_by_email", true)
		w.Env.OAuth.VerifiedEmail = true
		if got := w.browser().signIn("bob"); got != taken || strings.Contains(sub(), "bob-1") {
			t.Errorf("not verified: %q, %s", got, sub())
		}
		w.Env.OAuth.VerifiedEmail = false // the reference takes the provider's word
		if got := w.browser().signIn("bob"); got != "" || sub() != `{"google":{"sub":"g","x":1},"oidc":{"y":2,"sub":"bob-1"}}` {
			t.Errorf("merged: %q, %s", got, sub())
		}
		w.Set("oauth.merge_accounts_by_email", false)
		if got := w.browser().signIn("bob"); got != "" {
			t.Errorf("known now: %q", got)
		}
		w.Add("bob2", oidctest.Person{"sub": "bob-2", "email": "bob@contract.test", "email_verified": true, "name": "Bob"})
		if got := w.browser().signIn("bob2"); got != taken {
			t.Errorf("another Bob: %q", got)
		}
		// rows of older versions have numbers
		if _, err := w.Users.Update(ctx, bob.ID, users.SetOAuth(jsondoc.Doc(`{"oidc":{"sub":123}}`))); err != nil {
			t.Fatal(err)
		}
		w.Add("n", oidctest.Person{"sub": "123", "email": "n@x.test", "name": "N"})
		if got := w.browser().signIn("n"); got != "" || sub() != `{"oidc":{"sub":"123"}}` {
			t.Errorf("a number: %q, %s", got, sub())
		}
	})
}

func TestRoles(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_ROLE_MANAGEMENT", "true", "DEFAULT_USER_ROLE", "pending")
	w.quiet = true
	for i, c := range []struct {
		claim   string
		allowed []string
		claims  oidctest.Person
		want    string // role; "" for nobody
	}{
		{"roles", nil, oidctest.Person{}, "pending"},
		{"roles", nil, oidctest.Person{"roles": []string{}}, "pending"},
		{"roles", nil, oidctest.Person{"roles": []string{"staff"}}, "user"},
		{"roles", nil, oidctest.Person{"roles": []string{"staff", "root"}}, "admin"},
		{"roles", nil, oidctest.Person{"roles": []string{"root"}}, "admin"},
		{"roles", nil, oidctest.Person{"roles": []string{"guest"}}, ""},
		{"roles", nil, oidctest.Person{"roles": "guest,staff"}, "user"},
		{"roles", nil, oidctest.Person{"roles": "guest, staff"}, ""}, // as the reference: nothing is trimmed
		{"roles", nil, oidctest.Person{"roles": ""}, ""},
		{"roles", nil, oidctest.Person{"roles": []int{1}}, ""},
		{"roles", nil, oidctest.Person{"roles": map[string]any{"staff": true}}, "pending"},
		{"roles", []string{"*"}, oidctest.Person{"roles": "anything"}, "user"},
		{"level", []string{"0", "1"}, oidctest.Person{"level": 0}, "user"},
		{"level", []string{"0", "1"}, oidctest.Person{"level": 2}, ""},
		{"level", []string{"True"}, oidctest.Person{"level": true}, "user"},
		{"level", []string{"1"}, oidctest.Person{"level": 1.5}, "pending"},
		{"a.b.roles", nil, oidctest.Person{"a": map[string]any{"b": map[string]any{"roles": []string{"root"}}}}, "admin"},
		{"a.b.roles", nil, oidctest.Person{"a.b.roles": []string{"root"}}, "admin"},
		{"a.b.roles", nil, oidctest.Person{"a": "x"}, "pending"},
		{"", nil, oidctest.Person{"roles": []string{"root"}}, "pending"},
	} {
		if c.allowed == nil {
			c.allowed = []string{"staff"}
		}
		w.Set("oauth.roles_claim", c.claim, "oauth.allowed_roles", c.allowed, "oauth.admin_roles", []string{"root"})
		name := fmt.Sprint("p", i)
		p := person(name)
		for k, v := range c.claims {
			p[k] = v
		}
		w.Add(name, p)
		got, role := w.browser().signIn(name), ""
		if u := w.account(name + "@example.com"); u != nil {
			role = u.Role
		}
		if role != c.want || c.want == "" && got != prohibited || c.want != "" && got != "" {
			t.Errorf("%q in %s: %q, role %q", c.claim, mustJSON(t, c.claims), got, role)
		}
	}
	// somebody known
	w.Set("oauth.roles_claim", "roles", "oauth.allowed_roles", []string{"staff"})
	w.happened()
	for _, c := range []struct {
		roles      []string
		want, role string
	}{{[]string{"staff"}, "", "user"}, {[]string{"root"}, "", "admin"}, {nil, "", "admin"}, {[]string{"staff"}, "", "user"}, {[]string{"guest"}, prohibited, "user"}} {
		w.Add("eve", person("eve", "roles", c.roles))
		if got := w.browser().signIn("eve"); got != c.want || w.account("eve@example.com").Role != c.role {
			t.Errorf("%v: %q, %s", c.roles, got, w.account("eve@example.com").Role)
		}
	}
	if got := w.happened(); !slices.Equal(got, []string{`user.created oauth {"provider":"oidc","role":"user"}`, `user.role_updated oauth {"provider":"oidc","role":"admin"}`, `user.role_updated oauth {"provider":"oidc","role":"user"}`}) {
		t.Errorf("events %q", got)
	}
}

func TestGroups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "ENABLE_OAUTH_GROUP_MANAGEMENT", "true", "OAUTH_GROUP_DEFAULT_SHARE", "false")
		w.quiet = true
		all := w.Access.Groups()
		for _, name := range []string{"red", "green", "sec-1", "default"} {
			g, err := all.Insert(ctx, groups.NewGroup{UserID: w.boss.ID, Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if name == "default" {
				w.Set("ui.default_group_id", g.ID)
			}
		}
		w.Set("oauth.blocked_groups", `["sec-*", "^ops(-.*)?$"]`)
		w.Add("ann", person("ann"))
		in := func() string {
			list, err := all.OfUser(ctx, w.account("ann@example.com").ID, false)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, g := range list {
				names = append(names, g.Name)
			}
			slices.Sort(names)
			return strings.Join(names, " ")
		}
		for _, c := range []struct {
			groups any
			want   string
		}{
			{nil, "default"}, // the claim is absent: nothing changes
			{[]string{"red", "sec-1", "unknown"}, "red"},
			{"green;default", "default green"},
			{[]string{}, "default green"},
			{map[string]any{"red": 1}, "default green"},
			{[]string{"other"}, ""},
		} {
			w.Add("ann", person("ann", "groups", c.groups))
			if got := w.browser().signIn("ann"); got != "" || in() != c.want {
				t.Errorf("%v: %q, in %q", c.groups, got, in())
			}
		}
		w.happened()
		w.Set("oauth.enable_group_creation", true)
		w.Add("ann", person("ann", "groups", []string{"new", "sec-2", "ops", "red"}))
		if got := w.browser().signIn("ann"); got != "" || in() != "new red" {
			t.Errorf("created: %q, in %q", got, in())
		}
		made, err := all.ByNames(ctx, []string{"new", "sec-2", "ops"})
		if err != nil || len(made) != 1 {
			t.Fatalf("%d groups, %v", len(made), err)
		}
		g := made[0]
		if g.UserID != w.boss.ID || g.Description != "Group 'new' created automatically via OAuth." || g.Data.Get("config", "share").String() != "false" || !g.Permissions.Truthy() {
			t.Errorf("made %+v", g)
		}
		var names []string
		for _, e := range w.happened() {
			names = append(names, strings.Fields(e)[0])
		}
		if !slices.Equal(names, []string{"group.created", "group.member_added", "group.member_added"}) {
			t.Errorf("events %v", names)
		}
		// a group of which an administrator has put somebody in, and the provider knows nothing, but which is blocked
		sec, err := all.ByNames(ctx, []string{"sec-1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := all.AddMembers(ctx, sec[0].ID, []string{w.account("ann@example.com").ID}); err != nil {
			t.Fatal(err)
		}
		w.Add("ann", person("ann", "groups", []string{"red"}))
		if got := w.browser().signIn("ann"); got != "" || in() != "red sec-1" {
			t.Errorf("blocked: %q, in %q", got, in())
		}
		w.Set("oauth.group_claim", "a.teams")
		w.Add("ann", person("ann", "a", map[string]any{"teams": []string{"green"}}))
		if got := w.browser().signIn("ann"); got != "" || in() != "green sec-1" {
			t.Errorf("a claim within: %q, in %q", got, in())
		}
	})
}

// TestBlocked has the answers of the reference's is_in_blocked_groups.
func TestBlocked(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"admins", "admins", true}, {"admins", "Admins", false}, {"adm*", "admins", true}, {"adm*", "x-admins", false}, {"*-ops", "eu-ops", true}, {"t?st", "test", true},
		{"t?st", "tst", false}, {"team-[ab]", "team-a", true}, {"team-[ab]", "team-c", false}, {"^team-\\d+$", "team-12", true}, {"^team-\\d+$", "my-team-12", false},
		{"dev|ops", "the-ops-team", true}, {"(a", "(a", true}, {"(a", "xa", false}, {"(a*", "(abc", true}, {"^(?!public).*$", "public-x", false}, {"^(?!public).*$", "secret", true},
		{"a.c", "abc", false}, {"a.c*", "abc", false}, {"x[!ab]*", "xc1", true}, {"Ü*", "Über", true},
	} {
		if got := oauth.Blocked([]string{c.pattern}, c.name); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestBlockedSetting(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "ENABLE_OAUTH_GROUP_MANAGEMENT", "true")
	for _, name := range []string{"a", "b", "c"} {
		if _, err := w.Access.Groups().Insert(ctx, groups.NewGroup{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for i, setting := range []string{`["a","b"]`, "a, b", `a,b,,`} {
		w.Set("oauth.blocked_groups", setting)
		name := fmt.Sprint("p", i)
		w.Add(name, person(name, "groups", []string{"a", "b", "c"}))
		if got := w.browser().signIn(name); got != "" {
			t.Fatal(got)
		}
		list, err := w.Access.Groups().OfUser(ctx, w.account(name+"@example.com").ID, false)
		if err != nil || len(list) != 1 || list[0].Name != "c" {
			t.Errorf("%s: %d groups, %v", setting, len(list), err)
		}
	}
}

func TestUpdates(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.quiet = true
	w.User("Other", "user") // other@contract.test
	w.Add("ann", person("ann"))
	if got := w.browser().signIn("ann"); got != "" {
		t.Fatal(got)
	}
	id := w.account("ann@example.com").ID
	w.happened()
	check := func(step, want string, event ...string) {
		t.Helper()
		if got := w.browser().signIn("ann"); got != "" {
			t.Errorf("%s: %q", step, got)
		}
		u, err := w.Users.ByID(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Name + " " + u.Email + " " + (*u.ProfileImageURL)[:9]; got != want {
			t.Errorf("%s: %s", step, got)
		}
		if got := w.happened(); !slices.Equal(got, event) {
			t.Errorf("%s: events %q", step, got)
		}
	}
	w.Add("ann", person("ann", "name", "Ann II", "email", "Ann2@X.test", "picture", w.URL+"/picture"))
	check("nothing asked for", "Ann ann@example.com /user.png")
	w.Set("oauth.update_name_on_login", true, "oauth.update_email_on_login", true, "oauth.update_picture_on_login", true)
	check("all", "Ann II ann2@x.test data:imag", `user.updated oauth {"provider":"oidc","updated_fields":["name","email","profile_image_url"]}`)
	check("the same", "Ann II ann2@x.test data:imag")
	w.Add("ann", person("ann", "name", "", "email", "other@contract.test", "picture", w.URL+"/picture"))
	check("the address of another", "Ann II ann2@x.test data:imag")
	w.Env.OAuth.VerifiedEmail = true
	w.Add("ann", person("ann", "name", "", "email", "ann3@x.test", "picture", w.URL+"/picture"))
	check("an address that nobody has verified", "Ann II ann2@x.test data:imag")
	w.Add("ann", person("ann", "name", "", "email", "ann3@x.test", "email_verified", true))
	check("verified, and no picture", "Ann II ann3@x.test /user.png", `user.updated oauth {"provider":"oidc","updated_fields":["email","profile_image_url"]}`)
}

// TestPictures is about what people's pictures may be, and where they may lie.
func TestPictures(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	var asked []string
	far := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Authorization"))
		rw.Header().Set("Content-Type", "IMAGE/PNG; x=y")
		_, _ = rw.Write(oidctest.Pixel)
	}))
	defer far.Close()
	n := 0
	picture := func(address string) string {
		t.Helper()
		n++
		name := fmt.Sprint("p", n)
		w.Add(name, person(name, "picture", address))
		if got := w.browser().signIn(name); got != "" {
			t.Fatalf("%s: %q", address, got)
		}
		p := *w.account(name + "@example.com").ProfileImageURL
		return p[:min(len(p), 15)]
	}
	for address, want := range map[string]string{
		w.URL + "/picture":                      "data:image/png;",
		w.URL + "/picture?type=image/gif":       "data:image/gif;",
		w.URL + "/picture?bearer=1":             "data:image/png;", // the provider's own, for the signed-in
		w.URL + "/picture?type=image/svg%2Bxml": "/user.png",
		w.URL + "/picture?type=text/html":       "/user.png",
		w.URL + "/picture?size=6000000":         "/user.png",
		w.URL + "/missing":                      "/user.png",
		far.URL + "/x":                          "data:image/png;",
		"javascript:alert(1)":                   "/user.png",
		"file:///etc/passwd":                    "/user.png",
		"data:image/svg+xml;base64,AAAA":        "/user.png",
		"":                                      "/user.png",
	} {
		if got := picture(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	if len(asked) != 1 || asked[0] != "" {
		t.Errorf("another server was shown %q", asked)
	}
	w.Env.Images.MaxDataURI = 50
	if got := picture(w.URL + "/picture"); got != "/user.png" {
		t.Errorf("larger than the settings allow: %s", got)
	}
	w.Env.Images.MaxDataURI = 0
	w.OAuth.Pictures = outbound.Guard{}.Client(nil, true)
	for _, address := range []string{w.URL + "/picture", "http://127.0.0.1:1/x", "http://[::1]/x", "http://169.254.169.254/latest/meta-data", "http://localhost/x"} {
		if got := picture(address); got != "/user.png" {
			t.Errorf("%s: %s", address, got)
		}
	}
	w.OAuth.Pictures = outbound.Guard{Local: true}.Client(nil, true)
	if got := picture(w.URL + "/picture?to=http://169.254.169.254/x"); got != "/user.png" {
		t.Errorf("sent on to the cloud's own address: %s", got)
	}
	if got := picture(w.URL + "/picture?to=/picture"); got != "data:image/png;" {
		t.Errorf("sent on: %s", got)
	}
	w.Set("oauth.picture_claim", "")
	if got := picture(w.URL + "/picture"); got != "/user.png" {
		t.Errorf("not asked for: %s", got)
	}
}
