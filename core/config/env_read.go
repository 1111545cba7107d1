package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/store"
)

// reader reads variables and keeps what is wrong with them, so that one error names them all. For every kind but
// switches, a variable that is set to "" counts as not set.
type reader struct {
	env  LookupFunc
	errs []error
}

func (r *reader) fail(name, value, want string) {
	r.errs = append(r.errs, &VarError{name, value, want})
}

// str is the text of the first name that is set, even to "".
func (r *reader) str(fallback string, names ...string) string {
	if _, v, ok := r.env.first(names); ok {
		return v
	}
	return fallback
}

// bool is a switch: the first name that is set says whether it is on.
func (r *reader) bool(fallback bool, names ...string) bool {
	if _, v, ok := r.env.first(names); ok {
		return isTrue(v)
	}
	return fallback
}

// int is a whole number of at least least.
func (r *reader) int(fallback, least int, names ...string) int {
	name, v, ok := r.env.firstFilled(names...)
	if !ok {
		return fallback
	}
	n, ok := pythonInt(v)
	if !ok || n < int64(least) {
		r.fail(name, v, fmt.Sprintf("a whole number of at least %d", least))
		return fallback
	}
	return int(n)
}

// duration is a number of units.
func (r *reader) duration(fallback, unit time.Duration, names ...string) time.Duration {
	name, v, ok := r.env.firstFilled(names...)
	if !ok {
		return fallback
	}
	n, ok := pythonFloat(v)
	if !ok || n < 0 || n > float64(1<<62)/float64(unit) {
		r.fail(name, v, "a number of "+unitNames[unit]+", 0 or more")
		return fallback
	}
	return time.Duration(n * float64(unit))
}

var unitNames = map[time.Duration]string{
	time.Millisecond: "milliseconds", time.Second: "seconds", time.Minute: "minutes",
}

func (r *reader) seconds(fallback time.Duration, names ...string) time.Duration {
	return r.duration(fallback, time.Second, names...)
}

// interval is a number of seconds above zero.
func (r *reader) interval(fallback time.Duration, names ...string) time.Duration {
	d := r.seconds(fallback, names...)
	if d <= 0 {
		name, v, _ := r.env.firstFilled(names...)
		r.fail(name, v, "a number of seconds above 0")
		return fallback
	}
	return d
}

// list cuts at the separator, without empty parts.
func (r *reader) list(name, separator, fallback string) []string {
	return split(r.str(fallback, name), separator)
}

// size is a number of bytes, also as 10MB (a million each) or 10MiB.
func (r *reader) size(fallback int64, name string) int64 {
	_, v, ok := r.env.firstFilled(name)
	if !ok {
		return fallback
	}
	text := strings.ToUpper(strings.ReplaceAll(v, " ", ""))
	factor := 1.0
	for _, u := range []struct {
		suffix string
		factor float64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = rest, u.factor
			break
		}
	}
	n, ok := pythonFloat(text)
	if !ok || n < 0 || n*factor > 1<<62 {
		r.fail(name, v, "a number of bytes, such as 1048576 or 10MB")
		return fallback
	}
	return int64(n * factor)
}

// oneOf is one of some words; in upper or lower case as they are.
func (r *reader) oneOf(fallback, name string, words ...string) string {
	_, v, ok := r.env.firstFilled(name)
	if !ok {
		return fallback
	}
	for _, w := range words {
		if strings.EqualFold(v, w) {
			return w
		}
	}
	r.fail(name, v, "one of "+strings.Join(words, ", "))
	return fallback
}

func (r *reader) object(name string) map[string]any {
	_, v, ok := r.env.firstFilled(name)
	if !ok {
		return nil
	}
	var out map[string]any
	if json.Unmarshal([]byte(v), &out) != nil || out == nil {
		r.fail(name, v, "a JSON object")
	}
	return out
}

func (r *reader) sameSite(fallback http.SameSite, name string) http.SameSite {
	switch r.oneOf("", name, "lax", "strict", "none") {
	case "lax":
		return http.SameSiteLaxMode
	case "strict":
		return http.SameSiteStrictMode
	case "none":
		return http.SameSiteNoneMode
	}
	return fallback
}

// tls reads "true", "false" or the path of a file of authorities.
func (r *reader) tls(name, caFile string) TLSVerify {
	v := strings.TrimSpace(r.str("true", name))
	switch {
	case v == "" || isTrue(v):
		return TLSVerify{CAFile: caFile}
	case strings.EqualFold(v, "false"):
		return TLSVerify{Skip: true}
	}
	return TLSVerify{CAFile: v}
}

// levels are the names of Python's log levels.
var levels = map[string]slog.Level{
	"NOTSET": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARN": slog.LevelWarn,
	"WARNING": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": slog.LevelError + 4, "CRITICAL": slog.LevelError + 4,
}

// ReadEnv reads the process settings with lookup, which is os.LookupEnv outside tests. The error names every variable
// that cannot be used, what it holds and what is wanted, one a line; each is a [*VarError].
func ReadEnv(lookup LookupFunc) (*Env, error) {
	r := &reader{env: lookup}
	e := &Env{Lookup: lookup}
	e.readServer(r)
	e.readAuth(r)
	e.readSwitches(r)
	e.readDatabase(r)
	e.readRedis(r)
	e.readClient(r)
	e.readFeatures(r)
	return e, errors.Join(r.errs...)
}

// Finish derives what neither the environment nor a flag gave: absolute paths, the files below DataDir and the address
// of the database.
func (e *Env) Finish() error {
	dir, err := filepath.Abs(e.DataDir)
	if err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	e.DataDir = dir
	fill := func(s *string, parts ...string) {
		if *s == "" {
			*s = filepath.Join(parts...)
		}
	}
	fill(&e.PluginsDir, dir, "plugins")
	fill(&e.SecretKeyFile, e.ownSecretKeyFile())
	fill(&e.Audit.File, dir, "audit.log")
	if e.FrontendDir != "" {
		fill(&e.StaticDir, e.FrontendDir, "static")
	}
	if e.Database.URL == "" {
		e.Database.URL = "sqlite:///" + filepath.ToSlash(filepath.Join(dir, "webui.db"))
	}
	if e.InstanceID == "" {
		e.InstanceID = store.NewID()
	}
	return nil
}

// UploadDir is where the local storage keeps files, DataDir/uploads.
func (e *Env) UploadDir() string { return filepath.Join(e.DataDir, "uploads") }

// CacheDir is where files are kept that can be made again, DataDir/cache.
func (e *Env) CacheDir() string { return filepath.Join(e.DataDir, "cache") }

func (e *Env) readServer(r *reader) {
	e.Host = r.str("0.0.0.0", "HOST")
	e.Port = r.int(8080, 0, "PORT")
	if e.Port > 65535 {
		r.fail("PORT", r.str("", "PORT"), "a port of at most 65535")
	}
	e.Mode = r.str("dev", "ENV")
	// The reference's licence asks to keep its name where another is shown.
	if e.Name = r.str("Open WebUI", "WEBUI_NAME"); e.Name != "Open WebUI" {
		e.Name += " (Open WebUI)"
	}
	e.URL = r.str("", "WEBUI_URL")
	e.BuildHash = r.str("dev-build", "WEBUI_BUILD_HASH")
	e.DeploymentID = r.str("", "DEPLOYMENT_ID")
	e.InstanceID = r.str("", "INSTANCE_ID")
	if v := r.str("", "GLOBAL_LOG_LEVEL"); v != "" {
		level, ok := levels[strings.ToUpper(v)]
		if !ok {
			r.fail("GLOBAL_LOG_LEVEL", v, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
		}
		e.LogLevel = level
	}
	e.LogFormat = strings.ToLower(r.str("", "LOG_FORMAT"))
	e.DataDir = r.str("data", "DATA_DIR")
	e.FrontendDir = r.str("", "FRONTEND_BUILD_DIR")
	e.StaticDir = r.str("", "STATIC_DIR")
	e.PluginsDir = r.str("", "PLUGINS_DIR")
	e.PluginsUpload = r.bool(true, "PLUGINS_UPLOAD")
	e.MaxBody = r.size(128<<20, "MAX_BODY_SIZE")
	e.MaxUpload = r.size(0, "MAX_UPLOAD_SIZE")
	e.PersistentConfig = r.bool(true, "ENABLE_PERSISTENT_CONFIG")
	e.OAuthPersistentConfig = r.bool(false, "ENABLE_OAUTH_PERSISTENT_CONFIG")
	e.ResetConfig = r.bool(false, "RESET_CONFIG_ON_START")
	e.CORSOrigins = strings.Split(r.str("*", "CORS_ALLOW_ORIGIN"), ";")
	e.CORSSchemes = r.list("CORS_ALLOW_CUSTOM_SCHEME", ";", "")
	e.checkOrigins(r)
	e.Headers = readHeaders(r.env)
	e.ForwardedAllow = r.str("*", "FORWARDED_ALLOW_IPS")
}

func (e *Env) checkOrigins(r *reader) {
	if slices.Equal(e.CORSOrigins, []string{"*"}) {
		return
	}
	schemes := append([]string{"http", "https"}, e.CORSSchemes...)
	for _, origin := range e.CORSOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
			r.fail("CORS_ALLOW_ORIGIN", origin, `"*" alone, or addresses with one of the schemes `+strings.Join(schemes, ", ")+`, with ";" between them`)
		}
	}
}

func (e *Env) readAuth(r *reader) {
	e.Auth = r.bool(true, "WEBUI_AUTH")
	_, e.SecretKey, _ = r.env.firstFilled("WEBUI_SECRET_KEY", "WEBUI_JWT_SECRET_KEY")
	e.SecretKeyFile = r.str("", "WEBUI_SECRET_KEY_FILE")
	e.SecretKeyLength = r.int(24, 1, "WEBUI_SECRET_KEY_LENGTH")
	e.MFAKey = r.str("", "MFA_ENCRYPTION_KEY")
	e.JWTExpiresIn = r.str("4w", "JWT_EXPIRES_IN")
	e.APIKeyHeader = r.str("x-api-key", "CUSTOM_API_KEY_HEADER")
	e.SignoutRedirectURL = r.str("", "WEBUI_AUTH_SIGNOUT_REDIRECT_URL")
	e.InitialAdminSignup = r.bool(false, "ENABLE_INITIAL_ADMIN_SIGNUP")
	e.PasswordAuth = r.bool(true, "ENABLE_PASSWORD_AUTH")
	e.PasswordConfirmation = r.bool(false, "ENABLE_SIGNUP_PASSWORD_CONFIRMATION")
	e.ValveEncryption = r.bool(false, "ENABLE_VALVE_ENCRYPTION")

	session := r.sameSite(http.SameSiteLaxMode, "WEBUI_SESSION_COOKIE_SAME_SITE")
	secure := r.bool(false, "WEBUI_SESSION_COOKIE_SECURE")
	e.Cookies = Cookies{
		SessionSameSite: session, SessionSecure: secure,
		AuthSameSite: r.sameSite(session, "WEBUI_AUTH_COOKIE_SAME_SITE"),
		AuthSecure:   r.bool(secure, "WEBUI_AUTH_COOKIE_SECURE"),
	}
	e.Trusted = Trusted{
		Email:  r.str("", "WEBUI_AUTH_TRUSTED_EMAIL_HEADER"),
		Name:   r.str("", "WEBUI_AUTH_TRUSTED_NAME_HEADER"),
		Groups: r.str("", "WEBUI_AUTH_TRUSTED_GROUPS_HEADER"),
		Role:   r.str("", "WEBUI_AUTH_TRUSTED_ROLE_HEADER"),
	}
	e.Admin = Admin{
		Email: r.str("", "WEBUI_ADMIN_EMAIL"), Password: r.str("", "WEBUI_ADMIN_PASSWORD"), Name: r.str("Admin", "WEBUI_ADMIN_NAME"),
	}
	pattern, err := CompilePassword(r.str(defaultPassword, "PASSWORD_VALIDATION_REGEX_PATTERN"))
	if err != nil {
		r.fail("PASSWORD_VALIDATION_REGEX_PATTERN", r.str("", "PASSWORD_VALIDATION_REGEX_PATTERN"), "a regular expression: "+err.Error())
	}
	e.Password = Password{
		Validate: r.bool(false, "ENABLE_PASSWORD_VALIDATION"), Pattern: pattern, Hint: r.str("", "PASSWORD_VALIDATION_HINT"),
		Hash: strings.ToLower(r.str("bcrypt", "PASSWORD_HASH_ALGORITHM")),
	}
	limit := 0
	if v := strings.TrimSpace(r.str("", "OAUTH_TOKEN_EXCHANGE_RATE_LIMIT")); !strings.EqualFold(v, "none") {
		limit = r.int(0, 0, "OAUTH_TOKEN_EXCHANGE_RATE_LIMIT")
	}
	e.OAuth = OAuth{
		ClientInfoKey:      r.str("", "OAUTH_CLIENT_INFO_ENCRYPTION_KEY"),
		SessionTokenKey:    r.str("", "OAUTH_SESSION_TOKEN_ENCRYPTION_KEY"),
		EmailFallback:      r.bool(false, "ENABLE_OAUTH_EMAIL_FALLBACK"),
		IDTokenCookie:      r.bool(true, "ENABLE_OAUTH_ID_TOKEN_COOKIE"),
		MaxSessions:        r.int(10, 0, "OAUTH_MAX_SESSIONS_PER_USER"),
		TokenExchange:      r.bool(false, "ENABLE_OAUTH_TOKEN_EXCHANGE"),
		ExchangeLimit:      limit,
		ExchangeWindow:     r.seconds(3*time.Minute, "OAUTH_TOKEN_EXCHANGE_RATE_LIMIT_WINDOW"),
		ExchangeClients:    r.list("OAUTH_TOKEN_EXCHANGE_TRUSTED_CLIENT_IDS", ",", ""),
		BackchannelLogout:  r.bool(false, "ENABLE_OAUTH_BACKCHANNEL_LOGOUT"),
		GroupsSeparator:    r.str(";", "OAUTH_GROUPS_SEPARATOR"),
		RolesSeparator:     r.str(",", "OAUTH_ROLES_SEPARATOR"),
		IncludeClientID:    r.bool(false, "OAUTH_ACCESS_TOKEN_REQUEST_INCLUDE_CLIENT_ID"),
		VerifiedEmail:      r.bool(false, "GALLEY_OAUTH_VERIFIED_EMAIL"),
		AuthorizeParams:    r.object("OAUTH_AUTHORIZE_PARAMS"),
		GoogleAuthorizeAdd: r.object("GOOGLE_OAUTH_AUTHORIZE_PARAMS"),
	}
	e.SCIM = SCIM{
		Enabled: r.bool(false, "ENABLE_SCIM", "SCIM_ENABLED"), Token: r.str("", "SCIM_TOKEN"), Provider: r.str("", "SCIM_AUTH_PROVIDER"),
	}
}
