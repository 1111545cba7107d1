package pyhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/python"
)

// pydanticVersion is what is installed where Python has none: the reference's.
const pydanticVersion = "2.13.4"

// starting is a start that several requests may wait for.
type starting struct {
	done  chan struct{}
	child *child
	err   error
}

// running gives the process, and starts one if there is none.
func (h *Host) running(ctx context.Context) (*child, error) {
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return nil, &UnavailableError{errors.New("the server is stopping")}
	case h.child != nil:
		defer h.mu.Unlock()
		return h.child, nil
	}
	s := h.start
	if s == nil {
		s = &starting{done: make(chan struct{})}
		h.start = s
		pause := time.Until(h.notYet)
		go func() {
			if pause > 0 {
				time.Sleep(pause)
			}
			c, err := h.open(context.WithoutCancel(ctx))
			h.mu.Lock()
			defer h.mu.Unlock()
			h.start = nil
			if s.child, s.err = c, err; err != nil {
				s.err = &UnavailableError{err}
			} else if c.dead() == nil {
				h.child = c
				h.watchIdle()
			}
			if h.closed && c != nil {
				go func() { _ = c.kill(context.Background()) }()
			}
			close(s.done)
		}()
	}
	h.mu.Unlock()
	select {
	case <-s.done:
		return s.child, s.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// dead says why a child is none any more.
func (c *child) dead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// open finds Python and what it needs, and starts it.
func (h *Host) open(ctx context.Context) (*child, error) {
	interpreter, err := python.Find(h.o.Python)
	if err != nil {
		return nil, err
	}
	c, said, err := h.launch(ctx, interpreter, nil)
	if err != nil {
		h.crashed()
		return nil, err
	}
	version := strings.Split(said.python, ".")
	if len(version) > 1 && version[0] == "3" && len(version[1]) == 1 && version[1] < "9" {
		_ = c.kill(ctx)
		return nil, fmt.Errorf("Python 3.9 or later is needed, %s is %s", interpreter, said.python) //nolint:staticcheck // a name
	}
	if strings.HasPrefix(said.pydantic, "2.") {
		return c, nil
	}
	_ = c.kill(ctx)
	name := "pydantic-" + pydanticVersion + "-py" + strings.Join(version[:min(2, len(version))], ".")
	if !h.installer.Has(name) {
		err := h.installer.Install(ctx, python.Wish{
			Name: name, Python: interpreter, Packages: []string{"pydantic==" + pydanticVersion}, Before: h.o.PipOptions, After: h.o.PipIndex,
		})
		if err != nil {
			return nil, fmt.Errorf("%s lacks the package pydantic: %w", interpreter, err)
		}
	}
	c, said, err = h.launch(ctx, interpreter, []string{h.installer.Path(name)})
	if err == nil && said.pydantic == "" {
		_ = c.kill(ctx)
		err = fmt.Errorf("the package pydantic in %s does not load", h.installer.Path(name))
	}
	return c, err
}

// require installs what a source asks for and gives the folders it is in.
func (h *Host) require(ctx context.Context, requirements string) (paths []string, err error) {
	var list []string
	for _, r := range strings.Split(requirements, ",") {
		if r = strings.TrimSpace(r); r != "" {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return []string{}, nil
	}
	slices.Sort(list)
	sum := sha256.Sum256([]byte(strings.Join(list, "\n")))
	name := "packages-" + hex.EncodeToString(sum[:8])
	if h.installer.Has(name) {
		return []string{h.installer.Path(name)}, nil
	}
	if !h.o.Requirements || h.o.Offline {
		h.o.Log.InfoContext(ctx, "requirements of Python code are not installed", "requirements", list)
		return []string{}, nil
	}
	if slices.ContainsFunc(list, func(r string) bool { return strings.HasPrefix(r, "-") }) {
		return []string{}, errors.New("requirements that begin with a dash are options of pip")
	}
	interpreter, err := python.Find(h.o.Python)
	if err != nil {
		return []string{}, err
	}
	err = h.installer.Install(ctx, python.Wish{Name: name, Python: interpreter, Packages: list, Before: h.o.PipOptions, After: h.o.PipIndex})
	if err != nil {
		return []string{}, err
	}
	return []string{h.installer.Path(name)}, nil
}

// gone is told that a process has ended.
func (h *Host) gone(c *child) {
	why := c.dead()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.child != c {
		return
	}
	h.child = nil
	clear(h.known)
	if c.stopped.Load() {
		return
	}
	h.o.Log.Error("the Python process ended", "error", why)
	if time.Since(c.process.Started()) > stableFor {
		h.crashes = 0
	}
	h.pause()
}

// crashed notes a process that did not come up.
func (h *Host) crashed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pause()
}

// pause puts the next start off: not after the first crash, then by ever more. mu is held.
func (h *Host) pause() {
	if h.crashes > 0 {
		h.notYet = time.Now().Add(min(maxPause, 500*time.Millisecond<<min(h.crashes, 10)))
	}
	h.crashes++
}

// watchIdle ends the process once nobody needs it. mu is held.
func (h *Host) watchIdle() {
	c := h.child
	h.idle = time.AfterFunc(h.o.Idle, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.child != c || h.closed {
			return
		}
		if since, quiet := c.quiet(); !quiet || since < h.o.Idle {
			h.watchIdle()
			return
		}
		h.child = nil
		clear(h.known)
		h.o.Log.Info("the Python process is not needed and ends")
		go func() { _ = c.kill(context.Background()) }()
	})
}
