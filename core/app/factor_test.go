package app

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store/users"
)

func TestResetFactor(t *testing.T) {
	vars := map[string]string{"DATA_DIR": t.TempDir(), "WEBUI_SECRET_KEY": "k"}
	c, err := ReadConfig(lookup(vars))
	if err != nil {
		t.Fatal(err)
	}
	var setting *SettingError
	if _, err := ResetFactor(t.Context(), c, "ann@x.test", "lost"); !errors.As(err, &setting) || !strings.Contains(err.Error(), "webui.db") {
		t.Errorf("without a database: %v", err)
	}
	if there, _ := filepath.Glob(filepath.Join(vars["DATA_DIR"], "*")); len(there) > 0 {
		t.Errorf("it made %q", there)
	}
	a := open(t, vars)
	u, err := a.Users.Insert(t.Context(), users.NewUser{Email: "ann@x.test", Name: "Ann", Role: users.RoleUser, Password: "h"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := a.Users.Credential(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ResetFactor(t.Context(), c, "Ann@x.test", "lost")
	if err != nil || len(token) != 43 {
		t.Fatalf("%q, %v", token, err)
	}
	after, err := a.Users.Credential(t.Context(), u.ID)
	if err != nil || after.Stamp == before.Stamp || !after.MFA.Bool("reset_required") || strings.Contains(after.MFA.String(), token) {
		t.Errorf("%+v, %v", after, err)
	}
}

// TestFactorAtStart starts with second factors on: not where a secret cannot be read.
func TestFactorAtStart(t *testing.T) {
	vars := map[string]string{"DATA_DIR": t.TempDir(), "WEBUI_SECRET_KEY": "k", "ENABLE_MFA": "true"}
	a := open(t, vars)
	u, err := a.Users.Insert(t.Context(), users.NewUser{Email: "ann@x.test", Name: "Ann", Role: users.RoleUser, Password: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.DB.Exec(t.Context(), `UPDATE auth SET mfa = '{"secret":"gAAA"}' WHERE id = $1`, u.ID); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(lookup(vars))
	if err != nil {
		t.Fatal(err)
	}
	c.Log = t.Output()
	var setting *SettingError
	if _, err := Open(t.Context(), c); !errors.As(err, &setting) || !strings.Contains(err.Error(), "restore the WEBUI_SECRET_KEY") {
		t.Errorf("started with a secret that it cannot read: %v", err)
	}
}
