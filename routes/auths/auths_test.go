package auths_test

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
)

const base = "/api/v1/auths"

// expect fails unless an answer has a status and, unless "", a detail.
func expect(t *testing.T, what string, a *sessiontest.Answer, status int, detail string) {
	t.Helper()
	if a.Code != status || detail != "" && a.Detail() != detail {
		t.Errorf("%s: %d %s; want %d %s", what, a.Code, a.Body, status, detail)
	}
}

func signUp(name string) string {
	return fmt.Sprintf(`{"name":%q,"email":"%s@Contract.test","password":"secret"}`, name, name)
}

// TestFirstSignUps signs up at once on an empty database: one becomes the administrator, and sign-up is off then.
func TestFirstSignUps(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		const n = 8
		roles := make([]string, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				a := s.Call("", "POST "+base+"/signup", signUp(fmt.Sprint("u", i)))
				switch a.Code {
				case http.StatusOK:
					roles[i] = a.Doc().Text("role")
				case http.StatusForbidden:
					roles[i] = "refused"
				default:
					t.Errorf("%d %s", a.Code, a.Body)
				}
			})
		}
		wg.Wait()
		count := map[string]int{}
		for _, r := range roles {
			count[r]++
		}
		if count["admin"] != 1 || count["admin"]+count["pending"]+count["refused"] != n {
			t.Errorf("roles %v", count)
		}
		expect(t, "afterwards", s.Call("", "POST "+base+"/signup", signUp("late")), 403, "")
		if s.Settings.Snapshot().Bool("ui.enable_signup") {
			t.Error("sign-up is still on")
		}
	})
}

func TestSignUp(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	g, err := s.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	s.Set("ui.enable_signup", false, "ui.default_group_id", g.ID)
	first := s.Call("", "POST "+base+"/signup", signUp("first"))
	expect(t, "the first, though sign-up is off", first, 200, "")
	if d := first.Doc(); d.Text("role") != "admin" || d.Text("email") != "first@contract.test" || d.Text("profile_image_url") != "/api/v1/users/"+d.Text("id")+"/profile/image" {
		t.Errorf("first: %s", d)
	}
	if ids, err := s.Access.GroupIDs(t.Context(), first.Doc().Text("id")); err != nil || len(ids) != 1 {
		t.Errorf("groups of the first: %v, %v", ids, err)
	}
	s.Set("ui.enable_signup", true, "ui.default_group_id", "no such group")
	for _, c := range []struct {
		name, body string
		status     int
	}{
		{"another", signUp("second"), 200},
		{"same address", signUp("SECOND"), 400},
		{"no address", `{"name":"x","email":"nope","password":"p"}`, 400},
		{"localhost", `{"name":"x","email":"x@localhost","password":""}`, 200},
		{"73 bytes", `{"name":"x","email":"y@x.test","password":"` + strings.Repeat("p", 73) + `"}`, 400},
		{"picture", `{"name":"x","email":"z@x.test","password":"p","profile_image_url":"javascript:alert(1)"}`, 422},
		{"no picture", `{"name":"x","email":"z@x.test","password":"p","profile_image_url":null}`, 200},
		{"no name", `{"email":"w@x.test","password":"p"}`, 422},
		{"a list", `[]`, 422},
		{"no JSON", `{`, 422},
	} {
		a := s.Call("", "POST "+base+"/signup", c.body)
		expect(t, c.name, a, c.status, map[int]string{422: "Invalid authentication request."}[c.status])
		if a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be kept by caches", c.name)
		}
	}
	s.Set("ui.enable_login_form", false)
	expect(t, "without the form", s.Call("", "POST "+base+"/signup", signUp("third")), 403, "")
}

func TestSignIn(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), "GALLEY_SIGNOUT_REVOKES", "true")
	ann, _ := s.User("Ann", "user")
	signIn := func(email, password string) *sessiontest.Answer {
		return s.Call("", "POST "+base+"/signin", string(jsondoc.Of(map[string]string{"email": email, "password": password})))
	}
	a := signIn("ANN@contract.test", sessiontest.Password)
	expect(t, "right password", a, 200, "")
	token := a.Doc().Text("token")
	exp, _ := a.Doc().Int("expires_at")
	if d := time.Until(time.Unix(exp, 0)); d < 27*24*time.Hour || d > 28*24*time.Hour {
		t.Errorf("expires in %v, want four weeks", d)
	}
	cookies := a.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	if c := cookies[0]; c.Name != "token" || c.Value != token || !c.HttpOnly || c.Path != "/" || c.SameSite != http.SameSiteLaxMode || c.Secure || c.MaxAge < 27*86400 {
		t.Errorf("cookie %+v", c)
	}
	me := s.Call("", "GET "+base+"/", "", "Cookie", "token="+token)
	expect(t, "session by cookie", me, 200, "")
	if d := me.Doc(); d.Text("id") != ann.ID || d.Text("token") != token || !d.Bool("permissions", "chat", "delete") || d.Text("profile_image_url") != "/user.png" {
		t.Errorf("session %s", d)
	}
	expect(t, "wrong password", signIn("ann@contract.test", "x"), 400, "The email or password provided is incorrect. Please check for typos and try logging in again.")
	for i := range 15 {
		signIn("Other@contract.test", strconv.Itoa(i))
	}
	expect(t, "the 16th", signIn("oTHER@contract.test", "x"), 429, "API rate limit exceeded")
	expect(t, "another address", signIn("ann@contract.test", sessiontest.Password), 200, "")

	out := s.Call(token, "POST "+base+"/signout", "")
	expect(t, "sign-out", out, 200, "")
	if got := out.Header().Values("Set-Cookie"); len(got) != 4 || !strings.HasPrefix(got[0], "token=;") {
		t.Errorf("cookies of the sign-out: %v", got)
	}
	expect(t, "signed out", s.Call(token, "GET "+base+"/", ""), 401, "Invalid token")
	expect(t, "stranger signs out", s.Call("", "POST "+base+"/signout", ""), 200, "")
	s.Set("auth.jwt_expiry", "-1")
	a = signIn("ann@contract.test", sessiontest.Password)
	if !a.Doc().Get("expires_at").IsNull() || a.Result().Cookies()[0].MaxAge != 0 {
		t.Errorf("for ever: %s, %v", a.Body, a.Result().Cookies())
	}
}

func TestSignInWithoutAccounts(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), "WEBUI_AUTH", "False")
	empty := `{"email":"","password":""}`
	for range 2 {
		a := s.Call("", "POST "+base+"/signin", empty)
		expect(t, "sign-in", a, 200, "")
		if d := a.Doc(); d.Text("email") != "admin@localhost" || d.Text("role") != "admin" {
			t.Errorf("%s", d)
		}
	}
	expect(t, "sign-up", s.Call("", "POST "+base+"/signup", signUp("x")), 403, "")
	other := newServer(t, storetest.SQLite(t), "WEBUI_AUTH", "False")
	other.User("Ann", "user")
	expect(t, "with accounts", other.Call("", "POST "+base+"/signin", empty), 400, "")
}

func TestSignInSwitchedOff(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), "ENABLE_PASSWORD_AUTH", "False")
	s.User("Ann", "user")
	expect(t, "sign-in", s.Call("", "POST "+base+"/signin", `{"email":"ann@contract.test","password":"`+sessiontest.Password+`"}`), 403,
		"The requested action has been restricted as a security measure.")
}

func TestTrustedHeader(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), "WEBUI_AUTH_TRUSTED_EMAIL_HEADER", "X-Email", "WEBUI_AUTH_TRUSTED_NAME_HEADER", "X-Name",
		"WEBUI_AUTH_TRUSTED_GROUPS_HEADER", "X-Groups", "WEBUI_AUTH_TRUSTED_ROLE_HEADER", "X-Role")
	s.User("Boss", "admin")
	if _, err := s.Access.Groups().CreateByNames(t.Context(), "", []string{"cooks", "bakers"}, nil); err != nil {
		t.Fatal(err)
	}
	body := `{"email":"","password":""}`
	expect(t, "no header", s.Call("", "POST "+base+"/signin", body), 400, "Your provider has not provided a trusted header. Please contact your administrator for assistance.")
	a := s.Call("", "POST "+base+"/signin", body, "X-Email", "Ann@X.test", "X-Name", "Ann%20Cook", "X-Groups", "cooks, none", "X-Role", "USER")
	expect(t, "new account", a, 200, "")
	if d := a.Doc(); d.Text("email") != "ann@x.test" || d.Text("name") != "Ann Cook" || d.Text("role") != "user" {
		t.Errorf("%s", d)
	}
	id := a.Doc().Text("id")
	if list, err := s.Access.Groups().OfUser(t.Context(), id, false); err != nil || len(list) != 1 || list[0].Name != "cooks" {
		t.Errorf("groups %v, %v", list, err)
	}
	a = s.Call("", "POST "+base+"/signin", body, "X-Email", "ann@x.test", "X-Groups", "bakers", "X-Role", "emperor")
	if d := a.Doc(); a.Code != 200 || d.Text("id") != id || d.Text("role") != "user" {
		t.Errorf("again: %d %s", a.Code, d)
	}
	if list, err := s.Access.Groups().OfUser(t.Context(), id, false); err != nil || len(list) != 1 || list[0].Name != "bakers" {
		t.Errorf("groups %v, %v", list, err)
	}
	expect(t, "password change", s.Call(a.Doc().Text("token"), "POST "+base+"/update/password", `{"password":"a","new_password":"b"}`), 400, "")
	expect(t, "no groups", s.Call("", "POST "+base+"/signin", body, "X-Email", "ann@x.test", "X-Groups", " , "), 200, "")
	if list, err := s.Access.Groups().OfUser(t.Context(), id, false); err != nil || len(list) != 1 {
		t.Errorf("groups after a header that names none: %v, %v", list, err)
	}
	expect(t, "groups that nobody made", s.Call("", "POST "+base+"/signin", body, "X-Email", "ann@x.test", "X-Groups", "butchers"), 200, "")
	if list, err := s.Access.Groups().OfUser(t.Context(), id, false); err != nil || len(list) != 0 {
		t.Errorf("groups after a header that names none of these: %v, %v", list, err)
	}
	expect(t, "empty header", s.Call("", "POST "+base+"/signin", body, "X-Email", ""), 400, "")
	expect(t, "session of another", s.Call(a.Doc().Text("token"), "GET "+base+"/", "", "X-Email", "boss@contract.test"), 401, "User mismatch. Please sign in again.")
	expect(t, "own session", s.Call(a.Doc().Text("token"), "GET "+base+"/", "", "X-Email", "ANN@x.test"), 200, "")
	for i, test := range [][2]string{{"J%C3%B6rg", "Jörg"}, {"100%", "100%"}, {"a+b%2", "a+b%2"}, {"%FF", "\uFFFD"}, {"Jörg", "Jörg"}, {"J\xf6rg", "Jörg"}, {"", ""}} {
		email := fmt.Sprintf("n%d@x.test", i)
		want := cmp.Or(test[1], email)
		if a := s.Call("", "POST "+base+"/signin", body, "X-Email", email, "X-Name", test[0]); a.Doc().Text("name") != want {
			t.Errorf("name %q: %d %s", test[0], a.Code, a.Body)
		}
	}
}

func TestPassword(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db, "ENABLE_PASSWORD_VALIDATION", "True", "PASSWORD_VALIDATION_REGEX_PATTERN", "^.{6,}$", "PASSWORD_VALIDATION_HINT", "six, please")
		ann, token := s.User("Ann", "user")
		change := func(old, now string) *sessiontest.Answer {
			return s.Call(token, "POST "+base+"/update/password", string(jsondoc.Of(map[string]string{"password": old, "new_password": now})))
		}
		expect(t, "wrong", change("x", "longer"), 400, "The password provided is incorrect. Please check for typos and try again.")
		expect(t, "short", change(sessiontest.Password, "short"), 400, "six, please")
		s.Realtime.Take()
		expect(t, "right", change(sessiontest.Password, "longer"), 200, "")
		if got := s.Realtime.Take(); len(got) != 1 || got[0] != "disconnect "+ann.ID {
			t.Errorf("told %v", got)
		}
		expect(t, "old session", s.Call(token, "GET "+base+"/", ""), 401, "Invalid token")
		expect(t, "new password", s.Call("", "POST "+base+"/signin", `{"email":"ann@contract.test","password":"longer"}`), 200, "")
		expect(t, "old password", s.Call("", "POST "+base+"/signin", `{"email":"ann@contract.test","password":"`+sessiontest.Password+`"}`), 400, "")
	})
}

func TestProfile(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	ann, token := s.User("Ann", "user")
	for day, want := range map[string]string{`"1990-05-17"`: "1990-05-17", `"1990-05-17T00:00:00Z"`: "1990-05-17", `"1990-05-17 00:00"`: "1990-05-17", `"1990-05-17T00:00:00+02:00"`: "1990-05-17", `642902400`: "1990-05-17",
		`642902400000`: "1990-05-17", `null`: "", `"yesterday"`: "refused", `"1990-05-17T01:00:00"`: "refused", `5`: "refused", `true`: "refused", `"1990-13-01"`: "refused"} {
		a := s.Call(token, "POST "+base+"/update/profile", `{"profile_image_url":"","name":"A","bio":"b","date_of_birth":`+day+`}`)
		got := "refused"
		if a.Code == 200 {
			u, err := s.Users.ByID(t.Context(), ann.ID)
			if err != nil {
				t.Fatal(err)
			}
			got = ""
			if u.DateOfBirth != nil {
				got = *u.DateOfBirth
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q (%d %s)", day, got, want, a.Code, a.Body)
		}
	}
	a := s.Call(token, "POST "+base+"/update/profile", `{"profile_image_url":"/user.png","name":"B"}`)
	if u, err := s.Users.ByID(t.Context(), ann.ID); err != nil || u.Bio != nil || u.Name != "B" || a.Doc().Text("profile_image_url") != "/user.png" {
		t.Errorf("what is left out is not cleared: %+v, %v, %s", u, err, a.Body)
	}
}

func TestAdminConfig(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	boss, token := s.User("Boss", "admin")
	get := s.Call(token, "GET "+base+"/admin/config", "")
	form := get.Doc()
	post := func(f jsondoc.Doc) *sessiontest.Answer { return s.Call(token, "POST "+base+"/admin/config", string(f)) }
	for _, c := range []struct {
		name, field, value string
		status             int
		want               string // of the field then, "" for as before
	}{
		{"signup", "ENABLE_SIGNUP", `"yes"`, 200, `true`},
		{"unknown role", "DEFAULT_USER_ROLE", `"emperor"`, 200, ""},
		{"role", "DEFAULT_USER_ROLE", `"user"`, 200, `"user"`},
		{"bad expiry", "JWT_EXPIRES_IN", `"soon"`, 200, ""},
		{"expiry", "JWT_EXPIRES_IN", `"2d"`, 200, `"2d"`},
		{"bad mode", "CHANNEL_MODEL_RESPONSE_MODE", `"both"`, 200, ""},
		{"count", "AUTOMATION_MAX_COUNT", `"12"`, 200, `12`},
		{"count 0", "AUTOMATION_MAX_COUNT", `0`, 200, `""`},
		{"count null", "FOLDER_MAX_FILE_COUNT", `null`, 200, `""`},
		{"count empty", "FOLDER_MAX_FILE_COUNT", `""`, 200, `""`},
		{"no count", "FOLDER_MAX_FILE_COUNT", `"many"`, 422, ""},
		{"skill", "SKILL_CONTENT_MAX_CHARS", `500`, 200, `500`},
		{"skill null", "SKILL_CONTENT_MAX_CHARS", `null`, 200, `null`},
		{"skill text", "SKILL_CONTENT_MAX_CHARS", `"500"`, 422, ""},
		{"skill 0", "SKILL_CONTENT_MAX_CHARS", `0`, 422, ""},
		{"interface null", "DEFAULT_INTERFACE_SETTINGS", `null`, 200, `{}`},
		{"interface", "DEFAULT_INTERFACE_SETTINGS", `{"a":[1.0]}`, 200, `{"a":[1.0]}`},
		{"I18N null", "I18N", `null`, 422, ""},
		{"I18N", "I18N", `{"de":{"Hello {{name}}":"Hallo {{ name }}","x":" "},"fr":{"y":""}}`, 200, `{"de":{"Hello {{name}}":"Hallo {{ name }}"}}`},
		{"I18N placeholder", "I18N", `{"de":{"Hello {{name}}":"Hallo"}}`, 422, ""},
		{"I18N prototype", "I18N", `{"__proto__":{}}`, 422, ""},
		{"I18N no text", "I18N", `{"de":{"x":1}}`, 422, ""},
		{"MFA text", "ENABLE_MFA", `"true"`, 422, ""},
		{"login form null", "ENABLE_LOGIN_FORM", `null`, 422, ""},
	} {
		before := s.Call(token, "GET "+base+"/admin/config", "").Doc().Get(c.field)
		a := post(form.Set(jsondoc.Doc(c.value), c.field))
		if a.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.Code, a.Body, c.status)
			continue
		}
		want := c.want
		if want == "" {
			want = before.String()
		}
		if got := s.Call(token, "GET "+base+"/admin/config", "").Doc().Get(c.field); got.String() != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
	// what may be left out stays
	s.Set("apps.enable", true, "ui.i18n", map[string]any{"de": map[string]string{"a": "b"}})
	for _, name := range []string{"ENABLE_APPS", "I18N", "ENABLE_MFA", "ENABLE_LOGIN_FORM"} {
		form = form.Delete(name)
	}
	a := post(form)
	if d := a.Doc(); !d.Bool("ENABLE_APPS") || d.Get("I18N").Len() != 1 || d.Get("sessions_revoked").String() != "false" {
		t.Errorf("left out: %s", d)
	}
	// a change of the second factor's settings ends all sessions, and takes a person
	if err := s.Users.SetAPIKey(t.Context(), boss.ID, "sk-boss"); err != nil {
		t.Fatal(err)
	}
	s.Set("auth.enable_api_keys", true)
	form = form.Set(jsondoc.Doc("true"), "MFA_ALLOW_OAUTH_BYPASS").Set(jsondoc.Doc("true"), "ENABLE_API_KEYS")
	expect(t, "by API key", s.Call("sk-boss", "POST "+base+"/admin/config", string(form)), 403, "A human administrator session is required to change MFA settings.")
	a = post(form)
	if a.Doc().Get("sessions_revoked").String() != "true" {
		t.Errorf("change: %s", a.Body)
	}
	expect(t, "afterwards", s.Call(token, "GET "+base+"/", ""), 401, "Invalid token")
}

func TestLevels(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, wait := s.User("Wait", "pending")
	_, ann := s.User("Ann", "user")
	public := map[string]bool{"POST /api/v1/auths/signin": true, "POST /api/v1/auths/signup": true, "POST /api/v1/auths/signout": true, "POST /api/v1/auths/ldap": true,
		"POST /api/v1/auths/oauth/{provider}/token/exchange": true, "POST /api/v1/auths/mfa/challenge": true, "POST /api/v1/auths/mfa/enroll/start": true,
		"POST /api/v1/auths/mfa/enroll/confirm": true, "POST /api/v1/auths/mfa/verify": true, "POST /api/v1/auths/mfa/recover": true}
	for _, r := range s.Router.Routes() {
		spec := r.Method + " " + r.Path
		if public[spec] != (r.Level == auth.Public) {
			t.Errorf("%s has level %v", spec, r.Level)
		}
		if r.Level == auth.Public {
			continue
		}
		path := r.Method + " " + strings.NewReplacer("{user_id}", "x", "{id}", "x", "{provider:path}", "x").Replace(r.Path)
		body := ""
		if r.Method == "POST" {
			body = "{}"
		}
		if a := s.Call("", path, body); a.Code != 401 || a.Detail() != "Not authenticated" {
			t.Errorf("%s without credentials: %d %s", spec, a.Code, a.Body)
		}
		if a := s.Call(wait, path, body); (r.Level == auth.Verified || r.Level == auth.Admin) && a.Code != 401 {
			t.Errorf("%s by a pending user: %d %s", spec, a.Code, a.Body)
		}
		if a := s.Call(ann, path, body); r.Level == auth.Admin && a.Code != 401 {
			t.Errorf("%s by a user: %d %s", spec, a.Code, a.Body)
		}
	}
}
