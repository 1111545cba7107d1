package chats_test

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

func TestLinkFiles(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		for _, id := range []string{"f1", "f2"} {
			if _, err := db.Exec(ctx, "INSERT INTO file (id, user_id, filename, created_at, updated_at) VALUES ($1, 'u1', 'name', 0, 0)", id); err != nil {
				t.Fatal(err)
			}
		}
		for message, ids := range map[string][]string{"q1": {"f1"}, "q2": {"f2"}} {
			if err := s.LinkFiles(ctx, c.ID, message, "u1", ids); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.LinkFiles(ctx, c.ID, "q2", "u1", []string{"f1"}); err != nil {
			t.Fatal(err)
		}
		if got := must(s.LinkedFiles(ctx, c.ID, "q1"))(t); strings.Join(got, ",") != "f1" {
			t.Errorf("of the message %v", got)
		}
		if err := s.UnlinkFile(ctx, c.ID, "f1"); err != nil {
			t.Fatal(err)
		}
		if got := must(s.LinkedFiles(ctx, c.ID, "q1"))(t); len(got) != 0 {
			t.Errorf("after unlinking %v", got)
		}
	})
}

func TestOfNote(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		meta := jsondoc.Doc(`{"internal":true,"type":"note","note_id":"n1"}`)
		c := must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: jsondoc.Doc(`{"title":"t"}`), Meta: meta}))(t)
		if got := must(s.OfNote(ctx, "n1", "u1"))(t); len(got) != 1 || got[0].ID != c.ID || !got[0].Internal() {
			t.Errorf("chats of the note %v", got)
		}
		if got := must(s.OfNote(ctx, "n1", "u2"))(t); len(got) != 0 {
			t.Errorf("another's chats of the note %v", got)
		}
		if got := must(s.Metas(ctx, []string{c.ID}, false))(t); !got[c.ID].Bool("internal") {
			t.Errorf("meta %v", got)
		}
	})
}

func TestEditMessageAndEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := chats.New(db)
		c := insert(t, s, "u1", twoTurns)
		if err := s.Progress(ctx, c.ID, "b1", jsondoc.Doc(`{"content":"from the row"}`)); err != nil {
			t.Fatal(err)
		}
		err := s.EditMessage(ctx, c.ID, "b1", func(m jsondoc.Doc) (jsondoc.Doc, error) {
			if m.Text("content") != "from the row" || m.Get("childrenIds") == nil {
				t.Errorf("message %s", m)
			}
			return m.Set(jsondoc.Doc("true"), "done"), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if m := chats.HistoryMap(must(s.Get(ctx, c.ID))(t).Doc).Get("b1"); m.Text("content") != "from the row" || !m.Bool("done") {
			t.Errorf("document %s", m)
		}
		if err := s.EditMessage(ctx, c.ID, "zz", func(jsondoc.Doc) (jsondoc.Doc, error) { t.Error("called"); return nil, nil }); err == nil {
			t.Error("an unknown message was edited")
		}
		for _, e := range [][2]string{{"message", `{"content":" and more"}`}, {"files", `{"files":[1]}`}, {"files", `{"files":[2]}`}, {"embeds", `{"embeds":["a"]}`},
			{"embeds", `{"embeds":["b"],"replace":true}`}, {"source", `{"n":1}`}, {"citation", `{"type":"x"}`}, {"other", `{}`}} {
			if err := s.SaveEvent(ctx, c.ID, "b1", e[0], jsondoc.Doc(e[1])); err != nil {
				t.Fatal(err)
			}
		}
		m := must(s.Message(ctx, c.ID, "b1"))(t)
		if m.Text("content") != "from the row and more" || m.Get("files").String() != "[2,1]" || m.Get("embeds").String() != `["b"]` || m.Get("sources").String() != `[{"n":1}]` {
			t.Errorf("kept %s", m)
		}
		if err := s.SaveEvent(ctx, "nope", "b1", "status", jsondoc.Doc("{}")); err != nil {
			t.Errorf("unknown chat: %v", err)
		}
	})
}

func TestUsage(t *testing.T) {
	got := chats.MergeUsage(jsondoc.Doc(`{"prompt_tokens":10,"completion_tokens":5,"cost":0.5,"prompt_tokens_details":{"cached":2}}`),
		jsondoc.Doc(`{"prompt_eval_count":3,"eval_count":4,"cost":0.25,"prompt_tokens_details":{"cached":1,"new":7}}`))
	for path, want := range map[string]string{"input_tokens": "13", "output_tokens": "9", "total_tokens": "22", "cost": "0.75", "prompt_tokens": "3", "completion_tokens": "4",
		"eval_count": "4"} {
		if g := got.Get(path).String(); g != want {
			t.Errorf("%s = %s, want %s", path, g, want)
		}
	}
	if g := got.Get("prompt_tokens_details").String(); g != `{"cached":3,"new":7}` {
		t.Errorf("details %s", g)
	}
	if g := chats.NormalizeUsage(jsondoc.Doc(`{"prompt_n":2,"cache_n":3,"predicted_n":4}`)); g.Get("total_tokens").String() != "9" {
		t.Errorf("llama.cpp's %s", g)
	}
	if chats.NormalizeUsage(jsondoc.Doc(`{}`)) != nil {
		t.Error("no usage is something")
	}
}
