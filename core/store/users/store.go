package users

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/store"
)

// Store reads and writes accounts. Its methods may be called at once.
type Store struct {
	db *store.DB

	mu        sync.RWMutex
	listeners []func(userID string)

	touch toucher
}

// New makes the store of a database.
func New(db *store.DB) *Store {
	s := &Store{db: db}
	s.touch.interval = time.Minute
	s.touch.write = s.writeActive
	return s
}

// DB is the database below, for transactions that span aggregates.
func (s *Store) DB() *store.DB { return s.db }

// OnChange has f called after an account, its credentials or its API key changed or went: with its id, or "" for all
// accounts. Last activity is no change. f is called on the writer's goroutine and must be quick.
func (s *Store) OnChange(f func(userID string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners[:len(s.listeners):len(s.listeners)], f)
}

// Changed tells the listeners of OnChange about an account; for packages that write to its tables themselves, and for
// news from other replicas.
func (s *Store) Changed(userID string) {
	s.mu.RLock()
	listeners := s.listeners
	s.mu.RUnlock()
	for _, f := range listeners {
		f(userID)
	}
}

// ByID finds an account; ErrNotFound where there is none.
func (s *Store) ByID(ctx context.Context, id string) (*User, error) {
	return byID(ctx, s.db, id)
}

func byID(ctx context.Context, q store.Querier, id string) (*User, error) {
	return scan(q.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE id = $1`, id))
}

// ByEmail finds an account by its address in any case of letters; ErrNotFound where there is none.
func (s *Store) ByEmail(ctx context.Context, email string) (*User, error) {
	return scan(s.db.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE lower(email) = $1 AND email IS NOT NULL`, strings.ToLower(email)))
}

// ByAPIKey finds the owner of an API key; ErrNotFound where there is none.
func (s *Store) ByAPIKey(ctx context.Context, key string) (*User, error) {
	return scan(s.db.QueryRow(ctx, `SELECT `+qualified+` FROM "user" u JOIN api_key k ON k.user_id = u.id WHERE k.key = $1`, key))
}

// ByIDs finds accounts, by id; those that are not there are missing.
func (s *Store) ByIDs(ctx context.Context, ids []string) (map[string]*User, error) {
	out := make(map[string]*User, len(ids))
	err := chunked(ids, func(part []string) error {
		in, args := store.In(nil, part)
		rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM "user" WHERE id IN `+in, args...)
		found, err := store.Collect(rows, err, scanRows)
		for _, u := range found {
			out[u.ID] = u
		}
		return err
	})
	return out, err
}

// Names finds the names of accounts, by id.
func (s *Store) Names(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	err := chunked(ids, func(part []string) error {
		in, args := store.In(nil, part)
		rows, err := s.db.Query(ctx, `SELECT id, COALESCE(name, '') FROM "user" WHERE id IN `+in, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, name string
			if err := rows.Scan(&id, &name); err != nil {
				return err
			}
			out[id] = name
		}
		return rows.Err()
	})
	return out, err
}

// Existing gives those of the ids that are accounts, in their order.
func (s *Store) Existing(ctx context.Context, ids []string) ([]string, error) {
	names, err := s.Names(ctx, ids)
	out := []string{}
	for _, id := range ids {
		if _, ok := names[id]; ok {
			delete(names, id)
			out = append(out, id)
		}
	}
	return out, err
}

// chunked calls f with parts of a list that fit into one statement.
func chunked(ids []string, f func([]string) error) error {
	const most = 500
	for len(ids) > 0 {
		n := min(most, len(ids))
		if err := f(ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// First finds the earliest account, the primary administrator: of those made in the same second an admin comes first.
func (s *Store) First(ctx context.Context) (*User, error) {
	return scan(s.db.QueryRow(ctx, `SELECT `+columns+` FROM "user"
		ORDER BY created_at IS NULL, created_at, CASE WHEN role = 'admin' THEN 0 ELSE 1 END, `+s.db.Dialect().Pick("rowid", "id")+` LIMIT 1`))
}

// SuperAdmin finds an administrator, the earliest.
func (s *Store) SuperAdmin(ctx context.Context) (*User, error) {
	return scan(s.db.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE role = 'admin' ORDER BY created_at IS NULL, created_at, `+s.db.Dialect().Pick("rowid", "id")+` LIMIT 1`))
}

// Any says whether there are accounts.
func (s *Store) Any(ctx context.Context) (bool, error) {
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1 FROM "user" LIMIT 1`).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Count is the number of accounts.
func (s *Store) Count(ctx context.Context) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT COUNT(*) FROM "user"`).Scan(&n)
	return
}

// CountActive is the number of accounts that were active in the last three minutes.
func (s *Store) CountActive(ctx context.Context) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT COUNT(*) FROM "user" WHERE last_active_at >= $1`, time.Now().Unix()-activeSeconds).Scan(&n)
	return
}

// IsActive says whether an account was active in the last three minutes; false where there is none.
func (s *Store) IsActive(ctx context.Context, id string) (bool, error) {
	var at int64
	err := s.db.QueryRow(ctx, `SELECT COALESCE(last_active_at, 0) FROM "user" WHERE id = $1`, id).Scan(&at)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("last activity: %w", err)
	}
	return (&User{LastActiveAt: at}).Active(), nil
}
