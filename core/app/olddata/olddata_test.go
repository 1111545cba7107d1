// Package olddata tests the server on databases that began with versions of years ago. It has no code but tests.
//
// testdata/make.py makes them with the migrations of the reference, from rows as old versions wrote them, and adds shapes
// that no version means to write. peewee.db.gz began with the tables of the first versions; alembic.db.gz holds more that
// the reference answers with errors. What is expected here of a row is what the reference says of it, unless it fails on
// it: then the row is left out, or shown as far as it can be read, and the rows beside it are shown all the same.
package olddata

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"

	"golang.org/x/crypto/bcrypt"
)

// data are the databases.
var data = []string{"peewee", "alembic"}

// server is the program on one of them.
type server struct {
	*app.App
	t      testing.TB
	log    *log
	tokens map[string]string
}

// log is what the server says, for the test to look through.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// take gives what was said since it was last asked.
func (l *log) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	l.b.Reset()
	return text
}

// unpack writes a database into a folder and gives its URL.
func unpack(t testing.TB, name, dir string) string {
	t.Helper()
	packed, err := os.Open("testdata/" + name + ".db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "webui.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, z); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return "sqlite:///" + path
}

// open starts the program on a copy of a database; prepare changes it before, if it is not nil.
func open(t testing.TB, name string, prepare func(db *store.DB)) *server {
	t.Helper()
	dir := t.TempDir()
	return serve(t, dir, unpack(t, name, dir), prepare)
}

func serve(t testing.TB, dir, address string, prepare func(db *store.DB)) *server {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"echo-small","object":"model"}]}`)
	}))
	t.Cleanup(up.Close)
	db, err := store.Open(t.Context(), address, store.Options{SkipSchemaCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, `UPDATE config SET value = $1 WHERE key = 'openai.api_base_urls'`, `["`+up.URL+`/v1"]`)
	if prepare != nil {
		prepare(db)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DATA_DIR": dir, "DATABASE_URL": address, "PORT": "0", "HOST": "127.0.0.1", "ENABLE_VERSION_UPDATE_CHECK": "false"}
	c, err := app.ReadConfig(func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, log: &log{}, tokens: map[string]string{}}
	c.Log, c.PasswordCost = s.log, bcrypt.MinCost
	ready := make(chan struct{})
	c.Ready = func(*app.App, string) { close(ready) }
	if s.App, err = app.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.App.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	<-ready
	s.log.take()
	return s
}

func exec(t testing.TB, db *store.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// ids are the values of a column.
func (s *server) ids(query string, args ...any) []string {
	s.t.Helper()
	list, err := store.Strings(s.DB.Query(s.t.Context(), query, args...))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// value is one value of the database as text, "NULL" for none.
func (s *server) value(query string, args ...any) string {
	s.t.Helper()
	var v sql.NullString
	if err := s.DB.QueryRow(s.t.Context(), query, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	if !v.Valid {
		return "NULL"
	}
	return v.String
}

// token is a session of an account.
func (s *server) token(id string) string {
	s.t.Helper()
	if s.tokens[id] == "" {
		c, err := s.Users.Credential(s.t.Context(), id)
		if err != nil {
			s.t.Fatalf("%s: %v", id, err)
		}
		if s.tokens[id], _, err = s.Sessions.Issue(id, c.Stamp, auth.Claims{Method: "password"}); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.tokens[id]
}

// call sends a request of an account.
func (s *server) call(user, method, path, body string) (int, jsondoc.Doc) {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+s.token(user))
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// get is call for an answer that is to be given.
func (s *server) get(user, path string) jsondoc.Doc {
	s.t.Helper()
	status, answer := s.call(user, "GET", path, "")
	if status != http.StatusOK {
		s.t.Errorf("%s GET %s: %d %.200s", user, path, status, answer)
	}
	return answer
}

// sound fails where an answer tells of a fault of the server's, or the log of a panic.
func (s *server) sound(user, path string) (int, jsondoc.Doc) {
	s.t.Helper()
	status, answer := s.call(user, "GET", path, "")
	said := s.log.take()
	if status == http.StatusInternalServerError || strings.Contains(said, "panic") {
		s.t.Errorf("%s GET %s: %d %.200s\n%s", user, path, status, answer, said)
	}
	return status, answer
}

// The accounts of years ago sign in with the hashes of years ago.
func TestSignIn(t *testing.T) {
	s := open(t, "alembic", nil)
	for _, tt := range []struct {
		email  string
		status int
	}{
		{"ada@old.test", 200}, {"ADA@Old.Test", 200}, // $2b$, kept with capitals
		{"bob@old.test", 200}, // $2a$
		{"cyd@old.test", 200}, // $2y$
		{"dan@old.test", 200}, // pending
		{"eve@old.test", 200}, // a role nobody knows
		{"ivy@old.test", 200}, // null in every column that may be
		{"jon@old.test", 200},
		{"fay@old.test", 400}, // not active
		{"gil@old.test", 400}, // had no row of credentials
		{"hal@old.test", 400}, // no hash
	} {
		status, answer := s.call("", "POST", "/api/v1/auths/signin", `{"email":"`+tt.email+`","password":"old-password-1"}`)
		if status != tt.status {
			t.Errorf("%s: %d %.200s, want %d", tt.email, status, answer, tt.status)
		}
	}
	if name := s.get("dan", "/api/v1/auths/admin/details").Text("email"); name != "ada@old.test" {
		t.Errorf("the first account is %s", name)
	}
}

// Everybody finds every chat in one of the lists, and what they find can be opened.
func TestEverybodyFindsEverything(t *testing.T) {
	// documents that are no objects: listed, but as good as gone, so that nothing is written over them
	broken := strings.Fields("textdoc listdoc nulldoc baddoc numberdoc realdoc truedoc fulllistdoc nulls")
	for _, name := range data {
		each(t, name, func(t *testing.T, s *server) {
			for _, user := range s.ids(`SELECT DISTINCT c.user_id FROM chat c JOIN "user" u ON u.id = c.user_id JOIN auth a ON a.id = u.id`) {
				found := map[string]bool{}
				collect := func(path string) {
					s.get(user, path).Items(func(_ int, c jsondoc.Doc) bool {
						found[c.Text("id")] = true
						return true
					})
				}
				for page := 1; page <= 3; page++ {
					collect(fmt.Sprintf("/api/v1/chats/list?page=%d&include_folders=true&include_pinned=true", page))
				}
				collect("/api/v1/chats/archived")
				collect("/api/v1/chats/all/archived")
				all := s.get(user, "/api/v1/chats/all")
				for _, id := range s.ids(`SELECT id FROM chat WHERE user_id = $1`, user) {
					if !found[id] && id != "nulls" && id != "null-archived" { // neither archived nor not, which the reference lists nowhere
						t.Errorf("%s does not find %s", user, id)
					}
					if !strings.Contains(all.String(), `"id":"`+id+`"`) {
						t.Errorf("%s is not among all chats of %s", id, user)
					}
					want := http.StatusOK
					for _, b := range broken {
						if id == b {
							want = http.StatusUnauthorized
						}
					}
					if status, answer := s.call(user, "GET", "/api/v1/chats/"+id, ""); status != want {
						t.Errorf("%s opens %s: %d %.200s", user, id, status, answer)
					}
				}
			}
		})
	}
}

// What the server says of rows that later versions write differently.
func TestShapes(t *testing.T) { each(t, "peewee", testShapes) }

func testShapes(t *testing.T, s *server) {
	for _, tt := range []struct {
		user, path string
		at         []string
		want       string
	}{
		// chats
		{"bob", "/api/v1/chats/nan", []string{"chat", "params"}, `{"temperature": null, "top_p": null}`},
		{"bob", "/api/v1/chats/surrogate", []string{"chat", "history", "messages", "a", "content"}, `"broken  here  nul"`},
		{"bob", "/api/v1/chats/twice", []string{"chat", "title"}, `"second"`},
		{"bob", "/api/v1/chats/onlylist", []string{"chat", "messages", "1", "content"}, `"legacy answer"`},
		{"bob", "/api/v1/chats/nocurrent", []string{"chat", "history", "currentId"}, `"b"`},
		{"bob", "/api/v1/chats/midcurrent", []string{"chat", "history", "currentId"}, `"b"`},
		{"bob", "/api/v1/chats/nochildren", []string{"chat", "history", "messages", "a", "childrenIds"}, `["b"]`},
		{"bob", "/api/v1/chats/messageslist", []string{"chat", "history", "messages", "b", "content"}, `"legacy reply"`},
		{"bob", "/api/v1/chats/both", []string{"chat", "history", "messages", "b", "citations", "0", "source", "name"}, `"report"`},
		{"bob", "/api/v1/chats/both", []string{"variables"}, `{}`},
		{"bob", "/api/v1/chats/both/tags", []string{"0", "name"}, `"Work Stuff"`}, // the tag without a row is left out
		{"bob", "/api/v1/chats/both/tags", []string{"1"}, ``},
		{"cyd", "/api/v1/chats/cyd-old/tags", nil, `[]`}, // the migration gave the tag to another account
		{"bob", "/api/v1/chats/share/old-link", []string{"title"}, `"Shared, as it was"`},
		{"bob", "/api/v1/chats/share/newer-link", []string{"title"}, `"A second link"`},
		{"bob", "/api/v1/chats/onlylist/pinned", nil, `true`},
		{"lou", "/api/v1/chats/metanumber", []string{"meta"}, `{}`},
		{"lou", "/api/v1/chats/oddtags/tags", nil, `[]`},
		{"ada", "/api/v1/chats/stats/export/noid", []string{"stats", "history_user_message_count"}, `0`},
		{"ada", "/api/v1/chats/stats/export/surrogate", []string{"chat", "history", "messages", "a", "content_length"}, `17`},
		{"bob", "/api/v1/chats/search?text=legacy+hello", []string{"0", "id"}, `"noids"`},
		{"bob", "/api/v1/chats/search?text=half+a+pair", []string{"0", "id"}, `"halfpair"`},
		{"bob", "/api/v1/chats/search?text=tag:work_stuff", []string{"0", "id"}, `"both"`},
		// folders
		{"bob", "/api/v1/folders/f-orphan", []string{"name"}, `"Orphan"`},
		{"bob", "/api/v1/folders/f-root", []string{"items"}, `{"chat_ids": ["in-folder"], "file_ids": []}`},
		// files
		{"bob", "/api/v1/files/file-textsize", []string{"meta", "size"}, `"7"`}, // as stored where one file is asked for
		{"bob", "/api/v1/files/user/search?query=f", []string{"0", "meta", "size"}, `7`},
		{"bob", "/api/v1/files/file-list", []string{"meta", "content_type"}, `["text/plain", null]`},
		{"bob", "/api/v1/files/file-abs", []string{"path"}, `"/app/backend/data/uploads/file-abs_a.txt"`},
		// accounts
		{"bob", "/api/v1/users/user/settings", nil, `null`},
		{"cyd", "/api/v1/users/user/settings", []string{"ui"}, `null`},
		{"ada", "/api/v1/users/cyd", []string{"oauth"}, `{"oidc": {"sub": "5678"}}`},
		{"ada", "/api/v1/users/eve", []string{"role"}, `"moderator"`},
		// workspace
		{"cyd", "/api/v1/models/model?id=preset", []string{"access_grants", "0", "principal_id"}, `"g"`},
		{"ada", "/api/v1/models/model?id=bare", []string{"access_grants", "0", "principal_id"}, `"*"`}, // as they were written, not by time
		{"ada", "/api/v1/models/list", []string{"items", "0", "id"}, `"preset"`},
		{"ada", "/api/v1/groups/id/g-null", []string{"permissions"}, `null`},
		{"bob", "/api/v1/prompts/", []string{"0", "command"}, `"hello"`},
		{"cyd", "/api/v1/memories/", []string{"0", "type"}, `"context"`},
		// settings
		{"ada", "/api/v1/configs/connections", []string{"ENABLE_DIRECT_CONNECTIONS"}, `true`}, // "true" in the row
		{"ada", "/api/v1/evaluations/config", []string{"EVALUATION_ARENA_MODELS", "0", "meta", "access_grants"}, `[]`},
		{"ada", "/api/v1/evaluations/config", []string{"EVALUATION_ARENA_MODELS", "0", "meta", "access_control"}, ``},
		{"ada", "/api/v1/configs/namespace/gone", []string{"gone.setting"}, `[1,2,{"a":null}]`},
	} {
		if s.DB.Dialect() == store.Postgres && slices.Contains([]string{"/api/v1/models/model?id=preset", "/api/v1/models/model?id=bare", "/api/v1/models/list", "/api/v1/prompts/"}, tt.path) {
			continue // of one time, and in the order of SQLite's rows
		}
		answer := s.get(tt.user, tt.path)
		got := string(answer.Get(tt.at...))
		if tt.at == nil {
			got = strings.TrimSpace(answer.String())
		}
		if got != tt.want && !jsondoc.Same(jsondoc.Doc(got), jsondoc.Doc(tt.want)) {
			t.Errorf("%s GET %s: %s is %.300s, want %s", tt.user, tt.path, strings.Join(tt.at, "."), got, tt.want)
		}
	}
}

// Whoever writes changes what they mean to and loses nothing of what the server does not understand.
func TestWrites(t *testing.T) {
	s := open(t, "peewee", nil)
	write := func(user, method, path, body string, want int) {
		t.Helper()
		if status, answer := s.call(user, method, path, body); status != want {
			t.Errorf("%s %s: %d %.200s, want %d", method, path, status, answer, want)
		}
	}
	same := func(query, want string) {
		t.Helper()
		if got := s.value(query); got != want && !jsondoc.Same(jsondoc.Doc(got), jsondoc.Doc(want)) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	rename := `{"chat":{"title":"New"}}`
	write("bob", "POST", "/api/v1/chats/messagesnull", rename, 200)
	same(`SELECT chat FROM chat WHERE id = 'messagesnull'`, `{"title":"New","history":{"messages":null,"currentId":null},"messages":null}`)
	write("bob", "POST", "/api/v1/chats/historylist", rename, 200)
	same(`SELECT chat FROM chat WHERE id = 'historylist'`, `{"title":"New","history":[],"messages":[]}`)
	write("bob", "POST", "/api/v1/chats/oddlist", rename, 200)
	same(`SELECT chat FROM chat WHERE id = 'oddlist'`, `{"title":"New","messages":[null,5,"x",{},{"id":7,"role":"user","content":"number for an id"},{"id":"ok","role":"user","content":"fine"}]}`)
	write("bob", "POST", "/api/v1/chats/messageslist", rename, 200)
	write("bob", "POST", "/api/v1/chats/messageslist/messages/c", `{"content":"more","parentId":"b","role":"user"}`, 200)
	if doc := jsondoc.Doc(s.value(`SELECT chat FROM chat WHERE id = 'messageslist'`)); doc.Text("history", "messages", "a", "content") != "legacy question" ||
		doc.Text("history", "messages", "b", "content") != "legacy reply" || doc.Text("history", "messages", "c", "content") != "more" {
		t.Errorf("messages of a list are lost: %s", doc)
	}
	write("bob", "POST", "/api/v1/chats/oddmessages", rename, 200)
	if doc := jsondoc.Doc(s.value(`SELECT chat FROM chat WHERE id = 'oddmessages'`)); doc.Text("history", "messages", "c") != "text" || doc.Get("history", "messages", "e").String() != "5" {
		t.Errorf("messages that are no objects are lost: %s", doc)
	}
	for _, id := range []string{"textdoc", "numberdoc", "fulllistdoc", "nulldoc"} {
		before := s.value(`SELECT chat FROM chat WHERE id = $1`, id)
		for _, path := range []string{"", "/pin", "/archive", "/share", "/messages/x"} {
			if status, _ := s.call("lou", "POST", "/api/v1/chats/"+id+path, `{"chat":{"title":"New"},"content":"x"}`); status != http.StatusUnauthorized {
				t.Errorf("%s%s: %d", id, path, status)
			}
		}
		if after := s.value(`SELECT chat FROM chat WHERE id = $1`, id); after != before {
			t.Errorf("%s was %s, is %s", id, before, after)
		}
	}
	// the rest of the tables is as it was
	write("bob", "POST", "/api/v1/users/user/settings/update", `{"ui":{"theme":"x"}}`, 200)
	same(`SELECT settings FROM "user" WHERE id = 'bob'`, `{"ui":{"theme":"x"}}`)
	write("ada", "POST", "/api/v1/users/eve/update", `{"name":"Eve","email":"eve@old.test","role":"moderator","profile_image_url":"/user.png"}`, 200)
	same(`SELECT settings FROM "user" WHERE id = 'eve'`, `{"ui":{},"theme":"light","models":["a"]}`)
	same(`SELECT oauth FROM "user" WHERE id = 'eve'`, `{"oidc":{"sub":"with@at"}}`)
	write("ada", "POST", "/api/v1/groups/id/g-odd/update", `{"name":"Odd","description":"x"}`, 200)
	write("bob", "POST", "/api/v1/folders/f-root/update", `{"name":"Root 2"}`, 200)
	same(`SELECT items FROM folder WHERE id = 'f-root'`, `{"chat_ids":["in-folder"],"file_ids":[]}`)
	for table, n := range map[string]string{"chatidtag": "8", "document": "2", "config_old": "1", "migratehistory": "2", "knowledge": "4", "feedback": "6", "note": "2", "message": "2", "oauth_session": "1"} {
		same(`SELECT COUNT(*) FROM `+table, n)
	}
	same(`SELECT value FROM config WHERE key = 'gone.entirely'`, `{"a": [1]}`)
}

// Nothing that can be read makes the server fail, for anybody.
func TestReads(t *testing.T) {
	for _, name := range data {
		each(t, name, func(t *testing.T, s *server) {
			good := s.things()
			for _, user := range []string{"ada", "bob", "cyd", "dan", "eve", "kim", "lou", "jon", "ivy"} {
				if len(s.ids(`SELECT id FROM "user" WHERE id = $1`, user)) == 0 {
					continue
				}
				for _, path := range s.reads(good) {
					s.sound(user, path)
				}
			}
			for table, q := range map[string]string{
				"chat": `SELECT id FROM chat`, "share": `SELECT id FROM shared_chat`, "folder": `SELECT id FROM folder`, "file": `SELECT id FROM file`, "group": `SELECT id FROM "group"`,
				"model": `SELECT id FROM model`, "prompt": `SELECT id FROM prompt`, "tool": `SELECT id FROM tool`, "user": `SELECT id FROM "user"`,
			} {
				for _, id := range s.ids(q) {
					for _, path := range s.readsOf(table, id) {
						s.sound("ada", path)
						s.sound("bob", path)
					}
				}
			}
		})
	}
}
