package app

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Between two collections the heap may grow by gcPercent of what lives, or by gcRoom bytes if that is more: a server in
// which little lives would collect hundreds of times a second if it went by percents alone.
const (
	gcPercent = 25
	gcRoom    = 24 << 20
)

// TuneMemory keeps the heap small, and within what a container may use, unless the operator has an opinion (GOGC,
// GOMEMLIMIT): most documents pass through rather than stay, so collecting more often costs little.
func TuneMemory(lookup func(string) (string, bool)) {
	if v, ok := lookup("GOGC"); !ok || v == "" {
		tuneGC()
	}
	if v, ok := lookup("GOMEMLIMIT"); !ok || v == "" {
		debug.SetMemoryLimit(memoryLimit(cgroupMemory(os.ReadFile)))
	}
}

// tuneGC sets the percentage that gives the heap its room, again after each collection.
func tuneGC() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 0
	var collected func(*sentinel)
	collected = func(s *sentinel) {
		metrics.Read(live)
		percent := gcPercent
		if n := live[0].Value.Uint64(); n > 0 {
			percent = max(gcPercent, int(min(gcRoom*100/n, 2000)))
		}
		// Setting it stops the world for a moment, so small changes are let be.
		if d := percent - last; d > last/8 || -d > last/8 {
			last = percent
			debug.SetGCPercent(percent)
		}
		runtime.SetFinalizer(s, collected)
	}
	runtime.SetFinalizer(new(sentinel), collected)
	debug.SetGCPercent(gcRoom * 100 / (4 << 20)) // until the first collection, of the few megabytes that a start takes
}

// sentinel is an object that nobody holds, so that each collection finds it.
type sentinel struct{ _ [16]byte }

// memoryLimit leaves a tenth of what the system allows for what is no heap; 0 means that it sets no limit.
func memoryLimit(allowed int64) int64 {
	if allowed <= 0 {
		return math.MaxInt64
	}
	return allowed - allowed/10
}

// cgroupMemory is how many bytes the process's control group (version 2) may use, 0 for any number.
func cgroupMemory(read func(string) ([]byte, error)) int64 {
	const root = "/sys/fs/cgroup"
	group := ""
	if text, err := read("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				group = path
			}
		}
	}
	// Inside a container its own group is often the root of what is mounted.
	for _, dir := range []string{filepath.Join(root, group), root} {
		text, err := read(filepath.Join(dir, "memory.max"))
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0 // "max"
		}
		return n
	}
	return 0
}

// releaser gives memory back when the server has become quiet.
type releaser struct {
	log      *slog.Logger
	requests atomic.Uint64
}

// quiet is how long nothing must be asked before memory is given back.
const quiet = 30 * time.Second

// count counts requests on their way to next.
func (r *releaser) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		next.ServeHTTP(w, req)
	})
}

// Run releases what the start needed at once, and later what a busy time needed, once for each.
func (r *releaser) Run(ctx context.Context) {
	releaseMemory(r.log)
	var seen, released uint64
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := r.requests.Load()
		if n == seen && n != released {
			releaseMemory(r.log)
			released = n
		}
		seen = n
	}
}

// releaseMemory gives back unused heap, and the pages of the program that were read.
func releaseMemory(log *slog.Logger) {
	debug.FreeOSMemory()
	if err := unmapProgram(); err != nil {
		log.Debug("program pages not released", "error", err)
	}
}
