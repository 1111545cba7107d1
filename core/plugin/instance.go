package plugin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/plugin/process"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// instance is one process of a plugin and the connections to it.
type instance struct {
	unit     *unit
	src      *source
	dir      string // private folder of its sockets
	programs string // private folder of the copies of what is executed; mostly dir

	child  *child
	conn   *grpc.ClientConn
	what   *pb.DescribeResponse
	series *series
	models bool               // it has an LLM backend
	listed *pb.ModelsResponse // the models that it had at its start; nil if it did not say in time
	host   *hostServer
	web    *webChannel // nil if the plugin has no HTTP server

	life     pb.LifecycleClient
	llm      pb.LlmClient
	filter   pb.FilterClient
	tools    pb.ToolsClient
	peer     atomic.Pointer[x509.CertPool]
	tooled   []tool
	noScrape atomic.Bool // it has no metrics of its own

	mu      sync.Mutex  // guards what follows
	config  jsondoc.Doc // in effect
	set     jsondoc.Doc // what administrators had set when it was last configured, in effect or not
	calls   int64
	retired bool
	idle    chan struct{} // closed when retired and without calls

	tableOnce sync.Once // makes what follows, of the routes
	table     *http.ServeMux
	byPattern map[string]*pb.Route

	endOnce sync.Once
}

// errEnded says that a process has ended.
var errEnded = errors.New("the process ended")

// launch starts a process for a source and brings it to where it can be called. ctx bounds the start.
func (u *unit) launch(ctx context.Context, src *source, set jsondoc.Doc) (inst *instance, err error) {
	if src.problem != nil {
		return nil, &refusal{src.problem}
	}
	if src.manifest != nil {
		if err := u.m.claim(u, src.manifest.ID); err != nil {
			return nil, err
		}
	}
	inst = &instance{unit: u, src: src, idle: make(chan struct{})}
	defer func() {
		if err != nil {
			inst.end()
		}
	}()
	if inst.dir, err = u.m.instanceDir(u.m.run); err != nil {
		return inst, err
	}
	inst.programs = inst.dir
	if u.m.programs != u.m.run {
		if inst.programs, err = u.m.instanceDir(u.m.programs); err != nil {
			return inst, err
		}
	}
	cmd, err := src.prepare(inst.programs)
	if err != nil {
		return inst, &refusal{err}
	}
	id, err := newIdentity()
	if err != nil {
		return inst, err
	}
	if inst.child, err = u.spawn(ctx, src, cmd, inst.dir, id); err != nil {
		return inst, err
	}
	inst.conn = inst.child.conn
	inst.life = pb.NewLifecycleClient(inst.conn)
	if err := inst.introduce(ctx, id); err != nil {
		return inst, inst.child.explain(err)
	}
	if set, err = u.settings(ctx, inst.id(), set); err != nil {
		return inst, err
	}
	if err := inst.configure(ctx, set); err != nil {
		return inst, inst.child.explain(err)
	}
	if err := inst.check(ctx); err != nil {
		return inst, inst.child.explain(err)
	}
	inst.models = inst.servesModels(ctx)
	return inst, nil
}

// settings are what administrators set for the plugin of an id: known, if the unit was taken for that one. The unit has
// the id from then on, unless an instance of another runs.
func (u *unit) settings(ctx context.Context, id string, known jsondoc.Doc) (jsondoc.Doc, error) {
	same := id == u.ID()
	if err := u.m.claim(u, id); err != nil || same {
		return known, err
	}
	enabled, set, err := u.m.stateOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if u.ID() == id {
		u.ask(func() { u.enabled, u.set = enabled, set })
	}
	if !enabled {
		return nil, errDisabled
	}
	return set, nil
}

// errDisabled says that an executable turned out to be a plugin that an administrator has disabled.
var errDisabled = errors.New("disabled by an administrator")

// introduce asks what the plugin is and exchanges the addresses of the other channels.
func (inst *instance) introduce(ctx context.Context, id *identity) (err error) {
	u := inst.unit
	if inst.what, err = inst.life.Describe(ctx, &pb.DescribeRequest{HostVersion: u.m.o.Version, HostFeatures: Grants}); err != nil {
		return fmt.Errorf("describe: %w", plain(err))
	}
	if err := inst.checkDescription(); err != nil {
		return &refusal{err}
	}
	if inst.host, err = u.m.serveHost(inst, id); err != nil {
		return err
	}
	inst.series = u.m.seriesOf(inst.id())
	dataDir := u.m.dataDir(inst.what.GetId())
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	resp, err := inst.life.Connect(ctx, &pb.ConnectRequest{
		HostAddress: "unix:" + inst.host.address, HostCertificate: id.pem, Grants: inst.grants(), DataDir: dataDir,
	})
	if err != nil {
		return fmt.Errorf("connect: %w", plain(err))
	}
	pool, err := poolOf(resp.GetCertificate())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	inst.peer.Store(pool)
	if address := resp.GetHttpAddress(); address != "" {
		path, ok := strings.CutPrefix(address, "unix:")
		if !ok {
			return fmt.Errorf("connect: HTTP address %q is no unix socket", address)
		}
		inst.web = newWebChannel(inst, path, id.towards(pool))
	}
	inst.capabilities()
	return nil
}

// checkDescription compares what a plugin says of itself with what the operator said.
func (inst *instance) checkDescription() error {
	d := inst.what
	if err := validID(d.GetId()); err != nil {
		return fmt.Errorf("what it calls itself: %w", err)
	}
	if m := inst.src.manifest; m != nil {
		if d.GetId() != m.ID {
			return fmt.Errorf("it calls itself %q, the manifest %q", d.GetId(), m.ID)
		}
		if m.Version != "" && d.GetVersion() != m.Version {
			return fmt.Errorf("it is version %s, the manifest has %s", d.GetVersion(), m.Version)
		}
	}
	if schema := d.GetConfigSchema(); len(schema) > 0 {
		if doc, bad := jsondoc.Check(schema); bad != nil || doc.Kind() != '{' {
			return errors.New("its config schema is no JSON object")
		}
	}
	return checkTools(d.GetTools())
}

// capabilities finds out which services the plugin has. They follow from the description: a plugin that describes no
// tools is not asked for them.
func (inst *instance) capabilities() {
	if len(inst.what.GetTools()) > 0 {
		inst.tools = pb.NewToolsClient(inst.conn)
		inst.tooled = toolsOf(inst)
	}
	if inst.what.GetFilter() != nil {
		inst.filter = pb.NewFilterClient(inst.conn)
	}
	inst.llm = pb.NewLlmClient(inst.conn)
}

// servesModels finds out whether there is an LLM backend, and its models. One that takes its time to answer is one.
func (inst *instance) servesModels(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := inst.llm.Models(ctx, &pb.ModelsRequest{})
	if err == nil {
		inst.listed = resp
	}
	return status.Code(err) != codes.Unimplemented
}

func (inst *instance) id() string { return inst.what.GetId() }

// grants are those of the operator.
func (inst *instance) grants() []string { return grantsOf(inst.src) }

func grantsOf(src *source) []string {
	if src.manifest == nil {
		return nil
	}
	return src.manifest.Grants
}

func (inst *instance) limits() Limits { return limitsOf(inst.src) }

func limitsOf(src *source) Limits {
	if src.manifest == nil {
		return Limits{}
	}
	return src.manifest.Limits
}

// configure gives the plugin its configuration: what the operator wrote, and over it what administrators set.
func (inst *instance) configure(ctx context.Context, set jsondoc.Doc) error {
	config := jsondoc.Doc("{}")
	if m := inst.src.manifest; m != nil && len(m.Config) > 0 {
		config = jsondoc.Doc(m.Config)
	}
	config = config.Merge(set.Or(jsondoc.Doc("{}")))
	resp, err := inst.life.Configure(ctx, &pb.ConfigureRequest{Config: config})
	switch {
	case status.Code(err) == codes.Unimplemented:
	case err != nil:
		inst.mu.Lock()
		inst.set = jsondoc.Doc("?") // nobody knows what is in effect
		inst.mu.Unlock()
		return fmt.Errorf("configure: %w", plain(err))
	case len(resp.GetViolations()) > 0:
		return violations(resp.GetViolations())
	case len(resp.GetConfig()) > 0:
		if effective, bad := jsondoc.Check(resp.GetConfig()); bad == nil && effective.Kind() == '{' {
			config = effective
		}
	}
	inst.mu.Lock()
	inst.config, inst.set = config, set
	inst.mu.Unlock()
	return nil
}

// given is what administrators had set when the instance was last configured.
func (inst *instance) given() jsondoc.Doc {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	return inst.set
}

func (inst *instance) configuration() jsondoc.Doc {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	return inst.config
}

// ConfigError says what is wrong with a configuration.
type ConfigError struct{ Violations []Violation }

// Violation is one thing that is wrong; Path names the member, "" the whole.
type Violation struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

func (e *ConfigError) Error() string {
	var parts []string
	for _, v := range e.Violations {
		text := v.Message
		if v.Path != "" {
			text = v.Path + " " + text
		}
		parts = append(parts, text)
	}
	return "configuration: " + strings.Join(parts, "; ")
}

func violations(list []*pb.Violation) error {
	e := &ConfigError{}
	for _, v := range list {
		e.Violations = append(e.Violations, Violation{v.GetPath(), v.GetMessage()})
	}
	return e
}

// check asks for the plugin's health. A degraded plugin is no error.
func (inst *instance) check(ctx context.Context) error {
	resp, err := inst.life.Check(ctx, &pb.CheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil
	case err != nil:
		return fmt.Errorf("health check: %w", plain(err))
	case resp.GetStatus() == pb.CheckResponse_STATUS_FAILED:
		return fmt.Errorf("health check: %s", orText(resp.GetMessage(), "failed"))
	}
	warning := ""
	if resp.GetStatus() == pb.CheckResponse_STATUS_DEGRADED {
		warning = orText(resp.GetMessage(), "degraded")
	}
	inst.unit.setWarning(warning)
	return nil
}

func orText(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// acquire counts a call in; false says that the instance takes no more.
func (inst *instance) acquire() bool {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if inst.retired {
		return false
	}
	inst.calls++
	return true
}

func (inst *instance) release() {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	inst.calls--
	if inst.retired && inst.calls == 0 {
		close(inst.idle)
	}
}

// retire has the instance take no more calls.
func (inst *instance) retire() {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if inst.retired {
		return
	}
	inst.retired = true
	if inst.calls == 0 {
		close(inst.idle)
	}
}

func (inst *instance) running() int64 {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	return inst.calls
}

// drain lets the calls end, for as long as the plugin's limit allows or until ctx ends, and then the process.
func (inst *instance) drain(ctx context.Context, limit time.Duration) {
	inst.retire()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	told, stop := context.WithTimeout(ctx, 5*time.Second)
	deadline, _ := ctx.Deadline()
	_, _ = inst.life.Drain(told, &pb.DrainRequest{DeadlineMs: deadline.UnixMilli()}) // a plugin that cannot is ended all the same
	stop()
	select {
	case <-inst.idle:
	case <-inst.child.done:
	case <-ctx.Done():
	}
	inst.end()
}

// end ends the process at once and removes what was made for it.
func (inst *instance) end() {
	inst.endOnce.Do(func() {
		inst.retire()
		if inst.child != nil {
			inst.child.stop()
		}
		if inst.web != nil {
			inst.web.backend.close()
		}
		if inst.host != nil {
			inst.host.stop()
		}
		for _, dir := range []string{inst.dir, inst.programs} {
			if dir != "" {
				_ = os.RemoveAll(dir)
			}
		}
	})
}

// stats measures the process; ok is false once it has ended.
func (inst *instance) stats() (process.Stats, bool) { return inst.child.stats() }

// plain is the message of a gRPC error without its envelope.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		return errors.New("no answer in time")
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", errUnreachable, s.Message())
	}
	return errors.New(s.Message())
}

var errUnreachable = errors.New("not reachable")

// refusal is an error that trying again does not help: what the folder holds cannot be run.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// conflict is a refusal for what another plugin or Galley itself has: an id or a route.
type conflict struct{ err error }

func (c *conflict) Error() string { return c.err.Error() }
func (c *conflict) Unwrap() error { return &refusal{c.err} }
