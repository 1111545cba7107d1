// Package store opens Galley's database and gives the rest of the server one way to talk to it.
//
// The tables are those of Open WebUI at Alembic head [Head] (schema/sqlite.sql and schema/postgres.sql), so that a
// database made by Galley is one the reference opens, and the other way round. Galley's own tables, galley_*, stand
// beside them (schema/galley), and so do indexes of its own for large databases (indexes.go). SQL is written once, with $1 placeholders, which SQLite and Postgres both take; what
// differs goes through [Dialect].
//
// SQLite has two pools: one connection that writes (BEGIN IMMEDIATE, so that a lock is never upgraded) and a few that
// read a WAL snapshot. Postgres has one pool for both. Statements are prepared once per connection and kept.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Errors that every aggregate returns, wrapped or not; routes turn them into HTTP answers.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
	ErrReading  = errors.New("the database is open for reading only")
)

// Querier is what reads and writes rows: a [DB] or a [Tx]. Aggregates take one, so that the same function serves inside
// and outside a transaction.
type Querier interface {
	// Query reads rows; on a DB it uses the read pool.
	Query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	// QueryRow reads one row.
	QueryRow(ctx context.Context, text string, args ...any) Row
	// Exec writes.
	Exec(ctx context.Context, text string, args ...any) (sql.Result, error)
	// Dialect says which SQL is spoken.
	Dialect() Dialect
}

// Row is the part of sql.Row that is used; Scan gives ErrNotFound where there is no row.
type Row interface {
	Scan(dest ...any) error
}

// Hook observes a statement: it is called before, and what it returns after, with the error. It may change the context.
type Hook func(ctx context.Context, text string) (context.Context, func(error))

// Options are the settings of a database that have a reference variable.
type Options struct {
	Readers         int           // SQLite read connections; 0 means 4
	PoolSize        int           // Postgres connections (DATABASE_POOL_SIZE); 0 means 20
	PoolRecycle     time.Duration // age at which a Postgres connection is closed; 0 means one hour
	BusyTimeout     time.Duration // SQLite; 0 means 5 s
	Synchronous     string        // SQLite PRAGMA synchronous; "" means NORMAL
	CacheKiB        int           // SQLite page cache per connection; 0 means 1024
	NoWAL           bool          // SQLite with a rollback journal in place of a write-ahead log
	PostgresSchema  string        // DATABASE_SCHEMA; "" means the server's search_path
	Existing        bool          // refuse an SQLite file that is not there, in place of making one
	SkipSchemaCheck bool          // open without looking at the tables
	Hook            Hook          // nil costs nothing
}

// DB is an open database.
type DB struct {
	dialect Dialect
	read    *pool
	write   *pool
	batch   *batcher // of SQLite
	hook    Hook
	url     string
	file    string // of SQLite
	reading bool   // opened with OpenReading
	// unlocked is how the file was when it was opened to be read without locks; nil where it is read with them.
	unlocked os.FileInfo
}

// pool is a sql.DB with its prepared statements.
type pool struct {
	db    *sql.DB
	mu    sync.RWMutex
	stmts map[string]*sql.Stmt
	// learning are statements that are being prepared in the background, until closed.
	learning sync.WaitGroup
	closed   bool
}

// close closes the connections. What is being prepared is waited for, as its connection would stay open else, and the
// write-ahead log of an SQLite database with it.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.learning.Wait()
	return p.db.Close()
}

// maxStatements bounds the prepared statements of a pool: SQL texts are constants but for a few lists, whose number of
// placeholders varies.
const maxStatements = 512

func (p *pool) stmt(ctx context.Context, text string) (*sql.Stmt, error) {
	p.mu.RLock()
	s := p.stmts[text]
	full := len(p.stmts) >= maxStatements
	p.mu.RUnlock()
	if s != nil || full {
		return s, nil
	}
	s, err := p.db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.stmts[text]; old != nil {
		go s.Close()
		return old, nil
	}
	p.stmts[text] = s
	return s, nil
}

// Dialect says which SQL the database speaks.
func (db *DB) Dialect() Dialect { return db.dialect }

// URL is the address the database was opened with, without its password.
func (db *DB) URL() string { return redact(db.url) }

// Size is how many bytes the database takes.
func (db *DB) Size(ctx context.Context) (n int64, err error) {
	if db.dialect == SQLite {
		info, err := os.Stat(db.file)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	err = db.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n)
	return n, err
}

// Changed says whether a file that was opened with [OpenReading] while nobody else had it open has been changed since: what
// was read of it may not fit together then.
func (db *DB) Changed() bool {
	if db.unlocked == nil {
		return false
	}
	now, err := os.Stat(db.file)
	log, logErr := os.Stat(db.file + "-wal")
	return err != nil || !now.ModTime().Equal(db.unlocked.ModTime()) || now.Size() != db.unlocked.Size() || logErr == nil && log.Size() > 0
}

// Pools are the sql.DBs below, by name, for metrics.
func (db *DB) Pools() map[string]*sql.DB {
	if db.read == db.write {
		return map[string]*sql.DB{"main": db.write.db}
	}
	return map[string]*sql.DB{"read": db.read.db, "write": db.write.db}
}

// Ping asks the database for an answer.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.QueryRow(ctx, "SELECT 1").Scan(&one)
}

// Close closes all connections; on SQLite it checkpoints the write-ahead log.
func (db *DB) Close() error {
	err := db.read.close()
	if db.write != db.read {
		err = errors.Join(err, db.write.close())
	}
	return err
}

func noDone(error) {}

func (db *DB) observe(ctx context.Context, text string) (context.Context, func(error)) {
	if db.hook == nil {
		return ctx, noDone
	}
	return db.hook(ctx, text)
}

// Query implements Querier on the read pool.
func (db *DB) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	ctx, done := db.observe(ctx, text)
	s, err := db.read.stmt(ctx, text)
	var rows *sql.Rows
	switch {
	case err != nil:
	case s == nil:
		rows, err = db.read.db.QueryContext(ctx, text, args...)
	default:
		rows, err = s.QueryContext(ctx, args...)
	}
	done(err)
	return rows, wrap(err)
}

// QueryRow implements Querier on the read pool.
func (db *DB) QueryRow(ctx context.Context, text string, args ...any) Row {
	ctx, done := db.observe(ctx, text)
	s, err := db.read.stmt(ctx, text)
	if err != nil {
		done(err)
		return row{err: err}
	}
	if s == nil {
		return row{row: db.read.db.QueryRowContext(ctx, text, args...), done: done}
	}
	return row{row: s.QueryRowContext(ctx, args...), done: done}
}

// Exec implements Querier on the write pool, as a transaction of its own.
func (db *DB) Exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	if db.reading {
		return nil, ErrReading
	}
	if db.batch != nil {
		var res sql.Result
		err := db.batch.do(ctx, func(tx *Tx) (err error) {
			res, err = tx.Exec(ctx, text, args...)
			return err
		})
		return res, err
	}
	ctx, done := db.observe(ctx, text)
	s, err := db.write.stmt(ctx, text)
	var res sql.Result
	switch {
	case err != nil:
	case s == nil:
		res, err = db.write.db.ExecContext(ctx, text, args...)
	default:
		res, err = s.ExecContext(ctx, args...)
	}
	done(err)
	return res, wrap(err)
}

// Returning runs one statement that writes and gives a row back, as a transaction of its own, and scans the row into dest;
// ErrNotFound where it gave none.
func (db *DB) Returning(ctx context.Context, text string, args, dest []any) error {
	if db.reading {
		return ErrReading
	}
	if db.batch == nil {
		return db.QueryRow(ctx, text, args...).Scan(dest...)
	}
	return db.batch.do(ctx, func(tx *Tx) error { return tx.QueryRow(ctx, text, args...).Scan(dest...) })
}

// Tx runs f in a write transaction: committed when f returns nil, else rolled back. On SQLite it is the only writer
// while it runs, so f does nothing slow, and it may share its commit with others' transactions (see batcher); on Postgres a
// serialization failure or a deadlock is tried again twice. Either way f may be called more than once.
func (db *DB) Tx(ctx context.Context, f func(*Tx) error) error {
	if db.reading {
		return ErrReading
	}
	if db.batch != nil {
		return db.batch.do(ctx, f)
	}
	for attempt := 0; ; attempt++ {
		err := db.tx(ctx, f)
		if err == nil || attempt == 2 || !db.dialect.retryable(err) {
			return err
		}
	}
}

func (db *DB) tx(ctx context.Context, f func(*Tx) error) (err error) {
	ctx, done := db.observe(ctx, "BEGIN")
	defer func() { done(err) }()
	raw, err := db.write.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", wrap(err))
	}
	committed := false
	defer func() {
		if !committed { // f failed or panicked
			_ = raw.Rollback()
		}
	}()
	tx := &Tx{tx: raw, db: db}
	if err = f(tx); err != nil {
		return err
	}
	if err = raw.Commit(); err != nil {
		return fmt.Errorf("commit: %w", wrap(err))
	}
	committed = true
	for _, f := range tx.after {
		f()
	}
	return nil
}

// Tx is a write transaction.
type Tx struct {
	tx    *sql.Tx
	db    *DB
	after []func()
}

// AfterCommit has f called once the transaction is committed, before [DB.Tx] returns.
func (t *Tx) AfterCommit(f func()) { t.after = append(t.after, f) }

// Dialect implements Querier.
func (t *Tx) Dialect() Dialect { return t.db.dialect }

func (t *Tx) stmt(ctx context.Context, text string) (*sql.Stmt, error) {
	t.db.write.mu.RLock()
	s := t.db.write.stmts[text]
	t.db.write.mu.RUnlock()
	if s != nil {
		return t.tx.StmtContext(ctx, s), nil
	}
	// Preparing on the pool from inside a transaction would wait for the connection that the transaction holds
	// (SQLite has one writer), so the text is handed to the driver once and prepared for the next time outside.
	return nil, nil
}

func (t *Tx) learn(text string) {
	t.after = append(t.after, func() { t.db.write.learn(text) })
}

// learn prepares a statement in the background for later transactions.
func (p *pool) learn(text string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed || p.stmts[text] != nil || len(p.stmts) >= maxStatements {
		return
	}
	p.learning.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = p.stmt(ctx, text)
	})
}

// Query implements Querier inside the transaction.
func (t *Tx) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	ctx, done := t.db.observe(ctx, text)
	s, _ := t.stmt(ctx, text)
	var rows *sql.Rows
	var err error
	if s == nil {
		t.learn(text)
		rows, err = t.tx.QueryContext(ctx, text, args...)
	} else {
		rows, err = s.QueryContext(ctx, args...)
	}
	done(err)
	return rows, wrap(err)
}

// QueryRow implements Querier inside the transaction.
func (t *Tx) QueryRow(ctx context.Context, text string, args ...any) Row {
	ctx, done := t.db.observe(ctx, text)
	if s, _ := t.stmt(ctx, text); s != nil {
		return row{row: s.QueryRowContext(ctx, args...), done: done}
	}
	t.learn(text)
	return row{row: t.tx.QueryRowContext(ctx, text, args...), done: done}
}

// Exec implements Querier inside the transaction.
func (t *Tx) Exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	ctx, done := t.db.observe(ctx, text)
	s, _ := t.stmt(ctx, text)
	var res sql.Result
	var err error
	if s == nil {
		t.learn(text)
		res, err = t.tx.ExecContext(ctx, text, args...)
	} else {
		res, err = s.ExecContext(ctx, args...)
	}
	done(err)
	return res, wrap(err)
}

type row struct {
	row  *sql.Row
	err  error
	done func(error)
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return wrap(r.err)
	}
	err := wrap(r.row.Scan(dest...))
	if r.done != nil {
		if errors.Is(err, ErrNotFound) {
			r.done(nil)
		} else {
			r.done(err)
		}
	}
	return err
}

// wrap gives driver errors their place among this package's.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case isUnique(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// NewID makes the random UUID (version 4) that ids of rows are.
func NewID() string { return uuid.NewString() }

// Affected is the number of rows a write changed.
func Affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Collect reads all rows with scan and closes them. The slice is never nil, so that it is written as [].
func Collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Strings reads rows of one text column.
func Strings(rows *sql.Rows, err error) ([]string, error) {
	return Collect(rows, err, func(r *sql.Rows) (s string, err error) {
		err = r.Scan(&s)
		return
	})
}

// In writes "($2, $3, …)" for values that follow the args there are already, and the args with them appended. An empty
// list gives "(NULL)", which matches nothing.
func In[T any](args []any, values []T) (string, []any) {
	if len(values) == 0 {
		return "(NULL)", args
	}
	var b strings.Builder
	b.WriteByte('(')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		args = append(args, v)
		fmt.Fprintf(&b, "$%d", len(args))
	}
	b.WriteByte(')')
	return b.String(), args
}
