package chats

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/galleychat/galley/core/store"
)

// quiet tells whether a SQLite database has changed since a moment, whoever changed it: another process, the reference,
// or this one. PRAGMA data_version is a number of a connection that moves when anybody else commits; the read
// connections never write, so for them it moves with every commit. Two equal readings on one connection show that nothing
// was committed between them, and overlapping spans from several connections add up.
type quiet struct {
	pool  *sql.DB
	clock atomic.Uint64 // logical time: each moment that matters gets the next number

	mu    sync.Mutex
	seen  map[any]reading // by driver connection
	since uint64          // nothing was committed from here …
	until uint64          // … to here
}

type reading struct {
	version int64
	since   uint64 // a moment after it was first read
}

// newQuiet gives nil for databases that cannot tell.
func newQuiet(db *store.DB) *quiet {
	if db.Dialect() != store.SQLite {
		return nil
	}
	return &quiet{pool: db.Pools()["read"], seen: map[any]reading{}}
}

// check gives the moment since which nothing was committed, up to when check was called; ok is false where that is not
// known.
func (q *quiet) check(ctx context.Context) (since uint64, ok bool) {
	conn, err := q.pool.Conn(ctx)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	var key any
	var version int64
	before := q.clock.Add(1)
	err = conn.Raw(func(c any) error {
		key = c
		version, err = dataVersion(ctx, c)
		return err
	})
	if err != nil {
		return 0, false
	}
	after := q.clock.Add(1)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.seen) > 64 { // connections that the pool has closed long ago
		clear(q.seen)
	}
	last, known := q.seen[key]
	if !known || last.version != version {
		q.seen[key] = reading{version, after}
		return 0, false
	}
	if last.since > q.until {
		q.since = last.since
	} else {
		q.since = min(q.since, last.since)
	}
	q.until = max(q.until, before)
	return q.since, true
}

var errNoVersion = errors.New("chats: the database does not tell its version")

func dataVersion(ctx context.Context, conn any) (int64, error) {
	c, ok := conn.(driver.QueryerContext)
	if !ok {
		return 0, errNoVersion
	}
	rows, err := c.QueryContext(ctx, "PRAGMA data_version", nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var row [1]driver.Value
	if err := rows.Next(row[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errNoVersion
		}
		return 0, err
	}
	v, ok := row[0].(int64)
	if !ok {
		return 0, errNoVersion
	}
	return v, nil
}

// memo keeps results of reading as long as nothing is written to the database. On a busy server it hardly ever helps
// and costs one small statement; what it guards is fast without it.
type memo struct {
	quiet *quiet // nil keeps nothing
	limit int

	mu    sync.Mutex
	kept  map[string]kept
	bytes int
}

type kept struct {
	value any
	size  int
	at    uint64 // a moment before it was read
}

const memoBytes = 4 << 20

func newMemo(db *store.DB, limit int) *memo {
	return &memo{quiet: newQuiet(db), limit: limit, kept: map[string]kept{}}
}

// recall gives the kept value of a key, or that of read, which tells its size in bytes. Values are shared: nobody may
// change them.
func recall[T any](ctx context.Context, m *memo, key string, read func() (T, int, error)) (T, error) {
	if m.quiet == nil {
		v, _, err := read()
		return v, err
	}
	since, ok := m.quiet.check(ctx)
	m.mu.Lock()
	k, found := m.kept[key]
	m.mu.Unlock()
	if ok && found && k.at >= since {
		return k.value.(T), nil
	}
	at := m.quiet.clock.Add(1)
	v, size, err := read()
	if err == nil && size <= m.limit/4 {
		m.keep(key, kept{v, size + len(key) + 64, at})
	}
	return v, err
}

func (m *memo) keep(key string, k kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += k.size - m.kept[key].size
	m.kept[key] = k
	for other, o := range m.kept {
		if m.bytes <= m.limit {
			break
		}
		if other != key {
			m.bytes -= o.size
			delete(m.kept, other)
		}
	}
}

// Known is a chat that was read a moment ago, with the views of it that were asked for.
type Known struct {
	chat *Chat

	mu    sync.Mutex
	views map[string]*View
}

// Chat is the chat; the struct is the caller's, its document is shared.
func (k *Known) Chat() *Chat {
	c := *k.chat
	return &c
}

// View is [Chat.View].
func (k *Known) View(ctx context.Context, v Viewer) (*View, error) {
	if len(v.Streams) > 0 {
		return k.chat.View(ctx, v)
	}
	key := v.ID + "|" + v.Mode
	k.mu.Lock()
	have := k.views[key]
	k.mu.Unlock()
	if have != nil {
		return have, nil
	}
	made, err := k.chat.View(ctx, v)
	// a view shares the document's bytes unless it had to be rewritten
	if err == nil && len(made.parts) > 1 {
		k.mu.Lock()
		k.views[key] = made
		k.mu.Unlock()
	}
	return made, err
}

// Recall is [Store.Get] for chats that are opened again and again.
func (s *Store) Recall(ctx context.Context, id string) (*Known, error) {
	return recall(ctx, s.memo, "chat|"+id, func() (*Known, int, error) {
		c, err := s.Get(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		return &Known{chat: c, views: map[string]*View{}}, len(c.Doc) + 600, nil
	})
}
