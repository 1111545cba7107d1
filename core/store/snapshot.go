package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrNotSQLite says that a database is no file.
var ErrNotSQLite = errors.New("store: the database is not SQLite")

// Snapshot writes a copy of a SQLite database, as it is at one moment, into a file that is not there yet. Reads and writes
// go on meanwhile.
func (db *DB) Snapshot(ctx context.Context, file string) error {
	if db.dialect != SQLite {
		return ErrNotSQLite
	}
	// A connection of its own: those for reading may not write, and the one for writing would keep others waiting.
	own, err := sql.Open("sqlite", FileURI(db.file)+"?_pragma=busy_timeout(30000)")
	if err != nil {
		return err
	}
	defer own.Close()
	if _, err := own.ExecContext(ctx, `VACUUM INTO ?`, file); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}
