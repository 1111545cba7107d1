package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// stateTable is what an unfinished copy knows of itself: its source, and the statements that are put off until the rows
// are there. The last thing a copy does is to drop it.
const stateTable = "galley_copy"

// check looks at both databases and refuses what cannot be copied, before anything is written.
func (r *run) check(ctx context.Context) error {
	switch head, err := revision(ctx, r.src.conn, r.src.dialect); {
	case err != nil:
		return fmt.Errorf("source: %w", err)
	case head == store.Unfinished:
		return fmt.Errorf("source: %w", store.ErrUnfinished)
	case head == "":
		return fmt.Errorf("source: %w: it has no tables of Open WebUI's", store.ErrForeign)
	case head != store.Head:
		return fmt.Errorf("source: %w: its Alembic revision is %q, this Galley copies %s; nothing was written", store.ErrForeign, head, store.Head)
	}
	conn, err := reader(ctx, r.to)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer conn.Close()
	if same, err := r.sameDatabase(ctx, conn); err != nil {
		return err
	} else if same {
		return errors.New("source and target are the same database")
	}
	d := r.to.Dialect()
	if d == store.Postgres {
		var encoding string
		if err := conn.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
			return fmt.Errorf("target: %w", err)
		} else if encoding != "UTF8" {
			return fmt.Errorf("target: its encoding is %s and has to be UTF8", encoding)
		}
	}
	head, err := revision(ctx, conn, d)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	source, err := readTables(ctx, r.src.conn, r.src.dialect)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	switch head {
	case store.Unfinished:
		r.report.Resumed = true
		var of string
		err := conn.QueryRowContext(ctx, "SELECT value FROM "+stateTable+" WHERE kind = 'source'").Scan(&of)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if of != r.sourceName() && !r.o.Force {
			return fmt.Errorf("target: %w: it is an unfinished copy of %s", ErrNotEmpty, of)
		}
		return r.checkTables(ctx, source, conn, d)
	case store.Head:
		if err := r.checkEmpty(ctx, source, conn, d); err != nil {
			return err
		}
		return r.checkTables(ctx, source, conn, d)
	case "":
		return r.checkNew(ctx, source)
	}
	return fmt.Errorf("target: %w: its Alembic revision is %q, this Galley makes %s; nothing was written", store.ErrForeign, head, store.Head)
}

// revision is the Alembic revision of a database; "" where it has none.
func revision(ctx context.Context, q queryer, d store.Dialect) (string, error) {
	var has bool
	if err := q.QueryRowContext(ctx, d.Pick(
		"SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version')",
		"SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'alembic_version')")).Scan(&has); err != nil || !has {
		return "", err
	}
	var head string
	err := q.QueryRowContext(ctx, "SELECT version_num FROM alembic_version").Scan(&head)
	if errors.Is(err, sql.ErrNoRows) {
		return "none", nil
	}
	return head, err
}

// sourceName is how an unfinished copy knows its source.
func (r *run) sourceName() string {
	if file := sqliteFile(r.from); file != "" {
		return "sqlite:///" + file
	}
	return r.from.URL()
}

func sqliteFile(db *store.DB) string {
	if db.Dialect() != store.SQLite {
		return ""
	}
	file, err := filepath.Abs(db.File())
	if err != nil {
		return db.File()
	}
	return file
}

func (r *run) sameDatabase(ctx context.Context, to queryer) (bool, error) {
	switch {
	case r.from.Dialect() != r.to.Dialect():
		return false, nil
	case r.from.Dialect() == store.SQLite:
		a, err := os.Stat(r.from.File())
		if err != nil {
			return false, err
		}
		b, err := os.Stat(r.to.File())
		return err == nil && os.SameFile(a, b), nil
	}
	const which = `SELECT concat_ws(' ', pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database()), current_schema())`
	var a, b string
	if err := r.src.conn.QueryRowContext(ctx, which).Scan(&a); err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	if err := to.QueryRowContext(ctx, which).Scan(&b); err != nil {
		return false, fmt.Errorf("target: %w", err)
	}
	return a == b, nil
}

// checkEmpty refuses a target that holds something.
func (r *run) checkEmpty(ctx context.Context, source map[string]*table, conn queryer, d store.Dialect) error {
	tables, err := readTables(ctx, conn, d)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	var full []string
	for _, name := range sortedNames(tables) {
		if source[name] == nil || slices.Contains(notCopied, name) || name == "galley_plugin_version" { // its one row is there from the start
			continue
		}
		var has bool
		if err := conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+store.Quote(name)+")").Scan(&has); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if has {
			full = append(full, name)
		}
	}
	switch {
	case len(full) == 0:
		return nil
	case slices.Contains(full, "user") || slices.Contains(full, "auth"):
		return fmt.Errorf("%w: it has accounts; copy into another database, or empty this one yourself", ErrNotEmpty)
	case r.o.Force:
		return nil
	}
	return fmt.Errorf("%w: there are rows in %s, though no accounts; it takes --force to write over them", ErrNotEmpty, strings.Join(full, ", "))
}

// checkTables refuses tables and columns of the source for which there is no place in the target.
func (r *run) checkTables(ctx context.Context, source map[string]*table, conn queryer, d store.Dialect) error {
	tables, err := readTables(ctx, conn, d)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return r.checkMissing(source, tables, d)
}

// checkNew does so for a target that has no tables yet, with those that it will get.
func (r *run) checkNew(ctx context.Context, source map[string]*table) error {
	dir, err := os.MkdirTemp("", "galley-copy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	model, err := store.Open(ctx, "sqlite:///"+filepath.Join(dir, "model.db"), store.Options{})
	if err != nil {
		return err
	}
	defer model.Close()
	conn, err := reader(ctx, model)
	if err != nil {
		return err
	}
	defer conn.Close()
	tables, err := readTables(ctx, conn, store.SQLite)
	if err != nil {
		return err
	}
	return r.checkMissing(source, tables, store.SQLite)
}

func (r *run) checkMissing(source, target map[string]*table, d store.Dialect) error {
	_, missing, err := makePlans(source, target, r.from.Dialect(), d)
	if err != nil {
		return err
	}
	if len(missing) == 0 || r.o.SkipUnknown || r.from.Dialect() == r.to.Dialect() {
		return nil
	}
	return fmt.Errorf("%w: %s; it takes --skip-unknown to leave them out. Nothing was written", ErrUnknown, strings.Join(missing, ", "))
}

// begin marks the target as unfinished and makes it ready for rows.
func (r *run) begin(ctx context.Context) error {
	if err := r.dst.lock(ctx); err != nil {
		return err
	}
	source, err := readTables(ctx, r.src.conn, r.src.dialect)
	if err != nil {
		return err
	}
	err = r.dst.tx(ctx, func(ctx context.Context, exec func(string, ...any) error) error {
		if err := exec("CREATE TABLE IF NOT EXISTS " + stateTable + " (kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL)"); err != nil {
			return err
		}
		if err := exec("DELETE FROM " + stateTable + " WHERE kind = 'source'"); err != nil {
			return err
		}
		if err := exec("INSERT INTO "+stateTable+" (kind, name, value) VALUES ('source', '', $1)", r.sourceName()); err != nil {
			return err
		}
		return exec("UPDATE alembic_version SET version_num = '" + store.Unfinished + "'")
	})
	if err != nil {
		return err
	}
	target, err := readTables(ctx, r.dst.conn, r.dst.dialect)
	if err != nil {
		return err
	}
	plans, missing, err := makePlans(source, target, r.src.dialect, r.dst.dialect)
	if err != nil {
		return err
	}
	if len(missing) > 0 && r.src.dialect == r.dst.dialect && !r.o.SkipUnknown {
		if err := r.addMissing(ctx, source, target); err != nil {
			return fmt.Errorf("%w: %w; --skip-unknown leaves out what it does not know", ErrUnknown, err)
		}
		if target, err = readTables(ctx, r.dst.conn, r.dst.dialect); err != nil {
			return err
		}
		if plans, missing, err = makePlans(source, target, r.src.dialect, r.dst.dialect); err != nil {
			return err
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w: %s; it takes --skip-unknown to leave them out", ErrUnknown, strings.Join(missing, ", "))
		}
	}
	r.plans, r.report.Skipped = plans, missing
	if err := r.noteRest(ctx); err != nil {
		return err
	}
	for _, p := range plans {
		if err := r.src.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+store.Quote(p.name)).Scan(&p.rows); err != nil {
			return err
		}
		if p.bytes, err = r.src.size(ctx, p); err != nil {
			return err
		}
		if err := r.usableKey(ctx, p); err != nil {
			return err
		}
		r.report.Tables = append(r.report.Tables, TableReport{Name: p.name})
	}
	return r.putOff(ctx)
}

// noteRest tells of views and the like that only the source has: they hold no rows of their own, and are not copied.
func (r *run) noteRest(ctx context.Context) error {
	read := func(s *side) ([]string, error) {
		rows, err := s.conn.QueryContext(ctx, s.dialect.Pick(`
			SELECT type || ' ' || name FROM sqlite_master WHERE type = 'view' OR type = 'trigger' AND tbl_name IN (SELECT name FROM pragma_table_list WHERE type = 'table')
			UNION ALL SELECT 'virtual table ' || name FROM pragma_table_list WHERE type = 'virtual' AND schema = 'main' ORDER BY 1`, `
			SELECT 'view ' || relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('v', 'm')
			UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
			WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal ORDER BY 1`))
		return store.Strings(rows, err)
	}
	from, err := read(r.src)
	if err != nil {
		return err
	}
	to, err := read(&r.dst.side)
	if err != nil {
		return err
	}
	rows, err := r.dst.conn.QueryContext(ctx, "SELECT kind || ' ' || name FROM "+stateTable)
	later, err := store.Strings(rows, err)
	if err != nil {
		return err
	}
	for _, name := range from {
		if !slices.Contains(to, name) && !slices.Contains(later, name) {
			r.report.Skipped = append(r.report.Skipped, name)
		}
	}
	return nil
}

// usableKey gives up a key that has NULLs in it, as SQLite allows: rows are not told apart by it.
func (r *run) usableKey(ctx context.Context, p *plan) error {
	if p.key == nil {
		return nil
	}
	var null []string
	for _, i := range p.key {
		null = append(null, store.Quote(p.columns[i].name)+" IS NULL")
	}
	for _, s := range []*side{r.src, &r.dst.side} {
		if s.dialect != store.SQLite {
			continue
		}
		var has bool
		if err := s.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+store.Quote(p.name)+" WHERE "+strings.Join(null, " OR ")+")").Scan(&has); err != nil {
			return err
		}
		if has {
			p.key = nil
			return nil
		}
	}
	return nil
}

// putOff drops foreign keys, and indexes of empty tables that get many rows, and writes down how they are made.
func (r *run) putOff(ctx context.Context) error {
	type item struct{ kind, name, drop, make string }
	var items []item
	collect := func(query string, args ...any) error {
		rows, err := r.dst.conn.QueryContext(ctx, query, args...)
		more, err := store.Collect(rows, err, func(rows *sql.Rows) (i item, err error) {
			return i, rows.Scan(&i.kind, &i.name, &i.drop, &i.make)
		})
		items = append(items, more...)
		return err
	}
	if r.dst.dialect == store.Postgres {
		if err := collect(`
			SELECT 'foreign key', conname, format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
				format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') || ' NOT VALID')
			FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND conparentid = 0 ORDER BY conname`); err != nil {
			return err
		}
	}
	for _, p := range r.plans {
		if p.rows < r.o.bulkRows {
			continue
		}
		if has, err := r.dst.hasRows(ctx, p.name); err != nil {
			return err
		} else if has {
			continue
		}
		if err := collect(r.dst.dialect.Pick(`
			SELECT 'index', name, 'DROP INDEX "' || replace(name, '"', '""') || '"', sql FROM sqlite_master
			WHERE type = 'index' AND tbl_name = $1 AND sql IS NOT NULL AND sql NOT LIKE 'CREATE UNIQUE%'`, `
			SELECT 'index', indexrelid::regclass::text, 'DROP INDEX ' || indexrelid::regclass, pg_get_indexdef(indexrelid)
			FROM pg_index WHERE indrelid = quote_ident($1)::regclass AND NOT indisunique
				AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)`), p.name); err != nil {
			return err
		}
	}
	return r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
		for _, i := range items {
			if err := exec("INSERT INTO "+stateTable+" (kind, name, value) VALUES ($1, $2, $3)", i.kind, i.name, i.make); err != nil {
				return err
			}
			if err := exec(i.drop); err != nil {
				return err
			}
		}
		return nil
	})
}

// complete makes what was put off, sets sequences, and has Postgres look at its new tables.
func (r *run) complete(ctx context.Context) error {
	rows, err := r.dst.conn.QueryContext(ctx, "SELECT kind, name, value FROM "+stateTable+" WHERE kind <> 'source' ORDER BY CASE kind WHEN 'index' THEN 0 ELSE 1 END, name")
	items, err := store.Collect(rows, err, func(rows *sql.Rows) (i [3]string, err error) { return i, rows.Scan(&i[0], &i[1], &i[2]) })
	if err != nil {
		return err
	}
	for n, i := range items {
		r.tell(Progress{Phase: "index", Table: i[1], Done: int64(n), Total: int64(len(items))})
		err := r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
			if err := exec(i[2]); err != nil {
				return err
			}
			return exec("DELETE FROM "+stateTable+" WHERE kind = $1 AND name = $2", i[0], i[1])
		})
		if why := refusal(err); why != "" {
			r.warn("the %s %s could not be made: %s", i[0], i[1], why)
		} else if err != nil {
			return fmt.Errorf("make the %s %s: %w", i[0], i[1], err)
		}
	}
	if err := r.sequences(ctx); err != nil {
		return fmt.Errorf("set sequences: %w", err)
	}
	if r.dst.dialect == store.SQLite {
		return nil
	}
	if err := r.validate(ctx); err != nil {
		return err
	}
	for _, p := range r.plans {
		if p.rows > 0 {
			if _, err := r.dst.conn.ExecContext(ctx, "ANALYZE "+store.Quote(p.name)); err != nil {
				return fmt.Errorf("analyze %s: %w", p.name, err)
			}
		}
	}
	return nil
}

// validate has Postgres check foreign keys. Those that rows offend against hold for new rows only.
func (r *run) validate(ctx context.Context) error {
	rows, err := r.dst.conn.QueryContext(ctx, `
		SELECT conname, conrelid::regclass::text,
			format('SELECT COUNT(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT 1 FROM %s p WHERE %s)', conrelid::regclass,
				(SELECT string_agg(format('c.%I IS NOT NULL', attname), ' AND ') FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)), confrelid::regclass,
				(SELECT string_agg(format('p.%I = c.%I', pa.attname, ca.attname), ' AND ') FROM unnest(conkey, confkey) AS k (c, p)
					JOIN pg_attribute ca ON ca.attrelid = conrelid AND ca.attnum = k.c JOIN pg_attribute pa ON pa.attrelid = confrelid AND pa.attnum = k.p))
		FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND NOT convalidated ORDER BY conname`)
	items, err := store.Collect(rows, err, func(rows *sql.Rows) (i [3]string, err error) { return i, rows.Scan(&i[0], &i[1], &i[2]) })
	if err != nil {
		return err
	}
	for _, i := range items {
		err := r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
			return exec("ALTER TABLE " + i[1] + " VALIDATE CONSTRAINT " + store.Quote(i[0]))
		})
		if refusal(err) == "" {
			if err != nil {
				return fmt.Errorf("check the foreign key %s: %w", i[0], err)
			}
			continue
		}
		var orphans int64
		if err := r.dst.conn.QueryRowContext(ctx, i[2]).Scan(&orphans); err != nil {
			return err
		}
		r.warn("%d rows of %s point at rows that are not there; they are kept, and the foreign key %s holds for new rows only", orphans, i[1], i[0])
	}
	return nil
}

// finish takes the mark away: from now on the target is a database like any other.
func (r *run) finish(ctx context.Context) error {
	if r.dst.dialect == store.Postgres {
		// This commit waits for the disk, and with it all before it.
		if _, err := r.dst.conn.ExecContext(ctx, "SET synchronous_commit = on"); err != nil {
			return err
		}
	}
	return r.dst.tx(ctx, func(_ context.Context, exec func(string, ...any) error) error {
		if err := exec("UPDATE alembic_version SET version_num = '" + store.Head + "'"); err != nil {
			return err
		}
		return exec("DROP TABLE " + stateTable)
	})
}

func (r *run) warn(format string, args ...any) {
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(format, args...))
}
