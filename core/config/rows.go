package config

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/store"
)

// stamp is what a poll compares: it differs when a row was added, deleted or written at another second.
type stamp struct{ count, latest, sum int64 }

// settle is for how long after the newest row's time a poll reads everything although the stamp is the same: times are
// whole seconds, so that a second write within one does not show, and the clocks of replicas differ a little.
const settle = 5 * time.Second

// querier is a DB or a transaction.
type querier interface {
	Query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// readRows reads the whole table.
func readRows(ctx context.Context, q querier) (map[string]jsontext.Value, stamp, error) {
	var st stamp
	values := make(map[string]jsontext.Value, len(definitions))
	rows, err := q.Query(ctx, "SELECT key, value, updated_at FROM config")
	if err != nil {
		return nil, st, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var value any
		var updated sql.NullInt64
		if err := rows.Scan(&key, &value, &updated); err != nil {
			return nil, st, err
		}
		// a row that is no JSON stays as it is and counts as missing
		if raw, err := column(value); err == nil {
			values[key] = raw
		}
		st.count++
		st.latest = max(st.latest, updated.Int64)
		st.sum += updated.Int64
	}
	return values, st, rows.Err()
}

// column reads a JSON column. SQLite gives one declared JSON numeric affinity: what looks like a number is one there.
func column(v any) (jsontext.Value, error) {
	var raw jsontext.Value
	switch v := v.(type) {
	case []byte:
		raw = slices.Clone(v)
	case string:
		raw = jsontext.Value(v)
	case int64:
		raw = strconv.AppendInt(nil, v, 10)
	case float64:
		raw = jsontext.AppendFloat(nil, v, 64)
	case nil:
		raw = jsontext.Value("null")
	default:
		return nil, fmt.Errorf("a %T is not JSON", v)
	}
	return raw, raw.Compact(lenient)
}

// upsert writes rows in one statement. Where overwrite is false, rows that exist stay.
func upsert(ctx context.Context, tx *store.Tx, values map[string]jsontext.Value, now int64, overwrite bool) error {
	if len(values) == 0 {
		return nil
	}
	var b strings.Builder
	args := make([]any, 0, 2*len(values)+1)
	args = append(args, now)
	b.WriteString("INSERT INTO config (key, value, updated_at) VALUES ")
	// In order, so that two transactions lock common rows in the same one.
	for i, key := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "($%d,$%d,$1)", 2*i+2, 2*i+3)
		args = append(args, key, string(values[key]))
	}
	if overwrite {
		b.WriteString(" ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at")
	} else {
		b.WriteString(" ON CONFLICT (key) DO NOTHING")
	}
	_, err := tx.Exec(ctx, b.String(), args...)
	return err
}

// prepare brings the rows to what the reference's start leaves behind.
func (s *Settings) prepare(ctx context.Context) error {
	rows, _, err := readRows(ctx, s.db)
	if err != nil {
		return err
	}
	if s.plan(rows).empty() {
		return nil
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		rows, _, err := readRows(ctx, tx)
		if err != nil {
			return err
		}
		p := s.plan(rows)
		if len(p.gone) > 0 {
			list, args := store.In(nil, p.gone)
			if _, err := tx.Exec(ctx, "DELETE FROM config WHERE key IN "+list, args...); err != nil {
				return err
			}
		}
		now := s.now().Unix()
		if err := upsert(ctx, tx, p.put, now, true); err != nil {
			return err
		}
		return upsert(ctx, tx, p.seed, now, false)
	})
}
