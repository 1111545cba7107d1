package files

import (
	"bytes"
	"context"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/files/plaintext"
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
		return nil, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	return &auth.Principal{User: u}, nil
}

type world struct {
	t        *testing.T
	db       *store.DB
	dir      string
	router   *web.Router
	settings *config.Settings
	module   *Module
	mu       sync.Mutex
	events   []string
}

func newWorld(t *testing.T) *world {
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
	for _, id := range []string{"alice", "bob", "admin"} {
		role := users.RoleUser
		if id == "admin" {
			role = users.RoleAdmin
		}
		if _, err := db.Exec(ctx, `INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, updated_at, last_active_at) VALUES ($1, $1, $1, $2, '', 1, 1, 1)`, id, role); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, db: db, dir: filepath.Join(t.TempDir(), "uploads"), settings: settings}
	folder, err := files.NewFolder(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	grants := access.New(db, settings)
	chatAccess := chats.NewAccess(chats.New(db), grants, folders.NewAccess(folders.New(db), grants), true)
	fs := files.New(db)
	bus := events.NewBus("")
	bus.Subscribe(func(_ context.Context, e events.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e.Actor.ID+" "+e.Name+" "+e.SubjectID+" "+jsondoc.Of(e.Data).String())
	})
	w.module = New(Deps{Files: fs, Access: files.NewAccess(db, fs, grants, chatAccess), Folder: folder, Users: us, Settings: settings, AdminsSeeAll: true, Log: slog.New(slog.DiscardHandler),
		Events: bus})
	t.Cleanup(func() { w.drain() })
	w.router = web.New(web.Options{Auth: door{us}, Logger: slog.New(slog.DiscardHandler), UploadDir: t.TempDir()})
	w.router.Mount("/api/v1/files", w.module)
	w.router.Mount("/api/v1/files/retrieval", w.module.Retrieval()) // below, so that call reaches it
	w.router.Finish()
	return w
}

// drain waits for what is read in the background.
func (w *world) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.module.Drain(ctx); err != nil {
		w.t.Errorf("drain: %v", err)
	}
}

func (w *world) do(user, spec, contentType string, body []byte) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(spec, " ")
	r := httptest.NewRequest(method, "/api/v1/files"+path, bytes.NewReader(body))
	r.Header.Set("User", user)
	r.Header.Set("Content-Type", contentType)
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, r)
	return rec
}

func (w *world) call(user, spec, body string) (int, jsondoc.Doc) {
	rec := w.do(user, spec, "application/json", []byte(body))
	return rec.Code, rec.Body.Bytes()
}

func (w *world) is(user, spec, body string, status int, want string) {
	w.t.Helper()
	got, doc := w.call(user, spec, body)
	if got != status || !strings.Contains(string(doc), want) {
		w.t.Errorf("%s by %s: %d %s, want %d %s", spec, user, got, doc, status, want)
	}
}

func (w *world) upload(user, query, name, kind, content string, fields ...string) (int, jsondoc.Doc) {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`}}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	part, err := form.CreatePart(h)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _ = part.Write([]byte(content))
	for i := 0; i < len(fields); i += 2 {
		_ = form.WriteField(fields[i], fields[i+1])
	}
	if err := form.Close(); err != nil {
		w.t.Fatal(err)
	}
	rec := w.do(user, "POST /"+query, form.FormDataContentType(), b.Bytes())
	return rec.Code, rec.Body.Bytes()
}

// file uploads a file that is taken, waits until it is read and gives it.
func (w *world) file(user, name, kind, content string) jsondoc.Doc {
	w.t.Helper()
	status, doc := w.upload(user, "", name, kind, content)
	if status != 200 || doc.Text("data", "status") != files.Pending || !doc.Bool("status") || doc.Text("path") == "" {
		w.t.Fatalf("upload of %s: %d %s", name, status, doc)
	}
	w.drain()
	status, doc = w.call(user, "GET /"+doc.Text("id"), "")
	if status != 200 {
		w.t.Fatalf("get %s: %d %s", name, status, doc)
	}
	return doc
}

func (w *world) set(key, value string) {
	w.t.Helper()
	if err := w.settings.Import(context.Background(), map[string]jsontext.Value{key: jsontext.Value(value)}); err != nil {
		w.t.Fatal(err)
	}
}

func TestWhatIsRead(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ name, kind, content, status, text, reason string }{
		{"a.txt", "text/plain", "Sea\r\n", files.Completed, "Sea\n", ""},
		{"c.csv", "text/csv", "a,b\n1,2\n", files.Completed, "a: 1\nb: 2", ""},
		{"app.ts", "video/mp2t", "let x = 1", files.Completed, "let x = 1", ""},
		{"blank.txt", "text/plain", " \n", files.Failed, " \n", textEmpty},
		{"dot.png", "image/png", "\x89PNG\x00", files.Failed, "", "File type image/png is not supported for processing"},
		{"film.mp4", "video/mp4", "\x00\x00", files.Completed, "", ""},
		{"talk.webm", "video/webm", "\x00\x00", files.Failed, "", "File type video/webm is not supported for processing"},
		{"song.mp3", "audio/mpeg", "ID3\x00", files.Failed, "", "File type audio/mpeg is not supported for processing"},
		{"doc.pdf", "application/pdf", "%PDF-1.4", files.Failed, "", plaintext.ErrFormat.Error()},
		{"big.bin", "", strings.Repeat("\x00", 1<<17), files.Failed, "", plaintext.ErrFormat.Error()},
		{"big.log", "text/plain", strings.Repeat("line\n", 1<<15), files.Completed, strings.Repeat("line\n", 1<<15), ""},
	} {
		f := w.file("alice", tt.name, tt.kind, tt.content)
		data := f.Get("data")
		if data.Text("status") != tt.status || data.Text("content") != tt.text || data.Text("error") != tt.reason {
			t.Errorf("%s: %.200s", tt.name, data)
		}
		indexed := tt.status == files.Completed && tt.text != ""
		if (f.Text("hash") != "") != indexed || (f.Text("meta", "collection_name") == "file-"+f.Text("id")) != indexed {
			t.Errorf("%s: hash %s, meta %s", tt.name, f.Get("hash"), f.Get("meta"))
		}
		if n, _ := f.Int("meta", "size"); n != int64(len(tt.content)) {
			t.Errorf("%s: size %d", tt.name, n)
		}
		if b, err := os.ReadFile(f.Text("path")); string(b) != tt.content || err != nil {
			t.Errorf("%s: %d bytes kept, %v", tt.name, len(b), err)
		}
		w.is("alice", "GET /"+f.Text("id")+"/process/status", "", 200, `{"status":"`+tt.status+`"}`)
		rec := w.do("alice", "GET /"+f.Text("id")+"/process/status?stream=true", "", nil)
		if got := rec.Body.String(); !strings.HasPrefix(got, `data: {"status":"`+tt.status+`"`) || strings.Contains(got, tt.reason) == (tt.reason != "" && tt.status != files.Failed) {
			t.Errorf("%s: stream %q", tt.name, got)
		}
	}
}

func TestUpload(t *testing.T) {
	w := newWorld(t)
	w.set("rag.file.max_size", "1")
	w.set("rag.file.allowed_extensions", `["txt",""]`)
	for _, tt := range []struct {
		query, name, content string
		fields               []string
		status               int
		want                 string
	}{
		{"", "a.md", "x", nil, 400, "[ERROR: File type md is not allowed]"},
		{"", "a", "x", nil, 400, "[ERROR: File type  is not allowed]"},
		{"?process=false", "a.md", "x", nil, 200, `"data":{},`},
		{"?process=perhaps", "a.txt", "x", nil, 422, "bool_parsing"},
		{"", "a.TXT", "", nil, 400, textEmpty},
		{"", "a.txt", strings.Repeat("x", 1<<20+1), nil, 413, "less than 1 MB."},
		{"", "a.txt", "x", []string{"metadata", "{no"}, 400, "[ERROR: Invalid metadata format]"},
		{"", "a.txt", "x", []string{"metadata", "[1]"}, 400, "[ERROR: Error uploading file]"},
		{"", "a.txt", "x", []string{"metadata", "null"}, 200, `"data":{}}`},
		{"?process_in_background=false", "a.txt", "x", []string{"metadata", `{"file_hash":"h","n":1}`}, 200, `"file_hash":"h","data":{"file_hash":"h","n":1}}`},
		{"", strings.Repeat("long", 70) + ".txt", "x", nil, 200, `.txt"`},
		{"", "../../x.txt", "x", nil, 200, `"filename":"x.txt"`},
	} {
		status, doc := w.upload("alice", tt.query, tt.name, "text/plain", tt.content, tt.fields...)
		if status != tt.status || !strings.Contains(string(doc), tt.want) {
			t.Errorf("%s %.30s: %d %s, want %d %s", tt.query, tt.name, status, doc, tt.status, tt.want)
		}
		if tt.query == "?process=false" && (doc.Get("path") != nil || doc.Get("status") != nil) {
			t.Errorf("stored only: %s", doc)
		}
	}
	w.drain()
	w.is("alice", "GET /count", "", 200, "5")
	kept, err := os.ReadDir(w.dir)
	if err != nil || len(kept) != 5 {
		t.Errorf("%d files kept, %v", len(kept), err)
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t)
	w.file("alice", "apple.txt", "text/plain", "one")
	w.file("alice", "pear.md", "text/markdown", "two")
	w.file("bob", "plum.txt", "text/plain", "three")
	for _, tt := range []struct {
		user, spec, names string
		content           bool
	}{
		{"alice", "/", "apple.txt pear.md", true},
		{"alice", "/?content=false", "apple.txt pear.md", false},
		{"alice", "/?page=2", "", true},
		{"admin", "/", "apple.txt pear.md plum.txt", true},
		{"alice", "/search?filename=*.TXT", "apple.txt", true},
		{"admin", "/search?filename=*.txt&content=false", "apple.txt plum.txt", false},
		{"admin", "/user/search", "", true},
		{"bob", "/user/search", "plum.txt", false},
	} {
		status, doc := w.call(tt.user, "GET "+tt.spec, "")
		list := doc
		if items := doc.Get("items"); items != nil {
			list = items
			if total, _ := doc.Int("total"); total < int64(items.Len()) {
				t.Errorf("%s: total %d", tt.spec, total)
			}
		}
		got := map[string]bool{}
		for _, f := range list.List() {
			got[f.Text("filename")] = true
			if (f.Get("data", "content") != nil) != tt.content || f.Get("path") != nil {
				t.Errorf("%s: %s", tt.spec, f)
			}
		}
		if status != 200 || len(got) != len(strings.Fields(tt.names)) {
			t.Errorf("%s by %s: %d %s", tt.spec, tt.user, status, doc)
		}
		for _, n := range strings.Fields(tt.names) {
			if !got[n] {
				t.Errorf("%s by %s: %s is missing", tt.spec, tt.user, n)
			}
		}
	}
	w.is("alice", "GET /search?filename=plum*", "", 404, textNone)
	w.is("alice", "GET /search", "", 422, "missing")
	w.is("alice", "GET /search?filename=a&limit=1001", "", 422, "less_than_equal")
	w.is("alice", "GET /count", "", 200, "2")
	w.is("admin", "GET /count", "", 200, "3")
	w.is("admin", "GET /user/count", "", 200, "0")
}

func TestContents(t *testing.T) {
	w := newWorld(t)
	text := w.file("alice", "näme 1.txt", "text/plain", "The text.").Text("id")
	page := w.file("admin", "p.html", "text/html", "<p>x</p>").Text("id")
	theirs := w.file("alice", "p.html", "text/html", "<p>x</p>").Text("id")
	pdf := w.file("alice", "a.PDF", "application/octet-stream", "%PDF").Text("id")
	named := "UTF-8''n%C3%A4me%201.txt"
	for _, tt := range []struct {
		user, path          string
		status              int
		kind, as, wantsBody string
	}{
		{"alice", text + "/content", 200, "text/plain; charset=utf-8", "", "The text."},
		{"alice", text + "/content?attachment=true", 200, "text/plain; charset=utf-8", "attachment; filename*=" + named, "The text."},
		{"alice", text + "/content/any.name", 200, "text/plain; charset=utf-8", "attachment; filename*=" + named, "The text."},
		{"alice", pdf + "/content", 200, "application/pdf", "inline; filename*=UTF-8''a.PDF", "%PDF"},
		{"alice", theirs + "/content", 200, "text/html; charset=utf-8", "attachment; filename*=UTF-8''p.html", "<p>x</p>"},
		{"admin", page + "/content/html", 200, "text/html; charset=utf-8", "", "<p>x</p>"},
		{"alice", theirs + "/content/html", 404, "application/json", "", ""},
		{"alice", page + "/content/html", 404, "application/json", "", ""},
		{"bob", text + "/content", 404, "application/json", "", ""},
		{"bob", text + "/content/x", 404, "application/json", "", ""},
	} {
		rec := w.do(tt.user, "GET /"+tt.path, "", nil)
		h := rec.Header()
		if rec.Code != tt.status || h.Get("Content-Type") != tt.kind || h.Get("Content-Disposition") != tt.as || tt.status == 200 && rec.Body.String() != tt.wantsBody {
			t.Errorf("%s by %s: %d %v %q", tt.path, tt.user, rec.Code, h, rec.Body)
		}
	}
	r := httptest.NewRequest("GET", "/api/v1/files/"+text+"/content", nil)
	r.Header.Set("User", "alice")
	r.Header.Set("Range", "bytes=4-7")
	rec := httptest.NewRecorder()
	if w.router.ServeHTTP(rec, r); rec.Code != http.StatusPartialContent || rec.Body.String() != "text" {
		t.Errorf("a range: %d %q", rec.Code, rec.Body)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	w.is("alice", "GET /"+text+"/content", "", 404, web.TextNotFound)
	w.is("alice", "GET /"+text+"/content/"+url.PathEscape("x y"), "", 200, "The text.")
}

func TestChanges(t *testing.T) {
	w := newWorld(t)
	f := w.file("alice", "a.txt", "text/plain", "old")
	id := f.Text("id")
	w.is("alice", "POST /"+id+"/data/content/update", `{"content":" "}`, 400, textEmpty)
	w.is("bob", "POST /"+id+"/data/content/update", `{"content":"x"}`, 404, web.TextNotFound)
	w.is("alice", "POST /"+id+"/data/content/update", `{"content":"new"}`, 200, `{"content":"new"}`)
	w.is("admin", "GET /"+id+"/data/content", "", 200, `{"content":"new"}`)
	w.is("bob", "GET /"+id+"/data/content", "", 404, web.TextNotFound)
	w.is("bob", "GET /"+id+"/process/status", "", 404, web.TextNotFound)
	w.is("bob", "POST /"+id+"/rename", `{"filename":"b"}`, 404, web.TextNotFound)
	w.is("alice", "POST /"+id+"/rename", `{"filename":"b.txt"}`, 200, `"filename":"b.txt"`)
	w.is("alice", "GET /"+id, "", 200, `"name":"b.txt"`)
	w.is("bob", "DELETE /"+id, "", 404, web.TextNotFound)
	w.is("alice", "DELETE /"+id, "", 200, "File deleted successfully")
	w.is("alice", "DELETE /"+id, "", 404, web.TextNotFound)
	if _, err := os.Stat(f.Text("path")); !os.IsNotExist(err) {
		t.Errorf("the content is still there: %v", err)
	}
	w.file("alice", "c.txt", "text/plain", "c")
	w.is("alice", "DELETE /all", "", 401, web.TextProhibited)
	w.is("admin", "DELETE /all", "", 200, "All files deleted successfully")
	w.is("admin", "GET /count", "", 200, "0")
	w.drain()
	read := func(id, name string) string {
		return "alice retrieval.content.processed " + id + ` {"collection_name":"file-` + id + `","filename":"` + name + `"}`
	}
	want := []string{"alice file.uploaded " + id + ` {"filename":"a.txt","content_type":"text/plain"}`, read(id, "a.txt"), read(id, "a.txt"),
		"alice file.content_updated " + id + ` {"content_preview":"new"}`, "alice file.renamed " + id + ` {"filename":"b.txt"}`,
		"alice file.deleted " + id + ` {"filename":"b.txt"}`}
	if len(w.events) != 9 || !slices.Equal(w.events[:6], want) || w.events[8] != "admin file.deleted_all  {}" {
		t.Errorf("events: %q", w.events)
	}
	if left, err := os.ReadDir(w.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStatusIsAwaited(t *testing.T) {
	w := newWorld(t)
	status, f := w.upload("alice", "?process=false", "a.txt", "text/plain", "x")
	if status != 200 {
		t.Fatalf("%d %s", status, f)
	}
	id := f.Text("id")
	if rec := w.do("alice", "GET /"+id+"/process/status?stream=true", "", nil); rec.Body.Len() != 0 || rec.Header().Get("Content-Type") != web.EventStream {
		t.Errorf("stored only: %q", rec.Body)
	}
	ctx := context.Background()
	state := func(s string) {
		if _, err := w.module.Files.Update(ctx, id, files.Change{Data: jsondoc.Object("status", jsondoc.Text(s))}); err != nil {
			t.Error(err)
		}
	}
	state(files.Processing)
	server := httptest.NewServer(w.router)
	defer server.Close()
	r, _ := http.NewRequest("GET", server.URL+"/api/v1/files/"+id+"/process/status?stream=true", nil)
	r.Header.Set("User", "alice")
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 64)
	n, _ := res.Body.Read(first)
	if got := string(first[:n]); !strings.Contains(got, files.Processing) {
		t.Errorf("first: %q", got)
	}
	state(files.Completed)
	var rest bytes.Buffer
	if _, err := rest.ReadFrom(res.Body); err != nil || !strings.HasSuffix(rest.String(), `data: {"status":"completed"}`+"\n\n") {
		t.Errorf("rest: %q, %v", rest.String(), err)
	}
}

func TestReadLater(t *testing.T) {
	w := newWorld(t)
	stored := func(name, kind, content string) string {
		status, f := w.upload("alice", "?process=false", name, kind, content)
		if status != 200 {
			t.Fatalf("%d %s", status, f)
		}
		return f.Text("id")
	}
	const path = "POST /retrieval/process/file"
	later, blank, film := stored("later.txt", "text/plain", "Later."), stored("blank.txt", "text/plain", " "), stored("f.mp4", "video/mp4", "\x00")
	w.is("bob", path, `{"file_id":"`+later+`"}`, 404, web.TextNotFound)
	w.is("alice", path, `{"file_id":"`+later+`","collection_name":"other"}`, 404, web.TextNotFound)
	w.is("alice", "GET /"+later+"/process/status", "", 200, files.Pending)
	w.is("alice", path, `{"file_id":"`+later+`"}`, 200, `{"status":true,"collection_name":"file-`+later+`","filename":"later.txt","content":"Later."}`)
	w.is("alice", "GET /"+later+"/process/status", "", 200, files.Completed)
	w.is("alice", path, `{"file_id":"`+blank+`"}`, 400, textEmpty)
	w.is("alice", "GET /"+blank+"/process/status", "", 200, files.Failed)
	w.is("alice", path, `{"file_id":"`+film+`"}`, 400, textEmpty)
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	w.is("alice", path, `{"file_id":"`+later+`"}`, 400, `{"detail":"`+textAbsent+`"}`)
	if _, err := w.db.Exec(context.Background(), "UPDATE file SET path = NULL WHERE id = $1", later); err != nil {
		t.Fatal(err)
	}
	w.is("alice", path, `{"file_id":"`+later+`"}`, 200, `"content":"Later."`)
	w.set("rag.bypass_embedding_and_retrieval", "true")
	w.is("admin", path, `{"file_id":"`+blank+`","content":"Now."}`, 200, `{"status":true,"collection_name":null,"filename":"blank.txt","content":"Now."}`)
	w.is("alice", "GET /"+blank+"/data/content", "", 200, "Now.")
}
