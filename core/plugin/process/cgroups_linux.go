package process

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// groupPrefix begins the names of our cgroups: galley-<PID namespace>-<pid>-<start time>-<number>. The namespace stands in
// it because a host on the machine also sees the groups of hosts in containers, whose process numbers mean others.
const groupPrefix = "galley-"

// cgroups is what this process may use of the machine's control groups.
type cgroups struct {
	// v2 is the folder in which groups are made, empty for none; controllers are those that its groups have.
	v2          string
	controllers map[string]bool
	// v1 has our own folder for each controller that is mounted so and writable.
	v1 map[string]string
	// mounts are the mount points, where Sweep looks.
	mounts []string
}

// control is found out once, at the first start of a process.
var control = sync.OnceValue(func() *cgroups {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return &cgroups{}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return &cgroups{}
	}
	return findCgroups(string(mounts), string(own))
})

// findCgroups reads /proc/self/mountinfo and /proc/self/cgroup.
func findCgroups(mountinfo, own string) *cgroups {
	c := &cgroups{controllers: map[string]bool{}, v1: map[string]string{}}
	paths := map[string]string{} // controller, or "" for v2, to our group
	for line := range strings.Lines(own) {
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); len(part) == 3 {
			for name := range strings.SplitSeq(part[1], ",") {
				paths[name] = part[2]
			}
		}
	}
	for line := range strings.Lines(mountinfo) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " - ")
		mount, kind := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(kind) < 3 {
			continue
		}
		root, point := mount[3], mount[4]
		switch kind[0] {
		case "cgroup2":
			if dir, ok := ownFolder(root, point, paths[""]); ok && c.v2 == "" {
				c.mounts = append(c.mounts, point)
				c.chooseV2(dir, point)
			}
		case "cgroup":
			for name := range strings.SplitSeq(kind[2], ",") {
				if name != "memory" && name != "cpu" && name != "pids" {
					continue
				}
				dir, ok := ownFolder(root, point, paths[name])
				if ok && unix.Access(dir, unix.W_OK) == nil && unix.Access(dir+"/tasks", unix.W_OK) == nil {
					c.v1[name] = dir
					c.mounts = append(c.mounts, point)
				}
			}
		}
	}
	return c
}

// ownFolder is where a group's folder is, given what part of the hierarchy is mounted.
func ownFolder(root, point, path string) (string, bool) {
	if path == "" {
		return "", false
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	dir := filepath.Join(point, rest)
	if _, err := os.Stat(dir); !ok || err != nil {
		return "", false
	}
	return dir, true
}

// chooseV2 takes our own group, or its parent where that is what was delegated to us, as the place for groups.
func (c *cgroups) chooseV2(dir, point string) {
	if parent := filepath.Dir(dir); dir != point && delegated(parent) && unix.Access(parent, unix.W_OK) == nil {
		dir = parent // systemd's DelegateSubgroup: the service is in a leaf of what it may manage
	}
	if unix.Access(dir, unix.W_OK) != nil {
		return
	}
	// Moving processes about is only right where the whole subtree is ours.
	ours := delegated(dir) || os.Geteuid() != 0 || dir == point && exists(dir+"/cgroup.type")
	c.v2 = dir
	available, _ := os.ReadFile(dir + "/cgroup.controllers")
	for _, name := range strings.Fields(string(available)) {
		if name != "memory" && name != "cpu" && name != "pids" {
			continue
		}
		err := write(dir+"/cgroup.subtree_control", "+"+name)
		if errors.Is(err, syscall.EBUSY) && ours {
			err = enableFromLeaf(dir, name)
		}
		c.controllers[name] = err == nil
	}
}

// enableFromLeaf moves this process into a leaf, as a group that gives controllers to others holds no processes itself.
func enableFromLeaf(dir, controller string) error {
	leaf := dir + "/galley.host"
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	if err := write(leaf+"/cgroup.procs", pid); err != nil {
		return err
	}
	err := write(dir+"/cgroup.subtree_control", "+"+controller)
	if err != nil { // others are in the group also
		_ = write(dir+"/cgroup.procs", pid)
		_ = os.Remove(leaf)
	}
	return err
}

// delegated tells whether systemd has marked the group as ours to manage.
func delegated(dir string) bool {
	var value [8]byte
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// write writes to a control file, which exists.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// counter reads the number that follows a name in a file such as memory.events.
func counter(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

// Sweep kills what is left in the cgroups of hosts that are gone, and removes the groups. A living host's are not touched.
func Sweep() error {
	var failed error
	for _, mount := range control().mounts {
		failed = errors.Join(failed, sweepBelow(mount))
	}
	return failed
}

func sweepBelow(mount string) error {
	var stale []string
	_ = filepath.WalkDir(mount, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // gone meanwhile, or not ours to read
		}
		if !entry.IsDir() {
			return nil
		}
		name, ours := strings.CutPrefix(entry.Name(), groupPrefix)
		cut := strings.LastIndexByte(name, '-')
		if !ours || cut < 0 {
			return nil
		}
		if owner := name[:cut]; sameNamespace(owner) && !hostAlive(owner) {
			stale = append(stale, path)
		}
		return fs.SkipDir
	})
	var failed error
	for _, dir := range stale {
		killGroup(dir)
		failed = errors.Join(failed, removeGroup(dir))
	}
	return failed
}
