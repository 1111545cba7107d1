package app

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
)

func TestConfig(t *testing.T) {
	s := newServer(t)
	if got := s.Call("", "GET /api/config", "").Doc(); !got.Bool("onboarding") || got.Get("features", "enable_folders") != nil {
		t.Errorf("without accounts: %s", got)
	}
	s.people()
	_, patKey := s.User("Pat", users.RolePending)
	_, oddKey := s.User("Odd", "guest")
	for name, tc := range map[string]struct {
		key                       string
		features, overlay, models bool
	}{
		"stranger": {}, "junk": {key: "junk"}, "api key": {key: "sk-123"}, "pending": {key: patKey, features: true, overlay: true}, "odd role": {key: oddKey, features: true},
		"user": {key: s.userKey, features: true, overlay: true, models: true}, "admin": {key: s.adminKey, features: true, overlay: true, models: true},
	} {
		a := s.Call(tc.key, "GET /api/config", "")
		d := a.Doc()
		if a.Code != 200 || d.Text("version") != config.Version || d.Get("onboarding") != nil ||
			(d.Get("features", "enable_folders") != nil) != tc.features || (d.Get("ui", "pending_user_overlay_title") != nil) != tc.overlay ||
			(d.Get("default_models") != nil) != tc.models || (d.Get("permissions") != nil) != tc.models {
			t.Errorf("%s: %d %s", name, a.Code, d)
		}
	}
	d := s.Call(s.userKey, "GET /api/config", "").Doc()
	if !d.Bool("features", "enable_folders") || d.Bool("features", "enable_notes") || string(d.Get("features", "enable_notes")) != "false" {
		t.Errorf("features %s", d.Get("features"))
	}
	s.Set("folders.enable", false, "ui.default_models", "good", "ui.enable_signup", true)
	d = s.Call(s.userKey, "GET /api/config", "").Doc()
	if d.Bool("features", "enable_folders") || d.Text("default_models") != "good" || !s.Call("", "GET /api/config", "").Doc().Bool("features", "enable_signup") {
		t.Errorf("after a change: %s", d)
	}
	// by cookie too
	if c := s.Call("", "GET /api/config", "", "Cookie", "token="+s.userKey).Doc(); c.Get("permissions") == nil {
		t.Errorf("by cookie: %s", c)
	}
}

// TestConfigKeys holds the settings that are named here against those that exist.
func TestConfigKeys(t *testing.T) {
	for _, f := range featureSettings {
		if _, ok := config.Lookup(f[1]); f[1] != "" && !ok {
			t.Errorf("no setting %s", f[1])
		}
	}
	s := newServer(t).people()
	var walk func(path string, d jsondoc.Doc)
	known := []string{"default_models", "default_pinned_models", "default_prompt_suggestions", "license_metadata", "ui.visibility",
		"file.max_size", "file.max_count", "file.image_compression.width", "file.image_compression.height"}
	walk = func(path string, d jsondoc.Doc) {
		if d.Kind() == 'n' && !slices.Contains(known, path) {
			t.Errorf("%s is null", path)
		}
		d.Each(func(name string, v jsondoc.Doc) bool {
			walk(strings.TrimPrefix(path+"."+name, "."), v)
			return true
		})
	}
	walk("", s.Call(s.adminKey, "GET /api/config", "").Doc())
}

func TestGroupDefaultModels(t *testing.T) {
	s := newServer(t).people()
	ctx := context.Background()
	store := s.Access.Groups()
	add := func(name string, parent *string, models string) *groups.Group {
		t.Helper()
		g, err := store.Insert(ctx, groups.NewGroup{UserID: s.admin.ID, Name: name, ParentID: parent, Data: jsondoc.Doc(`{"config":{"default_models":` + models + `}}`)})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	ask := func(key string) string {
		return s.Call(key, "GET /api/config", "").Doc().Get("default_models").String()
	}
	if got := ask(s.adminKey); got != "null" {
		t.Errorf("without groups %s", got)
	}
	top := add("top", nil, `["good"]`)
	below := add("below", &top.ID, `["slow","gone","llama:1b"]`)
	if _, _, err := store.AddMembers(ctx, below.ID, []string{s.admin.ID, s.user.ID}); err != nil {
		t.Fatal(err)
	}
	if got := ask(s.adminKey); got != `"slow,llama:1b"` {
		t.Errorf("member of the lower group: %s", got)
	}
	if got := ask(s.otherKey); got != "null" {
		t.Errorf("not a member: %s", got)
	}
	if got := ask(s.userKey); got != "null" { // sees none of them
		t.Errorf("without access: %s", got)
	}
}

func TestInfo(t *testing.T) {
	s := newServer(t, "DEPLOYMENT_ID", "d1", "WEBUI_URL", "https://x.test/?a&b", "WEBUI_NAME", "A<B").people()
	want(t, s.Call("", "GET /api/version", ""), 200, `{"version":"`+config.Version+`","deployment_id":"d1"}`)
	want(t, s.Call(s.userKey, "GET /api/version/updates", ""), 200, `{"current":"`+config.Version+`","latest":"`+config.Version+`"}`)
	want(t, s.Call("", "GET /api/version/updates", ""), 401, "")
	if d := s.Call("", "GET /api/changelog", "").Doc(); d.Get(config.Version, "date") == nil || d.Text(config.Version, "added", "0", "title") == "" {
		t.Errorf("changelog %s", d)
	}
	if d := s.Call(s.userKey, "GET /api/usage", "").Doc(); d.Text("model_ids", "0") != "good" || d.Get("user_count") == nil {
		t.Errorf("usage %s", d)
	}
	if d := s.Call("", "GET /manifest.json", "").Doc(); d.Text("name") != s.Env.Name || d.Text("share_target", "params", "text") != "shared" {
		t.Errorf("manifest %s", d)
	}
	a := s.Call("", "GET /opensearch.xml", "")
	if text := a.Body.String(); a.Header().Get("Content-Type") != "application/xml" || !strings.Contains(text, "<ShortName>A&lt;B") || !strings.Contains(text, "https://x.test/?a&amp;b/static") {
		t.Errorf("opensearch %s", text)
	}
}

func TestUsageOfAdmins(t *testing.T) {
	s := newServer(t, "ENABLE_PUBLIC_ACTIVE_USERS_COUNT", "false").people()
	want(t, s.Call(s.userKey, "GET /api/usage", ""), 403, `{"detail":"Access denied. Only administrators can view usage statistics."}`)
	want(t, s.Call(s.adminKey, "GET /api/usage", ""), 200, "")
}

func TestParseChangelog(t *testing.T) {
	text := "# Changes\n"
	for _, v := range []string{"6", "5", "4", "3", "2", "1"} {
		text += "\n## [0." + v + "] - 2026-01-0" + v + "\n\n### Fixed\n\n- no title\n- A <b>: c: d\n"
	}
	got := parseChangelog(text)
	if got.Len() != 5 || got.Get("0.1") != nil {
		t.Errorf("versions %s", got)
	}
	if v := got.Get("0.6").String(); v != `{"date":"2026-01-06","fixed":[{"title":"","content":"no title","raw":"<li>no title</li>"},{"title":"A <b>","content":"c: d","raw":"<li>A &lt;b&gt;: c: d</li>"}]}` {
		t.Errorf("version %s", v)
	}
}

func TestCache(t *testing.T) {
	s := newServer(t).people()
	dir := filepath.Join(s.Env.DataDir, "cache")
	for name, text := range map[string]string{"cache/image/a.png": "PNG", "cache/x.html": "<script>", "cache/d.svg": "<svg/>", "secret.txt": "no", "cache_backup/x.png": "no"} {
		file := filepath.Join(s.Env.DataDir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(s.Env.DataDir, "secret.txt"), filepath.Join(dir, "out.png")); err != nil {
		t.Fatal(err)
	}
	a := s.Call(s.userKey, "GET /cache/image/a.png", "")
	if a.Body.String() != "PNG" || a.Header().Get("Content-Type") != "image/png" || a.Header().Get("Content-Disposition") != "" || a.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("image: %d %s %v", a.Code, a.Body, a.Header())
	}
	if a := s.Call(s.userKey, "GET /cache/x.html", ""); a.Body.String() != "<script>" || a.Header().Get("Content-Disposition") != `attachment; filename="x.html"` || strings.Contains(a.Header().Get("Content-Type"), "html") {
		t.Errorf("page: %v", a.Header())
	}
	if a := s.Call(s.userKey, "GET /cache/d.svg", ""); a.Header().Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("drawing: %v", a.Header())
	}
	for _, path := range []string{"none.png", "image", "out.png", "..%2Fsecret.txt", "..%2fcache_backup%2fx.png", "%2Fetc%2Fpasswd"} {
		if a := s.Call(s.userKey, "GET /cache/"+path, ""); a.Code == http.StatusOK {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	want(t, s.Call(s.userKey, "GET /cache/none.png", ""), 404, `{"detail":"File not found"}`)
	want(t, s.Call("", "GET /cache/image/a.png", ""), 401, "")
}

func TestEventCatalog(t *testing.T) {
	s := newServer(t).people()
	d := s.Call(s.adminKey, "GET /api/events", "").Doc()
	if d.Text("schema") != config.Version || d.Get("events").Len() != len(events.Names) || d.Text("events", "0", "event") != "system.startup.started" {
		t.Errorf("catalog %s", d)
	}
	want(t, s.Call(s.userKey, "GET /api/events", ""), 401, "")
}

func TestWebhooks(t *testing.T) {
	s := newServer(t).people()
	const path = "/api/events/webhooks"
	post := func(body string) (int, jsondoc.Doc) {
		a := s.Call(s.adminKey, "POST "+path, body)
		return a.Code, a.Doc()
	}
	for body, detail := range map[string]string{
		`{"url":"http://127.0.0.1/x"}`:                                               outbound.TextInvalid,
		`{"url":"ftp://8.8.8.8"}`:                                                    outbound.TextInvalid,
		`{"url":"https://8.8.8.8/","events":["nope"]}`:                               "Invalid event: nope",
		`{"url":"https://8.8.8.8/","events":["nope.*"]}`:                             "Invalid event pattern: nope.*",
		`{"url":"https://8.8.8.8/","targets":[{"type":"user"}]}`:                     "Invalid target",
		`{"url":"https://8.8.8.8/","targets":[{"type":"thing","id":"x"}]}`:           "Invalid target",
		`{"url":"https://8.8.8.8/","events":["user.created"],"targets":[{"a":"b"}]}`: "Invalid target",
	} {
		if code, d := post(body); code != 400 || d.Text("detail") != detail {
			t.Errorf("%s: %d %s", body, code, d)
		}
	}
	code, d := post(`{"url":" https://8.8.8.8/h ","events":[" chat.* ",""],"targets":[{"type":"user","id":"u"},{"type":"user","id":"u"}]}`)
	id := d.Text("id")
	if code != 200 || d.Text("name") != "Webhook" || d.Text("url") != "https://8.8.8.8/h" || !d.Bool("enabled") || d.Get("events").String() != `["chat.*"]` || d.Get("targets").Len() != 1 {
		t.Fatalf("created: %d %s", code, d)
	}
	if list := s.Call(s.adminKey, "GET "+path, "").Doc(); list.Len() != 1 || list.Text("0", "id") != id {
		t.Errorf("list %s", list)
	}
	d = s.Call(s.adminKey, "PUT "+path+"/"+id, `{"name":"N","events":null,"targets":null,"enabled":false}`).Doc()
	if d.Text("name") != "N" || d.Text("url") != "https://8.8.8.8/h" || d.Bool("enabled") || d.Get("events").String() != `["*"]` || d.Get("targets").String() != "null" {
		t.Errorf("changed %s", d)
	}
	want(t, s.Call(s.adminKey, "PUT "+path+"/none", `{}`), 404, `{"detail":"Webhook not found"}`)
	want(t, s.Call(s.userKey, "GET "+path, ""), 401, "")
	want(t, s.Call(s.adminKey, "DELETE "+path+"/"+id, ""), 200, `{"status":true}`)
	want(t, s.Call(s.adminKey, "DELETE "+path+"/"+id, ""), 404, "")
	want(t, s.Call(s.adminKey, "GET "+path, ""), 200, `[]`)
}
