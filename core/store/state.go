package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

// Head is the Alembic revision whose tables these are (Open WebUI 0.12.4), and Release the release it belongs to.
const (
	Head    = "0bd252b206fb"
	Release = "0.12.4"
)

// ErrForeign says that the database holds tables of another version, and that nothing was changed.
var ErrForeign = errors.New("database of another version")

// Kind is what a database turns out to be.
type Kind int

// What a database may be. All but Empty and Ours are refused.
const (
	Empty       Kind = iota // no tables, or no database yet
	Ours                    // what this Galley serves
	Older                   // of an older release of the reference
	Unknown                 // at a revision that this Galley does not know: a newer release, or another program
	Several                 // at several revisions at once
	Unversioned             // tables, but no revision
	Incomplete              // at the right revision, but without some of its tables or columns
	NoDatabase              // a file that is no SQLite database
	HalfCopy                // one that galley db copy has not filled yet: at [Unfinished]
)

var kinds = map[Kind]string{
	Empty: "empty", Ours: "ours", Older: "older", Unknown: "unknown", Several: "several", Unversioned: "unversioned", Incomplete: "incomplete", NoDatabase: "no database",
	HalfCopy: "unfinished copy",
}

func (k Kind) String() string { return kinds[k] }

// State is what [Inspect] finds.
type State struct {
	Kind      Kind
	Revisions []string // of alembic_version
	Release   string   // of the reference, as far as the revision tells; "" where it does not
	Lacks     []string // tables, and columns as table.column, of an Incomplete one
	Shape     Shape
	detail    string // of Unversioned and NoDatabase
}

// Err is nil for a database that can be served, or made, ErrUnfinished for a copy that was not ended, and else an ErrForeign
// that says in a line what it is and what to do.
func (s *State) Err() error {
	const serves = "this Galley serves " + Head + " (Open WebUI " + Release + ")"
	head := strings.Join(s.Revisions, ", ")
	switch s.Kind {
	case Older:
		return fmt.Errorf("%w: it is older: its Alembic revision is %s (of about Open WebUI %s), %s; make a backup and start Open WebUI %s once on it, which brings it up to date; nothing was changed",
			ErrForeign, head, s.Release, serves, Release)
	case Unknown:
		return fmt.Errorf("%w: it is newer or of another program: its Alembic revision %q is not one of Open WebUI %s or before it, %s; use a newer Galley, or a backup of the time before the upgrade; nothing was changed",
			ErrForeign, head, Release, serves)
	case Several:
		return fmt.Errorf("%w: its alembic_version holds %d revisions (%s), as a migration that was cut off leaves it, %s; use a backup of the time before; nothing was changed",
			ErrForeign, len(s.Revisions), head, serves)
	case Unversioned:
		return fmt.Errorf("%w: %s, %s; if it is Open WebUI's, make a backup and start Open WebUI %s once on it; else name another database; nothing was changed",
			ErrForeign, s.detail, serves, Release)
	case Incomplete:
		some := s.Lacks
		more := ""
		if len(some) > 6 {
			some, more = some[:6], fmt.Sprintf(" and %d more", len(some)-6)
		}
		return fmt.Errorf("%w: it is incomplete: its Alembic revision is %s, but it is without %s%s, as a migration or a copy that was cut off leaves it; use a backup; nothing was changed",
			ErrForeign, head, strings.Join(some, ", "), more)
	case HalfCopy:
		return ErrUnfinished
	case NoDatabase:
		return fmt.Errorf("%w: the file is no SQLite database, or an encrypted one (%s); nothing was changed", ErrForeign, s.detail)
	}
	return nil
}

//go:embed schema/revisions.txt
var revisionsText string

// releaseOf is the release of the reference that an older revision belongs to, about; "" for one that is not known.
func releaseOf(revision string) string {
	for line := range strings.Lines(revisionsText) {
		if id, release, ok := strings.Cut(strings.TrimSpace(line), " "); ok && id == revision {
			return release
		}
	}
	return ""
}

// Inspect looks at what a database is. Nothing is written: an SQLite file is opened for reading only, without another
// file beside it being made or changed; a file that is not there is Empty.
func Inspect(ctx context.Context, url string, o Options) (*State, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	return inspect(ctx, a, url, o)
}

func inspect(ctx context.Context, a *address, text string, o Options) (*State, error) {
	if a.dialect == SQLite {
		switch info, err := os.Stat(a.file); {
		case errors.Is(err, os.ErrNotExist) && !o.Existing:
			return &State{}, nil
		case err != nil:
			return nil, fmt.Errorf("DATABASE_URL: %w", err)
		case info.IsDir():
			return nil, fmt.Errorf("DATABASE_URL: %s is a folder", a.file)
		}
	}
	db, err := openReading(ctx, a, text, o)
	if err != nil {
		return nil, err
	}
	s, err := db.State(ctx, o)
	return s, errors.Join(err, db.Close())
}

// State looks at what the database is. Of the options only PostgresSchema counts.
func (db *DB) State(ctx context.Context, o Options) (*State, error) {
	tx, err := db.read.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		defer tx.Rollback()
		var s *State
		if s, err = readState(ctx, tx, db.dialect, o); err == nil {
			return s, nil
		}
	}
	if e := new(sqlite.Error); errors.As(err, &e) && e.Code() == codeNotADatabase {
		return &State{Kind: NoDatabase, detail: e.Error()}, nil
	}
	return nil, err
}

func readState(ctx context.Context, c conn, d Dialect, o Options) (*State, error) {
	shape, err := readShape(ctx, c, d)
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	s := &State{Shape: shape}
	if shape["alembic_version"] != nil {
		rows, err := c.QueryContext(ctx, "SELECT version_num FROM alembic_version ORDER BY version_num")
		if s.Revisions, err = Strings(rows, err); err != nil {
			return nil, fmt.Errorf("read alembic_version: %w", err)
		}
	}
	switch {
	case len(s.Revisions) > 1:
		s.Kind = Several
	case len(s.Revisions) == 0:
		return s, s.unversioned(ctx, c, d, o)
	case s.Revisions[0] == Unfinished:
		s.Kind = HalfCopy
	case s.Revisions[0] != Head:
		s.Kind = Unknown
		if s.Release = releaseOf(s.Revisions[0]); s.Release != "" {
			s.Kind = Older
		}
	default:
		s.Kind, s.Release, s.Lacks = Ours, Release, shape.Lacks(d)
		if len(s.Lacks) > 0 {
			s.Kind = Incomplete
		}
	}
	return s, nil
}

// unversioned tells an empty database from one whose tables have no revision. A file of SQLite is of one program; on
// Postgres tables of others may stand beside, unless DATABASE_SCHEMA names a place of its own, as the reference has it.
func (s *State) unversioned(ctx context.Context, c conn, d Dialect, o Options) error {
	var alien []string
	reference := d.Reference()
	for _, name := range slices.Sorted(maps.Keys(s.Shape)) {
		own := strings.HasPrefix(name, "galley_")
		if reference[name] != nil || !own && (d == SQLite || o.PostgresSchema != "") {
			alien = append(alien, name)
		}
	}
	switch {
	case s.Shape["alembic_version"] != nil:
		s.Kind, s.detail = Unversioned, "its alembic_version holds no revision"
	case len(alien) > 0:
		s.Kind, s.detail = Unversioned, fmt.Sprintf("it has tables (%s) but no alembic_version", strings.Join(alien[:min(3, len(alien))], ", "))
		if s.Shape["migratehistory"] != nil { // of the library that did it before Alembic
			s.detail += ", as Open WebUI left it before release 0.3.6"
		}
	case d == Postgres && o.PostgresSchema != "":
		var there bool
		if err := c.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", o.PostgresSchema).Scan(&there); err != nil {
			return fmt.Errorf("look for the schema: %w", err)
		}
		if !there {
			return fmt.Errorf("DATABASE_SCHEMA: there is no schema %q in the database", o.PostgresSchema)
		}
		var elsewhere sql.NullString
		if err := c.QueryRowContext(ctx, `SELECT min(tablename) FROM pg_tables WHERE schemaname = 'public' AND schemaname <> $1
			AND tablename IN ('alembic_version', 'auth', 'chat', 'config')`, o.PostgresSchema).Scan(&elsewhere); err != nil {
			return fmt.Errorf("look at the schema public: %w", err)
		}
		if elsewhere.Valid {
			s.Kind, s.detail = Unversioned, fmt.Sprintf("the schema %q of DATABASE_SCHEMA is empty, but the schema public has a table %q", o.PostgresSchema, elsewhere.String)
		}
	}
	return nil
}

// Results of SQLite: of a damaged file, and of one that is something else.
const (
	codeCorrupt      = 11
	codeNotADatabase = 26
)

// OpenReading opens a database that is there for reading only, whatever is in it. Nothing is written, neither into an
// SQLite file nor beside it, and it works beside a server that is running.
func OpenReading(ctx context.Context, url string, o Options) (*DB, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	return openReading(ctx, a, url, o)
}

func openReading(ctx context.Context, a *address, text string, o Options) (*DB, error) {
	if a.dialect == Postgres {
		o.PoolSize = max(o.Readers, 1)
		// No parameter of the connection says so, as poolers between here and the server refuse it.
		db, err := openPostgres(text, a, o)
		if err == nil {
			db.reading = true
		}
		return db, err
	}
	now, err := os.Stat(a.file)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	for _, way := range readingWays(a.file) {
		way.Set("mode", "ro")
		way.Add("_pragma", "busy_timeout(5000)")
		way.Add("_pragma", "query_only(1)")
		way.Add("_pragma", "temp_store(MEMORY)")
		// The driver runs them in the order of the alphabet; this one reads the file, and locking_mode has to come before.
		way.Add("_pragma", fmt.Sprintf("main.cache_size(-%d)", max(o.CacheKiB, 4096)))
		var raw *sql.DB
		if raw, err = sql.Open("sqlite", fileURL(a.file, way)); err != nil {
			return nil, err
		}
		raw.SetMaxOpenConns(max(o.Readers, 1))
		raw.SetMaxIdleConns(max(o.Readers, 1))
		p := newPool(raw)
		db := &DB{dialect: SQLite, url: text, file: a.file, hook: o.Hook, read: p, write: p, reading: true}
		if way.Has("immutable") {
			db.unlocked = now
		}
		var n int
		if err = raw.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&n); err == nil {
			return db, nil
		}
		if e := new(sqlite.Error); errors.As(err, &e) && (e.Code() == codeNotADatabase || e.Code()&0xff == codeCorrupt) {
			return db, nil // whoever reads is told
		}
		_ = raw.Close()
	}
	return nil, fmt.Errorf("open database: %w", err)
}

// readingWays are the parameters by which a file can be read without a trace, the best first. SQLite makes the index of a
// write-ahead log (-shm), and the log, where they are missing, also for those who only read.
func readingWays(file string) []url.Values {
	immutable, plain := url.Values{"immutable": {"1"}}, url.Values{}
	log, err := os.Stat(file + "-wal")
	switch _, shm := os.Stat(file + "-shm"); {
	case err != nil || log.Size() == 0 && shm != nil:
		if isWAL(file) {
			// Nobody has it open, or the log would be there.
			return []url.Values{immutable}
		}
		// A journal that a process left behind when it was killed cannot be played back by a reader.
		return []url.Values{plain, immutable}
	case shm == nil:
		// The index is used as it is, and one of memory made where no process keeps it.
		return []url.Values{{"readonly_shm": {"1"}}, plain}
	}
	// A log without an index, as in a copy of the two files: nobody has it open, so no lock is needed, and the index may be
	// in memory.
	return []url.Values{{"vfs": {"unix-none"}, "_pragma": {"locking_mode(EXCLUSIVE)"}}, plain}
}

// isWAL says whether the header of a file names the write-ahead log as its journal. It is read while no connection of this
// process has the file open: closing the file would drop their locks.
func isWAL(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var header [20]byte
	_, err = f.ReadAt(header[:], 0)
	return err == nil && header[18] == 2
}
