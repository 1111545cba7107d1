package app

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/galleychat/galley/core/jsondoc"
)

// fromProxy sends a request as a client behind a proxy would.
func fromProxy(a *App, spec, body string, headers ...string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(spec, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "10.0.0.7:1234"
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w
}

// TestHeadersEverywhere has every kind of answer, of all that answers.
func TestHeadersEverywhere(t *testing.T) {
	a := open(t, map[string]string{"HSTS": "max-age=9", "XFRAME_OPTIONS": "SAMEORIGIN", "CONTENT_SECURITY_POLICY": "default-src 'self'", "CORS_ALLOW_ORIGIN": "https://a.example"})
	for spec, status := range map[string]int{
		"GET /": 200, "GET /c/some/page": 200, "GET /missing.js": 404, "GET /static/favicon.png": 200, "GET /static/none.png": 404, "POST /": 405,
		"GET /api/config": 200, "GET /api/v1/users/": 401, "POST /api/v1/auths/signin": 422, "PUT /api/v1/auths/signin": 405, "GET /health": 200,
		"GET /metrics": 200, "GET /openapi.json": 200, "GET /manifest.json": 200, "GET /watch?v=x": 307, "GET /a/../b": 200,
		"GET /ws/socket.io/?EIO=4&transport=polling": 400, "GET /ws/socket.io/?EIO=4&transport=websocket": 400, "OPTIONS /api/config": 200,
	} {
		for _, origin := range []string{"https://a.example", "https://b.example"} {
			w := fromProxy(a, spec, "{}", "Origin", origin, "Access-Control-Request-Method", "GET")
			if strings.HasPrefix(spec, "OPTIONS") && origin != "https://a.example" {
				status = 400
			}
			h := w.Header()
			policies := h["Content-Security-Policy"]
			if w.Code != status || h.Get("Strict-Transport-Security") != "max-age=9" || h.Get("X-Frame-Options") != "SAMEORIGIN" ||
				len(policies) == 0 || policies[len(policies)-1] != "default-src 'self'" {
				t.Errorf("%s: %d %v", spec, w.Code, h)
			}
			if allowed := h.Get("Access-Control-Allow-Origin"); (allowed == origin) != (origin == "https://a.example") || h.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("%s from %s: allows %q", spec, origin, allowed)
			}
		}
	}
}

// TestBehindProxy signs in by way of a proxy that ends TLS: cookies, the log and what is told of the address are right.
func TestBehindProxy(t *testing.T) {
	redis := miniredis.RunT(t)
	log := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, map[string]string{
		"FORWARDED_ALLOW_IPS": "10.0.0.0/8", "WEBUI_SESSION_COOKIE_SECURE": "true", "WEBUI_SESSION_COOKIE_SAME_SITE": "strict", "WEBUI_AUTH_COOKIE_SAME_SITE": "none",
		"AUDIT_LOG_LEVEL": "METADATA", "AUDIT_LOGS_FILE_PATH": log, "WEBUI_ADMIN_EMAIL": "boss@x.test", "WEBUI_ADMIN_PASSWORD": "pw", "REDIS_URL": "redis://" + redis.Addr(),
	})
	w := fromProxy(a, "POST /api/v1/auths/signin", `{"email":"boss@x.test","password":"pw"}`, "X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.0.0.8", "X-Forwarded-Proto", "https")
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 || !cookies[0].Secure || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteNoneMode {
		t.Fatalf("%d %s %v", w.Code, w.Body, cookies)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if d := jsondoc.Doc(strings.TrimSpace(string(b))); d.Text("source_ip") != "1.2.3.4" || d.Text("request_uri") != "https://example.com/api/v1/auths/signin" {
		t.Errorf("%s", b)
	}
	if keys := redis.Keys(); len(keys) != 1 || !strings.HasPrefix(keys[0], "open-webui:ratelimit:boss@x.test:") {
		t.Errorf("%v", keys)
	}

	// the session is refreshed and ended with the same attributes
	token := cookies[0].Value
	me := fromProxy(a, "GET /api/v1/auths/", "", "Cookie", "token="+token)
	if c := me.Result().Cookies(); me.Code != 200 || len(c) != 1 || !c[0].Secure || c[0].SameSite != http.SameSiteNoneMode {
		t.Errorf("%d %v", me.Code, c)
	}
	out := fromProxy(a, "POST /api/v1/auths/signout", "", "Cookie", "token="+token)
	for _, c := range out.Result().Cookies() {
		if c.MaxAge >= 0 {
			t.Errorf("%v is not dropped", c)
		}
	}
	if me := fromProxy(a, "GET /api/v1/auths/", "", "Authorization", "Bearer "+token); me.Code != 401 {
		t.Errorf("signed out: %d", me.Code)
	}
	a.ready.Store(true)
	if w := fromProxy(a, "GET /ready", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	redis.Close()
	if w := fromProxy(a, "GET /ready", ""); w.Code != 503 || w.Body.String() != `{"detail":"Redis not ready"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestBadSecuritySettings(t *testing.T) {
	for name, value := range map[string]string{"REDIS_URL": "http://x", "AUDIT_INCLUDED_PATHS": "(", "CORS_ALLOW_ORIGIN": "*;https://a"} {
		c, err := ReadConfig(lookup(map[string]string{"DATA_DIR": t.TempDir(), name: value, "AUDIT_LOG_LEVEL": "METADATA"}))
		if err == nil {
			c.Log = t.Output()
			var a *App
			a, err = Open(t.Context(), c)
			if err == nil {
				_ = a.Close(t.Context())
			}
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}
