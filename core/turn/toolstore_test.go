package turn

import (
	"context"
	"testing"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

// owners lets users write to their own chats.
type owners struct{ chats *chats.Store }

func (o owners) Writable(ctx context.Context, u *users.User, id string) (*chats.Chat, error) {
	c, err := o.chats.Head(ctx, id)
	if err == nil && c.UserID != u.ID {
		return nil, store.ErrNotFound
	}
	return c, err
}

// TestToolsInADatabase takes a turn with tools through the tables: what a tool says on its way, an approval, the answer.
func TestToolsInADatabase(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		kept := chats.New(db)
		b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", `{"a": 1}`)), says("done")), tool("add", func(_ context.Context, c ToolCall) (ToolResult, error) {
			c.Emit("status", jsondoc.Doc(`{"description":"adding"}`))
			c.Emit("files", jsondoc.Doc(`{"files":[{"id":"f1"}]}`))
			return ToolResult{Content: c.Arguments}, nil
		}))
		b.Store = ChatStore{Chats: kept, Gate: owners{kept}}
		if err := b.Settings.Set(ctx, config.Changes{config.ChatToolPermissionsEnable.Key(): true}); err != nil {
			t.Fatal(err)
		}
		c, err := kept.Insert(ctx, chats.NewChat{UserID: "u1", Doc: jsondoc.Doc(`{"title":"T","history":{"messages":{},"currentId":null}}`)})
		if err != nil {
			t.Fatal(err)
		}
		run := func(body string) jsondoc.Doc {
			t.Helper()
			b.rt.mu.Lock()
			b.rt.events = nil
			b.rt.mu.Unlock()
			if _, err := b.run(body); err != nil {
				t.Fatal(err)
			}
			b.rt.wait(t, "end", ended)
			m, err := kept.Message(ctx, c.ID, "a1")
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		asked := func(more string) string {
			return `{"stream":true,"model":"m","session_id":"s1","chat_id":"` + c.ID + `","id":"a1","tool_ids":["plugin:s"],"params":{"tool_approval_mode":"ask"},` + more + `}`
		}
		m := run(asked(`"user_message":{"id":"q1","parentId":null,"role":"user","content":"hello"}`))
		if summary(m.Get("output")) != `add{"a": 1} pending` || m.Bool("done") || string(m.Get("meta", "tool_ids")) != `["plugin:s"]` || m.Text("meta", "task_id") == "" {
			t.Fatalf("%s", m)
		}
		if err := kept.EditMessage(ctx, c.ID, "a1", func(m jsondoc.Doc) (jsondoc.Doc, error) {
			return m.Set(jsondoc.Array(m.Get("output", "0").Set(jsondoc.Doc("true"), "approved")), "output"), nil
		}); err != nil {
			t.Fatal(err)
		}
		m = run(asked(`"assistant_message_id":"a1","messages":[]`))
		if summary(m.Get("output")) != `add{"a":1} completed | ={ "a": 1 } completed | done completed` || !m.Bool("done") || m.Text("content") != "done" ||
			m.Text("statusHistory", "0", "description") != "adding" || m.Text("files", "0", "id") != "f1" {
			t.Errorf("%s", m)
		}
	})
}
