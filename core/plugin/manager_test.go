package plugin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
)

// bench is a manager with what it works with.
type bench struct {
	*Manager
	dir    string
	router *web.Router
	url    string
	llm    *llm.Registry
}

// signedIn lets everybody be one user who sent a token, and nobody without.
type signedIn struct{}

func (signedIn) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	token := r.Header.Get("Authorization")
	if level == auth.Public || level == auth.Optional && token == "" {
		return nil, nil
	}
	if token == "" {
		return nil, web.Fail(http.StatusUnauthorized, "Not authenticated")
	}
	role := "user"
	if token == "Bearer admin" {
		role = "admin"
	}
	return &auth.Principal{User: &users.User{ID: "u1", Name: "Jörg", Email: "j@example.test", Role: role}}, nil
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	b.router = web.New(web.Options{Auth: signedIn{}})
	b.router.Finish()
	b.llm = llm.New(llm.Options{})
	o.Dir, o.DataDir, o.Router, o.LLM = b.dir, t.TempDir(), b.router, b.llm
	if o.DB == nil {
		o.DB = sqlite(t)
	}
	if o.Poll == 0 {
		o.Poll = 20 * time.Millisecond
	}
	b.Manager = New(o)
	server := httptest.NewServer(b.router)
	b.url = server.URL
	t.Cleanup(server.Close)
	return b
}

func sqlite(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), "sqlite:///"+filepath.Join(t.TempDir(), "test.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// put writes the manifest of a test plugin.
func (b *bench) put(t testing.TB, m Manifest, kind string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if m.Command == "" {
		m.Command = exe
	}
	if m.Environment == nil {
		m.Environment = map[string]string{}
	}
	m.Environment["TEST_PLUGIN"] = kind
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(b.dir, m.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) start(t testing.TB) {
	t.Helper()
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	b.Settle(ctx)
}

// TestPlugin calls everything that one plugin has.
func TestPlugin(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	req, err := http.NewRequest(http.MethodGet, b.url+"/api/v1/plugins/basic/whoami?q=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": "Bearer x", "Cookie": "token=secret; theme=dark", sdk.CallerHeader: `{"id":"somebody else"}`} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var seen struct {
		Caller                              sdk.Caller
		Authorization, Cookie, Prefix, Path string
	}
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	if seen.Caller.ID != "u1" || seen.Caller.Name != "Jörg" || seen.Authorization != "" || seen.Cookie != "theme=dark" || seen.Prefix != "/api/v1/plugins/basic" || seen.Path != "/whoami" {
		t.Errorf("%+v", seen)
	}
	var ids []string
	for _, m := range b.llm.Models(context.Background(), nil) {
		ids = append(ids, m.ID)
	}
	if !slices.Equal(ids, []string{"parrot", "flood"}) {
		t.Errorf("models %q", ids)
	}
	sets := b.Toolsets()
	if len(sets) != 1 || sets[0].ID != "plugin:basic" || len(sets[0].Tools) != 1 || sets[0].Tools[0].Name != "add" {
		t.Fatalf("%+v", sets)
	}
	got, err := sets[0].Tools[0].Call(context.Background(), ToolCall{Arguments: []byte(`{"a":1,"b":2}`)})
	if err != nil || got.Failed || string(got.Content) != `{"sum":3}` {
		t.Errorf("%s %v", got.Content, err)
	}
}
