package app

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/web"
)

// account makes an account, the first by its owner and others by an administrator (whose token it takes), and gives its
// token.
func account(t *testing.T, a *App, name, role, admin string) string {
	t.Helper()
	w := httptest.NewRecorder()
	path := "/api/v1/auths/signup"
	if admin != "" {
		path = "/api/v1/auths/add"
	}
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"name":"`+name+`","email":"`+name+`@example.test","password":"a-password-1","role":"`+role+`"}`))
	req.Header.Set("Authorization", "Bearer "+admin)
	req.Header.Set("Content-Type", "application/json")
	a.Handler().ServeHTTP(w, req)
	var session struct{ Token string }
	if err := json.Unmarshal(w.Body.Bytes(), &session); err != nil || session.Token == "" {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	return session.Token
}

// TestDynamicRoutes has a route of a plugin come and go: permissions of real accounts, and its series.
func TestDynamicRoutes(t *testing.T) {
	a := open(t, nil)
	admin := account(t, a, "admin", "admin", "")
	tokens := map[string]string{"admin": admin, "user": account(t, a, "user", "user", admin)}
	handler := func(w http.ResponseWriter, _ *http.Request, p *auth.Principal) { _, _ = w.Write([]byte(p.Name)) }
	routes := []web.DynamicRoute{
		{Method: "GET", Path: "/api/v1/plugins/hello/granted", Level: auth.Verified, Permission: "chat.delete", Handler: handler},
		{Method: "GET", Path: "/api/v1/plugins/hello/{id}/not", Level: auth.Verified, Permission: "workspace.models", Handler: handler},
	}
	if err := a.Router.SetDynamic("plugin:hello", routes); err != nil {
		t.Fatal(err)
	}
	if err := a.Router.SetDynamic("plugin:bad", []web.DynamicRoute{{Path: "/health", Handler: handler}, {Method: "GET", Path: "/ws/socket.io/x", Handler: handler}}); err == nil ||
		!strings.Contains(err.Error(), "/ws/socket.io/") {
		t.Errorf("a built-in route is shadowed: %v", err)
	}
	for _, c := range []struct {
		caller, path string
		status       int
		body         string
	}{
		{"user", "granted", 200, "user"},
		{"user", "1/not", 403, `{"detail":"` + web.TextProhibited + `"}`},
		{"admin", "2/not", 200, "admin"},
		{"", "granted", 401, `{"detail":"Not authenticated"}`},
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/api/v1/plugins/hello/"+c.path, http.NoBody)
		if c.caller != "" {
			req.Header.Set("Authorization", "Bearer "+tokens[c.caller])
		}
		a.Handler().ServeHTTP(w, req)
		if w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.body {
			t.Errorf("%s as %q: %d %s", c.path, c.caller, w.Code, w.Body)
		}
	}
	const route = `route="/api/v1/plugins/hello/{id}/not"`
	_, text := get(t, a, "/metrics")
	for _, line := range []string{
		`galley_http_requests_total{method="GET",` + route + `,status="403"} 1`,
		`galley_http_requests_total{method="GET",` + route + `,status="200"} 1`,
		`galley_http_route_info{method="GET",owner="plugin:hello",` + route + `} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if _, doc := get(t, a, "/openapi.json"); !strings.Contains(doc, `"x-permission":"workspace.models"`) {
		t.Error("the route is not described")
	}
	a.Router.RemoveDynamic("plugin:hello")
	if _, text := get(t, a, "/metrics"); strings.Contains(text, "plugins/hello") {
		t.Error("the series stay")
	}
	if _, doc := get(t, a, "/openapi.json"); strings.Contains(doc, "plugin:hello") {
		t.Error("the description stays")
	}
}

// TestDynamicSpan holds that the span of a plugin's route has its pattern and its owner.
func TestDynamicSpan(t *testing.T) {
	var mu sync.Mutex
	var sent []byte // protobuf, in which texts stand as they are
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, b...)
	}))
	defer collector.Close()
	a := open(t, map[string]string{"GALLEY_METRICS": "false", "ENABLE_OTEL": "true", "ENABLE_OTEL_TRACES": "true", "OTEL_OTLP_SPAN_EXPORTER": "http",
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL})
	handler := func(http.ResponseWriter, *http.Request, *auth.Principal) {}
	if err := a.Router.SetDynamic("plugin:hello", []web.DynamicRoute{{Path: "/api/v1/plugins/hello/{id}", Handler: handler}}); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, a, "/api/v1/plugins/hello/7"); status != http.StatusOK {
		t.Fatal(status, body)
	}
	a.Router.RemoveDynamic("plugin:hello")
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"GET /api/v1/plugins/hello/{id}", "galley.route.owner", "plugin:hello"} {
		if !bytes.Contains(sent, []byte(want)) {
			t.Errorf("%q was not sent", want)
		}
	}
}

// TestObserversOff holds that routes cost nothing more where metrics and traces are off.
func TestObserversOff(t *testing.T) {
	a := open(t, map[string]string{"GALLEY_METRICS": "false"})
	if a.observeDynamic() != nil || a.observeRoute() != nil {
		t.Error("an observer of nothing")
	}
}
