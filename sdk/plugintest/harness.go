package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Callers for [Harness.As]. Calls are made as User unless said otherwise.
var (
	User      = sdk.Caller{ID: "user-1", Name: "Test User", Email: "user@example.com", Role: "user"}
	Admin     = sdk.Caller{ID: "admin-1", Name: "Test Admin", Email: "admin@example.com", Role: "admin"}
	Pending   = sdk.Caller{ID: "pending-1", Name: "Test Newcomer", Email: "pending@example.com", Role: "pending"}
	Anonymous = sdk.Caller{}
)

// Option says what the plugin meets.
type Option func(*settings)

type settings struct {
	config      any
	grants      []string
	grantsSet   bool
	permissions []string
	host        *fakeHost
}

// Config is the configuration that the plugin starts with: anything that encodes to a JSON object.
func Config(values any) Option { return func(s *settings) { s.config = values } }

// Grants are what the operator grants, in place of what the plugin wants.
func Grants(names ...string) Option {
	return func(s *settings) { s.grants, s.grantsSet = names, true }
}

// Permissions are those that callers have, besides administrators, who have all.
func Permissions(names ...string) Option { return func(s *settings) { s.permissions = names } }

// Users are further accounts that the host knows, besides [User], [Admin] and [Pending].
func Users(users ...sdk.Caller) Option {
	return func(s *settings) { s.host.users = append(s.host.users, users...) }
}

// Model is a model of the host's that always answers with a text.
func Model(id, answer string) Option {
	return ModelFunc(sdk.Model{ID: id}, func(*sdk.ChatRequest) ([]sdk.Chunk, error) {
		return []sdk.Chunk{{Text: answer}, {FinishReason: "stop"}}, nil
	})
}

// ModelFunc is a model of the host's that answers with chunks, or an error such as a [*sdk.Refusal].
func ModelFunc(m sdk.Model, answer func(*sdk.ChatRequest) ([]sdk.Chunk, error)) Option {
	return func(s *settings) { s.host.models = append(s.host.models, fakeModel{m, answer}) }
}

// File is a file that the host has.
func File(f sdk.File, content []byte) Option {
	return func(s *settings) { s.host.addFile(f, content) }
}

// KVQuota is how many bytes of keys and values the plugin may keep; 16 MiB by default.
func KVQuota(bytes int64) Option { return func(s *settings) { s.host.kv.quota = bytes } }

// Harness is a plugin that runs, seen by one caller. It ends with the test.
type Harness struct {
	*base
	meta sdk.Meta
}

// base is what the harnesses of all callers share.
type base struct {
	t           testing.TB
	fake        *fakeHost
	conn        *grpc.ClientConn // to the plugin
	services    *sdk.Host        // the test's own
	description *pb.DescribeResponse
	front       *httptest.Server
	permissions []string
	config      json.RawMessage
}

// Start runs a plugin; where it refuses to start, the test ends.
func Start(t testing.TB, p sdk.Plugin, options ...Option) *Harness {
	t.Helper()
	h, err := TryStart(t, p, options...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TryStart is [Start] for plugins that may refuse: by their declaration, their configuration or Start.
func TryStart(t testing.TB, p sdk.Plugin, options ...Option) (*Harness, error) {
	t.Helper()
	conf := settings{host: newFakeHost()}
	for _, o := range options {
		o(&conf)
	}
	server, err := sdk.NewServer(p)
	if err != nil {
		return nil, err
	}
	t.Cleanup(server.Close)
	grants := conf.grants
	if !conf.grantsSet {
		grants = p.Wants
	}
	conf.host.grants = grants
	hostConn := listen(t, conf.host.register, conf.host.options()...)
	server.ConnectTo(hostConn, grants, t.TempDir())
	b := &base{t: t, fake: conf.host, permissions: conf.permissions, services: sdk.NewHost(asTest{hostConn}, []string{"kv", "users", "models", "files", "events"}, "")}
	b.conn = listen(t, server.Register, server.Options()...)
	h := &Harness{b, sdk.Meta{Caller: User, RequestID: "request-1", Kind: "chat"}}

	life := pb.NewLifecycleClient(b.conn)
	if b.description, err = life.Describe(t.Context(), &pb.DescribeRequest{HostVersion: "test", HostFeatures: []string{"kv", "users", "models", "files", "events", "log", "metrics"}}); err != nil {
		return nil, err
	}
	wrong, err := h.configure(conf.config)
	if err != nil {
		return nil, err
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("the configuration is refused: %+v", wrong)
	}
	if b.front, err = b.serve(server.Handler()); err != nil {
		return nil, err
	}
	t.Cleanup(b.front.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = life.Drain(ctx, &pb.DrainRequest{DeadlineMs: time.Now().Add(time.Second).UnixMilli()})
	})
	return h, nil
}

// listen serves gRPC in memory and connects to it.
func listen(t testing.TB, register func(grpc.ServiceRegistrar), options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(256 << 10)
	s := grpc.NewServer(options...)
	register(s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		<-ended
	})
	return conn
}

// As is the harness with calls made for somebody else.
func (h *Harness) As(c sdk.Caller) *Harness {
	m := h.meta
	m.Caller = c
	return h.With(m)
}

// With is the harness with calls that belong to something else.
func (h *Harness) With(m sdk.Meta) *Harness { return &Harness{h.base, m} }

// Host has the host's services as the test may use them: every grant, not counted by [Harness.HostCalls] and never failing.
func (h *Harness) Host() *sdk.Host { return h.services }

// Events are those that the plugin sent, in order. Their Data is [json.RawMessage].
func (h *Harness) Events() []sdk.Event {
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	return append([]sdk.Event(nil), h.fake.events...)
}

// HostCalls says how often the plugin has called a part of the host: "kv", "users", "models", "files" or "events".
func (h *Harness) HostCalls(part string) int {
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	return h.fake.calls[part]
}

// FailHost has the plugin's calls of a part of the host fail from now on; nil mends it.
func (h *Harness) FailHost(part string, err error) {
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	h.fake.failing[part] = err
}

// Advance puts the host's clock forward, by which keys expire.
func (h *Harness) Advance(d time.Duration) {
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	h.fake.kv.ahead += d
}
