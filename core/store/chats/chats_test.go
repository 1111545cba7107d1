package chats_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

const twoTurns = `{"title":"Rivers","models":["m"],"history":{"messages":{
 "q1":{"id":"q1","parentId":null,"childrenIds":["a1"],"role":"user","content":"Name a river","timestamp":1700000000},
 "a1":{"id":"a1","parentId":"q1","childrenIds":["q2"],"role":"assistant","content":"The Rhine","model":"m","timestamp":1700000001},
 "q2":{"id":"q2","parentId":"a1","childrenIds":["b1"],"role":"user","content":"Longer?","timestamp":1700000002},
 "b1":{"id":"b1","parentId":"q2","childrenIds":[],"role":"assistant","content":"The Danube","model":"m","timestamp":1700000003,"usage":{"prompt_tokens":3,"completion_tokens":4}}
},"currentId":"b1"}}`

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func insert(t testing.TB, s *chats.Store, user, doc string) *chats.Chat {
	t.Helper()
	return must(s.Insert(ctx, chats.NewChat{UserID: user, Doc: jsondoc.Doc(doc)}))(t)
}

// rowText reads a column of a message's row.
func rowText(t testing.TB, db *store.DB, chat, message, column string) string {
	t.Helper()
	var v *string
	if err := db.QueryRow(ctx, "SELECT CAST("+column+" AS TEXT) FROM chat_message WHERE id = $1", chat+"-"+message).Scan(&v); err != nil {
		t.Fatalf("row of %s: %v", message, err)
	}
	if v == nil {
		return "NULL"
	}
	return *v
}

func TestInsertMirrorsMessages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		if c.Title != "Rivers" || c.CurrentMessageID == nil || *c.CurrentMessageID != "b1" {
			t.Errorf("title %q, current %v", c.Title, c.CurrentMessageID)
		}
		back := must(s.Get(ctx, c.ID))(t)
		if back.Doc.Text("history", "messages", "a1", "content") != "The Rhine" || back.UserID != "u1" || back.Meta.String() != "{}" {
			t.Errorf("read back %+v", back)
		}
		if got := rowText(t, db, c.ID, "q1", "content"); got != `"Name a river"` {
			t.Errorf("content column %s", got)
		}
		if got := rowText(t, db, c.ID, "b1", "created_at"); got != "1700000003" {
			t.Errorf("created_at %s", got)
		}
		usage := jsondoc.Doc(rowText(t, db, c.ID, "b1", "usage"))
		if n, _ := usage.Int("total_tokens"); n != 7 {
			t.Errorf("usage %s", usage)
		}
		if _, err := s.Get(ctx, "nope"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown chat: %v", err)
		}
		if _, err := s.GetOwned(ctx, c.ID, "u2"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("another's chat: %v", err)
		}
	})
}

func TestMessagesWalksRowsAndCompletesThem(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		chain := func() string {
			var ids []string
			for _, m := range must(s.Messages(ctx, c.ID))(t).Chain("b1") {
				ids = append(ids, m.Text("id"))
			}
			return strings.Join(ids, " ")
		}
		if got := chain(); got != "q1 a1 q2 b1" {
			t.Errorf("chain %s", got)
		}
		if _, err := db.Exec(ctx, "DELETE FROM chat_message WHERE id = $1", c.ID+"-a1"); err != nil {
			t.Fatal(err)
		}
		if got := chain(); got != "a1 q2 b1" && got != "q1 a1 q2 b1" {
			t.Errorf("chain with a gap %s", got)
		}
		if got := rowText(t, db, c.ID, "a1", "content"); got != `"The Rhine"` {
			t.Errorf("the missing row was not made: %s", got)
		}
		if _, err := db.Exec(ctx, "DELETE FROM chat_message WHERE chat_id = $1", c.ID); err != nil {
			t.Fatal(err)
		}
		if got := chain(); got != "q1 a1 q2 b1" {
			t.Errorf("chain without rows %s", got)
		}
	})
}

func TestUpdateMerges(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		patch := `{"history":{"messages":{
			"a1":{"id":"a1","parentId":"q1","childrenIds":["x"],"role":"assistant","content":"The Rhine, of course","model":"m","timestamp":1700000001},
			"a2":{"id":"a2","parentId":"q1","childrenIds":[],"role":"assistant","content":"The Rhone","timestamp":1700000009}},"currentId":"a2"},"tags":["x"]}`
		got := must(s.Update(ctx, c.ID, chats.NewPatch(jsondoc.Doc(patch)), &chats.Author{ID: "u1", Name: "Una"}, true))(t)
		m := got.Doc.Get("history", "messages")
		for path, want := range map[string]string{"q1.childrenIds": `["a1","a2"]`, "a1.childrenIds": `["q2"]`, "b1.content": `"The Danube"`, "a1.content": `"The Rhine, of course"`, "a2.user_id": `"u1"`} {
			p := strings.Split(path, ".")
			if g := m.Get(p...).String(); g != want {
				t.Errorf("%s = %s, want %s", path, g, want)
			}
		}
		if got.Doc.Text("history", "currentId") != "a2" || *got.CurrentMessageID != "a2" || got.Doc.Get("tags").String() != `["x"]` || got.Title != "Rivers" {
			t.Errorf("document %s", got.Doc)
		}
		if g := rowText(t, db, c.ID, "a1", "content"); g != `"The Rhine, of course"` {
			t.Errorf("row of a1: %s", g)
		}
		if g := rowText(t, db, c.ID, "a2", "parent_id"); g != "q1" {
			t.Errorf("row of a2: %s", g)
		}
		// an unknown currentId keeps the stored one; nothing else is lost
		got = must(s.Update(ctx, c.ID, chats.NewPatch(jsondoc.Doc(`{"title":"New","history":{"messages":{},"currentId":"zz"}}`)), nil, false))(t)
		if got.Doc.Text("history", "currentId") != "a2" || got.Doc.Get("history", "messages").Len() != 5 || got.Title != "New" {
			t.Errorf("after an empty history: %s", got.Doc)
		}
	})
}

func TestUpdateKeepsOthersAndUnfinished(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", `{"title":"t","history":{"messages":{
			"q":{"id":"q","parentId":null,"childrenIds":["a"],"role":"user","content":"theirs","user_id":"u2"},
			"a":{"id":"a","parentId":"q","childrenIds":["b"],"role":"assistant","content":"half","done":false},
			"b":{"id":"b","parentId":"a","childrenIds":[],"role":"assistant","content":"done","done":true}},"currentId":"b"}}`)
		got := must(s.Update(ctx, c.ID, chats.NewPatch(jsondoc.Doc(`{"history":{"messages":{
			"q":{"id":"q","parentId":null,"childrenIds":[],"role":"user","content":"changed"},
			"a":{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","content":"stale","done":true},
			"b":{"id":"b","parentId":"a","childrenIds":[],"role":"assistant","content":"stale","done":false}},"currentId":"b"}}`)), nil, true))(t)
		for id, want := range map[string]string{"q": "theirs", "a": "half", "b": "done"} {
			if g := got.Doc.Text("history", "messages", id, "content"); g != want {
				t.Errorf("%s: %q, want %q", id, g, want)
			}
		}
	})
}

func TestUpsertMessage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		got := must(s.UpsertMessage(ctx, c.ID, "b1", jsondoc.Doc(`{"content":"","output":[{"type":"message","content":[{"type":"output_text","text":"From output"}]}],"done":true}`), true))(t)
		if g := got.Doc.Text("history", "messages", "b1", "content"); g != "From output" {
			t.Errorf("content %q", g)
		}
		if g := rowText(t, db, c.ID, "b1", "content"); g != `"From output"` {
			t.Errorf("row content %s", g)
		}
		usage := jsondoc.Doc(rowText(t, db, c.ID, "b1", "usage"))
		if n, _ := usage.Int("input_tokens"); n != 3 {
			t.Errorf("the same usage was added again: %s", usage)
		}
		got = must(s.UpsertMessage(ctx, c.ID, "new", jsondoc.Doc(`{"content":"hi","parentId":"b1"}`), true))(t)
		m := got.Doc.Get("history", "messages", "new")
		if m.Text("role") != "user" || m.Get("childrenIds").String() != "[]" || got.Doc.Text("history", "currentId") != "new" || *got.CurrentMessageID != "new" {
			t.Errorf("new message %s", m)
		}
		if g := got.Doc.Get("history", "messages", "b1", "childrenIds").String(); g != `["new"]` {
			t.Errorf("parent's children %s", g)
		}
		must(s.UpsertMessage(ctx, c.ID, "new", jsondoc.Doc(`{"meta":{"voice":1,"x":2}}`), true))(t)
		got = must(s.UpsertMessage(ctx, c.ID, "new", jsondoc.Doc(`{"meta":{"y":3}}`), true))(t)
		if g := got.Doc.Get("history", "messages", "new", "meta").String(); g != `{"voice":1,"y":3}` {
			t.Errorf("meta %s", g)
		}
		if err := s.Progress(ctx, c.ID, "new", jsondoc.Doc(`{"content":"hi th","done":false}`)); err != nil {
			t.Fatal(err)
		}
		if g := rowText(t, db, c.ID, "new", "content"); g != `"hi th"` {
			t.Errorf("progress %s", g)
		}
		if err := s.AddStatus(ctx, c.ID, "new", jsondoc.Doc(`{"description":"searching"}`)); err != nil {
			t.Fatal(err)
		}
		if g := must(s.Message(ctx, c.ID, "new"))(t).Get("statusHistory").String(); g != `[{"description":"searching"}]` {
			t.Errorf("statusHistory %s", g)
		}
		files := must(s.AddFiles(ctx, c.ID, "new", jsondoc.Doc(`{"id":"f"}`)))(t)
		if files.String() != `[{"id":"f"}]` {
			t.Errorf("files %s", files)
		}
	})
}

func TestDeleteMessageLiftsGrandchildren(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		got := must(s.DeleteMessage(ctx, c.ID, "a1"))(t)
		m := got.Doc.Get("history", "messages")
		if m.Len() != 2 || m.Text("b1", "parentId") != "q1" || m.Get("q1", "childrenIds").String() != `["b1"]` || got.Doc.Text("history", "currentId") != "b1" {
			t.Errorf("document %s", got.Doc)
		}
		if g := rowText(t, db, c.ID, "b1", "parent_id"); g != "q1" {
			t.Errorf("row of b1: %s", g)
		}
		var n int
		if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM chat_message WHERE chat_id = $1", c.ID).Scan(&n); err != nil || n != 2 {
			t.Errorf("%d rows, %v", n, err)
		}
		if got = must(s.DeleteMessage(ctx, c.ID, "nope"))(t); got.Doc.Get("history", "messages").Len() != 2 {
			t.Errorf("an unknown id changed %s", got.Doc)
		}
	})
}

func TestRepaired(t *testing.T) {
	for name, tc := range map[string]struct{ in, current, children string }{
		"middle goes to its last descendant": {`{"history":{"messages":{"a":{"id":"a","role":"user","parentId":null,"childrenIds":["b"]},"b":{"id":"b","role":"assistant","parentId":"a","childrenIds":[]}},"currentId":"a"}}`, "b", `["b"]`},
		"missing children are filled in":     {`{"history":{"messages":{"a":{"id":"a","role":"user","parentId":null},"b":{"id":"b","role":"assistant","parentId":"a","childrenIds":[]}},"currentId":"a"}}`, "b", `["b"]`},
		"unknown goes to the newest leaf":    {`{"history":{"messages":{"a":{"id":"a","role":"user","parentId":null,"childrenIds":["b","c"]},"b":{"id":"b","role":"assistant","parentId":"a","timestamp":9},"c":{"id":"c","role":"assistant","parentId":"a","timestamp":3}},"currentId":"zz"}}`, "b", `["b","c"]`},
		"sound stays":                        {`{"history":{"messages":{"a":{"id":"a","role":"user","parentId":null,"childrenIds":["b"]},"b":{"id":"b","role":"assistant","parentId":"a","childrenIds":[]}},"currentId":"b"}}`, "b", `["b"]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := chats.Repaired(jsondoc.Doc(tc.in))
			if got.Text("history", "currentId") != tc.current || got.Get("history", "messages", "a", "childrenIds").String() != tc.children {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"x\u0000y"}`:         `{"a":"xy"}`,
		`{"a":"\ud83d\ude00"}`:     `{"a":"\ud83d\ude00"}`,
		`{"a":"\ud83dx"}`:          `{"a":"x"}`,
		`{"a":"\udc00\u00e9"}`:     `{"a":"\u00e9"}`,
		`{"a":"\\u0000"}`:          `{"a":"\\u0000"}`,
		`{"a":"\\\u0000\n\u0041"}`: `{"a":"\\\n\u0041"}`,
		`{"k\u0000":1}`:            `{"k":1}`,
	} {
		if got := string(chats.Clean(jsondoc.Doc(in))); got != want {
			t.Errorf("Clean(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestInsertTurn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		una := chats.Author{ID: "u1", Name: "Una"}
		ask := jsondoc.Doc(`{"id":"q3","parentId":"b1","content":"More?","models":["m"]}`)
		turn := must(s.InsertTurn(ctx, c.ID, una, ask, []chats.Reply{{MessageID: "r1", ModelID: "m"}}))(t)
		if turn.CurrentID.String() != `"r1"` || turn.Messages.Get("q3", "childrenIds").String() != `["r1"]` || turn.Messages.Get("b1", "childrenIds").String() != `["q3"]` {
			t.Errorf("turn %s at %s", turn.Messages, turn.CurrentID)
		}
		if g := rowText(t, db, c.ID, "r1", "role"); g != "assistant" {
			t.Errorf("row of the answer: %s", g)
		}
		must(s.UpsertMessage(ctx, c.ID, "r1", jsondoc.Doc(`{"content":"yes","done":true}`), true))(t)
		for name, tc := range map[string]struct {
			ask  string
			id   string
			want error
		}{
			"answer id is taken": {`{"id":"q3"}`, "r1", chats.ErrMessageExists},
			"no id":              {`{"id":""}`, "r2", chats.ErrMessageExists},
			"of an answer":       {`{"id":"b1"}`, "r2", chats.ErrNotUser},
			"parent is gone":     {`{"id":"q9","parentId":"zz"}`, "r2", chats.ErrNoParent},
		} {
			if _, err := s.InsertTurn(ctx, c.ID, una, jsondoc.Doc(tc.ask), []chats.Reply{{MessageID: tc.id, ModelID: "m"}}); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		if unfinished := must(s.Unfinished(ctx, []string{c.ID}))(t); unfinished[c.ID] {
			t.Error("nothing is unfinished")
		}
		again := must(s.InsertTurn(ctx, c.ID, una, jsondoc.Doc(`{"id":"q3"}`), []chats.Reply{{MessageID: "r2", ModelID: "m"}}))(t)
		if g := again.Messages.Get("q3", "childrenIds").String(); g != `["r1","r2"]` {
			t.Errorf("siblings %s", g)
		}
		if unfinished := must(s.Unfinished(ctx, []string{c.ID}))(t); !unfinished[c.ID] {
			t.Error("the new answer is unfinished")
		}
	})
}

func TestListsAndMarks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		a, b := insert(t, s, "u1", `{"title":"a"}`), insert(t, s, "u1", `{"title":"b"}`)
		insert(t, s, "u2", `{"title":"other"}`)
		must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: jsondoc.Doc(`{"title":"hidden"}`), Meta: jsondoc.Doc(`{"internal":true,"parent_chat_id":"` + a.ID + `"}`)}))(t)
		titles := func(list []chats.Head, err error) string {
			t.Helper()
			var out []string
			for _, h := range must(list, err)(t) {
				out = append(out, h.Title)
			}
			return strings.Join(out, " ")
		}
		all := chats.ListOptions{Sort: "title", Dir: "asc"}
		if g := titles(s.List(ctx, "u1", all)); g != "a b" {
			t.Errorf("list %q", g)
		}
		if kids := must(s.Children(ctx, a.ID, "u1"))(t); len(kids) != 1 {
			t.Errorf("children %v", kids)
		}
		if c := must(s.TogglePinned(ctx, a.ID))(t); c.Pinned == nil || !*c.Pinned {
			t.Error("not pinned")
		}
		if g := titles(s.List(ctx, "u1", all)); g != "b" {
			t.Errorf("list without the pinned one %q", g)
		}
		if g := titles(s.PinnedList(ctx, "u1")); g != "a" {
			t.Errorf("pinned %q", g)
		}
		folder := "f1"
		if c := must(s.Move(ctx, a.ID, "u1", &folder))(t); *c.Pinned || *c.FolderID != "f1" {
			t.Errorf("moved %+v", c)
		}
		if g := titles(s.InFolder(ctx, "f1", "u1", "unread_updated_at", "", chats.Page{Limit: 10})); g != "a" {
			t.Errorf("in folder %q", g)
		}
		if f := must(s.MarkUnread(ctx, a.ID, "u1"))(t); f == nil || *f != "f1" {
			t.Errorf("folder %v", f)
		}
		if n := must(s.UnreadInFolders(ctx, "u1", []string{"f1", "f2"}))(t); n["f1"] != 1 || len(n) != 1 {
			t.Errorf("unread %v", n)
		}
		if n := must(s.MarkAllRead(ctx, "u1"))(t); n != 2 {
			t.Errorf("marked %d", n)
		}
		if c := must(s.ToggleArchived(ctx, b.ID))(t); !c.Archived {
			t.Error("not archived")
		}
		if g := titles(s.Archived(ctx, "u1", chats.Filter{Query: "B"}, chats.Page{Limit: 60})); g != "b" {
			t.Errorf("archived %q", g)
		}
		if _, err := s.Archived(ctx, "u1", chats.Filter{OrderBy: "nope", Direction: "asc"}, chats.Page{}); !errors.Is(err, chats.ErrOrder) {
			t.Errorf("unknown column: %v", err)
		}
		if err := s.Delete(ctx, a.ID, "u2"); err != nil {
			t.Fatal(err)
		}
		if ok := must(s.IsOwner(ctx, a.ID, "u1"))(t); !ok {
			t.Error("another user deleted the chat")
		}
		if err := s.DeleteAllOf(ctx, "u1"); err != nil {
			t.Fatal(err)
		}
		if g := titles(s.AllOf(ctx, "u1", chats.Filter{}, chats.Page{})); g != "" {
			t.Errorf("left over: %q", g)
		}
	})
}

func TestTagsFollowChats(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", `{"title":"a"}`)
		for _, n := range []string{"Two Words", "two words", "b"} {
			if err := s.AddTag(ctx, c.ID, "u1", n); err != nil {
				t.Fatal(err)
			}
		}
		c = must(s.Get(ctx, c.ID))(t)
		if got := strings.Join(c.Tags(), ","); got != "two_words,b" {
			t.Errorf("tags %s", got)
		}
		list := must(s.TagsByIDs(ctx, "u1", c.Tags()))(t)
		if len(list) != 2 || list[0].Name != "Two Words" && list[1].Name != "Two Words" {
			t.Errorf("tags %+v", list)
		}
		if heads := must(s.WithTag(ctx, "u1", "two_words", chats.Page{Limit: 50}))(t); len(heads) != 1 {
			t.Errorf("with tag: %v", heads)
		}
		if err := s.SetTags(ctx, c.ID, "u1", []string{"c", "None"}); err != nil {
			t.Fatal(err)
		}
		if list = must(s.TagsOf(ctx, "u1"))(t); len(list) != 1 || list[0].ID != "c" {
			t.Errorf("tags after the change %+v", list)
		}
		if err := s.RemoveTag(ctx, c.ID, "u1", "c"); err != nil {
			t.Fatal(err)
		}
		if list = must(s.TagsOf(ctx, "u1"))(t); len(list) != 0 {
			t.Errorf("orphans %+v", list)
		}
	})
}

func TestShare(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		c, _, err := s.Share(ctx, c.ID, jsondoc.Doc(`"continue"`))
		if err != nil || c.ShareID == nil {
			t.Fatal(err)
		}
		id := *c.ShareID
		if !must(s.SharedMode(ctx, c.ID))(t) {
			t.Error("the mode is not continue")
		}
		if err := s.SetTitle(ctx, c.ID, "Streams"); err != nil {
			t.Fatal(err)
		}
		if sh := must(s.Shared(ctx, id))(t); sh.Title != "Rivers" {
			t.Errorf("the copy followed the chat: %s", sh.Title)
		}
		again, renewed, err := s.Share(ctx, c.ID, nil)
		if err != nil || !renewed || *again.ShareID != id {
			t.Fatalf("%v %v", renewed, err)
		}
		if sh := must(s.Shared(ctx, id))(t); sh.Title != "Streams" || !sh.Continues() {
			t.Errorf("renewed copy %s %s", sh.Title, sh.Doc)
		}
		if err := s.InTx(ctx, func(tx *store.Tx) error { return s.SetShareMode(ctx, tx, id, nil) }); err != nil {
			t.Fatal(err)
		}
		if must(s.SharedMode(ctx, c.ID))(t) {
			t.Error("the mode is still continue")
		}
		ids := must(s.UnshareAll(ctx, "u1", nil))(t)
		if len(ids) != 1 || must(s.Get(ctx, c.ID))(t).ShareID != nil {
			t.Errorf("unshared %v", ids)
		}
	})
}

func TestWritersDoNotLoseMessages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				id := string(rune('k' + i))
				var err error
				switch i % 3 {
				case 0:
					_, err = s.UpsertMessage(ctx, c.ID, id, jsondoc.Doc(`{"content":"x","parentId":"b1"}`), true)
				case 1:
					_, err = s.Update(ctx, c.ID, chats.NewPatch(jsondoc.Doc(`{"history":{"messages":{"`+id+`":{"id":"`+id+`","parentId":"b1","role":"user","content":"y"}},"currentId":"`+id+`"}}`)), nil, true)
				case 2:
					_, err = s.InsertTurn(ctx, c.ID, chats.Author{ID: "u1"}, jsondoc.Doc(`{"id":"`+id+`","parentId":"b1","content":"z"}`), []chats.Reply{{MessageID: id + id, ModelID: "m"}})
				}
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		doc := must(s.Get(ctx, c.ID))(t).Doc
		if n := doc.Get("history", "messages").Len(); n != 4+6+2 {
			t.Errorf("%d messages", n)
		}
		if n := doc.Get("history", "messages", "b1", "childrenIds").Len(); n != 6 {
			t.Errorf("children %s", doc.Get("history", "messages", "b1", "childrenIds"))
		}
		if m := must(s.Messages(ctx, c.ID))(t); m.Len() != 12 {
			t.Errorf("%d rows", m.Len())
		}
	})
}

// An export has every chat once, also those that share a second and those that are changed while it goes on.
func TestEachHasAllOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		var ids, own []string // more than are read at a time
		for i := range 80 {
			id := insert(t, s, []string{"u", "v"}[i%2], `{"title":"x"}`).ID
			if ids = append(ids, id); i%2 == 0 {
				own = append(own, id)
			}
		}
		if _, err := db.Exec(ctx, "UPDATE chat SET updated_at = 5"); err != nil {
			t.Fatal(err)
		}
		for _, each := range []struct {
			name string
			ids  []string
			of   func(f func(*chats.Chat) error) error
		}{
			{"all", ids, func(f func(*chats.Chat) error) error { return s.EachOfAll(ctx, f) }},
			{"of one", own, func(f func(*chats.Chat) error) error { return s.EachOf(ctx, "u", -1, false, f) }},
		} {
			var seen []string
			if err := each.of(func(c *chats.Chat) error {
				seen = append(seen, c.ID)
				// the last of the list becomes the newest
				_, err := db.Exec(ctx, "UPDATE chat SET updated_at = updated_at + $1 WHERE id = $2", len(seen), ids[len(ids)-len(seen)])
				return err
			}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(seen)
			want := slices.Sorted(slices.Values(each.ids))
			if !slices.Equal(seen, want) {
				t.Errorf("%s: %v, want %v", each.name, seen, want)
			}
		}
	})
}
