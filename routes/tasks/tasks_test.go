package tasks

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/relay/relaytest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/tasks"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

func bench(t *testing.T) *relaytest.Bench {
	b := relaytest.New(t)
	runner := &tasks.Runner{Models: b.Catalog, Settings: b.Settings, Prompts: b.Prompts}
	b.Router.Mount("/tasks", New(Deps{Tasks: runner, Settings: b.Settings}))
	b.Router.Finish()
	return b
}

func set(b *relaytest.Bench, c config.Changes) {
	b.T.Helper()
	if err := b.Settings.Set(b.T.Context(), c); err != nil {
		b.T.Fatal(err)
	}
}

const chat = `"messages":[{"role":"user","content":"How?"},{"role":"assistant","content":"So."}]`

func TestStandardPrompts(t *testing.T) {
	b := bench(t)
	for path, want := range map[string]string{
		"title": `\"title\"`, "tags": `\"tags\"`, "follow_up": `\"follow_ups\"`, "queries": `\"queries\"`, "image_prompt": `\"prompt\"`,
		"emoji": `emoji`, "moa": `\"\"\"Oak\"\"\"\n\n\"\"\"Ash\"\"\"`,
	} {
		got := b.Call("admin", "POST /tasks/"+path+"/completions", `{"model":"echo",`+chat+`,"prompt":"P","responses":["Oak","Ash"]}`)
		if got.Status != 200 || !strings.Contains(string(got.Body), want) || strings.Contains(string(got.Body), "{{") {
			t.Errorf("%s: %d %s", path, got.Status, got.Body)
		}
	}
}

func TestTemplatesAndWorkers(t *testing.T) {
	b := bench(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('cook', 'ann', 'echo', 'Cook', '{"system":"S {{USER_NAME}}","temperature":0.5}', '{}', TRUE, 1, 1)`)
	set(b, config.Changes{"task.title.prompt_template": "T[{{MESSAGES:END:1}}] {{prompt}}", "task.autocomplete.enable": true,
		"task.autocomplete.prompt_template": "A[{{TYPE}}|{{PROMPT}}]", "task.autocomplete.input_max_length": 3})
	relaytest.Run(b, []step{
		{"admin", "POST /tasks/title/completions", `{"model":"cook",` + chat + `}`, 200,
			`"messages":[{"role":"system","content":"S admin"},{"role":"user","content":"T[ASSISTANT: So.] How?"}],"stream":false,"max_tokens":1000,"temperature":0.5`},
		{"admin", "POST /tasks/auto/completions", `{"model":"echo","type":"general","prompt":"ab"}`, 200, `A[general|ab]`},
		{"admin", "POST /tasks/auto/completions", `{"model":"echo","prompt":"abcd"}`, 400, "Input prompt exceeds maximum length of 3"},
	})
	set(b, config.Changes{"task.model.external": "other", "task.model.default": "echo", "task.model.params": map[string]any{"top_p": 1, "seed": nil,
		"custom_params": map[string]any{"flag": "true"}}})
	relaytest.Run(b, []step{
		{"admin", "POST /tasks/title/completions", `{"model":"echo",` + chat + `}`, 200, `"model":"other"`},
		{"admin", "POST /tasks/title/completions", `{"model":"echo",` + chat + `}`, 200, `"top_p":1,"flag":true`},
		{"admin", "POST /tasks/title/completions", `{"model":"llama:latest",` + chat + `}`, 200, `"model":"echo"`}, // a local model's tasks stay local
		{"admin", "POST /tasks/moa/completions", `{"model":"echo","prompt":"p","responses":[],"stream":true}`, 200, "data: [DONE]"},
	})
}

// TestToolCalls has a model say which tools to call: the messages go out as they are, below the model's own prompt, and
// without the params of tasks.
func TestToolCalls(t *testing.T) {
	b := relaytest.New(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('cook', 'ann', 'echo', 'Cook', '{"system":"Be S."}', '{}', TRUE, 1, 1)`)
	set(b, config.Changes{"task.model.params": map[string]any{"top_p": 1}})
	runner := &tasks.Runner{Models: b.Catalog, Settings: b.Settings, Prompts: b.Prompts}
	admin := &auth.Principal{User: &users.User{ID: "admin", Role: users.RoleAdmin}}
	ms := []jsondoc.Doc{jsondoc.Doc(`{"role":"system","content":"{{prompt}} tools"}`), jsondoc.Doc(`{"role":"user","content":"Query: x"}`)}
	for model, want := range map[string]string{
		"echo": `"messages":[{"role":"system","content":"{{prompt}} tools"},{"role":"user","content":"Query: x"}],"stream":false}`,
		"cook": `"messages":[{"role":"system","content":"Be S.\n{{prompt}} tools"},{"role":"user","content":"Query: x"}],"stream":false}`,
	} {
		answer, err := runner.Run(t.Context(), admin, tasks.ToolCalls, model, ms, llm.CallMeta{})
		if err != nil || !strings.HasSuffix(string(answer), want+"}") {
			t.Errorf("%s: %v %s\nwant …%s", model, err, answer, want)
		}
	}
}

func TestFailures(t *testing.T) {
	b := bench(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('lost', 'ann', 'nothing', 'Lost', '{}', '{}', TRUE, 1, 1)`)
	relaytest.Run(b, []step{
		{"", "POST /tasks/title/completions", `{}`, 401, ""},
		{"admin", "POST /tasks/title/completions", `[]`, 422, "dict_type"},
		{"admin", "POST /tasks/title/completions", `{"model":"","messages":[]}`, 400, "No model specified"},
		{"admin", "POST /tasks/tags/completions", `{"model":"no","messages":[]}`, 404, "Model '' was not found"},
		{"ann", "POST /tasks/title/completions", `{"model":"echo",` + chat + `}`, 400, "An internal error has occurred."},
		{"ann", "POST /tasks/tags/completions", `{"model":"echo",` + chat + `}`, 500, "An internal error has occurred."},
		{"ann", "POST /tasks/emoji/completions", `{"model":"echo","prompt":"x"}`, 400, "Model not found"},
		{"admin", "POST /tasks/queries/completions", `{"model":"lost",` + chat + `}`, 400, "404: Model '' was not found"},
	})
	set(b, config.Changes{"task.title.enable": false, "task.tags.enable": false, "task.query.search.enable": false})
	relaytest.Run(b, []step{
		{"admin", "POST /tasks/title/completions", `{}`, 200, `{"detail":"Title generation is disabled"}`},
		{"admin", "POST /tasks/tags/completions", `{}`, 200, `{"detail":"Tags generation is disabled"}`},
		{"admin", "POST /tasks/queries/completions", `{"type":"web_search"}`, 400, "Search query generation is disabled"},
		{"admin", "POST /tasks/queries/completions", `{"type":"retrieval","model":"echo",` + chat + `}`, 200, ""},
	})
}

func TestSettings(t *testing.T) {
	b := bench(t)
	got := b.Call("ann", "GET /tasks/config", "")
	if got.Status != 200 || got.Body.Len() != len(settings) {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	changed := got.Body.Set([]byte(`"x"`), "TASK_MODEL").Set(nil, "AUTOCOMPLETE_GENERATION_INPUT_MAX_LENGTH")
	relaytest.Run(b, []step{
		{"ann", "POST /tasks/config/update", string(changed), 401, ""},
		{"admin", "POST /tasks/config/update", string(changed), 200, `"TASK_MODEL":"x"`},
		{"ann", "GET /tasks/config", "", 200, `"AUTOCOMPLETE_GENERATION_INPUT_MAX_LENGTH":-1`},
		{"admin", "POST /tasks/config/update", `{}`, 422, `["body","TASK_MODEL"]`},
	})
}
