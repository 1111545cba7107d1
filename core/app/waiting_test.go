package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	unbuilt "github.com/galleychat/galley/routes/quiet"
)

// TestBehind: the table of tables has every one of the reference's, each of a tag that is built or known not to be.
func TestBehind(t *testing.T) {
	tags := append([]string{"", "timers"}, built...)
	tags = append(tags, unbuilt.Tags()...)
	var tables []string
	for _, b := range behind {
		if !slices.Contains(tags, b.tag) {
			t.Errorf("%s: there is no tag %q", b.table, b.tag)
		}
		if b.where == "" {
			tables = append(tables, b.table)
		}
	}
	reference := store.SQLite.Reference()
	for name := range reference {
		if n := len(slices.DeleteFunc(slices.Clone(tables), func(s string) bool { return s != name })); n != 1 {
			t.Errorf("%s is there %d times", name, n)
		}
	}
	if len(tables) != len(reference) {
		t.Errorf("%d tables, the reference has %d", len(tables), len(reference))
	}
	// What a tag that is not built has rows of, the start tells.
	for _, tag := range unbuilt.Tags() {
		of := func(b struct{ tag, table, where, rows string }) bool { return b.tag == tag }
		if i := slices.IndexFunc(behind, of); i >= 0 && !slices.Contains(built, tag) && !slices.ContainsFunc(behind, func(b struct{ tag, table, where, rows string }) bool { return of(b) && b.rows != "" }) {
			t.Errorf("nothing is told of %s", tag)
		}
	}
}

// TestTellWaiting: the start says what it does not serve, and nothing where there is none.
func TestTellWaiting(t *testing.T) {
	for kind, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:///" + t.TempDir() + "/w.db" },
		"postgres": func(t *testing.T) string { return storetest.PostgresURL(t) },
	} {
		t.Run(kind, func(t *testing.T) {
			vars := map[string]string{"DATA_DIR": t.TempDir(), "DATABASE_URL": url(t)}
			if log, err := tryOpen(t, vars); err != nil || strings.Contains(log, "WARN") {
				t.Errorf("%v\n%s", err, log)
			}
			statements(t, vars["DATABASE_URL"], "INSERT INTO note (id, user_id) VALUES ('n', 'u')", "INSERT INTO function (id, user_id) VALUES ('f', 'u')",
				"INSERT INTO file (id, user_id, filename, path, created_at) VALUES ('x', 'u', 'a.txt', 's3://bucket/x_a.txt', 1)")
			log, err := tryOpen(t, vars)
			if err != nil || strings.Count(log, "WARN") != 2 || !strings.Contains(log, `kept="functions, notes"`) || !strings.Contains(log, "files are in S3") {
				t.Errorf("%v\n%s", err, log)
			}
			vars["STORAGE_PROVIDER"] = "s3"
			if log, err = tryOpen(t, vars); err != nil || strings.Count(log, "WARN") != 2 || !strings.Contains(log, "STORAGE_PROVIDER is not built") {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}
