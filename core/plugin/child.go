package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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
	client  *goplugin.Client
	conn    *grpc.ClientConn
	proc    *process.Process
	pid     int
	printed io.Closer       // where what it prints goes
	done    <-chan struct{} // closed when the process has ended
}

// stopGrace is how long a process may take to end by itself.
const stopGrace = 2 * time.Second

// spawn starts a process and waits until it speaks.
func (u *unit) spawn(ctx context.Context, src *source, cmd command, dir string, id *identity) (*child, error) {
	begun := time.Now()
	deadline, _ := ctx.Deadline()
	printed := u.logs.writer()
	b := &boundRunner{ctx: ctx, log: u.logs.log}
	start := process.RunnerFunc(process.Spec{
		Path: cmd.path, Args: cmd.args, Dir: cmd.dir, Name: u.ID(), Limits: processLimits(src), Env: environment(src, u, id), Grace: stopGrace,
	}, u.logs.log, func(r *process.Runner) { b.Runner = r })
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{1: {"plugin": &wire{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		TLSConfig:        id.client(),
		StartTimeout:     time.Until(deadline),
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       printed,
		SyncStderr:       printed,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(l hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			_, err := start(l, cmd, dir)
			return b, err
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithReadBufferSize(64 << 10), grpc.WithWriteBufferSize(64 << 10),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
			grpc.WithChainUnaryInterceptor(traceUnary), grpc.WithChainStreamInterceptor(traceStream),
		},
	})
	c := &child{client: client, printed: printed}
	protocol, err := client.Client()
	if err == nil {
		var raw any
		if raw, err = protocol.Dispense("plugin"); err == nil {
			c.conn = raw.(*grpc.ClientConn)
		}
	}
	if c.proc = b.process(); c.proc == nil {
		_ = printed.Close()
		return nil, startError(err)
	}
	c.pid, c.done = c.proc.Pid(), c.proc.Done()
	if err == nil && !b.free() {
		err = ctx.Err()
	}
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		err = errSilent
	case b.silent.Load():
		err = errors.New("it closed its output without saying how to reach it")
	default:
		err = c.explain(startError(err))
	}
	c.stop()
	if said := u.logs.lastWords(begun); said != "" {
		err = fmt.Errorf("%w; the last it said: %s", err, said)
	}
	return nil, err
}

// maxAnswer bounds a message from a plugin, in bytes.
const maxAnswer = 64 << 20

// errSilent says that a process did not begin to speak the protocol.
var errSilent = errors.New("it did not say how to reach it in time")

// startError puts the errors of go-plugin's handshake into our words.
func startError(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	const other = "Unrecognized remote plugin message: "
	switch {
	case strings.Contains(text, "timeout while waiting for plugin"):
		return errSilent
	case strings.Contains(text, "exited before"), text == other:
		return errEnded
	case strings.HasPrefix(text, other), strings.Contains(text, "parsing core protocol version"):
		return errors.New("it printed something else than the line by which a plugin says how to reach it")
	case strings.Contains(text, "incompatible"), strings.Contains(text, "Incompatible"), strings.Contains(text, "unsupported plugin protocol"):
		return &refusal{errors.New("it speaks another version of the protocol: " + text)}
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
		exit, _ := c.proc.Exit()
		return fmt.Errorf("%w: %s", errEnded, exit)
	}
	return err
}

// stop ends the process and waits for its end.
func (c *child) stop() {
	_ = c.proc.Kill(context.Background())
	c.client.Kill() // go-plugin's own connections and goroutines
	_ = c.printed.Close()
}

func (c *child) stats() (process.Stats, bool) {
	s, err := c.proc.Stats()
	return s, err == nil
}

// passed are the variables of Galley's own environment that plugins get.
var passed = []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// environment is that of a plugin's process: nothing of Galley's but what programs need to run, and what the manifest says.
func environment(src *source, u *unit, id *identity) []string {
	env := []string{
		"PLUGIN_CLIENT_CERT=" + string(id.pem), "GALLEY_PLUGIN_ID=" + u.ID(), "GALLEY_PLUGIN_DIR=" + src.path,
		"GALLEY_PLUGIN_DATA=" + u.m.dataDir(u.ID()), "PYTHONUNBUFFERED=1",
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
	if set["GOMAXPROCS"] == "" {
		// Half of the processors, so that plugins in Go do not spin for work where Galley has some: with all of them a
		// request to a plugin takes a third longer on two processors.
		env = append(env, "GOMAXPROCS="+strconv.Itoa((runtime.NumCPU()+1)/2))
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
