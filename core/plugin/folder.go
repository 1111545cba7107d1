package plugin

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/plugins"
)

// StateStopped is the state of plugins that no server runs.
const StateStopped State = "stopped"

// Folder is a plugins folder that no manager watches.
type Folder struct {
	Dir    string
	States map[string]plugins.State // what administrators have set
}

// List describes the plugins, as far as the folder tells.
func (f Folder) List() ([]Info, error) {
	found, err := scan(f.Dir)
	if err != nil {
		return nil, err
	}
	out := []Info{}
	for _, s := range found {
		out = append(out, f.info(s))
	}
	return out, nil
}

// Get describes a plugin; store.ErrNotFound where there is none.
func (f Folder) Get(id string) (Info, error) {
	s, err := f.find(id)
	if err != nil {
		return Info{}, err
	}
	return f.info(s), nil
}

func (f Folder) info(s *source) Info {
	u := &unit{id: s.name(), src: s, state: StateStopped, enabled: true}
	if set, ok := f.States[u.id]; ok {
		u.enabled = set.Enabled
	}
	switch {
	case s.problem != nil:
		u.state, u.problem = StateRefused, s.problem.Error()
	case !u.enabled:
		u.state = StateDisabled
	}
	i := u.info(context.Background())
	i.Since = 0
	return i
}

func (f Folder) find(id string) (*source, error) {
	s, err := installed(f.Dir, id)
	if err == nil && s == nil {
		err = fmt.Errorf("plugin %q: %w", id, store.ErrNotFound)
	}
	return s, err
}

// Verify compares a plugin's files with the digests in its manifest.
func (f Folder) Verify(id string) (Verification, error) {
	s, err := f.find(id)
	if err != nil {
		return Verification{}, err
	}
	v := Verification{ID: s.name(), OK: true}
	if v.Pinned, err = s.verify(); err != nil {
		v.OK, v.Error = false, err.Error()
	}
	return v, nil
}

// Path is where a plugin is.
func (f Folder) Path(id string) (string, error) {
	s, err := f.find(id)
	if err != nil {
		return "", err
	}
	return s.path, nil
}

// Uninstall removes a plugin.
func (f Folder) Uninstall(id string) error {
	s, err := f.find(id)
	if err != nil {
		return err
	}
	return uninstall(s.path)
}
