package search_test

import (
	"context"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	searchstore "github.com/galleychat/galley/core/store/search"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/routes/search"
)

func TestKindsFollowPermissions(t *testing.T) {
	s := sessiontest.New(t, storetest.SQLite(t))
	store := chats.New(s.DB)
	s.Router.Mount("/api/v1/search", search.New(search.Deps{Store: searchstore.New(s.DB, store), Grants: s.Access, Settings: s.Settings}))
	s.Router.Finish()
	una, member := s.User("Una", "user")
	_, admin := s.User("Ada", "admin")
	if _, err := store.Insert(context.Background(), chats.NewChat{UserID: una.ID, Doc: jsondoc.Doc(`{"title":"Rivers"}`)}); err != nil {
		t.Fatal(err)
	}
	kinds := func(token string) string {
		a := s.Call(token, "GET /api/v1/search?q=rivers", "")
		if a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		if n := a.Doc().Get("items").Len(); (n == 1) != (token == member) {
			t.Errorf("%d items", n)
		}
		return strings.Join(a.Doc().Get("kinds").Texts(), " ")
	}
	s.Set("channels.enable", true, "notes.enable", true, "user.permissions", map[string]any{"features": map[string]bool{"channels": true, "notes": false}})
	if got := kinds(member); got != "chat message" {
		t.Errorf("member: %s", got)
	}
	if got := kinds(admin); got != "chat message note" {
		t.Errorf("administrator: %s", got)
	}
	s.Set("channels.enable", false)
	if got := kinds(admin); got != "chat note" {
		t.Errorf("without channels: %s", got)
	}
	for _, query := range []string{"kind=folder", "page=0", "page=100001", "sharing=x", "q=" + strings.Repeat("x", 501), "scope=" + strings.Repeat("x", 201)} {
		if a := s.Call(member, "GET /api/v1/search?"+query, ""); a.Code != 422 {
			t.Errorf("%.20s: %d", query, a.Code)
		}
	}
	if a := s.Call("", "GET /api/v1/search", ""); a.Code != 401 {
		t.Errorf("stranger: %d", a.Code)
	}
}
