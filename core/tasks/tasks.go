package tasks

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Kind names a task; providers see it as {{TASK}} in custom headers.
type Kind string

// The tasks.
const (
	Title        Kind = "title_generation"
	Tags         Kind = "tags_generation"
	FollowUps    Kind = "follow_up_generation"
	Queries      Kind = "query_generation"
	ImagePrompt  Kind = "image_prompt_generation"
	Autocomplete Kind = "autocomplete_generation"
	Emoji        Kind = "emoji_generation"
	MoA          Kind = "moa_response_generation" // one answer out of several
	ToolCalls    Kind = "function_calling"        // which tools to call; the messages are sent as they are
	MemoryReview Kind = "memory_review"           // what to remember, by the chat's own model; the messages are sent as they are
)

// The uses of [Queries], which are switched on and off apart.
const (
	WebSearch = "web_search"
	Retrieval = "retrieval"
)

// Runner runs tasks.
type Runner struct {
	Models   models.Finder
	Settings *config.Settings
	Prompts  *prompt.Renderer
	Filters  filter.Set // may be nil
}

// Request is a task to be done.
type Request struct {
	Kind      Kind
	ModelID   string        // of the chat; the settings may have another model do the task
	Messages  []jsondoc.Doc // of the chat, in OpenAI form
	Prompt    string        // of Autocomplete, Emoji and MoA
	Type      string        // of Queries and Autocomplete
	Responses []string      // of MoA
	Stream    bool          // of MoA
	Meta      llm.CallMeta  // Task is set here
	Caller    *llm.Caller   // nil: made of the principal
}

// DisabledError says that a task is switched off.
type DisabledError struct {
	Status int // 200 or 400, as the reference answers
	Detail string
}

func (e *DisabledError) Error() string { return e.Detail }

// ErrAccess says that the user may not use the model that would do the task.
var ErrAccess = models.ErrNotFound

// enabled says whether a task is switched on.
func enabled(s *config.Snapshot, r *Request) error {
	off := func(on config.Bool, status int, what string) error {
		if on.Get(s) {
			return nil
		}
		return &DisabledError{status, what + " is disabled"}
	}
	switch r.Kind {
	case Title:
		return off(config.TaskTitleEnable, http.StatusOK, "Title generation")
	case FollowUps:
		return off(config.TaskFollowUpEnable, http.StatusOK, "Follow-up generation")
	case Tags:
		return off(config.TaskTagsEnable, http.StatusOK, "Tags generation")
	case Autocomplete:
		return off(config.TaskAutocompleteEnable, http.StatusBadRequest, "Autocompletion generation")
	case Queries:
		switch r.Type {
		case WebSearch:
			return off(config.TaskQuerySearchEnable, http.StatusBadRequest, "Search query generation")
		case Retrieval:
			return off(config.TaskQueryRetrievalEnable, http.StatusBadRequest, "Query generation")
		}
	}
	return nil
}

// Run gives the completion of a task's model in OpenAI form, nil where the task is switched off. messages are those of
// the chat. For [Queries] the type is that of a web search; see [Runner.Completion] for others.
func (r *Runner) Run(ctx context.Context, p *auth.Principal, task Kind, modelID string, messages []jsondoc.Doc, meta llm.CallMeta) (jsondoc.Doc, error) {
	req := Request{Kind: task, ModelID: modelID, Messages: messages, Meta: meta}
	if task == Queries {
		req.Type = WebSearch
	}
	resp, err := r.Completion(ctx, p, req)
	var disabled *DisabledError
	if errors.As(err, &disabled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	return jsondoc.Doc(resp.JSON()), nil
}

// Completion has a model do a task. Errors: [*DisabledError], [ErrAccess], *web.Error (unknown model, input too long),
// *llm.UpstreamError, and those of [llm.Target.Chat].
func (r *Runner) Completion(ctx context.Context, p *auth.Principal, req Request) (*llm.Response, error) {
	snap := r.Settings.Snapshot()
	if err := enabled(snap, &req); err != nil {
		return nil, err
	}
	if limit := config.TaskAutocompleteInputMaxLength.Get(snap); req.Kind == Autocomplete && limit > 0 && utf8.RuneCountInString(req.Prompt) > limit {
		return nil, web.Fail(http.StatusBadRequest, "Input prompt exceeds maximum length of "+strconv.Itoa(limit))
	}
	if req.Kind == Title && req.ModelID == "" {
		return nil, web.Fail(http.StatusBadRequest, "No model specified for title generation. Please ensure a model is selected for this chat.")
	}
	caller := req.Caller
	if caller == nil {
		caller = models.CallerOf(p)
	}
	asked, ok := r.Models.Find(ctx, caller, req.ModelID)
	if !ok {
		return nil, web.Fail(http.StatusNotFound, "Model '' was not found")
	}
	m := asked
	if req.Kind != MoA && req.Kind != MemoryReview {
		m = r.worker(ctx, caller, asked, snap)
	}
	if err := r.access(ctx, p, m); err != nil {
		return nil, err
	}
	if m.Arena != nil {
		if m, ok = Pick(m, r.Models.All(ctx, caller)); !ok {
			return nil, ErrAccess
		}
		if err := r.access(ctx, p, m); err != nil {
			return nil, err
		}
	}
	target, err := r.Models.Target(ctx, caller, m)
	if err != nil {
		return nil, err
	}
	own := *caller
	own.Meta = req.Meta
	own.Meta.Task = string(req.Kind)
	if own.Meta.ModelID == "" {
		own.Meta.ModelID = m.ID
	}
	body := r.body(ctx, p, &req, m, snap)
	filters := r.filters(p, &req, m)
	if body, err = filters.Inlet(ctx, body); err != nil {
		return nil, err
	}
	resp, err := target.Chat(ctx, &llm.Request{
		Body:   []byte(body),
		Stream: req.Stream,
		Params: []byte(m.Params().Delete("system")),
		Caller: &own,
	})
	if err == nil {
		filters.Stream(ctx, resp)
	}
	return resp, err
}

// filters are those of a task; nil for none.
func (r *Runner) filters(p *auth.Principal, req *Request, m *models.Model) *filter.Filters {
	if r.Filters == nil {
		return nil
	}
	return filter.For(r.Filters, filter.Call{
		Principal: p, Kind: filter.KindTask, Task: string(req.Kind), ModelID: m.ID, Meta: m.Meta(),
		ChatID: req.Meta.ChatID, MessageID: req.Meta.MessageID, Stream: req.Stream, NoOutlet: true,
	}, nil)
}

func (r *Runner) access(ctx context.Context, p *auth.Principal, m *models.Model) error {
	if p.IsAdmin() {
		return nil
	}
	return r.Models.Access(ctx, p, m)
}

// worker is the model that does a chat's tasks: the one set up for local models where the chat's is local, else the one
// for others; the chat's own where none is set or it is gone.
func (r *Runner) worker(ctx context.Context, caller *llm.Caller, asked *models.Model, snap *config.Snapshot) *models.Model {
	id := config.TaskModelExternal.Get(snap)
	if asked.Entry.Text("connection_type") == "local" {
		id = config.TaskModelDefault.Get(snap)
	}
	if id != "" {
		if m, ok := r.Models.Find(ctx, caller, id); ok {
			return m
		}
	}
	return asked
}

// Pick chooses one of an arena's models at random.
func Pick(arena *models.Model, all []*models.Model) (*models.Model, bool) {
	if arena.Arena == nil {
		return arena, true
	}
	among := func(keep func(*models.Model) bool) []*models.Model {
		var out []*models.Model
		for _, m := range all {
			if m.Arena == nil && keep(m) {
				out = append(out, m)
			}
		}
		return out
	}
	ids := arena.Arena.ModelIDs
	var list []*models.Model
	if len(ids) > 0 {
		list = among(func(m *models.Model) bool { return slices.Contains(ids, m.ID) != arena.Arena.Exclude })
	}
	if len(list) == 0 {
		list = among(func(*models.Model) bool { return true })
	}
	if len(list) == 0 {
		return nil, false
	}
	return list[rand.IntN(len(list))], true
}

// body is the request to the model.
func (r *Runner) body(ctx context.Context, p *auth.Principal, req *Request, m *models.Model, snap *config.Snapshot) jsondoc.Doc {
	messages := jsondoc.Array(req.Messages...)
	if req.Kind != ToolCalls && req.Kind != MemoryReview {
		messages = jsondoc.Array(message("user", r.prompt(ctx, p, req, snap)))
	}
	if system := m.Params().Text("system"); system != "" {
		if system = r.Prompts.Render(ctx, p, system, nil, nil); system != "" {
			messages = prompt.AddSystem(messages, system)
		}
	}
	var b jsondoc.Obj
	b.Set("model", jsondoc.Text(m.ID))
	b.Set("messages", messages)
	b.Set("stream", jsondoc.Of(req.Stream))
	if params := r.params(req.Kind, snap); params != nil {
		if m.OwnedBy == "ollama" {
			b.Set("options", params)
		} else {
			params.Each(func(name string, v jsondoc.Doc) bool {
				if !b.Has(name) {
					b.Set(name, v)
				}
				return true
			})
		}
	}
	return b.Doc()
}

func message(role, content string) jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("role", jsondoc.Text(role))
	b.Raw("content", jsondoc.Text(content))
	return b.Done()
}

// params are the parameters of a task: those in the settings, or what the task itself limits.
func (r *Runner) params(kind Kind, snap *config.Snapshot) jsondoc.Doc {
	switch kind {
	case MoA, ToolCalls, MemoryReview:
		return nil
	case Emoji:
		return jsondoc.Doc(`{"max_tokens":4}`)
	}
	var b jsondoc.Builder
	n := 0
	var custom jsondoc.Doc
	jsondoc.Doc(config.TaskModelParams.Raw(snap)).Each(func(name string, v jsondoc.Doc) bool {
		switch {
		case v.IsNull() || string(v) == `""` || serverParams[name]:
		case name == "custom_params":
			custom, n = v, n+1
		default:
			b.Raw(name, v)
			n++
		}
		return true
	})
	if n == 0 {
		if kind == Title {
			return jsondoc.Doc(`{"max_tokens":1000}`)
		}
		return nil
	}
	return expand(b.Done(), custom)
}

// serverParams steer the server and mean nothing to providers.
var serverParams = map[string]bool{
	"stream_response": true, "stream_delta_chunk_size": true, "function_calling": true, "reasoning_tags": true, "compact_token_threshold": true,
	"system": true, "note_id": true, "tool_approval_mode": true, "model_controls": true,
}

// expand merges custom_params over params; texts in them that are JSON count as that.
func expand(params, custom jsondoc.Doc) jsondoc.Doc {
	custom.Each(func(name string, v jsondoc.Doc) bool {
		if s, ok := v.AsText(); ok {
			if parsed, bad := jsondoc.Check([]byte(s)); bad == nil && strings.TrimSpace(s) != "" {
				v = parsed
			}
		}
		params = params.Set(v, name)
		return true
	})
	return params
}

// prompt is the task's template, filled in.
func (r *Runner) prompt(ctx context.Context, p *auth.Principal, req *Request, snap *config.Snapshot) string {
	own := func(key config.String, standard string) (text string, isStandard bool) {
		if s := key.Get(snap); strings.TrimSpace(s) != "" {
			return s, false
		}
		return standard, true
	}
	text, messages, about := "", req.Messages, prompt.LastUser(req.Messages)
	switch req.Kind {
	case Title:
		text, _ = own(config.TaskTitlePromptTemplate, titleTemplate)
	case Tags:
		text, _ = own(config.TaskTagsPromptTemplate, tagsTemplate)
	case ImagePrompt:
		text, _ = own(config.TaskImagePromptTemplate, imageTemplate)
	case Queries:
		text, _ = own(config.TaskQueryPromptTemplate, queryTemplate)
	case FollowUps:
		var standard bool
		text, standard = own(config.TaskFollowUpPromptTemplate, followUpTemplate)
		messages = followUpMessages(messages, standard)
		about = prompt.LastUser(messages)
	case Autocomplete:
		text, _ = own(config.TaskAutocompletePromptTemplate, autocompleteTemplate)
		text, about = strings.ReplaceAll(text, "{{TYPE}}", req.Type), req.Prompt
	case Emoji:
		return r.Prompts.Server(ctx, user(p), prompt.Prompt(emojiTemplate, req.Prompt))
	case MoA:
		return prompt.Responses(prompt.Prompt(moaTemplate, req.Prompt), req.Responses)
	}
	return r.Prompts.Server(ctx, user(p), prompt.Messages(prompt.Prompt(text, about), messages))
}

// followUpMessages are the messages as the template for follow-ups shows them: their text parts joined. For Galley's own
// template only the first question and the last four messages, each of at most 1,000 code points.
func followUpMessages(messages []jsondoc.Doc, standard bool) []jsondoc.Doc {
	if standard {
		start := max(0, len(messages)-4)
		first := slices.IndexFunc(messages, func(m jsondoc.Doc) bool { return m.Text("role") == "user" })
		kept := messages[start:]
		if first >= 0 && first < start {
			kept = append([]jsondoc.Doc{messages[first]}, kept...)
		}
		messages = kept
	}
	out := make([]jsondoc.Doc, len(messages))
	for i, m := range messages {
		text := ""
		if content := m.Get("content"); content.Kind() == '[' {
			var parts []string
			for _, part := range content.List() {
				if s, ok := part.Get("text").AsText(); ok && part.Text("type") == "text" {
					parts = append(parts, s)
				}
			}
			text = strings.Join(parts, "\n")
		} else {
			text = prompt.Content(m)
		}
		if standard && utf8.RuneCountInString(text) > 1000 {
			text = prompt.Truncate(text, 997, "middletruncate") // with the three dots 1,000
		}
		out[i] = message(m.Text("role"), text)
	}
	return out
}

func user(p *auth.Principal) *users.User {
	if p == nil {
		return nil
	}
	return p.User
}
