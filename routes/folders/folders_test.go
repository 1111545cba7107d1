package folders

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
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
	"github.com/go-json-experiment/json/jsontext"
)

// door lets in whom the header User names, an account's id.
type door struct{ users *users.Store }

func (d door) Authorize(r *http.Request, level auth.Level) (*auth.Principal, error) {
	u, err := d.users.ByID(r.Context(), r.Header.Get("User"))
	if err != nil || level == auth.Admin && !u.IsAdmin() {
		return nil, web.Fail(http.StatusUnauthorized, web.TextUnauthorized)
	}
	return &auth.Principal{User: u}, nil
}

// attached are the files that users may read: "user id".
type attached []string

func (a attached) MayRead(_ context.Context, u *users.User, entries []jsondoc.Doc) ([]bool, error) {
	out := make([]bool, len(entries))
	for i, e := range entries {
		out[i] = slices.Contains(a, u.ID+" "+e.Text("id"))
	}
	return out, nil
}

type world struct {
	t        *testing.T
	db       *store.DB
	router   *web.Router
	settings *config.Settings
	access   *access.Access
	chats    *chats.Store
	folders  *folders.Store
	running  map[string]bool
	events   []string
}

func newWorld(t *testing.T, files attached) *world {
	t.Helper()
	ctx := context.Background()
	db := storetest.SQLite(t)
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(ctx, db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	us := users.New(db)
	w := &world{t: t, db: db, settings: settings, access: access.New(db, settings), chats: chats.New(db), folders: folders.New(db), running: map[string]bool{}}
	for _, name := range []string{"Alice", "Bob", "Carol", "Admin"} {
		id, role := strings.ToLower(name), users.RoleUser
		if id == "admin" {
			role = users.RoleAdmin
		}
		w.exec(`INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, updated_at, last_active_at) VALUES ($1, $2, $1, $3, '', 1, 1, 1)`, id, name, role)
	}
	bus := events.NewBus("")
	bus.Subscribe(func(_ context.Context, e events.Event) {
		w.events = append(w.events, e.Actor.ID+" "+e.Name+" "+e.SubjectID+" "+jsondoc.Of(e.Data).String())
	})
	w.router = web.New(web.Options{Auth: door{us}, Logger: slog.New(slog.DiscardHandler)})
	w.router.Mount("/api/v1/folders", New(Deps{Folders: w.folders, Access: w.access, Chats: w.chats, Users: us, Files: files, Settings: settings,
		Active: func([]string) map[string]bool { return w.running },
		Events: bus}))
	w.router.Finish()
	return w
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(context.Background(), text, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) call(user, spec, body string) (int, jsondoc.Doc) {
	w.t.Helper()
	method, path, _ := strings.Cut(spec, " ")
	r := httptest.NewRequest(method, "/api/v1/folders"+path, strings.NewReader(body))
	r.Header.Set("User", user)
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, r)
	return rec.Code, rec.Body.Bytes()
}

// ok is a call that succeeds.
func (w *world) ok(user, spec, body string) jsondoc.Doc {
	w.t.Helper()
	status, got := w.call(user, spec, body)
	if status != 200 {
		w.t.Fatalf("%s by %s: %d %s", spec, user, status, got)
	}
	return got
}

// refused is a call that fails with a status and a detail that contains a text.
func (w *world) refused(user, spec, body string, status int, text string) {
	w.t.Helper()
	got, doc := w.call(user, spec, body)
	if got != status || !strings.Contains(string(doc), text) {
		w.t.Errorf("%s by %s: %d %s, want %d %s", spec, user, got, doc, status, text)
	}
}

func (w *world) folder(user, body string) string {
	w.t.Helper()
	return w.ok(user, "POST /", body).Text("id")
}

func (w *world) chat(id, owner, folder string, updated int64) {
	w.t.Helper()
	_, err := w.chats.Insert(context.Background(), chats.NewChat{ID: id, UserID: owner, FolderID: &folder, CreatedAt: 5, UpdatedAt: updated,
		Doc: jsondoc.Doc(`{"title":"T ` + id + `","history":{"messages":{"q":{"id":"q","role":"user","content":"x","parentId":null,"childrenIds":[]}},"currentId":"q"}}`)})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) is(what string, got jsondoc.Doc, want string) {
	w.t.Helper()
	if !same(got, jsondoc.Doc(want)) {
		w.t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func TestOwnFolders(t *testing.T) {
	w := newWorld(t, nil)
	a := w.folder("alice", `{"name":"A","data":{"system_prompt":"p"},"meta":{"icon":"i","color":"c"}}`)
	b := w.folder("alice", `{"name":"B","parent_id":"`+a+`"}`)
	w.refused("alice", "POST /", `{"name":"a"}`, 400, "[ERROR: Folder already exists]")
	w.refused("alice", "POST /", `{"name":"x","y":1}`, 422, "extra_forbidden")
	w.refused("alice", "POST /"+b+"/update", `{"data":null}`, 400, "[ERROR: Error updating folder]")
	w.refused("alice", "POST /"+a+"/update/parent", `{"parent_id":"`+b+`"}`, 400, "Cannot move a folder")
	w.refused("bob", "GET /"+a, "", 404, web.TextNotFound)
	w.refused("bob", "DELETE /"+a, "", 403, web.TextProhibited)
	w.refused("bob", "POST /"+a+"/update", `{"name":"n"}`, 404, web.TextNotFound)
	w.refused("bob", "POST /"+a+"/update/parent", `{}`, 404, web.TextNotFound)
	w.is("expanding another's", w.ok("bob", "POST /"+a+"/update/expanded", `{"is_expanded":true}`), "null")
	if got := w.ok("alice", "POST /"+b+"/update/expanded", `{"is_expanded":"yes"}`); !got.Bool("is_expanded") {
		t.Errorf("expanded: %s", got)
	}
	got := w.ok("alice", "POST /"+a+"/update", `{"name":"AA","data":{"x":1}}`)
	if got.Text("name") != "AA" || got.Get("data").String() != `{"system_prompt":"p","x":1}` || got.Get("meta", "color") == nil {
		t.Errorf("updated: %s", got)
	}
	if got := w.ok("admin", "GET /"+a, ""); !got.Bool("write_access") || got.Get("access_grants").String() != "[]" || got.Get("items") == nil {
		t.Errorf("by the admin: %s", got)
	}
	w.ok("alice", "POST /"+b+"/update/parent", `{"parent_id":"gone"}`)
	w.chat("c1", "alice", b, 100)
	w.ok("alice", "POST /"+b+"/read", "")
	w.exec("UPDATE chat SET last_read_at = 0")
	list := w.ok("alice", "GET /", "")
	for i, want := range []string{
		`{"id":"` + a + `","name":"AA","meta":{"icon":"i"},"parent_id":null,"is_expanded":false,"unread_count":0}`,
		`{"id":"` + b + `","name":"B","meta":null,"parent_id":null,"is_expanded":true,"unread_count":1}`,
	} {
		w.is("list", list.List()[i].Delete("created_at").Delete("updated_at"), want)
	}
	w.is("read", w.ok("alice", "POST /"+b+"/read", ""), `{"folder_id":"`+b+`","folder_ids":["`+b+`"],"updated_count":1,"folder_unread_counts":{"`+a+`":0,"`+b+`":0}}`)
	w.is("bob's", w.ok("bob", "GET /", ""), "[]")
	w.is("nothing shared", w.ok("bob", "GET /shared", ""), "[]")
}

func TestDelete(t *testing.T) {
	w := newWorld(t, nil)
	a := w.folder("alice", `{"name":"A"}`)
	b := w.folder("alice", `{"name":"B","parent_id":"`+a+`"}`)
	c := w.folder("alice", `{"name":"C"}`)
	w.chat("in-b", "alice", b, 1)
	w.chat("in-c", "alice", c, 1)
	w.chat("bobs", "bob", a, 1)
	deny := func(value string) {
		t.Helper()
		if err := w.settings.Import(context.Background(), map[string]jsontext.Value{"user.permissions": jsontext.Value(`{"chat":{"delete":` + value + `}}`)}); err != nil {
			t.Fatal(err)
		}
	}
	deny("false")
	w.refused("alice", "DELETE /"+a, "", 403, web.TextProhibited)
	w.refused("alice", "DELETE /"+a+"?delete_contents=maybe", "", 422, "bool_parsing")
	w.is("keeping chats", w.ok("alice", "DELETE /"+c+"?delete_contents=false", ""), "true")
	deny("true")
	w.is("with chats", w.ok("alice", "DELETE /"+a, ""), "true")
	w.refused("alice", "DELETE /"+a, "", 404, web.TextNotFound)
	rows, err := w.db.Query(context.Background(), "SELECT id || ' ' || COALESCE(folder_id, '-') FROM chat ORDER BY id")
	left, err := store.Strings(rows, err)
	if err != nil || !slices.Equal(left, []string{"bobs -", "in-c -"}) {
		t.Errorf("chats left: %v, %v", left, err)
	}
}

func TestSharing(t *testing.T) {
	w := newWorld(t, nil)
	team := w.folder("alice", `{"name":"Team"}`)
	inner := w.folder("alice", `{"name":"Inner","parent_id":"`+team+`"}`)
	w.chat("plan", "alice", team, 100)
	grants := `{"access_grants":[{"principal_type":"user","principal_id":"bob","permission":"write"},{"principal_type":"user","principal_id":"bob","permission":"read"},
		{"principal_type":"user","principal_id":"carol","permission":"read"},{"principal_type":"user","principal_id":"x","permission":"own"}]`
	w.refused("alice", "POST /"+team+"/access/update", grants+"}", 403, access.TextAudience)
	w.refused("alice", "POST /"+team+"/access/update", `{"access_grants":["x"]}`, 422, "dict_type")
	w.refused("admin", "POST /"+team+"/access/update", `{"access_grants":[],"share_mode":"other"}`, 422, "literal_error")
	w.refused("admin", "POST /"+team+"/access/update", `{"access_grants":[{"principal_type":"user","principal_id":"*","permission":"read"}]}`, 403, access.TextAudience)
	w.refused("admin", "POST /nope/access/update", `{"access_grants":[]}`, 404, web.TextNotFound)
	got := w.ok("admin", "POST /"+team+"/access/update", grants+`,"share_mode":"continue"}`)
	if got.Get("access_grants").Len() != 3 || got.Text("data", "share_mode") != "continue" {
		t.Errorf("shared: %s", got)
	}
	w.refused("bob", "POST /"+team+"/access/update", `{"access_grants":[]}`, 403, web.TextProhibited)

	shared := w.ok("carol", "GET /shared", "").List()
	if len(shared) != 2 || shared[0].Text("id") != team || shared[1].Text("id") != inner || shared[1].Text("permission") != "read" || shared[1].Text("owner_name") != "Alice" {
		t.Errorf("shared with carol: %s", shared)
	}
	if got := w.ok("bob", "GET /"+inner, ""); !got.Bool("write_access") {
		t.Errorf("bob, inner: %s", got)
	}
	if got := w.ok("carol", "GET /"+team, ""); got.Bool("write_access") || got.Get("access_grants").Len() != 3 {
		t.Errorf("carol, team: %s", got)
	}
	w.refused("carol", "POST /"+team+"/update", `{"name":"n"}`, 404, web.TextNotFound)
	w.refused("bob", "POST /"+team+"/update", `{"data":{"share_mode":null}}`, 403, web.TextProhibited)
	if got := w.ok("bob", "POST /"+team+"/update", `{"name":"Team 2","data":{"share_mode":"continue"}}`); got.Text("name") != "Team 2" {
		t.Errorf("renamed by an editor: %s", got)
	}
	w.refused("carol", "POST /", `{"name":"sub","parent_id":"`+team+`"}`, 403, web.TextProhibited)
	if got := w.ok("bob", "POST /", `{"name":"sub","parent_id":"`+team+`"}`); got.Text("user_id") != "alice" {
		t.Errorf("made by an editor: %s", got)
	}
	w.is("expanding what is read only", w.ok("carol", "POST /"+team+"/update/expanded", `{"is_expanded":true}`).Get("is_expanded"), "false")
	w.is("marked by a reader", w.ok("carol", "POST /"+team+"/read", "").Get("folder_ids"), `["`+team+`"]`)
}

func TestSharedChats(t *testing.T) {
	w := newWorld(t, nil)
	team := w.folder("alice", `{"name":"Team"}`)
	w.chat("one", "alice", team, 100)
	w.chat("two", "bob", team, 200)
	w.exec("UPDATE chat SET last_read_at = 7")
	for i, author := range []string{"zoe", "carol", "bob"} {
		w.exec("INSERT INTO chat_message (id, chat_id, user_id, role, done, created_at, updated_at) VALUES ($1, 'two', $2, 'user', TRUE, 1, 1)", "two-x"+string(rune('0'+i)), author)
	}
	w.exec("INSERT INTO chat_message (id, chat_id, user_id, role, done, created_at, updated_at) VALUES ('two-a', 'two', 'bob', 'assistant', FALSE, 1, 1)")
	w.refused("carol", "GET /"+team+"/shared/chats", "", 403, web.TextProhibited)
	w.refused("carol", "GET /nope/shared/chats", "", 404, web.TextNotFound)
	w.refused("alice", "GET /"+team+"/shared/chats?page=0", "", 422, "greater_than_equal")
	w.ok("admin", "POST /"+team+"/access/update", `{"access_grants":[{"principal_type":"user","principal_id":"carol","permission":"read"}]}`)
	one := `{"id":"one","title":"T one","user_id":"alice","updated_at":100,"created_at":5,"last_read_at":100,"owner_name":"Alice","participants":[{"id":"alice","name":"Alice"}],"active":false,"readonly":true}`
	two := `{"id":"two","title":"T two","user_id":"bob","updated_at":200,"created_at":5,"last_read_at":200,"owner_name":"Bob","participants":[{"id":"bob","name":"Bob"},` +
		`{"id":"carol","name":"Carol"},{"id":"zoe","name":null}],"active":false,"readonly":true}`
	w.is("by a reader", w.ok("carol", "GET /"+team+"/shared/chats", ""), `{"chats":[`+two+`,`+one+`],"folder_permission":"read"}`)
	w.is("a page", w.ok("carol", "GET /"+team+"/shared/chats?page=2", ""), `{"chats":[],"folder_permission":"read","total":2,"has_more":false}`)
	w.running["two"], w.running["one"] = true, true
	got := w.ok("alice", "GET /"+team+"/shared/chats?sort_by=updated_at&sort_dir=asc", "")
	w.is("permission of the owner", got.Get("folder_permission"), `"write"`)
	w.is("own chat", got.Get("chats", "0").Get("last_read_at"), "7")
	w.is("own chat", got.Get("chats", "0", "readonly"), "false")
	w.is("nothing left to write", got.Get("chats", "0", "active"), "false")
	w.is("being written", got.Get("chats", "1", "active"), "true")
}

func TestFiles(t *testing.T) {
	w := newWorld(t, attached{"alice f", "alice k", "bob b", "bob f", "alice b"})
	entry := func(ids ...string) string {
		return `{"files":[{"type":"file","id":"` + strings.Join(ids, `"},{"type":"file","id":"`) + `"}]}`
	}
	w.refused("alice", "POST /", `{"name":"x","data":`+entry("f", "secret")+`}`, 403, web.TextProhibited)
	w.refused("alice", "POST /", `{"name":"x","data":{"files":"f"}}`, 403, web.TextProhibited)
	w.ok("alice", "POST /", `{"name":"null","data":{"files":null}}`)
	f := w.folder("alice", `{"name":"F","data":`+entry("f", "k")+`}`)
	w.ok("admin", "POST /"+f+"/access/update", `{"access_grants":[{"principal_type":"user","principal_id":"bob","permission":"write"}]}`)
	w.ok("bob", "POST /"+f+"/update", `{"data":`+entry("k", "f", "b")+`}`) // k stood there, b both may read
	w.refused("bob", "POST /"+f+"/update", `{"data":`+entry("secret")+`}`, 403, web.TextProhibited)
	w.refused("bob", "POST /", `{"name":"sub","parent_id":"`+f+`","data":`+entry("k")+`}`, 403, web.TextProhibited)
	w.exec(`UPDATE folder SET data = '{"files":[{"type":"file","id":"k"},{"type":"file","id":"lost"}],"system_prompt":"p"}' WHERE id = $1`, f)
	w.ok("alice", "GET /", "")
	w.is("what cannot be read any more", w.ok("alice", "GET /"+f, "").Get("data"), `{"files":[{"type":"file","id":"k"}],"system_prompt":"p"}`)
}

func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, nil)
	set := func(key, value string) {
		t.Helper()
		if err := w.settings.Import(context.Background(), map[string]jsontext.Value{key: jsontext.Value(value)}); err != nil {
			t.Fatal(err)
		}
	}
	set("user.permissions", `{"features":{"folders":false}}`)
	w.refused("alice", "GET /", "", 403, web.TextProhibited)
	w.ok("admin", "GET /", "")
	set("folders.enable", "false")
	for _, spec := range []string{"GET /", "GET /shared", "GET /x", "DELETE /x", "POST /x/read", "GET /x/shared/chats"} {
		w.refused("admin", spec, "", 403, web.TextProhibited)
	}
	set("folders.enable", "true")
	set("user.permissions", `{}`)
	w.ok("alice", "GET /", "")
}

func TestEvents(t *testing.T) {
	w := newWorld(t, nil)
	f := w.folder("alice", `{"name":"A"}`)
	w.ok("alice", "POST /"+f+"/update", `{"name":"B"}`)
	w.ok("alice", "POST /"+f+"/update/parent", `{}`)
	w.ok("admin", "POST /"+f+"/access/update", `{"access_grants":[]}`)
	w.ok("alice", "DELETE /"+f, "")
	w.refused("alice", "DELETE /"+f, "", 404, "")
	want := []string{
		"alice folder.created " + f + ` {"name":"A","parent_id":null,"owner_id":"alice"}`, "alice folder.updated " + f + ` {"name":"B"}`,
		"alice folder.parent_updated " + f + ` {"parent_id":null}`, "admin folder.access_updated " + f + ` {"grant_count":0}`,
		"alice folder.deleted " + f + ` {"folder_ids":["` + f + `"],"delete_contents":true}`,
	}
	if !slices.Equal(w.events, want) {
		t.Errorf("got %q\nwant %q", w.events, want)
	}
}
