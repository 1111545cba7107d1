package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/plugins"
)

// Plugins are those of a running server, or of a folder.
type Plugins interface {
	List(ctx context.Context) ([]plugin.Info, error)
	SetEnabled(ctx context.Context, id string, enabled bool) (plugin.Info, error)
	Restart(ctx context.Context, id string) (plugin.Info, error)
	Verify(ctx context.Context, id string) (plugin.Verification, error)
	// Logs gives the last n lines to each, and with follow those that come, until ctx ends.
	Logs(ctx context.Context, id string, n int, follow bool, each func(plugin.Line) error) error
	Install(ctx context.Context, path string, o plugin.Installation) (plugin.Info, error)
	Remove(ctx context.Context, id string) error
}

// Folder administers the plugins folder and the database of a server that does not run.
type Folder struct {
	Env             *config.Env
	RequireChecksum bool
}

// ErrNotRunning says that something takes a server.
var ErrNotRunning = errors.New("Galley is not running")

// folder reads what administrators have set. A database that is not there yet is not made for that.
func (f *Folder) folder(ctx context.Context) (plugin.Folder, error) {
	out := plugin.Folder{Dir: f.Env.PluginsDir}
	if path, ok := strings.CutPrefix(f.Env.Database.URL, "sqlite:///"); ok {
		path, _, _ = strings.Cut(path, "?")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return out, nil
		}
	}
	err := f.states(ctx, func(s *plugins.Store) (err error) {
		out.States, err = s.States(ctx)
		return err
	})
	return out, err
}

// states opens the database for as long as do runs.
func (f *Folder) states(ctx context.Context, do func(*plugins.Store) error) error {
	d := f.Env.Database
	db, err := store.Open(ctx, d.URL, store.Options{BusyTimeout: d.BusyTimeout, Synchronous: d.Synchronous, PostgresSchema: d.Schema})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return errors.Join(do(plugins.New(db)), db.Close())
}

// known is the folder and a plugin in it.
func (f *Folder) known(ctx context.Context, id string) (plugin.Folder, plugin.Info, error) {
	in, err := f.folder(ctx)
	if err != nil {
		return in, plugin.Info{}, err
	}
	i, err := in.Get(id)
	if errors.Is(err, store.ErrNotFound) {
		err = named(id, errNotFound)
	}
	return in, i, err
}

// List implements Plugins.
func (f *Folder) List(ctx context.Context) ([]plugin.Info, error) {
	in, err := f.folder(ctx)
	if err != nil {
		return nil, err
	}
	return in.List()
}

// SetEnabled implements Plugins.
func (f *Folder) SetEnabled(ctx context.Context, id string, enabled bool) (plugin.Info, error) {
	if _, i, err := f.known(ctx, id); err != nil {
		return i, err
	}
	if err := f.states(ctx, func(s *plugins.Store) error { return s.SetEnabled(ctx, id, enabled) }); err != nil {
		return plugin.Info{}, err
	}
	_, i, err := f.known(ctx, id)
	return i, err
}

// Restart implements Plugins.
func (f *Folder) Restart(context.Context, string) (plugin.Info, error) {
	return plugin.Info{}, ErrNotRunning
}

// Logs implements Plugins.
func (f *Folder) Logs(context.Context, string, int, bool, func(plugin.Line) error) error {
	return ErrNotRunning
}

// Verify implements Plugins.
func (f *Folder) Verify(ctx context.Context, id string) (plugin.Verification, error) {
	in, _, err := f.known(ctx, id)
	if err != nil {
		return plugin.Verification{}, err
	}
	return in.Verify(id)
}

// Install implements Plugins.
func (f *Folder) Install(ctx context.Context, path string, o plugin.Installation) (plugin.Info, error) {
	o.Dir, o.RequireChecksum = f.Env.PluginsDir, f.RequireChecksum
	done, err := plugin.Install(ctx, path, o)
	if errors.Is(err, plugin.ErrInstalled) {
		return plugin.Info{}, fmt.Errorf("%w; --replace takes its place", err)
	}
	if err != nil {
		return plugin.Info{}, err
	}
	_, i, err := f.known(ctx, done.ID)
	return i, err
}

// Remove implements Plugins.
func (f *Folder) Remove(ctx context.Context, id string) error {
	in, _, err := f.known(ctx, id)
	if err != nil {
		return err
	}
	return in.Uninstall(id)
}
