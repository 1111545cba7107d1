package plugintest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

// everything is a plugin whose Start hands out the host as a plugin sees it.
func everything(t *testing.T, options ...plugintest.Option) (*plugintest.Harness, *sdk.Host, context.Context) {
	t.Helper()
	var host *sdk.Host
	h := plugintest.Start(t, sdk.Plugin{ID: "all", Version: "1", Wants: []string{"kv", "users", "models", "files", "events"}, Start: func(ctx context.Context) error {
		host = sdk.HostFrom(ctx)
		return nil
	}}, options...)
	return h, host, t.Context()
}

func TestKV(t *testing.T) {
	h, host, ctx := everything(t, plugintest.KVQuota(2<<20))
	kv := host.KV
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := kv.Get(ctx, "a")
	if !errors.Is(err, sdk.ErrNotFound) {
		t.Error(err)
	}
	must(kv.Put(ctx, "a", []byte("1"), 0))
	a, err := kv.Get(ctx, "a")
	if err != nil || string(a.Value) != "1" || !a.Expires.IsZero() || a.Key != "a" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := kv.CompareAndSet(ctx, "a", nil, 0, 0); !errors.Is(err, sdk.ErrConflict) {
		t.Error(err)
	}
	v, err := kv.CompareAndSet(ctx, "a", []byte("2"), a.Version, time.Hour)
	if err != nil || v <= a.Version {
		t.Errorf("%d, %v", v, err)
	}
	if _, err := kv.CompareAndSet(ctx, "a", []byte("3"), a.Version, 0); !errors.Is(err, sdk.ErrConflict) {
		t.Error(err)
	}
	if n, expires, err := kv.Add(ctx, "n", 5, time.Microsecond); err != nil || n != 5 || expires.IsZero() { // the least is a millisecond, not for ever
		t.Errorf("%d %v %v", n, expires, err)
	}
	h.Advance(time.Second)
	n, expires, err := kv.Add(ctx, "n", 2, time.Minute)
	if err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if n, again, err := kv.Add(ctx, "n", -3, time.Hour); err != nil || n != -1 || !again.Equal(expires) {
		t.Errorf("%d %v %v", n, again, err)
	}
	must(kv.Put(ctx, "text", []byte("x"), 0))
	if _, _, err := kv.Add(ctx, "text", 1, 0); err == nil {
		t.Error("a text was counted up")
	}
	for _, key := range []string{"", strings.Repeat("x", 513), "\xff"} {
		if kv.Put(ctx, key, nil, 0) == nil {
			t.Errorf("key %.5q was taken", key)
		}
	}
	if kv.Put(ctx, "big", make([]byte, 1<<20+1), 0) == nil {
		t.Error("a value of more than a MiB was taken")
	}
	must(kv.Put(ctx, "big1", make([]byte, 1<<20), 0))
	if err := kv.Put(ctx, "big2", make([]byte, 1<<20), 0); !errors.Is(err, sdk.ErrQuota) {
		t.Error(err)
	}
	must(kv.Put(ctx, "big1", make([]byte, 1<<20), 0)) // in place of itself
	for i := range 250 {
		must(kv.Put(ctx, fmt.Sprintf("list/%03d", i), nil, 0))
	}
	count := 0
	for e, err := range kv.List(ctx, "list/") {
		if err != nil || e.Key != fmt.Sprintf("list/%03d", count) {
			t.Fatalf("%d: %s, %v", count, e.Key, err)
		}
		count++
	}
	if count != 250 {
		t.Errorf("%d are listed", count)
	}
	h.Advance(2 * time.Hour)
	if _, err := kv.Get(ctx, "a"); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("it has not expired: %v", err)
	}
	there, err := kv.Delete(ctx, "text")
	gone, err2 := kv.Delete(ctx, "text")
	if !there || gone || err != nil || err2 != nil {
		t.Error(there, gone, err, err2)
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, _, err := kv.Add(ctx, "many", 1, 0); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if e, err := h.Host().KV.Get(ctx, "many"); err != nil || string(e.Value) != "20" {
		t.Errorf("%s, %v", e.Value, err)
	}
	before := h.HostCalls("kv")
	h.FailHost("kv", errors.New("down"))
	if _, err := kv.Get(ctx, "many"); err == nil || errors.Is(err, sdk.ErrNotFound) {
		t.Error(err)
	}
	if _, err := h.Host().KV.Get(ctx, "many"); err != nil || h.HostCalls("kv") != before+1 {
		t.Errorf("%v, %d calls", err, h.HostCalls("kv")-before)
	}
}

func TestUsers(t *testing.T) {
	var many []sdk.Caller
	for i := range 40 {
		many = append(many, sdk.Caller{ID: fmt.Sprint(i), Name: fmt.Sprintf("Person %02d", i), Email: fmt.Sprintf("p%d@example.org", i), Groups: []sdk.Group{{ID: "g", Name: "G"}}})
	}
	_, host, ctx := everything(t, plugintest.Users(many...))
	if u, err := host.Users.Get(ctx, "7"); err != nil || u.Name != "Person 07" || len(u.Groups) != 1 {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := host.Users.ByEmail(ctx, "ADMIN@example.com"); err != nil || !u.IsAdmin() {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := host.Users.Get(ctx, "none"); !errors.Is(err, sdk.ErrNotFound) {
		t.Error(err)
	}
	first, total, err := host.Users.List(ctx, "person", 1)
	second, _, err2 := host.Users.List(ctx, "person", 2)
	if err != nil || err2 != nil || total != 40 || len(first) != 30 || len(second) != 10 || second[0].ID != "30" || second[0].Groups != nil {
		t.Errorf("%d, %d of %d, %v, %v", len(first), len(second), total, err, err2)
	}
}

func TestModelsOfTheHost(t *testing.T) {
	asked := ""
	_, host, ctx := everything(t, plugintest.Model("m", "an answer"), plugintest.ModelFunc(sdk.Model{ID: "f", Name: "F"}, func(req *sdk.ChatRequest) ([]sdk.Chunk, error) {
		asked = req.Last("user")
		return []sdk.Chunk{{Text: "partial", Reasoning: "hm"}}, sdk.Refuse(429, "enough").With("Retry-After", "1")
	}))
	list, err := host.Models.List(ctx, "")
	if err != nil || len(list) != 2 || list[1].Name != "F" {
		t.Errorf("%+v, %v", list, err)
	}
	if text, err := host.Models.Ask(ctx, "u", "m", sdk.UserMessage("hi")); err != nil || text != "an answer" {
		t.Errorf("%q, %v", text, err)
	}
	text := ""
	var last error
	for c, err := range host.Models.Chat(ctx, "u", sdk.NewBody([]byte(`{"model":"f","messages":[{"role":"user","content":"asked"}]}`))) {
		text += c.Reasoning + c.Text
		last = err
	}
	if r := sdk.RefusalFrom(last); text != "hmpartial" || asked != "asked" || r == nil || r.Status != 429 || r.Headers["Retry-After"] != "1" {
		t.Errorf("%q of %q, %v", text, asked, last)
	}
	if _, err := host.Models.Ask(ctx, "u", "none"); !errors.Is(err, sdk.ErrNotFound) {
		t.Error(err)
	}
	if v, err := host.Models.Embed(ctx, "u", "m", "abc", ""); err != nil || fmt.Sprint(v) != "[[3 1] [0 1]]" {
		t.Errorf("%v, %v", v, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := host.Models.Ask(cancelled, "u", "m"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFilesAndEvents(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	h, host, ctx := everything(t, plugintest.File(sdk.File{ID: "f", UserID: "u", Name: "a.txt"}, big))
	if f, err := host.Files.Get(ctx, "f"); err != nil || f.Size != 1_000_000 || f.Name != "a.txt" {
		t.Errorf("%+v, %v", f, err)
	}
	r, err := host.Files.Read(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	made, err := host.Files.Write(ctx, sdk.File{UserID: "v", Name: "copy", ContentType: "text/plain"}, r)
	if err != nil || made.Size != 1_000_000 || made.UserID != "v" || made.ContentType != "text/plain" {
		t.Errorf("%+v, %v", made, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r, err = host.Files.Read(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := host.Files.Read(ctx, "none"); !errors.Is(err, sdk.ErrNotFound) {
		t.Error(err)
	}
	boom := errors.New("boom")
	if _, err := host.Files.Write(ctx, sdk.File{}, io.MultiReader(strings.NewReader("x"), failing{boom})); !errors.Is(err, boom) {
		t.Error(err)
	}
	if empty, err := host.Files.Write(ctx, sdk.File{Name: "empty"}, strings.NewReader("")); err != nil || empty.Size != 0 {
		t.Errorf("%+v, %v", empty, err)
	}

	if n, err := host.Events.Emit(ctx, sdk.Event{UserID: "u", ChatID: "c", MessageID: "m", Type: "status", Data: map[string]bool{"done": true}}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if err := host.Events.Notify(ctx, "u", "info", "<hello>"); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprintf("%s", h.Events()); got != `[{u c m status {"done":true}} {u   notification {"content":"<hello>","type":"info"}}]` {
		t.Error(got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestGrants(t *testing.T) {
	_, host, ctx := everything(t, plugintest.Grants("users"))
	if !host.Granted("users") || host.Granted("kv") || host.DataDir == "" {
		t.Errorf("%+v", host)
	}
	if _, err := host.Users.Get(ctx, plugintest.User.ID); err != nil {
		t.Error(err)
	}
	_, kvErr := host.KV.Get(ctx, "x")
	_, askErr := host.Models.Ask(ctx, "", "m")
	_, fileErr := host.Files.Read(ctx, "f")
	_, writeErr := host.Files.Write(ctx, sdk.File{}, strings.NewReader("x"))
	eventErr := host.Events.Notify(ctx, "u", "info", "x")
	for i, err := range []error{kvErr, askErr, fileErr, writeErr, eventErr} {
		if !errors.Is(err, sdk.ErrNotGranted) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestHTTP(t *testing.T) {
	seen := http.Header{}
	h := plugintest.Start(t, sdk.Plugin{
		ID: "web", Version: "1", HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header.Clone()
			_ = json.NewEncoder(w).Encode(map[string]any{"caller": sdk.CallerFrom(r.Context()).ID, "path": r.URL.Path, "id": r.PathValue("id")})
		}),
		Routes: []sdk.Route{{Pattern: "GET /a/{id}"}, {Pattern: "/notes", Permission: "features.notes"}},
	}, plugintest.Permissions("features.other"))
	get := func(h *plugintest.Harness, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer secret")
		resp, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	for _, path := range []string{"/a/1", h.URL("/a/1")} {
		if status, got := get(h, path); status != 200 || !strings.HasPrefix(got, `{"caller":"user-1","id":`) {
			t.Errorf("%d %s", status, got)
		}
	}
	if seen.Get("Authorization") != "" || seen.Get("X-Forwarded-Prefix") != "/api/v1/plugins/web" || seen.Get("X-Request-Id") == "" {
		t.Error(seen)
	}
	for path, want := range map[string]int{"/b": 404, "/notes": 403} {
		if status, got := get(h, path); status != want {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	if status, _ := get(h.As(plugintest.Admin), "/notes"); status != 200 {
		t.Error(status)
	}
	if status, got := get(h.As(plugintest.Anonymous), "/a/1"); status != 401 || got != `{"detail":"Unauthorized"}` {
		t.Errorf("%d %s", status, got)
	}
}
