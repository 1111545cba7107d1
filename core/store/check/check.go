// Package check looks a database over: whether it is whole, what is in it, and what of it waits for a later version. It
// only reads, may run beside a server, and holds no more than a row at a time, so that the size of the database does not
// matter.
package check

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/store"
)

// Waiting is a kind of rows that this version keeps and does not serve.
type Waiting struct {
	Table string // where they are
	Where string // which of them; "" for all
	Name  string // what they are, several of them
}

// Options are what Run is told.
type Options struct {
	Uploads string    // folder of the uploaded files
	Waiting []Waiting // what this version does not serve
	Schema  string    // DATABASE_SCHEMA
	Quick   bool      // leave out what reads all rows: documents, and the whole check of an SQLite file
}

// Report is what Run found.
type Report struct {
	Database string   `json:"database"` // its address, without the password
	Dialect  string   `json:"dialect"`
	Size     int64    `json:"size"`  // bytes
	State    string   `json:"state"` // "ours", or why it is refused
	Head     []string `json:"head"`  // of alembic_version
	Release  string   `json:"release,omitempty"`
	Refused  string   `json:"refused,omitempty"` // the line that a start would end with
	Own      int      `json:"galley_schema"`     // step of Galley's own tables, 0 where there are none

	Integrity string    `json:"integrity"` // "ok", "damaged", "read" where all documents were read (PostgreSQL), or "not checked"
	Tables    []Count   `json:"tables"`
	Waiting   []Count   `json:"not_served"`
	Files     Files     `json:"files"`
	Damage    []Finding `json:"damage"`
	Warnings  []Finding `json:"warnings"`
	Notes     []Finding `json:"notes"`
	Quick     bool      `json:"quick"`
	Seconds   float64   `json:"seconds"`
}

// Count is how many rows there are of something.
type Count struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// Finding is something that is not as it should be.
type Finding struct {
	Check    string   `json:"check"` // which, for programs
	Text     string   `json:"text"`
	Count    int64    `json:"count"`
	Examples []string `json:"examples,omitempty"` // ids of rows, a few
}

// Sound says that the database can be served and nothing in it is damaged.
func (r *Report) Sound() bool { return r.Refused == "" && len(r.Damage) == 0 }

// examples is how many ids a finding names.
const examples = 3

// checker is a run.
type checker struct {
	db     *store.DB
	o      Options
	state  *store.State
	report *Report
}

// Run looks a database over. The error is one of reading; what is wrong with the data is in the report.
func Run(ctx context.Context, db *store.DB, o Options) (*Report, error) {
	began := time.Now()
	r := &Report{Database: db.URL(), Dialect: db.Dialect().String(), Integrity: "not checked", Quick: o.Quick,
		Head: []string{}, Tables: []Count{}, Waiting: []Count{}, Damage: []Finding{}, Warnings: []Finding{}, Notes: []Finding{}}
	c := &checker{db: db, o: o, report: r}
	var err error
	if r.Size, err = db.Size(ctx); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{c.whole, c.structure, c.indexes, c.counts}
	if c.state, err = db.State(ctx, store.Options{PostgresSchema: o.Schema}); err != nil {
		// A file may be so damaged that not even its list of tables can be read.
		c.damage("integrity", 1, nil, "the database cannot be read: %v", err)
		r.State, r.Integrity, steps = "damaged", "damaged", nil
		c.state = &store.State{}
	} else {
		r.State, r.Release = c.state.Kind.String(), c.state.Release
		r.Head = append(r.Head, c.state.Revisions...)
		if err := c.state.Err(); err != nil {
			r.Refused = err.Error()
		}
	}
	switch c.state.Kind {
	case store.NoDatabase:
		steps = nil
	case store.Ours:
		steps = append(steps, c.relations, c.duplicates, c.documents, c.uploads)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil || r.Integrity != "damaged" {
				return nil, err
			}
			// What is damaged is said already; the rest of the checks say what they can.
			c.damage("read", 1, nil, "%v", err)
		}
	}
	if db.Changed() {
		c.warn("changed", 1, nil, "the database was changed while it was read, without a server that others can see: what is said above may be wrong; check again")
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

func (c *checker) has(table string) bool { return c.state.Shape[table] != nil }

func (c *checker) damage(check string, n int64, ids []string, text string, args ...any) {
	c.report.Damage = append(c.report.Damage, Finding{check, fmt.Sprintf(text, args...), n, ids})
}

func (c *checker) warn(check string, n int64, ids []string, text string, args ...any) {
	c.report.Warnings = append(c.report.Warnings, Finding{check, fmt.Sprintf(text, args...), n, ids})
}

func (c *checker) note(check string, n int64, ids []string, text string, args ...any) {
	c.report.Notes = append(c.report.Notes, Finding{check, fmt.Sprintf(text, args...), n, ids})
}

// whole has the database check itself. Postgres has no such check: there it shows in reading the documents.
func (c *checker) whole(ctx context.Context) error {
	if c.db.Dialect() == store.Postgres {
		return nil
	}
	pragma := "PRAGMA integrity_check(20)"
	if c.o.Quick {
		pragma = "PRAGMA quick_check(20)"
	}
	lines, err := store.Strings(c.db.Query(ctx, pragma))
	if err != nil {
		lines = []string{err.Error()}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(lines) == 1 && lines[0] == "ok" {
		c.report.Integrity = "ok"
		return nil
	}
	c.report.Integrity = "damaged"
	for _, l := range lines {
		c.damage("integrity", 1, nil, "%s", strings.ReplaceAll(l, "\n", " "))
	}
	return nil
}

// structure compares tables and columns with the reference's.
func (c *checker) structure(ctx context.Context) error {
	if c.state.Kind == store.Empty {
		return nil
	}
	reference := c.db.Dialect().Reference()
	var tables, columns []string
	for _, t := range slices.Sorted(maps.Keys(c.state.Shape)) {
		switch {
		case strings.HasPrefix(t, "galley_"):
		case reference[t] == nil:
			tables = append(tables, t)
		default:
			for _, col := range c.state.Shape[t] {
				if !reference.Has(t, col) {
					columns = append(columns, t+"."+col)
				}
			}
		}
	}
	if c.state.Kind == store.Incomplete {
		c.damage("missing", int64(len(c.state.Lacks)), nil, "missing: %s", strings.Join(c.state.Lacks, ", "))
	}
	if len(tables) > 0 {
		c.note("unknown.tables", int64(len(tables)), nil, "tables of others, left alone: %s", strings.Join(tables, ", "))
	}
	if len(columns) > 0 {
		c.note("unknown.columns", int64(len(columns)), nil, "columns of others, left alone: %s", strings.Join(columns, ", "))
	}
	if c.has("galley_schema") {
		return c.db.QueryRow(ctx, "SELECT COALESCE(MAX(version), 0) FROM galley_schema").Scan(&c.report.Own)
	}
	return nil
}

// indexes looks for those that are missing or unusable.
func (c *checker) indexes(ctx context.Context) error {
	if c.state.Kind != store.Ours {
		return nil
	}
	rows, err := c.db.Query(ctx, c.db.Dialect().Pick(
		"SELECT name, 1 FROM sqlite_master WHERE type = 'index'",
		`SELECT c.relname, CASE WHEN i.indisvalid AND i.indisready THEN 1 ELSE 0 END FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())`))
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var name string
		var valid bool
		if err := rows.Scan(&name, &valid); err != nil {
			return fmt.Errorf("read indexes: %w", err)
		}
		there[name] = true
		if !valid {
			c.warn("indexes.invalid", 1, []string{name}, "the index %s is not usable, as one whose making was cut off: REINDEX INDEX CONCURRENTLY makes it anew", name)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	var missing []string
	for _, name := range c.db.Dialect().ReferenceIndexes() {
		if !there[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		c.warn("indexes.missing", int64(len(missing)), nil, "indexes that Open WebUI makes are missing, which is slow: %s", strings.Join(missing, ", "))
	}
	return nil
}

// counts counts the rows of all tables, and those that wait.
func (c *checker) counts(ctx context.Context) error {
	for _, t := range slices.Sorted(maps.Keys(c.state.Shape)) {
		n, err := c.count(ctx, t, "")
		if err != nil {
			return fmt.Errorf("count %s: %w", t, err)
		}
		c.report.Tables = append(c.report.Tables, Count{t, n})
	}
	if c.state.Kind != store.Ours {
		return nil
	}
	for _, w := range c.o.Waiting {
		n, err := c.count(ctx, w.Table, w.Where)
		if err != nil {
			return fmt.Errorf("count %s: %w", w.Name, err)
		}
		if n > 0 {
			c.report.Waiting = append(c.report.Waiting, Count{w.Name, n})
		}
	}
	return nil
}

func (c *checker) count(ctx context.Context, table, where string) (n int64, err error) {
	text := "SELECT count(*) FROM " + store.Quote(table)
	if where != "" {
		text += " WHERE " + where
	}
	err = c.db.QueryRow(ctx, text).Scan(&n)
	return n, err
}

// Rows is how many rows a table has; 0 for one that is not there.
func (r *Report) Rows(table string) int64 {
	for _, t := range r.Tables {
		if t.Name == table {
			return t.Rows
		}
	}
	return 0
}

// few reads rows of an id and gives their number and the first ids.
func few(rows *sql.Rows, err error) (n int64, ids []string, _ error) {
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if n++; n > examples {
			continue
		}
		var id sql.NullString
		if err := rows.Scan(&id); err != nil {
			return 0, nil, err
		}
		ids = append(ids, id.String)
	}
	return n, ids, rows.Err()
}
