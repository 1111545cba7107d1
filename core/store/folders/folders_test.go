package folders

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// grantList is what users were granted: "user folder permission".
type grantList []string

func (g grantList) CanAmong(_ context.Context, userID, resourceType string, ids []string, permission string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, id := range ids {
		out[id] = resourceType == ResourceType && slices.Contains(g, userID+" "+id+" "+permission)
	}
	return out, nil
}

type world struct {
	t  *testing.T
	db *store.DB
	s  *Store
}

func newWorld(t *testing.T, db *store.DB) *world { return &world{t, db, New(db)} }

// folder makes a folder whose id is its name.
func (w *world) folder(owner, name, parent string) *Folder {
	w.t.Helper()
	n := NewFolder{UserID: owner, Name: name}
	if parent != "" {
		n.ParentID = &parent
	}
	f, err := w.s.Insert(context.Background(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	w.exec("UPDATE folder SET id = $1 WHERE id = $2", name, f.ID)
	f.ID = name
	return f
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(context.Background(), text, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) chat(id, owner, folder string, updated, read int64, archived bool) {
	w.t.Helper()
	w.exec("INSERT INTO chat (id, user_id, title, chat, created_at, updated_at, archived, folder_id, last_read_at, meta) VALUES ($1, $2, 't', '{}', 1, $3, $4, $5, $6, '{}')",
		id, owner, updated, archived, folder, read)
}

func names(list []*Folder) (out []string) {
	for _, f := range list {
		out = append(out, f.Name)
	}
	return out
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestRead(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "a", "")
		w.folder("u", "b", "a")
		w.folder("u", "c", "b")
		w.folder("v", "d", "a") // another owner's below u's: no part of u's tree
		w.folder("u", "E e_E", "")
		if _, err := w.s.Get(ctx, "nope"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown folder: %v", err)
		}
		if _, err := w.s.GetOwned(ctx, "a", "v"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("somebody else's folder: %v", err)
		}
		f, err := w.s.GetOwned(ctx, "b", "u")
		if err != nil || f.Name != "b" || *f.ParentID != "a" || f.Data != nil || f.Items != nil || f.IsExpanded {
			t.Errorf("got %+v, %v", f, err)
		}
		list, err := w.s.ByUser(ctx, "u")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "by user", names(list), []string{"a", "b", "c", "E e_E"})
		list, _ = w.s.Children(ctx, "a", "u")
		equal(t, "children", names(list), []string{"b"})
		list, _ = w.s.Children(ctx, "", "u")
		equal(t, "roots", names(list), []string{"a", "E e_E"})
		ids, _ := w.s.Subtree(ctx, "a", "u")
		slices.Sort(ids)
		equal(t, "subtree", ids, []string{"a", "b", "c"})
		ids, _ = w.s.Subtree(ctx, "a", "v")
		equal(t, "subtree of a stranger", ids, nil)
		if f, err := w.s.Named(ctx, nil, "u", "A"); err != nil || f.ID != "a" {
			t.Errorf("named: %v, %v", f, err)
		}
		parent := "a"
		if f, err := w.s.Named(ctx, &parent, "u", "B"); err != nil || f.ID != "b" {
			t.Errorf("named below: %v, %v", f, err)
		}
		if _, err := w.s.Named(ctx, nil, "u", "b"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a name of another level: %v", err)
		}
		ids, _ = w.s.SearchNames(ctx, "u", []string{"e_e  e", "B"})
		equal(t, "search", ids, []string{"b", "c", "E e_E"})
		ids, _ = w.s.SearchNames(ctx, "u", []string{"d"})
		equal(t, "search of another's", ids, nil)
	})
}

func TestWrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		now := time.Unix(1000, 0)
		w.s.now = func() time.Time { return now }
		f, err := w.s.Insert(ctx, NewFolder{UserID: "u", Name: "Plans", Data: jsondoc.Doc(`{"system_prompt":"p","files":[]}`)})
		if err != nil {
			t.Fatal(err)
		}
		w.folder("u", "Other", "")
		now = time.Unix(2000, 0)
		name := "Plan"
		got, err := w.s.Update(ctx, f.ID, Change{Name: &name, Data: jsondoc.Doc(`{"files":[1],"x":null}`), Meta: jsondoc.Doc(`{"icon":"i"}`)})
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.s.Get(ctx, f.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*Folder{got, again} {
			if f.Name != "Plan" || f.Data.String() != `{"system_prompt":"p","files":[1],"x":null}` || f.Meta.String() != `{"icon":"i"}` || f.CreatedAt != 1000 || f.UpdatedAt != 2000 {
				t.Errorf("updated: %+v %s %s", f, f.Data, f.Meta)
			}
		}
		if again.SystemPrompt() != "p" || len(again.Files()) != 1 || again.Continues() {
			t.Errorf("read of data: %q %v", again.SystemPrompt(), again.Files())
		}
		taken := "Other"
		if _, err := w.s.Update(ctx, f.ID, Change{Name: &taken}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a taken name: %v", err)
		}
		if _, err := w.s.Update(ctx, "nope", Change{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown folder: %v", err)
		}
		parent := "gone"
		if f, err := w.s.SetParent(ctx, f.ID, &parent); err != nil || *f.ParentID != "gone" {
			t.Errorf("parent: %v, %v", f, err)
		}
		if f, err := w.s.SetExpanded(ctx, f.ID, true); err != nil || !f.IsExpanded || *f.ParentID != "gone" {
			t.Errorf("expanded: %v, %v", f, err)
		}
	})
}

func TestStraysGoToTheRoot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "lost", "gone")
		w.folder("u", "one", "two") // one and two are each other's parent; three hangs below
		w.folder("u", "two", "one")
		w.folder("u", "three", "two")
		w.folder("u", "self", "self")
		w.folder("u", "sound", "lost")
		list, err := w.s.ByUser(ctx, "u")
		if err != nil {
			t.Fatal(err)
		}
		strays := Strays(list)
		equal(t, "strays", names(strays), []string{"lost", "one", "self"})
		if err := w.s.Root(ctx, strays); err != nil {
			t.Fatal(err)
		}
		list, _ = w.s.ByUser(ctx, "u")
		parents := map[string]string{}
		for _, f := range list {
			parents[f.Name] = ""
			if f.ParentID != nil {
				parents[f.Name] = *f.ParentID
			}
		}
		want := map[string]string{"lost": "", "one": "", "two": "one", "three": "two", "self": "", "sound": "lost"}
		if !maps.Equal(parents, want) {
			t.Errorf("got %v, want %v", parents, want)
		}
		if again := Strays(list); len(again) != 0 {
			t.Errorf("strays after: %v", names(again))
		}
	})
}

func TestUnreadCounts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "a", "")
		w.folder("u", "b", "a")
		w.folder("u", "c", "b")
		w.folder("u", "x", "y") // a loop
		w.folder("u", "y", "x")
		w.folder("v", "other", "")
		w.chat("1", "u", "a", 10, 5, false)
		w.chat("2", "u", "c", 10, 5, false)
		w.chat("3", "u", "c", 10, 10, false) // read
		w.chat("4", "u", "c", 10, 5, true)   // archived
		w.chat("5", "v", "c", 10, 5, false)  // another's
		w.chat("6", "u", "c", 10, 5, false)  // the answer is being written
		w.chat("7", "u", "x", 10, 5, false)
		w.chat("8", "u", "other", 10, 5, false) // in a shared folder
		w.exec("INSERT INTO chat_message (id, chat_id, user_id, role, done, created_at, updated_at) VALUES ('6-m', '6', 'u', 'assistant', FALSE, 1, 1)")
		w.exec("INSERT INTO chat_message (id, chat_id, user_id, role, done, created_at, updated_at) VALUES ('2-m', '2', 'u', 'assistant', TRUE, 1, 1)")
		got, err := w.s.UnreadCounts(ctx, "u")
		if want := map[string]int{"a": 2, "b": 1, "c": 1, "x": 1, "y": 1}; err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		list, _ := w.s.ByUser(ctx, "u")
		of, err := w.s.UnreadCountsOf(ctx, "u", list)
		if err != nil || !maps.Equal(of, got) {
			t.Errorf("with the list: %v, %v, want %v", of, err, got)
		}
	})
}

func TestDelete(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "a", "")
		w.folder("u", "b", "a")
		w.folder("u", "keep", "")
		for _, id := range []string{"b", "keep"} {
			w.exec("INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1, 'folder', $1, 'user', 'v', 'read', 1)", id)
			w.exec("INSERT INTO automation (id, user_id, name, data, is_active, created_at, updated_at, folder_id) VALUES ($1, 'u', 'n', '{}', TRUE, 1, 1, $1)", id)
		}
		if ids, err := w.s.Delete(ctx, "a", "v", nil); err != nil || len(ids) != 0 {
			t.Errorf("by a stranger: %v, %v", ids, err)
		}
		boom := errors.New("boom")
		if _, err := w.s.Delete(ctx, "a", "u", func(*store.Tx, []string) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("a failure beside: %v", err)
		}
		if _, err := w.s.Get(ctx, "b"); err != nil {
			t.Errorf("deleted in spite of a failure: %v", err)
		}
		var told []string
		w.chat("left", "u", "b", 1, 1, false)
		w.chat("other", "u", "keep", 1, 1, false)
		ids, err := w.s.Delete(ctx, "a", "u", func(_ *store.Tx, ids []string) error { told = ids; return nil })
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ids)
		equal(t, "deleted", ids, []string{"a", "b"})
		equal(t, "told", told, ids)
		list, _ := w.s.ByUser(ctx, "u")
		equal(t, "left", names(list), []string{"keep"})
		rows, err := db.Query(ctx, "SELECT resource_id FROM access_grant")
		grants, err := store.Strings(rows, err)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "grants", grants, []string{"keep"})
		rows, err = db.Query(ctx, "SELECT folder_id FROM automation WHERE folder_id IS NOT NULL")
		kept, err := store.Strings(rows, err)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "automations", kept, []string{"keep"})
		rows, err = db.Query(ctx, "SELECT id FROM chat WHERE folder_id IS NOT NULL")
		placed, err := store.Strings(rows, err)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "chats in folders", placed, []string{"other"})
	})
}

func TestAccess(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "top", "")
		w.folder("u", "mid", "top")
		w.folder("u", "low", "mid")
		w.folder("u", "loop", "loop")
		w.folder("u", "apart", "")
		a := NewAccess(w.s, grantList{"reader mid read", "writer top write"})
		for _, tt := range []struct {
			user, folder string
			read, write  bool
		}{
			{"u", "low", true, true},
			{"u", "loop", true, true},
			{"reader", "top", false, false},
			{"reader", "mid", true, false},
			{"reader", "low", true, false},
			{"reader", "loop", false, false},
			{"writer", "low", false, true}, // writing does not include reading
			{"u", "nope", false, false},
		} {
			read, err := a.CanRead(ctx, tt.user, tt.folder)
			if err != nil || read != tt.read {
				t.Errorf("%s reads %s: %v, %v", tt.user, tt.folder, read, err)
			}
			write, err := a.CanWrite(ctx, tt.user, tt.folder)
			if err != nil || write != tt.write {
				t.Errorf("%s writes %s: %v, %v", tt.user, tt.folder, write, err)
			}
			f, err := a.Find(ctx, tt.user, tt.folder, Read)
			if tt.read != (err == nil) || err == nil && f.ID != tt.folder || err != nil && !IsMissing(err) {
				t.Errorf("%s finds %s: %v, %v", tt.user, tt.folder, f, err)
			}
		}
		many, err := a.CanAmong(ctx, "reader", []string{"top", "mid", "low", "nope"}, Read)
		if err != nil || many["top"] || !many["mid"] || !many["low"] || many["nope"] {
			t.Errorf("among: %v, %v", many, err)
		}
	})
}

func TestCanMove(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		w.folder("u", "root", "")
		w.folder("u", "shared", "root")
		w.folder("u", "in", "shared")
		w.folder("u", "out", "root")
		w.folder("u", "deep", "out")
		w.folder("u", "loop", "loop")
		w.folder("u", "lost", "gone")
		w.folder("v", "theirs", "root")
		w.exec("INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ('g', 'folder', 'shared', 'user', 'v', 'write', 1)")
		a := NewAccess(w.s, grantList{})
		for _, tt := range []struct {
			user, from, to string
			want           bool
		}{
			{"u", "shared", "in", true},
			{"u", "in", "out", false}, // out of the shared part
			{"u", "out", "deep", true},
			{"u", "root", "deep", true},
			{"u", "loop", "loop", false},
			{"u", "lost", "lost", false},
			{"u", "root", "theirs", false},
			{"v", "shared", "in", false},
			{"u", "root", "nope", false},
		} {
			if got, err := a.CanMove(ctx, tt.user, &tt.from, &tt.to); err != nil || got != tt.want {
				t.Errorf("%s: %s to %s: %v, %v", tt.user, tt.from, tt.to, got, err)
			}
		}
		if got, err := a.CanMove(ctx, "u", nil, nil); err != nil || got {
			t.Errorf("out of all folders: %v, %v", got, err)
		}
	})
}

func TestSharedWith(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		grant := func(folder, kind, principal, permission string) {
			w.exec("INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1, 'folder', $2, $3, $4, $5, 1)",
				store.NewID(), folder, kind, principal, permission)
		}
		for i, f := range [][2]string{{"a", ""}, {"b", "a"}, {"c", "b"}, {"d", ""}, {"e", "d"}, {"private", ""}} {
			w.folder("u", f[0], f[1])
			w.exec("UPDATE folder SET updated_at = $1 WHERE id = $2", 100-i, f[0])
		}
		grant("a", "user", "v", "read")
		grant("a", "user", "v", "write")
		grant("c", "user", "v", "read") // weaker than what is inherited
		grant("d", "group", "g", "read")
		grant("gone", "user", "v", "read")
		check := func(user string, groups []string, want ...string) {
			t.Helper()
			list, err := w.s.SharedWith(ctx, user, groups)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range list {
				got = append(got, s.ID+" "+s.Permission)
			}
			equal(t, user, got, want)
		}
		check("v", []string{"g"}, "a write", "c write", "d read", "b write", "e read")
		check("v", nil, "a write", "c write", "b write")
		check("w", []string{"g", "h"}, "d read", "e read")
		check("u", nil, "a write", "c write", "d write", "b write", "e write") // shared by the owner
		check("x", nil)
		grant("d", "user", "*", "write")
		check("x", nil, "d write", "e write")
	})
}

func TestAuthors(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, w := context.Background(), newWorld(t, db)
		for _, id := range []string{"rows", "history", "list", "deleted", "none"} {
			w.chat(id, "u", "a", 1, 1, false)
		}
		doc := func(id, text string) { w.exec("UPDATE chat SET chat = $2 WHERE id = $1", id, text) }
		message := func(id, user, role string) {
			w.exec("INSERT INTO chat_message (id, chat_id, user_id, role, created_at, updated_at) VALUES ($1, 'rows', $2, $3, 1, 1)", id, user, role)
		}
		message("m1", "z", "user")
		message("m2", "u", "user")
		message("m3", "u", "user")
		message("m4", "x", "assistant")
		doc("rows", `{"history":{"messages":{"m":{"role":"user","user_id":"stale"}}}}`)
		doc("history", `{"history":{"messages":{"1":{"role":"user","user_id":"v"},"2":{"role":"user","user_id":" ","user":{"id":"c"}},"3":{"role":"user"},"4":{"role":"assistant","user_id":"x"}}}}`)
		doc("list", `{"messages":[{"role":"user"},{"role":"user","user_id":"b"}]}`)
		doc("deleted", `{"history":{"messages":{}},"messages":[{"role":"user"}]}`)
		got, err := w.s.Authors(ctx, []string{"rows", "history", "list", "deleted", "none", "nope"})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]string{"rows": {"u", "z"}, "history": {"c", "u", "v"}, "list": {"b", "u"}}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
