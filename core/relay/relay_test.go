package relay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/relay/relaytest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

func TestPython(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"it's","b":[1,2.5,true,null],"c":{"d":"q\"x"}}`: `{'a': "it's", 'b': [1, 2.5, True, None], 'c': {'d': 'q"x'}}`,
		`"tab\tand\u0001"`: `'tab\tand\x01'`,
		`"both ' and \""`:  `'both \' and "'`,
		`{}`:               `{}`,
	} {
		if got := relay.Python(jsondoc.Doc(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := relay.PythonValue(jsondoc.Doc(`"bare"`)); got != "bare" {
		t.Errorf("a text: %s", got)
	}
}

func TestMalformed(t *testing.T) {
	e := relay.Malformed("Form", web.Problems{{Type: "missing", Loc: web.Loc{"messages", 0, "role"}, Msg: "Field required"}})
	if e.Status != 400 || e.Detail != "1 validation error for Form\nmessages.0.role\n  Field required [type=missing]" {
		t.Errorf("%d %v", e.Status, e.Detail)
	}
}

func TestUnload(t *testing.T) {
	b := relaytest.New(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('calf','ann','llama:latest','Calf','{}','{}',TRUE,1,1), ('loop','ann','loop2','L','{}','{}',TRUE,1,1), ('loop2','ann','loop','L','{}','{}',TRUE,1,1)`)
	r := relay.Resolver{Catalog: b.Catalog, Prompts: b.Prompts}
	p := &auth.Principal{User: &users.User{ID: "admin", Role: users.RoleAdmin}}
	b.Registry.Models(t.Context(), nil)
	for _, c := range []struct {
		id, want string
		status   int
	}{
		{"calf", `{"status":true}`, 200},
		{"echo", `Provider "default" does not support model unloading`, 400},
		{"loop", `Model "loop" not found`, 404},
		{"none", `Model "none" not found`, 404},
	} {
		got, err := r.Unload(t.Context(), b.Registry, p, c.id)
		var e *web.Error
		switch {
		case c.status == 200 && (err != nil || string(got) != c.want):
			t.Errorf("%s: %s, %v", c.id, got, err)
		case c.status != 200 && (!errors.As(err, &e) || e.Status != c.status || e.Detail != c.want):
			t.Errorf("%s: %v", c.id, err)
		}
	}
	if seen := strings.Join(b.Upstream.Seen(), "\n"); seen != `POST /api/generate {"model":"llama:latest","keep_alive":0,"prompt":""}` {
		t.Errorf("upstream saw %s", seen)
	}
}

func TestAsk(t *testing.T) {
	b := relaytest.New(t, "OLLAMA_BASE_URLS", "http://127.0.0.1:1")
	p, ok := b.Registry.Connection(llm.KindOllama, 0)
	if !ok {
		t.Fatal("no connection")
	}
	_, err := relay.Ask(t.Context(), p, "GET", "/api/version", nil, nil)
	var e *web.Error
	if !errors.As(err, &e) || e.Status != 500 || e.Detail != "Ollama: Cannot connect to host 127.0.0.1:1 ssl:default [Connect call failed ('127.0.0.1', 1)]" {
		t.Errorf("%v", err)
	}
}
