// Package relay is what the addresses /openai and /ollama share: requests that go to a provider much as they came, and
// answers that come back so.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
	"github.com/galleychat/galley/core/web"
)

// ErrNoAccess is the answer where a user may not use a model.
var ErrNoAccess = web.Fail(http.StatusForbidden, "Model not found")

// Unreachable is the answer where a provider cannot be reached.
func Unreachable(err error) *web.Error {
	return web.Because(http.StatusInternalServerError, llm.ServerConnectionError, err)
}

// IsStream says whether an answer is Server-Sent Events.
func IsStream(resp *http.Response) bool {
	return strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "text/event-stream")
}

// Answer passes a provider's answer on: a stream as it comes, JSON as it is, errors with their status, any other text as
// a JSON string. It closes the answer. p has sent it, to a request for a model; nil where an error is of no interest.
func Answer(c *web.Call, p llm.Connected, model string, resp *http.Response) error {
	return FilteredAnswer(c, p, model, resp, nil, nil)
}

// FilteredAnswer is Answer for one to a chat completion request that has filters; f may be nil.
func FilteredAnswer(c *web.Call, p llm.Connected, model string, resp *http.Response, f *filter.Filters, request jsondoc.Doc) error {
	if IsStream(resp) {
		return Response(c, f.Response(c.Context(), request, llm.NewRawStream(resp.StatusCode, llm.RelayHeader(resp.Header), resp.Body)))
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return web.Because(resp.StatusCode, llm.ServerConnectionError, err)
	}
	if resp.StatusCode >= 400 {
		llm.Refused(c.Context(), p, llm.Refusal{Model: model, Status: resp.StatusCode, Body: body, Type: resp.Header.Get("Content-Type"), Caller: models.CallerOf(c.Principal)})
		return Upstream(c, llm.NewUpstreamError(resp.StatusCode, resp.Header, body, false))
	}
	return Response(c, f.Response(c.Context(), request, llm.NewBody(http.StatusOK, llm.RelayHeader(resp.Header), body)))
}

// Response writes a model's answer. A stream that breaks off takes the connection with it: nothing else tells the client
// that the answer is not whole.
func Response(c *web.Call, resp *llm.Response) error {
	err := resp.Relay(c.W)
	var broken *llm.StreamError
	if errors.As(err, &broken) && c.Context().Err() == nil {
		c.Log.WarnContext(c.Context(), "a provider broke off its answer", "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// Upstream answers with a provider's error.
func Upstream(c *web.Call, e *llm.UpstreamError) error {
	for k, v := range e.Header() {
		c.Header()[k] = v
	}
	c.W.WriteHeader(e.Status)
	_, err := c.W.Write(e.Body)
	return err
}

// Failure answers with what a call to a provider failed with; unknown is the answer for unknown models.
func Failure(c *web.Call, err error, unknown *web.Error) error {
	var u *llm.UpstreamError
	switch {
	case errors.As(err, &u):
		return Upstream(c, u)
	case errors.Is(err, llm.ErrModelNotFound):
		return unknown
	case errors.Is(err, llm.ErrBadRequest):
		return web.Because(http.StatusBadRequest, err.Error(), err)
	}
	return err
}

// Python writes a JSON value as Python's repr does: the reference puts it into some error texts.
func Python(d jsondoc.Doc) string {
	switch d.Kind() {
	case '{':
		var parts []string
		d.Each(func(name string, v jsondoc.Doc) bool {
			parts = append(parts, pythonText(name)+": "+Python(v))
			return true
		})
		return "{" + strings.Join(parts, ", ") + "}"
	case '[':
		var parts []string
		for _, v := range d.List() {
			parts = append(parts, Python(v))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '"':
		return pythonText(d.Text())
	case 't':
		return "True"
	case 'f':
		return "False"
	case '0':
		return string(d)
	}
	return "None"
}

// PythonValue is a JSON value as Python's str writes it: like Python, but a text bare.
func PythonValue(d jsondoc.Doc) string {
	if s, ok := d.AsText(); ok {
		return s
	}
	return Python(d)
}

func pythonText(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case string(r) == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return quote + b.String() + quote
}

// Resolver finds what a request to a provider's address is about.
type Resolver struct {
	Catalog  *models.Catalog
	Prompts  *prompt.Renderer
	Filters  filter.Set // may be nil
	NoOutlet bool       // answers are not shown to filters (ENABLE_API_OUTLET_FILTERS=false)
}

// Model is a model asked for: the id to look for among the providers', and the row that stands before it.
type Model struct {
	ID  string
	Row *models.Row // nil where there is none
}

// Resolve finds the row of a model and asks whether the caller may use it.
func (r *Resolver) Resolve(ctx context.Context, p *auth.Principal, id string) (Model, error) {
	row, err := r.Catalog.Row(ctx, id)
	if err != nil {
		return Model{}, err
	}
	if err := r.Catalog.RowAccess(ctx, p, id); errors.Is(err, models.ErrNotFound) {
		return Model{}, ErrNoAccess
	} else if err != nil {
		return Model{}, err
	}
	m := Model{ID: id, Row: row}
	if row != nil && row.BaseModelID != nil && *row.BaseModelID != "" {
		m.ID = *row.BaseModelID
	}
	return m, nil
}

// Body is a request body with the system prompt of the model's row before that of the caller.
func (r *Resolver) Body(ctx context.Context, p *auth.Principal, m Model, body jsondoc.Doc) jsondoc.Doc {
	if m.Row == nil {
		return body
	}
	system := m.Row.Params.Text("system")
	if system == "" {
		return body
	}
	system = r.Prompts.Render(ctx, p, system, body.Get("metadata", "chat_variables"), body.Get("metadata", "variables"))
	if system == "" {
		return body
	}
	return body.Set(prompt.AddSystem(body.Get("messages"), system), "messages")
}

// Params are the params of the model's row, as a provider takes them.
func (m *Model) Params() []byte {
	if m.Row == nil {
		return nil
	}
	return []byte(m.Row.Params.Delete("system"))
}
