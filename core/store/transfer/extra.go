package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// addMissing makes the tables and columns that only the source has, where both databases speak the same SQL.
func (r *run) addMissing(ctx context.Context, source, target map[string]*table) error {
	var statements []string
	later := map[string]string{} // by kind and name
	for _, name := range sortedNames(source) {
		t := source[name]
		if have := target[name]; have != nil {
			for _, c := range t.columns {
				if have.column(c.name) == nil {
					statements = append(statements, "ALTER TABLE "+store.Quote(name)+" ADD COLUMN "+c.declaration(r.dst.dialect, true))
				}
			}
			continue
		}
		if r.dst.dialect == store.SQLite {
			statements = append(statements, t.ddl)
		} else {
			statements = append(statements, t.declaration())
		}
		rows, err := r.src.conn.QueryContext(ctx, r.src.dialect.Pick(`
			SELECT type, name, sql FROM sqlite_master WHERE tbl_name = $1 AND type IN ('index', 'trigger') AND sql IS NOT NULL`, `
			SELECT 'index', indexrelid::regclass::text, regexp_replace(pg_get_indexdef(indexrelid), ' ON (ONLY )?' || quote_ident(current_schema()) || '\.', ' ON ')
			FROM pg_index WHERE indrelid = quote_ident($1)::regclass AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
			UNION ALL
			SELECT CASE contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END, conname,
				format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
			FROM pg_constraint WHERE conrelid = quote_ident($1)::regclass AND contype IN ('u', 'c', 'f', 'x')`), name)
		more, err := store.Collect(rows, err, func(rows *sql.Rows) (m [3]string, err error) { return m, rows.Scan(&m[0], &m[1], &m[2]) })
		if err != nil {
			return err
		}
		for _, m := range more {
			if m[0] == "trigger" || m[0] == "foreign key" {
				later[m[0]+"\x00"+m[1]] = m[2] // once the rows are there
			} else {
				statements = append(statements, m[2])
			}
		}
	}
	return r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
		for _, s := range statements {
			if err := exec(s); err != nil {
				return fmt.Errorf("%w, at %s", err, s)
			}
		}
		for key, make := range later {
			kind, name, _ := strings.Cut(key, "\x00")
			if err := exec("INSERT INTO "+stateTable+" (kind, name, value) VALUES ($1, $2, $3)", kind, name, make); err != nil {
				return err
			}
		}
		return nil
	})
}

// declaration is the column as CREATE TABLE has it. Where it is added to a table, rows of the table may lack it.
func (c *column) declaration(d store.Dialect, added bool) string {
	s := store.Quote(c.name) + " " + c.typ
	switch {
	case d == store.Postgres && strings.HasPrefix(c.value, "nextval("):
		return store.Quote(c.name) + map[string]string{"bigint": " BIGSERIAL", "integer": " SERIAL", "smallint": " SMALLSERIAL"}[c.typ]
	case c.value != "":
		s += " DEFAULT " + c.value
		if c.notNull {
			s += " NOT NULL"
		}
	case c.notNull && !added:
		s += " NOT NULL"
	}
	return s
}

// declaration is CREATE TABLE for Postgres, which keeps no text of it.
func (t *table) declaration() string {
	var parts []string
	for i := range t.columns {
		parts = append(parts, t.columns[i].declaration(store.Postgres, false))
	}
	if len(t.key) > 0 {
		parts = append(parts, "PRIMARY KEY ("+quoteAll(t.key)+")")
	}
	return "CREATE TABLE " + store.Quote(t.name) + " (" + strings.Join(parts, ", ") + ")"
}

// sequences has the target give numbers beyond those that were given: beyond the largest there is, and beyond what the
// source remembers of rows that were deleted.
func (r *run) sequences(ctx context.Context) error {
	if r.dst.dialect == store.SQLite {
		return r.autoincrements(ctx)
	}
	const serials = `
		SELECT c.relname, a.attname, pg_get_serial_sequence(quote_ident(c.relname), a.attname)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
			AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL`
	read := func(q queryer) (map[[2]string]string, error) {
		rows, err := q.QueryContext(ctx, serials)
		list, err := store.Collect(rows, err, func(rows *sql.Rows) (s [3]string, err error) { return s, rows.Scan(&s[0], &s[1], &s[2]) })
		all := map[[2]string]string{}
		for _, s := range list {
			all[[2]string{s[0], s[1]}] = s[2]
		}
		return all, err
	}
	mine, err := read(r.dst.conn)
	if err != nil {
		return err
	}
	theirs := map[[2]string]string{}
	if r.src.dialect == store.Postgres {
		if theirs, err = read(r.src.conn); err != nil {
			return err
		}
	}
	for column, name := range mine {
		var last sql.NullInt64
		if err := r.dst.conn.QueryRowContext(ctx, "SELECT MAX("+store.Quote(column[1])+") FROM "+store.Quote(column[0])).Scan(&last); err != nil {
			return err
		}
		var given sql.NullInt64
		if from := theirs[column]; from != "" {
			err = r.src.conn.QueryRowContext(ctx, "SELECT CASE WHEN is_called THEN last_value END FROM "+from).Scan(&given)
		} else if r.src.dialect == store.SQLite {
			given, err = r.autoincrement(ctx, column[0])
		}
		if err != nil {
			return err
		}
		if given.Valid && (!last.Valid || given.Int64 > last.Int64) {
			last = given
		}
		if !last.Valid || last.Int64 < 1 {
			continue
		}
		if _, err := r.dst.conn.ExecContext(ctx, "SELECT setval($1::regclass, $2)", name, last.Int64); err != nil {
			return err
		}
	}
	return nil
}

// autoincrement is the last number that the source, an SQLite database, gave to a row of a table.
func (r *run) autoincrement(ctx context.Context, name string) (last sql.NullInt64, err error) {
	var has bool
	if err := r.src.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence')").Scan(&has); err != nil || !has {
		return last, err
	}
	err = r.src.conn.QueryRowContext(ctx, "SELECT seq FROM sqlite_sequence WHERE name = $1", name).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return last, nil
	}
	return last, err
}

// autoincrements does so for a target that is SQLite, which itself knows the largest number that a row came with.
func (r *run) autoincrements(ctx context.Context) error {
	if r.src.dialect != store.SQLite {
		return nil
	}
	for _, p := range r.plans {
		last, err := r.autoincrement(ctx, p.name)
		if err != nil || !last.Valid {
			if err != nil {
				return err
			}
			continue
		}
		err = r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
			if err := exec("DELETE FROM sqlite_sequence WHERE name = $1", p.name); err != nil {
				return err
			}
			return exec("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)", p.name, last.Int64)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
