package chats_test

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

func say(title string, texts ...string) string {
	var b strings.Builder
	b.WriteString(`{"title":` + string(jsondoc.Text(title)) + `,"history":{"messages":{`)
	for i, s := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		id := string(rune('a' + i))
		b.WriteString(`"` + id + `":{"id":"` + id + `","parentId":null,"childrenIds":[],"role":"user","content":` + string(jsondoc.Text(s)) + `}`)
	}
	return b.String() + `},"currentId":null}}`
}

func search(t testing.TB, s *chats.Store, text string) (titles []string, snippets []string) {
	t.Helper()
	q := chats.ParseQuery(text)
	q.UserID, q.Limit = "u1", 60
	for _, f := range must(s.Search(ctx, q))(t) {
		titles = append(titles, f.Title)
		if f.Snippet == nil {
			snippets = append(snippets, "-")
		} else {
			snippets = append(snippets, *f.Snippet)
		}
	}
	return titles, snippets
}

func TestSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		at := int64(1700000000)
		add := func(n chats.NewChat, doc string) *chats.Chat {
			at--
			n.UserID, n.Doc, n.UpdatedAt = "u1", jsondoc.Doc(doc), at
			return must(s.Insert(ctx, n))(t)
		}
		rhine := add(chats.NewChat{}, say("Rivers", "The Rhine is LONG", strings.Repeat("x ", 150)+"Lock gates here "+strings.Repeat("y ", 150)))
		add(chats.NewChat{Meta: jsondoc.Doc(`{"tags":["trip"]}`), Pinned: true}, say("Lock and key", "100% sure_thing"))
		add(chats.NewChat{Archived: true}, say("Old lock"))
		add(chats.NewChat{}, say("Split", "gates", "and a lock"))
		insert(t, s, "u2", say("Another's lock"))
		for text, want := range map[string]string{
			"rhine":         "Rivers",
			"long":          "Rivers",
			"lock":          "Rivers,Lock and key,Split",
			"LOCK gates":    "Rivers,Split",
			"gates lock":    "Rivers,Split",
			"nothing":       "",
			"100%":          "Lock and key",
			"sure_thing":    "Lock and key",
			"tag:trip":      "Lock and key",
			"tag:none lock": "Rivers,Split",
			"pinned:true":   "Lock and key",
			"archived:true": "Old lock",
			"lock tag:zz":   "",
			"shared:true":   "",
			"":              "Rivers,Lock and key,Split",
		} {
			for range 2 { // the second time from the kept texts
				if got, _ := search(t, s, text); strings.Join(got, ",") != want {
					t.Errorf("%q finds %v, want %s", text, got, want)
				}
			}
		}
		_, snippets := search(t, s, "lock")
		if want := "..." + strings.TrimSpace(strings.Repeat("x ", 50)) + " Lock gates here " + strings.TrimSpace(strings.Repeat("y ", 42)) + "..."; snippets[0] != want || snippets[1] != "-" || snippets[2] != "and a lock" {
			t.Errorf("snippets %q\nwant %q", snippets, want)
		}
		// a change by this process, and one by another
		must(s.UpsertMessage(ctx, rhine.ID, "a", jsondoc.Doc(`{"content":"The Rhone is long"}`), false))(t)
		if got, _ := search(t, s, "rhine"); len(got) != 0 {
			t.Errorf("found what is gone: %v", got)
		}
		if got, _ := search(t, s, "rhone"); len(got) != 1 {
			t.Errorf("new text: %v", got)
		}
		if _, err := db.Exec(ctx, "UPDATE chat SET chat = $2, updated_at = updated_at + 1 WHERE id = $1", rhine.ID, say("Rivers", "The Rhein is long")); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(ctx, "UPDATE chat_message SET content = 'null' WHERE chat_id = $1", rhine.ID); err != nil {
			t.Fatal(err)
		}
		if got, _ := search(t, s, "rhone"); len(got) != 0 {
			t.Errorf("found what another process changed: %v", got)
		}
	})
}

// TestSearchFoldsAllLetters looks for words with letters beyond ASCII, in the title and in texts.
func TestSearchFoldsAllLetters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		insert(t, s, "u1", say("Größe Сервер", "nothing"))
		insert(t, s, "u1", say("Text", "Die GRÖSSE und Ärger", "ПРИВЕТ, Сервер"))
		for text, want := range map[string]int{"größ": 2, "GRÖSSE": 1, "ärger": 1, "сервер": 2, "СЕРВЕР": 2, "привет": 1, "серв_р": 2, "ü": 0} {
			if got, _ := search(t, s, text); len(got) != want {
				t.Errorf("%q finds %v, want %d", text, got, want)
			}
		}
	})
}

func TestSnippetOfOtherScripts(t *testing.T) {
	s := chats.New(storetest.SQLite(t))
	insert(t, s, "u1", say("ä", strings.Repeat("é", 150)+"ÜBER alles"+strings.Repeat("ö", 300)))
	_, snippets := search(t, s, "alles")
	want := "..." + strings.Repeat("é", 95) + "ÜBER alles" + strings.Repeat("ö", 95) + "..."
	if len(snippets) != 1 || snippets[0] != want {
		t.Errorf("%q\nwant %q", snippets, want)
	}
}
