package tools_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/store/versions"
)

func open(t *testing.T, db *store.DB) *tools.Store {
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
	for _, id := range []string{"ann", "bob"} {
		if _, err := db.Exec(ctx, `INSERT INTO "user" (id, name, email, role, profile_image_url, created_at, updated_at, last_active_at) VALUES ($1, $1, $1, 'user', '', 1, 1, 1)`, id); err != nil {
			t.Fatal(err)
		}
	}
	return tools.New(db, access.New(db, settings))
}

func form(name, content, meta string) tools.Form {
	return tools.Form{Name: name, Content: content, Meta: tools.Shape(jsondoc.Doc(meta)), Specs: []jsondoc.Doc{jsondoc.Doc(`{"name":"f"}`)}}
}

func TestVersions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		s := open(t, db)
		one, err := s.Insert(ctx, "sums", "ann", form("Sums", "x = 1", `{"description":"d","more":[1]}`), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Insert(ctx, "sums", "ann", form("Sums", "x = 1", ``), nil); !errors.Is(err, store.ErrConflict) {
			t.Errorf("an id that is taken: %v", err)
		}
		read, err := s.Get(ctx, "sums")
		if err != nil || read.Source() != "x = 1" || *read.VersionID != *one.VersionID || *read.UserID != "ann" || len(read.Specs) != 1 ||
			strings.ReplaceAll(read.Meta.String(), " ", "") != `{"i18n":null,"description":"d","manifest":{},"has_user_valves":false,"more":[1]}` {
			t.Errorf("%+v %s, %v", read, read.Meta, err)
		}
		// what is derived from the code makes no version
		same, err := s.Update(ctx, "sums", tools.Change{Form: form("Sums", "x = 1", `{"more":[1.0],"description":"d","has_user_valves":true,"i18n":{}}`), UserID: "bob"})
		if err != nil || *same.VersionID != *one.VersionID || !same.Meta.Bool("has_user_valves") {
			t.Errorf("%+v, %v", same, err)
		}
		message := "two"
		change := tools.Change{Form: form("Sums", "x = 2", `{"description":"d"}`), UserID: "bob"}
		change.Message = &message
		two, err := s.Update(ctx, "sums", change)
		if err != nil || *two.VersionID == *one.VersionID {
			t.Fatalf("%+v, %v", two, err)
		}
		change.NoCode, change.Content = true, "x = 3"
		if _, err := s.Update(ctx, "sums", change); !errors.Is(err, tools.ErrCode) {
			t.Errorf("code by who may not: %v", err)
		}
		list, err := s.History(ctx, "sums", 1)
		if err != nil || len(list) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		v, err := s.Version(ctx, "sums", *two.VersionID)
		if err != nil || *v.ParentID != *one.VersionID || v.User == nil || v.User.Name != "bob" || *v.Message != "two" || v.Snapshot.Text("content") != "x = 2" {
			t.Errorf("%+v, %v", v, err)
		}
		back := tools.Change{Form: form("Sums", "x = 9", `{"description":"d","more":[1]}`), UserID: "bob", Version: *one.VersionID}
		if _, err := s.Update(ctx, "sums", back); !errors.Is(err, tools.ErrOtherVersion) {
			t.Errorf("a version with other content: %v", err)
		}
		back.Content = "x = 1"
		if r, err := s.Update(ctx, "sums", back); err != nil || *r.VersionID != *one.VersionID {
			t.Errorf("%+v, %v", r, err)
		}
		if err := s.DeleteVersion(ctx, "sums", *one.VersionID); !errors.Is(err, versions.ErrCurrent) {
			t.Errorf("the current version: %v", err)
		}
		if err := s.DeleteVersion(ctx, "sums", "none"); !errors.Is(err, versions.ErrNone) {
			t.Errorf("no version: %v", err)
		}
		if err := s.DeleteVersion(ctx, "sums", *two.VersionID); err != nil {
			t.Error(err)
		}
		if list, err := s.History(ctx, "sums", 0); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		if err := s.Delete(ctx, "sums"); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(ctx, "sums"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if _, err := s.Version(ctx, "sums", *one.VersionID); !errors.Is(err, versions.ErrNone) {
			t.Error(err)
		}
	})
}

func TestLists(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		s := open(t, db)
		read := access.Grant{PrincipalType: access.PrincipalUser, PrincipalID: "bob", Permission: access.Read}
		for id, grants := range map[string][]access.Grant{"a": nil, "b": {read}} {
			if _, err := s.Insert(ctx, id, "ann", form(id, "code", ``), grants); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetValves(ctx, "a", jsondoc.Doc(`{"x":1}`)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			who, permission, want string
		}{{"", "", "2"}, {"ann", access.Read, "2"}, {"bob", access.Read, "1"}, {"bob", access.Write, "0"}} {
			f := tools.Filter{Permission: c.permission}
			if c.who != "" {
				f.Viewer = &access.Viewer{UserID: c.who}
			}
			list, err := s.List(ctx, f)
			if err != nil || jsondoc.Of(len(list)).String() != c.want {
				t.Errorf("%+v: %d, %v", c, len(list), err)
			}
			for _, l := range list {
				if l.Content != nil || l.Owner == nil || l.Owner.Name != "ann" {
					t.Errorf("%+v", l)
				}
			}
		}
		found, err := s.ByIDs(ctx, []string{"a", "x"})
		if err != nil || len(found) != 1 || found["a"].Source() != "code" || strings.ReplaceAll(found["a"].Valves.String(), " ", "") != `{"x":1}` {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
