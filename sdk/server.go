package sdk

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Server is a plugin behind the protocol. [Serve] makes one; tests may too.
type Server struct {
	p      *Plugin
	life   context.Context // ends when the plugin is to stop
	cancel context.CancelFunc

	host     atomic.Pointer[Host]
	mu       sync.Mutex // guards what Connect and Close do
	conn     *grpc.ClientConn
	http     *http.Server
	starting sync.Mutex
	started  bool // once Start has succeeded
	stopOnce sync.Once
}

// NewServer checks a plugin's declaration.
func NewServer(p Plugin) (*Server, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	s := &Server{p: &p}
	s.life, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Register adds the services of what the plugin has.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pb.RegisterLifecycleServer(r, &lifecycle{s: s})
	if s.p.LLM != nil {
		pb.RegisterLlmServer(r, &llmService{s: s})
	}
	if s.p.Filter != nil {
		pb.RegisterFilterServer(r, &filterService{s: s})
	}
	if len(s.p.Tools) > 0 {
		pb.RegisterToolsServer(r, &toolsService{s: s})
	}
}

// Options are those that a gRPC server of a plugin needs: messages of any size, contexts with what calls belong to, and
// panics that end just their call.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(1 << 30), grpc.MaxSendMsgSize(1 << 30), grpc.WriteBufferSize(64 << 10), grpc.ReadBufferSize(64 << 10),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
			defer recovered(info.FullMethod, &err)
			return h(s.context(ctx), req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
			defer recovered(info.FullMethod, &err)
			return h(srv, &contextStream{ss, s.context(ss.Context())})
		}),
	}
}

func recovered(method string, err *error) {
	if p := recover(); p != nil {
		slog.Error("panic", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the plugin panicked")
	}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// context adds the host and the trace to a call's context.
func (s *Server) context(ctx context.Context) context.Context {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = propagation.TraceContext{}.Extract(ctx, carrier(md))
	}
	return s.withHost(ctx)
}

func (s *Server) withHost(ctx context.Context) context.Context {
	if h := s.host.Load(); h != nil {
		return WithHost(ctx, h)
	}
	return ctx
}

// ConnectTo gives the plugin a host to talk to over a connection that there is already, in place of the one that Galley
// names when it connects: for tests.
func (s *Server) ConnectTo(conn grpc.ClientConnInterface, grants []string, dataDir string) {
	s.host.Store(NewHost(conn, grants, dataDir))
}

// carrier has OpenTelemetry read gRPC metadata.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() []string        { return nil }

// withMeta is the context of a call that belongs to something.
func withMeta(ctx context.Context, m *pb.Meta) context.Context { return WithMeta(ctx, metaOf(m)) }

// Close ends the plugin's background work and its HTTP server, and calls Stop.
func (s *Server) Close() {
	s.cancel()
	s.stopOnce.Do(func() {
		if s.p.Stop != nil {
			s.p.Stop()
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// Handler is the plugin's HTTP handler as Galley's requests meet it.
func (s *Server) Handler() http.Handler {
	inner := s.p.HTTP
	if inner == nil {
		inner = http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx = WithMeta(s.withHost(ctx), requestMeta(r))
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
}

// lifecycle implements the service every plugin has.
type lifecycle struct {
	pb.UnimplementedLifecycleServer
	s *Server
}

func (l *lifecycle) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	p := l.s.p
	d := &pb.DescribeResponse{Id: p.ID, Name: p.Name, Version: p.Version, Description: p.Description, Wants: p.Wants, Sdk: "go/" + Version}
	for _, r := range p.Routes {
		method, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			method, path = "", r.Pattern
		}
		access := map[Access]pb.Access{Verified: pb.Access_ACCESS_VERIFIED, Public: pb.Access_ACCESS_PUBLIC, Admin: pb.Access_ACCESS_ADMIN}[r.Access]
		d.Routes = append(d.Routes, &pb.Route{Method: method, Path: strings.TrimSpace(path), Access: access, Permission: r.Permission, Summary: r.Summary, Openapi: r.OpenAPI})
	}
	for _, t := range p.Tools {
		schema := t.Parameters
		if schema == nil {
			schema = []byte(`{"type":"object","properties":{}}`)
		}
		d.Tools = append(d.Tools, &pb.ToolSpec{Name: t.Name, Description: t.Description, Parameters: schema})
	}
	if f := p.Filter; f != nil {
		d.Filter = &pb.FilterSpec{Inlet: f.Inlet != nil, Outlet: f.Outlet != nil, Stream: f.Stream != nil, Priority: int32(f.Priority), Models: f.Models, Tasks: f.Tasks, Required: f.Required}
	}
	if p.Config != nil {
		d.ConfigSchema = p.Config.schema()
	}
	return d, nil
}

func (l *lifecycle) Connect(_ context.Context, req *pb.ConnectRequest) (*pb.ConnectResponse, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host.Load() != nil {
		return nil, status.Error(codes.FailedPrecondition, "connected already")
	}
	cert, certPEM, err := newIdentity()
	if err != nil {
		return nil, err
	}
	hostPool := x509.NewCertPool()
	if !hostPool.AppendCertsFromPEM(req.GetHostCertificate()) {
		return nil, status.Error(codes.InvalidArgument, "the host's certificate cannot be read")
	}
	conn, err := grpc.NewClient(req.GetHostAddress(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{*cert}, RootCAs: hostPool, ServerName: "localhost", MinVersion: tls.VersionTLS13,
	})), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithUnaryInterceptor(passUnary), grpc.WithStreamInterceptor(passStream))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the host's address: %v", err)
	}
	resp := &pb.ConnectResponse{Certificate: certPEM}
	if s.p.HTTP != nil {
		if resp.HttpAddress, err = s.listen(&tls.Config{
			Certificates: []tls.Certificate{*cert}, ClientCAs: hostPool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
			SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"},
		}); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	s.conn = conn
	s.ConnectTo(conn, req.GetGrants(), req.GetDataDir())
	return resp, nil
}

// listen serves HTTP on a socket of its own. It is called with mu held.
func (s *Server) listen(conf *tls.Config) (string, error) {
	path := filepath.Join(os.Getenv(socketDirVariable), fmt.Sprintf("http%d.sock", os.Getpid()))
	_ = os.Remove(path) // of an earlier process with this id, if at all
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	s.http = &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: 1 << 20, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	server := s.http
	go func() {
		if err := server.Serve(tls.NewListener(l, conf)); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("HTTP server ended", "error", err)
		}
	}()
	return "unix:" + path, nil
}

func (l *lifecycle) Configure(_ context.Context, req *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	s := l.s
	resp := &pb.ConfigureResponse{Config: req.GetConfig()}
	if s.p.Config != nil {
		effective, wrong := s.p.Config.apply(req.GetConfig())
		if len(wrong) > 0 {
			return &pb.ConfigureResponse{Violations: wrong}, nil
		}
		resp.Config = effective
	}
	if err := s.start(); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return resp, nil
}

// start calls Start until it has succeeded.
func (s *Server) start() error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.started || s.p.Start == nil {
		return nil
	}
	if err := s.p.Start(s.withHost(s.life)); err != nil {
		return err
	}
	s.started = true
	return nil
}

func (l *lifecycle) Check(ctx context.Context, _ *pb.CheckRequest) (*pb.CheckResponse, error) {
	if l.s.p.Check == nil {
		return &pb.CheckResponse{Status: pb.CheckResponse_STATUS_OK}, nil
	}
	err := l.s.p.Check(ctx)
	var d *degraded
	switch {
	case err == nil:
		return &pb.CheckResponse{Status: pb.CheckResponse_STATUS_OK}, nil
	case errors.As(err, &d):
		return &pb.CheckResponse{Status: pb.CheckResponse_STATUS_DEGRADED, Message: utf8Text(err.Error())}, nil
	}
	return &pb.CheckResponse{Status: pb.CheckResponse_STATUS_FAILED, Message: utf8Text(err.Error())}, nil
}

func (l *lifecycle) Metrics(ctx context.Context, _ *pb.MetricsRequest) (*pb.MetricsResponse, error) {
	if l.s.p.Metrics == nil {
		return nil, status.Error(codes.Unimplemented, "no metrics")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/plain;version=0.0.4")
	w := &memoryResponse{header: http.Header{}}
	l.s.p.Metrics.ServeHTTP(w, r)
	if w.status >= 300 {
		return nil, status.Errorf(codes.Internal, "metrics answered %d", w.status)
	}
	return &pb.MetricsResponse{Text: w.body.Bytes()}, nil
}

// memoryResponse is an answer kept in memory.
type memoryResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memoryResponse) Header() http.Header         { return m.header }
func (m *memoryResponse) WriteHeader(code int)        { m.status = code }
func (m *memoryResponse) Write(b []byte) (int, error) { return m.body.Write(b) }

func (l *lifecycle) Drain(context.Context, *pb.DrainRequest) (*pb.DrainResponse, error) {
	l.s.cancel()
	return &pb.DrainResponse{}, nil
}

// failure is the error that a call is answered with: refusals as they are; others are logged, and Galley keeps their text
// from clients.
func failure(ctx context.Context, method string, err error) error {
	var r *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return r.GRPCStatus().Err()
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	slog.Error("call failed", "method", method, "error", err)
	return status.Error(codes.Internal, err.Error())
}
