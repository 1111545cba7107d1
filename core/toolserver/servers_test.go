package toolserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/relay/relaytest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
)

// bench are Servers with a turn that asks for tools.
type bench struct {
	t *testing.T
	*Servers
	tokens map[string]string // by client; what a renewal gives by "new " and the client

	mu     sync.Mutex
	told   []string
	events []string
	ends   []func()
	calls  []string // of servers, with what came of them
}

func newBench(t *testing.T, env ...string) *bench {
	rb := relaytest.New(t, env...)
	b := &bench{t: t, tokens: map[string]string{}}
	b.Servers = New(Deps{
		Settings: rb.Settings, Env: rb.Env, Access: rb.Access, Headers: &llm.HeaderOptions{}, Log: slog.New(slog.DiscardHandler), Tokens: b,
		HTTP: NewClient(nil, func(rt http.RoundTripper) http.RoundTripper { return rt }),
		Observe: func(server string) func(error) {
			return func(err error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.calls = append(b.calls, fmt.Sprint(server, " ", err == nil))
			}
		},
		Keep: func(_ context.Context, _ *auth.Principal, mediaType string, content []byte) (string, error) {
			return fmt.Sprintf("/files/%s/%d", mediaType, len(content)), nil
		},
	})
	t.Cleanup(func() {
		for _, f := range b.ends {
			f()
		}
	})
	return b
}

// Token implements Tokens.
func (b *bench) Token(_ context.Context, userID, clientID string, renew bool) (jsondoc.Doc, error) {
	if renew {
		clientID = "new " + clientID
	}
	if v := b.tokens[clientID]; v != "" {
		return jsondoc.Object("access_token", jsondoc.Text(v+" of "+userID)), nil
	}
	return nil, nil
}

// connect sets the connections.
func (b *bench) connections(list ...string) {
	b.t.Helper()
	value := jsontext.Value("[" + strings.Join(list, ",") + "]")
	if err := b.Settings.Set(b.t.Context(), config.Changes{config.ToolServerConnections.Key(): value}); err != nil {
		b.t.Fatal(err)
	}
}

// connection is one of an address, with more members or others in their place.
func connectionTo(address, id, more string) string {
	own := fmt.Sprintf(`{"url":%q,"path":"openapi.json","type":"openapi","auth_type":"none","key":"","config":{"enable":true},"info":{"id":%q}}`, address, id)
	return string(jsondoc.Doc(own).Merge(jsondoc.Doc(more)))
}

func person(id, role string) *auth.Principal {
	return &auth.Principal{User: &users.User{ID: id, Name: id, Role: role}, Token: "token of " + id}
}

// tools are those of sets, for a person.
func (b *bench) tools(p *auth.Principal, ids ...string) map[string]turn.Tool {
	b.t.Helper()
	caller := Caller(p, []*http.Cookie{{Name: "c", Value: "1"}})
	caller.Meta = llm.CallMeta{ChatID: "c1", MessageID: "m1", ModelID: "gpt"}
	found, err := b.Servers.Tools(b.t.Context(), turn.Scope{
		Principal: p, Caller: caller,
		Emit: func(kind string, data jsondoc.Doc) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, kind+" "+data.Text("description"))
		},
		Instruct: func(text string) { b.told = append(b.told, text) },
		AtEnd: func(f func()) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ends = append(b.ends, f)
		},
		Ask: func(_ context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, kind+" "+string(data))
			return jsondoc.Doc(`{"action":"accept","content":{"sure":true}}`), nil
		},
	}, ids)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]turn.Tool{}
	for _, tool := range found {
		out[tool.Name] = tool
	}
	return out
}

func call(ctx context.Context, tool turn.Tool, arguments string) (turn.ToolResult, error) {
	if tool.Call == nil {
		return turn.ToolResult{}, errors.New("no such tool")
	}
	return tool.Call(ctx, turn.ToolCall{Name: tool.Name, Arguments: jsondoc.Doc(arguments), Principal: person("u1", users.RoleAdmin)})
}

// summary writes a result as a line.
func summary(r turn.ToolResult, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	out := string(r.Content)
	for _, f := range r.Files {
		out += " file " + string(f)
	}
	for _, e := range r.Embeds {
		out += " embed " + string(e)
	}
	for _, i := range r.Images {
		out += " image " + string(i)
	}
	return out
}

var admin = person("u1", users.RoleAdmin)

// describing answers with a document of one operation, f at GET /f, and calls with h.
func describing(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi.json" {
			_, _ = io.WriteString(w, `{"openapi":"3.1.0","info":{"title":"T","description":"D"},"paths":{"/f":{"get":{"operationId":"f"}}}}`)
			return
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestFaultyDescriptions: servers that cannot say what they do are left out, and the others are there.
func TestFaultyDescriptions(t *testing.T) {
	b := newBench(t, "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER_DATA", "1")
	hold := make(chan struct{})
	faults := map[string]http.HandlerFunc{
		"slow":    func(_ http.ResponseWriter, r *http.Request) { <-hold },
		"broken":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"words":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>: {[") },
		"other":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"mcpServers":{}}`) },
		"refused": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range maxDescription>>20 + 2 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"paths":{`)
		},
	}
	good := describing(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	list, ids := []string{connectionTo("http://127.0.0.1:1", "dead", "{}"), connectionTo(good.URL, "good", "{}"), connectionTo("::bad::", "address", "{}")}, []string{"server:dead", "server:address", "server:good", "server:unknown", "server:", "plugin:x"}
	for name, h := range faults {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		list, ids = append(list, connectionTo(s.URL, name, "{}")), append(ids, "server:"+name)
	}
	t.Cleanup(func() { close(hold) })
	b.connections(list...)
	tools := b.tools(admin, ids...)
	if got := summary(call(t.Context(), tools["f"], "{}")); len(tools) != 1 || got != `"fine"` {
		t.Errorf("%d tools, %s", len(tools), got)
	}
	sets, err := b.List(t.Context(), admin)
	if err != nil || len(sets) != 1 || sets[0] != (Set{ID: "server:good", Name: "T", Description: "D"}) {
		t.Errorf("%+v, %v", sets, err)
	}
}

// TestFaultyCalls: what goes wrong in a call is told to the model.
func TestFaultyCalls(t *testing.T) {
	b := newBench(t, "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER", "1")
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"slow":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "error: the tool server did not answer in time"},
		"broken": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh no", 500) }, "error: HTTP error 500: oh no\n"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 1<<20)
			for range maxResult>>20 + 2 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "error: the answer has more than 32 MB"},
		"dies": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "error: EOF"},
		"dies midway": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("abc"))
		}, "error: the answer broke off: unexpected EOF"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{x")
		}, `"data:application/json;base64,e3g="`},
		"empty": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/json") }, `null`},
		"own JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			_, _ = io.WriteString(w, `{"a":1}`)
		}, `{"a":1}`},
		"image": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/gif")
			_, _ = io.WriteString(w, "GIF")
		}, `"f: Image file read successfully." file {"type":"image","url":"data:image/gif;base64,R0lG"}`},
		"page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Disposition", "inline")
			_, _ = io.WriteString(w, "<p>")
		}, `{"status":"success","code":"ui_component","message":"f: Embedded UI result is active and visible to the user."} embed "<p>"`},
		"to elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "\"<a href=\\\"http://127.0.0.1:1/\\\">Found</a>.\\n\\n\""},
	} {
		t.Run(name, func(t *testing.T) {
			s := describing(t, c.h)
			b.connections(connectionTo(s.URL, "s", "{}"))
			if got := summary(call(t.Context(), b.tools(admin, "server:s")["f"], "{}")); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	var failed int
	for _, c := range b.calls {
		if c == "s false" {
			failed++
		}
	}
	if len(b.calls) != 11 || failed != 5 {
		t.Errorf("observed %v", b.calls)
	}
}

// TestCancelledCall: a call ends with its turn.
func TestCancelledCall(t *testing.T) {
	b := newBench(t)
	begun, gone := make(chan struct{}), make(chan struct{})
	s := describing(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(gone)
	})
	b.connections(connectionTo(s.URL, "s", "{}"))
	tool := b.tools(admin, "server:s")["f"]
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := call(ctx, tool, "{}"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-gone
}

// TestHeaders: who calls is told as the connection wants it.
func TestHeaders(t *testing.T) {
	b := newBench(t, "ENABLE_FORWARD_USER_INFO_HEADERS", "true")
	b.Headers = &llm.HeaderOptions{ForwardUserInfo: true, UserID: "X-User-Id", ChatID: "X-Chat-Id", UserName: "X-Name", UserEmail: "X-Email", UserRole: "X-Role", AuthType: "X-Auth"}
	b.tokens["openapi:s"], b.tokens["new openapi:s"] = "old", "new"
	s := describing(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer old of u1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		out := ""
		for _, name := range []string{"Authorization", "Cookie", "X-Who", "X-User-Id", "X-Chat-Id", "X-OpenWebUI-Message-Id", "X-Auth"} {
			out += r.Header.Get(name) + "|"
		}
		_, _ = io.WriteString(w, out)
	})
	const forwarded = "u1|c1|m1||"
	for more, want := range map[string]string{
		`{"auth_type":"bearer","key":" k "}`:                                 "Bearer k||||"[:len("Bearer k|||")] + forwarded,
		`{"auth_type":"none","key":"k"}`:                                     "|||" + forwarded,
		`{"auth_type":null,"key":"k"}`:                                       "|||" + forwarded,
		`{"auth_type":"session","forward_cookies":true}`:                     "Bearer token of u1|c=1||" + forwarded,
		`{"auth_type":"oauth_2.1"}`:                                          "Bearer new of u1|||" + forwarded,
		`{"headers":{"X-Who":"{{USER_ID}} {{CHAT_ID}} {{MODEL_ID}}"}}`:       "||u1 c1 gpt|" + forwarded,
		`{"auth_type":"bearer","key":"k","headers":{"authorization":"own"}}`: "own|||" + forwarded,
	} {
		b.connections(connectionTo(s.URL, "s", more))
		if got := summary(call(t.Context(), b.tools(admin, "server:s")["f"], "{}")); got != `"`+want+`"` {
			t.Errorf("%s: got %s, want %s", more, got, want)
		}
	}
	b.tokens["new openapi:s"] = "old"
	b.connections(connectionTo(s.URL, "s", `{"auth_type":"oauth_2.1"}`))
	if got := summary(call(t.Context(), b.tools(admin, "server:s")["f"], "{}")); got != "error: the tool server wants its user to sign in" {
		t.Error(got)
	}
}

// TestGrants: who may use which server, and which are on.
func TestGrants(t *testing.T) {
	s := describing(t, func(http.ResponseWriter, *http.Request) {})
	grant := func(id string) string {
		return `{"config":{"enable":true,"access_grants":[{"principal_type":"user","principal_id":"` + id + `","permission":"read"}]}}`
	}
	list := []string{
		connectionTo(s.URL, "private", "{}"), connectionTo(s.URL, "hers", grant("u2")), connectionTo(s.URL, "everyones", grant("*")),
		connectionTo(s.URL, "off", `{"config":{"enable":false}}`), connectionTo(s.URL, "bare", `{"config":null}`), connectionTo(s.URL, "odd", `{"type":null}`),
		connectionTo(s.URL, "", `{"info":{"name":"By place","description":"x"}}`),
	}
	ids := []string{"server:private", "server:hers", "server:everyones|f,g", "server:off", "server:bare", "server:odd", "server:6"}
	for name, c := range map[string]struct {
		env  []string
		p    *auth.Principal
		list string
		n    int
	}{
		"admin":          {nil, admin, "server:private server:hers server:everyones server:6", 4},
		"strict admin":   {[]string{"BYPASS_ADMIN_ACCESS_CONTROL", "false"}, admin, "server:private server:everyones server:6", 3},
		"grantee":        {nil, person("u2", users.RoleUser), "server:hers server:everyones", 2},
		"user":           {nil, person("u3", users.RoleUser), "server:everyones", 1},
		"the server":     {nil, auth.ServerItself(), "server:private server:hers server:everyones server:6", 4},
		"all turned off": {[]string{"ENABLE_TOOL_SERVERS", "false"}, admin, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.env...)
			b.connections(list...)
			sets, err := b.List(t.Context(), c.p)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sets {
				got = append(got, s.ID)
			}
			if strings.Join(got, " ") != c.list {
				t.Errorf("listed %v", got)
			}
			tools, err := b.Tools(t.Context(), turn.Scope{Principal: c.p, Instruct: func(string) {}}, ids)
			if err != nil || len(tools) != c.n {
				t.Errorf("%d tools, %v", len(tools), err)
			}
		})
	}
}

// TestDescriptionsAreKept: many ask once, a changed connection is asked anew, and nobody waits for another's time-out.
func TestDescriptionsAreKept(t *testing.T) {
	b := newBench(t)
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"paths":{}}`)
	}))
	t.Cleanup(s.Close)
	b.connections(connectionTo(s.URL, "s", "{}"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = b.List(t.Context(), admin) })
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	b.connections(connectionTo(s.URL, "s", `{"key":"other"}`))
	sets, _ := b.List(t.Context(), admin)
	if n := asked.Load(); n != 2 || len(sets) != 1 || sets[0].Name != "Tool Server" {
		t.Errorf("asked %d times, %+v", n, sets)
	}
	for _, e := range b.cache.entries {
		e.until = time.Now().Add(-time.Second)
	}
	_, _ = b.List(t.Context(), admin)
	if n := asked.Load(); n != 3 || len(b.cache.entries) != 1 {
		t.Errorf("asked %d times, %d kept", n, len(b.cache.entries))
	}
	b.connections(connectionTo("http://127.0.0.1:1", "s", `{"spec_type":"json","spec":"{\"info\":{\"title\":\"Inline\"},\"paths\":{}}"}`))
	if sets, _ := b.List(t.Context(), admin); len(sets) != 1 || sets[0].Name != "Inline" {
		t.Errorf("%+v", sets)
	}
	// One who gives up does not wait, and does not keep others from the description.
	hold := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-hold
		_, _ = io.WriteString(w, `{"paths":{}}`)
	}))
	t.Cleanup(slow.Close)
	b.connections(connectionTo(slow.URL, "slow", "{}"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sets, _ := b.List(ctx, admin); len(sets) != 0 {
		t.Errorf("%+v", sets)
	}
	close(hold)
	if sets, _ := b.List(t.Context(), admin); len(sets) != 1 {
		t.Errorf("%+v", sets)
	}
}
