package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/transfer"
)

func TestDBCopy(t *testing.T) {
	dir := t.TempDir()
	from, to := "sqlite:///"+filepath.Join(dir, "from.db"), "sqlite:///"+filepath.Join(dir, "to.db")
	db, err := store.Open(context.Background(), from, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(context.Background(), `INSERT INTO "user" (id, name, email) VALUES ('u', 'Name', 'name@example.com')`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string, string) {
		var out, errs strings.Builder
		p := &program{lookup: func(string) (string, bool) { return "", false }, out: &out, errs: &errs}
		return p.main(context.Background(), append([]string{"db", "copy"}, args...)), out.String(), errs.String()
	}
	for _, c := range []struct {
		name      string
		args      []string
		code      int
		out, errs string
	}{
		{"nothing said", nil, exitUsage, "", "--from"},
		{"no target", []string{"--from", from}, exitUsage, "", "--to"},
		{"no such file", []string{"--from", "sqlite:///" + filepath.Join(dir, "none.db"), "--to", to}, exitFailure, "", "no such file"},
		{"no source", []string{"--from", "mysql://a:secret@b/c", "--to", to}, exitFailure, "", "neither sqlite nor postgresql"},
		{"copied", []string{"--from", from, "--to", to}, exitOK, "is whole. Files are not in the database", "user: 1 rows in "},
		{"once more", []string{"--from", from, "--to", to}, exitFailure, "", "it has accounts"},
		{"onto itself", []string{"--from", from, "--to", from}, exitFailure, "", "the same database"},
	} {
		code, out, errs := run(c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || strings.Contains(out+errs, "secret") {
			t.Errorf("%s: %d\n%s\n%s", c.name, code, out, errs)
		}
	}
	code, out, errs := run("--from", from, "--to", "sqlite:///"+filepath.Join(dir, "another.db"), "--json", "--quiet")
	var report transfer.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitOK || errs != "" || !report.Verified {
		t.Errorf("%d: %v\n%s\n%s", code, err, out, errs)
	}
}

func TestCopyProgress(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	c := newCopyProgress(&out, func() time.Time { return now })
	for _, p := range []struct {
		after time.Duration
		transfer.Progress
	}{
		{0, transfer.Progress{Phase: "copy", Table: "chat", Done: 1, Total: 100, Bytes: 1e6, AllBytes: 1e9}},
		{time.Second, transfer.Progress{Phase: "copy", Table: "chat", Done: 5, Total: 100, Bytes: 5e6, AllBytes: 1e9}},
		{4 * time.Second, transfer.Progress{Phase: "copy", Table: "chat", Done: 50, Total: 100, Bytes: 250e6, AllBytes: 1e9}},
		{time.Second, transfer.Progress{Phase: "copy", Table: "chat", Done: 100, Total: 100, Bytes: 500e6, AllBytes: 1e9, TableEnded: true}},
		{time.Second, transfer.Progress{Phase: "compare", Table: "user", Done: 0, Total: 0, Bytes: 500e6, AllBytes: 1e9, TableEnded: true}},
		{5 * time.Second, transfer.Progress{Phase: "index", Table: "an_index", Done: 1, Total: 3}},
		{5 * time.Second, transfer.Progress{Phase: "index", Table: "another", Done: 2, Total: 3}},
	} {
		now = now.Add(p.after)
		c.show(p.Progress)
	}
	want := "copying chat: 50 of 100, 50.0 MB/s, about 15s left\nchat: 100 rows in 6s\nmaking another: 2 of 3\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
