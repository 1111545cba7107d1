package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/anthropic"
	"github.com/galleychat/galley/core/models"
	proxy "github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// anthropicVersion is sent to Anthropic's own API.
const anthropicVersion = "2023-06-01"

// textUnknownModel is the reference's answer to a model that no OpenAI-compatible connection serves; the name in it is
// always empty.
const textUnknownModel = "Model '' was not found"

// native is a connection that a Messages request can be sent to as it is, and the request for it.
type native struct {
	conn   llm.Connection
	header http.Header
	body   jsondoc.Doc
	model  string // as the caller asked for it
	caller *llm.Caller
}

// messages answers a request of Anthropic's Messages API with any model: by a connection that speaks it, else in terms
// of a chat completion.
func (m *Module) messages(c *web.Call, in bodyIn) (any, error) {
	body := in.Body.Doc()
	c.ForModel(body.Text("model"))
	caller := m.caller(c)
	t, known := m.openAITarget(c.Context(), body, caller)
	var passthrough jsondoc.Doc
	if known {
		conn := connectionOf(t)
		if isAnthropic(conn.URL) || strings.EqualFold(conn.Config.Provider, "litellm") {
			return m.passMessages(c, body, caller)
		}
		passthrough = jsondoc.Doc(conn.Config.Raw).Get("passthrough_params")
	}
	request, err := anthropic.Request(body, passthrough)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, strings.TrimPrefix(err.Error(), "llm: "), err)
	}
	filters := m.filtersOf(c, body)
	tokens := m.startCount(c, t, known && filters == nil, body, caller) // what a filter may refuse or change is not sent
	res, err := m.Turns.Run(c.Context(), turn.Request{Principal: c.Principal, Caller: caller, Body: request})
	if err != nil {
		return providerAnswer(err)
	}
	model := body.Text("model")
	if res.Response == nil {
		return wholeMessage(c, res.Body, model, tokens)
	}
	if res.Response.Stream {
		return streamMessage(c, res.Response, model, tokens)
	}
	defer res.Response.Close()
	c.Status(res.Response.Status)
	return wholeMessage(c, jsondoc.Doc(res.Response.JSON()), model, tokens)
}

// wholeMessage translates a whole answer; what is no object is passed on.
func wholeMessage(c *web.Call, body jsondoc.Doc, model string, tokens func() int64) (any, error) {
	if body.Kind() != '{' {
		return body, nil
	}
	input := int64(-1)
	if !body.Get("usage").Truthy() {
		input = tokens()
	}
	return anthropic.Response(body, model, input), nil
}

// streamMessage translates a stream as it comes. Events that arrived together are sent together.
func streamMessage(c *web.Call, r *llm.Response, model string, tokens func() int64) (any, error) {
	defer r.Close()
	s := anthropic.NewStream(model, tokens())
	out := c.SSE()
	buf := s.Start(make([]byte, 0, 4<<10))
	if _, err := out.Write(buf); err != nil {
		return web.Done{}, err
	}
	buf = buf[:0]
	var failed error
	for chunk, err := range r.Chunks() {
		if failed = err; err != nil {
			break
		}
		var more bool
		buf, more = s.Chunk(buf, chunk)
		if !more {
			break
		}
		if len(buf) == 0 || chunk.More && len(buf) < 16<<10 {
			continue
		}
		if _, err := out.Write(buf); err != nil {
			return web.Done{}, err
		}
		buf = buf[:0]
	}
	if failed != nil && c.Context().Err() != nil {
		return web.Done{}, failed
	}
	if failed != nil {
		c.Log.WarnContext(c.Context(), "a provider broke off its answer", "error", failed, "request_id", web.RequestID(c.Context()))
	}
	_, err := out.Write(s.End(buf, failed))
	return web.Done{}, err
}

func isAnthropic(url string) bool { return strings.Contains(url, "api.anthropic.com") }

func connectionOf(t llm.Target) llm.Connection {
	if p, ok := t.Provider.(llm.Connected); ok {
		return p.Connection()
	}
	return llm.Connection{}
}

// openAITarget finds the OpenAI-compatible connection that serves a request's model, or the base of it.
func (m *Module) openAITarget(ctx context.Context, body jsondoc.Doc, caller *llm.Caller) (llm.Target, bool) {
	id := body.Text("model")
	if row, err := m.Models.Row(ctx, id); err == nil && row != nil && row.BaseModelID != nil && *row.BaseModelID != "" {
		id = *row.BaseModelID
	}
	t, err := m.Providers.ResolveOf(ctx, llm.KindOpenAI, caller, id)
	return t, err == nil
}

// nativeOf prepares a Messages request for the connection of its model; the errors are those of the reference.
func (m *Module) nativeOf(c *web.Call, body jsondoc.Doc, caller *llm.Caller) (native, error) {
	ctx := c.Context()
	if !body.Get("model").Truthy() {
		return native{}, web.Fail(http.StatusBadRequest, "model is required")
	}
	if err := m.Models.RowAccess(ctx, c.Principal, body.Text("model")); err != nil {
		if errors.Is(err, models.ErrNotFound) {
			err = web.Fail(http.StatusForbidden, models.ErrNotFound.Error())
		}
		return native{}, err
	}
	t, ok := m.openAITarget(ctx, body, caller)
	if !ok {
		return native{}, web.Fail(http.StatusNotFound, textUnknownModel)
	}
	return m.nativeTo(ctx, t, body, caller), nil
}

func (m *Module) nativeTo(ctx context.Context, t llm.Target, body jsondoc.Doc, caller *llm.Caller) native {
	n := native{conn: connectionOf(t), body: body.Set(jsondoc.Text(t.Upstream), "model"), model: body.Text("model"), caller: caller}
	n.header = m.Providers.Client().Headers().Build(ctx, &n.conn, caller)
	if isAnthropic(n.conn.URL) {
		setDefault(n.header, "Anthropic-Version", anthropicVersion)
		if kind := n.conn.Config.AuthType; kind == "" || kind == "bearer" {
			n.header.Del("Authorization")
			setDefault(n.header, "X-Api-Key", n.conn.Key)
		}
	}
	return n
}

func setDefault(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

func (m *Module) send(ctx context.Context, n native, path string, stream bool) (*http.Response, error) {
	return m.Providers.Client().Send(ctx, llm.Outgoing{
		Method: http.MethodPost, URL: strings.TrimRight(n.conn.URL, "/") + path, Header: n.header, Body: n.body, Stream: stream,
	})
}

// passMessages sends a Messages request to a connection that speaks it, and passes the answer on.
func (m *Module) passMessages(c *web.Call, body jsondoc.Doc, caller *llm.Caller) (any, error) {
	n, err := m.nativeOf(c, body, caller)
	if err != nil {
		return nil, err
	}
	if err := m.allow(c, body); err != nil {
		return nil, err
	}
	resp, err := m.send(c.Context(), n, "/messages", body.Get("stream").Truthy())
	if err != nil {
		return nil, web.Because(http.StatusBadGateway, llm.ServerConnectionError, err)
	}
	if strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "text/event-stream") {
		defer resp.Body.Close()
		for k, v := range llm.RelayHeader(resp.Header) {
			c.Header()[k] = v
		}
		c.Status(resp.StatusCode)
		return web.Done{}, c.Stream(resp.Header.Get("Content-Type")).Relay(resp.Body)
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return nil, web.Because(http.StatusBadGateway, llm.ServerConnectionError, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return providerAnswer(llm.NewUpstreamError(resp.StatusCode, resp.Header, answer, false))
	}
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, answer).JSON()), nil
}

// allow asks the filters about a Messages request that keeps its form.
func (m *Module) allow(c *web.Call, body jsondoc.Doc) error {
	f := m.filtersOf(c, body)
	if f == nil {
		return nil
	}
	request, err := anthropic.Request(body, nil)
	if err != nil {
		return f.Allow(c.Context(), body)
	}
	_, err = f.Inlet(c.Context(), request)
	return err
}

func (m *Module) filtersOf(c *web.Call, body jsondoc.Doc) *filter.Filters {
	if m.Filters == nil {
		return nil
	}
	r := proxy.Resolver{Catalog: m.Models, Filters: m.Filters}
	return r.FiltersOf(c, body.Text("model"), body)
}

// counted is the answer of the operations that count tokens.
type counted struct {
	InputTokens int64 `json:"input_tokens"`
}

func (m *Module) countTokens(c *web.Call, in bodyIn) (counted, error) {
	n, err := m.nativeOf(c, in.Body.Doc(), m.caller(c))
	if err != nil {
		return counted{}, err
	}
	tokens, err := m.count(c.Context(), n)
	return counted{tokens}, err
}

// count asks a connection for the number of a request's tokens.
func (m *Module) count(ctx context.Context, n native) (int64, error) {
	resp, err := m.send(ctx, n, "/messages/count_tokens", false)
	if err != nil {
		return 0, web.Because(http.StatusBadGateway, llm.ServerConnectionError, err)
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return 0, web.Because(http.StatusBadGateway, llm.ServerConnectionError, err)
	}
	answer := jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, body).JSON())
	if resp.StatusCode >= http.StatusBadRequest {
		m.Providers.Client().Refused(ctx, llm.Refusal{Connection: n.conn, Model: n.model, Status: resp.StatusCode, Body: body, Type: resp.Header.Get("Content-Type"), Caller: n.caller})
		return 0, web.Fail(resp.StatusCode, answer)
	}
	tokens := answer.Get("input_tokens")
	if count, ok := tokens.Int(); ok && count >= 0 && !strings.ContainsAny(string(tokens), ".eE") {
		return count, nil
	}
	return 0, web.Fail(http.StatusBadGateway, "Invalid token-count response from upstream provider")
}

// counting remembers which connections cannot count, so that their requests are not asked for in vain each time.
type counting struct {
	mu    sync.Mutex
	until map[string]time.Time // by URL
}

// recountAfter is how long a connection that cannot count is left alone; countPatience is how long an answer waits for
// a count.
const (
	recountAfter  = 10 * time.Minute
	countPatience = 2 * time.Second
)

func (k *counting) tries(url string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().After(k.until[url])
}

func (k *counting) failed(url string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.until == nil {
		k.until = map[string]time.Time{}
	}
	k.until[url] = time.Now().Add(recountAfter)
}

// startCount has the tokens of a request counted while the model is asked. The function it returns waits for the number,
// negative where there is none; a failure to count fails nothing else.
func (m *Module) startCount(c *web.Call, t llm.Target, known bool, body jsondoc.Doc, caller *llm.Caller) func() int64 {
	none := func() int64 { return -1 }
	if !known {
		return none
	}
	url := connectionOf(t).URL
	if !m.counting.tries(url) || m.Models.RowAccess(c.Context(), c.Principal, body.Text("model")) != nil {
		return none
	}
	ctx, cancel := context.WithTimeout(c.Context(), countPatience)
	done := make(chan int64, 1)
	go func() {
		defer cancel()
		n, err := m.count(ctx, m.nativeTo(ctx, t, body, caller))
		if err != nil {
			n = -1
			if !errors.Is(ctx.Err(), context.Canceled) && cannotCount(err) {
				m.counting.failed(url)
			}
		}
		done <- n
	}()
	return func() int64 { return <-done }
}

// cannotCount tells a connection without such an operation from one that refused this request.
func cannotCount(err error) bool {
	var e *web.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadGateway:
		return true
	}
	return false
}
