package store_test

import (
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// Functions of JSON pass over what they cannot read, and only over that.
func TestJSONReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for text, want := range map[string]bool{
			`{"a":"b"}`: true, `{"a":"\u00e9"}`: true, `{"a":"\ud83d\ude00"}`: true, `{"a":"\\ud83d"}`: true, `{"a":"\\u0000"}`: true, `{"a":"\uD83D\uDE00\u0001"}`: true,
			`{"a":"\ud83d"}`: false, `{"a":"\\\ud83d!"}`: false, `{"a":"\ude00"}`: false, `{"a":"x\u0000"}`: false, `{"a":"\ud83d\ud83d\ude00"}`: false,
		} {
			d := db.Dialect()
			want = want || d == store.SQLite // which reads all that is JSON
			var reads bool
			var member *string
			err := db.QueryRow(t.Context(), "SELECT "+d.JSONReads("x.v")+", "+d.JSONText("x.v", "a")+" FROM (SELECT CAST($1 AS "+d.Pick("TEXT", "JSON")+") AS v) x", text).Scan(&reads, &member)
			if err != nil || reads != want || (member != nil) != want {
				t.Errorf("%s: reads %v, member %v, %v; want %v", text, reads, member != nil, err, want)
			}
		}
	})
}
