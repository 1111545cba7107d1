package models_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	coremodels "github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/models"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/versions"
)

var ctx = context.Background()

func form(id, base, name, meta string) models.Form {
	f := models.Form{ID: id, Name: name, Params: jsondoc.Doc(`{"a":1}`), Meta: jsondoc.Doc(meta), IsActive: true}
	if base != "" {
		f.BaseModelID = &base
	}
	return f
}

func insert(t *testing.T, db *store.DB, f models.Form, user string) coremodels.Row {
	t.Helper()
	m, err := models.Insert(ctx, db, f, user)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func grant(t *testing.T, db *store.DB, model, kind, principal, permission string) {
	t.Helper()
	if _, err := db.Exec(ctx, "INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1,'model',$2,$3,$4,$5,5)",
		store.NewID(), model, kind, principal, permission); err != nil {
		t.Fatal(err)
	}
}

func TestSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := models.New(db)
		if _, err := db.Exec(ctx, `INSERT INTO "user" (id, name, email, role, profile_image_url, last_active_at, updated_at, created_at) VALUES ('ann','Ann Smith','ann@x','user','',1,1,1)`); err != nil {
			t.Fatal(err)
		}
		insert(t, db, form("b", "echo", "beta", `{"tags":[{"name":"Grün"}]}`), "ann")
		insert(t, db, form("a", "echo", "Alpha", `{"tags":[{"name":"red"}]}`), "bob")
		insert(t, db, form("c", "other", "gamma", `{}`), "bob")
		insert(t, db, form("echo", "", "Echo", `{"tags":[{"name":"base"}]}`), "bob")
		grant(t, db, "a", "group", "team", "read")
		grant(t, db, "c", "user", "*", "write")
		for _, c := range []struct {
			name string
			f    models.Filter
			want string
		}{
			{"all", models.Filter{OrderBy: "name", Asc: true}, "a b c"},
			{"names descend by code point", models.Filter{OrderBy: "name"}, "c b a"},
			{"query, any case", models.Filter{Query: "ALPH", OrderBy: "name"}, "a"},
			{"query of the base", models.Filter{Query: "oth", OrderBy: "name"}, "c"},
			{"query of the owner", models.Filter{Query: "smith", OrderBy: "name"}, "b"},
			{"own", models.Filter{View: "created", Viewer: "ann", OrderBy: "name"}, "b"},
			{"others'", models.Filter{View: "shared", Viewer: "ann", OrderBy: "name", Asc: true}, "a c"},
			{"tag", models.Filter{Tag: "RED", OrderBy: "name"}, "a"},
			{"tag with an umlaut", models.Filter{Tag: "Grün", OrderBy: "name"}, "b"},
			{"part of a tag", models.Filter{Tag: "re", OrderBy: "name"}, ""},
			{"limited", models.Filter{Limited: true, Viewer: "ann", OrderBy: "name"}, "b"},
			{"limited with a group", models.Filter{Limited: true, Viewer: "ann", Groups: []string{"x", "team"}, OrderBy: "name", Asc: true}, "a b"},
			{"page", models.Filter{OrderBy: "name", Asc: true, Skip: 1, Max: 1}, "b"},
		} {
			if c.f.Max == 0 {
				c.f.Max = 30
			}
			list, total, err := s.Search(ctx, c.f)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			var ids []string
			for _, l := range list {
				ids = append(ids, l.ID)
				if l.ID == "b" && (l.Owner == nil || l.Owner.Name != "Ann Smith") || l.ID == "a" && l.Owner != nil {
					t.Errorf("owner of %s is %+v", l.ID, l.Owner)
				}
			}
			if got := strings.Join(ids, " "); got != c.want || c.f.Skip == 0 && total != len(list) || c.f.Skip > 0 && total != 3 {
				t.Errorf("%s: %q of %d, want %q", c.name, got, total, c.want)
			}
		}
		tags, err := s.Tags(ctx, false, false, "", nil)
		if err != nil || strings.Join(tags, " ") != "Grün red" {
			t.Errorf("tags %q, %v", tags, err)
		}
		tags, err = s.Tags(ctx, false, true, "ann", nil)
		if err != nil || strings.Join(tags, " ") != "Grün" {
			t.Errorf("tags of ann %q, %v", tags, err)
		}
		writable, err := s.Writable(ctx, "ann", nil, nil)
		if err != nil || len(writable) != 2 {
			t.Errorf("writable %d, %v", len(writable), err)
		}
	})
}

func TestWrites(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := models.New(db)
		m := insert(t, db, form("a", "echo", "A", `{"hidden":true,"x":[1,2],"chat_variables_schema":{}}`), "ann")
		if _, err := models.Insert(ctx, db, form("a", "echo", "A", `{}`), "ann"); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a taken id: %v", err)
		}
		got, err := s.Get(ctx, "a")
		if err != nil || got.Meta.Get("chat_variables_schema") != nil || !got.IsActive || *got.VersionID != *m.VersionID {
			t.Fatalf("%+v, %v", got, err)
		}
		same, err := models.Update(ctx, db, got, form("a", "echo", "A", `{"x":[1.0,2],"hidden":false}`), "bob")
		if err != nil || *same.VersionID != *m.VersionID {
			t.Errorf("an equal state made a version: %v", err)
		}
		next, err := models.Update(ctx, db, same, form("a", "echo", "B", `{}`), "bob")
		if err != nil || *next.VersionID == *m.VersionID {
			t.Errorf("a change made no version: %v", err)
		}
		if _, err := models.Update(ctx, db, same, form("a", "echo", "C", `{}`), "bob"); !errors.Is(err, models.ErrVersionConflict) {
			t.Errorf("a lost race: %v", err)
		}
		before, err := s.Version(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Toggle(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if got, _ = s.Get(ctx, "a"); got.IsActive {
			t.Error("still active")
		}
		grant(t, db, "a", "user", "*", "read")
		if after, err := s.Version(ctx); err != nil || after == before {
			t.Errorf("version %+v, %v", after, err)
		}
		if err := models.Delete(ctx, db, "a", "zz"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after deletion: %v", err)
		}
		if list, _ := s.History(ctx, "a", 1); len(list) != 0 {
			t.Errorf("history of a deleted model: %v", list)
		}
		if list, _ := s.Grants(ctx); len(list) != 0 {
			t.Errorf("grants of a deleted model: %v", list)
		}
	})
}

func TestDeleteVersion(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := models.New(db)
		m := insert(t, db, form("a", "echo", "1", `{}`), "ann")
		var ids []string
		for _, name := range []string{"2", "3"} {
			var err error
			if m, err = models.Update(ctx, db, m, form("a", "echo", name, `{}`), "ann"); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, *m.VersionID)
		}
		for _, c := range []struct {
			model, id string
			want      error
		}{{"a", ids[1], versions.ErrCurrent}, {"a", "none", versions.ErrNone}, {"b", ids[0], versions.ErrNone}, {"a", ids[0], nil}, {"a", ids[0], versions.ErrNone}} {
			if err := s.DeleteVersion(ctx, c.model, c.id); !errors.Is(err, c.want) {
				t.Errorf("%s %s: %v, want %v", c.model, c.id, err, c.want)
			}
		}
		e, err := s.Entry(ctx, "a", ids[1])
		if err != nil || e.ParentID == nil || *e.ParentID == ids[0] || e.Snapshot.Text("name") != "3" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
