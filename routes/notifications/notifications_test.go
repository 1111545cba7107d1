package notifications

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/notifications"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/webhook"
)

const base = "/api/v1/notifications"

func newServer(t *testing.T, db *store.DB) *sessiontest.Server {
	s := sessiontest.New(t, db)
	sender := webhook.New(webhook.Options{HTTP: outbound.Guard{}.Client(nil, false)})
	t.Cleanup(sender.Close)
	n := notifications.New(notifications.Options{Users: s.Users, Settings: s.Settings, Sender: sender, Name: "Galley", Log: s.Log})
	s.Router.Mount(base, New(Deps{Notifications: n, Access: s.Access, Settings: s.Settings}))
	s.Router.Finish()
	return s
}

func TestNotifications(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		ann, token := s.User("Ann", "user")
		_, boss := s.User("Boss", "admin")
		is := func(name string, a *sessiontest.Answer, status int, detail string) {
			t.Helper()
			if a.Code != status || detail != "" && a.Detail() != detail {
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
		}
		is("off", s.Call(boss, "GET "+base+"/targets", ""), 404, "")
		is("a form is looked at first", s.Call(token, "POST "+base+"/targets", `{"config":"x"}`), 422, "")
		s.Set("ui.enable_user_webhooks", true)
		for _, call := range []string{"GET /events", "GET /targets", "POST /targets", "PUT /targets/x", "DELETE /targets/x", "PUT /targets/x/default", "POST /targets/x/test"} {
			method, path, _ := strings.Cut(call, " ")
			is(call, s.Call(token, method+" "+base+path, "{}"), 403, "")
			is(call, s.Call("", method+" "+base+path, "{}"), 401, "")
		}
		g, err := s.Access.Groups().Insert(t.Context(), groups.NewGroup{Name: "hooks", Permissions: jsondoc.Doc(`{"features":{"webhooks":true}}`)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Access.Groups().AddMembers(t.Context(), g.ID, []string{ann.ID}); err != nil {
			t.Fatal(err)
		}
		if d := s.Call(token, "GET "+base+"/events", "").Doc(); d.Get("events").Len() != 5 || d.Text("events", "0", "label") != "Chat finished" {
			t.Errorf("events: %s", d)
		}
		is("private", s.Call(token, "POST "+base+"/targets", `{"config":{"url":"http://127.0.0.1/x"}}`), 400, outbound.TextInvalid)
		a := s.Call(token, "POST "+base+"/targets", `{"config":{"url":"https://1.1.1.1/abcdef"},"events":["chat.finished"],"unknown":1}`)
		if d := a.Doc(); a.Code != 200 || d.Text("id") != "1-1-1-1" || d.Text("config", "url_masked") != "https://1.1.1.1/...cdef" || d.Get("unknown") != nil {
			t.Fatalf("created: %d %s", a.Code, d)
		}
		if d := s.Call(token, "PUT "+base+"/targets/1-1-1-1", `{"enabled":false}`).Doc(); d.Bool("enabled") || d.Get("events").String() != `["chat.finished"]` {
			t.Errorf("what is not sent stays: %s", d)
		}
		if d := s.Call(token, "PUT "+base+"/targets/1-1-1-1", `{"events":null,"id":null}`).Doc(); d.Get("events").String() != `[]` || d.Text("id") != "1-1-1-1" {
			t.Errorf("null: %s", d)
		}
		is("default", s.Call(token, "PUT "+base+"/targets/1-1-1-1/default", ""), 200, "")
		is("update of none", s.Call(token, "PUT "+base+"/targets/x", "{}"), 400, "Notification target not found")
		is("default of none", s.Call(token, "PUT "+base+"/targets/x/default", ""), 400, "Notification target not found")
		is("test of none", s.Call(token, "POST "+base+"/targets/x/test", ""), 400, "Notification target not found")
		is("delete", s.Call(token, "DELETE "+base+"/targets/1-1-1-1", ""), 200, "")
		is("delete of none", s.Call(token, "DELETE "+base+"/targets/1-1-1-1", ""), 404, "")
		if got := s.Call(token, "GET "+base+"/targets", "").Body.String(); got != `{"targets":[]}` {
			t.Errorf("list: %s", got)
		}
	})
}
