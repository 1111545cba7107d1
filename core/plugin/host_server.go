package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/store/plugins"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

const (
	// maxAsking is how many calls of host services a plugin may have running.
	maxAsking = 256
	// maxHostMessage bounds what a plugin sends in one message: a chat with pictures in it, most of all.
	maxHostMessage = 32 << 20
)

// hostServer serves the host services to one process.
type hostServer struct {
	inst    *instance
	id      string // of the plugin
	address string // path of its socket
	server  *grpc.Server
	kv      *plugins.KV
	series  *series
	log     *slog.Logger
	granted map[string]bool
}

// serveHost starts the host services for a process.
func (m *Manager) serveHost(inst *instance, id *identity) (*hostServer, error) {
	h := &hostServer{
		inst: inst, id: inst.id(), address: filepath.Join(inst.dir, "host.sock"), granted: map[string]bool{},
		kv:     plugins.NewKV(m.o.DB, plugins.Quota{Bytes: inst.limits().kvBytes(), Keys: maxKVKeys}),
		series: m.seriesOf(inst.id()), log: m.log.With("plugin", inst.id()),
	}
	for _, g := range inst.grants() {
		h.granted[g] = true
	}
	inst.unit.kv.Store(h.kv)
	l, err := net.Listen("unix", h.address)
	if err != nil {
		return nil, err
	}
	h.server = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(id.server(inst.peer.Load))),
		grpc.MaxRecvMsgSize(maxHostMessage), grpc.MaxConcurrentStreams(2*maxAsking), grpc.WaitForHandlers(true),
		grpc.ReadBufferSize(64<<10), grpc.WriteBufferSize(64<<10),
		grpc.UnaryInterceptor(h.unary), grpc.StreamInterceptor(h.stream),
	)
	h.register(m.o.Host)
	go func() { _ = h.server.Serve(l) }() // it ends with stop
	return h, nil
}

// register adds the services that Galley has.
func (h *hostServer) register(s Services) {
	pb.RegisterHostKvServer(h.server, &hostKV{h: h})
	if s.Users != nil {
		pb.RegisterHostUsersServer(h.server, &hostUsers{users: s.Users})
	}
	if s.Models != nil {
		pb.RegisterHostModelsServer(h.server, &hostModels{models: s.Models, plugin: h.inst.id()})
	}
	if s.Files != nil {
		pb.RegisterHostFilesServer(h.server, &hostFiles{files: s.Files})
	}
	if s.Emit != nil {
		pb.RegisterHostEventsServer(h.server, &hostEvents{emit: s.Emit})
	}
}

// stop ends the services and waits for the calls that run, whose contexts end.
func (h *hostServer) stop() { h.server.Stop() }

// grantOf is the grant that a method needs: that of its service, "plugin.v1.HostKv" → "kv".
func grantOf(method string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/plugin.v1.Host"), "/")
	return strings.ToLower(service)
}

// begin lets a call in, or says why not. end is called with the call's own error and gives what the plugin is told.
func (h *hostServer) begin(ctx context.Context, method string) (context.Context, func(error) error, error) {
	grant := grantOf(method)
	if !slices.Contains(Grants, grant) {
		return nil, nil, status.Errorf(codes.Unimplemented, "there is no method %s", method)
	}
	if !h.granted[grant] {
		return nil, nil, status.Errorf(codes.PermissionDenied,
			"the plugin %s is not granted %q: the operator adds it to \"grants\" in its %s", h.id, grant, ManifestName)
	}
	running := &h.inst.unit.asking
	if running.Add(1) > maxAsking {
		running.Add(-1)
		return nil, nil, status.Errorf(codes.ResourceExhausted, "the plugin %s has %d calls of Galley running, which is the limit", h.id, maxAsking)
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = propagator.Extract(ctx, metadataCarrier(md))
	}
	done := h.series.call("host")
	return ctx, func(err error) error {
		running.Add(-1)
		err = h.answer(ctx, method, err)
		done(err)
		return err
	}, nil
}

// answer is an error as plugins are told it. What is Galley's own fault is logged.
func (h *hostServer) answer(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	out := hostStatus(ctx, err)
	if out.Code() == codes.Internal {
		h.log.ErrorContext(ctx, "a service for a plugin failed", "method", method, "error", err)
	}
	return out.Err()
}

func (h *hostServer) recovered(ctx context.Context, method string, err *error) {
	if p := recover(); p != nil {
		h.log.ErrorContext(ctx, "panic in a service for a plugin", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

func (h *hostServer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, end, err := h.begin(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	resp, err := func() (resp any, err error) {
		defer h.recovered(ctx, info.FullMethod, &err)
		return handle(ctx, req)
	}()
	if err := end(err); err != nil {
		return nil, err
	}
	return resp, nil
}

func (h *hostServer) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, end, err := h.begin(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return end(func() (err error) {
		defer h.recovered(ctx, info.FullMethod, &err)
		return handle(srv, &hostStream{ss, ctx})
	}())
}

// hostStream is a stream with a context of its own.
type hostStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *hostStream) Context() context.Context { return s.ctx }
