package e2e

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/galleychat/galley/core/store/storetest"
)

// TestForeignDatabase: a database of another version ends the start with one line and exit code 1, and the data folder is
// byte for byte as it was; "up" does not even install an interface into it.
func TestForeignDatabase(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   string
	}{
		"older":       {"UPDATE alembic_version SET version_num = '018012973d35'", "it is older"},
		"newer":       {"UPDATE alembic_version SET version_num = 'ffffffffffff'", "it is newer"},
		"unversioned": {"DROP TABLE alembic_version", "no alembic_version"},
		"incomplete":  {"ALTER TABLE auth DROP COLUMN mfa", "auth.mfa"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if s := start(t, "DATA_DIR="+dir); s.stop(t, syscall.SIGTERM) != 0 {
				t.Fatal(s.logged())
			}
			if err := os.Remove(filepath.Join(dir, ".webui_secret_key")); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", filepath.Join(dir, "webui.db"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(c.change); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			before := storetest.Tree(t, dir)
			for _, word := range []string{"serve", "up"} {
				cmd := command(t, []string{"DATA_DIR=" + dir, "HOST=127.0.0.1", "PORT=0"}, word)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, t.TempDir()
				_ = cmd.Run()
				if code := cmd.ProcessState.ExitCode(); code != 1 || out.Len() > 0 {
					t.Errorf("%s: exit code %d, output %q", word, code, &out)
				}
				if text := errs.String(); !strings.HasPrefix(text, "galley: ") || strings.Count(text, "\n") != 1 || !strings.Contains(text, c.want) || !strings.Contains(text, "nothing was changed") {
					t.Errorf("%s: %q", word, text)
				}
			}
			if after := storetest.Tree(t, dir); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestDotEnv: variables of a file .env in the working directory count where the environment has none, and flags before both.
func TestDotEnv(t *testing.T) {
	work := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".env", "DATABASE_URL=oracle://dotenv\nPORT=0\n")
	write("other", "DATABASE_URL=oracle+other://x")
	for name, c := range map[string]struct {
		vars, args []string
		want       string
	}{
		"file":        {nil, nil, `"oracle" is neither`},
		"environment": {[]string{"DATABASE_URL=db2://x"}, nil, `"db2" is neither`},
		"flag":        {[]string{"DATABASE_URL=db2://x"}, []string{"--database-url", "dbase://x"}, `"dbase" is neither`},
		"named":       {[]string{"GALLEY_ENV_FILE=other"}, nil, `"oracle+other" is neither`},
		"not there":   {[]string{"GALLEY_ENV_FILE=nowhere"}, nil, "GALLEY_ENV_FILE: "},
		"none":        {[]string{"GALLEY_ENV_FILE=", "FRONTEND_BUILD_DIR=/nowhere"}, nil, "FRONTEND_BUILD_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, append([]string{"HOST=127.0.0.1", "PORT=0"}, c.vars...), append([]string{"serve"}, c.args...)...)
			cmd.Dir = work
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), c.want) {
				t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
			}
		})
	}
}
