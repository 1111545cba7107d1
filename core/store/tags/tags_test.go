package tags_test

import (
	"context"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/tags"
)

func TestTags(t *testing.T) {
	ctx := context.Background()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for _, names := range [][]string{{"Two Words", "b", "two words"}, {"TWO WORDS", "c"}} {
			if err := tags.Ensure(ctx, db, "u1", names); err != nil {
				t.Fatal(err)
			}
		}
		if err := tags.Ensure(ctx, db, "u2", []string{"b"}); err != nil {
			t.Fatal(err)
		}
		all, err := tags.Of(ctx, db, "u1")
		if err != nil || len(all) != 3 {
			t.Fatalf("%v %v", all, err)
		}
		got, err := tags.ByIDs(ctx, db, "u1", []string{tags.ID("TWO words"), "nope"})
		if err != nil || len(got) != 1 || got[0].Name != "Two Words" || got[0].ID != "two_words" || got[0].UserID != "u1" {
			t.Errorf("%+v %v", got, err)
		}
		if err := tags.Delete(ctx, db, "u1", "b", "c"); err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string]int{"u1": 1, "u2": 1} {
			if left, err := tags.Of(ctx, db, user); err != nil || len(left) != want {
				t.Errorf("left of %s: %v %v", user, left, err)
			}
		}
	})
}
