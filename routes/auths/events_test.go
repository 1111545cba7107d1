package auths_test

import (
	"slices"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/storetest"
)

// TestEvents goes through the life of accounts and looks at what is told of it.
func TestEvents(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	told := func(what string, a *sessiontest.Answer, want ...string) jsondoc.Doc {
		t.Helper()
		if got := s.Told(); !slices.Equal(got, want) {
			t.Errorf("%s (%d): told %q\nwant %q", what, a.Code, got, want)
		}
		return a.Doc()
	}
	const auths, users = "/api/v1/auths", "/api/v1/users"
	boss := told("sign up", s.Call("", "POST "+auths+"/signup", `{"name":"Boss","email":"boss@x.test","password":"secret-1"}`),
		`Boss api user.created user:Boss {"role":"admin"}`, `Boss api auth.signup user:Boss {"email":"boss@x.test"}`,
		`Boss password auth.login user:Boss {"auth_method":"password"}`).Text("token")
	told("wrong password", s.Call("", "POST "+auths+"/signin", `{"email":"boss@x.test","password":"x"}`))
	ann := told("add", s.Call(boss, "POST "+auths+"/add", `{"name":"Ann","email":"ann@x.test","password":"secret-1","role":"user"}`),
		`Boss admin user.created user:Ann {"role":"user"}`)
	id, token := ann.Text("id"), ann.Text("token")
	told("sign in", s.Call("", "POST "+auths+"/signin", `{"email":"ann@x.test","password":"secret-1"}`), `Ann password auth.login user:Ann {"auth_method":"password"}`)
	told("profile", s.Call(token, "POST "+auths+"/update/profile", `{"name":"Ann","profile_image_url":"/user.png"}`),
		`Ann api user.profile_updated user:Ann {"updated_fields":["profile_image_url","name","bio","gender","date_of_birth"]}`)
	told("timezone", s.Call(token, "POST "+auths+"/update/timezone", `{"timezone":"UTC"}`), `Ann api user.updated user:Ann {"updated_fields":["timezone"]}`)
	told("settings", s.Call(token, "POST "+users+"/user/settings/update", `{"ui":{}}`), `Ann api user.settings_updated user:Ann {}`)
	told("status", s.Call(token, "POST "+users+"/user/status/update", `{"status_message":"x"}`), `Ann api user.status_updated user:Ann {}`)
	s.Set("auth.enable_api_keys", true)
	told("key", s.Call(boss, "POST "+auths+"/api_key", ""), `Boss api auth.api_key.created user:Boss {}`)
	told("no key", s.Call(boss, "DELETE "+auths+"/api_key", ""), `Boss api auth.api_key.deleted user:Boss {}`)
	told("permissions", s.Call(boss, "POST "+users+"/default/permissions", `{"workspace":{},"sharing":{},"access_grants":{},"chat":{},"features":{},"settings":{}}`),
		`Boss api user.permissions_updated config:user.permissions {}`)
	told("signed out", s.Call(token, "POST "+auths+"/signout", ""), `Ann api auth.logout user:Ann {}`)
	told("signed out by junk", s.Call("junk", "POST "+auths+"/signout", ""), `nobody api auth.logout : {}`)
	told("signed out by nobody", s.Call("", "POST "+auths+"/signout", ""))
	told("password", s.Call(token, "POST "+auths+"/update/password", `{"password":"secret-1","new_password":"secret-2"}`), `Ann api auth.password_changed user:Ann {}`)
	told("revoked", s.Call(boss, "POST "+users+"/"+id+"/sessions/revoke", ""), `Boss api auth.sessions_revoked user:Ann {}`)
	told("nothing changed", s.Call(boss, "POST "+users+"/"+id+"/update", `{}`))
	told("the same role", s.Call(boss, "POST "+users+"/"+id+"/update", `{"role":"user"}`))
	told("changed", s.Call(boss, "POST "+users+"/"+id+"/update", `{"role":"pending","name":"Anna","password":"secret-3"}`),
		`Boss api user.updated user:Anna {"updated_fields":["name"]}`, `Boss api user.role_updated user:Anna {"role":"pending"}`,
		`Boss admin auth.password_changed user:Anna {}`)
	told("deleted", s.Call(boss, "DELETE "+users+"/"+id, ""), `Boss api user.deleted user:`+id+` {}`)
}
