package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// group is the cgroups of one child: one of v2, and one for each controller of v1 that is needed. A nil group stands for a
// system where none can be made.
type group struct {
	v2   string
	fd   int // of the folder v2, -1 for none
	v1   map[string]string
	home map[string]string // our own groups of v1
}

var groupNumber atomic.Int64

// newGroup makes the groups and sets the limits, and says how each is enforced.
func newGroup(l Limits, a *Applied) *group { return control().newGroup(l, a) }

func (c *cgroups) newGroup(l Limits, a *Applied) *group {
	name := groupPrefix + hostID() + "-" + strconv.FormatInt(groupNumber.Add(1), 10)
	g := &group{fd: -1, v1: map[string]string{}, home: c.v1}
	if c.v2 != "" {
		dir := filepath.Join(c.v2, name)
		if os.Mkdir(dir, 0o755) == nil {
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				fd = -1
			}
			g.v2, g.fd = dir, fd
		}
	}
	a.Memory = g.apply(c, name, "memory", l.MemoryBytes > 0, l)
	a.CPU = g.apply(c, name, "cpu", l.CPUs > 0, l)
	a.Processes = g.apply(c, name, "pids", l.Processes > 0, l)
	if a.CPU == watched {
		a.CPU = "not enforced: no writable cgroup with the cpu controller"
	}
	switch {
	case g.v2 != "":
		a.Tree = "cgroup.kill"
	case g.makeV1(c, "pids", name) == nil: // only to know the tree
		a.Tree = byV1
	case len(g.v1) == 0:
		a.Tree = "process group"
		return nil
	default:
		a.Tree = byV1
	}
	return g
}

// apply sets the limit of one controller.
func (g *group) apply(c *cgroups, name, controller string, asked bool, l Limits) string {
	if !asked {
		return noLimit
	}
	if g.v2 != "" && c.controllers[controller] && set(g.v2, v2Settings(controller, l)) == nil {
		return byV2
	}
	if g.makeV1(c, controller, name) == nil && set(g.v1[controller], v1Settings(controller, l)) == nil {
		return byV1
	}
	return watched
}

// makeV1 makes the group of one controller.
func (g *group) makeV1(c *cgroups, controller, name string) error {
	home, ok := c.v1[controller]
	if !ok {
		return fs.ErrNotExist
	}
	dir := filepath.Join(home, name)
	for other, made := range g.v1 { // cpu and others may share a hierarchy
		if made == dir && other != controller {
			g.v1[controller] = dir
			return nil
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && (!errors.Is(err, fs.ErrExist) || g.v1[controller] != dir) {
		return err
	}
	g.v1[controller] = dir
	return nil
}

// setting is a control file and its text; optional ones do not exist on every machine.
type setting struct {
	file, text string
	optional   bool
}

const cpuPeriod = 100_000 // microseconds

func v2Settings(controller string, l Limits) []setting {
	switch controller {
	case "memory":
		return []setting{
			{"memory.max", strconv.FormatInt(l.MemoryBytes, 10), false},
			{"memory.swap.max", "0", true},
			{"memory.oom.group", "1", true},
		}
	case "cpu":
		return []setting{{"cpu.max", fmt.Sprintf("%d %d", cpuQuota(l.CPUs), cpuPeriod), false}}
	default:
		return []setting{{"pids.max", strconv.Itoa(l.Processes), false}}
	}
}

func v1Settings(controller string, l Limits) []setting {
	switch controller {
	case "memory":
		bytes := strconv.FormatInt(l.MemoryBytes, 10)
		return []setting{{"memory.limit_in_bytes", bytes, false}, {"memory.memsw.limit_in_bytes", bytes, true}}
	case "cpu":
		return []setting{
			{"cpu.cfs_period_us", strconv.Itoa(cpuPeriod), false},
			{"cpu.cfs_quota_us", strconv.FormatInt(cpuQuota(l.CPUs), 10), false},
		}
	default: // the thread that forks is in the group for a moment, so it takes two
		return []setting{{"pids.max", strconv.Itoa(max(l.Processes, 2)), false}}
	}
}

// cpuQuota is the time in each period; the kernel takes no less than a millisecond.
func cpuQuota(cpus float64) int64 { return max(int64(cpus*cpuPeriod), 1000) }

func set(dir string, settings []setting) error {
	for _, s := range settings {
		if err := write(filepath.Join(dir, s.file), s.text); err != nil && !s.optional {
			return err
		}
	}
	return nil
}

// enter puts the calling thread into the groups of v1, so that what it forks begins there, and returns the way back.
func (g *group) enter() (leave func() error, err error) {
	if g == nil {
		return func() error { return nil }, nil
	}
	var entered []string
	leave = func() (failed error) {
		for _, home := range entered {
			failed = errors.Join(failed, write(home+"/tasks", "0"))
		}
		return failed
	}
	for controller, dir := range g.v1 {
		if err := write(dir+"/tasks", "0"); err != nil {
			return nil, errors.Join(err, leave())
		}
		entered = append(entered, g.home[controller])
	}
	return leave, nil
}

// join moves a process into the group of v2.
func (g *group) join(pid int) error { return write(g.v2+"/cgroup.procs", strconv.Itoa(pid)) }

// openKill opens cgroup.kill for the guard; nil where there is none.
func (g *group) openKill() *os.File {
	if g == nil || g.v2 == "" {
		return nil
	}
	f, err := os.OpenFile(g.v2+"/cgroup.kill", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return f
}

// oneFolder is a group that holds the whole tree.
func (g *group) oneFolder() string {
	if g.v2 != "" {
		return g.v2
	}
	for _, dir := range g.v1 {
		return dir
	}
	return ""
}

func (g *group) kill() {
	if g != nil {
		killGroup(g.oneFolder())
	}
}

// killGroup kills all processes of a group; by cgroup.kill (since Linux 5.14) at once, else until there is none.
func killGroup(dir string) {
	if write(dir+"/cgroup.kill", "1") == nil {
		return
	}
	for range 100 {
		living := 0
		var pids []int
		for _, below := range subgroups(dir) {
			pids = groupPids(below, pids)
		}
		for _, pid := range pids {
			if s, ok := readStat(pid); ok && s.state != 'Z' && syscall.Kill(pid, syscall.SIGKILL) == nil {
				living++
			}
		}
		if living == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (g *group) remove() {
	if g == nil {
		return
	}
	if g.fd >= 0 {
		_ = unix.Close(g.fd)
	}
	if g.v2 != "" {
		_ = removeGroup(g.v2)
	}
	for _, dir := range g.v1 {
		_ = removeGroup(dir)
	}
}

// subgroups are the groups that a child may have made below its own, the deepest first, and the group itself.
func subgroups(dir string) (dirs []string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			dirs = append(dirs, subgroups(filepath.Join(dir, entry.Name()))...)
		}
	}
	return append(dirs, dir)
}

// removeGroup removes a group whose processes were killed and may still be about to end. Should one take longer, Sweep of
// the next start removes the group.
func removeGroup(dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, below := range subgroups(dir) {
			err = os.Remove(below)
		}
		if err == nil {
			return nil
		}
		if wait > time.Second {
			return err
		}
		time.Sleep(wait)
	}
}

// oomKilled tells whether the kernel killed a process of the group because of its limit.
func (g *group) oomKilled() bool {
	if g == nil {
		return false
	}
	if g.v2 != "" && counter(g.v2+"/memory.events", "oom_kill") > 0 {
		return true
	}
	dir, ok := g.v1["memory"]
	return ok && counter(dir+"/memory.oom_control", "oom_kill") > 0
}

// pidNamespace is the number of the namespace in which process numbers are ours.
func pidNamespace() string {
	link, _ := os.Readlink("/proc/self/ns/pid")
	number, _ := strconv.ParseUint(strings.Trim(link, "pid:[]"), 10, 64)
	return short(number)
}

// hostID names this process among all that ever run: PID namespace, number, start time.
func hostID() string {
	s, _ := readStat(os.Getpid())
	return pidNamespace() + "-" + short(uint64(os.Getpid())) + "-" + short(s.start)
}

// short writes a number in few letters, as it is part of the paths of sockets.
func short(n uint64) string { return strconv.FormatUint(n, 36) }

func sameNamespace(id string) bool { return strings.HasPrefix(id, pidNamespace()+"-") }

// hostAlive tells whether the process of a hostID runs, in our namespace.
func hostAlive(id string) bool {
	part := strings.Split(id, "-")
	if len(part) != 3 || part[0] != pidNamespace() {
		return false
	}
	pid, err := strconv.ParseInt(part[1], 36, strconv.IntSize)
	if err != nil {
		return false
	}
	s, ok := readStat(int(pid))
	return ok && s.state != 'Z' && short(s.start) == part[2]
}
