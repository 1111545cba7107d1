package chats_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

// longChat is a document of n messages of about size bytes of text each.
func longChat(n, size int) jsondoc.Doc {
	words := strings.Repeat("Some plain words about rivers, canals and \\\"locks\\\".\\n", size/50+1)[:size/50*50]
	var b strings.Builder
	b.WriteString(`{"title":"Long talk","models":["m"],"history":{"messages":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		parent, child := "null", ""
		if i > 0 {
			parent = fmt.Sprintf(`"message-%d"`, i-1)
		}
		if i+1 < n {
			child = fmt.Sprintf(`"message-%d"`, i+1)
		}
		fmt.Fprintf(&b, `"message-%d":{"id":"message-%d","parentId":%s,"childrenIds":[%s],`, i, i, parent, child)
		if i%2 == 0 {
			fmt.Fprintf(&b, `"role":"user","content":"%s","timestamp":%d,"models":["m"],"user_id":"u1","user":{"id":"u1","name":"Una"}}`, words, 1700000000+i)
		} else {
			fmt.Fprintf(&b, `"role":"assistant","content":"%s","model":"m","modelName":"M","modelIdx":0,"timestamp":%d,"done":true,"usage":{"prompt_tokens":12,"completion_tokens":40},"user_id":"u1"}`, words, 1700000000+i)
		}
	}
	fmt.Fprintf(&b, `},"currentId":"message-%d"},"params":{},"files":[]}`, n-1)
	return jsondoc.Doc(b.String())
}

func benchStore(b *testing.B) *chats.Store { return chats.New(storetest.SQLite(b)) }

func BenchmarkView(b *testing.B) {
	for _, tc := range []struct{ n, size int }{{40, 900}, {400, 2300}} {
		b.Run(fmt.Sprintf("messages=%d", tc.n), func(b *testing.B) {
			s := benchStore(b)
			c := must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: longChat(tc.n, tc.size)}))(b)
			b.SetBytes(int64(len(c.Doc)))
			b.ReportAllocs()
			for b.Loop() {
				c := must(s.Get(ctx, c.ID))(b)
				v := must(c.View(ctx, chats.Viewer{ID: "u1", Mode: "continue", Repair: true}))(b)
				if _, err := v.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGetOnly(b *testing.B) {
	s := benchStore(b)
	c := must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: longChat(400, 2300)}))(b)
	b.ReportAllocs()
	for b.Loop() {
		must(s.Get(ctx, c.ID))(b)
	}
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{2, 40} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			s := benchStore(b)
			doc := longChat(n, 900)
			for range 200 {
				must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: doc}))(b)
			}
			b.ReportAllocs()
			for b.Loop() {
				if list := must(s.List(ctx, "u1", chats.ListOptions{Page: chats.Page{Limit: 60}}))(b); len(list) != 60 {
					b.Fatal(len(list))
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	s := benchStore(b)
	doc := longChat(40, 900)
	c := must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: doc}))(b)
	b.ReportAllocs()
	for b.Loop() {
		must(s.Update(ctx, c.ID, chats.NewPatch(doc), &chats.Author{ID: "u1", Name: "Una"}, true))(b)
	}
}

func BenchmarkInsert(b *testing.B) {
	for _, n := range []int{2, 40} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			s := benchStore(b)
			doc := longChat(n, 900)
			b.ReportAllocs()
			for b.Loop() {
				must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: doc, Author: &chats.Author{ID: "u1", Name: "Una"}}))(b)
			}
		})
	}
}

func BenchmarkUpsertMessage(b *testing.B) {
	s := benchStore(b)
	c := must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: longChat(400, 2300)}))(b)
	fields := jsondoc.Doc(`{"content":"` + strings.Repeat("more words ", 100) + `","done":true}`)
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			must(s.UpsertMessage(ctx, c.ID, "message-399", fields, true))(b)
		}
	})
	b.Run("progress", func(b *testing.B) {
		for b.Loop() {
			if err := s.Progress(ctx, c.ID, "message-399", fields); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSearch(b *testing.B) {
	s := benchStore(b)
	for i := range 200 {
		doc := longChat(40, 900)
		must(s.Insert(ctx, chats.NewChat{UserID: "u1", Doc: doc, UpdatedAt: int64(1700000000 + i)}))(b)
	}
	for _, text := range []string{"plain", "plain words", "absent", "talk missing"} {
		b.Run(strings.ReplaceAll(text, " ", "+"), func(b *testing.B) {
			q := chats.ParseQuery(text)
			q.UserID, q.Limit = "u1", 60
			b.ReportAllocs()
			for b.Loop() {
				must(s.Search(ctx, q))(b)
			}
		})
	}
}
