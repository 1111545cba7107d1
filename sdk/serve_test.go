package sdk_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// TestPluginProcess is the plugin that TestProcess starts.
func TestPluginProcess(t *testing.T) {
	if os.Getenv("SDK_TEST_PROCESS") != "1" {
		t.Skip("started by TestProcess")
	}
	sdk.Serve(sdk.Plugin{
		ID: "process", Version: "1", Wants: []string{"kv"},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _, err := sdk.HostFrom(r.Context()).KV.Add(r.Context(), "visits", 1, 0)
			fmt.Printf("printed for %s\n", r.URL.Path)
			fmt.Fprint(w, sdk.CallerFrom(r.Context()).Name, " ", n, " ", err, " ", os.Getenv("HOST_SECRET"))
		}),
		Stop: func() { slog.Info("stopped") },
	})
}

// identity makes a certificate as the host does.
func identity(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// counter is a host whose only service counts.
type counter struct {
	pb.UnimplementedHostKvServer
	n int64
}

func (c *counter) Add(_ context.Context, req *pb.KvAddRequest) (*pb.KvCounter, error) {
	c.n += req.GetDelta()
	return &pb.KvCounter{Value: c.n}, nil
}

// process is a plugin's process, spoken to as the protocol's README says.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *strings.Builder
	exited chan struct{}
	conn   *grpc.ClientConn
}

func startProcess(t *testing.T, dir string, cert tls.Certificate, certPEM []byte) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^TestPluginProcess$"), stderr: &strings.Builder{}, exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "SDK_TEST_PROCESS=1", "GALLEY_PLUGIN=galley-plugin-v1", "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_CLIENT_CERT="+string(certPEM), "PLUGIN_UNIX_SOCKET_DIR="+dir)
	p.cmd.Stderr = p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the tests look at ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has mostly ended
		<-p.exited
	})
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 6 || strings.Join(append(parts[:3:3], parts[4]), "|") != "1|1|unix|grpc" {
		t.Fatalf("the line is %q", line)
	}
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(plugin)
	p.conn, err = grpc.NewClient("unix:"+parts[3], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

func (p *process) waitEnd(t *testing.T, code int) {
	t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(p.stderr.String(), "stopped") {
			t.Errorf("exit code %d, stderr %s", got, p.stderr.String())
		}
	case <-time.After(10 * time.Second):
		t.Error("the plugin goes on")
	}
}

func TestProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, err := os.MkdirTemp("", "sdk") // t.TempDir is too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cert, certPEM := identity(t)
	p := startProcess(t, dir, cert, certPEM)
	if h, err := grpc_health_v1.NewHealthClient(p.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "plugin"}); err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", h, err)
	}
	life := pb.NewLifecycleClient(p.conn)
	if d, err := life.Describe(t.Context(), &pb.DescribeRequest{}); err != nil || d.GetId() != "process" {
		t.Fatalf("%v, %v", d, err)
	}

	// the host knows the plugin's second certificate only once it has answered Connect
	plugins := x509.NewCertPool()
	hostSocket := filepath.Join(dir, "host.sock")
	l, err := net.Listen("unix", hostSocket)
	if err != nil {
		t.Fatal(err)
	}
	host := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: plugins, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}})))
	pb.RegisterHostKvServer(host, &counter{})
	go func() { _ = host.Serve(l) }()
	t.Cleanup(host.Stop)
	if _, err := life.Connect(t.Context(), &pb.ConnectRequest{HostAddress: "unix:" + hostSocket, HostCertificate: []byte("none")}); err == nil {
		t.Error("a host without a certificate was taken")
	}
	connected, err := life.Connect(t.Context(), &pb.ConnectRequest{HostAddress: "unix:" + hostSocket, HostCertificate: certPEM, Grants: []string{"kv"}})
	if err != nil || !plugins.AppendCertsFromPEM(connected.GetCertificate()) || !strings.HasPrefix(connected.GetHttpAddress(), "unix:"+dir) {
		t.Fatalf("%v, %v", connected, err)
	}
	if _, err := life.Connect(t.Context(), &pb.ConnectRequest{HostAddress: "unix:" + hostSocket, HostCertificate: certPEM}); err == nil {
		t.Error("a second host was taken")
	}
	if _, err := life.Configure(t.Context(), &pb.ConfigureRequest{}); err != nil {
		t.Fatal(err)
	}
	get := func(certs []tls.Certificate) (string, error) {
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(connected.GetHttpAddress(), "unix:"))
			},
			TLSClientConfig: &tls.Config{Certificates: certs, RootCAs: plugins, ServerName: "localhost"},
		}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost/visit", http.NoBody)
		if err != nil {
			return "", err
		}
		caller, err := json.Marshal(sdk.Caller{ID: "1", Name: "Ann", Role: "user"})
		if err != nil {
			return "", err
		}
		r.Header.Set(sdk.CallerHeader, string(caller))
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	for i := 1; i < 3; i++ {
		if got, err := get([]tls.Certificate{cert}); err != nil || got != fmt.Sprintf("Ann %d <nil> ", i) {
			t.Errorf("%q, %v", got, err)
		}
	}
	stranger, _ := identity(t)
	for name, certs := range map[string][]tls.Certificate{"nobody": nil, "a stranger": {stranger}} {
		if got, err := get(certs); err == nil {
			t.Errorf("%s was answered %q", name, got)
		}
	}
	if err := p.stdin.Close(); err != nil { // the host is gone
		t.Fatal(err)
	}
	p.waitEnd(t, 0)

	again := startProcess(t, dir, cert, certPEM)
	if err := again.cmd.Process.Signal(os.Interrupt); err != nil { // of a terminal that Galley runs in
		t.Fatal(err)
	}
	if _, err := pb.NewLifecycleClient(again.conn).Describe(t.Context(), &pb.DescribeRequest{}); err != nil {
		t.Errorf("an interrupt ended it: %v", err)
	}
	if err := again.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	again.waitEnd(t, 0)
}
