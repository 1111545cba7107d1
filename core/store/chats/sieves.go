package chats

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// sieves keeps the sieves of chats: in memory, bounded, and in the table galley_chat_sieve, where they outlive the process
// and are there for a user with thousands of chats before the first search. A row counts only while it is of the chat as
// it is, see fresh: nobody has to write it together with the chat, and what the reference changes is seen as well.
type sieves struct {
	db *store.DB

	mu      sync.Mutex
	byID    map[string]*sieve
	bytes   int
	unsaved map[string]owned
	saving  bool
}

type owned struct {
	owner string
	*sieve
}

const (
	sievesBytes = 5 << 20
	maxUnsaved  = 2000
)

func newSieves(db *store.DB) *sieves {
	return &sieves{db: db, byID: map[string]*sieve{}, unsaved: map[string]owned{}}
}

// fresh says whether a sieve is of the chat as it is.
func (v *sieve) fresh(c *candidate) bool {
	return v != nil && v.updated == c.UpdatedAt && v.size == c.size && v.loaded > v.updated
}

func (v *sieve) weight() int { return 160 + len(v.set) }

func (k *sieves) put(id string, v *sieve) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putLocked(id, v)
}

func (k *sieves) putLocked(id string, v *sieve) {
	if old := k.byID[id]; old != nil {
		k.bytes -= old.weight()
	}
	k.byID[id] = v
	k.bytes += v.weight()
	for other, o := range k.byID { // at random: a search over more than fits would drive out what it needs next
		if k.bytes <= sievesBytes {
			break
		}
		if other != id {
			k.bytes -= o.weight()
			delete(k.byID, other)
		}
	}
}

// of gives the sieves of candidates, nil where there is none that counts.
func (k *sieves) of(ctx context.Context, list []candidate) ([]*sieve, error) {
	out := make([]*sieve, len(list))
	missing := map[string]int{}
	owners := map[string][]string{}
	k.mu.Lock()
	for i := range list {
		c := &list[i]
		v := k.byID[c.ID]
		if !v.fresh(c) {
			if v = k.unsaved[c.ID].sieve; !v.fresh(c) {
				missing[c.ID] = i
				owners[c.UserID] = append(owners[c.UserID], c.ID)
				continue
			}
		}
		out[i] = v
	}
	k.mu.Unlock()
	for owner, ids := range owners {
		where, args := "", []any{owner}
		if len(ids) <= 64 {
			where, args = store.In(args, padded(ids))
			where = " AND chat_id IN " + where
		}
		if err := k.read(ctx, list, missing, out, where, args); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k *sieves) read(ctx context.Context, list []candidate, missing map[string]int, out []*sieve, where string, args []any) error {
	rows, err := k.db.Query(ctx, "SELECT chat_id, updated_at, version, loaded_at, apart, grams FROM galley_chat_sieve WHERE user_id = $1"+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var id string
	for rows.Next() {
		var v sieve
		var raw sql.RawBytes
		if err := rows.Scan(&id, &v.updated, &v.size, &v.loaded, &v.apart, &raw); err != nil {
			return err
		}
		i, ok := missing[id]
		if !ok || len(raw) < sieveLeast || len(raw) > sieveMost || len(raw)&(len(raw)-1) != 0 || !v.fresh(&list[i]) {
			continue
		}
		v.set = append([]byte(nil), raw...)
		out[i] = &v
		k.put(id, &v)
	}
	return rows.Err()
}

// keep takes a sieve that was made, and has it stored soon.
func (k *sieves) keep(id, owner string, v *sieve) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putLocked(id, v)
	if v.loaded <= v.updated || len(k.unsaved) >= maxUnsaved { // of use for this search only
		return
	}
	k.unsaved[id] = owned{owner, v}
	if !k.saving {
		k.saving = true
		go k.save()
	}
}

// save stores what has gathered, a bit later, so that a search stores its sieves together. A database that takes none (a
// full disk, a server that may only read) costs only that they are made again.
func (k *sieves) save() {
	time.Sleep(saveDelay)
	for {
		k.mu.Lock()
		batch := make(map[string]owned, 64)
		for id, v := range k.unsaved {
			if len(batch) == 64 {
				break
			}
			batch[id] = v
		}
		if len(batch) == 0 {
			k.saving = false
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := k.write(ctx, batch)
		cancel()
		k.mu.Lock()
		for id, v := range batch {
			if err != nil || k.unsaved[id].sieve == v.sieve {
				delete(k.unsaved, id)
			}
		}
		k.mu.Unlock()
	}
}

const saveDelay = 50 * time.Millisecond

// write stores sieves, but for chats that were deleted in the meantime.
func (k *sieves) write(ctx context.Context, batch map[string]owned) error {
	text := "INSERT INTO galley_chat_sieve (user_id, chat_id, updated_at, version, loaded_at, apart, grams) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), " +
		"CAST($5 AS BIGINT), " + k.db.Dialect().Pick("$6, $7", "CAST($6 AS BOOLEAN), CAST($7 AS BYTEA)") + ` WHERE EXISTS (SELECT 1 FROM chat WHERE chat.id = $2 AND chat.user_id = $1)
		ON CONFLICT (user_id, chat_id) DO UPDATE SET updated_at = EXCLUDED.updated_at, version = EXCLUDED.version, loaded_at = EXCLUDED.loaded_at,
		apart = EXCLUDED.apart, grams = EXCLUDED.grams`
	return k.db.Tx(ctx, func(tx *store.Tx) error {
		for id, v := range batch {
			if _, err := tx.Exec(ctx, text, v.owner, id, v.updated, v.size, v.loaded, v.apart, v.set); err != nil {
				return err
			}
		}
		return nil
	})
}

// readTexts reads the texts of some chats, keeps them and their sieves, and gives them in order; nil for a chat that was
// deleted in the meantime.
func (s *Store) readTexts(ctx context.Context, list []candidate) ([]*texts, error) {
	out := make([]*texts, len(list))
	err := s.eachText(ctx, list, s.sieves.lack(list), func(i int, t *texts, v *sieve) {
		out[i] = t
		s.texts.put(list[i].ID, t)
		if v != nil {
			s.sieves.keep(list[i].ID, list[i].UserID, v)
		}
	})
	return out, err
}

// lack gives the ids of those candidates that have no sieve in memory that counts.
func (k *sieves) lack(list []candidate) (out []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range list {
		if !k.byID[list[i].ID].fresh(&list[i]) {
			out = append(out, list[i].ID)
		}
	}
	return out
}

// makeSieves has the sieves of some chats stored, without keeping anything in memory.
func (s *Store) makeSieves(ctx context.Context, list []candidate) error {
	batch := make(map[string]owned, len(list))
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	err := s.eachText(ctx, list, ids, func(i int, _ *texts, v *sieve) { batch[list[i].ID] = owned{list[i].UserID, v} })
	if err != nil || len(batch) == 0 {
		return err
	}
	return s.sieves.write(ctx, batch)
}

// eachText reads the texts of some chats one after another, and makes the sieves of those with certain ids.
func (s *Store) eachText(ctx context.Context, list []candidate, sieved []string, f func(i int, t *texts, v *sieve)) error {
	at := make(map[string]int, len(list))
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
		at[list[i].ID] = i
	}
	d := s.db.Dialect()
	in, args := store.In(nil, padded(ids))
	loaded := time.Now().Unix()
	var more map[string][]string
	if d == store.Postgres && len(sieved) > 0 {
		// there a search looks at the rows of messages too
		var err error
		if more, err = s.rowTexts(ctx, sieved); err != nil {
			return err
		}
	}
	rows, err := s.db.Query(ctx, "SELECT id, COALESCE(updated_at, 0), "+sizeOf(d)+", chat FROM chat WHERE id IN "+in, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var updated, size int64
		var doc jsondoc.Doc
		if err := rows.Scan(&id, &updated, &size, &doc); err != nil {
			return err
		}
		t := textsIn(doc)
		t.updated, t.size, t.loaded = updated, size, loaded
		t.nul = bytes.Contains(doc, []byte(`\u0000`))
		var v *sieve
		if slices.Contains(sieved, id) {
			v = newSieve(append(more[id], t.all)...)
			v.updated, v.size, v.loaded, v.apart = updated, size, loaded, t.lack(more[id])
		}
		f(at[id], t, v)
	}
	return rows.Err()
}

// preparedFrom is how many chats a user has before a search is worth being prepared: those of others are read quickly.
const preparedFrom = 100

// prepareLock is the advisory lock of the replica that prepares searches on Postgres.
const prepareLock = 7217056

// PrepareSearch makes the sieves that the chats of users with many of them lack, those with the most first, and forgets
// those of chats that are gone. It takes a third of a processor at most.
func (s *Store) PrepareSearch(ctx context.Context, log *slog.Logger) error {
	return s.db.Alone(ctx, prepareLock, func(ctx context.Context) error {
		begin, made := time.Now(), 0
		owners, err := store.Strings(s.db.Query(ctx, "SELECT user_id FROM chat WHERE user_id IS NOT NULL GROUP BY user_id HAVING COUNT(*) >= $1 ORDER BY COUNT(*) DESC", preparedFrom))
		if err != nil {
			return err
		}
		for _, owner := range owners {
			n, err := s.prepare(ctx, owner)
			if made += n; err != nil {
				return err
			}
		}
		if made > 0 {
			log.Info("search prepared", "chats", made, "users", len(owners), "took", time.Since(begin).Round(time.Millisecond))
		}
		return s.sieves.sweep(ctx)
	})
}

// prepare makes the sieves that a user's chats lack.
func (s *Store) prepare(ctx context.Context, owner string) (made int, err error) {
	known, err := s.sieves.known(ctx, owner)
	if err != nil {
		return 0, err
	}
	const chunk = 512
	for skip := 0; ; skip += chunk {
		list, err := s.candidates(ctx, "chat.user_id = $1", fmt.Sprintf("chat.updated_at DESC, chat.id LIMIT %d OFFSET %d", chunk, skip), []any{owner})
		if err != nil {
			return made, err
		}
		var part []candidate
		for i := range list {
			if !known[list[i].ID].fresh(&list[i]) {
				part = append(part, list[i])
			}
			if len(part) == 16 || len(part) > 0 && i == len(list)-1 {
				begin := time.Now()
				if err := s.makeSieves(ctx, part); err != nil {
					return made, err
				}
				made += len(part)
				part = part[:0]
				select {
				case <-ctx.Done():
					return made, ctx.Err()
				case <-time.After(2 * time.Since(begin)):
				}
			}
		}
		if len(list) < chunk {
			return made, nil
		}
	}
}

// known says of which versions of a user's chats there are sieves; their sets are not read.
func (k *sieves) known(ctx context.Context, owner string) (map[string]*sieve, error) {
	out := map[string]*sieve{}
	rows, err := k.db.Query(ctx, "SELECT chat_id, updated_at, version, loaded_at FROM galley_chat_sieve WHERE user_id = $1", owner)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var v sieve
		if err := rows.Scan(&id, &v.updated, &v.size, &v.loaded); err != nil {
			return nil, err
		}
		out[id] = &v
	}
	return out, rows.Err()
}

// sweep forgets the sieves of chats that the reference has deleted; this server forgets them with the chat.
func (k *sieves) sweep(ctx context.Context) error {
	type key struct{ owner, chat string }
	rows, err := k.db.Query(ctx, "SELECT user_id, chat_id FROM galley_chat_sieve v WHERE NOT EXISTS (SELECT 1 FROM chat WHERE chat.id = v.chat_id AND chat.user_id = v.user_id)")
	gone, err := store.Collect(rows, err, func(r *sql.Rows) (g key, err error) {
		err = r.Scan(&g.owner, &g.chat)
		return g, err
	})
	for part := range slices.Chunk(gone, 64) {
		if err != nil {
			break
		}
		err = k.db.Tx(ctx, func(tx *store.Tx) error {
			for _, g := range part {
				if _, err := tx.Exec(ctx, "DELETE FROM galley_chat_sieve WHERE user_id = $1 AND chat_id = $2", g.owner, g.chat); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// rowTexts are the texts of the rows of messages, by chat.
func (s *Store) rowTexts(ctx context.Context, ids []string) (map[string][]string, error) {
	out := map[string][]string{}
	in, args := store.In(nil, padded(ids))
	rows, err := s.db.Query(ctx, "SELECT chat_id, content #>> '{}' FROM chat_message WHERE chat_id IN "+in+" AND json_typeof(content) = 'string' AND "+s.db.Dialect().JSONReads("content"), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, text string
		if err := rows.Scan(&id, &text); err != nil {
			return nil, err
		}
		out[id] = append(out[id], text)
	}
	return out, rows.Err()
}

// unfinished are those of a user's chats in which an answer is being written, or was given up: its row may say more than
// the chat.
func (s *Store) unfinished(ctx context.Context, userID string) (map[string]bool, error) {
	list, err := store.Strings(s.db.Query(ctx, "SELECT DISTINCT chat_id FROM chat_message WHERE user_id = $1 AND done = FALSE", userID))
	out := make(map[string]bool, len(list))
	for _, id := range list {
		out[id] = true
	}
	return out, err
}
