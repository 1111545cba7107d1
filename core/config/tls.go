package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Config is how certificates of other servers are checked; nil means as usual.
func (t TLSVerify) Config() (*tls.Config, error) {
	switch {
	case t.Skip:
		return &tls.Config{InsecureSkipVerify: true}, nil // what the administrator asked for
	case t.CAFile == "":
		return nil, nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA bundle: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA bundle %q has no certificates", t.CAFile)
	}
	return &tls.Config{RootCAs: pool}, nil
}
