package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/transfer"
)

// copyPostgres copies the rows of a Postgres database, as they are at one moment, into an SQLite file. What SQLite's tables
// have no place for is told and left out: there are operators whose vectors are in the same database.
func (j *job) copyPostgres(ctx context.Context, file string) error {
	notes, err := transferRows(ctx, pair{
		from: j.o.DatabaseURL, fromSchema: j.o.PostgresSchema, to: "sqlite:///" + file,
	}, transfer.Options{SkipUnknown: true, Verify: true, Began: func() error { return j.link(ctx) }}, j.o.Progress)
	j.notes = notes
	return err
}

// pair is two databases.
type pair struct{ from, fromSchema, to, toSchema string }

// transferRows copies from one database to another, and gives what an operator should know of it.
func transferRows(ctx context.Context, p pair, o transfer.Options, progress func(Progress)) (notes []string, err error) {
	open := func(address, schema string) (*store.DB, error) {
		return store.Open(ctx, address, store.Options{SkipSchemaCheck: true, PostgresSchema: schema, PoolSize: 6})
	}
	from, err := open(p.from, p.fromSchema)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := open(p.to, p.toSchema)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	o.Progress = func(t transfer.Progress) {
		progress(Progress{Stage: t.Phase + " rows of the database", Done: min(t.Bytes, t.AllBytes), Total: t.AllBytes})
	}
	r, err := transfer.Copy(ctx, from, to, o)
	if r == nil || err != nil {
		return nil, err
	}
	for _, s := range r.Skipped {
		notes = append(notes, s+": the other kind of database has no place for it, and it was left out")
	}
	notes = append(notes, r.Warnings...)
	for _, t := range r.Tables {
		if t.Changed > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d rows have values that the other kind of database cannot hold, which were changed as little as possible", t.Name, t.Changed))
		}
		if t.Refused > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d rows were not taken", t.Name, t.Refused))
		}
	}
	for _, row := range r.Refused {
		notes = append(notes, fmt.Sprintf("%s %s was not taken: %s", row.Table, row.Key, row.Note))
	}
	return notes, nil
}

// fillPostgres copies the backup's rows into the server's database. A copy that was interrupted goes on.
func (j *restoring) fillPostgres(ctx context.Context) (err error) {
	j.notes, err = transferRows(ctx, pair{
		from: "sqlite:///" + j.staged, to: j.o.DatabaseURL, toSchema: j.o.PostgresSchema,
	}, transfer.Options{SkipRefused: true, Verify: true, Force: j.o.Force}, j.o.Progress)
	return err
}

// untouched says of an error of fillPostgres that nothing was written.
func untouched(err error) bool {
	return errors.Is(err, transfer.ErrNotEmpty) || errors.Is(err, transfer.ErrUnknown) || errors.Is(err, store.ErrForeign)
}

// emptyPostgres refuses a database that has accounts; the copy itself looks closer.
func (j *restoring) emptyPostgres(ctx context.Context) error {
	db, err := store.Open(ctx, j.o.DatabaseURL, store.Options{SkipSchemaCheck: true, PostgresSchema: j.o.PostgresSchema, PoolSize: 1})
	if err != nil {
		return err
	}
	defer db.Close()
	full := false
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'user')`).Scan(&full)
	if err == nil && full {
		err = db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM "user")`).Scan(&full)
	}
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if full {
		return errors.New("the Postgres database has accounts: restore into an empty one, or empty this one yourself; --force does not")
	}
	return nil
}
