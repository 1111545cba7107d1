package builtin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/memory"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/vector"
	"github.com/galleychat/galley/core/web"
)

// mute is an Embedder without an engine.
type mute struct{}

func (mute) Model() string { return "" }

func (mute) Embed(context.Context, embed.Use, []string, *llm.Caller) ([][]float32, error) {
	return nil, embed.ErrNone
}

// bench has all groups over a database, and two users.
type bench struct {
	*Registry
	t        *testing.T
	settings *config.Settings
	chats    *chats.Store
	ann, bob *auth.Principal
	events   []string
	answer   func(kind string, data jsondoc.Doc) (jsondoc.Doc, error)
}

func newBench(t *testing.T, db *store.DB) *bench {
	t.Helper()
	ctx := context.Background()
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(ctx, db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	accounts, grants := users.New(db), access.New(db, settings)
	b := &bench{Registry: NewRegistry(grants, settings), t: t, settings: settings, chats: chats.New(db)}
	for name, to := range map[string]**auth.Principal{"ann": &b.ann, "bob": &b.bob} {
		u, err := accounts.Insert(ctx, users.NewUser{Email: name + "@contract.test", Name: name, Role: "user"})
		if err != nil {
			t.Fatal(err)
		}
		*to = &auth.Principal{User: u}
	}
	kept := memory.New(memory.Deps{Store: memories.New(db), Users: accounts, Access: grants, Settings: settings, Embedder: mute{}, Vectors: vector.New(db), Log: slog.New(slog.DiscardHandler)})
	now := func() time.Time { return time.Date(2026, 3, 31, 12, 30, 15, 123456789, time.UTC) }
	b.Add(Tasks(b.chats), Memories(kept), Chats(b.chats, folders.New(db)), Ask(), Time(now)) // in another order than they are offered
	return b
}

// call runs a tool and gives what the model is told.
func (b *bench) call(p *auth.Principal, chatID, name, arguments string) string {
	b.t.Helper()
	for _, g := range b.groups {
		for _, tool := range g.Tools {
			if tool.Name != name {
				continue
			}
			res, err := tool.Call(context.Background(), turn.ToolCall{
				Name: name, Arguments: jsondoc.Doc(arguments), Principal: p, ChatID: chatID, MessageID: "m1", ModelID: "model", SessionID: "s1",
				Emit: func(kind string, data jsondoc.Doc) { b.events = append(b.events, kind+" "+string(data)) },
				Ask: func(_ context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
					return b.answer(kind, data)
				},
			})
			if err != nil {
				return "failed: " + err.Error()
			}
			text, ok := res.Content.AsText()
			if !ok {
				b.t.Errorf("%s gives %s", name, res.Content)
			}
			return text
		}
	}
	b.t.Fatalf("no tool %s", name)
	return ""
}

func TestOffer(t *testing.T) {
	b := newBench(t, storetest.SQLite(t))
	const always = "get_current_timestamp calculate_timestamp ask_user search_chats view_chat"
	const ofMemory = "search_memories list_memory_paths read_memory_path list_memories update_memory add_memory replace_memory_content delete_memory"
	for name, c := range map[string]struct {
		meta, features string
		temporary      bool
		want           string
	}{
		"in a saved chat":        {"{}", "{}", false, always + " create_tasks update_task"},
		"in another":             {"{}", "{}", true, always},
		"with memories":          {"{}", `{"memory":true}`, true, always + " " + ofMemory},
		"model without memories": {`{"capabilities":{"memory":false}}`, `{"memory":true}`, true, always},
		"groups switched off":    {`{"builtinTools":{"time":false,"chats":false,"memory":false}}`, `{"memory":true}`, true, "ask_user"},
	} {
		if got := b.names(c.meta, c.features, !c.temporary); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, c := range []config.Changes{{"memories.enable": false}, {"memories.enable": true, "user.permissions": map[string]any{"features": map[string]any{"memories": false}}}} {
		if err := b.settings.Set(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		if got := b.names("{}", `{"memory":true}`, false); got != always {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func (b *bench) names(meta, features string, saved bool) string {
	b.t.Helper()
	tools, err := b.Tools(context.Background(), turn.Offer{Principal: b.ann, Model: &models.Model{Row: &models.Row{Meta: jsondoc.Doc(meta)}}, Features: jsondoc.Doc(features), Saved: saved})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, tool := range tools {
		out = append(out, tool.Name)
		if !tool.Builtin || tool.Spec.Text("function", "name") != tool.Name || tool.Spec.Text("function", "description") == "" || tool.Spec.Get("function", "parameters").Kind() != '{' {
			b.t.Errorf("%s: %s", tool.Name, tool.Spec)
		}
	}
	return strings.Join(out, " ")
}

// TestParameters holds the names and types of arguments to those of the reference, which models and people know.
func TestParameters(t *testing.T) {
	b := newBench(t, storetest.SQLite(t))
	want := map[string]string{
		"get_current_timestamp":  "",
		"calculate_timestamp":    "days_ago:integer=0 weeks_ago:integer=0 months_ago:integer=0 years_ago:integer=0",
		"ask_user":               "questions:array! allow_other:boolean=true timeout_ms:integer=120000",
		"search_chats":           "query:string! count:integer=5 start_timestamp:integer end_timestamp:integer",
		"view_chat":              "chat_id:string!",
		"search_memories":        `query:string="" count:integer=5 type:string="all" path:string memory_id:string`,
		"list_memory_paths":      `query:string="" count:integer=100 type:string="all"`,
		"read_memory_path":       `path:string! count:integer=50 type:string="all" include_children:boolean=true`,
		"list_memories":          "",
		"update_memory":          "operations:array!",
		"add_memory":             `content:string! type:string="user" path:string`,
		"replace_memory_content": "memory_id:string! content:string! type:string path:string",
		"delete_memory":          "memory_id:string!",
		"create_tasks":           "tasks:array!",
		"update_task":            `id:string! status:string="completed"`,
	}
	seen := 0
	for _, g := range b.groups {
		for _, tool := range g.Tools {
			var got []string
			required := tool.Parameters.Get("required").Texts()
			tool.Parameters.Get("properties").Each(func(name string, p jsondoc.Doc) bool {
				s := name + ":" + p.Text("type")
				if d := p.Get("default"); d != nil {
					s += "=" + string(d)
				}
				if slices.Contains(required, name) {
					s += "!"
				}
				got = append(got, s)
				return true
			})
			if w, ok := want[tool.Name]; !ok || strings.Join(got, " ") != w || tool.Parameters.Text("type") != "object" {
				t.Errorf("%s: %s", tool.Name, strings.Join(got, " "))
			}
			seen++
		}
	}
	if seen != len(want) {
		t.Errorf("%d tools, want %d", seen, len(want))
	}
}

func TestArguments(t *testing.T) {
	type part struct {
		Name string `json:"name"`
		N    int    `json:"n" default:"7"`
	}
	type in struct {
		Text  string        `json:"text" about:"a text"`
		Count int           `json:"count" default:"3"`
		On    bool          `json:"on" default:"true"`
		Maybe *string       `json:"maybe"`
		Num   *int          `json:"num"`
		Any   jsondoc.Doc   `json:"any" default:"{}"`
		List  []jsondoc.Doc `json:"list" default:"[]"`
		Parts []part        `json:"parts" default:"[]"`
		Kind  string        `json:"kind" default:"a" enum:"a,b"`
	}
	var got in
	tool := New("t", "Does.", func(_ context.Context, _ turn.ToolCall, v in) (any, error) {
		got = v
		switch v.Text {
		case "web":
			return nil, web.Fail(404, "gone")
		case "err":
			return nil, errors.New("no")
		case "plain":
			return "as it is", nil
		}
		return map[string]int{"n": v.Count}, nil
	})
	if want := `{"properties":{"text":{"description":"a text","type":"string"},"count":{"default":3,"type":"integer"},"on":{"default":true,"type":"boolean"},"maybe":{"type":"string"},` +
		`"num":{"type":"integer"},"any":{"default":{},"additionalProperties":true,"type":"object"},"list":{"default":[],"items":{"additionalProperties":true,"type":"object"},"type":"array"},` +
		`"parts":{"default":[],"items":{"properties":{"name":{"type":"string"},"n":{"default":7,"type":"integer"}},"required":["name"],"type":"object"},"type":"array"},` +
		`"kind":{"default":"a","enum":["a","b"],"type":"string"}},"required":["text"],"type":"object"}`; string(tool.Parameters) != want {
		t.Errorf("%s", tool.Parameters)
	}
	for arguments, want := range map[string]string{
		`{"text":"x"}`:                              `{"n":3}`,
		`{"text":"x","count":"12"}`:                 `{"n":12}`,
		`{"text":"x","count":4.0}`:                  `{"n":4}`,
		`{"text":"x","count":null}`:                 `{"n":3}`,
		`{"text":5}`:                                `{"n":3}`,
		`{"text":"web"}`:                            `{"error":"404: gone"}`,
		`{"text":"err"}`:                            `{"error":"no"}`,
		`{"text":"plain"}`:                          `as it is`,
		`{}`:                                        `t() missing 1 required positional argument: 'text'`,
		`{"text":null}`:                             `t() missing 1 required positional argument: 'text'`,
		`{"text":"x","count":1.5}`:                  `the argument count must be a whole number`,
		`{"text":"x","count":"many"}`:               `the argument count must be a whole number`,
		`{"text":[]}`:                               `the argument text must be a string`,
		`{"text":"x","any":[]}`:                     `the argument any must be an object`,
		`{"text":"x","list":{}}`:                    `the argument list must be a list`,
		`{"text":"x","parts":[1]}`:                  `the elements of parts must be objects`,
		`{"text":"x","parts":[{}]}`:                 `parts() missing 1 required positional argument: 'name'`,
		`{"text":"x","list":"[{\"a\":1}]","num":1}`: `{"n":3}`,
	} {
		res, err := tool.Call(context.Background(), turn.ToolCall{Arguments: jsondoc.Doc(arguments)})
		text, _ := res.Content.AsText()
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%s: %s", arguments, text)
		}
	}
	if _, err := tool.Call(context.Background(), turn.ToolCall{Arguments: jsondoc.Doc(`{"text":"x","on":"False","maybe":"m","num":2,"parts":[{"name":"p"}],"list":[{"a":1}],"any":{"b":2},"kind":"c"}`)}); err != nil ||
		got.On || *got.Maybe != "m" || *got.Num != 2 || got.Parts[0] != (part{"p", 7}) || string(got.List[0]) != `{"a":1}` || string(got.Any) != `{"b":2}` || got.Kind != "c" {
		t.Errorf("%+v %v", got, err)
	}
	if text := missingError("f", []string{"'a'", "'b'", "'c'"}).Error(); text != "f() missing 3 required positional arguments: 'a', 'b', and 'c'" {
		t.Error(text)
	}
}

func TestTime(t *testing.T) {
	b := newBench(t, storetest.SQLite(t))
	for arguments, want := range map[string]string{
		`{}`:                               `"calculated_timestamp":1774960215,"calculated_iso":"2026-03-31T12:30:15.123456+00:00"}`,
		`{"days_ago":1,"weeks_ago":2}`:     `"calculated_iso":"2026-03-16T12:30:15.123456+00:00"}`,
		`{"months_ago":1}`:                 `"calculated_iso":"2026-02-28T12:30:15.123456+00:00"}`,
		`{"years_ago":2,"months_ago":1}`:   `"calculated_iso":"2024-02-29T12:30:15.123456+00:00"}`,
		`{"days_ago":-1}`:                  `"calculated_iso":"2026-04-01T12:30:15.123456+00:00"}`,
		`{"days_ago":31,"months_ago":"1"}`: `"calculated_iso":"2026-01-28T12:30:15.123456+00:00"}`,
	} {
		if got := b.call(b.ann, "", "calculate_timestamp", arguments); !strings.HasPrefix(got, `{"current_timestamp":1774960215,"current_iso":"2026-03-31T12:30:15.123456+00:00",`) || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", arguments, got)
		}
	}
	zone, odd := "Europe/Berlin", "Middle/Earth"
	there := &auth.Principal{User: &users.User{Timezone: &zone}}
	if got := b.call(there, "", "get_current_timestamp", `{}`); got != `{"current_timestamp":1774960215,"current_iso":"2026-03-31T12:30:15.123456+00:00","user_local_iso":"2026-03-31T14:30:15.123456+02:00","user_timezone":"Europe/Berlin"}` {
		t.Error(got)
	}
	if got := b.call(there, "", "calculate_timestamp", `{"days_ago":3}`); !strings.HasSuffix(got, `"calculated_local_iso":"2026-03-28T13:30:15.123456+01:00","user_timezone":"Europe/Berlin"}`) {
		t.Error(got)
	}
	if got := b.call(&auth.Principal{User: &users.User{Timezone: &odd}}, "", "get_current_timestamp", `{}`); strings.Contains(got, "zone") {
		t.Error(got)
	}
}

// chat makes a chat of a user with messages that follow each other.
func (b *bench) chat(p *auth.Principal, title string, said ...string) string {
	b.t.Helper()
	all := &jsondoc.Obj{}
	parent := jsondoc.Doc("null")
	for i, text := range said {
		id := string(rune('a' + i))
		role := []string{"user", "assistant"}[i%2]
		all.Set(id, jsondoc.Of(map[string]any{"id": id, "role": role, "content": text, "parentId": parent}))
		parent = jsondoc.Text(id)
	}
	doc := jsondoc.Object("title", jsondoc.Text(title)).Set(jsondoc.Object("messages", all.Doc()).Set(parent, "currentId"), "history")
	c, err := b.chats.Insert(context.Background(), chats.NewChat{UserID: p.ID, Doc: doc})
	if err != nil {
		b.t.Fatal(err)
	}
	return c.ID
}

func TestChats(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		b := newBench(t, db)
		soup := b.chat(b.ann, "Dinner", strings.Repeat("é", 60)+" pumpkin SOUP "+strings.Repeat("x", 200), "Slowly.")
		title := b.chat(b.ann, "Soup of the day", "hello")
		here := b.chat(b.ann, "Here", "soup soup soup")
		of := b.chat(b.bob, "Bob's soup", "soup")
		b.chat(b.ann, "Unrelated", "bread")
		ids := func(text string) string {
			var out []string
			jsondoc.Doc(text).Items(func(_ int, v jsondoc.Doc) bool { out = append(out, v.Text("id")); return true })
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		both := []string{soup, title}
		slices.Sort(both)
		for arguments, want := range map[string]string{
			`{"query":"soup"}`: strings.Join(both, " "), `{"query":"SOUP pumpkin"}`: soup, `{"query":"zebra"}`: "", `{"query":"soup","count":0}`: "", `{"query":"soup","count":-1}`: "",
			`{"query":"soup","start_timestamp":4000000000}`: "", `{"query":"soup","end_timestamp":5}`: "", `{"query":"soup","start_timestamp":0}`: strings.Join(both, " "),
		} {
			if got := ids(b.call(b.ann, here, "search_chats", arguments)); got != want {
				t.Errorf("%s: %s", arguments, got)
			}
		}
		for query, want := range map[string]string{
			"pumpkin soup": "..." + strings.Repeat("é", 49) + " pumpkin SOUP " + strings.Repeat("x", 99) + "...",
			"dinner":       "Title match: Dinner", "slowly": "Slowly.", "": "",
		} {
			got := jsondoc.Doc(b.call(b.ann, here, "search_chats", string(jsondoc.Object("query", jsondoc.Text(query)))))
			found := false
			got.Items(func(_ int, v jsondoc.Doc) bool {
				found = found || v.Text("id") == soup && v.Text("snippet") == want
				return true
			})
			if !found {
				t.Errorf("%s: %s", query, got)
			}
		}
		if got := jsondoc.Doc(b.call(b.ann, here, "view_chat", `{"chat_id":"`+soup+`"}`)); got.Text("title") != "Dinner" || got.Get("messages").Len() != 2 ||
			got.Text("messages", "0", "role") != "user" || string(got.Get("messages", "1")) != `{"role":"assistant","content":"Slowly."}` {
			t.Errorf("%s", got)
		}
		for _, id := range []string{of, "nope"} {
			if got := b.call(b.ann, here, "view_chat", `{"chat_id":"`+id+`"}`); got != `{"error":"Chat not found or access denied"}` {
				t.Errorf("%s: %s", id, got)
			}
		}
	})
}

func TestTasks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		b := newBench(t, db)
		id := b.chat(b.ann, "Work", "go")
		for _, c := range []struct{ tool, arguments, want string }{
			{"update_task", `{"id":"1"}`, `{"error":"Task with id \"1\" not found"}`},
			{"create_tasks", `{"tasks":[{"content":"one"},{"content":" two ","status":"IN_PROGRESS","id":"x"},{"content":" "},{"content":"four","status":"odd"}]}`,
				`{"tasks":[{"id":"1","content":"one","status":"pending"},{"id":"x","content":"two","status":"in_progress"},{"id":"4","content":"four","status":"pending"}],` +
					`"summary":{"total":3,"pending":2,"in_progress":1,"completed":0,"cancelled":0}}`},
			{"update_task", `{"id":"x","status":"no"}`, `{"error":"Invalid status: no. Must be one of: cancelled, completed, in_progress, pending"}`},
			{"update_task", `{"id":"4","status":" Cancelled"}`, `{"tasks":[{"id":"1","content":"one","status":"pending"},{"id":"x","content":"two","status":"in_progress"},{"id":"4","content":"four","status":"cancelled"}],` +
				`"summary":{"total":3,"pending":1,"in_progress":1,"completed":0,"cancelled":1}}`},
			{"create_tasks", `{"tasks":[]}`, `{"tasks":[],"summary":{"total":0,"pending":0,"in_progress":0,"completed":0,"cancelled":0}}`},
		} {
			if got := b.call(b.ann, id, c.tool, c.arguments); got != c.want {
				t.Errorf("%s %s: %s", c.tool, c.arguments, got)
			}
		}
		if len(b.events) != 3 || !strings.HasPrefix(b.events[0], `chat:message:tasks {"tasks":[{"id":"1"`) {
			t.Errorf("%v", b.events)
		}
		if kept, err := b.chats.Tasks(context.Background(), id); err != nil || string(kept) != "[]" {
			t.Errorf("%s %v", kept, err)
		}
	})
}

func TestMemories(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		b := newBench(t, db)
		add := func(p *auth.Principal, arguments string) string {
			t.Helper()
			d := jsondoc.Doc(b.call(p, "c1", "add_memory", arguments))
			if d.Text("status") != "success" {
				t.Fatalf("%s", d)
			}
			return d.Text("id")
		}
		tea := add(b.ann, `{"content":" Likes tea ","path":"/food//drinks"}`)
		add(b.ann, `{"content":"Owns a boat","type":"whatever"}`)
		others := add(b.bob, `{"content":"Bob's"}`)
		day := time.Now().Format("2006-01-02")
		for _, c := range []struct{ tool, arguments, want string }{ // what is in the answer
			{"add_memory", `{"content":" "}`, `{"error":"400: Memory content cannot be empty"}`},
			{"list_memories", `{}`, `[{"id":"` + tea + `","type":"user","path":"food/drinks","content":"Likes tea","created_at":"` + day},
			{"list_memories", `{}`, `"type":"context","path":null,"content":"Owns a boat"`},
			{"search_memories", `{"query":"TEA"}`, `[{"id":"` + tea + `","type":"user","path":"food/drinks","content":"Likes tea","created_at":"` + day + `","updated_at":"` + day + `"}]`},
			{"search_memories", `{"memory_id":"` + others + `"}`, `[]`},
			{"search_memories", `{"path":"../x"}`, `{"error":"400: Invalid memory path"}`},
			{"search_memories", `{"type":"context"}`, `Owns a boat`},
			{"list_memory_paths", `{"type":"user"}`, `{"paths":[{"path":"food/drinks","type":"user","count":1,`},
			{"read_memory_path", `{"path":"food"}`, `"content":"Likes tea"`},
			{"read_memory_path", `{"path":"food","include_children":false}`, `"memories":[]`},
			{"read_memory_path", `{"path":"/"}`, `{"error":"400: Memory path is required"}`},
			{"update_memory", `{"operations":[{"action":"add","content":"New"},{"action":"remove","id":"` + others + `"}]}`, `{"error":"404: Memory not found: ` + others + `"}`},
			{"update_memory", `{"operations":[{"action":"explode"}]}`, `{"error":"operation 1: the action must be add, replace, move or remove"}`},
			{"update_memory", `{"operations":[]}`, `{"error":"400: No memory operations provided"}`},
			{"update_memory", `{"operations":[{"action":"move","id":"` + tea + `","path":"drinks"}]}`, `[{"action":"move","status":"updated","memory":{"id":"` + tea},
			{"list_memories", `{}`, `"path":"drinks"`},
			{"replace_memory_content", `{"memory_id":"` + tea + `","content":"Likes cocoa"}`, `{"status":"success","id":"` + tea + `","type":"user","path":"drinks","content":"Likes cocoa"}`},
			{"replace_memory_content", `{"memory_id":"` + others + `","content":"stolen"}`, `{"error":"404: We could not find what you're looking for :/"}`},
			{"delete_memory", `{"memory_id":"` + others + `"}`, `{"error":"Memory not found or access denied"}`},
			{"delete_memory", `{"memory_id":"` + tea + `"}`, `{"status":"success","message":"Memory ` + tea + ` deleted"}`},
		} {
			if got := b.call(b.ann, "c1", c.tool, c.arguments); !strings.Contains(got, c.want) {
				t.Errorf("%s %s: %s", c.tool, c.arguments, got)
			}
		}
		if got := b.call(b.bob, "c1", "list_memories", `{}`); !strings.Contains(got, "Bob's") {
			t.Error(got)
		}
		if err := b.settings.Set(context.Background(), config.Changes{"memories.enable": false}); err != nil {
			t.Fatal(err)
		}
		for _, g := range b.groups {
			for _, tool := range g.Tools {
				if g.Name == "memory" {
					if got := b.call(b.ann, "c1", tool.Name, `{"query":"","path":"a","memory_id":"x","content":"x","operations":[{"action":"add","content":"x"}]}`); !strings.Contains(got, "404: ") {
						t.Errorf("%s while memories are off: %s", tool.Name, got)
					}
				}
			}
		}
	})
}

func TestAsk(t *testing.T) {
	b := newBench(t, storetest.SQLite(t))
	const questions = `{"questions":[{"id":"q","question":"Which?","options":[{"label":"A","description":"a"},{"label":"B","description":"b"}]}]}`
	asked := ""
	for _, c := range []struct {
		answer string
		err    error
		want   string
	}{
		{`{"status":"answered","answers":{"q":"A"}}`, nil, `{"status":"answered","answers":{"q":"A"}}`},
		{`{"status":"cancelled"}`, nil, `{"status":"cancelled","answers":{}}`},
		{`{"error":"shut"}`, nil, `{"status":"error","error":"shut"}`},
		{`true`, nil, `{"status":"error","error":"Invalid user input response."}`},
		{``, turn.ErrGone, `{"status":"error","error":"Client session disconnected."}`},
	} {
		b.answer = func(kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
			asked = kind + " " + string(data)
			return jsondoc.Doc(c.answer), c.err
		}
		if got := b.call(b.ann, "", "ask_user", questions); got != c.want {
			t.Errorf("%s: %s", c.answer, got)
		}
	}
	if want := `request:user_input {"questions":[{"id":"q","header":"Question 1","question":"Which?","options":[{"label":"A","description":"a"},{"label":"B","description":"b"}],"allow_other":true}],"allow_other":true,"timeout_ms":120000}`; asked != want {
		t.Error(asked)
	}
	if got := b.call(b.ann, "", "ask_user", `{"questions":[]}`); got != `{"status":"error","error":"ask_user requires 1-3 questions."}` {
		t.Error(got)
	}
}
