package plugins

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/galleychat/galley/core/store"
)

// Limits of one entry, in bytes.
const (
	MaxKey   = 512
	MaxValue = 1 << 20
)

// minCharge is the least that a value counts for: what a row costs beside it, and so much that a counter has the same
// size whatever it says, which spares [KV.Add] the totals.
const minCharge = 32

// Errors of a [KV], besides store.ErrNotFound.
var (
	ErrConflict   = store.ErrConflict // the entry is not of the version that was expected
	ErrQuota      = errors.New("the plugin's storage quota is used up")
	ErrTooLarge   = errors.New("the key is longer than 512 bytes or the value than 1 MiB")
	ErrKey        = errors.New("a key is UTF-8 text that is not empty and has no NUL")
	ErrNotCounter = errors.New("the value is not a decimal integer of 64 bits")
	ErrOverflow   = errors.New("the sum is beyond 64 bits")
)

// Quota is what each plugin may store; 0 is no limit.
type Quota struct {
	Bytes int64 // of keys and values together, where a value counts for 32 at least
	Keys  int64
}

// Entry is a stored value.
type Entry struct {
	Key     string
	Value   []byte
	Version int64     // of the value; never that of an earlier one under the key, also if it was deleted in between
	Expires time.Time // zero: never
}

// KV is the key-value store of plugins. A ttl is how long an entry is there (0 or less: until it is deleted); one that has
// expired counts as absent at once, and [KV.Sweep] removes it. Writes of one plugin take turns, those of several do not,
// and neither do Adds to counters that exist. It is safe for concurrent use, also by several processes.
type KV struct {
	db    *store.DB
	quota Quota
	sql   statements
	now   func() time.Time
}

// NewKV makes the key-value store, with a quota that each plugin has for itself.
func NewKV(db *store.DB, q Quota) *KV {
	return &KV{db: db, quota: q, sql: statementsOf(db.Dialect()), now: time.Now}
}

func checkKey(key string) error {
	switch {
	case len(key) > MaxKey:
		return ErrTooLarge
	case key == "" || strings.IndexByte(key, 0) >= 0 || !utf8.ValidString(key):
		return ErrKey
	}
	return nil
}

// expiry is the column's value for a ttl from now on, at least a millisecond; nil for never.
func expiry(now time.Time, ttl time.Duration) *int64 {
	if ttl <= 0 {
		return nil
	}
	at := now.Add(min(ttl, math.MaxInt64-time.Millisecond) + time.Millisecond - 1).UnixMilli()
	return &at
}

func timeOf(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms)
}

// Get reads an entry; store.ErrNotFound where there is none.
func (k *KV) Get(ctx context.Context, plugin, key string) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	e := Entry{Key: key}
	var expires *int64
	err := k.db.QueryRow(ctx, "SELECT value, version, expires_at FROM galley_plugin_kv WHERE plugin = $1 AND key = $2 "+live("$3"),
		plugin, key, k.now().UnixMilli()).Scan(&e.Value, &e.Version, &expires)
	e.Expires = timeOf(expires)
	return e, err
}

// live is true of rows that have not expired at a time in milliseconds.
func live(now string) string { return "AND (expires_at IS NULL OR expires_at > " + now + ")" }

// Put stores a value whatever is there, and gives its version.
func (k *KV) Put(ctx context.Context, plugin, key string, value []byte, ttl time.Duration) (version int64, err error) {
	return k.set(ctx, plugin, key, value, ttl, func(*found) error { return nil })
}

// CompareAndSet stores a value if the entry has the version expected, 0 meaning that it must not exist, and gives the new
// version; else ErrConflict.
func (k *KV) CompareAndSet(ctx context.Context, plugin, key string, value []byte, expected int64, ttl time.Duration) (version int64, err error) {
	return k.set(ctx, plugin, key, value, ttl, func(old *found) error {
		have := int64(0)
		if old.live {
			have = old.version
		}
		if have != expected {
			return ErrConflict
		}
		return nil
	})
}

// set stores a value if allow, which is told what is there, lets it.
func (k *KV) set(ctx context.Context, plugin, key string, value []byte, ttl time.Duration, allow func(*found) error) (version int64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if len(value) > MaxValue {
		return 0, ErrTooLarge
	}
	err = k.write(ctx, plugin, func(w *writer) error {
		old, err := w.find(key)
		if err != nil {
			return err
		}
		if err := allow(old); err != nil {
			return err
		}
		version, err = w.put(key, value, expiry(w.now, ttl), old)
		return err
	})
	return version, err
}

// Add adds to a counter, a value in decimal digits, and gives the sum and when the counter expires (zero: never). One that
// does not exist begins at 0 with the ttl; the ttl of one that exists stays. ErrNotCounter and ErrOverflow leave the value
// as it is.
func (k *KV) Add(ctx context.Context, plugin, key string, delta int64, ttl time.Duration) (sum int64, expires time.Time, err error) {
	if err := checkKey(key); err != nil {
		return 0, time.Time{}, err
	}
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if delta < 0 {
		low -= delta
	} else {
		high -= delta
	}
	var value []byte
	var at *int64
	args := []any{plugin, key, delta, low, high}
	// Nearly always the counter exists and one statement is all; it touches no row but the counter's.
	err = k.db.Returning(ctx, k.sql.add, append(args, k.now().UnixMilli()), []any{&value, &at})
	if errors.Is(err, store.ErrNotFound) {
		err = k.write(ctx, plugin, func(w *writer) error {
			err := w.tx.QueryRow(ctx, k.sql.add, append(args, w.now.UnixMilli())...).Scan(&value, &at)
			if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			old, err := w.find(key)
			if err != nil {
				return err
			}
			if old.live {
				return w.notAdded(key)
			}
			value, at = strconv.AppendInt(nil, delta, 10), expiry(w.now, ttl)
			_, err = w.put(key, value, at, old)
			return err
		})
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	sum, err = strconv.ParseInt(string(value), 10, 64)
	return sum, timeOf(at), err
}

// Delete removes an entry; store.ErrNotFound where there is none.
func (k *KV) Delete(ctx context.Context, plugin, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return k.write(ctx, plugin, func(w *writer) error {
		old, err := w.find(key)
		if err != nil {
			return err
		}
		if !old.live {
			return store.ErrNotFound
		}
		if _, err := w.tx.Exec(ctx, "DELETE FROM galley_plugin_kv WHERE plugin = $1 AND key = $2", plugin, key); err != nil {
			return err
		}
		return w.account(-old.charge, -1)
	})
}

// Clear removes all entries of a plugin.
func (k *KV) Clear(ctx context.Context, plugin string) error {
	return k.write(ctx, plugin, func(w *writer) error {
		if _, err := w.tx.Exec(ctx, "DELETE FROM galley_plugin_kv WHERE plugin = $1", plugin); err != nil {
			return err
		}
		return w.account(-w.bytes, -w.keys)
	})
}

// entryCharge is what an entry of a page counts for beside its key and its value: how it travels costs something too.
const entryCharge = 64

// List gives a page of a plugin's entries: those whose keys have a prefix and come after a key ("" for the first page), by
// code point, at most limit and at most bytes of keys and values together, but one if there is any. more says that others
// follow.
func (k *KV) List(ctx context.Context, plugin, prefix, after string, limit int, bytes int64) (page []Entry, more bool, err error) {
	for _, text := range []string{prefix, after} {
		if text != "" {
			if err := checkKey(text); err != nil {
				return nil, false, err
			}
		}
	}
	if limit <= 0 {
		return []Entry{}, false, nil
	}
	args := []any{plugin, prefix, after, k.now().UnixMilli(), limit + 1, bytes, entryCharge}
	until := ""
	if end := next(prefix); end != "" {
		until = " AND key < $8"
		args = append(args, end)
	}
	// The lengths are added up first, which reads no values.
	total := 0
	rows, err := k.db.Query(ctx, "SELECT s.n, k.key, k.value, k.version, k.expires_at FROM "+
		"(SELECT key, size, SUM(size) OVER (ORDER BY key) AS sum, COUNT(*) OVER () AS n FROM "+
		"(SELECT key, "+k.sql.size+" + $7 AS size FROM galley_plugin_kv WHERE plugin = $1 AND key >= $2 AND key > $3 "+live("$4")+until+
		" ORDER BY key LIMIT $5) f) s JOIN galley_plugin_kv k ON k.plugin = $1 AND k.key = s.key "+
		"WHERE s.sum <= $6 OR s.sum = s.size ORDER BY s.key", args...)
	page, err = store.Collect(rows, err, func(r *sql.Rows) (e Entry, err error) {
		var expires *int64
		err = r.Scan(&total, &e.Key, &e.Value, &e.Version, &expires)
		e.Expires = timeOf(expires)
		return e, err
	})
	if err != nil {
		return nil, false, err
	}
	more = len(page) < total
	if len(page) > limit {
		page, more = page[:limit], true
	}
	return page, more, nil
}

// next is the first text after all that begin with a prefix; "" if there is none.
func next(prefix string) string {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		if r := runes[i]; r < utf8.MaxRune {
			if r++; r == 0xD800 { // surrogates are no text
				r = 0xE000
			}
			return string(append(runes[:i], r))
		}
	}
	return ""
}

// Usage is what a plugin's entries count for against the quota: bytes, and how many keys.
func (k *KV) Usage(ctx context.Context, plugin string) (bytes, keys int64, err error) {
	err = k.db.QueryRow(ctx, "SELECT u.bytes - e.bytes, u.keys - e.keys FROM galley_plugin_usage u, (SELECT COALESCE(SUM("+k.sql.charge+
		"), 0) AS bytes, COUNT(*) AS keys FROM galley_plugin_kv WHERE plugin = $1 AND expires_at <= $2) e WHERE u.plugin = $1",
		plugin, k.now().UnixMilli()).Scan(&bytes, &keys)
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	}
	return bytes, keys, err
}
