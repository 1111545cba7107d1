package plugins

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
)

// TestMain has the test binary play a plugin where a variable asks for it.
func TestMain(m *testing.M) {
	if id := os.Getenv("TEST_PLUGIN"); id != "" {
		play(id)
		return
	}
	os.Exit(m.Run())
}

type settings struct {
	Greeting string `json:"greeting" default:"Hello"`
	Count    int    `json:"count" default:"1" minimum:"1"`
}

func play(id string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /greet", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from ", id) })
	mux.HandleFunc("GET /say", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "said: "+r.URL.Query().Get("text"))
	})
	p := sdk.Plugin{ID: id, Version: orText(os.Getenv("TEST_VERSION"), "1.0.0"), HTTP: mux, Config: sdk.NewConfig(settings{Greeting: "Hello", Count: 1})}
	if os.Getenv("TEST_FAIL") != "" {
		p.Start = func(context.Context) error { return fmt.Errorf("no luck today") }
	}
	sdk.Serve(p)
}

func orText(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// roles lets callers be what their token says.
type roles struct{}

func (roles) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	role := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case role == "" && level > auth.Optional:
		return nil, web.Fail(http.StatusUnauthorized, "Not authenticated")
	case role != "admin" && level == auth.Admin:
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	return &auth.Principal{User: &users.User{ID: "u", Name: "U", Role: role}}, nil
}

type server struct {
	t    *testing.T
	dir  string
	url  string
	host *plugin.Manager
}

func newServer(t *testing.T, db *store.DB, d Deps, put ...plugin.Manifest) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	for _, m := range put {
		s.put(m)
	}
	router := web.New(web.Options{Auth: roles{}, UploadDir: t.TempDir()})
	s.host = plugin.New(plugin.Options{Dir: s.dir, DataDir: t.TempDir(), DB: db, Router: router, Poll: 20 * time.Millisecond, Patience: 20 * time.Second})
	d.Plugins = s.host
	if d.Patience == 0 {
		d.Patience = 30 * time.Second
	}
	router.Mount("/api/v1/plugins", New(d))
	router.Finish()
	if err := s.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	http := httptest.NewServer(router)
	s.url = http.URL + "/api/v1/plugins"
	t.Cleanup(func() {
		http.Close()
		if err := s.host.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func manifest(t *testing.T, m plugin.Manifest) []byte {
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
	m.Environment["TEST_PLUGIN"] = m.ID
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *server) put(m plugin.Manifest) {
	s.t.Helper()
	dir := filepath.Join(s.dir, m.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, plugin.ManifestName), manifest(s.t, m), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// call sends a request as an administrator and gives the answer's JSON.
func (s *server) call(method, path string, body io.Reader, kind string) (int, map[string]any) {
	s.t.Helper()
	status, raw := s.raw("admin", method, path, body, kind)
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		s.t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	return status, v
}

func (s *server) raw(role, method, path string, body io.Reader, kind string) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+role)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, raw
}

func TestAdministration(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db, Deps{}, plugin.Manifest{ID: "ant"}, plugin.Manifest{ID: "bee", Environment: map[string]string{"TEST_FAIL": "1"}})
		for _, path := range []string{"", "/"} {
			status, raw := s.raw("admin", "GET", path, nil, "")
			var list []plugin.Info
			if err := json.Unmarshal(raw, &list); err != nil || status != 200 || len(list) != 2 || list[0].ID != "ant" || list[0].State != plugin.StateReady || list[0].PID == 0 {
				t.Fatalf("%q: %d %s", path, status, raw)
			}
			if list[1].Error == "" || list[1].State == plugin.StateReady {
				t.Errorf("a plugin that fails: %+v", list[1])
			}
		}
		status, v := s.call("GET", "/ant", nil, "")
		first := v["pid"]
		if status != 200 || v["id"] != "ant" || v["configurable"] != true {
			t.Fatalf("%d %v", status, v)
		}
		steps := []struct {
			path  string
			state string
			other bool // another process than the first
		}{{"/ant/restart", "ready", true}, {"/ant/disable", "disabled", true}, {"/ant/disable", "disabled", true}, {"/ant/enable", "ready", true}, {"/ant/enable", "ready", true}}
		for _, step := range steps {
			status, v := s.call("POST", step.path, nil, "")
			if status != 200 || v["state"] != step.state || v["pid"] == first {
				t.Fatalf("%s: %d %v", step.path, status, v)
			}
			greeted, _ := s.raw("user", "GET", "/ant/greet", nil, "")
			if (greeted == 200) != (step.state == "ready") {
				t.Errorf("%s: then the plugin's route answers %d", step.path, greeted)
			}
		}
		if status, v := s.call("POST", "/bee/restart", nil, ""); status != 200 || !strings.Contains(fmt.Sprint(v["error"]), "no luck today") {
			t.Errorf("restart of a plugin that fails: %d %v", status, v)
		}
		s.call("POST", "/bee/disable", nil, "")
		if status, v := s.call("POST", "/bee/restart", nil, ""); status != 400 || !strings.Contains(fmt.Sprint(v["detail"]), "disabled") {
			t.Errorf("restart of a disabled plugin: %d %v", status, v)
		}
	})
}

func TestWhoAndWhat(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), Deps{}, plugin.Manifest{ID: "ant"})
	requests := []string{
		"GET /", "GET ", "GET /ant", "POST /ant/enable", "POST /ant/disable", "POST /ant/restart", "GET /ant/logs", "GET /ant/logs?follow=true", "GET /ant/verify",
		"POST /ant/verify", "GET /ant/config", "POST /ant/config", "POST /install", "DELETE /ant",
	}
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		for _, role := range []string{"", "user"} {
			if status, raw := s.raw(role, method, path, nil, ""); status != 401 {
				t.Errorf("%s as %q: %d %s", r, role, status, raw)
			}
		}
		if !strings.Contains(path, "/ant") {
			continue
		}
		body, kind := io.Reader(nil), ""
		if strings.Contains(r, "POST /ant/config") {
			body, kind = strings.NewReader("{}"), "application/json"
		}
		status, v := s.call(method, strings.Replace(path, "/ant", "/nobody", 1), body, kind)
		if status != 404 || v["detail"] != web.TextNotFound {
			t.Errorf("%s of no plugin: %d %v", r, status, v)
		}
	}
	if status, v := s.call("POST", "/install", nil, ""); status != 403 {
		t.Errorf("install where that is off: %d %v", status, v)
	}
	if status, v := s.call("GET", "/ant", nil, ""); status != 200 || v["state"] != "ready" {
		t.Errorf("after all that: %d %v", status, v)
	}
}

func TestConfig(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), Deps{}, plugin.Manifest{ID: "ant", Config: json.RawMessage(`{"greeting":"Hi"}`)})
	status, v := s.call("GET", "/ant/config", nil, "")
	values, _ := v["values"].(map[string]any)
	schema, _ := v["schema"].(map[string]any)
	if status != 200 || values["greeting"] != "Hi" || schema["properties"] == nil {
		t.Fatalf("%d %v", status, v)
	}
	status, v = s.call("POST", "/ant/config", strings.NewReader(`{"count":7}`), "application/json")
	values, _ = v["values"].(map[string]any)
	if status != 200 || values["count"] != 7.0 || values["greeting"] != "Hi" {
		t.Fatalf("%d %v", status, v)
	}
	status, v = s.call("POST", "/ant/config", strings.NewReader(`{"count":"many"}`), "application/json")
	if status != 400 || !strings.Contains(fmt.Sprint(v["detail"]), "count") {
		t.Fatalf("a bad value: %d %v", status, v)
	}
	if status, v = s.call("POST", "/ant/config", strings.NewReader(`[]`), "application/json"); status != 422 {
		t.Fatalf("no object: %d %v", status, v)
	}
	s.call("POST", "/ant/disable", nil, "")
	if status, v = s.call("GET", "/ant/config", nil, ""); status != 503 {
		t.Fatalf("of a plugin that is off: %d %v", status, v)
	}
}

func TestLogs(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), Deps{}, plugin.Manifest{ID: "ant"})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/ant/logs?follow=true&lines=0", nil)
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		t.Fatalf("content type %q", kind)
	}
	s.raw("user", "GET", "/ant/say?text=one", nil, "")
	s.raw("user", "GET", "/ant/say?text=two", nil, "")
	lines := bufio.NewScanner(resp.Body)
	seen := ""
	for !strings.Contains(seen, "said: two") && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var line plugin.Line
			if err := json.Unmarshal([]byte(data), &line); err != nil {
				t.Fatal(err)
			}
			seen += line.Message + "\n"
		}
	}
	if !strings.Contains(seen, "said: one\nsaid: two") {
		t.Errorf("followed %q, %v", seen, lines.Err())
	}
	status, raw := s.raw("admin", "GET", "/ant/logs?lines=1", nil, "")
	var last []plugin.Line
	if err := json.Unmarshal(raw, &last); err != nil || status != 200 || len(last) != 1 || last[0].Message != "said: two" {
		t.Errorf("the last line: %d %s", status, raw)
	}
	if status, _ := s.raw("admin", "GET", "/ant/logs?lines=-1", nil, ""); status != 422 {
		t.Errorf("a negative number of lines: %d", status)
	}
}

func form(t *testing.T, name string, content []byte, fields ...string) (io.Reader, string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b, w.FormDataContentType()
}

// zipOf is an archive of a folder with a manifest.
func zipOf(t *testing.T, m plugin.Manifest) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("x/" + plugin.ManifestName)
	if err == nil {
		_, err = f.Write(manifest(t, m))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInstallAndRemove(t *testing.T) {
	s := newServer(t, storetest.SQLite(t), Deps{Upload: true})
	upload := func(content []byte, fields ...string) (int, map[string]any) {
		t.Helper()
		body, kind := form(t, "x.zip", content, fields...)
		return s.call("POST", "/install", body, kind)
	}
	one := zipOf(t, plugin.Manifest{ID: "fly", Version: "1.0.0"})
	sum := sha256.Sum256(one)
	if status, v := upload(one, "sha256", strings.Repeat("0", 64)); status != 400 || !strings.Contains(fmt.Sprint(v["detail"]), "SHA-256") {
		t.Fatalf("with another digest: %d %v", status, v)
	}
	if status, v := upload(one, "sha256", hex.EncodeToString(sum[:])); status != 200 || v["state"] != "ready" || v["version"] != "1.0.0" {
		t.Fatalf("install: %d %v", status, v)
	}
	if status, raw := s.raw("user", "GET", "/fly/greet", nil, ""); status != 200 || string(raw) != "from fly" {
		t.Fatalf("its route: %d %s", status, raw)
	}
	two := zipOf(t, plugin.Manifest{ID: "fly", Version: "2.0.0", Environment: map[string]string{"TEST_VERSION": "2.0.0"}})
	if status, v := upload(two); status != 409 {
		t.Fatalf("again: %d %v", status, v)
	}
	if status, v := upload(two, "replace", "true"); status != 200 || v["state"] != "ready" || v["version"] != "2.0.0" {
		t.Fatalf("replace: %d %v", status, v)
	}
	for what, content := range map[string][]byte{"text": []byte("hello"), "nothing": nil, "reserved": zipOf(t, plugin.Manifest{ID: "install"})} {
		if status, v := upload(content); status != 400 {
			t.Errorf("%s: %d %v", what, status, v)
		}
	}
	if status, raw := s.raw("admin", "DELETE", "/fly", nil, ""); status != 200 || string(bytes.TrimSpace(raw)) != "true" {
		t.Fatalf("remove: %d %s", status, raw)
	}
	if status, v := s.call("GET", "/fly", nil, ""); status != 404 {
		t.Fatalf("afterwards: %d %v", status, v)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

func TestVerify(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := plugin.Digest(exe)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, storetest.SQLite(t), Deps{}, plugin.Manifest{ID: "ant", SHA256: sum}, plugin.Manifest{ID: "bee", SHA256: strings.Repeat("0", 64)})
	for _, method := range []string{"GET", "POST"} {
		if status, v := s.call(method, "/ant/verify", nil, ""); status != 200 || v["ok"] != true || v["pinned"] != 1.0 {
			t.Errorf("%s: %d %v", method, status, v)
		}
		if status, v := s.call(method, "/bee/verify", nil, ""); status != 200 || v["ok"] != false {
			t.Errorf("%s of a changed file: %d %v", method, status, v)
		}
	}
}
