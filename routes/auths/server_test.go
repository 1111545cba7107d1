package auths_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/frontend"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/auths"
	"github.com/galleychat/galley/routes/groups"
	"github.com/galleychat/galley/routes/users"
)

// newServer is the three modules of accounts over a database; vars are environment variables: name, value….
func newServer(t testing.TB, db *store.DB, vars ...string) *sessiontest.Server {
	t.Helper()
	s := sessiontest.New(t, db, vars...)
	site, err := frontend.New(frontend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Router.Mount("/api/v1/auths", auths.New(auths.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, Factors: s.Factors, OAuth: s.OAuth, Events: s.Events, Log: s.Log}))
	s.Router.Mount("/api/v1/users", users.New(users.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, OAuth: s.OAuth, Static: site, Events: s.Events}))
	s.Router.Mount("/api/v1/groups", groups.New(groups.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Events: s.Events}))
	s.Router.Finish()
	return s
}

// TestContract replays recorded scenarios of accounts. GALLEY_CONTRACT is the contract's folder, GALLEY_PYTHON a Python
// with the replayer's packages, GALLEY_SCENARIOS a pattern instead of those that these modules answer alone.
func TestContract(t *testing.T) {
	dir := os.Getenv("GALLEY_CONTRACT")
	if dir == "" {
		t.Skip("GALLEY_CONTRACT is not set")
	}
	python := os.Getenv("GALLEY_PYTHON")
	if python == "" {
		python = "python3"
	}
	patterns := []string{"auths-a*", "auths-mfa", "auths-oauth", "auths-profile", "users-[dlmsu]*", "groups-crud", "groups-members"}
	if p := os.Getenv("GALLEY_SCENARIOS"); p != "" {
		patterns = []string{p}
	}
	for kind, db := range map[string]func(testing.TB) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(kind, func(t *testing.T) {
			server := httptest.NewServer(newServer(t, db(t)).Router)
			defer server.Close()
			args := []string{filepath.Join(dir, "replay.py"), "--base", server.URL}
			for _, p := range patterns {
				found, err := filepath.Glob(filepath.Join(dir, "scenarios", p+".json"))
				if err != nil || len(found) == 0 {
					t.Fatalf("no scenario %s: %v", p, err)
				}
				args = append(args, found...)
			}
			out, err := exec.Command(python, args...).CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}
