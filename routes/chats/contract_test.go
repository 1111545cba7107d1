package chats_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/realtime"
	chatstore "github.com/galleychat/galley/core/store/chats"
	folderstore "github.com/galleychat/galley/core/store/folders"
	searchstore "github.com/galleychat/galley/core/store/search"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/routes/auths"
	"github.com/galleychat/galley/routes/chats"
	"github.com/galleychat/galley/routes/folders"
	"github.com/galleychat/galley/routes/groups"
	"github.com/galleychat/galley/routes/search"
	"github.com/galleychat/galley/routes/users"
)

// echo is a model that repeats what it is told, as the contract's stand-in does.
type echo struct{}

func (echo) Complete(_ context.Context, _ *auth.Principal, body jsondoc.Doc) (jsondoc.Doc, error) {
	return jsondoc.Of(map[string]any{"choices": []any{map[string]any{"message": map[string]string{"content": "You said: " + body.Text("messages", "0", "content")}}}}), nil
}

func (echo) Known(_ context.Context, _ *auth.Principal, id string) (jsondoc.Doc, bool) {
	return nil, id == "echo-small"
}

// TestContract replays the recorded scenarios that need nothing but accounts, chats, folders and search.
// GALLEY_CONTRACT is the contract's folder, GALLEY_PYTHON a Python with its packages, GALLEY_SCENARIOS a pattern.
func TestContract(t *testing.T) {
	dir := os.Getenv("GALLEY_CONTRACT")
	if dir == "" {
		t.Skip("GALLEY_CONTRACT is not set")
	}
	python := os.Getenv("GALLEY_PYTHON")
	if python == "" {
		python = "python3"
	}
	patterns := []string{"chats-*", "search-*"}
	if p := os.Getenv("GALLEY_SCENARIOS"); p != "" {
		patterns = []string{p}
	}
	s := sessiontest.New(t, storetest.SQLite(t))
	store, folderStore := chatstore.New(s.DB), folderstore.New(s.DB)
	rules := folderstore.NewAccess(folderStore, s.Access)
	sockets := realtime.New(realtime.Options{Logger: s.Log, Authenticate: func(ctx context.Context, token string) (realtime.User, bool) {
		p, err := s.Sessions.ByToken(ctx, token)
		if err != nil {
			return realtime.User{}, false
		}
		return realtime.User{ID: p.ID, Name: p.Name, Role: p.Role}, true
	}})
	s.Router.Handle("/ws/socket.io/", sockets)
	chatRules := chatstore.NewAccess(store, s.Access, rules, true)
	for prefix, m := range map[string]web.Module{
		"auths":   auths.New(auths.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, OAuth: s.OAuth, Log: s.Log}),
		"users":   users.New(users.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Sessions: s.Sessions, OAuth: s.OAuth}),
		"groups":  groups.New(groups.Deps{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env}),
		"folders": folders.New(folders.Deps{Folders: folderStore, Access: s.Access, Chats: store, Users: s.Users, Settings: s.Settings}),
		"chats": chats.New(chats.Deps{Store: store, Access: chatRules, Grants: s.Access, Folders: folderStore, FolderRules: rules, Users: s.Users, Settings: s.Settings,
			AdminExport: true, Realtime: sockets, Completer: echo{}}),
		"search": search.New(search.Deps{Store: searchstore.New(s.DB, store), Grants: s.Access, Settings: s.Settings}),
	} {
		s.Router.Mount("/api/v1/"+prefix, m)
	}
	s.Router.Finish()
	server := httptest.NewServer(s.Router)
	t.Cleanup(server.Close)
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
		t.Error(err)
	}
}
