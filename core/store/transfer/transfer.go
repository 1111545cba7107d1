// Package transfer copies a whole database into another, between SQLite and Postgres or within one of them.
//
// The source is read in one snapshot, so that a server may go on working on it. Tables and columns are those of the two
// databases' catalogues. An empty table is filled in bulk; one that has rows already, since an earlier run was cut off, is
// brought in step: both sides are read in the order of the primary key, and rows that are missing, differ or are too many
// are put right. So a copy can be killed at any moment, and the same call once more ends in an exact copy of what the source
// holds by then. At the end the target is read once more and compared by counts and checksums.
//
// Until then the target carries a mark ([store.Unfinished]) in the place of its Alembic revision, and a table, galley_copy,
// of what was put off: secondary indexes and foreign keys are made after the rows. No server starts on such a database.
//
// SQLite checks neither types nor foreign keys. What Postgres cannot hold is changed as little as possible (see
// [postgresJSON] and toPostgres) and told; rows that point at nothing are kept, under foreign keys that are not validated; a
// row that the target does not take at all is refused, told, and keeps the copy from ending unless it may be left out.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/galleychat/galley/core/store"
)

// Errors that Copy returns, wrapped.
var (
	ErrNotEmpty = errors.New("the target is not empty")
	ErrUnknown  = errors.New("the target has no place for all that the source holds")
	ErrRefused  = errors.New("the target does not take some rows")
	ErrMismatch = errors.New("source and target differ")
)

// Options say how to copy. The zero value copies without reading the target again.
type Options struct {
	Progress    func(Progress) // nil for none; one call at a time
	Verify      bool           // compare counts and checksums at the end
	Force       bool           // write over what a target without accounts holds, or go on with an unfinished copy of another source
	SkipUnknown bool           // leave out tables and columns that the target cannot have
	SkipRefused bool           // leave out rows that the target does not take
	Began       func() error   // called when the source's snapshot is taken; an error ends the copy; nil for none
	BatchBytes  int            // about how many bytes go into one transaction; 0 means 2 MiB

	bulkRows int64 // how many rows a table must get for its indexes to be made afterwards; 0 means 20,000
}

// Progress is how far a copy is.
type Progress struct {
	Phase      string // "copy", "compare" (a table that has rows already), "index", "verify"
	Table      string
	Done       int64 // rows of the table
	Total      int64
	Bytes      int64 // values read so far in this phase, of all tables
	AllBytes   int64 // about how many there are
	TableEnded bool
}

// Report is what a copy did.
type Report struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	Resumed  bool          `json:"resumed"` // the target was an unfinished copy
	Verified bool          `json:"verified"`
	Duration time.Duration `json:"duration_ns"`
	Tables   []TableReport `json:"tables"`
	Skipped  []string      `json:"skipped"`  // tables and columns that were left out
	Warnings []string      `json:"warnings"` // what else is not as it was
	Changed  []RowNote     `json:"changed"`  // rows with values the target cannot hold: the first of each table
	Refused  []RowNote     `json:"refused"`  // rows the target does not take: the first of each table
	Differ   []RowNote     `json:"differ"`   // rows found to differ at the end: the first of each table
}

// TableReport is what was done with a table.
type TableReport struct {
	Name       string `json:"name"`
	Rows       int64  `json:"rows"` // of the source
	Sum        string `json:"checksum"`
	TargetRows int64  `json:"target_rows"` // at the end, if verified
	TargetSum  string `json:"target_checksum"`
	Bytes      int64  `json:"bytes"`
	Written    int64  `json:"written"`
	Removed    int64  `json:"removed"` // of an earlier run
	Changed    int64  `json:"changed"`
	Refused    int64  `json:"refused"`

	sum Sum
}

// RowNote tells of one row.
type RowNote struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	Note  string `json:"note"`
}

// maxNotes is how many rows of a table are told one by one.
const maxNotes = 100

// maxRefused ends a copy that goes wrong altogether.
const maxRefused = 10_000

// Copy copies all rows of the reference's tables and of Galley's own from one database to another. Both must be at the
// Alembic revision that this Galley serves. The target must be empty, or the unfinished copy of an earlier call; it may
// have been opened without looking at its tables (store.Options.SkipSchemaCheck), and has to be if it is unfinished. Nothing
// is written before all that is checked. The report is given with an error too, as far as it goes.
func Copy(ctx context.Context, from, to *store.DB, o Options) (*Report, error) {
	if o.BatchBytes <= 0 {
		o.BatchBytes = 2 << 20
	}
	if o.bulkRows == 0 {
		o.bulkRows = 20_000
	}
	started := time.Now()
	r := &run{o: o, from: from, to: to, report: &Report{From: from.URL(), To: to.URL()}}
	err := r.do(ctx)
	r.report.Duration = time.Since(started)
	return r.report, err
}

// run is one copy on its way.
type run struct {
	o        Options
	from, to *store.DB
	src      *side
	dst      *target
	report   *Report
	plans    []*plan
	progress Progress
}

func (r *run) do(ctx context.Context) error {
	src, end, err := snapshot(ctx, r.from)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer end()
	r.src = src
	if r.o.Began != nil {
		if err := r.o.Began(); err != nil {
			return err
		}
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	prepare := r.to.Prepare
	if r.report.Resumed {
		prepare = r.to.PrepareOwn
	}
	if err := prepare(ctx); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	dst, close, err := openTarget(ctx, r.to)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer close()
	r.dst = dst
	if err := r.begin(ctx); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	if n := r.refused(); n > 0 && !r.o.SkipRefused {
		return fmt.Errorf("%w: %d in all; nothing else is missing", ErrRefused, n)
	}
	if err := r.complete(ctx); err != nil {
		return err
	}
	if r.o.Verify {
		if err := r.verify(ctx); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}
