package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
)

func (o Options) tls(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, CipherSuites: suites(o.Ciphers)}
	c.InsecureSkipVerify = !o.Validate //nolint:gosec // the administrator's choice
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", o.CAFile)
		}
	}
	return c, nil
}

// suites are the ciphers of a list: names of OpenSSL's or of the standard's, between colons, commas or spaces, with "!" or
// "-" before those that are left out. ALL, DEFAULT and HIGH stand for all that are sound. Other words are passed over, as
// OpenSSL does. They concern TLS 1.2; those of 1.3 are all sound. nil is Go's choice, also where nothing is left.
func suites(list string) []uint16 {
	var with, without []uint16
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":;, ", r) }) {
		name := strings.TrimLeft(word, "!-+")
		id, known := suiteOf(name)
		switch {
		case known && (word[0] == '!' || word[0] == '-'):
			without = append(without, id)
		case known:
			with = append(with, id)
		case word == "ALL" || word == "DEFAULT" || word == "HIGH":
			for _, s := range tls.CipherSuites() {
				with = append(with, s.ID)
			}
		}
	}
	with = slices.DeleteFunc(with, func(id uint16) bool { return slices.Contains(without, id) })
	if list == "ALL" || len(with) == 0 {
		return nil
	}
	return with
}

// suiteOf finds a cipher of TLS 1.2 by its name.
func suiteOf(name string) (uint16, bool) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && (strings.EqualFold(name, s.Name) || strings.EqualFold(name, openSSLName(s.Name))) {
			return s.ID, true
		}
	}
	return 0, false
}

var toOpenSSL = strings.NewReplacer("TLS_RSA_WITH_", "", "TLS_", "", "_WITH_", "-", "AES_128", "AES128", "AES_256", "AES256",
	"3DES_EDE_CBC", "DES-CBC3", "_CBC_", "-", "CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "_", "-")

// openSSLName is what OpenSSL calls a cipher: ECDHE-RSA-AES128-GCM-SHA256 and the like.
func openSSLName(name string) string { return toOpenSSL.Replace(name) }
