package app

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
)

// TestToolServers: a server that an administrator connects is in the menu, and its tools reach the model.
func TestToolServers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"openapi":"3.1.0","info":{"title":"Shop"},"paths":{"/f":{"get":{"operationId":"weigh","summary":"Weighs"}}}}`)
	}))
	t.Cleanup(server.Close)
	a, up, do := filteredApp(t, nil)
	connections := `{"TOOL_SERVER_CONNECTIONS":[{"url":"` + server.URL + `","path":"openapi.json","auth_type":"none","key":"","config":{"enable":true},"info":{}},
		{"url":"http://127.0.0.1:1","path":"","type":"mcp","auth_type":"none","key":"","config":{"enable":true},"info":{"id":"gone","name":"Gone"}}]}`
	for _, c := range []struct {
		call, body string
		status     int
		want       string
	}{
		{"POST /api/v1/configs/tool_servers", connections, 200, `"Gone"`},
		{"POST /api/v1/configs/tool_servers/verify", `{"url":"` + server.URL + `","path":"openapi.json","auth_type":"none","key":"","config":null}`, 200, `"weigh"`},
		{"GET /api/v1/tools/", "", 200, `"id":"server:0"`},
		{"GET /api/v1/tools/", "", 200, `"id":"server:mcp:gone"`},
		{"GET /api/v1/tools/id/server:mcp:gone/specs", "", 502, "Unable to load tools"},
		{"POST /api/chat/completions", `{"model":"m","tool_ids":["server:mcp:gone","server:0"],"messages":[{"role":"user","content":"hi"}]}`, 200, `"hi"`},
	} {
		if w := do(c.call, c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.call, w.Code, w.Body)
		}
	}
	if asked := strings.Join(up.take(), "\n"); !strings.Contains(asked, `"tools":[{"type":"function","function":{"name":"weigh","description":"Weighs","parameters":{"type":"object","properties":{},"required":[]}}}]`) {
		t.Errorf("asked %s", asked)
	}
	address, err := a.keepToolFile(t.Context(), principalOf(t, a), "image/png", []byte("x"))
	if w := do("GET "+address, ""); err != nil || w.Code != 200 || w.Body.String() != "x" {
		t.Errorf("%s: %d %s, %v", address, w.Code, w.Body, err)
	}
}

func principalOf(t *testing.T, a *App) *auth.Principal {
	t.Helper()
	u, err := a.Users.ByEmail(t.Context(), "root@example.test")
	if err != nil {
		t.Fatal(err)
	}
	return &auth.Principal{User: u}
}
