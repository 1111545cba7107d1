// Package tasks serves /api/v1/tasks: what models do besides answering, and its settings.
package tasks

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/tasks"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Tasks    *tasks.Runner
	Settings *config.Settings
}

// Module is the tag tasks of the API.
type Module struct{ d Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "tasks" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /config", web.JSON(auth.Verified, m.config))
	g.Add("POST /config/update", web.JSON(auth.Admin, m.update))
	const internal = "An internal error has occurred."
	g.Add("POST /title/completions", m.completion(tasks.Title, http.StatusBadRequest, internal))
	g.Add("POST /follow_up/completions", m.completion(tasks.FollowUps, http.StatusBadRequest, internal))
	g.Add("POST /tags/completions", m.completion(tasks.Tags, http.StatusInternalServerError, internal))
	g.Add("POST /image_prompt/completions", m.completion(tasks.ImagePrompt, http.StatusBadRequest, internal))
	g.Add("POST /queries/completions", m.completion(tasks.Queries, http.StatusBadRequest, ""))
	g.Add("POST /auto/completions", m.completion(tasks.Autocomplete, http.StatusInternalServerError, internal))
	g.Add("POST /emoji/completions", m.completion(tasks.Emoji, http.StatusBadRequest, ""))
	g.Add("POST /moa/completions", m.completion(tasks.MoA, http.StatusBadRequest, ""))
}

// setting is a member of the settings' form and the key it is stored under.
type setting struct{ name, key string }

var settings = []setting{
	{"TASK_MODEL", "task.model.default"},
	{"TASK_MODEL_EXTERNAL", "task.model.external"},
	{"TASK_MODEL_PARAMS", "task.model.params"},
	{"TITLE_GENERATION_PROMPT_TEMPLATE", "task.title.prompt_template"},
	{"IMAGE_PROMPT_GENERATION_PROMPT_TEMPLATE", "task.image.prompt_template"},
	{"ENABLE_AUTOCOMPLETE_GENERATION", "task.autocomplete.enable"},
	{"AUTOCOMPLETE_GENERATION_INPUT_MAX_LENGTH", "task.autocomplete.input_max_length"},
	{"AUTOCOMPLETE_GENERATION_PROMPT_TEMPLATE", "task.autocomplete.prompt_template"},
	{"TAGS_GENERATION_PROMPT_TEMPLATE", "task.tags.prompt_template"},
	{"FOLLOW_UP_GENERATION_PROMPT_TEMPLATE", "task.follow_up.prompt_template"},
	{"ENABLE_FOLLOW_UP_GENERATION", "task.follow_up.enable"},
	{"ENABLE_TAGS_GENERATION", "task.tags.enable"},
	{"ENABLE_TITLE_GENERATION", "task.title.enable"},
	{"ENABLE_SEARCH_QUERY_GENERATION", "task.query.search.enable"},
	{"ENABLE_RETRIEVAL_QUERY_GENERATION", "task.query.retrieval.enable"},
	{"QUERY_GENERATION_PROMPT_TEMPLATE", "task.query.prompt_template"},
	{"TOOLS_FUNCTION_CALLING_PROMPT_TEMPLATE", "task.tools.prompt_template"},
	{"ENABLE_VOICE_MODE_PROMPT", "task.voice.prompt.enable"},
	{"VOICE_MODE_PROMPT_TEMPLATE", "task.voice.prompt_template"},
}

func (m *Module) config(*web.Call, web.None) (jsondoc.Doc, error) {
	snap := m.d.Settings.Snapshot()
	var b jsondoc.Builder
	for _, s := range settings {
		b.Raw(s.name, jsondoc.Doc(snap.Raw(s.key)))
	}
	return b.Done(), nil
}

type settingsIn struct {
	Body struct {
		Model              web.Null[string]  `json:"TASK_MODEL"`
		ModelExternal      web.Null[string]  `json:"TASK_MODEL_EXTERNAL"`
		Params             web.Opt[web.Dict] `json:"TASK_MODEL_PARAMS"`
		Title              bool              `json:"ENABLE_TITLE_GENERATION"`
		TitleTemplate      string            `json:"TITLE_GENERATION_PROMPT_TEMPLATE"`
		ImageTemplate      string            `json:"IMAGE_PROMPT_GENERATION_PROMPT_TEMPLATE"`
		Autocomplete       bool              `json:"ENABLE_AUTOCOMPLETE_GENERATION"`
		AutocompleteLength web.Opt[int]      `json:"AUTOCOMPLETE_GENERATION_INPUT_MAX_LENGTH"`
		AutocompleteText   string            `json:"AUTOCOMPLETE_GENERATION_PROMPT_TEMPLATE"`
		TagsTemplate       string            `json:"TAGS_GENERATION_PROMPT_TEMPLATE"`
		FollowUpTemplate   string            `json:"FOLLOW_UP_GENERATION_PROMPT_TEMPLATE"`
		FollowUp           bool              `json:"ENABLE_FOLLOW_UP_GENERATION"`
		Tags               bool              `json:"ENABLE_TAGS_GENERATION"`
		SearchQuery        bool              `json:"ENABLE_SEARCH_QUERY_GENERATION"`
		RetrievalQuery     bool              `json:"ENABLE_RETRIEVAL_QUERY_GENERATION"`
		QueryTemplate      string            `json:"QUERY_GENERATION_PROMPT_TEMPLATE"`
		ToolsTemplate      string            `json:"TOOLS_FUNCTION_CALLING_PROMPT_TEMPLATE"`
		Voice              bool              `json:"ENABLE_VOICE_MODE_PROMPT"`
		VoiceTemplate      web.Null[string]  `json:"VOICE_MODE_PROMPT_TEMPLATE"`
	}
}

func (m *Module) update(c *web.Call, in settingsIn) (jsondoc.Doc, error) {
	sent := jsondoc.Of(in.Body)
	changes := config.Changes{}
	for _, s := range settings {
		changes[s.key] = jsontext.Value(sent.Get(s.name))
	}
	if !in.Body.AutocompleteLength.Has() {
		changes[config.TaskAutocompleteInputMaxLength.Key()] = config.TaskAutocompleteInputMaxLength.Raw(m.d.Settings.Initial())
	}
	if err := m.d.Settings.Set(c.Context(), changes); err != nil {
		return nil, err
	}
	return m.config(c, web.None{})
}

type completionIn struct {
	Body web.Dict
}

// completion declares a task's endpoint; failure and detail are what it answers where the model was not reached or may
// not be used, detail "" for the error's own text.
func (m *Module) completion(kind tasks.Kind, failure int, detail string) *web.Endpoint {
	return web.JSON(auth.Verified, func(c *web.Call, in completionIn) (web.Done, error) {
		req := request(kind, in.Body.Doc())
		resp, err := m.d.Tasks.Completion(c.Context(), c.Principal, req)
		if err != nil {
			return web.Done{}, answer(c, err, failure, detail)
		}
		return web.Done{}, relay(c, resp)
	})
}

func request(kind tasks.Kind, body jsondoc.Doc) tasks.Request {
	req := tasks.Request{
		Kind: kind, ModelID: body.Text("model"), Messages: body.Get("messages").List(),
		Prompt: body.Text("prompt"), Type: body.Text("type"), Responses: body.Get("responses").Texts(),
		Meta: llm.CallMeta{ChatID: body.Text("chat_id")},
	}
	if kind == tasks.MoA {
		req.Stream = body.Get("stream").Truthy()
	}
	return req
}

// answer turns an error into what the reference answers: a provider's own error is passed on, all else hidden or told.
func answer(c *web.Call, err error, failure int, detail string) error {
	var disabled *tasks.DisabledError
	var own *web.Error
	var upstream *llm.UpstreamError
	switch {
	case errors.As(err, &disabled):
		if disabled.Status == http.StatusOK {
			return web.WriteJSON(c.W, http.StatusOK, web.M{"detail": disabled.Detail})
		}
		return web.Fail(disabled.Status, disabled.Detail)
	case errors.As(err, &own), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &upstream) && upstream.Err == nil:
		for k, v := range upstream.Header() {
			c.Header()[k] = v
		}
		c.W.WriteHeader(upstream.Status)
		_, err := c.W.Write(upstream.Body)
		return err
	}
	if detail == "" {
		detail = err.Error()
		if errors.Is(err, llm.ErrModelNotFound) {
			detail = "404: Model '' was not found"
		}
	}
	return web.Because(failure, detail, err)
}

// relay passes a completion on, a stream as it comes.
func relay(c *web.Call, resp *llm.Response) error {
	err := resp.Relay(c.W)
	var broken *llm.StreamError
	if errors.As(err, &broken) {
		panic(http.ErrAbortHandler) // all that tells the client that the answer is not whole
	}
	return err
}
