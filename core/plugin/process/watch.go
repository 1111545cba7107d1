package process

import (
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

// watchInterval is how often the use of a tree is looked at where no cgroup enforces its limits.
const watchInterval = 100 * time.Millisecond

// watch kills the tree when it goes over a limit that nothing else enforces.
func (p *Process) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	limits := p.spec.Limits
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		use, err := p.Stats()
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
