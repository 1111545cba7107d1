package process

import (
	"errors"
	"fmt"
	"time"
)

// Ways of enforcing a limit, as they stand in Applied.
const (
	watched  = "watched"
	noLimit  = "none"
	byRlimit = "rlimit"
	byV1     = "cgroup v1"
	byV2     = "cgroup v2"
)

// watchInterval is how often the use of a tree is looked at where no cgroup enforces its limits, treeInterval how often
// its members are noted where no cgroup holds them.
const (
	watchInterval = 100 * time.Millisecond
	treeInterval  = time.Second
)

// watch kills the tree when it goes over a limit that nothing else enforces, and notes who belongs to it.
func (p *Process) watch() {
	interval := treeInterval
	if p.applied.Memory == watched || p.applied.Processes == watched {
		interval = watchInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	limits := p.spec.Limits
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if !p.reaped {
			remember(p)
		}
		p.mu.Unlock()
		use, err := p.Stats()
		if errors.Is(err, ErrUnsupported) {
			return
		}
		if err != nil {
			continue
		}
		switch {
		case p.applied.Memory == watched && use.MemoryBytes > limits.MemoryBytes:
			_ = p.killNow(outOfMemory(limits))
		case p.applied.Processes == watched && use.Threads > limits.Processes:
			_ = p.killNow(fmt.Sprintf("too many processes and threads: limit %d", limits.Processes))
		}
	}
}
