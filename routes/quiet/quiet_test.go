package quiet

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	"github.com/go-json-experiment/json/jsontext"
)

// door lets in the role that the header Role names.
type door struct{}

func (door) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	u := &users.User{ID: "u", Role: r.Header.Get("Role")}
	if level == auth.Verified && !u.IsVerified() || level == auth.Admin && !u.IsAdmin() {
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	return &auth.Principal{User: u}, nil
}

func newServer(t *testing.T, built ...string) (*web.Router, *config.Settings) {
	t.Helper()
	env, err := config.ReadEnv(func(name string) (string, bool) {
		v, ok := map[string]string{"RAG_EMBEDDING_ENGINE": "openai", "ENABLE_EVALUATION_ARENA_MODELS": "false",
			"ENABLE_NOTES": "false", "ENABLE_MEMORIES": "false", "ENABLE_CALENDAR": "false", "ENABLE_AUTOMATIONS": "false"}[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	db := storetest.SQLite(t)
	settings, err := config.Load(context.Background(), db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	router := web.New(web.Options{Auth: door{}, Logger: slog.New(slog.DiscardHandler), Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	})})
	router.Mount("/api/v1", New(Deps{Access: access.New(db, settings), Settings: settings, Built: built}))
	router.Finish()
	return router, settings
}

func get(h http.Handler, role, path string) (int, jsondoc.Doc) {
	r := httptest.NewRequest("GET", "/api/v1"+path, nil)
	r.Header.Set("Role", role)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code, rec.Body.Bytes()
}

//go:embed testdata/reference.json
var reference []byte

// honest are the answers that differ from the reference's: it names models of an engine that is off.
var honest = map[string]jsondoc.Doc{"/images/models": jsondoc.Doc("[]")}

// TestAsTheReference compares with what the reference answered to a user and to an administrator while the features were
// off and its database was empty (testdata/record.py).
func TestAsTheReference(t *testing.T) {
	h, _ := newServer(t)
	var want map[string]map[string]struct {
		Status int         `json:"status"`
		Body   jsondoc.Doc `json:"body"`
	}
	if err := jsondoc.Doc(reference).Decode(&want); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, spec := range h.Specs() {
		path := strings.TrimPrefix(spec, "GET /api/v1")
		roles, ok := want[path]
		if !ok {
			t.Errorf("%s is not recorded", path)
			continue
		}
		for role, w := range roles {
			if own, ok := honest[path]; ok {
				w.Body = own
			}
			status, body := get(h, role, strings.NewReplacer("{", "", "}", "").Replace(path))
			if status != w.Status || !reflect.DeepEqual(short(value(t, body)), value(t, w.Body)) {
				t.Errorf("%s as %s: %d %s\nwant %d %s", path, role, status, body, w.Status, w.Body)
			}
			asked++
		}
	}
	if asked < 2*len(table) {
		t.Errorf("only %d requests", asked)
	}
}

func value(t *testing.T, d jsondoc.Doc) (v any) {
	t.Helper()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", d, err)
	}
	return v
}

// short is record.py's.
func short(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, w := range v {
			v[k] = short(w)
		}
	case string:
		if utf8.RuneCountInString(v) > 150 {
			return "…"
		}
	}
	return v
}

func TestFormsFollowTheSettings(t *testing.T) {
	h, settings := newServer(t)
	if err := settings.Import(context.Background(), map[string]jsontext.Value{"web.search.searxng_query_url": jsontext.Value(`"http://s"`), "audio.stt.engine": jsontext.Value(`"openai"`)}); err != nil {
		t.Fatal(err)
	}
	if _, d := get(h, "admin", "/retrieval/config"); d.Text("web", "SEARXNG_QUERY_URL") != "http://s" {
		t.Errorf("retrieval: %s", d)
	}
	if _, d := get(h, "admin", "/audio/config"); d.Text("stt", "ENGINE") != "openai" {
		t.Errorf("audio: %s", d)
	}
	known := map[string]bool{}
	for _, d := range config.Definitions() {
		known[d.Key] = true
	}
	var check func(m *member)
	check = func(m *member) {
		if m.setting != "" && !known[m.setting] {
			t.Errorf("no setting %s", m.setting)
		}
		for _, c := range m.members {
			check(c)
		}
	}
	for _, f := range forms {
		check(f.root)
	}
}

func TestBuiltTagsAreLeftOut(t *testing.T) {
	h, _ := newServer(t, "functions", "images")
	for _, path := range []string{"/functions/", "/images/config", "/images/models"} {
		if status, _ := get(h, "admin", path); status != http.StatusTeapot {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get(h, "user", "/skills/"); status != 200 {
		t.Errorf("skills: %d", status)
	}
	for _, flag := range []string{"enable_web_search", "enable_image_generation"} {
		if slices.Contains(Off("retrieval", "images"), flag) || !slices.Contains(Off(), flag) {
			t.Errorf("%s: %v", flag, Off("functions", "images"))
		}
	}
}

func TestBuiltPathsAreLeftOut(t *testing.T) {
	h, _ := newServer(t, "/skills/")
	for path, want := range map[string]int{"/skills/": http.StatusTeapot, "/skills/list": 200, "/skills/id/x": 404, "/functions/": 200} {
		if status, _ := get(h, "user", path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func TestFeaturesThatAreOnAreEmpty(t *testing.T) {
	h, settings := newServer(t)
	permissions := jsondoc.Doc(`{"features":{"calendar":false},"workspace":{"skills_export":true}}`)
	if err := settings.Set(context.Background(), config.Changes{"notes.enable": true, "automations.enable": true, "calendar.enable": true,
		"user.permissions": permissions}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		role, path string
		status     int
		body       string
	}{
		{"user", "/notes/pinned", 200, "[]"}, {"user", "/notes/search", 200, `{"items":[],"total":0}`}, {"user", "/notes/x", 404, ""},
		{"admin", "/automations/list", 200, `{"items":[],"total":0}`}, {"user", "/automations/list", 403, ""}, {"user", "/calendars/", 403, ""},
		{"admin", "/calendars/", 200, "[]"}, {"user", "/skills/export", 200, "[]"},
	} {
		status, body := get(h, c.role, c.path)
		if status != c.status || c.body != "" && string(body) != c.body {
			t.Errorf("%s %s: %d %s", c.role, c.path, status, body)
		}
	}
}
