package toolserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
)

const plainSchema = `{"type":"object"}`

// gives adds a tool that answers with content.
func gives(s *mcp.Server, name string, res *mcp.CallToolResult) {
	s.AddTool(&mcp.Tool{Name: name, Description: "does " + name, InputSchema: jsonRaw(plainSchema)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return res, nil
	})
}

type jsonRaw string

func (r jsonRaw) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// serving serves an MCP server at an address, behind h where that is not nil.
func serving(t *testing.T, s *mcp.Server, h func(next http.Handler) http.Handler, o *mcp.StreamableHTTPOptions) string {
	var handler http.Handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, o)
	if h != nil {
		handler = h(handler)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return srv.URL
}

func mcpTo(address, id, more string) string {
	return string(jsondoc.Doc(connectionTo(address, id, `{"type":"mcp","path":""}`)).Merge(jsondoc.Doc(more)))
}

func TestMCPResults(t *testing.T) {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{PageSize: 3, Instructions: "Be kind."})
	text := func(s ...string) (out []mcp.Content) {
		for _, s := range s {
			out = append(out, &mcp.TextContent{Text: s})
		}
		return out
	}
	long := strings.Repeat("long", 20)
	cases := map[string]struct {
		res  *mcp.CallToolResult
		want string
	}{
		"text":       {&mcp.CallToolResult{Content: text("hi")}, `"hi"`},
		"json":       {&mcp.CallToolResult{Content: text(`{"a": 1}`)}, `{"a": 1}`},
		"two":        {&mcp.CallToolResult{Content: text("hi", "5")}, `["hi",5]`},
		"nothing":    {&mcp.CallToolResult{Content: text()}, `[]`},
		"fails":      {&mcp.CallToolResult{Content: text("no", "way"), IsError: true}, "error: no\nway"},
		"fails_mute": {&mcp.CallToolResult{Content: text(), IsError: true}, "error: MCP tool call returned an error."},
		"image":      {&mcp.CallToolResult{Content: []mcp.Content{&mcp.ImageContent{MIMEType: "image/png", Data: []byte("x")}}}, `[] file {"type":"image","url":"/files/image/png/1"} image "data:image/png;base64,eA=="`},
		"audio":      {&mcp.CallToolResult{Content: []mcp.Content{&mcp.AudioContent{MIMEType: "audio/wav", Data: []byte("xy")}}}, `[] file {"type":"audio","url":"/files/audio/wav/2"}`},
		"resources": {&mcp.CallToolResult{Content: []mcp.Content{
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "u:1", Text: `[1]`}}, &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "u:2", Blob: []byte("x")}},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "u:3", MIMEType: "image/gif", Blob: []byte("x")}}, &mcp.ResourceLink{URI: "u:4", Name: "left out"},
		}}, `[[1],"[Resource: u:2] (binary data, mimeType: application/octet-stream)"] file {"type":"image","url":"/files/image/gif/1"} image "data:image/gif;base64,eA=="`},
		"structured":       {&mcp.CallToolResult{Content: text("words"), StructuredContent: map[string]any{"b": 1, "a": "<"}}, `["words",{"a":"<","b":1}]`},
		"structured_twice": {&mcp.CallToolResult{Content: text(`{"b": 1}`), StructuredContent: map[string]any{"b": 1}}, `{"b": 1}`},
		"wrapped":          {&mcp.CallToolResult{Content: text("1", "b"), StructuredContent: map[string]any{"result": []any{1, "b"}}}, `[1,"b"]`},
		"wrapped_whole":    {&mcp.CallToolResult{Content: text(`["a","b"]`), StructuredContent: map[string]any{"result": []any{"a", "b"}}}, `["a","b"]`},
		"wrapped_number":   {&mcp.CallToolResult{Content: text(`true`), StructuredContent: map[string]any{"result": 1}}, `[true,{"result":1}]`},
		long:               {&mcp.CallToolResult{Content: text("hi")}, `"hi"`},
	}
	for name, c := range cases {
		gives(s, name, c.res)
	}
	gives(s, "hidden", &mcp.CallToolResult{})
	b := newBench(t)
	b.connections(mcpTo(serving(t, s, nil, nil), "s", `{"config":{"enable":true,"function_name_filter_list":"!hidden"}}`), mcpTo("http://127.0.0.1:1", "dead", `{}`))
	tools := b.tools(admin, "server:mcp:dead", "server:mcp:s", "server:mcp:gone")
	if len(tools) != len(cases) || strings.Join(b.told, "|") != "MCP server \"s\" instructions:\nBe kind." {
		t.Errorf("%d tools, told %q", len(tools), b.told)
	}
	if strings.Join(b.events, "|") != "status Failed to connect to MCP server 'dead'" {
		t.Errorf("events %q", b.events)
	}
	for name, c := range cases {
		full := mcpName("s", name)
		if len(full) > maxName {
			t.Errorf("%s has %d bytes", full, len(full))
		}
		if got := summary(call(t.Context(), tools[full], `{"x":1}`)); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, c.want)
		}
	}
	same(t, tools["s_text"].Function, `{"name":"s_text","description":"does text","parameters":{"type":"object"}}`)
	specs, err := b.Specs(t.Context(), admin, nil, "server:mcp:s")
	if err != nil || len(specs) != len(cases) {
		t.Errorf("%d specs, %v", len(specs), err)
	}
	for id, want := range map[string]error{"server:mcp:gone": ErrNotFound, "server:s": ErrNotFound} {
		if _, err := b.Specs(t.Context(), admin, nil, id); !errors.Is(err, want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := b.Specs(t.Context(), person("u2", users.RoleUser), nil, "server:mcp:s"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.Specs(t.Context(), admin, nil, "server:mcp:dead"); err == nil {
		t.Error("a dead server has tools")
	}
}

// TestMCPSessions: a turn's session is ended with the turn, on servers of both generations of the protocol.
func TestMCPSessions(t *testing.T) {
	for _, stateless := range []bool{false, true} {
		var ended atomic.Int32
		s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
		gives(s, "f", &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hi"}}})
		address := serving(t, s, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				if r.Method == http.MethodDelete {
					ended.Add(1)
				}
			})
		}, &mcp.StreamableHTTPOptions{Stateless: stateless})
		b := newBench(t)
		b.connections(mcpTo(address, "s", `{}`))
		tools := b.tools(admin, "server:mcp:s")
		if got := summary(call(t.Context(), tools["s_f"], `{}`)); got != `"hi"` {
			t.Error(got)
		}
		for _, f := range b.ends {
			f()
		}
		if n := ended.Load(); len(b.ends) != 1 || !stateless && n > 1 {
			t.Errorf("%d ends, %d sessions ended", len(b.ends), n)
		}
		b.ends = nil
		if _, err := call(t.Context(), tools["s_f"], `{}`); err == nil {
			t.Error("a session that has ended answers")
		}
	}
}

func TestMCPAuth(t *testing.T) {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	gives(s, "f", &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hi"}}})
	var wanted atomic.Value
	wanted.Store("")
	address := serving(t, s, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != wanted.Load() || r.Header.Get("X-Who") != "u1 c1" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}, nil)
	b := newBench(t)
	b.tokens["mcp:s"] = "tok"
	for _, c := range []struct {
		auth, want string
		n          int
	}{
		{`"bearer"`, "Bearer k", 1}, {`"bearer"`, "Bearer other", 0}, {`"session"`, "Bearer token of u1", 1}, {`"none"`, "", 1}, {`"oauth_2.1"`, "Bearer tok of u1", 1},
		{`"oauth_2.1_static"`, "Bearer renewed of u1", 0},
	} {
		wanted.Store(c.want)
		b.connections(mcpTo(address, "s", `{"key":"k","headers":{"X-Who":"{{USER_ID}} {{CHAT_ID}}"},"auth_type":`+c.auth+`}`))
		if tools := b.tools(admin, "server:mcp:s"); len(tools) != c.n {
			t.Errorf("%s with %q: %d tools", c.auth, c.want, len(tools))
		}
	}
	b.tokens["new mcp:s"] = "renewed"
	tools := b.tools(admin, "server:mcp:s")
	if got := summary(call(t.Context(), tools["s_f"], `{}`)); got != `"hi"` {
		t.Errorf("with a renewed token: %s", got)
	}
	sets, err := b.List(t.Context(), admin)
	if err != nil || len(sets) != 1 || sets[0].Authenticated == nil || !*sets[0].Authenticated || sets[0].Name != "MCP Tool Server" {
		t.Errorf("%+v, %v", sets, err)
	}
	clear(b.tokens)
	if sets, _ := b.List(t.Context(), admin); *sets[0].Authenticated {
		t.Error("authenticated without a token")
	}
	if _, err := b.Specs(t.Context(), admin, Caller(admin, nil), "server:mcp:s"); !errors.Is(err, ErrSignIn) {
		t.Error(err)
	}
}

// TestMCPFaults: a server that hangs, breaks off or talks nonsense costs its tools, and no more.
func TestMCPFaults(t *testing.T) {
	b := newBench(t, "MCP_INITIALIZE_TIMEOUT", "1", "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER", "1")
	var list, ids []string
	for name, h := range map[string]http.HandlerFunc{
		"hangs":    func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"dies":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"error":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"away": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
	} {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		list, ids = append(list, mcpTo(srv.URL, name, "{}")), append(ids, "server:mcp:"+name)
	}
	dying := make(chan struct{})
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	waiting := make(chan struct{}, 1)
	s.AddTool(&mcp.Tool{Name: "slow", InputSchema: jsonRaw(plainSchema)}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		waiting <- struct{}{}
		select {
		case <-ctx.Done():
		case <-dying:
		}
		return &mcp.CallToolResult{}, nil
	})
	gives(s, "huge", &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: strings.Repeat("x", maxMessage)}}})
	good := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
	t.Cleanup(good.Close)
	b.connections(append(list, mcpTo(good.URL, "good", "{}"))...)
	began := time.Now()
	tools := b.tools(admin, append(ids, "server:mcp:good")...)
	if took := time.Since(began); len(tools) != 2 || len(b.events) != len(ids) || took > 5*time.Second {
		t.Errorf("%d tools, events %q, %s", len(tools), b.events, took)
	}
	if got := summary(call(t.Context(), tools["good_slow"], "{}")); got != "error: the tool server did not answer in time" {
		t.Error(got)
	}
	<-waiting
	if _, err := call(t.Context(), tools["good_huge"], "{}"); err == nil {
		t.Error("a huge answer is taken")
	}
	b.Env.Client.ToolTimeout = 0
	tools = b.tools(admin, "server:mcp:good")
	go func() { <-waiting; good.CloseClientConnections(); good.Listener.Close() }()
	if _, err := call(t.Context(), tools["good_slow"], "{}"); err == nil {
		t.Error("a server that died answers")
	}
	close(dying)
}

// TestElicitation: what a server asks in a call is asked at the page.
func TestElicitation(t *testing.T) {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "sure", InputSchema: jsonRaw(plainSchema)}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "Sure?", RequestedSchema: jsonRaw(`{"type":"object","properties":{"sure":{"type":"boolean"}}}`)})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(res.Action, " ", res.Content["sure"])}}}, nil
	})
	b := newBench(t)
	b.connections(mcpTo(serving(t, s, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // of the generation with sessions, which can ask
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), "server/discover") {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			next.ServeHTTP(w, r)
		})
	}, nil), "s", "{}"))
	tools := b.tools(admin, "server:mcp:s")
	if got := summary(call(t.Context(), tools["s_sure"], "{}")); got != `"accept true"` {
		t.Error(got)
	}
	want := `request:elicitation {"mode":"form","message":"Sure?","requestedSchema":{"properties":{"sure":{"type":"boolean"}},"type":"object"},"server_name":"s"}`
	if len(b.events) != 1 || b.events[0] != want {
		t.Errorf("%q", b.events)
	}
	for name, c := range map[string]struct {
		params *mcp.ElicitParams
		answer string
		err    error
		want   string
	}{
		"an address":      {&mcp.ElicitParams{Mode: "url", URL: "https://x/y"}, `{"action":"decline"}`, nil, "decline"},
		"an odd address":  {&mcp.ElicitParams{Mode: "url", URL: "https://me:pw@x/y"}, `{"action":"accept"}`, nil, "cancel"},
		"a local address": {&mcp.ElicitParams{Mode: "url", URL: "file:///x"}, `{"action":"accept"}`, nil, "cancel"},
		"no answer":       {&mcp.ElicitParams{}, "", turn.ErrGone, "cancel"},
		"odd answer":      {&mcp.ElicitParams{}, `{"action":"maybe"}`, nil, "cancel"},
		"odd content":     {&mcp.ElicitParams{}, `{"action":"accept","content":[1]}`, nil, "cancel"},
	} {
		f := elicitor("s", func(context.Context, string, jsondoc.Doc) (jsondoc.Doc, error) { return jsondoc.Doc(c.answer), c.err })
		if res, err := f(t.Context(), &mcp.ElicitRequest{Params: c.params}); err != nil || res.Action != c.want {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}
