// Package demo is a provider without a model behind it: it answers from the question's own words, so that a
// fresh installation can be tried before any real provider is connected.
package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// ModelID is the id of the only model.
const ModelID = "galley-demo"

// Provider is the demo provider. The zero value is ready to use.
type Provider struct {
	// Pace is the pause between two words of a streamed answer; 0 means 20 ms, negative none.
	Pace time.Duration
}

var _ llm.Provider = (*Provider)(nil)

// ID implements [llm.Provider].
func (p *Provider) ID() string { return "demo" }

// Models implements [llm.Provider].
func (p *Provider) Models(context.Context, *llm.Caller) ([]llm.Model, error) {
	entry := jsontext.Value(`{"id":"` + ModelID + `","name":"Galley Demo","object":"model","created":0,"owned_by":"galley",` +
		`"connection_type":"local","tags":[]}`)
	return []llm.Model{{ID: ModelID, Upstream: ModelID, Name: "Galley Demo", OwnedBy: "galley", ConnectionType: "local",
		Entry: entry, Native: entry}}, nil
}

// Chat implements [llm.Provider]. It honours stream, stream_options.include_usage and max_tokens.
func (p *Provider) Chat(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	body, err := rawjson.Parse(req.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	messages, err := rawjson.Elems(body.Get("messages"))
	if err != nil {
		return nil, fmt.Errorf("%w: messages: %w", llm.ErrBadRequest, err)
	}
	task := ""
	if req.Caller != nil {
		task = req.Caller.Meta.Task
	}
	a := answer{id: "chatcmpl-" + uuid.NewString(), finish: "stop"}
	a.words = strings.SplitAfter(reply(conversation(messages), task), " ")
	a.prompt = countTokens(string(body.Get("messages")))
	if limit, ok := rawjson.Int(body.Get("max_tokens")); ok && limit > 0 && int(limit) < len(a.words) {
		a.words, a.finish = a.words[:limit], "length"
	}
	if !req.Stream {
		return llm.NewBody(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, a.completion()), nil
	}
	options, _ := rawjson.Parse(body.Get("stream_options")) // absent: none
	pace := p.Pace
	if pace == 0 {
		pace = 20 * time.Millisecond
	}
	return llm.NewStream(http.Header{}, &stream{
		ctx: ctx, answer: a, pace: pace, withUsage: rawjson.Truthy(options.Get("include_usage")), closed: make(chan struct{}),
	}), nil
}

// message is one message of the conversation as text.
type message struct{ role, text string }

func conversation(raw []jsontext.Value) []message {
	out := make([]message, 0, len(raw))
	for _, r := range raw {
		o, err := rawjson.Parse(r)
		if err != nil {
			continue
		}
		role, _ := rawjson.String(o.Get("role"))
		text, ok := rawjson.String(o.Get("content"))
		if !ok {
			parts, _ := rawjson.Elems(o.Get("content")) // null: no text
			for _, p := range parts {
				part, _ := rawjson.Parse(p)
				s, _ := rawjson.String(part.Get("text"))
				text += s
			}
		}
		out = append(out, message{role, text})
	}
	return out
}

// countTokens estimates tokens by the common rule of four bytes each.
func countTokens(s string) int { return (len(s) + 3) / 4 }

// answer is a generated answer.
type answer struct {
	id     string
	words  []string
	finish string
	prompt int // tokens
}

func (a *answer) usage() string {
	out := countTokens(strings.Join(a.words, ""))
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, a.prompt, out, a.prompt+out)
}

func (a *answer) head(b []byte, object string) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, a.id...)
	b = append(b, `","object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, time.Now().Unix(), 10)
	return append(b, `,"model":"`+ModelID+`","choices":[`...)
}

func (a *answer) completion() []byte {
	b := a.head(nil, "chat.completion")
	b = append(b, `{"index":0,"message":{"role":"assistant","content":`...)
	b = rawjson.AppendQuote(b, strings.Join(a.words, ""))
	return fmt.Appendf(b, `},"finish_reason":%q}],"usage":%s}`, a.finish, a.usage())
}

// stream sends an answer word by word.
type stream struct {
	ctx       context.Context
	answer    answer
	pace      time.Duration
	withUsage bool
	closed    chan struct{}
	step      int // 0: role; then the words; then the finish; then the usage
	buf       []byte
}

// Close implements [llm.Source].
func (s *stream) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// Next implements [llm.Source].
func (s *stream) Next() ([]byte, error) {
	n := len(s.answer.words)
	s.buf = s.answer.head(s.buf[:0], "chat.completion.chunk")
	switch step := s.step; {
	case step == 0:
		s.buf = append(s.buf, `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`...)
	case step <= n:
		if err := s.pause(); err != nil {
			return nil, err
		}
		s.buf = append(s.buf, `{"index":0,"delta":{"content":`...)
		s.buf = rawjson.AppendQuote(s.buf, s.answer.words[step-1])
		s.buf = append(s.buf, `},"finish_reason":null}]}`...)
	case step == n+1:
		s.buf = fmt.Appendf(s.buf, `{"index":0,"delta":{},"finish_reason":%q}]}`, s.answer.finish)
	case step == n+2 && s.withUsage:
		s.buf = fmt.Appendf(s.buf, `],"usage":%s}`, s.answer.usage())
	default:
		return nil, io.EOF
	}
	s.step++
	return s.buf, nil
}

func (s *stream) pause() error {
	if s.pace < 0 {
		return s.ctx.Err()
	}
	t := time.NewTimer(s.pace)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-s.closed:
		return io.ErrClosedPipe
	}
}
