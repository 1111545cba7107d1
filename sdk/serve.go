package sdk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Cookie is how a program sees that Galley has started it as a plugin; the fields are those of go-plugin's HandshakeConfig.
type Cookie struct {
	ProtocolVersion  uint
	MagicCookieKey   string
	MagicCookieValue string
}

// Handshake is how Galley and a plugin know each other.
var Handshake = Cookie{ProtocolVersion: 1, MagicCookieKey: "GALLEY_PLUGIN", MagicCookieValue: "galley-plugin-v1"}

// What go-plugin's hosts tell a plugin.
const (
	socketDirVariable   = "PLUGIN_UNIX_SOCKET_DIR"
	certificateVariable = "PLUGIN_CLIENT_CERT"
)

// Serve runs the plugin until Galley ends it. It is the last call of main. What is printed to the standard output after it,
// and the default logger of log/slog, go to the plugin's log in Galley.
func Serve(p Plugin) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s is a plugin of Galley. Put it into Galley's plugins folder, or try it with: galley plugin run DIR\n", p.ID)
		os.Exit(1)
	}
	slog.SetDefault(slog.New(newLogHandler(os.Stderr)))
	s, err := NewServer(p)
	if err == nil {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt) // of the terminal that Galley runs in, which ends the plugin itself
		terminate := make(chan os.Signal, 1)
		signal.Notify(terminate, syscall.SIGTERM)
		go s.endWithHost(terminate)
		err = s.serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Close()
}

// serve speaks the plugins' side of go-plugin's protocol until the host ends it: a line on the standard output says where
// the server is and who, and beside the plugin's services there are those by which the host sees that the plugin answers
// and ends it. go-plugin's own Serve would do the same, but it links net/rpc, and with that every exported method of
// all types into each plugin and into Galley.
func (s *Server) serve() error {
	hosts := x509.NewCertPool()
	if !hosts.AppendCertsFromPEM([]byte(os.Getenv(certificateVariable))) {
		return errors.New("Galley gave no certificate (" + certificateVariable + ")")
	}
	cert, _, err := newIdentity()
	if err != nil {
		return err
	}
	path := filepath.Join(os.Getenv(socketDirVariable), fmt.Sprintf("plugin%d.sock", os.Getpid()))
	_ = os.Remove(path) // of an earlier process with this id, if at all
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := grpc.NewServer(append(s.Options(), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{*cert}, ClientCAs: hosts, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	})))...)
	states := health.NewServer()
	states.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, states)
	server.RegisterService(&controller, server)
	s.Register(server)
	if _, err := fmt.Printf("1|%d|unix|%s|grpc|%s\n", Handshake.ProtocolVersion, path, base64.RawStdEncoding.EncodeToString(cert.Certificate[0])); err != nil {
		return err
	}
	os.Stdout = os.Stderr // the host reads one line of the standard output
	return server.Serve(l)
}

// controller is the service by which the host ends a plugin.
var controller = grpc.ServiceDesc{
	ServiceName: "plugin.GRPCController", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Shutdown", Handler: func(server any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := read(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		server.(*grpc.Server).Stop()
		return &emptypb.Empty{}, nil
	}}},
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
