package config

import (
	"net/http"
	"regexp"
)

// securityHeaders are the headers of every answer that the environment may set. A value that does not have the form is
// replaced by the fallback, as the reference does; without a form any value goes.
var securityHeaders = []struct {
	variable, header string
	form             *regexp.Regexp
	fallback         string
}{
	{"CACHE_CONTROL", "Cache-Control", words(cacheWord + `(,\s*` + cacheWord + `)*`), "no-store, max-age=0"},
	{"HSTS", "Strict-Transport-Security", words(`max-age=\d+(;includeSubDomains)?(;preload)?`), "max-age=31536000;includeSubDomains"},
	{"PERMISSIONS_POLICY", "Permissions-Policy", words(`(?:(?:accelerometer|autoplay|camera|clipboard-read|clipboard-write|fullscreen|geolocation|gyroscope|` +
		`magnetometer|microphone|midi|payment|picture-in-picture|sync-xhr|usb|xr-spatial-tracking)=\((?:self)?\),?)*`), "none"},
	{"REFERRER_POLICY", "Referrer-Policy", words(`no-referrer|no-referrer-when-downgrade|origin|origin-when-cross-origin|same-origin|strict-origin|` +
		`strict-origin-when-cross-origin|unsafe-url`), "no-referrer"},
	{"XCONTENT_TYPE", "X-Content-Type-Options", regexp.MustCompile(`^nosniff$`), "nosniff"},
	{"XDOWNLOAD_OPTIONS", "X-Download-Options", regexp.MustCompile(`^noopen$`), "noopen"},
	{"XFRAME_OPTIONS", "X-Frame-Options", words(`DENY|SAMEORIGIN`), "DENY"},
	{"XPERMITTED_CROSS_DOMAIN_POLICIES", "X-Permitted-Cross-Domain-Policies", words(`none|master-only|by-content-type|by-ftp-filename`), "none"},
	{"CONTENT_SECURITY_POLICY", "Content-Security-Policy", nil, ""},
	{"CONTENT_SECURITY_POLICY_REPORT_ONLY", "Content-Security-Policy-Report-Only", nil, ""},
	{"CROSS_ORIGIN_EMBEDDER_POLICY", "Cross-Origin-Embedder-Policy", words(`unsafe-none|require-corp|credentialless`), "require-corp"},
	{"CROSS_ORIGIN_OPENER_POLICY", "Cross-Origin-Opener-Policy", words(`unsafe-none|same-origin-allow-popups|same-origin`), "same-origin"},
	{"CROSS_ORIGIN_RESOURCE_POLICY", "Cross-Origin-Resource-Policy", words(`same-site|same-origin|cross-origin`), "same-origin"},
	{"REPORTING_ENDPOINTS", "Reporting-Endpoints", nil, ""},
}

const cacheWord = `(?:public|private|no-cache|no-store|must-revalidate|proxy-revalidate|max-age=\d+|s-maxage=\d+|no-transform|immutable)`

// words is a form in which the case of letters does not matter.
func words(pattern string) *regexp.Regexp { return regexp.MustCompile(`(?i)^(?:` + pattern + `)$`) }

// readHeaders reads the headers of every answer; nil where the environment sets none.
func readHeaders(lookup LookupFunc) http.Header {
	var out http.Header
	for _, h := range securityHeaders {
		v, ok := lookup(h.variable)
		if !ok || v == "" {
			continue
		}
		if h.form != nil && !h.form.MatchString(v) {
			v = h.fallback
		}
		if out == nil {
			out = http.Header{}
		}
		out[h.header] = []string{v}
	}
	return out
}
