package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// measurement is one line of the table, or two where each request is sent twice.
type measurement struct {
	name     string
	limit    time.Duration // for the median; 0 for none
	passes   int
	users    []account
	requests func(u account) []request
}

// firstLoad is what the frontend asks for when it is opened, as far as it depends on the data.
var firstLoad = []request{
	get("/api/v1/auths/"), get("/api/config"), get("/api/v1/users/user/settings"), get("/api/v1/tools/"), get("/api/v1/chats/all/tags"), get("/api/v1/chats/?page=1"),
	get("/api/v1/chats/pinned"), get("/api/v1/folders/"), get("/api/v1/folders/shared"), get("/api/models"), get("/api/v1/functions/"), get("/api/v1/skills/"),
}

// terms are what is searched for, by how much is found.
var terms = []struct{ kind, text string }{
	{"common words", "server"},
	{"common words", languages[0].words[60]},
	{"words of middling use", languages[0].words[800]},
	{"words of middling use", languages[0].words[2500]},
	{"rare words", languages[0].words[12000]},
	{"rare words", languages[0].words[25000]},
	{"absent words", "qqzxjkv"},
	{"absent words", "wholly absent sentence qqzxj"},
	{"several words", "data server"},
	{"several words", languages[0].words[300] + " " + languages[0].words[900]},
	{"several words", "please " + languages[0].words[400] + " " + languages[0].words[1500] + " table"},
	{"other scripts", "größe"},
	{"other scripts", "СЕРВЕР"},
	{"other scripts", "数据"},
}

func someTerm(rng *rand.Rand) string { return terms[rng.IntN(len(terms))].text }

// cases are all measurements, in the order in which they are made.
func (s *server) cases(users []account) []measurement {
	rng := rand.New(rand.NewPCG(1, 9))
	var spread []account
	for _, i := range rng.Perm(len(users))[:min(s.spread, len(users))] {
		spread = append(spread, users[i])
	}
	heavy, tagged, admin := []account{users[heavyUser]}, []account{users[taggedUser]}, []account{users[adminUser]}
	one := func(paths ...string) func(account) []request {
		return func(account) (out []request) {
			for _, p := range paths {
				out = append(out, get(p))
			}
			return out
		}
	}
	times := func(n int, f func(account) []request) func(account) []request {
		return func(u account) (out []request) {
			for range n {
				out = append(out, f(u)...)
			}
			return out
		}
	}
	search := func(kind, path string) func(account) []request {
		return func(account) (out []request) {
			for _, t := range terms {
				if kind == "" || t.kind == kind {
					out = append(out, get(path+url.QueryEscape(t.text)))
				}
			}
			return out
		}
	}
	const text, everywhere = "/api/v1/chats/search?text=", "/api/v1/search?q="
	pages := one("/api/v1/chats/?page=1", "/api/v1/chats/?page=2", "/api/v1/chats/?page=10", "/api/v1/chats/?page=60")
	out := []measurement{
		{"chat list, page 1", maxList, 2, spread, one("/api/v1/chats/?page=1")},
		{"chat list, page 1, heaviest user", maxList, 2, heavy, times(20, one("/api/v1/chats/?page=1"))},
		{"chat list, pages 1 to 60, heaviest user", maxList, 2, heavy, pages},
		{"chat list, by title, heaviest user", maxList, 2, heavy, one("/api/v1/chats/?page=1&sort_by=title&sort_dir=asc", "/api/v1/chats/?page=20&sort_by=title&sort_dir=asc")},
		{"chat list, with folders and pinned, heaviest user", maxList, 2, heavy, one("/api/v1/chats/?page=1&include_folders=true&include_pinned=true", "/api/v1/chats/?page=50&include_folders=true&include_pinned=true")},
		{"pinned, archived, shared, counts", maxList, 2, append(spread[:len(spread):len(spread)], heavy...), one("/api/v1/chats/pinned", "/api/v1/chats/archived?page=1", "/api/v1/chats/archived/count", "/api/v1/chats/shared?page=1")},
		{"folders", maxList, 2, append(spread[:len(spread):len(spread)], heavy...), one("/api/v1/folders/", "/api/v1/folders/shared")},
		{"tags", maxList, 2, append(spread[:len(spread):len(spread)], tagged...), one("/api/v1/chats/all/tags")},
		{"folder of a hundredth of all chats", maxList, 2, heavy, s.folderRequests(users[heavyUser])},
		{"chats of a tag", 0, 2, append(heavy, tagged...), s.tagRequests},
		{"first load of the page, each request", maxList, 2, spread, func(account) []request { return firstLoad }},
		{"first load, heaviest user, each request", maxList, 2, heavy, func(account) []request { return firstLoad }},
	}
	for _, kind := range []string{"common words", "words of middling use", "rare words", "absent words", "several words", "other scripts"} {
		out = append(out, measurement{"search, " + kind, maxSearch, 2, spread, search(kind, text)})
	}
	out = append(out,
		measurement{"search, filters", maxSearch, 2, spread, s.filterRequests},
		measurement{"search everywhere", maxSearch, 2, spread, search("", everywhere)},
		measurement{"search, heaviest user", 0, 2, heavy, search("", text)},
		measurement{"search everywhere, heaviest user", 0, 2, heavy, search("", everywhere)},
		measurement{"search, page 2, heaviest user", 0, 2, heavy, one(text+"server&page=2", text+"server&page=20")},
		measurement{"opening a chat", maxSearch, 2, spread, s.chatRequests},
		measurement{"opening the longest chat", 0, 3, heavy, s.longRequests},
		measurement{"users, with search and pages", maxSearch, 3, admin, one("/api/v1/users/?page=1", "/api/v1/users/?page=30", "/api/v1/users/?page=1&query=user9", "/api/v1/users/?page=1&order_by=last_active_at&direction=asc",
			"/api/v1/users/all", "/api/v1/users/search?query=ba")},
		measurement{"groups", maxSearch, 3, admin, one("/api/v1/groups/")},
		measurement{"a user's chats, for the administrator", maxSearch, 3, admin, func(account) []request {
			return one("/api/v1/chats/list/user/"+users[heavyUser].id+"?page=1", "/api/v1/chats/list/user/"+users[heavyUser].id+"?page=40&query=the&order_by=title&direction=asc")(account{})
		}},
		measurement{"usage statistics", maxSearch, 2, append(heavy, admin...), one("/api/v1/chats/stats/usage?page=1", "/api/v1/chats/stats/export?page=1")},
		measurement{"export of all chats of a user", 0, 1, append(spread[:min(5, len(spread)):min(5, len(spread))], heavy...), one("/api/v1/chats/all")},
		measurement{"export of all chats of all users", 0, 1, admin, one("/api/v1/chats/all/db")},
	)
	return out
}

// ids reads rows of one column of the database.
func (s *server) ids(query string, args ...any) []string {
	db, err := s.database()
	if err != nil {
		return nil
	}
	defer db.Close()
	list, _ := storeStrings(db, query, args...)
	return list
}

func (s *server) folderRequests(u account) func(account) []request {
	return func(account) (out []request) {
		for _, id := range s.ids("SELECT folder_id FROM chat WHERE user_id = $1 AND folder_id IS NOT NULL GROUP BY folder_id ORDER BY COUNT(*) DESC LIMIT 1", u.id) {
			for _, p := range []string{"/api/v1/chats/folder/%s/list?page=1", "/api/v1/chats/folder/%s/list?page=90", "/api/v1/folders/%s", "/api/v1/folders/%s/shared/chats?page=1"} {
				out = append(out, get(fmt.Sprintf(p, id)))
			}
		}
		return out
	}
}

func (s *server) tagRequests(u account) (out []request) {
	for _, name := range s.ids("SELECT name FROM tag WHERE user_id = $1 ORDER BY name LIMIT 5", u.id) {
		out = append(out, request{http.MethodPost, "/api/v1/chats/tags", fmt.Sprintf(`{"name":%q}`, name)})
	}
	return out
}

func (s *server) filterRequests(u account) (out []request) {
	for _, id := range s.ids("SELECT id FROM tag WHERE user_id = $1 ORDER BY id LIMIT 1", u.id) {
		out = append(out, get("/api/v1/chats/search?text="+url.QueryEscape("tag:"+id)), get("/api/v1/chats/search?text="+url.QueryEscape("server tag:"+id)))
	}
	for _, name := range s.ids("SELECT name FROM folder WHERE user_id = $1 ORDER BY name LIMIT 1", u.id) {
		out = append(out, get("/api/v1/chats/search?text="+url.QueryEscape("folder:"+strings.ReplaceAll(name, " ", "_")+" the")))
	}
	return append(out, get("/api/v1/chats/search?text="+url.QueryEscape("pinned:true")), get("/api/v1/chats/search?text="+url.QueryEscape("archived:true data")))
}

func (s *server) chatRequests(u account) (out []request) {
	for _, id := range s.ids("SELECT id FROM chat WHERE user_id = $1 ORDER BY id LIMIT 2", u.id) {
		out = append(out, get("/api/v1/chats/"+id), get("/api/v1/chats/"+id+"/tags"))
	}
	return out
}

func (s *server) longRequests(u account) (out []request) {
	for _, id := range s.ids("SELECT chat_id FROM chat_message WHERE user_id = $1 GROUP BY chat_id ORDER BY COUNT(*) DESC LIMIT 1", u.id) {
		out = append(out, get("/api/v1/chats/"+id))
	}
	return out
}
