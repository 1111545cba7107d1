package app

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/store/users"
)

// shortDir is a folder whose path leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestOperator compares what the control socket and the API let callers do.
func TestOperator(t *testing.T) {
	vars := map[string]string{"DATA_DIR": shortDir(t), "PLUGINS_UPLOAD": "false", "WEBUI_ADMIN_EMAIL": "root@example.test", "WEBUI_ADMIN_PASSWORD": "root-password-1"}
	a := open(t, vars)
	client, err := control.Connect(t.Context(), vars["DATA_DIR"])
	if err != nil {
		t.Fatal(err)
	}
	body := func() io.Reader { return strings.NewReader(`{"path":"/nothing/there"}`) }
	socket := func(method, path string) (int, string) {
		req, err := http.NewRequest(method, "http://galley"+path, body())
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(raw)
	}
	admin, err := a.Users.ByEmail(t.Context(), "root@example.test")
	if err != nil {
		t.Fatal(err)
	}
	token := tokenOf(t, a, admin)
	api := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(method, path, body())
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		a.Handler().ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		name, method, path string
		call               func(method, path string) (int, string)
		want               int
	}{
		{"list by the socket", "GET", "/api/v1/plugins/", socket, 200},
		{"list by the API", "GET", "/api/v1/plugins", api, 200},
		{"nothing else by the socket", "GET", "/api/v1/users/", socket, 404},
		{"upload of nothing by the socket", "POST", "/api/v1/plugins/install", socket, 422},
		{"upload by the API", "POST", "/api/v1/plugins/install", api, 403},
		{"a path by the socket", "POST", "/api/v1/plugins/install/path", socket, 400},
		{"a path by the API", "POST", "/api/v1/plugins/install/path", api, 405},
	} {
		if status, text := c.call(c.method, c.path); status != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, status, c.want, text)
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Connect(t.Context(), vars["DATA_DIR"]); !errors.Is(err, control.ErrNoServer) {
		t.Errorf("after the end: %v", err)
	}
}

// tokenOf signs in.
func tokenOf(t *testing.T, a *App, u *users.User) string {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequest("POST", "/api/v1/auths/signin", strings.NewReader(`{"email":"`+u.Email+`","password":"root-password-1"}`))
	req.Header.Set("Content-Type", "application/json")
	a.Handler().ServeHTTP(w, req)
	_, rest, _ := strings.Cut(w.Body.String(), `"token":"`)
	token, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("sign in: %d %s", w.Code, w.Body)
	}
	return token
}

func TestWithoutPlugins(t *testing.T) {
	dir := shortDir(t)
	a := open(t, map[string]string{"DATA_DIR": dir, "ENABLE_PLUGINS": "false"})
	if r := a.Router.FindRoute("GET /api/v1/plugins/"); r != nil {
		t.Error("plugins are administered")
	}
	if _, err := control.Connect(t.Context(), dir); !errors.Is(err, control.ErrNoServer) {
		t.Errorf("a control socket: %v", err)
	}
}
