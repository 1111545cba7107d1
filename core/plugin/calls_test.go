package plugin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// mode sets how the filter of a faulty plugin behaves.
func (b *bench) mode(t testing.TB, id, mode string) {
	t.Helper()
	if _, err := b.SetConfig(t.Context(), id, jsondoc.Object("mode", jsondoc.Text(mode))); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) inlet(c *filter.Call) (string, error) {
	chain := b.Filters().For(c)
	if chain == nil {
		return "none", nil
	}
	out, err := chain.Inlet(context.Background(), jsondoc.Doc(`{"model":"m"}`))
	return out.Text("seen"), err
}

func webStatus(err error) int {
	var e *web.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

func TestFilters(t *testing.T) {
	b := newBench(t, quick())
	limits := Limits{ResponseSeconds: 1}
	b.faulty(t, Manifest{ID: "a", Limits: limits}, "FAULTY_FILTER", "5", "FAULTY", "tasks")
	b.faulty(t, Manifest{ID: "b", Limits: limits}, "FAULTY_FILTER", "1", "FAULTY", "required")
	b.faulty(t, Manifest{ID: "c", Limits: limits}, "FAULTY_FILTER", "5", "FAULTY_FOR", "special")
	b.start(t)
	chat, task, special := &filter.Call{Kind: filter.KindChat, ModelID: "m"}, &filter.Call{Kind: filter.KindTask, ModelID: "m"}, &filter.Call{Kind: filter.KindChat, ModelID: "special"}
	for want, c := range map[string]*filter.Call{"ba": chat, "a": task, "bac": special} {
		if got, err := b.inlet(c); got != want || err != nil {
			t.Errorf("%v: %q %v", *c, got, err)
		}
	}
	for _, x := range []struct {
		id, mode, want string
		status         int
	}{
		{"a", "fail", "b", 0}, {"a", "hang", "b", 0}, {"a", "refuse", "", 451}, {"a", "ok", "ba", 0},
		{"b", "fail", "", 502}, {"b", "hang", "", 504}, {"b", "refuse", "", 451}, {"b", "ok", "ba", 0},
	} {
		b.mode(t, x.id, x.mode)
		if got, err := b.inlet(chat); got != x.want || webStatus(err) != x.status || (err != nil) != (x.status != 0) {
			t.Errorf("%s %s: %q %v", x.id, x.mode, got, err)
		}
	}
	t.Run("stream", func(t *testing.T) { testStreamFilters(t, b, chat) })
	t.Run("down", func(t *testing.T) { testFiltersDown(t, b, chat) })
}

func testStreamFilters(t *testing.T, b *bench, c *filter.Call) {
	chunk := []byte(`{"choices":[{"index":0,"delta":{"content":"x"}}]}`)
	for _, x := range []struct {
		id, mode, want string
		fails          bool
	}{
		{"a", "ok", "xba", false}, {"a", "fail", "xb", false}, {"a", "hang", "xb", false}, {"a", "swallow", "", false}, {"a", "ok", "xba", false},
		{"b", "fail", "", true}, {"b", "hang", "", true}, {"b", "swallow", "", false}, {"b", "ok", "xba", false},
	} {
		b.mode(t, x.id, x.mode)
		s, ok := b.Filters().For(c).Stream(t.Context())
		if !ok {
			t.Fatal("no stream filter")
		}
		for range 2 {
			out, err := s.Chunk(t.Context(), chunk)
			var got string
			for _, o := range out {
				text, _ := jsondoc.Doc(o).Get("choices").List()[0].Get("delta", "content").AsText()
				got += text
			}
			if got != x.want || (err != nil) != x.fails {
				t.Errorf("%s %s: %q %v", x.id, x.mode, got, err)
			}
			if err != nil {
				break
			}
		}
		_ = s.Close()
	}
	for _, id := range []string{"a", "b"} {
		if i, err := b.Get(t.Context(), id); err != nil || i.Calls != 0 {
			t.Errorf("%s has %d calls left", id, i.Calls)
		}
	}
}

// testFiltersDown kills the plugins of filters: a required one stands in the way until it is back or an administrator
// disables it.
func testFiltersDown(t *testing.T, b *bench, c *filter.Call) {
	b.o.Backoff = time.Second
	if err := syscall.Kill(b.pid(t, "a"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "a", StateBackoff, "")
	if got, err := b.inlet(c); got != "b" || err != nil {
		t.Errorf("without a: %q %v", got, err)
	}
	if err := syscall.Kill(b.pid(t, "b"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "b", StateBackoff, "")
	if got, err := b.inlet(c); webStatus(err) != 503 {
		t.Errorf("without b: %q %v", got, err)
	}
	b.becomes(t, "b", StateReady, "")
	b.becomes(t, "a", StateReady, "")
	if got, err := b.inlet(c); got != "ba" || err != nil {
		t.Errorf("with all: %q %v", got, err)
	}
	if err := b.SetEnabled(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "b", StateDisabled, "")
	if got, err := b.inlet(c); got != "a" || err != nil {
		t.Errorf("with b disabled: %q %v", got, err)
	}
}

func TestTools(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	sets := b.Toolsets()
	if len(sets) != 1 || sets[0].ID != "plugin:faulty" || len(sets[0].Tools) != 1 {
		t.Fatalf("%+v", sets)
	}
	work := sets[0].Tools[0]
	call := func(ctx context.Context, what string, emit func(string, jsondoc.Doc)) (ToolResult, error) {
		return work.Call(ctx, ToolCall{Arguments: jsondoc.Object("do", jsondoc.Text(what)), Emit: emit})
	}
	for what, want := range map[string]ToolResult{
		"things": {Content: jsondoc.Doc(`{"did":"things"}`)}, "text": {Content: jsondoc.Doc(`"a text"`)}, "fail": {Content: jsondoc.Doc(`"it went wrong"`), Failed: true},
	} {
		if got, err := call(t.Context(), what, nil); err != nil || string(got.Content) != string(want.Content) || got.Failed != want.Failed {
			t.Errorf("%s: %s %v %v", what, got.Content, got.Failed, err)
		}
	}
	if got, err := call(t.Context(), "panic", nil); err == nil && !got.Failed {
		t.Errorf("a panic gave %s", got.Content)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := call(ctx, "wait", func(kind string, data jsondoc.Doc) {
		if kind != "status" || data.Text("description") != "waiting" {
			t.Errorf("event %s %s", kind, data)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	await(t, "told the tool", func() (bool, string) {
		_, err := os.Stat(b.overFile() + ".cancelled")
		return err == nil, fmt.Sprint(err)
	})
	if got, err := call(t.Context(), "exit", nil); err == nil {
		t.Errorf("a tool that ends its process gave %s", got.Content)
	}
	await(t, "restarted", func() (bool, string) {
		got, err := call(t.Context(), "text", nil)
		return err == nil, fmt.Sprint(got, err)
	})
}

func TestConfiguration(t *testing.T) {
	db := sqlite(t)
	b := newBench(t, Options{Backoff: 10 * time.Millisecond, DB: db})
	other := newBench(t, Options{Backoff: 10 * time.Millisecond, DB: db})
	for _, x := range []*bench{b, other} {
		x.faulty(t, Manifest{ID: "faulty", Config: []byte(`{"count":3}`)})
		x.start(t)
	}
	has := func(x *bench, want string) {
		t.Helper()
		await(t, want, func() (bool, string) {
			c, err := x.Config("faulty")
			return err == nil && string(c) == want, fmt.Sprint(string(c), err)
		})
	}
	has(b, `{"mode":"ok","count":3}`)
	if _, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(`{"count":12}`)); webStatus(err) != 400 || !strings.Contains(err.Error(), "count") {
		t.Errorf("%v", err)
	}
	has(b, `{"mode":"ok","count":3}`)
	if _, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(`{"count":"5","unknown":1,"words":"a, b"}`)); err != nil {
		t.Fatal(err)
	}
	want := `{"mode":"ok","count":5,"words":["a","b"]}`
	has(b, want)
	has(other, want)
	// two at once lose nothing of each other
	done := make(chan error, 2)
	for _, v := range []string{`{"mode":"fail"}`, `{"count":6}`} {
		go func() {
			_, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(v))
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	want = `{"mode":"fail","count":6,"words":["a","b"]}`
	has(b, want)
	// what is set wins over a new manifest, and outlives a restart
	b.faulty(t, Manifest{ID: "faulty", Version: "1.0.0", Config: []byte(`{"count":1}`)})
	await(t, "upgraded", func() (bool, string) {
		u, _ := b.find("faulty")
		inst := u.current.Load()
		return inst != nil && inst.src.manifest.Version != "", ""
	})
	has(b, want)
	has(other, want)
	// null takes the operator's
	if _, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(`{"count":null,"mode":null,"words":null}`)); err != nil {
		t.Fatal(err)
	}
	has(b, `{"mode":"ok","count":1}`)
	has(other, `{"mode":"ok","count":3}`)
	if err := other.SetEnabled(t.Context(), "faulty", false); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateDisabled, "")
	if _, err := b.SetConfig(t.Context(), "faulty", jsondoc.Doc(`{"count":2}`)); webStatus(err) != 503 {
		t.Errorf("%v", err)
	}
}

// TestConfiguredWhileStarting changes what is set while an instance is being started with what was set before.
func TestConfiguredWhileStarting(t *testing.T) {
	db := sqlite(t)
	b := newBench(t, Options{Backoff: 10 * time.Millisecond, DB: db})
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	for i := range 8 {
		if err := b.Restart(t.Context(), "faulty"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.SetConfig(t.Context(), "faulty", jsondoc.Object("count", jsondoc.Doc(fmt.Sprint(i+1)))); err != nil {
			t.Fatal(err)
		}
		if err := b.Wait(t.Context(), "faulty"); err != nil {
			t.Fatal(err)
		}
		await(t, "configured", func() (bool, string) {
			c, err := b.Config("faulty")
			return err == nil && string(c.Get("count")) == fmt.Sprint(i+1), string(c)
		})
	}
}

func TestCoerce(t *testing.T) {
	for _, c := range []struct{ schema, value, want string }{
		{`{"type":"integer"}`, `"5"`, `5`}, {`{"type":"integer"}`, `" 7 "`, `7`}, {`{"type":"integer"}`, `5`, `5`}, {`{"type":"integer"}`, `""`, `null`},
		{`{"type":"integer"}`, `"x"`, `"x"`}, {`{"type":"number"}`, `"1.50"`, `1.50`}, {`{"type":"number"}`, `"0x10"`, `"0x10"`}, {`{"type":"number"}`, `"Inf"`, `"Inf"`},
		{`{"type":"number"}`, `null`, `null`}, {`{"type":"boolean"}`, `"true"`, `true`}, {`{"type":"boolean"}`, `"Off"`, `false`}, {`{"type":"boolean"}`, `"maybe"`, `"maybe"`},
		{`{"type":"boolean"}`, `false`, `false`}, {`{"type":"string"}`, `"5"`, `"5"`}, {`{"type":"string","enum":["a"]}`, `"b"`, `"b"`}, {`{"type":"object"}`, `"{\"a\":1}"`, `{"a":1}`},
		{`{"type":"object"}`, `"{a"`, `"{a"`}, {`{"type":"array","items":{"type":"integer"}}`, `"1, 2"`, `[1,2]`}, {`{"type":"array","items":{"type":"integer"}}`, `["1","x"]`, `[1,"x"]`},
		{`{"type":"array"}`, `null`, `[]`}, {`{"type":"array"}`, `""`, `[]`}, {`{"type":"array"}`, `[""]`, `[]`}, {`{"type":"array"}`, `{}`, `{}`}, {`{"type":"array"}`, `7`, `7`}, {`{}`, `"1"`, `"1"`},
	} {
		if got := coerce(jsondoc.Doc(c.schema), jsondoc.Doc(c.value)); string(got) != c.want {
			t.Errorf("%s as %s: %s, want %s", c.value, c.schema, got, c.want)
		}
	}
	schema := jsondoc.Doc(`{"properties":{"n":{"type":"integer"},"s":{"type":"string"},"l":{"type":"array"}}}`)
	for _, c := range []struct{ now, values, want string }{
		{`{"n":5}`, `{"n":"5"}`, `{}`}, {`{"n":5}`, `{"n":5.0}`, `{}`}, {`{"n":5}`, `{"n":null}`, `{"n":null}`}, {`{}`, `{"n":null}`, `{}`}, {`{"s":""}`, `{"s":null}`, `{}`},
		{`{"s":"a"}`, `{"s":null,"other":1}`, `{"s":null}`}, {`{"l":[]}`, `{"l":null}`, `{}`}, {`{"l":["a"]}`, `{"l":"a"}`, `{}`}, {`{"l":["a"]}`, `{"l":""}`, `{"l":[]}`}, {`{}`, `[1]`, `{}`},
	} {
		if got := fromForm(schema, jsondoc.Doc(c.now), jsondoc.Doc(c.values)); string(got) != c.want {
			t.Errorf("%s over %s: %s, want %s", c.values, c.now, got, c.want)
		}
	}
}

func TestHTTP(t *testing.T) {
	b := newBench(t, quick())
	b.o.Host.APIKeyHeader = "X-Key"
	b.faulty(t, Manifest{ID: "faulty", Prefixes: []string{"/mounted"}})
	b.faulty(t, Manifest{ID: "routed"}, "FAULTY_ROUTES", "/=verified,/open/{x}=public,/admin/=admin,/header=public")
	b.start(t)
	for path, want := range map[string]string{
		"/api/v1/plugins/faulty/a%2Fb":                        "GET /a%2Fb",
		"/api/v1/plugins/faulty/a%20b?x=%2F&y":                "GET /a%20b?x=%2F&y",
		"/api/v1/plugins/faulty/%C3%BC/ü":                     "GET /%C3%BC/%C3%BC",
		"/api/v1/plugins/f%61ulty/x":                          "GET /x",
		"/api/v1/plugins/faulty/?":                            "GET /?",
		"/mounted/x":                                          "GET /x",
		"/mounted":                                            "GET /",
		"/api/v1/plugins/routed/one":                          "GET /one",
		"/api/v1/plugins/routed/open/1":                       "GET /open/1",
		"/api/v1/plugins/routed/open/a%2Fb%2Fc%2Fd":           "GET /open/a%2Fb%2Fc%2Fd",
		"/api/v1/plugins/routed/admin%2Fusers":                "refused",
		"/api/v1/plugins/routed/open%2F..%2Fadmin%2Fx":        "refused",
		"/api/v1/plugins/routed/open/%2E%2E%2F..%2Fadmin%2Fx": "refused",
	} {
		code, text := b.get(t, path)
		if want == "refused" {
			if code != 404 {
				t.Errorf("%s: %d %s", path, code, text)
			}
			continue
		}
		if code != 200 || strings.TrimSpace(text) != want {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	t.Run("credentials", func(t *testing.T) { testCredentials(t, b) })
	t.Run("duplex", func(t *testing.T) { testDuplex(t, b) })
	resp := b.do(t, "HEAD", "/api/v1/plugins/faulty/ranges", nil)
	if resp.StatusCode != 200 || resp.ContentLength != 10 {
		t.Errorf("HEAD: %d %d", resp.StatusCode, resp.ContentLength)
	}
	req, _ := http.NewRequest("GET", b.url+"/api/v1/plugins/faulty/ranges", nil)
	req.Header.Set("Authorization", "x")
	req.Header.Set("Range", "bytes=2-4")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if part, _ := io.ReadAll(resp.Body); resp.StatusCode != 206 || string(part) != "234" || resp.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("range: %d %s %v", resp.StatusCode, part, resp.Header)
	}
	before := heap()
	up := b.do(t, "POST", "/api/v1/plugins/faulty/upload", io.LimitReader(nothing{}, 200<<20))
	if text, err := io.ReadAll(up.Body); string(text) != fmt.Sprint(200<<20, "<nil>") && string(text) != fmt.Sprint(200<<20, " <nil>") {
		t.Errorf("upload: %s %v", text, err)
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

func testCredentials(t *testing.T, b *bench) {
	seen := func(path, authorization string) string {
		req, _ := http.NewRequest("GET", b.url+path, nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		for _, name := range []string{"Galley-Caller", "Galley_Caller", "X-Key"} {
			req.Header.Set(name, "forged")
		}
		req.Header.Set("Cookie", "token=secret; theme=dark; oauth_id_token=secret; owui-session=secret; x=token")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	known := seen("/api/v1/plugins/faulty/header", "Bearer x")
	for _, bad := range []string{"forged", "secret", "Authorization", "Jörg"} {
		if strings.Contains(known, bad) {
			t.Errorf("%q has come through: %s", bad, known)
		}
	}
	for _, good := range []string{"theme=dark; x=token", "X-Forwarded-Prefix: /api/v1/plugins/faulty", `J\u00f6rg`, "X-Forwarded-For: 127.0.0.1"} {
		if !strings.Contains(known, good) {
			t.Errorf("%q is missing: %s", good, known)
		}
	}
	if strange := seen("/api/v1/plugins/routed/header", ""); strings.Contains(strange, "Galley-Caller") || strings.Contains(strange, "Galley_caller") {
		t.Errorf("a stranger is known: %s", strange)
	}
}

// testDuplex sends a body bit by bit and reads the answer to each, with all that HTTP has beside bodies.
func testDuplex(t *testing.T, b *bench) {
	in, out := io.Pipe()
	req, _ := http.NewRequest("POST", b.url+"/api/v1/plugins/faulty/full", in)
	req.Header.Set("Authorization", "Bearer x")
	hints := 0
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			hints++
		}
		return nil
	}}))
	go func() { _, _ = out.Write([]byte("one")) }()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 3)
	for i, want := range []string{"ONE", "TWO", "SIX"} {
		if i > 0 {
			go func() { _, _ = out.Write(bytes.ToLower([]byte(want))) }()
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("%s %v", buf, err)
		}
	}
	_ = out.Close()
	if rest, err := io.ReadAll(resp.Body); len(rest) != 0 || err != nil || resp.Trailer.Get("Done") != "yes" || hints != 1 {
		t.Errorf("%q %v, trailer %v, %d hints", rest, err, resp.Trailer, hints)
	}
	sum, w := io.Pipe()
	req, _ = http.NewRequest("POST", b.url+"/api/v1/plugins/faulty/upload", sum)
	req.Header.Set("Authorization", "Bearer x")
	req.Trailer = http.Header{"Sum": nil}
	go func() {
		_, _ = w.Write([]byte("abc"))
		req.Trailer.Set("Sum", "s")
		_ = w.Close()
	}()
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(text), "3") || !strings.HasSuffix(string(text), "s") {
		t.Errorf("trailer of the request: %s", text)
	}
}

// TestAnswerBeforeTheBody has a plugin answer a request whose body is not there yet. Either nothing more is asked on the
// client's connection, or what is asked there is answered.
func TestAnswerBeforeTheBody(t *testing.T) {
	b := newBench(t, quick())
	b.faulty(t, Manifest{ID: "faulty"})
	b.start(t)
	for _, c := range []struct {
		name   string
		body   int // more than net/http reads in the plugin, where it is not sent
		sent   string
		closed bool
	}{
		{"some of it", 1 << 20, "01234", true},
		{"all of it", 10, "0123456789", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for n := range 50 {
				fmt.Fprintf(conn, "POST /api/v1/plugins/faulty/pid HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\n\r\n%s", c.body, c.sent)
				_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
					t.Fatalf("request %d: %d %v", n, resp.StatusCode, err)
				}
				if resp.Close != c.closed {
					t.Fatalf("request %d: closed is %t", n, resp.Close)
				}
				if resp.Close {
					return
				}
			}
		})
	}
}
