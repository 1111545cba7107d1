package vector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

func ids(hits []Hit) (out []string) {
	for _, h := range hits {
		out = append(out, h.ID)
	}
	return out
}

func TestTable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		table := New(db)
		var ticks int64
		table.now = func() time.Time { ticks += 1000; return time.Unix(0, ticks) }
		put := func(collection, model string, items ...Item) {
			t.Helper()
			if err := table.Put(ctx, collection, model, items); err != nil {
				t.Fatal(err)
			}
		}
		put("c", "m", Item{"east", "East", jsondoc.Doc(`{"n":1}`), []float32{2, 0, 0}}, Item{"north", "North", nil, []float32{0, 1, 0}}, Item{"west", "West", nil, []float32{-1, 0, 0}})
		put("c", "m", Item{"up", "Up", nil, []float32{0, 0, 9}}, Item{"zero", "Zero", nil, []float32{0, 0, 0}})
		put("c", "other", Item{"else", "Else", nil, []float32{1, 0, 0}})
		put("d", "m", Item{"east", "Another", nil, []float32{1, 0, 0}})
		for name, c := range map[string]struct {
			vector []float32
			limit  int
			want   []string
		}{
			"nearest first":      {[]float32{3, 1, 0}, 2, []string{"east", "north"}},
			"all, ties as made":  {[]float32{1, 0, 0}, 9, []string{"east", "north", "up", "zero", "west"}},
			"ties at the limit":  {[]float32{1, 0, 0}, 2, []string{"east", "north"}},
			"other dimensions":   {[]float32{1, 0}, 9, nil},
			"no limit, no items": {[]float32{1, 0, 0}, 0, nil},
		} {
			hits, err := table.Search(ctx, "c", "m", c.vector, c.limit)
			if err != nil || !slices.Equal(ids(hits), c.want) {
				t.Errorf("%s: %v %v", name, hits, err)
			}
		}
		hits, err := table.Search(ctx, "c", "m", []float32{5, 0, 0}, 9)
		if err != nil || hits[0].Score != 1 || hits[1].Score != 0.5 || hits[4].Score != 0 || hits[0].Text != "East" || string(hits[0].Metadata) != `{"n":1}` || hits[1].Metadata != nil {
			t.Errorf("%+v %v", hits, err)
		}
		put("c", "m", Item{"north", "South", nil, []float32{0, -1, 0}})
		hashes, err := table.Hashes(ctx, "c", "m", 3)
		if err != nil || len(hashes) != 5 || hashes["north"] != Hash("South") || hashes["east"] != Hash("East") {
			t.Errorf("%v %v", hashes, err)
		}
		if err := table.Delete(ctx, "c", []string{"east", "nope"}); err != nil {
			t.Fatal(err)
		}
		if hits, err := table.Search(ctx, "c", "m", []float32{1, 0, 0}, 1); err != nil || !slices.Equal(ids(hits), []string{"north"}) || hits[0].Text != "South" {
			t.Errorf("%v %v", hits, err)
		}
		if err := table.Drop(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		for collection, want := range map[string]int{"c": 0, "d": 1} {
			if hits, err := table.Search(ctx, collection, "m", []float32{1, 0, 0}, 9); err != nil || len(hits) != want {
				t.Errorf("%s: %v %v", collection, hits, err)
			}
		}
	})
}

// TestTableIsExact compares with a plain search over many items.
func TestTableIsExact(t *testing.T) {
	ctx := context.Background()
	table := New(storetest.SQLite(t))
	r := rand.New(rand.NewPCG(1, 2))
	vector := func() []float32 {
		v := make([]float32, 37)
		for i := range v {
			v[i] = r.Float32() - 0.5
		}
		return v
	}
	items := make([]Item, 3*maxRows/2)
	for i := range items {
		items[i] = Item{ID: fmt.Sprint(i), Vector: vector()}
	}
	if err := table.Put(ctx, "c", "m", items); err != nil {
		t.Fatal(err)
	}
	query := vector()
	hits, err := table.Search(ctx, "c", "m", query, 20)
	if err != nil {
		t.Fatal(err)
	}
	score := func(v []float32) (sum float64) {
		for i, x := range unit(v) {
			sum += float64(x) * float64(unit(query)[i])
		}
		return sum
	}
	slices.SortFunc(items, func(a, b Item) int {
		if score(a.Vector) > score(b.Vector) {
			return -1
		}
		return 1
	})
	for i, h := range hits {
		if h.ID != items[i].ID {
			t.Errorf("%d: %s, want %s", i, h.ID, items[i].ID)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	ctx := context.Background()
	table := New(storetest.SQLite(b))
	items := make([]Item, 1000)
	for i := range items {
		v := make([]float32, 768)
		for k := range v {
			v[k] = rand.Float32()
		}
		items[i] = Item{ID: fmt.Sprint(i), Vector: v}
	}
	if err := table.Put(ctx, "c", "m", items); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := table.Search(ctx, "c", "m", items[0].Vector, 8); err != nil {
			b.Fatal(err)
		}
	}
}
