package app

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestCgroupMemory(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no control groups", nil, 0},
		{"version 1", map[string]string{"/proc/self/cgroup": "12:memory:/x\n"}, 0},
		{"own group", map[string]string{"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "1000\n"}, 1000},
		{"no limit", map[string]string{"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "max\n", "/sys/fs/cgroup/memory.max": "5"}, 0},
		{"container", map[string]string{"/proc/self/cgroup": "0::/outside\n", "/sys/fs/cgroup/memory.max": "2000"}, 2000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := cgroupMemory(func(path string) ([]byte, error) {
				if text, ok := tt.files[path]; ok {
					return []byte(text), nil
				}
				return nil, fs.ErrNotExist
			})
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if got := memoryLimit(0); got != math.MaxInt64 {
		t.Errorf("no limit became %d", got)
	}
	if got := memoryLimit(1000); got != 900 {
		t.Errorf("limit of 1000 is %d", got)
	}
}

// TestUnmapProgram gives the program's pages back and goes on to run it.
func TestUnmapProgram(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	before := residentProgram(t)
	if err := unmapProgram(); err != nil {
		t.Fatal(err)
	}
	after := residentProgram(t)
	t.Logf("program pages: %d kB before, %d kB after", before, after)
	if after >= before {
		t.Errorf("%d kB of the program are resident, %d kB before", after, before)
	}
	if got := fmt.Sprintf("%x %v", 255, map[string]int{"a": 1}); got != "ff map[a:1]" {
		t.Errorf("got %q", got)
	}
}

// residentProgram is how much of the test program is resident, in kB.
func residentProgram(t *testing.T) (kb int) {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(smaps)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == "Rss" && inside {
			var n int
			if _, err := fmt.Sscanf(strings.TrimSpace(value), "%d kB", &n); err != nil {
				t.Fatal(err)
			}
			kb += n
			inside = false
		} else if strings.Contains(key, "-") {
			_, _, inside = mappingOf(strings.TrimSpace(line), self)
		}
	}
	return kb
}

func TestMappingOf(t *testing.T) {
	tests := []struct {
		line string
		ok   bool
	}{
		{"00400000-00ed4000 r-xp 00000000 fe:00 10387488                           /bin/the galley", true},
		{"00ed4000-01a1d000 r--p 00ad4000 fe:00 10387488                           /bin/the galley", true},
		{"01a1d000-01ac2000 rw-p 0161d000 fe:00 10387488                           /bin/the galley", false},
		{"01a1d000-01ac2000 r--p 0161d000 fe:00 10387488                           /lib/other.so", false},
		{"c000000000-c000400000 rw-p 00000000 00:00 0", false},
		{"Rss:               10064 kB", false},
	}
	for _, tt := range tests {
		if _, _, ok := mappingOf(tt.line, "/bin/the galley"); ok != tt.ok {
			t.Errorf("%s: got %v", tt.line, ok)
		}
	}
	if from, to, _ := mappingOf(tests[0].line, "/bin/the galley"); from != 0x400000 || to != 0xed4000 {
		t.Errorf("got %x to %x", from, to)
	}
}
