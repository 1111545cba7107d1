package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/check"
)

// TestDBCheck looks a database over while a server runs on it, and without one.
func TestDBCheck(t *testing.T) {
	m := newMachine(t)
	url := "sqlite:///" + filepath.Join(m.dir, "webui.db")
	m.want(2, "webui.db: no such file", "db", "check")
	m.want(2, "unexpected", "db", "check", "now")
	_, stop := m.serve()
	m.want(0, "\nSound. Checked in ", "db", "check")
	change := func(text string) {
		t.Helper()
		db, err := store.Open(t.Context(), url, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	change("INSERT INTO note (id, user_id) VALUES ('n', 'u')")
	m.want(0, "Kept, not served by this version\n  notes  1\n", "db", "check")
	stop()
	m.want(0, "without reading all rows", "db", "check", "--quick", "--database-url", url)
	var r check.Report
	if err := json.Unmarshal([]byte(m.want(0, "", "db", "check", "--json")), &r); err != nil || !r.Sound() || r.Rows("note") != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	change("INSERT INTO chat (id, user_id, title, chat, meta) VALUES ('c', 'u', 't', '{', '{}')")
	m.want(1, "Damage\n  1 chats whose document cannot be read: c\n", "db", "check")
	m.want(1, "galley: the database is damaged: ", "db", "check")
	change("UPDATE alembic_version SET version_num = '018012973d35'")
	m.want(1, "about Open WebUI 0.6.23", "db", "check")
	m.want(1, "it is older", "db", "check", "--json")
	if _, out, _ := m.galley("help"); !strings.Contains(out, "\nDatabase\n  db check") {
		t.Errorf("help:\n%s", out)
	}
}
