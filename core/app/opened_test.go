package app

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// statements runs SQL on a database as the reference would make it.
func statements(t *testing.T, url string, texts ...string) {
	t.Helper()
	db, err := store.Open(t.Context(), url, store.Options{PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if _, err := db.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// tryOpen opens an App that is closed at the test's end, and gives what it logged.
func tryOpen(t *testing.T, vars map[string]string) (string, error) {
	t.Helper()
	c, err := ReadConfig(lookup(vars))
	if err != nil {
		return "", err
	}
	var log bytes.Buffer
	c.Log = &log
	a, err := Open(t.Context(), c)
	if err == nil {
		err = a.Close(context.Background())
	}
	return log.String(), err
}

// TestForeignIsLeftAlone: the data folder of a refused database is as it was, without a key or a folder.
func TestForeignIsLeftAlone(t *testing.T) {
	const newer = "UPDATE alembic_version SET version_num = 'ffffffffffff'"
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		statements(t, "sqlite:///"+filepath.Join(dir, "webui.db"), newer)
		before := storetest.Tree(t, dir)
		_, err := tryOpen(t, map[string]string{"DATA_DIR": dir})
		if setting := new(SettingError); !errors.Is(err, store.ErrForeign) || errors.As(err, &setting) {
			t.Error(err)
		}
		if after := storetest.Tree(t, dir); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
	t.Run("postgres", func(t *testing.T) {
		dir, url := t.TempDir(), storetest.PostgresURL(t)
		statements(t, url, newer)
		if _, err := tryOpen(t, map[string]string{"DATA_DIR": filepath.Join(dir, "data"), "DATABASE_URL": url}); !errors.Is(err, store.ErrForeign) {
			t.Error(err)
		}
		if after := storetest.Tree(t, dir); strings.Count(after, "\n") != 1 {
			t.Errorf("made:\n%s", after)
		}
	})
	t.Run("ollama.db", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ollama.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		before := storetest.Tree(t, dir)
		if _, err := tryOpen(t, map[string]string{"DATA_DIR": dir}); !errors.Is(err, store.ErrForeign) || storetest.Tree(t, dir) != before {
			t.Error(err)
		}
	})
	t.Run("no migrations", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := tryOpen(t, map[string]string{"DATA_DIR": dir, "ENABLE_DB_MIGRATIONS": "false"}); err == nil || !strings.Contains(err.Error(), "ENABLE_DB_MIGRATIONS") {
			t.Error(err)
		}
	})
}

// TestSecretKeyPlaces: the key of the reference's start is found, and a new one for people who have accounts is told.
func TestSecretKeyPlaces(t *testing.T) {
	const account = "INSERT INTO auth (id, email, password, active) VALUES ('a', 'a@b', 'x', TRUE)"
	for name, c := range map[string]struct {
		key    string // where it lies, below the folder that holds data
		work   string // the working directory
		says   string
		silent string
	}{
		"beside the folder":        {".webui_secret_key", "", "secret key of Open WebUI's start", "WARN"},
		"in the working directory": {"work/.webui_secret_key", "work", "secret key of Open WebUI's start", "WARN"},
		"in the folder":            {"data/.webui_secret_key", "", "", "secret key"},
		"nowhere":                  {"", "", "everybody has to sign in again", "Open WebUI's start"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"data", "work"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(filepath.Join(dir, c.work))
			statements(t, "sqlite:///"+filepath.Join(dir, "data", "webui.db"), account)
			if c.key != "" {
				if err := os.WriteFile(filepath.Join(dir, c.key), []byte("key"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			log, err := tryOpen(t, map[string]string{"DATA_DIR": filepath.Join(dir, "data")})
			if err != nil || !strings.Contains(log, c.says) || strings.Contains(log, c.silent) {
				t.Errorf("%v\n%s", err, log)
			}
			_, err = os.Stat(filepath.Join(dir, "data", ".webui_secret_key"))
			if made := err == nil; made != (c.key == "" || strings.HasPrefix(c.key, "data/")) {
				t.Errorf("made in the folder: %v", made)
			}
		})
	}
}

// TestOtherKey: tokens that were encrypted with another key are told.
func TestOtherKey(t *testing.T) {
	dir := t.TempDir()
	key, err := fernet.NewKey("the key")
	if err != nil {
		t.Fatal(err)
	}
	token, err := key.Encrypt([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	statements(t, "sqlite:///"+filepath.Join(dir, "webui.db"),
		"INSERT INTO oauth_session (id, user_id, provider, token, expires_at, created_at, updated_at) VALUES ('s', 'u', 'oidc', '"+token+"', 1, 1, 1)")
	for secret, want := range map[string]bool{"the key": false, "another": true} {
		log, err := tryOpen(t, map[string]string{"DATA_DIR": dir, "WEBUI_SECRET_KEY": secret})
		if err != nil || strings.Contains(log, "cannot be read with this secret key") != want {
			t.Errorf("%s: %v\n%s", secret, err, log)
		}
	}
}
