package store

import (
	"context"
	"errors"
)

// Unfinished stands in the place of the Alembic revision in a database that `galley db copy` has not filled yet, so that
// no server takes it for a whole one.
const Unfinished = "galley_copy_unfinished"

// ErrUnfinished says that a database is a copy that was not ended.
var ErrUnfinished = errors.New("the database is an unfinished copy; the same galley db copy once more goes on with it, or empty it")

// Prepare does what [Open] does unless told to skip it: it makes the tables in an empty database, refuses one of another
// version, and brings Galley's own tables up to date.
func (db *DB) Prepare(ctx context.Context) error { return db.prepare(ctx) }

// PrepareOwn brings Galley's own tables up to date, and looks at nothing else.
func (db *DB) PrepareOwn(ctx context.Context) error {
	return db.tx(ctx, func(tx *Tx) error { return migrateOwn(ctx, tx) })
}

// File is the file of an SQLite database; "" for others.
func (db *DB) File() string { return db.file }
