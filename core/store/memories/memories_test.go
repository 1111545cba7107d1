package memories

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

func ptr[T any](v T) *T { return &v }

// contents writes memories as one line.
func contents(list []Memory) string {
	var out []string
	for _, m := range list {
		out = append(out, m.PathText()+":"+m.Type+":"+m.Content)
	}
	return strings.Join(out, " ")
}

func TestMemories(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		s := New(db)
		now := int64(100)
		s.now = func() int64 { now++; return now }
		one, err := s.Insert(ctx, Memory{UserID: "u1", Type: User, Content: "one", Path: ptr("a/b"), Meta: jsondoc.Doc(`{"created_by":"manual"}`)})
		if err != nil || one.ID == "" || one.CreatedAt != 101 || one.UpdatedAt != 101 {
			t.Fatalf("%+v %v", one, err)
		}
		for _, m := range []Memory{{UserID: "u1", Type: Context, Content: "two"}, {UserID: "u2", Type: Context, Content: "three"}} {
			if _, err := s.Insert(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		var none *string
		changed, err := s.Update(ctx, "u1", one.ID, Change{Content: ptr("uno"), Path: &none, Meta: jsondoc.Doc(`{"by":"x"}`)})
		if err != nil || changed.Content != "uno" || changed.Path != nil || changed.Type != User || changed.UpdatedAt != 104 || changed.CreatedAt != 101 ||
			string(changed.Meta) != `{"created_by":"manual","by":"x"}` {
			t.Fatalf("%+v %v", changed, err)
		}
		if _, err := s.Update(ctx, "u2", one.ID, Change{Content: ptr("stolen")}); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		list, err := s.OfUser(ctx, "u1")
		if err != nil || contents(list) != ":user:uno :context:two" || string(list[0].Meta) != string(changed.Meta) || list[1].Meta != nil {
			t.Errorf("%s %v", contents(list), err)
		}
		if all, err := s.All(ctx); err != nil || contents(all) != ":user:uno :context:two :context:three" {
			t.Errorf("%s %v", contents(all), err)
		}
		for user, want := range map[string]bool{"u2": false, "u1": true} {
			if ok, err := s.Delete(ctx, user, one.ID); err != nil || ok != want {
				t.Errorf("%s: %v %v", user, ok, err)
			}
		}
		if err := s.DeleteAll(ctx, "u1"); err != nil {
			t.Fatal(err)
		}
		if all, err := s.All(ctx); err != nil || contents(all) != ":context:three" {
			t.Errorf("%s %v", contents(all), err)
		}
	})
}

func TestApply(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		s := New(db)
		first, err := s.Apply(ctx, "u1", []Operation{
			{Action: Add, Content: "One", Type: Context, Meta: jsondoc.Doc(`{"n":1}`)},
			{Action: Add, Content: "One", Type: Context},
			{Action: Add, Content: "One", Type: User},
			{Action: Add, Content: "One", Type: Context, Path: ptr("p")},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range first {
			got = append(got, r.Status)
		}
		if !slices.Equal(got, []string{"created", "skipped", "created", "created"}) || first[1].Memory.ID != first[0].Memory.ID {
			t.Errorf("%v", got)
		}
		id := first[0].Memory.ID
		for name, c := range map[string]struct {
			user string
			ops  []Operation
		}{
			"unknown":          {"u1", []Operation{{Action: Add, Content: "Two", Type: User}, {Action: Remove, ID: "nope"}}},
			"of another":       {"u2", []Operation{{Action: Move, ID: id, Path: ptr("mine")}}},
			"removed before":   {"u1", []Operation{{Action: Remove, ID: id}, {Action: Replace, ID: id, Content: "x"}}},
			"others' contents": {"u2", []Operation{{Action: Replace, ID: id, Content: "x"}}},
		} {
			var missing *MissingError
			if _, err := s.Apply(ctx, c.user, c.ops); !errors.As(err, &missing) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if list, err := s.OfUser(ctx, "u1"); err != nil || contents(list) != ":context:One :user:One p:context:One" {
			t.Errorf("a failed batch left %s %v", contents(list), err)
		}
		second, err := s.Apply(ctx, "u1", []Operation{
			{Action: Replace, ID: id, Content: "Uno", Meta: jsondoc.Doc(`{"m":2}`)},
			{Action: Move, ID: id, Path: ptr("q")},
			{Action: Remove, ID: first[2].Memory.ID},
			{Action: Remove, ID: first[2].Memory.ID},
			{Action: Add, Content: "Gone", Type: User},
		})
		if err != nil || second[0].Memory.Path != nil || *second[1].Memory.Path != "q" || second[2].ID != first[2].Memory.ID || second[3].Status != "deleted" {
			t.Fatalf("%+v %v", second, err)
		}
		list, err := s.OfUser(ctx, "u1")
		// on Postgres a row that was changed comes after others of the same second
		slices.SortFunc(list, func(a, b Memory) int { return strings.Compare(b.PathText(), a.PathText()) })
		if err != nil || contents(list) != "q:context:Uno p:context:One :user:Gone" || string(list[0].Meta) != `{"n":1,"m":2}` {
			t.Errorf("%s %v", contents(list), err)
		}
		var many []Operation
		for range maxRows + 1 {
			many = append(many, Operation{Action: Add, Content: store.NewID(), Type: Context})
		}
		if out, err := s.Apply(ctx, "u3", many); err != nil || len(out) != len(many) {
			t.Errorf("%d %v", len(out), err)
		}
	})
}
