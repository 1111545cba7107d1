package config

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/store"
)

// DB is the part of a [store.DB] that settings need.
type DB interface {
	// Query reads rows.
	Query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	// Exec writes.
	Exec(ctx context.Context, text string, args ...any) (sql.Result, error)
	// Tx runs a function in a transaction.
	Tx(ctx context.Context, f func(*store.Tx) error) error
	// Dialect says which SQL is spoken.
	Dialect() store.Dialect
}

// Options are the parts of [Load] that tests and other packages exchange. The zero value is what the server uses.
type Options struct {
	// Log is told of variables that are ignored and of polls that fail; nil means slog.Default.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Notify is called after this process stored settings, with their keys: the place to tell other replicas, which
	// then call [Settings.Reload]. It may block for a short time.
	Notify func(ctx context.Context, changed []string)
	// Poll is how often [Settings.Run] looks for changes of other processes; 0 means every 2 s on Postgres, which
	// replicas share, and never on SQLite. A negative one means never.
	Poll time.Duration
}

// Changes are new values by dotted key. A value is anything that marshals to JSON of the setting's type, null included.
type Changes map[string]any

// Settings are the settings of a running server. Reading is [Settings.Snapshot]; all methods may be called at once.
type Settings struct {
	db         DB
	log        *slog.Logger
	now        func() time.Time
	notify     func(context.Context, []string)
	poll       time.Duration
	persistent bool // ENABLE_PERSISTENT_CONFIG
	oauth      bool // ENABLE_OAUTH_PERSISTENT_CONFIG
	initial    *Snapshot

	current atomic.Pointer[Snapshot]
	seq     atomic.Uint64 // orders writes of one key as the database does

	mu    sync.Mutex // guards what follows and the exchange of current; never held across I/O
	marks map[string]mark
	epoch uint64 // counts the exchanges of current
	stamp stamp  // of the rows last read; zero means that the next poll reads them

	events dispatcher
}

// mark is what is known of the last write of a key in this process.
type mark struct{ seq, epoch uint64 }

// Load reads the environment and the table config, and writes the rows that the reference's start would write: those
// that are missing get their initial value, those of older versions are brought into today's form. With
// RESET_CONFIG_ON_START all rows are deleted before.
func Load(ctx context.Context, db DB, env *Env, o Options) (*Settings, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Poll == 0 && db.Dialect() == store.Postgres {
		o.Poll = 2 * time.Second
	}
	p := parser{env: env.Lookup, auth: env.Auth, log: o.Log}
	initial, err := p.initial()
	if err != nil {
		return nil, err
	}
	s := &Settings{
		db: db, log: o.Log, now: o.Now, notify: o.Notify, poll: o.Poll, initial: initial,
		marks:      map[string]mark{},
		persistent: env.PersistentConfig, oauth: env.OAuthPersistentConfig,
	}
	s.current.Store(initial)
	if env.ResetConfig {
		if _, err := db.Exec(ctx, "DELETE FROM config"); err != nil {
			return nil, fmt.Errorf("reset settings: %w", err)
		}
	}
	if !s.persistent {
		return s, nil
	}
	if err := importFile(ctx, db, env, o.Log); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare settings: %w", err)
	}
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Snapshot is all settings now.
func (s *Settings) Snapshot() *Snapshot { return s.current.Load() }

// Initial is all settings as the environment gives them.
func (s *Settings) Initial() *Snapshot { return s.initial }

// Persistent says whether settings are stored, that is ENABLE_PERSISTENT_CONFIG.
func (s *Settings) Persistent() bool { return s.persistent }

// stored says whether the database has the say over a key.
func (s *Settings) stored(key string) bool {
	return s.persistent && (s.oauth || !strings.HasPrefix(key, "oauth."))
}

// OnChange has f called after every exchange of the snapshot that changed values: with the keys, sorted, and the new
// snapshot. Calls come one after another, in order, on the goroutine of a writer; f may change settings itself. The
// function returned ends it.
func (s *Settings) OnChange(f func(changed []string, snap *Snapshot)) (cancel func()) {
	return s.events.subscribe(f)
}

// Set checks the types of the values and stores them in one transaction; when it returns, Snapshot has them and
// subscribers were told. The error is an [*UnknownError] or a [*TypeError], or one of the database; nothing was changed
// then. Settings that are not stored (see [Settings.Persistent]) change in this process only.
func (s *Settings) Set(ctx context.Context, c Changes) error {
	values, err := encode(c)
	if err != nil {
		return err
	}
	return s.put(ctx, values)
}

// SetTx is Set within a transaction of the caller's: the settings change when it commits.
func (s *Settings) SetTx(ctx context.Context, tx *store.Tx, c Changes) error {
	values, err := encode(c)
	if err != nil {
		return err
	}
	return s.putTx(ctx, tx, values)
}

// Import stores values as they come, as POST /api/v1/configs/import does: keys that are no settings are kept too, and a
// value that does not fit reads as the initial one.
func (s *Settings) Import(ctx context.Context, values map[string]jsontext.Value) error {
	own, err := compacted(values)
	if err != nil {
		return err
	}
	return s.put(ctx, own)
}

// ImportTx is Import within a transaction of the caller's.
func (s *Settings) ImportTx(ctx context.Context, tx *store.Tx, values map[string]jsontext.Value) error {
	own, err := compacted(values)
	if err != nil {
		return err
	}
	return s.putTx(ctx, tx, own)
}

// Reset deletes all rows: every setting is back at its initial value.
func (s *Settings) Reset(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, "DELETE FROM config"); err != nil {
		return fmt.Errorf("reset settings: %w", err)
	}
	if !s.persistent {
		return nil
	}
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("reset settings: %w", err)
	}
	return s.Reload(ctx)
}

func encode(c Changes) (map[string]jsontext.Value, error) {
	values := make(map[string]jsontext.Value, len(c))
	for key, v := range c {
		i, ok := index[key]
		if !ok {
			return nil, &UnknownError{Key: key}
		}
		raw, ok := v.(jsontext.Value)
		if ok {
			raw = raw.Clone()
		} else {
			var err error
			if raw, err = json.Marshal(v, json.Deterministic(true), lenient); err != nil {
				return nil, fmt.Errorf("setting %s: %w", key, err)
			}
		}
		if err := raw.Compact(lenient); err != nil || !fits(definitions[i].Type, raw) {
			return nil, &TypeError{Key: key, Want: definitions[i].Type, Got: raw}
		}
		values[key] = raw
	}
	return values, nil
}

func compacted(values map[string]jsontext.Value) (map[string]jsontext.Value, error) {
	own := make(map[string]jsontext.Value, len(values))
	for key, v := range values {
		raw := v.Clone()
		if err := raw.Compact(lenient); err != nil {
			return nil, fmt.Errorf("setting %s: %w", key, err)
		}
		own[key] = raw
	}
	return own, nil
}

func (s *Settings) put(ctx context.Context, values map[string]jsontext.Value) error {
	if len(values) == 0 {
		return nil
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(values)), s.stored) {
		s.committed(ctx, values, s.seq.Add(1))
		return nil
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error { return s.putTx(ctx, tx, values) })
}

func (s *Settings) putTx(ctx context.Context, tx *store.Tx, values map[string]jsontext.Value) error {
	if len(values) == 0 {
		return nil
	}
	rows := maps.Clone(values)
	maps.DeleteFunc(rows, func(key string, _ jsontext.Value) bool { return !s.stored(key) })
	if err := upsert(ctx, tx, rows, s.now().Unix(), true); err != nil {
		return fmt.Errorf("store settings: %w", err)
	}
	// The rows are locked until the commit, so numbers given here order the writes of a key as the database does.
	seq := s.seq.Add(1)
	tx.AfterCommit(func() { s.committed(ctx, values, seq) })
	return nil
}

// committed takes stored values into the snapshot and tells who wants to know.
func (s *Settings) committed(ctx context.Context, values map[string]jsontext.Value, seq uint64) {
	s.mu.Lock()
	fresh := maps.Clone(values)
	s.epoch++
	for key := range values {
		if s.marks[key].seq > seq {
			delete(fresh, key)
			continue
		}
		s.marks[key] = mark{seq: seq, epoch: s.epoch}
	}
	s.exchange(fresh, nil)
	s.mu.Unlock()
	s.events.run()
	if s.notify != nil {
		keys := slices.Sorted(maps.Keys(values))
		if keys = slices.DeleteFunc(keys, func(k string) bool { return !s.stored(k) }); len(keys) > 0 {
			s.notify(context.WithoutCancel(ctx), keys)
		}
	}
}
