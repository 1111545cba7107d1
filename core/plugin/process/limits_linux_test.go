package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// with lets a test start processes as on a machine with these cgroups.
func with(t *testing.T, c *cgroups) {
	t.Helper()
	real := control
	control = func() *cgroups { return c }
	t.Cleanup(func() { control = real })
}

// ways are the means by which this machine can limit, and the way without any.
func ways() map[string]*cgroups {
	found := control()
	return map[string]*cgroups{
		"as found": found,
		"v1":       {v1: found.v1},
		"nothing":  {},
	}
}

func skipWithout(t *testing.T, p *Process, how string) {
	t.Helper()
	if strings.HasPrefix(how, "not enforced") {
		t.Skip(how)
	}
}

func TestMemoryLimit(t *testing.T) {
	python := Spec{Name: "python", Path: "/usr/bin/env", Args: []string{"python3", "-c", `
print("ready", flush=True)
kept = []
for i in range(100):
    kept.append(b"\1" * (8 << 20))
print("had it all")`}, Env: []string{"PATH=" + os.Getenv("PATH")}}
	for way, c := range ways() {
		for _, spec := range []Spec{roleSpec(t, "memory"), python} {
			t.Run(way+"/"+spec.Name, func(t *testing.T) {
				with(t, c)
				if spec.Name == "python" {
					need(t, "python3")
				}
				spec.Limits.MemoryBytes = 256 << 20
				p := start(t, spec)
				out, errs, exit := finish(t, p)
				if !strings.HasPrefix(out, "ready\n") || strings.Contains(out, "all") {
					t.Fatalf("by %s: out %q, err %q, %s", p.Applied().Memory, out, errs, exit)
				}
				if exit.Success() {
					t.Errorf("%+v", exit)
				}
				// Without a cgroup RLIMIT_DATA may be quicker than the watch.
				if p.Applied().Memory != watched || exit.Signal == syscall.SIGKILL {
					if want := "killed by signal 9 (out of memory: limit 256 MiB)"; !exit.OutOfMemory || exit.String() != want {
						t.Errorf("by %s: %s %+v", p.Applied().Memory, exit, exit)
					}
				}
			})
		}
	}
}

// A child that starts children without end is held to its limit and can be killed.
func TestForkBomb(t *testing.T) {
	for way, c := range ways() {
		t.Run(way, func(t *testing.T) {
			with(t, c)
			spec := sh(`for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do sleep 1000 & done; echo all; wait`)
			spec.Limits.Processes = 12
			spec.Grace = 100 * time.Millisecond
			p := start(t, spec)
			if p.Applied().Processes == watched {
				if _, _, exit := finish(t, p); exit.String() != "killed by signal 9 (too many processes and threads: limit 12)" {
					t.Error(exit)
				}
				return
			}
			_, errs, exit := finish(t, p) // the shell gives up by itself and leaves children
			if exit.Success() || !strings.Contains(strings.ToLower(errs), "fork") {
				t.Errorf("by %s: %s, %q", p.Applied().Processes, exit, errs)
			}
		})
	}
}

// A real one: each child forks again. It must be gone after Kill.
func TestForkBombIsKilled(t *testing.T) {
	spec := sh(`bomb() { bomb 2>/dev/null & bomb 2>/dev/null & wait; }; bomb`)
	spec.Limits = Limits{Processes: 30, CPUs: 0.5}
	spec.Grace = 50 * time.Millisecond
	p := start(t, spec)
	if p.Applied().Processes == watched {
		t.Skip("no pids controller")
	}
	dir := p.group.v1["pids"]
	if p.Applied().Processes == byV2 {
		dir = p.group.v2
	}
	eventually(t, "the limit to be reached", func() bool {
		_, ended := p.Exit()
		return ended || counter(dir+"/pids.events", "max") > 0
	})
	if use, err := p.Stats(); err == nil && use.Threads > 31 {
		t.Errorf("%+v", use)
	}
	if err := p.killNow(""); err != nil {
		t.Fatal(err)
	}
	if exists(dir) {
		t.Error("the cgroup remains, so its processes do:", groupPids(dir, nil))
	}
}

func TestOpenFilesLimit(t *testing.T) {
	spec := sh(`sleep 0.2; ulimit -n; ulimit -Hn`)
	spec.Limits.OpenFiles = 40
	p := start(t, spec)
	if out, _, _ := finish(t, p); out != "40\n40\n" || p.Applied().OpenFiles != byRlimit {
		t.Errorf("%q %+v", out, p.Applied())
	}
}

func TestCPULimit(t *testing.T) {
	spec := sh(`while :; do :; done`)
	spec.Limits.CPUs = 0.2
	p := start(t, spec)
	skipWithout(t, p, p.Applied().CPU)
	began := time.Now()
	eventually(t, "a second", func() bool { return time.Since(began) > time.Second })
	use, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if share := use.CPU.Seconds() / time.Since(began).Seconds(); share > 0.35 || share == 0 {
		t.Errorf("%.2f of a processor, by %s", share, p.Applied().CPU)
	}
}

func TestApplied(t *testing.T) {
	with(t, &cgroups{})
	a := start(t, Spec{Path: "/bin/sh", Args: []string{"-c", "sleep 100"}, Limits: Limits{1 << 30, 1, 10, 100}}).Applied()
	want := Applied{watched, "not enforced: no writable cgroup with the cpu controller", watched, byRlimit, "process group"}
	if a != want {
		t.Errorf("%+v", a)
	}
	a = start(t, Spec{Path: "/bin/sh", Args: []string{"-c", "sleep 100"}}).Applied()
	if want := (Applied{noLimit, noLimit, noLimit, noLimit, "process group"}); a != want {
		t.Errorf("%+v", a)
	}
}

// What is written where a v2 group has the controllers, on plain files.
func TestV2Settings(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"memory.max": "268435456", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "150000 100000", "pids.max": "64",
	}
	for name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &group{v2: dir, fd: -1, v1: map[string]string{}}
	c := &cgroups{controllers: map[string]bool{"memory": true, "cpu": true, "pids": true}}
	limits := Limits{MemoryBytes: 256 << 20, CPUs: 1.5, Processes: 64}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		if how := g.apply(c, "x", controller, true, limits); how != byV2 {
			t.Error(controller, how)
		}
	}
	for name, want := range files {
		if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	_ = os.WriteFile(filepath.Join(dir, "memory.events"), []byte("low 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1\n"), 0o600)
	if !g.oomKilled() {
		t.Error("memory.events is not seen")
	}
	if n := withoutCache(1000, []byte("anon 500\nfile 400\nshmem 30\n"), "file", "shmem"); n != 630 {
		t.Error(n)
	}
}

func TestFindCgroups(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, "memory", "service")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(own+"/tasks", nil, 0o600)
	line := "36 30 0:31 /docker/x " + root + "/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
	found := findCgroups(line, "4:memory:/docker/x/service\n0::/\n")
	if found.v1["memory"] != own {
		t.Errorf("%+v", found)
	}
	if found = findCgroups(line, "4:memory:/elsewhere\n"); len(found.v1) != 0 {
		t.Errorf("%+v", found)
	}
}

// What a killed host left is swept; what living ones have is not.
func TestSweep(t *testing.T) {
	base := control().v2
	if base == "" {
		base = control().v1["pids"]
	}
	if base == "" {
		t.Skip("no cgroup can be written here")
	}
	dead := start(t, sh("true"))
	finish(t, dead)
	stale := filepath.Join(base, groupPrefix+pidNamespace()+"-"+short(uint64(dead.Pid()))+"-1-1")
	foreign := filepath.Join(base, groupPrefix+"1-"+short(uint64(dead.Pid()))+"-1-1")
	for _, dir := range []string{stale, foreign} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Remove(dir) }()
	}
	if err := os.Mkdir(stale+"/below", 0o755); err != nil { // made by the child itself
		t.Fatal(err)
	}
	living, left := start(t, sh("sleep 1000")), start(t, sh("sleep 1000"))
	if err := write(stale+"/below/cgroup.procs", strconv.Itoa(left.Pid())); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	<-left.Done()
	if exists(stale) || !exists(foreign) {
		t.Error("stale:", exists(stale), "of another namespace:", exists(foreign))
	}
	if use, err := living.Stats(); err != nil || use.Processes == 0 {
		t.Error("a living host's process was killed:", use, err)
	}
}

func TestStats(t *testing.T) {
	for way, c := range ways() {
		t.Run(way, func(t *testing.T) {
			with(t, c)
			spec := sh(`i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 1000 & sleep 1000 & echo ready; wait`)
			spec.Limits.MemoryBytes = 1 << 30
			p := start(t, spec)
			readLine(t, p.Stdout())
			eventually(t, "both children", func() bool { use, _ := p.Stats(); return use.Processes == 3 })
			use, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if use.Threads != 3 || use.OpenFiles < 9 || use.OpenFiles > 40 || use.CPU <= 0 || use.CPU > time.Minute ||
				use.MemoryBytes < 100<<10 || use.MemoryBytes > 100<<20 || time.Since(use.Started) > time.Minute {
				t.Errorf("%+v", use)
			}
			if err := p.killNow(""); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Stats(); err != ErrEnded {
				t.Error(err)
			}
		})
	}
}

// Descriptors that the host inherited itself do not reach a child.
func TestNoInheritedDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	self, _ := os.Executable()
	host := exec.Command(self)
	host.Env = []string{roleVariable + "=host", "SCRIPT=ls -m /proc/$$/fd; true", "PATH=" + os.Getenv("PATH")}
	host.ExtraFiles = []*os.File{r, w}
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = host.Process.Kill(), host.Wait() }()
	readLine(t, out)
	if got := readLine(t, out); got != "0, 1, 2" {
		t.Errorf("descriptors %q", got)
	}
}

// Output ends soon after the process also when somebody who escaped holds the pipe.
func TestOutputEnds(t *testing.T) {
	need(t, "setsid")
	with(t, &cgroups{})
	out, _, exit := finish(t, start(t, sh(`setsid sleep 12 & sleep 0.3; echo all`)))
	if took := time.Since(exit.At); out != "all\n" || took > 10*time.Second {
		t.Errorf("%q after %s", out, took)
	}
}

func BenchmarkStats(b *testing.B) {
	p, err := Start(sh("echo ready; exec sleep 1000"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.killNow("") }()
	_, _ = p.Stdout().Read(make([]byte, 10))
	for b.Loop() {
		if _, err := p.Stats(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p, err := Start(Spec{Path: "/bin/true", Limits: Limits{MemoryBytes: 64 << 20}})
		if err != nil {
			b.Fatal(err)
		}
		<-p.Done()
		p.closePipes()
	}
}
