package versions_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/versions"
)

func TestKinds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		exec := func(text string, args ...any) {
			t.Helper()
			if _, err := db.Exec(ctx, text, args...); err != nil {
				t.Fatal(err)
			}
		}
		exec(`INSERT INTO "user" (id, name, email, role, profile_image_url, last_active_at, updated_at, created_at) VALUES ('ann', 'Ann', 'ann@x.test', 'user', '', 0, 0, 0)`)
		// All kinds of the schema: a Kind is only the name of a table.
		for table, columns := range map[string]string{
			"model":    "id, user_id, name, params, meta, is_active, updated_at, created_at, version_id) VALUES ($1, 'ann', '', '{}', '{}', TRUE, 0, 0, $2)",
			"tool":     "id, user_id, name, content, specs, meta, updated_at, created_at, version_id) VALUES ($1, 'ann', '', '', '[]', '{}', 0, 0, $2)",
			"prompt":   "id, command, user_id, name, content, is_active, created_at, updated_at, version_id) VALUES ($1, 'cmd', 'ann', '', '', TRUE, 0, 0, $2)",
			"function": "id, user_id, name, type, content, meta, is_active, is_global, updated_at, created_at, version_id) VALUES ($1, 'ann', '', 'pipe', '', '{}', TRUE, TRUE, 0, 0, $2)",
			"skill":    "id, user_id, name, content, meta, is_active, updated_at, created_at, version_id) VALUES ($1, 'ann', 'Skill', '', '{}', TRUE, 0, 0, $2)",
		} {
			t.Run(table, func(t *testing.T) {
				k := versions.Kind{Name: table}
				var ids []string
				var parent *string
				for i, author := range []string{"ann", "gone", "ann"} {
					message := "m"
					id, err := k.Add(ctx, db, "x", versions.Version{ParentID: parent, UserID: author, Message: &message, CreatedAt: int64(i)}, jsondoc.Doc(`{"name":"n"}`))
					if err != nil {
						t.Fatal(err)
					}
					ids, parent = append(ids, id), &id
				}
				exec("INSERT INTO "+table+" ("+columns, "x", ids[2])
				list, err := k.List(ctx, db, "x", 0)
				if err != nil || len(list) != 3 || list[0].ID != ids[2] || list[2].ID != ids[0] {
					t.Fatal(list, err)
				}
				if list[1].Author != nil || list[0].Author == nil || *list[0].Author != (versions.Author{ID: "ann", Name: "Ann", Role: "user", Email: "ann@x.test"}) {
					t.Error(list[0].Author, list[1].Author)
				}
				if latest, err := k.Latest(ctx, db, "x"); err != nil || latest == nil || *latest != ids[2] {
					t.Error(latest, err)
				}
				if none, err := k.Latest(ctx, db, "y"); err != nil || none != nil {
					t.Error(none, err)
				}
				for _, c := range []struct {
					of, id string
					want   error
				}{{"x", ids[2], versions.ErrCurrent}, {"x", "none", versions.ErrNone}, {"y", ids[0], versions.ErrNone}, {"x", ids[1], nil}, {"x", ids[1], versions.ErrNone}} {
					if err := db.Tx(ctx, func(tx *store.Tx) error { return k.Delete(ctx, tx, c.of, c.id) }); !errors.Is(err, c.want) {
						t.Errorf("delete %s of %s: %v, want %v", c.id, c.of, err, c.want)
					}
				}
				e, err := k.Get(ctx, db, "x", ids[2])
				if err != nil || e.ParentID == nil || *e.ParentID != ids[0] || e.Snapshot.Text("name") != "n" || *e.Message != "m" {
					t.Error(e, err)
				}
				if err := k.Clear(ctx, db, "y", "x"); err != nil {
					t.Fatal(err)
				}
				if list, err := k.List(ctx, db, "x", 0); err != nil || len(list) != 0 {
					t.Error(list, err)
				}
			})
		}
	})
}

func TestPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx, k := t.Context(), versions.Kind{Name: "prompt", Inserted: true}
		var ids []string
		for range versions.PageSize + 3 {
			id, err := k.Add(ctx, db, "p", versions.Version{UserID: "u", CreatedAt: 7}, jsondoc.Doc(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		slices.Reverse(ids)
		var got []string
		for page := range 3 {
			list, err := k.List(ctx, db, "p", page)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				got = append(got, e.ID)
			}
		}
		if db.Dialect() == store.Postgres { // which cannot tell what came first
			slices.Sort(ids)
			slices.Reverse(ids)
			slices.Sort(got)
			slices.Reverse(got)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%d of %d versions", len(got), len(ids))
		}
	})
}
