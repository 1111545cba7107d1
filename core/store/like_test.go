package store_test

import (
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

func TestLike(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		d := db.Dialect()
		for _, c := range []struct {
			pattern, text string
			like, escaped bool
		}{
			{"%ämil%", "ÄMIL", true, true},
			{"%ÉRIC", "der éric", true, true},
			{"a_c", "AÜC", true, true},
			{"a_c", "ac", false, false},
			{"%a%b%", "xaxxabx", true, true},
			{"%a%b", "xaxbx", false, false},
			{"", "", true, true},
			{"%", "", true, true},
			{"x%", "", false, false},
			{"%%", "x", true, true},
			{`100\%`, "100%", d == store.Postgres, true},
			{`100\%`, `100\x`, d == store.SQLite, false},
			{`a\\b`, `A\B`, d == store.Postgres, true},
			{"ß", "ß", true, true},
		} {
			for form, want := range map[string]bool{d.Like("v.a", "$2"): c.like, d.ILike("v.a", "$2"): c.escaped} {
				var got bool
				if err := db.QueryRow(t.Context(), "SELECT "+form+" FROM (SELECT CAST($1 AS TEXT) AS a) v", c.text, c.pattern).Scan(&got); err != nil || got != want {
					t.Errorf("%q like %q: %v %v (%s)", c.text, c.pattern, got, err, form)
				}
			}
		}
		var null *bool
		if err := db.QueryRow(t.Context(), "SELECT "+d.Like("CAST(NULL AS TEXT)", "$1"), "%").Scan(&null); err != nil || null != nil {
			t.Errorf("of nothing: %v %v", null, err)
		}
	})
}
