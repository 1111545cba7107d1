package transfer

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
	"modernc.org/sqlite"

	"github.com/galleychat/galley/core/store"
)

// target is the one connection that writes.
type target struct {
	side
	stmts map[string]driver.Stmt // of SQLite, for the table at hand
}

// openTarget takes the connection that writes, and sets it up for many rows.
func openTarget(ctx context.Context, db *store.DB) (*target, func(), error) {
	pools := db.Pools()
	pool := pools["write"]
	if pool == nil {
		pool = pools["main"]
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("open database: %w", err)
	}
	t := &target{side: side{dialect: db.Dialect(), conn: conn, target: true}, stmts: map[string]driver.Stmt{}}
	// Batches need not reach the disk one by one: the last commit of a copy waits for it, and for all before it.
	// Indexes are sorted in files, since they may be larger than memory.
	setup, undo := "PRAGMA cache_size = -8192; PRAGMA temp_store = FILE", "PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY"
	if t.dialect == store.Postgres {
		setup = "SET synchronous_commit = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; " +
			"SET extra_float_digits = 1; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'"
		undo = "SELECT pg_advisory_unlock_all(); RESET ALL"
	}
	end := func() {
		t.forget()
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), undo)
		_ = conn.Close()
	}
	if _, err := conn.ExecContext(ctx, setup); err != nil {
		end()
		return nil, nil, fmt.Errorf("write the database: %w", err)
	}
	return t, end, nil
}

// lock keeps other copies from writing to the same database. The session of one that was killed may linger for a moment.
func (t *target) lock(ctx context.Context) error {
	if t.dialect == store.SQLite {
		return nil
	}
	for wait := time.Now().Add(10 * time.Second); ; {
		var alone bool
		if err := t.conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock(7217054, hashtext(current_schema()))").Scan(&alone); err != nil || alone {
			return err
		}
		if time.Now().After(wait) {
			return errors.New("another copy is writing to it")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tx runs f in a transaction. It is not given up in the middle of a statement: f looks at the context between statements.
func (t *target) tx(ctx context.Context, f func(ctx context.Context, exec func(query string, args ...any) error) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := context.WithoutCancel(ctx)
	exec := func(query string, args ...any) error {
		_, err := t.conn.ExecContext(whole, query, args...)
		return err
	}
	if err := exec(t.dialect.Pick("BEGIN IMMEDIATE", "BEGIN")); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = exec("ROLLBACK")
		}
	}()
	if err := f(whole, exec); err != nil {
		return err
	}
	return exec("COMMIT")
}

// insert adds rows, all or none.
func (t *target) insert(ctx context.Context, p *plan, rows [][]any) error {
	return t.tx(ctx, func(whole context.Context, _ func(string, ...any) error) error {
		return t.conn.Raw(func(conn any) error {
			if t.dialect == store.Postgres {
				return copyIn(ctx, whole, conn, p, rows)
			}
			return t.insertSQLite(ctx, whole, conn, p, rows)
		})
	})
}

// copier is the statement that the driver gives for COPY … FROM STDIN.
type copier interface {
	Exec([]driver.Value) (driver.Result, error)
	Close() error
}

func (p *plan) names() []string {
	names := make([]string, len(p.columns))
	for i := range p.columns {
		names[i] = p.columns[i].name
	}
	return names
}

func copyIn(ctx, whole context.Context, conn any, p *plan, rows [][]any) error {
	stmt, err := conn.(driver.ConnPrepareContext).PrepareContext(whole, "COPY "+store.Quote(p.name)+" ("+quoteAll(p.names())+") FROM STDIN")
	if err != nil {
		return err
	}
	in := stmt.(copier)
	values := make([]driver.Value, len(p.columns))
	for _, row := range rows {
		for i, v := range row {
			values[i] = v
		}
		if err = ctx.Err(); err == nil {
			_, err = in.Exec(values)
		}
		if err != nil {
			break
		}
	}
	if err != nil { // ends the COPY; the transaction is taken back
		_ = in.Close()
		return err
	}
	return in.Close()
}

// maxVariables bounds the placeholders of an INSERT: with more there is nothing to gain.
const maxVariables = 500

func (t *target) insertSQLite(ctx, whole context.Context, conn any, p *plan, rows [][]any) error {
	at := max(1, maxVariables/len(p.columns))
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(at, len(rows))
		if n < at {
			n = 1 // so that there are two statements for each table
		}
		query := "INSERT INTO " + store.Quote(p.name) + " (" + quoteAll(p.names()) + ") VALUES " +
			strings.TrimSuffix(strings.Repeat("("+strings.TrimSuffix(strings.Repeat("?,", len(p.columns)), ",")+"),", n), ",")
		stmt := t.stmts[query]
		if stmt == nil {
			var err error
			if stmt, err = conn.(driver.ConnPrepareContext).PrepareContext(whole, query); err != nil {
				return err
			}
			t.stmts[query] = stmt
		}
		values := make([]driver.NamedValue, 0, n*len(p.columns))
		for _, row := range rows[:n] {
			for _, v := range row {
				values = append(values, driver.NamedValue{Ordinal: len(values) + 1, Value: v})
			}
		}
		if _, err := stmt.(driver.StmtExecContext).ExecContext(whole, values); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// forget closes the statements of a table.
func (t *target) forget() {
	_ = t.conn.Raw(func(any) error {
		for query, stmt := range t.stmts {
			_ = stmt.Close()
			delete(t.stmts, query)
		}
		return nil
	})
}

// remove deletes rows by their keys.
func (t *target) remove(ctx context.Context, p *plan, keys [][]any) error {
	var where []string
	for n, i := range p.key {
		where = append(where, fmt.Sprintf("%s = $%d", store.Quote(p.columns[i].name), n+1))
	}
	query := "DELETE FROM " + store.Quote(p.name) + " WHERE " + strings.Join(where, " AND ")
	return t.tx(ctx, func(whole context.Context, _ func(string, ...any) error) error {
		stmt, err := t.conn.PrepareContext(whole, query)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			args := make([]any, len(key))
			for n, v := range key {
				args[n] = v
				if p.columns[p.key[n]].kind == boolean {
					args[n] = v != int64(0)
				}
			}
			if _, err := stmt.ExecContext(whole, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// empty deletes all rows of a table.
func (t *target) empty(ctx context.Context, p *plan) error {
	return t.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
		return exec("DELETE FROM " + store.Quote(p.name))
	})
}

func (t *target) hasRows(ctx context.Context, name string) (has bool, err error) {
	err = t.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+store.Quote(name)+")").Scan(&has)
	return has, err
}

// refusal is why a database does not take a row; "" where the error has another cause.
func refusal(err error) string {
	var p *pq.Error
	if errors.As(err, &p) {
		// data exceptions, integrity violations, limits of the program such as the longest entry of an index
		if class := string(p.Code.Class()); class == "22" || class == "23" || class == "54" {
			return p.Message
		}
		return ""
	}
	var s *sqlite.Error
	if errors.As(err, &s) {
		switch s.Code() & 0xff {
		case 18, 19, 20: // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
			return s.Error()
		}
	}
	return ""
}
