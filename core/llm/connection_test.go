package llm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestSettingsConnections(t *testing.T) {
	s := Settings{
		OpenAIEnable: true, OpenAIURLs: []string{"http://a/v1", "http://b/v1", "http://c/v1"}, OpenAIKeys: []string{"ka", "kb"},
		OpenAIConfigs: []byte(`{"1":{"enable":false,"prefix_id":"far","model_ids":["x",1,"y"],"tags":[{"name":"t"}],"connection_type":"local",
			"headers":{"X-A":"{{USER_ID}}","X-N":5},"provider":"azure","api_version":"","api_type":"responses"},
			"http://c/v1":{"auth_type":"none","tags":[]}}`),
		OllamaEnable: true, OllamaURLs: []string{"http://o:1/", "http://p:2/sub"},
		OllamaConfigs: []byte(`{"0":{"key":"k0"},"http://p:2":{"key":"legacy"},"http://p:2/sub":{"prefix_id":"pp"}}`),
	}
	got := s.Connections()
	if len(got) != 5 {
		t.Fatalf("%d connections", len(got))
	}
	a, b, c, o, p := got[0], got[1], got[2], got[3], got[4]
	if a.ID() != "openai/0" || a.Key != "ka" || !a.Config.Enable || a.Config.ConnectionType != "external" || a.Public("m") != "m" {
		t.Errorf("a: %+v", a)
	}
	if b.Key != "kb" || b.Config.Enable || strings.Join(b.Config.ModelIDs, " ") != "x y" || string(b.Config.Tags) != `[{"name":"t"}]` ||
		b.Config.ConnectionType != "local" || len(b.Config.Headers) != 2 || b.Config.Headers[1] != (Header{"X-N", "5"}) ||
		!b.Config.Azure || !b.Config.HasAPIVersion || b.Config.APIType != "responses" {
		t.Errorf("b: %+v", b)
	}
	if b.Public("m") != "far.m" || b.Upstream("far.m") != "m" || b.Upstream("farm") != "farm" {
		t.Error("prefix")
	}
	if c.Key != "" || c.Config.AuthType != "none" || c.Config.Tags != nil {
		t.Errorf("c: %+v", c)
	}
	if o.ID() != "ollama/0" || o.Key != "k0" || o.Config.ConnectionType != "local" {
		t.Errorf("o: %+v", o)
	}
	if p.Key != "legacy" || p.Config.PrefixID != "pp" {
		t.Errorf("p: %+v", p)
	}
	if n := len(Settings{OpenAIURLs: s.OpenAIURLs, OllamaURLs: s.OllamaURLs}.Connections()); n != 0 {
		t.Errorf("disabled kinds gave %d connections", n)
	}
	for _, bad := range []string{"", "null", "[]", `"x"`, `{"0":7}`, `{"0":null}`} {
		cs := Settings{OpenAIEnable: true, OpenAIURLs: []string{"u"}, OpenAIConfigs: []byte(bad)}.Connections()
		if len(cs) != 1 || !cs[0].Config.Enable {
			t.Errorf("configs %q: %+v", bad, cs)
		}
	}
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

var alice = &Caller{ID: "u1", Name: " Älice B ", Email: "a@b.c ", Role: "user", AuthType: "jwt", Token: "tok", UserAgent: "UA",
	Cookies: []*http.Cookie{{Name: "c", Value: "1"}, {Name: "d", Value: "2"}}, Meta: CallMeta{ChatID: "chat1", Task: "title_generation"},
	Groups: func(context.Context) ([]Group, error) { return []Group{{"g1", " Cooks "}, {"g2", "Ö"}}, nil }}

func TestHeaders(t *testing.T) {
	forward := map[string]string{"ENABLE_FORWARD_USER_INFO_HEADERS": "True"}
	tests := []struct {
		name, config, url string
		env               map[string]string
		caller            *Caller
		want              map[string]string // "" means absent
	}{
		{"default", `{}`, "http://x", nil, alice, map[string]string{"Content-Type": "application/json", "Authorization": "Bearer key",
			"X-Openwebui-User-Id": "", "Cookie": "", "X-Title": ""}},
		{"none", `{"auth_type":"none"}`, "http://x", nil, alice, map[string]string{"Authorization": ""}},
		{"session", `{"auth_type":"session"}`, "http://x", nil, alice, map[string]string{"Authorization": "Bearer tok"}},
		{"session without caller", `{"auth_type":"session"}`, "http://x", nil, nil, map[string]string{"Authorization": ""}},
		{"oauth is not sent the key", `{"auth_type":"system_oauth"}`, "http://x", nil, alice, map[string]string{"Authorization": ""}},
		{"the provider's token", `{"auth_type":"system_oauth"}`, "http://x", map[string]string{"provider": "yes"}, alice, map[string]string{"Authorization": "Bearer of u1"}},
		{"the provider's token, for nobody", `{"auth_type":"system_oauth"}`, "http://x", map[string]string{"provider": "yes"}, nil, map[string]string{"Authorization": ""}},
		{"openrouter", `{}`, "https://openrouter.ai/api/v1", nil, nil, map[string]string{"X-Title": "Galley", "Http-Referer": "https://github.com/galleychat/galley"}},
		{"cookies", `{"forward_cookies":true}`, "http://x", nil, alice, map[string]string{"Cookie": "c=1; d=2"}},
		{"user info", `{}`, "http://x", forward, alice, map[string]string{"X-Openwebui-User-Name": "%C3%84lice B", "X-Openwebui-User-Id": "u1",
			"X-Openwebui-User-Email": "a@b.c", "X-Openwebui-User-Role": "user", "X-Openwebui-Auth-Type": "jwt", "X-Openwebui-Chat-Id": "chat1"}},
		{"user info without caller", `{}`, "http://x", forward, nil, map[string]string{"X-Openwebui-User-Id": ""}},
		{"renamed", `{}`, "http://x", map[string]string{"ENABLE_FORWARD_USER_INFO_HEADERS": "true", "FORWARD_USER_INFO_HEADER_USER_ID": "X-Me"}, alice,
			map[string]string{"X-Me": "u1", "X-Openwebui-User-Id": ""}},
		{"custom", `{"headers":{"X-A":"{{USER_ID}}/{{CHAT_ID}}/{{TASK}}","X-G":"{{USER_GROUPS}} {{USER_GROUP_IDS}}","X-N":"{{USER_NAME}}\n","Authorization":"Basic z","Bad Name":"x"}}`,
			"http://x", nil, alice, map[string]string{"X-A": "u1/chat1/title_generation", "X-G": "Cooks,%C3%96 g1,g2", "X-N": "%C3%84lice B%0A", "Authorization": "Basic z", "Bad Name": ""}},
		{"custom without caller", `{"headers":{"X-A":"[{{USER_ID}}]"}}`, "http://x", nil, nil, map[string]string{"X-A": "[]"}},
		{"placeholders are replaced once", `{"headers":{"X-A":"{{USER_NAME}}"}}`, "http://x", nil, &Caller{ID: "1", Name: "{{USER_EMAIL}}", Email: "e"},
			map[string]string{"X-A": "{{USER_EMAIL}}"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := HeaderOptionsFromEnv(env(tt.env))
			if tt.env["provider"] != "" {
				o.SystemToken = func(_ context.Context, c *Caller) string { return "of " + c.ID }
			}
			conn := Connection{URL: tt.url, Key: "key", Config: ParseConfig(KindOpenAI, []byte(tt.config))}
			h := o.Build(t.Context(), &conn, tt.caller)
			for k, v := range tt.want {
				if got := h.Get(k); got != v {
					t.Errorf("%s: %q, want %q", k, got, v)
				}
			}
		})
	}
}

func TestHeaderToken(t *testing.T) {
	o := HeaderOptionsFromEnv(env(map[string]string{"ENABLE_FORWARD_USER_INFO_HEADERS": "true", "FORWARD_USER_INFO_HEADER_JWT_SECRET": " s3cret ",
		"FORWARD_USER_INFO_HEADER_JWT_EXPIRES_SECONDS": "60"}))
	h := o.Build(t.Context(), &Connection{Config: ParseConfig(KindOpenAI, nil)}, alice)
	if h.Get("X-OpenWebUI-User-Id") != "" {
		t.Error("plain headers beside the token")
	}
	tok, err := jwt.Parse(h.Get("X-OpenWebUI-User-Jwt"), func(*jwt.Token) (any, error) { return []byte("s3cret"), nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		t.Fatal(err)
	}
	claims := tok.Claims.(jwt.MapClaims)
	if claims["sub"] != "u1" || claims["iss"] != "open-webui" || claims["exp"].(float64)-claims["iat"].(float64) != 60 {
		t.Errorf("claims %v", claims)
	}
}

func TestClientOptionsFromEnv(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name                string
		env                 map[string]string
		total, idle, list   time.Duration
		insecure, wantError bool
	}{
		{"defaults", nil, 0, 0, 10 * time.Second, false, false},
		{"set", map[string]string{"AIOHTTP_CLIENT_TIMEOUT": "7", "AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT": "3", "AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST": "2",
			"AIOHTTP_CLIENT_SESSION_SSL": "False"}, 7 * time.Second, 3 * time.Second, 2 * time.Second, true, false},
		{"old name", map[string]string{"AIOHTTP_CLIENT_TIMEOUT_OPENAI_MODEL_LIST": "4"}, 0, 0, 4 * time.Second, false, false},
		{"no numbers", map[string]string{"AIOHTTP_CLIENT_TIMEOUT": "x", "AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT": "x", "AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST": "x"},
			300 * time.Second, 0, 10 * time.Second, false, false},
		{"negative idle", map[string]string{"AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT": "-1"}, 0, 0, 10 * time.Second, false, false},
		{"bad bundle", map[string]string{"AIOHTTP_CLIENT_SESSION_SSL": ca}, 0, 0, 10 * time.Second, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := ClientOptionsFromEnv(env(tt.env))
			if o.Timeout != tt.total || o.StreamIdle != tt.idle || o.ListTimeout != tt.list || (err != nil) != tt.wantError {
				t.Errorf("got %+v, %v", o, err)
			}
			if insecure := o.TLS != nil && o.TLS.InsecureSkipVerify; insecure != tt.insecure {
				t.Errorf("insecure = %v", insecure)
			}
		})
	}
}

// hanging serves one line and then nothing until the client goes; gone is closed then.
func hanging(t *testing.T) (url string, gone chan struct{}) {
	gone = make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+smallChunk+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, gone
}

func soon(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

func TestClientLimits(t *testing.T) {
	tests := []struct {
		name string
		opts ClientOptions
		want error
	}{
		{"idle", ClientOptions{StreamIdle: 300 * time.Millisecond}, errIdle},
		{"total", ClientOptions{Timeout: 300 * time.Millisecond}, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, gone := hanging(t)
			resp, err := NewClient(tt.opts).Send(t.Context(), Outgoing{Method: "GET", URL: url, Stream: true})
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
			_ = resp.Body.Close()
			soon(t, "the end of the upstream request", gone)
		})
	}
}

func TestCloseEndsTheCall(t *testing.T) {
	url, gone := hanging(t)
	resp, err := NewClient(ClientOptions{}).Send(t.Context(), Outgoing{Method: "GET", URL: url, Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range NewRawStream(200, resp.Header, resp.Body).Chunks() {
		break
	}
	soon(t, "the end of the upstream request", gone)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
}

type countingTransport struct {
	next http.RoundTripper
	n    int
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return c.next.RoundTrip(r)
}

func TestTransportIsWrapped(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.UserAgent())
	}))
	defer srv.Close()
	var ct countingTransport
	c := NewClient(ClientOptions{Transport: func(rt http.RoundTripper) http.RoundTripper { ct.next = rt; return &ct }})
	resp, err := c.Send(t.Context(), Outgoing{Method: "GET", URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	body, err := ReadBody(resp)
	if err != nil || string(body) != "Galley" || ct.n != 1 {
		t.Errorf("%q, %v, %d round trips", body, err, ct.n)
	}
	c.CloseIdle()
}

func TestRelayHeader(t *testing.T) {
	in := http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"1"}, "Date": {"x"}, "Server": {"x"}, "Set-Cookie": {"a=b"}, "X-Request-Id": {"7"}}
	out := RelayHeader(in)
	if len(out) != 1 || out.Get("X-Request-Id") != "7" || len(in) != 6 {
		t.Errorf("got %v", out)
	}
}
