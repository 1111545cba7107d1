package configs

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/relay/relaytest"
	"github.com/galleychat/galley/core/store/users"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

func bench(t *testing.T, env ...string) (*relaytest.Bench, *Module, *sessiontest.Realtime) {
	b := relaytest.New(t, env...)
	live, accounts := &sessiontest.Realtime{}, users.New(b.DB)
	sessions := session.New(session.Options{Users: accounts, Access: b.Access, Settings: b.Settings, Env: b.Env, Realtime: live})
	signIn, err := oauth.New(oauth.Options{Users: accounts, Access: b.Access, Settings: b.Settings, Env: b.Env})
	if err != nil {
		t.Fatal(err)
	}
	m := New(Deps{Settings: b.Settings, Env: b.Env, OAuth: signIn.Clients, Factors: factor.New(factor.Options{Users: accounts, Settings: b.Settings, Env: b.Env, Sessions: sessions})})
	b.Router.Mount("/configs", m)
	b.Router.Finish()
	return b, m, live
}

func TestForms(t *testing.T) {
	b, _, live := bench(t)
	relaytest.Run(b, []step{
		{"ann", "GET /configs/connections", "", 401, ""},
		{"admin", "POST /configs/connections", `{"ENABLE_DIRECT_CONNECTIONS":true,"ENABLE_DIRECT_INTEGRATIONS":true,"ENABLE_BASE_MODELS_CACHE":false}`, 200, `"ENABLE_DIRECT_INTEGRATIONS":true`},
		{"admin", "POST /configs/connections", `{"ENABLE_DIRECT_CONNECTIONS":false,"ENABLE_BASE_MODELS_CACHE":false}`, 200,
			`{"ENABLE_DIRECT_CONNECTIONS":false,"ENABLE_DIRECT_INTEGRATIONS":true,"ENABLE_BASE_MODELS_CACHE":false}`},
		{"admin", "POST /configs/connections", `{"ENABLE_DIRECT_CONNECTIONS":true,"ENABLE_DIRECT_INTEGRATIONS":null,"ENABLE_BASE_MODELS_CACHE":false}`, 422, `"loc":["body","ENABLE_DIRECT_INTEGRATIONS"]`},
		{"admin", "POST /configs/models", `{"DEFAULT_MODELS":null,"DEFAULT_PINNED_MODELS":"a","MODEL_ORDER_LIST":["b"],"DEFAULT_MODEL_METADATA":{"x":1}}`, 200,
			`{"DEFAULT_MODELS":null,"DEFAULT_PINNED_MODELS":"a","MODEL_ORDER_LIST":["b"],"DEFAULT_MODEL_METADATA":{"x":1},"DEFAULT_MODEL_PARAMS":null}`},
		{"ann", "GET /configs/models/defaults", "", 200, `{"DEFAULT_MODEL_METADATA":{"x":1}}`},
		{"admin", "POST /configs/interface/visibility", `{"visibility":{"a":true,"b":1}}`, 422, `["body","visibility","b"]`},
		{"admin", "POST /configs/interface/visibility", `{"visibility":{"a":true}}`, 200, `{"visibility":{"a":true}}`},
		{"admin", "POST /configs/suggestions", `{"suggestions":[{"title":["t"],"content":"c","x":1}]}`, 200, `{"suggestions":[{"title":["t"],"content":"c"}],"i18n":{}}`},
		{"admin", "POST /configs/banners", `{"banners":[{"id":"b","type":"info","content":"c","dismissible":true,"timestamp":5,"i18n":{"de":{"content":"k"}}}]}`, 200, `"timestamp":5`},
		{"ann", "GET /configs/banners", "", 200, `"i18n":{"de":{"content":"k"}},"id":"b","type":"info","title":null,"content":"c"`},
		{"admin", "POST /configs/subagents", `{"ENABLE_SUBAGENTS":true}`, 422, "SUBAGENTS_MAX_OUTPUT"},
		{"admin", "GET /configs/namespace/subagents", "", 200, `"subagents.enable":false`},
		{"admin", "POST /configs/import", `{"config":{"ui.watermark":"w","own.key":[1]}}`, 200, `"own.key":[1]`},
		{"admin", "GET /configs/export", "", 200, `"ui.watermark":"w"`},
	})
	if ended := live.Take(); len(ended) > 0 {
		t.Errorf("sessions ended: %q", ended)
	}
}

func TestImportEndsSessions(t *testing.T) {
	b, _, live := bench(t)
	b.Exec(`INSERT INTO "user" (id, name, email, role, profile_image_url, last_active_at, updated_at, created_at) VALUES ('ann','Ann','ann@x','user','',1,1,1)`)
	b.Exec(`INSERT INTO auth (id, email, password, active) VALUES ('ann','ann@x','p',TRUE)`)
	relaytest.Run(b, []step{
		{"admin", "POST /configs/import", `{"config":{"auth.mfa.enable":"yes"}}`, 409, "Unable to update MFA policy"},
		{"admin", "POST /configs/import", `{"config":{"auth.mfa.enable":false}}`, 200, ""},
	})
	if ended := live.Take(); len(ended) > 0 {
		t.Errorf("sessions ended: %q", ended)
	}
	relaytest.Run(b, []step{{"admin", "POST /configs/import", `{"config":{"auth.mfa.enable":true}}`, 200, `"auth.mfa.enable":true`}})
	if ended := live.Take(); !slices.Equal(ended, []string{"disconnect ann"}) {
		t.Errorf("sessions ended: %q", ended)
	}
}

func TestServers(t *testing.T) {
	b, _, _ := bench(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tools.yaml", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer k" || r.Header.Get("X-Who") != "admin" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "openapi: 3.1.0\ninfo: {title: Shed}\n")
	})
	mux.HandleFunc("GET /api/config", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("PUT /api/v1/policies/{id}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":%q,"put":%s}`, r.PathValue("id"), body)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u := server.URL
	relaytest.Run(b, []step{
		{"admin", "POST /configs/tool_servers", `{"TOOL_SERVER_CONNECTIONS":[{"url":"u","path":"p","auth_type":null,"key":null,"config":{"enable":true},"own":1}]}`, 200,
			`{"TOOL_SERVER_CONNECTIONS":[{"url":"u","path":"p","type":"openapi","auth_type":null,"forward_cookies":false,"headers":null,"key":null,"config":{"enable":true},"info":null,"own":1}]}`},
		{"admin", "GET /configs/tool_servers", "", 200, `"own":1`},
		{"admin", "POST /configs/tool_servers/verify", `{"url":"` + u + `/","path":"tools.yaml","auth_type":"bearer","key":"k","config":{},"headers":{"X-Who":"{{USER_NAME}}"}}`, 200, `"openapi": "3.1.0"`},
		{"admin", "POST /configs/tool_servers/verify", `{"url":"` + u + `","path":"tools.yaml","auth_type":"none","key":"k","config":{}}`, 400, "Failed to connect to the tool server"},
		{"admin", "POST /configs/terminal_servers", `{"TERMINAL_SERVER_CONNECTIONS":[{"url":"u","policy":1,"own":2}]}`, 200,
			`[{"id":"","name":"","enabled":true,"url":"u","path":"/openapi.json","key":"","auth_type":"bearer","forward_cookies":false,"config":null,"server_type":null,"policy_id":null,"own":2}]`},
		{"admin", "POST /configs/terminal_servers/verify", `{"url":"` + u + `"}`, 200, `{"status":true,"type":"terminal"}`},
		{"admin", "POST /configs/terminal_servers/verify", `{"url":""}`, 400, "Terminal server URL is required"},
		{"admin", "POST /configs/terminal_servers/policy", `{"url":"` + u + `/","policy_id":"p 1","policy_data":{"a":1}}`, 200, `{"id":"p 1","put":{"a":1}}`},
		{"admin", "POST /configs/terminal_servers/refresh", `{"url":"` + u + `"}`, 404, ""},
	})
	off, _, _ := bench(t, "ENABLE_TOOL_SERVERS", "false")
	relaytest.Run(off, []step{{"admin", "POST /configs/terminal_servers/verify", `{"url":"u"}`, 403, "Tool servers are disabled"}})
}

// mcpServer answers as MCP servers do: with JSON, or in a stream after other messages; its list has two pages.
func mcpServer(t *testing.T, stream bool) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		call, _ := jsondoc.Check(body)
		if r.Method != http.MethodPost || call.Get("id") == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result := `{}`
		switch {
		case call.Text("method") == "initialize":
			w.Header().Set("Mcp-Session-Id", "s1")
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`
		case r.Header.Get("Mcp-Session-Id") != "s1":
			w.WriteHeader(http.StatusBadRequest)
			return
		case call.Text("params", "cursor") == "":
			result = `{"tools":[{"name":"a","description":"A","inputSchema":{"type":"object"}}],"nextCursor":"2"}`
		default:
			result = `{"tools":[{"name":"b","inputSchema":{}}]}`
		}
		answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, call.Get("id"), result)
		if stream {
			w.Header().Set("Content-Type", "text/event-stream")
			answer = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\ndata: " + answer + "\n\n"
		} else {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestMCP(t *testing.T) {
	b, _, _ := bench(t)
	for _, stream := range []bool{false, true} {
		u := mcpServer(t, stream).URL
		relaytest.Run(b, []step{{"admin", "POST /configs/tool_servers/verify", `{"url":"` + u + `","path":"","type":"mcp","auth_type":"none","key":"","config":null}`, 200,
			`{"status":true,"specs":[{"name":"a","description":"A","parameters":{"type":"object"}},{"name":"b","description":null,"parameters":{}}]}`}})
	}
	relaytest.Run(b, []step{{"admin", "POST /configs/tool_servers/verify", `{"url":"` + b.Upstream.URL + `/missing","path":"","type":"mcp","auth_type":"none","key":"","config":null}`, 400, "Failed to create MCP client"}})
}

func TestOAuthClients(t *testing.T) {
	b, _, _ := bench(t)
	var u string
	var registered jsondoc.Doc
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+u+`/prm"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	mux.HandleFunc("GET /prm", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"resource":"%s/mcp","scopes_supported":["read"],"authorization_servers":["%s/as"]}`, u, u)
	})
	mux.HandleFunc("GET /.well-known/oauth-authorization-server/as", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":"%s","token_endpoint":"%s/token","registration_endpoint":"%s/reg","token_endpoint_auth_methods_supported":["client_secret_basic"]}`, u, u, u)
	})
	mux.HandleFunc("POST /reg", func(w http.ResponseWriter, r *http.Request) {
		registered, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"client_id":"given","client_secret":"s","client_uri":""}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u = server.URL
	key, err := fernet.NewKey(b.Env.SecretKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ body, want string }{
		{`{"url":"` + u + `/mcp","client_id":"shed"}`, `"client_id":"given","client_secret":"s","client_uri":null,"scope":"read"`},
		{`{"url":"` + u + `/mcp","client_id":"shed","client_secret":"own","oauth_scope":"a, b"}`, `"scope":"a b","token_endpoint_auth_method":"client_secret_basic","client_id":"shed","client_secret":"own"`},
	} {
		got := b.Call("admin", "POST /configs/oauth/clients/register?type=mcp", c.body)
		info, err := key.Decrypt(got.Body.Text("oauth_client_info"))
		if err != nil || !strings.Contains(string(info), c.want) || jsondoc.Doc(info).Text("resource") != u+"/mcp" {
			t.Errorf("%d %s: %s, %v", got.Status, got.Body, info, err)
		}
	}
	if uris := registered.Get("redirect_uris").Texts(); len(uris) != 1 || !strings.HasSuffix(uris[0], "/oauth/clients/mcp:shed/callback") {
		t.Errorf("registered %s", registered)
	}
	relaytest.Run(b, []step{
		{"admin", "POST /configs/tool_servers/verify", `{"url":"` + u + `/mcp","path":"","type":"mcp","auth_type":"oauth_2.1","key":"","config":null}`, 200, `"oauth_server_metadata":{"issuer"`},
		{"admin", "POST /configs/oauth/clients/register", `{"url":"http://127.0.0.1:1","client_id":"x"}`, 400, "Failed to register OAuth client"},
	})
}
