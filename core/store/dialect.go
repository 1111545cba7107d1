package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lib/pq"
	"modernc.org/sqlite"
)

// Dialect is the SQL a database speaks. Everything that differs between the two stands in this file.
type Dialect int

// The two databases Galley runs on.
const (
	SQLite Dialect = iota
	Postgres
)

func (d Dialect) String() string {
	if d == Postgres {
		return "postgres"
	}
	return "sqlite"
}

// Quote makes a name from a catalogue one that SQL takes as it is.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Pick gives the text for this dialect.
func (d Dialect) Pick(sqlite, postgres string) string {
	if d == Postgres {
		return postgres
	}
	return sqlite
}

// JSONText is the text of member path (dotted) of a JSON column, NULL where absent: an expression.
func (d Dialect) JSONText(column, path string) string {
	if d == Postgres {
		return fmt.Sprintf("(%s #>> '{%s}')", d.JSON(column), strings.ReplaceAll(path, ".", ","))
	}
	return fmt.Sprintf("json_extract(%s, '$.%s')", d.JSON(column), path)
}

// JSON is a JSON column for functions that read it: NULL where [Dialect.JSONReads] is not true.
func (d Dialect) JSON(column string) string {
	return "(CASE WHEN " + d.JSONReads(column) + " THEN " + column + " END)"
}

// JSONReads is true of a JSON column that functions can read. A single one that they cannot fails a whole query: SQLite
// lets any text stand in such a column, and Postgres keeps escapes of NUL and of half a surrogate pair, as old versions
// wrote them, but does not read strings that have any.
func (d Dialect) JSONReads(column string) string {
	if d == SQLite {
		return "json_valid(" + column + ", 2)"
	}
	text := column + "::text"
	return `(` + text + ` NOT LIKE '%\\u%' OR ` + text + ` !~* '(?<!\\)(?:\\\\)*\\u(?:0000|d[89ab][0-9a-f]{2}(?!\\ud[c-f]))|(?<!\\ud[89ab][0-9a-f]{2})(?<!\\)(?:\\\\)*\\ud[c-f]')`
}

// JSONIsNull is true of a JSON column that is SQL NULL or JSON null: SQLAlchemy writes a Python None as the latter.
func (d Dialect) JSONIsNull(column string) string {
	return fmt.Sprintf("(%s IS NULL OR CAST(%s AS TEXT) = 'null')", column, column)
}

// ForUpdate locks the rows a transaction reads on Postgres; SQLite's write transaction excludes others already.
func (d Dialect) ForUpdate() string { return d.Pick("", " FOR UPDATE") }

// ByCodePoint sorts text by code point on both databases, whatever the collation of the Postgres database.
func (d Dialect) ByCodePoint(column string) string {
	return d.Pick(column, column+` COLLATE "C"`)
}

func (d Dialect) retryable(err error) bool {
	var p *pq.Error
	return d == Postgres && errors.As(err, &p) && (p.Code == "40001" || p.Code == "40P01")
}

func isUnique(err error) bool {
	var p *pq.Error
	if errors.As(err, &p) {
		return p.Code == "23505"
	}
	var s *sqlite.Error
	// SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE
	return errors.As(err, &s) && (s.Code() == 1555 || s.Code() == 2067)
}
