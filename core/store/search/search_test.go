package search_test

import (
	"context"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/search"
	"github.com/galleychat/galley/core/store/storetest"
)

var ctx = context.Background()

// world is two users' chats, folders, notes and a channel.
type world struct {
	t *testing.T
	*search.Store
	db    *store.DB
	chats *chats.Store
	at    int64
}

func newWorld(t *testing.T, db *store.DB) *world {
	c := chats.New(db)
	return &world{t: t, Store: search.New(db, c), db: db, chats: c, at: 1700000000}
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(ctx, text, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) user(id string) {
	w.exec(`INSERT INTO "user" (id, email, role, name, profile_image_url, last_active_at, updated_at, created_at) VALUES ($1, $2, 'user', $3, '', 0, 0, 0)`, id, id+"@x", strings.ToUpper(id))
}

func (w *world) grant(kind, id, principal string) {
	w.exec("INSERT INTO access_grant (id, resource_type, resource_id, principal_type, principal_id, permission, created_at) VALUES ($1, $2, $3, 'user', $4, 'read', 0)",
		store.NewID(), kind, id, principal)
}

func (w *world) folder(id, owner string, parent any) {
	w.exec("INSERT INTO folder (id, parent_id, user_id, name, is_expanded, created_at, updated_at) VALUES ($1, $2, $3, $4, FALSE, 0, 0)", id, parent, owner, strings.ToUpper(id))
}

func (w *world) chat(owner, title, folder string, texts ...string) *chats.Chat {
	w.t.Helper()
	w.at--
	var b jsondoc.Builder
	for i, s := range texts {
		b.Raw(string(rune('a'+i)), jsondoc.Of(map[string]any{"id": string(rune('a' + i)), "role": "user", "content": s}))
	}
	n := chats.NewChat{UserID: owner, UpdatedAt: w.at, Doc: jsondoc.Of(map[string]any{"title": title, "history": map[string]any{"messages": b.Done()}})}
	if folder != "" {
		n.FolderID = &folder
	}
	c, err := w.chats.Insert(ctx, n)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) find(q search.Query) *search.Results {
	w.t.Helper()
	if q.Kind == "" {
		q.Kind = "all"
	}
	if q.Page == 0 {
		q.Page = 1
	}
	if q.Kinds == nil {
		q.Kinds = []string{"chat", "message", "note"}
	}
	out, err := w.Search(ctx, q)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func titles(r *search.Results) string {
	var out []string
	for _, i := range r.Items {
		out = append(out, i.Title)
	}
	return strings.Join(out, ",")
}

func TestSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.user("una")
		w.user("bob")
		w.folder("maps", "bob", nil)
		w.folder("deep", "bob", "maps")
		w.grant("folder", "maps", "una")
		w.chat("una", "Rivers", "", "The Rhine 100%", "and the Rhone")
		w.chat("una", "Rhine", "", "nothing")
		w.chat("una", "Flüsse", "", "GRÖSSE der Donau")
		w.chat("bob", "Shared map", "deep", "the Rhine on paper")
		w.chat("bob", "Private", "", "the Rhine at home")
		copied := w.chat("bob", "Copied", "", "Rhine falls")
		if _, _, err := w.chats.Share(ctx, copied.ID, nil); err != nil {
			t.Fatal(err)
		}
		w.grant("shared_chat", copied.ID, "una")
		w.exec(`INSERT INTO note (id, user_id, title, data, created_at, updated_at) VALUES ('n1', 'una', 'Trip', '{"content":{"md":"Along the rhine"}}', 0, 1600000000000000000),
			('n2', 'bob', 'Secret', '{"content":{"md":"rhine"}}', 0, 0)`)
		w.exec(`INSERT INTO channel (id, user_id, name, type, created_at, updated_at) VALUES ('c1', 'bob', 'water', NULL, 0, 0), ('c2', 'bob', '', 'dm', 0, 0), ('c3', 'bob', 'closed', NULL, 0, 0)`)
		w.grant("channel", "c1", "*")
		w.exec(`INSERT INTO channel_member (id, channel_id, user_id, is_active, status, created_at, updated_at, is_channel_muted, is_channel_pinned, joined_at) VALUES ('m1', 'c2', 'una', TRUE, 'joined', 0, 0, FALSE, FALSE, 0), ('m2', 'c2', 'bob', TRUE, 'joined', 0, 0, FALSE, FALSE, 0)`)
		w.exec(`INSERT INTO message (id, user_id, channel_id, content, created_at, updated_at, is_pinned) VALUES ('x1', 'bob', 'c1', 'RHINE is up', 0, 1650000000000000000, FALSE), ('x2', 'bob', 'c2', 'see the Rhine', 0, 1640000000000000000, FALSE), ('x3', 'bob', 'c3', 'Rhine', 0, 0, FALSE)`)
		for name, tc := range map[string]struct {
			q    search.Query
			want string
		}{
			"everything":      {search.Query{Text: "rhine"}, "Rhine,Copied,Rivers,Shared map,BOB,BOB,Trip"},
			"umlauts":         {search.Query{Text: "FLÜSSE grösse donau"}, "Flüsse"},
			"all words":       {search.Query{Text: "rhine rhone"}, "Rivers"},
			"literal percent": {search.Query{Text: "100%"}, "Rivers"},
			"no wildcard":     {search.Query{Text: "r%ne"}, ""},
			"mine":            {search.Query{Text: "rhine", Sharing: "mine"}, "Rhine,Rivers,Trip"},
			"others'":         {search.Query{Text: "rhine", Sharing: "shared"}, "Copied,Shared map,BOB,BOB"},
			"chats":           {search.Query{Text: "rhine", Kind: "chat"}, "Rhine,Copied,Rivers,Shared map"},
			"notes":           {search.Query{Text: "rhine", Kind: "note"}, "Trip"},
			"in a folder":     {search.Query{Text: "rhine", Scope: "folder:maps"}, "Shared map"},
			"in a channel":    {search.Query{Text: "rhine", Scope: "channel:c1"}, "BOB"},
			"unknown scope":   {search.Query{Text: "rhine", Scope: "channel:c3"}, ""},
			"not allowed":     {search.Query{Text: "rhine", Kinds: []string{"chat"}, Kind: "note"}, ""},
			"second page":     {search.Query{Text: "rhine", Page: 2}, ""},
		} {
			tc.q.UserID, tc.q.UserName = "una", "UNA"
			got := w.find(tc.q)
			// the copy was made just now, so it is the newest of its rank
			if titles(got) != tc.want {
				t.Errorf("%s: %s, want %s", name, titles(got), tc.want)
			}
		}
		got := w.find(search.Query{UserID: "una", UserName: "UNA", Text: "rhine"})
		for i, want := range map[int]search.Result{
			1: {ID: got.Items[1].ID, Kind: "chat", Title: "Copied", Context: "Shared snapshot", Snippet: "Rhine falls", Preview: "Rhine falls", URL: strings.Replace(got.Items[1].ID, "shared:", "/s/", 1) + "?message=a", UpdatedAt: got.Items[1].UpdatedAt, Shared: true},
			3: {ID: got.Items[3].ID, Kind: "chat", Title: "Shared map", Context: "DEEP", Snippet: "the Rhine on paper", Preview: "the Rhine on paper", URL: strings.Replace(got.Items[3].ID, "chat:", "/c/", 1) + "?message=a", UpdatedAt: got.Items[3].UpdatedAt, Shared: true},
			4: {ID: "message:x1", Kind: "message", Title: "BOB", Context: "#water", Snippet: "RHINE is up", Preview: "RHINE is up", URL: "/channels/c1?thread=x1&message=x1", UpdatedAt: 1650000000, Shared: true},
			5: {ID: "message:x2", Kind: "message", Title: "BOB", Context: "BOB", Snippet: "see the Rhine", Preview: "see the Rhine", URL: "/channels/c2?thread=x2&message=x2", UpdatedAt: 1640000000, Shared: true},
			6: {ID: "note:n1", Kind: "note", Title: "Trip", Context: "Personal note", Snippet: "Along the rhine", Preview: "Along the rhine", URL: "/notes/n1?search=rhine", UpdatedAt: 1600000000},
		} {
			if got.Items[i] != want {
				t.Errorf("item %d\n%+v, want\n%+v", i, got.Items[i], want)
			}
		}
		var scopes []string
		for _, s := range got.Scopes {
			scopes = append(scopes, s.ID+"="+s.Name)
		}
		if s := strings.Join(scopes, " "); s != "channel:c2=BOB channel:c1=water folder:deep=DEEP folder:maps=MAPS" {
			t.Errorf("scopes %s", s)
		}
	})
}

func TestPages(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for range 30 {
		w.chat("una", "Same", "", "text")
	}
	first, second := w.find(search.Query{UserID: "una"}), w.find(search.Query{UserID: "una", Page: 2})
	if len(first.Items) != 24 || !first.HasMore || len(second.Items) != 6 || second.HasMore {
		t.Errorf("%d %v, then %d %v", len(first.Items), first.HasMore, len(second.Items), second.HasMore)
	}
}

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("é", 300) + "needle" + strings.Repeat("z", 300)
	if got := search.Excerpt(long, []string{"needle"}, 200); got != "…"+strings.Repeat("é", 50)+"needle"+strings.Repeat("z", 144)+"…" {
		t.Errorf("%q", got)
	}
	if got := search.Excerpt(" short ", []string{"x"}, 200); got != "short" {
		t.Errorf("%q", got)
	}
}
