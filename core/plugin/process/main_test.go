//go:build unix

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	plugin "github.com/hashicorp/go-plugin"
)

// The test binary plays children and hosts: the variable says which.
const roleVariable = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	role, play := os.LookupEnv(roleVariable)
	if !play {
		code := m.Run()
		if err := Sweep(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	roles[role]()
	os.Exit(0)
}

var roles = map[string]func(){
	"sleep":  func() { fmt.Println("ready"); time.Sleep(time.Hour) },
	"stdin":  func() { _, _ = io.Copy(io.Discard, os.Stdin); fmt.Println("end of stdin") },
	"memory": useMemory,
	"host":   playHost,
	"crash":  func() { panic("broken\non purpose") },
	"stubborn": func() {
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	},
	"plugin": func() {
		plugin.Serve(&plugin.ServeConfig{HandshakeConfig: handshake, Plugins: plugins, GRPCServer: plugin.DefaultGRPCServer})
	},
}

var kept [][]byte

func useMemory() {
	fmt.Println("ready")
	for range 100 {
		block := make([]byte, 8<<20)
		for i := range block {
			block[i] = 1
		}
		kept = append(kept, block)
		time.Sleep(time.Millisecond)
	}
	fmt.Println("had it all")
	runtime.KeepAlive(kept)
}

// playHost starts a child that starts a grandchild, in a session of its own where that is asked for, and tells their numbers.
func playHost() {
	p, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", os.Getenv("SCRIPT")}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Applied().Tree, p.Pid(), p.guard.pid())
	_, _ = io.Copy(os.Stdout, p.Stdout())
	time.Sleep(time.Hour)
}

func roleSpec(t *testing.T, role string, env ...string) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Name: role, Path: self, Env: append([]string{roleVariable + "=" + role}, env...)}
}

func sh(script string) Spec {
	return Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}}
}

// start starts a process that is gone when the test ends.
func start(t *testing.T, spec Spec) *Process {
	t.Helper()
	p, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.killNow(""); err != nil {
			t.Error(err)
		}
		p.closePipes()
	})
	return p
}

// finish waits for the end and returns what the process wrote.
func finish(t *testing.T, p *Process) (stdout, stderr string, exit Exit) {
	t.Helper()
	var out, errs bytes.Buffer
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(&errs, p.Stderr()) }()
	_, _ = io.Copy(&out, p.Stdout())
	<-done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), exit
}

// readLine reads one line of output byte by byte, so that the next starts where this one ends.
func readLine(t *testing.T, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' || err != nil {
			return string(line)
		}
		line = append(line, b[:n]...)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// gone tells whether a process has ended; as a zombie it has.
func gone(pid int) bool {
	if runtime.GOOS == "linux" {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(program, "is not installed")
	}
	return path
}
