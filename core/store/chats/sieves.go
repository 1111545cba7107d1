package chats

import (
	"context"
	"database/sql"
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
	sievesBytes = 8 << 20
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
	rows, err := k.db.Query(ctx, "SELECT chat_id, updated_at, version, loaded_at, grams FROM galley_chat_sieve WHERE user_id = $1"+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var id string
	for rows.Next() {
		var v sieve
		var raw sql.RawBytes
		if err := rows.Scan(&id, &v.updated, &v.size, &v.loaded, &raw); err != nil {
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

func (k *sieves) write(ctx context.Context, batch map[string]owned) error {
	return k.db.Tx(ctx, func(tx *store.Tx) error {
		for id, v := range batch {
			if _, err := tx.Exec(ctx, `INSERT INTO galley_chat_sieve (user_id, chat_id, updated_at, version, loaded_at, grams) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (user_id, chat_id) DO UPDATE SET updated_at = EXCLUDED.updated_at, version = EXCLUDED.version, loaded_at = EXCLUDED.loaded_at, grams = EXCLUDED.grams`,
				v.owner, id, v.updated, v.size, v.loaded, v.set); err != nil {
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
	ids := make([]string, len(list))
	at := make(map[string]int, len(list))
	for i := range list {
		ids[i] = list[i].ID
		at[list[i].ID] = i
	}
	d := s.db.Dialect()
	in, args := store.In(nil, padded(ids))
	loaded := time.Now().Unix()
	rows, err := s.db.Query(ctx, "SELECT id, COALESCE(updated_at, 0), "+sizeOf(d)+", chat FROM chat WHERE id IN "+in, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var updated, size int64
		var doc jsondoc.Doc
		if err := rows.Scan(&id, &updated, &size, &doc); err != nil {
			return nil, err
		}
		t := textsIn(doc)
		t.updated, t.size, t.loaded = updated, size, loaded
		out[at[id]] = t
		s.texts.put(id, t)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	more := map[string][]string{}
	if d == store.Postgres {
		// there a search looks at the rows of messages too
		if more, err = s.rowTexts(ctx, in, args); err != nil {
			return nil, err
		}
	}
	for i, t := range out {
		if t == nil {
			continue
		}
		v := newSieve(append(more[ids[i]], t.all)...)
		v.updated, v.size, v.loaded = t.updated, t.size, t.loaded
		s.sieves.keep(ids[i], list[i].UserID, v)
	}
	return out, nil
}

// rowTexts are the texts of the rows of messages, by chat.
func (s *Store) rowTexts(ctx context.Context, in string, args []any) (map[string][]string, error) {
	out := map[string][]string{}
	rows, err := s.db.Query(ctx, "SELECT chat_id, content #>> '{}' FROM chat_message WHERE chat_id IN "+in+" AND json_typeof(content) = 'string'", args...)
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
