package events

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

func TestPayload(t *testing.T) {
	ann := &users.User{ID: "u", Name: "Ann", Email: "ann@x.test", Role: "user", CreatedAt: 1, UpdatedAt: 2, Settings: jsondoc.Doc(`{"ui":{}}`)}
	const actor = `{"id":"u","name":"Ann","email":"ann@x.test","role":"user","created_at":1,"updated_at":2,"type":"user"}`
	long := strings.Repeat("ä", 1001)
	for _, tc := range []struct {
		name                         string
		event                        Event
		resource, operation          string
		source, actor, subject, data string
		message                      string
	}{
		{"nobody, nothing", Event{Name: "system.startup.started", Source: "system"}, "system.startup", "started", "system", "null", "null", "{}", "null"},
		{"a user", Event{Name: "user.created", Actor: ann, SubjectID: "x", Data: Pairs{"role", "admin", "n", 1}}, "user", "created", "api", actor,
			`{"type":"user","id":"x"}`, `{"role":"admin","n":1}`, "null"},
		{"a type without an id", Event{Name: "model.deleted", SubjectType: "model"}, "model", "deleted", "api", "null", `{"type":"model","id":null}`, "{}", "null"},
		{"another type", Event{Name: "auth.api_key.created", SubjectType: "user", SubjectID: "u", Message: "m"}, "auth.api_key", "created", "api", "null", `{"type":"user","id":"u"}`, "{}", `"m"`},
		{"secrets", Event{Name: "config.updated", Data: jsondoc.Doc(`{"a":{"Password":1,"x-api-key":2,"b":[{"token":3,"tokens":4}]},"api_key_suffix":5,"Signing_Key":6,"keys":7}`)},
			"config", "updated", "api", "null", "null", `{"a":{"b":[{"tokens":4}]},"api_key_suffix":5,"keys":7}`, "null"},
		{"long texts", Event{Name: "chat.finished", SubjectID: long, Data: Pairs{"message", long, "list", []string{long}, "short", long[:2000]}},
			"chat", "finished", "api", "null", `{"type":"chat","id":"` + long[:2000] + `..."}`,
			`{"message":"` + long[:2000] + `...","list":["` + long[:2000] + `..."],"short":"` + long[:2000] + `"}`, "null"},
	} {
		bus, got := NewBus("here"), []jsondoc.Doc{}
		for range 2 {
			bus.Subscribe(func(_ context.Context, e Event) { got = append(got, e.Payload()) })
		}
		bus.Publish(t.Context(), tc.event)
		if string(got[0]) != string(got[1]) {
			t.Errorf("%s: sinks are told of two events", tc.name)
		}
		d := got[0]
		for member, want := range map[string]string{"schema": `"` + config.Version + `"`, "event": `"` + tc.event.Name + `"`, "resource": `"` + tc.resource + `"`,
			"operation": `"` + tc.operation + `"`, "instance_id": `"here"`, "version": `"` + config.Version + `"`, "source": `"` + tc.source + `"`,
			"actor": tc.actor, "subject": tc.subject, "data": tc.data, "message": tc.message} {
			if v := d.Get(member).String(); v != want {
				t.Errorf("%s: %s is %s, want %s", tc.name, member, v, want)
			}
		}
		names := []string{}
		d.Each(func(name string, _ jsondoc.Doc) bool {
			names = append(names, name)
			return true
		})
		if s := strings.Join(names, " "); s != "schema id event resource operation created_at instance_id version source actor subject data message" {
			t.Errorf("%s: members %s", tc.name, s)
		}
	}
}

func TestPublish(t *testing.T) {
	var none *Bus
	none.Publish(t.Context(), Event{Name: "user.created"})
	b, told := NewBus(""), 0
	b.Subscribe(func(context.Context, Event) { panic("a broken sink") })
	b.Subscribe(func(context.Context, Event) { told++ })
	b.Publish(t.Context(), Event{Name: "user.created"})
	if told != 1 {
		t.Error("a sink that panics keeps others from being told")
	}
}

func TestCatalog(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names {
		d, ok := Define(name)
		if !ok || seen[name] || d.Event != name || d.Message == "" || d.Description == "" {
			t.Errorf("%s: %+v", name, d)
		}
		seen[name] = true
	}
	for _, name := range append(slices.Clone(Notifiable), "auth.login") {
		if !seen[name] {
			t.Errorf("%s is not in the catalogue", name)
		}
	}
	if d, _ := Define("auth.api_key.created"); d.Message != "Auth API key created" {
		t.Errorf("message %q", d.Message)
	}
}

func TestConcerned(t *testing.T) {
	for doc, want := range map[string]string{
		`{}`: "", `{"actor":{"id":"a"},"subject":{"type":"user","id":"b"},"data":{"user_id":"c","user_ids":["d","a",""]}}`: "a b c d",
		`{"actor":null,"subject":{"type":"chat","id":"b"},"data":{"user_ids":null}}`: "",
	} {
		if got := strings.Join(Concerned(jsondoc.Doc(doc)), " "); got != want {
			t.Errorf("%s: %q", doc, got)
		}
	}
}

func TestMatching(t *testing.T) {
	groups := func(_ context.Context, user string) ([]string, error) {
		switch user {
		case "member":
			return []string{"g", "above"}, nil
		case "broken":
			return nil, errors.New("no database")
		}
		return nil, nil
	}
	user, group := Target{"user", "u"}, Target{"group", "above"}
	for _, tc := range []struct {
		name    string
		targets *[]Target
		users   []string
		want    bool
		fails   bool
	}{
		{"all", nil, nil, true, false}, {"all of somebody", nil, []string{"x"}, true, false},
		{"none, nobody", &[]Target{}, nil, true, false}, {"none, somebody", &[]Target{}, []string{"x"}, false, false},
		{"the user", &[]Target{user}, []string{"x", "u"}, true, false}, {"another", &[]Target{user}, []string{"x"}, false, false},
		{"nobody", &[]Target{user}, nil, false, false}, {"a member", &[]Target{user, group}, []string{"member"}, true, false},
		{"no member", &[]Target{group}, []string{"u"}, false, false}, {"users are not asked for groups", &[]Target{user}, []string{"broken"}, false, false},
		{"unknown", &[]Target{group}, []string{"broken"}, false, true},
	} {
		got, err := (&Webhook{Targets: tc.targets}).Matches(t.Context(), tc.users, groups)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
	for _, tc := range []struct {
		enabled bool
		events  string
		want    bool
	}{{true, "*", true}, {true, "chat.*", true}, {true, "chat.shared", true}, {true, "chat.created", false}, {true, "user.* chat.shared", true}, {false, "*", false}, {true, "user.*", false}} {
		h := Webhook{Enabled: tc.enabled, Events: strings.Fields(tc.events)}
		if h.wants("chat.shared") != tc.want {
			t.Errorf("%+v", tc)
		}
	}
}

func settings(t *testing.T, db *store.DB, vars map[string]string) *config.Settings {
	t.Helper()
	env, err := config.ReadEnv(func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(t.Context(), db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWebhooksAreStored(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		w := NewWebhooks(settings(t, db, map[string]string{"WEBHOOK_URL": "https://old.test/h"}))
		for range 2 { // the second time there is nothing to do
			if err := w.Migrate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		list := w.List()
		if len(list) != 1 || list[0].ID != "default" || list[0].Name != "Default webhook" || list[0].URL != "https://old.test/h" || !list[0].Enabled || !slices.Equal(list[0].Events, []string{"*"}) {
			t.Fatalf("migrated: %+v", list)
		}
		h, err := w.Put(ctx, Webhook{URL: "https://new.test", Enabled: true, Events: []string{"chat.*"}})
		if err != nil {
			t.Fatal(err)
		}
		again := NewWebhooks(settings(t, db, nil)) // as another process reads it
		if got := again.Wanting("chat.shared"); len(got) != 2 || got[1].ID != h.ID {
			t.Errorf("wanting: %+v", got)
		}
		if _, err := w.Edit(ctx, h.ID, func(h *Webhook) error {
			h.Events = []string{"nope"}
			return nil
		}); err == nil || err.Error() != "Invalid event: nope" {
			t.Errorf("an unknown event: %v", err)
		}
		if got := w.List()[1]; !slices.Equal(got.Events, []string{"chat.*"}) {
			t.Errorf("a refused change was made: %+v", got)
		}
		if err := w.Delete(ctx, "default"); err != nil {
			t.Fatal(err)
		}
		if err := w.Migrate(ctx); err != nil || len(w.List()) != 1 {
			t.Errorf("what was deleted came back: %v, %+v", err, w.List())
		}
		if err := w.Delete(ctx, "default"); !errors.Is(err, ErrNoWebhook) {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

func TestMalformedWebhooksAreLeftOut(t *testing.T) {
	s := settings(t, storetest.SQLite(t), nil)
	err := s.Import(t.Context(), map[string]jsontext.Value{"events.webhooks": jsontext.Value(`[1,{"id":"a","url":"u","events":["nope"]},{"id":"b","url":" v ","enabled":0,"targets":[{"type":"user","id":"u"}]}]`)})
	if err != nil {
		t.Fatal(err)
	}
	list := NewWebhooks(s).List()
	if len(list) != 1 || list[0].ID != "b" || list[0].URL != "v" || list[0].Enabled || len(*list[0].Targets) != 1 || list[0].CreatedAt == 0 {
		t.Errorf("%+v", list)
	}
}
