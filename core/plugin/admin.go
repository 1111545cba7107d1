package plugin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/galleychat/galley/core/web"
)

// takeUp looks at the folder and takes up what has changed. What is at the given paths is known to be whole.
func (m *Manager) takeUp(whole ...string) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	return m.takeUpLocked(whole...)
}

func (m *Manager) takeUpLocked(whole ...string) error {
	found, err := m.look()
	if err != nil {
		return err
	}
	m.mu.Lock()
	for _, s := range found {
		for _, path := range whole {
			if s.path == path {
				m.pending[path] = s.print
			}
		}
	}
	m.mu.Unlock()
	m.apply(found, false)
	return nil
}

// Install installs a plugin from a file or a folder of this machine and starts it; see the function of that name for o,
// whose Dir and RequireChecksum are the manager's. Wait waits for the start.
func (m *Manager) Install(ctx context.Context, path string, o Installation) (Installed, error) {
	return m.install(o, func(o Installation) (Installed, error) { return Install(ctx, path, o) })
}

// InstallContent is Install for a file that is no path.
func (m *Manager) InstallContent(ctx context.Context, c Content, o Installation) (Installed, error) {
	return m.install(o, func(o Installation) (Installed, error) { return InstallContent(ctx, c, o) })
}

func (m *Manager) install(o Installation, run func(Installation) (Installed, error)) (Installed, error) {
	o.Dir, o.RequireChecksum = m.o.Dir, m.o.RequireChecksum
	o.find = m.placeOf
	done, err := run(o)
	if err != nil {
		return done, err
	}
	m.log.Info("plugin installed", "plugin", done.ID, "version", done.Version, "replaced", done.Replaced)
	return done, m.takeUp(done.Path)
}

// placeOf is where the plugin is that has an id, "" for none or a built-in one: an operator's own goes before that.
func (m *Manager) placeOf(id string) string {
	u, err := m.find(id)
	if err != nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone || isBuiltin(u.src) {
		return ""
	}
	return u.src.path
}

// Uninstall removes a plugin from the plugins folder and ends it once its calls have ended, for which it waits until ctx
// ends. What the plugin has stored, its folder for data and what administrators set stay, for when it is installed again.
func (m *Manager) Uninstall(ctx context.Context, id string) error {
	u, err := m.find(id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	src := u.src
	u.mu.Unlock()
	if isBuiltin(src) {
		return web.Fail(http.StatusBadRequest, fmt.Sprintf("The plugin %s comes with Galley and can only be disabled", u.ID()))
	}
	if err := m.drop(src.path); err != nil {
		return err
	}
	m.log.Info("plugin removed", "plugin", u.ID())
	select {
	case <-ctx.Done():
	case <-u.done:
	}
	return nil
}

func (m *Manager) drop(path string) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	if err := uninstall(path); err != nil {
		return err
	}
	return m.takeUpLocked()
}
