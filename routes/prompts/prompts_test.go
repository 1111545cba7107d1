package prompts

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// door lets in whom the header User names, an account's id.
type door struct{ users *users.Store }

func (d door) Authorize(r *http.Request, _ auth.Level) (*auth.Principal, error) {
	u, err := d.users.ByID(r.Context(), r.Header.Get("User"))
	if err != nil {
		return nil, web.Fail(http.StatusUnauthorized, web.TextUnauthorized)
	}
	return &auth.Principal{User: u}, nil
}

type world struct {
	t      *testing.T
	router *web.Router
	events []string
}

func newWorld(t *testing.T, db *store.DB) *world {
	t.Helper()
	ctx := context.Background()
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(ctx, db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for id, role := range map[string]string{"alice": "user", "bob": "user", "admin": "admin"} {
		if _, err := db.Exec(ctx, `INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, updated_at, last_active_at) VALUES ($1, $1, $1, $2, '', 1, 1, 1)`, id, role); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, router: web.New(web.Options{Auth: door{users.New(db)}, Logger: slog.New(slog.DiscardHandler)})}
	bus := &events.Bus{}
	bus.Subscribe(func(_ context.Context, e events.Event) { w.events = append(w.events, e.Name) })
	w.router.Mount("", New(Deps{DB: db, Access: access.New(db, settings), Env: env, Events: bus}))
	return w
}

// do sends a request and gives the answer, which must have a status.
func (w *world) do(user, call, body string, status int) jsondoc.Doc {
	w.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User", user)
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, r)
	if rec.Code != status {
		w.t.Fatalf("%s as %s: %d %s, want %d", call, user, rec.Code, rec.Body, status)
	}
	return jsondoc.Doc(rec.Body.Bytes())
}

func TestVersions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		p := w.do("admin", "POST /create", `{"command":"hi","name":"Hi","content":"a\nb","tags":["x"],"commit_message":""}`, 200)
		at, v1 := " /id/"+p.Text("id"), p.Text("version_id")
		if got := w.do("admin", "GET"+at+"/history/"+v1, "", 200); got.Text("commit_message") != "Initial version" || got.Text("snapshot", "name") != "Hi" {
			t.Errorf("first version: %s", got)
		}
		// the same again makes no version, nor does a change of meta alone
		if got := w.do("admin", "POST"+at+"/update", `{"command":"hi","name":"Hi","content":"a\nb","tags":["x"],"meta":{"d":1}}`, 200); got.Text("version_id") != v1 || string(got.Get("meta", "d")) != "1" {
			t.Errorf("same content: %s", got)
		}
		// a draft makes one, and leaves the content
		if got := w.do("admin", "POST"+at+"/update", `{"command":"hi","name":"Draft","content":"zzz","is_production":false,"commit_message":"try"}`, 200); got.Text("version_id") != v1 || got.Text("content") != "a\nb" {
			t.Errorf("draft: %s", got)
		}
		p = w.do("admin", "POST"+at+"/update", `{"command":"ho","name":"Hi","content":"a\r\nc\nd"}`, 200)
		v3 := p.Text("version_id")
		list := w.do("admin", "GET"+at+"/history", "", 200).List()
		if len(list) != 3 {
			t.Fatalf("%d versions", len(list))
		}
		var draft string
		for _, v := range list {
			if v.Text("commit_message") == "try" {
				draft = v.Text("id")
			}
			if v.Text("user", "id") != "admin" {
				t.Errorf("author: %s", v)
			}
		}
		diff := w.do("admin", "GET"+at+"/history/diff?from_id="+v1+"&to_id="+v3, "", 200)
		want := []string{"--- v" + v1[:8], "+++ v" + v3[:8], "@@ -1,2 +1,3 @@", " a", "-b", "+c", "+d"}
		if got := diff.Get("content_diff").Texts(); !slices.Equal(got, want) {
			t.Errorf("diff: %q", got)
		}
		w.do("admin", "DELETE"+at+"/history/"+v3, "", 400)
		w.do("admin", "DELETE"+at+"/history/"+draft, "", 200)
		w.do("admin", "DELETE"+at+"/history/"+draft, "", 404)
		if p = w.do("admin", "POST"+at+"/update/version", `{"version_id":"`+v1+`"}`, 200); p.Text("content") != "a\nb" || p.Text("command") != "ho" {
			t.Errorf("restored: %s", p)
		}
		other := w.do("admin", "POST /create", `{"command":"hi","name":"Other","content":"o"}`, 200)
		w.do("admin", "POST /id/"+other.Text("id")+"/update/version", `{"version_id":"`+v1+`"}`, 400)
		w.do("admin", "GET /id/"+other.Text("id")+"/history/"+v1, "", 404)
		w.do("admin", "POST"+at+"/update/meta", `{"command":"hi","name":"x"}`, 400)
		w.do("admin", "POST /create", `{"command":"hi","name":"x","content":""}`, 400)
		w.do("admin", "DELETE"+at+"/delete", "", 200)
		w.do("admin", "GET"+at, "", 404)
		wantEvents := []string{"prompt.created", "prompt.updated", "prompt.updated", "prompt.updated", "prompt.version_updated", "prompt.created", "prompt.deleted"}
		if !slices.Equal(w.events, wantEvents) {
			t.Errorf("events: %q", w.events)
		}
	})
}

func TestAccess(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.do("alice", "POST /create", `{"command":"a","name":"A","content":""}`, 401)
		id := w.do("admin", "POST /create", `{"command":"soup","name":"Soup","content":"of the day","tags":["Über","b_c"]}`, 200).Text("id")
		grant := func(permissions ...string) {
			list := make([]string, len(permissions))
			for i, p := range permissions {
				list[i] = `{"principal_type":"user","principal_id":"alice","permission":"` + p + `"}`
			}
			w.do("admin", "POST /id/"+id+"/access/update", `{"access_grants":[`+strings.Join(list, ",")+`]}`, 200)
		}
		total := func(user, query string) int64 {
			n, _ := w.do(user, "GET /list?"+query, "", 200).Int("total")
			return n
		}
		for _, c := range []struct {
			grants               []string
			get, change, history int
			listed               int64
		}{
			{nil, 404, 401, 401, 0},
			{[]string{"read"}, 200, 401, 200, 1},
			{[]string{"write"}, 404, 200, 401, 0}, // writing does not include reading
			{[]string{"read", "write"}, 200, 200, 200, 1},
		} {
			grant(c.grants...)
			w.do("alice", "GET /id/"+id, "", c.get)
			w.do("alice", "POST /id/"+id+"/toggle", "", c.change)
			if c.change == 200 {
				w.do("alice", "POST /id/"+id+"/toggle", "", 200)
			}
			w.do("alice", "GET /id/"+id+"/history", "", c.history)
			if got := total("alice", ""); got != c.listed {
				t.Errorf("%v: %d listed", c.grants, got)
			}
		}
		if got := w.do("alice", "GET /list", "", 200).Get("items").List()[0]; string(got.Get("write_access")) != "true" || got.Text("user", "id") != "admin" {
			t.Errorf("listed: %s", got)
		}
		for query, want := range map[string]int64{
			"query=SOUP": 1, "query=day": 1, "query=nothing": 0, "tag=B_C": 1, "tag=bxc": 0, "tag=%C3%BCBER": 1, "view_option=created": 0, "view_option=shared": 1,
			"order_by=name&direction=asc": 1, "page=2": 1, "page=-1": 1,
		} {
			if got := total("alice", query); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
		if got := w.do("alice", "GET /tags", "", 200).Texts(); !slices.Equal(got, []string{"b_c", "Über"}) {
			t.Errorf("tags: %q", got)
		}
		w.do("admin", "POST /id/"+id+"/toggle", "", 200)
		if got := w.do("alice", "GET /", "", 200).List(); len(got) != 0 {
			t.Errorf("a prompt that is off is listed: %s", got)
		}
		w.do("bob", "DELETE /id/"+id+"/delete", "", 401)
		w.do("alice", "DELETE /id/"+id+"/delete", "", 200)
		w.do("alice", "DELETE /id/"+id+"/delete", "", 404)
	})
}
