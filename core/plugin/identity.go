package plugin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// identity is the key and the certificate that Galley shows to one process. It is made by ourselves and not by go-plugin's
// AutoMTLS, whose curve P-521 the TLS libraries of other languages lack.
type identity struct {
	cert tls.Certificate
	pem  []byte
}

func newIdentity() (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost", Organization: []string{"Galley"}}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &identity{
		cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}, nil
}

// client is the TLS configuration towards the plugin's first channel; go-plugin puts the plugin's certificate in.
func (i *identity) client() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.cert}, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// towards is the TLS configuration of a client of one peer.
func (i *identity) towards(peer *x509.CertPool) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.cert}, RootCAs: peer, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// server is the TLS configuration of a server that only one peer may use, which is known later.
func (i *identity) server(peer func() *x509.CertPool) *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool := peer()
		if pool == nil {
			return nil, errors.New("the plugin has not shown its certificate")
		}
		return &tls.Config{
			Certificates: []tls.Certificate{i.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2"},
		}, nil
	}}
}

// poolOf is the pool of one certificate.
func poolOf(certPEM []byte) (*x509.CertPool, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the plugin's certificate cannot be read")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, nil
}
