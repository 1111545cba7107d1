package config_test

import (
	"testing"

	"github.com/galleychat/galley/core/config"
)

func TestSecurityHeaders(t *testing.T) {
	for _, c := range []struct{ variable, value, header, want string }{
		{"HSTS", "max-age=5", "Strict-Transport-Security", "max-age=5"},
		{"HSTS", "MAX-AGE=5;includesubdomains;Preload", "Strict-Transport-Security", "MAX-AGE=5;includesubdomains;Preload"},
		{"HSTS", "max-age=5; includeSubDomains", "Strict-Transport-Security", "max-age=31536000;includeSubDomains"},
		{"XFRAME_OPTIONS", "sameorigin", "X-Frame-Options", "sameorigin"},
		{"XFRAME_OPTIONS", "ALLOW-FROM https://x", "X-Frame-Options", "DENY"},
		{"PERMISSIONS_POLICY", "camera=(self),geolocation=()", "Permissions-Policy", "camera=(self),geolocation=()"},
		{"PERMISSIONS_POLICY", "camera=(self), geolocation=()", "Permissions-Policy", "none"},
		{"REFERRER_POLICY", "same-origin", "Referrer-Policy", "same-origin"},
		{"REFERRER_POLICY", "same", "Referrer-Policy", "no-referrer"},
		{"CACHE_CONTROL", "private,  max-age=10", "Cache-Control", "private,  max-age=10"},
		{"CACHE_CONTROL", "max-age", "Cache-Control", "no-store, max-age=0"},
		{"XDOWNLOAD_OPTIONS", "NOOPEN", "X-Download-Options", "noopen"},
		{"XCONTENT_TYPE", "yes", "X-Content-Type-Options", "nosniff"},
		{"XPERMITTED_CROSS_DOMAIN_POLICIES", "master-only", "X-Permitted-Cross-Domain-Policies", "master-only"},
		{"XPERMITTED_CROSS_DOMAIN_POLICIES", "all", "X-Permitted-Cross-Domain-Policies", "none"},
		{"CONTENT_SECURITY_POLICY", "anything goes", "Content-Security-Policy", "anything goes"},
		{"CONTENT_SECURITY_POLICY_REPORT_ONLY", "x", "Content-Security-Policy-Report-Only", "x"},
		{"CROSS_ORIGIN_EMBEDDER_POLICY", "credentialless", "Cross-Origin-Embedder-Policy", "credentialless"},
		{"CROSS_ORIGIN_EMBEDDER_POLICY", "x", "Cross-Origin-Embedder-Policy", "require-corp"},
		{"CROSS_ORIGIN_OPENER_POLICY", "x", "Cross-Origin-Opener-Policy", "same-origin"},
		{"CROSS_ORIGIN_RESOURCE_POLICY", "Same-Site", "Cross-Origin-Resource-Policy", "Same-Site"},
		{"REPORTING_ENDPOINTS", `a="https://x"`, "Reporting-Endpoints", `a="https://x"`},
		{"HSTS", "", "Strict-Transport-Security", ""},
	} {
		e, err := config.ReadEnv(func(name string) (string, bool) { return c.value, name == c.variable })
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Headers.Get(c.header); got != c.want || c.want != "" && len(e.Headers) != 1 {
			t.Errorf("%s=%q: %v, want %q", c.variable, c.value, e.Headers, c.want)
		}
	}
}
