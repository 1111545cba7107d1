package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/storetest"
)

// site is a data folder and its database.
type site struct {
	t   *testing.T
	dir string
	url string
	db  *store.DB
}

// newSite makes one with a few accounts, chats and uploads.
func newSite(t *testing.T, url string) *site {
	t.Helper()
	dir := t.TempDir()
	if url == "" {
		url = "sqlite:///" + filepath.Join(dir, databaseName)
	}
	s := &site{t: t, dir: dir, url: url, db: open(t, url)}
	for i := range 20 {
		s.exec(`INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, settings) VALUES ($1, $2, $1, 'user', '', 1, '{"ui":{"a":1}}')`, fmt.Sprint("u", i), "Ünï")
		s.exec(`INSERT INTO chat (id, user_id, title, created_at, updated_at, archived, pinned, chat, meta) VALUES ($1, 'u1', $2, 1, 1, $3, $4, '{"n":1.50}', '{}')`, fmt.Sprint("c", i), strings.Repeat("x", i*100), i%2 == 0, i%3 == 0)
	}
	for i := range 5 {
		s.upload(fmt.Sprintf("näme %d.txt", i), []byte(strings.Repeat("content ", i*1000)))
	}
	return s
}

func open(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), url, store.Options{PoolSize: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (s *site) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(context.Background(), query, args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// upload stores a file as the server does.
func (s *site) upload(name string, content []byte) *files.File {
	s.t.Helper()
	f, err := s.tryUpload(name, content)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *site) tryUpload(name string, content []byte) (*files.File, error) {
	folder, err := files.NewFolder(filepath.Join(s.dir, uploads))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	f := files.Upload{UserID: "u1", Name: name, Size: int64(len(content)), Hash: jsondoc.Text(hex.EncodeToString(sum[:]))}.File()
	if err := folder.Keep(f, func(path string) error { return os.WriteFile(path, content, 0o644) }); err != nil {
		return nil, err
	}
	return f, files.New(s.db).Insert(context.Background(), f)
}

// write makes a file below the data folder.
func (s *site) write(name, content string) {
	s.t.Helper()
	at := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o640)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) options() Options {
	return Options{DataDir: s.dir, DatabaseURL: s.url, Version: "1.2.3", File: filepath.Join(s.t.TempDir(), "b.tar.gz")}
}

// backup makes a backup and gives its file.
func (s *site) backup() string {
	s.t.Helper()
	o := s.options()
	if _, err := Make(s.t.Context(), o); err != nil {
		s.t.Fatal(err)
	}
	s.leftovers()
	return o.File
}

// leftovers makes sure that a backup or restore has left nothing in the data folder.
func (s *site) leftovers() {
	s.t.Helper()
	left, _ := filepath.Glob(filepath.Join(s.dir, ".galley-*"))
	if len(left) > 0 {
		s.t.Errorf("left over: %q", left)
	}
}

func restore(t *testing.T, file, dir, url string) *Restored {
	t.Helper()
	r, err := Restore(t.Context(), RestoreOptions{File: file, DataDir: dir, DatabaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tree is all of a folder: names with modes and digests, without databases.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case strings.HasPrefix(e.Name(), databaseName), rel == ".":
			return nil
		case rel == uploads && e.IsDir(): // made by servers, with whatever mode
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out[rel] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[rel] += fmt.Sprintf(" %d %x", info.ModTime().Unix(), sha256.Sum256(data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %q, want %q", name, got[name], w)
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %q is too many", name, g)
		}
	}
}

// rows is all that the tables of an SQLite database hold, in order. The folder is taken out of paths.
func rows(t *testing.T, db *store.DB, dir string) map[string]string {
	t.Helper()
	ctx := context.Background()
	r, err := db.Query(ctx, db.Dialect().Pick("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"))
	names, err := store.Strings(r, err)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range names {
		r, err := db.Query(ctx, db.Dialect().Pick(`SELECT * FROM "`+name+`"`, `SELECT to_jsonb(t)::text FROM "`+name+`" t`))
		all, err := store.Collect(r, err, func(r *sql.Rows) (string, error) {
			columns, err := r.Columns()
			if err != nil {
				return "", err
			}
			row, at := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				at[i] = &row[i]
			}
			err = r.Scan(at...)
			return strings.ReplaceAll(fmt.Sprintf("%q", row), dir, "DIR"), err
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		out[name] = strings.Join(all, "\n")
	}
	return out
}

func sameRows(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if got[name] != w {
			t.Errorf("table %s:\n%s\nwant\n%s", name, got[name], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d tables, want %d", len(got), len(want))
	}
}

// TestRoundTrip restores backups of both kinds of database into both.
func TestRoundTrip(t *testing.T) {
	for _, from := range []string{"sqlite", "postgres"} {
		for _, to := range []string{"sqlite", "postgres"} {
			t.Run(from+" to "+to, func(t *testing.T) {
				url := ""
				if from == "postgres" {
					url = storetest.PostgresURL(t)
				}
				s := newSite(t, url)
				s.write("cache/image/generations/x.png", "an image")
				s.write("plugins/echo/plugin.yaml", "id: echo")
				s.write(".webui_secret_key", "secret")
				s.write("l.data", "something else")
				if err := os.MkdirAll(filepath.Join(s.dir, "cache/tools/abc"), 0o750); err != nil {
					t.Fatal(err)
				}
				want := tree(t, s.dir)
				file := s.backup()
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%v %v", info.Mode(), err)
				}
				dir := filepath.Join(t.TempDir(), "new")
				target := "sqlite:///" + filepath.Join(dir, databaseName)
				if to == "postgres" {
					target = storetest.PostgresURL(t)
				}
				r := restore(t, file, dir, target)
				if r.Paths != 5 || len(r.Missing) > 0 || len(r.Told) > 0 || len(r.Kept) > 0 || r.Dialect != from || r.Galley != "1.2.3" {
					t.Errorf("%+v", r)
				}
				if _, err := os.Stat(filepath.Join(dir, restoreDir)); !gone(err) {
					t.Error("the folder of the restore is left")
				}
				sameTree(t, tree(t, dir), want)
				db := open(t, target)
				if from == to {
					sameRows(t, rows(t, db, dir), rows(t, s.db, s.dir))
				}
				for _, table := range []string{"user", "chat", "file"} {
					var got, want string
					query := `SELECT COUNT(*) || ' ' || MAX(id) FROM "` + table + `"`
					if err := errors.Join(db.QueryRow(t.Context(), query).Scan(&got), s.db.QueryRow(t.Context(), query).Scan(&want)); err != nil || got != want {
						t.Errorf("%s: %s, want %s (%v)", table, got, want, err)
					}
				}
				sound(t, db)
				contents(t, db, nil)
			})
		}
	}
}

// sound checks an SQLite database for damage.
func sound(t *testing.T, db *store.DB) {
	t.Helper()
	if db.Dialect() != store.SQLite {
		return
	}
	var verdict string
	if err := db.QueryRow(context.Background(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity: %s %v", verdict, err)
	}
}

// contents looks for the content of each row of the table file, by the path that it has, and gives their number.
func contents(t *testing.T, db *store.DB, missing []Lost) int {
	t.Helper()
	list, err := files.New(db).List(context.Background(), files.Query{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		data, err := os.ReadFile(*f.Path)
		sum := sha256.Sum256(data)
		if lost := slices.ContainsFunc(missing, func(l Lost) bool { return l.ID == f.ID }); err != nil && !lost || err == nil && hex.EncodeToString(sum[:]) != f.Meta.Text("file_hash") {
			t.Errorf("%s: content is missing or another (%v)", f.ID, err)
		}
	}
	return len(list)
}

// TestUnderLoad makes backups while uploads and chats come and go.
func TestUnderLoad(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := &site{t: t, dir: t.TempDir(), url: db.URL(), db: db}
		ctx, cancel := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		defer writers.Wait()
		defer cancel()
		var made atomic.Int64
		store, folder := files.New(db), must(files.NewFolder(filepath.Join(s.dir, uploads)))
		for n := range 4 {
			writers.Go(func() {
				var mine []*files.File
				random := rand.New(rand.NewPCG(1, uint64(n)))
				for i := 0; ctx.Err() == nil; i++ {
					f, err := s.tryUpload(fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, random.IntN(50_000)))
					if err != nil {
						t.Error(err)
						return
					}
					made.Add(1)
					if _, err := db.Exec(context.Background(), `INSERT INTO chat (id, user_id, title, created_at, updated_at, archived, chat, meta) VALUES ($1, 'u', $2, 1, 1, $3, '{}', '{}')`, f.ID, strings.Repeat("t", random.IntN(5000)), false); err != nil {
						t.Error(err)
						return
					}
					if mine = append(mine, f); len(mine) < 100 {
						continue
					}
					k := random.IntN(len(mine))
					old := mine[k]
					mine = slices.Delete(mine, k, k+1)
					if err := errors.Join(store.Delete(context.Background(), old.ID), folder.Remove(*old.Path)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for made.Load() < 500 {
			time.Sleep(time.Millisecond)
		}
		for i := range 2 {
			before := made.Load()
			o := s.options()
			r, err := Make(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if made.Load() == before {
				t.Log("nothing was written meanwhile")
			}
			dir := filepath.Join(t.TempDir(), "new")
			restored := "sqlite:///" + filepath.Join(dir, databaseName)
			restore(t, o.File, dir, restored)
			copied := open(t, restored)
			sound(t, copied)
			n := contents(t, copied, r.Missing)
			t.Logf("backup %d: %d uploads, %d missing, %d of the folder", i, n, len(r.Missing), r.Files())
			if n < 200 || len(r.Missing) > n/10 {
				t.Errorf("%d uploads, %d missing, %d files", n, len(r.Missing), r.Files())
			}
		}
		s.leftovers()
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestLeftOut looks at what of a data folder is in a backup.
func TestLeftOut(t *testing.T) {
	s := newSite(t, "")
	in := []string{
		".webui_secret_key", "old_config.json", "audit.log", "cache/functions/f/state.json", "cache/image/generations/a.png", "plugins/p/program",
		"plugin-data/p/kept.txt", "uploads/upload-mine.txt", "uploads/deeper/x.txt", "vector_db/abc/header.bin", "vector_db/chroma.sqlite3",
	}
	out := []string{
		"frontend/0.12.4/index.html", "python/tools/x.py", "cache/embedding/models/m.bin", "cache/whisper/models/m.bin", "cache/tiktoken/t", "cache/audio/speech/a.mp3",
		"uploads/upload-123456", "webui.db-journal", ".db-download-1/webui.db", "before-restore-1/webui.db", "galley-backup-1.tar.gz", ".galley-backup-zz/x",
		"plugin-data/galley-run-1/lock", "plugins/.galley-install-1/x", ".webui_secret_key-123", "vector_db/chroma.sqlite3-journal-not.txt/../chroma.sqlite3-wal",
	}
	for _, name := range slices.Concat(in, out) {
		s.write(name, "text of "+name)
	}
	_ = os.Remove(filepath.Join(s.dir, "webui.db-journal")) // before SQLite takes it for one
	if err := os.Remove(filepath.Join(s.dir, "vector_db/chroma.sqlite3")); err != nil {
		t.Fatal(err)
	}
	vectors := must(sql.Open("sqlite", "file:"+filepath.Join(s.dir, "vector_db/chroma.sqlite3")))
	defer vectors.Close()
	if _, err := vectors.Exec("CREATE TABLE e (x TEXT); INSERT INTO e VALUES ('v')"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "plugin-data", "link")); err != nil {
		t.Fatal(err)
	}
	socket := must(net.Listen("unix", filepath.Join(s.dir, "some.sock")))
	defer socket.Close()
	s.write("plugin-data/latin-\xe9", "x")
	// uploads may be on another disk
	elsewhere := t.TempDir()
	if err := errors.Join(os.Rename(filepath.Join(s.dir, uploads), filepath.Join(elsewhere, "u")), os.Symlink(filepath.Join(elsewhere, "u"), filepath.Join(s.dir, uploads))); err != nil {
		t.Fatal(err)
	}
	names := func(o Options) (r *Report, names []string) {
		t.Helper()
		r, err := Make(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries {
			names = append(names, e.Name)
		}
		return r, names
	}
	o := s.options()
	r, got := names(o)
	for _, name := range append(in, databaseName) {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not in it", name)
		}
	}
	for _, name := range out {
		if slices.Contains(got, filepath.Clean(name)) {
			t.Errorf("%s is in it", name)
		}
	}
	if want := []string{`"plugin-data/latin-\xe9"`, "plugin-data/link", "some.sock"}; !slices.Equal(r.Skipped, want) {
		t.Errorf("left out: %q", r.Skipped)
	}
	if n := r.Files(); n != len(in)+5 || !r.SecretKey {
		t.Errorf("%d files of %q", n, got)
	}
	dir := t.TempDir()
	restore(t, o.File, dir, "sqlite:///"+filepath.Join(dir, databaseName))
	var v string
	restored := must(sql.Open("sqlite", "file:"+filepath.Join(dir, "vector_db/chroma.sqlite3")))
	defer restored.Close()
	if err := restored.QueryRow("SELECT x FROM e").Scan(&v); err != nil || v != "v" {
		t.Errorf("vectors: %q %v", v, err)
	}

	o = s.options()
	o.WithoutSecretKey = true
	if r, got := names(o); slices.Contains(got, ".webui_secret_key") || r.SecretKey {
		t.Error("the secret key is in it")
	}
	o = s.options()
	o.DatabaseOnly, o.Compress = true, "none"
	if _, got := names(o); !slices.Equal(got, []string{databaseName}) {
		t.Errorf("%q", got)
	}
	s.leftovers()
}

// TestRollbackJournal copies a database of a server that keeps no write-ahead log, and has it open.
func TestRollbackJournal(t *testing.T) {
	s := newSite(t, "")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	other := must(sql.Open("sqlite", "file:"+filepath.Join(s.dir, databaseName)+"?_pragma=journal_mode(DELETE)"))
	defer other.Close()
	if err := other.Ping(); err != nil {
		t.Fatal(err)
	}
	file := s.backup()
	if _, err := other.Exec(`DELETE FROM chat`); err != nil {
		t.Error(err)
	}
	if wal, err := logged(t.Context(), filepath.Join(s.dir, databaseName)); err != nil || wal {
		t.Errorf("the backup has changed the journal: %v %v", wal, err)
	}
	dir := t.TempDir()
	url := "sqlite:///" + filepath.Join(dir, databaseName)
	restore(t, file, dir, url)
	db := open(t, url)
	sound(t, db)
	var n int
	if err := db.QueryRow(t.Context(), "SELECT COUNT(*) FROM chat").Scan(&n); err != nil || n != 20 {
		t.Errorf("%d chats, %v", n, err)
	}
}

// TestMissing has rows whose content is not there, not on this disk, or of a folder that has moved.
func TestMissing(t *testing.T) {
	s := newSite(t, "")
	lost, moved, remote := s.upload("lost", []byte("1")), s.upload("moved", []byte("2")), s.upload("remote", []byte("3"))
	if err := os.Remove(*lost.Path); err != nil {
		t.Fatal(err)
	}
	s.exec(`UPDATE file SET path = $1 WHERE id = $2`, "data/uploads/"+filepath.Base(*moved.Path), moved.ID)
	s.exec(`UPDATE file SET path = $1 WHERE id = $2`, "s3://bucket/"+filepath.Base(*remote.Path), remote.ID)
	o := s.options()
	r, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Lost{{lost.ID, "lost", *lost.Path}}; !slices.Equal(r.Missing, want) || r.Remote != 1 {
		t.Errorf("%+v %d", r.Missing, r.Remote)
	}
	dir := t.TempDir()
	url := "sqlite:///" + filepath.Join(dir, databaseName)
	restore(t, o.File, dir, url)
	store := files.New(open(t, url))
	for id, want := range map[string]string{
		lost.ID: filepath.Join(dir, uploads, filepath.Base(*lost.Path)), moved.ID: filepath.Join(dir, uploads, filepath.Base(*moved.Path)), remote.ID: "s3://bucket/" + filepath.Base(*remote.Path),
	} {
		if f, err := store.Get(t.Context(), id); err != nil || *f.Path != want {
			t.Errorf("%v %v, want %s", f, err, want)
		}
	}
}

// TestDeletedBefore makes sure that what was deleted before the moment does not come back, though it was linked.
func TestDeletedBefore(t *testing.T) {
	s := newSite(t, "")
	kept, deleted := s.upload("kept", []byte("1")), s.upload("deleted", []byte("2"))
	stage := must(newStage(s.dir))
	defer stage.close()
	if err := stage.link(t.Context(), s.dir); err != nil {
		t.Fatal(err)
	}
	s.exec(`DELETE FROM file WHERE id = $1`, deleted.ID)
	if err := errors.Join(os.Remove(*deleted.Path), os.Remove(*kept.Path)); err != nil { // the latter's row is deleted after the moment
		t.Fatal(err)
	}
	m := must(openMoment(t.Context(), filepath.Join(s.dir, databaseName)))
	defer m.close()
	j := &job{o: s.options(), report: &Report{}, stage: stage}
	if err := j.look(filepath.Join(s.dir, databaseName), &output{}); err != nil {
		t.Fatal(err)
	}
	w := must(newWriter(t.Context(), io.Discard, "none", Head{}))
	if err := j.match(t.Context(), m, w); err != nil {
		t.Fatal(err)
	}
	if j.uploads[uploadName(*deleted.Path)] != nil {
		t.Error("a deleted file comes back")
	}
	if u := j.uploads[uploadName(*kept.Path)]; u == nil || j.writeFile(w, u.found) != nil || len(w.manifest.Missing) > 0 {
		t.Error("a file of the moment is gone")
	}
}

// full is a disk that takes so many bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// TestMakeFails looks at errors, after which nothing is left.
func TestMakeFails(t *testing.T) {
	s := newSite(t, "")
	cancelled, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name, want string
		change     func(o *Options)
	}{
		{"there already", "not overwritten", func(o *Options) { _ = os.WriteFile(o.File, []byte("x"), 0o600) }},
		{"no such folder", "no such file", func(o *Options) { o.File = filepath.Join(s.dir, "no", "b.tar") }},
		{"no database", "no such file", func(o *Options) { o.DatabaseURL = "sqlite:////nowhere/webui.db" }},
		{"not a database", "not a database", func(o *Options) {
			s.write("text.db", strings.Repeat("text", 1000))
			o.DatabaseURL = "sqlite:///" + filepath.Join(s.dir, "text.db")
		}},
		{"another version", "Alembic", func(o *Options) {
			file := filepath.Join(s.t.TempDir(), "old.db")
			db := must(sql.Open("sqlite", file))
			defer db.Close()
			if _, err := db.Exec("CREATE TABLE alembic_version (version_num TEXT); CREATE TABLE file (id TEXT); INSERT INTO alembic_version VALUES ('old')"); err != nil {
				t.Fatal(err)
			}
			o.DatabaseURL = "sqlite:///" + file
		}},
		{"disk full", "no space left", func(o *Options) { o.File, o.Out, o.Compress = "-", &full{200_000}, "none" }},
		{"interrupted", "context canceled", func(o *Options) { o.Progress = func(Progress) { cancel() } }},
		{"half restored", "interrupted", func(o *Options) { s.write(".galley-restore/plan.json", "{}") }},
	} {
		o := s.options()
		c.change(&o)
		there, _ := os.ReadFile(o.File)
		_, err := Make(cancelled, o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		_ = os.RemoveAll(filepath.Join(s.dir, restoreDir))
		if now, _ := os.ReadFile(o.File); !bytes.Equal(now, there) {
			t.Errorf("%s: the file has changed", c.name)
		}
		s.leftovers()
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(o.File), ".galley*")); len(left) > 0 {
			t.Errorf("%s: left over: %q", c.name, left)
		}
	}
}

// TestSweep removes what a process that was killed has left, and not what a living one has.
func TestSweep(t *testing.T) {
	s := newSite(t, "")
	s.write(stagePrefix+"dead/uploads/x", "x")
	s.write(stagePrefix+"dead.part", "x")
	living := must(newStage(s.dir))
	if _, err := os.Stat(filepath.Join(s.dir, stagePrefix+"dead")); !gone(err) {
		t.Error("a dead one is left")
	}
	o := s.options()
	o.File = filepath.Join(s.dir, "b.tar.gz")
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(living.dir); err != nil {
		t.Error(err)
	}
	if err := living.close(); err != nil {
		t.Fatal(err)
	}
	s.leftovers()
}
