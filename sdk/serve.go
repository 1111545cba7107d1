package sdk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"os/signal"
	"syscall"
	"time"

	hclog "github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Handshake is how Galley and a plugin know each other.
var Handshake = goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "GALLEY_PLUGIN", MagicCookieValue: "galley-plugin-v1"}

const socketDirVariable = goplugin.EnvUnixSocketDir

// Serve runs the plugin until Galley ends it. It is the last call of main. What is printed to the standard output after it,
// and the default logger of log/slog, go to the plugin's log in Galley.
func Serve(p Plugin) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s is a plugin of Galley. Put it into Galley's plugins folder, or try it with: galley plugin run DIR\n", p.ID)
		os.Exit(1)
	}
	slog.SetDefault(slog.New(newLogHandler(os.Stderr)))
	s, err := NewServer(p)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // of the terminal that Galley runs in, which ends the plugin itself
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go s.endWithHost(terminate)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{1: {"plugin": &grpcPlugin{s: s}}},
		GRPCServer:       func(opts []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(opts, s.Options()...)...) },
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	s.Close()
}

// endWithHost ends the process when Galley is gone, which closes the standard input, or asks it to end.
func (s *Server) endWithHost(terminate <-chan os.Signal) {
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-gone:
	case <-terminate:
	}
	go func() {
		time.Sleep(2 * time.Second)
		os.Exit(1)
	}()
	s.Close()
	os.Exit(0)
}

// grpcPlugin registers a plugin's services with go-plugin.
type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	s *Server
}

func (g *grpcPlugin) GRPCServer(_ *goplugin.GRPCBroker, r *grpc.Server) error {
	g.s.Register(r)
	return nil
}

func (g *grpcPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("sdk: not a client")
}

// newIdentity makes a key and a certificate that signs itself, for the name localhost: peers know each other by the
// certificate itself, which they exchange over the first channel.
func newIdentity() (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost", Organization: []string{"Galley plugin"}}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
