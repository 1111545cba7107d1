package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// plan is what is left to do once a restore has begun to change what was there. It is on the disk before the first step,
// and each step can be told to be done.
type plan struct {
	Backup   Head     `json:"backup"`
	Kept     []string `json:"kept,omitempty"`     // where that is what was there
	Database string   `json:"database,omitempty"` // a Postgres database that gets the rows before the first move; its URL, without password
	Moves    []move   `json:"moves"`
}

// move renames a file or a folder. Old ones make room: they are done once To is there. New ones are done once From is gone.
type move struct {
	From string `json:"from"`
	To   string `json:"to"`
	Old  bool   `json:"old,omitempty"`
}

func planFile(dataDir string) string { return filepath.Join(dataDir, restoreDir, "plan.json") }

// ErrUnfinished says that a restore of a data folder was interrupted when it had begun to put things in place.
var ErrUnfinished = errors.New("a restore was interrupted: run galley db restore again, with the same file, which completes it")

// Unfinished is ErrUnfinished where a data folder is half restored, so that no server may start on it.
func Unfinished(dataDir string) error {
	switch _, err := os.Lstat(planFile(dataDir)); {
	case err == nil:
		return fmt.Errorf("%s: %w", dataDir, ErrUnfinished)
	case gone(err):
		return nil
	default:
		return err
	}
}

// readPlan gives the plan of a data folder, nil for none.
func readPlan(dataDir string) (*plan, error) {
	text, err := os.ReadFile(planFile(dataDir))
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &plan{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", planFile(dataDir), err)
	}
	return p, nil
}

// write puts the plan on the disk, whole.
func (p *plan) write(dataDir string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	name := planFile(dataDir)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(name)), syncDir(dataDir))
}

// perform does what is left of the moves. step is called before each, for tests; nil for nothing.
func (p *plan) perform(step func() error) error {
	for _, m := range p.Moves {
		if step != nil {
			if err := step(); err != nil {
				return err
			}
		}
		if err := m.perform(); err != nil {
			return err
		}
	}
	return nil
}

func (m move) perform() error {
	from, err := exists(m.From)
	if err != nil {
		return err
	}
	to, err := exists(m.To)
	if err != nil {
		return err
	}
	switch {
	case !from, m.Old && to:
		return nil
	case to:
		return fmt.Errorf("%s has come up meanwhile and is in the way: move it elsewhere and restore again", m.To)
	}
	if err := os.MkdirAll(filepath.Dir(m.To), 0o755); err != nil {
		return err
	}
	if err := os.Rename(m.From, m.To); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(m.From)), syncDir(filepath.Dir(m.To)))
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
