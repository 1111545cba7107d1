package backup

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"modernc.org/sqlite" // the driver too

	"github.com/galleychat/galley/core/store"
)

// openSQLite opens a database that is there, for reading. It is not opened "read-only", since then the rest of a server
// that was killed could not be taken up.
func openSQLite(file string) (*sql.DB, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	return sql.Open("sqlite", store.FileURI(file)+"?mode=rw&_pragma=busy_timeout(30000)&_pragma=query_only(1)&_pragma=cache_size(-1024)")
}

// moment is an SQLite database as it is when it is opened, for as long as that takes.
type moment struct {
	db    *sql.DB
	conn  *sql.Conn
	pages int64
	size  int64 // of a page
}

// openMoment begins a read transaction. Writers of a database with a write-ahead log go on; others wait.
func openMoment(ctx context.Context, file string) (*moment, error) {
	db, err := openSQLite(file)
	if err != nil {
		return nil, err
	}
	m := &moment{db: db}
	if m.conn, err = db.Conn(ctx); err == nil {
		err = m.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), m.close())
	}
	return m, nil
}

func (m *moment) begin(ctx context.Context) error {
	if _, err := m.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := m.conn.QueryRowContext(ctx, "PRAGMA page_size").Scan(&m.size); err != nil {
		return err
	}
	return m.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&m.pages) // reads, and so fixes the moment
}

func (m *moment) close() error {
	var errs []error
	if m.conn != nil {
		errs = append(errs, m.conn.Close())
	}
	return errors.Join(append(errs, m.db.Close())...)
}

// bytes is the size of the database's file.
func (m *moment) bytes() int64 { return m.pages * m.size }

// reader reads the file's pages one after the other, those of the write-ahead log in the place of older ones. This needs
// no second file, as SQLite's own ways of copying do, and a third of the time of VACUUM INTO; and rows keep their order.
func (m *moment) reader(ctx context.Context) (io.ReadCloser, error) {
	rows, err := m.conn.QueryContext(ctx, "SELECT data FROM sqlite_dbpage('main') ORDER BY pgno")
	if err != nil {
		return nil, err
	}
	return &pages{rows: rows}, nil
}

type pages struct {
	rows *sql.Rows
	page sql.RawBytes // what is left of it
}

func (p *pages) Read(to []byte) (n int, err error) {
	for n < len(to) {
		if len(p.page) == 0 {
			if !p.rows.Next() {
				if err := p.rows.Err(); err != nil || n > 0 {
					return n, err
				}
				return 0, io.EOF
			}
			if err := p.rows.Scan(&p.page); err != nil {
				return n, err
			}
		}
		k := copy(to[n:], p.page)
		p.page = p.page[k:]
		n += k
	}
	return n, nil
}

func (p *pages) Close() error { return p.rows.Close() }

// logged says whether a database has a write-ahead log.
func logged(ctx context.Context, file string) (bool, error) {
	db, err := openSQLite(file)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var mode string
	err = db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	return mode == "wal", err
}

// Steps of a copy: so many pages at once, with a pause in which writers get their turn. If they always do, so that the copy
// begins again and again, they wait once for all of it.
const (
	stepPages = 4096
	stepPause = 5 * time.Millisecond
	stepsTime = time.Minute
)

// copySQLite copies a database of either kind, as it is at one moment, into a file that is not there yet.
func copySQLite(ctx context.Context, from, to string) error {
	db, err := openSQLite(from)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode == "wal" { // with a moment fixed, no writer makes it begin again
		m := &moment{conn: conn}
		if err := m.begin(ctx); err != nil {
			return err
		}
	}
	return conn.Raw(func(raw any) error { return copyPages(ctx, raw, to, mode == "wal") })
}

func copyPages(ctx context.Context, raw any, to string, fixed bool) (err error) {
	from, ok := raw.(interface {
		driver.Conn
		NewBackup(uri string) (*sqlite.Backup, error)
	})
	if !ok {
		return errors.New("the SQLite driver makes no backups")
	}
	b, err := from.NewBackup(store.FileURI(to))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	begin := time.Now()
	for more := true; more; {
		n := int32(stepPages)
		if !fixed && time.Since(begin) > stepsTime {
			n = -1
		}
		more, err = b.Step(n)
		if code := sqliteCode(err); code == 5 || code == 6 { // SQLITE_BUSY, SQLITE_LOCKED
			more, err = true, nil
		}
		if err != nil || !more {
			return err
		}
		if err := pause(ctx, stepPause, fixed); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration, none bool) error {
	if none {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// facts are what the head says of a database. One of another version is store.ErrForeign.
func (m *moment) facts(ctx context.Context, h *Head) error {
	var tables int
	if err := m.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('alembic_version', 'file')").Scan(&tables); err != nil {
		return err
	}
	if tables != 2 {
		return fmt.Errorf("%w: it is not a database of Open WebUI", store.ErrForeign)
	}
	err := m.conn.QueryRowContext(ctx, "SELECT version_num FROM alembic_version").Scan(&h.Alembic)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if h.Alembic != store.Head {
		return fmt.Errorf("%w: its Alembic revision is %q, this Galley knows %s (Open WebUI 0.12.4) and could not restore it", store.ErrForeign, h.Alembic, store.Head)
	}
	if err := m.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'galley_schema'").Scan(&tables); err != nil || tables == 0 {
		return err
	}
	return m.conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM galley_schema").Scan(&h.Schema)
}

// eachFile calls f for each row of the table file that has a path.
func (m *moment) eachFile(ctx context.Context, f func(Lost) error) error {
	rows, err := m.conn.QueryContext(ctx, "SELECT id, COALESCE(filename, ''), path FROM file WHERE path IS NOT NULL AND path <> ''")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var l Lost
		if err := rows.Scan(&l.ID, &l.Name, &l.Path); err != nil {
			return err
		}
		if err := f(l); err != nil {
			return err
		}
	}
	return rows.Err()
}
