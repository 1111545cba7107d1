package users_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	userstore "github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/routes/users"
)

const base = "/api/v1/users"

// static answers with the name of the file that is wanted.
type static struct{}

func (static) ServeStatic(w http.ResponseWriter, _ *http.Request, name string) {
	_, _ = w.Write([]byte("static " + name))
}

func newServer(t testing.TB, db *store.DB, vars ...string) *sessiontest.Server {
	t.Helper()
	s := sessiontest.New(t, db, vars...)
	s.Router.Mount(base, users.New(users.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, OAuth: s.OAuth, Static: static{}}))
	s.Router.Finish()
	return s
}

func expect(t *testing.T, what string, a *sessiontest.Answer, status int, body string) {
	t.Helper()
	if a.Code != status || body != "" && a.Body.String() != body {
		t.Errorf("%s: %d %s; want %d %s", what, a.Code, a.Body, status, body)
	}
}

func TestSettings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		_, ann := s.User("Ann", "user")
		_, boss := s.User("Boss", "admin")
		update := func(token, body string) *sessiontest.Answer {
			return s.Call(token, "POST "+base+"/user/settings/update", body)
		}
		expect(t, "none", s.Call(ann, "GET "+base+"/user/settings", ""), 200, "null")
		expect(t, "nothing", update(ann, `{}`), 200, `{"ui":{}}`)
		expect(t, "allowed", update(ann, `{"ui":{"system":"s","autoTags":true,"x":1.0},"own":[1]}`), 200, `{"ui":{"system":"s","autoTags":true,"x":1.0},"own":[1]}`)
		expect(t, "not allowed", update(ann, `{"ui":{"toolServers":[1],"notifications":{"webhook_url":"u","sound":1}},"notifications":{"a":1}}`), 200,
			`{"ui":{"system":"s","autoTags":true,"x":1.0,"notifications":{"sound":1}},"own":[1]}`)
		expect(t, "null removes", update(ann, `{"ui":{"x":null,"notifications":null}}`), 200, `{"ui":{"system":"s","autoTags":true},"own":[1]}`)
		expect(t, "no object", update(ann, `{"ui":"text"}`), 422, "")
		off := s.Access.Builtin()
		for _, p := range [][]string{{"settings", "interface"}, {"chat", "system_prompt"}} {
			off = off.Set(jsondoc.Doc("false"), p...)
		}
		var tree any
		if err := off.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		s.Set("user.permissions", tree)
		body := `{"ui":{"system":"new","autoTags":false,"title":{"auto":true},"theme":"dark"}}`
		expect(t, "without permissions", update(ann, body), 200, `{"ui":{"system":"s","autoTags":true,"theme":"dark"},"own":[1]}`)
		expect(t, "admin", update(boss, `{"ui":{"system":"new","autoTags":false,"toolServers":[1]},"notifications":{"a":1}}`), 200,
			`{"ui":{"system":"new","autoTags":false,"toolServers":[1]},"notifications":{"a":1}}`)

		s.Set("ui.default_interface_settings", map[string]any{"autoTags": false, "title": map[string]any{"auto": true}})
		expect(t, "over the defaults", s.Call(ann, "GET "+base+"/user/settings", ""), 200,
			`{"ui":{"autoTags":true,"title":{"auto":true},"system":"s","theme":"dark"},"own":[1]}`)
		expect(t, "raw", s.Call(ann, "GET "+base+"/user/settings?raw=true", ""), 200, `{"ui":{"system":"s","autoTags":true,"theme":"dark"},"own":[1]}`)
		_, bob := s.User("Bob", "user")
		expect(t, "the defaults alone", s.Call(bob, "GET "+base+"/user/settings", ""), 200, `{"ui":{"autoTags":false,"title":{"auto":true}}}`)
	})
}

func TestOwnData(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		_, ann := s.User("Ann", "user")
		expect(t, "info", s.Call(ann, "POST "+base+"/user/info/update", `{"a":1,"b":null}`), 200, `{"a":1,"b":null}`)
		expect(t, "info merged", s.Call(ann, "POST "+base+"/user/info/update", `{"a":[2]}`), 200, `{"a":[2],"b":null}`)
		expect(t, "info read", s.Call(ann, "GET "+base+"/user/info", ""), 200, `{"a":[2],"b":null}`)
		for _, c := range []struct {
			name, body string
			status     int
			want       string
		}{
			{"variables", `{"variables":{"a_1":"x\r\ny","b":""}}`, 200, `{"variables":{"a_1":"x\ny","b":""}}`},
			{"bad name", `{"variables":{"A":"x"}}`, 400, `{"detail":"Invalid user variable key: A"}`},
			{"no text", `{"variables":{"a":1}}`, 400, `{"detail":"User variable must be a string: a"}`},
			{"long", `{"variables":{"a":"` + strings.Repeat("ä", 20_001) + `"}}`, 400, `{"detail":"User variable is too long: a"}`},
			{"escapes count as what they stand for", `{"variables":{"a":"` + strings.Repeat(`\ud83d\ude00`, 20_000) + `"}}`, 200, ""},
			{"too many", `{"variables":{"a":"` + strings.Repeat("x", 100_001) + `"}}`, 400, `{"detail":"User variables are too large."}`},
			{"a list", `{"variables":[]}`, 422, ""},
			{"none", `{}`, 200, `{"variables":{}}`},
		} {
			expect(t, c.name, s.Call(ann, "POST "+base+"/user/variables/update", c.body), c.status, c.want)
		}
		a := s.Call(ann, "POST "+base+"/user/status/update", `{"status_emoji":"tea","status_expires_at":5}`)
		if d := a.Doc(); d.Text("status_emoji") != "tea" || !d.Get("status_message").IsNull() || d.Get("variables") != nil {
			t.Errorf("status %s", d)
		}
		a = s.Call(ann, "POST "+base+"/user/status/update", `{"status_emoji":null,"status_message":"m"}`)
		if d := a.Doc(); d.Text("status_emoji") != "tea" || d.Text("status_message") != "m" {
			t.Errorf("null changes a status: %s", d)
		}
		if got := s.Call(ann, "GET "+base+"/user/status", "").Doc(); got.Text("status_message") != "m" {
			t.Errorf("status read: %s", got)
		}
		s.Set("users.enable_status", false)
		expect(t, "off", s.Call(ann, "GET "+base+"/user/status", ""), 403, "")
	})
}

func TestImage(t *testing.T) {
	png := []byte("\x89PNG not really")
	text := base64.StdEncoding.EncodeToString(png)
	plain := newServer(t, storetest.SQLite(t))
	plainAnn, plainToken := plain.User("Ann", "user")
	for _, c := range []struct {
		name, url string
		vars      []string
		status    int
		body      string
		header    string // Content-Type or Location
	}{
		{name: "default", url: "/user.png", status: 200, body: "static user.png"},
		{name: "none", url: "", status: 200, body: "static user.png"},
		{name: "data", url: "data:image/png;base64," + text, status: 200, body: string(png), header: "image/png"},
		{name: "data in capitals", url: "data:image/PNG;base64," + text, status: 200, body: string(png), header: "image/png"},
		{name: "data with more padding", url: "data:image/png;base64," + text + "=", status: 200, body: string(png), header: "image/png"},
		{name: "type not allowed", url: "data:image/svg+xml;base64," + text, status: 200, body: "static user.png"},
		{name: "padding is missing", url: "data:image/png;base64,QUI", status: 200, body: "static user.png"},
		{name: "needless padding", url: "data:image/png;base64,QUJD=", status: 200, body: "ABC", header: "image/png"},
		{name: "a text ends with its padding", url: "data:image/png;base64,QUI=QUI", status: 200, body: "AB", header: "image/png"},
		{name: "line breaks", url: "data:image/png;base64,QU\nI\n=", status: 200, body: "AB", header: "image/png"},
		{name: "one digit", url: "data:image/png;base64,QUJDQ===", status: 200, body: "static user.png"},
		{name: "no digit at all", url: "data:image/png;base64,!!!", status: 200, header: "image/png"},
		{name: "not of ASCII", url: "data:image/png;base64,QUJDé", status: 200, body: "static user.png"},
		{name: "address", url: "https://x.test/a.png", status: 302, header: "https://x.test/a.png"},
		{name: "address, not forwarded", url: "https://x.test/a.png", vars: []string{"ENABLE_PROFILE_IMAGE_URL_FORWARDING", "False"}, status: 200, body: "static user.png"},
	} {
		s, ann, token := plain, plainAnn, plainToken
		if c.vars != nil {
			s = newServer(t, storetest.SQLite(t), c.vars...)
			ann, token = s.User("Ann", "user")
		}
		if _, err := s.Users.Update(t.Context(), ann.ID, userstore.SetProfileImageURL(c.url)); err != nil {
			t.Fatal(err)
		}
		a := s.Call("", "GET "+base+"/"+ann.ID+"/profile/image", "", "Cookie", "token="+token)
		header := a.Header().Get("Content-Type")
		if c.status == 302 {
			header = a.Header().Get("Location")
		}
		if a.Code != c.status || a.Body.String() != c.body || c.header != "" && header != c.header {
			t.Errorf("%s: %d %q %q", c.name, a.Code, a.Body, header)
		}
		if strings.HasPrefix(c.body, "\x89") && a.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: browsers may guess the type", c.name)
		}
		if strings.HasPrefix(c.body, "static") && a.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: browsers may keep it when there is another", c.name)
		}
	}
}

func TestUpdate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		first, firstToken := s.User("First", "admin")
		if _, err := db.Exec(t.Context(), `UPDATE "user" SET created_at = 1`); err != nil {
			t.Fatal(err)
		}
		second, token := s.User("Second", "admin")
		ann, annToken := s.User("Ann", "user")
		update := func(token, id, body string) *sessiontest.Answer {
			return s.Call(token, "POST "+base+"/"+id+"/update", body)
		}
		expect(t, "the first by another", update(token, first.ID, `{"name":"x"}`), 403, "")
		expect(t, "the first gives up their role", update(firstToken, first.ID, `{"role":"user"}`), 403, "")
		expect(t, "the first renames themselves", update(firstToken, first.ID, `{"name":"x","role":"admin"}`), 200, "")
		expect(t, "revoke the first", s.Call(token, "POST "+base+"/"+first.ID+"/sessions/revoke", ""), 403, "")
		expect(t, "delete the first", s.Call(token, "DELETE "+base+"/"+first.ID, ""), 403, "")
		expect(t, "delete oneself", s.Call(token, "DELETE "+base+"/"+second.ID, ""), 403, "")
		expect(t, "same address in capitals", update(token, ann.ID, `{"email":"ANN@contract.test"}`), 200, "")
		expect(t, "address taken", update(token, ann.ID, `{"email":"SECOND@contract.test"}`), 400, "")
		expect(t, "any role, empty name", update(token, ann.ID, `{"role":"cook","name":""}`), 200, "")
		expect(t, "no role of use", s.Call(annToken, "GET "+base+"/groups", ""), 401, "")
		expect(t, "back", update(token, ann.ID, `{"role":"user","password":""}`), 200, "")
		expect(t, "still signed in", s.Call(annToken, "GET "+base+"/groups", ""), 200, "[]")
		expect(t, "picture no text", update(token, ann.ID, `{"profile_image_url":5}`), 422, "")
		expect(t, "picture null", update(token, ann.ID, `{"profile_image_url":null}`), 200, "")
		expect(t, "long password", update(token, ann.ID, `{"password":"`+strings.Repeat("x", 73)+`"}`), 400, "")
		s.Realtime.Take()
		expect(t, "password", update(token, ann.ID, `{"password":"new one"}`), 200, "")
		if got := s.Realtime.Take(); !slices.Equal(got, []string{"disconnect " + ann.ID}) {
			t.Errorf("told %v", got)
		}
		expect(t, "old session", s.Call(annToken, "GET "+base+"/groups", ""), 401, `{"detail":"Invalid token"}`)
		if u, _, err := s.Sessions.PasswordOwner(t.Context(), "ann@contract.test", "new one"); u == nil || err != nil {
			t.Errorf("new password: %v, %v", u, err)
		}
		for range 2 {
			expect(t, "delete", s.Call(token, "DELETE "+base+"/"+ann.ID, ""), 200, "true")
		}
		if got := s.Realtime.Take(); len(got) != 4 || got[0] != "emit user:"+ann.ID+" access:updated {}" || got[1] != "disconnect "+ann.ID {
			t.Errorf("told %v", got)
		}
	})
}

func TestGroups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		ann, token := s.User("Ann", "user")
		_, boss := s.User("Boss", "admin")
		top, err := s.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "top"})
		if err != nil {
			t.Fatal(err)
		}
		sub, err := s.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "sub", ParentID: &top.ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Access.Groups().AddMembers(t.Context(), sub.ID, []string{ann.ID}); err != nil {
			t.Fatal(err)
		}
		kinds := func(d jsondoc.Doc) string {
			var out []string
			d.Items(func(_ int, g jsondoc.Doc) bool {
				out = append(out, g.Text("name")+" "+g.Text("membership_type"))
				return true
			})
			slices.Sort(out)
			return fmt.Sprint(out)
		}
		for path, want := range map[string]string{"/groups": "[sub ]", "/groups?include_inherited=true": "[sub direct top inherited]"} {
			if got := kinds(s.Call(token, "GET "+base+path, "").Doc()); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
			if got := kinds(s.Call(boss, "GET "+base+"/"+ann.ID+path, "").Doc()); got != want {
				t.Errorf("%s by id: %s, want %s", path, got, want)
			}
		}
		list := s.Call(boss, "GET "+base+"/?query=ann", "").Doc()
		if got := list.Get("users", "0", "group_ids").String(); got != `["`+sub.ID+`"]` || list.Get("total").String() != "1" {
			t.Errorf("list: %s", list)
		}
		if got := s.Call(boss, "GET "+base+"/"+ann.ID, "").Doc().Get("groups").String(); got != `[{"id":"`+sub.ID+`","name":"sub"}]` {
			t.Errorf("groups by id: %s", got)
		}
		preview := s.Call(boss, "GET "+base+"/"+ann.ID+"/preview", "").Doc()
		if preview.Get("groups").Len() != 2 || preview.Get("models").String() != `{"items":[],"total":0}` {
			t.Errorf("preview: %s", preview)
		}
	})
}

func TestLists(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, boss := s.User("Boss", "admin")
	for i := range 32 {
		s.User(fmt.Sprintf("U%02d", i), "user")
	}
	for query, want := range map[string]string{
		"?order_by=name&direction=asc":         "30 of 33 from Boss",
		"?order_by=name&direction=asc&page=0":  "30 of 33 from Boss",
		"?order_by=name&direction=asc&page=-3": "30 of 33 from Boss",
		"?order_by=name&direction=asc&page=2":  "3 of 33 from U29",
		"?page=99999999999999999999":           "0 of 33 from ",
		"?query=u_1&order_by=name":             "4 of 4 from U31",
	} {
		for _, path := range []string{"/", "/search"} {
			d := s.Call(boss, "GET "+base+path+query, "").Doc()
			if got := fmt.Sprintf("%d of %s from %s", d.Get("users").Len(), d.Get("total"), d.Get("users").Text("0", "name")); got != want {
				t.Errorf("%s%s: %s, want %s", path, query, got, want)
			}
		}
	}
	if d := s.Call(boss, "GET "+base+"/all", "").Doc(); d.Get("users").Len() != 33 || d.Get("users", "0").Get("settings") != nil {
		t.Errorf("all: %s", d)
	}
}

func TestPermissions(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, boss := s.User("Boss", "admin")
	_, ann := s.User("Ann", "user")
	s.Set("user.permissions", map[string]any{"chat": map[string]any{"delete": false, "own": true}, "workspace": "odd"})
	d := s.Call(boss, "GET "+base+"/default/permissions", "").Doc()
	if d.Get("chat", "delete").String() != "false" || d.Get("chat", "own") != nil || d.Get("chat", "edit").String() != "true" || d.Get("workspace", "tools").String() != "false" {
		t.Errorf("%s", d)
	}
	if got := s.Call(ann, "GET "+base+"/permissions", "").Doc().Get("chat", "own").String(); got != "true" {
		t.Errorf("a permission of their own: %s", got)
	}
	if got := s.Call(boss, "GET "+base+"/default/permissions/defaults", "").Doc().Get("chat", "delete").String(); got != "true" {
		t.Errorf("built-in: %s", got)
	}
	s.Set("user.permissions", map[string]any{"chat": map[string]any{"delete": "perhaps"}})
	expect(t, "what is no permission", s.Call(boss, "GET "+base+"/default/permissions", ""), 500, "")
}

func TestUsage(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	ann, token := s.User("Ann", "user")
	if _, err := s.DB.Exec(t.Context(), `INSERT INTO chat (id, user_id, title, chat, meta) VALUES ('c', $1, 't', '{}', '{}')`, ann.ID); err != nil {
		t.Fatal(err)
	}
	day := int64(1735725600)
	for i, m := range []struct {
		role string
		at   int64
	}{{"user", day}, {"assistant", day + 60}, {"user", day + 86400}} {
		if _, err := s.DB.Exec(t.Context(), `INSERT INTO chat_message (id, chat_id, user_id, role, model_id, usage, created_at) VALUES ($1, 'c', $2, $3, 'm', '{"input_tokens":3,"output_tokens":4}', $4)`,
			fmt.Sprint(i), ann.ID, m.role, m.at); err != nil {
			t.Fatal(err)
		}
	}
	d := s.Call(token, fmt.Sprintf("GET %s/usage?start_date=%d&end_date=%d", base, day-86400, day+86400), "").Doc()
	want := `{"lifetime_tokens":7,"input_tokens":3,"output_tokens":4,"peak_daily_tokens":14,"longest_chat_seconds":60,"current_streak":2,"longest_streak":2,` +
		`"total_chats":1,"active_days":2,"models_used":1,"messages":3,"user_messages":2,"assistant_messages":1}`
	if got := d.Get("totals").String(); got != want {
		t.Errorf("totals %s\nwant %s", got, want)
	}
	if got := d.Get("insights").String(); got != `{"most_used_model":"m","average_tokens_per_chat":7,"average_messages_per_active_day":1.5,"user_message_share":66.7,"assistant_message_share":33.3}` {
		t.Errorf("insights %s", got)
	}
	if got := d.Get("period").String(); got != fmt.Sprintf(`{"start_date":%d,"end_date":%d,"days":3}`, day-86400, day+86400) || d.Get("heatmap").Len() != 3 {
		t.Errorf("period %s, %s", got, d.Get("heatmap"))
	}
	if got := s.Call(token, "GET "+base+"/usage", "").Doc().Get("heatmap").Len(); got != 730 {
		t.Errorf("%d days by default", got)
	}
}
