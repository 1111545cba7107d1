//go:build unix

package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStart(t *testing.T) {
	spec := sh(`echo "$0 $1|$ONLY|$HOME|$(pwd -P)"; echo oops >&2; exit 3`)
	spec.Args, spec.Env, spec.Dir = append(spec.Args, "a", "b c"), []string{"ONLY=this"}, "/"
	out, errs, exit := finish(t, start(t, spec))
	if out != "a b c|this||/\n" || errs != "oops\n" {
		t.Errorf("out %q, err %q", out, errs)
	}
	if exit.Code != 3 || exit.Signal != 0 || exit.Success() || exit.String() != "exited with code 3" {
		t.Errorf("%+v %s", exit, exit)
	}
	if _, err := Start(Spec{Path: "/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestExitBySignal(t *testing.T) {
	_, _, exit := finish(t, start(t, sh(`kill -SEGV $$`)))
	if exit.Code != -1 || exit.Signal != syscall.SIGSEGV || exit.String() != "killed by signal 11" {
		t.Errorf("%+v %s", exit, exit)
	}
}

func TestStdinStaysOpenUntilTheEnd(t *testing.T) {
	p := start(t, roleSpec(t, "stdin"))
	_ = p.stdin.Close() // what the end of the host does
	if out, _, exit := finish(t, p); out != "end of stdin\n" || !exit.Success() {
		t.Errorf("%q %v", out, exit)
	}
}

func TestKill(t *testing.T) {
	p := start(t, sh(`trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done`))
	readLine(t, p.Stdout())
	if err := p.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	if exit, ended := p.Exit(); !ended || !exit.Stopped || exit.Code != 0 {
		t.Errorf("%v %+v", ended, exit)
	}
	if err := p.Kill(context.Background()); err != nil {
		t.Error("second time:", err)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}

	spec := roleSpec(t, "stubborn")
	spec.Grace = 100 * time.Millisecond
	p = start(t, spec)
	readLine(t, p.Stdout())
	if err := p.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	if exit, _ := p.Exit(); exit.Signal != syscall.SIGKILL || exit.String() != "killed by signal 9 (stopped by the host)" {
		t.Errorf("%+v", exit)
	}
}

// A child that ends, or is killed, leaves no descendants.
func TestDescendantsEndToo(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		kill         bool
		session      bool
	}{
		{"killed", `sleep 1000 & echo $!; wait`, true, false},
		{"ended by itself", `sleep 1000 & echo $!; sleep 0.3`, false, false},
		{"killed, ignoring SIGTERM", `trap "" TERM; sleep 1000 & echo $!; wait`, true, false},
		{"killed, own session", `setsid sh -c 'echo $$; exec sleep 1000' & wait`, true, true},
		{"ended by itself, own session", `setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.3`, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.session {
				need(t, "setsid")
			}
			spec := sh(tc.script)
			spec.Grace = 100 * time.Millisecond
			p := start(t, spec)
			if tc.session && !tc.kill && p.Applied().Tree == "process group" {
				t.Skip("no cgroup can be made here")
			}
			pid, err := strconv.Atoi(readLine(t, p.Stdout()))
			if err != nil || gone(pid) {
				t.Fatal("no grandchild", err)
			}
			if tc.kill {
				if err := p.Kill(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			<-p.Done()
			eventually(t, "end of the grandchild", func() bool { return gone(pid) })
			eventually(t, "end of the guard", func() bool { return gone(p.guard.pid()) })
		})
	}
}

// All that a host started ends when it is killed, by the guard.
func TestHostKilled(t *testing.T) {
	for name, script := range map[string]string{
		"group":   `sleep 1000 & echo $!; wait`,
		"session": `setsid sh -c 'trap "" HUP TERM; echo $$; while :; do sleep 1; done' & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "session" {
				need(t, "setsid")
			}
			// Not by Start, whose own cgroup would end the tree and hide what the guard does.
			spec := roleSpec(t, "host", "SCRIPT="+script, "PATH="+os.Getenv("PATH"))
			host := exec.Command(spec.Path)
			host.Env = spec.Env
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = host.Process.Kill(), host.Wait() }()
			told := strings.Fields(readLine(t, out))
			if len(told) < 3 {
				t.Fatal(told)
			}
			tree := strings.Join(told[:len(told)-2], " ")
			pids := append(told[len(told)-2:], readLine(t, out))
			if name == "session" && tree != "cgroup.kill" {
				t.Skip("no cgroup v2 can be made here: ", tree)
			}
			var numbers []int
			for _, pid := range pids {
				n, err := strconv.Atoi(pid)
				if err != nil || gone(n) {
					t.Fatalf("process %q does not run", pid)
				}
				numbers = append(numbers, n)
			}
			if err := host.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for _, pid := range numbers {
				eventually(t, "end of process "+strconv.Itoa(pid), func() bool { return gone(pid) })
			}
		})
	}
}

func TestNothingStaysBehind(t *testing.T) {
	finish(t, start(t, sh("true"))) // the spawner's thread is there from the first start on
	goroutines, files := runtime.NumGoroutine(), openDescriptors(t)
	for range 20 {
		p, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", "true"}, Limits: Limits{MemoryBytes: 64 << 20, Processes: 20}})
		if err != nil {
			t.Fatal(err)
		}
		finish(t, p)
		p.closePipes()
	}
	eventually(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "closing of files", func() bool { return openDescriptors(t) <= files })
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
