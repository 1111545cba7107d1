package config_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
)

func TestEnvDefaults(t *testing.T) {
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err == nil {
		err = env.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	data, _ := filepath.Abs("data")
	checks := map[string]bool{
		"address":     env.Host == "0.0.0.0" && env.Port == 8080 && env.Mode == "dev",
		"name":        env.Name == "Open WebUI" && env.BuildHash == "dev-build" && env.InstanceID != "",
		"folders":     env.DataDir == data && env.PluginsDir == filepath.Join(data, "plugins") && env.UploadDir() == filepath.Join(data, "uploads") && env.StaticDir == "",
		"database":    env.Database.URL == "sqlite:///"+data+"/webui.db" && env.Database.PoolRecycle == time.Hour && env.Database.BusyTimeout == 5*time.Second && env.Database.Migrations,
		"sign-in":     env.Auth && env.PasswordAuth && env.JWTExpiresIn == "4w" && env.APIKeyHeader == "x-api-key" && !env.Password.Validate && env.Password.Hash == "bcrypt",
		"cookies":     env.Cookies == config.Cookies{SessionSameSite: http.SameSiteLaxMode, AuthSameSite: http.SameSiteLaxMode},
		"secret":      env.SecretKey == "" && env.SecretKeyFile == filepath.Join(data, ".webui_secret_key") && env.SecretKeyLength == 24,
		"persistence": env.PersistentConfig && !env.OAuthPersistentConfig && !env.ResetConfig,
		"cors":        slices.Equal(env.CORSOrigins, []string{"*"}),
		"admin":       env.Admin == config.Admin{Name: "Admin"} && env.AdminChatAccess && env.AdminExport && env.AdminAnalytics && env.BypassAdminAccess,
		"client":      env.Client.Timeout == 0 && env.Client.ModelListTimeout == 10*time.Second && env.Client.ToolDataTimeout == 10*time.Second && env.Client.FileChunk == 1<<20 && !env.Client.Redirects,
		"forward":     !env.Forward.Enabled && env.Forward.UserName == "X-OpenWebUI-User-Name" && env.Forward.JWTLifetime == 5*time.Minute,
		"websocket":   env.WebSocket.Enabled && env.WebSocket.PingInterval == 25*time.Second && env.WebSocket.PingTimeout == 20*time.Second && env.WebSocket.CallTimeout == 0 && env.WebSocket.HeartbeatInterval == 0,
		"redis":       env.Redis.URL == "" && env.Redis.KeyPrefix == "open-webui" && env.Redis.TaskTTL == 5*time.Minute,
		"log":         env.LogLevel == slog.LevelInfo && env.LogFormat == "",
		"audit":       env.Audit.Level == "NONE" && env.Audit.RotationSize == 10_000_000 && slices.Equal(env.Audit.Excluded, []string{"chats", "chat", "folders"}),
		"chat":        env.Chat.MaxToolCalls == 256 && env.Chat.DeltaChunk == 1 && env.Chat.APIOutlets && !env.Chat.RealtimeSave && env.Chat.SearchMaxChars == 64<<20,
		"plugins":     env.Plugins && env.Tools && env.Functions && env.ToolServers && env.VersionCheck && !env.Offline,
		"others":      env.GroupShare == "members" && env.ModelsCache == time.Second && env.ActiveInterval == time.Minute && env.MaxUpload == 0 && env.Storage.Provider == "local",
		"schedule":    env.Schedule == config.Schedule{Automations: 10 * time.Second, Timers: time.Second, AlertAhead: 10 * time.Minute},
		"oauth":       env.OAuth.MaxSessions == 10 && env.OAuth.IDTokenCookie && env.OAuth.GroupsSeparator == ";" && env.OAuth.RolesSeparator == "," && env.OAuth.ExchangeWindow == 3*time.Minute,
		"images":      len(env.Images.MIMETypes) == 4 && env.Images.ForwardURLs && env.Images.MaxDataURI == 0,
	}
	for name, ok := range checks {
		if !ok {
			t.Errorf("the defaults of %s differ: %+v", name, env)
		}
	}
}

func TestEnvValues(t *testing.T) {
	tests := []struct {
		vars  []string
		check func(e *config.Env) bool
	}{
		{[]string{"PORT", "9000", "HOST", "::1"}, func(e *config.Env) bool { return e.Port == 9000 && e.Host == "::1" }},
		{[]string{"WEBUI_NAME", "Ours"}, func(e *config.Env) bool { return e.Name == "Ours (Open WebUI)" }},
		{[]string{"WEBUI_AUTH", "0"}, func(e *config.Env) bool { return !e.Auth }},
		{[]string{"DATABASE_URL", "postgres://u@h/d"}, func(e *config.Env) bool { return e.Database.URL == "postgres://u@h/d" }},
		{[]string{"DATABASE_URL", "sqlite:///x.db", "DATABASE_TYPE", "postgresql", "DATABASE_USER", "u", "DATABASE_PASSWORD", "p", "DATABASE_HOST", "h", "DATABASE_PORT", "5432", "DATABASE_NAME", "d"},
			func(e *config.Env) bool { return e.Database.URL == "postgresql://u:p@h:5432/d" }},
		{[]string{"DATABASE_TYPE", "postgresql", "DATABASE_HOST", "h"}, func(e *config.Env) bool { return strings.HasPrefix(e.Database.URL, "sqlite:///") }},
		{[]string{"DATABASE_SQLITE_PRAGMA_BUSY_TIMEOUT", "250"}, func(e *config.Env) bool { return e.Database.BusyTimeout == 250*time.Millisecond }},
		{[]string{"WEBUI_JWT_SECRET_KEY", "old"}, func(e *config.Env) bool { return e.SecretKey == "old" }},
		{[]string{"WEBUI_JWT_SECRET_KEY", "old", "WEBUI_SECRET_KEY", "new"}, func(e *config.Env) bool { return e.SecretKey == "new" }},
		{[]string{"WEBUI_SESSION_COOKIE_SAME_SITE", "Strict", "WEBUI_SESSION_COOKIE_SECURE", "true", "WEBUI_AUTH_COOKIE_SAME_SITE", "none"},
			func(e *config.Env) bool {
				return e.Cookies == config.Cookies{SessionSameSite: http.SameSiteStrictMode, SessionSecure: true, AuthSameSite: http.SameSiteNoneMode, AuthSecure: true}
			}},
		{[]string{"ENABLE_ADMIN_WORKSPACE_CONTENT_ACCESS", "false"}, func(e *config.Env) bool { return !e.AdminContentAccess && !e.BypassAdminAccess }},
		{nil, func(e *config.Env) bool { return e.PluginsUpload }},
		{[]string{"PLUGINS_UPLOAD", "false"}, func(e *config.Env) bool { return !e.PluginsUpload }},
		{[]string{"ENABLE_PLUGINS", "false"}, func(e *config.Env) bool { return !e.Tools && !e.Functions && !e.ToolServers }},
		{[]string{"OFFLINE_MODE", "true"}, func(e *config.Env) bool { return !e.VersionCheck }},
		{[]string{"AIOHTTP_CLIENT_TIMEOUT", "300"}, func(e *config.Env) bool {
			return e.Client.Timeout == 5*time.Minute && e.Client.ToolTimeout == 5*time.Minute
		}},
		{[]string{"AIOHTTP_CLIENT_TIMEOUT", ""}, func(e *config.Env) bool { return e.Client.Timeout == 0 }},
		{[]string{"AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST", ""}, func(e *config.Env) bool { return e.Client.ModelListTimeout == 0 }},
		{[]string{"AIOHTTP_CLIENT_TIMEOUT_OPENAI_MODEL_LIST", "3"}, func(e *config.Env) bool { return e.Client.ModelListTimeout == 3*time.Second }},
		{[]string{"AIOHTTP_CLIENT_SSL_CERT_FILE", "/ca", "AIOHTTP_CLIENT_SESSION_TOOL_SERVER_SSL", "False"},
			func(e *config.Env) bool {
				return e.Client.TLS == config.TLSVerify{CAFile: "/ca"} && e.Client.ToolTLS == config.TLSVerify{Skip: true}
			}},
		{[]string{"CORS_ALLOW_ORIGIN", "http://a:1;app://b", "CORS_ALLOW_CUSTOM_SCHEME", "app"}, func(e *config.Env) bool { return slices.Equal(e.CORSOrigins, []string{"http://a:1", "app://b"}) }},
		{[]string{"GLOBAL_LOG_LEVEL", "warning"}, func(e *config.Env) bool { return e.LogLevel == slog.LevelWarn }},
		{[]string{"REDIS_URL", "redis://r", "REDIS_TASK_TTL", "30"}, func(e *config.Env) bool {
			return e.WebSocket.RedisURL == "redis://r" && e.Redis.TaskTTL == 5*time.Minute
		}},
		{[]string{"WEBSOCKET_HEARTBEAT_INTERVAL", "1"}, func(e *config.Env) bool { return e.WebSocket.HeartbeatInterval == 5*time.Second }},
		{[]string{"AUDIT_LOG_LEVEL", "request", "AUDIT_LOG_FILE_ROTATION_SIZE", "1 MiB", "AUDIT_INCLUDED_PATHS", "/a, //b"},
			func(e *config.Env) bool {
				return e.Audit.Level == "REQUEST" && e.Audit.RotationSize == 1<<20 && slices.Equal(e.Audit.Included, []string{"a", "b"})
			}},
		{[]string{"CHAT_RESPONSE_MAX_TOOL_CALL_RETRIES", "-1"}, func(e *config.Env) bool { return e.Chat.MaxToolCalls == -1 }},
		{[]string{"OAUTH_TOKEN_EXCHANGE_RATE_LIMIT", "None"}, func(e *config.Env) bool { return e.OAuth.ExchangeLimit == 0 }},
		{[]string{"OAUTH_AUTHORIZE_PARAMS", `{"prompt":"consent"}`}, func(e *config.Env) bool { return e.OAuth.AuthorizeParams["prompt"] == "consent" }},
		{[]string{"MAX_BODY_SIZE", "1KB"}, func(e *config.Env) bool { return e.MaxBody == 1000 }},
		{[]string{"DEFAULT_GROUP_SHARE_PERMISSION", "no"}, func(e *config.Env) bool { return e.GroupShare == "false" }},
		{[]string{"SCIM_ENABLED", "true"}, func(e *config.Env) bool { return e.SCIM.Enabled }},
		{[]string{"FRONTEND_BUILD_DIR", "/f"}, func(e *config.Env) bool { return e.StaticDir == "/f/static" }},
	}
	for _, tt := range tests {
		if env := environment(t, tt.vars...); !tt.check(env) {
			t.Errorf("%q: %+v", tt.vars, env)
		}
	}
}

func TestEnvBad(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"PORT", "http", "a whole number of at least 0"},
		{"PORT", "70000", "a port of at most 65535"},
		{"AIOHTTP_CLIENT_TIMEOUT", "5m", "a number of seconds, 0 or more"},
		{"AIOHTTP_CLIENT_TIMEOUT", "-1", "a number of seconds, 0 or more"},
		{"TIMER_POLL_INTERVAL", "0", "a number of seconds above 0"},
		{"WEBUI_AUTH_COOKIE_SAME_SITE", "any", "one of lax, strict, none"},
		{"GLOBAL_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"},
		{"CORS_ALLOW_ORIGIN", "example.org", `"*" alone, or addresses`},
		{"OAUTH_AUTHORIZE_PARAMS", "x=y", "a JSON object"},
		{"MAX_BODY_SIZE", "big", "a number of bytes, such as 1048576 or 10MB"},
		{"PASSWORD_VALIDATION_REGEX_PATTERN", "^(?=[a-z", "a regular expression"},
		{"WEBUI_SECRET_KEY_LENGTH", "0", "a whole number of at least 1"},
	}
	for _, tt := range tests {
		_, err := config.ReadEnv(func(name string) (string, bool) { return tt.value, name == tt.name })
		var bad *config.VarError
		if !errors.As(err, &bad) || bad.Name != tt.name || bad.Value != tt.value || !strings.Contains(bad.Want, tt.want) {
			t.Errorf("%s=%q: %v, want %q", tt.name, tt.value, err, tt.want)
		}
	}
	_, err := config.ReadEnv(func(name string) (string, bool) { return "x", name == "PORT" || name == "DATABASE_POOL_SIZE" })
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want both variables named: %v", err)
	}
}

func TestSecretKey(t *testing.T) {
	env := environment(t)
	env.DataDir += "/new/folder"
	env.SecretKeyFile = filepath.Join(env.DataDir, ".webui_secret_key")
	created, err := env.LoadSecretKey()
	if err != nil || !created || len(env.SecretKey) != 32 {
		t.Fatalf("%q, %v, %v", env.SecretKey, created, err)
	}
	if env.OAuth.ClientInfoKey != env.SecretKey || env.OAuth.SessionTokenKey != env.SecretKey {
		t.Error("the keys of OAuth are not the secret")
	}
	info, err := os.Stat(env.SecretKeyFile)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	entries, _ := os.ReadDir(env.DataDir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	again := environment(t)
	again.SecretKeyFile = env.SecretKeyFile
	if created, err := again.LoadSecretKey(); err != nil || created || again.SecretKey != env.SecretKey {
		t.Errorf("the key is not kept: %q (%v)", again.SecretKey, err)
	}
	// start.sh of the reference leaves a newline behind the key.
	if err := os.WriteFile(env.SecretKeyFile, []byte("script\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again.SecretKey = ""
	if _, err := again.LoadSecretKey(); err != nil || again.SecretKey != "script" {
		t.Errorf("%q (%v)", again.SecretKey, err)
	}
	if err := os.WriteFile(env.SecretKeyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again.SecretKey = ""
	if _, err := again.LoadSecretKey(); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty file: %v", err)
	}
	given := environment(t, "WEBUI_SECRET_KEY", "given")
	if created, err := given.LoadSecretKey(); err != nil || created || given.SecretKey != "given" {
		t.Errorf("%q (%v)", given.SecretKey, err)
	}
	if _, err := os.Stat(given.SecretKeyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made though the key was given (%v)", err)
	}
}

func TestSecretKeyRace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			env := environment(t)
			env.SecretKeyFile = file
			if _, err := env.LoadSecretKey(); err != nil {
				t.Error(err)
			}
			keys[i] = env.SecretKey
		})
	}
	wg.Wait()
	if slices.Sort(keys); keys[0] == "" || keys[0] != keys[len(keys)-1] {
		t.Errorf("processes have different keys: %q", keys)
	}
}

func TestPasswordPattern(t *testing.T) {
	tests := []struct {
		pattern, password string
		want              bool
	}{
		{"", "Abcdef1!", true}, {"", "abcdef1!", false}, {"", "Abcdefg!", false}, {"", "Abcdef12", false}, {"", "Ab1!", false},
		{"", "Abcdef1ä", false}, {"", "ABCDEF1!", false}, {"", "ABCDEFä1!", false},
		{`.{4,}`, "abc", false}, {`.{4,}`, "abcd", true},
		{`^(?!.*pass)(?=.*[\])(]).{3,}$`, "x(y)", true}, {`^(?!.*pass)(?=.*[\])(]).{3,}$`, "pass)word", false},
		{`^(?=(a|b)+\d)[ab\d]+$`, "ab1", true}, {`^(?=(a|b)+\d)[ab\d]+$`, "1ab", false},
		{`[a-c]`, "bz", true},
	}
	for _, tt := range tests {
		vars := []string{}
		if tt.pattern != "" {
			vars = append(vars, "PASSWORD_VALIDATION_REGEX_PATTERN", tt.pattern)
		}
		if got := environment(t, vars...).Password.Pattern.Match(tt.password); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.password, got)
		}
	}
}
