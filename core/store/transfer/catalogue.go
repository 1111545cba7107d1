package transfer

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// column is one of a table, as the database describes it.
type column struct {
	name    string
	typ     string // as declared
	kind    kind
	notNull bool
	value   string // default, an expression; "" for none
	length  int    // characters, of VARCHAR(n) in Postgres; 0 for no limit
}

// table is a table as the database describes it.
type table struct {
	name    string
	columns []column
	key     []string // primary key
	ddl     string   // of SQLite
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// queryer is a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readTables gives the ordinary tables of a database. Virtual tables and what lies beneath them are derived from others, and
// left out.
func readTables(ctx context.Context, q queryer, d store.Dialect) (map[string]*table, error) {
	tables := map[string]*table{}
	rows, err := q.QueryContext(ctx, d.Pick(`
		SELECT l.name, COALESCE(m.sql, '') FROM pragma_table_list l JOIN sqlite_master m ON m.type = 'table' AND m.name = l.name
		WHERE l.schema = 'main' AND l.type = 'table' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'`, `
		SELECT c.relname, '' FROM pg_class c
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition`))
	list, err := store.Collect(rows, err, func(r *sql.Rows) (*table, error) {
		t := &table{}
		return t, r.Scan(&t.name, &t.ddl)
	})
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	for _, t := range list {
		tables[t.name] = t
	}
	// Generated columns (hidden, attgenerated) are made anew by the target.
	rows, err = q.QueryContext(ctx, d.Pick(`
		SELECT l.name, c.name, c.type, c."notnull", COALESCE(c.dflt_value, ''), c.pk, 0
		FROM pragma_table_list l, pragma_table_xinfo(l.name) c
		WHERE l.schema = 'main' AND l.type = 'table' AND c.hidden = 0
		ORDER BY l.name, c.cid`, `
		SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, COALESCE(pg_get_expr(d.adbin, d.adrelid), ''),
			COALESCE(array_position(i.indkey::int2[], a.attnum) + 1, 0),
			CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 4 THEN a.atttypmod - 4 ELSE 0 END
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
		ORDER BY c.relname, a.attnum`))
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	defer rows.Close()
	keys := map[string]map[int]string{}
	for rows.Next() {
		var in string
		var c column
		var pk int
		if err := rows.Scan(&in, &c.name, &c.typ, &c.notNull, &c.value, &pk, &c.length); err != nil {
			return nil, fmt.Errorf("read columns: %w", err)
		}
		t := tables[in]
		if t == nil {
			continue
		}
		c.kind = kindOfSQLite(c.typ)
		if d == store.Postgres {
			c.kind = kindOfPostgres(c.typ)
		}
		t.columns = append(t.columns, c)
		if pk > 0 {
			if keys[in] == nil {
				keys[in] = map[int]string{}
			}
			keys[in][pk] = c.name
		}
	}
	for name, key := range keys {
		for i := 1; i <= len(key); i++ {
			tables[name].key = append(tables[name].key, key[i])
		}
	}
	return tables, rows.Err()
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = store.Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// pair is a column that both databases have.
type pair struct {
	name     string
	kind     kind
	from, to column
}

// plan is what is copied of a table.
type plan struct {
	name    string
	columns []pair // by name, so that checksums are the same on both sides
	key     []int  // primary key, as indexes of columns; nil where rows cannot be told apart by it
	same    bool   // both databases speak the same SQL, and values need no translation
	rows    int64  // of the source
	bytes   int64  // about how many, of the source
}

// Those of Galley's tables that say something of the database itself, or are made anew from what lies in it.
var notCopied = []string{"alembic_version", "galley_schema", stateTable, "galley_chat_sieve"}

// makePlans matches the tables of two databases. missing is what the target has no place for.
func makePlans(from, to map[string]*table, fromDialect, toDialect store.Dialect) (plans []*plan, missing []string, err error) {
	for _, name := range sortedNames(from) {
		f, t := from[name], to[name]
		switch {
		case slices.Contains(notCopied, name):
			continue
		case t == nil:
			missing = append(missing, "table "+name)
			continue
		}
		p := &plan{name: name, same: fromDialect == toDialect}
		for _, c := range f.columns {
			other := t.column(c.name)
			k := pairKind(&c, other, fromDialect, toDialect)
			if k < 0 {
				missing = append(missing, "column "+name+"."+c.name)
				continue
			}
			p.columns = append(p.columns, pair{name: c.name, kind: k, from: c, to: *other})
		}
		slices.SortFunc(p.columns, func(a, b pair) int { return strings.Compare(a.name, b.name) })
		for _, c := range t.columns {
			if f.column(c.name) == nil && c.notNull && c.value == "" {
				return nil, nil, fmt.Errorf("the target's column %s.%s must have a value, and the source has no such column", name, c.name)
			}
		}
		if slices.Equal(f.key, t.key) {
			p.key = keyOf(p.columns, f.key)
		}
		plans = append(plans, p)
	}
	return plans, missing, nil
}

// pairKind is how the values of a column are treated on their way; negative where the target cannot take them.
func pairKind(from, to *column, fromDialect, toDialect store.Dialect) kind {
	switch {
	case to == nil:
		return -1
	case fromDialect == toDialect && fromDialect == store.Postgres:
		if from.kind == to.kind && (from.kind != other || from.typ == to.typ) {
			return to.kind
		}
		return -1
	case toDialect == store.Postgres:
		if to.kind == other {
			return -1
		}
		return to.kind
	case from.kind == other:
		return text
	}
	return to.kind
}

// keyOf gives the places of a primary key among columns; nil where there is none that sorts the same on both databases.
func keyOf(columns []pair, key []string) []int {
	var at []int
	for _, name := range key {
		i := slices.IndexFunc(columns, func(c pair) bool { return c.name == name })
		if i < 0 || !slices.Contains([]kind{text, integer, boolean, binaryData}, columns[i].kind) {
			return nil
		}
		at = append(at, i)
	}
	return at
}

func sortedNames(tables map[string]*table) []string {
	names := make([]string, 0, len(tables))
	for n := range tables {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
