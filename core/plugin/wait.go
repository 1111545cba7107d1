package plugin

import (
	"context"
	"time"
)

// ask changes what is wanted of a unit.
func (u *unit) ask(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.askLocked(change)
}

func (u *unit) askLocked(change func()) {
	change()
	u.asked++
	u.notify()
}

// askedSoFar counts the changes that were asked for.
func (u *unit) askedSoFar() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked
}

// dealtWith tells those who wait that the changes up to n were dealt with, whatever came of them.
func (u *unit) dealtWith(n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n != u.dealt {
		u.dealt = n
		close(u.turned)
		u.turned = make(chan struct{})
	}
}

// Wait waits until what was asked of a plugin before has been dealt with (its start, SetEnabled, Restart, a new version):
// it is ready then, or has been tried once, or is off. An error is that of ctx, or store.ErrNotFound.
func (m *Manager) Wait(ctx context.Context, id string) error {
	u, err := m.find(id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	asked := u.asked
	u.mu.Unlock()
	for {
		u.mu.Lock()
		dealt, turned := u.dealt >= asked, u.turned
		u.mu.Unlock()
		if dealt {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.done:
			return nil
		case <-turned:
		}
	}
}

// Status is the part of Info that costs nothing to ask for.
type Status struct {
	ID       string
	State    State
	Error    string
	Started  time.Time // of the process
	Restarts int
}

// Statuses gives the status of all plugins, by the names of their sources.
func (m *Manager) Statuses() []Status {
	var out []Status
	for _, u := range m.all() {
		u.mu.Lock()
		out = append(out, Status{u.id, u.state, u.problem, u.started, u.restarts})
		u.mu.Unlock()
	}
	return out
}
