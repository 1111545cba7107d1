package vector

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Table keeps vectors in Galley's own database and compares with all of a collection: no index, exact, and quick enough
// for some ten thousand.
type Table struct {
	db  *store.DB
	now func() time.Time
}

var _ Store = (*Table)(nil)

// New makes a Table.
func New(db *store.DB) *Table { return &Table{db, time.Now} }

// maxRows bounds the rows of a statement: nine values each, of the 32767 that SQLite takes.
const maxRows = 500

// Put implements Store.
func (t *Table) Put(ctx context.Context, collection, model string, items []Item) error {
	if len(items) == 0 {
		return nil
	}
	made := t.now().UnixNano()
	return t.db.Tx(ctx, func(tx *store.Tx) error {
		made := made
		for part := range slices.Chunk(items, maxRows) {
			var values strings.Builder
			args := make([]any, 0, 9*len(part))
			for i, it := range part {
				if i > 0 {
					values.WriteByte(',')
				}
				k := len(args)
				fmt.Fprintf(&values, "($%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d)", k+1, k+2, k+3, k+4, k+5, k+6, k+7, k+8, k+9)
				args = append(args, collection, it.ID, model, len(it.Vector), encode(it.Vector), Hash(it.Text), it.Text, it.Metadata, made)
				made++
			}
			_, err := tx.Exec(ctx, "INSERT INTO galley_vector (collection, id, model, dims, vector, hash, text, metadata, made) VALUES "+values.String()+
				` ON CONFLICT (collection, id) DO UPDATE SET model = excluded.model, dims = excluded.dims, vector = excluded.vector,
				hash = excluded.hash, text = excluded.text, metadata = excluded.metadata`, args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Search implements Store. Texts are read only of what is found.
func (t *Table) Search(ctx context.Context, collection, model string, vector []float32, limit int) ([]Hit, error) {
	if limit <= 0 {
		return nil, nil
	}
	query := unit(vector)
	rows, err := t.db.Query(ctx, "SELECT id, made, vector FROM galley_vector WHERE collection = $1 AND model = $2 AND dims = $3", collection, model, len(vector))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var best []candidate // sorted, at most limit
	var id, raw sql.RawBytes
	var made int64
	for rows.Next() {
		if err := rows.Scan(&id, &made, &raw); err != nil {
			return nil, err
		}
		if len(raw) != 4*len(query) {
			continue
		}
		c := candidate{made: made, score: (1 + dot(query, raw)) / 2}
		if len(best) == limit && nearer(c, best[limit-1]) > 0 {
			continue
		}
		c.id = string(id)
		at, _ := slices.BinarySearchFunc(best, c, nearer)
		best = slices.Insert(best, at, c)
		best = best[:min(len(best), limit)]
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return t.fill(ctx, collection, best)
}

// candidate is an item that may be among the nearest.
type candidate struct {
	id    string
	made  int64
	score float64
}

// nearer sorts by score, and equal ones in the order in which they were made.
func nearer(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.made, b.made), cmp.Compare(a.id, b.id))
}

// fill reads the texts of what was found.
func (t *Table) fill(ctx context.Context, collection string, found []candidate) ([]Hit, error) {
	hits := make([]Hit, len(found))
	at := make(map[string]int, len(found))
	ids := make([]string, len(found))
	for i, c := range found {
		hits[i] = Hit{ID: c.id, Score: c.score}
		at[c.id], ids[i] = i, c.id
	}
	for part := range slices.Chunk(ids, 10*maxRows) {
		in, args := store.In([]any{collection}, part)
		rows, err := t.db.Query(ctx, "SELECT id, text, metadata FROM galley_vector WHERE collection = $1 AND id IN "+in, args...)
		_, err = store.Collect(rows, err, func(r *sql.Rows) (none struct{}, err error) {
			var id, text string
			var metadata jsondoc.Doc
			if err = r.Scan(&id, &text, &metadata); err == nil {
				hits[at[id]].Text, hits[at[id]].Metadata = text, metadata
			}
			return none, err
		})
		if err != nil {
			return nil, err
		}
	}
	return hits, nil
}

// Hashes implements Store.
func (t *Table) Hashes(ctx context.Context, collection, model string, dims int) (map[string]int64, error) {
	out := map[string]int64{}
	rows, err := t.db.Query(ctx, "SELECT id, hash FROM galley_vector WHERE collection = $1 AND model = $2 AND dims = $3", collection, model, dims)
	_, err = store.Collect(rows, err, func(r *sql.Rows) (none struct{}, err error) {
		var id string
		var hash int64
		if err = r.Scan(&id, &hash); err == nil {
			out[id] = hash
		}
		return none, err
	})
	return out, err
}

// Delete implements Store.
func (t *Table) Delete(ctx context.Context, collection string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return t.db.Tx(ctx, func(tx *store.Tx) error {
		for part := range slices.Chunk(ids, 10*maxRows) {
			in, args := store.In([]any{collection}, part)
			if _, err := tx.Exec(ctx, "DELETE FROM galley_vector WHERE collection = $1 AND id IN "+in, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop implements Store.
func (t *Table) Drop(ctx context.Context, collection string) error {
	_, err := t.db.Exec(ctx, "DELETE FROM galley_vector WHERE collection = $1", collection)
	return err
}

// unit is a vector of length 1 that points the same way; one of length 0 stays.
func unit(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return v
	}
	scale := 1 / math.Sqrt(sum)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(float64(x) * scale)
	}
	return out
}

// encode writes the unit vector as little-endian 32-bit floats.
func encode(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range unit(v) {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// dot is the product of a vector and an encoded one of the same length.
func dot(v []float32, raw []byte) float64 {
	var a, b, c, d float32 // four sums, so that additions need not wait for each other
	for len(v) >= 4 && len(raw) >= 16 {
		a += v[0] * math.Float32frombits(binary.LittleEndian.Uint32(raw))
		b += v[1] * math.Float32frombits(binary.LittleEndian.Uint32(raw[4:]))
		c += v[2] * math.Float32frombits(binary.LittleEndian.Uint32(raw[8:]))
		d += v[3] * math.Float32frombits(binary.LittleEndian.Uint32(raw[12:]))
		v, raw = v[4:], raw[16:]
	}
	for i, x := range v {
		a += x * math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return min(max(float64(a+b+c+d), -1), 1)
}
