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
		// in two steps: the first does not look at the strings beside it, which may hold what Postgres cannot unescape
		return fmt.Sprintf("((%s #> '{%s}') #>> '{}')", column, strings.ReplaceAll(path, ".", ","))
	}
	return fmt.Sprintf("json_extract(%s, '$.%s')", d.JSON(column), path)
}

// JSON is a JSON column for functions that read it. SQLite lets any text stand in one and fails a whole query at the first
// that is no JSON; such a one reads as NULL.
func (d Dialect) JSON(column string) string {
	return d.Pick("CASE WHEN json_valid("+column+", 2) THEN "+column+" END", column)
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
