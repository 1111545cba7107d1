package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/storetest"
)

var (
	ctx   = context.Background()
	small = options{users: 40, chats: 400, messages: 6, size: 6e6, seed: 7, skew: 0.9}
)

func filled(t *testing.T, address string) *store.DB {
	t.Helper()
	if err := generate(ctx, address, small); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, address, store.Options{Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestGenerate(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "webui.db")
		db := filled(t, "sqlite:///"+file)
		check(t, db)
		info, err := os.Stat(file)
		if err != nil || info.Size() < small.size*7/10 || info.Size() > small.size*13/10 {
			t.Errorf("%d bytes were asked for, there are %d (%v)", small.size, info.Size(), err)
		}
		if leftover, _ := filepath.Glob(file + "-journal"); len(leftover) > 0 {
			t.Error("left behind:", leftover)
		}
		again := filled(t, "sqlite:///"+filepath.Join(t.TempDir(), "webui.db"))
		if digest(t, db) != digest(t, again) {
			t.Error("the same seed made other rows")
		}
		if err := generate(ctx, "sqlite:///"+file, small); err == nil {
			t.Error("a database with users was filled")
		}
	})
	t.Run("postgres", func(t *testing.T) { check(t, filled(t, storetest.PostgresURL(t))) })
}

func digest(t *testing.T, db *store.DB) string {
	t.Helper()
	h := sha256.New()
	for _, table := range tables {
		rows, err := db.Query(ctx, `SELECT `+strings.Join(table.columns, ", ")+` FROM "`+table.name+`" ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			row := make([]any, len(table.columns))
			to := make([]any, len(row))
			for i := range row {
				to[i] = &row[i]
			}
			if err := rows.Scan(to...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(h, row...)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func check(t *testing.T, db *store.DB) {
	count := func(query string, args ...any) (n int) {
		t.Helper()
		if err := db.QueryRow(ctx, query, args...).Scan(&n); err != nil {
			t.Fatal(query, err)
		}
		return n
	}
	for query, want := range map[string]int{
		`SELECT COUNT(*) FROM "user"`:  40,
		`SELECT COUNT(*) FROM auth`:    40,
		`SELECT COUNT(*) FROM "group"`: 20,
		`SELECT COUNT(*) FROM chat`:    400,
		`SELECT COUNT(*) FROM chat_message WHERE chat_id NOT IN (SELECT id FROM chat)`: 0,
		`SELECT COUNT(*) FROM chat WHERE share_id NOT IN (SELECT id FROM shared_chat)`: 0,
		`SELECT COUNT(*) FROM chat WHERE folder_id NOT IN (SELECT id FROM folder)`:     0,
	} {
		if n := count(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	heavy := count(`SELECT COUNT(*) FROM chat WHERE user_id = (SELECT id FROM "user" WHERE email = 'user1@big.test')`)
	if least := count(`SELECT COUNT(*) FROM chat GROUP BY user_id ORDER BY 1 LIMIT 1`); heavy != 20 || least < 1 {
		t.Errorf("chats are spread from %d to %d", least, heavy)
	}
	if n := count(`SELECT COUNT(*) FROM tag WHERE user_id = (SELECT id FROM "user" WHERE email = 'user2@big.test')`); n < 100 {
		t.Errorf("the user of many tags has %d", n)
	}
	compare(t, db)
}

// compare stores the documents anew, by the code of the server, and looks for differences in the rows.
func compare(t *testing.T, db *store.DB) {
	t.Helper()
	from, to := chats.New(db), chats.New(storetest.SQLite(t))
	const columns = "id, chat_id, user_id, role, COALESCE(parent_id, 'NULL'), content, output, COALESCE(model_id, 'NULL'), files, sources, embeds, meta, CASE WHEN done THEN 1 ELSE 0 END, status_history, error, usage, COALESCE(context_summary, 'NULL'), created_at"
	n := 0
	err := from.EachOfAll(ctx, func(c *chats.Chat) error {
		if n++; n > 60 {
			return nil
		}
		made, err := to.Insert(ctx, chats.NewChat{ID: c.ID, UserID: c.UserID, Doc: c.Doc, FolderID: c.FolderID, Meta: c.Meta, Archived: c.Archived, Pinned: *c.Pinned, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt})
		if err != nil {
			return err
		}
		made.LastReadAt, made.ShareID = c.LastReadAt, c.ShareID
		if got, want := fmt.Sprintf("%+v", jsondoc.Of(c).String()), fmt.Sprintf("%+v", jsondoc.Of(made).String()); got != want {
			t.Errorf("a chat is\n%.600s\nthe server makes\n%.600s", got, want)
		}
		if got, want := rowsOf(t, from, c.ID, columns), rowsOf(t, to, c.ID, columns); got != want {
			t.Errorf("messages are\n%.900s\nthe server makes\n%.900s", got, want)
		}
		return nil
	})
	if err != nil || n != 400 {
		t.Error(n, err)
	}
}

func rowsOf(t *testing.T, s *chats.Store, id, columns string) (out string) {
	t.Helper()
	err := s.InTx(ctx, func(tx *store.Tx) error {
		rows, err := tx.Query(ctx, "SELECT "+columns+" FROM chat_message WHERE chat_id = $1 ORDER BY created_at, "+tx.Dialect().ByCodePoint("id"), id)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			values := make([]string, strings.Count(columns, ",")+1-3) // COALESCE has a comma of its own
			to := make([]any, len(values))
			for i := range to {
				to[i] = &values[i]
			}
			if err := rows.Scan(to...); err != nil {
				return err
			}
			out += strings.Join(values, " | ") + "\n"
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPassword(t *testing.T) {
	if err := bcrypt.CompareHashAndPassword([]byte(passwordHash), []byte(password)); err != nil {
		t.Error(err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"5GB": 5e9, "5GiB": 5 << 30, "1.5MB": 1.5e6, "100": 100, "7 KB": 7000} {
		if n, err := parseSize(text); n != want || err != nil {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "GB", "-1GB", "five"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q became %d", text, n)
		}
	}
}
