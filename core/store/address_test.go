package store

import (
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for _, c := range []struct{ url, file, dsn string }{
		{"sqlite:///data/webui.db", "data/webui.db", ""},
		{"sqlite:////data/a%20b?x=1", "/data/a%20b", ""},
		{"sqlite+aiosqlite:////data/webui.db", "/data/webui.db", ""},
		{"postgresql://ada@db/webui", "", "user='ada' dbname='webui' host='db' sslmode='prefer'"},
		{"postgres://ada:pw@db:5433/webui", "", "user='ada' dbname='webui' password='pw' host='db' port='5433' sslmode='prefer'"},
		{"postgresql+psycopg2://ada:pw@[::1]:5433/webui", "", "user='ada' dbname='webui' password='pw' host='::1' port='5433' sslmode='prefer'"},
		{`postgresql://a%40b:p/w#?'\%40%3A%zz%@db/webui`, "", `user='a@b' dbname='webui' password='p/w#?\'\\@:%zz%' host='db' sslmode='prefer'`},
		{"postgresql://ada:@db/webui", "", "user='ada' dbname='webui' password='' host='db' sslmode='prefer'"},
		{"postgresql://ada@/webui?host=/run/pg", "", "user='ada' dbname='webui' host='/run/pg' sslmode='prefer'"},
		{"postgresql://ada@/webui?host=a:5433&host=b:5434", "", "user='ada' dbname='webui' host='a,b' port='5433,5434' sslmode='prefer'"},
		{"postgresql://ada@db/webui?ssl=require", "", "user='ada' dbname='webui' host='db' sslmode='require'"},
		{"postgresql://ada@db/webui?ssl=false", "", "user='ada' dbname='webui' host='db' sslmode='disable'"},
		{"postgresql://ada@db/webui?ssl=require&sslmode=verify-full&sslrootcert=%2Fca.pem&channel_binding=require&application_name=open+webui", "",
			"user='ada' dbname='webui' sslrootcert='/ca.pem' application_name='open webui' host='db' sslmode='verify-full'"},
		{"postgresql://ada@db/webui?options=-c%20statement_timeout%3D5&connect_timeout=3", "", "user='ada' dbname='webui' options='-c statement_timeout=5' connect_timeout='3' host='db' sslmode='prefer'"},
	} {
		a, err := parseAddress(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if a.dialect == SQLite {
			if a.file != c.file {
				t.Errorf("%s: %q", c.url, a.file)
			}
			continue
		}
		if dsn, err := a.dsn(Options{}); err != nil || dsn != c.dsn {
			t.Errorf("%s:\n%s, %v; want\n%s", c.url, dsn, err, c.dsn)
		}
	}
	a, err := parseAddress("postgresql://h/d")
	if err != nil {
		t.Fatal(err)
	}
	if dsn, err := a.dsn(Options{PostgresSchema: `A "b"`}); err != nil || !strings.HasSuffix(dsn, `search_path='"A ""b"""'`) {
		t.Errorf("%s, %v", dsn, err)
	}
}

func TestAddressErrors(t *testing.T) {
	for _, c := range []struct{ url, says string }{
		{"webui.db", "not a URL"}, {"mysql://u:secret@h/d", "neither"}, {"sqlite://", "needs a file"}, {"sqlite:///:memory:", "needs a file"},
		{"sqlite+sqlcipher:////data/webui.db", "SQLCipher"}, {"postgresql://u:secret@h:port/d", "port"}, {"postgresql://u:secret@x@h/d", ""},
	} {
		a, err := parseAddress(c.url)
		if err == nil && c.says == "" {
			_, err = a.dsn(Options{})
			if err == nil {
				continue
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), "DATABASE_URL:") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	for url, want := range map[string]string{
		"postgresql://ada:pa/ss@h/d": "postgresql://ada:xxxxx@h/d", "postgresql://ada@h/d": "postgresql://ada@h/d", "sqlite:////a:b@c": "sqlite:////a:b@c", "postgres://:pw@h": "postgres://:xxxxx@h",
	} {
		if got := redact(url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}
