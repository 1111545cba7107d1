package backup

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"log/slog"

	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// TestOccupied restores over data, with and without leave to do so.
func TestOccupied(t *testing.T) {
	s := newSite(t, "")
	s.write(".webui_secret_key", "old key")
	s.write("cache/image/a.png", "old image")
	s.write("vector_db/x.bin", "old vectors")
	file := s.backup()
	before := tree(t, s.dir)
	s.exec(`DELETE FROM chat`)
	s.write("cache/image/a.png", "new image")
	s.write("cache/embedding/models/m.bin", "a model")
	s.write("plugins/new/program", "a plugin")
	s.write("frontend/index.html", "interface")
	after, chats := tree(t, s.dir), rows(t, s.db, s.dir)
	o := RestoreOptions{File: file, DataDir: s.dir, DatabaseURL: s.url}

	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrServing) {
		t.Errorf("a database that is open: %v", err)
	}
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	socket := control.New(s.dir, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err := socket.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrServing) {
		t.Errorf("a server: %v", err)
	}
	if err := socket.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrOccupied) {
		t.Errorf("without leave: %v", err)
	}
	sameTree(t, tree(t, s.dir), after)

	o.Force = true
	r, err := Restore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kept) != 1 {
		t.Fatalf("kept: %q", r.Kept)
	}
	kept := r.Kept[0]
	want := map[string]string{}
	for name, is := range after { // what was there stands in the other folder, but for what backups leave out
		if !strings.HasPrefix(name, "frontend") && !strings.HasPrefix(name, "cache/embedding") && name != "cache" {
			want[name] = is
		}
	}
	got := tree(t, kept)
	delete(got, "cache")
	sameTree(t, got, want)
	sameRows(t, rows(t, open(t, "sqlite:///"+filepath.Join(kept, databaseName)), s.dir), chats)
	now := tree(t, s.dir)
	for name := range now {
		if strings.HasPrefix(name, filepath.Base(kept)) || strings.HasPrefix(name, "frontend") || strings.HasPrefix(name, "cache/embedding") {
			delete(now, name)
		}
	}
	sameTree(t, now, before)
	if text, err := os.ReadFile(filepath.Join(s.dir, "cache/embedding/models/m.bin")); err != nil || string(text) != "a model" {
		t.Errorf("what can be had again is gone: %v", err)
	}
	db := open(t, s.url)
	sound(t, db)
	if contents(t, db, nil) != 5 {
		t.Error("uploads")
	}
}

// TestKeyStays leaves the secret key where the backup has none, and everything else where it is of the database only.
func TestKeyStays(t *testing.T) {
	s := newSite(t, "")
	s.write(".webui_secret_key", "key")
	o := s.options()
	o.WithoutSecretKey = true
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	only := s.options()
	only.DatabaseOnly = true
	if _, err := Make(t.Context(), only); err != nil {
		t.Fatal(err)
	}
	s.write("plugins/p/program", "p")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	there := func(name string, want bool) {
		t.Helper()
		if ok, err := exists(filepath.Join(s.dir, name)); err != nil || ok != want {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
	for _, file := range []string{only.File, o.File} {
		if _, err := Restore(t.Context(), RestoreOptions{File: file, DataDir: s.dir, DatabaseURL: s.url, Force: true}); err != nil {
			t.Fatal(err)
		}
		there(".webui_secret_key", true)
		there("plugins", file == only.File)
	}
}

// TestElsewhere restores a database that is not in the data folder.
func TestElsewhere(t *testing.T) {
	s := newSite(t, "")
	file := s.backup()
	dir, other := t.TempDir(), t.TempDir()
	url := "sqlite:///" + filepath.Join(other, "app.db")
	restore(t, file, dir, url)
	sound(t, open(t, url))
	if ok, _ := exists(filepath.Join(dir, databaseName)); ok {
		t.Error("there is a second database")
	}
	if err := os.RemoveAll(filepath.Join(dir, uploads)); err != nil {
		t.Fatal(err)
	}
	o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: url}
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrServing) {
		t.Errorf("%v", err)
	}
}

// TestInterrupted gives a restore up before each of its moves, has no server start, and completes it.
func TestInterrupted(t *testing.T) {
	s := newSite(t, "")
	s.write(".webui_secret_key", "key")
	s.write("cache/image/a.png", "image")
	s.write("vector_db/x.bin", "vectors")
	file := s.backup()
	want := tree(t, s.dir)
	wantRows := rows(t, s.db, s.dir)
	errPower := errors.New("power cut")
	for stop := 0; ; stop++ {
		dir := t.TempDir()
		url := "sqlite:///" + filepath.Join(dir, databaseName)
		restore(t, file, dir, url)
		old := open(t, url)
		if _, err := old.Exec(t.Context(), "DELETE FROM chat"); err != nil {
			t.Fatal(err)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		n := 0
		o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: url, Force: true, step: func() error {
			if n++; n > stop {
				return errPower
			}
			return nil
		}}
		_, err := Restore(t.Context(), o)
		if err == nil {
			if stop < 8 {
				t.Errorf("only %d moves", stop)
			}
			break
		}
		if !errors.Is(err, errPower) || !errors.Is(err, ErrUnfinished) || !errors.Is(Unfinished(dir), ErrUnfinished) {
			t.Fatalf("before move %d: %v", stop, err)
		}
		if _, err := Make(t.Context(), Options{DataDir: dir, DatabaseURL: url, File: filepath.Join(t.TempDir(), "b")}); !errors.Is(err, ErrUnfinished) {
			t.Errorf("a backup of half a restore: %v", err)
		}
		o.step, o.File = nil, "not looked at"
		r, err := Restore(t.Context(), o)
		if err != nil || !r.Completed || len(r.Kept) != 1 {
			t.Fatalf("%+v %v", r, err)
		}
		if err := Unfinished(dir); err != nil {
			t.Error(err)
		}
		got := tree(t, dir)
		for name := range got {
			if strings.HasPrefix(name, filepath.Base(r.Kept[0])) {
				delete(got, name)
			}
		}
		sameTree(t, got, want)
		sameRows(t, rows(t, open(t, url), dir), wantRows)
		var chats int
		kept := open(t, "sqlite:///"+filepath.Join(r.Kept[0], databaseName))
		if err := kept.QueryRow(t.Context(), "SELECT COUNT(*) FROM chat").Scan(&chats); err != nil || chats != 0 {
			t.Errorf("%d chats in what was kept, %v", chats, err)
		}
	}
}

// TestInTheWay restores where something came up between an interruption and its completion.
func TestInTheWay(t *testing.T) {
	s := newSite(t, "")
	file := s.backup()
	dir := t.TempDir()
	o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: "sqlite:///" + filepath.Join(dir, databaseName), step: func() error { return errors.New("power cut") }}
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrUnfinished) {
		t.Fatal(err)
	}
	open(t, o.DatabaseURL)
	o.step = nil
	if _, err := Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filepath.Join(dir, databaseName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), o); err != nil {
		t.Error(err)
	}
}

// TestRestoreStops interrupts a restore before it changes anything, and runs two at once.
func TestRestoreStops(t *testing.T) {
	s := newSite(t, "")
	file := s.backup()
	for _, stage := range []string{"verify", "unpack", "check the database"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: "sqlite:///" + filepath.Join(dir, databaseName), Progress: func(p Progress) {
			if p.Stage == stage {
				cancel()
			}
		}}
		if _, err := Restore(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", stage, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left over: %v", stage, left)
		}
		cancel()
	}
	dir := t.TempDir()
	o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: "sqlite:///" + filepath.Join(dir, databaseName)}
	inner := o
	o.Progress = func(p Progress) {
		if p.Stage == "check the database" {
			if _, err := Restore(t.Context(), inner); err == nil || !strings.Contains(err.Error(), "another restore") {
				t.Errorf("two at once: %v", err)
			}
		}
	}
	if _, err := Restore(t.Context(), o); err != nil {
		t.Error(err)
	}
	// what a process that was killed has left is cleared
	dir = t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, restoreDir, "new", "uploads"), 0o700), os.WriteFile(filepath.Join(dir, restoreDir, databaseName), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	restore(t, file, dir, "sqlite:///"+filepath.Join(dir, databaseName))
	if ok, _ := exists(filepath.Join(dir, restoreDir)); ok {
		t.Error("the folder is left")
	}
}

// TestIntoPostgres looks at databases that are not empty, and at a copy that is interrupted.
func TestIntoPostgres(t *testing.T) {
	url := storetest.PostgresURL(t)
	s := newSite(t, "")
	file := s.backup()
	dir := t.TempDir()
	o := RestoreOptions{File: file, DataDir: dir, DatabaseURL: url, Force: true}
	db := open(t, url)
	if _, err := db.Exec(t.Context(), `INSERT INTO "user" (id, name, email, role, profile_image_url, created_at) VALUES ('a', 'a', 'a', 'user', '', 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "has accounts") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	for _, table := range []string{`"user"`, "config"} {
		if _, err := db.Exec(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if strings.HasPrefix(p.Stage, "copy") && p.Done > 0 {
			cancel()
		}
	}
	if _, err := Restore(ctx, o); !errors.Is(err, ErrUnfinished) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := store.Open(t.Context(), url, store.Options{}); !errors.Is(err, store.ErrUnfinished) {
		t.Errorf("half a database: %v", err)
	}
	o.Progress = nil
	other := o
	other.DatabaseURL = "postgresql://elsewhere/x"
	if _, err := Restore(t.Context(), other); err == nil || !strings.Contains(err.Error(), "is of the database") {
		t.Errorf("another database: %v", err)
	}
	r, err := Restore(t.Context(), o)
	if err != nil || !r.Completed {
		t.Fatalf("%+v %v", r, err)
	}
	if n := contents(t, open(t, url), nil); n != 5 {
		t.Errorf("%d uploads", n)
	}
}

// TestBroken restores a backup whose database is damaged though its digest is right.
func TestBroken(t *testing.T) {
	s := newSite(t, "")
	for i := range 200 {
		s.exec(`INSERT INTO chat (id, user_id, title, created_at, updated_at, archived, chat, meta) VALUES ($1, 'u1', $2, 1, 1, $3, '{}', '{}')`, "d"+string(rune('0'+i%10))+strings.Repeat("y", i), strings.Repeat("x", 3000), false)
	}
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.dir, databaseName)
	db := must(sql.Open("sqlite", name))
	var root, size int64
	if err := errors.Join(db.QueryRow("SELECT rootpage FROM sqlite_master WHERE name = 'chat'").Scan(&root), db.QueryRow("PRAGMA page_size").Scan(&size), db.Close()); err != nil {
		t.Fatal(err)
	}
	f := must(os.OpenFile(name, os.O_WRONLY, 0))
	if _, err := f.WriteAt([]byte(strings.Repeat("broken", 100)), (root-1)*size+8); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	file := s.backup()
	dir := t.TempDir()
	var bad *DamagedError
	if _, err := Restore(t.Context(), RestoreOptions{File: file, DataDir: dir, DatabaseURL: "sqlite:///" + filepath.Join(dir, databaseName)}); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
