package olddata

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store"
)

// prefixes are the operations on one thing of a table.
var prefixes = []struct{ table, prefix, query string }{
	{"share", "/api/v1/chats/share/", ""}, {"share", "/api/v1/chats/{id}/clone/shared", ""}, {"folder", "/api/v1/chats/folder/", ""}, {"user", "/api/v1/chats/list/user/", ""},
	{"chat", "/api/v1/chats/", ""}, {"chat", "/api/tasks/chat/", ""}, {"folder", "/api/v1/folders/", ""}, {"file", "/api/v1/files/", ""}, {"group", "/api/v1/groups/", ""},
	{"model", "/api/v1/models/model", "?id="}, {"prompt", "/api/v1/prompts/", ""}, {"tool", "/api/v1/tools/", ""}, {"user", "/api/v1/users/", ""},
}

// apart are operations that ask other servers, do not end or are no part of this.
var apart = []string{"/oauth/", "/openai/", "/ollama/", "/api/v1/plugins", "/api/v1/utils", "/api/version/updates", "/api/v1/pipelines", "/ws/", "/docs", "/openapi.json", "/metrics", "/cache/"}

// things are ids of sound rows.
func (s *server) things() map[string]string {
	return map[string]string{
		"chat": "both", "share": "old-link", "folder": "f-root", "file": "file-data", "group": "g", "model": "preset", "tool": "clock", "user": "cyd",
		"prompt": s.value(`SELECT id FROM prompt WHERE command = 'hello'`),
	}
}

// gets are the operations that read, with the table of the thing that they are about, "" for none.
func (s *server) gets(f func(table, query, pattern string)) {
	for _, r := range s.Router.Routes() {
		if r.Method != http.MethodGet || slices.ContainsFunc(apart, func(p string) bool { return strings.HasPrefix(r.Path, p) }) {
			continue
		}
		table, query := "", ""
		for _, p := range prefixes {
			if strings.HasPrefix(r.Path, p.prefix) && (strings.Contains(r.Path, "{") || p.query != "") {
				table, query = p.table, p.query
				break
			}
		}
		f(table, query, r.Path)
	}
}

// fill puts an id in the place of the first parameter of a path, and "b" in that of the others.
func fill(pattern, query, id string) string {
	for first := true; ; first = false {
		from := strings.IndexByte(pattern, '{')
		if from < 0 {
			break
		}
		to := strings.IndexByte(pattern, '}')
		word := "b"
		if first && query == "" {
			word = id
		}
		pattern = pattern[:from] + word + pattern[to+1:]
	}
	if query != "" {
		pattern += query + id
	}
	return pattern
}

// lists are what is asked for besides: the lists in other orders, and searches.
var lists = strings.Fields(`/api/v1/chats/list?page=1 /api/v1/chats/list?page=1&include_folders=true&include_pinned=true /api/v1/chats/search?text=legacy /api/v1/chats/search?text=tag:x
	/api/v1/chats/search?text=tag:none /api/v1/chats/search?text=folder:root /api/v1/chats/search?text=pinned:true /api/v1/chats/search?text=shared:true /api/v1/chats/search?text=
	/api/v1/chats/archived?page=1&query=a /api/v1/chats/stats/export?stream=true /api/v1/search?query=legacy /api/v1/files/search?filename=* /api/v1/files/user/search?query=f
	/api/v1/models/list?query=a /api/v1/models/list?tag=a /api/v1/models/list?order_by=name /api/v1/prompts/list?query=a /api/v1/prompts/list?tag=a /api/v1/users/?query=old
	/api/v1/users/?order_by=name&direction=asc /api/v1/users/search?query=o /api/v1/configs/namespace/ui`)

// reads are all operations that read, on sound rows.
func (s *server) reads(good map[string]string) []string {
	out := slices.Clone(lists)
	s.gets(func(table, query, pattern string) {
		id := good[table]
		if table == "" {
			id = "none"
		}
		out = append(out, fill(pattern, query, id))
	})
	return out
}

// readsOf are the operations on one thing.
func (s *server) readsOf(kind, id string) (out []string) {
	s.gets(func(table, query, pattern string) {
		if table == kind {
			out = append(out, fill(pattern, query, id))
		}
	})
	return out
}

// odd are values that a column may hold and nobody means it to.
var odd = []any{
	nil, `null`, `[]`, `{}`, `5`, `-1`, `5.5`, `true`, `"x"`, `""`, `[null,5,"x",{"a":[1]},[]]`, `{"a":null}`, `{"NaN":NaN,"b":[-Infinity]}`, `{"tags":"x","ui":5,"name":{},"size":"big","access_control":5}`,
	`{"tags":[null,5,{"name":7}],"ui":[],"name":null,"internal":"x","type":5,"status":[],"capabilities":5,"knowledge":"x","profile_image_url":5,"toolIds":{},"config":[]}`,
	`{"history":{"messages":{"a":{"id":5,"role":{},"parentId":[],"childrenIds":{},"content":{},"timestamp":"x","files":5,"usage":"x"}},"currentId":{}},"models":{},"title":5}`,
	`{"chat":5,"workspace":null,"features":true,"sharing":{"models":"x"}}`, `not json`, `{"a":`, ``, `1e999`, `"\ud83d\u0000"`, `123456789012345678901234567890`,
}

// Whatever stands in a column of text or JSON, the rows beside it are served, and the server does not fail on it.
func TestOddColumns(t *testing.T) { each(t, "peewee", testOddColumns) }

func testOddColumns(t *testing.T, s *server) {
	good := s.things()
	base := s.reads(good)
	for _, tt := range []struct {
		table, key, from string
		kind             string   // of prefixes
		near             string   // words of the paths that read the table; "" for all
		shows            []string // lists that show the sound row to bob or ada, with its id
		id               string
	}{
		{"chat", "id", "both", "chat", "/chats /search usage /folders", []string{"bob /api/v1/chats/list?page=1&include_folders=true&include_pinned=true", "bob /api/v1/chats/search?text=legacy", "bob /api/v1/chats/all"}, "both"},
		{"chat_message", "id", "both-b", "", "/chats /search usage", nil, ""},
		{"shared_chat", "id", "old-link", "share", "/chats/s /search", []string{"bob /api/v1/chats/shared"}, "shared-doc"},
		{"folder", "id", "f-root", "folder", "/folders /chats /search", []string{"bob /api/v1/folders/"}, "f-root"},
		{"file", "id", "file-data", "file", "/files /search", []string{"bob /api/v1/files/", "bob /api/v1/files/user/search?query=f"}, "file-data"},
		{"group", "id", "g", "group", "/groups /users /models", []string{"ada /api/v1/groups/"}, "g"},
		{"model", "id", "preset", "model", "/models", []string{"ada /api/v1/models/list", "ada /api/models"}, "preset"},
		{"model_history", "id", s.value(`SELECT id FROM model_history WHERE model_id = 'preset'`), "", "history", nil, ""},
		{"prompt", "id", good["prompt"], "prompt", "/prompts /search", []string{"ada /api/v1/prompts/list", "ada /api/v1/prompts/"}, good["prompt"]},
		{"prompt_history", "id", s.value(`SELECT id FROM prompt_history WHERE prompt_id = $1`, good["prompt"]), "", "/prompts", nil, ""},
		{"tool", "id", "clock", "tool", "/tools", []string{"ada /api/v1/tools/", "ada /api/v1/tools/list"}, "clock"},
		{"tool_history", "id", s.value(`SELECT id FROM tool_history WHERE tool_id = 'clock'`), "", "/tools", nil, ""},
		{"memory", "id", "mem0", "", "/memories /search", []string{"bob /api/v1/memories/"}, "mem0"},
		{"tag", "id", "work_stuff", "", "/chats", []string{"bob /api/v1/chats/all/tags"}, "work_stuff"},
		{"access_grant", "id", "ag0", "", "", nil, ""},
		{"user", "id", "cyd", "user", "/users /groups /chats/all /models /auths", []string{"ada /api/v1/users/", "ada /api/v1/users/search"}, "cyd"},
		{"oauth_session", "id", "os", "", "/oauth", nil, ""},
		{"api_key", "id", "key_ada", "", "/auths", nil, ""},
	} {
		t.Run(tt.table, func(t *testing.T) {
			s.t = t
			columns := s.columns(tt.table)
			for column, kind := range columns {
				if kind == "" || column == tt.key {
					continue
				}
				var made []string
				for i, v := range odd {
					if id := fmt.Sprintf("odd-%d", i); s.clone(tt.table, tt.from, id, column, v) {
						made = append(made, id)
					}
				}
				for _, path := range base {
					if tt.near == "" || slices.ContainsFunc(strings.Fields(tt.near), func(word string) bool { return strings.Contains(path, word) }) {
						s.sound("ada", path)
						s.sound("bob", path)
					}
				}
				if tt.kind == "" {
					made = nil
				}
				for _, id := range made {
					for _, path := range s.readsOf(tt.kind, id) {
						s.sound("ada", path) // who may read most of them
					}
				}
				for _, show := range tt.shows {
					user, path, _ := strings.Cut(show, " ")
					if status, answer := s.sound(user, path); status != http.StatusOK || !strings.Contains(answer.String(), `"`+tt.id+`"`) {
						t.Errorf("%s: %s does not show %s: %d", column, show, tt.id, status)
					}
				}
				exec(t, s.DB, fmt.Sprintf(`DELETE FROM "%s" WHERE id LIKE 'odd-%%'`, tt.table))
				if t.Failed() {
					t.Fatalf("in column %s", column)
				}
			}
		})
	}
}

// columns are the columns of a table with the types of those of text or JSON, "" of the others.
func (s *server) columns(table string) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, c := range s.ids(s.DB.Dialect().Pick(`SELECT name || ' ' || type FROM pragma_table_info($1)`,
		`SELECT column_name || ' ' || data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1`), table) {
		name, kind, _ := strings.Cut(strings.ToLower(c), " ")
		switch {
		case kind == "json":
			out[name] = "json"
		case kind == "text" || strings.Contains(kind, "char"):
			out[name] = "text"
		default:
			out[name] = ""
		}
	}
	return out
}

// clone copies a row with another id and another value in one column; false where the table refuses it.
func (s *server) clone(table, from, id, column string, v any) bool {
	s.t.Helper()
	var names, values []string
	for c, kind := range s.columns(table) {
		names = append(names, `"`+c+`"`)
		switch {
		case c == column && s.DB.Dialect() == store.Postgres:
			values = append(values, "CAST($3 AS "+kind+")")
		case c == column:
			values = append(values, "$3")
		case c == "id":
			values = append(values, "CAST($2 AS TEXT)")
		case c == "email" || c == "command" || c == "key":
			values = append(values, "CAST($2 AS TEXT) || '-unique'")
		case c == "share_id":
			values = append(values, "NULL")
		case c == "principal_id" && table == "access_grant":
			values = append(values, "CAST($2 AS TEXT)")
		default:
			values = append(values, `"`+c+`"`)
		}
	}
	_, err := s.DB.Exec(s.t.Context(), fmt.Sprintf(`INSERT INTO "%s" (%s) SELECT %s FROM "%s" WHERE id = $1`, table, strings.Join(names, ","), strings.Join(values, ","), table), from, id, v)
	if err != nil && !strings.Contains(err.Error(), "constraint") && !strings.Contains(err.Error(), "json") && !strings.Contains(err.Error(), "too long") {
		s.t.Fatal(err)
	}
	return err == nil
}

// Whoever has something odd in the columns of their account gets in and around all the same.
func TestOddAccounts(t *testing.T) {
	s := open(t, "peewee", nil)
	paths := s.reads(s.things())
	for column, kind := range s.columns("user") {
		if kind == "" || column == "id" || column == "email" {
			continue
		}
		s.t = t
		for i, v := range odd {
			id := fmt.Sprintf("odd-%s-%d", column, i)
			if !s.clone("user", "cyd", id, column, v) {
				continue
			}
			exec(t, s.DB, `INSERT INTO auth (id, email, password, active) VALUES ($1, $2, '', TRUE)`, id, id+"-unique")
			if status, answer := s.sound(id, "/api/v1/auths/"); status != http.StatusOK && column != "role" {
				t.Errorf("%s is %v: %d %.200s", column, v, status, answer)
			}
			for _, path := range paths {
				if strings.HasPrefix(path, "/api/v1/users") || strings.HasPrefix(path, "/api/v1/auths") || strings.HasPrefix(path, "/api/models") || path == "/api/config" {
					s.sound(id, path)
				}
			}
		}
		if t.Failed() {
			t.Fatalf("in column %s", column)
		}
	}
}

// Settings of a wrong type, all at once, keep nobody out.
func TestOddSettings(t *testing.T) {
	for _, v := range []string{`null`, `[]`, `{}`, `5`, `"x"`, `[null,5,{"a":1}]`, `{"a":{"b":[]}}`, `true`, `not json`} {
		t.Run(v, func(t *testing.T) {
			s := open(t, "peewee", func(db *store.DB) {
				for _, d := range config.Definitions() {
					if d.Key != "openai.api_base_urls" && d.Key != "ollama.base_urls" {
						exec(t, db, `INSERT INTO config (key, value, updated_at) VALUES ($1, $2, 1) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, d.Key, v)
					}
				}
			})
			for _, path := range s.reads(s.things()) {
				s.sound("ada", path)
				s.sound("bob", path)
			}
		})
	}
}
