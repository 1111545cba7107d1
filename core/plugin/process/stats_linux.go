package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of times in /proc, the same on all machines that Go runs on.
const clockTick = 10 * time.Millisecond

var pageSize = int64(os.Getpagesize())

// stat is what is taken from /proc/<pid>/stat.
type stat struct {
	state    byte
	cpu      time.Duration // with the children that were waited for
	threads  int
	start    uint64 // ticks since boot
	resident int64  // bytes
}

// readStat reads the state of a process, zombies included.
func readStat(pid int) (s stat, ok bool) {
	var buf [1024]byte
	data := readInto("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	// The name in brackets may hold anything, so the fields are counted from the last bracket; the first there is the third.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return s, false
	}
	var field [22]uint64
	at := 0
	for part := range bytes.FieldsSeq(data[end+1:]) {
		if at == 0 {
			s.state = part[0]
		} else if at < len(field) {
			field[at] = number(part)
		}
		at++
	}
	if at < len(field) {
		return s, false
	}
	s.cpu = time.Duration(field[11]+field[12]+field[13]+field[14]) * clockTick
	s.threads, s.start, s.resident = int(field[17]), field[19], int64(field[21])*pageSize
	return s, true
}

// number reads decimal digits up to the first other byte.
func number(b []byte) (n uint64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// readInto reads a small file of /proc or of a cgroup past os.File, which would first try to poll it.
func readInto(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	n := 0
	for n < len(buf) {
		more, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || more <= 0 {
			break
		}
		n += more
	}
	return buf[:n]
}

// named is the number after a name at the start of a line.
func named(data []byte, name string) (uint64, bool) {
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return number(rest), true
		}
	}
	return 0, false
}

// groupPids appends the processes of a cgroup.
func groupPids(dir string, pids []int) []int {
	var buf [16 << 10]byte
	for line := range bytes.Lines(readInto(dir+"/cgroup.procs", buf[:])) {
		if pid := int(number(line)); pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descendants are the processes below one, as far as the parents of each still live.
func descendants(pid int) (pids []int) {
	for at, next := -1, pid; ; next = pids[at] {
		tasks := "/proc/" + strconv.Itoa(next) + "/task/"
		threads, _ := os.ReadDir(tasks)
		for _, thread := range threads {
			var buf [16 << 10]byte
			for field := range bytes.FieldsSeq(readInto(tasks+thread.Name()+"/children", buf[:])) {
				pids = append(pids, int(number(field)))
			}
		}
		if at++; at >= len(pids) {
			return pids
		}
	}
}

// openFiles counts descriptors; since Linux 6.2 the size of the folder tells their number.
func openFiles(pid int) int {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && st.Size > 0 {
		return int(st.Size)
	}
	names, _ := os.ReadDir(dir)
	return len(names)
}

// Stats tells what the tree uses now. It returns ErrEnded after the end.
func (p *Process) Stats() (Stats, error) {
	if _, ended := p.Exit(); ended {
		return Stats{}, ErrEnded
	}
	var pids []int
	if p.group != nil {
		pids = groupPids(p.group.oneFolder(), nil)
	} else {
		pids = append([]int{p.proc.Pid}, descendants(p.proc.Pid)...)
	}
	use := Stats{Started: p.started}
	for _, pid := range pids {
		s, ok := readStat(pid)
		if !ok || s.state == 'Z' {
			continue
		}
		use.Processes++
		use.Threads += s.threads
		use.MemoryBytes += s.resident
		use.CPU += s.cpu
		use.OpenFiles += openFiles(pid)
	}
	if use.Processes == 0 {
		return Stats{}, ErrEnded
	}
	p.group.correct(&use)
	return use, nil
}

// correct takes from the cgroup what it knows better than the sum over processes: memory that they share counts once, and
// the time of those that ended is included.
func (g *group) correct(use *Stats) {
	if g == nil {
		return
	}
	var buf [8 << 10]byte
	if g.v2 != "" {
		if micros, ok := named(readInto(g.v2+"/cpu.stat", buf[:]), "usage_usec"); ok && micros > 0 {
			use.CPU = time.Duration(micros) * time.Microsecond
		}
		if n := number(readInto(g.v2+"/memory.current", buf[:])); n > 0 {
			use.MemoryBytes = withoutCache(n, readInto(g.v2+"/memory.stat", buf[:]), "file", "shmem")
			return
		}
	}
	if dir, ok := g.v1["memory"]; ok {
		if n := number(readInto(filepath.Join(dir, "memory.usage_in_bytes"), buf[:])); n > 0 {
			use.MemoryBytes = withoutCache(n, readInto(dir+"/memory.stat", buf[:]), "total_cache", "total_shmem")
		}
	}
}

// withoutCache takes off the pages of files, which the kernel drops when it needs room, but not shared memory.
func withoutCache(current uint64, memoryStat []byte, cache, shared string) int64 {
	file, _ := named(memoryStat, cache)
	shm, _ := named(memoryStat, shared)
	return max(int64(current)-int64(file)+int64(shm), 0)
}
