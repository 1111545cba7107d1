package llm

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// HeaderOptions say what providers are told about the caller, and under which names.
type HeaderOptions struct {
	ForwardUserInfo bool // ENABLE_FORWARD_USER_INFO_HEADERS
	UserName        string
	UserID          string
	UserEmail       string
	UserRole        string
	AuthType        string
	ChatID          string
	JWT             string        // header of the signed token
	JWTSecret       string        // if set, one HS256 token replaces the four user headers
	JWTExpires      time.Duration // life of the token
	AppURL          string        // HTTP-Referer for OpenRouter, which ranks applications by it
	AppTitle        string        // X-Title for OpenRouter
	// SystemToken gives the access token of the caller's session with the identity provider, "" where there is none: what
	// connections with auth_type "system_oauth" are sent. nil stands for no provider.
	SystemToken func(ctx context.Context, caller *Caller) string
}

// HeaderOptionsFromEnv reads ENABLE_FORWARD_USER_INFO_HEADERS, FORWARD_USER_INFO_HEADER_* and
// FORWARD_SESSION_INFO_HEADER_CHAT_ID.
func HeaderOptionsFromEnv(getenv func(string) string) HeaderOptions {
	or := func(name, def string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return def
	}
	o := HeaderOptions{
		ForwardUserInfo: strings.EqualFold(getenv("ENABLE_FORWARD_USER_INFO_HEADERS"), "true"),
		UserName:        or("FORWARD_USER_INFO_HEADER_USER_NAME", "X-OpenWebUI-User-Name"),
		UserID:          or("FORWARD_USER_INFO_HEADER_USER_ID", "X-OpenWebUI-User-Id"),
		UserEmail:       or("FORWARD_USER_INFO_HEADER_USER_EMAIL", "X-OpenWebUI-User-Email"),
		UserRole:        or("FORWARD_USER_INFO_HEADER_USER_ROLE", "X-OpenWebUI-User-Role"),
		AuthType:        or("FORWARD_USER_INFO_HEADER_AUTH_TYPE", "X-OpenWebUI-Auth-Type"),
		ChatID:          or("FORWARD_SESSION_INFO_HEADER_CHAT_ID", "X-OpenWebUI-Chat-Id"),
		JWT:             or("FORWARD_USER_INFO_HEADER_JWT", "X-OpenWebUI-User-Jwt"),
		JWTSecret:       strings.TrimSpace(getenv("FORWARD_USER_INFO_HEADER_JWT_SECRET")),
		JWTExpires:      5 * time.Minute,
		AppURL:          "https://github.com/galleychat/galley",
		AppTitle:        "Galley",
	}
	if n, err := strconv.Atoi(getenv("FORWARD_USER_INFO_HEADER_JWT_EXPIRES_SECONDS")); err == nil {
		o.JWTExpires = time.Duration(n) * time.Second
	}
	return o
}

// Build returns the headers of a request on conn for caller, who may be nil. The auth types of which the server itself is
// the client (azure_ad, microsoft_entra_id) add no Authorization header.
func (o *HeaderOptions) Build(ctx context.Context, conn *Connection, caller *Caller) http.Header {
	h := make(http.Header, 8)
	h.Set("Content-Type", "application/json")
	if strings.Contains(conn.URL, "openrouter.ai") {
		h.Set("HTTP-Referer", o.AppURL)
		h.Set("X-Title", o.AppTitle)
	}
	o.UserInfo(h, caller)
	cfg := &conn.Config
	switch cfg.AuthType {
	case "", "bearer":
		setBearer(h, conn.Key)
	case "session":
		if caller != nil {
			setBearer(h, caller.Token)
		}
	case "system_oauth":
		if caller != nil && caller.ID != "" && o.SystemToken != nil {
			setBearer(h, o.SystemToken(ctx, caller))
		}
	}
	if cfg.ForwardCookies && caller != nil {
		for _, c := range caller.Cookies {
			h.Add("Cookie", c.Name+"="+c.Value)
		}
		if cs := h["Cookie"]; len(cs) > 1 {
			h.Set("Cookie", strings.Join(cs, "; "))
		}
	}
	if len(cfg.Headers) > 0 {
		r := placeholders(ctx, cfg.Headers, caller)
		for _, c := range cfg.Headers {
			if validHeaderName(c.Name) {
				h.Set(c.Name, percentEncode(r.Replace(c.Value), headerText))
			}
		}
	}
	return h
}

// UserInfo adds the headers that describe the caller, if that is switched on.
func (o *HeaderOptions) UserInfo(h http.Header, caller *Caller) {
	if !o.ForwardUserInfo || caller == nil || caller.ID == "" {
		return
	}
	if caller.AuthType == "api_key" || caller.AuthType == "jwt" {
		h.Set(o.AuthType, caller.AuthType)
	}
	if caller.Meta.ChatID != "" {
		h.Set(o.ChatID, caller.Meta.ChatID)
	}
	if o.JWTSecret != "" {
		token, err := o.sign(caller, time.Now())
		if err == nil {
			h.Set(o.JWT, token)
			return
		}
		slog.Error("signing the user-info token failed, sending plain headers", "err", err)
	}
	h.Set(o.UserName, percentEncode(strings.TrimSpace(caller.Name), nameText))
	h.Set(o.UserID, caller.ID)
	h.Set(o.UserEmail, strings.TrimSpace(caller.Email))
	h.Set(o.UserRole, caller.Role)
}

// sign makes the token; its issuer is what existing receivers check.
func (o *HeaderOptions) sign(c *Caller, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": c.ID, "email": c.Email, "name": c.Name, "role": c.Role, "iss": "open-webui",
		"iat": now.Unix(), "exp": now.Add(o.JWTExpires).Unix(),
	}).SignedString([]byte(o.JWTSecret))
}

func setBearer(h http.Header, token string) {
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

// placeholders returns the replacer for custom header values. All are replaced in one pass, so a placeholder in
// a user's name stays text.
func placeholders(ctx context.Context, headers []Header, caller *Caller) *strings.Replacer {
	var c Caller
	if caller != nil {
		c = *caller
	}
	var names, ids []string
	if c.Groups != nil && wantsGroups(headers) {
		groups, err := c.Groups(ctx)
		if err != nil {
			slog.Error("resolving groups for custom headers failed", "err", err)
		}
		for _, g := range groups {
			names = append(names, strings.TrimSpace(g.Name))
			ids = append(ids, g.ID)
		}
	}
	m := c.Meta
	return strings.NewReplacer(
		"{{CHAT_ID}}", m.ChatID, "{{MESSAGE_ID}}", m.MessageID,
		"{{USER_MESSAGE_ID}}", m.UserMessageID, "{{USER_MESSAGE_PARENT_ID}}", m.UserMessageParentID,
		"{{FILE_ID}}", m.FileID, "{{FILE_NAME}}", m.FileName, "{{FILE_CONTENT_TYPE}}", m.FileContentType,
		"{{TASK}}", m.Task, "{{MODEL_ID}}", m.ModelID,
		"{{USER_ID}}", c.ID, "{{USER_NAME}}", strings.TrimSpace(c.Name),
		"{{USER_EMAIL}}", strings.TrimSpace(c.Email), "{{USER_ROLE}}", c.Role,
		"{{USER_GROUPS}}", strings.Join(names, ","), "{{USER_GROUP_IDS}}", strings.Join(ids, ","),
		"{{USER_AGENT}}", c.UserAgent, "{{AUTH_TYPE}}", c.AuthType,
	)
}

func wantsGroups(headers []Header) bool {
	for _, h := range headers {
		if strings.Contains(h.Value, "{{USER_GROUPS}}") || strings.Contains(h.Value, "{{USER_GROUP_IDS}}") {
			return true
		}
	}
	return false
}

func validHeaderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// headerText are the bytes that a custom header value keeps: printable ASCII and the tab.
func headerText(c byte) bool { return c >= ' ' && c < 0x7f || c == '\t' }

// nameText are the bytes that a user's name keeps: what URLs leave unreserved, and the space.
func nameText(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~ ", c) >= 0
}

func percentEncode(s string, keep func(byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; keep(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
