package store

import (
	"context"
	"database/sql"
	_ "embed"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed schema/sqlite.sql
var sqliteSchema string

//go:embed schema/postgres.sql
var postgresSchema string

// Shape is the tables of a database and the columns of each, in their order.
type Shape map[string][]string

// Has says whether a table has a column.
func (s Shape) Has(table, column string) bool { return slices.Contains(s[table], column) }

// Reference is the shape of the reference's tables, as its own migrations leave them. The caller does not change it.
func (d Dialect) Reference() Shape {
	if d == Postgres {
		return postgresShape()
	}
	return sqliteShape()
}

var (
	sqliteShape   = sync.OnceValue(func() Shape { return parseShape(sqliteSchema) })
	postgresShape = sync.OnceValue(func() Shape { return parseShape(postgresSchema) })
)

var indexForm = regexp.MustCompile(`CREATE (?:UNIQUE )?INDEX "?(\w+)"?|ADD CONSTRAINT "?(\w+)"? (?:PRIMARY KEY|UNIQUE)`)

// ReferenceIndexes are the names of the indexes that the reference's migrations make.
func (d Dialect) ReferenceIndexes() []string {
	var out []string
	for _, m := range indexForm.FindAllStringSubmatch(d.Pick(sqliteSchema, postgresSchema), -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// left are tables and columns that migrations of the reference leave behind, and that nobody reads: a database may be
// without them.
var left = []string{"chatidtag", "document", "config_old", "knowledge.data"}

// IsLeft says whether a table, or a column as table.column, is one that nobody reads.
func IsLeft(name string) bool { return slices.Contains(left, name) }

// Lacks are the tables and columns, as table.column, that the reference and Galley read and s has not.
func (s Shape) Lacks(d Dialect) []string {
	var out []string
	for table, columns := range d.Reference() {
		if IsLeft(table) {
			continue
		}
		if s[table] == nil {
			out = append(out, table)
			continue
		}
		for _, c := range columns {
			if name := table + "." + c; !s.Has(table, c) && !IsLeft(name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// parseShape reads the tables and columns of a schema's text.
func parseShape(text string) Shape {
	out := Shape{}
	for statement := range strings.SplitSeq(text, ";\n") {
		rest, ok := strings.CutPrefix(strings.TrimSpace(statement), "CREATE TABLE ")
		if !ok {
			continue
		}
		name, body, _ := strings.Cut(strings.TrimPrefix(rest, "IF NOT EXISTS "), " (")
		name = strings.Trim(name, `"`)
		for _, part := range splitTop(body) {
			word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			switch word {
			case "PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN", "FOREIGN KEY(", "CHECK", ")", "":
			default:
				out[name] = append(out[name], strings.Trim(word, `"`))
			}
		}
	}
	return out
}

// splitTop cuts at the commas that stand in no parentheses and no quotes.
func splitTop(s string) (parts []string) {
	depth, from, quote := 0, 0, byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts, from = append(parts, s[from:i]), i+1
		}
	}
	return append(parts, s[from:])
}

// conn is what reads a database past the statements that are kept: a transaction or a connection.
type conn interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
}

// readShape reads the tables of a database, without those of the database itself.
func readShape(ctx context.Context, c conn, d Dialect) (Shape, error) {
	rows, err := c.QueryContext(ctx, d.Pick(
		`SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, p.cid`,
		`SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) ORDER BY c.relname, a.attnum`))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := Shape{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			return nil, err
		}
		out[table] = append(out[table], column)
	}
	return out, rows.Err()
}
