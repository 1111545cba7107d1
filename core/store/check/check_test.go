package check_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/check"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

// person is an account that nothing is wrong with.
var person = []string{
	`INSERT INTO "user" (id, name, email, role) VALUES ('u', 'Ada', 'ada@x.test', 'user')`,
	`INSERT INTO auth (id, email, password, active) VALUES ('u', 'ada@x.test', 'x', TRUE)`,
}

func chat(id, document string) string {
	return "INSERT INTO chat (id, user_id, title, chat, meta) VALUES ('" + id + "', 'u', 't', '" + document + "', '{}')"
}

func run(t *testing.T, url string, o check.Options) *check.Report {
	t.Helper()
	db, err := store.OpenReading(ctx, url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if o.Uploads == "" {
		o.Uploads = t.TempDir()
	}
	r, err := check.Run(ctx, db, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// prepare makes a database and runs statements on it; those for one dialect begin with "sqlite:" or "postgres:".
func prepare(t *testing.T, url string, texts ...string) *store.DB {
	t.Helper()
	db, err := store.Open(ctx, url, store.Options{PoolSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, text := range texts {
		if dialect, rest, ok := strings.Cut(text, ":"); ok && (dialect == "sqlite" || dialect == "postgres") {
			if dialect != db.Dialect().String() {
				continue
			}
			text = rest
		}
		if _, err := db.Exec(ctx, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return db
}

func each(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "sqlite:///"+filepath.Join(t.TempDir(), "webui.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, storetest.PostgresURL(t)) })
}

// said are the checks that found something, with their numbers and examples.
func said(findings []check.Finding) []string {
	out := []string{}
	for _, f := range findings {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d %s", f.Check, f.Count, strings.Join(f.Examples, ","))))
	}
	slices.Sort(out)
	return out
}

func TestFindings(t *testing.T) {
	const history = `{"history":{"currentId":"a","messages":{"a":{"id":"a"}}}}`
	for name, c := range map[string]struct {
		do                      []string
		damage, warnings, notes []string
		quick                   []string // damage and warnings of a quick check, where they differ
	}{
		"sound":           {do: []string{chat("c", history), `INSERT INTO chat_message (id, chat_id, user_id, role) VALUES ('c-a', 'c', 'u', 'user')`}},
		"chat of nobody":  {do: []string{`INSERT INTO chat (id, user_id, title, chat, meta) VALUES ('c', 'gone', 't', '{}', '{}'), ('s', 'shared-c', 't', '{}', '{}')`}, warnings: []string{"orphans.chat.user_id 1 c"}},
		"lost folder":     {do: []string{`INSERT INTO chat (id, user_id, title, chat, meta, folder_id) VALUES ('c', 'u', 't', '{}', '{}', 'gone')`}, warnings: []string{"orphans.chat.folder_id 1 c"}},
		"lost password":   {do: []string{"DELETE FROM auth"}, warnings: []string{"orphans.user.id 1 u"}},
		"lost user":       {do: []string{`DELETE FROM "user"`}, warnings: []string{"orphans.auth.id 1 u"}},
		"several orphans": {do: []string{`INSERT INTO memory (id, user_id, content) VALUES ('1', 'x', ''), ('2', 'x', ''), ('3', 'x', ''), ('4', 'x', ''), ('5', 'u', '')`}, warnings: []string{"orphans.memory.user_id 4 1,2,3"}},
		"grants": {do: []string{`INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES
			('1', 'model', 'gone', 'user', '*', 'read', 1), ('2', 'prompt', 'gone', 'group', 'gone', 'read', 1), ('3', 'tool', 'server:1', 'user', 'u', 'read', 1), ('4', 'else', 'x', 'user', 'gone', 'read', 1)`},
			warnings: []string{"orphans.access_grant.principal_id 1 2", "orphans.access_grant.principal_id 1 4", "orphans.access_grant.resource_id 1 1", "orphans.access_grant.resource_id 1 2"}},
		"messages of nothing": {do: []string{"postgres:ALTER TABLE chat_message DROP CONSTRAINT chat_message_chat_id_fkey", `INSERT INTO chat_message (id, chat_id, user_id, role) VALUES ('m', 'gone', 'u', 'user')`},
			warnings: []string{"orphans.chat_message.chat_id 1 m"}},
		"declared key": {do: []string{"postgres:SELECT 1", "sqlite:INSERT INTO channel_webhook (id, channel_id, user_id, name, token, created_at, updated_at) VALUES ('w', 'gone', 'u', 'n', 't', 1, 1)"}},
		"broken chat": {do: []string{"postgres:ALTER TABLE chat ALTER chat TYPE text", "postgres:ALTER TABLE chat ALTER meta TYPE text", chat("a", `{"history":`), chat("b", ""), chat("c", history),
			"UPDATE chat SET meta = '{x}' WHERE id = 'c'"}, damage: []string{"documents.chat.chat 2 a,b", "documents.chat.meta 1 c"}, quick: []string{}},
		"odd documents": {do: []string{chat("a", `"text"`), chat("b", `{"history":{"messages":[]}}`), chat("c", `{"history":{"currentId":"x","messages":{"a":{}}}}`), chat("d", "null"),
			`UPDATE "user" SET settings = '[]', info = 'null'`}, warnings: []string{"shape.chat.chat 2 a,b", "shape.chat.history 1 c", "shape.user.settings 1 u"}, quick: []string{}},
		"text columns": {do: []string{"INSERT INTO model (id, user_id, name, params, meta, is_active, updated_at, created_at) VALUES ('m', 'u', 'n', '{', '{}', TRUE, 1, 1)"}, damage: []string{"documents.model.params 1 m"}, quick: []string{}},
		"duplicates": {do: []string{"DROP INDEX IF EXISTS uq_user_email_lower", `INSERT INTO "user" (id, name, email, role) VALUES ('v', 'Ada', 'ADA@x.test', 'user')`,
			`INSERT INTO auth (id, email, password, active) VALUES ('v', 'ADA@x.test', 'x', TRUE)`}, damage: []string{"duplicates.auth 1", "duplicates.user 1"}},
		"unknown": {do: []string{"CREATE TABLE recipe (id TEXT)", "ALTER TABLE tag ADD COLUMN colour TEXT"}, notes: []string{"unknown.columns 1", "unknown.tables 1"}},
		"indexes": {do: []string{"DROP INDEX updated_at_user_id_idx"}, warnings: []string{"indexes.missing 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, url string) {
				db := prepare(t, url, append(slices.Clone(person), c.do...)...)
				r := run(t, url, check.Options{})
				warnings := said(r.Warnings)
				if name == "duplicates" || name == "declared key" { // the index that keeps them apart is told missing; the key is SQLite's
					warnings = nil
				}
				if d, w, n := said(r.Damage), warnings, said(r.Notes); !equal(d, c.damage) || !equal(w, c.warnings) || !equal(n, c.notes) {
					t.Errorf("damage %q, warnings %q, notes %q", d, w, n)
				}
				if r.Sound() != (c.damage == nil) || r.State != "ours" || r.Integrity != db.Dialect().Pick("ok", "read") {
					t.Errorf("%+v", r)
				}
				if name == "declared key" && db.Dialect() == store.SQLite && !slices.Contains(said(r.Warnings), "foreign_key.channel_webhook.channel 1") {
					t.Errorf("%q", said(r.Warnings))
				}
				if quick := run(t, url, check.Options{Quick: true}); c.quick != nil && (len(quick.Damage) > 0 || len(quick.Warnings) > 0) {
					t.Errorf("quick: %q %q", said(quick.Damage), said(quick.Warnings))
				}
			})
		})
	}
}

func equal(a, b []string) bool { return len(a) == 0 && len(b) == 0 || slices.Equal(a, b) }

func TestForeignAndEmpty(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		prepare(t, url, "INSERT INTO tag (id, name, user_id) VALUES ('a', 'a', 'u')", "UPDATE alembic_version SET version_num = '018012973d35'")
		r := run(t, url, check.Options{})
		if r.State != "older" || r.Release != "0.6.23" || r.Sound() || !strings.Contains(r.Refused, "it is older") || r.Rows("tag") != 1 || r.Integrity == "damaged" || len(r.Warnings) > 0 {
			t.Errorf("%+v", r)
		}
		var b bytes.Buffer
		if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "018012973d35 (about Open WebUI 0.6.23)") || !strings.Contains(b.String(), "Not to be served") {
			t.Errorf("%v\n%s", err, &b)
		}
	})
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webui.db")
	db := prepare(t, "sqlite:///"+path, person...)
	for i := range 200 {
		if _, err := db.Exec(ctx, chat(fmt.Sprint(i), `{"title":"`+strings.Repeat("x", 2000)+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []struct {
		name     string
		from, to int
	}{{"the end", len(text) - 40*4096, len(text)}, {"the beginning", 100, 4096}} {
		t.Run(damage.name, func(t *testing.T) {
			bad := slices.Clone(text)
			for i := damage.from; i < damage.to; i++ {
				bad[i] = 0xa5
			}
			file := filepath.Join(t.TempDir(), "webui.db")
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			r := run(t, "sqlite:///"+file, check.Options{})
			if r.Sound() || r.Integrity != "damaged" || len(r.Damage) == 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestUploads(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		for _, name := range []string{"1_a.txt", "alone.txt"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("12345"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		prepare(t, url, append(slices.Clone(person),
			`INSERT INTO file (id, user_id, filename, path, data, meta, created_at) VALUES ('1', 'u', 'a.txt', '/app/backend/data/uploads/1_a.txt', '{}', '{}', 1), ('2', 'u', 'b.txt', '/x/2_b.txt', '{}', '{}', 1),
			('3', 'u', 'c.txt', 's3://bucket/x/3_c.txt', '{}', '{}', 1), ('4', 'u', 'd.txt', NULL, '{}', '{}', 1), ('5', 'u', 'a.txt', 'gs://bucket/1_a.txt', '{}', '{}', 1)`)...)
		r := run(t, url, check.Options{Uploads: dir})
		if want := (check.Files{Folder: dir, Rows: 4, Found: 2, Bytes: 10, Missing: 2, Remote: 1, Alone: 1}); r.Files != want {
			t.Errorf("%+v", r.Files)
		}
		if w, n := said(r.Warnings), said(r.Notes); !equal(w, []string{"files.missing 1 2", "files.remote 1 3"}) || !equal(n, []string{"files.alone 1 alone.txt"}) {
			t.Errorf("%q %q", w, n)
		}
	})
}

func TestReportOfServer(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		prepare(t, url, append(slices.Clone(person), "INSERT INTO note (id, user_id) VALUES ('1', 'u'), ('2', 'u')", chat("c", "{}"))...) // and stays open, as a server's
		r := run(t, url, check.Options{Uploads: filepath.Join(t.TempDir(), "none"), Waiting: []check.Waiting{{Table: "note", Name: "notes"}, {Table: "chat", Where: "timer_at IS NOT NULL", Name: "timers"}}})
		if !r.Sound() || !slices.Equal(r.Waiting, []check.Count{{Name: "notes", Rows: 2}}) || r.Rows("user") != 1 || r.Own == 0 || len(r.Notes) > 0 || len(r.Warnings) > 0 {
			t.Errorf("%+v", r)
		}
		var b bytes.Buffer
		if err := r.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"0bd252b206fb (Open WebUI 0.12.4)", "  users  1\n", "\nKept, not served by this version\n  notes  2\n", "\nSound. Checked in "} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, &b)
			}
		}
		text, err := json.Marshal(r)
		if err != nil || !strings.Contains(string(text), `"not_served":[{"name":"notes","rows":2}]`) || !strings.Contains(string(text), `"damage":[]`) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

func TestChangedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webui.db")
	if err := prepare(t, "sqlite:///"+path).Close(); err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReading(ctx, "sqlite:///"+path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	prepare(t, "sqlite:///"+path, person...)
	report, err := check.Run(ctx, r, check.Options{Uploads: t.TempDir()})
	if err != nil || !slices.Contains(said(report.Warnings), "changed 1") {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestColumns: the list of documents has every column of JSON.
func TestColumns(t *testing.T) {
	if missing := check.Unlisted(); len(missing) > 0 {
		t.Errorf("not among the documents: %v", missing)
	}
}
