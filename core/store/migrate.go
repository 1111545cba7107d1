package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Galley's own tables stand beside the reference's, which they never touch: their names begin with galley_, so that the
// reference serves the database as before. Each file schema/galley/NNN_DIALECT.sql is one step, numbered from 001 without
// gaps. A step only adds (tables, columns that may be null or have a default, indexes): during an upgrade an older Galley
// still serves a database that a newer one has prepared.
//
//go:embed schema/galley/*.sql
var ownSchema embed.FS

// migrateOwn runs the steps of files that the database has not had yet. The caller holds the lock that replicas take turns
// by. A database that has had more, of a newer Galley, is left as it is.
func migrateOwn(ctx context.Context, tx *Tx, files fs.FS) error {
	steps, err := ownSteps(files, tx.Dialect())
	if err != nil {
		return err
	}
	// Looked for first: on Postgres even a CREATE TABLE IF NOT EXISTS takes the right to make tables.
	shape, err := readShape(ctx, tx.tx, tx.Dialect())
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	var have int
	if shape["galley_schema"] == nil {
		if _, err := tx.tx.ExecContext(ctx, "CREATE TABLE galley_schema (version BIGINT NOT NULL)"); err != nil {
			return fmt.Errorf("make galley_schema: %w", err)
		}
	} else if err := tx.tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM galley_schema").Scan(&have); err != nil {
		return fmt.Errorf("read galley_schema: %w", err)
	}
	if have >= len(steps) {
		return nil
	}
	for i := have; i < len(steps); i++ {
		if _, err := tx.tx.ExecContext(ctx, steps[i]); err != nil {
			return fmt.Errorf("galley's tables, step %d: %w", i+1, err)
		}
	}
	_, err = tx.tx.ExecContext(ctx, "INSERT INTO galley_schema (version) VALUES ($1)", len(steps))
	return err
}

// ownSteps reads the steps of a dialect in order.
func ownSteps(files fs.FS, d Dialect) ([]string, error) {
	names, err := fs.Glob(files, "schema/galley/*_"+d.String()+".sql") // sorted
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(names))
	for i, name := range names {
		number, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, errors.New("store: " + name + " is not step " + strconv.Itoa(i+1))
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		steps[i] = string(text)
	}
	return steps, nil
}
