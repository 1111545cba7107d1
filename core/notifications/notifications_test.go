package notifications

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/webhook"
)

type world struct {
	*Notifications
	t    *testing.T
	db   *store.DB
	bus  *events.Bus
	user *users.User
	url  string // of a receiver
	mu   sync.Mutex
	got  []string // "/path body"
}

func newWorld(t *testing.T, db *store.DB) *world {
	t.Helper()
	env, err := config.ReadEnv(func(name string) (string, bool) { return "true", name == "ENABLE_USER_WEBHOOKS" })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(t.Context(), db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, bus: events.NewBus("i")}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	guard, log := outbound.Guard{Local: true}, slog.New(slog.DiscardHandler)
	sender := webhook.New(webhook.Options{Guard: guard, HTTP: guard.Client(nil, false), Log: log})
	t.Cleanup(sender.Close)
	us := users.New(db)
	w.Notifications = New(Options{Users: us, Settings: settings, Guard: guard, Sender: sender, Name: "Galley", Log: log})
	w.bus.Subscribe(w.Handle)
	if w.user, err = us.Insert(t.Context(), users.NewUser{Email: "a@x.test", Name: "A", Role: "user"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, r.URL.Path+" "+string(body))
	if r.URL.Path == "/broken" {
		rw.WriteHeader(http.StatusForbidden)
	}
}

// received waits for n messages and gives all.
func (w *world) received(n int) []string {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got := append([]string(nil), w.got...)
		w.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			w.t.Fatalf("received %q", got)
		}
	}
}

func (w *world) create(form string) jsondoc.Doc {
	w.t.Helper()
	d, err := w.Create(w.t.Context(), w.user.ID, jsondoc.Doc(strings.ReplaceAll(form, "URL", w.url)))
	if err != nil {
		w.t.Fatalf("%s: %v", form, err)
	}
	return d
}

// stored is what the user's settings hold of notifications.
func (w *world) stored() jsondoc.Doc {
	w.t.Helper()
	u, err := w.o.Users.ByID(w.t.Context(), w.user.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return u.Settings.Get(section)
}

func (w *world) settings(doc string) {
	w.t.Helper()
	if _, err := w.o.Users.Update(w.t.Context(), w.user.ID, users.SetSettings(jsondoc.Doc(doc))); err != nil {
		w.t.Fatal(err)
	}
}

func without(d jsondoc.Doc) string { return d.Delete("created_at").Delete("updated_at").String() }

func TestTargets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db), t.Context()
		w.settings(`{"ui":{"theme":"dark"},"other":1}`)
		if got := without(w.create(`{"config":{"url":" URL/hooks/abcdef ","own":1}}`)); got !=
			`{"id":"127-0-0-1","type":"webhook","enabled":true,"events":[],"delivery":"away","config":{"own":1,"url_masked":"http://127.0.0.1/...cdef"},"is_default":true}` {
			t.Errorf("the first: %s", got)
		}
		if got := w.create(`{"config":{"url":"URL/x"},"enabled":null,"events":null}`); got.Text("id") != "127-0-0-1-2" || got.Bool("enabled") || got.Bool("is_default") {
			t.Errorf("the second: %s", got)
		}
		if got := w.create(`{"id":" My Phone! ","config":{"url":"URL/x"},"events":["chat.failed","chat.failed"],"delivery":"always"}`); got.Text("id") != "my-phone" ||
			got.Get("events").String() != `["chat.failed"]` {
			t.Errorf("the third: %s", got)
		}
		for form, want := range map[string]string{
			`{}`: "Webhook URL is required", `{"config":{"url":"  "}}`: "Webhook URL is required", `{"type":"email"}`: "Unsupported notification target type",
			`{"config":{"url":"ftp://x"}}`: outbound.TextInvalid, `{"config":{"url":"http://x/..."}}`: outbound.TextInvalid,
			`{"config":{"url":"URL"},"events":["user.created"]}`: "unsupported notification event: user.created",
			`{"config":{"url":"URL"},"delivery":"never"}`:        "Invalid notification delivery mode",
			`{"config":{"url":"URL"},"id":"MY-phone"}`:           "notification target id already exists",
		} {
			if _, err := w.Create(ctx, w.user.ID, jsondoc.Doc(strings.ReplaceAll(form, "URL", w.url))); err == nil || err.Error() != want {
				t.Errorf("%s: %v", form, err)
			}
		}
		got, err := w.Update(ctx, w.user.ID, "My-Phone", jsondoc.Doc(`{"config":{"url":"http://127.0.0.1/.../x"},"enabled":false}`))
		if err != nil || got.Bool("enabled") || got.Text("delivery") != "always" || w.stored().Text("targets", "2", "config", "url") != w.url+"/x" {
			t.Errorf("a masked address: %s, %v; %s", got, err, w.stored())
		}
		if _, err := w.Update(ctx, w.user.ID, "my-phone", jsondoc.Doc(`{"id":"127-0-0-1"}`)); err == nil || err.Error() != string(errTaken) {
			t.Errorf("a taken id: %v", err)
		}
		if got, err := w.SetDefault(ctx, w.user.ID, "MY-phone"); err != nil || !got.Bool("is_default") {
			t.Errorf("default: %s, %v", got, err)
		}
		if got, err := w.Update(ctx, w.user.ID, "my-phone", jsondoc.Doc(`{"id":"tablet"}`)); err != nil || got.Text("id") != "tablet" || !got.Bool("is_default") {
			t.Errorf("renamed: %s, %v", got, err)
		}
		if err := w.Delete(ctx, w.user.ID, "Tablet"); err != nil || w.stored().Text("default_target_id") != "127-0-0-1" {
			t.Errorf("deleted: %v, %s", err, w.stored())
		}
		for name, err := range map[string]error{
			"delete": w.Delete(ctx, w.user.ID, "tablet"), "test": w.Test(ctx, w.user.ID, "tablet"),
			"update": second(w.Update(ctx, w.user.ID, "tablet", jsondoc.Doc("{}"))), "default": second(w.SetDefault(ctx, w.user.ID, "tablet")),
		} {
			if err == nil || err.Error() != string(ErrNoTarget) {
				t.Errorf("%s of none: %v", name, err)
			}
		}
		if list, err := w.List(ctx, w.user.ID); err != nil || len(list) != 2 || !list[0].Bool("is_default") || strings.Contains(list[0].String(), "abcdef") {
			t.Errorf("list: %s, %v", list, err)
		}
		u, _ := w.o.Users.ByID(ctx, w.user.ID)
		if u.Settings.Text("ui", "theme") != "dark" || u.Settings.Get("other").String() != "1" {
			t.Errorf("other settings: %s", u.Settings)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestOlderSettings(t *testing.T) {
	w, ctx := newWorld(t, storetest.SQLite(t)), t.Context()
	all := `["calendar.alert","channel.message","chat.failed","chat.finished","retrieval.content.process_failed"]`
	for _, tc := range []struct{ name, settings, targets, events string }{
		{"none", `{"ui":{}}`, "0", "null"},
		{"an address of old", `{"ui":{"notifications":{"webhook_url":"http://127.0.0.1/a"}}}`, "1", all},
		{"one that is not called", `{"ui":{"notifications":{"webhook_url":"ftp://x"}}}`, "0", "null"},
		{"brought over with two events", `{"ui":{"notifications":{"webhook_url":"http://127.0.0.1/a"}},"notifications":{"targets":[{"id":"webhook","events":["chat.finished","chat.failed"],"config":{"url":"http://127.0.0.1/a"}}]}}`, "1", all},
		{"changed since", `{"ui":{"notifications":{"webhook_url":"http://127.0.0.1/a"}},"notifications":{"targets":[{"id":"webhook","events":["chat.finished"],"config":{"url":"http://127.0.0.1/a"}}]}}`, "1", `["chat.finished"]`},
		{"two events on purpose", `{"ui":{"notifications":{"webhook_url":"http://127.0.0.1/a"}},"notifications":{"legacy_notification_events_migrated":true,"targets":[5,{"id":"webhook","events":["chat.finished","chat.failed"],"config":{"url":"http://127.0.0.1/a"}}]}}`, "1", `["chat.finished","chat.failed"]`},
	} {
		w.settings(tc.settings)
		for range 2 { // what was brought over is stored
			list, err := w.List(ctx, w.user.ID)
			d := jsondoc.Array(list...)
			if err != nil || jsondoc.Of(len(list)).String() != tc.targets || d.Get("0", "events").String() != tc.events || len(list) > 0 && !d.Bool("0", "is_default") {
				t.Errorf("%s: %s, %v", tc.name, d, err)
			}
		}
	}
}

func TestTest(t *testing.T) {
	w, ctx := newWorld(t, storetest.SQLite(t)), t.Context()
	w.create(`{"id":"a","config":{"url":"URL/a"},"enabled":false}`)
	w.create(`{"id":"b","config":{"url":"URL/broken"}}`)
	if err := w.Test(ctx, w.user.ID, "A"); err != nil {
		t.Error(err)
	}
	if err := w.Test(ctx, w.user.ID, "b"); err == nil || err.Error() != "Webhook delivery failed" {
		t.Errorf("a refusal: %v", err)
	}
	if got := w.received(2); got[0] != `/a {"action":"test","user_id":"`+w.user.ID+`"}` {
		t.Errorf("received %q", got)
	}
}

func TestNotifying(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	every := string(jsondoc.Of(events.Notifiable))
	w.create(`{"id":"away","config":{"url":"URL/away"},"events":` + every + `}`)
	w.create(`{"id":"always","config":{"url":"URL/always"},"events":["chat.finished"],"delivery":"always"}`)
	w.create(`{"id":"off","config":{"url":"URL/off"},"events":` + every + `,"enabled":false,"delivery":"always"}`)
	finished := events.Event{Name: "chat.finished", Actor: w.user, SubjectID: "c", Message: "T", Data: events.Pairs{"user_id", w.user.ID, "title", "T", "url", "/c/c", "message", "Hi"}}
	w.bus.Publish(t.Context(), finished) // the user has just been made, and counts as active
	w.bus.Publish(t.Context(), events.Event{Name: "chat.created", Actor: w.user, SubjectID: "c"})
	const told = ` {"action":"chat","message":"Hi","title":"T","url":"/c/c"}`
	if got := w.received(1); got[0] != "/always"+told {
		t.Errorf("while there: %q", got)
	}
	w.bus.Publish(t.Context(), events.Event{Name: "channel.message", SubjectID: "m", Data: events.Pairs{"user_ids", []string{w.user.ID, "gone"}, "title", "general", "content", "Hello", "url", "/channels/x"}})
	if got := w.received(2); got[1] != `/away {"action":"channel","message":"Hello","title":"general","url":"/channels/x"}` {
		t.Errorf("of a channel: %q", got)
	}
	if _, err := w.db.Exec(t.Context(), `UPDATE "user" SET last_active_at = 1`); err != nil {
		t.Fatal(err)
	}
	w.bus.Publish(t.Context(), finished)
	got := strings.Join(w.received(4)[2:], "\n")
	if !strings.Contains(got, "/away"+told) || !strings.Contains(got, "/always"+told) {
		t.Errorf("while away: %s", got)
	}
	if err := w.o.Settings.Set(t.Context(), config.Changes{config.UIEnableUserWebhooks.Key(): false}); err != nil {
		t.Fatal(err)
	}
	w.bus.Publish(t.Context(), finished)
	if err := w.o.Sender.Drain(t.Context()); err != nil || len(w.received(4)) != 4 {
		t.Errorf("though it is off: %q, %v", w.received(4), err)
	}
}

func TestContent(t *testing.T) {
	for _, tc := range []struct {
		event events.Event
		text  string
		about string
		sent  string // "": the event itself
	}{
		{events.Event{Name: "chat.finished", SubjectID: "c", Message: "M"}, "**M**", "", `{"action":"chat","message":"","title":"M","url":""}`},
		{events.Event{Name: "chat.failed", Message: "Chat failed", Data: events.Pairs{"message", "No", "url", "u"}}, "**Chat failed**", "No\nu", `{"action":"chat_failed","message":"No","title":"Chat failed","url":"u"}`},
		{events.Event{Name: "channel.message", Data: events.Pairs{"message", "Hi"}}, "**#Channel**", "Hi", `{"action":"channel","message":"Hi","title":"Channel","url":""}`},
		{events.Event{Name: "calendar.alert", SubjectID: "e", Data: events.Pairs{"title", "Tea", "starts_in", "in 5 minutes", "minutes_until", 5}}, "**Tea**\nstarting in 5 minutes", "",
			`{"action":"calendar_alert","title":"Tea","minutes_until":5,"event_id":"e"}`},
		{events.Event{Name: "retrieval.content.process_failed", SubjectID: "f", Data: events.Pairs{"message", "a.txt: empty"}}, "Retrieval Content process failed", "a.txt: empty", ""},
	} {
		payload := tc.event.Payload()
		m := content(tc.event, payload)
		if tc.sent == "" {
			tc.sent = string(payload)
		}
		if m.Text != tc.text || m.Description != tc.about || string(m.Payload) != tc.sent {
			t.Errorf("%s: %q %q %s", tc.event.Name, m.Text, m.Description, m.Payload)
		}
	}
}
