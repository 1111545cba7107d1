package main

import (
	"strings"
	"testing"
)

// TestMFAReset resets a second factor while a server runs on the database, and without one.
func TestMFAReset(t *testing.T) {
	m := newMachine(t)
	m.want(2, "--reason has to say why", "mfa", "reset", "root@example.test")
	m.want(2, "what is missing is EMAIL", "mfa", "reset", "--reason", "lost")
	m.want(2, "webui.db", "mfa", "reset", "root@example.test", "--reason", "no database yet")
	_, stop := m.serve()
	for range 2 {
		out := m.want(0, "good for 30 minutes", "mfa", "reset", "ROOT@example.test", "--reason", "lost the phone")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if token := lines[len(lines)-1]; len(token) != 43 {
			t.Errorf("the last line is no token: %q", out)
		}
		stop() // the second time without a server
	}
	m.want(1, "no account", "mfa", "reset", "nobody@example.test", "--reason", "x")
	if _, out, _ := m.galley("help"); !strings.Contains(out, "\nAccounts\n  mfa reset") {
		t.Errorf("help:\n%s", out)
	}
}
