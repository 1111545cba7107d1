package turn

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
)

// ownTools is a Builtins of fixed tools, which notes what it is asked for.
type ownTools struct {
	tools  []Tool
	offers []Offer
}

func (o *ownTools) Tools(_ context.Context, of Offer) ([]Tool, error) {
	o.offers = append(o.offers, of)
	return o.tools, nil
}

// own is one of the server's tools.
func own(name string, call func(ctx context.Context, c ToolCall) (ToolResult, error)) Tool {
	return Tool{Set: "builtin:" + name, Name: name, Builtin: true, Call: call, Parameters: jsondoc.Doc(`{"type":"object","properties":{"a":{"type":"integer"}}}`),
		Spec: jsondoc.Object("function", jsondoc.Object("name", jsondoc.Text(name)).Set(jsondoc.Doc(`"own"`), "description"))}
}

// page is a Browsers that answers with one document.
type page struct {
	mu     sync.Mutex
	answer jsondoc.Doc
	err    error
	asked  []jsondoc.Doc
}

func (p *page) Ask(_ context.Context, userID, sessionID string, payload jsondoc.Doc) (jsondoc.Doc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, payload)
	if userID != "u1" || sessionID != "s1" {
		return nil, errors.New("another's session")
	}
	return p.answer, p.err
}

// names are the functions that a request offers.
func names(request jsondoc.Doc) string {
	var out []string
	request.Get("tools").Items(func(_ int, tool jsondoc.Doc) bool {
		out = append(out, tool.Text("function", "name")+"/"+tool.Text("function", "description"))
		return true
	})
	return strings.Join(out, " ")
}

func TestBuiltinsAreOffered(t *testing.T) {
	for name, c := range map[string]struct {
		meta, fields, swap string // swap: what to leave out of the request
		want               string
	}{
		"behind those that are asked for": {"{}", "", "", "add/does add time/own"},
		"in a request without others":     {"{}", "", `"tool_ids":["plugin:s","gone"],`, "add/own time/own"},
		"not to models without":           {`{"capabilities":{"builtin_tools":false}}`, "", "", "add/does add"},
		"not to programs":                 {"{}", "", `"session_id":"s1",`, "add/does add"},
		"not where it has its own":        {"{}", `"tools":[{"type":"function","function":{"name":"x","description":"y"}}],`, "", "x/y"},
		"not where it wants none":         {"{}", `"tools":[],`, "", ""},
		"not the legacy way":              {"{}", `"params":{"function_calling":"legacy"},`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(says("done")), tool("add", echo))
			b.Tasks = nil
			b.rows["m"] = &models.Row{ID: "m", Meta: jsondoc.Doc(c.meta), Params: jsondoc.Doc("{}")}
			box := &ownTools{tools: []Tool{own("add", echo), own("time", echo)}}
			b.Builtins = box
			if _, err := b.run(strings.Replace(asking(c.fields), c.swap, "", 1)); err != nil {
				t.Fatal(err)
			}
			if got := names(<-b.asked); got != c.want {
				t.Error(got)
			}
			for _, o := range box.offers {
				if o.Principal.ID != "u1" || o.Model.ID != "m" || !o.Saved {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}

func TestBuiltinsRunInOrder(t *testing.T) {
	var mu sync.Mutex
	var ran []string
	note := func(_ context.Context, c ToolCall) (ToolResult, error) {
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, string(c.Arguments))
		return TextResult("ok"), nil
	}
	var deltas []string
	for i := range 20 {
		deltas = append(deltas, callDelta(i, "k"+string(rune('a'+i)), "note", `{"a":`+string(jsondoc.Of(i))+`,"z":1}`))
	}
	b := newToolBench(t, rounds(calls(deltas...), says("done")))
	b.Builtins = &ownTools{tools: []Tool{own("note", note)}}
	b.ask(t, asking(""))
	for i, r := range ran {
		if r != `{"a":`+string(jsondoc.Of(i))+`}` {
			t.Fatalf("%v", ran)
		}
	}
	if len(ran) != 20 {
		t.Errorf("%d ran", len(ran))
	}
}

const goodQuestion = `{"questions":[{"id":"q","question":"Which?","options":[{"label":"A","description":"a"},{"label":"B","description":"b"}]}]}`

func TestAskUser(t *testing.T) {
	asks := own(askUser, func(ctx context.Context, c ToolCall) (ToolResult, error) {
		answer, err := c.Ask(ctx, "request:user_input", jsondoc.Doc(`{"timeout_ms":1}`))
		return ToolResult{Content: answer}, err
	})
	bench := func(t *testing.T, deltas ...string) *bench {
		b := newToolBench(t, rounds(calls(deltas...), says("done")), tool("add", echo))
		b.Builtins = &ownTools{tools: []Tool{asks}}
		return b
	}
	t.Run("a saved chat waits", func(t *testing.T) {
		m := bench(t, callDelta(0, "k1", askUser, goodQuestion)).ask(t, asking(""))
		if got := summary(m.Get("output")); m.Bool("done") || !strings.HasPrefix(got, askUser+`{"questions":[{"id":"q","header":"Question 1",`) || !strings.HasSuffix(got, " pending") {
			t.Errorf("%s\n%s", got, m)
		}
		if mode := m.Text("meta", "params", "tool_approval_mode"); mode != "full" {
			t.Error(mode)
		}
	})
	const alone = `=Error: ask_user must be the only tool call, so it did not run. Call ask_user on its own. completed`
	for name, c := range map[string]struct {
		deltas []string
		want   string
	}{
		"with another call": {[]string{callDelta(0, "k1", askUser, goodQuestion), callDelta(1, "k2", "add", `{"a":1}`)}, askUser + goodQuestion + ` completed | add{"a":1} completed | ` + alone + ` | ={"a":1} completed | done completed`},
		"twice":             {[]string{callDelta(0, "k1", askUser, `{}`), callDelta(1, "k2", askUser, `{}`)}, `ask_user{} completed | ask_user{} completed | ` + alone + ` | ` + alone + ` | done completed`},
		"without questions": {[]string{callDelta(0, "k1", askUser, ``)}, `ask_user completed | =Error: ask_user questions must be an array of question objects. completed | done completed`},
		"no JSON":           {[]string{callDelta(0, "k1", askUser, "{\n bad")}, "ask_user{\n bad completed | =Error: Expecting property name enclosed in double quotes: line 2 column 2 (char 3) completed | done completed"},
		"a list":            {[]string{callDelta(0, "k1", askUser, `[]`)}, `ask_user[] completed | =Error: ask_user arguments must be an object. completed | done completed`},
	} {
		t.Run(name, func(t *testing.T) {
			m := bench(t, c.deltas...).ask(t, asking(""))
			if got := summary(m.Get("output")); got != c.want || !m.Bool("done") {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
	t.Run("another chat asks its page", func(t *testing.T) {
		b := bench(t, callDelta(0, "k1", askUser, goodQuestion))
		p := &page{answer: jsondoc.Doc(`{"answers":{"q":"A"}}`)}
		b.Browsers = p
		if _, err := b.run(strings.Replace(asking(`"messages":[{"role":"user","content":"hello"}],`), `"c1"`, `"temporary:s1"`, 1)); err != nil {
			t.Fatal(err)
		}
		b.rt.wait(t, "end", ended)
		if len(p.asked) != 1 || p.asked[0].Text("data", "type") != "request:user_input" || p.asked[0].Text("chat_id") != "temporary:s1" || p.asked[0].Text("data", "data", "interaction_id") == "" {
			t.Errorf("%s", p.asked)
		}
		<-b.asked
		if got := (<-b.asked).Get("messages").List(); !strings.Contains(got[len(got)-1].Text("content"), `"q": "A"`) {
			t.Errorf("%s", got)
		}
	})
}

func TestQuestions(t *testing.T) {
	option := `{"label":"L","description":"D"}`
	question := func(more string) string {
		return `{"questions":[{"id":"a","question":"Q?","options":[` + option + `,` + option + `]` + more + `}]}`
	}
	for arguments, want := range map[string]string{
		`{}`:                          "ask_user questions must be an array of question objects.",
		`{"questions":[]}`:            "ask_user requires 1-3 questions.",
		`{"questions":[1,2,3,4]}`:     "ask_user requires 1-3 questions.",
		`{"questions":[1]}`:           "Each question must be an object.",
		`{"questions":[{}]}`:          "Each question requires a non-empty id.",
		`{"questions":[{"id":" "}]}`:  "Each question requires a non-empty id.",
		`{"questions":[{"id":"a"}]}`:  "Each question requires 2-3 options.",
		question(`,"options":[1,2]`):  "Each option must be an object.",
		question(`,"options":[{},2]`): "Each option requires a label and description.",
		question(`,"question":""`):    "Each question requires question text.",
		`{"questions":[{"id":"a","question":"Q?","options":[` + option + `,` + option + `]},{"id":"a","question":"Q?","options":[` + option + `,` + option + `]}]}`: "Duplicate question id: a",
	} {
		d, bad := jsondoc.Check([]byte(arguments))
		if bad != nil {
			t.Fatal(arguments)
		}
		if _, err := NewQuestions(d); err == nil || err.Error() != want {
			t.Errorf("%s: %v", arguments, err)
		}
	}
	for arguments, want := range map[string]string{
		question(``): `{"questions":[{"id":"a","header":"Question 1","question":"Q?","options":[{"label":"L","description":"D"},{"label":"L","description":"D"}],"allow_other":true}],"allow_other":true,"timeout_ms":120000}`,
		`{"allow_other":false,"timeout_ms":90000,"questions":[{"id":7,"header":" ` + strings.Repeat("h", 60) + `","question":"Q?","allow_other":true,"options":[` + option + `,` + option + `]}]}`: `{"questions":[{"id":"7","header":"` +
			strings.Repeat("h", 48) + `","question":"Q?","options":[{"label":"L","description":"D"},{"label":"L","description":"D"}],"allow_other":true}],"allow_other":false,"timeout_ms":90000}`,
	} {
		q, err := NewQuestions(jsondoc.Doc(arguments))
		if err != nil || string(q.Doc()) != want {
			t.Errorf("%s: %s %v", arguments, q.Doc(), err)
		}
	}
}

// TestConfirmation looks at chats that cannot wait for a decision: the page is asked before each call.
func TestConfirmation(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		err    error
		want   string
	}{
		"approved": {"true", nil, `{"a":1}`}, "refused": {"false", nil, refusedUnasked}, "odd": {`{"error":"x"}`, nil, refusedUnasked}, "gone": {"", ErrGone, refusedUnasked},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(calls(callDelta(0, "k1", "add", `{"a":1,"z":2}`)), says("done")), tool("add", echo))
			p := &page{answer: jsondoc.Doc(c.answer), err: c.err}
			b.Browsers = p
			if err := b.Settings.Set(context.Background(), config.Changes{config.ChatToolPermissionsEnable.Key(): true}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.run(strings.Replace(asking(askFirst), `"c1"`, `"temporary:s1"`, 1)); err != nil {
				t.Fatal(err)
			}
			b.rt.wait(t, "end", ended)
			<-b.asked
			got := (<-b.asked).Get("messages").List()
			if text := got[len(got)-1].Text("content"); text != c.want {
				t.Errorf("%s", text)
			}
			if call := p.asked[0].Get("data", "data", "tool_call"); p.asked[0].Text("data", "type") != "confirmation" || string(call) != `{"id":"k1","name":"add","arguments":{"a":1}}` {
				t.Errorf("%s", p.asked)
			}
		})
	}
}

// remembers is a Memories that tells what it is told.
type remembers struct {
	err   error
	every int
	done  chan string
}

func (r *remembers) Prompt(_ context.Context, p *auth.Principal, questions []string) (string, error) {
	return "<memory_context>" + p.ID + ": " + strings.Join(questions, ", ") + "</memory_context>", r.err
}

func (r *remembers) ReviewEvery() int { return r.every }

func (r *remembers) ReviewRequest(_ context.Context, _ *auth.Principal, conversation []jsondoc.Doc) ([]jsondoc.Doc, error) {
	return conversation, nil
}

func (r *remembers) Reviewed(_ context.Context, _ *auth.Principal, answer jsondoc.Doc, chatID, modelID string) error {
	r.done <- chatID + " " + modelID + " " + string(answer)
	return nil
}

func TestMemoriesInPrompts(t *testing.T) {
	for name, c := range map[string]struct {
		meta, features, system string
		err                    error
		want                   string
	}{
		"alone":            {"{}", `{"memory":true}`, "", nil, "<memory_context>u1: hello</memory_context>"},
		"behind another":   {"{}", `{"memory":true}`, "Be kind.", nil, "Be kind.\n<memory_context>u1: hello</memory_context>"},
		"in place of old":  {"{}", `{"memory":true}`, "Be kind.\n<memory_context>old</memory_context>", nil, "Be kind.\n<memory_context>u1: hello</memory_context>"},
		"off":              {"{}", `{"memory":false}`, "Be kind.", nil, "Be kind."},
		"no features":      {"{}", `null`, "Be kind.", nil, "Be kind."},
		"model without":    {`{"capabilities":{"memory":false}}`, `{"memory":true}`, "Be kind.", nil, "Be kind."},
		"out of order":     {"{}", `{"memory":true}`, "Be kind.", errors.New("out of order"), "Be kind."},
		"nothing to begin": {"{}", `{}`, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(says("done")))
			b.rows["m"] = &models.Row{ID: "m", Meta: jsondoc.Doc(c.meta), Params: jsondoc.Doc("{}")}
			b.Memories = &remembers{err: c.err}
			messages := ""
			if c.system != "" {
				messages = `"messages":[` + string(newMessage("system", c.system).Doc()) + `],`
			}
			b.ask(t, asking(`"features":`+c.features+`,`+messages))
			first := (<-b.asked).Get("messages", "0")
			if c.want == "" && first.Text("role") != "system" {
				return
			}
			if first.Text("role") != "system" || first.Text("content") != c.want {
				t.Errorf("%s", first)
			}
		})
	}
}

func TestMemoryReview(t *testing.T) {
	for name, c := range map[string]struct {
		every    int
		features string
		want     bool
	}{
		"due": {1, `{"memory":true}`, true}, "not yet": {2, `{"memory":true}`, false}, "never": {0, `{"memory":true}`, false}, "memories off": {1, `{}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newToolBench(t, rounds(says("done")))
			r := &remembers{every: c.every, done: make(chan string, 1)}
			b.Memories, b.Tasks = r, reviewer{}
			b.ask(t, asking(`"features":`+c.features+`,`))
			b.running.wg.Wait()
			close(r.done)
			got, ok := <-r.done
			if ok != c.want || ok && got != `c1 m {"operations":[1]}` {
				t.Errorf("%v %s", ok, got)
			}
		})
	}
}

// reviewer is a Tasks that answers reviews only.
type reviewer struct{}

func (reviewer) Run(_ context.Context, _ *auth.Principal, task Task, _ string, messages []jsondoc.Doc, _, _ string) (jsondoc.Doc, error) {
	if task != TaskMemoryReview || !slices.ContainsFunc(messages, func(m jsondoc.Doc) bool { return m.Text("content") == "hello" }) {
		return nil, errors.New("something else")
	}
	return jsondoc.Doc(`{"choices":[{"message":{"content":"Here: {\"operations\":[1]}"}}]}`), nil
}
