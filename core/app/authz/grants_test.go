package authz

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/jsondoc"
)

// The accounts that are granted something, beside the owner.
const (
	named    = "named"    // by its id
	member   = "member"   // of the group below
	above    = "above"    // of the group above, which the group below is part of
	stranger = "stranger" // of nothing
	noOne    = "nobody"   // without an account
)

var guests = []string{named, member, above, stranger, noOne}

// grants are what a resource is shared with, and whom that means.
var grants = []struct {
	kind, id string // of the principal; a name in the place of its id
	means    []string
}{
	{"user", named, []string{named}},
	{"group", "below", []string{member}},
	{"group", "above", []string{member, above}},
	{"user", "*", []string{named, member, above, stranger}},
	{"anyone", "*", guests},
	{"user", "", nil},
	{"team", named, nil},
}

// resource is a kind of thing that can be shared. What is done with it are calls ("METHOD /path body") with the words of
// calls.txt; a call is let in where it answers 200 and, if there is a text, with it.
type resource struct {
	name   string
	share  string // {grants} is the list; "" where row is used
	read   string
	text   string
	write  string   // "" where there is nothing to write
	never  []string // kinds and ids of principals it cannot be shared with, such as "anyone *"
	denied []string // guests who are not let in whatever the grants
	// writers read without a grant to read
	writersRead bool
	row         func(s *server, grants string)
}

var resources = []resource{
	{
		name: "model", share: `POST /api/v1/models/model/access/update {"id":"{model}","access_grants":{grants}}`,
		read:   "GET /api/v1/models/model?id={model}",
		write:  `POST /api/v1/models/model/update {"id":"{model}","base_model_id":"echo-small","name":"Other","meta":{},"params":{}}`,
		never:  []string{"anyone *"},
		denied: []string{noOne},

		writersRead: true,
	},
	{
		name: "file of a model", share: `POST /api/v1/models/model/access/update {"id":"{library}","access_grants":{grants}}`,
		read:   "GET /api/v1/files/{file}",
		write:  `POST /api/v1/files/{file}/data/content/update {"content":"new"}`,
		never:  []string{"anyone *"},
		denied: []string{noOne},
	},
	{
		name: "folder", share: `POST /api/v1/folders/{folder}/access/update {"access_grants":{grants}}`,
		read:   "GET /api/v1/folders/{folder}",
		write:  `POST /api/v1/folders/ {"name":"Below {n}","parent_id":"{folder}"}`,
		never:  []string{"user *", "anyone *"},
		denied: []string{noOne},
	},
	{
		name: "chat", share: `POST /api/v1/chats/shared/{shared}/access/update {"access_grants":{grants}}`,
		read: "GET /api/v1/chats/share/{share}",
	},
	{
		name: "chat to go on with", share: `POST /api/v1/chats/shared/{shared}/access/update {"access_grants":{grants},"share_mode":"continue"}`,
		read:   "GET /api/v1/chats/{shared}",
		denied: []string{noOne},
	},
	{
		name: "arena model", row: func(s *server, grants string) {
			status, answer := s.send("POST", "/api/v1/evaluations/config", `{"ENABLE_EVALUATION_ARENA_MODELS":true,"EVALUATION_ARENA_MODELS":[{"id":"duel","name":"Duel","meta":{"access_grants":`+grants+`}}]}`, s.callers["admin"])
			if status != http.StatusOK {
				s.t.Fatalf("%d %s", status, answer)
			}
		},
		read: "GET /api/models", text: `"duel"`, denied: []string{noOne},
	},
	{
		name: "note in the search", row: func(s *server, grants string) {
			s.exec(`INSERT INTO note (id, user_id, title, data, meta, created_at, updated_at) SELECT 'note-1', $1, 'Findable', '{}', '{}', 1, 1
				WHERE NOT EXISTS (SELECT 1 FROM note WHERE id = 'note-1')`, s.callers["user"].id)
			s.grantRows("note", "note-1", grants)
		},
		read: "GET /api/v1/search?q=findable", text: "note-1", denied: []string{noOne},
	},
	{
		name: "channel in the search", row: func(s *server, grants string) {
			if err := s.app.Settings.Set(s.t.Context(), map[string]any{"channels.enable": true}); err != nil {
				s.t.Fatal(err)
			}
			s.exec(`INSERT INTO channel (id, user_id, name, created_at, updated_at) SELECT 'channel-1', $1, 'findable', 1, 1
				WHERE NOT EXISTS (SELECT 1 FROM channel WHERE id = 'channel-1')`, s.callers["user"].id)
			s.grantRows("channel", "channel-1", grants)
		},
		read: "GET /api/v1/search?q=findable", text: "channel-1", denied: []string{noOne},
	},
}

func (s *server) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.app.DB.Exec(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

// grantRows stores grants as the reference does for resources that Galley only reads.
func (s *server) grantRows(kind, id, grants string) {
	s.t.Helper()
	s.exec(`DELETE FROM access_grant WHERE resource_type = $1 AND resource_id = $2`, kind, id)
	jsondoc.Doc(grants).Items(func(i int, g jsondoc.Doc) bool {
		s.exec(`INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1, $2, $3, $4, $5, $6, 1)`,
			fmt.Sprintf("%s-%s-%d", kind, id, i), kind, id, g.Text("principal_type"), g.Text("principal_id"), g.Text("permission"))
		return true
	})
}

// TestGrants shares every kind of resource with every kind of principal, and has all guests try to read and to write it:
// they may where core/access says so, whatever the kind.
func TestGrants(t *testing.T) {
	c := readCalls(t)
	c.fixtures["library"] = parseFixture(t, `library by owner: POST /api/v1/models/create {"id":"library-{n}","base_model_id":"echo-small","name":"Library","meta":{"knowledge":[{"type":"file","id":"{file}"}]},"params":{}} -> id`)
	each(t, func(t *testing.T, a *app.App) {
		s := newServer(t, a, c)
		for _, g := range guests[:4] {
			s.callers[g] = s.account(g)
		}
		// nobody's default permissions: what guests may is by the grants, and features are not in the way
		if status, answer := s.send("POST", "/api/v1/users/default/permissions", s.vars["permissions.all"], s.callers["admin"]); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		s.group("above", "null", above)
		s.group("below", `"`+s.vars["above"]+`"`, member)
		for _, r := range resources {
			for _, g := range grants {
				for _, permission := range []string{"read", "write"} {
					s.tryGrant(r, g.kind, g.id, permission, g.means)
				}
			}
		}
	})
}

// group makes a group with a guest in it.
func (s *server) group(name, parent, guest string) {
	s.t.Helper()
	status, answer := s.send("POST", "/api/v1/groups/create", `{"name":"`+name+`","description":"","parent_group_id":`+parent+`}`, s.callers["admin"])
	s.vars[name] = answer.Text("id")
	if status == http.StatusOK {
		status, answer = s.send("POST", "/api/v1/groups/id/"+s.vars[name]+"/users/add", `{"user_ids":["`+s.callers[guest].id+`"]}`, s.callers["admin"])
	}
	if status != http.StatusOK {
		s.t.Fatalf("group %s: %d %s", name, status, answer)
	}
}

// tryGrant shares a resource and looks who can do what with it.
func (s *server) tryGrant(r resource, kind, id, permission string, means []string) {
	s.t.Helper()
	principal := id
	if v := s.vars[id]; v != "" {
		principal = v
	} else if c, ok := s.callers[id]; ok {
		principal = c.id
	}
	list := `[]`
	possible := !slices.Contains(r.never, kind+" "+id) && (kind != "anyone" || permission == "read")
	if possible || r.share != "" {
		list = `[{"principal_type":"` + kind + `","principal_id":"` + principal + `","permission":"` + permission + `"}]`
	}
	clear(s.fixtures)
	if r.row != nil {
		r.row(s, list)
	} else if status, answer := s.perform(r.share, list, s.callers["user"]); (status == http.StatusOK) != (possible || kind == "anyone" && permission == "write") {
		s.t.Errorf("%s shared with %s %s to %s: %d %s", r.name, kind, id, permission, status, answer)
	}
	for _, guest := range guests {
		granted := possible && slices.Contains(means, guest) && !slices.Contains(r.denied, guest)
		// strangers are let into what is open to anyone by its link only
		if kind == "anyone" && r.name != "chat" {
			granted = false
		}
		for what, call := range map[string]string{"read": r.read, "write": r.write} {
			if call == "" {
				continue
			}
			status, answer := s.perform(call, list, s.callers[guest])
			can := status == http.StatusOK && strings.Contains(answer.String(), r.text)
			if want := granted && (what == permission || what == "read" && r.writersRead); can != want {
				s.t.Errorf("%s shared with %s %s to %s: %s can %s: %v (%d %.120s)", r.name, kind, id, permission, guest, what, can, status, answer)
			}
		}
	}
}

func (s *server) perform(call, grants string, c caller) (int, jsondoc.Doc) {
	s.t.Helper()
	method, rest, _ := strings.Cut(call, " ")
	path, body, _ := strings.Cut(rest, " ")
	body = strings.ReplaceAll(body, "{grants}", grants)
	return s.send(method, s.fill(path, c, "user"), s.fill(body, c, "user"), c)
}

// TestOneFunction holds that no package but core/access says whom a grant means: none looks at principals in SQL.
func TestOneFunction(t *testing.T) {
	exempt := map[string]bool{
		"core/store/groups/write.go":    true, // a group that ends takes the grants to it along
		"core/store/check/relations.go": true, // grants to those who are gone
	}
	root := filepath.Join("..", "..", "..")
	for _, part := range []string{"core", "routes"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil || strings.HasPrefix(name, "core/access/") || exempt[name] {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), "principal_type =") || strings.Contains(string(text), "principal_id IN") {
				t.Errorf("%s looks at the principals of grants itself; core/access does it", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
