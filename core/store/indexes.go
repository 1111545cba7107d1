package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// index is one that the reference's tables lack, for lists and searches of large databases. Its columns are plain ones, so
// that Alembic, which reflects indexes when it rebuilds a table, takes it along as it does its own. It is made while the
// server serves, and nothing depends on its being there.
type index struct {
	name, table      string
	sqlite, postgres string // columns and condition; "" where the database needs none
	// warm is read first on SQLite, in slices: what the statement that makes the index will read while writers wait.
	warm string
}

var indexes = []index{
	// Lists and searches: SQLite reads a row's later columns past its document, page by page.
	{"galley_chat_list", "chat", "(user_id, updated_at DESC, id, archived, folder_id, pinned, share_id, last_read_at, created_at, title, meta)", "", "meta"},
	{"galley_chat_folder", "chat", "(folder_id, user_id, updated_at, id, archived, pinned, last_read_at, created_at, title, meta) WHERE folder_id IS NOT NULL", "", "meta"},
	// Answers that are being written, which a search on Postgres looks at.
	{"galley_chat_message_undone", "chat_message", "", "(user_id, chat_id) WHERE done = FALSE", ""},
	{"galley_shared_chat_chat", "shared_chat", "(chat_id)", "(chat_id)", ""},
	{"galley_shared_chat_user", "shared_chat", "(user_id)", "(user_id)", ""},
	{"galley_folder_user", "folder", "(user_id)", "(user_id)", ""},
	{"galley_folder_parent", "folder", "(parent_id)", "(parent_id)", ""},
}

// indexedFrom is how many chats a database has before the indexes are worth having; smaller ones stay as the reference
// made them.
const indexedFrom = 2000

// indexLock is the advisory lock of the replica that makes indexes on Postgres.
const indexLock = 7217055

// MakeIndexes makes the indexes that the reference's tables lack for large databases, one after another, and logs which
// and how long each took. Reads and writes go on meanwhile; on SQLite, which has one writer, writes wait while one is
// made. What cannot be made, as on a database that may only be read, is logged and left.
func (db *DB) MakeIndexes(ctx context.Context, log *slog.Logger) error {
	return db.makeIndexes(ctx, log, indexes, indexedFrom)
}

func (db *DB) makeIndexes(ctx context.Context, log *slog.Logger, list []index, least int) error {
	var one int
	switch err := db.QueryRow(ctx, "SELECT 1 FROM chat LIMIT 1 OFFSET $1", max(least-1, 0)).Scan(&one); {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return db.Alone(ctx, indexLock, func(ctx context.Context) error {
		for _, i := range list {
			if db.dialect.Pick(i.sqlite, i.postgres) == "" {
				continue
			}
			begin := time.Now()
			made, err := db.makeIndex(ctx, i)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				log.Warn("index not made; lists and searches are slower without it", "index", i.name, "error", err)
			case made:
				log.Info("index made", "index", i.name, "table", i.table, "took", time.Since(begin).Round(time.Millisecond))
			}
		}
		return nil
	})
}

// Alone runs f unless another replica is running what has the same lock; then it does nothing. SQLite has no replicas.
func (db *DB) Alone(ctx context.Context, lock int64, f func(context.Context) error) error {
	if db.dialect == SQLite {
		return f(ctx)
	}
	// The lock is a connection's, and one that is waited for would keep CREATE INDEX CONCURRENTLY waiting in turn.
	conn, err := db.write.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var got bool
	if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", lock).Scan(&got); err != nil || !got {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.ExecContext(last, "SELECT pg_advisory_unlock($1)", lock)
	}()
	return f(ctx)
}

func (db *DB) makeIndex(ctx context.Context, i index) (made bool, err error) {
	if db.dialect == Postgres {
		return db.makePostgresIndex(ctx, i)
	}
	var have int
	if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = $1", i.name).Scan(&have); err != nil || have > 0 {
		return false, err
	}
	if i.warm != "" {
		// Once from the disk, and where that took long once more, to see whether the system could keep what was read.
		took, err := db.warm(ctx, i.table, i.warm)
		if err == nil && took > longestWait {
			took, err = db.warm(ctx, i.table, i.warm)
		}
		if err != nil {
			return false, err
		}
		if took > longestWait {
			return false, fmt.Errorf("writes would wait for about %v while the table is read", took.Round(time.Second))
		}
	}
	// On the connection of all writes, so that they queue rather than run into their timeouts.
	_, err = db.write.db.ExecContext(ctx, "CREATE INDEX IF NOT EXISTS "+i.name+" ON "+i.table+" "+i.sqlite)
	return err == nil, err
}

// longestWait is how long writes on SQLite may have to wait for an index.
const longestWait = 10 * time.Second

// warm reads a column of all rows in slices, so that the file is in the system's cache, and lets others go between them. It
// gives how long the reading took.
func (db *DB) warm(ctx context.Context, table, column string) (took time.Duration, err error) {
	const slice = 1000
	for from := int64(-1); ; {
		begin := time.Now()
		var last sql.NullInt64
		var n int
		if err := db.QueryRow(ctx, "SELECT MAX(id), COUNT(v) FROM (SELECT rowid AS id, "+column+" AS v FROM "+table+" WHERE rowid > $1 ORDER BY rowid LIMIT $2)", from, slice).Scan(&last, &n); err != nil {
			return 0, err
		}
		if !last.Valid {
			return took, nil
		}
		from = last.Int64
		took += time.Since(begin)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Since(begin)):
		}
	}
}

// makePostgresIndex makes an index without keeping writers waiting. An attempt that was broken off leaves an index that
// is not valid: it is dropped, and made again.
func (db *DB) makePostgresIndex(ctx context.Context, i index) (made bool, err error) {
	var valid bool
	err = wrap(db.write.db.QueryRowContext(ctx, `SELECT x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
		WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace`, i.name).Scan(&valid))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil || valid:
		return false, err
	default:
		if _, err := db.write.db.ExecContext(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+i.name); err != nil {
			return false, fmt.Errorf("drop what is left of an attempt: %w", err)
		}
	}
	_, err = db.write.db.ExecContext(ctx, "CREATE INDEX CONCURRENTLY IF NOT EXISTS "+i.name+" ON "+i.table+" "+i.postgres)
	return err == nil, err
}
