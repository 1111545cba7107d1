package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/galleychat/galley/core/store"
)

// batch is rows that are written in one transaction.
type batch struct {
	rows [][]any
	sums []Sum
	size int
}

// load copies all tables.
func (r *run) load(ctx context.Context) error {
	r.progress = Progress{}
	for _, p := range r.plans {
		r.progress.AllBytes += p.bytes
	}
	for i, p := range r.plans {
		if err := r.table(ctx, p, &r.report.Tables[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("copy %s: %w", p.name, err)
		}
	}
	return nil
}

func (r *run) table(ctx context.Context, p *plan, t *TableReport) error {
	defer r.dst.forget()
	has, err := r.dst.hasRows(ctx, p.name)
	if err != nil {
		return err
	}
	before := r.progress.Bytes
	r.progress.Phase, r.progress.Table, r.progress.Done, r.progress.Total = "copy", p.name, 0, p.rows
	if has && p.key == nil {
		if err := r.dst.empty(ctx, p); err != nil {
			return err
		}
		has = false
	}
	if has {
		r.progress.Phase = "compare"
		err = r.merge(ctx, p, t)
	} else {
		err = r.bulk(ctx, p, t)
	}
	t.Sum = t.sum.String()
	r.progress.Bytes = before + t.Bytes
	r.progress.AllBytes += t.Bytes - p.bytes // now that it is known
	p.bytes = t.Bytes
	r.progress.Done, r.progress.TableEnded = p.rows, err == nil
	r.tell(r.progress)
	r.progress.TableEnded = false
	return err
}

func (r *run) tell(p Progress) {
	if r.o.Progress != nil {
		r.o.Progress(p)
	}
}

// rowReader reads the rows of the source as the target takes them.
type rowReader struct {
	r      *run
	p      *plan
	t      *TableReport
	rows   *stream
	hash   *hasher
	values []any // of the row at hand; the next call makes others
	sum    Sum
	size   int
	other  bool // the translation changed the key
}

func (r *run) source(ctx context.Context, p *plan, t *TableReport, ordered bool) (*rowReader, error) {
	rows, err := r.src.stream(ctx, p, ordered)
	return &rowReader{r: r, p: p, t: t, rows: rows, hash: newHasher(p.columns)}, err
}

func (s *rowReader) next() (bool, error) {
	more, err := s.rows.next()
	if err != nil || !more {
		return false, err
	}
	s.values = make([]any, len(s.p.columns))
	changed := s.p.translate(s.r.dst.dialect, s.rows.values, s.values)
	s.sum, s.size = s.hash.row(s.p.columns, s.values)
	s.other = len(changed) > 0 && slices.ContainsFunc(s.p.key, func(i int) bool { return slices.Contains(changed, s.p.columns[i].name) })
	if len(changed) > 0 {
		if s.t.Changed++; s.t.Changed <= maxNotes {
			s.r.report.Changed = append(s.r.report.Changed, RowNote{s.p.name, s.p.keyText(s.rows.values), fmt.Sprint(changed)})
		}
	}
	s.t.Rows++
	s.t.Bytes += int64(s.size)
	s.t.sum.add(s.sum)
	return true, nil
}

// bulk fills an empty table: one goroutine reads, one writes.
func (r *run) bulk(ctx context.Context, p *plan, t *TableReport) error {
	batches := make(chan *batch, 1)
	written := *t // what the writer counts; the reader counts in t
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		s, err := r.source(ctx, p, t, false)
		if err != nil {
			return err
		}
		defer s.rows.close()
		b := &batch{}
		send := func() error {
			select {
			case batches <- b:
				b = &batch{}
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for {
			more, err := s.next()
			if err != nil {
				return err
			}
			if !more {
				return send()
			}
			b.add(s)
			if b.size >= r.o.BatchBytes {
				if err := send(); err != nil {
					return err
				}
			}
		}
	})
	g.Go(func() error {
		for b := range batches {
			if err := r.put(ctx, p, &written, b); err != nil {
				return err
			}
			r.progress.Done += int64(len(b.rows))
			r.progress.Bytes += int64(b.size - len(b.rows)*rowOverhead)
			r.tell(r.progress)
		}
		return nil
	})
	err := g.Wait()
	t.Written, t.Refused = written.Written, written.Refused
	subtract(&t.sum, written.sum)
	return err
}

// rowOverhead is about what a row takes in memory besides its values.
const rowOverhead = 256

func (b *batch) add(s *rowReader) {
	b.rows = append(b.rows, s.values)
	b.sums = append(b.sums, s.sum)
	b.size += s.size + rowOverhead
}

// put writes a batch. Where the database refuses a row, the others are written all the same: the batch is halved until it
// is found. t.sum gathers the sums of refused rows.
func (r *run) put(ctx context.Context, p *plan, t *TableReport, b *batch) error {
	if len(b.rows) == 0 {
		return nil
	}
	err := r.dst.insert(ctx, p, b.rows)
	if err == nil {
		t.Written += int64(len(b.rows))
		return nil
	}
	why := refusal(err)
	if why == "" {
		return err
	}
	if n := len(b.rows); n > 1 {
		for _, half := range []*batch{{rows: b.rows[:n/2], sums: b.sums[:n/2]}, {rows: b.rows[n/2:], sums: b.sums[n/2:]}} {
			if err := r.put(ctx, p, t, half); err != nil {
				return err
			}
		}
		return nil
	}
	t.sum.add(b.sums[0])
	if t.Refused++; t.Refused <= maxNotes {
		r.report.Refused = append(r.report.Refused, RowNote{p.name, p.keyText(b.rows[0]), why})
	} else if t.Refused > maxRefused {
		return fmt.Errorf("%w: more than %d of %s, the last since: %s", ErrRefused, maxRefused, p.name, why)
	}
	return nil
}

func subtract(s *Sum, o Sum) {
	o.hi, o.lo = ^o.hi, ^o.lo // two's complement
	s.add(o)
	s.add(Sum{0, 1})
}

func (r *run) refused() (n int64) {
	for i := range r.report.Tables {
		n += r.report.Tables[i].Refused
	}
	return n
}

// merge brings a table that has rows in step with the source.
func (r *run) merge(ctx context.Context, p *plan, t *TableReport) error {
	for {
		removed := t.Removed
		if err := r.mergeOnce(ctx, p, t); err != nil {
			return err
		}
		if t.Refused == 0 || t.Removed == removed {
			return nil
		}
		// A row may have been refused for one that was removed later: once more, with nothing left to remove.
		changed := r.report.Changed
		*t = TableReport{Name: t.Name, Written: t.Written, Removed: t.Removed}
		ofTable := func(n RowNote) bool { return n.Table == p.name }
		r.report.Changed = slices.DeleteFunc(changed, ofTable)
		r.report.Refused = slices.DeleteFunc(r.report.Refused, ofTable)
	}
}

func (r *run) mergeOnce(ctx context.Context, p *plan, t *TableReport) error {
	written := TableReport{Written: t.Written}
	b := &batch{}
	var gone [][]any
	flush := func() error {
		if len(gone) > 0 {
			if err := r.dst.remove(ctx, p, gone); err != nil {
				return err
			}
			t.Removed += int64(len(gone))
			gone = nil
		}
		err := r.put(ctx, p, &written, b)
		b = &batch{}
		r.tell(r.progress)
		return err
	}
	odd := false // rows whose keys the target cannot hold as they are
	err := r.compare(ctx, p, t, func(s *rowReader, key []any) error {
		if s == nil || key != nil {
			gone = append(gone, key)
		}
		if s != nil {
			if s.other {
				odd = true
			} else {
				b.add(s)
			}
		}
		if b.size >= r.o.BatchBytes || len(gone) >= 1000 {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil && odd {
		err = r.putOdd(ctx, p, &written)
	}
	t.Written, t.Refused = written.Written, written.Refused
	subtract(&t.sum, written.sum)
	return err
}

// putOdd adds the rows whose keys were changed, which have no place in the order of keys.
func (r *run) putOdd(ctx context.Context, p *plan, t *TableReport) error {
	s, err := r.source(ctx, p, &TableReport{Changed: maxNotes}, false)
	if err != nil {
		return err
	}
	defer s.rows.close()
	b := &batch{}
	for {
		more, err := s.next()
		if err != nil {
			return err
		}
		if more && s.other {
			b.add(s)
		}
		if !more || b.size >= r.o.BatchBytes {
			if err := r.put(ctx, p, t, b); err != nil || !more {
				return err
			}
			b = &batch{}
		}
	}
}

// compare goes over both sides in the order of the key and calls visit with what differs: a row of the source without a
// counterpart (key is nil), a key of the target without one (s is nil), or both where the rows differ.
func (r *run) compare(ctx context.Context, p *plan, t *TableReport, visit func(s *rowReader, key []any) error) error {
	have, end, err := r.keys(ctx, p)
	if err != nil {
		return err
	}
	defer end()
	s, err := r.source(ctx, p, t, true)
	if err != nil {
		return err
	}
	defer s.rows.close()
	key, sum, err := have()
	if err != nil {
		return err
	}
	before := r.progress.Bytes
	for {
		more, err := s.next()
		if err != nil {
			return err
		}
		r.progress.Done, r.progress.Bytes = t.Rows, before+t.Bytes
		if t.Rows%1000 == 0 {
			r.tell(r.progress)
		}
		if more && s.other {
			if err := visit(s, nil); err != nil {
				return err
			}
			continue
		}
		var want []any
		if more {
			want = p.keyValues(s.values)
		}
		for key != nil && (!more || compareKeys(key, want) < 0) {
			if err := visit(nil, key); err != nil {
				return err
			}
			if key, sum, err = have(); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		switch same := key != nil && compareKeys(key, want) == 0; {
		case same && sum == s.sum:
			if key, sum, err = have(); err != nil {
				return err
			}
		case same:
			if err := visit(s, key); err != nil {
				return err
			}
			if key, sum, err = have(); err != nil {
				return err
			}
		default:
			if err := visit(s, nil); err != nil {
				return err
			}
		}
	}
}

// pageRows is how many keys of a target that is SQLite are read at a time. Between the pages nothing is read, so that the
// write-ahead log does not grow with what is written.
const pageRows = 2000

// keys reads the target in the order of the key: the key and the hash of each row; nil at the end.
func (r *run) keys(ctx context.Context, p *plan) (func() ([]any, Sum, error), func(), error) {
	hash := newHasher(p.columns)
	if r.dst.dialect == store.Postgres {
		// The connection that writes is busy; what this one reads is the table as it is now.
		s, end, err := snapshot(ctx, r.to)
		if err != nil {
			return nil, nil, err
		}
		s.target = true
		rows, err := s.stream(ctx, p, true)
		if err != nil {
			end()
			return nil, nil, err
		}
		next := func() ([]any, Sum, error) {
			more, err := rows.next()
			if err != nil || !more {
				return nil, Sum{}, err
			}
			sum, _ := hash.row(p.columns, rows.values)
			return p.keyValues(rows.values), sum, nil
		}
		return next, func() { rows.close(); end() }, nil
	}
	type entry struct {
		key []any
		sum Sum
	}
	var page []entry
	var last []any
	ended := false
	next := func() ([]any, Sum, error) {
		if len(page) == 0 && !ended {
			rows, err := r.dst.after(ctx, p, last, pageRows)
			if err != nil {
				return nil, Sum{}, err
			}
			defer rows.close()
			for {
				more, err := rows.next()
				if err != nil {
					return nil, Sum{}, err
				}
				if !more {
					break
				}
				sum, _ := hash.row(p.columns, rows.values)
				last = p.keyValues(rows.values)
				page = append(page, entry{last, sum})
			}
			ended = len(page) < pageRows
		}
		if len(page) == 0 {
			return nil, Sum{}, nil
		}
		e := page[0]
		page = page[1:]
		return e.key, e.sum, nil
	}
	return next, func() {}, nil
}

// verify reads the target once more.
func (r *run) verify(ctx context.Context) error {
	r.progress = Progress{Phase: "verify"}
	for _, p := range r.plans {
		r.progress.AllBytes += p.bytes
	}
	var bad []string
	for i, p := range r.plans {
		t := &r.report.Tables[i]
		r.progress.Table, r.progress.Done, r.progress.Total = p.name, 0, p.rows
		rows, sum, err := r.dst.sum(ctx, p, func(rows, size int64) {
			r.progress.Done = rows
			r.progress.Bytes += size
			r.tell(r.progress)
		})
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("verify %s: %w", p.name, err)
		}
		t.TargetRows, t.TargetSum = rows, sum.String()
		if rows == t.Rows-t.Refused && sum == t.sum {
			continue
		}
		bad = append(bad, p.name)
		if err := r.locate(ctx, p); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w in %v: the same command once more puts right what can be", ErrMismatch, bad)
	}
	r.report.Verified = true
	return nil
}

// errEnough ends a comparison early.
var errEnough = errors.New("enough")

// locate notes rows that differ.
func (r *run) locate(ctx context.Context, p *plan) error {
	if p.key == nil {
		r.report.Differ = append(r.report.Differ, RowNote{p.name, "", "the table has no key by which to tell rows apart"})
		return nil
	}
	notes := 0
	err := r.compare(ctx, p, &TableReport{Changed: maxNotes}, func(s *rowReader, key []any) error {
		note := "differs"
		var text string
		switch {
		case s == nil:
			note = "is not in the source"
			text = fmt.Sprint(key...)
		case key == nil:
			note = "is missing"
		}
		if s != nil {
			text = p.keyText(s.values)
		}
		r.report.Differ = append(r.report.Differ, RowNote{p.name, text, note})
		if notes++; notes == maxNotes {
			return errEnough
		}
		return nil
	})
	if err == errEnough {
		return nil
	}
	return err
}

// sum reads a whole table.
func (s *side) sum(ctx context.Context, p *plan, tell func(rows, bytes int64)) (rows int64, sum Sum, err error) {
	st, err := s.stream(ctx, p, false)
	if err != nil {
		return 0, Sum{}, err
	}
	defer st.close()
	hash := newHasher(p.columns)
	var bytes int64
	for {
		more, err := st.next()
		if err != nil {
			return rows, sum, err
		}
		if more {
			one, size := hash.row(p.columns, st.values)
			sum.add(one)
			rows++
			bytes += int64(size)
		}
		if !more || bytes > 1<<22 {
			tell(rows, bytes)
			bytes = 0
		}
		if !more {
			return rows, sum, nil
		}
	}
}

// TableSum is the checksum of a table: the same for the same rows on either database.
type TableSum struct {
	Name string
	Rows int64
	Sum  string
}

// Sums reads a whole database in one snapshot, and gives the checksum of each table that a copy takes along.
func Sums(ctx context.Context, db *store.DB) ([]TableSum, error) {
	s, end, err := snapshot(ctx, db)
	if err != nil {
		return nil, err
	}
	defer end()
	tables, err := readTables(ctx, s.conn, s.dialect)
	if err != nil {
		return nil, err
	}
	plans, _, err := makePlans(tables, tables, s.dialect, s.dialect)
	if err != nil {
		return nil, err
	}
	var sums []TableSum
	for _, p := range plans {
		rows, sum, err := s.sum(ctx, p, func(int64, int64) {})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p.name, err)
		}
		sums = append(sums, TableSum{p.name, rows, sum.String()})
	}
	return sums, nil
}
