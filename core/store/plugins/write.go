package plugins

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/galleychat/galley/core/store"
)

// statements are those that the databases do not say alike.
type statements struct {
	charge string // expression: what a row counts for
	size   string // expression: bytes of a row's key and value
	add    string // adds to a counter: plugin, key, delta, least and greatest old value, now in ms
}

func statementsOf(d store.Dialect) statements {
	if d == store.Postgres {
		// encode leaves digits alone and, unlike a cast, takes any bytes; CASE has the digits looked at first. numeric
		// holds 19 digits that are beyond bigint.
		return statements{
			charge: "(octet_length(key) + greatest(octet_length(value), 32))",
			size:   "octet_length(key) + octet_length(value)",
			add: "UPDATE galley_plugin_kv SET value = convert_to((encode(value, 'escape')::numeric + $3::bigint)::text, 'UTF8'), version = version + 1 " +
				"WHERE plugin = $1 AND key = $2 AND CASE WHEN octet_length(value) <= 20 AND encode(value, 'escape') ~ '" + decimal + "' " +
				"THEN encode(value, 'escape')::numeric BETWEEN $4::bigint AND $5::bigint ELSE FALSE END " + live("$6") + " RETURNING value, expires_at",
		}
	}
	const number = "CAST(CAST(value AS TEXT) AS INTEGER)"
	return statements{
		charge: "(length(CAST(key AS BLOB)) + max(length(value), 32))",
		size:   "length(CAST(key AS BLOB)) + length(value)",
		add: "UPDATE galley_plugin_kv SET value = CAST(CAST(" + number + " + $3 AS TEXT) AS BLOB), version = version + 1 " +
			"WHERE plugin = $1 AND key = $2 AND length(value) <= 20 AND value = CAST(CAST(" + number + " AS TEXT) AS BLOB) AND " + number + " BETWEEN $4 AND $5 " +
			live("$6") + " RETURNING value, expires_at",
	}
}

// decimal is how a counter is written.
const decimal = "^(0|-?[1-9][0-9]{0,18})$"

// writer is a transaction on one plugin's entries, which has the plugin's row of totals locked.
type writer struct {
	ctx         context.Context
	kv          *KV
	tx          *store.Tx
	plugin      string
	now         time.Time
	bytes, keys int64 // the totals
}

// write runs f. Where the quota is used up, what has expired is removed and f tried once more.
func (k *KV) write(ctx context.Context, plugin string, f func(*writer) error) error {
	try := func() error {
		return k.db.Tx(ctx, func(tx *store.Tx) error {
			w := &writer{ctx: ctx, kv: k, tx: tx, plugin: plugin, now: k.now()}
			if err := w.lock(); err != nil {
				return err
			}
			return f(w)
		})
	}
	err := try()
	if errors.Is(err, ErrQuota) {
		if n, swept := k.sweep(ctx, plugin); swept != nil || n == 0 {
			return errors.Join(err, swept)
		}
		err = try()
	}
	return err
}

// lock reads the totals and keeps other writers of the plugin out until the end of the transaction.
func (w *writer) lock() error {
	read := func() error {
		return w.tx.QueryRow(w.ctx, "SELECT bytes, keys FROM galley_plugin_usage WHERE plugin = $1"+w.tx.Dialect().ForUpdate(), w.plugin).Scan(&w.bytes, &w.keys)
	}
	err := read()
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := w.tx.Exec(w.ctx, "INSERT INTO galley_plugin_usage (plugin, bytes, keys) VALUES ($1, 0, 0) ON CONFLICT (plugin) DO NOTHING", w.plugin); err != nil {
		return err
	}
	return read()
}

// found is what is stored under a key.
type found struct {
	there, live     bool // live: there and not expired
	version, charge int64
}

// find locks the row too, because Add takes no other lock.
func (w *writer) find(key string) (*found, error) {
	var f found
	var expires *int64
	err := w.tx.QueryRow(w.ctx, "SELECT version, expires_at, "+w.kv.sql.charge+" FROM galley_plugin_kv WHERE plugin = $1 AND key = $2"+w.tx.Dialect().ForUpdate(),
		w.plugin, key).Scan(&f.version, &expires, &f.charge)
	if errors.Is(err, store.ErrNotFound) {
		return &f, nil
	}
	f.there, f.live = true, expires == nil || *expires > w.now.UnixMilli()
	return &f, err
}

// put stores a value in place of what was found, and gives its version.
func (w *writer) put(key string, value []byte, expires *int64, old *found) (version int64, err error) {
	keys, charge := int64(1), int64(len(key)+max(len(value), minCharge))
	if old.there {
		keys, charge = 0, charge-old.charge
	}
	q := w.kv.quota
	if keys > 0 && q.Keys > 0 && w.keys+keys > q.Keys || charge > 0 && q.Bytes > 0 && w.bytes+charge > q.Bytes {
		return 0, ErrQuota
	}
	// Versions begin at the time, in microseconds, so that none is given twice when a key is deleted and made again.
	version = max(w.now.UnixMicro(), old.version+1)
	if value == nil {
		value = []byte{}
	}
	_, err = w.tx.Exec(w.ctx, "INSERT INTO galley_plugin_kv (plugin, key, value, version, expires_at) VALUES ($1, $2, $3, $4, $5) "+
		"ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
		w.plugin, key, value, version, expires)
	if err != nil {
		return 0, err
	}
	return version, w.account(charge, keys)
}

// account changes the totals.
func (w *writer) account(bytes, keys int64) error {
	if bytes == 0 && keys == 0 {
		return nil
	}
	_, err := w.tx.Exec(w.ctx, "UPDATE galley_plugin_usage SET bytes = bytes + $1, keys = keys + $2 WHERE plugin = $3", bytes, keys, w.plugin)
	return err
}

// notAdded says why a value that is there could not be added to.
func (w *writer) notAdded(key string) error {
	var value []byte
	if err := w.tx.QueryRow(w.ctx, "SELECT value FROM galley_plugin_kv WHERE plugin = $1 AND key = $2", w.plugin, key).Scan(&value); err != nil {
		return err
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && strconv.FormatInt(n, 10) == string(value) {
		return ErrOverflow
	}
	return ErrNotCounter
}

// sweepBatch is how many expired entries one transaction removes.
const sweepBatch = 500

// Sweep removes all expired entries, in batches, and gives their number.
func (k *KV) Sweep(ctx context.Context) (removed int64, err error) {
	plugins, err := store.Strings(k.db.Query(ctx, "SELECT DISTINCT plugin FROM galley_plugin_kv WHERE expires_at <= $1", k.now().UnixMilli()))
	for _, plugin := range plugins {
		n, err := k.sweep(ctx, plugin)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, err
}

func (k *KV) sweep(ctx context.Context, plugin string) (removed int64, err error) {
	for {
		var n int64
		err := k.write(ctx, plugin, func(w *writer) (err error) {
			n, err = w.sweep()
			return err
		})
		removed += n
		if err != nil || n < sweepBatch {
			return removed, err
		}
	}
}

// sweep removes a batch of expired entries.
func (w *writer) sweep() (int64, error) {
	rows, err := w.tx.Query(w.ctx, "DELETE FROM galley_plugin_kv WHERE plugin = $1 AND expires_at <= $2 AND key IN "+
		"(SELECT key FROM galley_plugin_kv WHERE plugin = $1 AND expires_at <= $2 LIMIT $3) RETURNING "+w.kv.sql.charge,
		w.plugin, w.now.UnixMilli(), sweepBatch)
	charges, err := store.Collect(rows, err, func(r *sql.Rows) (n int64, err error) {
		err = r.Scan(&n)
		return n, err
	})
	if err != nil {
		return 0, err
	}
	var bytes int64
	for _, n := range charges {
		bytes += n
	}
	n := int64(len(charges))
	return n, w.account(-bytes, -n)
}
