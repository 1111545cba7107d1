package turn

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// errNoPage is the answer to a request for a model that only a page can reach, where there is no page to ask.
var errNoPage = web.Fail(http.StatusBadRequest, ErrGone.Error())

// pageModel is a model of a connection that a person has set up for themselves: their page asks it, since the server
// may not reach it. item is what the page says of it.
func pageModel(id string, item jsondoc.Doc) *models.Model {
	owner := item.Text("owned_by")
	if owner == "" {
		owner = "openai"
	}
	return &models.Model{ID: id, Name: item.Text("name"), OwnedBy: owner, Entry: item}
}

// target is where the turn's requests go.
func (e *Engine) target(ctx context.Context, t *Turn) (llm.Target, error) {
	if t.page != nil && t.model == t.page {
		return llm.Target{Provider: pageProvider{e, t}, Upstream: t.model.ID}, nil
	}
	return e.Models.Target(ctx, t.caller, t.model)
}

// pageProvider is the page of a turn's session as a provider.
type pageProvider struct {
	e *Engine
	t *Turn
}

// ID implements llm.Provider.
func (p pageProvider) ID() string { return "page" }

// Models implements llm.Provider.
func (p pageProvider) Models(context.Context, *llm.Caller) ([]llm.Model, error) { return nil, nil }

// Chat implements llm.Provider. The page acknowledges the request once it has an answer, which it gives with that, or
// event by event if it is a stream.
func (p pageProvider) Chat(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	e, t := p.e, p.t
	if e.Browsers == nil || t.session == "" || t.chatID == "" || t.messageID == "" {
		return nil, errNoPage
	}
	channel := t.p.ID + ":" + t.session + ":" + store.NewID()
	var b jsondoc.Builder
	b.Raw("form_data", jsondoc.Doc(req.Body))
	b.Raw("model", t.model.Entry)
	b.Raw("channel", jsondoc.Text(channel))
	b.Raw("session_id", jsondoc.Text(t.session))
	var body *pageStream
	if req.Stream {
		body = newPageStream(ctx)
		body.stop = e.Browsers.Listen(t.p.ID, channel, body.put)
	}
	answer, err := p.ask(ctx, payload(t.em.head, "request:chat:completion", b.Done()))
	switch {
	case err == nil && req.Stream && answer.Get("status").Truthy():
		return llm.NewRawStream(http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}}, body), nil
	case err == nil && !req.Stream && !answer.Get("error").Truthy():
		return llm.NewBody(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, answer.Or(jsondoc.Doc("null"))), nil
	}
	if body != nil {
		_ = body.Close()
	}
	if err == nil {
		err = errText((&llm.UpstreamError{Status: http.StatusBadGateway, Body: answer.Or(jsondoc.Doc("null"))}).Message())
	}
	return nil, err
}

// ask has the page send the request.
func (p pageProvider) ask(ctx context.Context, payload jsondoc.Doc) (jsondoc.Doc, error) {
	asking := ctx
	if most := p.e.Env.WebSocket.CallTimeout; most > 0 {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	answer, err := p.e.Browsers.Ask(asking, p.t.p.ID, p.t.session, payload)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case asking.Err() != nil:
		return nil, errNoAnswer
	}
	return answer, err
}

// maxPageBacklog is how much of an answer a page may send ahead of those who read it.
const maxPageBacklog = 64 << 20

var errPageFlood = errors.New("the page sends more than can be read")

// pageStream is an answer that a page passes on event by event, as text of Server-Sent Events.
type pageStream struct {
	ctx  context.Context
	stop func()

	mu     sync.Mutex
	text   []byte
	err    error // why nothing follows the text
	signal chan struct{}
}

func newPageStream(ctx context.Context) *pageStream {
	return &pageStream{ctx: ctx, signal: make(chan struct{}, 1)}
}

// put takes in an event: a line of the stream, the JSON in one, or {"done": true} for its end.
func (s *pageStream) put(event jsondoc.Doc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, isText := event.AsText()
	switch {
	case s.err != nil:
		return
	case len(s.text) > maxPageBacklog:
		s.err = errPageFlood
	case event.Kind() == '{' && event.Get("done").Truthy():
		s.err = io.EOF
	case event.Kind() == '{':
		s.text = append(append(append(s.text, "data: "...), event...), "\n\n"...)
	case isText && strings.Contains(line, "data:"):
		s.text = append(append(s.text, line...), "\n\n"...)
	case isText:
		s.text = append(append(append(s.text, "data: "...), line...), "\n\n"...)
	}
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// Read implements io.Reader.
func (s *pageStream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		n := copy(p, s.text)
		s.text = s.text[n:]
		err := s.err
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-s.signal:
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
}

// Close implements io.Closer.
func (s *pageStream) Close() error {
	s.stop()
	return nil
}
