package memory

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/vector"
)

// counter is an Embedder whose vectors count words of a fixed list.
type counter struct {
	model string
	err   error
	texts []string // that were embedded, queries aside
}

var vocabulary = []string{"bees", "honey", "boat", "lake", "nuts"}

func (c *counter) Model() string { return c.model }

func (c *counter) Embed(_ context.Context, use embed.Use, texts []string, _ *llm.Caller) ([][]float32, error) {
	if c.model == "" {
		return nil, embed.ErrNone
	}
	if c.err != nil {
		return nil, c.err
	}
	out := make([][]float32, len(texts))
	for i, t := range texts {
		if use == embed.Content {
			c.texts = append(c.texts, strings.ReplaceAll(t, "\n", "|"))
		}
		out[i] = make([]float32, len(vocabulary))
		for k, word := range vocabulary {
			out[i][k] = float32(strings.Count(t, word))
		}
	}
	return out, nil
}

type bench struct {
	*Service
	t     *testing.T
	words *counter
	ann   *auth.Principal
	told  []string
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
	accounts := users.New(db)
	ann, err := accounts.Insert(ctx, users.NewUser{Email: "ann@contract.test", Name: "Ann", Role: "user"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, words: &counter{model: "words"}, ann: &auth.Principal{User: ann}}
	bus := &events.Bus{}
	bus.Subscribe(func(_ context.Context, e events.Event) { b.told = append(b.told, e.Name) })
	b.Service = New(Deps{Store: memories.New(db), Users: accounts, Access: access.New(db, settings), Settings: settings, Embedder: b.words,
		Vectors: vector.New(db), Events: bus, Log: slog.New(slog.DiscardHandler)})
	return b
}

func (b *bench) add(content, kind, path string) *Memory {
	b.t.Helper()
	m, err := b.Add(context.Background(), b.ann, content, kind, path)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bench) set(c config.Changes) {
	b.t.Helper()
	if err := b.Settings.Set(context.Background(), c); err != nil {
		b.t.Fatal(err)
	}
}

// query gives what a query finds, best first.
func (b *bench) query(text string, k int) string {
	b.t.Helper()
	a, err := b.Query(context.Background(), b.ann, text, k)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.ReplaceAll(strings.Join(a.Documents[0], ", "), "\n", "|")
}

func TestQuery(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		b := newBench(t, db)
		if _, err := b.Query(ctx, b.ann, "bees", 1); err == nil || !strings.HasPrefix(err.Error(), "404 ") {
			t.Errorf("nothing is there: %v", err)
		}
		bees := b.add("bees and honey", memories.Context, "")
		b.add("a boat", memories.Context, "lake/harbour")
		nuts := b.add("no nuts", memories.User, "")
		if got := strings.Join(b.words.texts, ", "); got != "bees and honey, lake/harbour|a boat, no nuts" {
			t.Errorf("embedded %s", got)
		}
		for _, c := range []struct {
			text string
			k    int
			want string
		}{
			{"honey", 1, "bees and honey"}, {"a boat with bees on a lake", 2, "lake/harbour|a boat, bees and honey"}, {"nuts", 9, "no nuts, bees and honey, lake/harbour|a boat"},
		} {
			if got := b.query(c.text, c.k); got != c.want {
				t.Errorf("%s: %s", c.text, got)
			}
		}
		if a, err := b.Query(ctx, b.ann, "bees", 0); a != nil || err != nil {
			t.Errorf("%v %v", a, err)
		}
		b.set(config.Changes{"rag.relevance_threshold": 0.9})
		if got := b.query("nuts", 9); got != "no nuts" {
			t.Error(got)
		}
		b.set(config.Changes{"rag.relevance_threshold": 0})

		// what another program has changed is noticed, and only that is embedded
		b.words.texts = nil
		if _, err := b.Store.Update(ctx, b.ann.ID, nuts.ID, memories.Change{Content: new("a boat")}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Store.Delete(ctx, b.ann.ID, bees.ID); err != nil {
			t.Fatal(err)
		}
		if got := b.query("boat", 9); got != "a boat, lake/harbour|a boat" || !slices.Equal(b.words.texts, []string{"a boat"}) {
			t.Errorf("%s, embedded %v", got, b.words.texts)
		}
		if left, err := b.Vectors.Hashes(ctx, collection(b.ann.ID), "words", len(vocabulary)); err != nil || len(left) != 2 {
			t.Errorf("%v %v", left, err)
		}

		// another model makes all anew
		b.words.model, b.words.texts = "better words", nil
		if b.query("boat", 1); len(b.words.texts) != 2 {
			t.Errorf("embedded %v", b.words.texts)
		}
	})
}

func TestQueryByWords(t *testing.T) {
	for name, spoil := range map[string]func(*counter){
		"no engine": func(c *counter) { c.model = "" }, "engine fails": func(c *counter) { c.err = errors.New("out of words") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, storetest.SQLite(t))
			spoil(b.words)
			b.add("Keeps bees and sells the honey", memories.Context, "")
			b.add("Has a boat on the lake", memories.Context, "hobby/boats")
			b.add("Is allergic to nuts", memories.User, "")
			for text, want := range map[string]string{
				"How do bees live?": "Keeps bees and sells the honey",
				"lake boat honey":   "hobby/boats|Has a boat on the lake, Keeps bees and sells the honey",
				"my hobbies":        "",
				"HONEY, bees; lake": "Keeps bees and sells the honey, hobby/boats|Has a boat on the lake",
				"":                  "", "?!": "", "is": "Is allergic to nuts",
			} {
				if got := b.query(text, 9); got != want {
					t.Errorf("%q: %s", text, got)
				}
			}
			if got := b.query("bees boat nuts", 2); strings.Count(got, ",") != 1 {
				t.Error(got)
			}
			// an engine that is set later makes what is missing
			b.words.model, b.words.err = "words", nil
			if got := b.query("honey", 1); got != "Keeps bees and sells the honey" || len(b.words.texts) != 3 {
				t.Errorf("%s, embedded %v", got, b.words.texts)
			}
		})
	}
}

func TestReindex(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		b := newBench(t, db)
		b.words.model = ""
		b.add("bees", memories.Context, "")
		if _, err := b.Store.Insert(ctx, Memory{UserID: "gone", Type: memories.Context, Content: "of nobody"}); err != nil {
			t.Fatal(err)
		}
		if err := b.Reset(ctx, b.ann); err != nil {
			t.Fatal(err)
		}
		b.words.model = "words"
		accounts, count, err := b.Reindex(ctx, b.ann)
		if err != nil || accounts != 1 || count != 1 || !slices.Equal(b.words.texts, []string{"bees"}) {
			t.Errorf("%d %d %v %v", accounts, count, err, b.words.texts)
		}
		b.words.err = errors.New("out of words")
		if err := b.Reset(ctx, b.ann); err == nil {
			t.Error("a reset that fails says so")
		}
	})
}

func TestEvents(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, storetest.SQLite(t))
	m := b.add("one", memories.User, "")
	if _, err := b.Update(ctx, b.ann, m.ID, new("uno"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Apply(ctx, b.ann, []Operation{{Action: "add", Content: new("two")}, {Action: "add", Content: new("two")}, {Action: "remove", ID: &m.ID}}, Source{CreatedBy: "tool"}); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.Delete(ctx, b.ann, "nope"); ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := b.DeleteAll(ctx, b.ann); err != nil {
		t.Fatal(err)
	}
	if want := []string{"memory.created", "memory.updated", "memory.created", "memory.deleted", "memory.deleted"}; !slices.Equal(b.told, want) {
		t.Errorf("%v", b.told)
	}
}

func TestPrompt(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, storetest.SQLite(t))
	prompt := func(questions ...string) string {
		t.Helper()
		text, err := b.Prompt(ctx, b.ann, questions)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := prompt("hello"); got != "" {
		t.Errorf("without memories: %s", got)
	}
	b.add("Prefers metric", memories.User, "")
	b.add("Called Ann", memories.User, "me/name")
	b.add("Has two boats", memories.Context, "hobby/boats")
	b.add("Keeps bees", memories.Context, "")
	const about = "[User Memory]\n- me/name: Called Ann\n- Prefers metric\n\n"
	for question, want := range map[string]string{
		"What of my BOATS?": about + "[Memory Neighborhood]\n- hobby/boats: Has two boats\n\n[Relevant Context]\n- Keeps bees",
		"bees":              about + "[Relevant Context]\n- hobby/boats: Has two boats\n- Keeps bees",
	} {
		if got := prompt("before", question); got != "<memory_context>\n"+want+"\n</memory_context>" {
			t.Errorf("%s:\n%s", question, got)
		}
	}
	if got := prompt(" ", ""); got != "" {
		t.Errorf("without a question: %s", got)
	}
	b.add(strings.Repeat("é", 3000), memories.User, "")
	b.set(config.Changes{"memories.user_char_limit": 10, "memories.context_char_limit": 300})
	if got := prompt("bees"); strings.Count(got, "é") != 250-len(strings.TrimSpace(about)+"\n- ") || !strings.Contains(got, "Keeps bees") {
		t.Errorf("%d of é in\n%s", strings.Count(got, "é"), got)
	}
	for _, c := range []config.Changes{
		{"memories.enable": false},
		{"memories.enable": true, "memories.system_context.enable": false},
		{"memories.system_context.enable": true, "user.permissions": map[string]any{"features": map[string]any{"memories": false}}},
	} {
		b.set(c)
		if got := prompt("bees"); got != "" {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func TestWithoutPrompt(t *testing.T) {
	for system, want := range map[string]string{
		"Be kind.": "Be kind.", "Be kind.\n<memory_context>\nold\n</memory_context>": "Be kind.", "<memory_context>x</memory_context>\nBe kind.": "Be kind.",
		"a <memory_context> without an end": "a <memory_context> without an end", "": "",
	} {
		if got := WithoutPrompt(system); got != want {
			t.Errorf("%q: %q", system, got)
		}
	}
}

func TestReview(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, storetest.SQLite(t))
	if n := b.ReviewEvery(); n != 0 {
		t.Errorf("off: every %d", n)
	}
	b.set(config.Changes{"memories.background_review.enable": true, "memories.review_interval_turns": 0})
	if n := b.ReviewEvery(); n != 1 {
		t.Errorf("every %d", n)
	}
	m := b.add("Keeps bees", memories.User, "")
	asked, err := b.ReviewRequest(ctx, b.ann, []jsondoc.Doc{
		jsondoc.Doc(`{"role":"system","content":"no"}`), jsondoc.Doc(`{"role":"user","content":"I moved to Oslo"}`), jsondoc.Doc(`{"role":"assistant","content":"` + strings.Repeat("x", 2000) + `"}`),
	})
	if err != nil || len(asked) != 2 {
		t.Fatal(asked, err)
	}
	text := asked[1].Text("content")
	if !strings.Contains(text, "id="+m.ID+" type=user path= content=Keeps bees") || !strings.Contains(text, "user: I moved to Oslo") || strings.Contains(text, "system:") || strings.Count(text, "x") > 1500 {
		t.Error(text)
	}
	answer := jsondoc.Doc(`{"operations":[{"action":"replace","id":"` + m.ID + `","content":"Keeps wasps","type":null},{"action":"add","content":"Lives in Oslo","type":"user"}]}`)
	if err := b.Reviewed(ctx, b.ann, answer, "c1", "m1"); err != nil {
		t.Fatal(err)
	}
	list, err := b.List(ctx, b.ann.ID)
	if err != nil || len(list) != 2 || list[0].Content != "Keeps wasps" || string(list[1].Meta) != `{"created_by":"background_review","chat_id":"c1","message_id":null,"model":"m1"}` {
		t.Errorf("%+v %v", list, err)
	}
	for _, bad := range []string{`{"operations":[{"action":"explode"}]}`, `{"operations":[{"action":"add","content":5}]}`, `{"operations":[{"action":"add","content":"x","type":"odd"}]}`, `{"operations":["x"]}`} {
		if err := b.Reviewed(ctx, b.ann, jsondoc.Doc(bad), "", ""); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for _, none := range []string{`{}`, `{"operations":[]}`, `{"operations":"x"}`, `[]`, ``} {
		if err := b.Reviewed(ctx, b.ann, jsondoc.Doc(none), "", ""); err != nil {
			t.Errorf("%s: %v", none, err)
		}
	}
}
