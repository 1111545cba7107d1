package ldap

import (
	"crypto/tls"
	"slices"
	"testing"
)

func TestSuites(t *testing.T) {
	var sound []uint16
	for _, s := range tls.CipherSuites() {
		sound = append(sound, s.ID)
	}
	for list, want := range map[string][]uint16{
		"": nil, "ALL": nil, "NOPE": nil, "@SECLEVEL=1": nil,
		"HIGH:!aNULL:!MD5":                        sound,
		"ECDHE-RSA-AES128-GCM-SHA256":             {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		"AES256-GCM-SHA384, AES128-SHA":           {tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA},
		"ECDHE-ECDSA-CHACHA20-POLY1305":           {tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		"ECDHE-RSA-DES-CBC3-SHA":                  {tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA},
		"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:NOPE": {tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
		"AES128-SHA:AES256-SHA:-AES128-SHA":       {tls.TLS_RSA_WITH_AES_256_CBC_SHA},
	} {
		if got := suites(list); !slices.Equal(got, want) {
			t.Errorf("%q: %x, want %x", list, got, want)
		}
	}
	if got := suites("ALL:!ECDHE-RSA-AES128-SHA"); len(got) != len(sound)-1 || slices.Contains(got, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA) {
		t.Errorf("all but one: %x", got)
	}
}

func TestAddress(t *testing.T) {
	for _, test := range []struct {
		host   string
		port   int
		tls    bool
		want   string
		secure bool
	}{
		{"dir.test", 0, false, "dir.test:389", false},
		{" dir.test ", 0, true, "dir.test:636", true},
		{"dir.test", 1389, true, "dir.test:1389", true},
		{"dir.test:10389", 389, false, "dir.test:10389", false},
		{"ldaps://dir.test", 0, false, "dir.test:636", true},
		{"ldap://dir.test:10389/", 636, true, "dir.test:10389", false},
		{"::1", 389, false, "[::1]:389", false},
		{"ldap://[::1]", 389, false, "[::1]:389", false},
		{"ldap://[::1]:10389", 389, false, "[::1]:10389", false},
		{"dir.test:x", 389, false, "", false},
		{"ldapi:///run/slapd", 389, false, "", false},
	} {
		secure, _, got, err := Options{Host: test.host, Port: test.port, TLS: test.tls}.address()
		if got != test.want || secure != test.secure || (err == nil) != (test.want != "") {
			t.Errorf("%q %d: %q %v %v", test.host, test.port, got, secure, err)
		}
	}
}
