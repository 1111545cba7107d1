package models_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	storemodels "github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

var ctx = context.Background()

// provider serves models by name and counts how often it is asked.
type provider struct {
	names atomic.Pointer[[]string]
	asked atomic.Int64
}

func (p *provider) ID() string { return "test" }

func (p *provider) Models(context.Context, *llm.Caller) ([]llm.Model, error) {
	p.asked.Add(1)
	var out []llm.Model
	for _, n := range *p.names.Load() {
		owner := "openai"
		if strings.Contains(n, ":") {
			owner = "ollama"
		}
		e := jsontext.Value(fmt.Sprintf(`{"id":%q,"name":%q,"object":"model","owned_by":%q,"connection_type":"external"}`, n, n, owner))
		out = append(out, llm.Model{ID: n, Name: n, Upstream: n, OwnedBy: owner, Entry: e, Native: e})
	}
	return out, nil
}

func (p *provider) Chat(context.Context, *llm.Request) (*llm.Response, error) {
	return nil, llm.ErrBadRequest
}

type groups map[string][]string

func (g groups) GroupIDs(_ context.Context, id string) ([]string, error) { return g[id], nil }

type world struct {
	t        testing.TB
	db       *store.DB
	settings *config.Settings
	provider *provider
	registry *llm.Registry
	catalog  *models.Catalog
	made     int // rows
}

func newWorld(t testing.TB, db *store.DB, env ...string) *world {
	t.Helper()
	vars := map[string]string{"DATA_DIR": t.TempDir()}
	for i := 0; i < len(env); i += 2 {
		vars[env[i]] = env[i+1]
	}
	e, err := config.ReadEnv(func(name string) (string, bool) { v, ok := vars[name]; return v, ok })
	if err == nil {
		err = e.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(ctx, db, e, config.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{}
	p.names.Store(&[]string{"alpha", "beta", "gamma:1b"})
	reg := llm.New(llm.Options{})
	if err := reg.Register(p); err != nil {
		t.Fatal(err)
	}
	c := models.New(models.Options{Registry: reg, Rows: storemodels.New(db), Settings: settings, Env: e, Groups: groups{"bob": {"team"}}})
	return &world{t: t, db: db, settings: settings, provider: p, registry: reg, catalog: c}
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(ctx, text, args...); err != nil {
		w.t.Fatal(err)
	}
}

// row inserts a model; base "" is NULL.
func (w *world) row(id, base, owner, meta, params string) {
	w.t.Helper()
	var b any
	if base != "" {
		b = base
	}
	w.exec("INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at) VALUES ($1,$2,$3,$4,$5,$6,$7,1700000000,$8)",
		id, owner, b, "Name of "+id, params, meta, true, 1700000000+w.made)
	w.made++
	w.catalog.Changed()
}

func (w *world) grant(id, kind, principal string) {
	w.t.Helper()
	w.exec("INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1,'model',$2,$3,$4,'read',1700000000)",
		store.NewID(), id, kind, principal)
	w.catalog.Changed()
}

func person(id, role string) *auth.Principal {
	return &auth.Principal{User: &users.User{ID: id, Role: role, Name: id}}
}

func (w *world) list(p *auth.Principal) jsondoc.Doc {
	w.t.Helper()
	d, err := w.catalog.ListJSON(ctx, p, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Get("data")
}

func ids(list jsondoc.Doc) string {
	var out []string
	list.Items(func(_ int, m jsondoc.Doc) bool { out = append(out, m.Text("id")); return true })
	return strings.Join(out, " ")
}

func entry(list jsondoc.Doc, id string) (e jsondoc.Doc) {
	list.Items(func(_ int, m jsondoc.Doc) bool {
		if m.Text("id") == id {
			e = m
		}
		return e == nil
	})
	return e
}

func TestListOfUsers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.row("own", "alpha", "alice", `{}`, `{}`)
		w.row("team", "beta", "boss", `{}`, `{}`)
		w.row("open", "alpha", "boss", `{}`, `{}`)
		w.row("alpha", "", "boss", `{}`, `{}`)
		w.row("gone", "alpha", "boss", `{}`, `{}`)
		w.exec("UPDATE model SET is_active = $1 WHERE id = 'gone'", false)
		w.grant("team", "group", "team")
		w.grant("open", "user", "*")
		for _, c := range []struct{ who, role, want string }{
			{"root", "admin", "alpha beta gamma:1b own team open"},
			{"alice", "user", "own open"},
			{"bob", "user", "team open"},
			{"boss", "user", "alpha team open"},
		} {
			if got := ids(w.list(person(c.who, c.role))); got != c.want {
				t.Errorf("%s sees %q, want %q", c.who, got, c.want)
			}
		}
	})
}

func TestEntries(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.row("soup", "gamma", "boss", `{"profile_image_url":"/user.png","tags":["food",{"name":" food "},{"name":"warm"}],"knowledge":[{"id":"k","data":{"content":"long","x":1}}]}`,
		`{"system":"Speak {{chat.variables.tone | select:options=[\"a\",\"b\"]:required}}","temperature":1}`)
	w.row("beta", "", "boss", `{"capabilities":{"vision":false}}`, `{"system":"secret"}`)
	if err := w.settings.Set(ctx, config.Changes{"models.default_metadata": map[string]any{"capabilities": map[string]any{"vision": true, "usage": true}, "hidden": true},
		"models.default_params": map[string]any{"compact_token_threshold": 5}, "ui.model_order_list": []string{"soup"}}); err != nil {
		t.Fatal(err)
	}
	list := w.list(person("root", "admin"))
	if got := ids(list); got != "soup beta alpha gamma:1b" { // the others by name: "Name of beta" is first
		t.Errorf("order %q", got)
	}
	soup, beta, alpha := entry(list, "soup"), entry(list, "beta"), entry(list, "alpha")
	for _, c := range []struct {
		got  jsondoc.Doc
		want string
	}{
		{soup.Get("tags"), `[{"name":"food"},{"name":"warm"}]`},
		{soup.Get("owned_by"), `"ollama"`},
		{soup.Get("preset"), `true`},
		{soup.Get("info", "params"), `{"compact_token_threshold":5}`},
		{soup.Get("info", "meta", "profile_image_url"), ""},
		{soup.Get("info", "meta", "knowledge"), `[{"id":"k","data":{"x":1}}]`},
		{soup.Get("info", "meta", "chat_variables_schema"), `{"fields":[{"key":"tone","options":["a","b"],"type":"select","required":true}]}`},
		{soup.Get("info", "meta", "hidden"), `true`},
		{beta.Get("name"), `"Name of beta"`},
		{beta.Get("info", "meta", "capabilities"), `{"usage":true,"vision":false}`},
		{alpha.Get("info"), `{"meta":{"capabilities":{"usage":true,"vision":true},"hidden":true},"params":{"compact_token_threshold":5}}`},
		{alpha.Get("actions"), `[]`},
		{alpha.Get("filters"), `[]`},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	m, ok := w.catalog.Find(ctx, nil, "soup")
	if !ok || m.Params().Text("system") == "" || m.Base == nil || m.Base.ID != "gamma:1b" || m.Meta().Text("profile_image_url") != "/user.png" {
		t.Errorf("found %+v", m)
	}
	target, err := w.catalog.Target(ctx, nil, m)
	if err != nil || target.Upstream != "gamma:1b" {
		t.Errorf("target %+v, %v", target, err)
	}
}

func TestAccess(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), "BYPASS_ADMIN_ACCESS_CONTROL", "false")
	w.row("shared", "alpha", "boss", `{}`, `{}`)
	w.row("second", "shared", "boss", `{}`, `{}`)
	w.grant("shared", "user", "*")
	find := func(id string) *models.Model {
		t.Helper()
		m, ok := w.catalog.Find(ctx, nil, id)
		if !ok {
			t.Fatalf("%s is not listed", id)
		}
		return m
	}
	check := func(who *auth.Principal, id string, want bool) {
		t.Helper()
		if err := w.catalog.Access(ctx, who, find(id)); (err == nil) != want {
			t.Errorf("%s with %s: %v", who.ID, id, err)
		}
	}
	check(person("alice", "user"), "shared", false) // the base has no row
	check(person("root", "admin"), "shared", true)
	check(person("root", "admin"), "alpha", false)
	w.row("alpha", "", "boss", `{}`, `{}`)
	check(person("alice", "user"), "shared", false)
	w.grant("alpha", "user", "alice")
	check(person("alice", "user"), "shared", true)
	check(person("alice", "user"), "alpha", true)
	check(person("alice", "user"), "second", false)
	check(person("boss", "user"), "second", true)
	if m := find("second"); m.Base != nil {
		t.Error("a preset of a preset has no base")
	}
}

func TestArenas(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	if err := w.settings.Set(ctx, config.Changes{"evaluation.arena.enable": true}); err != nil {
		t.Fatal(err)
	}
	if got := ids(w.list(person("root", "admin"))); got != "alpha beta gamma:1b arena-model" {
		t.Errorf("default arena: %q", got)
	}
	if err := w.settings.Set(ctx, config.Changes{"evaluation.arena.models": jsontext.Value(
		`[{"id":"duel","name":"Duel","meta":{"model_ids":["beta"],"filter_mode":"exclude","access_grants":[{"principal_type":"group","principal_id":"team","permission":"read"}]}}]`)}); err != nil {
		t.Fatal(err)
	}
	if got := ids(w.list(person("bob", "user"))); got != "duel" {
		t.Errorf("bob sees %q", got)
	}
	if got := ids(w.list(person("alice", "user"))); got != "" {
		t.Errorf("alice sees %q", got)
	}
	m, _ := w.catalog.Find(ctx, nil, "duel")
	if m == nil || m.Arena == nil || !m.Arena.Exclude || len(m.Arena.ModelIDs) != 1 {
		t.Fatalf("duel is %+v", m)
	}
	if err := w.catalog.Access(ctx, person("alice", "user"), m); err == nil {
		t.Error("alice may use the duel")
	}
}

// TestFreshness holds the list against changes of rows here and elsewhere, and of the providers' lists.
func TestFreshness(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		root := person("root", "admin")
		w.list(root)
		w.list(root)
		if n := w.provider.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		// another replica's change comes without a call of Changed
		w.exec("INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at) VALUES ('late','x','alpha','Late','{}','{}',$1,$2,$2)", true, time.Now().Unix())
		eventually(t, func() bool { return strings.HasSuffix(ids(w.list(root)), " late") })
		w.provider.names.Store(&[]string{"delta"})
		eventually(t, func() bool { return ids(w.list(root)) == "delta late" })
		w.provider.names.Store(&[]string{"omega"})
		d, err := w.catalog.ListJSON(ctx, root, true)
		if got := ids(d.Get("data")); err != nil || got != "omega late" {
			t.Errorf("refreshed: %q, %v", got, err)
		}
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func BenchmarkListJSON(b *testing.B) {
	w := newWorld(b, storetest.SQLite(b))
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("model-%d", i)
	}
	w.provider.names.Store(&names)
	for i := range 100 {
		w.row(fmt.Sprintf("preset-%d", i), "model-1", "boss", `{"description":"a model"}`, `{"system":"x"}`)
		w.grant(fmt.Sprintf("preset-%d", i), "user", "*")
	}
	for _, role := range []string{"admin", "user"} {
		b.Run(role, func(b *testing.B) {
			p := person("alice", role)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.catalog.ListJSON(ctx, p, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
