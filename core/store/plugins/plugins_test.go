package plugins

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestState(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := New(db)
		state := func(id string) State { t.Helper(); return must[State](t)(s.State(ctx, id)) }
		version := func() int64 { t.Helper(); return must[int64](t)(s.Version(ctx)) }
		if st := state("a"); !st.Enabled || st.ID != "a" || st.Config != nil || st.UpdatedAt != 0 {
			t.Fatalf("nothing stored: %+v", st)
		}
		before, start := version(), time.Now().UnixMilli()
		ok(t, s.SetConfig(ctx, "a", jsondoc.Doc(`{"x": 1, "y":"é"}`)))
		ok(t, s.SetEnabled(ctx, "a", false))
		ok(t, s.SetEnabled(ctx, "b", false))
		ok(t, s.SetConfig(ctx, "b", nil))
		if st := state("a"); st.Enabled || string(st.Config) != `{"x": 1, "y":"é"}` || st.UpdatedAt < start {
			t.Errorf("%+v", st)
		}
		if all := must[map[string]State](t)(s.States(ctx)); len(all) != 2 || all["b"].Enabled || all["b"].Config != nil || all["a"].ID != "a" {
			t.Errorf("%+v", all)
		}
		if v := version(); v != before+4 {
			t.Errorf("version %d after four changes of %d", v, before)
		}
		ok(t, s.Delete(ctx, "b"))
		if st := state("b"); !st.Enabled || version() != before+5 {
			t.Errorf("%+v, version %d", st, version())
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					if err := s.SetEnabled(ctx, "p"+strconv.Itoa(i%3), i%2 == 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if v := version(); v != before+85 {
			t.Errorf("a change was not counted: %d after %d", v, before)
		}
	})
}

// clock is a time that tests move.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func newKV(db *store.DB, q Quota) (*KV, *clock) {
	k, c := NewKV(db, q), &clock{}
	c.ms.Store(1_800_000_000_000)
	k.now = c.now
	return k, c
}

// keys are those of a page without a bound in bytes.
func (k *KV) keys(ctx context.Context, plugin, prefix, after string, limit int) ([]string, error) {
	page, _, err := k.List(ctx, plugin, prefix, after, limit, math.MaxInt64)
	keys := make([]string, len(page))
	for i, e := range page {
		keys[i] = e.Key
	}
	return keys, err
}

// TestPages goes through entries that are too large for one page.
func TestPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, c := newKV(db, Quota{})
		value := func(n int) []byte { return bytes.Repeat([]byte{0xff, 0}, n/2) }
		sizes := map[string]int{"a": 1000, "b": 0, "c": 3000, "d": 10, "ä": 500, "z": 1000}
		versions := map[string]int64{}
		for key, n := range sizes {
			versions[key] = must[int64](t)(k.Put(ctx, "p", key, value(n), time.Minute))
		}
		must[int64](t)(k.Put(ctx, "p", "gone", value(5000), time.Second))
		must[int64](t)(k.Put(ctx, "q", "other", nil, 0))
		c.ms.Add(2000)
		for _, bound := range []int64{1, 1200, 2500, 1 << 20} {
			for limit := 1; limit <= 7; limit++ {
				var got []string
				for more, after := true, ""; more; {
					var page []Entry
					var err error
					page, more, err = k.List(ctx, "p", "", after, limit, bound)
					ok(t, err)
					if len(page) == 0 || len(page) > limit {
						t.Fatalf("bound %d, limit %d: a page of %d after %q", bound, limit, len(page), after)
					}
					sum := int64(0)
					for _, e := range page {
						got, after = append(got, e.Key), e.Key
						sum += int64(len(e.Key) + len(e.Value) + entryCharge)
						if !bytes.Equal(e.Value, value(sizes[e.Key])) || e.Version != versions[e.Key] || e.Expires.IsZero() {
							t.Errorf("%s: %d bytes, version %d, %s", e.Key, len(e.Value), e.Version, e.Expires)
						}
					}
					if sum > bound && len(page) > 1 {
						t.Errorf("bound %d: %d bytes", bound, sum)
					}
				}
				if !slices.Equal(got, []string{"a", "b", "c", "d", "z", "ä"}) {
					t.Errorf("bound %d, limit %d: %q", bound, limit, got)
				}
			}
		}
	})
}

func TestKV(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, _ := newKV(db, Quota{})
		binary := []byte{0, 255, 128, '\'', '\\', 0}
		v1 := must[int64](t)(k.Put(ctx, "p", "ключ'\"%_\\", binary, 0))
		e := must[Entry](t)(k.Get(ctx, "p", "ключ'\"%_\\"))
		if !slices.Equal(e.Value, binary) || e.Version != v1 || v1 == 0 || !e.Expires.IsZero() {
			t.Errorf("%+v, version %d", e, v1)
		}
		for _, empty := range [][]byte{nil, {}} {
			must[int64](t)(k.Put(ctx, "p", "empty", empty, 0))
			if e := must[Entry](t)(k.Get(ctx, "p", "empty")); len(e.Value) != 0 {
				t.Errorf("%q", e.Value)
			}
		}
		if _, err := k.Get(ctx, "other", "empty"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("another plugin's entry: %v", err)
		}
		big := make([]byte, MaxValue)
		must[int64](t)(k.Put(ctx, "p", strings.Repeat("k", MaxKey), big, 0))

		v2, err := k.CompareAndSet(ctx, "p", "cas", []byte("1"), 0, 0)
		ok(t, err)
		if _, err := k.CompareAndSet(ctx, "p", "cas", []byte("2"), 0, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("must not exist: %v", err)
		}
		if _, err := k.CompareAndSet(ctx, "p", "cas", []byte("2"), v2+1, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("another version: %v", err)
		}
		if _, err := k.CompareAndSet(ctx, "p", "absent", nil, v2, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("absent: %v", err)
		}
		v3 := must[int64](t)(k.CompareAndSet(ctx, "p", "cas", []byte("3"), v2, 0))
		if e := must[Entry](t)(k.Get(ctx, "p", "cas")); string(e.Value) != "3" || e.Version != v3 || v3 == v2 {
			t.Errorf("%+v after %d, %d", e, v2, v3)
		}
		ok(t, k.Delete(ctx, "p", "cas"))
		if err := k.Delete(ctx, "p", "cas"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		if _, keys, err := k.Usage(ctx, "p"); err != nil || keys != 3 {
			t.Errorf("%d keys, %v", keys, err)
		}
		ok(t, k.Clear(ctx, "p"))
		if bytes, keys, err := k.Usage(ctx, "p"); err != nil || keys != 0 || bytes != 0 {
			t.Errorf("%d bytes, %d keys, %v", bytes, keys, err)
		}
		if left := must[[]string](t)(k.keys(ctx, "p", "", "", 10)); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	})
}

func TestVersionsAreNotUsedAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, c := newKV(db, Quota{})
		v := must[int64](t)(k.Put(ctx, "p", "k", []byte("1"), 0))
		ok(t, k.Delete(ctx, "p", "k"))
		c.ms.Add(1)
		must[int64](t)(k.Put(ctx, "p", "k", []byte("1"), 0))
		if _, err := k.CompareAndSet(ctx, "p", "k", []byte("2"), v, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("the version of a deleted entry was taken: %v", err)
		}
		e := must[Entry](t)(k.Get(ctx, "p", "k"))
		if _, _, err := k.Add(ctx, "p", "k", 1, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := k.CompareAndSet(ctx, "p", "k", []byte("9"), e.Version, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("Add did not change the version: %v", err)
		}
	})
}

func TestBadKeysAndValues(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, _ := newKV(db, Quota{})
		for key, want := range map[string]error{"": ErrKey, "a\x00": ErrKey, "a\xff": ErrKey, strings.Repeat("k", MaxKey+1): ErrTooLarge} {
			_, get := k.Get(ctx, "p", key)
			_, put := k.Put(ctx, "p", key, nil, 0)
			_, cas := k.CompareAndSet(ctx, "p", key, nil, 0, 0)
			_, _, add := k.Add(ctx, "p", key, 1, 0)
			_, list := k.keys(ctx, "p", key, "", 1)
			for name, err := range map[string]error{"get": get, "put": put, "cas": cas, "add": add, "delete": k.Delete(ctx, "p", key), "list": list} {
				if !errors.Is(err, want) && (key != "" || name != "list") {
					t.Errorf("%s %.10q: %v", name, key, err)
				}
			}
		}
		if _, err := k.Put(ctx, "p", "k", make([]byte, MaxValue+1), 0); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
}

func TestAdd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, c := newKV(db, Quota{})
		for _, step := range []struct {
			delta, want int64
		}{{5, 5}, {-7, -2}, {0, -2}, {math.MaxInt64, math.MaxInt64 - 2}, {2, math.MaxInt64}, {math.MinInt64, -1}, {math.MinInt64 + 1, math.MinInt64}} {
			if sum, at, err := k.Add(ctx, "p", "n", step.delta, time.Hour); err != nil || sum != step.want || !at.Equal(c.now().Add(time.Hour)) {
				t.Fatalf("%+d: %d until %v, %v; want %d", step.delta, sum, at, err, step.want)
			}
		}
		if _, _, err := k.Add(ctx, "p", "n", -1, 0); !errors.Is(err, ErrOverflow) {
			t.Errorf("below 64 bits: %v", err)
		}
		for _, text := range []string{"", "x", "-0", "007", "1.5", "+1", " 1", "1e3", "9223372036854775808", "99999999999999999999999", "\xff\x00", "-", "1\n"} {
			must[int64](t)(k.Put(ctx, "p", "text", []byte(text), 0))
			if sum, _, err := k.Add(ctx, "p", "text", 1, 0); !errors.Is(err, ErrNotCounter) {
				t.Errorf("%q: %d, %v", text, sum, err)
			}
			if e := must[Entry](t)(k.Get(ctx, "p", "text")); string(e.Value) != text {
				t.Errorf("%q became %q", text, e.Value)
			}
		}
		must[int64](t)(k.Put(ctx, "p", "text", []byte("41"), 0))
		if sum, at, err := k.Add(ctx, "p", "text", 1, time.Hour); err != nil || sum != 42 || !at.IsZero() {
			t.Errorf("%d until %v, %v", sum, at, err)
		}
		c.ms.Add(time.Hour.Milliseconds())
		if sum, at, err := k.Add(ctx, "p", "n", 3, time.Minute); err != nil || sum != 3 || !at.Equal(c.now().Add(time.Minute)) {
			t.Errorf("an expired counter: %d until %v, %v", sum, at, err)
		}
	})
}

func TestExpiry(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, c := newKV(db, Quota{Keys: 2})
		old := must[int64](t)(k.Put(ctx, "p", "a", []byte("x"), time.Minute))
		must[int64](t)(k.Put(ctx, "p", "b", nil, 0))
		if _, err := k.Put(ctx, "p", "c", nil, 0); !errors.Is(err, ErrQuota) {
			t.Fatalf("the quota: %v", err)
		}
		c.ms.Add(time.Minute.Milliseconds() - 1)
		if e := must[Entry](t)(k.Get(ctx, "p", "a")); !e.Expires.Equal(c.now().Add(time.Millisecond)) {
			t.Errorf("%+v", e)
		}
		c.ms.Add(1)
		if _, err := k.Get(ctx, "p", "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		if err := k.Delete(ctx, "p", "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("delete: %v", err)
		}
		if keys := must[[]string](t)(k.keys(ctx, "p", "", "", 9)); !slices.Equal(keys, []string{"b"}) {
			t.Errorf("list: %q", keys)
		}
		if bytes, keys, err := k.Usage(ctx, "p"); err != nil || keys != 1 || bytes != 33 {
			t.Errorf("usage: %d, %d, %v", bytes, keys, err)
		}
		if _, err := k.CompareAndSet(ctx, "p", "a", nil, old, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("the expired version: %v", err)
		}
		if _, err := k.CompareAndSet(ctx, "p", "a", nil, 0, time.Minute); err != nil {
			t.Errorf("in place of an expired one: %v", err)
		}
		c.ms.Add(time.Minute.Milliseconds())
		must[int64](t)(k.Put(ctx, "p", "c", nil, time.Second)) // has the expired one make room
		if _, keys, err := k.Usage(ctx, "p"); err != nil || keys != 2 {
			t.Errorf("%d keys, %v", keys, err)
		}
		c.ms.Add(time.Second.Milliseconds())
		must[int64](t)(k.Put(ctx, "q", "a", nil, 0))
		if n, err := k.Sweep(ctx); err != nil || n != 1 {
			t.Errorf("swept %d, %v", n, err)
		}
		var rows int
		ok(t, db.QueryRow(ctx, "SELECT COUNT(*) FROM galley_plugin_kv").Scan(&rows))
		if rows != 2 {
			t.Errorf("%d rows are left", rows)
		}
	})
}

func TestSweepInBatches(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, c := newKV(db, Quota{})
		for _, plugin := range []string{"p", "q"} {
			ok(t, k.write(ctx, plugin, func(w *writer) error {
				for i := range sweepBatch + 7 {
					if _, err := w.put("k"+strconv.Itoa(i), nil, expiry(w.now, time.Second), &found{}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		must[int64](t)(k.Put(ctx, "p", "stays", nil, time.Hour))
		c.ms.Add(1000)
		if n, err := k.Sweep(ctx); err != nil || n != 2*(sweepBatch+7) {
			t.Fatalf("swept %d, %v", n, err)
		}
		if bytes, keys, err := k.Usage(ctx, "p"); err != nil || keys != 1 || bytes != 37 {
			t.Errorf("%d bytes, %d keys, %v", bytes, keys, err)
		}
	})
}

func TestList(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k, _ := newKV(db, Quota{})
		all := []string{"A", "a", "a/1", "a/2", "a0", "b%", "b_", "é", "é1", "\uD7FF", "\uD7FFx", "\uE000", "\U0010FFFF", "\U0010FFFFz"}
		for _, key := range all {
			must[int64](t)(k.Put(ctx, "p", key, nil, 0))
		}
		must[int64](t)(k.Put(ctx, "q", "a/9", nil, 0))
		for _, c := range []struct {
			prefix, after string
			limit         int
			want          []string
		}{
			{"", "", 100, all},
			{"", "", 0, nil},
			{"a/", "", 9, []string{"a/1", "a/2"}},
			{"a", "a", 2, []string{"a/1", "a/2"}},
			{"a/", "a/1", 9, []string{"a/2"}},
			{"a/", "b", 9, nil},
			{"b", "A", 9, []string{"b%", "b_"}},
			{"\uD7FF", "", 9, []string{"\uD7FF", "\uD7FFx"}},
			{"\U0010FFFF", "", 9, []string{"\U0010FFFF", "\U0010FFFFz"}},
			{"a\U0010FFFF", "", 9, nil},
		} {
			if got := must[[]string](t)(k.keys(ctx, "p", c.prefix, c.after, c.limit)); !slices.Equal(got, c.want) {
				t.Errorf("%q after %q: %q", c.prefix, c.after, got)
			}
		}
	})
}

func TestConcurrentWriters(t *testing.T) {
	const writers, rounds = 6, 15
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k := NewKV(db, Quota{})
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range rounds {
					if _, _, err := k.Add(ctx, "p", "sum", 2, time.Hour); err != nil {
						t.Error(err)
					}
					if err := increment(k, "cas"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for key, want := range map[string]int{"sum": 2 * writers * rounds, "cas": writers * rounds} {
			if e := must[Entry](t)(k.Get(ctx, "p", key)); string(e.Value) != strconv.Itoa(want) {
				t.Errorf("%s: %s, want %d", key, e.Value, want)
			}
		}
		if bytes, keys, err := k.Usage(ctx, "p"); err != nil || keys != 2 || bytes != 2*(3+minCharge) {
			t.Errorf("%d bytes, %d keys, %v", bytes, keys, err)
		}
	})
}

// increment counts by reading, comparing and setting.
func increment(k *KV, key string) error {
	for {
		e, err := k.Get(ctx, "p", key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(e.Value))
		if _, err = k.CompareAndSet(ctx, "p", key, []byte(strconv.Itoa(n+1)), e.Version, 0); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

func TestQuotaHoldsAmongWriters(t *testing.T) {
	const size = 100
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		quota := Quota{Bytes: 10 * (size + 3), Keys: 12}
		k := NewKV(db, quota)
		var wg sync.WaitGroup
		var full atomic.Int64
		for i := range 30 {
			wg.Go(func() {
				_, err := k.Put(ctx, "p", "k"+strconv.Itoa(10+i), make([]byte, size), 0)
				if i%3 == 0 {
					_, _, err = k.Add(ctx, "p", "n"+strconv.Itoa(i), 1, 0)
				}
				switch {
				case errors.Is(err, ErrQuota):
					full.Add(1)
				case err != nil:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		bytes, keys, err := k.Usage(ctx, "p")
		if err != nil || bytes > quota.Bytes || keys > quota.Keys || full.Load() == 0 {
			t.Errorf("%d bytes, %d keys, %d refused, %v", bytes, keys, full.Load(), err)
		}
		var sumBytes, sumKeys int64
		ok(t, db.QueryRow(ctx, "SELECT SUM("+k.sql.charge+"), COUNT(*) FROM galley_plugin_kv").Scan(&sumBytes, &sumKeys))
		if sumBytes != bytes || sumKeys != keys {
			t.Errorf("the totals say %d, %d, the rows %d, %d", bytes, keys, sumBytes, sumKeys)
		}
		if _, err := k.Put(ctx, "other", "k", make([]byte, size), 0); err != nil {
			t.Errorf("another plugin's quota: %v", err)
		}
		keysLeft := must[[]string](t)(k.keys(ctx, "p", "k", "", 1))
		if _, err := k.Put(ctx, "p", keysLeft[0], nil, 0); err != nil {
			t.Errorf("a smaller value in place of another: %v", err)
		}
	})
}
