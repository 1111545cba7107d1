package memories

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/memory"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/vector"
)

// letters embeds texts by how often they have some letters.
type letters struct{}

func (letters) Model() string { return "letters" }

func (letters) Embed(_ context.Context, _ embed.Use, texts []string, _ *llm.Caller) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, t := range texts {
		out[i] = []float32{float32(strings.Count(t, "b")), float32(strings.Count(t, "w"))}
	}
	return out, nil
}

func newServer(t *testing.T, db *store.DB) *sessiontest.Server {
	s := sessiontest.New(t, db)
	s.Router.Mount("/memories", New(Deps{memory.New(memory.Deps{
		Store: memories.New(db), Users: s.Users, Access: s.Access, Settings: s.Settings, Embedder: letters{}, Vectors: vector.New(db), Log: s.Log,
	})}))
	s.Router.Finish()
	return s
}

func TestMemories(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		_, admin := s.User("Root", "admin")
		_, ann := s.User("Ann", "user")
		_, bob := s.User("Bob", "user")
		call := func(who, call, body string) (int, jsondoc.Doc) {
			t.Helper()
			w := s.Call(map[string]string{"ann": ann, "bob": bob, "admin": admin}[who], call, body)
			return w.Code, jsondoc.Doc(w.Body.String())
		}
		_, m := call("ann", "POST /memories/add", `{"content":"  bees ","path":"/a//b/"}`)
		id := m.Text("id")
		if m.Text("content") != "bees" || m.Text("path") != "a/b" || m.Text("type") != "context" || string(m.Get("meta")) != `{"created_by":"manual"}` {
			t.Fatalf("%s", m)
		}
		_, m = call("ann", "POST /memories/add", `{"content":"wasps","type":"user"}`)
		wasps := m.Text("id")
		for _, c := range []struct {
			who, call, body string
			status          int
			want            string // is in the answer
		}{
			{"ann", "GET /memories/", "", 200, `"content":"bees"`},
			{"bob", "GET /memories/", "", 200, `[]`},
			{"", "GET /memories/", "", 401, "Not authenticated"},
			{"ann", "POST /memories/add", `{"content":" "}`, 400, "Memory content cannot be empty"},
			{"ann", "POST /memories/add", `{"content":"x","path":"a/../b"}`, 400, "Invalid memory path"},
			{"ann", "POST /memories/add", `{"content":"x","type":"odd"}`, 422, "literal_error"},
			{"ann", "POST /memories/query", `{"content":"b"}`, 200, `{"ids":[["` + id + `"]],"documents":[["a/b\nbees"]],"metadatas":[[{"created_at":`},
			{"ann", "POST /memories/query", `{"content":"w","k":5}`, 200, `"distances":[[1,0.5]]`},
			{"ann", "POST /memories/query", `{"content":"b","k":null}`, 200, `null`},
			{"bob", "POST /memories/query", `{"content":"b"}`, 404, "No memories found for user"},
			{"ann", "POST /memories/search", `{"query":"WASPS"}`, 200, `[{"id":"` + wasps + `"`},
			{"ann", "POST /memories/search", `{"path":"./x"}`, 400, "Invalid memory path"},
			{"ann", "POST /memories/search", `{"limit":null}`, 422, "int_type"},
			{"ann", "POST /memories/paths", `{}`, 200, `"count":2}`},
			{"ann", "POST /memories/path", `{"path":"a"}`, 200, `{"path":"a","parents":[],"children":["a/b"],"memories":[{"id":"` + id},
			{"ann", "POST /memories/path", `{"path":"/"}`, 400, "Memory path is required"},
			{"bob", "POST /memories/" + id + "/update", `{"content":"no"}`, 404, "could not find"},
			{"ann", "POST /memories/" + id + "/update", `{}`, 400, "No memory update provided"},
			{"ann", "POST /memories/" + id + "/update", `{"path":"","type":"user"}`, 200, `"type":"user","path":null,"content":"bees"`},
			{"ann", "POST /memories/update", `{"operations":[]}`, 400, "No memory operations provided"},
			{"ann", "POST /memories/update", `{"operations":[{"action":"move"}]}`, 400, "Memory id is required for move"},
			{"ann", "POST /memories/update", `{"operations":[{"action":"explode"}]}`, 422, "literal_error"},
			{"ann", "POST /memories/update", `{"operations":[{"action":"add","content":"x"},{"action":"remove","id":"nope"}]}`, 404, "Memory not found: nope"},
			{"bob", "POST /memories/update", `{"operations":[{"action":"remove","id":"` + id + `"}]}`, 404, "Memory not found"},
			{"ann", "POST /memories/update", `{"operations":[{"action":"add","content":"bees","type":"user"}]}`, 200, `"reason":"duplicate"`},
			{"ann", "POST /memories/update", `{"operations":[{"action":"replace","id":"` + id + `","content":"more bees"}],"source":"background_review"}`, 200, `[{"action":"replace","status":"updated","memory":{"id":`},
			{"ann", "POST /memories/reset", "", 200, "true"},
			{"ann", "POST /memories/reindex", "", 401, "permission"},
			{"admin", "POST /memories/reindex", "", 200, `{"status":true,"total_users":3,"total_memories":2}`},
			{"bob", "DELETE /memories/" + id, "", 200, "false"},
			{"ann", "DELETE /memories/" + id, "", 200, "true"},
			{"ann", "DELETE /memories/" + id, "", 200, "false"},
			{"ann", "DELETE /memories/delete/user", "", 200, "true"},
			{"ann", "GET /memories/", "", 200, `[]`},
		} {
			if status, body := call(c.who, c.call, c.body); status != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("%s %s %s: %d %s", c.who, c.call, c.body, status, body)
			}
		}
	})
}

func TestSwitches(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	_, admin := s.User("Root", "admin")
	_, ann := s.User("Ann", "user")
	status := func(token string) int { return s.Call(token, "GET /memories/", "").Code }
	s.Set("user.permissions", map[string]any{"features": map[string]any{"memories": false}})
	if a, u := status(admin), status(ann); a != http.StatusOK || u != http.StatusForbidden {
		t.Errorf("without the permission: %d %d", a, u)
	}
	s.Set("memories.enable", false)
	if a, u := status(admin), status(ann); a != http.StatusNotFound || u != http.StatusNotFound {
		t.Errorf("switched off: %d %d", a, u)
	}
}

func TestDeletedUsersLeaveNoMemories(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		u, ann := s.User("Ann", "user")
		s.Call(ann, "POST /memories/add", `{"content":"bees"}`)
		if err := s.Users.Delete(context.Background(), u.ID); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"memory", "galley_vector"} {
			var n int
			if err := db.QueryRow(context.Background(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: %d %v", table, n, err)
			}
		}
	})
}
