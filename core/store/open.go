package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the SQLite driver
)

// Open opens the database at a URL in the reference's form: sqlite:///relative/path, sqlite:////absolute/path,
// postgresql://user:password@host/name or postgres://…. An empty database gets the tables; one of another version is
// refused with ErrForeign before anything is written.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	if !o.SkipSchemaCheck {
		// An SQLite file is looked at before the connections below change it: they switch it to a write-ahead log.
		if s, err := inspect(ctx, a, url, o); err != nil {
			return nil, err
		} else if err := s.Err(); err != nil {
			return nil, err
		}
	}
	db, err := connect(a, url, o)
	if err != nil {
		return nil, err
	}
	if !o.SkipSchemaCheck {
		if err := db.prepare(ctx); err != nil {
			_ = db.Close()
			return nil, err
		}
	}
	return db, nil
}

func connect(a *address, text string, o Options) (*DB, error) {
	if a.dialect == SQLite {
		return openSQLite(text, a.file, o)
	}
	return openPostgres(text, a, o)
}

func openSQLite(address, path string, o Options) (*DB, error) {
	if o.Existing {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("DATABASE_URL: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("database folder: %w", err)
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Synchronous == "" {
		o.Synchronous = "NORMAL"
	}
	if o.CacheKiB == 0 {
		o.CacheKiB = 1024
	}
	journal := "WAL"
	if o.NoWAL {
		journal = "DELETE"
	}
	open := func(lock string, conns int, more ...string) (*sql.DB, error) {
		q := url.Values{}
		// busy_timeout first, so that the switch to WAL already waits for others
		for _, p := range append([]string{
			fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds()), "journal_mode(" + journal + ")", "journal_size_limit(67108864)", "wal_autocheckpoint(4000)",
			"synchronous(" + o.Synchronous + ")", "temp_store(MEMORY)", fmt.Sprintf("cache_size(-%d)", o.CacheKiB),
		}, more...) {
			q.Add("_pragma", p)
		}
		q.Set("_txlock", lock)
		db, err := sql.Open("sqlite", fileURL(path, q))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		return db, nil
	}
	w, err := open("immediate", 1)
	if err != nil {
		return nil, err
	}
	r, err := open("deferred", o.Readers, "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	db := &DB{dialect: SQLite, url: address, file: path, hook: o.Hook, read: newPool(r), write: newPool(w)}
	db.batch = &batcher{db: db}
	return db, nil
}

// FileURI is how SQLite is told of a file; parameters may follow behind a "?".
func FileURI(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

func fileURL(path string, q url.Values) string { return FileURI(path) + "?" + q.Encode() }

func openPostgres(text string, a *address, o Options) (*DB, error) {
	dsn, err := a.dsn(o)
	if err != nil {
		return nil, err
	}
	c, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	db := sql.OpenDB(c)
	if o.PoolSize <= 0 {
		o.PoolSize = 20
	}
	if o.PoolRecycle == 0 {
		o.PoolRecycle = time.Hour
	}
	db.SetMaxOpenConns(o.PoolSize)
	db.SetMaxIdleConns(o.PoolSize)
	db.SetConnMaxLifetime(o.PoolRecycle)
	p := newPool(db)
	return &DB{dialect: Postgres, url: text, hook: o.Hook, read: p, write: p}, nil
}

func newPool(db *sql.DB) *pool { return &pool{db: db, stmts: map[string]*sql.Stmt{}} }

// prepare makes the tables in an empty database, refuses one of another version, and brings Galley's own tables up to date.
func (db *DB) prepare(ctx context.Context) error {
	if db.dialect == SQLite {
		// A file that is not a database is told here, by the writer, whose pragmas create the file.
		if err := db.write.db.PingContext(ctx); err != nil {
			return fmt.Errorf("open database: %w", err)
		}
	}
	return db.tx(ctx, func(tx *Tx) error {
		if db.dialect == Postgres {
			// replicas that start together: one makes the tables, the others wait
			if _, err := tx.tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(7217053)"); err != nil {
				return err
			}
		}
		// Looked at once more, as another process may have made the tables since.
		s, err := readState(ctx, tx.tx, tx.Dialect(), Options{})
		if err == nil {
			err = s.Err()
		}
		if err == nil && s.Kind == Empty {
			err = makeReference(ctx, tx)
		}
		if err != nil {
			return err
		}
		return migrateOwn(ctx, tx, ownSchema)
	})
}

// makeReference makes the reference's tables.
func makeReference(ctx context.Context, tx *Tx) error {
	if _, err := tx.tx.ExecContext(ctx, tx.Dialect().Pick(sqliteSchema, postgresSchema)); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	_, err := tx.tx.ExecContext(ctx, "INSERT INTO alembic_version (version_num) VALUES ('"+Head+"')")
	return err
}
