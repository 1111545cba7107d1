package chats_test

import (
	"context"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	chatstore "github.com/galleychat/galley/core/store/chats"
	folderstore "github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/chats"
)

// running are tasks that seem to run for some chats.
type running struct {
	chats   map[string]bool
	stopped []string
	streams []chatstore.Stream
}

func (r *running) Active(ids []string) map[string]bool {
	out := map[string]bool{}
	for _, id := range ids {
		if r.chats[id] {
			out[id] = true
		}
	}
	return out
}

func (r *running) Stop(_ context.Context, id string) error {
	r.stopped = append(r.stopped, id)
	return nil
}

func (r *running) Streams(context.Context, string) []chatstore.Stream { return r.streams }

type server struct {
	*sessiontest.Server
	t       *testing.T
	store   *chatstore.Store
	folders *folderstore.Store
	tasks   *running
	events  []events.Event
}

func newServer(t *testing.T, db *store.DB) *server {
	s := &server{Server: sessiontest.New(t, db), t: t, store: chatstore.New(db), folders: folderstore.New(db), tasks: &running{chats: map[string]bool{}}}
	rules := folderstore.NewAccess(s.folders, s.Access)
	bus := events.NewBus("")
	bus.Subscribe(func(_ context.Context, e events.Event) { s.events = append(s.events, e) })
	s.Router.Mount("/api/v1/chats", chats.New(chats.Deps{Store: s.store, Access: chatstore.NewAccess(s.store, s.Access, rules, true), Grants: s.Access, Folders: s.folders,
		FolderRules: rules, Users: s.Users, Settings: s.Settings, AdminExport: true, Realtime: s.Realtime, Tasks: s.tasks, Completer: echo{},
		Events: bus}))
	s.Router.Finish()
	return s
}

const answered = `{"title":"Rivers","models":["echo-small"],"history":{"messages":{
 "q":{"id":"q","parentId":null,"childrenIds":["a"],"role":"user","content":"Name a river","timestamp":1700000000},
 "a":{"id":"a","parentId":"q","childrenIds":[],"role":"assistant","content":"The Rhine","model":"echo-small","done":false,"meta":{"task_id":"t"}}},"currentId":"a"},"params":{"p":1}}`

func (s *server) create(token, doc string) string {
	s.t.Helper()
	a := s.Call(token, "POST /api/v1/chats/new", `{"chat":`+doc+`,"variables":{"v":1}}`)
	if a.Code != 200 {
		s.t.Fatalf("create: %d %s", a.Code, a.Body)
	}
	return a.Doc().Text("id")
}

func TestViewDependsOnReader(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		_, admin := s.User("Ada", "admin")
		una, mine := s.User("Una", "user")
		_, theirs := s.User("Bob", "user")
		id := s.create(mine, answered)
		path := "GET /api/v1/chats/" + id
		own := s.Call(mine, path, "").Doc()
		if own.Text("chat", "share_mode") != "continue" || own.Get("chat", "params").String() != `{"p":1}` || own.Get("variables").String() != `{"v":1}` ||
			own.Text("chat", "history", "messages", "q", "user", "name") != "Una" || own.Text("chat", "history", "messages", "a", "user_id") != una.ID ||
			own.Text("chat", "history", "messages", "a", "meta", "task_id") != "t" {
			t.Errorf("to its owner: %s", own)
		}
		seen := s.Call(admin, path, "").Doc()
		if !seen.Get("chat", "share_mode").IsNull() || seen.Get("chat", "params") != nil || seen.Get("variables").String() != "{}" || seen.Get("chat", "history", "messages", "a", "meta") != nil {
			t.Errorf("to an administrator: %s", seen)
		}
		if a := s.Call(theirs, path, ""); a.Code != 401 || a.Detail() != "We could not find what you're looking for :/" {
			t.Errorf("to another: %d %s", a.Code, a.Body)
		}
		s.tasks.streams = []chatstore.Stream{{MessageID: "a", Content: "The Rh", Output: jsondoc.Doc(`[{"type":"message"}]`)}}
		running := s.Call(mine, path, "").Doc().Get("chat", "history", "messages", "a")
		if running.Text("content") != "The Rh" || running.Get("output").Len() != 1 || running.Get("done").String() != "false" {
			t.Errorf("while it is answered: %s", running)
		}
	})
}

func TestActiveChats(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, mine := s.User("Una", "user")
	id, done := s.create(mine, answered), s.create(mine, strings.Replace(answered, `"done":false`, `"done":true`, 1))
	s.tasks.chats = map[string]bool{id: true, done: true}
	for _, item := range s.Call(mine, "GET /api/v1/chats/?page=1", "").Doc().List() {
		if item.Bool("active") != (item.Text("id") == id) {
			t.Errorf("active: %s", item)
		}
	}
	for _, call := range []string{"/fork", "/compact"} {
		if a := s.Call(mine, "POST /api/v1/chats/"+id+call, "{}"); a.Code != 409 && call == "/compact" || a.Code == 200 {
			t.Errorf("%s of a running chat: %d %s", call, a.Code, a.Body)
		}
	}
	if a := s.Call(mine, "DELETE /api/v1/chats/"+id, ""); a.Body.String() != "true" || len(s.tasks.stopped) != 1 || s.tasks.stopped[0] != id {
		t.Errorf("delete: %s, stopped %v", a.Body, s.tasks.stopped)
	}
}

func TestPermissions(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, admin := s.User("Ada", "admin")
	_, mine := s.User("Una", "user")
	_, waiting := s.User("Pete", "pending")
	id := s.create(mine, answered)
	for _, tc := range []struct {
		permission, call, body string
		want                   int
	}{
		{"chat.delete", "DELETE /api/v1/chats/" + id, "", 401},
		{"chat.delete", "DELETE /api/v1/chats/", "", 401},
		{"chat.share", "POST /api/v1/chats/" + id + "/share", "", 401},
		{"chat.import", "POST /api/v1/chats/import", `{"chats":[]}`, 403},
		{"chat.import", "POST /api/v1/chats/" + id + "/clone", "{}", 403},
	} {
		s.Set("user.permissions", map[string]any{"chat": map[string]bool{strings.TrimPrefix(tc.permission, "chat."): false}})
		if a := s.Call(mine, tc.call, tc.body); a.Code != tc.want {
			t.Errorf("%s without %s: %d %s", tc.call, tc.permission, a.Code, a.Body)
		}
	}
	s.Set("user.permissions", map[string]any{"chat": map[string]bool{"temporary": true, "temporary_enforced": true}})
	if a := s.Call(mine, "POST /api/v1/chats/new", `{"chat":{}}`); a.Code != 403 {
		t.Errorf("only temporary chats: %d %s", a.Code, a.Body)
	}
	if a := s.Call(admin, "POST /api/v1/chats/new", `{"chat":{}}`); a.Code != 200 {
		t.Errorf("administrator: %d %s", a.Code, a.Body)
	}
	for _, call := range []string{"GET /api/v1/chats/", "GET /api/v1/chats/all/db", "POST /api/v1/chats/read"} {
		if a := s.Call(waiting, call, ""); a.Code != 401 {
			t.Errorf("pending, %s: %d", call, a.Code)
		}
	}
	if a := s.Call(mine, "GET /api/v1/chats/all/db", ""); a.Code != 401 {
		t.Errorf("all chats to a member: %d", a.Code)
	}
}

func TestMessageEventsReachOwner(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	una, mine := s.User("Una", "user")
	_, admin := s.User("Ada", "admin")
	id := s.create(mine, answered)
	s.Realtime.Take()
	if a := s.Call(admin, "POST /api/v1/chats/"+id+"/messages/a/event", `{"type":"status","data":{"done":false}}`); a.Body.String() != "true" {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	want := []string{
		`emit user:` + una.ID + ` events {"chat_id":"` + id + `","message_id":"a","data":{"type":"status","data":{"done":false}}}`,
		`emit chat:` + id + ` events {"chat_id":"` + id + `","message_id":"a","user_id":"` + una.ID + `","shared":true,"data":{"type":"status","data":{"done":false}}}`,
	}
	if got := s.Realtime.Take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if m := s.Call(mine, "GET /api/v1/chats/"+id, "").Doc().Get("chat", "history", "messages", "a", "statusHistory"); m.String() != `[{"done":false}]` {
		t.Errorf("kept %s", m)
	}
	a := s.Call(mine, "POST /api/v1/chats/"+id+"/messages/a", `{"content":"x\u0000y \ud800"}`)
	if got := a.Doc().Text("chat", "history", "messages", "a", "content"); got != "xy " {
		t.Errorf("content %q", got)
	}
	if got := s.Realtime.Take(); len(got) != 1 || !strings.Contains(got[0], `"type":"chat:message"`) {
		t.Errorf("events %v", got)
	}
}

func TestFolderOwnerRenamesOthersChats(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		una, _ := s.User("Una", "user")
		bob, theirs := s.User("Bob", "user")
		folder, err := s.folders.Insert(context.Background(), folderstore.NewFolder{UserID: bob.ID, Name: "Shared"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.store.Insert(context.Background(), chatstore.NewChat{UserID: una.ID, Doc: jsondoc.Doc(answered), FolderID: &folder.ID})
		if err != nil {
			t.Fatal(err)
		}
		path := "POST /api/v1/chats/" + c.ID
		for body, want := range map[string]int{`{"chat":{"title":"x","models":[]}}`: 401, `{"chat":{"title":"  "}}`: 400, `{"chat":{"title":" New "}}`: 200} {
			a := s.Call(theirs, path, body)
			if a.Code != want || want == 200 && (a.Doc().Text("title") != "New" || a.Doc().Get("chat", "params") != nil) {
				t.Errorf("%s: %d %s", body, a.Code, a.Body)
			}
		}
	})
}

func TestExportStreams(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		_, admin := s.User("Ada", "admin")
		_, mine := s.User("Una", "user")
		for range 23 {
			s.create(mine, answered)
		}
		a := s.Call(mine, "GET /api/v1/chats/all", "")
		lines := strings.Split(strings.TrimSpace(a.Body.String()), "\n")
		if len(lines) != 23 || a.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%d lines of %s", len(lines), a.Header().Get("Content-Type"))
		}
		for _, l := range lines {
			if err := jsondoc.Valid([]byte(l)); err != nil {
				t.Fatalf("%v in %s", err, l)
			}
		}
		if n := s.Call(admin, "GET /api/v1/chats/all/db", "").Doc(); jsondoc.Valid(n) != nil || n.Len() != 23 {
			t.Errorf("all chats: %d", n.Len())
		}
		stats := s.Call(mine, "GET /api/v1/chats/stats/export?page=3", "").Doc()
		if total, _ := stats.Int("total"); total != 23 || stats.Get("items").Len() != 3 {
			t.Errorf("statistics %s", stats)
		}
		lines = strings.Split(strings.TrimSpace(s.Call(mine, "GET /api/v1/chats/stats/export?stream=true", "").Body.String()), "\n")
		if len(lines) != 23 || jsondoc.Doc(lines[0]).Text("chat", "history", "currentId") != "a" {
			t.Errorf("%d lines, the first %s", len(lines), lines[0])
		}
	})
}
