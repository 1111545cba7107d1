//go:build unix

package process

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "COOKIE", MagicCookieValue: "value"}

// plugins has one that offers nothing, which makes go-plugin speak gRPC.
var plugins = plugin.PluginSet{"none": noPlugin{}}

type noPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (noPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (noPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func client(t *testing.T, spec Spec, log *Log) (*plugin.Client, func() *Runner) {
	t.Helper()
	dir, err := RunDir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	var made *Runner
	c := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          plugins,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc:       RunnerFunc(spec, log, func(r *Runner) { made = r }),
		SkipHostEnv:      true,
		AutoMTLS:         true,
		StartTimeout:     20 * time.Second,
		Logger:           hclog.NewNullLogger(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir.Path},
	})
	t.Cleanup(c.Kill)
	return c, func() *Runner { return made }
}

func TestRunner(t *testing.T) {
	log := NewLog(LogOptions{})
	c, made := client(t, roleSpec(t, "plugin"), log)
	protocol, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Ping(); err != nil {
		t.Fatal(err)
	}
	p := made().Process()
	if made().ID() == "" || c.ID() != made().ID() || c.Exited() {
		t.Error(c.ID(), c.Exited())
	}
	c.Kill()
	if exit, ended := p.Exit(); !ended || !c.Exited() {
		t.Error(ended, exit)
	}
	told := func(l Line) bool {
		return l.Message == "plugin address" && l.Level == "debug" && l.Fields["network"] == "unix"
	}
	if lines := log.Last(0); !slices.ContainsFunc(lines, told) {
		t.Errorf("%+v", lines)
	}
}

func TestRunnerOfSomethingElse(t *testing.T) {
	log := NewLog(LogOptions{})
	c, made := client(t, sh("echo no plugin here >&2; echo hello; exit 4"), log)
	_, err := c.Start()
	if err == nil || !strings.Contains(err.Error(), "hello") {
		t.Fatal(err)
	}
	<-made().Process().Done()
	if text := made().Diagnose(t.Context()); !strings.Contains(text, "/bin/sh") {
		t.Error(text)
	}
	err = made().Wait(t.Context())
	if exit, ok := err.(*ExitError); !ok || exit.Exit.Success() {
		t.Error(err)
	}

	c, made = client(t, Spec{Path: "/does/not/exist"}, nil)
	if _, err = c.Start(); err == nil || made().ID() != "" {
		t.Error(err)
	}
	if _, err := RunnerFunc(Spec{}, nil, nil)(nil, exec.Command(""), ""); err != nil {
		t.Error(err)
	}
}
