package config_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

// environment is an Env of name, value pairs.
func environment(t testing.TB, pairs ...string) *config.Env {
	t.Helper()
	vars := map[string]string{"DATA_DIR": t.TempDir()}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	env, err := config.ReadEnv(func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	})
	if err == nil {
		err = env.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func load(t testing.TB, db *store.DB, o config.Options, pairs ...string) *config.Settings {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := config.Load(ctx, db, environment(t, pairs...), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// row is a value as any other program reads it; "" where there is no row.
func row(t testing.TB, db *store.DB, key string) string {
	t.Helper()
	var text string
	err := db.QueryRow(ctx, "SELECT CAST(value AS TEXT) FROM config WHERE key = $1", key).Scan(&text)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return text
}

func write(t testing.TB, db *store.DB, key, value string, at int64) {
	t.Helper()
	_, err := db.Exec(ctx, "INSERT INTO config (key, value, updated_at) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at", key, value, at)
	if err != nil {
		t.Fatal(err)
	}
}

func TestSeed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		now := time.Unix(1_700_000_000, 0)
		s := load(t, db, config.Options{Now: func() time.Time { return now }}, "DEFAULT_USER_ROLE", "user")
		var n, oauth, latest int64
		err := db.QueryRow(ctx, "SELECT COUNT(*), COALESCE(SUM(CASE WHEN key LIKE 'oauth.%' THEN 1 ELSE 0 END), 0), MAX(updated_at) FROM config").Scan(&n, &oauth, &latest)
		if err != nil || oauth != 0 || latest != now.Unix() {
			t.Fatalf("%d rows, %d of oauth, at %d (%v)", n, oauth, latest, err)
		}
		want := int64(0)
		for _, d := range config.Definitions() {
			if !d.Unseeded && d.Key[:5] != "oauth" {
				want++
			}
		}
		if n != want {
			t.Errorf("%d rows, want %d", n, want)
		}
		if got := row(t, db, "ui.default_user_role"); got != `"user"` {
			t.Errorf("role %s", got)
		}
		if got := s.Snapshot(); string(got.Export()) != string(s.Initial().Export()) {
			// SQLite keeps 0.0 as 0, which is the same number.
			var a, b any
			if err := errors.Join(json.Unmarshal(got.Export(), &a), json.Unmarshal(s.Initial().Export(), &b)); err != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("the rows are not what the environment gave (%v)", err)
			}
		}
	})
}

func TestPrecedence(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		load(t, db, config.Options{}, "WEBUI_URL", "http://first")
		again := load(t, db, config.Options{}, "WEBUI_URL", "http://second", "OAUTH_PROVIDER_NAME", "Second")
		if got := config.WebUIURL.Get(again.Snapshot()); got != "http://first" {
			t.Errorf("the row does not override the variable: %q", got)
		}
		if got := config.OAuthProviderName.Get(again.Snapshot()); got != "Second" {
			t.Errorf("oauth: %q", got)
		}
		off := load(t, db, config.Options{}, "WEBUI_URL", "http://third", "ENABLE_PERSISTENT_CONFIG", "false")
		if got := config.WebUIURL.Get(off.Snapshot()); got != "http://third" {
			t.Errorf("without persistence: %q", got)
		}
		if err := off.Set(ctx, config.Changes{"webui.url": "http://fourth"}); err != nil {
			t.Fatal(err)
		}
		if got := config.WebUIURL.Get(off.Snapshot()); got != "http://fourth" || row(t, db, "webui.url") != `"http://first"` {
			t.Errorf("a change without persistence: %q in memory, %s stored", got, row(t, db, "webui.url"))
		}
		reset := load(t, db, config.Options{}, "WEBUI_URL", "http://fifth", "RESET_CONFIG_ON_START", "true")
		if got := config.WebUIURL.Get(reset.Snapshot()); got != "http://fifth" || row(t, db, "webui.url") != `"http://fifth"` {
			t.Errorf("after a reset: %q, %s", got, row(t, db, "webui.url"))
		}
	})
}

func TestOAuthPersistence(t *testing.T) {
	db := storetest.SQLite(t)
	s := load(t, db, config.Options{})
	if err := s.Set(ctx, config.Changes{"oauth.provider_name": "Here", "ui.watermark": "w"}); err != nil {
		t.Fatal(err)
	}
	if got := config.OAuthProviderName.Get(s.Snapshot()); got != "Here" || row(t, db, "oauth.provider_name") != "" || row(t, db, "ui.watermark") != `"w"` {
		t.Errorf("%q, row %q", got, row(t, db, "oauth.provider_name"))
	}
	if err := s.Reload(ctx); err != nil || config.OAuthProviderName.Get(s.Snapshot()) != "Here" {
		t.Errorf("a reload loses what is not stored (%v)", err)
	}
	kept := load(t, db, config.Options{}, "ENABLE_OAUTH_PERSISTENT_CONFIG", "true", "OAUTH_PROVIDER_NAME", "Env")
	if got := row(t, db, "oauth.provider_name"); got != `"Env"` {
		t.Errorf("seeded %s", got)
	}
	if err := kept.Set(ctx, config.Changes{"oauth.provider_name": "There"}); err != nil || row(t, db, "oauth.provider_name") != `"There"` {
		t.Errorf("%s (%v)", row(t, db, "oauth.provider_name"), err)
	}
}

func TestRoundTrip(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{})
		err := s.Set(ctx, config.Changes{
			"ui.enable_signup": false, "rag.top_k": 7, "rag.relevance_threshold": 0.25, "rag.hybrid_bm25_weight": 1,
			"ui.watermark": "42 <ü>", "openai.api_keys": []string{"a", ""}, "rag.file.max_size": 12, "rag.mineru_api_timeout": "0.5",
			"ui.default_models": nil, "openai.api_configs": map[string]any{"0": map[string]any{"enable": true}},
			"ui.banners": jsontext.Value(`[ ]`), "oauth.group_default_share": "members",
		})
		if err != nil {
			t.Fatal(err)
		}
		// What was set and what another start reads are the same, but for what is not stored.
		for _, snap := range []*config.Snapshot{s.Snapshot(), load(t, db, config.Options{}, "OAUTH_GROUP_DEFAULT_SHARE", "members").Snapshot()} {
			var configs map[string]struct {
				Enable bool `json:"enable"`
			}
			size, sized := config.RAGFileMaxSize.Int(snap)
			timeout, timed := config.RAGMinerUAPITimeout.Get(snap)
			_, capped := config.ChatContextCompactionTokenCap.Get(snap)
			if config.UIEnableSignup.Get(snap) || config.RAGTopK.Get(snap) != 7 || config.RAGRelevanceThreshold.Get(snap) != 0.25 ||
				config.RAGHybridBM25Weight.Get(snap) != 1 || config.UIWatermark.Get(snap) != "42 <ü>" ||
				!slices.Equal(config.OpenAIAPIKeys.Get(snap), []string{"a", ""}) || size != 12 || !sized || timeout != 0.5 || !timed || capped ||
				config.UIDefaultModels.Get(snap) != "" || string(config.UIDefaultModels.Raw(snap)) != "null" ||
				config.OpenAIAPIConfigs.Decode(snap, &configs) != nil || !configs["0"].Enable ||
				string(config.UIBanners.Raw(snap)) != "[]" || string(config.OAuthGroupDefaultShare.Raw(snap)) != `"members"` {
				t.Errorf("%s", snap.Export())
			}
			if snap.Bool("ui.enable_signup") || snap.Int("rag.top_k") != 7 || snap.Float("rag.relevance_threshold") != 0.25 ||
				snap.String("ui.watermark") != "42 <ü>" || len(snap.Strings("openai.api_keys")) != 2 || snap.String("nope") != "" {
				t.Error("access by dotted key differs")
			}
		}
	})
}

func TestSetRefuses(t *testing.T) {
	db := storetest.SQLite(t)
	s := load(t, db, config.Options{})
	tests := []struct {
		key   string
		value any
	}{
		{"ui.enable_signup", "true"}, {"rag.top_k", 1.5}, {"rag.top_k", "3"}, {"ui.watermark", 3}, {"openai.api_keys", "a"},
		{"openai.api_keys", []any{"a", 1}}, {"openai.api_keys", []any{nil}}, {"ui.banners", map[string]any{}},
		{"openai.api_configs", []any{}}, {"rag.file.max_size", true}, {"ui.banners", jsontext.Value(`[`)},
	}
	for _, tt := range tests {
		err := s.Set(ctx, config.Changes{tt.key: tt.value, "ui.default_locale": "xx"})
		var bad *config.TypeError
		if !errors.As(err, &bad) || bad.Key != tt.key {
			t.Errorf("%s = %v: %v", tt.key, tt.value, err)
		}
	}
	var unknown *config.UnknownError
	if err := s.Set(ctx, config.Changes{"ui.nope": 1}); !errors.As(err, &unknown) {
		t.Errorf("an unknown key: %v", err)
	}
	if got := config.UIDefaultLocale.Get(s.Snapshot()); got != "" || row(t, db, "ui.default_locale") != `""` {
		t.Errorf("a refused change was made: %q", got)
	}
}

func TestImportExport(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{}, "RAG_TOP_K", "4")
		err := s.Import(ctx, map[string]jsontext.Value{
			"ui.watermark": jsontext.Value(`"imported"`), "my.own": jsontext.Value(`{"a": [1, 2]}`),
			"rag.top_k": jsontext.Value(`"nine"`), "ui.enable_signup": jsontext.Value(`0`), "openai.api_keys": jsontext.Value(`null`),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range []*config.Snapshot{s.Snapshot(), load(t, db, config.Options{}, "RAG_TOP_K", "4").Snapshot()} {
			var all map[string]jsontext.Value
			if err := json.Unmarshal(snap.Export(), &all); err != nil {
				t.Fatal(err)
			}
			if string(all["my.own"]) != `{"a":[1,2]}` || string(all["rag.top_k"]) != `"nine"` || string(all["ui.watermark"]) != `"imported"` {
				t.Errorf("exported %s, %s, %s", all["my.own"], all["rag.top_k"], all["ui.watermark"])
			}
			if _, ok := all["events.webhooks"]; ok || len(all) != 432 {
				t.Errorf("%d keys exported", len(all))
			}
			if config.RAGTopK.Get(snap) != 4 || config.UIEnableSignup.Get(snap) || config.OpenAIAPIKeys.Get(snap) != nil {
				t.Error("a value that does not fit does not read as the initial one")
			}
		}
		var ldap map[string]jsontext.Value
		if err := json.Unmarshal(s.Snapshot().Namespace("ldap"), &ldap); err != nil || len(ldap) != 18 {
			t.Errorf("%d keys of ldap (%v)", len(ldap), err)
		}
		if got := s.Snapshot().Namespace("no_such_part"); string(got) != "{}" {
			t.Errorf("%s", got)
		}
		if err := s.Set(ctx, config.Changes{"events.webhooks": []any{}}); err != nil {
			t.Fatal(err)
		}
		if got := s.Snapshot().Namespace("events"); string(got) != `{"events.webhooks":[]}` {
			t.Errorf("%s", got)
		}
	})
}

func TestTransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{})
		stop := errors.New("stop")
		set := func(text string, end error) error {
			return db.Tx(ctx, func(tx *store.Tx) error {
				if err := s.SetTx(ctx, tx, config.Changes{"ui.watermark": text, "oauth.audience": text}); err != nil {
					return err
				}
				return end
			})
		}
		if err := set("no", stop); !errors.Is(err, stop) || s.Snapshot().String("ui.watermark") != "" || s.Snapshot().String("oauth.audience") != "" {
			t.Errorf("rolled back, but %q (%v)", s.Snapshot().String("ui.watermark"), err)
		}
		if err := set("yes", nil); err != nil || s.Snapshot().String("ui.watermark") != "yes" || s.Snapshot().String("oauth.audience") != "yes" {
			t.Errorf("committed, but %q (%v)", s.Snapshot().String("ui.watermark"), err)
		}
	})
}

func TestOnChange(t *testing.T) {
	db := storetest.SQLite(t)
	var notified [][]string
	s := load(t, db, config.Options{Notify: func(_ context.Context, keys []string) { notified = append(notified, keys) }})
	var got []string
	cancel := s.OnChange(func(changed []string, snap *config.Snapshot) {
		got = append(got, fmt.Sprint(changed, snap.String("ui.watermark")))
		if snap.String("ui.watermark") == "one" {
			if err := s.Set(ctx, config.Changes{"ui.watermark": "two"}); err != nil {
				t.Error(err)
			}
		}
	})
	set := func(c config.Changes) {
		t.Helper()
		if err := s.Set(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	set(config.Changes{"ui.watermark": "one", "rag.top_k": 9, "ui.default_locale": ""})
	set(config.Changes{"ui.watermark": "two"})
	cancel()
	set(config.Changes{"ui.watermark": "three"})
	if want := []string{"[rag.top_k ui.watermark]one", "[ui.watermark]two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(notified) != 4 || !slices.Contains(notified[0], "rag.top_k") && !slices.Contains(notified[1], "rag.top_k") {
		t.Errorf("replicas were told of %q", notified)
	}
}

// sink keeps results, so that the compiler keeps the reads.
var sink struct {
	b    bool
	n    int
	f    float64
	s    string
	list []string
	raw  jsontext.Value
}

func TestGettersDoNotAllocate(t *testing.T) {
	s := load(t, storetest.SQLite(t), config.Options{})
	n := testing.AllocsPerRun(100, func() {
		snap := s.Snapshot()
		sink.b = config.UIEnableSignup.Get(snap)
		sink.n = config.RAGTopK.Get(snap)
		sink.f = config.RAGRelevanceThreshold.Get(snap)
		sink.s = config.UIDefaultUserRole.Get(snap)
		sink.list = config.OpenAIAPIKeys.Get(snap)
		sink.raw = config.UserPermissions.Raw(snap)
		sink.n, sink.b = config.RAGFileMaxSize.Int(snap)
		sink.s = snap.String("ui.default_user_role")
		sink.b = snap.Bool("ui.enable_signup")
		sink.raw = snap.Raw("ui.banners")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRepair starts on rows that older versions left behind.
func TestRepair(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for key, value := range map[string]string{
			"rag.web.search.engine":                             `"searxng"`,
			"rag.web.loader.engine":                             `"old"`,
			"web.loader.engine":                                 `"new"`,
			"openai.api_configs.0.enable":                       `false`,
			"OPENAI_API_CONFIGS.https://a.b/v1.headers.X-A":     `"1"`,
			"openai.api_configs":                                `{"1":{"enable":true}}`,
			"user.permissions.chat.delete":                      `false`,
			"ui.default_models":                                 `["a"," b ",""]`,
			"ui.default_pinned_models":                          `"c"`,
			"openai.api_configs.no-member-of-connection-at-all": `1`,
			"evaluation.arena.models":                           `[{"id":"a","meta":{"description":"d","access_control":{"read":{"group_ids":["g"],"user_ids":["u"]},"write":{"user_ids":["w"]}}}},{"id":"b"}]`,
			"tool_server.connections":                           `[{"url":"x","config":{"access_control":null,"enable":true}},{"config":{"access_control":{},"access_grants":[]}}]`,
		} {
			write(t, db, key, value, 1)
		}
		snap := load(t, db, config.Options{}).Snapshot()
		for key, want := range map[string]string{
			"web.search.engine":                                 `"searxng"`,
			"web.loader.engine":                                 `"new"`,
			"rag.web.search.engine":                             ``,
			"rag.web.loader.engine":                             ``,
			"openai.api_configs":                                `{"0":{"enable":false},"1":{"enable":true},"https://a.b/v1":{"headers":{"X-A":"1"}}}`,
			"openai.api_configs.0.enable":                       ``,
			"user.permissions":                                  `{"chat":{"delete":false}}`,
			"user.permissions.chat.delete":                      ``,
			"ui.default_models":                                 `"a,b"`,
			"ui.default_pinned_models":                          `"c"`,
			"openai.api_configs.no-member-of-connection-at-all": `1`,
			"evaluation.arena.models": `[{"id":"a","meta":{"description":"d","access_grants":[{"principal_type":"group","principal_id":"g","permission":"read"},` +
				`{"principal_type":"user","principal_id":"u","permission":"read"},{"principal_type":"user","principal_id":"w","permission":"write"}]}},{"id":"b"}]`,
			"tool_server.connections": `[{"url":"x","config":{"enable":true,"access_grants":[]}},{"config":{"access_control":{},"access_grants":[]}}]`,
		} {
			if got := snap.Raw(key); string(got) != want {
				t.Errorf("%s: %s, want %s", key, got, want)
			}
			if got := row(t, db, key); (got == "") != (want == "") {
				t.Errorf("%s: row %s, want %s", key, got, want)
			}
		}
	})
}

func TestReset(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := load(t, db, config.Options{})
		if err := s.Import(ctx, map[string]jsontext.Value{"ui.watermark": jsontext.Value(`"x"`), "my.own": jsontext.Value(`1`)}); err != nil {
			t.Fatal(err)
		}
		if err := s.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		if snap := s.Snapshot(); snap.String("ui.watermark") != "" || snap.Raw("my.own") != nil || row(t, db, "ui.watermark") != `""` {
			t.Errorf("after a reset: %s, %s", snap.Raw("ui.watermark"), snap.Raw("my.own"))
		}
	})
}

func TestLoadBadVariable(t *testing.T) {
	db := storetest.SQLite(t)
	_, err := config.Load(ctx, db, environment(t, "CHUNK_SIZE", "large"), config.Options{})
	var bad *config.VarError
	if !errors.As(err, &bad) || bad.Name != "CHUNK_SIZE" || bad.Value != "large" {
		t.Errorf("%v", err)
	}
	if row(t, db, "rag.chunk_size") != "" {
		t.Error("rows were written all the same")
	}
}

// TestImportFile: a file config.json of the data folder is stored and put aside, as the reference does.
func TestImportFile(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		dir := t.TempDir()
		file := filepath.Join(dir, "config.json")
		put := func(text string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put(`{"ui.watermark": "x", "my.own": {"a": 1}, "oauth.client_id": "y"}`)
		s := load(t, db, config.Options{}, "DATA_DIR", dir)
		if snap := s.Snapshot(); snap.String("ui.watermark") != "x" || string(snap.Raw("my.own")) != `{"a":1}` || row(t, db, "oauth.client_id") != "" {
			t.Errorf("%s, %s", snap.Raw("ui.watermark"), snap.Raw("my.own"))
		}
		if _, err := os.Stat(filepath.Join(dir, "old_config.json")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		put(`{"ui.watermark": `)
		if _, err := config.Load(ctx, db, environment(t, "DATA_DIR", dir), config.Options{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "config.json") {
			t.Error(err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	})
}
