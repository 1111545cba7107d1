// Package plugins stores what the server keeps about plugins and for them, in Galley's own tables: a [Store] of their
// state (galley_plugin) and the [KV] of values that they keep themselves (galley_plugin_kv).
package plugins

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// State is what administrators have set for a plugin: a row of the table galley_plugin.
type State struct {
	ID        string      `json:"id"`
	Enabled   bool        `json:"enabled"`
	Config    jsondoc.Doc `json:"config"`     // nil if none was set
	UpdatedAt int64       `json:"updated_at"` // Unix time in milliseconds; 0 if nothing was set
}

// Store has the state of plugins. It is safe for concurrent use, also by several processes.
type Store struct{ db *store.DB }

// New makes the store of plugins' state.
func New(db *store.DB) *Store { return &Store{db: db} }

const stateColumns = "id, enabled, config, updated_at"

func (st *State) fields() []any { return []any{&st.ID, &st.Enabled, &st.Config, &st.UpdatedAt} }

// State is what is set for a plugin. One of which nothing is stored is enabled and has no config.
func (s *Store) State(ctx context.Context, id string) (State, error) {
	var st State
	err := s.db.QueryRow(ctx, "SELECT "+stateColumns+" FROM galley_plugin WHERE id = $1", id).Scan(st.fields()...)
	if errors.Is(err, store.ErrNotFound) {
		return State{ID: id, Enabled: true}, nil
	}
	return st, err
}

// States are all stored states, by id of the plugin.
func (s *Store) States(ctx context.Context) (map[string]State, error) {
	rows, err := s.db.Query(ctx, "SELECT "+stateColumns+" FROM galley_plugin")
	list, err := store.Collect(rows, err, func(r *sql.Rows) (st State, err error) {
		err = r.Scan(st.fields()...)
		return st, err
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string]State, len(list))
	for _, st := range list {
		out[st.ID] = st
	}
	return out, nil
}

// SetEnabled switches a plugin on or off and leaves its config as it is.
func (s *Store) SetEnabled(ctx context.Context, id string, enabled bool) error {
	return s.change(ctx, "INSERT INTO galley_plugin (id, enabled, config, updated_at) VALUES ($1, $2, 'null', $3) "+
		"ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled, updated_at = excluded.updated_at", id, enabled, time.Now().UnixMilli())
}

// SetConfig replaces the config of a plugin and leaves it on or off as it is.
func (s *Store) SetConfig(ctx context.Context, id string, config jsondoc.Doc) error {
	return s.change(ctx, "INSERT INTO galley_plugin (id, enabled, config, updated_at) VALUES ($1, TRUE, $2, $3) "+
		"ON CONFLICT (id) DO UPDATE SET config = excluded.config, updated_at = excluded.updated_at", id, config.String(), time.Now().UnixMilli())
}

// Delete forgets the state of a plugin, if there is any. The values it keeps stay; see [KV.Clear].
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.change(ctx, "DELETE FROM galley_plugin WHERE id = $1", id)
}

// Version grows with every change of any state, in the order in which changes are committed: replicas that see the same
// number as before have nothing to read.
func (s *Store) Version(ctx context.Context) (version int64, err error) {
	err = s.db.QueryRow(ctx, "SELECT version FROM galley_plugin_version WHERE id = 1").Scan(&version)
	return version, err
}

func (s *Store) change(ctx context.Context, text string, args ...any) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		// first, because it has changes wait for one another on Postgres
		if _, err := tx.Exec(ctx, "UPDATE galley_plugin_version SET version = version + 1 WHERE id = 1"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, text, args...)
		return err
	})
}
