package plugin

import (
	"strings"
	"testing"
)

func TestParseManifest(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	for _, c := range []struct{ text, want string }{ // want: part of the error, "" for none
		{`{"id":"a","command":"a"}`, ""},
		{`{"id":"a-1_b","command":"/usr/bin/env","args":["x"],"environment":{"K":"v"},"sha256":"` + digest + `","files":{"lib/x.py":"` + digest + `"},
			"grants":["kv","log"],"prefixes":["/a","/b/c"],"limits":{"memory_mb":1,"cpus":0.5},"config":{"x":1}}`, ""},
		{`{`, "unexpected EOF"},
		{`{"id":"a","command":"a"} {}`, "more than one value"},
		{`{"id":"a","command":"a","grant":["kv"]}`, `unknown field "grant"`},
		{`{"id":"A","command":"a"}`, `id "A"`},
		{`{"id":"a"}`, "command is missing"},
		{`{"id":"install","command":"a"}`, "install"},
		{`{"id":"a","command":"a","sha256":"12"}`, "64 hexadecimal digits"},
		{`{"id":"a","command":"a","files":{"../x":"` + digest + `"}}`, "outside the folder"},
		{`{"id":"a","command":"a","files":{"x":"zz"}}`, `digest of "x"`},
		{`{"id":"a","command":"a","grants":["everything"]}`, `"everything" is not one of`},
		{`{"id":"a","command":"a","prefixes":["/"]}`, `prefixes: "/"`},
		{`{"id":"a","command":"a","prefixes":["/a/"]}`, `prefixes: "/a/"`},
		{`{"id":"a","command":"a","prefixes":["/a/{x}"]}`, "prefixes"},
		{`{"id":"a","command":"a","environment":{"PLUGIN_CLIENT_CERT":"x"}}`, "cannot be set"},
		{`{"id":"a","command":"a","limits":{"memory_mb":-1}}`, "memory_mb is negative"},
		{`{"id":"a","command":"a","config":[1]}`, "config is not an object"},
	} {
		_, err := ParseManifest([]byte(c.text))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.text, err)
		}
	}
}
