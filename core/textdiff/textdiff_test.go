package textdiff

import (
	"strings"
	"testing"
)

func TestUnified(t *testing.T) {
	for name, c := range map[string]struct{ a, b, want string }{
		"nothing":        {"a\nb", "a\nb\n", ""},
		"other line end": {"a\r\nb", "a\nb", ""},
		"a line":         {"a\nb", "a\nc", "--- x|+++ y|@@ -1,2 +1,2 @@| a|-b|+c"},
		"all":            {"", "a", "--- x|+++ y|@@ -0,0 +1 @@|+a"},
	} {
		if got, err := Unified(c.a, c.b, "x", "y"); err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got := strings.Join(Lines("a\r\nb\u2028c\rd\n"), "|"); got != "a|b|c|d" {
		t.Error(got)
	}
}
