package groups_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/groups"
)

const base = "/api/v1/groups"

type server struct {
	*sessiontest.Server
	t    *testing.T
	boss string
}

func newServer(t *testing.T, db *store.DB, vars ...string) *server {
	t.Helper()
	s := sessiontest.New(t, db, vars...)
	s.Router.Mount(base, groups.New(groups.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Events: s.Events}))
	s.Router.Finish()
	_, boss := s.User("Boss", "admin")
	return &server{s, t, boss}
}

// create makes a group and gives its id.
func (s *server) create(body string) string {
	s.t.Helper()
	a := s.Call(s.boss, "POST "+base+"/create", body)
	if a.Code != 200 {
		s.t.Fatalf("create %s: %d %s", body, a.Code, a.Body)
	}
	return a.Doc().Text("id")
}

func (s *server) expect(what string, a *sessiontest.Answer, status int, detail string) {
	s.t.Helper()
	if a.Code != status || detail != "" && a.Detail() != detail {
		s.t.Errorf("%s: %d %s; want %d %s", what, a.Code, a.Body, status, detail)
	}
}

func TestHierarchy(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		top := s.create(`{"name":"top","description":""}`)
		sub := s.create(`{"name":"sub","description":"","parent_group_id":"` + top + `"}`)
		update := func(id, parent string) *sessiontest.Answer {
			return s.Call(s.boss, "POST "+base+"/id/"+id+"/update", `{"name":"n","description":"","parent_group_id":`+parent+`}`)
		}
		s.expect("loop", update(top, `"`+sub+`"`), 400, "A group cannot be its own parent or a descendant of itself.")
		s.expect("itself", update(top, `"`+top+`"`), 400, "A group cannot be its own parent or a descendant of itself.")
		s.expect("missing", update(top, `"none"`), 404, "Parent group not found.")
		s.expect("empty", update(top, `""`), 400, "Parent group must be a group ID or null.")
		s.expect("create below none", s.Call(s.boss, "POST "+base+"/create", `{"name":"n","description":"","parent_group_id":"none"}`), 404, "Parent group not found.")
		low := s.create(`{"name":"low","description":"","parent_group_id":"` + sub + `"}`)
		s.expect("delete", s.Call(s.boss, "DELETE "+base+"/id/"+sub+"/delete", ""), 200, "")
		if got := s.Call(s.boss, "GET "+base+"/id/"+low, "").Doc().Text("parent_group_id"); got != top {
			t.Errorf("parent of the group below is %q", got)
		}
		// left out, the parent stays; null makes it a root
		s.expect("left out", s.Call(s.boss, "POST "+base+"/id/"+low+"/update", `{"name":"n","description":"d"}`), 200, "")
		if got := s.Call(s.boss, "GET "+base+"/id/"+low, "").Doc(); got.Text("parent_group_id") != top || got.Text("description") != "d" {
			t.Errorf("after an update without a parent: %s", got)
		}
		s.expect("null", update(low, "null"), 200, "")
		if got := s.Call(s.boss, "GET "+base+"/id/"+low, "").Doc(); !got.Get("parent_group_id").IsNull() {
			t.Errorf("after null: %s", got)
		}
	})
}

func TestMembersAndEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		ann, annToken := s.User("Ann", "user")
		bob, _ := s.User("Bob", "user")
		top := s.create(`{"name":"top","description":""}`)
		sub := s.create(`{"name":"sub","description":"","parent_group_id":"` + top + `"}`)
		ids := func(id ...string) string { return jsondoc.Of(map[string][]string{"user_ids": id}).String() }
		told := func(step string, users ...string) {
			t.Helper()
			var want []string
			for _, u := range users {
				want = append(want, "disconnect "+u, "emit user:"+u+" access:updated {}")
			}
			slices.Sort(want)
			if got := slices.Sorted(slices.Values(s.Realtime.Take())); !slices.Equal(got, want) {
				t.Errorf("%s: told %v, want %v", step, got, want)
			}
		}
		s.Realtime.Take()
		a := s.Call(s.boss, "POST "+base+"/id/"+sub+"/users/add", ids(ann.ID, bob.ID, "nobody"))
		if got := a.Doc().Get("member_count").String(); got != "2" {
			t.Errorf("%s members", got)
		}
		told("add", ann.ID, bob.ID)
		s.Call(s.boss, "POST "+base+"/id/"+sub+"/users/add", ids(ann.ID))
		told("add again")
		s.Call(s.boss, "POST "+base+"/id/"+top+"/update", `{"name":"top","description":"","permissions":{"features":{"automations":true}}}`)
		told("permissions of a group above", ann.ID, bob.ID)
		if ok, err := s.Access.HasID(t.Context(), ann.ID, "features.automations"); !ok || err != nil {
			t.Errorf("inherited permission: %v, %v", ok, err)
		}
		s.Call(s.boss, "POST "+base+"/id/"+top+"/update", `{"name":"other","description":"x"}`)
		told("name")
		s.Call(s.boss, "POST "+base+"/id/"+sub+"/users/remove", ids(bob.ID, "nobody"))
		told("remove", bob.ID)
		s.expect("remove of none", s.Call(s.boss, "POST "+base+"/id/none/users/remove", `{"user_ids":null}`), 404, "Group not found.")
		s.expect("add to none", s.Call(s.boss, "POST "+base+"/id/none/users/add", `{}`), 404, "Group not found.")
		s.expect("users of none", s.Call(s.boss, "POST "+base+"/id/none/users", ""), 200, "")
		if got := s.Call(s.boss, "POST "+base+"/id/"+sub+"/users", "").Doc(); got.Len() != 1 || got.Text("0", "name") != "Ann" || got.Get("0", "groups").String() != "[]" {
			t.Errorf("users: %s", got)
		}
		m := s.Call(s.boss, "GET "+base+"/id/"+top+"/members", "").Doc()
		if m.Text("items", "0", "membership_type") != "inherited" || m.Get("items", "0", "via_group_ids").String() != `["`+sub+`"]` ||
			m.Get("counts").String() != `{"direct":0,"effective":1,"inherited":1}` {
			t.Errorf("members: %s", m)
		}
		s.expect("page 0", s.Call(s.boss, "GET "+base+"/id/"+top+"/members?page=0", ""), 422, "")
		list := s.Call(annToken, "GET "+base+"/", "").Doc()
		if list.Len() != 2 {
			t.Errorf("Ann's groups: %s", list)
		}
		if list := s.Call(annToken, "GET "+base+"/?share=true", "").Doc(); list.Len() != 2 {
			t.Errorf("groups Ann may share with: %s", list)
		}
		e := s.Call(s.boss, "GET "+base+"/id/"+sub+"/export", "").Doc()
		if e.Get("user_ids").String() != `["`+ann.ID+`"]` || e.Get("member_count").String() != "1" {
			t.Errorf("export: %s", e)
		}
		s.Call(s.boss, "DELETE "+base+"/id/"+top+"/delete", "")
		told("delete", ann.ID)
		if ok, err := s.Access.HasID(t.Context(), ann.ID, "features.automations"); ok || err != nil {
			t.Errorf("permission of a deleted group: %v, %v", ok, err)
		}
	})
}

func TestData(t *testing.T) {
	for share, want := range map[string]string{"": `"members"`, "true": `true`, "no": `false`} {
		vars := []string{"DEFAULT_GROUP_SHARE_PERMISSION", share}
		if share == "" {
			vars = nil
		}
		s := newServer(t, storetest.SQLite(t), vars...)
		id := s.create(`{"name":"g","description":""}`)
		if got := s.Call(s.boss, "GET "+base+"/id/"+id, "").Doc().Get("data", "config", "share").String(); got != want {
			t.Errorf("%q: share is %s, want %s", share, got, want)
		}
	}
	s := newServer(t, storetest.SQLite(t))
	for data, want := range map[string]string{
		`null`:            `{"config":{"share":"members"}}`,
		`{"x":1}`:         `{"x":1,"config":{"share":"members"}}`,
		`{"config":null}`: "422", `{"config":[]}`: "422", `[]`: "422", `"x"`: "422",
		`{"config":{"default_models":null}}`:                `{"config":{"default_models":null,"share":"members"}}`,
		`{"config":{"default_models":[" a","b ","a"," "]}}`: "422",
		`{"config":{"default_models":[" a","b ","a"]}}`:     `{"config":{"default_models":["a","b"],"share":"members"}}`,
		`{"config":{"default_models":"a"}}`:                 "422", `{"config":{"default_models":[1]}}`: "422",
	} {
		a := s.Call(s.boss, "POST "+base+"/create", `{"name":"g","description":"","data":`+data+`}`)
		got := a.Doc().Get("data").String()
		if a.Code == 422 {
			got = "422"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
}

func TestPreview(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.Set("ui.default_models", " m1, ,m2")
		top := s.create(`{"name":"top","description":"","permissions":{"workspace":{"models":true}}}`)
		sub := s.create(`{"name":"sub","description":"","parent_group_id":"` + top + `","permissions":{"workspace":{"tools":true}}}`)
		preview := func() jsondoc.Doc { return s.Call(s.boss, "GET "+base+"/id/"+sub+"/preview", "").Doc() }
		d := preview()
		if d.Get("default_models").String() != `{"local":null,"effective":["m1","m2"],"source_group_id":null}` || d.Get("permissions").String() != `{"workspace":{"tools":true}}` ||
			!d.Bool("inherited_permissions", "workspace", "models") || d.Bool("inherited_permissions", "workspace", "tools") ||
			!d.Bool("effective_permissions", "workspace", "models") || !d.Bool("effective_permissions", "workspace", "tools") {
			t.Errorf("%s", d)
		}
		s.Call(s.boss, "POST "+base+"/id/"+top+"/update", `{"name":"top","description":"","data":{"config":{"default_models":["x"]}}}`)
		if got := preview().Get("default_models").String(); got != `{"local":null,"effective":["x"],"source_group_id":"`+top+`"}` {
			t.Errorf("default models %s", got)
		}
		s.expect("none", s.Call(s.boss, "GET "+base+"/id/none/preview", ""), 404, "")
		if a := s.Call(s.boss, "GET "+base+"/id/"+strings.Repeat("x", 5)+"/info", ""); a.Code != 404 {
			t.Errorf("info of none: %d", a.Code)
		}
	})
}

func TestEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		ann, _ := s.User("Ann", "user")
		top := s.create(`{"name":"top","description":""}`)
		sub := s.create(`{"name":"sub","description":"","parent_group_id":"` + top + `"}`)
		s.expect("add", s.Call(s.boss, "POST "+base+"/id/"+top+"/users/add", `{"user_ids":["`+ann.ID+`","nobody"]}`), 200, "")
		s.expect("remove", s.Call(s.boss, "POST "+base+"/id/"+top+"/users/remove", `{"user_ids":["`+ann.ID+`"]}`), 200, "")
		s.expect("update", s.Call(s.boss, "POST "+base+"/id/"+top+"/update", `{"name":"up","description":""}`), 200, "")
		s.expect("delete", s.Call(s.boss, "DELETE "+base+"/id/"+top+"/delete", ""), 200, "")
		s.expect("twice", s.Call(s.boss, "DELETE "+base+"/id/"+top+"/delete", ""), 404, "")
		want := []string{
			"Boss api group.created group:" + top + ` {"name":"top"}`, "Boss api group.created group:" + sub + ` {"name":"sub"}`,
			"Boss api group.member_added group:" + top + ` {"user_ids":["` + ann.ID + `"]}`, "Boss api group.member_removed group:" + top + ` {"user_ids":["` + ann.ID + `"]}`,
			"Boss api group.updated group:" + top + ` {"name":"up","old_parent_group_id":null,"parent_group_id":null}`,
			"Boss api group.deleted group:" + top + ` {"parent_group_id":null,"promoted_child_ids":["` + sub + `"]}`,
			"Boss api group.updated group:" + sub + ` {"old_parent_group_id":"` + top + `","parent_group_id":null}`,
		}
		if got := s.Told(); !slices.Equal(got, want) {
			t.Errorf("told %q\nwant %q", got, want)
		}
	})
}
