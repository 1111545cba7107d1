package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the SQLite driver
)

// Head is the Alembic revision whose tables these are (Open WebUI 0.12.4).
const Head = "0bd252b206fb"

//go:embed schema/sqlite.sql
var sqliteSchema string

//go:embed schema/postgres.sql
var postgresSchema string

// ErrForeign says that the database holds tables of another version, and that nothing was changed.
var ErrForeign = errors.New("database of another version")

// Open opens the database at a URL in the reference's form: sqlite:///relative/path, sqlite:////absolute/path,
// postgresql://user:password@host/name or postgres://…. An empty database gets the tables; one of another version is
// refused with ErrForeign before anything is written.
func Open(ctx context.Context, address string, o Options) (*DB, error) {
	db, err := connect(address, o)
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

func connect(address string, o Options) (*DB, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return nil, fmt.Errorf("DATABASE_URL: %q is not a URL like sqlite:///path or postgresql://user@host/name", redact(address))
	}
	scheme, _, _ = strings.Cut(scheme, "+")
	switch scheme {
	case "sqlite":
		path, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "?")
		if path == "" || path == ":memory:" {
			return nil, errors.New("DATABASE_URL: SQLite needs a file, as in sqlite:////path/webui.db")
		}
		return openSQLite(address, path, o)
	case "postgresql", "postgres":
		return openPostgres(address, "postgres://"+rest, o)
	}
	return nil, fmt.Errorf("DATABASE_URL: %q is neither sqlite nor postgresql", scheme)
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
		o.CacheKiB = 2048
	}
	open := func(lock string, conns int, more ...string) (*sql.DB, error) {
		q := url.Values{}
		// busy_timeout first, so that the switch to WAL already waits for others
		for _, p := range append([]string{
			fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds()), "journal_mode(WAL)", "journal_size_limit(67108864)", "wal_autocheckpoint(4000)",
			"synchronous(" + o.Synchronous + ")", "temp_store(MEMORY)", fmt.Sprintf("cache_size(-%d)", o.CacheKiB),
		}, more...) {
			q.Add("_pragma", p)
		}
		q.Set("_txlock", lock)
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
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

func openPostgres(address, dsn string, o Options) (*DB, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("DATABASE_URL: not a valid postgresql:// URL")
	}
	q := u.Query()
	// SQLAlchemy users write ssl=; libpq and lib/pq know sslmode. Without either, libpq's default is "prefer",
	// which lib/pq has not: plain is what such a server most often speaks.
	if v := q.Get("ssl"); v != "" && q.Get("sslmode") == "" {
		q.Set("sslmode", v)
	}
	q.Del("ssl")
	if m := q.Get("sslmode"); m == "" || m == "prefer" || m == "allow" {
		q.Set("sslmode", "disable")
	}
	if o.PostgresSchema != "" {
		q.Set("search_path", o.PostgresSchema)
	}
	u.RawQuery = q.Encode()
	c, err := pq.NewConnector(u.String())
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
	return &DB{dialect: Postgres, url: address, hook: o.Hook, read: p, write: p}, nil
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
		if err := prepareReference(ctx, tx); err != nil {
			return err
		}
		return migrateOwn(ctx, tx)
	})
}

// prepareReference sees to the reference's tables.
func prepareReference(ctx context.Context, tx *Tx) error {
	names, err := tableNames(ctx, tx)
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	if names["alembic_version"] {
		var have string
		switch err := tx.tx.QueryRowContext(ctx, "SELECT version_num FROM alembic_version").Scan(&have); {
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		case have == Head:
			return nil
		}
		return fmt.Errorf("%w: its Alembic revision is %q, this Galley serves %s (Open WebUI 0.12.4); start Open WebUI 0.12.4 once on it to migrate an older one; nothing was changed", ErrForeign, have, Head)
	}
	for _, ours := range []string{"user", "chat", "auth", "config"} {
		if names[ours] {
			return fmt.Errorf("%w: it has a table %q but no alembic_version; nothing was changed", ErrForeign, ours)
		}
	}
	if _, err := tx.tx.ExecContext(ctx, tx.Dialect().Pick(sqliteSchema, postgresSchema)); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	_, err = tx.tx.ExecContext(ctx, "INSERT INTO alembic_version (version_num) VALUES ('"+Head+"')")
	return err
}

func tableNames(ctx context.Context, tx *Tx) (map[string]bool, error) {
	rows, err := tx.tx.QueryContext(ctx, tx.Dialect().Pick(
		"SELECT name FROM sqlite_master WHERE type = 'table'",
		"SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"))
	names, err := Strings(rows, err)
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out, err
}

// redact hides the password of a URL.
func redact(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	return u.Redacted()
}
