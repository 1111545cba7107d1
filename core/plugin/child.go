package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	hclog "github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/galleychat/galley/core/plugin/process"
	"github.com/galleychat/galley/sdk"
)

// child is a process that speaks go-plugin's protocol.
type child struct {
	client *goplugin.Client
	conn   *grpc.ClientConn
	proc   *process.Process
	pid    int
	done   chan struct{} // closed when the process has ended
}

// stopGrace is how long a process may take to end by itself.
const stopGrace = 2 * time.Second

// spawn starts a process and waits until it speaks.
func (u *unit) spawn(ctx context.Context, src *source, cmd command, dir string, id *identity) (*child, error) {
	r := &processRunner{u: u, spec: process.Spec{
		Path: cmd.path, Args: cmd.args, Dir: cmd.dir, Name: u.ID(), Limits: processLimits(src), Env: environment(src, u, id),
	}}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{1: {"plugin": &wire{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		TLSConfig:        id.client(),
		StartTimeout:     time.Until(deadline),
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       u.logs.stdout(),
		SyncStderr:       u.logs.stderr(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(_ hclog.Logger, c *exec.Cmd, _ string) (runner.Runner, error) {
			r.spec.Env = append(r.spec.Env, c.Env...)
			return r, nil
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithReadBufferSize(64 << 10), grpc.WithWriteBufferSize(64 << 10),
			grpc.WithChainUnaryInterceptor(traceUnary), grpc.WithChainStreamInterceptor(traceStream),
		},
	})
	c := &child{client: client, done: make(chan struct{})}
	// go-plugin's start cannot be interrupted; ending the process does
	stop := context.AfterFunc(ctx, func() {
		if p := r.proc.Load(); p != nil {
			_ = p.Kill(0)
		}
	})
	defer stop()
	protocol, err := client.Client()
	c.proc = r.proc.Load()
	if err == nil {
		var raw any
		if raw, err = protocol.Dispense("plugin"); err == nil {
			c.conn = raw.(*grpc.ClientConn)
		}
	}
	if c.proc == nil {
		close(c.done)
		return nil, startError(err)
	}
	c.pid = c.proc.Pid()
	go func() {
		<-c.proc.Done()
		close(c.done)
	}()
	if err != nil {
		err = c.explain(startError(err))
		c.stop()
		return nil, err
	}
	return c, nil
}

// startError puts the errors of go-plugin's handshake into our words.
func startError(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	switch {
	case strings.Contains(text, "timeout while waiting for plugin"):
		return errors.New("it did not say how to reach it in time")
	case strings.Contains(text, "Unrecognized remote plugin message"):
		return errors.New("it printed something else than the line by which a plugin says how to reach it")
	case strings.Contains(text, "incompatible"), strings.Contains(text, "Incompatible"):
		return &refusal{errors.New("it speaks another version of the protocol: " + text)}
	case strings.Contains(text, "exited before"):
		return errEnded
	case strings.Contains(text, "no such file"), strings.Contains(text, "permission denied"), strings.Contains(text, "exec format"):
		return &refusal{err}
	}
	return err
}

// wire has go-plugin hand out the connection itself.
type wire struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (*wire) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return errors.New("not a server") }

func (*wire) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// explain adds to an error how the process ended, if it did.
func (c *child) explain(err error) error {
	if c == nil || c.proc == nil {
		return err
	}
	if errors.Is(err, errUnreachable) || errors.Is(err, errEnded) {
		// its connection broke because the process is ending
		select {
		case <-c.done:
		case <-time.After(time.Second):
			return err
		}
		return fmt.Errorf("%w: %s", errEnded, c.proc.Exit())
	}
	return err
}

// stop ends the process and waits for its end.
func (c *child) stop() {
	_ = c.proc.Kill(stopGrace)
	c.client.Kill()
	<-c.done
}

func (c *child) stats() (process.Stats, bool) {
	s, err := c.proc.Stats()
	return s, err == nil
}

// processRunner has go-plugin start processes our way.
type processRunner struct {
	u    *unit
	spec process.Spec
	proc atomic.Pointer[process.Process]
	none *io.PipeReader
}

// Start implements runner.Runner.
func (r *processRunner) Start(context.Context) error {
	p, err := process.Start(r.spec)
	if err != nil {
		return err
	}
	r.proc.Store(p)
	r.u.logs.follow(p)
	var w *io.PipeWriter
	r.none, w = io.Pipe()
	go func() {
		<-p.Done()
		_ = w.Close()
	}()
	return nil
}

func (r *processRunner) Diagnose(context.Context) string { return "" }
func (r *processRunner) Stdout() io.ReadCloser           { return r.proc.Load().Stdout() }

// Stderr is empty to go-plugin: the unit's log reads the real one.
func (r *processRunner) Stderr() io.ReadCloser { return r.none }
func (r *processRunner) Name() string          { return r.spec.Name }
func (r *processRunner) ID() string            { return strconv.Itoa(r.proc.Load().Pid()) }

// Wait implements runner.AttachedRunner.
func (r *processRunner) Wait(context.Context) error {
	<-r.proc.Load().Done()
	return nil
}

// Kill implements runner.AttachedRunner.
func (r *processRunner) Kill(context.Context) error { return r.proc.Load().Kill(0) }

// PluginToHost implements runner.AddrTranslator. Only sockets in the private folder are dialled.
func (r *processRunner) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("it listens on %s, not on a unix socket", network)
	}
	if _, err := net.ResolveUnixAddr(network, address); err != nil {
		return "", "", err
	}
	return network, address, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (r *processRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// passed are the variables of Galley's own environment that plugins get.
var passed = []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// environment is that of a plugin's process: nothing of Galley's but what programs need to run, and what the manifest says.
func environment(src *source, u *unit, id *identity) []string {
	env := []string{
		"PLUGIN_CLIENT_CERT=" + string(id.pem), "GALLEY_PLUGIN_ID=" + u.ID(), "GALLEY_PLUGIN_DIR=" + src.path,
		"GALLEY_PLUGIN_DATA=" + u.m.dataDir(u.ID()), "GODEBUG=madvdontneed=1", "PYTHONUNBUFFERED=1",
	}
	set := map[string]string{}
	if src.manifest != nil {
		set = src.manifest.Environment
	}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok && set[name] == "" {
			env = append(env, name+"="+v)
		}
	}
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

func processLimits(src *source) process.Limits {
	if src.manifest == nil {
		return process.Limits{}
	}
	l := src.manifest.Limits
	return process.Limits{MemoryBytes: int64(l.MemoryMB) << 20, CPUs: l.CPUs, Processes: l.Processes, OpenFiles: l.OpenFiles}
}
