package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

// grantList is what users were granted: "user type:id permission".
type grantList []string

func (g grantList) CanAmong(_ context.Context, userID, resourceType string, ids []string, permission string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, id := range ids {
		out[id] = slices.Contains(g, userID+" "+resourceType+":"+id+" "+permission)
	}
	return out, nil
}

// readable are the chats that users may read beside granted ones: "user chat".
type readable []string

func (r readable) Can(_ context.Context, userID, _ string, c *chats.Chat, _ string) (bool, error) {
	return slices.Contains(r, userID+" "+c.ID), nil
}

type world struct {
	t  *testing.T
	db *store.DB
	s  *Store
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(context.Background(), text, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) file(id, owner, name string) *File {
	w.t.Helper()
	f := &File{ID: id, UserID: owner, Filename: name, Data: jsondoc.Doc(`{"status":"pending"}`), Meta: jsondoc.Doc(`{"name":"` + name + `"}`)}
	if err := w.s.Insert(context.Background(), f); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func each(t *testing.T, f func(w *world)) {
	storetest.Each(t, func(t *testing.T, db *store.DB) { f(&world{t, db, New(db)}) })
}

func TestRows(t *testing.T) {
	each(t, func(w *world) {
		ctx, t := context.Background(), w.t
		clock := int64(0)
		w.s.now = func() time.Time { clock++; return time.Unix(clock, 0) }
		w.file("a", "u", "apple.txt")
		w.file("b", "u", "Pear_1.md")
		w.file("c", "v", "50%.txt")
		hash, name := "h", "apricot.txt"
		f, err := w.s.Update(ctx, "a", Change{Name: &name, Hash: &hash, Data: jsondoc.Doc(`{"status":"failed","error":"why"}`), Meta: jsondoc.Doc(`{"x":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.s.Get(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*File{f, again} {
			if f.Filename != name || *f.Hash != hash || f.Status() != Failed || f.Name() != name || f.Meta.String() != `{"name":"apricot.txt","x":1}` || *f.CreatedAt != 1 || *f.UpdatedAt != 4 {
				t.Errorf("updated: %+v %s %s", f, f.Data, f.Meta)
			}
		}
		if status, reason, err := w.s.State(ctx, "a"); status != Failed || reason != "why" || err != nil {
			t.Errorf("state: %q %q %v", status, reason, err)
		}
		if f, err := w.s.Update(ctx, "a", Change{Clear: true}); err != nil || f.Hash != nil {
			t.Errorf("hash taken away: %v, %v", f, err)
		}
		if _, err := w.s.Update(ctx, "x", Change{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		for _, tt := range []struct {
			q    Query
			want string
			all  int
		}{
			{Query{Limit: 9}, "acb", 3},
			{Query{Limit: 9, Newest: true}, "cba", 3},
			{Query{Limit: 1, Offset: 1, Newest: true}, "b", 3},
			{Query{UserID: "u", Limit: 9}, "ab", 2},
			{Query{Limit: 9, Glob: "*"}, "acb", 3},
			{Query{Limit: 9, Glob: "AP*.TXT"}, "a", 1},
			{Query{Limit: 9, Glob: "pear?1.*"}, "b", 1},
			{Query{Limit: 9, Glob: "%"}, "", 0},
			{Query{Limit: 9, Glob: "*%.txt"}, "c", 1},
			{Query{Limit: 9, Glob: "____"}, "", 0},
		} {
			list, err := w.s.List(ctx, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range list {
				got += f.ID
			}
			if n, err := w.s.Count(ctx, tt.q); got != tt.want || n != tt.all || err != nil {
				t.Errorf("%+v: %q of %d, %v, want %q of %d", tt.q, got, n, err, tt.want, tt.all)
			}
		}
		w.exec("INSERT INTO chat (id, user_id, title, chat, created_at, updated_at) VALUES ('chat', 'u', 't', '{}', 1, 1)")
		w.exec("INSERT INTO chat_file (id, user_id, chat_id, file_id, created_at, updated_at) VALUES ('1', 'u', 'chat', 'a', 1, 1)")
		if err := w.s.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := w.s.Delete(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		var ties int
		if err := w.db.QueryRow(ctx, "SELECT COUNT(*) FROM chat_file").Scan(&ties); err != nil || ties != 0 {
			t.Errorf("ties left: %d, %v", ties, err)
		}
		if list, err := w.s.ByIDs(ctx, []string{"a", "b", "c"}); err != nil || len(list) != 2 {
			t.Errorf("by ids: %v, %v", list, err)
		}
		if err := w.s.DeleteAll(ctx); err != nil {
			t.Fatal(err)
		}
		if n, err := w.s.Count(ctx, Query{}); n != 0 || err != nil {
			t.Errorf("left: %d, %v", n, err)
		}
	})
}

func TestAccess(t *testing.T) {
	each(t, func(w *world) {
		ctx, t := context.Background(), w.t
		kb := func(id, owner, file string) {
			w.exec("INSERT INTO knowledge (id, user_id, name, created_at) VALUES ($1, $2, 'k', 1)", id, owner)
			w.exec("INSERT INTO knowledge_file (id, user_id, knowledge_id, file_id, created_at, updated_at) VALUES ($1, $2, $1, $3, 1, 1)", id, owner, file)
		}
		model := func(id, owner, base, meta string) {
			w.exec("INSERT INTO model (id, user_id, base_model_id, name, meta, params, is_active, created_at, updated_at) VALUES ($1, $2, NULLIF($3, ''), 'm', $4, '{}', TRUE, 1, 1)", id, owner, base, meta)
		}
		for _, id := range []string{"own", "in-kb", "stolen", "in-model", "picture", "in-chat", "in-folder", "alone"} {
			owner := "owner"
			if id == "own" {
				owner = "u"
			}
			w.file(id, owner, id)
		}
		kb("k1", "owner", "in-kb")
		kb("k2", "u", "stolen")
		model("m1", "owner", "base", `{"knowledge":[{"type":"file","id":"in-model"},{"type":"note","id":"alone"}]}`)
		model("m2", "owner", "", `{"background_image_url":"/api/v1/files/picture/content","voice_avatar":{"states":{"s":{"file_id":"picture"}}}}`)
		for _, c := range []string{"in-chat", "in-folder", "alone"} {
			w.exec("INSERT INTO chat (id, user_id, title, chat, meta, created_at, updated_at, share_id, folder_id) VALUES ($1, 'owner', 't', '{}', '{}', 1, 1, $2, $3)", c,
				map[string]any{"in-chat": "s"}[c], map[string]any{"in-folder": "f"}[c])
			w.exec("INSERT INTO chat_file (id, user_id, chat_id, file_id, created_at, updated_at) VALUES ($1, 'owner', $1, $1, 1, 1)", c)
		}
		w.exec("INSERT INTO note (id, user_id, title, created_at, updated_at) VALUES ('n1', 'u', 't', 1, 1), ('n2', 'owner', 't', 1, 1)")
		a := NewAccess(w.db, w.s, grantList{"u knowledge:k1 read", "u knowledge:k1 write", "u model:m1 read", "u model:m2 read", "u shared_chat:in-chat read", "u shared_chat:alone read", "u note:n2 read"},
			readable{"u in-folder"})
		for id, want := range map[string][2]bool{
			"own": {true, true}, "in-kb": {true, true}, "stolen": {true, false}, "in-model": {true, false}, "picture": {true, false}, "in-chat": {true, false},
			"in-folder": {true, false}, "alone": {false, false},
		} {
			f, err := w.s.Get(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			u := &users.User{ID: "u", Role: users.RoleUser}
			read, err1 := a.Can(ctx, u, f, Read)
			write, err2 := a.Can(ctx, u, f, Write)
			if err1 != nil || err2 != nil || read != want[0] || write != want[1] {
				t.Errorf("%s: %v %v, %v %v, want %v", id, read, write, err1, err2, want)
			}
			other := &users.User{ID: "x", Role: users.RoleUser}
			if ok, err := a.Can(ctx, other, f, Read); ok || err != nil {
				t.Errorf("%s by a stranger: %v, %v", id, ok, err)
			}
		}
		entries := []jsondoc.Doc{}
		for _, e := range []string{"file own", "file stolen", "file alone", "file gone", "collection k1", "collection k2", "collection k9", "note n1", "note n2", "chat in-chat"} {
			kind, id, _ := strings.Cut(e, " ")
			entries = append(entries, jsondoc.Doc(`{"type":"`+kind+`","id":"`+id+`"}`))
		}
		entries = append(entries, jsondoc.Doc(`{"type":"file"}`), jsondoc.Doc(`"own"`))
		may, err := a.MayRead(ctx, &users.User{ID: "u", Role: users.RoleUser}, entries)
		if want := []bool{true, true, false, false, true, true, false, true, true, false, false, false}; err != nil || !slices.Equal(may, want) {
			t.Errorf("entries: %v, %v, want %v", may, err, want)
		}
		may, err = a.MayRead(ctx, &users.User{ID: "x", Role: users.RoleAdmin}, entries)
		if want := []bool{true, true, true, true, true, true, true, true, true, false, false, false}; err != nil || !slices.Equal(may, want) {
			t.Errorf("entries for an administrator: %v, %v, want %v", may, err, want)
		}
	})
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "uploads")
	d, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := d.Place("id", "a b.txt")
	if want := filepath.Join(dir, "id_a b.txt"); path != want {
		t.Errorf("place: %q, want %q", path, want)
	}
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, "/elsewhere/uploads/id_a b.txt"} {
		f, info, err := d.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); string(b) != "text" || err != nil || info.Size() != 4 {
			t.Errorf("%s: %q, %v", p, b, err)
		}
		_ = f.Close()
	}
	for _, p := range []string{filepath.Join(dir, "gone"), dir, ""} {
		if _, _, err := d.Open(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v", p, err)
		}
		if err := d.Remove(p); err != nil && p != dir {
			t.Errorf("remove %q: %v", p, err)
		}
	}
	long := d.Place("id", strings.Repeat("x", 300))
	if err := os.WriteFile(long, nil, 0o644); !IsTooLong(err) {
		t.Errorf("a long name: %v", err)
	}
	if got := d.Short("id", "txt"); got != filepath.Join(dir, "id.txt") {
		t.Errorf("short: %q", got)
	}
	if err := d.Remove("/elsewhere/id_a b.txt"); err != nil {
		t.Error(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
