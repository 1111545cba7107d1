package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	_ "github.com/lib/pq" // the drivers
	_ "modernc.org/sqlite"

	"github.com/galleychat/galley/core/store"
)

// table is a table with the columns that are written.
type table struct {
	order   int // in which the tables of a batch are written, as foreign keys ask for
	name    string
	columns []string
}

func columns(order int, name, list string) table { return table{order, name, strings.Fields(list)} }

var (
	tableUser    = columns(0, "user", "id email name role profile_image_url last_active_at updated_at created_at oauth scim info settings")
	tableAuth    = columns(1, "auth", "id email password active session_stamp")
	tableGroup   = columns(2, "group", "id user_id parent_group_id name description data permissions created_at updated_at")
	tableMember  = columns(3, "group_member", "id group_id user_id created_at updated_at")
	tableFolder  = columns(4, "folder", "id parent_id user_id name items meta data is_expanded created_at updated_at")
	tableTag     = columns(5, "tag", "id name user_id meta")
	tableChat    = columns(6, "chat", "id user_id title chat created_at updated_at share_id archived pinned meta variables folder_id tasks summary current_message_id last_read_at timer_at")
	tableMessage = columns(7, "chat_message", "id chat_id user_id role parent_id content output model_id files sources embeds meta done status_history error usage context_summary created_at updated_at")
	tableShared  = columns(8, "shared_chat", "id chat_id user_id title chat created_at updated_at")
	tableGrant   = columns(9, "access_grant", "id resource_type resource_id principal_type principal_id permission created_at")
)

var tables = [...]*table{&tableUser, &tableAuth, &tableGroup, &tableMember, &tableFolder, &tableTag, &tableChat, &tableMessage, &tableShared, &tableGrant}

// batch is some rows of all tables.
type batch struct {
	rows  [len(tables)][][]any
	chats int
	bytes int
}

func (b *batch) add(t *table, values ...any) {
	if len(values) != len(t.columns) {
		panic(fmt.Sprintf("%s: %d values for %d columns", t.name, len(values), len(t.columns)))
	}
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.bytes += len(s)
		}
	}
	b.rows[t.order] = append(b.rows[t.order], values)
}

// sink writes batches as fast as the database takes them: without what protects the data of a server, and with the
// indexes of the large tables made in the end.
type sink struct {
	db      *sql.DB
	conn    *sql.Conn
	dialect store.Dialect
	stmts   map[string]*sql.Stmt
	later   []string // CREATE INDEX statements
}

func openSink(ctx context.Context, d store.Dialect, address string) (*sink, error) {
	s := &sink{dialect: d, stmts: map[string]*sql.Stmt{}}
	var err error
	if d == store.Postgres {
		_, rest, _ := strings.Cut(address, "://")
		u, err := url.Parse("postgres://" + rest)
		if err != nil {
			return nil, err
		}
		if q := u.Query(); q.Get("sslmode") == "" {
			q.Set("sslmode", "disable")
			u.RawQuery = q.Encode()
		}
		s.db, err = sql.Open("postgres", u.String())
		if err != nil {
			return nil, err
		}
	} else {
		file, err := store.FileOf(address)
		if err != nil {
			return nil, err
		}
		s.db, err = sql.Open("sqlite", store.FileURI(file)+
			"?_pragma=journal_mode(DELETE)&_pragma=synchronous(OFF)&_pragma=locking_mode(EXCLUSIVE)&_pragma=cache_size(-262144)&_pragma=temp_store(FILE)")
		if err != nil {
			return nil, err
		}
	}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

func (s *sink) close() {
	for _, stmt := range s.stmts { // an open one keeps SQLite's journal
		_ = stmt.Close()
	}
	_ = s.conn.Close()
	_ = s.db.Close()
}

func (s *sink) exec(ctx context.Context, text string) error {
	if _, err := s.conn.ExecContext(ctx, text); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}

// begin takes the indexes of the large tables away.
func (s *sink) begin(ctx context.Context) error {
	rows, err := s.conn.QueryContext(ctx, s.dialect.Pick(
		"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('chat', 'chat_message')",
		"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename IN ('chat', 'chat_message') "+
			"AND indexname NOT IN (SELECT conname FROM pg_constraint)"))
	type index struct{ name, sql string }
	list, err := store.Collect(rows, err, func(r *sql.Rows) (i index, err error) {
		err = r.Scan(&i.name, &i.sql)
		return i, err
	})
	if err != nil {
		return err
	}
	for _, i := range list {
		s.later = append(s.later, i.sql)
		if err := s.exec(ctx, "DROP INDEX "+strconv.Quote(i.name)); err != nil {
			return err
		}
	}
	return nil
}

// finish makes the indexes again and has the database count what it holds, as one in use does by itself.
func (s *sink) finish(ctx context.Context) error {
	for _, text := range s.later {
		if err := s.exec(ctx, text); err != nil {
			return err
		}
	}
	if s.dialect == store.Postgres {
		return s.exec(ctx, "VACUUM ANALYZE")
	}
	return nil
}

func (s *sink) size(ctx context.Context) (n int64, err error) {
	err = s.conn.QueryRowContext(ctx, s.dialect.Pick("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", "SELECT pg_database_size(current_database())")).Scan(&n)
	return n, err
}

// write writes a batch in a transaction.
func (s *sink) write(ctx context.Context, b *batch) error {
	tx, err := s.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for i, rows := range b.rows {
		if len(rows) == 0 {
			continue
		}
		if s.dialect == store.Postgres {
			err = copyIn(ctx, tx, tables[i], rows)
		} else {
			err = s.insert(ctx, tables[i], rows)
		}
		if err != nil {
			_ = tx.Rollback()
			return fmt.Errorf("%s: %w", tables[i].name, err)
		}
	}
	return tx.Commit()
}

func copyIn(ctx context.Context, tx *sql.Tx, t *table, rows [][]any) error {
	stmt, err := tx.PrepareContext(ctx, `COPY "`+t.name+`" (`+strings.Join(t.columns, ", ")+`) FROM STDIN`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := stmt.ExecContext(ctx, r...); err != nil {
			return err
		}
	}
	if _, err := stmt.ExecContext(ctx); err != nil {
		return err
	}
	return stmt.Close()
}

// insert runs within the transaction that the connection is in.
func (s *sink) insert(ctx context.Context, t *table, rows [][]any) error {
	for len(rows) > 0 {
		n := min(len(rows), 16)
		if n < 16 {
			n = 1
		}
		text := `INSERT INTO "` + t.name + `" (` + strings.Join(t.columns, ", ") + ") VALUES " +
			strings.TrimSuffix(strings.Repeat("("+strings.TrimSuffix(strings.Repeat("?,", len(t.columns)), ",")+"),", n), ",")
		stmt := s.stmts[text]
		if stmt == nil {
			var err error
			if stmt, err = s.conn.PrepareContext(ctx, text); err != nil {
				return err
			}
			s.stmts[text] = stmt
		}
		args := make([]any, 0, n*len(t.columns))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		if _, err := stmt.ExecContext(ctx, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
