package obs

import (
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// Secret is a string that no log line or formatted message shows: fmt prints
// and slog logs it as "[redacted]". Convert with string(s) to use it.
type Secret string

// String returns "[redacted]", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString keeps the value out of %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps the value out of JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// secretKeys are attribute keys (lower case, '-' as '_') whose value is always
// a secret, on their own or as the end of a longer key ("openai_api_key").
// "tokens" is not among them, nor is "key": both have harmless uses.
var secretKeys = []string{
	"authorization", "cookie", "password", "passwd", "passphrase", "secret", "token", "api_key", "apikey",
	"private_key", "secret_key", "access_key", "credential", "credentials", "jwt", "dsn", "database_url",
}

// secretKey reports whether an attribute of this name must not be shown.
func secretKey(key string) bool {
	if len(key) < 3 {
		return false
	}
	k := strings.ReplaceAll(strings.ToLower(key), "-", "_")
	for _, s := range secretKeys {
		if strings.HasSuffix(k, s) {
			return true
		}
	}
	return false
}

var (
	// secretHints are cheap signs that secretText could match at all.
	secretHints = []string{"earer ", "asic ", "sk-", "://", "key=", "token=", "secret=", "password=", "eyJ"}

	secretText = regexp.MustCompile(`(?i)\b(bearer|basic)( +)[A-Za-z0-9._~+/=-]{16,}` +
		`|(://)[^/\s@"']+(@)` +
		`|([?&\s"'](?:[a-z_-]*(?:key|token|secret|password))=)[^&\s"']+`)
	secretWord = regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)
)

// Redact returns s with the credentials in it blotted out that can be told by
// their form: bearer and basic tokens, "sk-" and API keys of the JWT form,
// user info in URLs, and the values of key, token, secret and password
// parameters in a query. Errors of net/http carry whole URLs, hence this.
func Redact(s string) string {
	hit := false
	for _, h := range secretHints {
		if strings.Contains(s, h) {
			hit = true
			break
		}
	}
	if !hit {
		return s
	}
	s = secretText.ReplaceAllString(s, "$1$2$3$5"+redacted+"$4")
	return secretWord.ReplaceAllString(s, redacted)
}

// redactAttr hides secrets in one attribute. The groups it stands in count as
// part of its name.
func redactAttr(groups []string, a slog.Attr) slog.Attr {
	kind := a.Value.Kind()
	if kind != slog.KindString && kind != slog.KindAny {
		return a // a number is no secret: time_to_first_token stays readable
	}
	if secretKey(a.Key) {
		return slog.String(a.Key, redacted)
	}
	for _, g := range groups {
		if secretKey(g) {
			return slog.String(a.Key, redacted)
		}
	}
	if kind == slog.KindAny {
		a.Value = redactAny(a.Value)
	} else if text := a.Value.String(); text != "" {
		a.Value = slog.StringValue(Redact(text))
	}
	return a
}

// redactAny knows the values of net/http that carry credentials. Structs of
// our own must hold their secrets as Secret.
func redactAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case error:
		return slog.StringValue(Redact(x.Error()))
	case http.Header:
		out := make(http.Header, len(x))
		for k, vs := range x {
			if secretKey(k) {
				vs = []string{redacted}
			}
			out[k] = vs
		}
		return slog.AnyValue(out)
	case *http.Request:
		return slog.StringValue(x.Method + " " + x.URL.Path)
	case *url.URL:
		return slog.StringValue(Redact(x.String()))
	case []byte:
		return slog.StringValue(Redact(string(x)))
	}
	return v
}
