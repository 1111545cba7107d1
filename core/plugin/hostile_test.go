package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

func TestBadHandshakes(t *testing.T) {
	for kind, want := range map[string]struct {
		state State
		text  string
	}{
		"chatty":         {StateFailed, "printed something else"},
		"endless line":   {StateFailed, "printed something else"},
		"other version":  {StateRefused, "another version of the protocol"},
		"other core":     {StateRefused, "another version of the protocol"},
		"net/rpc":        {StateRefused, "another version of the protocol"},
		"no certificate": {StateFailed, "cert"},
		"nowhere":        {StateFailed, ""},
		"noise":          {StateFailed, ""},
		"closed output":  {StateFailed, "closed its output"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, quick())
			b.put(t, Manifest{ID: "x", Limits: Limits{StartSeconds: 3}}, kind)
			b.start(t)
			t.Log(b.becomes(t, "x", want.state, want.text).Error)
			_ = b.Stop(context.Background())
		})
	}
}

func TestWrongCookie(t *testing.T) {
	b := newBench(t, quick())
	file := filepath.Join(b.dir, "x")
	exe, _ := os.Executable()
	if err := os.WriteFile(file, []byte("#!/bin/sh\nGALLEY_PLUGIN=cake TEST_PLUGIN=basic exec "+exe+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	b.becomes(t, "x", StateFailed, "is a plugin of Galley")
}

func TestBadDescriptions(t *testing.T) {
	for name, c := range map[string]struct {
		how, describe string
		state         State
		want          string
	}{
		"fails":          {how: "fails", state: StateFailed, want: "describe: not today"},
		"huge":           {how: "huge", state: StateFailed, want: "describe: "},
		"certificate":    {how: "certificate", describe: `{"id":"hostile"}`, state: StateFailed, want: "certificate cannot be read"},
		"address":        {how: "address", describe: `{"id":"hostile"}`, state: StateFailed, want: "no unix socket"},
		"no id":          {describe: `{}`, state: StateRefused, want: "lower case letters"},
		"bad id":         {describe: `{"id":"../etc"}`, state: StateRefused, want: "lower case letters"},
		"other id":       {describe: `{"id":"innocent"}`, state: StateRefused, want: `calls itself "innocent"`},
		"reserved":       {describe: `{"id":"install"}`, state: StateRefused, want: "reserved"},
		"route":          {describe: `{"id":"hostile","routes":[{"path":"/a/{"}]}`, state: StateRefused, want: "/a/{"},
		"no slash":       {describe: `{"id":"hostile","routes":[{"path":"a"}]}`, state: StateRefused, want: "slash"},
		"method":         {describe: `{"id":"hostile","routes":[{"path":"/","method":"G T"}]}`, state: StateRefused, want: "G T"},
		"ambiguous":      {describe: `{"id":"hostile","routes":[{"path":"/{a}/b"},{"path":"/a/{b}"}]}`, state: StateRefused, want: "/a/{b}"},
		"openapi":        {describe: `{"id":"hostile","routes":[{"path":"/","openapi":"bm8="}]}`, state: StateRefused, want: "OpenAPI"},
		"schema":         {describe: `{"id":"hostile","configSchema":"WzFd"}`, state: StateRefused, want: "config schema"},
		"tool":           {describe: `{"id":"hostile","tools":[{"name":"rm -rf"}]}`, state: StateRefused, want: `"rm -rf"`},
		"two tools":      {describe: `{"id":"hostile","tools":[{"name":"a"},{"name":"a"}]}`, state: StateRefused, want: `two tools`},
		"odd parameters": {describe: `{"id":"hostile","tools":[{"name":"a","parameters":"WzFd"}]}`, state: StateReady},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, quick())
			b.put(t, Manifest{ID: "hostile", Environment: map[string]string{"HOSTILE": c.how, "HOSTILE_DESCRIBE": c.describe}}, "hostile")
			b.start(t)
			b.becomes(t, "hostile", c.state, c.want)
			_ = b.Stop(context.Background())
		})
	}
}

func TestBadHTTP(t *testing.T) {
	b := newBench(t, quick())
	b.put(t, Manifest{ID: "hostile", Limits: Limits{ResponseSeconds: 2}, Environment: map[string]string{"HOSTILE_DESCRIBE": `{"id":"hostile"}`}}, "hostile")
	b.start(t)
	for path, want := range map[string]int{
		"garbage": 502, "close": 502, "big": 502, "endless": 502, "status": 502, "switch": 502, "drip": 502, "ok": 200, "twice": 200,
	} {
		for range 2 { // a second time on what the first one left
			resp := b.do(t, "GET", "/api/v1/plugins/hostile/"+path, nil)
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != want || err != nil || want == 200 && string(body) != "ok" || want == 502 && !strings.Contains(string(body), "detail") {
				t.Errorf("%s: %d %.100s %v", path, resp.StatusCode, body, err)
			}
			if resp.Header.Get("X-Odd")+resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: header %v", path, resp.Header)
			}
		}
	}
	for _, path := range []string{"short", "badchunk"} {
		req, _ := http.NewRequest("GET", b.url+"/api/v1/plugins/hostile/"+path, nil)
		req.Header.Set("Authorization", "Bearer x")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s ended as if it were whole", path)
		}
	}
	before := heap()
	resp := b.do(t, "GET", "/api/v1/plugins/hostile/chunk", nil)
	n, err := io.Copy(io.Discard, resp.Body)
	if n != 100<<20 || err != nil {
		t.Errorf("%d bytes %v", n, err)
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	if got := b.models(); got != "odd info" {
		t.Errorf("models %q", got)
	}
	chat, err := b.chat(t, "odd", "x")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := readAll(chat); text != "" || err != nil {
		t.Errorf("%q %v", text, err)
	}
	begun := time.Now()
	if err := b.Stop(t.Context()); err != nil || time.Since(begun) > 8*time.Second {
		t.Errorf("it took %v to end one that ignores SIGTERM: %v", time.Since(begun), err)
	}
	if n := children(t); n != 0 {
		t.Errorf("%d processes live", n)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestModelsThatHang(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty", Limits: Limits{ResponseSeconds: 3}}, "FAULTY_MODEL", "talker", "FAULTY", "models hang")
	b.put(t, Manifest{ID: "basic"}, "basic")
	b.start(t)
	b.becomes(t, "faulty", StateReady, "")
	begun := time.Now()
	got := b.models()
	if took := time.Since(begun); got != "parrot flood" || took > 2500*time.Millisecond { // the registry's patience is two seconds
		t.Errorf("%q after %v", got, took)
	}
	begun = time.Now()
	if b.models(); time.Since(begun) > 500*time.Millisecond {
		t.Errorf("the second time it took %v", time.Since(begun))
	}
	begun = time.Now()
	if list := b.List(t.Context()); len(list) != 2 || time.Since(begun) > 1500*time.Millisecond {
		t.Errorf("%v after %v", list, time.Since(begun))
	}
}

func TestRefusalsOfChats(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY_MODEL", "talker")
	b.start(t)
	b.models()
	for text, want := range map[string]struct {
		status     int
		text, wait string
	}{
		"refuse":     {429, "slow down", "9"},
		"inject":     {418, "Set-Cookie", ""},
		"odd status": {500, "fine", ""},
		"fail":       {502, "The plugin faulty failed", ""},
	} {
		_, err := b.chat(t, "talker", text)
		var e *llm.UpstreamError
		if !errors.As(err, &e) || e.Status != want.status || !strings.Contains(string(e.Body), want.text) || e.RetryAfter != want.wait || strings.Contains(string(e.Body), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestRouteConflicts has two plugins want one address, and one an address of Galley's own.
func TestRouteConflicts(t *testing.T) {
	b := newBench(t, quick())
	b.router.Handle("GET /shop/{name}", http.NotFoundHandler())
	b.faulty(t, Manifest{ID: "a", Prefixes: []string{"/mine"}})
	b.faulty(t, Manifest{ID: "b", Prefixes: []string{"/mine"}})
	b.faulty(t, Manifest{ID: "c", Prefixes: []string{"/shop"}}, "FAULTY_ROUTES", "GET /pid")
	b.start(t)
	b.becomes(t, "c", StateRefused, "/shop/pid")
	first, second := "a", "b"
	await(t, "one of the two", func() (bool, string) {
		s := b.Statuses()
		if s[0].State == StateRefused {
			first, second = "b", "a"
		}
		return s[0].State != s[1].State && s[0].State != StateStarting && s[1].State != StateStarting, fmt.Sprint(s)
	})
	b.becomes(t, second, StateRefused, "/mine")
	if code, text := b.get(t, "/mine/x"); code != 200 || !strings.HasPrefix(text, "GET /x") {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := b.get(t, "/api/v1/plugins/"+second+"/x"); code == 200 {
		t.Errorf("the refused one answers")
	}
	if err := b.SetEnabled(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, second, StateReady, "")
	if code, _ := b.get(t, "/mine"); code != 200 {
		t.Errorf("%d", code)
	}
	if err := b.SetEnabled(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, first, StateRefused, "plugin:"+second)
	// the other gives the address up
	b.faulty(t, Manifest{ID: second})
	b.becomes(t, first, StateReady, "")
}

// TestOneModelTwice has two plugins with one model: the one whose id comes first serves it whenever it is there.
func TestOneModelTwice(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "a"}, "FAULTY_MODEL", "same", "TEST_VERSION", "a")
	b.faulty(t, Manifest{ID: "b"}, "FAULTY_MODEL", "same", "TEST_VERSION", "b")
	b.start(t)
	served := func(by string) {
		t.Helper()
		await(t, "served by "+by, func() (bool, string) {
			if got := b.models(); got != "same" {
				return false, "models " + got
			}
			chat, err := b.chat(t, "same", "short")
			if err != nil {
				return false, err.Error()
			}
			text, err := readAll(chat)
			return text == by && err == nil, text
		})
	}
	served("a")
	for range 3 {
		if err := b.Restart(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := b.Wait(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		served("a")
	}
	if err := b.SetEnabled(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	served("b")
	if err := b.SetEnabled(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	served("a")
}

func TestOneIDTwice(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"}, "TEST_VERSION", "1")
	if err := os.Rename(filepath.Join(b.dir, "faulty"), filepath.Join(b.dir, "a")); err != nil {
		t.Fatal(err)
	}
	b.faulty(t, Manifest{ID: "faulty"}, "TEST_VERSION", "2")
	b.start(t)
	refused := func() (bool, string) {
		s := b.Statuses()
		return len(s) == 2 && s[0].State == StateReady && s[1].State == StateRefused && strings.Contains(s[1].Error, `"faulty" is taken by a`), fmt.Sprint(s)
	}
	await(t, "second refused", refused)
	if err := b.Restart(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(t.Context(), "faulty"); err != nil {
		t.Fatal(err)
	}
	await(t, "second refused still", refused)
	_, in := b.first(t, "/api/v1/plugins/faulty/sse")
	if err := os.RemoveAll(filepath.Join(b.dir, "a")); err != nil {
		t.Fatal(err)
	}
	await(t, "taken over", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/faulty/x")
		return text == "GET /x 2", text
	})
	if err := os.WriteFile(b.overFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(in); err != nil || !strings.HasSuffix(string(text), "data: end\n\n") {
		t.Errorf("a call of the removed one: %v", err)
	}
	await(t, "one process", func() (bool, string) { n := children(t); return n == 1, fmt.Sprint(n) })
}
