package transfer

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// side is one of the two databases: a connection that sees one state of it.
type side struct {
	dialect store.Dialect
	conn    *sql.Conn
	target  bool
}

// snapshot opens a transaction that reads one state of a database, however long it takes.
func snapshot(ctx context.Context, db *store.DB) (*side, func(), error) {
	conn, err := reader(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	s := &side{dialect: db.Dialect(), conn: conn}
	begin := []string{"BEGIN", "SELECT COUNT(*) FROM sqlite_master"} // SQLite's begins with its first read
	if s.dialect == store.Postgres {
		begin = []string{
			"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
			"SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL synchronize_seqscans = off; " +
				"SET LOCAL extra_float_digits = 1; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'",
			"SELECT 1", // the state is that of the first query
		}
	}
	end := func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		_ = conn.Close()
	}
	for _, statement := range begin {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			end()
			return nil, nil, fmt.Errorf("read the database: %w", err)
		}
	}
	return s, end, nil
}

// reader takes a connection out of the pool for reading.
func reader(ctx context.Context, db *store.DB) (*sql.Conn, error) {
	pools := db.Pools()
	pool := pools["read"]
	if pool == nil {
		pool = pools["main"]
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return conn, nil
}

// expression reads a column as it is stored.
func (s *side) expression(c *pair) string {
	name := store.Quote(c.name)
	if s.dialect == store.SQLite {
		return "+" + name // an expression has no declared type, from which the driver would make times
	}
	is := c.from
	if s.target {
		is = c.to
	}
	switch is.kind {
	case integer, boolean, float, binaryData:
		return name
	}
	return name + "::text"
}

// order sorts by a key the same way on both databases.
func (s *side) order(p *plan) string {
	var parts []string
	for _, i := range p.key {
		parts = append(parts, s.sortable(&p.columns[i]))
	}
	return strings.Join(parts, ", ")
}

func (s *side) sortable(c *pair) string {
	if c.kind != text {
		return store.Quote(c.name)
	}
	return store.Quote(c.name) + s.dialect.Pick(" COLLATE BINARY", ` COLLATE "C"`)
}

func (s *side) columns(p *plan) string {
	list := make([]string, len(p.columns))
	for i := range p.columns {
		list[i] = s.expression(&p.columns[i])
	}
	return strings.Join(list, ", ")
}

// stream reads all rows of a table, in the order of the key or, quicker, in the order in which they lie.
func (s *side) stream(ctx context.Context, p *plan, ordered bool) (*stream, error) {
	query := "SELECT " + s.columns(p) + " FROM " + store.Quote(p.name)
	switch {
	case ordered:
		query += " ORDER BY " + s.order(p)
	case s.dialect == store.SQLite:
		query += " NOT INDEXED"
	}
	return s.run(ctx, p, query)
}

// after reads at most limit rows that follow a key; nil for the first.
func (s *side) after(ctx context.Context, p *plan, key []any, limit int) (*stream, error) {
	query := "SELECT " + s.columns(p) + " FROM " + store.Quote(p.name)
	if key != nil {
		var names, marks []string
		for n, i := range p.key {
			names = append(names, s.sortable(&p.columns[i]))
			marks = append(marks, fmt.Sprintf("$%d", n+1))
		}
		query += " WHERE (" + strings.Join(names, ", ") + ") > (" + strings.Join(marks, ", ") + ")"
	}
	return s.run(ctx, p, query+fmt.Sprintf(" ORDER BY %s LIMIT %d", s.order(p), limit), key...)
}

// sampleRows is from how many rows the size of a table is guessed, or from how many bytes of them.
const (
	sampleRows  = 50
	sampleBytes = 1 << 20
)

// size guesses how many bytes the values of a table have.
func (s *side) size(ctx context.Context, p *plan) (int64, error) {
	rows, err := s.run(ctx, p, fmt.Sprintf("SELECT %s FROM %s LIMIT %d", s.columns(p), store.Quote(p.name), sampleRows))
	if err != nil {
		return 0, err
	}
	defer rows.close()
	hash := newHasher(p.columns)
	var read, bytes int64
	for {
		more, err := rows.next()
		if err != nil {
			return 0, err
		}
		if !more || bytes > sampleBytes {
			return bytes * p.rows / max(read, 1), nil
		}
		_, size := hash.row(p.columns, rows.values)
		read++
		bytes += int64(size)
	}
}

// stream is the rows of a query, one at a time.
type stream struct {
	rows   *sql.Rows
	values []any
	into   []any
}

func (s *side) run(ctx context.Context, p *plan, query string, args ...any) (*stream, error) {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.name, err)
	}
	st := &stream{rows: rows, values: make([]any, len(p.columns)), into: make([]any, len(p.columns))}
	for i := range st.into {
		st.into[i] = &st.values[i]
	}
	return st, nil
}

// next reads a row into values, which the next call overwrites; false at the end.
func (st *stream) next() (bool, error) {
	if !st.rows.Next() {
		return false, st.rows.Err()
	}
	clear(st.values)
	if err := st.rows.Scan(st.into...); err != nil {
		return false, err
	}
	for i, v := range st.values {
		if b, ok := v.([]byte); ok && b == nil { // SQLite's driver gives an empty blob so, and takes it for NULL
			st.values[i] = []byte{}
		}
	}
	return true, nil
}

func (st *stream) close() { _ = st.rows.Close() }

// keyValues takes the key out of a row.
func (p *plan) keyValues(values []any) []any {
	key := make([]any, len(p.key))
	for n, i := range p.key {
		key[n] = values[i]
		if b, ok := values[i].(bool); ok {
			key[n] = int64(0)
			if b {
				key[n] = int64(1)
			}
		}
	}
	return key
}

// keyText is the key of a row for messages; the start of the first values where there is no key.
func (p *plan) keyText(values []any) string {
	key := p.key
	if key == nil {
		for i := range p.columns[:min(3, len(p.columns))] {
			key = append(key, i)
		}
	}
	var parts []string
	for _, i := range key {
		v := fmt.Sprint(values[i])
		if b, ok := values[i].([]byte); ok {
			v = fmt.Sprintf("%x", b)
		}
		if len(v) > 80 {
			v = strings.ToValidUTF8(v[:80], "") + "…"
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0xFFFD }) {
			v = fmt.Sprintf("%+q", v)
		}
		parts = append(parts, v)
	}
	return strings.Join(parts, ", ")
}

// translate gives a source's row as the target takes it, in out, and the names of the columns whose values that changed.
func (p *plan) translate(to store.Dialect, values, out []any) (changed []string) {
	for i := range values {
		if p.same {
			out[i] = values[i]
			continue
		}
		c := &p.columns[i]
		var differs bool
		if to == store.Postgres {
			out[i], differs = c.toPostgres(values[i])
		} else {
			out[i], differs = c.toSQLite(values[i])
		}
		if differs {
			changed = append(changed, c.name)
		}
	}
	return changed
}
